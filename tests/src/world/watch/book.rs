//! The books of one call: what was asked, answered, acknowledged and hung up on either leg, from its first message until long after its last.
//! Owns the rules about one call alone; refuses to know other calls.

use std::collections::BTreeMap;
use std::time::Duration;

use b2bua::policy::VoipSecurity;
use b2bua::record::OfferResult;
use bytes::Bytes;
use relay::Side;
use sip::{FlowKey, Message, Method};

use super::offers::Offers;
use crate::world::model::Model;

/// The caller hears something other than 100 within this.
const HEARD_WITHIN: Duration = Duration::from_secs(10);
/// An answer whose connection breaks this soon after need not be acknowledged: the ACK may have to wait for the caller's.
const ACK_PATIENCE: Duration = Duration::from_secs(36);
/// Longest call of any plan of the site, and time to end it.
const CALL_MAX: Duration = Duration::from_secs(1800 + 120);

/// When a flow was lost, if it was.
pub(super) type DownAt<'a> = &'a dyn Fn(FlowKey) -> Option<Duration>;

/// A broken rule in words.
pub(super) type Broken = Result<(), String>;

/// A request that came, and what it was told.
#[derive(Debug)]
struct Transaction {
    flow: FlowKey,
    number: u32,
    method: Method,
    tag: Bytes,
    received_at: Duration,
    times: usize,
    heard_at: Option<Duration>,
    finals: Vec<Bytes>,
    is_opening: bool,
}

/// A 2xx to an INVITE.
#[derive(Debug)]
struct Answer {
    side: Side,
    number: u32,
    /// The far end's tag: a fork each.
    tag: Bytes,
    at: Duration,
    flow: FlowKey,
    is_acked: bool,
    /// It began a dialog.
    begins: bool,
}

/// Everything known of one call.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// Call-ID of the caller's leg, or of the lone request.
    pub(super) call_id: String,
    /// Call-IDs the gateway made for it.
    pub(super) b_call_ids: Vec<Bytes>,
    pub(super) call: Option<u64>,
    pub(super) security: Option<VoipSecurity>,
    pub(super) model: Model,
    pub(super) touched: Duration,
    began: Duration,
    pub(super) offers: Offers,
    /// A message of it was damaged on the way.
    pub(super) is_damaged: bool,
    /// Who answered on leg B, by To tag: inside that dialog nobody else is spoken to.
    pub(super) answered_by: BTreeMap<Bytes, String>,
    pub(super) keys: Vec<String>,
    /// Ports: asked for, given back.
    pub(super) allocated: u32,
    pub(super) released: u32,
    started: u32,
    records: u32,
    offer_result: Option<OfferResult>,
    pub(super) invites_b: u32,
    /// Where the last of them went.
    pub(super) invited_on: Option<FlowKey>,
    /// Flows of the caller that are gone: what came on them is answered at the Via (RFC 3261 §18.2.2).
    lost: Vec<FlowKey>,
    pub(super) final_a: Option<u16>,
    opens: u32,
    transactions: Vec<Transaction>,
    given: Vec<Answer>,
    got: Vec<Answer>,
    /// BYEs by leg and far end's tag.
    byes: Vec<(Side, Bytes)>,
}

impl Book {
    pub(super) fn new(call_id: String, at: Duration) -> Self {
        Self { call_id, began: at, touched: at, ..Self::default() }
    }

    pub(super) fn started(&mut self) -> Broken {
        self.started += 1;
        if self.started > self.calls_max() { Err("a call starts once".into()) } else { Ok(()) }
    }

    pub(super) fn recorded(&mut self, result: OfferResult) -> Broken {
        self.records += 1;
        self.offer_result = Some(result);
        if self.records > self.calls_max() { Err("one record per INVITE".into()) } else { Ok(()) }
    }

    /// A re-INVITE whose To tag was damaged away is one more INVITE of the same Call-ID.
    pub(super) fn calls_max(&self) -> u32 {
        if self.is_damaged { self.opens.max(1) } else { 1 }
    }

    pub(super) fn request_in(&mut self, at: Duration, flow: FlowKey, side: Side, request: &Message) {
        let is_ack = *request.method() == Method::Ack;
        if is_ack || self.is_news(at, flow, side, request) {
            self.offers.request_in(flow, side, request);
        }
    }

    /// Not the same once more.
    fn is_news(&mut self, at: Duration, flow: FlowKey, side: Side, request: &Message) -> bool {
        let number = request.cseq().number;
        let tag = tag(request.from_tag());
        match request.method() {
            Method::Ack => {
                // The gateway has one tag toward the caller and one toward the server.
                let of_it = |answer: &&mut Answer| answer.side == side && answer.number == number;
                if let Some(answer) = self.given.iter_mut().find(of_it) {
                    answer.is_acked = true;
                }
            }
            Method::Bye => self.byes.push((side, tag.clone())),
            _ => {}
        }
        // One way: nobody waits for an answer.
        if matches!(request.method(), Method::Ack | Method::Benotify) {
            return false;
        }
        let is_opening = *request.method() == Method::Invite && request.to_tag().is_none() && side == Side::A;
        if let Some(known) = self.transaction(flow, number, request.method(), &tag) {
            known.times += 1;
            return false;
        }
        self.opens += u32::from(is_opening);
        self.transactions.push(Transaction {
            flow,
            number,
            method: request.method().clone(),
            tag,
            received_at: at,
            times: 1,
            heard_at: None,
            finals: Vec::new(),
            is_opening,
        });
        true
    }

    /// A flow is gone.
    pub(super) fn flow_down(&mut self, flow: FlowKey) {
        self.offers.flow_down(flow);
        if self.invited_on == Some(flow) {
            self.model.lose_server();
        }
        if self.transactions.iter().any(|t| t.flow == flow) {
            self.lost.push(flow);
        }
        if self.invited_on == Some(flow) || self.lost.contains(&flow) {
            self.model.lose_flow();
        }
    }

    pub(super) fn response_out(
        &mut self,
        at: Duration,
        flow: FlowKey,
        side: Side,
        response: &Message,
    ) -> Broken {
        let cseq = response.cseq();
        let status = response.status().map_or(0, |s| s.code());
        let tag = tag(response.from_tag());
        let Some(known) = self.transaction(flow, cseq.number, &cseq.method, &tag) else {
            return Err(format!("{status} answers a request that came"));
        };
        if status > 100 {
            known.heard_at.get_or_insert(at);
        }
        if status < 200 {
            return if known.finals.is_empty() {
                Ok(())
            } else {
                Err("no provisional after the final".into())
            };
        }
        if !known.finals.contains(response.bytes()) {
            known.finals.push(response.bytes().clone());
        }
        // What comes again after its transaction is over is a new request; an INVITE's stays long enough.
        let allowed = if known.method == Method::Invite { 1 } else { known.times };
        if known.finals.len() > allowed {
            return Err(format!("one final response, then {status}"));
        }
        let is_opening = known.is_opening;
        if (300..400).contains(&status) {
            return Err("no redirect is shown to a far end".into());
        }
        if is_opening {
            self.final_a = Some(status);
        }
        if cseq.method == Method::Invite && status < 300 {
            let is_new = !self.given.iter().any(|answer| answer.side == side && answer.number == cseq.number);
            if is_new {
                let number = cseq.number;
                self.given.push(Answer { side, number, tag, at, flow, is_acked: false, begins: is_opening });
            }
        }
        Ok(())
    }

    pub(super) fn request_out(&mut self, side: Side, request: &Message) {
        let tag = tag(request.to_tag());
        match request.method() {
            Method::Ack => {
                let number = request.cseq().number;
                let of_it = |a: &&mut Answer| a.side == side && a.number == number && a.tag == tag;
                if let Some(answer) = self.got.iter_mut().find(of_it) {
                    answer.is_acked = true;
                }
            }
            Method::Bye => self.byes.push((side, tag)),
            _ => {}
        }
    }

    pub(super) fn response_in(&mut self, at: Duration, flow: FlowKey, side: Side, response: &Message) {
        let cseq = response.cseq();
        if cseq.method != Method::Invite || !response.status().is_some_and(|s| s.is_success()) {
            return;
        }
        let tag = tag(response.to_tag());
        let is_known = self.got.iter().any(|a| a.side == side && a.number == cseq.number && a.tag == tag);
        if !is_known {
            let begins = !self.got.iter().any(|a| a.side == side && a.tag == tag) && side == Side::B;
            self.got.push(Answer { side, number: cseq.number, tag, at, flow, is_acked: false, begins });
        }
    }

    fn transaction(
        &mut self,
        flow: FlowKey,
        number: u32,
        method: &Method,
        tag: &Bytes,
    ) -> Option<&mut Transaction> {
        let lost = &self.lost;
        self.transactions.iter_mut().find(|t| {
            t.number == number
                && (t.flow == flow || lost.contains(&t.flow))
                && t.method == *method
                && t.tag == *tag
        })
    }

    /// Lives on: nothing to settle yet.
    pub(super) fn is_live(&self, now: Duration) -> bool {
        self.started > 0 && self.records == 0 && now < self.began + CALL_MAX
    }

    /// Everything about this call is long over: what was owed must have been given.
    pub(super) fn settle(&self, down_at: DownAt<'_>) -> Vec<String> {
        let mut broken = Vec::new();
        if !self.is_damaged {
            self.settle_transactions(down_at, &mut broken);
            self.settle_answers(down_at, &mut broken);
        }
        if self.started > 0 || self.opens > 0 && !self.is_damaged {
            self.settle_record(&mut broken);
        }
        if (self.allocated, self.released) != (self.started, self.started) {
            broken.push(format!("media given back once: {} {}", self.allocated, self.released));
        }
        broken
    }

    fn settle_transactions(&self, down_at: DownAt<'_>, broken: &mut Vec<String>) {
        for transaction in &self.transactions {
            let gone = down_at(transaction.flow);
            let due = transaction.received_at + HEARD_WITHIN;
            if transaction.finals.is_empty() && gone.is_none() {
                broken.push(format!("{} {} gets a final response", transaction.number, transaction.method));
            }
            let is_late = match transaction.heard_at {
                Some(at) => at > due,
                None => gone.is_none_or(|at| at > due),
            };
            if transaction.is_opening && is_late {
                broken.push("the caller hears something within ten seconds".into());
            }
        }
    }

    fn settle_answers(&self, down_at: DownAt<'_>, broken: &mut Vec<String>) {
        let is_excused = |a: &Answer| down_at(a.flow).is_some_and(|at| at <= a.at + ACK_PATIENCE);
        let has_bye = |a: &Answer| self.byes.iter().any(|(side, tag)| *side == a.side && *tag == a.tag);
        for answer in &self.given {
            if !answer.is_acked && !has_bye(answer) && !is_excused(answer) {
                broken.push(format!("a 2xx given is acknowledged or ended by BYE ({})", answer.number));
            }
        }
        for answer in &self.got {
            if !answer.is_acked && !is_excused(answer) {
                broken.push(format!("a 2xx received is acknowledged ({})", answer.number));
            }
        }
        for answer in self.given.iter().chain(&self.got).filter(|answer| answer.begins) {
            if !has_bye(answer) && down_at(answer.flow).is_none() {
                broken.push(format!("a dialog ends by BYE ({:?}, {})", answer.side, answer.number));
            }
        }
    }

    fn settle_record(&self, broken: &mut Vec<String>) {
        if !(1..=self.calls_max()).contains(&self.records) {
            broken.push(format!("one record per INVITE, not {}", self.records));
        }
        let is_answered = self.final_a.is_some_and(|status| (200..300).contains(&status));
        // An answer that found no way to a caller whose connection was gone was given all the same.
        let is_unheard = self.final_a.is_none() && !self.lost.is_empty();
        // A damaged ACK may carry the answer to our offer: the 2xx was seen, and the call failed all the same.
        if !is_unheard && !self.is_damaged && is_answered != (self.offer_result == Some(OfferResult::Answer))
        {
            let (said, seen) = (self.offer_result, self.final_a);
            broken.push(format!("the record ({said:?}) says what the caller saw ({seen:?})"));
        }
    }
}

pub(super) fn tag(tag: Option<&[u8]>) -> Bytes {
    tag.map(Bytes::copy_from_slice).unwrap_or_default()
}

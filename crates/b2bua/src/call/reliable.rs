//! Reliable provisional responses (RFC 3262), one value per role: [`Sending`] for the side that answers an
//! INVITE, [`Receiving`] for each early dialog of the side that sent one. Owns RSeq numbers, what is not
//! acknowledged yet and when it goes out again. Refuses to know calls, dialogs and timers: `now` comes in,
//! a deadline comes out.

use std::time::{Duration, Instant};

use bytes::Bytes;
use sip::{HeaderId, Message, Method, RAck};

/// The option tag.
pub(crate) const OPTION_TAG: &str = "100rel";
/// The first RSeq lies between 1 and this (RFC 3262 §3).
pub(crate) const FIRST_RSEQ_MAX: u32 = (1 << 31) - 1;
/// 64*T1: so many times T1 a response waits for its PRACK.
const GIVE_UP_AFTER: u32 = 64;

/// A provisional response that was not built yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Provisional {
    pub status: u16,
    /// Header lines relayed with it.
    pub block: Bytes,
    /// A session description.
    pub body: Option<Bytes>,
}

/// Our 18x toward a caller: at most one is unacknowledged, at most one waits behind it.
#[derive(Debug)]
pub(crate) struct Sending {
    /// RSeq of the last one that went out, or the number before the first.
    rseq: u32,
    open: Option<Open>,
    waiting: Option<Provisional>,
}

#[derive(Debug)]
struct Open {
    rseq: u32,
    bytes: Bytes,
    describes: Describes,
    interval: Duration,
    /// `None` once a final response went out: PRACK is still matched, nothing is sent again.
    again_at: Option<Instant>,
    give_up_at: Instant,
}

/// Whether a response carries a session description.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Describes {
    Yes,
    No,
}

/// What a deadline of [`Sending`] asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Not yet.
    Nothing,
    /// These bytes once more.
    Again(Bytes),
    /// 64*T1 are over: the INVITE is to be rejected with 5xx.
    GiveUp,
}

/// Whether a PRACK belongs to something.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Acknowledged {
    /// It does, and nothing else is open now.
    Yes,
    /// 481.
    Unmatched,
}

impl Sending {
    /// Nothing sent; the first response gets this number (RFC 3262 §3: chosen at random).
    pub fn new(first: u32) -> Self {
        Self { rseq: first.clamp(1, FIRST_RSEQ_MAX) - 1, open: None, waiting: None }
    }

    /// Takes a response in. It comes back when it may go out now, with its RSeq; else it waits for the PRACK of
    /// the one before (RFC 3262 §3). A description that waits is not pushed out by a mere status.
    pub fn submit(&mut self, draft: Provisional) -> Option<(u32, Provisional)> {
        if self.open.is_none() {
            return Some((self.rseq + 1, draft));
        }
        let keeps = self.waiting.as_ref().is_some_and(|waiting| waiting.body.is_some());
        if !keeps || draft.body.is_some() {
            self.waiting = Some(draft);
        }
        None
    }

    /// The response that [`Self::submit`] or [`Self::next`] gave back went out as these bytes.
    pub fn sent(&mut self, now: Instant, t1: Duration, draft: &Provisional, bytes: Bytes) {
        self.rseq += 1;
        self.open = Some(Open {
            rseq: self.rseq,
            bytes,
            describes: if draft.body.is_some() { Describes::Yes } else { Describes::No },
            interval: t1,
            again_at: Some(now + t1),
            give_up_at: now + t1.saturating_mul(GIVE_UP_AFTER),
        });
    }

    /// When [`Self::due`] wants to be asked.
    pub fn deadline(&self) -> Option<Instant> {
        let open = self.open.as_ref()?;
        open.again_at.map(|again| again.min(open.give_up_at))
    }

    /// RFC 3262 §3: the interval starts at T1 and doubles.
    pub fn due(&mut self, now: Instant) -> Due {
        let Some(open) = &mut self.open else { return Due::Nothing };
        match open.again_at {
            Some(_) if now >= open.give_up_at => Due::GiveUp,
            Some(at) if now >= at => {
                open.interval = open.interval.saturating_mul(2);
                open.again_at = Some(at + open.interval);
                Due::Again(open.bytes.clone())
            }
            _ => Due::Nothing,
        }
    }

    /// A PRACK for the INVITE with this CSeq number.
    pub fn acknowledge(&mut self, rack: &RAck, invite_cseq: u32) -> Acknowledged {
        let names_open = self.open.as_ref().is_some_and(|open| open.rseq == rack.rseq);
        if !names_open || rack.cseq.number != invite_cseq || rack.cseq.method != Method::Invite {
            return Acknowledged::Unmatched;
        }
        self.open = None;
        Acknowledged::Yes
    }

    /// What waited for the PRACK that came, with its RSeq.
    pub fn next(&mut self) -> Option<(u32, Provisional)> {
        let draft = self.waiting.take()?;
        self.submit(draft)
    }

    /// A final response goes out: nothing is sent again and nothing new is sent, PRACK is still taken (RFC 3262 §3).
    pub fn finish(&mut self) {
        self.waiting = None;
        if let Some(open) = &mut self.open {
            open.again_at = None;
            open.bytes = Bytes::new();
        }
    }

    /// Whether every response that went out was acknowledged.
    pub fn is_idle(&self) -> bool {
        self.open.is_none() && self.waiting.is_none()
    }

    /// RFC 3262 §3: no 2xx while a description is unacknowledged.
    pub fn holds_back_success(&self) -> bool {
        let is_open = self.open.as_ref().is_some_and(|open| open.describes == Describes::Yes);
        is_open || self.waiting.as_ref().is_some_and(|waiting| waiting.body.is_some())
    }
}

/// One early dialog of an INVITE of ours.
#[derive(Clone, Debug, Default)]
pub(crate) struct Receiving {
    last: Option<u32>,
}

/// What a reliable provisional response is to its early dialog.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The first, or the next in order: acknowledge it.
    InOrder,
    /// Seen before: discard.
    Again,
    /// One before it is missing: neither acknowledged nor processed.
    Gap,
}

impl Receiving {
    /// RFC 3262 §4.
    pub fn receive(&mut self, rseq: u32) -> Heard {
        match self.last {
            Some(last) if rseq <= last => Heard::Again,
            Some(last) if rseq - last > 1 => Heard::Gap,
            _ => {
                self.last = Some(rseq);
                Heard::InOrder
            }
        }
    }
}

/// RSeq of a provisional response that must be acknowledged; `None` for one that is not reliable.
pub(crate) fn rseq_of(response: &Message) -> Option<u32> {
    if !sip::header::simple::has_option(response, HeaderId::Require, OPTION_TAG) {
        return None;
    }
    let value = response.value_bytes(HeaderId::RSeq)?;
    let digits = std::str::from_utf8(value.trim_ascii()).ok()?;
    // RFC 3262 §7.1: never zero.
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten().filter(|rseq| *rseq > 0)
}

#[cfg(test)]
mod tests {
    use sip::CSeq;

    use super::*;

    const T1: Duration = Duration::from_millis(500);

    #[allow(clippy::disallowed_methods)]
    fn start() -> Instant {
        Instant::now()
    }

    fn ringing(body: Option<&'static [u8]>) -> Provisional {
        Provisional { status: 180, block: Bytes::new(), body: body.map(Bytes::from_static) }
    }

    fn rack(rseq: u32, number: u32, method: Method) -> RAck {
        RAck { rseq, cseq: CSeq { number, method } }
    }

    fn sent(now: Instant, first: u32, draft: &Provisional) -> Sending {
        let mut sending = Sending::new(first);
        let (rseq, _) = sending.submit(draft.clone()).unwrap();
        assert_eq!(rseq, first);
        sending.sent(now, T1, draft, Bytes::from_static(b"183"));
        sending
    }

    #[test]
    fn the_interval_doubles_and_after_64_t1_it_is_given_up() {
        let now = start();
        let mut sending = sent(now, 7, &ringing(None));
        assert_eq!(sending.due(now + T1 - Duration::from_millis(1)), Due::Nothing);
        let mut times = Vec::new();
        loop {
            let at = sending.deadline().unwrap();
            match sending.due(at) {
                Due::Again(bytes) => {
                    assert_eq!(bytes, "183");
                    times.push((at - now).as_millis());
                }
                Due::GiveUp => {
                    assert_eq!(at - now, T1 * 64);
                    break;
                }
                Due::Nothing => panic!("the deadline asks for nothing"),
            }
        }
        assert_eq!(times, [500, 1500, 3500, 7500, 15500, 31500]);
    }

    #[test]
    fn only_the_rack_of_the_open_response_acknowledges_and_only_once() {
        let mut sending = sent(start(), 7, &ringing(None));
        for wrong in [
            rack(8, 1, Method::Invite),
            rack(6, 1, Method::Invite),
            rack(7, 2, Method::Invite),
            rack(7, 1, Method::Update),
        ] {
            assert_eq!(sending.acknowledge(&wrong, 1), Acknowledged::Unmatched, "{wrong}");
        }
        assert_eq!(sending.acknowledge(&rack(7, 1, Method::Invite), 1), Acknowledged::Yes);
        assert_eq!(sending.acknowledge(&rack(7, 1, Method::Invite), 1), Acknowledged::Unmatched);
        assert_eq!(sending.deadline(), None);
    }

    #[test]
    fn the_next_response_waits_for_the_prack_and_gets_the_next_number() {
        let mut sending = sent(start(), FIRST_RSEQ_MAX, &ringing(None));
        assert_eq!(sending.submit(ringing(Some(b"v=0"))), None);
        assert_eq!(sending.submit(ringing(None)), None, "the description is not pushed out");
        sending.acknowledge(&rack(FIRST_RSEQ_MAX, 1, Method::Invite), 1);
        let (rseq, next) = sending.next().unwrap();
        assert_eq!((rseq, next.body.as_deref()), (FIRST_RSEQ_MAX + 1, Some(&b"v=0"[..])));
        assert_eq!(sending.next(), None);
    }

    #[test]
    fn a_2xx_waits_for_a_description_and_for_nothing_else() {
        let now = start();
        let plain = sent(now, 1, &ringing(None));
        assert!(!plain.holds_back_success());
        let mut described = sent(now, 1, &ringing(Some(b"v=0")));
        assert!(described.holds_back_success());
        described.acknowledge(&rack(1, 1, Method::Invite), 1);
        assert!(!described.holds_back_success());
        let mut queued = sent(now, 1, &ringing(None));
        queued.submit(ringing(Some(b"v=0")));
        assert!(queued.holds_back_success());
    }

    #[test]
    fn after_a_final_response_nothing_is_repeated_but_the_prack_is_still_known() {
        let now = start();
        let mut sending = sent(now, 5, &ringing(None));
        sending.submit(ringing(None));
        sending.finish();
        assert_eq!((sending.deadline(), sending.due(now + T1 * 100)), (None, Due::Nothing));
        assert_eq!(sending.acknowledge(&rack(5, 1, Method::Invite), 1), Acknowledged::Yes);
        assert_eq!(sending.next(), None);
    }

    #[test]
    fn a_client_takes_responses_in_order_and_each_once() {
        let mut receiving = Receiving::default();
        let heard: Vec<Heard> = [9, 9, 11, 10, 8, 11, 12].map(|rseq| receiving.receive(rseq)).to_vec();
        use Heard::{Again, Gap, InOrder};
        assert_eq!(heard, [InOrder, Again, Gap, InOrder, Again, InOrder, InOrder]);
        assert_eq!(Receiving { last: Some(u32::MAX) }.receive(u32::MAX), Again);
    }
}

//! Whose offer is open in which dialog (RFC 3264 §4, RFC 3261 §13.2.1, RFC 3262 §5, RFC 3311 §5.2). Owns the rule that the gateway never sends an
//! offer while one is open; a far end may, and glare is the answer to that.

use bytes::Bytes;
use relay::Side;
use sip::{FlowKey, HeaderId, Message, Method};

use super::book::{Broken, tag};

/// The request an offer stands in, or that asked for one.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Place {
    number: u32,
    method: Method,
    brings: Brings,
    flow: FlowKey,
}

/// Whether a request holds a description.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Brings {
    Sdp,
    Nothing,
}

impl Place {
    fn of(flow: FlowKey, request: &Message) -> Self {
        let brings = if has_sdp(request) { Brings::Sdp } else { Brings::Nothing };
        Self { number: request.cseq().number, method: request.method().clone(), brings, flow }
    }

    fn is_of(&self, response: &Message) -> bool {
        let cseq = response.cseq();
        self.number == cseq.number && self.method == cseq.method
    }
}

/// One dialog's open offers.
#[derive(Debug)]
struct Talk {
    side: Side,
    tag: Bytes,
    ours: Option<Place>,
    theirs: Option<Place>,
}

/// The open offers of one call.
#[derive(Debug, Default)]
pub(super) struct Offers(Vec<Talk>);

impl Offers {
    fn talk(&mut self, side: Side, tag: Bytes) -> &mut Talk {
        let at = self.0.iter().position(|talk| talk.side == side && talk.tag == tag);
        let at = at.unwrap_or_else(|| {
            self.0.push(Talk { side, tag, ours: None, theirs: None });
            self.0.len() - 1
        });
        &mut self.0[at]
    }

    /// Its transactions end with a flow, and the offers in them.
    pub(super) fn flow_down(&mut self, flow: FlowKey) {
        for talk in &mut self.0 {
            talk.ours.take_if(|place| place.flow == flow);
            talk.theirs.take_if(|place| place.flow == flow);
        }
    }

    pub(super) fn request_out(&mut self, flow: FlowKey, side: Side, request: &Message) -> Broken {
        // An INVITE without a tag has no dialog yet: nothing can be open in it.
        let Some(remote) = request.to_tag() else { return Ok(()) };
        let talk = self.talk(side, tag(Some(remote)));
        let place = Place::of(flow, request);
        match request.method() {
            Method::Ack => drop(talk.theirs.take_if(|open| open.number == place.number)),
            Method::Bye => (talk.ours, talk.theirs) = (None, None),
            Method::Prack if has_sdp(request) => talk.theirs = None,
            Method::Invite | Method::Update if is_offer(request) => {
                // Sent again over UDP it is the same offer.
                if talk.ours.as_ref() == Some(&place) {
                    return Ok(());
                }
                if talk.ours.is_some() || talk.theirs.is_some() {
                    let open = format!("ours {:?}, theirs {:?}", talk.ours, talk.theirs);
                    return Err(format!("at most one open offer per leg: {place:?} while {open}"));
                }
                talk.ours = Some(place);
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn request_in(&mut self, flow: FlowKey, side: Side, request: &Message) {
        let talk = self.talk(side, tag(request.from_tag()));
        let place = Place::of(flow, request);
        match request.method() {
            Method::Ack => drop(talk.ours.take_if(|open| open.number == place.number)),
            Method::Bye => (talk.ours, talk.theirs) = (None, None),
            Method::Prack if has_sdp(request) => talk.ours = None,
            Method::Invite | Method::Update
                if is_offer(request) && talk.ours.is_none() && talk.theirs.is_none() =>
            {
                talk.theirs = Some(place);
            }
            _ => {}
        }
    }

    pub(super) fn response_out(&mut self, side: Side, response: &Message) {
        let talk = self.talk(side, tag(response.from_tag()));
        if let Some(place) = talk.theirs.take_if(|place| place.is_of(response) && settles(response)) {
            talk.ours = late_offer(place, response);
        }
    }

    pub(super) fn response_in(&mut self, side: Side, response: &Message) {
        let talk = self.talk(side, tag(response.to_tag()));
        if let Some(place) = talk.ours.take_if(|place| place.is_of(response) && settles(response)) {
            talk.theirs = late_offer(place, response);
        }
    }
}

/// A description in the answer to an INVITE that brought none is an offer, until ACK or PRACK answers it.
fn late_offer(place: Place, response: &Message) -> Option<Place> {
    (place.brings == Brings::Nothing && has_sdp(response)).then_some(place)
}

/// An INVITE without a description asks for an offer, which blocks the dialog as well (RFC 3261 §14.1).
fn is_offer(request: &Message) -> bool {
    *request.method() == Method::Invite || has_sdp(request)
}

/// A final answer, or one the other side must confirm (RFC 3262 §5).
fn settles(response: &Message) -> bool {
    response.status().is_some_and(|status| status.is_final())
        || (has_sdp(response) && response.header(HeaderId::RSeq).is_some())
}

fn has_sdp(message: &Message) -> bool {
    message
        .content_type()
        .is_some_and(|kind| kind.starts_with(b"application/sdp") || kind.starts_with(b"multipart/"))
        && !message.body().is_empty()
}

//! A call in a few dozen lines: which legs are up, whose offer travels, who still owes an answer, an ACK or a BYE. Kept from the messages at the
//! border alone and compared with the engine's own state after each step. Refuses to know why anything happens.

use relay::Side;
use sip::{HeaderId, Message, Method};

use super::ladder::Way;

/// How far a leg is.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
enum Leg {
    /// Nothing was sent.
    #[default]
    Idle,
    /// An INVITE is open.
    Invited,
    /// It is open, and something other than 100 came.
    Rings,
    /// It has its 2xx.
    Up,
    /// Refused, or BYE was said by either side.
    Down,
}

/// Where the call is in its life.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
enum Life {
    #[default]
    Unborn,
    Lives,
    Recorded,
    /// Legs change hands: which of them are up is no longer told by one dialog each.
    Transferred,
}

/// An offer passed on: where to and which there, and which it was where it came from.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
struct Travel {
    to: Side,
    number: u32,
    asked: u32,
}

/// The model of one call.
#[derive(Debug, Default)]
pub struct Model {
    life: Life,
    a: Leg,
    b: Leg,
    /// CSeq of the last INVITE to a server.
    b_number: u32,
    /// Tag of whoever answered it.
    b_tag: Vec<u8>,
    /// A reliable 18x of ours waits for its PRACK: no 2xx before it (RFC 3262 §3).
    owes_prack: bool,
    /// Our 2xx that waits for its ACK: to whom, which.
    owes_ack: Option<(Side, u32)>,
    /// Our 2xx so far.
    answered: Vec<(Side, u32)>,
    /// Whoever owes the ACK has asked for something new: it must have had the 2xx.
    is_ack_implied: bool,
    /// An offer on its way to the other leg.
    travels: Option<Travel>,
    /// The last INVITE or UPDATE of either side inside the call.
    asked: [u32; 2],
    /// BYEs of ours without an answer.
    byes: Vec<(Side, u32)>,
    /// A connection of the call is gone: a BYE may wait for the next one before it is seen.
    lost: bool,
}

impl Model {
    /// The engine took the call.
    pub fn start(&mut self) {
        self.life = Life::Lives;
    }

    /// The engine recorded its end.
    pub fn end(&mut self) {
        if self.life != Life::Transferred {
            self.life = Life::Recorded;
        }
    }

    /// The flow of the open INVITE of leg B is lost: somebody else will be tried, or nobody.
    pub fn lose_server(&mut self) {
        if matches!(self.b, Leg::Invited | Leg::Rings) {
            self.b = Leg::Idle;
        }
    }

    /// A flow that carried the call is lost.
    pub fn lose_flow(&mut self) {
        self.lost = true;
    }

    /// A message at the border.
    pub fn observe(&mut self, side: Side, way: Way, message: &Message) {
        let number = message.cseq().number;
        match (way, message.status().map(|status| status.code())) {
            (Way::In, None) => self.on_request_in(side, number, message),
            (Way::Out, None) => self.on_request_out(side, number, message),
            (Way::Out, Some(status)) => self.on_response_out(side, number, status, message),
            (Way::In, Some(status)) => self.on_response_in(side, number, status, message),
        }
    }

    fn on_request_in(&mut self, side: Side, number: u32, request: &Message) {
        match request.method() {
            Method::Invite if side == Side::A && request.to_tag().is_none() => {
                self.a = if self.a == Leg::Idle { Leg::Invited } else { self.a };
            }
            Method::Invite | Method::Update => {
                self.asked[side as usize] = number;
                let again = *request.method() == Method::Invite;
                self.is_ack_implied |= again && self.owes_ack.is_some_and(|owed| owed.0 == side);
            }
            Method::Refer => self.life = Life::Transferred,
            Method::Prack if side == Side::A => self.owes_prack = false,
            Method::Ack => drop(self.owes_ack.take_if(|owed| *owed == (side, number))),
            _ => {}
        }
    }

    fn on_request_out(&mut self, side: Side, number: u32, request: &Message) {
        let offers = *request.method() == Method::Invite
            || (*request.method() == Method::Update && request.header(HeaderId::ContentType).is_some());
        match request.method() {
            Method::Invite if request.to_tag().is_none() => {
                (self.b, self.b_number) = (Leg::Invited, number);
            }
            // Over UDP it may be the same once more.
            _ if offers && self.travels.is_none_or(|travel| (travel.to, travel.number) != (side, number)) => {
                self.travels = Some(Travel { to: side, number, asked: self.asked[!side as usize] })
            }
            Method::Cancel => self.lose_server(),
            // A fork that lost is ended too; it is no leg.
            Method::Bye if side == Side::A || request.to_tag() == Some(&self.b_tag[..]) => {
                self.byes.push((side, number));
                *self.leg(side) = Leg::Down;
            }
            _ => {}
        }
    }

    fn on_response_out(&mut self, side: Side, number: u32, status: u16, response: &Message) {
        let method = response.method();
        let is_leg = side == Side::A || response.from_tag() == Some(&self.b_tag[..]);
        if *method == Method::Bye && (200..300).contains(&status) && is_leg {
            *self.leg(side) = Leg::Down;
        }
        if *method == Method::Invite
            && (101..200).contains(&status)
            && response.header(HeaderId::RSeq).is_some()
        {
            self.owes_prack = true;
        }
        if status < 200 || !matches!(method, Method::Invite | Method::Update) {
            return;
        }
        self.travels.take_if(|travel| travel.to != side && travel.asked == number);
        if *method == Method::Invite {
            // It may be the same once more.
            if status < 300 && !self.answered.contains(&(side, number)) {
                self.answered.push((side, number));
                self.owes_ack = Some((side, number));
                self.is_ack_implied = false;
            }
            if self.a == Leg::Invited && side == Side::A {
                self.a = if status < 300 { Leg::Up } else { Leg::Down };
                self.travels = None;
            }
        }
    }

    fn on_response_in(&mut self, side: Side, number: u32, status: u16, response: &Message) {
        let method = response.method();
        if status >= 200 && matches!(method, Method::Invite | Method::Update) {
            self.travels.take_if(|travel| (travel.to, travel.number) == (side, number));
        }
        match method {
            Method::Bye
                if status >= 200 && (side == Side::A || response.to_tag() == Some(&self.b_tag[..])) =>
            {
                self.byes.retain(|bye| *bye != (side, number))
            }
            Method::Invite if side == Side::B && number == self.b_number && status > 100 => {
                if matches!(self.b, Leg::Invited | Leg::Rings) {
                    self.b_tag = response.to_tag().map(<[u8]>::to_vec).unwrap_or_default();
                    self.b = match status {
                        ..200 => Leg::Rings,
                        200..300 => Leg::Up,
                        _ => Leg::Idle,
                    };
                }
            }
            _ => {}
        }
    }

    fn leg(&mut self, side: Side) -> &mut Leg {
        match side {
            Side::A => &mut self.a,
            Side::B => &mut self.b,
        }
    }

    /// What is wrong with the engine's state, if anything.
    pub fn contradicts(&self, state: Option<&str>) -> Option<String> {
        // What waits for a new connection has not been seen yet.
        if self.lost {
            return None;
        }
        let expected: &[Option<&str>] = match (self.life, self.a, self.b) {
            // A leg changes hands only by an offer of ours to the one that stays.
            (Life::Transferred, Leg::Up, _) if state == Some("transferring") && self.travels.is_none() => &[],
            (Life::Transferred, Leg::Up, _) => &[
                Some("established"),
                Some("answering"),
                Some("renegotiating"),
                Some("refreshing"),
                Some("transferring"),
                Some("ending"),
                None,
            ],
            (Life::Unborn | Life::Transferred, ..) => return None,
            (Life::Recorded, ..) => match (self.byes.is_empty(), self.owes_ack) {
                (true, None) => &[None],
                _ => &[None, Some("ending")],
            },
            (_, Leg::Invited, Leg::Up) if self.owes_prack => &[Some("awaiting PRACK")],
            (_, Leg::Invited, Leg::Rings) => &[Some("ringing")],
            (_, Leg::Invited, Leg::Idle) => &[Some("awaiting media"), Some("dialing")],
            (_, Leg::Invited, Leg::Invited) => &[Some("dialing")],
            (_, Leg::Up, Leg::Up) if self.is_ack_implied && self.owes_ack.is_some() => {
                &[Some("answering"), Some("established"), Some("renegotiating")]
            }
            (_, Leg::Up, Leg::Up) if self.owes_ack.is_some() => &[Some("answering")],
            (_, Leg::Up, Leg::Up) if self.travels.is_some() => {
                &[Some("renegotiating"), Some("refreshing"), Some("transferring")]
            }
            (_, Leg::Up, Leg::Up) => &[Some("established")],
            // Anything else is no place to rest.
            _ => &[],
        };
        (!expected.contains(&state)).then(|| format!("the engine is {state:?}, the model {self:?}"))
    }
}

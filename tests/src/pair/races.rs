//! Messages that cross. Each race brings a call to a point, gives both ends something to do, and lets a seed choose in which order everything is
//! done and delivered; afterwards the ends must stand as the RFC says and nothing may be left.

use relay::Side;
use sip::Method;

use super::{Body, Pair, Shell};
use crate::world::random::Random;

/// Something an end does when the seed says so.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Move {
    /// The caller takes its INVITE back.
    Cancel,
    /// The server answers 200, as this fork.
    Answer(&'static str),
    /// The server rings with this status, as this fork.
    Ring(u16, &'static str),
    /// BYE, unless its dialog is over.
    Bye,
    /// An offer inside the call, unless its dialog is over or an INVITE is open.
    Reoffer,
}

/// One race.
pub struct Race {
    /// What meets what.
    pub name: &'static str,
    /// The call is up when it begins; else the server has the INVITE.
    pub begins: Begins,
    /// What is done, in any order.
    pub moves: &'static [(Side, Move)],
    /// Whether messages of the server overtake each other.
    pub wires: Wires,
    judge: fn(&Pair) -> Result<(), String>,
}

/// Where the call stands when a race begins.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Begins {
    /// The server has the INVITE.
    Invited,
    /// Both legs are up.
    Answered,
}

/// How the server's messages travel.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Wires {
    /// One after another.
    InOrder,
    /// In any order.
    AnyOrder,
}

/// All races.
pub const RACES: &[Race] = &[
    Race {
        name: "CANCEL and 200",
        begins: Begins::Invited,
        moves: &[(Side::A, Move::Cancel), (Side::B, Move::Answer(""))],
        wires: Wires::InOrder,
        judge: cancelled_or_hung_up,
    },
    Race {
        name: "CANCEL, late 180 and 200",
        begins: Begins::Invited,
        moves: &[(Side::A, Move::Cancel), (Side::B, Move::Ring(180, "")), (Side::B, Move::Answer(""))],
        wires: Wires::AnyOrder,
        judge: cancelled_or_hung_up,
    },
    Race {
        name: "BYE and BYE",
        begins: Begins::Answered,
        moves: &[(Side::A, Move::Bye), (Side::B, Move::Bye)],
        wires: Wires::InOrder,
        judge: all_down,
    },
    Race {
        name: "BYE of the server and re-INVITE of the caller",
        begins: Begins::Answered,
        moves: &[(Side::A, Move::Reoffer), (Side::B, Move::Bye)],
        wires: Wires::InOrder,
        judge: all_down,
    },
    Race {
        name: "BYE of the caller and re-INVITE of the server",
        begins: Begins::Answered,
        moves: &[(Side::B, Move::Reoffer), (Side::A, Move::Bye)],
        wires: Wires::InOrder,
        judge: all_down,
    },
    Race {
        name: "re-INVITE and re-INVITE",
        begins: Begins::Answered,
        moves: &[(Side::A, Move::Reoffer), (Side::B, Move::Reoffer)],
        wires: Wires::InOrder,
        judge: still_up,
    },
    Race {
        name: "answers of two forks",
        begins: Begins::Invited,
        moves: &[(Side::B, Move::Answer("")), (Side::B, Move::Answer("-2"))],
        wires: Wires::AnyOrder,
        judge: one_fork_up,
    },
    Race {
        name: "answers of two forks and CANCEL",
        begins: Begins::Invited,
        moves: &[(Side::A, Move::Cancel), (Side::B, Move::Answer("")), (Side::B, Move::Answer("-2"))],
        wires: Wires::AnyOrder,
        judge: cancelled_or_hung_up,
    },
    Race {
        name: "late 18x of a fork that lost",
        begins: Begins::Invited,
        moves: &[
            (Side::B, Move::Ring(180, "")),
            (Side::B, Move::Ring(183, "-2")),
            (Side::B, Move::Answer("")),
        ],
        wires: Wires::AnyOrder,
        judge: one_fork_up,
    },
];

impl Race {
    /// Runs one order; `Err` tells what was wrong, with the ladder.
    pub fn run(&self, seed: u64) -> Result<(), String> {
        let mut random = Random::new(seed);
        let mut pair = Pair::new(seed, Shell::Prompt);
        let invite = pair.party(Side::A).invite(Body::Sdp);
        pair.send(Side::A, invite);
        pair.settle();
        if self.begins == Begins::Answered {
            pair.do_move(Side::B, Move::Answer(""));
            pair.settle();
        } else if random.chance(50) {
            pair.do_move(Side::B, Move::Ring(180, ""));
            pair.settle();
        }
        self.shuffle(&mut pair, &mut random);
        let judged = (self.judge)(&pair).map_err(|why| format!("{why}\n{}", pair.story()));
        judged.map_err(|why| format!("{} (seed {seed}): {why}", self.name))?;
        pair.do_move(Side::A, Move::Bye);
        pair.run_out();
        let recorded = pair.records.len();
        let media = pair.media;
        pair.verdict().map_err(|why| format!("{} (seed {seed}): {why}", self.name))?;
        if recorded != 1 || (media[0], media[2]) != (1, 1) {
            return Err(format!("{} (seed {seed}): {recorded} records, media {media:?}", self.name));
        }
        Ok(())
    }

    /// Whatever can happen next is as likely as anything else that can.
    fn shuffle(&self, pair: &mut Pair, random: &mut Random) {
        let mut moves = self.moves.to_vec();
        loop {
            let deliveries = [Side::A, Side::B]
                .iter()
                .map(|side| {
                    usize::from(!pair.inward[*side as usize].is_empty())
                        + usize::from(!pair.outward[*side as usize].is_empty())
                })
                .sum::<usize>();
            let answers = [Side::A, Side::B].into_iter().filter(|side| pair.may_answer(*side)).count();
            let total = (moves.len() + deliveries + answers) as u64;
            if total == 0 {
                return;
            }
            let chosen = random.below(total) as usize;
            if chosen < moves.len() {
                let (side, what) = moves.remove(chosen);
                pair.do_move(side, what);
            } else if chosen < moves.len() + answers {
                let side = if pair.may_answer(Side::A) && (answers == 1 || random.chance(50)) {
                    Side::A
                } else {
                    Side::B
                };
                pair.answer_offer(side);
            } else if self.wires == Wires::AnyOrder && random.chance(50) && pair.inward[1].len() > 1 {
                let nth = random.below(pair.inward[1].len() as u64) as usize;
                pair.deliver_in(Side::B, nth);
            } else {
                pair.deliver_any(Some(random));
            }
        }
    }
}

impl Pair {
    /// An offer inside the call waits for this end's answer.
    fn may_answer(&self, side: Side) -> bool {
        let party = &self.parties[side as usize];
        party.asked.as_ref().is_some_and(|asked| asked.to_tag().is_some())
    }

    fn answer_offer(&mut self, side: Side) {
        let party = self.party(side);
        if let Some(asked) = party.asked.take() {
            let answer = match party.is_up() {
                true => party.respond(&asked, 200, "", "", Body::Sdp),
                // It said BYE already.
                false => party.respond(&asked, 481, "", "", Body::None),
            };
            self.send(side, answer);
        }
    }

    fn do_move(&mut self, side: Side, what: Move) {
        let party = self.party(side);
        let first = party.first_invite();
        let is_over = party.statuses(&Method::Invite).iter().any(|status| *status >= 200);
        let bytes = match (what, first) {
            (Move::Cancel, _) if !is_over => party.cancel(),
            (Move::Answer(_) | Move::Ring(..), _) if party.has_refused => return,
            (Move::Answer(fork), Some(invite)) if party.asked.is_some() || !fork.is_empty() => {
                let answer = party.respond(&invite, 200, fork, "", Body::Sdp);
                party.asked = None;
                answer
            }
            (Move::Ring(status, fork), Some(invite)) if party.asked.is_some() || !fork.is_empty() => {
                party.respond(&invite, status, fork, "", Body::None)
            }
            (Move::Bye, _) if party.is_up() => party.request("BYE", "", Body::None),
            (Move::Reoffer, _) if party.is_up() && party.asked.is_none() && !party.asks => {
                party.request("INVITE", "", Body::Sdp)
            }
            _ => return,
        };
        self.send(side, bytes);
    }
}

fn finals(pair: &Pair, side: Side, method: &Method) -> Vec<u16> {
    pair.parties[side as usize].statuses(method).into_iter().filter(|status| *status >= 200).collect()
}

fn expect(is_so: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(what()) }
}

/// RFC 3261 §9.2, §15: whoever takes an INVITE back gets 487, or a 200 that it ends by BYE; no leg stays up.
fn cancelled_or_hung_up(pair: &Pair) -> Result<(), String> {
    let invite = finals(pair, Side::A, &Method::Invite);
    expect(matches!(invite[..], [200] | [487]), || format!("the INVITE got {invite:?}"))?;
    let cancel = finals(pair, Side::A, &Method::Cancel);
    expect(matches!(cancel[..], [200] | [481] | []), || format!("CANCEL got {cancel:?}"))?;
    if cancel.is_empty() {
        // It was answered before it could be taken back.
        return expect(invite == [200] && pair.parties[0].is_up(), || format!("the INVITE got {invite:?}"));
    }
    expect(!pair.parties[0].is_up() && !pair.parties[1].is_up(), || "a leg is still up".to_owned())?;
    // What the server accepted was ended by BYE.
    let accepted = pair.parties[1].accepted();
    let byes = pair.parties[1].count(&Method::Bye);
    expect(accepted == byes, || format!("the server accepted {accepted} times and got {byes} BYEs"))
}

/// RFC 3261 §15.1.2: every BYE is answered 200, and what was pending is over.
fn all_down(pair: &Pair) -> Result<(), String> {
    expect(!pair.parties[0].is_up() && !pair.parties[1].is_up(), || "a leg is still up".to_owned())?;
    for side in [Side::A, Side::B] {
        let byes = finals(pair, side, &Method::Bye);
        expect(byes.iter().all(|status| *status == 200), || format!("BYE of {side:?} got {byes:?}"))?;
        let asked = finals(pair, side, &Method::Invite);
        let allowed = [200, 481, 487, 491, 500, 503];
        expect(asked.iter().all(|status| allowed.contains(status)), || format!("INVITEs got {asked:?}"))?;
    }
    expect(matches!(pair.state(), None | Some("ending")), || format!("the call is {:?}", pair.state()))
}

/// RFC 3261 §14.1 and §14.2: an offer in glare is refused 491 or 500, and the call goes on.
fn still_up(pair: &Pair) -> Result<(), String> {
    expect(pair.parties[0].is_up() && pair.parties[1].is_up(), || "a leg is down".to_owned())?;
    for side in [Side::A, Side::B] {
        let asked = finals(pair, side, &Method::Invite);
        let allowed = [200, 491, 500];
        expect(asked.iter().all(|status| allowed.contains(status)), || format!("INVITEs got {asked:?}"))?;
    }
    expect(pair.state() == Some("established"), || format!("the call is {:?}", pair.state()))
}

/// RFC 3261 §13.2.2.4: one fork is the call, every other is acknowledged and ended.
fn one_fork_up(pair: &Pair) -> Result<(), String> {
    let invite = finals(pair, Side::A, &Method::Invite);
    expect(invite == [200] && pair.parties[0].is_up(), || format!("the INVITE got {invite:?}"))?;
    let server = &pair.parties[1];
    let (accepted, byes, acks) = (server.accepted(), server.count(&Method::Bye), server.count(&Method::Ack));
    expect(server.is_up() && accepted == byes + 1, || format!("{accepted} forks answered, {byes} got BYE"))?;
    expect(accepted == acks, || format!("{accepted} forks answered, {acks} got ACK"))?;
    expect(pair.state() == Some("established"), || format!("the call is {:?}", pair.state()))
}

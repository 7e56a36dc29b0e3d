//! The early dialogs of leg B's INVITE: one per To tag, because a proxy behind the server may fork it
//! (RFC 3261 §12.1.2, §13.2.2.4). Owns their number, each one's RSeq order and what it answered our offer
//! with. Refuses to know the caller, who sees one dialog whatever happens here.

use bytes::Bytes;
use sdp::Session;
use sip::dialog::Dialog;
use sip::endpoint::OutgoingRequest;
use sip::header::simple;
use sip::{Message, Method};

use super::reliable::Receiving;
use crate::verdict::Refusal;

/// Early dialogs of one INVITE that are kept; a response that would make one more is not looked at.
pub(crate) const EARLY_DIALOGS_MAX: usize = 8;

/// One early dialog.
pub(crate) struct Fork {
    /// The far end's tag; empty when it gave none (RFC 2543).
    tag: Bytes,
    /// `None` while no response had what a dialog needs.
    pub dialog: Option<Dialog>,
    pub received: Receiving,
    pub answer: Option<EarlyAnswer>,
    /// Its Allow names UPDATE (RFC 3311 §4).
    pub takes_update: bool,
    life: Life,
}

/// Whether a fork still takes part.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Life {
    Early,
    /// It said BYE.
    Over,
}

/// The first description of a fork: its answer to the offer of our INVITE.
pub(crate) struct EarlyAnswer {
    /// As it came, or why it cannot stand.
    pub judged: Result<Session, Refusal>,
    pub how: How,
}

/// How a description was carried.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// In a response that was acknowledged: offer and answer are complete (RFC 3262 §5).
    Reliably,
    /// In one that may be lost: the 2xx says it again (RFC 3261 §13.2.1).
    Loosely,
}

/// The early dialogs of one INVITE, in the order in which they were heard of.
#[derive(Default)]
pub(crate) struct Forks {
    list: Vec<Fork>,
    /// The one heard last.
    latest: usize,
    /// The one whose media runs.
    playing: Option<usize>,
}

impl Forks {
    /// The early dialog a provisional response belongs to, made when it is new; `None` beyond the limit.
    pub fn hear(&mut self, request: &OutgoingRequest, response: &Message) -> Option<usize> {
        let tag = response.to_tag().unwrap_or_default();
        let at = match self.list.iter().position(|fork| fork.tag == tag) {
            Some(at) => at,
            None if self.list.len() >= EARLY_DIALOGS_MAX => return None,
            None => {
                self.list.push(Fork::new(tag));
                self.list.len() - 1
            }
        };
        let fork = self.list.get_mut(at).filter(|fork| fork.life == Life::Early)?;
        self.latest = at;
        if fork.dialog.is_none() {
            fork.dialog = Dialog::uac(request, response).ok();
        }
        fork.takes_update |= simple::allow(response).contains(&Method::Update);
        Some(at)
    }

    pub fn get(&self, at: usize) -> Option<&Fork> {
        self.list.get(at)
    }

    pub fn get_mut(&mut self, at: usize) -> Option<&mut Fork> {
        self.list.get_mut(at)
    }

    /// The early dialog with that remote tag.
    pub fn with_tag(&self, tag: &[u8]) -> Option<usize> {
        self.list.iter().position(|fork| fork.tag == tag && fork.dialog.is_some())
    }

    /// That fork is over; whether another one is left.
    pub fn bury(&mut self, tag: &[u8]) -> bool {
        if let Some(at) = self.list.iter().position(|fork| fork.tag == tag) {
            self.list[at].life = Life::Over;
            self.list[at].dialog = None;
            self.playing = self.playing.filter(|playing| *playing != at);
        }
        let left = self.list.iter().rposition(|fork| fork.life == Life::Early);
        self.latest = left.unwrap_or(self.latest);
        left.is_some()
    }

    /// Whose media runs.
    pub fn playing(&self) -> Option<usize> {
        self.playing
    }

    /// The media of this one runs from now on.
    pub fn play(&mut self, at: usize) {
        self.playing = Some(at);
    }

    /// The early dialog that requests of the caller go to: the one whose media it hears, else the one heard last.
    pub fn current(&self) -> Option<usize> {
        let at = self.playing.unwrap_or(self.latest);
        self.list.get(at).filter(|fork| fork.dialog.is_some()).map(|_| at)
    }

    /// The dialog that a 2xx confirms, with what was known of it; every other one is over for us.
    pub fn win(&mut self, response: &Message) -> Winner {
        let tag = response.to_tag().unwrap_or_default();
        let at = self.list.iter().position(|fork| fork.tag == tag);
        let plays = at.is_some() && at == self.playing;
        let fork = at.map(|at| self.list.swap_remove(at));
        self.list.clear();
        self.playing = None;
        Winner { fork, plays }
    }
}

/// What a 2xx confirms.
pub(crate) struct Winner {
    /// Its early dialog, if it had one.
    pub fork: Option<Fork>,
    /// Its media runs already.
    pub plays: bool,
}

impl Fork {
    fn new(tag: &[u8]) -> Self {
        Self {
            tag: Bytes::copy_from_slice(tag),
            dialog: None,
            received: Receiving::default(),
            answer: None,
            takes_update: false,
            life: Life::Early,
        }
    }

    pub fn has_tag(&self, tag: &[u8]) -> bool {
        self.tag == tag
    }

    /// Whether offer and answer are complete in this early dialog (RFC 3311 §5.1).
    pub fn is_settled(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.how == How::Reliably && answer.judged.is_ok())
    }
}

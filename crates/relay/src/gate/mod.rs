//! How a packet gets from the wire of one leg to the wire of the other.
//!
//! Owns the types that make a shortcut impossible: a [`Clear`] packet can only come out of an
//! [`Entrance`], which on a sealed leg means authenticated decryption, and only an [`Exit`] turns it
//! into something to send. Refuses to know addresses, latching and counters.
//!
//! ```text
//!  wire ─ Received ─┬─ plain leg:  admit ──────────┬─ Clear ─┬─ plain leg:  as it is ─┬─ wire
//!                   └─ sealed leg: Sealed ─ open ──┘         └─ sealed leg: seal ─────┘
//! ```

mod budget;
mod opener;
mod sealer;

use crate::buffer::{PACKET_BYTES_MAX, PacketBuffer};
use crate::head::{Compound, Head, walk_compound, write_payload_type, write_sequence};
use crate::key::{KeyParams, SameKey, Suite};
use crate::plan::Channel;
use crate::stats::Why;
use crate::transform::Progress;

use opener::Opener;
use sealer::Sealer;

/// Sources a peer may use under one key, RTP and RTCP each.
pub const SOURCES_MAX: usize = 32;

/// A packet from the wire: its head can be read, nothing about it is believed.
pub(crate) struct Received<'p> {
    buffer: &'p mut PacketBuffer,
    head: Head,
}

impl<'p> Received<'p> {
    pub(crate) fn parse(buffer: &'p mut PacketBuffer, channel: Channel) -> Result<Self, Why> {
        if buffer.as_slice().len() > PACKET_BYTES_MAX {
            return Err(Why::TooLong);
        }
        let head = Head::parse(buffer.as_slice(), channel)?;
        Ok(Received { buffer, head })
    }

    pub(crate) fn head(&self) -> Head {
        self.head
    }
}

/// A packet that claims to be protected.
struct Sealed<'p> {
    buffer: &'p mut PacketBuffer,
    head: Head,
}

/// A packet that may be believed as far as its leg's protection goes, or one of our own. No other module can make one.
pub(crate) struct Clear<'p> {
    buffer: &'p mut PacketBuffer,
    head: Head,
    compound: Compound,
}

impl<'p> Clear<'p> {
    pub(crate) fn head(&self) -> Head {
        self.head
    }

    pub(crate) fn compound(&self) -> Compound {
        self.compound
    }

    /// All of it: header and payload, or a compound.
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.buffer.as_slice()
    }

    /// A compound or an event that this gateway wrote.
    pub(crate) fn of_ours(buffer: &'p mut PacketBuffer) -> Result<Self, Why> {
        let head = Head::parse(buffer.as_slice(), Channel::Rtp)?;
        Clear::new(buffer, head)
    }

    /// Gives an RTP packet another payload type; its marker stays.
    pub(crate) fn renumber(&mut self, payload_type: u8) {
        if let Head::Rtp(rtp) = &mut self.head {
            rtp.payload_type = payload_type;
            write_payload_type(self.buffer.as_mut_slice(), payload_type);
        }
    }

    /// Gives an RTP packet another sequence number.
    pub(crate) fn resequence(&mut self, sequence: u16) {
        if let Head::Rtp(rtp) = &mut self.head {
            rtp.sequence = sequence;
            write_sequence(self.buffer.as_mut_slice(), sequence);
        }
    }

    fn new(buffer: &'p mut PacketBuffer, head: Head) -> Result<Self, Why> {
        let compound = match head {
            Head::Rtp(_) => Compound::Reports,
            Head::Rtcp(_) => walk_compound(buffer.as_slice())?,
        };
        Ok(Clear { buffer, head, compound })
    }
}

/// Octets behind the MKI: the tag, but for AEAD, whose tag is part of the cipher text (RFC 7714 §4.1, §9.1).
const fn bytes_after_mki(suite: Suite, head: Head) -> usize {
    match (suite.is_aead(), head) {
        (true, _) => 0,
        (false, Head::Rtp(_)) => suite.rtp_tag_bytes(),
        (false, Head::Rtcp(_)) => suite.rtcp_tag_bytes(),
    }
}

/// Where packets of a leg come in.
pub(crate) enum Entrance {
    Plain,
    Sealed(Box<Opener>),
}

impl Entrance {
    pub(crate) fn sealed(params: &KeyParams) -> Option<Self> {
        Opener::new(params).map(|opener| Entrance::Sealed(Box::new(opener)))
    }

    /// An entrance for what was agreed instead.
    pub(crate) fn replaced(&self, params: &KeyParams, same_key: SameKey) -> Option<Self> {
        match self {
            Entrance::Plain => Entrance::sealed(params),
            Entrance::Sealed(opener) => Some(Entrance::Sealed(Box::new(opener.replaced(params, same_key)?))),
        }
    }

    pub(crate) fn is_exhausted(&self) -> bool {
        match self {
            Entrance::Plain => false,
            Entrance::Sealed(opener) => opener.is_exhausted(),
        }
    }

    pub(crate) fn progress(&self) -> Option<Progress> {
        match self {
            Entrance::Plain => None,
            Entrance::Sealed(opener) => Some(opener.progress()),
        }
    }

    pub(crate) fn resume(&mut self, from: &Progress) -> bool {
        match self {
            Entrance::Plain => false,
            Entrance::Sealed(opener) => opener.resume(from),
        }
    }

    /// Turns what was received into a clear packet, on a sealed leg only if its tag is good.
    pub(crate) fn admit<'p>(&mut self, received: Received<'p>) -> Result<Clear<'p>, Why> {
        let Received { buffer, head } = received;
        match self {
            Entrance::Plain => Clear::new(buffer, head),
            Entrance::Sealed(opener) => opener.open(Sealed { buffer, head }),
        }
    }
}

/// Where packets to a leg go out.
pub(crate) enum Exit {
    Plain,
    Sealed(Box<Sealer>),
}

impl Exit {
    pub(crate) fn sealed(params: &KeyParams) -> Option<Self> {
        Sealer::new(params).map(|sealer| Exit::Sealed(Box::new(sealer)))
    }

    /// An exit for what was agreed instead. Under the same key it goes on; under a new one every source begins anew
    /// (RFC 4568 §7.1.4: a new context).
    pub(crate) fn replaced(&self, params: &KeyParams, same_key: SameKey) -> Option<Self> {
        let mut exit = Exit::sealed(params)?;
        if let (Some(former), SameKey::Yes) = (self.progress(), same_key) {
            exit.resume(&former).then_some(())?;
        }
        Some(exit)
    }

    /// Makes the packet fit to be sent on this leg; gives the octets to send.
    pub(crate) fn dispatch(&mut self, clear: Clear<'_>) -> Result<usize, Why> {
        match self {
            Exit::Plain => Ok(clear.buffer.as_slice().len()),
            Exit::Sealed(sealer) => sealer.seal(clear).map(|sealed| sealed.buffer.as_slice().len()),
        }
    }

    pub(crate) fn is_exhausted(&self) -> bool {
        match self {
            Exit::Plain => false,
            Exit::Sealed(sealer) => sealer.is_exhausted(),
        }
    }

    pub(crate) fn progress(&self) -> Option<Progress> {
        match self {
            Exit::Plain => None,
            Exit::Sealed(sealer) => Some(sealer.progress()),
        }
    }

    pub(crate) fn resume(&mut self, from: &Progress) -> bool {
        match self {
            Exit::Plain => false,
            Exit::Sealed(sealer) => sealer.resume(from),
        }
    }
}

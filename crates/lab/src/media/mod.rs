//! The media of one lab call as a value: sends what is to be played every 20 ms, records what comes, watches for the beep and for silence.
//! Owns packets and audio; refuses to know sockets, SIP and SDP. Protection is the relay crate's: our own packets enter its session on one
//! side, the network is the other, so every received packet is verified before it is heard.

mod dialing;
mod digits;
mod endpoint;
mod reception;
mod rtcp;
mod rtp;

use std::net::SocketAddr;
use std::time::Duration;

pub use digits::{DigitDetector, Key, keys};
pub use endpoint::{MediaEndpoint, MediaError, Packet};
pub use relay::{Channel, KeyParams, Protection};

use crate::audio::Law;

/// A call's media, as its logic names it to whoever owns the ports.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct MediaKey(pub u64);

/// Where the owner of the ports opened them.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct LocalMedia {
    /// RTP.
    pub rtp: SocketAddr,
    /// RTCP.
    pub rtcp: SocketAddr,
}

/// The numbers of telephone-event (RFC 4733) on one leg; `None` = not agreed.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct EventTypes {
    /// Under which we hear them: our own description's.
    pub heard: Option<u8>,
    /// Under which we send them: the far end's.
    pub sent: Option<u8>,
}

/// What was negotiated.
#[derive(Clone, Debug)]
pub struct MediaPlan {
    /// Where our RTP goes.
    pub remote_rtp: SocketAddr,
    /// Where our RTCP goes.
    pub remote_rtcp: SocketAddr,
    /// Codec.
    pub law: Law,
    /// Digits.
    pub events: EventTypes,
    /// Keys.
    pub protection: Protection,
    /// Our source, first sequence number and time stamp are derived from it.
    pub seed: u64,
    /// What is wrong with what we send.
    pub impairment: Option<Impairment>,
}

/// Something wrong with the media that one end sends.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Impairment {
    /// No RTP at all; reports go on.
    Mute,
    /// No RTCP.
    NoReports,
    /// SRTP packets under an MKI that was never agreed.
    ForeignMki,
    /// The rollover counter goes one too far, this long after the start, as if 65,536 packets had been lost.
    RocJump(Duration),
}

/// When a recording ends by itself.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct RecordLimits {
    /// Silence; `None` never.
    pub idle: Option<Duration>,
    /// Longest recording.
    pub longest: Duration,
}

/// What a call's logic asks of the owner of the ports.
#[derive(Clone, Debug)]
pub enum MediaCommand {
    /// Open ports; answered by [`MediaFact::Ready`].
    Allocate,
    /// Start sending and receiving.
    Start(Box<MediaPlan>),
    /// Follow a new negotiation on the same ports; counters and recording go on.
    Retarget(Box<MediaPlan>),
    /// Play these samples after what is still playing; [`MediaFact::Played`] when all is out.
    Play(Vec<i16>),
    /// Drop what is still playing and play these samples; [`MediaFact::Said`] with this number when all is out.
    Say {
        /// Told back, so that the end of what was dropped is not taken for the end of this.
        number: u64,
        /// What.
        samples: Vec<i16>,
    },
    /// Press these keys one after the other, as telephone-events instead of sound.
    Press(Vec<Key>),
    /// Forget what was heard and record from now.
    Record(RecordLimits),
    /// Hand over what was recorded; answered by [`MediaFact::Taken`]. Nothing more is recorded until the next `Record`.
    Take,
    /// Stop and close; answered by [`MediaFact::Stopped`].
    Stop,
}

/// What the owner of the ports tells a call's logic.
#[derive(Clone, Debug)]
pub enum MediaFact {
    /// Ports are open, or could not be had.
    Ready(Result<LocalMedia, String>),
    /// Everything to be played is out.
    Played,
    /// Everything of the `Say` with this number is out.
    Said(u64),
    /// A key was pressed.
    Key(Key),
    /// What was recorded so far.
    Taken(Vec<i16>),
    /// The beep was heard and is over.
    BeepOver,
    /// The recording ended by silence.
    Idle,
    /// The recording reached its longest duration.
    Full,
    /// The plan could not be carried out.
    Failed(String),
    /// Media stopped; this is what came.
    Stopped(Box<MediaReport>),
}

/// What came of a call's media.
#[derive(Clone, Debug, Default)]
pub struct MediaReport {
    /// What was heard since recording began.
    pub samples: Vec<i16>,
    /// Accepted RTP packets.
    pub packets: u64,
    /// Refused packets (bad tag, other source, not RTP).
    pub rejected: u64,
    /// RTP packets sent.
    pub sent: u64,
    /// RTCP packets accepted.
    pub reports: u64,
    /// Where in `samples` the beep began.
    pub beep_at: Option<Duration>,
}

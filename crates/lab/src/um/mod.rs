//! Exchange UM as the lab plays it: Call Router, UM service and worker as values without sockets, clocks or tasks. Each keeps the contract of
//! [`crate::machine::Machine`]. Refuses to know the gateway.

mod attendant;
mod call;
mod classify;
mod config;
mod conversation;
mod deposit;
mod directory;
mod ending;
mod fact;
mod faults;
mod manner;
pub mod menu;
mod messenger;
mod ova;
mod redirect;
mod refer;
mod talk;
mod worker;

pub use classify::classify;
pub use config::{
    AfterRecording, Allowed, AnswerRules, AttendantConfig, BusinessHours, CallRouterConfig, DialPlanConfig,
    Fault, KEY_MAPPINGS_MAX, KeyMapping, KeyTarget, MailboxConfig, MailboxPolicy, MailboxServerConfig,
    PIN_LENGTHS, Pin, PlanSecurity, Ports,
};
pub use directory::{Directory, DirectoryError, DirectoryPlan, HeldMessage, MESSAGES_MAX, SOUND_BYTES_MAX};
pub use fact::{
    CallKind, CallPurpose, EndReason, LabFact, MediaKind, MessageNote, Milestone, MissedCall, StoredMessage,
    Waiting,
};
pub use manner::{
    ContactShape, FirstWord, MalformedDiversion, Manner, OldCalls, Recycling, RedirectsTo, SERVER_HEADER,
    SUITES, Version,
};
pub use messenger::Messenger;
pub use redirect::{RedirectRole, RedirectTarget, Redirector};
pub use worker::{Worker, WorkerConfig};

use std::time::Duration;

use crate::audio::Law;
pub use crate::media::Impairment;

/// What the owner of a UM role may command.
#[derive(Clone, Debug)]
pub enum UmCommand {
    /// Something is wrong from now on (or no longer).
    Fault(Fault),
    /// A target's state became known (redirecting roles).
    Live {
        /// Its host name.
        host: String,
        /// Alive.
        is_live: bool,
    },
    /// End all calls with BYE.
    HangUpAll,
    /// End the calls of the worker process on these ports with BYE.
    HangUpOn(Ports),
}

/// What a UM role reports.
#[derive(Debug)]
pub enum UmReport {
    /// A fact to pass on.
    Fact(LabFact),
    /// A voice message to store.
    Message(Box<VoiceMessage>),
    /// A missed call to note.
    Missed(Box<MissedCall>),
    /// What waits in a mailbox changed.
    Waiting(Waiting),
    /// A worker process made place for the next.
    Recycled {
        /// Its server.
        server: String,
        /// Its ports.
        ports: Ports,
        /// What becomes of its calls.
        old_calls: OldCalls,
    },
    /// A message was heard.
    Heard {
        /// Mailbox alias.
        mailbox: String,
        /// Call-ID of the call that left it.
        call_id: String,
    },
    /// A message to delete.
    Delete {
        /// Mailbox alias.
        mailbox: String,
        /// Call-ID of the call that left it.
        call_id: String,
    },
    /// A new PIN, for its owner only.
    PinReset(PinLetter),
}

/// A new PIN and whose it is.
#[derive(Clone, Debug)]
pub struct PinLetter {
    /// Mailbox alias.
    pub mailbox: String,
    /// Server at which it was asked for.
    pub server: String,
    /// The PIN.
    pub pin: Pin,
}

/// A voice message before it is stored.
#[derive(Clone, Debug)]
pub struct VoiceMessage {
    /// Kind, callee, caller, diversion.
    pub purpose: CallPurpose,
    /// Server that took it.
    pub server: String,
    /// Call-ID.
    pub call_id: String,
    /// Correlation header, when sent.
    pub x_call_id: Option<String>,
    /// What the leg really was: `Secured`, `SIPSecured`, `Unsecured`.
    pub security: &'static str,
    /// Codec.
    pub law: Law,
    /// Recording.
    pub samples: Vec<i16>,
    /// Time since the recording began.
    pub age: Duration,
    /// Why it ended.
    pub end: EndReason,
}

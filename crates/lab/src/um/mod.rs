//! Exchange UM as the lab plays it: Call Router, UM service and worker as values without sockets, clocks or tasks.

mod config;
mod fact;

pub use config::{
    AfterRecording, AnswerRules, CallRouterConfig, Fault, MailboxConfig, MailboxServerConfig, PlanSecurity,
    Ports,
};
pub use fact::{
    CallKind, CallPurpose, EndReason, LabFact, MediaKind, MessageNote, MissedCall, StoredMessage,
};

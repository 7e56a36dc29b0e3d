//! Who stands in the lab: Call Routers, Mailbox servers, mailboxes, and what is wrong with them today. Plain descriptions; the logic and the
//! shell read them.

use std::net::IpAddr;
use std::time::Duration;

use crate::media::Impairment;

/// Ports of one SIP service; `None` = that transport is off, port 0 = any free port.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Ports {
    /// Plain TCP.
    pub tcp: Option<u16>,
    /// Mutual TLS.
    pub tls: Option<u16>,
}

/// `VoIPSecurity` of a dial plan, as this side enforces it.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum PlanSecurity {
    /// TCP and RTP; an offer of SRTP alone is refused with 488.
    Unsecured,
    /// TLS and RTP; an offer of SRTP alone is refused with 488.
    SipSecured,
    /// TLS and SRTP; an offer of RTP is refused with 488.
    Secured,
    /// Whatever is offered: for load tools.
    AsOffered,
}

impl PlanSecurity {
    /// Exchange's word.
    pub fn name(self) -> &'static str {
        match self {
            PlanSecurity::Unsecured => "Unsecured",
            PlanSecurity::SipSecured => "SIPSecured",
            PlanSecurity::Secured => "Secured",
            PlanSecurity::AsOffered => "AsOffered",
        }
    }
}

/// Something wrong with a server.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Does not listen: connections are refused, existing ones are cut.
    Dead,
    /// Answers every INVITE and OPTIONS with 503.
    Unavailable,
    /// Accepts connections and requests, never answers.
    Silent,
    /// A Call Router or UM service that redirects to this host, which is nobody's server.
    ForeignRedirect(String),
    /// A Call Router or UM service that redirects to itself.
    LoopingRedirect,
    /// Rings (180) but never answers: the caller must give up.
    RingsForever,
    /// A redirecting role that never answers an INVITE: its 302 is lost.
    LostRedirect,
    /// A redirecting role whose 302 comes this late.
    LateRedirect(Duration),
    /// A worker that gives no sign of life for this long, then answers.
    SlowAnswer(Duration),
    /// A worker whose process is recycled this long after an answer: the call gets BYE.
    Recycled(Duration),
    /// Closes the connection on which an INVITE comes, before any answer.
    CutsOnInvite,
    /// Presents the certificate of this name.
    WrongCertificate(String),
    /// A worker whose 180 carries a session description.
    RingsWithSdp,
    /// A worker with faulty media.
    Media(Impairment),
}

/// A Call Router (Client Access server).
#[derive(Clone, Debug)]
pub struct CallRouterConfig {
    /// FQDN; the certificate is made for it.
    pub name: String,
    /// Address to listen on.
    pub address: IpAddr,
    /// Ports (5060, 5061).
    pub ports: Ports,
    /// What is wrong with it.
    pub fault: Fault,
}

/// A Mailbox server: a UM service and its workers.
#[derive(Clone, Debug)]
pub struct MailboxServerConfig {
    /// FQDN; the certificate is made for it, redirects name it.
    pub name: String,
    /// Address to listen on.
    pub address: IpAddr,
    /// UM service ports (5062, 5063).
    pub service: Ports,
    /// Worker ports (5065 and 5067, 5066 and 5068); at least one worker. Used in turn.
    pub workers: Vec<Ports>,
    /// `MaxCallsAllowed`: more calls are answered 503.
    pub max_calls_allowed: usize,
    /// Security of calls whose mailbox names none.
    pub security: PlanSecurity,
    /// What is wrong with it (service and workers).
    pub fault: Fault,
    /// What is wrong with its workers only.
    pub worker_fault: Fault,
}

/// A UM-enabled mailbox.
#[derive(Clone, Debug)]
pub struct MailboxConfig {
    /// Alias: user part of its SIP address and name of its voicemail folder.
    pub alias: String,
    /// Extension or number that also leads here.
    pub extension: Option<String>,
    /// Security of its dial plan; `None` = the server's.
    pub security: Option<PlanSecurity>,
}

/// How a worker takes a call.
#[derive(Clone, Debug)]
pub struct AnswerRules {
    /// Time from INVITE to 180; `None` = no 180.
    pub ring_after: Option<Duration>,
    /// Time from INVITE to 200.
    pub answer_after: Duration,
    /// `RecordingIdleTimeout`: silence that ends a recording. 2–10 s in Exchange; the lab takes less.
    pub recording_idle_timeout: Duration,
    /// `MaxRecordingDuration`.
    pub max_recording_duration: Duration,
    /// Hang up when the recording ended by itself.
    pub after_recording: AfterRecording,
}

/// What a worker does when a recording ended by silence or length.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum AfterRecording {
    /// BYE.
    HangUp,
    /// Leave it to the caller.
    Stay,
}

impl Default for AnswerRules {
    fn default() -> Self {
        AnswerRules {
            ring_after: None,
            answer_after: Duration::ZERO,
            recording_idle_timeout: Duration::from_secs(5),
            max_recording_duration: Duration::from_secs(20 * 60),
            after_recording: AfterRecording::HangUp,
        }
    }
}

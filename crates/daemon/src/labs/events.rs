//! What happens in a running lab, one line each, for people and machines. Owns words and order; facts come from the lab. Keys and PINs are in no
//! fact, and what a caller typed for a mailbox that is none is not shown, for it may be a PIN.

use lab::um::{CallKind, CallPurpose, EndReason, LabFact, Milestone};
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::cli::escaped;

/// Stands for what was typed where no mailbox is called so.
const NOBODY: &str = "(no mailbox)";

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When, UTC.
    pub at: String,
    /// Which kind of thing, one word.
    pub event: &'static str,
    /// The server where it happened.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub server: String,
    /// Mailbox or attendant.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub whom: String,
    /// SIP Call-ID at that server.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub call_id: String,
    /// The rest, in words.
    pub what: String,
}

impl Event {
    /// For people.
    pub fn line(&self) -> String {
        let Self { at, event, server, whom, what, .. } = self;
        let short = server.split('.').next().unwrap_or_default();
        format!("{at}  {event:<10} {:<8} {:<10} {}", escaped(short), escaped(whom), escaped(what))
    }
}

/// The events of a lab as they come.
pub struct Events {
    facts: broadcast::Receiver<LabFact>,
    mailboxes: Vec<String>,
}

impl Events {
    /// Of these facts; `mailboxes` are the aliases that may be told.
    pub fn new(facts: broadcast::Receiver<LabFact>, mailboxes: Vec<String>) -> Self {
        Self { facts, mailboxes }
    }

    /// The next one; `None` when the lab is gone.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let told = match self.facts.recv().await {
                Ok(fact) => self.told(fact),
                Err(RecvError::Lagged(count)) => {
                    Some(event("lost", "", "", "", format!("{count} events came too fast to be told")))
                }
                Err(RecvError::Closed) => return None,
            };
            if told.is_some() {
                return told;
            }
        }
    }

    /// `None`: not worth a line.
    fn told(&self, fact: LabFact) -> Option<Event> {
        Some(match fact {
            LabFact::Redirected { .. }
            | LabFact::OptionsAnswered { .. }
            | LabFact::Waiting(_)
            | LabFact::Heard { .. } => return None,
            LabFact::Recycled { server, ports } => {
                let numbers = [ports.tcp, ports.tls].into_iter().flatten().map(|port| port.to_string());
                let what = format!("the worker process on {}", numbers.collect::<Vec<_>>().join(" "));
                event("recycled", &server, "", "", what)
            }
            LabFact::Refused { server, call_id, status, why } => {
                event("refused", &server, "", &call_id, format!("{status} {why}"))
            }
            LabFact::Answered { server, call_id, purpose, media, .. } => {
                let what = format!("{} from {}, {}", words(purpose.kind), caller(&purpose), media.name());
                event("call", &server, self.shown(&purpose.for_whom), &call_id, what)
            }
            LabFact::Ended { server, call_id, why, lasted } => {
                let what = format!("after {:.1} s: {}", lasted.as_secs_f64(), end(why));
                event("ended", &server, "", &call_id, what)
            }
            LabFact::Did { server, call_id, milestone } => self.did(&server, &call_id, milestone),
            LabFact::Notified { mailbox, status } => {
                let what = if status == 0 { "no answer".to_owned() } else { format!("answered {status}") };
                event("mwi", "", &mailbox, "", what)
            }
            LabFact::Deleted { mailbox, call_id } => {
                event("deleted", "", &mailbox, &call_id, "a message".to_owned())
            }
            LabFact::Mailed { mailbox } => {
                event("mail", "", &mailbox, "", "taken by the SMTP sink".to_owned())
            }
            LabFact::PinMailed { mailbox, .. } => {
                event("pin", "", &mailbox, "", "a new PIN lies in the mailbox's folder".to_owned())
            }
            LabFact::Stored(message) => {
                let note = &message.note;
                let what = format!(
                    "{:.1} s from {}, {:.0} dBFS: {}",
                    note.duration_s,
                    caller(&note.purpose),
                    note.level_dbfs,
                    message.wav.display()
                );
                event("message", &note.server, &note.mailbox, &note.call_id, what)
            }
            LabFact::Missed { missed, json } => {
                let what = format!("call from {}: {}", caller(&missed.purpose), json.display());
                event("missed", &missed.server, &missed.mailbox, &missed.call_id, what)
            }
            LabFact::ConnectionFailed { server, why } => event("connection", &server, "", "", why),
            LabFact::Trouble { server, what } => event("trouble", &server, "", "", what),
        })
    }

    fn did(&self, server: &str, call_id: &str, milestone: Milestone) -> Event {
        let (kind, whom, what) = match milestone {
            Milestone::LoggedOn { mailbox } => ("logon", mailbox, "right PIN".to_owned()),
            Milestone::LogonFailed { mailbox, failures } => {
                ("logon", mailbox, format!("wrong PIN, {failures} in a row"))
            }
            Milestone::PinReset { mailbox } => ("logon", mailbox, "the PIN is reset".to_owned()),
            Milestone::LockedOut { mailbox } => ("logon", mailbox, "locked out".to_owned()),
            Milestone::Played { mailbox, message } => ("played", mailbox, format!("message {message}")),
            Milestone::GreetingRecorded { mailbox } => ("greeting", mailbox, "recorded".to_owned()),
            Milestone::Transferring { to } => ("transfer", String::new(), format!("to {to}")),
            Milestone::TransferEnded { to, status } => {
                ("transfer", String::new(), format!("to {to}: {status}"))
            }
        };
        event(kind, server, self.shown(&whom), call_id, what)
    }

    /// Who may be told.
    fn shown<'a>(&self, whom: &'a str) -> &'a str {
        let is_typed = !whom.is_empty() && whom.bytes().all(|byte| byte.is_ascii_digit());
        if is_typed && !self.mailboxes.iter().any(|alias| alias == whom) { NOBODY } else { whom }
    }
}

fn event(kind: &'static str, server: &str, whom: &str, call_id: &str, what: String) -> Event {
    let at = crate::observe::rfc3339(std::time::SystemTime::now());
    // Whole seconds are enough.
    let at = at.get(..19).map_or(at.clone(), |seconds| format!("{seconds}Z"));
    Event {
        at,
        event: kind,
        server: server.to_owned(),
        whom: whom.to_owned(),
        call_id: call_id.to_owned(),
        what,
    }
}

fn caller(purpose: &CallPurpose) -> &str {
    if purpose.caller.is_empty() { "nobody known" } else { &purpose.caller }
}

fn words(kind: CallKind) -> &'static str {
    match kind {
        CallKind::CallAnswering => "call answering",
        CallKind::VoiceMemo => "voice memo",
        CallKind::SubscriberAccess => "voice access",
        CallKind::AutoAttendant => "attendant",
    }
}

fn end(why: EndReason) -> &'static str {
    match why {
        EndReason::CallerHungUp => "the caller hung up",
        EndReason::Silence => "silence",
        EndReason::TooLong => "MaxRecordingDuration",
        EndReason::Finished => "done",
        EndReason::Transferred => "transferred",
        EndReason::TooManyFailures => "too many failures",
        EndReason::CallTooLong => "MaxCallDuration",
        EndReason::NotRefreshed => "the session timer ran out",
        EndReason::NoAck => "no ACK",
        EndReason::ConnectionLost => "connection lost",
        EndReason::Stopped => "cut by the lab",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(fact: LabFact) -> Event {
        let (_sender, facts) = broadcast::channel(1);
        Events::new(facts, vec!["ken".to_owned(), "4711".to_owned()]).told(fact).unwrap()
    }

    fn failed(mailbox: &str) -> LabFact {
        let milestone = Milestone::LogonFailed { mailbox: mailbox.to_owned(), failures: 2 };
        LabFact::Did { server: "mbx01.contoso.test".to_owned(), call_id: "c".to_owned(), milestone }
    }

    #[test]
    fn what_was_typed_for_a_mailbox_that_is_none_is_not_told() {
        assert_eq!(told(failed("ken")).whom, "ken");
        assert_eq!(told(failed("4711")).whom, "4711", "an alias of digits");
        let typed = told(failed("135790"));
        assert_eq!(typed.whom, NOBODY);
        assert!(!format!("{} {}", typed.line(), serde_json::to_string(&typed).unwrap()).contains("135790"));
    }

    #[test]
    fn nothing_a_caller_wrote_steers_the_terminal() {
        let refused = LabFact::Refused {
            server: "mbx01".to_owned(),
            call_id: "c".to_owned(),
            status: 488,
            why: "\u{1b}[2J\u{202e}".to_owned(),
        };
        let line = told(refused).line();
        assert!(!line.contains('\u{1b}') && !line.contains('\u{202e}'), "{line}");
    }
}

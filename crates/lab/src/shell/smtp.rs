//! The way of mail to a sink of the lab: SMTP without TLS and without a password, by lettre. Owns the queue before it; a sink that is slow or gone costs
//! mail its way, never a call.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lettre::address::Envelope;
use lettre::{SmtpTransport, Transport};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;

use super::mail::address;
use crate::um::LabFact;

/// Mail waiting to be sent; more stays in its folder alone.
const QUEUE_MAX: usize = 256;
/// For each step of a conversation.
const PATIENCE: Duration = Duration::from_secs(5);

/// A mail that lies in a mailbox's folder.
pub(super) struct Letter {
    pub(super) mailbox: String,
    pub(super) server: String,
    pub(super) eml: PathBuf,
}

/// The running way.
pub(super) struct Mailing {
    pub(super) letters: mpsc::Sender<Letter>,
    pub(super) task: JoinHandle<()>,
}

impl Mailing {
    /// To this sink; what becomes of each mail is a fact.
    pub(super) fn start(sink: SocketAddr, facts: broadcast::Sender<LabFact>) -> Self {
        let (letters, mut waiting) = mpsc::channel::<Letter>(QUEUE_MAX);
        let transport = SmtpTransport::builder_dangerous(sink.ip().to_string())
            .port(sink.port())
            .timeout(Some(PATIENCE))
            .build();
        let task = tokio::spawn(async move {
            while let Some(letter) = waiting.recv().await {
                let transport = transport.clone();
                let (mailbox, server) = (letter.mailbox.clone(), letter.server.clone());
                let sent = tokio::task::spawn_blocking(move || send(&transport, &letter)).await;
                let fact = match sent.unwrap_or_else(|why| Err(why.to_string())) {
                    Ok(()) => LabFact::Mailed { mailbox },
                    Err(why) => {
                        LabFact::Trouble { server, what: format!("mail to {mailbox} by SMTP: {why}") }
                    }
                };
                let _ = facts.send(fact);
            }
        });
        Self { letters, task }
    }
}

fn send(transport: &SmtpTransport, letter: &Letter) -> Result<(), String> {
    let mail = std::fs::read(&letter.eml).map_err(|why| why.to_string())?;
    let parsed = |alias: &str| address(alias, &letter.server).parse().map_err(|_| "no address".to_owned());
    let envelope = Envelope::new(Some(parsed("voicemail")?), vec![parsed(&letter.mailbox)?]);
    let envelope = envelope.map_err(|why| why.to_string())?;
    transport.send_raw(&envelope, &mail).map(drop).map_err(|why| why.to_string())
}

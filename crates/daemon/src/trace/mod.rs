//! A bounded memory of signalling messages, so that a call can be shown as a ladder after the fact. Owns summaries (who,
//! whom, what, when), never bodies or keys; refuses to know what a call is beyond its Call-IDs.

mod ladder;
mod lines;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Instant;

pub use ladder::{Hop, ladder};
pub use lines::Lines;

/// How many messages are remembered; the oldest goes first.
pub const ENTRIES_MAX: usize = 8_192;

/// Longest label kept of a message, in characters.
const LABEL_CHARS_MAX: usize = 48;

/// Which way a message went, seen from the gateway.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Way {
    /// From the peer.
    In,
    /// To the peer.
    Out,
}

/// One message on the wire, in short.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When.
    pub at: Instant,
    /// Which way.
    pub way: Way,
    /// The far end.
    pub peer: SocketAddr,
    /// Call-ID as text, control characters replaced.
    pub call_id: String,
    /// `INVITE SRTP`, `302 → mbx01.contoso.test:5063`, `200 OK`.
    pub label: String,
}

/// The memory itself. One short lock per message, off the media path.
#[derive(Debug, Default)]
pub struct Tap {
    entries: Mutex<VecDeque<Entry>>,
}

impl Tap {
    /// Remembers a message; anything that is no SIP message is passed over.
    pub fn record(&self, at: Instant, way: Way, peer: SocketAddr, bytes: &bytes::Bytes) {
        let Ok(message) = sip::Message::parse(bytes.clone(), &sip::Limits::default()) else { return };
        let call_id = printable(message.call_id());
        let entry = Entry { at, way, peer, call_id, label: label(&message) };
        let Ok(mut entries) = self.entries.lock() else { return };
        if entries.len() >= ENTRIES_MAX {
            entries.pop_front();
        }
        entries.push_back(entry);
    }

    /// Everything remembered of these Call-IDs, oldest first.
    pub fn of_call(&self, call_ids: &[&str]) -> Vec<Entry> {
        let Ok(entries) = self.entries.lock() else { return Vec::new() };
        entries.iter().filter(|e| call_ids.contains(&e.call_id.as_str())).cloned().collect()
    }
}

/// What a ladder row says of a message.
fn label(message: &sip::Message) -> String {
    let media = media_word(&message.body());
    let text = match message.status() {
        None => format!("{}{media}", message.method().as_str_lossy()),
        Some(status) if status.is_redirect() => match message.contacts() {
            Ok(contacts) if !contacts.is_empty() => {
                format!("{} → {}", status.code(), place(&contacts[0].uri))
            }
            _ => format!("{}", status.code()),
        },
        Some(status) => format!("{} {}{media}", status.code(), printable(&message.reason())),
    };
    text.chars().take(LABEL_CHARS_MAX).collect()
}

fn place(uri: &sip::Uri) -> String {
    let host = printable(uri.host_str().as_ref());
    uri.port().map_or(host.clone(), |port| format!("{host}:{port}"))
}

fn media_word(body: &[u8]) -> &'static str {
    let has = |needle: &[u8]| body.windows(needle.len()).any(|w| w == needle);
    match (has(b"m=audio"), has(b"RTP/SAVP")) {
        (false, _) => "",
        (true, true) => " SRTP",
        (true, false) => " RTP",
    }
}

fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { '.' } else { c }).collect()
}

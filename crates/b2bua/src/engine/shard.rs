//! Which shard a message belongs to. Calls are independent, so the Call-ID decides: ours name their shard, those of
//! others are hashed. Owns that rule, the look at the raw header, and which other Call-ID a message is about; refuses
//! to know threads.

use bytes::Bytes;
use sip::{Limits, Message};

use super::core::call_id_prefix;
use crate::call::transfer::replaces::replaces_of;
use crate::call::transfer::rewrite::Asked;

/// Digits of the shard in a Call-ID of ours.
const SHARD_DIGITS: usize = 4;

/// The rule for one gateway; every shard has the same.
#[derive(Clone)]
pub struct Sharding {
    shards: u16,
    /// Our Call-IDs up to the shard's digits.
    own: Vec<u8>,
    hasher: ahash::RandomState,
}

impl Sharding {
    /// For so many shards (at least one) of the gateway with this name. The seed keeps strangers from choosing a shard.
    pub fn new(shards: u16, fqdn: &str, seed: u64) -> Self {
        let mut own = call_id_prefix(fqdn, 0).into_bytes();
        own.truncate(own.len() - SHARD_DIGITS - 1);
        Self { shards: shards.max(1), own, hasher: ahash::RandomState::with_seeds(seed, 0x5a4d, 1, 2) }
    }

    /// The shard of a raw message. What has no Call-ID belongs to the first: somebody has to refuse it.
    pub fn shard_of(&self, message: &[u8]) -> u16 {
        if self.shards == 1 {
            return 0;
        }
        call_id_of(message).map_or(0, |call_id| self.shard_of_call_id(call_id))
    }

    /// The shard of a Call-ID.
    pub fn shard_of_call_id(&self, call_id: &[u8]) -> u16 {
        self.named(call_id).unwrap_or_else(|| self.hashed(call_id))
    }

    /// Whether there is nothing to deal out.
    pub fn is_single(&self) -> bool {
        self.shards == 1
    }

    /// Whether a shard of this gateway made that Call-ID.
    pub fn is_own(&self, call_id: &[u8]) -> bool {
        call_id.starts_with(&self.own)
    }

    fn named(&self, call_id: &[u8]) -> Option<u16> {
        let digits = call_id.strip_prefix(self.own.as_slice())?.get(..SHARD_DIGITS)?;
        let number = u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        // A restart with fewer shards finds old numbers.
        (number < self.shards).then_some(number)
    }

    fn hashed(&self, call_id: &[u8]) -> u16 {
        u16::try_from(self.hasher.hash_one(call_id) % u64::from(self.shards)).unwrap_or_default()
    }
}

/// A dialog other than its own that a message is about, by Call-ID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// An INVITE that wants this dialog's place (RFC 3891).
    Joins(Bytes),
    /// A REFER whose target is to take this dialog over.
    Refers(Bytes),
}

impl Names {
    /// Read from a raw message; whatever does not parse names nothing.
    pub fn of(message: &Bytes, limits: &Limits) -> Option<Self> {
        if message.starts_with(b"INVITE ") && header(message, &[b"replaces"]).is_some() {
            let invite = Message::parse(message.clone(), limits).ok()?;
            let named = replaces_of(&invite, "").ok().filter(|_| invite.to_tag().is_none())?;
            return Some(Self::Joins(named.call_id));
        }
        if message.starts_with(b"REFER ") {
            let refer = Message::parse(message.clone(), limits).ok()?;
            let asked = Asked::read(&refer).ok().filter(|_| refer.to_tag().is_some())?;
            return asked.replaces.map(|named| Self::Refers(named.call_id));
        }
        None
    }
}

/// The value of the first Call-ID line, long or compact name.
pub fn call_id_of(message: &[u8]) -> Option<&[u8]> {
    header(message, &[b"call-id", b"i"])
}

/// The value of the first line with one of these lower-case names, folded once or not.
fn header<'a>(message: &'a [u8], names: &[&[u8]]) -> Option<&'a [u8]> {
    let mut lines = message.split(|byte| *byte == b'\n');
    lines.next();
    while let Some(line) = lines.next() {
        if matches!(line, [] | [b'\r']) {
            return None;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = line.get(..colon).unwrap_or_default().trim_ascii();
        if !names.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            continue;
        }
        let value = line.get(colon + 1..).unwrap_or_default().trim_ascii();
        let folded = |next: &&[u8]| matches!(next.first(), Some(b' ' | b'\t'));
        let value = if value.is_empty() { lines.next().filter(folded)?.trim_ascii() } else { value };
        return Some(value).filter(|value| !value.is_empty());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(line: &str) -> Vec<u8> {
        format!("INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/TLS c\r\n{line}\r\nCSeq: 1 INVITE\r\n\r\n")
            .into_bytes()
    }

    #[test]
    fn a_call_id_is_found_whatever_its_line_looks_like() {
        for line in ["Call-ID: x@y", "call-id:x@y", "i: x@y", "I \t:\t x@y ", "Call-ID:\r\n x@y"] {
            assert_eq!(call_id_of(&message(line)), Some(&b"x@y"[..]), "{line}");
        }
        for line in ["Subject: x", "Call-ID:", "\r\nCall-ID: x@y"] {
            assert_eq!(call_id_of(&message(line)), None, "{line:?}");
        }
    }

    #[test]
    fn a_call_id_of_ours_names_its_shard_and_others_are_spread() {
        let rule = Sharding::new(4, "umbra.contoso.com", 7);
        for shard in 0..4 {
            let line = format!("Call-ID: {}abc", call_id_prefix("UMBRA.contoso.com", shard));
            assert_eq!(rule.shard_of(&message(&line)), shard);
        }
        let mut seen = [0; 4];
        for number in 0..400 {
            let line = format!("Call-ID: {number}@fe01");
            assert_eq!(
                rule.shard_of(&message(&line)),
                rule.shard_of(&message(&line.replace("Call-ID", "i")))
            );
            seen[usize::from(rule.shard_of(&message(&line)))] += 1;
        }
        assert!(seen.iter().all(|count| *count > 50), "{seen:?}");
    }

    #[test]
    fn an_invite_joins_and_a_refer_refers_to_the_dialog_of_its_replaces() {
        let limits = Limits::default();
        let text = |method: &str, to: &str, line: &str| {
            Bytes::from(format!(
                "{method} sip:a@b SIP/2.0\r\nVia: SIP/2.0/TLS c;branch=z9hG4bK1\r\nFrom: <sip:c@d>;tag=1\r\nTo: <sip:a@b>{to}\r\n\
                 Call-ID: x@y\r\nCSeq: 1 {method}\r\nSupported: replaces\r\n{line}Content-Length: 0\r\n\r\n"
            ))
        };
        let named = |method, to, line| Names::of(&text(method, to, line), &limits);
        let joins = Some(Names::Joins(Bytes::from_static(b"r@s")));
        assert_eq!(named("INVITE", "", "Replaces: r@s;to-tag=1;from-tag=2\r\n"), joins);
        assert_eq!(named("INVITE", "", "REPLACES :\r\n r@s;to-tag=1;from-tag=2\r\n"), joins);
        let refer_to = "Refer-To: <sip:a@b?Replaces=r%40s%3Bto-tag%3D1%3Bfrom-tag%3D2>\r\n";
        assert_eq!(named("REFER", ";tag=2", refer_to), Some(Names::Refers(Bytes::from_static(b"r@s"))));
        for (method, to, line) in [
            ("INVITE", "", ""),
            ("INVITE", ";tag=2", "Replaces: r@s;to-tag=1;from-tag=2\r\n"),
            ("INVITE", "", "Replaces: r@s;to-tag=1\r\n"),
            ("INVITE", "", "Replaces: r@s;to-tag=1;from-tag=2\r\nReplaces: r@s;to-tag=1;from-tag=2\r\n"),
            ("BYE", ";tag=2", "Replaces: r@s;to-tag=1;from-tag=2\r\n"),
            ("REFER", ";tag=2", "Refer-To: <sip:a@b>\r\n"),
            ("REFER", "", refer_to),
        ] {
            assert_eq!(named(method, to, line), None, "{method} {to} {line}");
        }
    }

    #[test]
    fn one_shard_gets_everything_and_a_number_beyond_the_last_is_hashed() {
        let line = format!("Call-ID: {}abc", call_id_prefix("umbra.contoso.com", 9));
        assert_eq!(Sharding::new(1, "umbra.contoso.com", 7).shard_of(&message(&line)), 0);
        assert!(Sharding::new(2, "umbra.contoso.com", 7).shard_of(&message(&line)) < 2);
    }
}

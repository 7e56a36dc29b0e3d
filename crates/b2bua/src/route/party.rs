//! A person or number as routing compares it: unescaped user and host, without ports, parameters and display names.
//! Owns equality of numbers and addresses; refuses to know where they stood.

use sip::{Scheme, Uri};

use crate::verdict::clean;

/// Characters in which numbers are made readable (RFC 3966 §5.1.1).
const VISUAL_SEPARATORS: [char; 4] = ['-', '.', '(', ')'];

/// One address or number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    user: String,
    host: String,
}

impl Party {
    /// The party a URI names; `None` without a user part.
    pub fn of(uri: &Uri) -> Option<Self> {
        let raw = sip::uri::unescape(uri.user_part()?);
        let user = clean(&String::from_utf8_lossy(&raw));
        let host =
            if uri.scheme() == Scheme::Tel { String::new() } else { uri.host_str().to_ascii_lowercase() };
        (!user.is_empty()).then_some(Self { user, host })
    }

    /// The user part.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The number, when the user part is one.
    pub fn number(&self) -> Option<String> {
        number(&self.user)
    }

    /// As records show it: a number bare, an address with its host.
    pub fn shown(&self) -> String {
        match self.host.is_empty() || self.number().is_some() {
            true => self.user.clone(),
            false => format!("{}@{}", self.user, self.host),
        }
    }

    /// Whether both are the same mailbox owner: numbers by digits, addresses by user (any case) and host.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self.number(), other.number()) {
            (Some(own), Some(others)) => own == others,
            (None, None) => self.user.eq_ignore_ascii_case(&other.user) && self.host == other.host,
            _ => false,
        }
    }

    /// Whether the user part is this configured pilot: a number by digits, a name in any case.
    pub fn is_called(&self, pilot: &str) -> bool {
        let pilot = pilot.strip_prefix("sip:").unwrap_or(pilot);
        if let Some((user, host)) = pilot.split_once('@') {
            return self.user.eq_ignore_ascii_case(user) && self.host.eq_ignore_ascii_case(host);
        }
        self.user.eq_ignore_ascii_case(pilot)
            || number(pilot).is_some_and(|pilot| self.number() == Some(pilot))
    }

    /// Whether the address is `user@host`.
    pub fn is_address(&self, address: &str) -> bool {
        let address = address.strip_prefix("sip:").unwrap_or(address);
        address.split_once('@').is_some_and(|(user, host)| {
            self.user.eq_ignore_ascii_case(user) && self.host.eq_ignore_ascii_case(host)
        })
    }
}

/// Digits without separators and leading `+`, when the text is a number.
fn number(text: &str) -> Option<String> {
    let bare: String = text.chars().filter(|c| !VISUAL_SEPARATORS.contains(c)).collect();
    let digits = bare.strip_prefix('+').unwrap_or(&bare);
    (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.to_owned())
}

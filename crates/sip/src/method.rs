//! Request methods: the registered ones plus Microsoft's `SERVICE`, `BENOTIFY` and `NEGOTIATE`, and any other
//! token byte for byte. Methods are case-sensitive (RFC 3261 §7.1); what a method means is decided elsewhere.

use bytes::Bytes;
use std::fmt;

/// A request method.
#[derive(Clone, Eq, PartialEq, Hash, Debug)]
#[allow(missing_docs)] // each variant is the method of that name
pub enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Options,
    Info,
    Notify,
    Update,
    Prack,
    Refer,
    Subscribe,
    Message,
    Publish,
    Register,
    Service,
    Benotify,
    Negotiate,
    /// Any other token, spelled as received.
    Other(Bytes),
}

impl Method {
    /// Recognises a method token; unknown ones are copied.
    pub fn from_bytes(token: &[u8]) -> Method {
        Method::known(token).unwrap_or_else(|| Method::Other(Bytes::copy_from_slice(token)))
    }

    /// Recognises a registered or Microsoft method; nothing else.
    pub fn known(token: &[u8]) -> Option<Method> {
        Some(match token {
            b"INVITE" => Method::Invite,
            b"ACK" => Method::Ack,
            b"BYE" => Method::Bye,
            b"CANCEL" => Method::Cancel,
            b"OPTIONS" => Method::Options,
            b"INFO" => Method::Info,
            b"NOTIFY" => Method::Notify,
            b"UPDATE" => Method::Update,
            b"PRACK" => Method::Prack,
            b"REFER" => Method::Refer,
            b"SUBSCRIBE" => Method::Subscribe,
            b"MESSAGE" => Method::Message,
            b"PUBLISH" => Method::Publish,
            b"REGISTER" => Method::Register,
            b"SERVICE" => Method::Service,
            b"BENOTIFY" => Method::Benotify,
            b"NEGOTIATE" => Method::Negotiate,
            _ => return None,
        })
    }

    /// The token as it stands on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Method::Invite => b"INVITE",
            Method::Ack => b"ACK",
            Method::Bye => b"BYE",
            Method::Cancel => b"CANCEL",
            Method::Options => b"OPTIONS",
            Method::Info => b"INFO",
            Method::Notify => b"NOTIFY",
            Method::Update => b"UPDATE",
            Method::Prack => b"PRACK",
            Method::Refer => b"REFER",
            Method::Subscribe => b"SUBSCRIBE",
            Method::Message => b"MESSAGE",
            Method::Publish => b"PUBLISH",
            Method::Register => b"REGISTER",
            Method::Service => b"SERVICE",
            Method::Benotify => b"BENOTIFY",
            Method::Negotiate => b"NEGOTIATE",
            Method::Other(token) => token,
        }
    }

    /// The token as text. Methods are checked to be ASCII tokens when parsed; `?` stands for one that is not.
    pub fn as_str_lossy(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or("?")
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

impl From<rsip::Method> for Method {
    fn from(method: rsip::Method) -> Method {
        match method {
            rsip::Method::Ack => Method::Ack,
            rsip::Method::Bye => Method::Bye,
            rsip::Method::Cancel => Method::Cancel,
            rsip::Method::Info => Method::Info,
            rsip::Method::Invite => Method::Invite,
            rsip::Method::Message => Method::Message,
            rsip::Method::Notify => Method::Notify,
            rsip::Method::Options => Method::Options,
            rsip::Method::PRack => Method::Prack,
            rsip::Method::Publish => Method::Publish,
            rsip::Method::Refer => Method::Refer,
            rsip::Method::Register => Method::Register,
            rsip::Method::Subscribe => Method::Subscribe,
            rsip::Method::Update => Method::Update,
        }
    }
}

/// The method is not in rsip's vocabulary.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[error("no such method in the common vocabulary")]
pub struct NotInVocabulary;

impl TryFrom<&Method> for rsip::Method {
    type Error = NotInVocabulary;

    fn try_from(method: &Method) -> Result<rsip::Method, NotInVocabulary> {
        Ok(match method {
            Method::Ack => rsip::Method::Ack,
            Method::Bye => rsip::Method::Bye,
            Method::Cancel => rsip::Method::Cancel,
            Method::Info => rsip::Method::Info,
            Method::Invite => rsip::Method::Invite,
            Method::Message => rsip::Method::Message,
            Method::Notify => rsip::Method::Notify,
            Method::Options => rsip::Method::Options,
            Method::Prack => rsip::Method::PRack,
            Method::Publish => rsip::Method::Publish,
            Method::Refer => rsip::Method::Refer,
            Method::Register => rsip::Method::Register,
            Method::Subscribe => rsip::Method::Subscribe,
            Method::Update => rsip::Method::Update,
            Method::Service | Method::Benotify | Method::Negotiate | Method::Other(_) => {
                return Err(NotInVocabulary);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_common_vocabulary_survives_both_conversions() {
        for theirs in rsip::Method::all() {
            let ours = Method::from(theirs);
            assert_eq!(ours.as_bytes(), theirs.to_string().as_bytes());
            assert_eq!(Method::from_bytes(ours.as_bytes()), ours);
            assert_eq!(rsip::Method::try_from(&ours), Ok(theirs));
        }
    }

    #[test]
    fn methods_are_case_sensitive_and_unknown_ones_keep_their_bytes() {
        assert_eq!(Method::from_bytes(b"invite"), Method::Other(Bytes::from_static(b"invite")));
        assert_eq!(Method::from_bytes(b"BENOTIFY"), Method::Benotify);
        assert_eq!(Method::from_bytes(b"RE%47IST%45R").as_bytes(), b"RE%47IST%45R");
        assert!(rsip::Method::try_from(&Method::Benotify).is_err());
    }
}

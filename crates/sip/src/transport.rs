//! The transports Umbra speaks and the handle of a flow. Sockets, names and certificates live in the shell.

/// Handle of a connection, or of a UDP socket together with its remote address; the shell owns what is behind it.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd, Debug)]
pub struct FlowKey(pub u64);

/// A SIP transport.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd, Debug)]
#[allow(missing_docs)] // the transport of that name
pub enum Transport {
    Udp,
    Tcp,
    Tls,
}

impl Transport {
    /// Whether the transport itself retransmits lost bytes.
    pub fn is_reliable(self) -> bool {
        self != Transport::Udp
    }

    /// Whether the transport encrypts and authenticates.
    pub fn is_secure(self) -> bool {
        self == Transport::Tls
    }

    /// The word of a Via header: `UDP`, `TCP`, `TLS`.
    pub fn as_via_str(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
        }
    }

    /// The value of a `transport` URI parameter: `udp`, `tcp`, `tls`.
    pub fn as_param(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
        }
    }

    /// 5060, or 5061 over TLS.
    pub fn default_port(self) -> u16 {
        if self.is_secure() { 5061 } else { 5060 }
    }

    /// Recognises a Via word or a `transport` parameter, in any case.
    pub fn from_token(token: &[u8]) -> Option<Transport> {
        [Transport::Udp, Transport::Tcp, Transport::Tls]
            .into_iter()
            .find(|transport| token.eq_ignore_ascii_case(transport.as_param().as_bytes()))
    }
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_via_str())
    }
}

impl From<Transport> for rsip::Transport {
    fn from(transport: Transport) -> rsip::Transport {
        match transport {
            Transport::Udp => rsip::Transport::Udp,
            Transport::Tcp => rsip::Transport::Tcp,
            Transport::Tls => rsip::Transport::Tls,
        }
    }
}

/// rsip names a transport that Umbra does not speak.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[error("transport not spoken here")]
pub struct NotSpoken;

impl TryFrom<rsip::Transport> for Transport {
    type Error = NotSpoken;

    fn try_from(transport: rsip::Transport) -> Result<Transport, NotSpoken> {
        match transport {
            rsip::Transport::Udp => Ok(Transport::Udp),
            rsip::Transport::Tcp => Ok(Transport::Tcp),
            rsip::Transport::Tls => Ok(Transport::Tls),
            _ => Err(NotSpoken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_ports_and_conversions_agree_with_the_common_vocabulary() {
        for ours in [Transport::Udp, Transport::Tcp, Transport::Tls] {
            let theirs = rsip::Transport::from(ours);
            assert_eq!(
                (theirs.to_string(), ours.to_string()),
                (ours.as_via_str().into(), ours.as_via_str().into())
            );
            assert_eq!(*theirs.default_port().value(), ours.default_port());
            assert_eq!(theirs.is_secure(), ours.is_secure());
            assert_eq!(Transport::try_from(theirs), Ok(ours));
            assert_eq!(Transport::from_token(ours.as_via_str().as_bytes()), Some(ours));
        }
        assert_eq!(Transport::from_token(b"Tls"), Some(Transport::Tls));
        assert_eq!(Transport::from_token(b"sctp"), None);
        assert!(Transport::try_from(rsip::Transport::Sctp).is_err());
    }
}

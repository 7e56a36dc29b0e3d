//! Why a handshake failed, as facts with stable labels. Owns the one mapping from TLS errors to reasons an operator
//! can act on; refuses to know counters and log lines.

use std::net::IpAddr;
use std::sync::Arc;

use b2bua::codes::{self, Code};
use rustls::{CertificateError, Error, OtherError};

/// Why a certificate was refused. Each reason has its own label in the metrics.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PeerRejection {
    /// Mutual TLS, but no certificate came.
    #[error("peer presented no certificate")]
    NoCertificate,
    /// The chain ends in no configured root.
    #[error("certificate chains to no trusted root: {0}")]
    UntrustedChain(String),
    /// The certificate, or one of its issuers, is out of date.
    #[error("certificate has expired")]
    Expired,
    /// The certificate is for later.
    #[error("certificate is not valid yet")]
    NotYetValid,
    /// The extended key usage fits neither a server nor a client.
    #[error("certificate is not made for TLS peers (extended key usage)")]
    WrongPurpose,
    /// `CN=*.example` as subject.
    #[error("certificate has the wildcard subject {0}")]
    WildcardSubject(String),
    /// Neither a dNSName nor a usable common name.
    #[error("certificate carries no name")]
    NoName,
    /// A name with control characters, NUL or other bytes no host name has.
    #[error("certificate carries a malformed name")]
    MalformedName,
    /// A trusted certificate whose names belong to no configured peer.
    #[error("no UM IP gateway, pool or server is called {}", .0.join(", "))]
    UnknownName(Vec<String>),
    /// We wanted to reach somebody else.
    #[error("expected {expected}, certificate names {}", presented.join(", "))]
    NameMismatch {
        /// Whom we wanted.
        expected: String,
        /// Who answered.
        presented: Vec<String>,
    },
    /// Weak or unknown algorithms, a broken encoding, a false signature.
    #[error("certificate cannot be used: {0}")]
    Unusable(String),
}

impl PeerRejection {
    /// Stable word for metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::UntrustedChain(_) => "untrusted_chain",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::WrongPurpose => "wrong_purpose",
            Self::WildcardSubject(_) => "wildcard_subject",
            Self::NoName => "no_name",
            Self::MalformedName => "malformed_name",
            Self::UnknownName(_) => "unknown_peer",
            Self::NameMismatch { .. } => "name_mismatch",
            Self::Unusable(_) => "unusable_certificate",
        }
    }

    /// As rustls carries it through the handshake; standard reasons keep their own alert.
    pub(super) fn into_tls(self) -> Error {
        let error = match self {
            Self::NoCertificate => return Error::NoCertificatesPresented,
            Self::Expired => CertificateError::Expired,
            Self::NotYetValid => CertificateError::NotValidYet,
            Self::WrongPurpose => CertificateError::InvalidPurpose,
            other => CertificateError::Other(OtherError(Arc::new(other))),
        };
        Error::InvalidCertificate(error)
    }

    /// The reason inside what a verifier returned.
    pub(super) fn from_tls(error: &Error) -> Self {
        match error {
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidCertificate(reason) => Self::from_certificate_error(reason),
            other => Self::Unusable(other.to_string()),
        }
    }

    fn from_certificate_error(error: &CertificateError) -> Self {
        match error {
            CertificateError::Other(OtherError(inner)) => match inner.downcast_ref::<PeerRejection>() {
                Some(own) => own.clone(),
                None => Self::Unusable(inner.to_string()),
            },
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::WrongPurpose
            }
            CertificateError::UnknownIssuer => Self::UntrustedChain(String::from("unknown issuer")),
            CertificateError::Revoked => Self::UntrustedChain(String::from("revoked")),
            other => Self::Unusable(other.to_string()),
        }
    }
}

/// A handshake that did not come to an end.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HandshakeFailure {
    /// We refused the certificate.
    #[error("{0}")]
    Rejected(#[from] PeerRejection),
    /// The far end refused us (its alert says why).
    #[error("peer refused the handshake: {0}")]
    Alert(String),
    /// Not TLS, no common version or suite, a broken record.
    #[error("handshake failed: {0}")]
    Protocol(String),
    /// The connection went away.
    #[error("connection lost during the handshake: {0}")]
    Io(String),
    /// The deadline passed.
    #[error("handshake took too long")]
    Timeout,
}

impl HandshakeFailure {
    /// Stable word for metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Rejected(rejection) => rejection.label(),
            Self::Alert(_) => "refused_by_peer",
            Self::Protocol(_) => "protocol",
            Self::Io(_) => "connection_lost",
            Self::Timeout => "timeout",
        }
    }

    /// What `umbra explain` knows it by.
    pub fn code(&self) -> Code {
        use PeerRejection as P;
        match self {
            Self::Rejected(P::NoCertificate) => codes::NO_CLIENT_CERTIFICATE,
            Self::Rejected(P::UntrustedChain(_)) => codes::UNTRUSTED_CHAIN,
            Self::Rejected(P::Expired | P::NotYetValid) => codes::EXPIRED,
            Self::Rejected(P::WrongPurpose) => codes::WRONG_PURPOSE,
            Self::Rejected(P::WildcardSubject(_)) => codes::WILDCARD_SUBJECT,
            Self::Rejected(P::NoName | P::MalformedName | P::Unusable(_)) => codes::CLIENT_CERTIFICATE_BAD,
            Self::Rejected(P::UnknownName(_)) => codes::UNKNOWN_NAME,
            Self::Rejected(P::NameMismatch { .. }) => codes::NAME_MISMATCH,
            Self::Alert(_) | Self::Protocol(_) | Self::Io(_) | Self::Timeout => codes::HANDSHAKE_FAILED,
        }
    }

    /// The failure behind what tokio-rustls returned.
    pub fn from_io(error: &std::io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(error @ (Error::NoCertificatesPresented | Error::InvalidCertificate(_))) => {
                Self::Rejected(PeerRejection::from_tls(error))
            }
            Some(Error::AlertReceived(alert)) => Self::Alert(format!("{alert:?}")),
            Some(other) => Self::Protocol(other.to_string()),
            None => Self::Io(error.to_string()),
        }
    }
}

/// An address as certificate names spell it.
pub(super) fn address_name(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

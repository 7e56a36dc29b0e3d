//! Why a handshake failed, as facts with stable labels. Owns the one mapping from TLS errors to reasons an operator
//! can act on; refuses to know counters and log lines.

use std::net::IpAddr;
use std::sync::Arc;

use b2bua::codes::{self, Code};
use b2bua::verdict::clean;
use rustls::{CertificateError, Error, OtherError};

/// Why a certificate was refused. Each reason has its own label in the metrics.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PeerRejection {
    /// Mutual TLS, but no certificate came.
    #[error("peer presented no certificate")]
    NoCertificate,
    /// The chain ends in a root that is not configured.
    #[error("certificate chains to no trusted root: {0}")]
    UntrustedChain(String),
    /// The next link of the chain is neither sent along nor a configured root.
    #[error("certificate's issuer is neither sent along nor trusted: {0}")]
    IssuerMissing(String),
    /// Issued in the name of a root or an intermediate, by another key.
    #[error("certificate bears its issuer's name but not its signature")]
    IssuerForged,
    /// Its own issuer.
    #[error("certificate is self-signed")]
    SelfSigned,
    /// The certificate is out of date.
    #[error("certificate has expired")]
    Expired,
    /// The certificate is in date, one of its issuers is not.
    #[error("certificate's issuer has expired")]
    IssuerExpired,
    /// The certificate, or one of its issuers, is for later.
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
    /// More names than anybody needs.
    #[error("certificate carries {0} names")]
    TooManyNames(usize),
    /// An RSA key of so many bits in the chain.
    #[error("certificate chain with an RSA key of {0} bits")]
    WeakKey(usize),
    /// A signature of that sort in the chain.
    #[error("certificate chain signed with {0}")]
    WeakSignature(String),
    /// Issued by a certificate that may not issue.
    #[error("certificate was issued by one that is no authority")]
    NotACa,
    /// An issuer's certificate presented as one's own.
    #[error("certificate is an authority's, not a peer's")]
    CaAsPeer,
    /// More issuers in a row than one of them allows.
    #[error("certificate chain is longer than its issuers allow")]
    PathTooLong,
    /// A name its issuer may not sign.
    #[error("certificate's name lies outside its issuer's name constraints")]
    NameConstraint,
    /// In a list of revoked certificates, itself or an issuer.
    #[error("certificate has been revoked")]
    Revoked,
    /// Lists are demanded and there is none that says.
    #[error("nobody knows whether the certificate is revoked: {0}")]
    RevocationUnknown(&'static str),
    /// An extension that must be understood.
    #[error("certificate has an unknown critical extension")]
    UnknownCriticalExtension,
    /// Not version 3.
    #[error("certificate is not X.509 version 3")]
    OldVersion,
    /// A serial number of so many octets.
    #[error("certificate has a serial number of {0} octets")]
    LongSerial(usize),
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
    /// A broken encoding, an unknown algorithm.
    #[error("certificate cannot be used: {0}")]
    Unusable(String),
}

impl PeerRejection {
    /// Stable word for metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::UntrustedChain(_) => "untrusted_chain",
            Self::IssuerMissing(_) => "issuer_missing",
            Self::IssuerForged => "issuer_forged",
            Self::SelfSigned => "self_signed",
            Self::Expired => "expired",
            Self::IssuerExpired => "issuer_expired",
            Self::NotYetValid => "not_yet_valid",
            Self::WrongPurpose => "wrong_purpose",
            Self::WildcardSubject(_) => "wildcard_subject",
            Self::NoName => "no_name",
            Self::MalformedName => "malformed_name",
            Self::TooManyNames(_) => "too_many_names",
            Self::WeakKey(_) => "weak_key",
            Self::WeakSignature(_) => "weak_signature",
            Self::NotACa => "not_a_ca",
            Self::CaAsPeer => "ca_as_peer",
            Self::PathTooLong => "path_too_long",
            Self::NameConstraint => "name_constraint",
            Self::Revoked => "revoked",
            Self::RevocationUnknown(_) => "revocation_unknown",
            Self::UnknownCriticalExtension => "unknown_critical_extension",
            Self::OldVersion => "old_version",
            Self::LongSerial(_) => "long_serial",
            Self::UnknownName(_) => "unknown_peer",
            Self::NameMismatch { .. } => "name_mismatch",
            Self::Unusable(_) => "unusable_certificate",
        }
    }

    /// What `umbra explain` knows it by.
    pub fn code(&self) -> Code {
        match self {
            Self::NoCertificate => codes::NO_CLIENT_CERTIFICATE,
            Self::UntrustedChain(_) => codes::UNTRUSTED_CHAIN,
            Self::IssuerMissing(_) => codes::ISSUER_MISSING,
            Self::IssuerForged => codes::ISSUER_FORGED,
            Self::SelfSigned => codes::SELF_SIGNED,
            Self::Expired => codes::EXPIRED,
            Self::NotYetValid => codes::NOT_YET_VALID,
            Self::IssuerExpired => codes::ISSUER_EXPIRED,
            Self::WrongPurpose => codes::WRONG_PURPOSE,
            Self::WildcardSubject(_) => codes::WILDCARD_SUBJECT,
            Self::NoName => codes::NO_NAME,
            Self::MalformedName => codes::MALFORMED_NAME,
            Self::TooManyNames(_) => codes::TOO_MANY_NAMES,
            Self::WeakKey(_) => codes::WEAK_KEY,
            Self::WeakSignature(_) => codes::WEAK_SIGNATURE,
            Self::NotACa => codes::NOT_A_CA,
            Self::CaAsPeer => codes::CA_AS_PEER,
            Self::PathTooLong => codes::PATH_TOO_LONG,
            Self::NameConstraint => codes::NAME_CONSTRAINT,
            Self::Revoked => codes::REVOKED,
            Self::RevocationUnknown(_) => codes::REVOCATION_UNKNOWN,
            Self::UnknownCriticalExtension => codes::UNKNOWN_CRITICAL_EXTENSION,
            Self::OldVersion => codes::OLD_VERSION,
            Self::LongSerial(_) => codes::LONG_SERIAL,
            Self::UnknownName(_) => codes::UNKNOWN_NAME,
            Self::NameMismatch { .. } => codes::NAME_MISMATCH,
            Self::Unusable(_) => codes::CLIENT_CERTIFICATE_BAD,
        }
    }

    /// As rustls carries it through the handshake; standard reasons keep their own alert.
    pub(super) fn into_tls(self) -> Error {
        let error = match self {
            Self::NoCertificate => return Error::NoCertificatesPresented,
            Self::Expired => CertificateError::Expired,
            Self::NotYetValid => CertificateError::NotValidYet,
            Self::WrongPurpose => CertificateError::InvalidPurpose,
            Self::Revoked => CertificateError::Revoked,
            Self::UnknownCriticalExtension => CertificateError::UnhandledCriticalExtension,
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
            CertificateError::Revoked => Self::Revoked,
            CertificateError::UnhandledCriticalExtension => Self::UnknownCriticalExtension,
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
    /// No version or suite that both have; what each has, and what would help. Our own words only.
    #[error("no protocol version or cipher suite in common: {0}")]
    NothingInCommon(String),
    /// Not TLS, a broken record.
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
            Self::NothingInCommon(_) => "nothing_in_common",
            Self::Protocol(_) => "protocol",
            Self::Io(_) => "connection_lost",
            Self::Timeout => "timeout",
        }
    }

    /// What `umbra explain` knows it by.
    pub fn code(&self) -> Code {
        match self {
            Self::Rejected(rejection) => rejection.code(),
            Self::NothingInCommon(_) => codes::NO_COMMON_SUITE,
            Self::Alert(_) | Self::Protocol(_) | Self::Io(_) | Self::Timeout => codes::HANDSHAKE_FAILED,
        }
    }

    /// For a log line: a certificate may carry any characters, and any number of them.
    pub fn printable(&self) -> String {
        match self {
            Self::NothingInCommon(_) => self.to_string(),
            _ => clean(&self.to_string()),
        }
    }

    /// The failure behind what tokio-rustls returned.
    pub fn from_io(error: &std::io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(error @ (Error::NoCertificatesPresented | Error::InvalidCertificate(_))) => {
                Self::Rejected(PeerRejection::from_tls(error))
            }
            Some(Error::AlertReceived(alert)) => Self::Alert(format!("{alert:?}")),
            Some(Error::PeerIncompatible(what)) => Self::NothingInCommon(format!("{what:?}")),
            Some(other) => Self::Protocol(other.to_string()),
            None => Self::Io(error.to_string()),
        }
    }
}

/// An address as certificate names spell it.
pub(super) fn address_name(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

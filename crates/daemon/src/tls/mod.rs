//! TLS as this product needs it: our own identity, the roots both sides trust, and who the far end is. Owns every
//! decision about certificates; refuses to know sockets, SIP and the policy behind a name.

mod chain;
mod context;
mod crl;
pub mod facts;
pub mod hello;
pub(crate) mod identity;
pub mod keylog;
mod legacy;
mod names;
mod offer;
#[cfg(feature = "openssl")]
mod openssl;
pub mod probe;
mod refused;
mod reject;
mod session;
mod settings;
mod sides;
mod stream;
mod verify;
mod versions;
#[cfg(test)]
mod zoo_tests;

pub use chain::{RSA_BITS_MIN, Weakness};
pub use context::{Credentials, Glimpse, Gone, NamedFiles, OurCertificate, TlsContext, TlsFiles};
pub use crl::{CrlPolicy, FoundList, Revocations, load as load_crls};
pub use identity::{Identity, TlsError, certificates as read_certificates, load_certificates, load_roots};
pub use names::{NameSource, PresentedNames};
#[cfg(feature = "openssl")]
pub use openssl::OpenSsl;
pub use refused::{RefusedLeaf, watch};
pub use reject::{HandshakeFailure, PeerRejection};
pub use session::{Records, Session, Wrote};
pub use settings::{Agreed, Backend, Group, Legacy, SettingsError, Spoken, Suite, TlsSettings, Version};
pub use stream::TlsStream;
pub use verify::{Judge, KnownPeers, VerifiedPeer};
pub use versions::Versions;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The one crypto provider of the process (aws-lc-rs), handed to every TLS configuration explicitly.
pub fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

/// Makes aws-lc-rs the provider of the process. Calling it again changes nothing.
pub fn install_provider() {
    // A second installation reports the provider that is already there; that is the one we want.
    let _already_there = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

//! TLS of the lab: mutual, chain checked to the lab's roots by rustls, names checked here (SAN dNSName first, subject CN only when there is no
//! SAN). A serverAuth-only certificate is accepted from a client too, as Lync and Exchange present such. Refuses to know SIP.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    ServerConfig, SignatureScheme,
};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::pki::Identity;

/// A server side that demands a certificate; `names` empty = any name.
pub(crate) fn server_config(
    identity: &Identity,
    roots: &[CertificateDer<'static>],
    names: &[String],
) -> Result<ServerConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(PeerVerifier::new(&provider, roots, names)?);
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain().to_vec(), identity.key())
}

/// A client side that presents `identity` (if any) and expects `name`.
pub(crate) fn client_config(
    identity: Option<&Identity>,
    roots: &[CertificateDer<'static>],
    name: &str,
) -> Result<ClientConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(PeerVerifier::new(&provider, roots, &[name.to_owned()])?);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    match identity {
        Some(identity) => builder.with_client_auth_cert(identity.chain().to_vec(), identity.key()),
        None => Ok(builder.with_no_client_auth()),
    }
}

/// Chain by rustls, name by us, the same for both directions.
#[derive(Debug)]
struct PeerVerifier {
    provider: Arc<CryptoProvider>,
    roots: RootCertStore,
    names: Vec<String>,
}

impl PeerVerifier {
    fn new(
        provider: &Arc<CryptoProvider>,
        roots: &[CertificateDer<'static>],
        names: &[String],
    ) -> Result<Self, Error> {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root.clone())?;
        }
        Ok(PeerVerifier { provider: provider.clone(), roots: store, names: names.to_vec() })
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, chain, now, algorithms)?;
        let names = certificate_names(leaf);
        let is_known = |name: &String| self.names.iter().any(|known| matches(known, name));
        if self.names.is_empty() || names.iter().any(is_known) {
            return Ok(());
        }
        Err(Error::InvalidCertificate(CertificateError::NotValidForName))
    }
}

/// dNSNames of the SAN, or the CN when there are none.
fn certificate_names(leaf: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(leaf) else { return Vec::new() };
    let mut names = Vec::new();
    if let Ok(Some(san)) = certificate.subject_alternative_name() {
        for name in &san.value.general_names {
            if let GeneralName::DNSName(dns) = name {
                names.push((*dns).to_owned());
            }
        }
    }
    if names.is_empty() {
        let common = certificate.subject().iter_common_name().filter_map(|cn| cn.as_str().ok());
        names.extend(common.map(str::to_owned));
    }
    names
}

/// A wildcard in a certificate stands for exactly one label.
fn matches(known: &str, name: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(parent) => known.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent)),
        None => known.eq_ignore_ascii_case(name),
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(leaf, chain, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(leaf, chain, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{CertSpec, KeyKind, LabCa, Life, Naming, Purpose};

    const HOST: &str = "mbx01.contoso.test";

    fn verdict(ca: &LabCa, trusted: &LabCa, spec: &CertSpec, expected: &str) -> Result<(), Error> {
        let identity = ca.issue(&spec.clone().key(KeyKind::EcdsaP256)).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier =
            PeerVerifier::new(&provider, &[trusted.root().clone()], &[expected.to_owned()]).unwrap();
        let (leaf, chain) = identity.chain().split_first().unwrap();
        verifier.check(leaf, chain, UnixTime::now())
    }

    #[test]
    fn sound_certificates_of_every_naming_verify() {
        let ca = LabCa::create("root").unwrap();
        let host = CertSpec::host(HOST);
        for spec in [
            host.clone(),
            host.clone().purpose(Purpose::ServerOnly),
            host.clone().naming(Naming::SubjectOnly),
            host.clone().naming(Naming::WildcardSan),
        ] {
            assert!(verdict(&ca, &ca, &spec, HOST).is_ok(), "{spec:?}");
        }
        let rsa = ca.issue(&host).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = PeerVerifier::new(&provider, &[ca.root().clone()], &[]).unwrap();
        assert!(verifier.check(&rsa.chain()[0], &rsa.chain()[1..], UnixTime::now()).is_ok());
    }

    #[test]
    fn crooked_certificates_are_refused() {
        let (ca, other) = (LabCa::create("root").unwrap(), LabCa::create("other").unwrap());
        let host = CertSpec::host(HOST);
        assert!(verdict(&other, &ca, &host, HOST).is_err(), "wrong authority");
        assert!(verdict(&ca, &ca, &host.clone().life(Life::Expired), HOST).is_err(), "expired");
        assert!(verdict(&ca, &ca, &host.clone().life(Life::NotYet), HOST).is_err(), "not yet valid");
        assert!(verdict(&ca, &ca, &host.clone().purpose(Purpose::ClientOnly), HOST).is_err(), "purpose");
        assert!(verdict(&ca, &ca, &host, "mbx02.contoso.test").is_err(), "name");
        assert!(
            verdict(&ca, &ca, &host.naming(Naming::WildcardSan), "a.b.contoso.test").is_err(),
            "two labels"
        );
    }
}

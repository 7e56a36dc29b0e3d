//! A certificate with its key out of a file that came from elsewhere: PFX as Windows exports it, or PEM sections in any
//! order. Owns the order of the chain and the words for what is missing; never prints a key.

use std::path::Path;

use b2bua::codes;
use p12_keystore::Pkcs12Archive;
use p12_keystore::error::Error as PfxError;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::Remark;
use crate::tls::identity::{CHAIN_LENGTH_MAX, is_pem, pem_certificates, pem_key, read};
use crate::tls::{TlsError, provider};

/// Certificates of one file that are looked at.
const CERTIFICATES_MAX: usize = 64;

/// A key and the chain of its certificate, leaf first.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// Reads a PFX or PEM file; the key may stand in a file of its own.
///
/// # Errors
/// What is wrong with which file, with its code.
pub(super) fn open(path: &Path, key: Option<&Path>, password: &str) -> Result<Bundle, Remark> {
    let bytes = read(path).map_err(unusable)?;
    if bytes.is_empty() {
        return Err(Remark::error(codes::FILE_UNUSABLE, format!("{}: is empty", path.display())));
    }
    let (certificates, key) = match (is_pem(&bytes), key) {
        (true, None) => from_pem(path, &bytes, (path, &bytes))?,
        (true, Some(key)) => from_pem(path, &bytes, (key, &read(key).map_err(unusable)?))?,
        (false, _) => from_pfx(path, &bytes, password)?,
    };
    let chain = ordered(&certificates, &key).ok_or_else(|| {
        let what = format!("{}: the private key belongs to none of its certificates", path.display());
        Remark::error(codes::KEY_MISMATCH, what)
    })?;
    Ok(Bundle { chain, key })
}

type Parts = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn from_pem(path: &Path, bytes: &[u8], (key_path, key_bytes): (&Path, &[u8])) -> Result<Parts, Remark> {
    let certificates = pem_certificates(path, bytes, CERTIFICATES_MAX).map_err(unusable)?;
    if certificates.is_empty() {
        let what = format!("{}: holds no certificate", path.display());
        return Err(Remark::error(codes::FILE_UNUSABLE, what));
    }
    Ok((certificates, pem_key(key_path, key_bytes).map_err(unusable)?))
}

fn from_pfx(path: &Path, bytes: &[u8], password: &str) -> Result<Parts, Remark> {
    let problem = |code, what: &str| Remark::error(code, format!("{}: {what}", path.display()));
    let archive = Pkcs12Archive::from_pkcs12(bytes, password).map_err(|error| match error {
        PfxError::MacError(_) | PfxError::Pkcs5Error(_) | PfxError::UnpadError => {
            problem(codes::PFX_PASSWORD, "the password is wrong, or the file is damaged")
        }
        PfxError::DerError(_) => problem(codes::FILE_UNUSABLE, "neither PEM nor PFX"),
        other => problem(codes::PFX_UNSUPPORTED, &other.to_string()),
    })?;
    let Some(key) = archive.keys.first() else {
        return Err(problem(codes::PFX_UNSUPPORTED, "it holds no private key"));
    };
    let key = PrivatePkcs8KeyDer::from(key.key.as_der().to_vec());
    let certificates = archive.certs.iter().take(CERTIFICATES_MAX);
    let certificates = certificates.map(|bag| CertificateDer::from(bag.cert.as_der().to_vec())).collect();
    Ok((certificates, PrivateKeyDer::Pkcs8(key)))
}

fn unusable(error: TlsError) -> Remark {
    Remark::error(codes::FILE_UNUSABLE, error.to_string())
}

/// The certificate of the key, then each one's issuer as long as there is one. Exports come in any order.
fn ordered(
    certificates: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'_>,
) -> Option<Vec<CertificateDer<'static>>> {
    let is_of_key = |der: &&CertificateDer<'static>| {
        CertifiedKey::from_der(vec![(*der).clone()], key.clone_key(), &provider()).is_ok()
    };
    let mut chain = vec![certificates.iter().find(is_of_key)?.clone()];
    while chain.len() < CHAIN_LENGTH_MAX
        && let Some(next) = chain.last().and_then(|last| issuer_of(last, certificates))
        && !chain.contains(next)
    {
        chain.push(next.clone());
    }
    Some(chain)
}

fn issuer_of<'a>(
    der: &CertificateDer<'_>,
    certificates: &'a [CertificateDer<'static>],
) -> Option<&'a CertificateDer<'static>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let wanted = certificate.issuer().as_raw();
    certificates.iter().find(|other| {
        X509Certificate::from_der(other).is_ok_and(|(_, other)| other.subject().as_raw() == wanted)
    })
}

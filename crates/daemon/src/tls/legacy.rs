//! RSA below today's strength, for peers that are excepted by name: keys from 1024 bits, SHA-1 in certificates. Owns the
//! algorithms that rustls does not offer; refuses to decide for whom they count.

use aws_lc_rs::signature::{
    RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
    RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY, RsaParameters, UnparsedPublicKey,
};
use rustls::SignatureScheme;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id};

/// sha1WithRSAEncryption with its NULL parameter (RFC 3279 §2.2.1), without the outer sequence.
const RSA_PKCS1_SHA1: AlgorithmIdentifier = AlgorithmIdentifier::from_slice(&[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05, 0x05, 0x00,
]);

#[derive(Debug)]
struct LegacyRsa {
    signature: AlgorithmIdentifier,
    parameters: &'static RsaParameters,
}

impl SignatureVerificationAlgorithm for LegacyRsa {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        UnparsedPublicKey::new(self.parameters, public_key)
            .verify(message, signature)
            .map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::RSA_ENCRYPTION
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.signature
    }
}

static SHA1: LegacyRsa =
    LegacyRsa { signature: RSA_PKCS1_SHA1, parameters: &RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY };
static SHA256: LegacyRsa = LegacyRsa {
    signature: alg_id::RSA_PKCS1_SHA256,
    parameters: &RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
};
static SHA512: LegacyRsa = LegacyRsa {
    signature: alg_id::RSA_PKCS1_SHA512,
    parameters: &RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
};

/// For the signatures inside a chain. They stand before rustls' own, whose RSA begins at 2048 bits: the first algorithm
/// with the right identifiers decides. What was verified with them is looked at again for its strength.
pub(super) static IN_CHAINS: [&dyn SignatureVerificationAlgorithm; 3] = [&SHA1, &SHA256, &SHA512];

/// For the handshake's own signature with a short key: TLS 1.2 with PKCS #1 v1.5, what hosts of that age send. aws-lc-rs has
/// no RSASSA-PSS below 2048 bits, so TLS 1.3 is out of their reach.
pub(super) static IN_HANDSHAKES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[&SHA256, &SHA512],
    mapping: &[
        (SignatureScheme::RSA_PKCS1_SHA256, &[&SHA256]),
        (SignatureScheme::RSA_PKCS1_SHA512, &[&SHA512]),
    ],
};

/// The same schemes with PKCS #1 v1.5 in front: a client takes the first it can, and one with a short key must not take PSS.
pub(super) fn pkcs1_first(mut schemes: Vec<SignatureScheme>) -> Vec<SignatureScheme> {
    use SignatureScheme as S;
    let is_pkcs1 =
        |scheme: &S| matches!(scheme, S::RSA_PKCS1_SHA256 | S::RSA_PKCS1_SHA384 | S::RSA_PKCS1_SHA512);
    schemes.sort_by_key(|scheme| !is_pkcs1(scheme));
    schemes
}

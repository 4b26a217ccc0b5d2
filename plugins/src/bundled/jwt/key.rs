//! What a token is verified with: a shared secret, or a public key in PEM.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use rustls_pki_types::pem::{PemObject, SectionKind};
use store::check;
use store::value::Value;

/// A key, ready to verify with.
pub(super) enum Key {
    /// A shared secret.
    Secret(Box<hmac::Key>),
    /// A public key.
    Public(Box<ParsedPublicKey>),
    /// What is stored is no key of this algorithm: nothing verifies.
    None,
}

impl Key {
    /// A shared secret for one of `HS…`.
    pub(super) fn symmetric(algorithm: &str, secret: Vec<u8>) -> Self {
        let algorithm = match algorithm {
            "HS256" => hmac::HMAC_SHA256,
            "HS384" => hmac::HMAC_SHA384,
            "HS512" => hmac::HMAC_SHA512,
            _ => return Self::None,
        };
        Self::Secret(Box::new(hmac::Key::new(algorithm, &secret)))
    }

    /// A public key for any other algorithm.
    pub(super) fn public(algorithm: &str, pem: &str) -> Self {
        let key = verification(algorithm)
            .zip(der(pem))
            .and_then(|(algorithm, der)| ParsedPublicKey::new(algorithm, der).ok());
        key.map_or(Self::None, |key| Self::Public(Box::new(key)))
    }

    /// Whether the signature over `signed` was made with this key. Takes the same time wherever a
    /// signature is wrong.
    pub(super) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Secret(key) => hmac::verify(key, signed, signature).is_ok(),
            Self::Public(key) => key.verify_sig(signed, signature).is_ok(),
            Self::None => false,
        }
    }
}

/// How the signatures of an algorithm are verified. Old RSA keys of 1,024 bits are taken where the
/// library has them, as Kong does.
fn verification(algorithm: &str) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match algorithm {
        "RS256" => &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
        "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
        "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
        "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
        "ES256" => &signature::ECDSA_P256_SHA256_FIXED,
        "ES384" => &signature::ECDSA_P384_SHA384_FIXED,
        "ES512" => &signature::ECDSA_P521_SHA512_FIXED,
        "EdDSA" => &signature::ED25519,
        _ => return None,
    })
}

/// The first public key of a PEM text: `PUBLIC KEY`, or `RSA PUBLIC KEY`, whose contents the
/// library reads as well.
fn der(pem: &str) -> Option<Vec<u8>> {
    let pem = pem.replace("RSA PUBLIC KEY-----", "PUBLIC KEY-----");
    <(SectionKind, Vec<u8>) as PemObject>::pem_slice_iter(pem.as_bytes())
        .filter_map(Result::ok)
        .find_map(|(kind, der)| (kind == SectionKind::PublicKey).then_some(der))
}

/// Whether a text is a key, as far as Kong looks when it is written; its words if not.
pub(super) fn check(value: &Value) -> Result<(), String> {
    let is_key = check::pem::public_key(value).or_else(|_| check::pem::private_key(value));
    is_key.map_err(|_| "invalid key".to_owned())
}

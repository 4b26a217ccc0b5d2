//! Keys as they stand in files: what kind they are, and the public half of each.

use super::der::{Elements, OCTET_STRING, OID, TAGGED_1};
use aws_lc_rs::agreement::{self, ECDH_P256, ECDH_P384, ECDH_P521, PrivateKey};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

/// 1.2.840.113549.1.1.1, and .10 for the variant with a padding of its own.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
/// 1.2.840.10045.2.1
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
/// 1.3.101.112
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// 1.2.840.10045.3.1.7, 1.3.132.0.34, 1.3.132.0.35
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0, 0x22];
const P521: &[u8] = &[0x2b, 0x81, 0x04, 0, 0x23];

/// The public half of a key, comparable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Public {
    /// Modulus and exponent, without leading zeros.
    Rsa(Vec<u8>, Vec<u8>),
    /// The curve's name and the point.
    Ec(Vec<u8>, Vec<u8>),
    /// The point.
    Ed25519(Vec<u8>),
    /// Algorithm and bits of anything else.
    Other(Vec<u8>, Vec<u8>),
}

impl Public {
    /// Whether both are of one kind (RSA, elliptic curve, …).
    pub(super) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Other(one, _), Self::Other(two, _)) => one == two,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    /// Reads a `SubjectPublicKeyInfo`.
    pub(super) fn of_info(der: &[u8]) -> Option<Self> {
        let mut info = Elements(der).sequence()?;
        let mut algorithm = info.sequence()?;
        let name = algorithm.one(OID)?;
        let bits = info.bits()?;
        match name {
            RSA | RSA_PSS => Self::of_rsa(bits),
            EC => Some(Self::Ec(algorithm.one(OID)?.to_vec(), bits.to_vec())),
            ED25519 => Some(Self::Ed25519(bits.to_vec())),
            _ => Some(Self::Other(name.to_vec(), bits.to_vec())),
        }
    }

    /// Reads an `RSAPublicKey`.
    pub(super) fn of_rsa(der: &[u8]) -> Option<Self> {
        let mut key = Elements(der).sequence()?;
        Some(Self::Rsa(key.integer()?.to_vec(), key.integer()?.to_vec()))
    }

    /// The public half of an `RSAPrivateKey`.
    pub(super) fn of_rsa_private(der: &[u8]) -> Option<Self> {
        let mut key = Elements(der).sequence()?;
        let _version = key.integer()?;
        let public = Self::Rsa(key.integer()?.to_vec(), key.integer()?.to_vec());
        // The private exponent and both primes must be there; whether they fit is shown in use.
        for _ in 0..3 {
            key.integer()?;
        }
        Some(public)
    }

    /// The public half of an `ECPrivateKey`; its curve, where it does not say so itself.
    pub(super) fn of_ec_private(der: &[u8], curve: Option<&[u8]>) -> Option<Self> {
        let mut key = Elements(der).sequence()?;
        let _version = key.integer()?;
        let scalar = key.one(OCTET_STRING)?;
        let mut curve = curve.map(<[u8]>::to_vec);
        let mut point = None;
        while let Some((tag, inside)) = key.any() {
            match tag {
                TAGGED_1 => point = Elements(inside).bits().map(<[u8]>::to_vec),
                _ => curve = curve.or(Elements(inside).one(OID).map(<[u8]>::to_vec)),
            }
        }
        let curve = curve?;
        let point = match point {
            Some(point) => point,
            None => point_of(&curve, scalar)?,
        };
        Some(Self::Ec(curve, point))
    }

    /// The public half of a key in PKCS #8.
    pub(super) fn of_pkcs8(der: &[u8]) -> Option<Self> {
        let mut key = Elements(der).sequence()?;
        let _version = key.integer()?;
        let mut algorithm = key.sequence()?;
        let name = algorithm.one(OID)?;
        let inside = key.one(OCTET_STRING)?;
        match name {
            RSA | RSA_PSS => Self::of_rsa_private(inside),
            EC => Self::of_ec_private(inside, algorithm.one(OID)),
            ED25519 => {
                let seed = Elements(inside).one(OCTET_STRING)?;
                let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
                Some(Self::Ed25519(pair.public_key().as_ref().to_vec()))
            }
            _ => Some(Self::Other(name.to_vec(), Vec::new())),
        }
    }
}

/// The point of a private key on a curve that we know.
fn point_of(curve: &[u8], scalar: &[u8]) -> Option<Vec<u8>> {
    let algorithm: &'static agreement::Algorithm = match curve {
        P256 => &ECDH_P256,
        P384 => &ECDH_P384,
        P521 => &ECDH_P521,
        _ => return None,
    };
    let key = PrivateKey::from_private_key(algorithm, scalar).ok()?;
    Some(key.compute_public_key().ok()?.as_ref().to_vec())
}

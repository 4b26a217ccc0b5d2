//! Secrets of applications that asked to be kept as hashes:
//! `$pbkdf2-sha512$i=10000,l=32$SALT$HASH`.
//!
//! Source: Kong `kong/plugins/oauth2/secret.lua`; the stored form is recorded in
//! `recorded/plugins/oauth2.jsonl`.

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use store::schema::Random;

use crate::pdk::credentials;

const ITERATIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(9_999);
const HASH_BYTES: usize = 32;
const SALT_BYTES: usize = 16;
/// A stored hash that asks for more work than this is not verified: whoever can write rows must
/// not be able to hold up the office.
const ITERATIONS_MAX: u32 = 10_000_000;
/// Longest hash that is verified.
const HASH_BYTES_MAX: usize = 128;

/// The stored form of a secret. Takes milliseconds: only in the office.
pub(super) fn hashed(secret: &[u8], random: &mut Random<'_>) -> String {
    let mut salt = [0; SALT_BYTES];
    random(&mut salt);
    let mut hash = [0; HASH_BYTES];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, ITERATIONS, &salt, secret, &mut hash);
    let [salt, hash] = [&salt[..], &hash[..]].map(credentials::to_base64_unpadded);
    format!("$pbkdf2-sha512$i={ITERATIONS},l={HASH_BYTES}${salt}${hash}")
}

/// Whether a secret has this stored form. Takes milliseconds: only in the office.
pub(super) fn verify(secret: &[u8], stored: &str) -> bool {
    let Some(stored) = Stored::read(stored) else { return false };
    let mut hash = vec![0; stored.hash.len()];
    pbkdf2::derive(stored.algorithm, stored.iterations, &stored.salt, secret, &mut hash);
    credentials::same(&hash, &stored.hash)
}

struct Stored {
    algorithm: pbkdf2::Algorithm,
    iterations: NonZeroU32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Stored {
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('$');
        let ("", id) = (parts.next()?, parts.next()?) else { return None };
        let algorithm = match id.strip_prefix("pbkdf2-")? {
            "sha512" => pbkdf2::PBKDF2_HMAC_SHA512,
            "sha384" => pbkdf2::PBKDF2_HMAC_SHA384,
            "sha256" => pbkdf2::PBKDF2_HMAC_SHA256,
            "sha1" => pbkdf2::PBKDF2_HMAC_SHA1,
            _ => return None,
        };
        let mut parameters = parts.next()?.split(',').filter_map(|pair| pair.split_once('='));
        let iterations = parameters.find(|(name, _)| name.trim() == "i");
        let iterations =
            iterations.map_or(Some(ITERATIONS), |(_, count)| count.trim().parse().ok());
        let decoded = |part: &str| credentials::base64(part.as_bytes());
        let (salt, hash) = (decoded(parts.next()?)?, decoded(parts.next()?)?);
        let iterations = iterations.filter(|count| count.get() <= ITERATIONS_MAX)?;
        let is_usable = !hash.is_empty() && hash.len() <= HASH_BYTES_MAX && parts.next().is_none();
        is_usable.then_some(Self { algorithm, iterations, salt, hash })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stored by Kong 3.9.1.
    const KONGS: &str = "$pbkdf2-sha512$i=10000,l=32$NLhmCFHogtQM9QJtUTOh0A$4zylP4HVp/K15boSXQXvqpsMe6nxJXvSehfFfjpms5E";

    #[test]
    fn a_hash_of_any_kong_database_is_known() {
        assert!(verify(b"plain", KONGS));
        assert!(!verify(b"plaint", KONGS));
        let ours = hashed(b"plain", &mut |bytes: &mut [u8]| bytes.fill(7));
        assert!(ours.starts_with("$pbkdf2-sha512$i=10000,l=32$") && verify(b"plain", &ours));
        assert_eq!(ours.len(), KONGS.len());
    }

    #[test]
    fn what_is_no_hash_verifies_nothing() {
        for odd in [
            "",
            "plain",
            "$",
            "$argon2id$v=19$m=4096,t=1,p=1$c2FsdA$aGFzaA",
            "$pbkdf2-md5$i=1,l=1$AAAA$AAAA",
            "$pbkdf2-sha512$i=0,l=1$AAAA$AAAA",
            "$pbkdf2-sha512$i=99999999,l=1$AAAA$AAAA",
            "$pbkdf2-sha512$i=1,l=1$AAAA$",
            "$pbkdf2-sha512$i=1,l=1$AAAA",
            "$pbkdf2-sha512$i=1$AAAA$AAAA$x",
        ] {
            assert!(!verify(b"plain", odd), "{odd}");
        }
    }
}

//! Keys of signatures.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};

/// What a signature is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Algorithm {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Algorithm {
    /// The one of this name.
    pub(super) fn of(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"hmac-sha1" => Self::Sha1,
            b"hmac-sha256" => Self::Sha256,
            b"hmac-sha384" => Self::Sha384,
            b"hmac-sha512" => Self::Sha512,
            _ => return None,
        })
    }
}

/// The states of a hash behind a secret. A signature begins with a copy of them, which costs half
/// of what it does with aws-lc-rs: that copies and wipes three states of the largest hash.
pub(super) enum Key {
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
}

impl Key {
    /// A key. None never comes: HMAC takes secrets of any length.
    pub(super) fn new(algorithm: Algorithm, secret: &[u8]) -> Option<Self> {
        let made = match algorithm {
            Algorithm::Sha1 => KeyInit::new_from_slice(secret).map(Self::Sha1),
            Algorithm::Sha256 => KeyInit::new_from_slice(secret).map(Self::Sha256),
            Algorithm::Sha384 => KeyInit::new_from_slice(secret).map(Self::Sha384),
            Algorithm::Sha512 => KeyInit::new_from_slice(secret).map(Self::Sha512),
        };
        made.ok()
    }

    /// Whether the whole signature is the text's; takes as long wherever it differs.
    pub(super) fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Sha1(state) => verifies(state, text, signature),
            Self::Sha256(state) => verifies(state, text, signature),
            Self::Sha384(state) => verifies(state, text, signature),
            Self::Sha512(state) => verifies(state, text, signature),
        }
    }
}

fn verifies(state: &(impl Mac + Clone), text: &[u8], signature: &[u8]) -> bool {
    state.clone().chain_update(text).verify_slice(signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::hmac;

    #[test]
    fn signatures_are_those_of_another_library() {
        let algorithms = [
            ("hmac-sha1", hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
            ("hmac-sha256", hmac::HMAC_SHA256),
            ("hmac-sha384", hmac::HMAC_SHA384),
            ("hmac-sha512", hmac::HMAC_SHA512),
        ];
        let bytes: Vec<u8> = (0..=255).cycle().take(700).collect();
        for (name, other) in algorithms {
            let algorithm = Algorithm::of(name.as_bytes()).unwrap();
            for len in [0, 1, 20, 55, 56, 63, 64, 65, 111, 112, 127, 128, 129, 300, 700] {
                for text in [&bytes[..len], &bytes[..len / 2]] {
                    let secret = &bytes[..len];
                    let mut tag =
                        hmac::sign(&hmac::Key::new(other, secret), text).as_ref().to_vec();
                    let key = Key::new(algorithm, secret).unwrap();
                    assert!(key.verifies(text, &tag), "{name} {len}");
                    assert!(!key.verifies(text, &tag[1..]), "{name} {len}: not the whole");
                    assert!(!key.verifies(text, &[]), "{name} {len}: nothing");
                    tag[len % 20] ^= 1;
                    assert!(!key.verifies(text, &tag), "{name} {len}: another");
                }
            }
        }
        assert_eq!(Algorithm::of(b"hmac-md5"), None);
    }
}

//! The cookie: sealed, authenticated, and byte for byte that of lua-resty-session 4, so that the
//! sessions of a Kong with the same secret go on.
//!
//! ```text
//! base64url( type 1 | flags 2 | id 32 | made 5 | rolled 4 | size 3 | tag 16 | idled 3 | mac 16 )
//! then base64url( AES-256-GCM of the data ), `size` characters long, unless a row has them
//! ```
//! What is longer than a cookie may be goes on in cookies `NAME2` to `NAME9`.
//!
//! Numbers have their least byte first. Keys come from the secret and the id: by HKDF, or for a
//! cookie that lives long by PBKDF2, which takes milliseconds and belongs into the office.

use std::io::{Read, Write};
use std::num::NonZeroU32;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{digest, hkdf, hmac, pbkdf2};

use crate::pdk::credentials;

const ID_BYTES: usize = 32;
const TAG_AT: usize = 47;
const IDLED_AT: usize = 63;
const MAC_AT: usize = 66;
const HEADER_BYTES: usize = 82;
/// Characters of a header in base64.
pub(super) const HEADER_CHARS: usize = 110;

const TYPE: u8 = 1;
const FLAG_STORAGE: u16 = 0x0001;
const FLAG_DEFLATE: u16 = 0x0010;

/// Longer data is compressed.
const PLAIN_BYTES_MAX: usize = 1024;
/// Most bytes that compressed data may become.
const INFLATED_BYTES_MAX: u64 = 1024 * 1024;
const ITERATIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(9_999);

/// A random id, never used twice.
pub(super) type Id = [u8; ID_BYTES];
/// A key and a nonce for one id.
pub(super) type DataKey = [u8; 44];

/// What a secret becomes.
pub(super) struct Keys {
    material: [u8; 32],
    extracted: hkdf::Prk,
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Keys {
    /// The keys of a secret.
    pub(super) fn new(secret: &str) -> Self {
        let mut material = [0; 32];
        material.copy_from_slice(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref());
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&material);
        Self { material, extracted }
    }

    fn derived(&self, usage: &[u8], id: &Id, out: &mut [u8]) -> Option<()> {
        let about = [usage, b":", id];
        self.extracted.expand(&about, Length(out.len())).ok()?.fill(out).ok()
    }

    /// The key of the data of a short-lived cookie.
    pub(super) fn data_key(&self, id: &Id) -> Option<DataKey> {
        let mut key = [0; 44];
        self.derived(b"encryption", id, &mut key)?;
        Some(key)
    }

    /// The key of the data of a cookie that lives long. Takes milliseconds.
    pub(super) fn slow_data_key(&self, id: &Id) -> DataKey {
        let salt = [b"encryption:", &id[..]].concat();
        let mut key = [0; 44];
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::derive(algorithm, ITERATIONS, &salt, &self.material, &mut key);
        key
    }

    fn mac(&self, id: &Id, header: &[u8]) -> Option<[u8; 16]> {
        let mut key = [0; 32];
        self.derived(b"authentication", id, &mut key)?;
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), header);
        tag.as_ref().first_chunk().copied()
    }
}

/// What the header of a cookie says; its mac was right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: Id,
    /// When the session began, Unix time.
    pub(super) made_s: i64,
    /// How much later it got this id.
    pub(super) rolled_s: i64,
    /// How much later it was last seen.
    pub(super) idled_s: i64,
    /// Characters of the data.
    pub(super) size: usize,
    flags: u16,
    bytes: [u8; HEADER_BYTES],
}

impl Header {
    /// Reads the header of a cookie, if this secret made it.
    pub(super) fn read(cookie: &[u8], keys: &Keys, is_stored: bool) -> Option<Self> {
        let decoded = credentials::base64url(cookie.get(..HEADER_CHARS)?)?;
        let bytes: [u8; HEADER_BYTES] = decoded.try_into().ok()?;
        let number = |from: usize, to: usize| {
            let bytes = bytes.get(from..to)?.iter().rev();
            Some(bytes.fold(0_i64, |number, byte| number << 8 | i64::from(*byte)))
        };
        let id: Id = bytes.get(3..35)?.try_into().ok()?;
        let flags = u16::try_from(number(1, 3)?).ok()?;
        if bytes.first() != Some(&TYPE) || (flags & FLAG_STORAGE != 0) != is_stored {
            return None;
        }
        let mac = keys.mac(&id, bytes.get(..MAC_AT)?)?;
        if !credentials::same(&mac, bytes.get(MAC_AT..)?) {
            return None;
        }
        Some(Self {
            id,
            made_s: number(35, 40)?,
            rolled_s: number(40, 44)?,
            size: usize::try_from(number(44, TAG_AT)?).ok()?,
            idled_s: number(IDLED_AT, MAC_AT)?,
            flags,
            bytes,
        })
    }

    /// The data behind the header.
    pub(super) fn open(&self, payload: &[u8], key: &DataKey) -> Option<Vec<u8>> {
        if payload.len() != self.size {
            return None;
        }
        let mut sealed = credentials::base64url(payload)?;
        sealed.extend_from_slice(self.bytes.get(TAG_AT..IDLED_AT)?);
        let (cipher, nonce) = cipher(key)?;
        let about = Aad::from(self.bytes.get(..TAG_AT)?);
        let data = cipher.open_in_place(nonce, about, &mut sealed).ok()?;
        if self.flags & FLAG_DEFLATE == 0 {
            return Some(data.to_vec());
        }
        let mut inflated = Vec::new();
        let reader = flate2::read::DeflateDecoder::new(&*data);
        let read = reader.take(INFLATED_BYTES_MAX + 1).read_to_end(&mut inflated).ok()?;
        (read as u64 <= INFLATED_BYTES_MAX).then_some(inflated)
    }

    /// The same session, seen later: only the header changes.
    pub(super) fn touched(&self, idled_s: i64, keys: &Keys) -> Option<Self> {
        let mut touched = Self { idled_s, ..self.clone() };
        put(&mut touched.bytes, IDLED_AT, 3, idled_s);
        let mac = keys.mac(&self.id, touched.bytes.get(..MAC_AT)?)?;
        touched.bytes.get_mut(MAC_AT..)?.copy_from_slice(&mac);
        Some(touched)
    }

    /// The header as it stands in the cookie.
    pub(super) fn text(&self) -> String {
        credentials::to_base64url(&self.bytes)
    }
}

/// What a cookie is made of.
pub(super) struct Sealing<'a> {
    pub(super) id: Id,
    pub(super) made_s: i64,
    pub(super) rolled_s: i64,
    pub(super) is_stored: bool,
    pub(super) data: &'a [u8],
}

/// Long data in fewer bytes, if it becomes fewer.
fn deflated(data: &[u8]) -> Option<Vec<u8>> {
    if data.len() <= PLAIN_BYTES_MAX {
        return None;
    }
    let mut out = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(data).ok()?;
    out.finish().ok().filter(|deflated| deflated.len() < data.len())
}

/// A sealed session: its header, and its data as characters.
pub(super) fn sealed(plan: &Sealing<'_>, key: &DataKey, keys: &Keys) -> Option<(Header, String)> {
    let mut flags = if plan.is_stored { FLAG_STORAGE } else { 0 };
    let mut data = plan.data.to_vec();
    if let Some(deflated) = deflated(plan.data) {
        flags |= FLAG_DEFLATE;
        data = deflated;
    }
    let size = (data.len() * 4).div_ceil(3);
    let mut bytes = [0; HEADER_BYTES];
    put(&mut bytes, 0, 1, TYPE.into());
    put(&mut bytes, 1, 2, flags.into());
    bytes.get_mut(3..35)?.copy_from_slice(&plan.id);
    put(&mut bytes, 35, 5, plan.made_s);
    put(&mut bytes, 40, 4, plan.rolled_s);
    put(&mut bytes, 44, 3, i64::try_from(size).ok()?);
    let (cipher, nonce) = cipher(key)?;
    let about = Aad::from(bytes.get(..TAG_AT)?.to_vec());
    let tag = cipher.seal_in_place_separate_tag(nonce, about, &mut data).ok()?;
    bytes.get_mut(TAG_AT..IDLED_AT)?.copy_from_slice(tag.as_ref());
    let mac = keys.mac(&plan.id, bytes.get(..MAC_AT)?)?;
    bytes.get_mut(MAC_AT..)?.copy_from_slice(&mac);
    let (id, made_s, rolled_s) = (plan.id, plan.made_s, plan.rolled_s);
    let header = Header { id, made_s, rolled_s, idled_s: 0, size, flags, bytes };
    Some((header, credentials::to_base64url(&data)))
}

fn put(bytes: &mut [u8; HEADER_BYTES], at: usize, count: usize, number: i64) {
    for (place, byte) in number.to_le_bytes().iter().take(count).enumerate() {
        if let Some(slot) = bytes.get_mut(at + place) {
            *slot = *byte;
        }
    }
}

fn cipher(key: &DataKey) -> Option<(LessSafeKey, Nonce)> {
    let (key, nonce) = key.split_at(32);
    let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
    Some((cipher, Nonce::try_assume_unique_for_key(nonce).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "s3cr3t-s3cr3t-s3cr3t-s3cr3t-1234";
    /// Made by Kong 3.9.1 with that secret.
    const KONGS: &str = "AQAAvY9T7dSd6p-7Nni0nt8uk6lfaEENtMLCRId8gliuHUUoIQJrAAAAAACEAACKxBfhHGj1c8-7fQ7o3o9PAAAA8XDfH4VGQyzAHaFHdAo81wI39TpsUfan1Zxq9z7rSVYFGTPc_OwcqqUxgDNO_PszOdmpJvIs-XQZ1Dj5cSxWS8_i8ow8RfuGLf-ZyJGeycSBWaIsUTE72GWsarVHEWwuG1VbCiWsGaANPSpfpm52qb5fJn";

    fn opened(cookie: &str, secret: &str) -> Option<(Header, Vec<u8>)> {
        let keys = Keys::new(secret);
        let header = Header::read(cookie.as_bytes(), &keys, false)?;
        let payload = cookie.as_bytes().get(HEADER_CHARS..)?;
        let data = header.open(payload, &keys.data_key(&header.id)?)?;
        Some((header, data))
    }

    #[test]
    fn a_session_of_kong_is_read() {
        let (header, data) = opened(KONGS, SECRET).expect("its secret is known");
        assert_eq!((header.rolled_s, header.idled_s), (0, 0));
        let data: serde_json::Value = serde_json::from_slice(&data).unwrap();
        let ids = ["bb5f772c-c75b-4b37-900a-8eb808c60b12", "1fa4c64f-79cb-44e9-bbad-74497303970a"];
        assert_eq!(data, serde_json::json!([[ids, "default", "bob"]]));
        assert_eq!(header.made_s / 1_000, 1_795_301);
    }

    #[test]
    fn nothing_else_is_read() {
        assert!(opened(KONGS, "another secret").is_none());
        for at in 0..KONGS.len() {
            let mut spoilt = KONGS.to_owned().into_bytes();
            spoilt[at] = if spoilt[at] == b'A' { b'Q' } else { b'A' };
            let spoilt = String::from_utf8(spoilt).unwrap();
            // The last character of each part has bits that mean nothing.
            let halves = |text: &str| {
                let (header, payload) = text.as_bytes().split_at(HEADER_CHARS);
                [header, payload].map(credentials::base64url)
            };
            let same_bits = halves(&spoilt) == halves(KONGS);
            assert_eq!(opened(&spoilt, SECRET).is_some(), same_bits, "{at}");
            assert!(opened(&KONGS[..at], SECRET).is_none(), "{at}");
        }
        assert!(opened(&format!("{KONGS}A"), SECRET).is_none());
    }

    #[test]
    fn what_is_sealed_is_opened_and_can_be_touched() {
        let keys = Keys::new(SECRET);
        let plan = Sealing {
            id: [9; 32],
            made_s: 1_795_301_000,
            rolled_s: 7,
            is_stored: false,
            data: b"data",
        };
        for key in [keys.data_key(&plan.id).unwrap(), keys.slow_data_key(&plan.id)] {
            let (header, payload) = sealed(&plan, &key, &keys).unwrap();
            let read = Header::read(header.text().as_bytes(), &keys, false);
            assert_eq!(read.as_ref(), Some(&header));
            assert_eq!(header.open(payload.as_bytes(), &key).as_deref(), Some(&b"data"[..]));
            let touched = header.touched(70_000, &keys).unwrap();
            let read = Header::read(touched.text().as_bytes(), &keys, false).unwrap();
            assert_eq!((read.idled_s, read.made_s, read.rolled_s), (70_000, plan.made_s, 7));
            assert_eq!(read.open(payload.as_bytes(), &key).as_deref(), Some(&b"data"[..]));
            assert!(Header::read(header.text().as_bytes(), &keys, true).is_none());
        }
    }
}

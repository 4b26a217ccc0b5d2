//! Content codings undone, with a bound on what comes out.

use ruzstd::decoding::StreamingDecoder;
use std::io::Read;
use std::panic::catch_unwind;

/// Codings that are undone one after the other at most; a body coded more often stays as it is.
const CODINGS_MAX: usize = 3;
/// Largest zstd window in bytes: what a decoder must be ready for (RFC 9659).
const ZSTD_WINDOW_BYTES_MAX: u64 = 8 << 20;

/// Undoes the codings of a `Content-Encoding` value (last first); `None` if one is unknown, the
/// bytes are not of it, or more than `bytes_max` come out.
///
/// A gzip body may consist of several members. `deflate` is tried as zlib, then raw: both are sent
/// under this name.
pub fn inflate(codings: &[u8], body: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let codings: Vec<&[u8]> = codings.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).collect();
    if codings.len() > CODINGS_MAX {
        return None;
    }
    let mut bytes: Option<Vec<u8>> = None;
    for coding in codings.iter().rev() {
        if coding.eq_ignore_ascii_case(b"identity") {
            continue;
        }
        let coded = bytes.as_deref().unwrap_or(body);
        // A decoder's own fault must not cost more than this body.
        let plain = catch_unwind(|| one(coding, coded, bytes_max)).ok().flatten()?;
        bytes = Some(plain);
    }
    bytes
}

fn one(coding: &[u8], body: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let is = |name: &str| coding.eq_ignore_ascii_case(name.as_bytes());
    if is("gzip") || is("x-gzip") {
        bounded(flate2::read::MultiGzDecoder::new(body), bytes_max)
    } else if is("deflate") {
        bounded(flate2::read::ZlibDecoder::new(body), bytes_max)
            .or_else(|| bounded(flate2::read::DeflateDecoder::new(body), bytes_max))
    } else if is("br") {
        bounded(brotli_decompressor::Decompressor::new(body, 4096), bytes_max)
    } else if is("zstd") {
        zstd(body, bytes_max)
    } else {
        None
    }
}

fn zstd(body: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let mut rest = body;
    let decoder =
        StreamingDecoder::new_with_max_window_size(&mut rest, ZSTD_WINDOW_BYTES_MAX).ok()?;
    if decoder.decoder.content_size() > bytes_max as u64 {
        return None;
    }
    bounded(decoder, bytes_max)
}

fn bounded(from: impl Read, bytes_max: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    from.take(bytes_max as u64 + 1).read_to_end(&mut out).ok()?;
    (out.len() <= bytes_max).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use std::io::Write;

    #[track_caller]
    fn check(codings: &str, body: &[u8], expected: Option<&[u8]>) {
        assert_eq!(inflate(codings.as_bytes(), body, 1_000).as_deref(), expected, "{codings}");
    }

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn codings_are_undone() {
        let text = b"hello hello hello";
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(text).unwrap();
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
        raw.write_all(text).unwrap();
        check("gzip", &gzip(text), Some(text));
        check("X-GZIP", &[gzip(b"hello "), gzip(b"hello hello")].concat(), Some(text));
        check("deflate", &zlib.finish().unwrap(), Some(text));
        check("deflate", &raw.finish().unwrap(), Some(text));
        check("identity, gzip , gzip", &gzip(&gzip(text)), Some(text));
        // Made with the reference tools: brotli -c, zstd -c.
        check("br", b"\x0f\x02\x80\x68\x65\x6c\x6c\x6f\x03", Some(b"hello"));
        let zstd = b"\x28\xb5\x2f\xfd\x04\x58\x65\x00\x00\x30\x68\x65\x6c\x6c\x6f\x20\x01\x00\x31\x4a\x11\xa2\xed\x1e\x0c";
        check("zstd", zstd, Some(text));
    }

    #[test]
    fn what_is_not_of_its_coding_stays() {
        for coding in ["gzip", "deflate", "br", "zstd", "secret", "gzip,gzip,gzip,gzip", ""] {
            check(coding, b"plain text", None);
        }
        check("gzip", &gzip(&[0; 1_000]), Some(&[0; 1_000]));
        check("gzip", &gzip(&[0; 1_001]), None);
        check("gzip", gzip(b"hello").get(..12).unwrap(), None);
    }
}

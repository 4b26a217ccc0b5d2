//! Lines after a chunked body: which of them may be believed.
//!
//! A trailer comes when head and body were acted on already, and many programs merge it into the
//! head. So whatever frames, routes, authenticates or describes a message is not taken from a
//! trailer (RFC 9110, section 6.5.1), nor is a name that differs from such a one by `_` for `-`.

use super::head::{Fields, is_token};

/// Names that may not come behind a body, in small letters, sorted.
const FORBIDDEN: &[&str] = &[
    "age",
    "authentication-info",
    "authorization",
    "cache-control",
    "connection",
    "content-disposition",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy",
    "range",
    "retry-after",
    "set-cookie",
    "strict-transport-security",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-real-ip",
];
/// What forbidden names begin with, in small letters.
const FORBIDDEN_STARTS: &[&str] = &["if-", "proxy-", "sec-", "x-forwarded-"];
/// Longest forbidden name or beginning, in bytes: longer names are looked at this far.
const LOOK_BYTES: usize = 32;

/// Whether a line of this name may come behind a body.
#[must_use]
pub fn may_trail(name: &[u8]) -> bool {
    let mut room = [0; LOOK_BYTES];
    let look = name.len().min(LOOK_BYTES);
    for (small, byte) in room.iter_mut().zip(name) {
        *small = if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    }
    let small = room.get(..look).unwrap_or_default();
    let starts = |start: &&str| small.starts_with(start.as_bytes());
    let whole = name.len() <= LOOK_BYTES;
    let named = whole && FORBIDDEN.binary_search_by(|other| other.as_bytes().cmp(small)).is_ok();
    is_token(name) && !named && !FORBIDDEN_STARTS.iter().any(starts)
}

/// Reads the lines of a block, which end with `\n`; those that may not trail are left out.
pub(super) fn read(block: &[u8]) -> Fields {
    let mut fields = Fields::new();
    for line in block.split(|&byte| byte == b'\n') {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if may_trail(name)
            && let Ok(name) = std::str::from_utf8(name)
        {
            fields.add(name, value);
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_within_the_look() {
        assert!(FORBIDDEN.is_sorted());
        assert!(FORBIDDEN.iter().chain(FORBIDDEN_STARTS).all(|name| name.len() <= LOOK_BYTES));
    }

    #[test]
    fn what_frames_routes_or_authenticates_does_not_trail() {
        for (name, may) in [
            ("X-Checksum", true),
            ("grpc-status", true),
            ("Server-Timing", true),
            ("Content-MD5", true),
            ("Transfer-Encoding", false),
            ("content_length", false),
            ("HOST", false),
            ("Authorization", false),
            ("Set-Cookie", false),
            ("If-Match", false),
            ("Proxy-Authorization", false),
            ("X-Forwarded-For", false),
            ("x_forwarded_for", false),
            ("X-Real-IP", false),
            ("a b", false),
            ("", false),
        ] {
            assert_eq!(may_trail(name.as_bytes()), may, "{name}");
        }
        assert!(may_trail(&[b'a'; 5_000]));
        assert!(!may_trail(&[&b"x-forwarded-"[..], &[b'a'; 5_000]].concat()));
    }

    #[test]
    fn a_block_is_read_line_by_line() {
        let fields = read(b"X-Sum:  abc \nHost: evil\nno colon\nX-Two: 1\nX-Two: 2\n");
        let lines: Vec<_> = fields.iter().collect();
        let expected: [(&[u8], &[u8]); 3] =
            [(b"X-Sum", b"abc"), (b"X-Two", b"1"), (b"X-Two", b"2")];
        assert_eq!(lines, expected);
    }
}

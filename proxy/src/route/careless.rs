//! How the most careless reader behind the gateway might resolve a path.
//!
//! Such a reader decodes again what was decoded, takes a backslash or a wide slash for a slash, and
//! drops `;parameters`. A path on which it would see dot segments that the normal form does not
//! have is refused: that is an attack and nothing else. Other differences (`%2F` inside a name) are
//! ordinary; the router asks for this reading to see whether it would reach a guarded route.

use super::normal::{PathFault, escape};

/// How often escapes are decoded before the reading is called ambiguous.
const ROUNDS_MAX: usize = 3;

/// Writes the careless reading of `path`, which is in normal form, into `out`.
///
/// # Errors
/// `Ambiguous` when that reading has `.` or `..` segments, or escapes upon escapes.
pub(crate) fn read(path: &[u8], out: &mut Vec<u8>) -> Result<(), PathFault> {
    out.clear();
    out.extend_from_slice(path);
    let mut rounds = 0;
    while unescape(out) {
        rounds += 1;
        if rounds > ROUNDS_MAX {
            return Err(PathFault::Ambiguous);
        }
    }
    narrow(out);
    resolve(out)
}

/// Decodes every escape once, in place; tells whether there was one.
fn unescape(text: &mut Vec<u8>) -> bool {
    let Some(first) = memchr::memchr(b'%', text) else { return false };
    let (mut written, mut at, mut changed) = (first, first, false);
    while let Some(&byte) = text.get(at) {
        let decoded = match byte {
            b'%' => text.get(at + 1..).and_then(escape).map(|(decoded, _)| decoded),
            _ => None,
        };
        changed |= decoded.is_some();
        at += if decoded.is_some() { 3 } else { 1 };
        if let Some(slot) = text.get_mut(written) {
            *slot = decoded.unwrap_or(byte);
        }
        written += 1;
    }
    text.truncate(written);
    changed
}

/// Replaces backslashes, and the full-width forms of slash, backslash and dot, in place.
fn narrow(text: &mut Vec<u8>) {
    let (mut written, mut at) = (0, 0);
    while let Some(&byte) = text.get(at) {
        let wide = match text.get(at..at + 3) {
            Some([0xef, 0xbc, 0x8f] | [0xef, 0xbc, 0xbc]) => Some(b'/'),
            Some([0xef, 0xbc, 0x8e]) => Some(b'.'),
            _ => None,
        };
        at += if wide.is_some() { 3 } else { 1 };
        if let Some(slot) = text.get_mut(written) {
            *slot = wide.unwrap_or(if byte == b'\\' { b'/' } else { byte });
        }
        written += 1;
    }
    text.truncate(written);
}

/// Drops parameters and empty segments, in place; refuses dot segments.
fn resolve(text: &mut Vec<u8>) -> Result<(), PathFault> {
    let (mut written, mut at) = (0, 0);
    while at < text.len() {
        let rest = text.get(at + 1..).unwrap_or_default();
        let len = memchr::memchr(b'/', rest).unwrap_or(rest.len());
        let segment = rest.get(..len).unwrap_or_default();
        let name = memchr::memchr(b';', segment).unwrap_or(len);
        if matches!(segment.get(..name), Some(b"." | b"..")) {
            return Err(PathFault::Ambiguous);
        }
        let last = at + 1 + len == text.len();
        if name > 0 || last {
            text.copy_within(at..at + 1 + name, written);
            written += 1 + name;
        }
        at += 1 + len;
    }
    text.truncate(written);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Option<&str>) {
        let mut out = Vec::new();
        let found = read(path.as_bytes(), &mut out).ok().map(|()| out);
        assert_eq!(found, expected.map(|text| text.as_bytes().to_vec()), "path {path}");
    }

    #[test]
    fn separators_in_disguise_are_seen() {
        check("/a%2Fb", Some("/a/b"));
        check("/a\\b", Some("/a/b"));
        check("/%2Fprivate", Some("/private"));
        check("/%252fprivate", Some("/private"));
        check("/;/private", Some("/private"));
        check("/／private", Some("/private"));
        check("/private;a=b/x", Some("/private/x"));
        check("/fetch/http:%2F%2Fa.com/", Some("/fetch/http:/a.com/"));
        check("/100%", Some("/100%"));
    }

    #[test]
    fn dot_segments_in_disguise_are_refused() {
        for path in [
            "/x%2F..%2Fprivate",
            "/x\\..\\private",
            "/x/%252e%252e/private",
            "/.;/private",
            "/private/..;/x",
            "/x/．．/y",
            "/%25252525252e",
            "/a%2F.",
        ] {
            check(path, None);
        }
    }
}

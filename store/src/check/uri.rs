//! Paths in their one normal form, escapes, and URLs taken apart.
//!
//! Source: Kong `kong/tools/uri.lua` (`normalize`); LuaSocket `url.lua` (`parse`).

use std::borrow::Cow;

/// The parts of a URL; what is absent is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Before `:`.
    pub scheme: Option<String>,
    /// Behind `//`, without user and port.
    pub host: Option<String>,
    /// Behind the host.
    pub port: Option<String>,
    /// What is left, without fragment, query and parameters.
    pub path: Option<String>,
}

/// Takes a URL apart as LuaSocket does: nothing is a fault.
pub fn split(url: &str) -> Parts {
    let mut parts = Parts::default();
    let mut rest = url.split('#').next().unwrap_or_default();
    if let Some((scheme, behind)) = rest.split_once(':')
        && is_scheme(scheme)
    {
        parts.scheme = Some(scheme.to_owned());
        rest = behind;
    }
    if let Some(behind) = rest.strip_prefix("//") {
        let end = behind.find('/').unwrap_or(behind.len());
        let (authority, path) = behind.split_at(end);
        split_authority(authority, &mut parts);
        rest = path;
    }
    rest = rest.split('?').next().unwrap_or_default();
    rest = rest.split(';').next().unwrap_or_default();
    if !rest.is_empty() {
        parts.path = Some(rest.to_owned());
    }
    parts
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

fn split_authority(authority: &str, parts: &mut Parts) {
    let host = authority.split_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = match host.rsplit_once(':') {
        Some((before, port)) if !port.contains(']') => (before, Some(port)),
        _ => (host, None),
    };
    parts.port = port.filter(|port| !port.is_empty()).map(str::to_owned);
    if !host.is_empty() {
        parts.host = Some(host.trim_start_matches('[').trim_end_matches(']').to_owned());
    }
}

/// The first `%` that no two hexadecimal digits follow, with the two characters behind it.
pub fn broken_escape(path: &str) -> Option<String> {
    let bytes = path.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'%' {
            at += 1;
            continue;
        }
        let behind = bytes.get(at + 1..at + 3);
        if !behind.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            let end = bytes.len().min(at + 3);
            return Some(String::from_utf8_lossy(&bytes[at..end]).into_owned());
        }
        at += 3;
    }
    None
}

/// The normal form of a path: escapes of all but reserved characters are decoded, slashes merged,
/// dot segments removed. Most paths have it already, and are borrowed.
pub fn normalize(path: &str) -> Cow<'_, str> {
    if is_plain(path) {
        return path.into();
    }
    let decoded = decode(path);
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut rest: &[u8] = &decoded;
    while !rest.is_empty() {
        match rest {
            b"/." => rest = b"/",
            b"/.." => {
                segments.pop();
                rest = b"/";
            }
            b"." | b".." => rest = b"",
            [b'.', b'.', b'/', ..] => rest = &rest[3..],
            [b'.', b'/', ..] | [b'/', b'.', b'/', ..] => rest = &rest[2..],
            [b'/', b'.', b'.', b'/', ..] => {
                segments.pop();
                rest = &rest[3..];
            }
            [b'/', b'/', ..] => rest = &rest[1..],
            _ => {
                let behind = rest.iter().skip(1).position(|byte| *byte == b'/');
                let (segment, more) = rest.split_at(behind.map_or(rest.len(), |at| at + 1));
                segments.push(segment);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&segments.concat()).into_owned().into()
}

/// Whether a path has nothing that its normal form could change, as nearly all.
fn is_plain(path: &str) -> bool {
    let mut before = 0;
    let plain = path.bytes().all(|byte| {
        let slashed = std::mem::replace(&mut before, byte) == b'/';
        byte != b'%' && !(slashed && matches!(byte, b'/' | b'.'))
    });
    plain && path.starts_with('/')
}

fn decode(path: &str) -> Vec<u8> {
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let two = path.get(at + 1..at + 3).filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()));
        let digits = two.and_then(|two| u8::from_str_radix(two, 16).ok());
        match (bytes[at], digits) {
            (b'%', Some(byte)) if b"!*'();:@&=+$,/?%#[]".contains(&byte) => {
                out.extend(bytes[at..at + 3].to_ascii_uppercase());
                at += 3;
            }
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{normalize, split};

    /// Source: `contract/vectors.md`, section 2.
    #[test]
    fn paths_have_one_form() {
        #[track_caller]
        fn check(path: &str, expected: &str) {
            assert_eq!(normalize(path), expected, "{path}");
            assert_eq!(normalize(expected), expected, "{path}, twice");
        }
        check("/a//b", "/a/b");
        check("/a/./b", "/a/b");
        check("/a/../b", "/b");
        check("/../a", "/a");
        check("/%41%2f%2F%7e", "/A%2F%2F~");
        check("/a%2eb", "/a.b");
        check("/%2e%2e/a", "/a");
        check("/a/b/..", "/a/");
        check("/a/.", "/a/");
        check("/%e4%bd%a0", "/你");
        check("/a%20b", "/a b");
        check("/a/%3F", "/a/%3F");
        check("//a///", "/a/");
        check("/", "/");
        check("/é%", "/é%");
        check("a//b", "a/b");
        check("/.a/b.c", "/.a/b.c");
    }

    #[test]
    fn urls_are_taken_apart() {
        #[track_caller]
        fn check(url: &str, scheme: &str, host: &str, port: &str, path: &str) {
            let parts = split(url);
            let found =
                [parts.scheme, parts.host, parts.port, parts.path].map(Option::unwrap_or_default);
            assert_eq!(found, [scheme, host, port, path].map(str::to_owned), "{url}");
        }
        check("https://h.example:8443/p/q?x=1#f", "https", "h.example", "8443", "/p/q");
        check("http://h", "http", "h", "", "");
        check("h.example", "", "", "", "h.example");
        check("h.example:80", "h.example", "", "", "80");
        check("http://user:pw@h:1", "http", "h", "1", "");
        check("http://[::1]:8000/x", "http", "::1", "8000", "/x");
        check("//h/x", "", "h", "", "/x");
    }
}

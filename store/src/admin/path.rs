//! The segments of a path.

use percent_encoding::percent_decode_str;

/// More segments than any endpoint has.
const SEGMENTS_MAX: usize = 8;

/// The decoded segments of a path, `None` if no endpoint can have such a path. `/x/` is `/x`.
///
/// Segments are split before they are decoded, so `%2F` is part of a name; `+` is a space, as
/// nginx reads it.
pub(super) fn segments(path: &str) -> Option<Vec<String>> {
    let inner = path.strip_prefix('/')?;
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    if inner.is_empty() {
        return Some(Vec::new());
    }
    let mut found = Vec::with_capacity(4);
    for segment in inner.split('/') {
        if segment.is_empty() || found.len() == SEGMENTS_MAX {
            return None;
        }
        let spaced = segment.replace('+', " ");
        found.push(percent_decode_str(&spaced).decode_utf8().ok()?.into_owned());
    }
    Some(found)
}

/// Whether every `%` begins an escape, and none is of a zero byte: nginx refuses the others before
/// Kong sees them.
pub(super) fn is_well_escaped(path: &str) -> bool {
    let hex = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let mut rest = path.as_bytes();
    while let Some(begin) = rest.iter().position(|&byte| byte == b'%') {
        rest = rest.get(begin + 1..).unwrap_or_default();
        if !(hex(rest.first()) && hex(rest.get(1))) || rest.starts_with(b"00") {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(path: &str, expected: Option<&[&str]>) {
        let expected = expected.map(|all| all.iter().map(|&one| one.to_owned()).collect());
        assert_eq!(segments(path), expected, "{path}");
    }

    #[test]
    fn paths_are_split_and_decoded() {
        check("/", Some(&[]));
        check("", None);
        check("services", None);
        check("/services", Some(&["services"]));
        check("/services/", Some(&["services"]));
        check("//services", None);
        check("/services//x", None);
        check("/services/a%2Fb%20c", Some(&["services", "a/b c"]));
        check("/consumers/J%C3%BCrgen%20%E6%9D%B1", Some(&["consumers", "Jürgen 東"]));
        check("/consumers/a+b", Some(&["consumers", "a b"]));
        check("/consumers/a%2Bb", Some(&["consumers", "a+b"]));
        check("/services/%ff", None);
        check("/a/b/c/d/e/f/g/h/i", None);
    }

    #[test]
    fn a_percent_sign_must_begin_an_escape() {
        for path in ["/", "/a%20b", "/%C3%BC", "/100%25"] {
            assert!(is_well_escaped(path), "{path}");
        }
        for path in ["/%", "/a%2", "/%zz", "/%20%g0", "/a%00b"] {
            assert!(!is_well_escaped(path), "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_path_panics(path: String) {
            let _ = is_well_escaped(&path);
            let _ = segments(&path);
        }
    }
}

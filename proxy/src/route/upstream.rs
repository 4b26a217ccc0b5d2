//! The path that the upstream is asked for: the service's path joined to the request's.
//!
//! `path_handling` v1 exists in the traditional flavour of the router only; in the others a route
//! that says v1 is treated as v0, as recorded.
//!
//! Source: Kong `kong/router/utils.lua` (`get_upstream_uri_v0`, `sanitize_uri_postfix`),
//! `kong/router/atc.lua` (`set_upstream_uri`), `kong/tools/uri.lua` (`escape`).

use super::careless;
use super::normal::PathFault;

/// What goes into the path for the upstream.
#[derive(Debug, Clone, Copy)]
pub struct Joined<'a> {
    /// The service's `path`; none is `/`.
    pub base: Option<&'a [u8]>,
    /// The request's path in normal form.
    pub path: &'a [u8],
    /// The route's `strip_path`.
    pub strip: bool,
    /// How many bytes of the path the route matched; `None` where the route has no paths.
    pub matched_len: Option<usize>,
    /// The query as received, without its `?`.
    pub query: Option<&'a [u8]>,
    /// The old way (`path_handling` v1): the service's path, then what is left, as they are.
    pub v1: bool,
}

/// Appends path and query for the upstream to `out`, escaped where a byte is not safe in a head.
///
/// # Errors
/// `Ambiguous` when stripping leaves a path that begins with a dot segment in disguise
/// (`/route..%2Fx`); `out` may then hold a part.
pub fn write(joined: &Joined<'_>, out: &mut Vec<u8>) -> Result<(), PathFault> {
    let base = joined.base.filter(|base| !base.is_empty()).unwrap_or(b"/");
    let trimmed = base.strip_suffix(b"/");
    let path = joined.path;
    if joined.v1 {
        // Without stripping, the request's path but for its first slash.
        let from = joined.matched_len.filter(|_| joined.strip).unwrap_or(1);
        let rest = path.get(from..).unwrap_or_default();
        let rest = if joined.strip { sanitise(rest)? } else { rest };
        let double = joined.strip && rest.first() == Some(&b'/');
        escape(trimmed.filter(|_| double).unwrap_or(base), out);
        escape(rest, out);
    } else if joined.strip {
        let postfix = sanitise(path.get(joined.matched_len.unwrap_or(1)..).unwrap_or_default())?;
        let closed = path.ends_with(b"/");
        match (trimmed, postfix.first()) {
            (Some(b""), None) => out.push(b'/'),
            (Some(_), None) if closed => escape(base, out),
            (Some(trimmed), None) => escape(trimmed, out),
            (Some(trimmed), Some(b'/')) => escape(trimmed, out),
            (Some(_), Some(_)) => escape(base, out),
            (None, None) => {
                escape(base, out);
                if closed && path.len() > 1 {
                    out.push(b'/');
                }
            }
            (None, Some(b'/')) => escape(base, out),
            (None, Some(_)) => {
                escape(base, out);
                out.push(b'/');
            }
        }
        escape(postfix, out);
    } else {
        escape(trimmed.unwrap_or(base), out);
        if trimmed.is_some() || path != b"/" {
            escape(path, out);
        }
    }
    if let Some(query) = joined.query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    Ok(())
}

/// What stripping left over, without a dot segment at its start.
fn sanitise(postfix: &[u8]) -> Result<&[u8], PathFault> {
    let rest = match postfix {
        b"." | b".." => b"",
        [b'.', b'/', rest @ ..] | [b'.', b'.', b'/', rest @ ..] => rest,
        _ => postfix,
    };
    if matches!(rest.first(), Some(b'.' | b'%' | 0xef)) {
        careless::read(&[b"/", rest].concat(), &mut Vec::new())?;
    }
    Ok(rest)
}

/// Appends `text`; bytes that are not safe in a request line become escapes.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    const DIGITS: [u8; 16] = *b"0123456789ABCDEF";
    if text.iter().copied().all(is_safe) {
        out.extend_from_slice(text);
        return;
    }
    for &byte in text {
        if is_safe(byte) {
            out.push(byte);
        } else {
            let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
            out.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

const fn is_safe(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#' | b'$' | b'&'..=b'/' | b':' | b';' | b'=' | b'?' | b'@')
        || matches!(byte, b'[' | b']' | b'_' | b'~' | b'%')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn joined(base: &str, strip: bool, matched_len: Option<usize>, path: &str) -> Option<String> {
        let joined = Joined {
            base: Some(base.as_bytes()),
            path: path.as_bytes(),
            strip,
            matched_len,
            query: None,
            v1: false,
        };
        let mut out = Vec::new();
        write(&joined, &mut out).ok()?;
        Some(String::from_utf8(out).unwrap())
    }

    /// One row of Kong's table for v0, with both values of `strip_path` where it has both.
    #[track_caller]
    fn check(base: &str, route: Option<&str>, strips: &[bool], path: &str, expected: &str) {
        for &strip in strips {
            let found = joined(base, strip, route.map(str::len), path);
            assert_eq!(found.as_deref(), Some(expected), "{base} {route:?} {strip} {path}");
        }
    }

    const BOTH: &[bool] = &[false, true];
    const KEEP: &[bool] = &[false];
    const STRIP: &[bool] = &[true];

    #[test]
    fn the_table_of_kong_for_paths() {
        for path in ["/", "/route", "/route/", "/routereq", "/route/req"] {
            check("/", Some("/"), BOTH, path, path);
        }
        for path in ["/route", "/route/", "/routereq"] {
            check("/", Some("/route"), KEEP, path, path);
        }
        check("/", Some("/route"), STRIP, "/route", "/");
        check("/", Some("/route"), STRIP, "/route/", "/");
        check("/", Some("/route"), STRIP, "/routereq", "/req");
        check("/", Some("/route/"), KEEP, "/route/", "/route/");
        check("/", Some("/route/"), KEEP, "/route/req", "/route/req");
        check("/", Some("/route/"), STRIP, "/route/", "/");
        check("/", Some("/route/"), STRIP, "/route/req", "/req");
        check("/srv", Some("/rou"), KEEP, "/roureq", "/srv/roureq");
        check("/srv", Some("/rou"), STRIP, "/roureq", "/srv/req");
        check("/srv/", Some("/rou"), KEEP, "/rou", "/srv/rou");
        check("/srv/", Some("/rou"), STRIP, "/rou", "/srv");
        check("/service", Some("/"), BOTH, "/", "/service");
        for path in ["/route", "/route/", "/routereq", "/route/req"] {
            check("/service", Some("/"), BOTH, path, &format!("/service{path}"));
        }
        for path in ["/route", "/route/", "/routereq"] {
            check("/service", Some("/route"), KEEP, path, &format!("/service{path}"));
        }
        check("/service", Some("/route"), STRIP, "/route", "/service");
        check("/service", Some("/route"), STRIP, "/route/", "/service/");
        check("/service", Some("/route"), STRIP, "/routereq", "/service/req");
        check("/service", Some("/route/"), KEEP, "/route/", "/service/route/");
        check("/service", Some("/route/"), KEEP, "/route/req", "/service/route/req");
        check("/service", Some("/route/"), STRIP, "/route/", "/service/");
        check("/service", Some("/route/"), STRIP, "/route/req", "/service/req");
    }

    #[test]
    fn the_table_of_kong_for_bases_that_end_in_a_slash() {
        check("/service/", Some("/"), BOTH, "/", "/service/");
        for path in ["/route/", "/route", "/routereq", "/route/req"] {
            check("/service/", Some("/"), BOTH, path, &format!("/service{path}"));
        }
        for path in ["/route", "/route/", "/routereq"] {
            check("/service/", Some("/route"), KEEP, path, &format!("/service{path}"));
        }
        check("/service/", Some("/route"), STRIP, "/route", "/service");
        check("/service/", Some("/route"), STRIP, "/route/", "/service/");
        check("/service/", Some("/route"), STRIP, "/routereq", "/service/req");
        check("/service/", Some("/route/"), KEEP, "/route/", "/service/route/");
        check("/service/", Some("/route/"), KEEP, "/route/req", "/service/route/req");
        check("/service/", Some("/route/"), STRIP, "/route/", "/service/");
        check("/service/", Some("/route/"), STRIP, "/route/req", "/service/req");
    }

    #[test]
    fn the_table_of_kong_without_a_path_match() {
        for path in ["/", "/route", "/route/"] {
            check("/", None, BOTH, path, path);
            check("/service/", None, BOTH, path, &format!("/service{path}"));
        }
        check("/service", None, BOTH, "/", "/service");
        check("/service", None, BOTH, "/route", "/service/route");
        check("/service", None, BOTH, "/route/", "/service/route/");
    }

    #[test]
    fn dots_at_the_seam() {
        for dots in [".", ".."] {
            let path = format!("/route{dots}/req");
            check("/service", Some("/route"), STRIP, &path, "/service/req");
            check("/service/", Some("/route"), STRIP, &path, "/service/req");
            let kept = format!("/service{path}");
            check("/service", Some("/route"), KEEP, &path, &kept);
            check("/service/", Some("/route"), KEEP, &path, &kept);
        }
        check("/service", Some("/route"), STRIP, "/route..", "/service");
        check("/service", Some("/route"), STRIP, "/route.a", "/service/.a");
        for path in ["/route..%2Fx", "/route..;/x", "/route%252e%252e/x", "/route.;x"] {
            assert_eq!(joined("/service", true, Some(6), path), None, "{path}");
        }
    }

    #[test]
    fn unsafe_bytes_are_escaped() {
        check("/", None, KEEP, "/a b", "/a%20b");
        check("/", None, KEEP, "/a%20b", "/a%20b");
        check("/", None, KEEP, "/a\"<>", "/a%22%3C%3E");
        check("/", None, KEEP, "/你", "/%E4%BD%A0");
        check("/", None, KEEP, "/a|b^`{}\\", "/a%7Cb%5E%60%7B%7D%5C");
        check("/", None, KEEP, "/\n", "/%0A");
        check("/", None, KEEP, "/!#$&'()*+,-./:;=?@[]_~%", "/!#$&'()*+,-./:;=?@[]_~%");
    }

    #[test]
    fn the_old_way_joins_what_is_left_as_it_is() {
        for (base, path, strip, matched_len, expected) in [
            ("/", "/route/x", true, Some(6), "/x"),
            ("/", "/routex", true, Some(6), "/x"),
            ("/service", "/route", true, Some(6), "/service"),
            ("/service", "/routereq", true, Some(6), "/servicereq"),
            ("/service", "/route/", true, Some(6), "/service/"),
            ("/service/", "/route/x", true, Some(6), "/service/x"),
            ("/service/", "/route", true, Some(6), "/service/"),
            ("/service", "/route/x", false, Some(6), "/serviceroute/x"),
            ("/service/", "/route", false, Some(6), "/service/route"),
            ("/service", "/", false, None, "/service"),
            ("/service/", "/route", true, None, "/service/route"),
        ] {
            let (base, path) = (Some(base.as_bytes()), path.as_bytes());
            let joined = Joined { base, path, strip, matched_len, query: None, v1: true };
            let mut out = Vec::new();
            write(&joined, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{joined:?}");
        }
    }

    #[test]
    fn the_query_is_kept_as_received() {
        let mut out = b"X".to_vec();
        let mut joined = Joined {
            base: None,
            path: b"/r",
            strip: true,
            matched_len: Some(2),
            query: Some(b""),
            v1: false,
        };
        write(&joined, &mut out).unwrap();
        joined.query = Some(b"x=%2F&y=a+b|");
        write(&joined, &mut out).unwrap();
        assert_eq!(out, b"X/?/?x=%2F&y=a+b|");
    }
}

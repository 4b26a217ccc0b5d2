//! Request targets and hosts: what they may look like.

use super::HeadFault;

/// Appends path and query of a received target, and its host to `host`.
///
/// An absolute form loses its scheme and host: Kong routes by the Host line, not by the target.
pub(super) fn push_received(
    out: &mut Vec<u8>,
    host: &mut Vec<u8>,
    target: &[u8],
) -> Result<(), HeadFault> {
    let path = match target.first() {
        Some(b'/') => target,
        _ => {
            let (own, path) = parts_of_absolute(target)?;
            host.extend_from_slice(own);
            path
        }
    };
    if path.first() != Some(&b'/') {
        out.push(b'/');
    }
    out.extend_from_slice(path);
    check_target(out)
}

/// The query of a target, without its question mark and without a fragment, which is nobody's
/// business, as in nginx; logs and events show the target with it. `None` without a question mark.
pub fn query_of(target: &[u8]) -> Option<&[u8]> {
    let query = target.get(memchr::memchr(b'?', target)? + 1..)?;
    query.get(..memchr::memchr(b'#', query).unwrap_or(query.len()))
}

/// Appends a target of our own; bytes that would break the line are percent-encoded.
pub(crate) fn push_target(out: &mut Vec<u8>, target: &[u8]) {
    if target.is_empty() {
        out.push(b'/');
    }
    for &byte in target {
        if byte <= b' ' || byte == 0x7f {
            super::fields::push_escape(out, byte);
        } else {
            out.push(byte);
        }
    }
}

/// The host of `http://host/path` and what follows it, which may be empty or start with `?` or `#`.
fn parts_of_absolute(target: &[u8]) -> Result<(&[u8], &[u8]), HeadFault> {
    let colon = memchr::memchr(b':', target).ok_or(HeadFault::TargetForm)?;
    let (scheme, rest) = target.split_at(colon);
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(HeadFault::TargetForm);
    }
    let rest = rest.strip_prefix(b"://").ok_or(HeadFault::TargetForm)?;
    let end = memchr::memchr3(b'/', b'?', b'#', rest).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    check_host(host).map_err(|_| HeadFault::TargetHost)?;
    Ok((host, path))
}

/// Checks the path of a target that starts with `/`: percent escapes, and `..` above the root,
/// after decoding and with `//` counted as one slash.
///
/// # Errors
/// `TargetForm`, `TargetEscape`, `TargetAboveRoot`.
///
/// Source: nginx `ngx_http_parse_complex_uri`.
pub fn check_target(target: &[u8]) -> Result<(), HeadFault> {
    if target.first() != Some(&b'/') {
        return Err(HeadFault::TargetForm);
    }
    let end = memchr::memchr2(b'?', b'#', target).unwrap_or(target.len());
    let path = target.get(..end).unwrap_or_default();
    let plain = memchr::memchr2(b'%', b'.', path).is_none();
    if plain { Ok(()) } else { walk(path) }
}

/// One part of a path between slashes, as far as it matters here.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Empty,
    Dot,
    DotDot,
    Name,
}

fn walk(path: &[u8]) -> Result<(), HeadFault> {
    let (mut depth, mut part) = (0_usize, Part::Empty);
    let mut rest = path;
    while let Some((byte, after)) = decoded(rest)? {
        rest = after;
        part = match (byte, part) {
            (b'/', ended) => {
                depth = leave(depth, ended)?;
                Part::Empty
            }
            (b'.', Part::Empty) => Part::Dot,
            (b'.', Part::Dot) => Part::DotDot,
            _ => Part::Name,
        };
    }
    leave(depth, part).map(|_| ())
}

/// The depth after a part has ended.
fn leave(depth: usize, part: Part) -> Result<usize, HeadFault> {
    match part {
        Part::Empty | Part::Dot => Ok(depth),
        Part::Name => Ok(depth + 1),
        Part::DotDot => depth.checked_sub(1).ok_or(HeadFault::TargetAboveRoot),
    }
}

/// The first byte of a path, decoded, and what follows it.
fn decoded(path: &[u8]) -> Result<Option<(u8, &[u8])>, HeadFault> {
    match path {
        [] => Ok(None),
        [b'%', high, low, rest @ ..] => match (digit(*high), digit(*low)) {
            (Some(0), Some(0)) | (None, _) | (_, None) => Err(HeadFault::TargetEscape),
            (Some(high), Some(low)) => Ok(Some((high << 4 | low, rest))),
        },
        [b'%', ..] => Err(HeadFault::TargetEscape),
        [byte, rest @ ..] => Ok(Some((*byte, rest))),
    }
}

fn digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

/// Checks a Host value: a name or address of RFC 3986's characters (and `_`), without an empty
/// label inside, and an optional port of digits.
///
/// # Errors
/// `HostBad`.
pub fn check_host(host: &[u8]) -> Result<(), HeadFault> {
    let (name, port) = match host {
        [b'[', ..] => {
            let end = memchr::memchr(b']', host).ok_or(HeadFault::HostBad)?;
            let (address, port) = host.split_at(end + 1);
            let inner = address.get(1..end).unwrap_or_default();
            if inner.is_empty() || !inner.iter().all(|&b| is_address(b)) {
                return Err(HeadFault::HostBad);
            }
            (address, port)
        }
        _ => {
            let end = memchr::memchr(b':', host).unwrap_or(host.len());
            let (name, port) = host.split_at(end);
            if !is_name(name) {
                return Err(HeadFault::HostBad);
            }
            (name, port)
        }
    };
    let port = match port {
        [] => port,
        [b':', digits @ ..] => digits,
        _ => return Err(HeadFault::HostBad),
    };
    if name.is_empty() || !port.iter().all(u8::is_ascii_digit) {
        return Err(HeadFault::HostBad);
    }
    Ok(())
}

/// Without an early end: hosts are short, and branches cost more than bytes.
fn is_name(name: &[u8]) -> bool {
    let (mut fits, mut before) = (true, 0);
    for &byte in name {
        // IN BOUNDS: a byte is below 256.
        fits &= NAME[byte as usize] & !((byte == b'.') & (before == b'.'));
        before = byte;
    }
    fits
}

/// Inside brackets: IPv6 and what may follow it there.
fn is_address(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')
}

/// Unreserved, `%` and the sub-delimiters of RFC 3986 without the comma, which joins lists.
static NAME: [bool; 256] = {
    let mut name = [false; 256];
    let mut rest: &[u8] =
        b"-._~%!$&'()*+;=0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    while let [byte, after @ ..] = rest {
        // IN BOUNDS: checked when compiled.
        name[*byte as usize] = true;
        rest = after;
    }
    name
};

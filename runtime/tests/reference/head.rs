//! Request heads, read slowly: cut into lines first, then each line by its rule. The rules are
//! those that `http::head` documents; the code shares nothing with it.

use runtime::http::head::Limits;

/// What a reader makes of the first bytes of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reading<T> {
    /// More bytes may make it whole.
    Partial,
    /// No more bytes can.
    Refused,
    /// So many bytes, and what they say.
    Whole(usize, T),
}

/// What a head says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) method: String,
    pub(crate) target: Vec<u8>,
    pub(crate) minor: u8,
    pub(crate) lines: Vec<(Vec<u8>, Vec<u8>)>,
    /// None where the framing is refused.
    pub(crate) framing: Option<Framed>,
}

/// How the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framed {
    Nothing,
    Length(u64),
    Chunked,
}

pub(crate) fn read(bytes: &[u8], limits: &Limits) -> Reading<Said> {
    let Some((first, lines, used)) = cut(bytes) else { return Reading::Partial };
    match said(&first, &lines, limits) {
        Some(said) if used <= limits.head_bytes_max => Reading::Whole(used, said),
        _ => Reading::Refused,
    }
}

/// The first line, the others, and how many bytes they took with the empty one behind them. Lines
/// end with LF; a CR before it belongs to the end. Empty lines before the first do not count.
fn cut(bytes: &[u8]) -> Option<(Vec<u8>, Vec<Vec<u8>>, usize)> {
    let (mut lines, mut used) = (Vec::new(), 0);
    loop {
        let length = bytes[used..].iter().position(|byte| *byte == b'\n')?;
        let line = &bytes[used..used + length];
        used += length + 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
        match (line.is_empty(), lines.is_empty()) {
            (true, true) => {}
            (true, false) => {
                let first = lines.remove(0);
                return Some((first, lines, used));
            }
            (false, _) => lines.push(line),
        }
    }
}

fn said(first: &[u8], lines: &[Vec<u8>], limits: &Limits) -> Option<Said> {
    let parts: Vec<&[u8]> = first.split(|byte| *byte == b' ').collect();
    let [method, target, version] = parts[..] else { return None };
    let minor = match version {
        b"HTTP/1.0" => 0,
        b"HTTP/1.1" => 1,
        _ => return None,
    };
    let method = method_of(method)?;
    if first.len() + 2 > limits.request_line_bytes_max || lines.len() > limits.headers_max {
        return None;
    }
    let target = target_of(target)?;
    let mut kept = Vec::new();
    for line in lines {
        let (name, value) = field(line, limits)?;
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !name.iter().all(plain) {
            continue;
        }
        let lower = name.to_ascii_lowercase();
        if lower == b"content_length" || lower == b"transfer_encoding" {
            return None;
        }
        kept.push((name, value));
    }
    let hosts = values(&kept, "host");
    match hosts[..] {
        [] if minor == 0 => {}
        [host] => host_is_good(host).then_some(())?,
        _ => return None,
    }
    let framing = framing(&kept, minor);
    Some(Said { method, target, minor, lines: kept, framing })
}

/// Upper-case letters, `-` and `_`; CONNECT and TRACE are not served.
fn method_of(method: &[u8]) -> Option<String> {
    let letters = |byte: &u8| matches!(byte, b'A'..=b'Z' | b'-' | b'_');
    let text = std::str::from_utf8(method).ok()?;
    let good = !text.is_empty() && method.iter().all(letters);
    (good && text != "CONNECT" && text != "TRACE").then(|| text.to_owned())
}

/// The path and query of a path, or of an absolute URI with a good host.
fn target_of(target: &[u8]) -> Option<Vec<u8>> {
    // HTTP/1's readers disagree on bytes above ASCII; ours passes them on where they are UTF-8.
    if target.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
        return None;
    }
    std::str::from_utf8(target).ok()?;
    if target.first() == Some(&b'/') {
        return path_is_good(target).then(|| target.to_vec());
    }
    let colon = target.iter().position(|byte| *byte == b':')?;
    let scheme = target[..colon].to_ascii_lowercase();
    if scheme != b"http" && scheme != b"https" {
        return None;
    }
    let rest = target[colon..].strip_prefix(b"://")?;
    let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    let slash: &[u8] = if path.first() == Some(&b'/') { b"" } else { b"/" };
    let path = [slash, path].concat();
    (host_is_good(host) && path_is_good(&path)).then_some(path)
}

/// Good escapes, and never above the root once they are decoded.
fn path_is_good(target: &[u8]) -> bool {
    let end = target.iter().position(|byte| b"?#".contains(byte)).unwrap_or(target.len());
    let mut plain = Vec::new();
    let mut rest = &target[..end];
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            plain.push(*byte);
            continue;
        }
        let digits = rest.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let is_hex = digits.is_some_and(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match digits.filter(|_| is_hex).map(|two| u8::from_str_radix(two, 16)) {
            Some(Ok(decoded)) if decoded != 0 => plain.push(decoded),
            _ => return false,
        }
        rest = &rest[2..];
    }
    let mut depth = 0_i64;
    for part in plain.split(|byte| *byte == b'/') {
        depth += match part {
            b"" | b"." => 0,
            b".." => -1,
            _ => 1,
        };
        if depth < 0 {
            return false;
        }
    }
    true
}

/// A name, or an address in brackets, and perhaps a port of digits.
fn host_is_good(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let (name, port) = match host.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(None) => return false,
        Some(Some((address, rest))) => {
            let fits = |byte: u8| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.';
            if address.is_empty() || !address.bytes().all(fits) {
                return false;
            }
            match rest.strip_prefix(':') {
                Some(port) => (address, port),
                None => return rest.is_empty(),
            }
        }
        None => host.split_once(':').unwrap_or((host, "")),
    };
    let mark = |byte: u8| b"-._~%!$&'()*+;=".contains(&byte);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || mark(byte) || byte == b':';
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    !name.is_empty() && !name.contains("..") && name.bytes().all(fits) && digits
}

/// A token, a colon right behind it, and a value without control bytes, its outer blanks cut.
fn field(line: &[u8], limits: &Limits) -> Option<(Vec<u8>, Vec<u8>)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let is_text = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    if name.is_empty() || !name.iter().all(is_token) || !value.iter().all(is_text) {
        return None;
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_blank(byte)).map_or(start, |at| at + 1);
    // Blanks at the end do not count.
    if colon + 1 + end + 2 > limits.header_line_bytes_max {
        return None;
    }
    Some((name.to_vec(), value[start..end].to_vec()))
}

fn values<'l>(lines: &'l [(Vec<u8>, Vec<u8>)], name: &str) -> Vec<&'l [u8]> {
    let named = |line: &&(Vec<u8>, Vec<u8>)| line.0.eq_ignore_ascii_case(name.as_bytes());
    lines.iter().filter(named).map(|line| line.1.as_slice()).collect()
}

/// One plain Content-Length, or `chunked` alone, or nothing.
fn framing(lines: &[(Vec<u8>, Vec<u8>)], minor: u8) -> Option<Framed> {
    let length = match values(lines, "content-length")[..] {
        [] => None,
        [value] => {
            let text = std::str::from_utf8(value).ok()?;
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse::<u64>().ok().filter(|number| *number <= i64::MAX as u64);
            Some(number.filter(|_| digits)?)
        }
        _ => return None,
    };
    match (values(lines, "transfer-encoding")[..].to_vec(), length) {
        (codings, Some(length)) if codings.is_empty() => Some(Framed::Length(length)),
        (codings, None) if codings.is_empty() => Some(Framed::Nothing),
        (codings, None) if codings.len() == 1 && minor == 1 => {
            codings[0].eq_ignore_ascii_case(b"chunked").then_some(Framed::Chunked)
        }
        _ => None,
    }
}

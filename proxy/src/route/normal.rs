//! The path of a request in the one form that the router and the upstream see.
//!
//! Percent-encoded bytes that mean themselves are decoded, reserved ones keep their escape (in
//! capitals), dot segments are resolved, empty segments vanish. What has no single reading is
//! refused: a bad escape, an encoded NUL, control bytes, a fragment, `..` above the root.
//!
//! Source: Kong `kong/tools/uri.lua` (`normalize` with merged slashes); the refusals are those of
//! nginx's request parser, as recorded (`/%zz`, `/../../e`: 400). Kong passes `#` on; nobody
//! should, because an upstream may cut there.

/// Why a request target is refused. Every one of them is the client's fault (400).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathFault {
    /// The target is no path that begins with `/` (`*`, `host:port`, `\x`).
    NotAPath,
    /// A raw space, control byte or `#`.
    ForbiddenByte,
    /// `%` without two hexadecimal digits behind it.
    BadEscape,
    /// `%00`.
    EncodedNul,
    /// More `..` than there are segments before them.
    AboveRoot,
    /// Another reader would resolve it to a place that this gateway guards differently.
    Ambiguous,
    /// Another reader could take it for another path, and the gateway is asked to be strict.
    SecondReading,
}

impl PathFault {
    /// The fault in words, for the log.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::NotAPath => "the target is no path",
            Self::ForbiddenByte => "the path has a space, a control byte or a fragment",
            Self::BadEscape => "the path has a bad percent escape",
            Self::EncodedNul => "the path has an encoded NUL",
            Self::AboveRoot => "the path leads above the root",
            Self::Ambiguous => "the path could be read as another route's",
            Self::SecondReading => "the path could be read in two ways (TOLLGATE_STRICT_PATHS)",
        }
    }
}

/// A path in its normal form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Normal<'a> {
    /// Begins with `/`; has no dot segments and no `//`.
    pub path: &'a [u8],
    /// A more careless reader might see other segments: an escape is left, or there is a
    /// backslash, a `;` or a byte beyond ASCII.
    pub wary: bool,
}

const PLAIN: u8 = 0;
const SLASH: u8 = 1;
const DOT: u8 = 2;
const PERCENT: u8 = 3;
const WARY: u8 = 4;
const FORBIDDEN: u8 = 5;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [PLAIN; 256];
    let mut byte = 0;
    while byte < 256 {
        // IN BOUNDS: byte < 256.
        table[byte] = match byte as u8 {
            b'/' => SLASH,
            b'.' => DOT,
            b'%' => PERCENT,
            b';' | b'\\' | 0x80.. => WARY,
            0..=b' ' | 0x7f | b'#' => FORBIDDEN,
            _ => PLAIN,
        };
        byte += 1;
    }
    table
}

fn class(byte: u8) -> u8 {
    // IN BOUNDS: the table has an entry for every byte.
    CLASSES[usize::from(byte)]
}

/// Bytes whose escape means something else than the byte itself.
const fn is_reserved(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'*'
            | b'\''
            | b'('
            | b')'
            | b';'
            | b':'
            | b'@'
            | b'&'
            | b'='
            | b'+'
            | b'$'
            | b','
            | b'/'
            | b'?'
            | b'%'
            | b'#'
            | b'['
            | b']'
    )
}

/// Brings `path` (without its query) into the normal form.
///
/// Borrows it when it already is in that form, as most are; otherwise writes into `scratch`, whose
/// capacity is kept from call to call.
///
/// # Errors
/// When the path has no single reading, see [`PathFault`].
pub fn normalise<'a>(path: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Normal<'a>, PathFault> {
    if path.first() != Some(&b'/') {
        return Err(PathFault::NotAPath);
    }
    let mut wary = false;
    let mut before = PLAIN;
    for &byte in path {
        let class = class(byte);
        match class {
            PERCENT => return rewrite(path, scratch),
            SLASH | DOT if before == SLASH => return rewrite(path, scratch),
            WARY => wary = true,
            FORBIDDEN => return Err(PathFault::ForbiddenByte),
            _ => {}
        }
        before = class;
    }
    Ok(Normal { path, wary })
}

fn rewrite<'a>(path: &[u8], scratch: &'a mut Vec<u8>) -> Result<Normal<'a>, PathFault> {
    let wary = decode(path, scratch)?;
    let len = resolve(scratch)?;
    scratch.truncate(len);
    Ok(Normal { path: scratch, wary })
}

/// Decodes into `out` what means itself; tells whether what is left needs a wary look.
fn decode(path: &[u8], out: &mut Vec<u8>) -> Result<bool, PathFault> {
    out.clear();
    let mut wary = false;
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            match class(byte) {
                FORBIDDEN => return Err(PathFault::ForbiddenByte),
                WARY => wary = true,
                _ => {}
            }
            out.push(byte);
            continue;
        }
        let (decoded, tail) = escape(rest).ok_or(PathFault::BadEscape)?;
        if decoded == 0 {
            return Err(PathFault::EncodedNul);
        }
        if is_reserved(decoded) {
            out.push(b'%');
            out.extend(rest.iter().take(2).map(u8::to_ascii_uppercase));
            wary = true;
        } else {
            out.push(decoded);
            wary |= class(decoded) == WARY;
        }
        rest = tail;
    }
    Ok(wary)
}

/// The byte that two hexadecimal digits at the start of `text` stand for, and what follows them.
pub(super) fn escape(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<2>()?;
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|n| u8::try_from(n).ok());
    let [high, low] = *digits;
    Some(((digit(high)? << 4) | digit(low)?, rest))
}

/// Resolves dot segments and merges slashes in place; gives the new length.
fn resolve(path: &mut [u8]) -> Result<usize, PathFault> {
    let mut written = 0;
    let mut at = 0;
    // Every turn consumes a slash and the segment behind it.
    while at < path.len() {
        let start = at + 1;
        let segment = path.get(start..).unwrap_or_default();
        let len = memchr::memchr(b'/', segment).unwrap_or(segment.len());
        let last = start + len == path.len();
        let segment = segment.get(..len).unwrap_or_default();
        let empty = match segment {
            b"" | b"." => true,
            b".." => {
                let kept = path.get(..written).unwrap_or_default();
                written = memchr::memrchr(b'/', kept).ok_or(PathFault::AboveRoot)?;
                true
            }
            _ => false,
        };
        if !empty {
            path.copy_within(at..start + len, written);
            written += 1 + len;
        } else if last {
            // What ended in a directory still does.
            path.copy_within(at..start, written);
            written += 1;
        }
        at = start + len;
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Result<&str, PathFault>) {
        let mut scratch = Vec::new();
        let found = normalise(path.as_bytes(), &mut scratch);
        let found = found.map(|normal| normal.path.to_vec());
        assert_eq!(found, expected.map(|text| text.as_bytes().to_vec()), "path {path}");
    }

    #[test]
    fn the_vectors_of_kong_hold() {
        check("/", Ok("/"));
        check("/a//b", Ok("/a/b"));
        check("/a/./b", Ok("/a/b"));
        check("/a/../b", Ok("/b"));
        check("/%41%2f%2F%7e", Ok("/A%2F%2F~"));
        check("/a%2eb", Ok("/a.b"));
        check("/a/b/..", Ok("/a/"));
        check("/a/.", Ok("/a/"));
        check("/%e4%bd%a0", Ok("/你"));
        check("/a%20b", Ok("/a b"));
        check("/a/%3F", Ok("/a/%3F"));
        check("//a///", Ok("/a/"));
    }

    #[test]
    fn dots_that_are_names_stay() {
        check("/.well-known/x", Ok("/.well-known/x"));
        check("/a/...", Ok("/a/..."));
        check("/a/..b/.c", Ok("/a/..b/.c"));
        check("/a./b../", Ok("/a./b../"));
    }

    #[test]
    fn dot_segments_resolve_whichever_way_they_are_written() {
        check("/x/%2e%2E/private", Ok("/private"));
        check("/x/.%2e/private", Ok("/private"));
        check("/%2e./a/..", Err(PathFault::AboveRoot));
        check("/a//../b", Ok("/b"));
        check("/a/..", Ok("/"));
        check("/a/b/../../", Ok("/"));
        check("/.", Ok("/"));
        check("/./", Ok("/"));
    }

    #[test]
    fn what_has_no_single_reading_is_refused() {
        check("", Err(PathFault::NotAPath));
        check("*", Err(PathFault::NotAPath));
        check("\\private", Err(PathFault::NotAPath));
        check("/../a", Err(PathFault::AboveRoot));
        check("/..", Err(PathFault::AboveRoot));
        check("/a/../..", Err(PathFault::AboveRoot));
        check("/%zz", Err(PathFault::BadEscape));
        check("/a%", Err(PathFault::BadEscape));
        check("/a%4", Err(PathFault::BadEscape));
        check("/%u002f", Err(PathFault::BadEscape));
        check("/%+1", Err(PathFault::BadEscape));
        check("/a%00", Err(PathFault::EncodedNul));
        check("/a b", Err(PathFault::ForbiddenByte));
        check("/%41\u{7}", Err(PathFault::ForbiddenByte));
        check("/a#b", Err(PathFault::ForbiddenByte));
    }

    #[test]
    fn a_normal_path_is_borrowed() {
        let mut scratch = Vec::new();
        let path = b"/api/v1/users/42.json";
        let found = normalise(path, &mut scratch).unwrap();
        assert_eq!(found.path.as_ptr(), path.as_ptr());
        assert!(!found.wary);
    }

    #[test]
    fn what_others_may_read_differently_is_marked() {
        let wary = |path: &str| normalise(path.as_bytes(), &mut Vec::new()).unwrap().wary;
        for path in ["/a;b", "/a\\b", "/a%5cb", "/a%2fb", "/a%252f", "/é", "/%c3%a9", "/a%3bb"] {
            assert!(wary(path), "{path}");
        }
        for path in ["/a", "/a%20b", "/a%41", "/a/../b", "/a=b,c:d"] {
            assert!(!wary(path), "{path}");
        }
    }

    /// Kong's `normalize(uri, true)`, line by line: consumes the text from its start and keeps a
    /// stack of segments. `None` where it would go above the root, which nginx refuses before.
    fn kong(path: &str) -> Option<Vec<u8>> {
        let mut decoded = Vec::new();
        let mut rest = path.as_bytes();
        while let Some((&byte, tail)) = rest.split_first() {
            rest = tail;
            match (byte == b'%').then(|| escape(tail)).flatten() {
                Some((byte, tail)) if !is_reserved(byte) => (decoded.push(byte), rest = tail).1,
                Some(_) => decoded.extend_from_slice(b"%"),
                None => decoded.push(byte),
            }
        }
        let mut uri = String::from_utf8(decoded).ok()?;
        let mut out: Vec<String> = Vec::new();
        while !uri.is_empty() {
            if uri == "/." {
                uri = "/".into();
            } else if uri == "/.." {
                uri = "/".into();
                out.pop()?;
            } else if uri.starts_with("/./") {
                uri = uri[2..].into();
            } else if uri.starts_with("/../") {
                uri = uri[3..].into();
                out.pop()?;
            } else if uri.starts_with("//") {
                uri = uri[1..].into();
            } else {
                let end = uri[1..].find('/').map_or(uri.len(), |at| at + 1);
                out.push(uri[..end].into());
                uri = uri[end..].into();
            }
        }
        // Kept escapes become capitals.
        let text = out.concat().replace("%2f", "%2F").replace("%3b", "%3B");
        Some(text.into_bytes())
    }

    #[test]
    fn random_paths_come_out_as_from_kong() {
        let mut random = 11_u64;
        let mut next = move |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(random >> 33).unwrap() % below
        };
        let parts = ["/", ".", "..", "a", "%2e", "%2f", "%25", "b.c", "//", "%3b", "%41", "%c3%a9"];
        for _ in 0..40_000 {
            let path: String = (0..next(9)).map(|_| parts[next(parts.len())]).collect();
            let path = format!("/{path}");
            let mut scratch = Vec::new();
            let found = normalise(path.as_bytes(), &mut scratch).map(|normal| normal.path.to_vec());
            assert_eq!(found.ok(), kong(&path), "path {path}");
        }
    }

    #[test]
    fn normalising_twice_changes_nothing() {
        let mut random = 7_u64;
        let mut next = move |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(random >> 33).unwrap() % below
        };
        let parts = ["/", ".", "..", "a", "%2e", "%2F", "%25", "b.c", "//", ";", "%41", "é"];
        for _ in 0..20_000 {
            let path: String = (0..next(9)).map(|_| parts[next(parts.len())]).collect();
            let path = format!("/{path}");
            let (mut one, mut two) = (Vec::new(), Vec::new());
            let Ok(once) = normalise(path.as_bytes(), &mut one) else { continue };
            let twice = normalise(once.path, &mut two).unwrap();
            assert_eq!(once.path, twice.path, "path {path}");
        }
    }
}

//! The line that carries a signature:
//! `hmac username="u", algorithm="a", headers="h1 h2", signature="s"`.
//!
//! Kong finds it with a pattern of greedy groups. The same is found here from the right: each group
//! reaches as far as the others leave room.

use memchr::{memchr2_iter, memrchr};

/// What stands in a line; no part is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent<'a> {
    /// Whose secret it is.
    pub(super) username: &'a [u8],
    /// How it is signed.
    pub(super) algorithm: &'a [u8],
    /// The signature in base64.
    pub(super) signature: &'a [u8],
    headers: &'a [u8],
}

impl<'a> Sent<'a> {
    /// The names of the headers that are signed, in order. Two spaces hold an empty name.
    pub(super) fn headers(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.headers.split(|byte| *byte == b' ')
    }
}

/// Reads a line.
pub(super) fn read(value: &[u8]) -> Option<Sent<'_>> {
    let rest = behind_name(value)?;
    let rest = rest.get(..memrchr(b'"', rest)?)?;
    let (rest, signature) = split_last(rest, b"signature=\"")?;
    let (rest, headers) = split_last(rest, b"headers=\"")?;
    let (username, algorithm) = split_last(rest, b"algorithm=\"")?;
    Some(Sent { username, algorithm, signature, headers })
}

/// What follows the first `hmac username="`, whose first letter may be a capital.
fn behind_name(value: &[u8]) -> Option<&[u8]> {
    let mut starts = memchr2_iter(b'h', b'H', value);
    starts.find_map(|at| {
        let rest = value.get(at + 1..)?.strip_prefix(b"mac")?;
        rest.trim_ascii_start().strip_prefix(b"username=\"")
    })
}

/// Splits at the last `", name="` that leaves something on both sides; `name` ends with its quote.
fn split_last<'a>(text: &'a [u8], name: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let mut end = text.len();
    loop {
        // Quotes are rare, and no searcher is made for them.
        end = memrchr(b'"', text.get(..end)?)?;
        let (named, behind) = text.split_at_checked(end + 1)?;
        let Some(before) = named.strip_suffix(name) else { continue };
        let before = before.trim_ascii_end().strip_suffix(b"\",").unwrap_or_default();
        if !behind.is_empty() && !before.is_empty() {
            return Some((before, behind));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memchr::memmem;

    #[track_caller]
    fn check(line: &str, expected: Option<[&str; 4]>) {
        let found = read(line.as_bytes())
            .map(|sent| [sent.username, sent.algorithm, sent.headers, sent.signature]);
        let found = found.map(|parts| parts.map(|part| std::str::from_utf8(part).unwrap()));
        assert_eq!(found, expected, "{line}");
    }

    #[test]
    fn a_line_is_taken_apart() {
        let parts = ["u", "hmac-sha256", "date host", "s="];
        let line =
            r#"hmac username="u", algorithm="hmac-sha256", headers="date host", signature="s=""#;
        check(line, Some(parts));
        check(&line.replace("hmac u", "Hmac u"), Some(parts));
        check(&line.replace(", ", ","), Some(parts));
        check(&format!("x {line} trailing"), Some(parts));
        check(&line.replace("hmac username", "HMAC username"), None);
        check(&line.replace("\"u\"", "\"\""), None);
        check(&line.replace("\"s=\"", "\"\""), None);
        check(&line.replace("headers", "header"), None);
        check("", None);
        check("hmac", None);
        check(r#"hmac username="u""#, None);
    }

    #[test]
    fn groups_are_greedy() {
        let twice = r#"hmac username="u", algorithm="x", headers="y", signature="z", algorithm="a", headers="h", signature="s""#;
        let username = r#"u", algorithm="x", headers="y", signature="z"#;
        check(twice, Some([username, "a", "h", "s"]));
        let quoted = r#"hmac username="u", algorithm="a", headers="h", signature="s", more="m""#;
        check(quoted, Some(["u", "a", "h", r#"s", more="m"#]));
    }

    #[test]
    fn whatever_is_sent_is_read_and_put_together_again() {
        let parts = [
            "hmac",
            " ",
            "username=\"",
            "\",",
            "algorithm=\"",
            "headers=\"",
            "x",
            "\"",
            "signature=\"",
        ];
        let mut random = 1_130_u64;
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) as usize
        };
        for _ in 0..5_000 {
            let line: String = (0..next() % 24).map(|_| parts[next() % parts.len()]).collect();
            if let Some(sent) = read(line.as_bytes()) {
                let parts = [sent.username, sent.algorithm, sent.headers, sent.signature];
                assert!(parts.iter().all(|part| !part.is_empty()), "seed 1130: {line}");
                assert!(parts.iter().all(|part| memmem::find(line.as_bytes(), part).is_some()));
            }
        }
    }
}

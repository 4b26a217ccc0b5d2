//! Paths that have one reading only, for gateways with `TOLLGATE_STRICT_PATHS=on`.
//!
//! By default a path with two readings is refused where the other one would reach a guarded route.
//! That cannot protect what only the upstream knows of (an access rule of its own, say). Here the
//! path is refused wherever it leads, as by the strict firewall of Spring Security, which people
//! who ask for this know: nothing that a second decoding, a Windows file system, a servlet
//! container or a reader of broken UTF-8 would take for another path.

use super::normal::{PathFault, escape};

/// Whether `path`, which is in normal form, has capital letters: for a reader to whom case is
/// nothing it has a second reading, which only the router can judge.
///
/// # Errors
/// `SecondReading`.
pub(super) fn check(path: &[u8]) -> Result<bool, PathFault> {
    let text = std::str::from_utf8(path).map_err(|_| PathFault::SecondReading)?;
    let mut capitals = false;
    let mut before = '/';
    let mut rest = text.chars();
    while let Some(letter) = rest.next() {
        let two_readings = match letter {
            // Windows drops dots and spaces from the end of a name.
            '/' => matches!(before, '.' | ' '),
            '%' => is_double(rest.as_str().as_bytes()),
            _ => is_second(letter),
        };
        if two_readings {
            return Err(PathFault::SecondReading);
        }
        capitals |= letter.is_ascii_uppercase();
        before = letter;
    }
    match before {
        '.' | ' ' => Err(PathFault::SecondReading),
        _ => Ok(capitals),
    }
}

/// Whether an escape, which the normal form has left, stands for a separator, or is one of which
/// another is made when it is decoded; `text` is what follows the percent sign.
fn is_double(text: &[u8]) -> bool {
    match escape(text) {
        Some((b'%', rest)) => escape(rest).is_some() || matches!(rest, [b'u' | b'U', ..]),
        Some((byte, _)) => byte == b'#' || byte == b'?' || is_second(char::from(byte)),
        None => true,
    }
}

/// Letters that separate or end something for some reader, or become a separator in another form
/// of Unicode or in a narrower character set.
fn is_second(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '/' | '\\' | ';')
        || matches!(letter, '\u{2024}'..='\u{2029}' | '\u{2044}' | '\u{2215}' | '\u{2216}')
        || matches!(letter, '\u{29f5}' | '\u{29f8}' | '\u{29f9}')
        || matches!(
            letter,
            '\u{fe52}' | '\u{fe54}' | '\u{fe56}' | '\u{fe5f}' | '\u{fe68}' | '\u{fe6a}'
        )
        || matches!(letter, '\u{ff03}' | '\u{ff05}' | '\u{ff0e}' | '\u{ff0f}')
        || matches!(letter, '\u{ff1b}' | '\u{ff1f}' | '\u{ff3c}')
}

#[cfg(test)]
mod tests {
    use super::super::normalise;
    use super::*;

    #[track_caller]
    fn check_all(paths: &[&str], expected: Result<bool, PathFault>) {
        for path in paths {
            let mut scratch = Vec::new();
            let normal = normalise(path.as_bytes(), &mut scratch).unwrap();
            assert_eq!(check(normal.path), expected, "path {path}");
        }
    }

    #[test]
    fn what_means_one_thing_passes() {
        check_all(
            &[
                "/",
                "/a/b.json",
                "/a/",
                "/~joe/.well-known/x",
                "/a%20b/c",
                "/100%25",
                "/100%25zz",
                "/x:batch,y=1&z",
                "/user%40host",
                "/(a)'b'*!",
                "/你好/é",
                "/%e4%bd%a0",
                "/a/../b",
                "/%70rivate",
            ],
            Ok(false),
        );
        check_all(&["/Users/1", "/%41", "/a%2Bb"], Ok(true));
    }

    #[test]
    fn what_another_reader_takes_for_something_else_is_refused() {
        check_all(
            &[
                "/a%2Fb",
                "/a%5cb",
                "/a\\b",
                "/a;b=c/d",
                "/a%3bb",
                "/a%3fb",
                "/a%23b",
                "/a%252fb",
                "/a%25u002fb",
                "/a%09",
                "/a%0a",
                "/a%7f",
                "/a.",
                "/a%20/b",
                "/a..",
                "/a%c0%af",
                "/a%80",
                "/a%ef%bc%8fb",
                "/a／b",
                "/a．．/b",
                "/a\u{2028}",
                "/a⁄b",
            ],
            Err(PathFault::SecondReading),
        );
    }
}

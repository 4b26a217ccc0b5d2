//! The segments of a path.

use percent_encoding::percent_decode_str;

/// More segments than any endpoint has.
const SEGMENTS_MAX: usize = 8;

/// The decoded segments of a path, `None` if no endpoint can have such a path. `/x/` is `/x`.
///
/// Segments are split before they are decoded, so `%2F` is part of a name.
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
        found.push(percent_decode_str(segment).decode_utf8().ok()?.into_owned());
    }
    Some(found)
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
        check("/services/%zz", Some(&["services", "%zz"]));
        check("/services/%ff", None);
        check("/a/b/c/d/e/f/g/h/i", None);
    }

    proptest! {
        #[test]
        fn no_path_panics(path: String) {
            let _ = segments(&path);
        }
    }
}

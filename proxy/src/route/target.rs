//! The request target: where its path ends and its query begins.

use runtime::http::head::query_of;

/// The parts of a request target in origin form, as they were received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// Everything up to the first `?`.
    pub path: &'a [u8],
    /// What follows the `?`, without a fragment; `Some` and empty for a bare `?`.
    pub query: Option<&'a [u8]>,
}

/// Takes a request target apart.
#[must_use]
pub fn split(target: &[u8]) -> Target<'_> {
    let end = memchr::memchr(b'?', target).unwrap_or(target.len());
    Target { path: target.get(..end).unwrap_or_default(), query: query_of(target) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(target: &str, path: &str, query: Option<&str>) {
        let expected = Target { path: path.as_bytes(), query: query.map(str::as_bytes) };
        assert_eq!(split(target.as_bytes()), expected, "target {target}");
    }

    #[test]
    fn the_first_question_mark_begins_the_query() {
        check("/", "/", None);
        check("/a/b?x=1?y", "/a/b", Some("x=1?y"));
        check("/a?", "/a", Some(""));
        check("/?/x", "/", Some("/x"));
        check("/a?x=1#f?g", "/a", Some("x=1"));
        check("/?#f", "/", Some(""));
    }
}

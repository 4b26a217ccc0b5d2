//! Regular expressions of routes: compiled in the office, searched on the road with a core's own
//! memory, so that no two cores ever wait for each other.
//!
//! Searched by bounded backtracking, which is linear in time: paths are short, so automata would
//! not earn back the 7 to 45 KiB each that they take (measured). Very long paths fall back to the
//! Pike machine. A core has one cache for all patterns.

use regex_automata::nfa::thompson::backtrack::{self, BoundedBacktracker};
use regex_automata::nfa::thompson::pikevm::{self, PikeVM};
use regex_automata::nfa::thompson::{Config, NFA};
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::{Input, PatternID};
use regex_syntax::hir::{Hir, HirKind, Look};
use std::ops::Range;

/// Largest automaton a pattern may compile to, in bytes. The default of Rust's `regex` crate, which
/// is what Kong's router engine uses.
const PATTERN_BYTES_MAX: usize = 10 << 20;

/// A compiled regular expression.
#[derive(Debug)]
pub struct Pattern {
    backtracker: BoundedBacktracker,
    pike: PikeVM,
}

impl Pattern {
    /// Compiles a path pattern, which counts from the start of the path.
    ///
    /// # Errors
    /// What is wrong with it, in one sentence. The syntax is that of Rust's `regex`: look-around
    /// and back-references do not exist.
    pub fn path(text: &str) -> Result<Self, String> {
        Self::new(&format!("^{text}"))
    }

    /// Compiles a header pattern, which may match anywhere in the value.
    ///
    /// # Errors
    /// As [`Pattern::path`].
    pub fn new(text: &str) -> Result<Self, String> {
        Self::of(text, regex_syntax::parse(text))
    }

    /// Compiles a path pattern for the traditional flavour: every alternative counts from the start
    /// of the path, and classes such as `\w` know ASCII only, as in PCRE there.
    ///
    /// # Errors
    /// As [`Pattern::path`].
    pub fn path_of_bytes(text: &str) -> Result<Self, String> {
        Self::of_bytes(&format!("^(?:{text})"))
    }

    /// Compiles a header pattern for the traditional flavour.
    ///
    /// # Errors
    /// As [`Pattern::path`].
    pub fn of_bytes(text: &str) -> Result<Self, String> {
        let mut bytes = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build();
        match bytes.parse(text) {
            Ok(hir) => Self::of(text, Ok(hir)),
            // A class with letters beyond ASCII, say.
            Err(_) => Self::new(text),
        }
    }

    fn of(text: &str, parsed: Result<Hir, regex_syntax::Error>) -> Result<Self, String> {
        let wrong = |reason: String| format!("invalid regex '{text}': {reason}");
        let hir = parsed.map_err(|fault| wrong(fault.to_string()))?;
        let config = Config::new().nfa_size_limit(Some(PATTERN_BYTES_MAX));
        let nfa = NFA::compiler().configure(config).build_from_hir(&hir);
        let nfa = nfa.map_err(|fault| wrong(fault.to_string()))?;
        let backtracker = BoundedBacktracker::new_from_nfa(nfa.clone());
        let pike = PikeVM::new_from_nfa(nfa);
        Ok(Self {
            backtracker: backtracker.map_err(|fault| wrong(fault.to_string()))?,
            pike: pike.map_err(|fault| wrong(fault.to_string()))?,
        })
    }

    /// The names of the groups, in order; the first is the whole match and has none.
    pub fn group_names(&self) -> impl Iterator<Item = Option<&str>> {
        self.pike.get_nfa().group_info().pattern_names(PatternID::ZERO)
    }
}

/// Bytes that every path which matches `text` begins with; empty where that cannot be told.
#[must_use]
pub(super) fn literal_start(text: &str) -> Vec<u8> {
    let Ok(hir) = regex_syntax::parse(&format!("^{text}")) else { return Vec::new() };
    let mut literal = Vec::new();
    if let HirKind::Concat(parts) = hir.kind() {
        let mut parts = parts.iter();
        if matches!(parts.next().map(Hir::kind), Some(HirKind::Look(Look::Start))) {
            for part in parts {
                let HirKind::Literal(bytes) = part.kind() else { break };
                literal.extend_from_slice(&bytes.0);
            }
        }
    }
    literal
}

/// One core's memory for searches. Never shared.
#[derive(Debug, Default)]
pub(super) struct Searches {
    backtrack: Option<backtrack::Cache>,
    pike: Option<pikevm::Cache>,
    /// Where the groups of the last match are.
    groups: Vec<Option<NonMaxUsize>>,
}

impl Searches {
    /// Searches `text`; gives the place of the match. Its groups are then in [`Self::groups`].
    pub(super) fn find(&mut self, pattern: &Pattern, text: &[u8]) -> Option<Range<usize>> {
        let len = pattern.pike.get_nfa().group_info().slot_len();
        let mut groups = std::mem::take(&mut self.groups);
        groups.clear();
        groups.resize(len, None);
        let found = self.search(pattern, &Input::new(text), &mut groups);
        self.groups = groups;
        found.then(|| range(&self.groups, 0)).flatten()
    }

    /// Whether `text` has a match anywhere.
    pub(super) fn is_match(&mut self, pattern: &Pattern, text: &[u8]) -> bool {
        self.search(pattern, &Input::new(text).earliest(true), &mut [])
    }

    pub(super) fn groups(&self) -> &[Option<NonMaxUsize>] {
        &self.groups
    }

    fn search(
        &mut self,
        pattern: &Pattern,
        input: &Input<'_>,
        groups: &mut [Option<NonMaxUsize>],
    ) -> bool {
        let cache = self.backtrack.get_or_insert_with(|| pattern.backtracker.create_cache());
        cache.reset(&pattern.backtracker);
        match pattern.backtracker.try_search_slots(cache, input, groups) {
            Ok(found) => found.is_some(),
            // The text is too long to remember where the search has been.
            Err(_) => {
                let cache = self.pike.get_or_insert_with(|| pattern.pike.create_cache());
                cache.reset(&pattern.pike);
                pattern.pike.search_slots(cache, input, groups).is_some()
            }
        }
    }
}

/// The place of group `index` among slots as the regex engine writes them.
pub(super) fn range(groups: &[Option<NonMaxUsize>], index: usize) -> Option<Range<usize>> {
    let slot = |at: usize| Some(groups.get(at).copied()??.get());
    Some(slot(index * 2)?..slot(index * 2 + 1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_literal(text: &str, expected: &str) {
        assert_eq!(String::from_utf8(literal_start(text)).unwrap(), expected, "pattern {text}");
    }

    #[test]
    fn the_literal_start_is_never_longer_than_what_must_match() {
        check_literal(r"/n/\d", "/n/");
        check_literal("/users?", "/user");
        check_literal(r"/v\d+/users$", "/v");
        check_literal(r"/a\.b$", "/a.b");
        check_literal("/a|/b", "");
        check_literal("/(a|b)/c", "/");
        check_literal("/ab*", "/a");
        check_literal("(?i)/abc", "/");
        check_literal("/é+", "/");
        check_literal("/u/(?<id>\\d+)/p", "/u/");
        check_literal("", "");
        check_literal("(", "");
    }

    #[test]
    fn a_match_says_where_it_and_its_groups_are() {
        let pattern = Pattern::path(r"/u/(?<id>\d+)/(p|q)").unwrap();
        let mut searches = Searches::default();
        assert_eq!(searches.find(&pattern, b"/u/42/q/x"), Some(0..7));
        assert_eq!(range(searches.groups(), 1), Some(3..5));
        assert_eq!(range(searches.groups(), 2), Some(6..7));
        assert_eq!(range(searches.groups(), 3), None);
        let names: Vec<_> = pattern.group_names().collect();
        assert_eq!(names, [None, Some("id"), None]);
        assert_eq!(searches.find(&pattern, b"/x/u/42/q"), None);
    }

    #[test]
    fn what_rust_cannot_express_is_a_fault() {
        assert!(Pattern::path("/a(?=b)").unwrap_err().starts_with("invalid regex '^/a(?=b)': "));
        assert!(Pattern::path("/a(").is_err());
    }

    #[test]
    fn one_memory_serves_all_patterns_and_long_texts() {
        let mut searches = Searches::default();
        let patterns = [r"/\w+/x$", "/a", r"/(\d+)(\w)?", "", r"/(?:\w\w){1,20}$"];
        let patterns = patterns.map(|text| (Pattern::path(text).unwrap(), text));
        for text in ["/ab/x".to_owned(), "/12".into(), "/a".repeat(5_000), "/".into(), "/é".into()]
        {
            for (pattern, source) in &patterns {
                let expected = regex::Regex::new(&format!("^{source}")).unwrap();
                let expected = expected.find(&text).map(|found| found.range());
                assert_eq!(searches.find(pattern, text.as_bytes()), expected, "{source} {text}");
                assert_eq!(searches.is_match(pattern, text.as_bytes()), expected.is_some());
            }
        }
        assert!(searches.pike.is_some(), "a long text must have been too long");
    }
}

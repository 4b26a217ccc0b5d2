//! Regular expressions of routes: compiled in the office, searched on the road with a core's own
//! cache, so that no two cores ever wait for each other.

use hashbrown::HashMap;
use regex_automata::meta::{Builder, Cache, Config, Regex};
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::{Anchored, Input};
use regex_syntax::hir::{Hir, HirKind, Look};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Caches one core keeps, mostly of some bytes each; when there are more patterns in use, it begins
/// anew.
const CACHES_MAX: usize = 4_096;
/// Largest automaton a pattern may compile to, in bytes. The default of Rust's `regex` crate, which
/// is what Kong's router engine uses.
const PATTERN_BYTES_MAX: usize = 10 << 20;

static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// A compiled regular expression.
#[derive(Debug)]
pub struct Pattern {
    /// Distinguishes it from every other pattern of this process; the key of its caches.
    number: u64,
    regex: Regex,
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
        // Without the lazy automaton: it would take 7 to 35 KiB per pattern and core (measured),
        // and paths are too short to earn that back.
        let config = Config::new().hybrid(false).nfa_size_limit(Some(PATTERN_BYTES_MAX));
        let regex = Builder::new()
            .configure(config)
            .build(text)
            .map_err(|fault| format!("invalid regex '{text}': {}", reason(&fault)))?;
        Ok(Self { number: NUMBERS.fetch_add(1, Ordering::Relaxed), regex })
    }

    /// The names of the groups, in order; the first is the whole match and has none.
    pub fn group_names(&self) -> impl Iterator<Item = Option<&str>> {
        self.regex.group_info().pattern_names(regex_automata::PatternID::ZERO)
    }
}

fn reason(fault: &regex_automata::meta::BuildError) -> String {
    fault.syntax_error().map_or_else(|| fault.to_string(), ToString::to_string)
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
    caches: HashMap<u64, Cache, foldhash::fast::FixedState>,
    /// Where the groups of the last match are.
    groups: Vec<Option<NonMaxUsize>>,
}

impl Searches {
    /// Searches `text`; gives the place of the match. Its groups are then in [`Self::groups`].
    pub(super) fn find(&mut self, pattern: &Pattern, text: &[u8]) -> Option<Range<usize>> {
        let len = pattern.regex.group_info().slot_len();
        self.groups.clear();
        self.groups.resize(len, None);
        let Self { caches, groups } = self;
        let cache = cache_of(caches, pattern);
        let input = Input::new(text).anchored(Anchored::No);
        pattern.regex.search_slots_with(cache, &input, groups)?;
        range(groups, 0)
    }

    /// Whether `text` has a match anywhere.
    pub(super) fn is_match(&mut self, pattern: &Pattern, text: &[u8]) -> bool {
        let cache = cache_of(&mut self.caches, pattern);
        let input = Input::new(text).earliest(true);
        pattern.regex.search_half_with(cache, &input).is_some()
    }

    pub(super) fn groups(&self) -> &[Option<NonMaxUsize>] {
        &self.groups
    }
}

fn cache_of<'a>(
    caches: &'a mut HashMap<u64, Cache, foldhash::fast::FixedState>,
    pattern: &Pattern,
) -> &'a mut Cache {
    if caches.len() >= CACHES_MAX && !caches.contains_key(&pattern.number) {
        caches.clear();
    }
    caches.entry(pattern.number).or_insert_with(|| pattern.regex.create_cache())
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
    fn the_caches_are_bounded() {
        let mut searches = Searches::default();
        for number in 0..CACHES_MAX + 10 {
            let pattern = Pattern { number: u64::MAX - number as u64, regex: regex() };
            assert!(searches.is_match(&pattern, b"/a"));
            assert!(searches.caches.len() <= CACHES_MAX);
        }
    }

    fn regex() -> Regex {
        static REGEX: std::sync::OnceLock<Regex> = std::sync::OnceLock::new();
        REGEX.get_or_init(|| Regex::new("a").unwrap()).clone()
    }
}

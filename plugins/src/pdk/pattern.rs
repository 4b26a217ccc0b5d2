//! Regular expressions in configurations: compiled in the office, searched on a core with memory of
//! its own, so that no two cores ever wait for each other.

use std::cell::RefCell;
use std::sync::Arc;

use regex_automata::Input;
use regex_automata::meta::{Cache, Config, Regex};
use regex_automata::util::syntax;

/// Largest automaton a pattern may compile to, in bytes.
const PATTERN_BYTES_MAX: usize = 10 << 20;
/// Largest memory that the lazy automaton of one instance may take on a core, in bytes.
const SEARCH_BYTES_MAX: usize = 1 << 20;

/// One or more compiled patterns, shared by the cores.
#[derive(Clone, Debug)]
pub struct Pattern(Arc<Regex>);

impl Pattern {
    /// Compiles patterns of which any may match. As in PCRE without UTF mode, `\w`, `\d` and `.`
    /// stand for bytes; look-around and back-references do not exist.
    ///
    /// # Errors
    /// What is wrong with the first that is, in one line.
    pub fn any_of<P: AsRef<str>>(texts: &[P]) -> Result<Self, String> {
        let config = Config::new()
            .nfa_size_limit(Some(PATTERN_BYTES_MAX))
            .hybrid_cache_capacity(SEARCH_BYTES_MAX)
            .utf8_empty(false);
        let syntax = syntax::Config::new().unicode(false).utf8(false);
        Regex::builder()
            .configure(config)
            .syntax(syntax)
            .build_many(texts)
            .map(|regex| Self(Arc::new(regex)))
            .map_err(|fault| {
                let words =
                    fault.syntax_error().map_or_else(|| fault.to_string(), ToString::to_string);
                words.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
            })
    }

    /// Compiles one pattern.
    ///
    /// # Errors
    /// As [`Pattern::any_of`].
    pub fn new(text: &str) -> Result<Self, String> {
        Self::any_of(&[text])
    }

    /// What a core searches with.
    pub fn search(&self) -> Search {
        Search { cache: RefCell::new(self.0.create_cache()), regex: Arc::clone(&self.0) }
    }
}

/// A pattern with one instance's memory.
pub struct Search {
    regex: Arc<Regex>,
    cache: RefCell<Cache>,
}

impl Search {
    /// Whether the text has a match anywhere.
    pub fn is_match(&self, text: &[u8]) -> bool {
        let input = Input::new(text).earliest(true);
        self.regex.search_half_with(&mut self.cache.borrow_mut(), &input).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, text: &[u8], expected: bool) {
        assert_eq!(Pattern::new(pattern).unwrap().search().is_match(text), expected, "{pattern}");
    }

    #[test]
    fn bytes_are_searched() {
        check("b+c", b"abbc", true);
        check("^b", b"ab", false);
        check(r"\w$", "é".as_bytes(), false);
        check("a.b", b"a\xffb", true);
        check("(?i)BOT", b"a bot", true);
        check("", b"", true);
    }

    #[test]
    fn one_of_many_is_enough() {
        let search = Pattern::any_of(&["^a$", "b"]).unwrap().search();
        assert!(search.is_match(b"a") && search.is_match(b"xb") && !search.is_match(b"ac"));
        assert!(!Pattern::any_of::<&str>(&[]).unwrap().search().is_match(b"a"));
    }

    #[test]
    fn a_fault_is_one_line() {
        let fault = Pattern::new("a(b").unwrap_err();
        assert_eq!(fault, "unclosed group");
        assert!(Pattern::new("(?=a)").unwrap_err().contains("look-around"));
    }
}

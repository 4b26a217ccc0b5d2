//! Regular expressions of rules and sampling: compiled once, searched in linear time with a core's
//! own memory.
//!
//! The texts come from another machine, so nothing that an expression says may cost more than its
//! bounds: a size limit when it is compiled, bounded backtracking or the Pike machine when it is
//! searched, and a limit on what is searched.

use regex_automata::nfa::thompson::backtrack::{self, BoundedBacktracker};
use regex_automata::nfa::thompson::pikevm::{self, PikeVM};
use regex_automata::nfa::thompson::{self, NFA};
use regex_automata::{Input, util::syntax};

/// Largest automaton an expression may compile to, in bytes.
const PATTERN_BYTES_MAX: usize = 128 << 10;
/// Longest text of an expression, in bytes.
const TEXT_BYTES_MAX: usize = 8 << 10;
/// What is searched of a value: its first bytes.
const SEARCHED_BYTES_MAX: usize = 8 << 10;

/// A compiled expression; matches anywhere in a value unless it is anchored.
#[derive(Debug)]
pub struct Pattern {
    backtracker: BoundedBacktracker,
    pike: PikeVM,
}

impl Pattern {
    /// Compiles an expression in the syntax of Rust's `regex`.
    ///
    /// # Errors
    /// What is wrong with it, in one sentence: look-around and back-references do not exist, and
    /// an expression may not be larger than its bounds.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("the regex is longer than {TEXT_BYTES_MAX} bytes"));
        }
        let wrong = |reason: String| {
            let reason = reason.lines().last().unwrap_or_default().trim().to_owned();
            format!("the regex {text:?} cannot be used: {reason}")
        };
        let nfa = NFA::compiler()
            .configure(thompson::Config::new().utf8(false).nfa_size_limit(Some(PATTERN_BYTES_MAX)))
            .syntax(syntax::Config::new().utf8(false))
            .build(text)
            .map_err(|fault| wrong(deepest(&fault)))?;
        let backtracker = BoundedBacktracker::new_from_nfa(nfa.clone());
        let pike = PikeVM::new_from_nfa(nfa);
        Ok(Self {
            backtracker: backtracker.map_err(|fault| wrong(fault.to_string()))?,
            pike: pike.map_err(|fault| wrong(fault.to_string()))?,
        })
    }
}

/// The innermost cause of a fault: what a person can use.
fn deepest(fault: &dyn std::error::Error) -> String {
    let mut fault = fault;
    while let Some(source) = fault.source() {
        fault = source;
    }
    fault.to_string()
}

/// One core's memory for searches, shared by all expressions.
#[derive(Debug, Default)]
pub struct Searches {
    backtrack: Option<backtrack::Cache>,
    pike: Option<pikevm::Cache>,
}

impl Searches {
    /// Whether the first bytes of `text` have a match anywhere.
    pub fn is_match(&mut self, pattern: &Pattern, text: &[u8]) -> bool {
        let text = text.get(..SEARCHED_BYTES_MAX).unwrap_or(text);
        let input = Input::new(text).earliest(true);
        let cache = self.backtrack.get_or_insert_with(|| pattern.backtracker.create_cache());
        cache.reset(&pattern.backtracker);
        match pattern.backtracker.try_search_slots(cache, &input, &mut []) {
            Ok(found) => found.is_some(),
            // The text is too long to remember where the search has been.
            Err(_) => {
                let cache = self.pike.get_or_insert_with(|| pattern.pike.create_cache());
                cache.reset(&pattern.pike);
                pattern.pike.search_slots(cache, &input, &mut []).is_some()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, text: &[u8], expected: bool) {
        let pattern = Pattern::new(pattern).unwrap();
        let mut searches = Searches::default();
        // Twice, and after another: the memory must not remember.
        searches.is_match(&Pattern::new("(a|b)*c").unwrap(), b"abab");
        assert_eq!(searches.is_match(&pattern, text), expected);
        assert_eq!(searches.is_match(&pattern, text), expected);
    }

    #[test]
    fn real_regexes_match_anywhere() {
        check("^/(health|ping)$", b"/ping", true);
        check("^/(health|ping)$", b"/pings", false);
        check(r"\d{3}", b"abc123", true);
        check("(?i)drop", b"DROPALL", true);
        check("x", b"\xff\xfex", true);
        check("", b"", true);
        check("(a*)*b", &[b'a'; 100_000], false);
        check("^.*$", b"two\nlines", false);
    }

    #[test]
    fn what_is_no_regex_says_why() {
        for (text, why) in [
            ("(", "unclosed group"),
            ("a{1000}{1000}", "exceeded limit"),
            ("(?=x)", "look-around"),
            (&"x".repeat(TEXT_BYTES_MAX + 1), "longer than"),
        ] {
            let fault = Pattern::new(text).unwrap_err();
            assert!(fault.contains(why), "{fault}");
        }
    }
}

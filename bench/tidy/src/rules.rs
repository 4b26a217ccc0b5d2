//! The list of rules, and the ratchet.

use crate::{road, shape, source::Source};

/// One place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file, from the root of the workspace.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong and what to do instead.
    pub words: String,
}

/// A rule: what it is called, and where a file breaks it.
pub struct Rule {
    /// The name, used by the ratchet.
    pub name: &'static str,
    /// Line numbers from 1 and words for each place where `Source` breaks the rule.
    pub find: fn(&Source) -> Vec<(usize, String)>,
}

/// Every rule about one file.
pub const RULES: &[Rule] = &[
    Rule { name: "head", find: shape::head },
    Rule { name: "columns", find: shape::columns },
    Rule { name: "file-length", find: shape::file_length },
    Rule { name: "function-length", find: shape::function_length },
    Rule { name: "no-mod-rs", find: shape::mod_files },
    Rule { name: "later-words", find: shape::later_words },
    Rule { name: "empty-names", find: shape::empty_names },
    Rule { name: "four-traits", find: shape::traits },
    Rule { name: "unsafe", find: road::unsafe_code },
    Rule { name: "drivers", find: road::drivers },
    Rule { name: "clocks", find: road::clocks },
    Rule { name: "panics", find: road::panics },
    Rule { name: "indexing", find: road::indexing },
    Rule { name: "plugin-files", find: road::plugin_files },
];

/// Faults that are allowed to stay for now: path, rule, how many.
///
/// The list started empty and may only shrink: a number that is too high fails like one that is
/// too low. Adding a line needs its reason beside it.
pub const RATCHET: &[(&str, &str, usize)] = &[];

/// Every fault of `rule` in `sources` that `ratchet` does not allow.
///
/// Where a file has fewer faults than it is allowed, the words ask for the smaller number.
pub fn faults(rule: &Rule, sources: &[Source], ratchet: &[(&str, &str, usize)]) -> Vec<Fault> {
    let mut all = Vec::new();
    for source in sources {
        let allowed = ratchet
            .iter()
            .find(|(path, name, _)| *path == source.path && *name == rule.name)
            .map_or(0, |(_, _, count)| *count);
        let found = (rule.find)(source);
        let fault = |line, words| Fault { path: source.path.clone(), line, words };
        if found.len() > allowed {
            all.extend(found.into_iter().map(|(line, words)| fault(line, words)));
        } else if found.len() < allowed {
            let words = format!("the ratchet allows {allowed}, now write {}", found.len());
            all.push(fault(1, words));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratchet_holds_in_both_directions() {
        let source = [Source::new("proxy/src/a.rs", "//! A.\nfn f() { x.unwrap(); y.unwrap(); }")];
        let rule = RULES.iter().find(|rule| rule.name == "panics").unwrap();
        let count = |allowed| faults(rule, &source, &[("proxy/src/a.rs", "panics", allowed)]).len();
        assert_eq!(count(0), 2);
        assert_eq!(count(1), 2);
        assert_eq!(count(2), 0);
        assert_eq!(count(3), 1);
    }
}

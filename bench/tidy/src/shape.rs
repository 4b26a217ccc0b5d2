//! Rules about the shape of a file: heads, lengths, words.

use crate::source::{Source, item_end, names, places};

const COLUMNS_MAX: usize = 100;
const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// The four real plug points. A fifth needs a paragraph in ARCHITECTURE.md.
const TRAITS: &[&str] = &["Driver", "Plugin", "Backend", "Sink"];

/// Words for work that was put off. Written in halves so that this file obeys its own rule.
const LATER: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME")];

/// Words that name nothing, with what to do instead.
const EMPTY: &[&str] = &[
    "manager", "handler", "context", "util", "utils", "helper", "helpers", "misc", "data", "info",
];

/// Every file says in its first line what it is for; the crates of the gateway also say what they
/// never do.
pub fn head(source: &Source) -> Vec<(usize, String)> {
    let docs = || source.lines.iter().map_while(|line| line.text.strip_prefix("//!"));
    if docs().next().is_none_or(|first| first.trim().is_empty()) {
        return vec![(1, "open the file with `//!` and what it is for".into())];
    }
    let gateway = ["runtime", "exporter", "store", "plugins", "proxy"];
    let root = source.path.strip_suffix("/src/lib.rs").is_some_and(|name| gateway.contains(&name));
    let denies = docs().any(|line| names(line, "never"));
    let words = "say in the crate's head what it never does";
    if root && !denies { vec![(1, words.into())] } else { Vec::new() }
}

/// No line of code is longer than 100 columns. Test data may be.
pub fn columns(source: &Source) -> Vec<(usize, String)> {
    let long = |text: &str| text.chars().count() > COLUMNS_MAX;
    source
        .production()
        .filter(|(_, line)| long(&line.text))
        .map(|(number, _)| (number, format!("longer than {COLUMNS_MAX} columns")))
        .collect()
}

/// A file has at most 600 lines beside its tests.
pub fn file_length(source: &Source) -> Vec<(usize, String)> {
    let lines = source.production().count();
    let words = format!("{lines} lines without tests, {FILE_LINES_MAX} are allowed: split it");
    if lines > FILE_LINES_MAX { vec![(FILE_LINES_MAX + 1, words)] } else { Vec::new() }
}

/// A function has at most 70 lines, from `fn` to its closing brace.
pub fn function_length(source: &Source) -> Vec<(usize, String)> {
    let mut faults = Vec::new();
    for (number, line) in source.production() {
        let pointer = line.code.contains("fn(");
        if pointer || !names(&line.code, "fn") {
            continue;
        }
        let length = item_end(&source.lines, number - 1) + 2 - number;
        if length > FUNCTION_LINES_MAX {
            let words = format!("a function of {length} lines, {FUNCTION_LINES_MAX} are allowed");
            faults.push((number, words));
        }
    }
    faults
}

/// `foo.rs` and `foo/`, not `foo/mod.rs`; the generated list of plugins is the exception.
pub fn mod_files(source: &Source) -> Vec<(usize, String)> {
    let strange = source.path.ends_with("/mod.rs") && source.path != "plugins/src/bundled/mod.rs";
    let shared_by_tests = source.path.contains("/tests/");
    let words = "name it after its folder and put it beside the folder";
    if strange && !shared_by_tests { vec![(1, words.into())] } else { Vec::new() }
}

/// No notes about work that was put off: they belong in the issue.
pub fn later_words(source: &Source) -> Vec<(usize, String)> {
    source
        .numbered()
        .filter(|(_, line)| LATER.iter().any(|word| names(&line.text, word)))
        .map(|(number, _)| {
            (number, "no notes to oneself: do it, or write it into the issue".into())
        })
        .collect()
}

/// Types, traits, modules and files have names that say something.
pub fn empty_names(source: &Source) -> Vec<(usize, String)> {
    let mut faults = Vec::new();
    let mut judge = |number: usize, name: &str| {
        if let Some(word) = words_of(name).into_iter().find(|word| EMPTY.contains(&word.as_str())) {
            faults.push((number, format!("`{name}`: the word `{word}` says nothing")));
        }
    };
    judge(1, source.stem());
    for (number, line) in source.production() {
        for keyword in ["struct", "enum", "trait", "mod", "union"] {
            for at in places(&line.code, keyword) {
                judge(number, &identifier(&line.code[at + keyword.len()..]));
            }
        }
    }
    faults
}

/// Traits stand for real plug points only.
pub fn traits(source: &Source) -> Vec<(usize, String)> {
    let mut faults = Vec::new();
    for (number, line) in source.production() {
        for at in places(&line.code, "trait") {
            let name = identifier(&line.code[at + "trait".len()..]);
            if !name.is_empty() && !TRAITS.contains(&name.as_str()) {
                let words = format!("trait `{name}`: use an enum, or justify it (DESIGN, traits)");
                faults.push((number, words));
            }
        }
    }
    faults
}

/// The identifier that `code` begins with, after spaces; empty if there is none.
fn identifier(code: &str) -> String {
    code.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// `HttpData` and `http_data` both give `http`, `data`.
fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in name.chars() {
        if c == '_' || c.is_uppercase() {
            words.push(String::new());
        }
        if c != '_' {
            words.last_mut().into_iter().for_each(|word| word.extend(c.to_lowercase()));
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    type Find = fn(&Source) -> Vec<(usize, String)>;

    /// The lines of `text`, as the file at `path`, that break the rule.
    #[track_caller]
    fn check(find: Find, path: &str, text: &str, expected: &[usize]) {
        let found: Vec<usize> = find(&Source::new(path, text)).into_iter().map(|f| f.0).collect();
        assert_eq!(found, expected, "in {path}:\n{text}");
    }

    #[test]
    fn a_file_opens_with_what_it_is_for() {
        check(head, "store/src/a.rs", "//! A.\n", &[]);
        check(head, "store/src/a.rs", "// A.\n", &[1]);
        check(head, "store/src/a.rs", "//!\n", &[1]);
        check(head, "store/src/a.rs", "", &[1]);
        check(head, "store/src/lib.rs", "//! A.\n//! It never sleeps.\n", &[]);
        check(head, "store/src/lib.rs", "//! A.\n\n//! It never sleeps.\n", &[1]);
    }

    #[test]
    fn lines_end_at_column_100() {
        let (fits, long) = ("x".repeat(100), "é".repeat(101));
        check(columns, "a/src/a.rs", &format!("{fits}\n{long}\n"), &[2]);
        check(columns, "a/tests/a.rs", &long, &[]);
    }

    #[test]
    fn files_end_at_line_600() {
        check(file_length, "a/src/a.rs", &"x\n".repeat(600), &[]);
        check(file_length, "a/src/a.rs", &"x\n".repeat(601), &[601]);
        let tested = format!("{}#[cfg(test)]\nmod tests {{\n}}\n", "x\n".repeat(600));
        check(file_length, "a/src/a.rs", &tested, &[]);
    }

    #[test]
    fn functions_end_at_line_70() {
        let body = |lines: usize| format!("x\nfn f(\n) {{\n{}}}\n", "x;\n".repeat(lines));
        check(function_length, "a/src/a.rs", &body(67), &[]);
        check(function_length, "a/src/a.rs", &body(68), &[2]);
        check(function_length, "a/tests/a.rs", &body(99), &[]);
        let pointer = format!("struct A {{ f: fn(u8) }}\n{}", "x;\n".repeat(99));
        check(function_length, "a/src/a.rs", &pointer, &[]);
        check(function_length, "a/src/a.rs", "trait A {\nfn f(x: [u8; 4]);\n}\n", &[]);
    }

    #[test]
    fn modules_are_named_after_their_folder() {
        check(mod_files, "a/src/b/mod.rs", "", &[1]);
        check(mod_files, "plugins/src/bundled/mod.rs", "", &[]);
    }

    #[test]
    fn work_is_not_put_off() {
        check(later_words, "a/src/a.rs", &format!("// {}: later", LATER[0]), &[1]);
        check(later_words, "a/src/a.rs", &format!("// a{}b", LATER[0]), &[]);
    }

    #[test]
    fn names_say_something() {
        check(empty_names, "a/src/a.rs", "struct HttpData;\nstruct Database;", &[1]);
        check(empty_names, "a/src/a.rs", "pub enum Info {}\nmod util;", &[1, 2]);
        check(empty_names, "a/src/string_utils.rs", "", &[1]);
        check(empty_names, "a/src/a.rs", "// struct Helper\nlet data = 1;", &[]);
    }

    #[test]
    fn there_are_four_traits() {
        check(traits, "a/src/a.rs", "pub trait Driver {}\npub(crate) trait Run: Copy {}", &[2]);
        check(traits, "a/tests/a.rs", "trait Run {}", &[]);
    }
}

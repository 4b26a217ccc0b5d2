//! One Rust file, seen line by line: the text, the code in it, and whether it is test code.

/// One line of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    /// The line as it stands in the file, without its line break.
    pub text: String,
    /// The line with comments, strings and character literals replaced by spaces.
    pub code: String,
    /// Whether it stands in test code: a `tests` folder, or an item behind `#[cfg(test)]`.
    pub test: bool,
}

/// One Rust file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Path from the root of the workspace, with `/`.
    pub path: String,
    /// Its lines in order; the first has number 1.
    pub lines: Vec<Line>,
}

impl Source {
    /// Reads `text` as the file at `path`.
    pub fn new(path: &str, text: &str) -> Self {
        let code = blank(text);
        let mut lines: Vec<Line> = text
            .lines()
            .zip(code.lines())
            .map(|(text, code)| Line { text: text.into(), code: code.into(), test: false })
            .collect();
        if is_test_file(path) {
            lines.iter_mut().for_each(|line| line.test = true);
        } else {
            mark_test_items(&mut lines);
        }
        Self { path: path.to_owned(), lines }
    }

    /// The top folder, which is the crate's name: `runtime`, `bench`.
    pub fn top(&self) -> &str {
        self.path.split('/').next().unwrap_or_default()
    }

    /// The file's name without folder and ending.
    pub fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.strip_suffix(".rs").unwrap_or(name)
    }

    /// Every line that is not test code, with its number from 1.
    pub fn production(&self) -> impl Iterator<Item = (usize, &Line)> {
        self.numbered().filter(|(_, line)| !line.test)
    }

    /// Every line with its number from 1.
    pub fn numbered(&self) -> impl Iterator<Item = (usize, &Line)> {
        self.lines.iter().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// Whether the whole file is test code by its place.
fn is_test_file(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "benches") || path.ends_with("/tests.rs")
}

/// Marks every item that stands behind a `cfg(test)` attribute, attribute included.
///
/// The item ends with the brace that closes its first one, or with a semicolon before any brace.
fn mark_test_items(lines: &mut [Line]) {
    let mut index = 0;
    while index < lines.len() {
        let code = lines[index].code.trim();
        if !(code.starts_with("#[cfg(") && names(code, "test") && !names(code, "not")) {
            index += 1;
            continue;
        }
        let end = item_end(lines, index);
        lines[index..=end].iter_mut().for_each(|line| line.test = true);
        index = end + 1;
    }
}

/// Whether `word` stands in `code` as a whole word.
pub fn names(code: &str, word: &str) -> bool {
    !places(code, word).is_empty()
}

/// Where `word` stands in `code` as a whole word: byte offsets.
pub fn places(code: &str, word: &str) -> Vec<usize> {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let free = |at: usize| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let first = word.chars().next();
        let last = word.chars().next_back();
        let grown = part(first) && part(before) || part(last) && part(after);
        !grown
    };
    code.match_indices(word).map(|(at, _)| at).filter(|at| free(*at)).collect()
}

/// The index of the last line of the item whose attributes begin at line index `start`.
pub fn item_end(lines: &[Line], start: usize) -> usize {
    let mut depth = Depth::default();
    for (index, line) in lines.iter().enumerate().skip(start) {
        if depth.ends_within(&line.code) {
            return index;
        }
    }
    lines.len() - 1
}

/// How deep in brackets a scan is.
#[derive(Default)]
struct Depth {
    braces: usize,
    others: usize,
}

impl Depth {
    /// Walks over one line; tells whether an item that began before ends in it.
    fn ends_within(&mut self, code: &str) -> bool {
        for c in code.chars() {
            match c {
                '{' => self.braces += 1,
                '}' => {
                    self.braces = self.braces.saturating_sub(1);
                    if self.braces == 0 && self.others == 0 {
                        return true;
                    }
                }
                '(' | '[' => self.others += 1,
                ')' | ']' => self.others = self.others.saturating_sub(1),
                ';' if self.braces == 0 && self.others == 0 => return true,
                _ => {}
            }
        }
        false
    }
}

/// `text` with the inside of comments, strings and character literals turned into spaces.
///
/// Line breaks stay, so that both have the same lines.
pub fn blank(text: &str) -> String {
    let mut blanker = Blanker { rest: text, out: String::with_capacity(text.len()) };
    while blanker.step() {}
    blanker.out
}

struct Blanker<'a> {
    rest: &'a str,
    out: String,
}

impl Blanker<'_> {
    /// Takes one token; false at the end.
    fn step(&mut self) -> bool {
        let Some(first) = self.rest.chars().next() else { return false };
        if self.rest.starts_with("//") {
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.hide(end);
        } else if self.rest.starts_with("/*") {
            self.hide(block_comment_len(self.rest));
        } else if let Some(len) = string_len(self.rest) {
            self.hide(len);
        } else if first == '\'' {
            match char_literal_len(self.rest) {
                Some(len) => self.hide(len),
                None => self.keep(1),
            }
        } else {
            let word = |c: char| c.is_alphanumeric() || c == '_';
            let len = self.rest.find(|c| !word(c)).unwrap_or(self.rest.len());
            self.keep(len.max(first.len_utf8()));
        }
        true
    }

    fn keep(&mut self, len: usize) {
        let (taken, rest) = self.rest.split_at(len);
        self.out.push_str(taken);
        self.rest = rest;
    }

    fn hide(&mut self, len: usize) {
        let (taken, rest) = self.rest.split_at(len);
        self.out.extend(taken.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        self.rest = rest;
    }
}

/// Length of the block comment that `text` begins with; they nest.
fn block_comment_len(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Length of the string literal that `text` begins with, prefix included; `None` if there is none.
fn string_len(text: &str) -> Option<usize> {
    let prefix = text.find(|c: char| !matches!(c, 'b' | 'c' | 'r'))?;
    let raw = text[..prefix].ends_with('r');
    if prefix > 2 {
        return None;
    }
    let hashes = if raw { text[prefix..].find(|c| c != '#')? } else { 0 };
    let body = prefix + hashes + 1;
    if !text[prefix + hashes..].starts_with('"') {
        return None;
    }
    if raw {
        let close = format!("\"{}", "#".repeat(hashes));
        return Some(text[body..].find(&close).map_or(text.len(), |at| body + at + close.len()));
    }
    let mut escaped = false;
    for (at, c) in text[body..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(body + at + 1),
            _ => {}
        }
    }
    Some(text.len())
}

/// Length of the character literal that `text` begins with; `None` for a lifetime.
fn char_literal_len(text: &str) -> Option<usize> {
    let mut chars = text.char_indices().skip(1);
    let (_, first) = chars.next()?;
    if first == '\\' {
        chars.next()?;
        return chars.find(|(_, c)| *c == '\'').map(|(at, _)| at + 1);
    }
    chars.next().filter(|(_, c)| *c == '\'').map(|(at, _)| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_blank(text: &str, expected: &str) {
        assert_eq!(blank(text), expected, "of {text:?}");
    }

    #[test]
    fn comments_and_literals_vanish_and_code_stays() {
        check_blank("a // b", "a     ");
        check_blank("a /* b /* c */ d */ e", "a                   e");
        check_blank("f(\"}\\\"{\") g", "f(      ) g");
        check_blank("r#\"a\"b\"# c", "         c");
        check_blank("br\"{\" b\"{\" c\"}\"", &" ".repeat(15));
        check_blank("'{' b'}' '\\'' '\\u{1F}'", "    b                 ");
        check_blank("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)");
        check_blank("rest\"x\"", "rest   ");
        check_blank("\"a\nb\" c", "  \n   c");
    }

    #[track_caller]
    fn check_tests(path: &str, text: &str, expected: &[usize]) {
        let source = Source::new(path, text);
        let found: Vec<usize> =
            source.numbered().filter(|(_, line)| line.test).map(|(number, _)| number).collect();
        assert_eq!(found, expected, "in {text}");
    }

    #[test]
    fn test_items_are_told_from_the_rest() {
        check_tests("a/src/b.rs", "fn a() {}\n#[cfg(test)]\nmod tests {\n}\nfn b() {}", &[2, 3, 4]);
        check_tests("a/src/b.rs", "#[cfg(test)]\nuse x::{y};\nfn b() {}", &[1, 2]);
        check_tests("a/src/b.rs", "#[cfg(test)]\nmod tests;\nfn b() {}", &[1, 2]);
        check_tests("a/src/b.rs", "#[cfg(all(test, unix))]\nfn a(\n) {\n}\nx", &[1, 2, 3, 4]);
        check_tests("a/src/b.rs", "#[cfg(not(test))]\nfn a() {}", &[]);
        check_tests("a/tests/b.rs", "fn a() {}", &[1]);
        check_tests("a/src/b/tests.rs", "fn a() {}", &[1]);
    }
}

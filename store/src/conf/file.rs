//! The syntax of `kong.conf`: text in, names and values out.
//!
//! `key = value`; lines that begin with `#` or `;` are comments, so is all after an unescaped `#`
//! (`\#` is a `#`); a `\` at the end of a line joins the next one; a later line wins.
//!
//! Source: Penlight `lua/pl/config.lua` as Kong calls it, and Kong `kong/conf_loader/init.lua`,
//! `load_config`. One difference: a line that is no `key = value` is an error here, not ignored.

/// Most lines that are read; a longer file is no `kong.conf`.
pub const LINES_MAX: usize = 100_000;

/// A line that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub struct BrokenLine {
    /// Counted from 1.
    pub number: usize,
    /// Why, in words that end a sentence.
    pub why: String,
}

/// Reads the text of a `kong.conf` into names and values, in their order.
///
/// # Errors
/// The first line that is neither empty, a comment, nor `key = value`.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, BrokenLine> {
    let mut settings = Vec::new();
    let mut joined = String::new();
    let mut last = 0;
    for (index, line) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
        last = index + 1;
        if last > LINES_MAX {
            return Err(BrokenLine { number: last, why: "the file has too many lines".to_owned() });
        }
        let bare = line.trim();
        if bare.is_empty() || bare.starts_with(['#', ';']) {
            continue;
        }
        if let Some(start) = bare.strip_suffix('\\') {
            joined.push_str(start);
            continue;
        }
        joined.push_str(bare);
        settings.push(setting(&joined, last)?);
        joined.clear();
    }
    if !joined.is_empty() {
        settings.push(setting(&joined, last)?);
    }
    Ok(settings)
}

fn setting(line: &str, number: usize) -> Result<(String, String), BrokenLine> {
    let broken = || BrokenLine { number, why: "expected \"key = value\"".to_owned() };
    let (name, value) = line.split_once('=').ok_or_else(broken)?;
    let name = name.trim();
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || !name.chars().all(letters) {
        return Err(broken());
    }
    let name = name.replace(['-', '.'], "_");
    Ok((name, without_comment(value)))
}

/// The value before an unescaped `#`, trimmed, with `\#` turned into `#`.
fn without_comment(value: &str) -> String {
    let mut kept = String::with_capacity(value.len());
    for c in value.chars() {
        if c == '#' {
            if !kept.ends_with('\\') {
                break;
            }
            kept.pop();
        }
        kept.push(c);
    }
    kept.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a text and compares what it gives: `name=value` joined by `|`, or `line: why`.
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let found = match parse(text) {
            Ok(settings) => {
                let all: Vec<String> =
                    settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
                all.join("|")
            }
            Err(broken) => format!("{}: {}", broken.number, broken.why),
        };
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn lines_comments_and_escapes() {
        check("", "");
        check("\n# prefix = /x\n  ; other\n", "");
        check("prefix = /x", "prefix=/x");
        check("prefix=/x # where\r\nlog_level = info\r\n", "prefix=/x|log_level=info");
        check(r"pg_password = a\#b # c", "pg_password=a#b");
        check("pg_password = #", "pg_password=");
        check("a = b = c", "a=b = c");
        check("a = 1\na = 2", "a=1|a=2");
        check("pg-host = x", "pg_host=x");
        check("\u{feff}a = 1", "a=1");
    }

    #[test]
    fn a_backslash_joins_lines() {
        check("plugins = bundled, \\\n  moesif\nx = 1", "plugins=bundled, moesif|x=1");
        check("a = 1 \\", "a=1");
    }

    #[test]
    fn what_is_no_setting_is_named() {
        check("a = 1\nnonsense", "2: expected \"key = value\"");
        check("[kong]", "1: expected \"key = value\"");
        check("= 1", "1: expected \"key = value\"");
        check("a b = 1", "1: expected \"key = value\"");
    }
}

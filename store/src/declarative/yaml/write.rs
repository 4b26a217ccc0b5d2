//! Values as a YAML document, in the layout that Kong exports.

use serde_json::Value as Json;

use super::scalar;

/// One value under a name, at the left margin.
pub(in crate::declarative) fn write(out: &mut String, name: &str, value: &Json) {
    pair(out, name, value, 0);
}

fn pair(out: &mut String, name: &str, value: &Json, indent: usize) {
    out.push_str(&text(name));
    out.push(':');
    below(out, value, indent);
}

/// What stands behind a name: on its line, or on the lines below.
fn below(out: &mut String, value: &Json, indent: usize) {
    match value {
        Json::Array(items) if !items.is_empty() => {
            out.push('\n');
            list(out, items, indent);
        }
        Json::Object(pairs) if !pairs.is_empty() => {
            for (name, value) in pairs {
                out.push('\n');
                out.push_str(&" ".repeat(indent + 2));
                pair_in_line(out, name, value, indent + 2);
            }
            out.push('\n');
        }
        plain => {
            out.push(' ');
            out.push_str(&scalar_text(plain));
            out.push('\n');
        }
    }
}

/// As [`pair`], for a place where the line's end belongs to the caller.
fn pair_in_line(out: &mut String, name: &str, value: &Json, indent: usize) {
    pair(out, name, value, indent);
    out.pop();
}

fn list(out: &mut String, items: &[Json], indent: usize) {
    for item in items {
        out.push_str(&" ".repeat(indent));
        out.push('-');
        match item {
            Json::Object(pairs) if !pairs.is_empty() => {
                for (at, (name, value)) in pairs.iter().enumerate() {
                    let lead = if at == 0 { 1 } else { indent + 2 };
                    out.push_str(&" ".repeat(lead));
                    pair(out, name, value, indent + 2);
                }
            }
            Json::Array(inner) if !inner.is_empty() => {
                out.push('\n');
                list(out, inner, indent + 2);
            }
            plain => {
                out.push(' ');
                out.push_str(&scalar_text(plain));
                out.push('\n');
            }
        }
    }
}

fn scalar_text(value: &Json) -> String {
    match value {
        Json::Null => "~".to_owned(),
        Json::String(string) => text(string),
        other => other.to_string(),
    }
}

/// A text that reads back as itself.
fn text(text: &str) -> String {
    if text.chars().any(char::is_control) {
        // Every JSON string is one of YAML's quoted strings.
        return Json::from(text).to_string();
    }
    if is_plain(text) { text.to_owned() } else { format!("'{}'", text.replace('\'', "''")) }
}

fn is_plain(text: &str) -> bool {
    let Some(first) = text.chars().next() else { return false };
    let inside = !text.contains(": ") && !text.contains(" #") && !text.ends_with(':');
    let edges = !text.starts_with(' ') && !text.ends_with(' ');
    let special = "-?:,[]{}#&*!|>'\"%@`";
    let safe = |symbol: char| {
        symbol.is_alphanumeric() || " _-./:+@~=$()*^\\%;!?&<>|#'\"`".contains(symbol)
    };
    inside
        && edges
        && !special.contains(first)
        && text.chars().all(safe)
        && scalar::resolve(text).is_string()
        && text != "<<"
        && !text.starts_with("---")
        && !text.starts_with('~')
        || text.starts_with("~/") && text.chars().all(|symbol| safe(symbol) && symbol != ' ')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declarative::yaml::read;
    use serde_json::json;

    #[track_caller]
    #[allow(clippy::needless_pass_by_value, reason = "so that calls read as a table")]
    fn check(value: Json, expected: &str) {
        let mut out = String::new();
        write(&mut out, "a", &value);
        assert_eq!(out, expected);
        assert_eq!(read(&out).map(|document| document["a"].clone()), Ok(value), "{out}");
    }

    #[test]
    fn documents_have_kongs_layout_and_read_back() {
        check(json!("x"), "a: x\n");
        check(json!("3.0"), "a: '3.0'\n");
        check(json!(null), "a: ~\n");
        check(json!([]), "a: []\n");
        check(json!({}), "a: {}\n");
        check(
            json!([{"tags": null, "paths": ["/e", "~/f$"], "headers": {"x": ["1"]}, "n": 1}]),
            "a:\n- tags: ~\n  paths:\n  - /e\n  - ~/f$\n  headers:\n    x:\n    - '1'\n  n: 1\n",
        );
        check(
            json!({"b": {"c": 1, "d": {}}, "e": [[1], []]}),
            "a:\n  b:\n    c: 1\n    d: {}\n  e:\n  -\n    - 1\n  - []\n",
        );
    }

    #[test]
    fn every_text_reads_back() {
        for text in [
            "",
            " ",
            "~",
            "null",
            "yes",
            "1",
            "1:30",
            "0x1",
            "a: b",
            "a #b",
            "- a",
            "-",
            "'",
            "\"",
            "a\nb",
            "\t",
            "a:",
            "&a",
            "*a",
            "!a",
            "%a",
            "@a",
            "`a",
            "[a",
            "{a",
            "a]",
            "a, b",
            "ä",
            "-----BEGIN X-----\nabc\n-----END X-----\n",
            "~/a b",
            "~",
            "~a",
            "<<",
            "=",
            "a\u{0}b",
            "{vault://env/x}",
            "http://a.example:80/p?q=1#f",
            "2001:db8::1",
            "a\\b",
            "|",
            ">",
            "?",
            "? a",
            "---",
            "...",
            "\u{feff}a",
            "a\u{2028}b",
        ] {
            let mut out = String::new();
            write(&mut out, "a", &json!([text, {text: text}]));
            let found = read(&out).map(|document| document["a"].clone());
            assert_eq!(found, Ok(json!([text, {text: text}])), "{out}");
        }
    }
}

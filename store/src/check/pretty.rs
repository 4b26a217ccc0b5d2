//! Lua tables as text, as Kong prints keys and nested faults in its messages.
//!
//! Source: Penlight `pl.pretty.write`, with `""` as the indent (one line) and with its default
//! of two spaces (lines).

use serde_json::Value as Json;

const KEYWORDS: &[&str] = &[
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local",
    "nil", "not", "or", "repeat", "return", "then", "true", "until", "while", "goto",
];

/// On one line without spaces: `{id="…",list={"a","b"}}`.
pub fn line(value: &Json) -> String {
    let mut out = String::new();
    write(&mut out, value, None);
    out
}

/// Over lines with two spaces of indent.
pub fn lines(value: &Json) -> String {
    let mut out = String::new();
    write(&mut out, value, Some(0));
    out
}

fn write(out: &mut String, value: &Json, depth: Option<usize>) {
    match value {
        Json::String(text) => quote(out, text),
        Json::Null => out.push_str("null"),
        Json::Array(items) => table(out, items.iter().map(|item| (None, item)), depth),
        Json::Object(pairs) => {
            let mut pairs: Vec<_> = pairs.iter().collect();
            pairs.sort_by(|one, two| one.0.cmp(two.0));
            table(out, pairs.into_iter().map(|(name, value)| (Some(name.as_str()), value)), depth);
        }
        other => out.push_str(&other.to_string()),
    }
}

/// Items that are null are left out, as Lua's tables have no such thing; the item after a gap
/// is printed with its index.
fn table<'a>(
    out: &mut String,
    items: impl Iterator<Item = (Option<&'a str>, &'a Json)>,
    depth: Option<usize>,
) {
    out.push('{');
    let mut first = true;
    let mut gap = false;
    for (place, (name, value)) in items.enumerate() {
        if name.is_none() && value.is_null() {
            gap = true;
            continue;
        }
        if !first {
            out.push(',');
        }
        first = false;
        new_line(out, depth.map(|depth| depth + 1));
        let equals = if depth.is_some() { " = " } else { "=" };
        match name {
            Some(name) if is_identifier(name) => out.push_str(&format!("{name}{equals}")),
            Some(name) => {
                out.push('[');
                quote(out, name);
                out.push_str(&format!("]{equals}"));
            }
            None if gap => out.push_str(&format!("[{}]{equals}", place + 1)),
            None => {}
        }
        write(out, value, depth.map(|depth| depth + 1));
    }
    if !first {
        new_line(out, depth);
    }
    out.push('}');
}

fn new_line(out: &mut String, depth: Option<usize>) {
    if let Some(depth) = depth {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    }
}

fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !KEYWORDS.contains(&name)
}

/// Lua's `%q`, with the line breaks that Penlight then spells out.
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\0' => out.push_str("\\0"),
            other => out.push(other),
        }
    }
    out.push('"');
}

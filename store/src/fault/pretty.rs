//! Tables as Lua source: how Kong prints keys and nested faults inside messages.
//!
//! Source: Penlight `pl/pretty.lua` (`write`), `pl/stringx.lua` (`quote_string`).

use serde_json::{Map, Value};

/// On one line: `{id="x",other={1,2}}`.
#[must_use]
pub fn compact(value: &Value) -> String {
    let mut text = String::new();
    Layout { space: "", line: "", equals: "=" }.write(&mut text, value, "");
    text
}

/// Over several lines with an indent of two spaces.
#[must_use]
pub fn spread(value: &Value) -> String {
    let mut text = String::new();
    Layout { space: "  ", line: "\n", equals: " = " }.write(&mut text, value, "");
    text
}

struct Layout {
    space: &'static str,
    line: &'static str,
    equals: &'static str,
}

impl Layout {
    fn write(&self, text: &mut String, value: &Value, indent: &str) {
        match value {
            Value::Null => text.push_str("null"),
            Value::Bool(_) | Value::Number(_) => text.push_str(&value.to_string()),
            Value::String(string) => text.push_str(&quoted(string)),
            Value::Array(items) => self.list(text, items, indent),
            Value::Object(fields) => self.table(text, fields, indent),
        }
    }

    /// A null is a hole: what comes after the first one has its index before it.
    fn list(&self, text: &mut String, items: &[Value], indent: &str) {
        let whole = items.iter().position(Value::is_null).unwrap_or(items.len());
        let entries = items.iter().enumerate().filter(|(_, item)| !item.is_null());
        let entries = entries.map(|(at, item)| match at {
            at if at < whole => (String::new(), item),
            at => (format!("[{}]{}", at + 1, self.equals), item),
        });
        self.entries(text, entries, indent);
    }

    fn table(&self, text: &mut String, fields: &Map<String, Value>, indent: &str) {
        let mut sorted: Vec<_> = fields.iter().collect();
        sorted.sort_unstable_by_key(|(name, _)| *name);
        let entries = sorted.into_iter().map(|(name, value)| {
            let name =
                if is_identifier(name) { name.clone() } else { format!("[{}]", quoted(name)) };
            (name + self.equals, value)
        });
        self.entries(text, entries, indent);
    }

    fn entries<'a>(
        &self,
        text: &mut String,
        entries: impl Iterator<Item = (String, &'a Value)>,
        indent: &str,
    ) {
        let inner = format!("{indent}{}", self.space);
        text.push('{');
        for (number, (name, value)) in entries.enumerate() {
            text.push_str(if number == 0 { "" } else { "," });
            text.push_str(self.line);
            text.push_str(&inner);
            text.push_str(&name);
            self.write(text, value, &inner);
        }
        text.push_str(self.line);
        text.push_str(indent);
        text.push('}');
    }
}

const KEYWORDS: &[&str] = &[
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local",
    "nil", "not", "or", "repeat", "return", "then", "true", "until", "while",
];

fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !KEYWORDS.contains(&name)
}

/// `%q` of Lua; a text with line breaks stands in long brackets.
fn quoted(text: &str) -> String {
    if text.contains('\n') && !text.contains('\r') {
        let level = (0..).map(|level| "=".repeat(level));
        let free = level.take(text.len()).find(|level| !text.contains(&format!("]{level}]")));
        let level = free.unwrap_or_default();
        let first = if text.starts_with('\n') { "\n" } else { "" };
        return format!("[{level}[{first}{text}]{level}]");
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for symbol in text.chars() {
        match symbol {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\r' => quoted.push_str("\\r"),
            '\n' => quoted.push_str("\\\n"),
            '\0' => quoted.push_str("\\0"),
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_printed_on_one_line() {
        let key = json!({"service": {"id": "x"}, "name": "cors", "route": null, "a-b": [1, true]});
        let expected = r#"{["a-b"]={1,true},name="cors",route=null,service={id="x"}}"#;
        assert_eq!(compact(&key), expected);
        assert_eq!(compact(&json!({})), "{}");
    }

    #[test]
    fn nested_faults_are_printed_over_several_lines() {
        let faults = json!({"healthy": {"interval": "bad"}, "type": "worse"});
        let expected = "{\n  healthy = {\n    interval = \"bad\"\n  },\n  type = \"worse\"\n}";
        assert_eq!(spread(&faults), expected);
        assert_eq!(spread(&json!([null, "a"])), "{\n  [2] = \"a\"\n}");
    }

    #[test]
    fn texts_are_quoted_as_lua_does() {
        assert_eq!(compact(&json!("a\"b\\c\rd")), r#""a\"b\\c\rd""#);
        assert_eq!(compact(&json!("a\nb")), "[[a\nb]]");
        assert_eq!(compact(&json!("a]]\nb")), "[=[a]]\nb]=]");
        assert_eq!(compact(&json!({"end": 1})), r#"{["end"]=1}"#);
    }
}

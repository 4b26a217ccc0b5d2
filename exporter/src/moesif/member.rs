//! One member of a JSON document, found without a tree: what conditions on bodies look at.

use super::json;
use std::borrow::Cow;

/// The value at a dotted path (`user.id`) of a JSON object: a text without its quotes, anything
/// else as it was written. `None` if there is none, or the document is no valid JSON.
///
/// One pass to check the document, and one for each name of the path; nothing is copied but texts
/// with escapes.
pub fn member<'a>(document: &'a [u8], path: &str) -> Option<Cow<'a, [u8]>> {
    json::check(document).ok()?;
    let mut value = json::document(document);
    for name in path.split('.') {
        value = of_object(value, name.as_bytes())?;
    }
    text(value)
}

/// The value of the last member of this name; the document is known to be valid.
fn of_object<'a>(object: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut rest = object.strip_prefix(b"{")?.trim_ascii_start();
    let mut found = None;
    while rest.first() == Some(&b'"') {
        let (key, behind) = rest.split_at_checked(string_len(rest))?;
        let value = behind.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        let (value, behind) = value.split_at_checked(value_len(value))?;
        if is_key(key, name) {
            found = Some(value);
        }
        let behind = behind.trim_ascii_start();
        rest = behind.strip_prefix(b",").unwrap_or(behind).trim_ascii_start();
    }
    found
}

/// The elements of an array that is known to be valid, as they are written.
pub(crate) fn elements(array: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let Some(inside) = json::document(array).strip_prefix(b"[") else { return found };
    let mut rest = inside.trim_ascii_start();
    while !rest.is_empty() && rest.first() != Some(&b']') {
        let Some((element, behind)) = rest.split_at_checked(value_len(rest)) else { break };
        if element.is_empty() {
            break;
        }
        found.push(element);
        let behind = behind.trim_ascii_start();
        rest = behind.strip_prefix(b",").unwrap_or(behind).trim_ascii_start();
    }
    found
}

fn is_key(quoted: &[u8], name: &[u8]) -> bool {
    text(quoted).is_some_and(|key| *key == *name)
}

/// A string without quotes and escapes; numbers and words as they are; nothing else.
fn text(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    match value.first()? {
        b'"' => {
            let plain = value.get(1..value.len().checked_sub(1)?)?;
            if !plain.contains(&b'\\') {
                return Some(Cow::Borrowed(plain));
            }
            let unescaped: String = serde_json::from_slice(value).ok()?;
            Some(Cow::Owned(unescaped.into_bytes()))
        }
        b'n' => None,
        _ => Some(Cow::Borrowed(value)),
    }
}

/// Bytes of the string at the beginning, its quotes included.
fn string_len(text: &[u8]) -> usize {
    let mut escaped = false;
    let end = text.iter().skip(1).position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}

/// Bytes of the value at the beginning.
fn value_len(text: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at += string_len(text.get(at..).unwrap_or_default());
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return at + depth,
            b'}' | b']' => depth -= 1,
            b',' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(document: &str, path: &str, expected: Option<&str>) {
        let found = member(document.as_bytes(), path);
        let found = found.as_deref().map(|found| std::str::from_utf8(found).unwrap());
        assert_eq!(found, expected, "{path} of {document}");
    }

    #[test]
    fn members_are_found() {
        let document = r#" { "a" : 1.50, "b":{"c" : [1,{"a":2}],"d":"x\"y" } , "\u0065":true,"f":null,
            "g":"","a b":"{\"a\":[" }"#;
        check(document, "a", Some("1.50"));
        check(document, "b.d", Some("x\"y"));
        check(document, "b.c", Some(r#"[1,{"a":2}]"#));
        check(document, "e", Some("true"));
        check(document, "f", None);
        check(document, "g", Some(""));
        check(document, "a b", Some("{\"a\":["));
        check(document, "a.b", None);
        check(document, "", None);
        check("{}", "a", None);
        check("[{\"a\":1}]", "a", None);
        check("{\"a\":1,\"a\":2}", "a", Some("2"));
        check("{\"a\":1", "a", None);
        check("\"a\"", "a", None);
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::Value;
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<i32>().prop_map(|n| Value::Number(n.into())),
            "[a-c\"\\\\{},:\\[\\]]{0,4}".prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::vec(("[a-c]", inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_finds_what_a_tree_has(value in any_json(), pretty in any::<bool>(), deep in any::<bool>()) {
            let text = if pretty {
                serde_json::to_string_pretty(&value).unwrap()
            } else {
                value.to_string()
            };
            let (path, place) = if deep { ("a.b", "/a/b") } else { ("b", "/b") };
            let expected = value.as_object().and_then(|_| value.pointer(place));
            let expected = expected.filter(|_| !deep || value["a"].is_object());
            let found = member(text.as_bytes(), path);
            match expected {
                Some(serde_json::Value::String(text)) => {
                    prop_assert_eq!(found.as_deref(), Some(text.as_bytes()));
                }
                Some(other) => {
                    let found: serde_json::Value = serde_json::from_slice(&found.unwrap()).unwrap();
                    prop_assert_eq!(&found, other);
                }
                None => prop_assert_eq!(found, None),
            }
        }
    }
}

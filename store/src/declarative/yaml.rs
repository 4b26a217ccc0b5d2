//! YAML in and out: a document as JSON values, bounded, with the scalars of YAML 1.1 as Kong reads
//! them; and values as a document.
//!
//! Aliases are copied, so every copy counts as values: a small text cannot become a large one.
//!
//! Source: Kong reads with `lyaml` 6.2 (`lyaml/{init,implicit}.lua`): the same words are numbers,
//! booleans and nulls here.

mod scalar;
mod write;

pub(super) use write::write;

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput, Tag};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;

/// Deepest nesting of a document.
pub const DEPTH_MAX: usize = 64;

/// Most values of a document, copies by aliases included.
pub const VALUES_MAX: usize = 4_000_000;

/// Reads the first document of a text.
///
/// # Errors
/// One sentence, with line and column where they are known.
pub(super) fn read(text: &str) -> Result<Json, String> {
    let mut reader = Reader::default();
    for next in Parser::new_from_str(text) as Events<'_> {
        let (event, span) = next.map_err(|fault| {
            let at = fault.marker();
            format!("{}:{}: {}", at.line(), at.col() + 1, problem(fault.info()))
        })?;
        let read = reader.event(event);
        let at = span.start;
        read.map_err(|why| format!("{}:{}: {why}", at.line(), at.col() + 1))?;
        if let Some(document) = reader.document.take() {
            return Ok(document);
        }
    }
    Ok(Json::Null)
}

/// What is wrong, without what was being read: Kong tells no more.
fn problem(info: &str) -> &str {
    let told = info.strip_prefix("while ").and_then(|rest| rest.split_once(", "));
    told.map_or(info, |(_, problem)| problem)
}

type Events<'a> = Parser<'a, StrInput<'a>>;

/// A list or a mapping that is not closed yet.
struct Open {
    anchor: usize,
    values: usize,
    kind: Collection,
}

enum Collection {
    List(Vec<Json>),
    /// The pairs, what `<<` brings, and the key that waits for its value.
    Map(Map<String, Json>, Vec<Json>, Option<Key>),
}

/// A key that waits for its value.
enum Key {
    Name(String),
    /// A plain `<<`: the value's pairs belong to this mapping.
    Merge,
}

#[derive(Default)]
struct Reader {
    open: Vec<Open>,
    anchors: BTreeMap<usize, (Json, usize)>,
    values: usize,
    document: Option<Json>,
}

impl Reader {
    fn event(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<" && self.wants_key() => {
                if let Some(Open { kind: Collection::Map(_, _, key), .. }) = self.open.last_mut() {
                    *key = Some(Key::Merge);
                }
                self.count(1)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value = plain(&text, style, tag.as_deref())?;
                self.finished(value, 1, anchor)
            }
            Event::SequenceStart(anchor, _) => self.begin(anchor, Collection::List(Vec::new())),
            Event::MappingStart(anchor, _) => {
                self.begin(anchor, Collection::Map(Map::new(), Vec::new(), None))
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { anchor, values, kind }) = self.open.pop() else {
                    return Err("unexpected end".to_owned());
                };
                self.finished(closed(kind)?, values, anchor)
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some((value, values)) => {
                    self.count(values)?;
                    self.put(value, values)
                }
                None => Err("invalid reference to what is not complete".to_owned()),
            },
            _ => Ok(()),
        }
    }

    fn begin(&mut self, anchor: usize, kind: Collection) -> Result<(), String> {
        if self.open.len() >= DEPTH_MAX {
            return Err(format!("nested deeper than {DEPTH_MAX} levels"));
        }
        if self.wants_key() {
            return Err("a key must be a plain value".to_owned());
        }
        self.count(1)?;
        self.open.push(Open { anchor, values: 1, kind });
        Ok(())
    }

    /// Whether the innermost collection is a mapping whose next key comes now.
    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { kind: Collection::Map(_, _, None), .. }))
    }

    fn count(&mut self, values: usize) -> Result<(), String> {
        self.values += values;
        if self.values > VALUES_MAX {
            return Err(format!("more than {VALUES_MAX} values"));
        }
        Ok(())
    }

    /// A value is complete: it may be referred to from here on.
    fn finished(&mut self, value: Json, values: usize, anchor: usize) -> Result<(), String> {
        if !value.is_array() && !value.is_object() {
            self.count(1)?;
        }
        if anchor != 0 {
            self.anchors.insert(anchor, (value.clone(), values));
        }
        self.put(value, values)
    }

    fn put(&mut self, value: Json, values: usize) -> Result<(), String> {
        let Some(open) = self.open.last_mut() else {
            self.document = Some(value);
            return Ok(());
        };
        open.values += values;
        match &mut open.kind {
            Collection::List(items) => items.push(value),
            Collection::Map(pairs, merged, key) => match key.take() {
                None => *key = Some(Key::Name(key_text(value)?)),
                Some(Key::Merge) => merged.push(value),
                Some(Key::Name(name)) => drop(pairs.insert(name, value)),
            },
        }
        Ok(())
    }
}

fn key_text(key: Json) -> Result<String, String> {
    match key {
        Json::String(text) => Ok(text),
        Json::Null => Ok("~".to_owned()),
        Json::Bool(_) | Json::Number(_) => Ok(key.to_string()),
        Json::Array(_) | Json::Object(_) => Err("a key must be a plain value".to_owned()),
    }
}

/// What `<<` brings gives way to what stands in the mapping itself.
fn closed(kind: Collection) -> Result<Json, String> {
    let (mut pairs, merged) = match kind {
        Collection::List(items) => return Ok(items.into()),
        Collection::Map(pairs, merged, _) => (pairs, merged),
    };
    for source in merged {
        let sources = match source {
            Json::Object(_) => vec![source],
            Json::Array(items) => items,
            _ => return Err("invalid '<<' merge".to_owned()),
        };
        for source in sources {
            let Json::Object(source) = source else {
                return Err("invalid '<<' sequence element".to_owned());
            };
            for (name, value) in source {
                pairs.entry(name).or_insert(value);
            }
        }
    }
    Ok(pairs.into())
}

fn plain(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Json, String> {
    let kind = tag.filter(|tag| tag.is_yaml_core_schema()).map(|tag| tag.suffix.as_str());
    let resolved = || scalar::resolve(text);
    let fits = match (kind, style) {
        (None, ScalarStyle::Plain) => return Ok(resolved()),
        (None | Some("str"), _) => return Ok(text.into()),
        (Some("null"), _) => Some(Json::Null),
        (Some("bool"), _) => Some(resolved()).filter(Json::is_boolean),
        (Some("int" | "float"), _) => Some(resolved()).filter(Json::is_number),
        (Some(_), _) => return Ok(text.into()),
    };
    fits.ok_or_else(|| format!("invalid '!!{}' value: '{text}'", kind.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    #[allow(clippy::needless_pass_by_value, reason = "so that calls read as a table")]
    fn check(text: &str, expected: Result<Json, &str>) {
        assert_eq!(read(text), expected.map_err(str::to_owned), "{text}");
    }

    #[test]
    fn documents_are_read() {
        check("a: [1, x, ~]\nb:\n- c: 'd'\n", Ok(json!({"a": [1, "x", null], "b": [{"c": "d"}]})));
        check(
            "a: &x {b: 1}\nc: *x\nd: {<<: *x, e: 2}",
            Ok(json!({"a": {"b": 1}, "c": {"b": 1}, "d": {"e": 2, "b": 1}})),
        );
        check("a: {<<: [{b: 1, c: 1}, {b: 2}], c: 3}", Ok(json!({"a": {"c": 3, "b": 1}})));
        check("1: a\ntrue: b\n", Ok(json!({"1": "a", "true": "b"})));
        check("a: !!str 1\nb: !!int '2'\n", Ok(json!({"a": "1", "b": 2})));
        check("", Ok(Json::Null));
        check("--- 1\n--- 2\n", Ok(json!(1)));
        check("a: |\n  b\n  c\n", Ok(json!({"a": "b\nc\n"})));
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_place() {
        let fault = read("a: [1\nb: 2").expect_err("no YAML");
        assert!(fault.starts_with("2:"), "{fault}");
        check("a: !!int x", Err("1:4: invalid '!!int' value: 'x'"));
        check("{bad", Err("2:1: did not find expected ',' or '}'"));
        check("a: &x [*x]", Err("1:8: invalid reference to what is not complete"));
        check("a: {<<: 1}", Err("1:10: invalid '<<' merge"));
        assert!(read("a: *none").is_err());
    }

    #[test]
    fn depth_and_copies_are_bounded() {
        let deep = (0..100).map(|level| format!("{}a:\n", " ".repeat(level)));
        let fault = read(&deep.collect::<String>()).expect_err("deep");
        assert!(fault.contains("nested deeper"), "{fault}");
        assert!(read(&"[".repeat(10_000)).is_err(), "depth in one line");
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let before = format!("*a{}, ", level - 1).repeat(10);
            bomb += &format!("a{level}: &a{level} [{before}x]\n");
        }
        assert!(read(&bomb).expect_err("a bomb").contains("values"), "copies");
    }
}

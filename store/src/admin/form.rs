//! Arguments of queries and forms: from `a.b=1&c[]=2` to a tree of texts.
//!
//! What the texts stand for (numbers, sets, null) is decided later by the entity's schema, see
//! `coerce.rs`. Source: Kong `kong/api/arguments_decoder.lua`.

use super::{ADMIN_ARGUMENT_DEPTH_MAX, ADMIN_ARGUMENTS_MAX, Reply};
use percent_encoding::percent_decode;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Why arguments cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// More than [`ADMIN_ARGUMENTS_MAX`].
    TooMany,
    /// A name nests deeper than [`ADMIN_ARGUMENT_DEPTH_MAX`].
    TooDeep,
    /// Something is not UTF-8.
    NotText,
    /// A multipart body that does not keep to its boundary.
    NoParts,
    /// A part or a body that calls itself JSON and is not.
    NotJson,
}

impl From<Unreadable> for Reply {
    fn from(fault: Unreadable) -> Self {
        Self::message(
            400,
            match fault {
                Unreadable::TooMany => "Too many arguments",
                Unreadable::TooDeep => "Arguments are nested too deeply",
                Unreadable::NotText => "Arguments must be valid UTF-8",
                Unreadable::NoParts => "Cannot parse multipart body",
                Unreadable::NotJson => "Cannot parse JSON body",
            },
        )
    }
}

/// The arguments of a query or an urlencoded form in their order. A name without `=` counts as
/// the boolean `true`, as in nginx.
///
/// # Errors
/// [`Unreadable::TooMany`], [`Unreadable::NotText`].
pub(super) fn pairs(text: &[u8]) -> Result<Vec<(String, Value)>, Unreadable> {
    let mut found = Vec::new();
    for argument in text.split(|&byte| byte == b'&').filter(|argument| !argument.is_empty()) {
        if found.len() == ADMIN_ARGUMENTS_MAX {
            return Err(Unreadable::TooMany);
        }
        let mut halves = argument.splitn(2, |&byte| byte == b'=');
        let name = decoded(halves.next().unwrap_or_default())?;
        let value = match halves.next() {
            Some(value) => Value::String(decoded(value)?),
            None => Value::Bool(true),
        };
        if !name.is_empty() {
            found.push((name, value));
        }
    }
    Ok(found)
}

/// The text of one name or value: `+` is a space, a `%` that begins no escape stands for itself.
fn decoded(text: &[u8]) -> Result<String, Unreadable> {
    let spaced: Vec<u8> = text.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    let bytes: Vec<u8> = percent_decode(&spaced).collect();
    String::from_utf8(bytes).map_err(|_| Unreadable::NotText)
}

/// Builds the tree that the names describe: `a.b` and `a[b]` are keys, `a[]` appends, `a[1]` is
/// the first element, and a repeated name makes a list.
///
/// # Errors
/// [`Unreadable::TooDeep`].
pub(super) fn nest(pairs: Vec<(String, Value)>) -> Result<Map<String, Value>, Unreadable> {
    let mut root = Node::Map(BTreeMap::new());
    for (name, value) in pairs {
        let steps = steps(&name);
        if steps.len() > ADMIN_ARGUMENT_DEPTH_MAX {
            return Err(Unreadable::TooDeep);
        }
        root.put(&steps, value);
    }
    match root.into_value() {
        Value::Object(fields) => Ok(fields),
        _ => Ok(Map::new()),
    }
}

/// One step from a node of the tree to its child.
#[derive(Clone, Debug, PartialEq, Eq)]
enum StepTo {
    Key(String),
    At(usize),
    Next,
}

/// A name as steps. What looks like no proper bracket belongs to the key it stands in.
fn steps(name: &str) -> Vec<StepTo> {
    let mut steps = Vec::new();
    let mut rest = name;
    loop {
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (key, tail) = rest.split_at(end);
        let (brackets, after) = bracketed(tail);
        if brackets.is_empty() && tail.starts_with('[') {
            steps.push(StepTo::Key(rest.to_owned()));
            return steps;
        }
        steps.push(StepTo::Key(key.to_owned()));
        steps.extend(brackets);
        match after.strip_prefix('.') {
            Some(next) if steps.len() <= ADMIN_ARGUMENT_DEPTH_MAX => rest = next,
            _ => return steps,
        }
    }
}

/// The brackets that a text begins with, and what comes behind them (nothing or `.…`); no
/// bracket at all unless they end there.
fn bracketed(text: &str) -> (Vec<StepTo>, &str) {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((inner, after)) =
        rest.strip_prefix('[').and_then(|inside| inside.split_once(']'))
    {
        found.push(match inner {
            "" => StepTo::Next,
            number if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                number.parse().map_or_else(|_| StepTo::Key(number.to_owned()), StepTo::At)
            }
            key => StepTo::Key(key.to_owned()),
        });
        rest = after;
        if found.len() > ADMIN_ARGUMENT_DEPTH_MAX {
            return (found, "");
        }
    }
    if rest.is_empty() || rest.starts_with('.') { (found, rest) } else { (Vec::new(), text) }
}

/// The tree while it grows. Lists are sparse, so that a huge index costs nothing.
#[derive(Debug)]
enum Node {
    Leaf(Value),
    Map(BTreeMap<String, Node>),
    List(BTreeMap<usize, Node>),
}

impl Node {
    fn put(&mut self, steps: &[StepTo], value: Value) {
        let Some((step, rest)) = steps.split_first() else {
            return self.put_here(value);
        };
        let child = match step {
            StepTo::Key(key) => self.map().entry(key.clone()).or_insert_with(Self::nothing),
            StepTo::At(index) => self.list().entry(*index).or_insert_with(Self::nothing),
            StepTo::Next => {
                let list = self.list();
                let index = list.last_key_value().map_or(1, |(last, _)| last.saturating_add(1));
                list.entry(index).or_insert_with(Self::nothing)
            }
        };
        child.put(rest, value);
    }

    /// A place that was named and has no value yet.
    const fn nothing() -> Self {
        Self::Map(BTreeMap::new())
    }

    fn is_nothing(&self) -> bool {
        matches!(self, Self::Map(map) if map.is_empty())
    }

    /// A second value for the same name makes a list of both.
    fn put_here(&mut self, value: Value) {
        if self.is_nothing() {
            *self = Self::Leaf(value);
        } else {
            self.put(&[StepTo::Next], value);
        }
    }

    fn map(&mut self) -> &mut BTreeMap<String, Self> {
        if !matches!(self, Self::Map(_)) {
            *self = Self::nothing();
        }
        match self {
            Self::Map(map) => map,
            Self::Leaf(_) | Self::List(_) => unreachable!("made a map above"),
        }
    }

    fn list(&mut self) -> &mut BTreeMap<usize, Self> {
        if !matches!(self, Self::List(_)) {
            let before = std::mem::replace(self, Self::List(BTreeMap::new()));
            if let (Self::List(list), Self::Leaf(_)) = (&mut *self, &before) {
                list.insert(1, before);
            }
        }
        match self {
            Self::List(list) => list,
            Self::Leaf(_) | Self::Map(_) => unreachable!("made a list above"),
        }
    }

    /// A list whose indexes are not exactly 1, 2, 3, … is no list but a map, so that the check
    /// says `expected an array`.
    fn into_value(self) -> Value {
        match self {
            Self::Leaf(value) => value,
            Self::Map(map) => {
                Value::Object(map.into_iter().map(|(k, v)| (k, v.into_value())).collect())
            }
            Self::List(list) if list.keys().copied().eq(1..=list.len()) => {
                Value::Array(list.into_values().map(Self::into_value).collect())
            }
            Self::List(list) => Value::Object(
                list.into_iter().map(|(k, v)| (k.to_string(), v.into_value())).collect(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[track_caller]
    #[allow(clippy::needless_pass_by_value, reason = "so that calls read as a table")]
    fn check(form: &str, expected: Value) {
        let tree = pairs(form.as_bytes()).and_then(nest).expect("readable");
        assert_eq!(Value::Object(tree), expected, "{form}");
    }

    /// Source: `contract/vectors.md`, section 2 (before the values are inferred).
    #[test]
    fn names_describe_a_tree() {
        check("", json!({}));
        check("a=1&b=x+y%21&c=%zz", json!({"a": "1", "b": "x y!", "c": "%zz"}));
        check("paths[]=/x", json!({"paths": ["/x"]}));
        check("paths[]=/x&paths[]=/y", json!({"paths": ["/x", "/y"]}));
        check("paths[2]=/y&paths[1]=/x", json!({"paths": ["/x", "/y"]}));
        check("paths%5B%5D=/x", json!({"paths": ["/x"]}));
        check("paths=/x&paths=/y&paths=/z", json!({"paths": ["/x", "/y", "/z"]}));
        check("paths=/x&paths[]=/y", json!({"paths": ["/x", "/y"]}));
        check("headers.x-foo=a", json!({"headers": {"x-foo": "a"}}));
        check("headers.x-foo[]=a", json!({"headers": {"x-foo": ["a"]}}));
        check("headers[x.foo][]=a", json!({"headers": {"x.foo": ["a"]}}));
        check("headers[x-a]=1&headers[x-b]=2", json!({"headers": {"x-a": "1", "x-b": "2"}}));
        check(
            "sources[1].ip=1.2.3.4&sources[1].port=80",
            json!({"sources": [{"ip": "1.2.3.4", "port": "80"}]}),
        );
        check("config.add.headers[1]=a:b", json!({"config": {"add": {"headers": ["a:b"]}}}));
        check("enabled&name=", json!({"enabled": true, "name": ""}));
    }

    #[test]
    fn odd_names_make_odd_trees_and_nothing_worse() {
        check("paths[0]=a", json!({"paths": {"0": "a"}}));
        check("paths[99999999999999999999]=a", json!({"paths": {"99999999999999999999": "a"}}));
        check(
            "paths[4000000000]=a&paths[]=b",
            json!({"paths": {"4000000000": "a", "4000000001": "b"}}),
        );
        check("a[=1", json!({"a[": "1"}));
        check("a[]x=1", json!({"a[]x": "1"}));
        check("a]b=1", json!({"a]b": "1"}));
        check("a..b=1", json!({"a": {"": {"b": "1"}}}));
        check("a=1&a.b=2", json!({"a": {"b": "2"}}));
        check("a.b=1&a=2", json!({"a": ["2"]}));
        check("=1&&", json!({}));
    }

    #[test]
    fn bounds_hold() {
        let many = "a=1&".repeat(ADMIN_ARGUMENTS_MAX + 1);
        assert_eq!(pairs(many.as_bytes()), Err(Unreadable::TooMany));
        for unit in ["a.", "[x]", "[]"] {
            let deep = format!("a{}=1", unit.repeat(1 << 20));
            let found = pairs(deep.as_bytes()).and_then(nest);
            assert!(found == Err(Unreadable::TooDeep), "{unit}");
        }
        assert_eq!(pairs(b"a=%ff"), Err(Unreadable::NotText));
    }

    proptest! {
        #[test]
        fn no_form_panics(text in "[a.\\[\\]=&%0-9+]{0,60}", bytes: Vec<u8>) {
            let _ = pairs(text.as_bytes()).and_then(nest);
            let _ = pairs(&bytes).and_then(nest);
        }
    }
}

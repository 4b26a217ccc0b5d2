//! JSON in and out.

use super::{Record, Row, Value};
use crate::schema::{Field, Kind};
use serde_json::{Map, Number};

impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(flag) => Self::Flag(flag),
            serde_json::Value::Number(number) => from_number(&number),
            serde_json::Value::String(text) => Self::Text(text.into()),
            serde_json::Value::Array(items) => {
                Self::List(items.into_iter().map(Self::from).collect())
            }
            serde_json::Value::Object(pairs) => Self::Map(
                pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            ),
        }
    }
}

fn from_number(number: &Number) -> Value {
    match number.as_i64() {
        Some(whole) if whole.unsigned_abs() <= 1 << 53 => Value::Integer(whole),
        _ => Value::from_number(number.as_f64().unwrap_or(f64::INFINITY)),
    }
}

impl Value {
    /// As JSON. A UUID is printed as a string; a pointer to a row needs its field
    /// ([`Row::to_json`]).
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Flag(flag) => (*flag).into(),
            Self::Integer(number) => (*number).into(),
            Self::Number(number) => {
                Number::from_f64(*number).map_or(serde_json::Value::Null, serde_json::Value::Number)
            }
            Self::Text(text) => text.to_string().into(),
            Self::Id(id) => id.to_string().into(),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(pairs) => pairs
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_json()))
                .collect::<Map<_, _>>()
                .into(),
            Self::Record(record) => record.to_json().into(),
        }
    }
}

impl Record {
    /// As JSON: every field, null or not, and the deprecated names that still show their
    /// replacement's value.
    pub fn to_json(&self) -> Map<String, serde_json::Value> {
        let mut object = Map::new();
        for (field, value) in self.iter() {
            object.insert(field.name.to_owned(), field_to_json(field, value));
        }
        for shorthand in self.shape.shorthands {
            let replaced = shorthand.field.deprecation.map(|gone| gone.replaced_with);
            if let Some([path, ..]) = replaced {
                let value = at_path(&object, path);
                object.insert(shorthand.field.name.to_owned(), value);
            }
        }
        object
    }
}

fn at_path(object: &Map<String, serde_json::Value>, path: &[&str]) -> serde_json::Value {
    let Some((first, rest)) = path.split_first() else { return serde_json::Value::Null };
    match (object.get(*first), rest) {
        (Some(value), []) => value.clone(),
        (Some(serde_json::Value::Object(inner)), rest) => at_path(inner, rest),
        _ => serde_json::Value::Null,
    }
}

fn field_to_json(field: &Field, value: &Value) -> serde_json::Value {
    match (field.kind, value) {
        (Kind::Foreign(..), Value::Id(id)) => serde_json::json!({ "id": id.to_string() }),
        _ => value.to_json(),
    }
}

impl Row {
    /// As JSON, as the Admin API prints it: every stored field, null or not, pointers as
    /// `{"id": …}`, and for a row that expires the seconds that are left at `now_s`.
    pub fn to_json(&self, now_s: i64) -> Map<String, serde_json::Value> {
        let mut object = Map::new();
        for (field, value) in self.iter() {
            if !field.transient {
                object.insert(field.name.to_owned(), field_to_json(field, value));
            }
        }
        if let Some(expires_at_s) = self.expires_at_s() {
            object.insert("ttl".to_owned(), (expires_at_s - now_s).max(0).into());
        }
        object
    }
}

impl Value {
    /// As JSON for a database: what was given and nothing made from it, pointers as their id.
    pub fn stored(&self) -> serde_json::Value {
        match self {
            Self::List(items) => items.iter().map(Self::stored).collect(),
            Self::Map(pairs) => pairs
                .iter()
                .map(|(name, value)| (name.to_string(), value.stored()))
                .collect::<Map<_, _>>()
                .into(),
            Self::Record(record) => record
                .iter()
                .map(|(field, value)| (field.name.to_owned(), value.stored()))
                .collect::<Map<_, _>>()
                .into(),
            plain => plain.to_json(),
        }
    }
}

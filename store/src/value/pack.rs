//! From input form to rows and back.

use super::{Record, Row, Value, parse_uuid};
use crate::schema::{Catalogue, Entity, Field, Kind, Limit, Shape, Variants};

impl Row {
    /// Packs a valid object. `catalogue` gives the shape of a plugin's `config`.
    ///
    /// Names that are no field are dropped; absent fields become null. `version` is the number of
    /// the change that writes the row. A `ttl` in the object counts from `now_s`.
    pub fn pack(
        entity: &'static Entity,
        catalogue: &Catalogue,
        mut object: Value,
        version: u64,
        now_s: i64,
    ) -> Self {
        let config = variant_config(entity, catalogue, &object);
        let expires_at_s = match object.take("ttl") {
            Some(Value::Integer(ttl_s)) if entity.ttl && ttl_s > 0 => now_s + ttl_s,
            _ => 0,
        };
        let values = entity
            .fields
            .iter()
            .map(|field| {
                let value = object.take(field.name).unwrap_or_default();
                match config {
                    Some(shape) if field.is_abstract => pack_record(shape, value),
                    _ => pack(field, value),
                }
            })
            .collect();
        Self { entity, version, expires_at_s, values }
    }

    /// The same row that ends at another time (`None`: never).
    pub fn expiring(mut self, at_s: Option<i64>) -> Self {
        self.expires_at_s = at_s.unwrap_or(0);
        self
    }

    /// The row as an object in input form, nulls included.
    pub fn unpack(&self) -> Value {
        Value::Map(
            self.iter().map(|(field, value)| (field.name.into(), unpack(field, value))).collect(),
        )
    }
}

/// The shape of the abstract field of this object, where its variant has one.
fn variant_config(entity: &Entity, catalogue: &Catalogue, object: &Value) -> Option<Shape> {
    match entity.variants {
        Variants::Plugins => catalogue
            .installed(object.get("name").as_text()?)
            .map(crate::schema::PluginSchema::shape),
        Variants::Of { key, list, .. } => {
            let chosen = object.get(key).as_text()?;
            let variant = list.iter().find(|variant| variant.keys.contains(&chosen))?;
            variant.fields.iter().find_map(|field| match field.kind {
                Kind::Record(shape) => Some(shape),
                _ => None,
            })
        }
        Variants::None => None,
    }
}

fn pack_record(shape: Shape, mut object: Value) -> Value {
    if object.is_null() {
        return Value::Null;
    }
    let values = shape
        .fields
        .iter()
        .map(|field| pack(field, object.take(field.name).unwrap_or_default()))
        .collect();
    Value::Record(Box::new(Record { shape, values }))
}

fn pack(field: &Field, value: Value) -> Value {
    match (field.kind, value) {
        (_, Value::Null) => Value::Null,
        (Kind::Foreign(..), value) => value.as_id().map_or(Value::Null, Value::Id),
        (Kind::Text, Value::Text(text)) if is_uuid(field) => match parse_uuid(&text) {
            Some(id) => Value::Id(id),
            None => Value::Text(text),
        },
        (Kind::List(element) | Kind::Set(element), Value::List(items)) => {
            let mut packed: Vec<Value> =
                items.into_iter().map(|item| pack(element, item)).collect();
            packed.shrink_to_fit();
            Value::List(packed)
        }
        (Kind::Map(_, values), Value::Map(pairs)) => {
            let mut packed: Vec<_> =
                pairs.into_iter().map(|(name, value)| (name, pack(values, value))).collect();
            packed.shrink_to_fit();
            Value::Map(packed)
        }
        (Kind::Record(shape), value @ Value::Map(_)) if !field.is_abstract => {
            pack_record(shape, value)
        }
        (_, value) => value,
    }
}

fn is_uuid(field: &Field) -> bool {
    field.limits.iter().any(|limit| matches!(limit, Limit::Uuid))
}

fn unpack(field: &Field, value: &Value) -> Value {
    match (field.kind, value) {
        (Kind::Foreign(..), Value::Id(id)) => Value::object([("id", Value::text(id.to_string()))]),
        (_, value) => value.unpack(),
    }
}

impl Value {
    /// In input form: records become objects, UUIDs become strings.
    pub fn unpack(&self) -> Value {
        match self {
            Self::Id(id) => Self::text(id.to_string()),
            Self::List(items) => Self::List(items.iter().map(Self::unpack).collect()),
            Self::Map(pairs) => Self::Map(
                pairs.iter().map(|(name, value)| (name.clone(), value.unpack())).collect(),
            ),
            Self::Record(record) => Self::Map(
                record
                    .iter()
                    .map(|(field, value)| (field.name.into(), unpack(field, value)))
                    .collect(),
            ),
            other => other.clone(),
        }
    }
}

//! From input form to rows and back.

use super::{Record, Row, Value, parse_uuid};
use crate::schema::{Catalogue, Entity, Field, Kind, Limit, PluginSchema, Shape, Variants};

impl Row {
    /// Packs a valid object. `catalogue` gives the shape of a plugin's `config`.
    ///
    /// Names that are no field are dropped; absent fields become null. `version` is the number of
    /// the change that writes the row.
    pub fn pack(
        entity: &'static Entity,
        catalogue: &Catalogue,
        mut object: Value,
        version: u64,
    ) -> Self {
        let config = variant_config(entity, catalogue, &object);
        let mut taken = |field: &'static Field| {
            let value = if field.transient { None } else { object.take(field.name) };
            pack_field(field, config, value.unwrap_or_default())
        };
        let values = entity.fields.iter().map(&mut taken).collect();
        Self::of(entity, version, 0, values)
    }

    /// Packs what a database holds: one value for each field, in their order, lists and records in
    /// input form. A required field that is null (a column younger than the row) gets its default.
    pub fn load(
        entity: &'static Entity,
        catalogue: &Catalogue,
        values: Vec<Value>,
        expires_at_s: Option<i64>,
    ) -> Self {
        let key = |name: &str| {
            let place = entity.position(name)?;
            values.get(place).and_then(Value::as_text)
        };
        let config = variant_shape(entity, catalogue, key);
        let packed = entity.fields.iter().zip(values).map(|(field, value)| {
            let value = match (value, field.preset) {
                (Value::Null, Some(preset)) if field.is_required() => Value::from_preset(&preset),
                (value, _) => value,
            };
            pack_field(field, config, value)
        });
        let values = packed.collect();
        Self::of(entity, 0, expires_at_s.unwrap_or(0), values)
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

fn variant_config(entity: &Entity, catalogue: &Catalogue, object: &Value) -> Option<Shape> {
    variant_shape(entity, catalogue, |name| object.get(name).as_text())
}

/// The shape of the abstract field of an object, where its variant has one.
fn variant_shape<'a>(
    entity: &Entity,
    catalogue: &Catalogue,
    key_of: impl Fn(&str) -> Option<&'a str>,
) -> Option<Shape> {
    match entity.variants {
        Variants::Plugins => catalogue.installed(key_of("name")?).map(PluginSchema::shape),
        Variants::Of { key, list, .. } => {
            let chosen = key_of(key)?;
            let variant = list.iter().find(|variant| variant.keys.contains(&chosen))?;
            variant.fields.iter().find_map(|field| match field.kind {
                Kind::Record(shape) => Some(shape),
                _ => None,
            })
        }
        Variants::None => None,
    }
}

fn pack_field(field: &Field, config: Option<Shape>, value: Value) -> Value {
    match config {
        Some(shape) if field.is_abstract => pack_record(shape, value),
        _ => pack(field, value),
    }
}

fn pack_record(shape: Shape, mut object: Value) -> Value {
    if object.is_null() {
        return Value::Null;
    }
    let values = shape
        .fields
        .iter()
        .map(|field| pack(field, object.take(field.name).unwrap_or_else(|| absent(field))))
        .collect();
    Value::Record(Box::new(Record { shape, values }))
}

/// What a record gets that was stored before it had the field.
fn absent(field: &Field) -> Value {
    match (field.preset, field.kind) {
        (Some(preset), _) => Value::from_preset(&preset),
        (None, Kind::Record(_)) if field.is_required() => Value::Map(Vec::new()),
        _ => Value::Null,
    }
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

//! What an object gets before it is checked: shorthands spelt out, defaults, auto fields.
//!
//! Source: Kong `kong/db/schema/init.lua` (`process_auto_fields`, `handle_missing_field`,
//! `merge_values`).

use super::{Facts, Faults, Mode, fields};
use crate::schema::{Catalogue, Deprecation, Expand, Field, Kind, Shape, Shorthand};
use crate::value::Value;

/// The fields that an object of this entity has, given its variant.
pub(super) struct Fields<'a> {
    /// The entity's or record's own.
    pub(super) shape: Shape,
    /// Those that its variant puts in their place.
    pub(super) variant: &'a dyn Fn(&str) -> Option<Field>,
}

impl Fields<'_> {
    /// The field of that name, the variant's if it has one.
    pub(super) fn named(&self, name: &str) -> Option<Field> {
        let own = self.shape.field(name)?;
        Some((self.variant)(name).unwrap_or(*own))
    }

    /// All fields, those of the variant in the place of the entity's.
    pub(super) fn all(&self) -> impl Iterator<Item = Field> {
        self.shape.fields.iter().map(|own| (self.variant)(own.name).unwrap_or(*own))
    }
}

/// Completes an object. In [`Mode::Update`] absent fields stay absent.
///
/// # Errors
/// Faults of shorthands; nothing else is checked then.
pub(super) fn object(
    catalogue: &Catalogue,
    known: &Fields<'_>,
    mut input: Value,
    mode: Mode,
    facts: &mut Facts<'_>,
) -> Result<Value, Faults> {
    expand(catalogue, known.shape.shorthands, &mut input)?;
    fill(catalogue, known, input, mode, facts)
}

/// Completes an object whose shorthands are spelt out.
///
/// # Errors
/// Faults of the shorthands of records inside.
pub(super) fn fill(
    catalogue: &Catalogue,
    known: &Fields<'_>,
    mut input: Value,
    mode: Mode,
    facts: &mut Facts<'_>,
) -> Result<Value, Faults> {
    for field in known.all() {
        let given = input.take(field.name);
        let given = auto(&field, given, mode, facts);
        if let Some(value) = value(catalogue, &field, given, mode, facts)? {
            input.put(field.name, value);
        }
    }
    Ok(input)
}

/// Completes a record without auto fields of its own.
pub(super) fn record(
    catalogue: &Catalogue,
    shape: Shape,
    input: Value,
    mode: Mode,
    facts: &mut Facts<'_>,
) -> Result<Value, Faults> {
    object(catalogue, &Fields { shape, variant: &|_| None }, input, mode, facts)
}

fn value(
    catalogue: &Catalogue,
    field: &Field,
    given: Option<Value>,
    mode: Mode,
    facts: &mut Facts<'_>,
) -> Result<Option<Value>, Faults> {
    if field.is_abstract {
        return Ok(given);
    }
    let given = match given {
        None if mode == Mode::Update => return Ok(None),
        None => match missing(field) {
            Some(value) => value,
            None => return Ok(None),
        },
        Some(given) => given,
    };
    inside(catalogue, field, given, mode, facts).map(Some)
}

/// The value of a field that was not given; `None` where that is a fault.
fn missing(field: &Field) -> Option<Value> {
    match field.preset {
        Some(preset) => Some(Value::from_preset(&preset)),
        None if !field.is_required() => Some(Value::Null),
        None if matches!(field.kind, Kind::Record(_)) => Some(Value::Map(Vec::new())),
        None => None,
    }
}

/// Completes what is inside a value. Items of lists and values of maps are always whole, so they
/// are completed even in an update.
fn inside(
    catalogue: &Catalogue,
    field: &Field,
    given: Value,
    mode: Mode,
    facts: &mut Facts<'_>,
) -> Result<Value, Faults> {
    let whole = if mode == Mode::Update { Mode::Insert } else { mode };
    match (field.kind, emptied(field, given)) {
        (Kind::Record(shape), given @ Value::Map(_)) => {
            record(catalogue, shape, given, mode, facts)
        }
        (Kind::List(element), Value::List(items)) => {
            list(catalogue, element, items, whole, facts).map(Value::List)
        }
        (Kind::Set(element), Value::List(items)) => {
            let items = list(catalogue, element, items, whole, facts)?;
            Ok(Value::List(without_doubles(items)))
        }
        (Kind::Map(_, element), Value::Map(pairs)) => {
            let mut completed = Vec::with_capacity(pairs.len());
            for (name, value) in pairs {
                completed.push((name, inside(catalogue, element, value, whole, facts)?));
            }
            Ok(Value::Map(completed))
        }
        (_, given) => Ok(given),
    }
}

/// Lua has one empty table, so `[]` stands for an empty record or map, and `{}` for an empty list.
fn emptied(field: &Field, given: Value) -> Value {
    match (field.kind, given) {
        (Kind::Record(_) | Kind::Map(..), Value::List(items)) if items.is_empty() => {
            Value::Map(Vec::new())
        }
        (Kind::List(_) | Kind::Set(_), Value::Map(pairs)) if pairs.is_empty() => {
            Value::List(Vec::new())
        }
        (_, given) => given,
    }
}

fn list(
    catalogue: &Catalogue,
    element: &Field,
    items: Vec<Value>,
    mode: Mode,
    facts: &mut Facts<'_>,
) -> Result<Vec<Value>, Faults> {
    items.into_iter().map(|item| inside(catalogue, element, item, mode, facts)).collect()
}

/// Kong compares the items of a set as Lua does: tables are never the same.
fn without_doubles(items: Vec<Value>) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::with_capacity(items.len());
    let mut seen = std::collections::HashSet::new();
    for item in items {
        let is_new = match &item {
            Value::Text(text) => seen.insert(text.clone()),
            Value::Map(_) | Value::List(_) | Value::Record(_) => true,
            other => !kept.contains(other),
        };
        if is_new {
            kept.push(item);
        }
    }
    kept
}

fn auto(field: &Field, given: Option<Value>, mode: Mode, facts: &mut Facts<'_>) -> Option<Value> {
    if !field.auto {
        return given;
    }
    let whole = mode != Mode::Update;
    match field.kind {
        Kind::Text if whole && given.is_none() => Some(if fields::is_uuid(field) {
            Value::text(facts.uuid().to_string())
        } else {
            Value::text(facts.secret())
        }),
        Kind::Integer | Kind::Number => {
            let is_new =
                field.name == "created_at" && whole && given.as_ref().is_none_or(Value::is_null);
            if is_new || field.name == "updated_at" { Some(now(field, facts)) } else { given }
        }
        _ => given,
    }
}

fn now(field: &Field, facts: &Facts<'_>) -> Value {
    match field.kind {
        Kind::Integer => Value::Integer(facts.now_s),
        _ => Value::from_number(facts.now_ms as f64 / 1000.0),
    }
}

fn expand(
    catalogue: &Catalogue,
    shorthands: &[Shorthand],
    input: &mut Value,
) -> Result<(), Faults> {
    let mut faults = Faults::new();
    for shorthand in shorthands {
        let name = shorthand.field.name;
        let Some(given) = input.take(name) else { continue };
        if let Err(wrong) = fields::check(catalogue, &shorthand.field, &given, Mode::Insert) {
            faults.set(name, wrong);
            continue;
        }
        if let Some(words) =
            shorthand.field.deprecation.and_then(|gone| clash(gone, name, &given, input))
        {
            faults.set(name, words);
            continue;
        }
        let made = match shorthand.expand {
            Expand::With(make) => make(&given),
            Expand::Into(path) => nested(path, given),
        };
        for (name, value) in made {
            put(input, name, value, shorthand.field.deprecation.is_some());
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

fn nested(path: &'static [&'static str], value: Value) -> Vec<(&'static str, Value)> {
    let Some((first, rest)) = path.split_first() else { return Vec::new() };
    let value =
        rest.iter().rev().fold(value, |value, name| Value::Map(vec![((*name).into(), value)]));
    vec![(first, value)]
}

/// What a shorthand makes goes over what was given; if the shorthand is on its way out, what was
/// given stays, unless it is null.
fn put(input: &mut Value, name: &str, made: Value, gives_way: bool) {
    let Value::Map(pairs) = made else {
        if !gives_way || input.get(name).is_null() {
            input.put(name, made);
        }
        return;
    };
    let slot = input.slot(name);
    for (inner, value) in pairs {
        if !gives_way || slot.get(&inner).is_null() {
            slot.put(&inner, value);
        }
    }
}

/// The old and the new name of a field, given with different values.
fn clash(gone: &Deprecation, name: &str, given: &Value, input: &Value) -> Option<String> {
    if given.is_null() {
        return None;
    }
    gone.replaced_with.iter().find_map(|path| {
        let other = path.iter().try_fold(input, |value, name| value.lookup(name))?;
        (!other.is_null() && other != given).then(|| {
            format!(
                "both deprecated and new field are used but their values mismatch: {name} = {} vs \
                 {} = {}",
                fields::shown(given),
                path.join("."),
                fields::shown(other)
            )
        })
    })
}

/// Lays a patch over a row: records merge, everything else is replaced.
pub(super) fn merge(shape: Shape, patch: Value, row: Value, known: &Fields<'_>) -> Value {
    let (Value::Map(patch), Value::Map(mut row)) = (patch, row) else { return Value::Null };
    for (name, value) in patch {
        let field = known.named(&name).or_else(|| shape.field(&name).copied());
        let slot = row.iter_mut().find(|(known, _)| *known == name);
        let Some((_, old)) = slot else {
            row.push((name, value));
            continue;
        };
        match (field.map(|field| field.kind), value) {
            (Some(Kind::Record(inner)), value @ Value::Map(_)) if matches!(old, Value::Map(_)) => {
                let known = Fields { shape: inner, variant: &|_| None };
                *old = merge(inner, value, std::mem::take(old), &known);
            }
            (_, value) => *old = value,
        }
    }
    Value::Map(row)
}

//! One value against one field.
//!
//! Source: Kong `kong/db/schema/init.lua` (`validate_field`, `Schema.validators`).

use super::{Facts, Faults, Mode, Wrong, complete, formats, objects, pattern};
use crate::schema::{Catalogue, Choices, Field, Kind, Limit, Preset};
use crate::value::{Value, parse_uuid};

const REQUIRED: &str = "required field missing";

/// Checks a value; null included.
///
/// # Errors
/// The first fault of a plain value; all faults of a record's fields and a list's items.
pub(super) fn check(
    catalogue: &Catalogue,
    field: &Field,
    value: &Value,
    mode: Mode,
) -> Result<(), Wrong> {
    if value.is_null() {
        return null(field);
    }
    if field.limits.iter().any(|limit| matches!(limit, Limit::Eq(Preset::Null))) {
        return Err(field.fault.unwrap_or("value must be null").into());
    }
    if let Some(gone) = field.deprecation {
        let usual = gone.old_default.is_some_and(|old| Value::from_preset(&old) == *value);
        if !usual {
            log::warn!(
                "{} (deprecated, will be gone in {})",
                gone.message,
                gone.removal_in_version
            );
        }
    }
    kind(catalogue, field, value, mode)?;
    if field.referenceable && value.as_text().is_some_and(is_reference) {
        return Ok(());
    }
    limits(field, value)
}

/// Whether a string is a reference into a vault: `{vault://…}`.
pub fn is_reference(text: &str) -> bool {
    text.len() > 10 && text.starts_with("{vault://") && text.ends_with('}')
}

/// Whether the field holds a UUID.
pub(super) fn is_uuid(field: &Field) -> bool {
    field.limits.iter().any(|limit| matches!(limit, Limit::Uuid))
}

fn null(field: &Field) -> Result<(), Wrong> {
    for limit in &field.limits {
        match limit {
            Limit::Ne(Preset::Null) => {
                return Err(field.fault.unwrap_or("value must not be null").into());
            }
            Limit::Eq(wanted) if *wanted != Preset::Null => {
                return Err(format!("value must be {}", preset_shown(wanted)).into());
            }
            _ => {}
        }
    }
    if field.is_required() { Err(REQUIRED.into()) } else { Ok(()) }
}

fn kind(catalogue: &Catalogue, field: &Field, value: &Value, mode: Mode) -> Result<(), Wrong> {
    let expected = match (field.kind, value) {
        (Kind::List(element) | Kind::Set(element), Value::List(items)) => {
            return elements(catalogue, element, items, mode);
        }
        (Kind::List(_), _) => "expected an array",
        (Kind::Set(_), _) => "expected a set",
        (Kind::Map(keys, values), Value::Map(pairs)) => {
            let (keys, values) = (&keys.required(), &values.required());
            for (name, value) in pairs {
                check(catalogue, keys, &Value::Text(name.clone()), mode)?;
                check(catalogue, values, value, mode)?;
            }
            return Ok(());
        }
        // Lua's lists are maps whose keys are numbers.
        (Kind::Map(..), Value::List(_)) => "expected a string",
        (Kind::Map(..), _) => "expected a map",
        (Kind::Record(shape), Value::Map(_)) => {
            return objects::record(catalogue, shape, value, mode).map_err(Wrong::Fields);
        }
        (Kind::Record(_) | Kind::Foreign(..), Value::List(items)) if !items.is_empty() => {
            return Err(unknown_fields(items));
        }
        (Kind::Record(_), _) => "expected a record",
        (Kind::Foreign(parent, _), value) => return foreign(catalogue, parent, value),
        (Kind::Integer, Value::Integer(_)) => return Ok(()),
        (Kind::Integer, Value::Number(number)) if number.fract() == 0.0 => return Ok(()),
        (Kind::Integer, _) => "expected an integer",
        (Kind::Text, Value::Text(_) | Value::Id(_)) => return Ok(()),
        (Kind::Text, _) => "expected a string",
        (Kind::Number, Value::Integer(_)) => return Ok(()),
        (Kind::Number, Value::Number(number)) if number.is_finite() => return Ok(()),
        (Kind::Number, _) => "expected a number",
        (Kind::Flag, Value::Flag(_)) => return Ok(()),
        (Kind::Flag, _) => "expected a boolean",
        (Kind::Json(_) | Kind::Any, _) => return Ok(()),
    };
    Err(expected.into())
}

/// A list where a record belongs has fields that nobody knows: Lua's lists are maps.
fn unknown_fields(items: &[Value]) -> Wrong {
    let each = items.iter().enumerate();
    Wrong::Items(each.map(|(place, _)| (place + 1, Wrong::from("unknown field"))).collect())
}

fn elements(
    catalogue: &Catalogue,
    element: &Field,
    items: &[Value],
    mode: Mode,
) -> Result<(), Wrong> {
    let element = &element.required();
    let mut wrong = Vec::new();
    for (place, item) in items.iter().enumerate() {
        if let Err(fault) = check(catalogue, element, item, mode) {
            wrong.push((place + 1, fault));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Wrong::Items(wrong)) }
}

/// A pointer must be an id; where it is another object, that object's own faults are told.
fn foreign(catalogue: &Catalogue, parent: &str, value: &Value) -> Result<(), Wrong> {
    let wrong = match value {
        Value::Id(_) => return Ok(()),
        Value::Map(_) => match value.lookup("id") {
            Some(Value::Id(_)) => return Ok(()),
            Some(Value::Text(id)) if parse_uuid(id).is_some() => return Ok(()),
            Some(Value::Text(id)) if id.is_empty() => "length must be at least 1",
            Some(Value::Text(_)) => "expected a valid UUID",
            Some(Value::Null) => REQUIRED,
            Some(_) => "expected a string",
            None => "missing primary key",
        },
        _ => "missing primary key",
    };
    if let (Some(entity), Value::Map(_)) = (catalogue.entity(parent), value) {
        objects::partial(catalogue, entity, value).map_err(Wrong::Fields)?;
    }
    Err(Wrong::Fields(Faults::of("id", wrong)))
}

fn limits(field: &Field, value: &Value) -> Result<(), Wrong> {
    let mut empty_allowed = false;
    for limit in &field.limits {
        // Kong's order: strings may not be empty unless said, after everything up to `len_min`.
        if limit.rank() > Limit::LenMin(0).rank() && !empty_allowed {
            not_empty(field, value)?;
            empty_allowed = true;
        }
        if matches!(limit, Limit::LenMin(_)) {
            empty_allowed = true;
        }
        if let Err(words) = limit_of(limit, value) {
            return Err(field.fault.map_or(words, str::to_owned).into());
        }
    }
    if empty_allowed { Ok(()) } else { not_empty(field, value) }
}

fn not_empty(field: &Field, value: &Value) -> Result<(), Wrong> {
    match (field.kind, value) {
        (Kind::Text, Value::Text(text)) if text.is_empty() => {
            Err(field.fault.unwrap_or("length must be at least 1").into())
        }
        _ => Ok(()),
    }
}

fn limit_of(limit: &Limit, value: &Value) -> Result<(), String> {
    let text = value.as_text().unwrap_or_default();
    match limit {
        Limit::MatchNone(pairs) => first(pairs, |found| !pattern::matches(text, found)),
        Limit::MatchAll(pairs) => first(pairs, |found| pattern::matches(text, found)),
        Limit::Custom(judge) => judge(value),
        Limit::ExclusiveSubsets(sets) => exclusive(sets, value),
        limit if holds(limit, value, text) => Ok(()),
        limit => Err(words(limit, value)),
    }
}

fn holds(limit: &Limit, value: &Value, text: &str) -> bool {
    let number = value.as_number().unwrap_or(f64::NAN);
    match limit {
        Limit::Eq(wanted) => Value::from_preset(wanted) == *value,
        Limit::Ne(unwanted) => Value::from_preset(unwanted) != *value,
        Limit::NotOneOf(choices) => !among(choices, value),
        Limit::OneOf(choices) => among(choices, value),
        Limit::Gt(bound) => number > *bound,
        Limit::Timestamp => number > 0.0,
        Limit::Uuid => value.as_id().is_some(),
        Limit::IsRegex => formats::regex(text).is_ok(),
        Limit::Between(low, high) => *low <= number && number <= *high,
        Limit::LenEq(wanted) => length(value) == *wanted,
        Limit::LenMin(least) => length(value) >= *least,
        Limit::LenMax(most) => length(value) <= *most,
        Limit::StartsWith(prefix) => text.starts_with(prefix),
        Limit::NotMatch(unwanted) => !pattern::matches(text, unwanted),
        Limit::Match(wanted) => pattern::matches(text, wanted),
        Limit::MatchAny(patterns, _) => {
            patterns.iter().any(|wanted| pattern::matches(text, wanted))
        }
        Limit::Contains(item) => value.texts().any(|text| text == *item),
        _ => true,
    }
}

fn words(limit: &Limit, value: &Value) -> String {
    match limit {
        Limit::Eq(wanted) => format!("value must be {}", preset_shown(wanted)),
        Limit::Ne(_) => format!("value must not be {}", shown(value)),
        Limit::NotOneOf(choices) => format!("must not be one of: {}", choices_shown(choices)),
        Limit::OneOf(choices) => format!("expected one of: {}", choices_shown(choices)),
        Limit::Gt(bound) => format!("value must be greater than {}", number_shown(*bound)),
        Limit::Timestamp => "expected a valid timestamp".to_owned(),
        Limit::Uuid => "expected a valid UUID".to_owned(),
        Limit::IsRegex => format!("not a valid regex: {}", shown(value)),
        Limit::Between(low, high) => {
            format!("value should be between {} and {}", *low as i64, *high as i64)
        }
        Limit::LenEq(wanted) => format!("length must be {wanted}"),
        Limit::LenMin(least) => format!("length must be at least {least}"),
        Limit::LenMax(most) => format!("length must be at most {most}"),
        Limit::StartsWith(prefix) => format!("should start with: {prefix}"),
        Limit::Contains(item) => format!("expected to contain: {item}"),
        Limit::MatchAny(_, words) if !words.is_empty() => (*words).to_owned(),
        _ => format!("invalid value: {}", shown(value)),
    }
}

/// The fault of the first pair whose pattern is not as it should be.
fn first(
    pairs: &[(&'static str, &'static str)],
    holds: impl Fn(&str) -> bool,
) -> Result<(), String> {
    match pairs.iter().find(|(found, _)| !holds(found)) {
        Some((_, words)) => Err((*words).to_owned()),
        None => Ok(()),
    }
}

fn exclusive(sets: &[&[&str]], value: &Value) -> Result<(), String> {
    let mut met: Vec<&[&str]> = Vec::new();
    for text in value.texts() {
        // An item of several sets counts for the last.
        let home = sets.iter().rfind(|set| set.contains(&text));
        if let Some(home) = home
            && !met.iter().any(|known| known == home)
        {
            met.push(home);
        }
    }
    if met.len() <= 1 {
        return Ok(());
    }
    let names: Vec<String> = met.iter().map(|set| format!("({})", quoted(set))).collect();
    Err(format!("these sets are mutually exclusive: {}", names.join(", ")))
}

/// `'a', 'b'`
pub(super) fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}

fn among(choices: &Choices, value: &Value) -> bool {
    match choices {
        Choices::Texts(texts) => value.as_text().is_some_and(|text| texts.contains(&text)),
        Choices::Integers(numbers) => {
            value.as_integer().is_some_and(|number| numbers.contains(&number))
        }
    }
}

fn choices_shown(choices: &Choices) -> String {
    match choices {
        Choices::Texts(texts) => texts.join(", "),
        Choices::Integers(numbers) => {
            numbers.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")
        }
    }
}

fn length(value: &Value) -> i64 {
    let length = match value {
        Value::Text(text) => text.len(),
        Value::List(items) => items.len(),
        Value::Map(pairs) => pairs.len(),
        _ => 0,
    };
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// A value in a sentence, as Lua's `tostring` has it.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => text.to_string(),
        Value::Number(number) => number_shown(*number),
        other => other.to_json().to_string(),
    }
}

fn preset_shown(preset: &Preset) -> String {
    shown(&Value::from_preset(preset))
}

fn number_shown(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        format!("{}", number as i64)
    } else {
        format!("{number}")
    }
}

/// Completes and checks the inside of a record value; Kong does so wherever it meets one.
pub(super) fn completed(
    catalogue: &Catalogue,
    shape: crate::schema::Shape,
    value: &Value,
) -> Result<Value, Faults> {
    let mut none = |_: &mut [u8]| {};
    let mut facts = Facts { now_s: 0, now_ms: 0, random: &mut none };
    complete::record(catalogue, shape, value.clone(), Mode::Insert, &mut facts)
}

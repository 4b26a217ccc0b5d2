//! The texts of a form become what the schema says that they are.
//!
//! JSON has types of its own and is taken as it is. What does not fit stays a text, so that the
//! check can say what was expected. Source: Kong `kong/api/arguments.lua`, `infer_value`.

use super::page::lua_number;
use crate::schema::{Catalogue, Entity, Field, Kind, Shape, Variants};
use crate::value::Value;

/// Gives the arguments of a form for `entity` their types. `variant` is the value that decides
/// about the row's variant (a plugin's name) where the form does not have it.
pub(super) fn coerce(
    catalogue: &Catalogue,
    entity: &Entity,
    variant: Option<&str>,
    input: &mut Value,
) {
    if matches!(entity.variants, Variants::Plugins) {
        let name = input.get("name").as_text().or(variant).unwrap_or_default().to_owned();
        if let (Some(plugin), Some(config)) = (catalogue.installed(&name), place(input, "config")) {
            infer(catalogue, &plugin.config_field(), config);
        }
    }
    fields(catalogue, &entity.shape(), input);
    if let Some(ttl) = place(input, "ttl").filter(|_| entity.ttl) {
        number(ttl);
    }
}

/// The value under `name`, if the input has it.
fn place<'a>(input: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    input.lookup(name)?;
    Some(input.slot(name))
}

fn fields(catalogue: &Catalogue, shape: &Shape, input: &mut Value) {
    let Value::Map(pairs) = input else { return };
    for (name, value) in pairs {
        let shorthand = shape.shorthands.iter().map(|shorthand| &shorthand.field);
        let known = shape.fields.iter().chain(shorthand).find(|field| field.name == &**name);
        if let Some(field) = known {
            infer(catalogue, field, value);
        }
    }
}

fn infer(catalogue: &Catalogue, field: &Field, value: &mut Value) {
    if value.as_text() == Some("") {
        *value = Value::Null;
        return;
    }
    match field.kind {
        Kind::Integer | Kind::Number => number(value),
        Kind::Flag => match value.as_text() {
            Some("true") => *value = Value::Flag(true),
            Some("false") => *value = Value::Flag(false),
            _ => {}
        },
        Kind::List(element) | Kind::Set(element) => list(catalogue, element, value),
        Kind::Map(_, inner) => {
            if let Value::Map(pairs) = value {
                pairs.iter_mut().for_each(|(_, value)| infer(catalogue, inner, value));
            }
        }
        Kind::Record(shape) => fields(catalogue, &shape, value),
        Kind::Foreign(parent, _) => {
            if let Some(parent) = catalogue.entity(parent) {
                fields(catalogue, &parent.shape(), value);
            }
        }
        Kind::Text | Kind::Json(_) | Kind::Any => {}
    }
}

/// One value alone is a list of one.
fn list(catalogue: &Catalogue, element: &Field, value: &mut Value) {
    if matches!(value, Value::Text(_) | Value::Flag(_)) {
        *value = Value::List(vec![std::mem::take(value)]);
    }
    if let Value::List(items) = value {
        items.iter_mut().for_each(|item| infer(catalogue, element, item));
    }
}

fn number(value: &mut Value) {
    if let Some(number) = value.as_text().and_then(lua_number) {
        *value = Value::from_number(number);
    }
}

//! Schemas as JSON, as `GET /schemas/…` prints them.
//!
//! Kong notes in a schema what its checks found out about it, and prints the notes: after the
//! first check of a field every string has `len_min: 1`, and elements are `required`. Here the
//! notes are always there, because the checks always hold.

use crate::schema::{
    Choices, Deprecation, Entity, Field, Kind, Limit, OnDelete, PluginSchema, Preset, Rule, Shape,
    Variants,
};
use crate::value::Value;
use serde_json::{Map, Value as Json, json};

type Object = Map<String, Json>;

/// `GET /schemas/{entity}`
pub fn entity_document(entity: &Entity) -> Json {
    json!({ "entity_checks": rules(entity.rules), "fields": fields(entity.fields) })
}

/// `GET /schemas/plugins/{name}`
pub fn plugin_document(plugin: &PluginSchema) -> Json {
    let names = ["consumer", "protocols", "config", "route", "service"];
    let own: Vec<Field> = names.iter().filter_map(|name| plugin.field(name)).collect();
    json!({ "entity_checks": rules(plugin.rules), "fields": fields(&own) })
}

/// `GET /plugins/schema/{name}`: the `config` record alone.
pub fn plugin_config_document(plugin: &PluginSchema) -> Json {
    let config = document(&plugin.config_field());
    json!({ "entity_checks": [], "fields": config.get("fields") })
}

/// `GET /schemas/vaults/{name}`: the fields of one variant of an entity.
pub fn variant_document(entity: &Entity, name: &str) -> Option<Json> {
    let Variants::Of { list, .. } = entity.variants else { return None };
    let variant = list.iter().find(|variant| variant.keys.contains(&name))?;
    Some(json!({ "entity_checks": rules(variant.rules), "fields": fields(variant.fields) }))
}

fn fields(list: &[Field]) -> Json {
    list.iter().map(|field| json!({ field.name: document(field) })).collect()
}

fn document(field: &Field) -> Json {
    let mut out = kind(field);
    let flags = [
        ("unique_across_ws", field.unique_across_workspaces),
        ("auto", field.auto),
        ("referenceable", field.referenceable),
        ("encrypted", field.encrypted),
        ("transient", field.transient),
        ("abstract", field.is_abstract),
        ("immutable", field.immutable),
    ];
    for (name, _) in flags.iter().filter(|(_, set)| *set) {
        out.insert((*name).to_owned(), json!(true));
    }
    if !field.about.is_empty() {
        out.insert("description".to_owned(), json!(field.about));
    }
    if let Some(elements) = field.stray_elements {
        out.insert("elements".to_owned(), document(elements));
    }
    if let Some(preset) = &field.preset {
        out.insert("default".to_owned(), preset_json(preset));
    }
    if let Some(unique) = field.unique {
        out.insert("unique".to_owned(), json!(unique));
    }
    if let Some(words) = field.fault {
        out.insert("err".to_owned(), json!(words));
    }
    if let Some(gone) = field.deprecation {
        out.insert("deprecation".to_owned(), deprecation(gone));
    }
    match field.required {
        Some(required) => drop(out.insert("required".to_owned(), json!(required))),
        None if field.is_required() => drop(out.insert("required".to_owned(), json!(true))),
        None => {}
    }
    limits(field, &mut out);
    out.into()
}

fn kind(field: &Field) -> Object {
    let mut out = Object::new();
    let name = match field.kind {
        Kind::Text => "string",
        Kind::Integer => "integer",
        Kind::Number => "number",
        Kind::Flag => "boolean",
        Kind::Any => "any",
        Kind::List(element) | Kind::Set(element) => {
            out.insert("elements".to_owned(), element_document(element));
            if matches!(field.kind, Kind::Set(_)) { "set" } else { "array" }
        }
        Kind::Map(keys, values) => {
            out.insert("keys".to_owned(), element_document(keys));
            out.insert("values".to_owned(), element_document(values));
            "map"
        }
        Kind::Record(_) if field.is_abstract => "record",
        Kind::Record(shape) => {
            inside(&shape, &mut out);
            "record"
        }
        Kind::Foreign(entity, on_delete) => {
            out.insert("reference".to_owned(), json!(entity));
            match on_delete {
                OnDelete::Restrict => {}
                OnDelete::Cascade => drop(out.insert("on_delete".to_owned(), json!("cascade"))),
                OnDelete::Null => drop(out.insert("on_delete".to_owned(), json!("null"))),
            }
            "foreign"
        }
        Kind::Json(schema) => {
            let schema = serde_json::from_str(schema).unwrap_or(Json::Null);
            out.insert("json_schema".to_owned(), schema);
            "json"
        }
    };
    out.insert("type".to_owned(), json!(name));
    out
}

fn inside(shape: &Shape, out: &mut Object) {
    out.insert("fields".to_owned(), fields(shape.fields));
    if !shape.rules.is_empty() {
        out.insert("entity_checks".to_owned(), rules(shape.rules));
    }
    if !shape.shorthands.is_empty() {
        let list: Vec<Field> = shape.shorthands.iter().map(|shorthand| shorthand.field).collect();
        out.insert("shorthand_fields".to_owned(), fields(&list));
    }
}

fn element_document(element: &Field) -> Json {
    let mut document = document(element);
    if element.required.is_none() {
        document["required"] = json!(true);
    }
    document
}

fn limits(field: &Field, out: &mut Object) {
    let has_len_min = field.limits.iter().any(|limit| matches!(limit, Limit::LenMin(_)));
    if matches!(field.kind, Kind::Text) && !has_len_min {
        out.insert("len_min".to_owned(), json!(1));
    }
    for limit in &field.limits {
        if let Some((name, value)) = limit_json(limit) {
            out.insert(name.to_owned(), value);
        }
    }
}

fn limit_json(limit: &Limit) -> Option<(&'static str, Json)> {
    let pairs = |pairs: &[(&str, &str)]| -> Json {
        pairs.iter().map(|(pattern, err)| json!({ "pattern": pattern, "err": err })).collect()
    };
    Some(match limit {
        Limit::None | Limit::Custom(_) => return None,
        Limit::Eq(preset) => ("eq", preset_json(preset)),
        Limit::Ne(preset) => ("ne", preset_json(preset)),
        Limit::NotOneOf(choices) => ("not_one_of", choices_json(choices)),
        Limit::OneOf(choices) => ("one_of", choices_json(choices)),
        Limit::Gt(bound) => ("gt", number(*bound)),
        Limit::Timestamp => ("timestamp", json!(true)),
        Limit::Uuid => ("uuid", json!(true)),
        Limit::IsRegex => ("is_regex", json!(true)),
        Limit::Between(low, high) => ("between", json!([number(*low), number(*high)])),
        Limit::LenEq(length) => ("len_eq", json!(length)),
        Limit::LenMin(length) => ("len_min", json!(length)),
        Limit::LenMax(length) => ("len_max", json!(length)),
        Limit::StartsWith(prefix) => ("starts_with", json!(prefix)),
        Limit::NotMatch(pattern) => ("not_match", json!(pattern)),
        Limit::Match(pattern) => ("match", json!(pattern)),
        Limit::MatchNone(list) => ("match_none", pairs(list)),
        Limit::MatchAll(list) => ("match_all", pairs(list)),
        Limit::MatchAny(patterns, "") => ("match_any", json!({ "patterns": patterns })),
        Limit::MatchAny(patterns, err) => {
            ("match_any", json!({ "patterns": patterns, "err": err }))
        }
        Limit::Contains(item) => ("contains", json!(item)),
        Limit::ExclusiveSubsets(sets) => ("mutually_exclusive_subsets", json!(sets)),
    })
}

fn number(number: f64) -> Json {
    Value::from_number(number).to_json()
}

fn preset_json(preset: &Preset) -> Json {
    Value::from_preset(preset).to_json()
}

fn choices_json(choices: &Choices) -> Json {
    match choices {
        Choices::Texts(texts) => json!(texts),
        Choices::Integers(numbers) => json!(numbers),
    }
}

fn deprecation(gone: &Deprecation) -> Json {
    let mut out = Object::new();
    out.insert("message".to_owned(), json!(gone.message));
    out.insert("removal_in_version".to_owned(), json!(gone.removal_in_version));
    if let Some(old) = &gone.old_default {
        out.insert("old_default".to_owned(), preset_json(old));
    }
    if !gone.replaced_with.is_empty() {
        let paths = gone.replaced_with.iter().map(|path| json!({ "path": path }));
        out.insert("replaced_with".to_owned(), paths.collect());
    }
    out.into()
}

fn rules(list: &[Rule]) -> Json {
    list.iter().map(rule).collect()
}

fn rule(rule: &Rule) -> Json {
    match rule {
        Rule::AtLeastOneOf(names) => json!({ "at_least_one_of": names }),
        Rule::OnlyOneOf(names) => json!({ "only_one_of": names }),
        Rule::Distinct(names) => json!({ "distinct": names }),
        Rule::MutuallyRequired(names) => json!({ "mutually_required": names }),
        Rule::MutuallyExclusive(names) => json!({ "mutually_exclusive": names }),
        Rule::MutuallyExclusiveSets(one, two) => {
            json!({ "mutually_exclusive_sets": { "set1": one, "set2": two } })
        }
        Rule::Conditional { if_field, if_match, then_field, then_match, then_err } => {
            let mut out = Object::new();
            out.insert("if_field".to_owned(), json!(if_field));
            out.insert("if_match".to_owned(), matching(if_match));
            out.insert("then_field".to_owned(), json!(then_field));
            out.insert("then_match".to_owned(), matching(then_match));
            put_words(&mut out, "then_err", *then_err);
            json!({ "conditional": out })
        }
        Rule::ConditionalAtLeastOneOf {
            if_field,
            if_match,
            then_at_least_one_of,
            then_err,
            otherwise,
        } => {
            let mut out = Object::new();
            out.insert("if_field".to_owned(), json!(if_field));
            out.insert("if_match".to_owned(), matching(if_match));
            out.insert("then_at_least_one_of".to_owned(), json!(then_at_least_one_of));
            put_words(&mut out, "then_err", *then_err);
            if let Some(otherwise) = otherwise {
                out.insert("else_match".to_owned(), matching(&otherwise.matching));
                let names = json!(otherwise.at_least_one_of);
                out.insert("else_then_at_least_one_of".to_owned(), names);
                put_words(&mut out, "else_then_err", otherwise.err);
            }
            json!({ "conditional_at_least_one_of": out })
        }
        Rule::Custom { fields, run_with_missing_fields, run_with_invalid_fields, .. } => {
            let mut out = Object::new();
            out.insert("field_sources".to_owned(), json!(fields));
            if *run_with_missing_fields {
                out.insert("run_with_missing_fields".to_owned(), json!(true));
            }
            if *run_with_invalid_fields {
                out.insert("run_with_invalid_fields".to_owned(), json!(true));
            }
            json!({ "custom_entity_check": out })
        }
    }
}

fn put_words(out: &mut Object, name: &str, words: Option<&str>) {
    if let Some(words) = words {
        out.insert(name.to_owned(), json!(words));
    }
}

/// The conditions alone: what they are laid over is printed at its own place.
fn matching(field: &Field) -> Json {
    let mut out = Object::new();
    if let Some(required) = field.required {
        out.insert("required".to_owned(), json!(required));
    }
    if let Kind::List(elements) = field.kind {
        out.insert("elements".to_owned(), element_document(elements));
    }
    for limit in &field.limits {
        if let Some((name, value)) = limit_json(limit) {
            out.insert(name.to_owned(), value);
        }
    }
    out.into()
}

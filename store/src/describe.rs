//! Schemas as JSON, as `GET /schemas/…` shows them: Kong's own tables without functions.
//!
//! A string's implicit `"len_min": 1` is left out: Kong shows it only once the field has been
//! checked for the first time. Source: Kong `kong/api/api_helpers.lua`, `schema_to_jsonable`.

use crate::schema::{Choices, Deprecation, Entity, Field, Kind, Limit, OnDelete, PluginSchema};
use crate::schema::{Rule, Shape};
use crate::value::Value;
use serde_json::{Map, Value as Json, json};

/// An entity: `{"entity_checks": […], "fields": [{name: {…}}, …]}`.
#[must_use]
pub fn entity_document(entity: &Entity) -> Json {
    json!({ "entity_checks": rules(entity.rules), "fields": named(entity.fields) })
}

/// A plugin: the fields that it lays over those of entity `plugins`.
#[must_use]
pub fn plugin_document(plugin: &PluginSchema) -> Json {
    let own = ["consumer", "route", "service", "protocols", "config"];
    let fields: Vec<_> = own.iter().filter_map(|name| plugin.field(name)).collect();
    json!({ "entity_checks": rules(plugin.rules), "fields": named(&fields) })
}

/// The configuration of a plugin alone, as the old `GET /plugins/schema/{name}` shows it.
#[must_use]
pub fn plugin_config_document(plugin: &PluginSchema) -> Json {
    field(&plugin.config_field())
}

fn field(field: &Field) -> Json {
    Json::Object(described(field))
}

fn named(fields: &[Field]) -> Vec<Json> {
    fields.iter().map(|known| json!({ known.name: field(known) })).collect()
}

/// What a list or a map holds is never null, which Kong says in every such place.
fn element(inner: &Field) -> Json {
    let mut shown = described(inner);
    shown.entry("required").or_insert(json!(true));
    Json::Object(shown)
}

fn described(field: &Field) -> Map<String, Json> {
    let mut shown = Map::new();
    let mut put = |name: &str, value: Json| {
        shown.insert(name.to_owned(), value);
    };
    for (name, value) in kind(&field.kind) {
        put(name, value);
    }
    if !field.about.is_empty() {
        put("description", json!(field.about));
    }
    if let Some(preset) = &field.preset {
        put("default", Value::from_preset(preset).to_json());
    }
    for (name, flag) in [("required", field.required), ("unique", field.unique)] {
        if let Some(flag) = flag {
            put(name, json!(flag));
        }
    }
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
        put(name, json!(true));
    }
    if let Some(words) = field.fault {
        put("err", json!(words));
    }
    if let Some(gone) = field.deprecation {
        put("deprecation", deprecation(gone));
    }
    for (name, value) in field.limits.iter().filter_map(limit) {
        put(name, value);
    }
    shown
}

fn kind(kind: &Kind) -> Vec<(&'static str, Json)> {
    let typed = |name: &str| ("type", json!(name));
    match kind {
        Kind::Text => vec![typed("string")],
        Kind::Integer => vec![typed("integer")],
        Kind::Number => vec![typed("number")],
        Kind::Flag => vec![typed("boolean")],
        Kind::List(inner) => vec![typed("array"), ("elements", element(inner))],
        Kind::Set(inner) => vec![typed("set"), ("elements", element(inner))],
        Kind::Map(keys, values) => {
            vec![typed("map"), ("keys", element(keys)), ("values", element(values))]
        }
        Kind::Record(inner) => record(inner),
        Kind::Foreign(entity, gone) => {
            let mut shown = vec![typed("foreign"), ("reference", json!(entity))];
            match gone {
                OnDelete::Restrict => {}
                OnDelete::Cascade => shown.push(("on_delete", json!("cascade"))),
                OnDelete::Null => shown.push(("on_delete", json!("null"))),
            }
            shown
        }
        Kind::Json(schema) => {
            let schema = serde_json::from_str(schema).unwrap_or(Json::Null);
            vec![typed("json"), ("json_schema", schema)]
        }
        Kind::Any => Vec::new(),
    }
}

fn record(shape: &Shape) -> Vec<(&'static str, Json)> {
    let mut shown = vec![("type", json!("record")), ("fields", json!(named(shape.fields)))];
    if !shape.rules.is_empty() {
        shown.push(("entity_checks", json!(rules(shape.rules))));
    }
    if !shape.shorthands.is_empty() {
        let fields: Vec<_> = shape.shorthands.iter().map(|shorthand| shorthand.field).collect();
        shown.push(("shorthand_fields", json!(named(&fields))));
    }
    shown
}

fn deprecation(gone: &Deprecation) -> Json {
    let paths: Vec<_> = gone.replaced_with.iter().map(|path| json!({ "path": path })).collect();
    let mut shown = json!({
        "message": gone.message,
        "removal_in_version": gone.removal_in_version,
    });
    if !paths.is_empty() {
        shown["replaced_with"] = json!(paths);
    }
    if let Some(preset) = &gone.old_default {
        shown["old_default"] = Value::from_preset(preset).to_json();
    }
    shown
}

fn limit(limit: &Limit) -> Option<(&'static str, Json)> {
    let patterns = |all: &[(&str, &str)]| {
        let shown = all.iter().map(|(pattern, words)| match *words {
            "" => json!({ "pattern": pattern }),
            words => json!({ "pattern": pattern, "err": words }),
        });
        Json::Array(shown.collect())
    };
    Some(match limit {
        Limit::None | Limit::Custom(_) => return None,
        Limit::Eq(preset) => ("eq", Value::from_preset(preset).to_json()),
        Limit::Ne(preset) => ("ne", Value::from_preset(preset).to_json()),
        Limit::NotOneOf(choices) => ("not_one_of", listed(choices)),
        Limit::OneOf(choices) => ("one_of", listed(choices)),
        Limit::Gt(bound) => ("gt", number(*bound)),
        Limit::Timestamp => ("timestamp", json!(true)),
        Limit::Uuid => ("uuid", json!(true)),
        Limit::IsRegex => ("is_regex", json!(true)),
        Limit::Between(low, high) => ("between", json!([number(*low), number(*high)])),
        Limit::LenEq(length) => ("len_eq", json!(length)),
        Limit::LenMin(length) => ("len_min", json!(length)),
        Limit::LenMax(length) => ("len_max", json!(length)),
        Limit::StartsWith(text) => ("starts_with", json!(text)),
        Limit::NotMatch(pattern) => ("not_match", json!(pattern)),
        Limit::MatchNone(all) => ("match_none", patterns(all)),
        Limit::Match(pattern) => ("match", json!(pattern)),
        Limit::MatchAll(all) => ("match_all", patterns(all)),
        Limit::MatchAny(patterns, "") => ("match_any", json!({ "patterns": patterns })),
        Limit::MatchAny(patterns, words) => {
            ("match_any", json!({ "patterns": patterns, "err": words }))
        }
        Limit::Contains(item) => ("contains", json!(item)),
        Limit::ExclusiveSubsets(sets) => ("mutually_exclusive_subsets", json!(sets)),
    })
}

fn listed(choices: &Choices) -> Json {
    match choices {
        Choices::Texts(texts) => json!(texts),
        Choices::Integers(numbers) => json!(numbers),
    }
}

fn number(number: f64) -> Json {
    Value::from_number(number).to_json()
}

fn rules(rules: &[Rule]) -> Vec<Json> {
    rules.iter().map(rule).collect()
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
            let mut shown = json!({
                "if_field": if_field,
                "if_match": field(if_match),
                "then_field": then_field,
                "then_match": field(then_match),
            });
            if let Some(words) = then_err {
                shown["then_err"] = json!(words);
            }
            json!({ "conditional": shown })
        }
        Rule::ConditionalAtLeastOneOf {
            if_field,
            if_match,
            then_at_least_one_of,
            then_err,
            otherwise,
        } => {
            let mut shown = json!({
                "if_field": if_field,
                "if_match": field(if_match),
                "then_at_least_one_of": then_at_least_one_of,
            });
            if let Some(words) = then_err {
                shown["then_err"] = json!(words);
            }
            if let Some(otherwise) = otherwise {
                shown["else_match"] = field(&otherwise.matching);
                shown["else_then_at_least_one_of"] = json!(otherwise.at_least_one_of);
                if let Some(words) = otherwise.err {
                    shown["else_then_err"] = json!(words);
                }
            }
            json!({ "conditional_at_least_one_of": shown })
        }
        Rule::Custom { fields, run_with_missing_fields, run_with_invalid_fields, .. } => {
            let mut shown = json!({ "field_sources": fields });
            if *run_with_missing_fields {
                shown["run_with_missing_fields"] = json!(true);
            }
            if *run_with_invalid_fields {
                shown["run_with_invalid_fields"] = json!(true);
            }
            json!({ "custom_entity_check": shown })
        }
    }
}

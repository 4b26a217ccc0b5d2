//! `GET /openapi.json`: the Admin API in the words of generic tools, from the same tables.
//!
//! OpenAPI 3.1. Rules across fields and limits that are functions have no words there: what they
//! refuse is answered with the fault object that every operation names.

use super::place::{Fixed, Place, Places, Targets};
use super::{Method, OwnEndpoint};
use crate::entities::TARGETS;
use crate::schema::{Catalogue, Choices, Entity, Field, Kind, Limit, Shape};
use crate::value::Value;
use serde_json::{Map, Value as Json, json};

/// The whole document. `version` is Tollgate's.
pub(super) fn document(
    catalogue: &Catalogue,
    places: &Places,
    own: &[OwnEndpoint],
    version: &str,
) -> Json {
    let mut paths = Map::new();
    // What is not built says so with 501: tools have nothing to learn from it.
    let built = |place: &Place| !matches!(place, Place::Fixed(Fixed::StatusDns | Fixed::Robots));
    for (path, place, methods) in places.each().filter(|(_, place, _)| built(place)) {
        paths.insert(path.clone(), operations(&path, place, methods, own));
    }
    let entities = catalogue.entities.iter().filter(|entity| entity.admin);
    let schemas: Map<String, Json> =
        entities.map(|entity| (entity.name.to_owned(), row(entity))).chain(shared()).collect();
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Tollgate Admin API", "version": version },
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

/// Schemas that no entity has.
fn shared() -> [(String, Json); 2] {
    let fault = json!({
        "type": "object",
        "properties": {
            "message": { "type": "string" },
            "code": { "type": "integer" },
            "name": { "type": "string" },
            "fields": { "type": "object" },
            "options": { "type": "object" },
        },
        "required": ["message"],
    });
    let document = json!({ "type": "object" });
    [("fault".to_owned(), fault), ("document".to_owned(), document)]
}

fn operations(path: &str, place: Place, methods: &[Method], own: &[OwnEndpoint]) -> Json {
    let names = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let parameters: Vec<_> = names
        .map(|name| {
            let schema = json!({ "type": "string" });
            json!({ "name": name, "in": "path", "required": true, "schema": schema })
        })
        .collect();
    let mut shown = Map::new();
    if !parameters.is_empty() {
        shown.insert("parameters".to_owned(), json!(parameters));
    }
    for method in methods {
        let operation = match place {
            Place::Own(at) => {
                own.get(at).and_then(|own| own.described.clone()).unwrap_or_else(undescribed)
            }
            place => operation(place, *method),
        };
        shown.insert(method.name().to_ascii_lowercase(), operation);
    }
    Json::Object(shown)
}

/// What a plugin's endpoint answers is its own affair.
fn undescribed() -> Json {
    let texts = json!({ "schema": { "type": "string" } });
    let any = json!({ "application/json": { "schema": {} }, "text/plain": texts });
    let fault = json!({ "$ref": "#/components/schemas/fault" });
    let fault = json!({ "application/json": { "schema": fault } });
    json!({ "responses": {
        "204": { "description": "Done; nothing to say." },
        "2XX": { "description": "Done.", "content": any },
        "4XX": { "description": "Refused: what is wrong.", "content": fault },
    } })
}

fn operation(place: Place, method: Method) -> Json {
    let (entity, list) = match place {
        Place::Rows(entity) => (Some(entity), true),
        Place::Children(link) => (Some(link.child), true),
        Place::Row(entity) => (Some(entity), false),
        Place::Child(link) => (Some(link.child), false),
        Place::Parent(link) => (Some(link.parent), false),
        Place::Targets(Targets::All | Targets::Raw) => (Some(&TARGETS), true),
        Place::Targets(Targets::One) => (Some(&TARGETS), false),
        Place::Targets(Targets::Health | Targets::Mark(_)) | Place::Own(_) | Place::Fixed(_) => {
            (None, false)
        }
    };
    let named = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let one = named(entity.map_or("document", |entity| entity.name));
    let body = if list && method == Method::Get { page(&one) } else { one.clone() };
    let nothing = method == Method::Delete || matches!(place, Place::Targets(Targets::Mark(_)));
    let status = match (method, list) {
        _ if nothing => "204",
        (Method::Post, true) => "201",
        _ => "200",
    };
    let mut done = json!({ "description": "Done." });
    if !nothing {
        done["content"] = json!({ "application/json": { "schema": body } });
    }
    let fault = json!({
        "description": "Refused: what is wrong.",
        "content": { "application/json": { "schema": named("fault") } },
    });
    let mut shown = json!({ "responses": { status: done, "4XX": fault } });
    if matches!(place, Place::Fixed(Fixed::Ready)) && method == Method::Post {
        // Kong says neither what was done nor what is wrong.
        let [done, refused] = ["The node is draining.", "Another word than `draining`."]
            .map(|description| json!({ "description": description }));
        return json!({ "responses": { "204": done, "400": refused } });
    }
    if matches!(place, Place::Fixed(Fixed::Ready)) {
        shown["responses"]["5XX"] = shown["responses"]["4XX"].clone();
    }
    if method.has_body() && entity.is_some() {
        shown["requestBody"] = json!({
            "content": {
                "application/json": { "schema": one },
                "application/x-www-form-urlencoded": { "schema": named("document") },
            },
        });
    }
    if list && method == Method::Get {
        shown["parameters"] = arguments(entity);
    }
    shown
}

fn page(one: &Json) -> Json {
    json!({
        "type": "object",
        "properties": {
            "data": { "type": "array", "items": one },
            "next": { "type": ["string", "null"] },
            "offset": { "type": "string" },
        },
        "required": ["data", "next"],
    })
}

fn arguments(entity: Option<&Entity>) -> Json {
    let argument =
        |name: &str, schema: Json| json!({ "name": name, "in": "query", "schema": schema });
    let mut all = vec![
        argument("size", json!({ "type": "integer", "minimum": 1, "maximum": 1000 })),
        argument("offset", json!({ "type": "string" })),
    ];
    if entity.is_some_and(Entity::has_tags) {
        all.push(argument("tags", json!({ "type": "string" })));
    }
    Json::Array(all)
}

/// A row of an entity, as it is read and as it is written.
fn row(entity: &Entity) -> Json {
    let mut shown = record(&entity.shape());
    if entity.ttl {
        shown["properties"]["ttl"] = json!({ "type": ["integer", "null"] });
    }
    shown
}

fn record(shape: &Shape) -> Json {
    let short = shape.shorthands.iter().map(|shorthand| &shorthand.field);
    let given = short.chain(shape.fields);
    let properties: Map<String, Json> =
        given.map(|field| (field.name.to_owned(), nullable(field))).collect();
    json!({ "type": "object", "properties": properties })
}

/// A field of a record: null is always understood, and answered with a fault where it must not be.
fn nullable(field: &Field) -> Json {
    let mut shown = schema(field);
    if let Some(Json::String(kind)) = shown.get("type") {
        shown["type"] = json!([kind, "null"]);
    }
    if let Some(Json::Array(choices)) = shown.get_mut("enum") {
        choices.push(Json::Null);
    }
    shown
}

fn schema(field: &Field) -> Json {
    let mut shown = match field.kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Integer => json!({ "type": "integer" }),
        Kind::Number => json!({ "type": "number" }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::List(inner) | Kind::Set(inner) => json!({ "type": "array", "items": schema(inner) }),
        Kind::Map(_, inner) => json!({ "type": "object", "additionalProperties": schema(inner) }),
        Kind::Record(_) if field.is_abstract => json!({ "type": "object" }),
        Kind::Record(inner) => record(&inner),
        Kind::Foreign(..) => {
            let id = json!({ "type": "string", "format": "uuid" });
            json!({ "type": "object", "properties": { "id": id } })
        }
        Kind::Json(_) | Kind::Any => json!({}),
    };
    if !field.about.is_empty() {
        shown["description"] = json!(field.about);
    }
    if let Some(preset) = &field.preset {
        shown["default"] = Value::from_preset(preset).to_json();
    }
    for limit in &field.limits {
        constrain(&mut shown, limit);
    }
    shown
}

fn constrain(shown: &mut Json, limit: &Limit) {
    match limit {
        Limit::OneOf(Choices::Texts(texts)) => shown["enum"] = json!(texts),
        Limit::OneOf(Choices::Integers(numbers)) => shown["enum"] = json!(numbers),
        Limit::Between(low, high) => {
            shown["minimum"] = Value::from_number(*low).to_json();
            shown["maximum"] = Value::from_number(*high).to_json();
        }
        Limit::Gt(bound) => shown["exclusiveMinimum"] = Value::from_number(*bound).to_json(),
        Limit::Uuid => shown["format"] = json!("uuid"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> Json {
        let catalogue = Catalogue::new(Vec::new(), &[]);
        document(&catalogue, &Places::new(&catalogue), &[], "1")
    }

    fn references(value: &Json, found: &mut Vec<String>) {
        match value {
            Json::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Json::as_str).map(str::to_owned));
                fields.values().for_each(|value| references(value, found));
            }
            Json::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = made();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 50, "{found:?}");
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("a local reference");
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn operations_say_what_they_take_and_give() {
        let document = made();
        let create = &document["paths"]["/services/{services}/routes"]["post"];
        assert!(create["responses"]["201"].is_object() && create["requestBody"].is_object());
        let path = &document["paths"]["/services/{services}/routes/{routes}"];
        assert_eq!(path["parameters"].as_array().map(Vec::len), Some(2));
        assert!(path["delete"]["responses"]["204"].get("content").is_none());
        let service = &document["components"]["schemas"]["services"]["properties"];
        assert_eq!(service["port"]["maximum"], json!(65_535));
        assert_eq!(service["port"]["type"], json!(["integer", "null"]));
        assert_eq!(service["url"]["type"], json!(["string", "null"]), "shorthands are taken");
    }
}

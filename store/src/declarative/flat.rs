//! Faults entity by entity: what `flatten_errors` asks for.
//!
//! Source: Kong `kong/db/errors.lua` (`flatten_errors`).

use crate::schema::{Catalogue, Entity, Kind};
use crate::value::parse_uuid;
use serde_json::{Map, Value as Json, json};

type Fields = Map<String, Json>;

/// Takes the faults of entities out of `fields` and tells each beside its entity. Later entities
/// come first, nested ones before what they are nested in, as in Kong.
pub(super) fn flatten(
    catalogue: &Catalogue,
    mut document: Fields,
    fields: &mut Fields,
) -> Vec<Json> {
    let mut flat = Vec::new();
    for name in sorted_down(fields) {
        let (Some(Json::Array(faults)), Some(Json::Array(items))) =
            (fields.get_mut(&name), document.get_mut(&name))
        else {
            continue;
        };
        let mut left = false;
        for (at, fault) in faults.iter_mut().enumerate().rev() {
            match items.get_mut(at) {
                Some(Json::Object(item)) => {
                    let entity = catalogue.entity(&name);
                    add(catalogue, &name, entity, std::mem::take(item), fault.take(), &mut flat);
                }
                _ => left |= !fault.is_null(),
            }
        }
        if !left {
            fields.shift_remove(&name);
        }
    }
    flat
}

fn add(
    catalogue: &Catalogue,
    name: &str,
    entity: Option<&'static Entity>,
    mut item: Fields,
    fault: Json,
    flat: &mut Vec<Json>,
) {
    let mut faults = match fault {
        Json::String(words) => Map::from_iter([("@entity".to_owned(), json!(words))]),
        Json::Object(faults) => faults,
        _ => return,
    };
    if let Some(entity) = entity {
        parents(catalogue, entity, &mut item, &mut faults, flat);
        children(catalogue, entity, &mut item, &mut faults, flat);
    }
    let mut errors = Vec::new();
    sort_out(faults, "", &mut errors);
    if errors.is_empty() {
        return;
    }
    let text = |name: &str| item.get(name).and_then(Json::as_str).filter(|text| !text.is_empty());
    let mut told = Map::new();
    if let Some(name) = text("name") {
        told.insert("entity_name".to_owned(), json!(name));
    }
    if let Some(id) = text("id").filter(|id| parse_uuid(id).is_some()) {
        told.insert("entity_id".to_owned(), json!(id));
    }
    if let Some(Json::Array(tags)) = item.get("tags")
        && tags.iter().all(Json::is_string)
    {
        told.insert("entity_tags".to_owned(), json!(tags));
    }
    told.insert("entity_type".to_owned(), json!(name.strip_suffix('s').unwrap_or(name)));
    told.insert("entity".to_owned(), item.into());
    told.insert("errors".to_owned(), errors.into());
    flat.push(told.into());
}

/// An object where a pointer belongs is an entity of its own.
fn parents(
    catalogue: &Catalogue,
    entity: &'static Entity,
    item: &mut Fields,
    faults: &mut Fields,
    flat: &mut Vec<Json>,
) {
    for field in entity.fields {
        let Kind::Foreign(parent, _) = field.kind else { continue };
        let Some(Json::Object(inner)) = item.get(field.name).cloned() else { continue };
        match pointer(&inner) {
            Some(pointer) => drop(item.insert(field.name.to_owned(), pointer)),
            None => drop(item.shift_remove(field.name)),
        }
        let fault = faults.shift_remove(field.name).unwrap_or_default();
        add(catalogue, parent, catalogue.entity(parent), inner, fault, flat);
    }
}

/// What is nested stands by itself, and points to its parent if that has an id.
fn children(
    catalogue: &Catalogue,
    entity: &'static Entity,
    item: &mut Fields,
    faults: &mut Fields,
    flat: &mut Vec<Json>,
) {
    let above = pointer(item);
    for (child, field) in catalogue.children(entity.name) {
        let Some(Json::Array(items)) = item.get(child.name) else { continue };
        let items = items.clone();
        item.shift_remove(child.name);
        let Some(Json::Array(mut inner)) = faults.shift_remove(child.name) else { continue };
        for (item, fault) in items.into_iter().zip(&mut inner) {
            let Json::Object(mut item) = item else { continue };
            if let Some(above) = &above
                && !item.contains_key(field.name)
            {
                item.insert(field.name.to_owned(), above.clone());
            }
            add(catalogue, child.name, Some(child), item, fault.take(), flat);
        }
    }
}

fn pointer(item: &Fields) -> Option<Json> {
    let id = item.get("id")?.as_str().filter(|id| parse_uuid(id).is_some())?;
    Some(json!({ "id": id }))
}

/// Every sentence with the path of its field, later names first.
fn sort_out(faults: Fields, above: &str, errors: &mut Vec<Json>) {
    let mut faults = faults;
    for name in sorted_down(&faults) {
        let Some(fault) = faults.shift_remove(&name) else { continue };
        if name == "@entity" {
            of_entity(fault, errors);
            continue;
        }
        let path = if above.is_empty() { name } else { format!("{above}.{name}") };
        match fault {
            Json::String(words) => {
                errors.push(json!({ "type": "field", "field": path, "message": words }));
            }
            Json::Object(inner) => sort_out(inner, &path, errors),
            Json::Array(items) => {
                let items = items.into_iter().enumerate().filter(|(_, fault)| !fault.is_null());
                let inner = items.map(|(at, fault)| ((at + 1).to_string(), fault)).collect();
                sort_out(inner, &path, errors);
            }
            _ => {}
        }
    }
}

fn of_entity(fault: Json, errors: &mut Vec<Json>) {
    match fault {
        Json::Array(sentences) => {
            sentences.into_iter().for_each(|sentence| of_entity(sentence, errors));
        }
        Json::String(words) => errors.push(json!({ "type": "entity", "message": words })),
        _ => {}
    }
}

fn sorted_down(fields: &Fields) -> Vec<String> {
    let mut names: Vec<_> = fields.keys().cloned().collect();
    names.sort_unstable_by(|one, two| two.cmp(one));
    names
}

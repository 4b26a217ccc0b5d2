//! Ids for what a document gives no id: the same every time, made from what is unique about it.
//!
//! Source: Kong `kong/db/schema/others/declarative_config.lua` (`get_key_for_uuid_gen`).

use crate::schema::{Entity, Kind, OnDelete};
use crate::value::Value;
use uuid::{Uuid, uuid};

/// Kong's namespace of all entities.
const ENTITIES: Uuid = uuid!("fd02801f-0957-4a15-a55a-c8d9606f30b5");

/// The parent of a nested entity: the field that points to it, and its id, if that is known.
pub(super) type Parent<'a> = (&'static str, Option<&'a str>);

/// The id of an entity that has none, or nothing if it is not told apart by what it says.
pub(super) fn id(
    entity: &'static Entity,
    input: &Value,
    parent: Option<Parent<'_>>,
) -> Option<Uuid> {
    let key = if entity.cache_key.is_empty() {
        endpoint_key(entity, input, parent)?
    } else {
        cache_key(entity, input, parent)?
    };
    Some(v5(entity, &key))
}

fn v5(entity: &Entity, key: &str) -> Uuid {
    let own = Uuid::new_v5(&ENTITIES, entity.name.as_bytes());
    Uuid::new_v5(&own, key.as_bytes())
}

fn workspace(input: &Value) -> &str {
    input.get("ws_id").as_text().unwrap_or("*")
}

fn cache_key(entity: &'static Entity, input: &Value, parent: Option<Parent<'_>>) -> Option<String> {
    let mut parts = vec![entity.name, workspace(input)];
    for name in entity.cache_key {
        let field = entity.field(name)?;
        match input.lookup(name) {
            _ if field.auto => return None,
            Some(Value::Text(text)) => parts.push(text),
            Some(_) => {}
            None => match parent {
                Some((own, id)) if own == *name => parts.push(id?),
                _ if field.is_required() => return None,
                _ => parts.push(""),
            },
        }
    }
    Some(parts.join(":"))
}

fn endpoint_key(
    entity: &'static Entity,
    input: &Value,
    parent: Option<Parent<'_>>,
) -> Option<String> {
    let name = entity.endpoint_key?;
    let mut key = input.get(name).as_text()?.to_owned();
    let field = entity.field(name)?;
    if field.is_unique() {
        return Some(key);
    }
    for field in entity.fields {
        if !matches!(field.kind, Kind::Foreign(_, OnDelete::Cascade)) {
            continue;
        }
        let pointed = match parent {
            Some((_, id)) => id?,
            None => input.get(field.name).as_text()?,
        };
        key.push(':');
        key.push_str(pointed);
    }
    if !field.unique_across_workspaces {
        key.push(':');
        key.push_str(workspace(input));
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entities::{CONSUMERS, PLUGINS, ROUTES, SERVICES};
    use serde_json::json;

    #[track_caller]
    #[allow(clippy::needless_pass_by_value, reason = "so that calls read as a table")]
    fn check(
        entity: &'static Entity,
        input: serde_json::Value,
        parent: Option<Parent<'_>>,
        expected: Option<&str>,
    ) {
        let found = id(entity, &Value::from(input), parent).map(|id| id.to_string());
        assert_eq!(found.as_deref(), expected);
    }

    /// Source: `contract/declarative.md`, section 2; `recorded/dbless.jsonl`.
    #[test]
    fn ids_are_kongs() {
        let service = "89dd9e9d-3f98-5e11-ab72-c90b6c2d30a2";
        check(&SERVICES, json!({"name": "example"}), None, Some(service));
        check(&SERVICES, json!({"host": "h"}), None, None);
        let route = "4726a05a-d550-537e-9fc3-a07c7a1188c7";
        check(&ROUTES, json!({"name": "r1"}), None, Some(route));
        let bob = "def4f7d3-9863-5ad2-8fa9-c949bf26f55e";
        check(&CONSUMERS, json!({"username": "bob"}), None, Some(bob));
        let plugin = || json!({"name": "key-auth"});
        let global = "6b4f38d1-e026-540b-a5ea-8634739dd2a7";
        check(&PLUGINS, plugin(), None, Some(global));
        let nested = "77a9f618-1d75-5fb0-8932-8dc59a90198d";
        check(&PLUGINS, plugin(), Some(("service", Some(service))), Some(nested));
        check(&PLUGINS, plugin(), Some(("service", None)), None);
        check(&PLUGINS, json!({"config": {}}), None, None);
    }
}

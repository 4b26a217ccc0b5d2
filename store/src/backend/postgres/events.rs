//! What Kong's nodes tell each other: rows of `cluster_events`, made from changes and read back.
//!
//! Kong forgets what an event names and reads it again when it is needed; so every change must name
//! the cache keys under which any Kong node may hold it. Read back, a cache key names rows by the
//! values of an entity's key fields.
//!
//! Source: Kong `kong/runloop/events.lua`, `kong/db/dao/{init,keys,vaults}.lua`,
//! `kong/cluster_events`, `kong/constants.lua` (which cache holds which entity).

use crate::schema::{Catalogue, Entity, Kind};
use crate::snapshot::Change;
use crate::value::{Row, Value, parse_uuid};
use std::collections::BTreeSet;
use uuid::Uuid;

/// What Kong holds in its cache of core entities; the rest is in the other one.
const CORE: &[&str] = &[
    "certificates",
    "services",
    "routes",
    "snis",
    "upstreams",
    "targets",
    "plugins",
    "ca_certificates",
    "vaults",
    "key_sets",
    "keys",
];
/// The channel of the core cache.
const CORE_CHANNEL: &str = "invalidations_kong_core_db_cache";
/// The channel of the other cache.
const OTHER_CHANNEL: &str = "invalidations";
/// Channels whose events name rows.
pub(super) const CHANNELS: &[&str] =
    &[CORE_CHANNEL, OTHER_CHANNEL, "balancer:targets", "balancer:upstreams"];
/// Values that a cache key has room for.
const KEY_VALUES_MAX: usize = 5;

/// The cache key of a row.
pub(super) fn cache_key(row: &Row, workspace: &str) -> Option<String> {
    let entity = row.entity();
    let text = |name: &str| match row.get(name) {
        Value::Null => String::new(),
        Value::Text(text) => text.to_string(),
        other => other.stored().as_str().map_or_else(|| other.stored().to_string(), str::to_owned),
    };
    Some(match entity.name {
        "keys" => format!("keys:{}:{}", text("kid"), text("set")),
        "vaults" => format!("vaults:{}:::::", text("prefix")),
        _ if entity.cache_key.is_empty() => named(entity, &[row.id().to_string()], workspace),
        _ => {
            let values: Vec<String> = entity.cache_key.iter().map(|name| text(name)).collect();
            named(entity, &values, workspace)
        }
    })
}

fn named(entity: &Entity, values: &[String], workspace: &str) -> String {
    let mut key = entity.name.to_owned();
    for at in 0..KEY_VALUES_MAX {
        key.push(':');
        key.push_str(values.get(at).map_or("", String::as_str));
    }
    key.push(':');
    key.push_str(if entity.workspaced { workspace } else { "" });
    key
}

/// The events of a change, as channel and data, without doubles.
pub(super) fn of(changes: &[Change], workspace: &str) -> Vec<(&'static str, String)> {
    let mut events = BTreeSet::new();
    for change in changes {
        of_one(change, workspace, &mut events);
    }
    events.into_iter().collect()
}

fn of_one(change: &Change, workspace: &str, events: &mut BTreeSet<(&'static str, String)>) {
    let entity = change.entity;
    let channel = if CORE.contains(&entity.name) { CORE_CHANNEL } else { OTHER_CHANNEL };
    let rows: Vec<&Row> = change.before.iter().chain(&change.after).map(AsRef::as_ref).collect();
    for row in &rows {
        events.extend(cache_key(row, workspace).map(|key| (channel, key)));
    }
    let operation = match (&change.before, &change.after) {
        (None, _) => "create",
        (_, None) => "delete",
        _ => "update",
    };
    let mut core = |data: String| {
        events.insert((CORE_CHANNEL, data));
    };
    match entity.name {
        "routes" => core("router:version".to_owned()),
        "services" if operation == "update" => core("router:version".to_owned()),
        "plugins" => core("plugins_iterator:version".to_owned()),
        "filter_chains" => core("filter_chains:version".to_owned()),
        "snis" => {
            for name in rows.iter().filter_map(|row| row.text("name")) {
                wild_names(name).into_iter().for_each(|name| core(format!("snis:{name}")));
            }
        }
        "consumers" => {
            for name in rows.iter().filter_map(|row| row.text("username")) {
                let key = named(entity, &[name.to_owned()], workspace);
                events.insert((OTHER_CHANNEL, key));
            }
        }
        "targets" => {
            for upstream in rows.iter().filter_map(|row| row.foreign("upstream")) {
                events.insert(("balancer:targets", format!("{operation}:{upstream}")));
            }
        }
        "upstreams" => {
            if let Some(row) = rows.last() {
                let name = row.text("name").unwrap_or_default();
                let data = format!("{operation}:{workspace}:{}:{name}", row.id());
                events.insert(("balancer:upstreams", data));
            }
        }
        _ => {}
    }
}

/// A server name and the wildcards that match it.
fn wild_names(name: &str) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    if !name.contains('*') {
        if let Some((_, rest)) = name.split_once('.') {
            names.push(format!("*.{rest}"));
        }
        if let Some((first, _)) = name.rsplit_once('.') {
            names.push(format!("{first}.*"));
        }
    }
    names
}

/// What an event of another node is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// One row by its id.
    Id(&'static Entity, Uuid),
    /// Rows with these values of fields; an empty text is null.
    Key(&'static Entity, Vec<(&'static str, String)>),
    /// All rows that point to a parent.
    Children(&'static Entity, &'static str, Uuid),
}

/// Reads an event; none if it names nothing that is stored.
pub(super) fn about(catalogue: &Catalogue, channel: &str, data: &str) -> Option<About> {
    match channel {
        "balancer:targets" => {
            let upstream = data.split(':').nth(1).and_then(parse_uuid)?;
            Some(About::Children(catalogue.entity("targets")?, "upstream", upstream))
        }
        "balancer:upstreams" => {
            let id = data.split(':').nth(2).and_then(parse_uuid)?;
            Some(About::Id(catalogue.entity("upstreams")?, id))
        }
        _ => key(catalogue, data),
    }
}

/// Reads a cache key. Values may hold colons themselves, so the parts are counted from both ends.
fn key(catalogue: &Catalogue, data: &str) -> Option<About> {
    let (name, rest) = data.split_once(':')?;
    let entity = catalogue.entity(name)?;
    if name == "keys" {
        let (kid, set) = rest.rsplit_once(':')?;
        return Some(About::Key(entity, vec![("kid", kid.to_owned()), ("set", set.to_owned())]));
    }
    let fields: &[&'static str] = if name == "vaults" { &["prefix"] } else { entity.cache_key };
    // After the values come those that are absent, and the workspace.
    let absent = KEY_VALUES_MAX.saturating_sub(fields.len().max(1));
    let tail = if name == "vaults" { 5 } else { absent + 1 };
    let values = cut(rest, tail);
    if fields.is_empty() {
        return parse_uuid(values)
            .map(|id| About::Id(entity, id))
            .or_else(|| by_endpoint(entity, values));
    }
    let mut named = Vec::new();
    let mut left = values;
    for (at, field) in fields.iter().enumerate() {
        let last = at + 1 == fields.len();
        let (value, rest) = match left.split_once(':') {
            Some((value, rest)) if !last => (value, rest),
            _ => (left, ""),
        };
        named.push((*field, value.to_owned()));
        left = rest;
    }
    Some(About::Key(entity, named))
}

/// Kong holds consumers under their name as well; that event says nothing that theirs does not.
fn by_endpoint(entity: &'static Entity, value: &str) -> Option<About> {
    let field = entity.endpoint_key.filter(|_| !value.is_empty())?;
    Some(About::Key(entity, vec![(field, value.to_owned())]))
}

/// A text without its last `parts` parts; as much as there is of it.
fn cut(text: &str, parts: usize) -> &str {
    let mut left = text;
    for _ in 0..parts {
        match left.rsplit_once(':') {
            Some((before, _)) => left = before,
            None => return left,
        }
    }
    left
}

/// The values of a key as rows have them.
pub(super) fn key_values(entity: &Entity, values: &[(&'static str, String)]) -> Vec<Value> {
    let value = |(name, text): &(&'static str, String)| match parse_uuid(text) {
        _ if text.is_empty() => Value::Null,
        Some(id) if is_id(entity, name) => Value::Id(id),
        _ => Value::text(text.as_str()),
    };
    values.iter().map(value).collect()
}

/// Whether a field of a key is a pointer or an id.
pub(super) fn is_id(entity: &Entity, field: &str) -> bool {
    entity.field(field).is_some_and(|field| matches!(field.kind, Kind::Foreign(..)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::samples;
    use crate::script;
    use serde_json::json;
    use std::sync::Arc;

    const WS: &str = "00000000-0000-4000-8000-0000000000aa";

    fn row(entity: &str, input: serde_json::Value) -> Arc<Row> {
        script::row(&samples::catalogue(), entity, &input).unwrap()
    }

    fn created(row: &Arc<Row>) -> Change {
        Change { entity: row.entity(), before: None, after: Some(Arc::clone(row)) }
    }

    #[test]
    fn cache_keys_are_kongs() {
        let id = "00000000-0000-4000-8000-000000000001";
        let plugin = row(
            "plugins",
            json!({"name": "rate-limiting", "service": {"id": id}, "config": {"minute": 1}}),
        );
        let key = cache_key(&plugin, WS).unwrap();
        assert_eq!(key, format!("plugins:rate-limiting::{id}:::{WS}"));
        let service = row("services", json!({"id": id, "host": "a"}));
        assert_eq!(cache_key(&service, WS).unwrap(), format!("services:{id}:::::{WS}"));
        let key = row("keyauth_credentials", json!({"consumer": {"id": id}, "key": "a:b"}));
        assert_eq!(cache_key(&key, WS).unwrap(), format!("keyauth_credentials:a:b:::::{WS}"));
    }

    #[test]
    fn events_name_every_cache_that_may_hold_the_row() {
        let service = row("services", json!({"host": "a"}));
        let events = of(&[created(&service)], WS);
        assert_eq!(events, [(CORE_CHANNEL, cache_key(&service, WS).unwrap())]);
        let update = Change { before: Some(Arc::clone(&service)), ..created(&service) };
        assert!(of(&[update], WS).contains(&(CORE_CHANNEL, "router:version".to_owned())));
        let consumer = row("consumers", json!({"username": "u"}));
        let events = of(&[created(&consumer)], WS);
        assert!(events.contains(&(OTHER_CHANNEL, format!("consumers:u:::::{WS}"))));
        assert_eq!(events.len(), 2);
        assert_eq!(wild_names("a.b.c"), ["a.b.c", "*.b.c", "a.b.*"]);
        assert_eq!(wild_names("*.b.c"), ["*.b.c"]);
    }

    #[test]
    fn events_are_read_back() {
        let catalogue = samples::catalogue();
        let id = "00000000-0000-4000-8000-000000000001";
        let services = catalogue.entity("services").unwrap();
        let found = about(&catalogue, CORE_CHANNEL, &format!("services:{id}:::::{WS}"));
        assert_eq!(found, Some(About::Id(services, parse_uuid(id).unwrap())));
        let found = about(&catalogue, OTHER_CHANNEL, &format!("keyauth_credentials:a:b:::::{WS}"));
        let keys = catalogue.entity("keyauth_credentials").unwrap();
        assert_eq!(found, Some(About::Key(keys, vec![("key", "a:b".to_owned())])));
        let found = about(&catalogue, CORE_CHANNEL, &format!("plugins:cors::{id}:::{WS}"));
        let plugins = catalogue.entity("plugins").unwrap();
        let expected = [("name", "cors"), ("route", ""), ("service", id), ("consumer", "")];
        let expected = expected.map(|(name, value)| (name, value.to_owned())).to_vec();
        assert_eq!(found, Some(About::Key(plugins, expected.clone())));
        let scoped = json!({"name": "rate-limiting", "service": {"id": id}, "config": {"hour": 1}});
        let mut tables = crate::snapshot::Tables::new(&catalogue);
        let plugin = row("plugins", scoped);
        tables.put(&plugin).unwrap();
        let mut named = expected;
        named[0].1 = "rate-limiting".to_owned();
        let here = tables.by_key("plugins", &key_values(plugins, &named));
        assert_eq!(here.map(|row| row.id()), Some(plugin.id()));
        for nothing in ["router:version", "", "nothing", "unknown:1:::::"] {
            assert_eq!(about(&catalogue, CORE_CHANNEL, nothing), None, "{nothing}");
        }
    }
}

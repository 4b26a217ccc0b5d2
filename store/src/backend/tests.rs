//! One body of tests for every store, and what is special about each.

use super::sqlite::Sqlite;
use super::{Backend, BackendFault};
use crate::check::{Facts, Mode, complete};
use crate::schema::{Catalogue, Entity, Preset, boolean, samples, typical};
use crate::snapshot::Change;
use crate::value::{Row, Value};
use serde_json::{Value as Json, json};
use std::path::Path;
use std::sync::Arc;

fn row(catalogue: &Catalogue, entity: &str, given: Json) -> Arc<Row> {
    let entity = catalogue.entity(entity).unwrap();
    let mut number = 0_u8;
    let mut random = |bytes: &mut [u8]| {
        number += 1;
        bytes.fill(number);
    };
    let mut facts = Facts { now_s: 5, now_ms: 5_250, random: &mut random };
    let object =
        complete(catalogue, entity, Value::from(given), Mode::Insert, None, &mut facts).unwrap();
    Arc::new(Row::pack(entity, catalogue, object, 1))
}

fn write(row: &Arc<Row>) -> Change {
    Change { entity: row.entity(), before: None, after: Some(Arc::clone(row)) }
}

fn erase(row: &Arc<Row>) -> Change {
    Change { entity: row.entity(), before: Some(Arc::clone(row)), after: None }
}

fn all(backend: &mut dyn Backend, catalogue: &Catalogue) -> Vec<Json> {
    let mut rows = Vec::new();
    // The one workspace is there from the beginning where Kong made the database.
    let mut each = |row: Row| {
        if row.entity().name != "workspaces" {
            rows.push(Json::from(row.to_json(0)));
        }
    };
    backend.load(catalogue, &mut each).unwrap();
    rows
}

/// What every store must do. `open` opens the same one again.
pub(super) fn behaves(open: &dyn Fn() -> Box<dyn Backend>) {
    let catalogue = samples::catalogue();
    let service = row(&catalogue, "services", json!({"name": "sörvice \"1\"", "host": "a"}));
    let route = json!({"service": {"id": service.id().to_string()}, "paths": ["/a", "~/b"],
        "headers": {"x": ["1", "2"]}, "tags": [], "preserve_host": true});
    let route = row(&catalogue, "routes", route);
    let config = json!({"minute": 0.25, "redis": {"host": "r", "port": 1}});
    let plugin = json!({"name": "rate-limiting", "config": config});
    let plugin = row(&catalogue, "plugins", plugin);
    let consumer = row(&catalogue, "consumers", json!({"username": "u"}));
    let key = json!({"consumer": {"id": consumer.id().to_string()}, "key": "k"});
    let key = Arc::new(
        Row::clone(&row(&catalogue, "keyauth_credentials", key)).expiring(Some(4_000_000_000)),
    );
    let rows = [&service, &route, &consumer, &plugin, &key];

    let mut backend = open();
    assert!(all(backend.as_mut(), &catalogue).is_empty());
    backend.commit(&rows.map(write)).unwrap();
    assert!(backend.reachable());
    drop(backend);

    let mut backend = open();
    let expected: Vec<Json> = rows.iter().map(|row| row.to_json(0).into()).collect();
    assert_eq!(all(backend.as_mut(), &catalogue), expected);

    let other = json!({"id": service.id().to_string(), "name": "other", "host": "b"});
    let other = row(&catalogue, "services", other);
    let gone = json!({"id": "00000000-0000-4000-8000-000000000009", "username": "g"});
    let gone = row(&catalogue, "consumers", gone);
    let replaced = Change { before: Some(Arc::clone(&service)), ..write(&other) };
    backend.commit(&[write(&gone), erase(&route), replaced, erase(&gone)]).unwrap();
    drop(backend);

    let mut backend = open();
    let expected = [&other, &consumer, &plugin, &key].map(|row| Json::from(row.to_json(0)));
    assert_eq!(all(backend.as_mut(), &catalogue), expected);
}

#[test]
fn declarative_behaves() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kept");
    behaves(&|| Box::new(super::declarative::Declarative::open(&file)));
}

#[test]
fn sqlite_behaves() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    behaves(&|| Box::new(Sqlite::open(&file).unwrap()));
}

#[track_caller]
fn told(path: &Path, words: &str) {
    let opened =
        Sqlite::open(path).and_then(|mut sqlite| sqlite.load(&samples::catalogue(), &mut |_| {}));
    let BackendFault(found) = opened.expect_err("it should not open");
    assert!(found.contains(words), "{found}");
}

#[test]
fn a_file_that_is_none_of_ours_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("text"), "no database, but longer than a header of one would have to be")
        .unwrap();
    told(&file("text"), "is damaged or no database at all");
    let other = rusqlite::Connection::open(file("other")).unwrap();
    other.execute_batch("CREATE TABLE services (x)").unwrap();
    drop(other);
    told(&file("other"), "is a database of another program");
    told(&file("no/such/folder"), "cannot open the database");

    drop(
        Sqlite::open(&file("ours"))
            .map(|mut sqlite| sqlite.load(&samples::catalogue(), &mut |_| {})),
    );
    let mut bytes = std::fs::read(file("ours")).unwrap();
    bytes.iter_mut().skip(100).for_each(|byte| *byte = 0xff);
    std::fs::write(file("ours"), bytes).unwrap();
    told(&file("ours"), "is damaged");
}

#[test]
fn the_file_is_for_one_process_and_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    let mut first = Sqlite::open(&file).unwrap();
    first.load(&samples::catalogue(), &mut |_| {}).unwrap();
    told(&file, "is in use by another process");
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

static OLDER: Entity =
    Entity { name: "things", fields: &[typical::ID, typical::name("name")], ..Entity::EMPTY };

static NEWER: Entity = Entity {
    name: "things",
    ttl: true,
    fields: &[
        typical::ID,
        boolean("enabled", "").or(Preset::Flag(true)).required(),
        typical::name("name"),
        typical::TAGS,
    ],
    ..Entity::EMPTY
};

/// A field that a newer version adds: older rows have its default.
#[test]
fn a_new_field_is_a_new_column() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    let catalogue = |entity| Catalogue { entities: vec![entity], ..Catalogue::default() };
    let mut sqlite = Sqlite::open(&file).unwrap();
    sqlite.load(&catalogue(&OLDER), &mut |_| {}).unwrap();
    let id = "00000000-0000-4000-8000-000000000001";
    let old = row(&catalogue(&OLDER), "things", json!({"id": id, "name": "old"}));
    sqlite.commit(&[write(&old)]).unwrap();
    drop(sqlite);
    let mut sqlite = Sqlite::open(&file).unwrap();
    let expected = json!({"id": id, "name": "old", "enabled": true, "tags": null});
    assert_eq!(all(&mut sqlite, &catalogue(&NEWER)), [expected]);
    let new = row(&catalogue(&NEWER), "things", json!({"name": "new", "enabled": false}));
    sqlite.commit(&[write(&new)]).unwrap();
    assert_eq!(all(&mut sqlite, &catalogue(&NEWER)).len(), 2);
}

/// A field that a newer version of a plugin adds to its `config`.
#[test]
fn a_stored_config_gets_new_defaults() {
    let catalogue = samples::catalogue();
    let entity = catalogue.entity("plugins").unwrap();
    let mut values = vec![Value::Null; entity.fields.len()];
    let mut set = |name: &str, value: Json| {
        values[entity.position(name).unwrap()] = Value::from(value);
    };
    set("id", json!("00000000-0000-4000-8000-000000000001"));
    set("name", json!("rate-limiting"));
    set("config", json!({"minute": 5, "policy": null, "redis": {"host": "h"}}));
    let row = Row::load(entity, &catalogue, values, None);
    let config = row.get("config");
    assert_eq!(config.get("minute").as_integer(), Some(5));
    assert_eq!(config.get("limit_by").as_text(), Some("consumer"), "absent");
    assert!(config.get("policy").is_null(), "null is what was stored");
    assert_eq!(config.path("redis.port").and_then(Value::as_integer), Some(6379));
    assert_eq!(row.flag("enabled"), Some(true));
}

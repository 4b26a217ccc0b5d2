//! All rows as one document.
//!
//! Source: Kong `kong/db/declarative/export.lua` (`export_from_db`); `recorded/dbless.jsonl`.

use super::yaml;
use crate::schema::Catalogue;
use crate::snapshot::Tables;
use crate::value::{Row, Value};
use serde_json::{Map, Value as Json, json};

/// The document that makes these rows again: every field, nulls too, pointers as ids.
#[must_use]
pub fn export(catalogue: &Catalogue, tables: &Tables, now_s: i64) -> String {
    let mut out = String::new();
    yaml::write(&mut out, "_format_version", &json!("3.0"));
    yaml::write(&mut out, "_transform", &json!(false));
    let entities = catalogue.entities.iter().filter(|entity| entity.exported);
    for entity in entities.filter(|entity| entity.name != "workspaces") {
        let rows = tables.all(entity.name).filter(|row| row.is_alive(now_s));
        let rows: Vec<Json> = rows.map(|row| document(row)).collect();
        if !rows.is_empty() {
            yaml::write(&mut out, entity.name, &rows.into());
        }
    }
    out
}

fn document(row: &Row) -> Json {
    let mut object = Map::new();
    for (field, value) in row.iter().filter(|(field, _)| !field.transient) {
        let value = match value {
            Value::Id(id) => json!(id.to_string()),
            other => other.stored(),
        };
        object.insert(field.name.to_owned(), value);
    }
    if let Some(expires_at_s) = row.expires_at_s() {
        object.insert("ttl".to_owned(), expires_at_s.into());
    }
    object.into()
}

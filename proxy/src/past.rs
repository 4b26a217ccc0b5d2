//! Rows as they were: log documents show a route, a service and a consumer as they stood when the
//! request was answered, also when they have changed since.
//!
//! The newest tables are at hand anyway; of rows that were replaced the last ones are kept. The
//! exporter asks on its own thread; the store's thread tells of changes. Neither waits for the
//! other longer than a look into a map.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use exporter::logs::{RowKey, RowKind, RowSource, Workspace};
use serde_json::{Value, json};
use store::snapshot::{Change, Tables};
use store::value::Row;

/// Replaced rows that are kept.
const REPLACED_MAX: usize = 16_384;
/// Entities that log documents show.
const SHOWN: [&str; 3] = ["routes", "services", "consumers"];
/// The workspace of a store that keeps none: Kong's id for it where it has no database.
const DEFAULT_WORKSPACE: (&str, &str) = ("0dc6f45b-8f8d-40d2-a504-473544ee190b", "default");

/// What is known of rows, newest and replaced.
#[derive(Default)]
pub struct Past {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    newest: Arc<Tables>,
    workspace: Option<Workspace>,
    replaced: HashMap<RowKey, Arc<Row>>,
    order: VecDeque<RowKey>,
}

impl Past {
    /// Takes note of a change before it is published.
    pub fn note(&self, tables: &Arc<Tables>, changes: &[Change]) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.newest = Arc::clone(tables);
        inner.workspace = None;
        for change in changes.iter().filter(|change| SHOWN.contains(&change.entity.name)) {
            let Some(row) = &change.before else { continue };
            let key = RowKey { id: row.id(), version: row.version() };
            if inner.replaced.insert(key, Arc::clone(row)).is_none() {
                inner.order.push_back(key);
            }
            if inner.order.len() > REPLACED_MAX
                && let Some(oldest) = inner.order.pop_front()
            {
                inner.replaced.remove(&oldest);
            }
        }
    }

    /// The look-up for the exporter.
    pub fn source(self: &Arc<Self>) -> RowSource {
        let (rows, workspaces) = (Arc::clone(self), Arc::clone(self));
        RowSource {
            row: Box::new(move |kind, key| rows.row(kind, key)),
            workspace: Box::new(move || workspaces.workspace()),
        }
    }

    fn row(&self, kind: RowKind, key: RowKey) -> Option<Value> {
        let entity = match kind {
            RowKind::Route => "routes",
            RowKind::Service => "services",
            RowKind::Consumer => "consumers",
        };
        let row = {
            let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            let newest = inner.newest.get(entity, key.id);
            let exact = newest.filter(|row| row.version() == key.version);
            exact.or_else(|| inner.replaced.get(&key)).or(newest).cloned()?
        };
        let mut shown = row.to_json(0);
        shown.retain(|_, value| !value.is_null());
        if kind != RowKind::Consumer {
            shown.entry("ws_id").or_insert_with(|| json!(self.workspace().id));
        }
        Some(Value::Object(shown))
    }

    fn workspace(&self) -> Workspace {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(workspace) = &inner.workspace {
            return workspace.clone();
        }
        let (id, name) = DEFAULT_WORKSPACE;
        let row = inner.newest.by("workspaces", "name", name);
        let id = row.map_or_else(|| id.to_owned(), |row| row.id().to_string());
        let workspace = Workspace { id, name: name.to_owned() };
        inner.workspace = Some(workspace.clone());
        workspace
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::schema::Catalogue;

    #[test]
    fn a_replaced_row_is_shown_as_it_was() {
        let catalogue = Arc::new(Catalogue::new(Vec::new(), &[]));
        let input = json!({"name": "s", "host": "h"});
        let tables = store::script::with_row(&catalogue, None, "services", &input).unwrap();
        let row = tables.all("services").next().cloned().unwrap();
        let key = RowKey { id: row.id(), version: row.version() };
        let past = Arc::new(Past::default());
        let tables = Arc::new(tables);
        past.note(&tables, &[]);
        let source = past.source();
        let shown = (source.row)(RowKind::Service, key).unwrap();
        assert_eq!((&shown["name"], shown.get("path")), (&json!("s"), None));
        assert_eq!(shown["ws_id"], DEFAULT_WORKSPACE.0);
        let gone = Change { entity: row.entity(), before: Some(row), after: None };
        past.note(&Arc::new(Tables::new(&catalogue)), &[gone]);
        assert_eq!((source.row)(RowKind::Service, key), Some(shown));
        assert_eq!((source.row)(RowKind::Service, RowKey { version: 99, ..key }), None);
    }
}

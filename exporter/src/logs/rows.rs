//! Rows of the configuration as log documents show them.
//!
//! A record names its route, service and consumer by id and version. The program lends a look-up
//! ([`RowSource`]) that still finds rows which were replaced a while ago; what it gave is kept
//! here, because most records name the same few rows.

use super::record::LogRecord;
use super::report::RowKey;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// Rows that are kept as text; above it all are forgotten and asked for again.
const KEPT_MAX: usize = 4_096;

/// Kinds of rows that records name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowKind {
    /// `routes`.
    Route,
    /// `services`.
    Service,
    /// `consumers`.
    Consumer,
}

/// The workspace that everything is in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Workspace {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// The program's look-up. Called on the exporter's thread; must not wait for the road or the store.
pub struct RowSource {
    /// A row as JSON without nulls; none if it is not known any more.
    pub row: Box<dyn Fn(RowKind, RowKey) -> Option<Value> + Send + Sync>,
    /// The workspace.
    pub workspace: Box<dyn Fn() -> Workspace + Send + Sync>,
}

/// One row, ready to be printed.
#[derive(Debug)]
pub(super) struct Shown {
    /// As a value.
    pub(super) value: Value,
    /// The same as text.
    pub(super) text: Vec<u8>,
}

impl Shown {
    fn new(value: Value) -> Arc<Self> {
        let text = value.to_string().into_bytes();
        Arc::new(Self { value, text })
    }

    /// A text of the row.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.value.get(name)?.as_str()
    }
}

/// The rows that one record names.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Its route.
    pub(super) route: Option<Arc<Shown>>,
    /// Its service.
    pub(super) service: Option<Arc<Shown>>,
    /// Its consumer.
    pub(super) consumer: Option<Arc<Shown>>,
    /// The workspace.
    pub(super) workspace: Workspace,
}

/// Rows that were asked for before.
#[derive(Default)]
pub(super) struct Kept {
    rows: HashMap<(RowKind, RowKey), Arc<Shown>>,
}

impl Kept {
    /// The rows of a record. A row that nobody knows any more is shown by its id alone.
    pub(super) fn of(&mut self, record: &LogRecord<'_>, source: Option<&RowSource>) -> Found {
        let mut row = |kind, key: Option<RowKey>| key.map(|key| self.row(kind, key, source));
        Found {
            route: row(RowKind::Route, record.route),
            service: row(RowKind::Service, record.service),
            consumer: row(RowKind::Consumer, record.consumer),
            workspace: source.map(|source| (source.workspace)()).unwrap_or_default(),
        }
    }

    fn row(&mut self, kind: RowKind, key: RowKey, source: Option<&RowSource>) -> Arc<Shown> {
        if let Some(shown) = self.rows.get(&(kind, key)) {
            return Arc::clone(shown);
        }
        let value = source.and_then(|source| (source.row)(kind, key));
        let shown = Shown::new(value.unwrap_or_else(|| json!({"id": key.id.to_string()})));
        if self.rows.len() >= KEPT_MAX {
            self.rows.clear();
        }
        self.rows.insert((kind, key), Arc::clone(&shown));
        shown
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn source() -> RowSource {
        RowSource {
            row: Box::new(|kind, key| match kind {
                RowKind::Route => Some(json!({"id": key.id.to_string(), "name": "r"})),
                RowKind::Service => {
                    Some(json!({"id": key.id.to_string(), "name": "s", "host": "h"}))
                }
                RowKind::Consumer => None,
            }),
            workspace: Box::new(|| Workspace { id: "w-id".into(), name: "default".into() }),
        }
    }

    pub(crate) fn found(record: &LogRecord<'_>) -> Found {
        Kept::default().of(record, Some(&source()))
    }

    #[test]
    fn an_unknown_row_is_its_id_and_the_kept_are_bounded() {
        let mut kept = Kept::default();
        for n in 0..KEPT_MAX as u128 + 10 {
            let key = RowKey { id: uuid::Uuid::from_u128(n), version: 1 };
            let shown = kept.row(RowKind::Consumer, key, Some(&source()));
            assert_eq!(shown.value, json!({"id": key.id.to_string()}));
        }
        assert!(kept.rows.len() <= KEPT_MAX);
    }
}

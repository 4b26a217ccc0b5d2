//! Rows of Kong's tables and rows of ours: which column holds which field, in which words of SQL.
//!
//! The entities say which fields there are; the database itself says which columns it has and of
//! which type, so that a database of an older or newer version needs no table here. Values travel
//! as text (arrays as arrays of text) with a cast to the column's type, which keeps every
//! statement free of types that only the server knows.

use crate::schema::{Catalogue, Entity, Field, Kind};
use crate::value::{Row, Value};
use std::collections::BTreeMap;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

/// Columns of every table: name and type, as the catalogue of the database tells.
pub(super) type Catalog = BTreeMap<String, Vec<(String, String)>>;

/// Asks for [`Catalog`]; `$1` is the schema.
pub(super) const CATALOG_SQL: &str = "SELECT table_name::text, column_name::text, udt_name::text \
     FROM information_schema.columns WHERE table_schema = $1 ORDER BY table_name, ordinal_position";

/// How an entity is stored.
#[derive(Debug)]
pub(super) struct Table {
    /// The entity.
    pub(super) entity: &'static Entity,
    columns: Vec<Column>,
    /// Whether rows belong to a workspace.
    pub(super) has_workspace: bool,
    /// Whether the cache key is stored.
    pub(super) has_cache_key: bool,
    /// Whether rows may end.
    pub(super) has_ttl: bool,
    /// Fields that this database has no column for.
    pub(super) lacking: Vec<&'static str>,
}

/// One column and the field in it.
#[derive(Debug)]
struct Column {
    name: String,
    place: usize,
    /// The type, in the database's short name.
    kind: String,
}

/// A value on its way into a statement.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Sent {
    /// Anything that is not an array; none is null.
    One(Option<String>),
    /// An array; none is null.
    Many(Option<Vec<String>>),
}

impl Sent {
    /// As the client wants it.
    pub(super) fn parameter(&self) -> (&(dyn ToSql + Sync), Type) {
        match self {
            Self::One(text) => (text, Type::TEXT),
            Self::Many(texts) => (texts, Type::TEXT_ARRAY),
        }
    }
}

/// A name in SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The column of a field.
fn column_name(field: &Field) -> String {
    match field.kind {
        Kind::Foreign(..) => format!("{}_id", field.name),
        _ => field.name.to_owned(),
    }
}

impl Table {
    /// How `entity` is stored in a database with that catalogue; none if it has no table.
    pub(super) fn of(entity: &'static Entity, catalog: &Catalog) -> Option<Self> {
        let known = catalog.get(entity.table())?;
        let kind_of = |name: &str| {
            known.iter().find(|(column, _)| column == name).map(|(_, kind)| kind.clone())
        };
        let (mut columns, mut lacking) = (Vec::new(), Vec::new());
        for (place, field) in entity.fields.iter().enumerate().filter(|(_, f)| !f.transient) {
            let name = column_name(field);
            match kind_of(&name) {
                Some(kind) => columns.push(Column { name, place, kind }),
                None => lacking.push(field.name),
            }
        }
        let has = |name: &str| kind_of(name).is_some();
        Some(Self {
            entity,
            columns,
            has_workspace: has("ws_id") && entity.field("ws_id").is_none(),
            has_cache_key: has("cache_key") && entity.field("cache_key").is_none(),
            has_ttl: entity.ttl && has("ttl"),
            lacking,
        })
    }

    /// The table's name in SQL.
    pub(super) fn name(&self) -> String {
        quoted(self.entity.table())
    }

    /// What to select so that [`Table::read`] can read it.
    pub(super) fn selection(&self) -> String {
        let mut list: Vec<String> = self.columns.iter().map(Column::selected).collect();
        if self.has_ttl {
            list.push("EXTRACT(EPOCH FROM \"ttl\")::float8".to_owned());
        }
        list.join(", ")
    }

    /// The condition under which a row is ours and has not ended; `$1` is the workspace.
    pub(super) fn condition(&self) -> String {
        let workspace =
            if self.has_workspace { "ws_id = $1::uuid" } else { "$1::text IS NOT NULL" };
        let ttl = if self.has_ttl { " AND (ttl IS NULL OR ttl >= CURRENT_TIMESTAMP)" } else { "" };
        format!("{workspace}{ttl}")
    }

    /// A row that was selected.
    ///
    /// # Errors
    /// What cannot be read.
    pub(super) fn read(
        &self,
        catalogue: &Catalogue,
        row: &tokio_postgres::Row,
    ) -> Result<Row, String> {
        let mut values = vec![Value::Null; self.entity.fields.len()];
        for (at, column) in self.columns.iter().enumerate() {
            let told = |why: &dyn std::fmt::Display| {
                format!(
                    "the database's {}.{} cannot be read: {why}",
                    self.entity.table(),
                    column.name
                )
            };
            let value = column.read(row, at).map_err(|why| told(&why))?;
            if let (Some(slot), Some(field)) =
                (values.get_mut(column.place), self.entity.fields.get(column.place))
            {
                *slot = fitting(field, value);
            }
        }
        let mut expires_at_s = None;
        if self.has_ttl {
            let ttl: Option<f64> = row.try_get(self.columns.len()).map_err(|e| e.to_string())?;
            expires_at_s = ttl.map(|seconds| seconds.ceil() as i64);
        }
        Ok(Row::load(self.entity, catalogue, values, expires_at_s))
    }

    /// Every column of a row and its value: name, cast, value.
    pub(super) fn cells(&self, row: &Row, workspace: &str) -> Vec<Cell> {
        let mut cells: Vec<Cell> =
            self.columns.iter().map(|column| column.cell(row.at(column.place))).collect();
        if self.has_workspace {
            cells.push(Cell::text("ws_id", "uuid", Some(workspace.to_owned())));
        }
        if self.has_cache_key {
            cells.push(Cell::text("cache_key", "text", super::events::cache_key(row, workspace)));
        }
        if self.has_ttl {
            let end = row.expires_at_s().map(|seconds| seconds.to_string());
            cells.push(Cell::text("ttl", "timestamptz", end));
        }
        cells
    }

    /// The column of a field.
    pub(super) fn column_of(&self, field: &str) -> Option<String> {
        let place = self.entity.position(field)?;
        let column = self.columns.iter().find(|column| column.place == place)?;
        Some(quoted(&column.name))
    }
}

/// Whole seconds where the schema has whole numbers.
fn fitting(field: &Field, value: Value) -> Value {
    match (field.kind, value) {
        (Kind::Integer, Value::Number(number)) => Value::Integer(number.floor() as i64),
        (_, value) => value,
    }
}

/// One column's part of a statement.
#[derive(Debug, PartialEq)]
pub(super) struct Cell {
    /// The column.
    pub(super) name: String,
    kind: String,
    /// Its value.
    pub(super) value: Sent,
}

impl Cell {
    fn text(name: &str, kind: &str, value: Option<String>) -> Self {
        Self { name: name.to_owned(), kind: kind.to_owned(), value: Sent::One(value) }
    }

    /// The expression for parameter `number`.
    pub(super) fn expression(&self, number: usize) -> String {
        match self.kind.as_str() {
            "text" | "varchar" | "_text" => format!("${number}"),
            "timestamptz" => format!("TO_TIMESTAMP(${number}::float8)"),
            kind => match kind.strip_prefix('_') {
                Some(element) => format!("${number}::{element}[]"),
                None => format!("${number}::{kind}"),
            },
        }
    }
}

impl Column {
    fn selected(&self) -> String {
        let name = quoted(&self.name);
        match self.kind.as_str() {
            "uuid" | "text" | "varchar" | "bool" | "_text" => name,
            "int2" | "int4" | "int8" => format!("{name}::int8"),
            "timestamptz" | "timestamp" => format!("EXTRACT(EPOCH FROM {name})::float8"),
            "float4" | "float8" | "numeric" => format!("{name}::float8"),
            kind if kind.starts_with('_') => format!("{name}::text[]"),
            _ => format!("{name}::text"),
        }
    }

    fn read(&self, row: &tokio_postgres::Row, at: usize) -> Result<Value, String> {
        let fault = |why: tokio_postgres::Error| why.to_string();
        Ok(match self.kind.as_str() {
            "uuid" => row.try_get::<_, Option<Uuid>>(at).map_err(fault)?.map(Value::Id),
            "text" | "varchar" => {
                row.try_get::<_, Option<&str>>(at).map_err(fault)?.map(Value::text)
            }
            "bool" => row.try_get::<_, Option<bool>>(at).map_err(fault)?.map(Value::Flag),
            "int2" | "int4" | "int8" => {
                row.try_get::<_, Option<i64>>(at).map_err(fault)?.map(Value::Integer)
            }
            "timestamptz" | "timestamp" => {
                let seconds = row.try_get::<_, Option<f64>>(at).map_err(fault)?;
                // Three decimals are what Kong writes and reads.
                seconds.map(|seconds| Value::from_number((seconds * 1_000.0).round() / 1_000.0))
            }
            "float4" | "float8" | "numeric" => {
                row.try_get::<_, Option<f64>>(at).map_err(fault)?.map(Value::from_number)
            }
            kind if kind.starts_with('_') => {
                let items = row.try_get::<_, Option<Vec<Option<&str>>>>(at).map_err(fault)?;
                items.map(|items| list(items, kind == "_jsonb" || kind == "_json")).transpose()?
            }
            kind => {
                let text = row.try_get::<_, Option<&str>>(at).map_err(fault)?;
                text.map(|text| from_text(text, kind)).transpose()?
            }
        }
        .unwrap_or_default())
    }

    fn cell(&self, value: &Value) -> Cell {
        let value = if self.kind.starts_with('_') {
            let items = match value {
                Value::List(items) => Some(items.iter().map(plain).collect()),
                _ => None,
            };
            Sent::Many(items)
        } else if self.kind == "jsonb" || self.kind == "json" {
            Sent::One((!value.is_null()).then(|| value.stored().to_string()))
        } else {
            Sent::One((!value.is_null()).then(|| plain(value)))
        };
        Cell { name: self.name.clone(), kind: self.kind.clone(), value }
    }
}

fn list(items: Vec<Option<&str>>, json: bool) -> Result<Value, String> {
    let item = |text: &str| {
        if json { from_text(text, "jsonb") } else { Ok(Value::text(text)) }
    };
    items.into_iter().flatten().map(item).collect::<Result<_, _>>().map(Value::List)
}

fn from_text(text: &str, kind: &str) -> Result<Value, String> {
    if kind != "jsonb" && kind != "json" {
        return Ok(Value::text(text));
    }
    serde_json::from_str::<serde_json::Value>(text).map(Value::from).map_err(|e| e.to_string())
}

/// A value as text that a cast understands.
fn plain(value: &Value) -> String {
    match value {
        Value::Text(text) => text.to_string(),
        Value::Id(id) => id.to_string(),
        Value::Flag(flag) => flag.to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Number(number) => number.to_string(),
        other => other.stored().to_string(),
    }
}

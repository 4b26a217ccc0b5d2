//! Rows of Kong's tables and rows of ours: which column holds which field, in which words of SQL.
//!
//! The entities say which fields there are; the database itself says which columns it has and of
//! which type, so that a database of an older or newer version needs no table here. Values travel
//! to it as text (arrays as arrays of text) with a cast to the column's type, which keeps every
//! statement free of types that only the server knows. What comes back is as binary as the server
//! has it, since a start reads millions of them.

use crate::schema::{Catalogue, Entity, Field, Kind};
use crate::value::{Row, Value};
use std::collections::BTreeMap;
use std::error::Error;
use tokio_postgres::types::{FromSql, ToSql, Type};
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
    form: Form,
}

/// How a column is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Id,
    Text,
    Flag,
    Whole,
    Moment,
    Number,
    Json,
    /// A list of texts.
    Texts,
    /// Any other list, as a list of texts; `true`: of JSON.
    List(bool),
    /// Anything else, as text.
    Other,
}

impl Form {
    fn of(kind: &str) -> Self {
        match kind {
            "uuid" => Self::Id,
            "text" | "varchar" => Self::Text,
            "bool" => Self::Flag,
            "int2" | "int4" | "int8" => Self::Whole,
            "timestamptz" | "timestamp" => Self::Moment,
            "float4" | "float8" | "numeric" => Self::Number,
            "json" | "jsonb" => Self::Json,
            "_text" => Self::Texts,
            kind if kind.starts_with('_') => Self::List(kind == "_jsonb" || kind == "_json"),
            _ => Self::Other,
        }
    }
}

/// Microseconds since the beginning of 2000, as the server keeps times.
struct Moment(i64);

/// The beginning of 2000, Unix time in seconds.
const YEAR_2000_S: i64 = 946_684_800;

impl Moment {
    /// Unix time in thousandths of a second, rounded: three decimals are what Kong writes and
    /// reads. The ends of the server's time are its words for "for ever".
    fn unix_ms(&self) -> i64 {
        let ms = self.0.saturating_add(500).div_euclid(1_000);
        ms.saturating_add(YEAR_2000_S * 1_000)
    }

    fn value(&self) -> Value {
        match (self.0, self.unix_ms()) {
            (i64::MAX, _) => Value::Number(f64::INFINITY),
            (i64::MIN, _) => Value::Number(f64::NEG_INFINITY),
            (_, ms) if ms % 1_000 == 0 => Value::Integer(ms / 1_000),
            (_, ms) => Value::Number(ms as f64 / 1_000.0),
        }
    }

    /// The first whole second, Unix time, that is not before it.
    fn end_s(&self) -> i64 {
        let whole = self.0.div_euclid(1_000_000);
        let more = i64::from(self.0.rem_euclid(1_000_000) > 0);
        whole.saturating_add(more).saturating_add(YEAR_2000_S)
    }
}

/// Why the bytes of a cell cannot be read.
type Unreadable = Box<dyn Error + Sync + Send>;

impl<'a> FromSql<'a> for Moment {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Unreadable> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?)))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TIMESTAMPTZ || *kind == Type::TIMESTAMP
    }
}

/// A whole number of any width.
struct Whole(i64);

impl<'a> FromSql<'a> for Whole {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Unreadable> {
        Ok(Self(match *raw {
            [a, b] => i16::from_be_bytes([a, b]).into(),
            [a, b, c, d] => i32::from_be_bytes([a, b, c, d]).into(),
            _ => i64::from_be_bytes(raw.try_into()?),
        }))
    }

    fn accepts(kind: &Type) -> bool {
        [Type::INT8, Type::INT4, Type::INT2].contains(kind)
    }
}

/// A document as text.
struct Document<'a>(&'a str);

impl<'a> FromSql<'a> for Document<'a> {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Unreadable> {
        let text = match raw {
            [1, text @ ..] if *kind == Type::JSONB => text,
            [version, ..] if *kind == Type::JSONB => {
                return Err(format!("version {version} of jsonb is not known").into());
            }
            text => text,
        };
        Ok(Self(std::str::from_utf8(text)?))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::JSONB || *kind == Type::JSON
    }
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
                Some(kind) => {
                    columns.push(Column { name, place, form: Form::of(&kind), kind });
                }
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
            list.push("\"ttl\"".to_owned());
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
            let ttl: Option<Moment> = row.try_get(self.columns.len()).map_err(|e| e.to_string())?;
            expires_at_s = ttl.map(|moment| moment.end_s());
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
        match self.form {
            Form::Number => format!("{name}::float8"),
            Form::List(_) => format!("{name}::text[]"),
            Form::Other => format!("{name}::text"),
            _ => name,
        }
    }

    fn read(&self, row: &tokio_postgres::Row, at: usize) -> Result<Value, String> {
        /// A cell that may be null.
        fn cell<'a, T: FromSql<'a>>(
            row: &'a tokio_postgres::Row,
            at: usize,
        ) -> Result<Option<T>, String> {
            row.try_get(at).map_err(|why| why.to_string())
        }
        let value = match self.form {
            Form::Id => cell::<Uuid>(row, at)?.map(Value::Id),
            Form::Text | Form::Other => cell::<&str>(row, at)?.map(Value::text),
            Form::Flag => cell::<bool>(row, at)?.map(Value::Flag),
            Form::Whole => cell::<Whole>(row, at)?.map(|Whole(number)| Value::Integer(number)),
            Form::Moment => cell::<Moment>(row, at)?.map(|moment| moment.value()),
            Form::Number => cell::<f64>(row, at)?.map(Value::from_number),
            Form::Json => {
                cell::<Document<'_>>(row, at)?.map(|Document(text)| document(text)).transpose()?
            }
            Form::Texts => cell::<Vec<Option<&str>>>(row, at)?.map(texts),
            Form::List(is_json) => {
                let items = cell::<Vec<Option<&str>>>(row, at)?;
                items.map(|items| list(items, is_json)).transpose()?
            }
        };
        Ok(value.unwrap_or_default())
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

fn texts(items: Vec<Option<&str>>) -> Value {
    Value::List(items.into_iter().flatten().map(Value::text).collect())
}

fn list(items: Vec<Option<&str>>, is_json: bool) -> Result<Value, String> {
    if !is_json {
        return Ok(texts(items));
    }
    items.into_iter().flatten().map(document).collect::<Result<_, _>>().map(Value::List)
}

fn document(text: &str) -> Result<Value, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_kong_reads_them() {
        let check = |micros: i64, unix: Value, end_s: i64| {
            let moment = Moment(micros);
            assert_eq!((moment.value(), moment.end_s()), (unix, end_s), "{micros}");
        };
        let whole = |s: i64| Value::Integer(s);
        check(0, whole(YEAR_2000_S), YEAR_2000_S);
        check(1, whole(YEAR_2000_S), YEAR_2000_S + 1);
        check(-1, whole(YEAR_2000_S), YEAR_2000_S);
        check(753_315_200_000_000, whole(1_700_000_000), 1_700_000_000);
        check(753_315_200_123_499, Value::Number(1_700_000_000.123), 1_700_000_001);
        check(753_315_200_123_500, Value::Number(1_700_000_000.124), 1_700_000_001);
        check(-946_684_800_000_000, whole(0), 0);
        check(-946_684_801_500_000, Value::Number(-1.5), -1);
        check(i64::MAX, Value::Number(f64::INFINITY), 9_223_372_036_855 + YEAR_2000_S);
    }

    #[test]
    fn cells_of_any_width_are_read() {
        let whole = |raw: &[u8]| Whole::from_sql(&Type::INT8, raw).map(|Whole(n)| n).ok();
        assert_eq!(whole(&[255, 254]), Some(-2));
        assert_eq!(whole(&[0, 1, 0, 0]), Some(65_536));
        assert_eq!(whole(&[0, 0, 0, 1, 0, 0, 0, 0]), Some(1 << 32));
        assert_eq!(whole(&[1]), None);
        let text = |kind: &Type, raw| Document::from_sql(kind, raw).map(|Document(text)| text).ok();
        assert_eq!(text(&Type::JSONB, b"\x01{}"), Some("{}"));
        assert_eq!(text(&Type::JSONB, b"\x02{}"), None);
        assert_eq!(text(&Type::JSON, b"{}"), Some("{}"));
        assert_eq!(text(&Type::JSON, b"\xff"), None);
    }
}

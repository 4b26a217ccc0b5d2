//! The embedded store: one SQLite file, one table per entity, one column per field.
//!
//! Write-ahead log, `synchronous=NORMAL`: a crash of the program loses nothing, a crash of the
//! machine may lose the last commits, never the file. The file is locked for one process, because
//! the rows in memory are the truth. Lists, maps and records are JSON in their column. A field
//! that a newer version adds becomes a column that is null in older rows.

use super::{Backend, BackendFault, CommitFault};
use crate::describe::{Column, ColumnKind, columns};
use crate::schema::{Catalogue, Entity};
use crate::snapshot::Change;
use crate::value::{Row, Value};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, ToSql, params};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Marks a file as ours (`PRAGMA application_id`): "TGat".
const APPLICATION_ID: i32 = 0x5447_6174;
/// Column of the time, in Unix seconds, at which a row ends.
const EXPIRES_AT: &str = "expires_at";

/// The embedded store.
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
    path: PathBuf,
}

impl Sqlite {
    /// Opens the file, or makes it, readable by its owner alone.
    ///
    /// # Errors
    /// The folder cannot be written, another process has the file, or it is no file of ours.
    pub fn open(path: &Path) -> Result<Self, BackendFault> {
        let told = |why: &dyn std::fmt::Display| {
            BackendFault(format!("cannot open the database {}: {why}", path.display()))
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        drop(options.open(path).map_err(|why| told(&why))?);
        let connection = Connection::open(path).map_err(|why| told(&why))?;
        let store = Self { connection, path: path.to_owned() };
        store.prepare().map_err(|why| store.told(&why))?;
        Ok(store)
    }

    fn prepare(&self) -> rusqlite::Result<()> {
        let connection = &self.connection;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        let mode: String = connection.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0))?;
        log::debug!("{}: journal mode {mode}", self.path.display());
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        let id: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
        let tables: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
        if id != APPLICATION_ID && tables > 0 {
            return Err(rusqlite::Error::InvalidPath(self.path.clone()));
        }
        connection.pragma_update(None, "application_id", APPLICATION_ID)
    }

    /// One sentence for the operator.
    fn told(&self, fault: &rusqlite::Error) -> BackendFault {
        let path = self.path.display();
        let why = match fault.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                format!("{path} is damaged or no database at all ({fault})")
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                format!("{path} is in use by another process")
            }
            Some(ErrorCode::DiskFull) => format!("no space left for {path}"),
            _ if matches!(fault, rusqlite::Error::InvalidPath(_)) => {
                format!("{path} is a database of another program")
            }
            _ => format!("{path}: {fault}"),
        };
        BackendFault(format!("the database failed: {why}"))
    }

    /// Makes the table of an entity, or the columns that it lacks.
    fn make_table(&self, entity: &Entity) -> rusqlite::Result<()> {
        let columns = columns(entity);
        let mut known = Vec::new();
        let mut query = self.connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
        for name in query.query_map([entity.table()], |row| row.get::<_, String>(0))? {
            known.push(name?);
        }
        let table = quoted(entity.table());
        if known.is_empty() {
            let mut list: Vec<String> = columns.iter().map(definition).collect();
            if entity.ttl {
                list.push(format!("{EXPIRES_AT} INTEGER"));
            }
            let list = list.join(", ");
            return self
                .connection
                .execute_batch(&format!("CREATE TABLE {table} ({list}) WITHOUT ROWID"));
        }
        for column in columns.iter().filter(|column| !known.iter().any(|name| name == column.name))
        {
            let definition = definition(column);
            self.connection
                .execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {definition}"))?;
        }
        if entity.ttl && !known.iter().any(|name| name == EXPIRES_AT) {
            self.connection
                .execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {EXPIRES_AT} INTEGER"))?;
        }
        Ok(())
    }

    fn load_table(
        &self,
        catalogue: &Catalogue,
        entity: &'static Entity,
        each: &mut dyn FnMut(Row),
    ) -> rusqlite::Result<()> {
        let columns = columns(entity);
        let names = names(entity, &columns);
        let mut query =
            self.connection.prepare(&format!("SELECT {names} FROM {}", quoted(entity.table())))?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let mut values = vec![Value::Null; entity.fields.len()];
            for (place, column) in columns.iter().enumerate() {
                let value = read(column, place, row.get_ref(place)?)?;
                if let Some(slot) = values.get_mut(column.place) {
                    *slot = value;
                }
            }
            let expires_at_s =
                if entity.ttl { row.get::<_, Option<i64>>(columns.len())? } else { None };
            each(Row::load(entity, catalogue, values, expires_at_s));
        }
        Ok(())
    }

    fn write(&mut self, changes: &[Change]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        for change in changes {
            match &change.after {
                Some(row) => put(&transaction, row)?,
                None => {
                    let id = change.before.as_ref().map(|row| row.id().to_string());
                    let table = quoted(change.entity.table());
                    transaction
                        .prepare_cached(&format!("DELETE FROM {table} WHERE id = ?1"))?
                        .execute(params![id])?;
                }
            }
        }
        transaction.commit()
    }
}

impl Backend for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn load(
        &mut self,
        catalogue: &Catalogue,
        each: &mut dyn FnMut(Row),
    ) -> Result<(), BackendFault> {
        for entity in &catalogue.entities {
            self.make_table(entity).map_err(|why| self.told(&why))?;
            self.load_table(catalogue, entity, each).map_err(|why| self.told(&why))?;
        }
        Ok(())
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), CommitFault> {
        self.write(changes).map_err(|why| self.told(&why).into())
    }

    fn reachable(&mut self) -> bool {
        self.connection.query_row("SELECT 1", [], |_| Ok(())).is_ok()
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn definition(column: &Column) -> String {
    let kind = match column.kind {
        ColumnKind::Integer | ColumnKind::Flag => "INTEGER",
        ColumnKind::Number => "REAL",
        ColumnKind::Text | ColumnKind::Id | ColumnKind::Json => "TEXT",
    };
    let key = if column.name == "id" { " PRIMARY KEY NOT NULL" } else { "" };
    format!("{} {kind}{key}", quoted(column.name))
}

fn names(entity: &Entity, columns: &[Column]) -> String {
    let mut names: Vec<String> = columns.iter().map(|column| quoted(column.name)).collect();
    if entity.ttl {
        names.push(EXPIRES_AT.to_owned());
    }
    names.join(", ")
}

fn put(connection: &Connection, row: &Row) -> rusqlite::Result<()> {
    let entity = row.entity();
    let columns = columns(entity);
    let mut values: Vec<Cell<'_>> =
        columns.iter().map(|column| Cell::of(column, row.at(column.place))).collect();
    if entity.ttl {
        values.push(row.expires_at_s().map_or(Cell::Null, Cell::Integer));
    }
    let marks = vec!["?"; values.len()].join(", ");
    let (table, names) = (quoted(entity.table()), names(entity, &columns));
    connection
        .prepare_cached(&format!("INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})"))?
        .execute(rusqlite::params_from_iter(values))?;
    Ok(())
}

/// One value on its way into a column.
enum Cell<'a> {
    Null,
    Integer(i64),
    Number(f64),
    Text(&'a str),
    Made(String),
}

impl<'a> Cell<'a> {
    fn of(column: &Column, value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            _ if column.kind == ColumnKind::Json => Self::Made(value.stored().to_string()),
            Value::Flag(flag) => Self::Integer((*flag).into()),
            Value::Integer(number) => Self::Integer(*number),
            Value::Number(number) => Self::Number(*number),
            Value::Text(text) => Self::Text(text),
            Value::Id(id) => Self::Made(id.to_string()),
            other => Self::Made(other.stored().to_string()),
        }
    }
}

impl ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Number(number) => ValueRef::Real(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Made(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

fn read(column: &Column, place: usize, cell: ValueRef<'_>) -> rusqlite::Result<Value> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(match (column.kind, cell) {
        (_, ValueRef::Null) => Value::Null,
        (ColumnKind::Flag, ValueRef::Integer(flag)) => Value::Flag(flag != 0),
        (_, ValueRef::Integer(number)) => Value::Integer(number),
        (_, ValueRef::Real(number)) => Value::from_number(number),
        (ColumnKind::Json, ValueRef::Text(bytes)) => {
            let json: serde_json::Value = serde_json::from_slice(bytes).map_err(|why| {
                let kind = rusqlite::types::Type::Text;
                rusqlite::Error::FromSqlConversionFailure(place, kind, Box::new(why))
            })?;
            Value::from(json)
        }
        (_, ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => Value::text(text(bytes)),
    })
}

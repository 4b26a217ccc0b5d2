//! What follows from a schema: `GET /schemas/…`, and the columns of a table.
//!
//! Source: Kong `kong/api/routes/kong.lua` (`/schemas`), `kong/api/api_helpers.lua`.

mod document;
#[cfg(test)]
mod tests;

pub use document::{entity_document, plugin_config_document, plugin_document, variant_document};

use crate::schema::{Entity, Field, Kind, Limit};

/// One column of an entity's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name, which is the field's.
    pub name: &'static str,
    /// The field's place among the entity's fields.
    pub place: usize,
    /// What it holds.
    pub kind: ColumnKind,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// A string.
    Text,
    /// A UUID.
    Id,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A boolean.
    Flag,
    /// Anything else, as JSON.
    Json,
}

/// The columns of an entity's table: one for each field that is stored.
pub fn columns(entity: &Entity) -> Vec<Column> {
    let stored = entity.fields.iter().enumerate().filter(|(_, field)| !field.transient);
    stored
        .map(|(place, field)| Column { name: field.name, place, kind: column_kind(field) })
        .collect()
}

fn column_kind(field: &Field) -> ColumnKind {
    match field.kind {
        Kind::Text if field.limits.iter().any(|limit| matches!(limit, Limit::Uuid)) => {
            ColumnKind::Id
        }
        Kind::Text => ColumnKind::Text,
        Kind::Integer => ColumnKind::Integer,
        Kind::Number => ColumnKind::Number,
        Kind::Flag => ColumnKind::Flag,
        Kind::Foreign(..) => ColumnKind::Id,
        _ => ColumnKind::Json,
    }
}

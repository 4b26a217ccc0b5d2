//! All rows at one moment: immutable, numbered, cheap to change by one row.
//!
//! The insides are being built; the signatures are what the Admin API and the road build on.

use crate::schema::Entity;
use crate::value::{Row, Value};
use std::sync::Arc;
use uuid::Uuid;

/// All rows at one moment.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    number: u64,
}

impl Tables {
    /// Number of the last change in it.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The row with this primary key.
    pub fn get(&self, _entity: &str, _id: Uuid) -> Option<&Arc<Row>> {
        None
    }

    /// The row with this value of a unique field.
    pub fn by(&self, _entity: &str, _field: &str, _value: &str) -> Option<&Arc<Row>> {
        None
    }

    /// The row with these values of the entity's `cache_key`, in its order.
    pub fn by_key(&self, _entity: &str, _values: &[Value]) -> Option<&Arc<Row>> {
        None
    }

    /// All rows, by id.
    pub fn all(&self, entity: &str) -> impl Iterator<Item = &Arc<Row>> {
        self.after(entity, None)
    }

    /// The rows whose id is greater than `id`, by id.
    pub fn after(&self, _entity: &str, _id: Option<Uuid>) -> impl Iterator<Item = &Arc<Row>> {
        std::iter::empty()
    }

    /// The rows whose foreign `field` points to `parent`, by id, after `id`.
    pub fn children(
        &self,
        _entity: &str,
        _field: &str,
        _parent: Uuid,
        _after: Option<Uuid>,
    ) -> impl Iterator<Item = &Arc<Row>> {
        std::iter::empty()
    }

    /// Number of rows.
    pub fn len(&self, _entity: &str) -> usize {
        0
    }
}

/// What a write did to one row.
#[derive(Clone, Debug)]
pub struct Change {
    /// The kind of object.
    pub entity: &'static Entity,
    /// The row before; `None` for a new one.
    pub before: Option<Arc<Row>>,
    /// The row after; `None` for a deleted one.
    pub after: Option<Arc<Row>>,
}

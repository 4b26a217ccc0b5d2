//! All rows at one moment: immutable, numbered, cheap to change by one row.
//!
//! ```text
//! Tables ─► Arc<Table> per entity ─┬─ rows by id          shards of row pointers, key in the row
//!                                  ├─ rows by unique field             (the same, by its value)
//!                                  ├─ rows by cache key                (the same, by all of it)
//!                                  ├─ rows in the order of ids         pages, listings
//!                                  └─ rows by parent, then id          per foreign field
//! ```
//! A clone of [`Tables`] copies one pointer per entity. A write to a clone copies what it touches:
//! one shard and the branches above it, one piece of each order. So a snapshot that the road still
//! reads costs nothing but what differs. Every way to a row is a pointer to it: keys stay in rows.

mod order;
mod shards;
mod table;

use crate::schema::{Catalogue, Entity};
use crate::value::{Row, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use table::Table;
use uuid::Uuid;

/// All rows at one moment.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    number: u64,
    config_hash: u128,
    tables: Arc<[Named]>,
}

/// A table under the name of its entity, which stands here so that a search by name looks at no
/// other table.
#[derive(Clone, Debug)]
struct Named {
    name: &'static str,
    table: Arc<Table>,
}

impl From<Table> for Named {
    fn from(table: Table) -> Self {
        Self { name: table.entity().name, table: Arc::new(table) }
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

/// Why a row cannot be put into the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Another row has this value of a unique field.
    Field(&'static str),
    /// Another row has these values of the cache key.
    Key,
}

/// From so many rows on a table is made on a thread of its own.
const MANY_ROWS: usize = 20_000;

/// A place in the catalogue, the entity there, and its rows.
type Work = (usize, (&'static Entity, Vec<Arc<Row>>));

/// The table of that work, with its place.
fn made((place, (entity, rows)): Work) -> Result<(usize, Named), (Arc<Row>, Taken)> {
    Ok((place, Table::of(entity, &rows)?.into()))
}

impl Tables {
    /// Empty tables of all entities.
    pub fn new(catalogue: &Catalogue) -> Self {
        let tables = catalogue.entities.iter().map(|entity| Table::new(entity).into());
        Self { number: 0, config_hash: 0, tables: tables.collect() }
    }

    /// Tables of rows that were read from a backend; many rows cost a sort, not a search each.
    ///
    /// # Errors
    /// A row and what another one already has.
    pub(crate) fn filled(
        catalogue: &Catalogue,
        rows: Vec<Arc<Row>>,
    ) -> Result<Self, (Arc<Row>, Taken)> {
        let mut gathered: Vec<Vec<Arc<Row>>> = vec![Vec::new(); catalogue.entities.len()];
        let mut place = 0;
        for row in rows {
            // Rows of one entity come together.
            if catalogue.entities.get(place) != Some(&row.entity()) {
                let known = |entity: &&Entity| *entity == row.entity();
                let Some(found) = catalogue.entities.iter().position(known) else { continue };
                place = found;
            }
            gathered[place].push(row);
        }
        let work = catalogue.entities.iter().copied().zip(gathered).enumerate();
        let (many, few): (Vec<Work>, Vec<Work>) =
            work.partition(|(_, (_, rows))| rows.len() >= MANY_ROWS);
        let made = std::thread::scope(|scope| {
            let threads: Vec<_> =
                many.into_iter().map(|work| scope.spawn(move || made(work))).collect();
            let mut done: Vec<_> = few.into_iter().map(made).collect();
            done.extend(threads.into_iter().map(|thread| match thread.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            }));
            done.into_iter().collect::<Result<BTreeMap<usize, Named>, _>>()
        })?;
        Ok(Self { number: 0, config_hash: 0, tables: made.into_values().collect() })
    }

    /// Number of the last change in it.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Gives the tables a number.
    pub(crate) fn set_number(&mut self, number: u64) {
        self.number = number;
    }

    /// The hash of the declarative configuration that the rows came with; 0 if there was none.
    pub fn config_hash(&self) -> u128 {
        self.config_hash
    }

    /// Says which declarative configuration the rows came with.
    pub(crate) fn set_config_hash(&mut self, hash: u128) {
        self.config_hash = hash;
    }

    fn table(&self, entity: &str) -> Option<&Table> {
        self.tables.iter().find(|named| named.name == entity).map(|named| &*named.table)
    }

    fn table_mut(&mut self, entity: &Entity) -> Option<&mut Table> {
        let place = self.tables.iter().position(|named| named.table.entity() == entity)?;
        let named = Arc::make_mut(&mut self.tables).get_mut(place)?;
        Some(Arc::make_mut(&mut named.table))
    }

    /// The row with this primary key.
    pub fn get(&self, entity: &str, id: Uuid) -> Option<&Arc<Row>> {
        self.table(entity)?.get(id)
    }

    /// The row with this value of a unique field.
    pub fn by(&self, entity: &str, field: &str, value: &str) -> Option<&Arc<Row>> {
        self.table(entity)?.by_text(field, value)
    }

    /// The row with these values of the entity's `cache_key`, in its order.
    pub fn by_key(&self, entity: &str, values: &[Value]) -> Option<&Arc<Row>> {
        self.table(entity)?.by_key(values)
    }

    /// All rows, by id.
    pub fn all<'a>(&'a self, entity: &str) -> impl Iterator<Item = &'a Arc<Row>> + use<'a> {
        self.after(entity, None)
    }

    /// The rows whose id is greater than `id`, by id.
    pub fn after<'a>(
        &'a self,
        entity: &str,
        id: Option<Uuid>,
    ) -> impl Iterator<Item = &'a Arc<Row>> + use<'a> {
        self.table(entity).map(|table| table.after(id)).into_iter().flatten()
    }

    /// The rows whose foreign `field` points to `parent`, by id, after `id`.
    pub fn children<'a>(
        &'a self,
        entity: &str,
        field: &str,
        parent: Uuid,
        after: Option<Uuid>,
    ) -> impl Iterator<Item = &'a Arc<Row>> + use<'a> {
        let table = self.table(entity);
        table.map(|table| table.children(field, parent, after)).into_iter().flatten()
    }

    /// Ids of the rows that have ended at `now_s`, at most `most` of them.
    pub fn expired(&self, entity: &str, now_s: i64, most: usize) -> Vec<Uuid> {
        self.table(entity).map_or_else(Vec::new, |table| table.expired(now_s, most))
    }

    /// Number of rows.
    pub fn len(&self, entity: &str) -> usize {
        self.table(entity).map_or(0, Table::len)
    }

    /// Whether there are no rows of that entity.
    pub fn is_empty(&self, entity: &str) -> bool {
        self.len(entity) == 0
    }

    /// Puts a row in, in place of the one with its id. Gives back the one that was there.
    ///
    /// # Errors
    /// What another row already has. Nothing has changed then.
    pub fn put(&mut self, row: &Arc<Row>) -> Result<Option<Arc<Row>>, Taken> {
        match self.table_mut(row.entity()) {
            Some(table) => table.put(row),
            None => Ok(None),
        }
    }

    /// Takes a row out.
    pub fn remove(&mut self, entity: &'static Entity, id: Uuid) -> Option<Arc<Row>> {
        self.get(entity.name, id)?;
        self.table_mut(entity)?.remove(id)
    }
}

#[cfg(test)]
mod tests;

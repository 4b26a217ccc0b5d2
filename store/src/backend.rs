//! Where rows are kept for good.
//!
//! The tables in memory are the truth of a running node; a backend loads them once and then only
//! writes. It checks nothing: what reaches it has passed every check.
//!
//! A backend that several nodes share says at the beginning of each turn what others have written
//! ([`Backend::begin`]), and may refuse a change that contradicts it ([`Conflict`]).

pub mod declarative;
pub mod postgres;
pub mod saved;
pub mod sqlite;
#[cfg(test)]
mod tests;

use crate::fault::Fault;
use crate::schema::{Catalogue, Entity};
use crate::snapshot::{Change, Tables};
use crate::value::Row;
use serde_json::{Map, Value as Json, json};
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;

/// Tells the store that others may have written. Called from any thread; must not block.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// A keeper of rows.
pub trait Backend: Send {
    /// Its name, as the setting `database` has it.
    fn name(&self) -> &'static str;

    /// Makes ready what is missing (tables, columns) and hands over every row.
    ///
    /// # Errors
    /// One sentence for the operator.
    fn load(
        &mut self,
        catalogue: &Catalogue,
        each: &mut dyn FnMut(Row),
    ) -> Result<(), BackendFault>;

    /// Writes all of these changes, in order, or none of them. Ends the turn.
    ///
    /// # Errors
    /// Nothing has been written then, or nobody can know (the connection was lost meanwhile).
    fn commit(&mut self, changes: &[Change]) -> Result<(), CommitFault>;

    /// The hash of the declarative configuration that the rows came with; 0 where there is none.
    fn config_hash(&self) -> u128 {
        0
    }

    /// Tells the hash that belongs to the rows of the next commit.
    fn keep_hash(&mut self, _hash: u128) {}

    /// Whether it can be asked at this moment.
    fn reachable(&mut self) -> bool;

    /// Whether other nodes write to it too.
    fn is_shared(&self) -> bool {
        false
    }

    /// Begins a turn: gives what others have written and `tables` have not. After [`Turn::Write`]
    /// nobody else writes until [`Backend::commit`].
    ///
    /// # Errors
    /// It cannot be asked; the turn has not begun.
    fn begin(&mut self, _turn: Turn, _tables: &Tables) -> Result<Vec<Found>, BackendFault> {
        Ok(Vec::new())
    }

    /// From here on, `wake` when others may have written.
    fn follow(&mut self, _wake: Wake) {}

    /// What has been published, for keeping a copy. Must not block.
    fn published(&mut self, _tables: &Arc<Tables>) {}
}

/// What a turn is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// To see what others wrote.
    Follow,
    /// To answer calls that read.
    Read,
    /// To answer calls that may write.
    Write,
}

/// A row as another node left it.
#[derive(Debug)]
pub struct Found {
    /// The kind of object.
    pub entity: &'static Entity,
    /// Its id.
    pub id: Uuid,
    /// What it is now; none if it is gone.
    pub row: Option<Row>,
}

/// What a backend could not do, as one sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendFault(pub String);

impl fmt::Display for BackendFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for BackendFault {}

/// Why a commit failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitFault {
    /// The backend failed; perhaps nobody knows whether it has written.
    Failed(BackendFault),
    /// The backend refused a change: nothing has been written.
    Refused(BackendFault),
    /// Another node has written what a change contradicts.
    Conflict(Conflict),
}

impl From<BackendFault> for CommitFault {
    fn from(fault: BackendFault) -> Self {
        Self::Failed(fault)
    }
}

/// A change that contradicts what is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Its place among the changes of the commit.
    pub change: usize,
    /// How.
    pub kind: ConflictKind,
}

/// How a change contradicts what is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConflictKind {
    /// Another row has this value of a unique field.
    Unique(&'static str),
    /// Another row has these values of the cache key.
    CacheKey,
    /// Another row has the id.
    PrimaryKey,
    /// This field points to nothing.
    Dangling(&'static str),
    /// Rows of this table point to the row that should go.
    Referenced(String),
    /// The row to change is gone.
    Vanished,
}

impl Conflict {
    /// Kong's fault for it.
    #[must_use]
    pub fn fault(&self, changes: &[Change]) -> Fault {
        let Some(change) = changes.get(self.change) else { return Fault::database() };
        let row = change.after.as_ref().or(change.before.as_ref());
        let id = json!({ "id": row.map(|row| row.id().to_string()) });
        let shown = row.map(|row| row.to_json(0)).unwrap_or_default();
        let values = |names: &[&str]| -> Json {
            let one = |name: &&str| ((*name).to_owned(), shown.get(*name).cloned());
            let pairs = names.iter().map(one);
            pairs
                .map(|(name, value)| (name, value.unwrap_or_default()))
                .collect::<Map<_, _>>()
                .into()
        };
        match &self.kind {
            ConflictKind::Unique(name) => Fault::unique_violation(values(&[name])),
            ConflictKind::CacheKey => Fault::unique_violation(values(change.entity.cache_key)),
            ConflictKind::PrimaryKey => Fault::primary_key_violation(id),
            ConflictKind::Dangling(name) => {
                let parent = change.entity.field(name).map_or("", |field| match field.kind {
                    crate::schema::Kind::Foreign(parent, _) => parent,
                    _ => "",
                });
                Fault::dangling(name, shown.get(*name).unwrap_or(&Json::Null), parent)
            }
            ConflictKind::Referenced(by) => Fault::referenced(by, change.entity.name),
            ConflictKind::Vanished => Fault::not_found(id),
        }
    }
}

//! The single writer: one thread that answers calls and publishes what they changed.
//!
//! The insides are being built; the signatures are what the Admin API builds on.

use crate::admin::{Call, Reply};
use crate::check::{Facts, Fault};
use crate::schema::{Catalogue, Entity};
use crate::snapshot::Tables;
use crate::value::{Row, Value};
use std::sync::Arc;
use uuid::Uuid;

/// Answers calls on the store's thread. The Admin API is one of these.
pub type Answer = Box<dyn FnMut(&mut Working<'_>, &Call) -> Reply + Send>;

/// How a row is named in a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// By its primary key.
    Id(Uuid),
    /// By the entity's endpoint key or another unique field.
    By(&'static str, String),
}

/// The tables as one call sees and changes them.
///
/// Every method that fails has changed nothing. If the call's answer has a status of 400 or more,
/// the actor takes back everything that the call did.
pub struct Working<'a> {
    tables: Tables,
    catalogue: &'a Arc<Catalogue>,
    facts: Facts<'a>,
}

impl<'a> Working<'a> {
    /// The tables with all that this call and those before it did.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// What can be configured.
    pub fn catalogue(&self) -> &'a Arc<Catalogue> {
        self.catalogue
    }

    /// Unix time in seconds, the same during the whole call.
    pub fn now_s(&self) -> i64 {
        self.facts.now_s
    }

    /// Reads a key from a path: a UUID is an id, anything else a value of the endpoint key.
    ///
    /// # Errors
    /// Code 1 if the entity has no endpoint key, code 10 if the value is not valid for it.
    pub fn key(&self, _entity: &'static Entity, _text: &str) -> Result<Key, Fault> {
        Err(Fault::database())
    }

    /// The row with that key, if it exists and has not expired.
    pub fn find(&self, _entity: &'static Entity, _key: &Key) -> Option<Arc<Row>> {
        None
    }

    /// Checks an object without storing it; pointers are not followed.
    ///
    /// # Errors
    /// Code 2.
    pub fn validate(&mut self, _entity: &'static Entity, _input: Value) -> Result<(), Fault> {
        Err(Fault::database())
    }

    /// A new row (POST). `input` may hold `ttl` where the entity has it.
    ///
    /// # Errors
    /// Codes 2, 3, 4, 5, 11, 13, or what a plugin's `prepare` found.
    pub fn insert(&mut self, _entity: &'static Entity, _input: Value) -> Result<Arc<Row>, Fault> {
        Err(Fault::database())
    }

    /// A whole row under that key, new or in place of another (PUT).
    ///
    /// # Errors
    /// As [`Working::insert`].
    pub fn upsert(
        &mut self,
        _entity: &'static Entity,
        _key: &Key,
        _input: Value,
    ) -> Result<Arc<Row>, Fault> {
        Err(Fault::database())
    }

    /// Changes some fields of a row (PATCH): records merge, lists and maps are replaced.
    ///
    /// # Errors
    /// Code 6 if there is no such row, else as [`Working::insert`].
    pub fn update(
        &mut self,
        _entity: &'static Entity,
        _key: &Key,
        _patch: Value,
    ) -> Result<Arc<Row>, Fault> {
        Err(Fault::database())
    }

    /// Deletes a row and what cascades from it; `false` if there was none.
    ///
    /// # Errors
    /// Code 4 if rows point to it that must not.
    pub fn delete(&mut self, _entity: &'static Entity, _id: Uuid) -> Result<bool, Fault> {
        Err(Fault::database())
    }
}

//! Defaults and validation: all faults at once, in Kong's words.
//!
//! ```text
//! input ─complete─► defaults, shorthands, auto fields ─(pointers resolved)─► validate ─► packed
//! patch ─complete─► ─merge─► the whole row ─────────────(pointers resolved)─► validate ─► packed
//! ```
//! The wording is tested against answers recorded from Kong: clients match on it.
//!
//! Source: Kong `kong/db/schema/init.lua`, `kong/db/dao/init.lua`.

pub mod address;
mod complete;
pub mod expression;
mod faults;
mod fields;
pub mod formats;
pub mod jwk;
pub mod lua;
mod objects;
pub mod pattern;
pub mod pem;
mod rules;
#[cfg(test)]
mod tests;
pub mod uri;

pub use crate::fault::Fault;
pub use faults::{Faults, Wrong};
pub use fields::is_reference;

use crate::schema::{Catalogue, Entity, Field};
use crate::value::{Row, Value};
use complete::Fields;
use uuid::Uuid;

/// What is being done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A new row.
    Insert,
    /// A patch, merged into the row before it is checked.
    Update,
    /// A whole row, new or in place of another.
    Upsert,
}

/// Time and chance, given from outside.
pub struct Facts<'a> {
    /// Unix time in seconds.
    pub now_s: i64,
    /// Unix time in milliseconds.
    pub now_ms: i64,
    /// Fills the buffer with random bytes.
    pub random: &'a mut dyn FnMut(&mut [u8]),
}

impl Facts<'_> {
    /// A new id.
    pub fn uuid(&mut self) -> Uuid {
        let mut bytes = [0; 16];
        (self.random)(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// A new secret: 32 letters and digits.
    pub fn secret(&mut self) -> String {
        const LENGTH: usize = 32;
        const LETTERS: &[u8; 62] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        // A byte of 248 or more would favour the first letters, so it is thrown away.
        const FAIR: u8 = 248;
        let mut secret = String::with_capacity(LENGTH);
        while secret.len() < LENGTH {
            let mut bytes = [0; LENGTH];
            (self.random)(&mut bytes);
            let fair = bytes.iter().filter(|byte| **byte < FAIR);
            let letters = fair.map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]));
            secret.extend(letters.take(LENGTH - secret.len()));
        }
        secret
    }
}

/// Completes what a client sent: shorthands become fields, absent fields get their defaults, auto
/// fields are filled in, doubles in sets are dropped. In an update absent fields stay absent.
///
/// `before` is the row that an update changes: it tells the variant where the patch does not.
///
/// # Errors
/// Faults of shorthands. Everything else is left to [`validate`].
pub fn complete(
    catalogue: &Catalogue,
    entity: &'static Entity,
    input: Value,
    mode: Mode,
    before: Option<&Value>,
    facts: &mut Facts<'_>,
) -> Result<Value, Faults> {
    let chosen = objects::chosen(catalogue, entity, &input)
        .or_else(|| objects::chosen(catalogue, entity, before?));
    let variant = |name: &str| chosen?.field(name);
    complete::object(
        catalogue,
        &Fields { shape: entity.shape(), variant: &variant },
        input,
        mode,
        facts,
    )
}

/// Lays a completed patch over a row (in input form): records merge, all else is replaced.
///
/// # Errors
/// Faults of shorthands, as in [`complete`].
pub fn merge(
    catalogue: &Catalogue,
    entity: &'static Entity,
    patch: Value,
    before: &Value,
    facts: &mut Facts<'_>,
) -> Result<Value, Faults> {
    let chosen = objects::chosen(catalogue, entity, &patch)
        .or_else(|| objects::chosen(catalogue, entity, before));
    let variant = |name: &str| chosen?.field(name);
    let known = Fields { shape: entity.shape(), variant: &variant };
    let merged = complete::merge(entity.shape(), patch, before.clone(), &known);
    // What a record of the patch leaves open, where the row had none, gets its default.
    complete::fill(catalogue, &known, merged, Mode::Insert, facts)
}

/// Checks a completed object. `given` is what the client sent, `before` the row that it changes.
///
/// # Errors
/// Everything that is wrong with it.
pub fn validate(
    catalogue: &Catalogue,
    entity: &'static Entity,
    object: &Value,
    mode: Mode,
    given: &Value,
    before: Option<&Value>,
) -> Result<(), Faults> {
    objects::whole(catalogue, entity, object, mode, given, before)
}

/// Does to a valid object what its entity asks for before it is stored.
///
/// # Errors
/// Code 15.
pub fn transform(
    entity: &'static Entity,
    object: &mut Value,
    given: &Value,
    facts: &mut Facts<'_>,
) -> Result<(), Fault> {
    for transform in entity.transforms {
        let has =
            |value: &Value, name: &&str| value.path(name).is_some_and(|value| !value.is_empty());
        let wanted = transform.input.iter().all(|name| has(given, name))
            && transform.needs.iter().all(|name| has(object, name));
        if wanted {
            (transform.apply)(object, facts.random).map_err(|why| {
                log::error!("{}: transformation failed: {why}", entity.name);
                Fault::database()
            })?;
        }
    }
    Ok(())
}

/// Checks one value of one field.
///
/// # Errors
/// What is wrong with it.
pub fn value(catalogue: &Catalogue, field: &Field, value: &Value) -> Result<(), Wrong> {
    fields::check(catalogue, field, value, Mode::Insert)
}

/// The row as an object in input form, as [`merge`] and [`validate`] want it.
pub fn before(row: &Row) -> Value {
    row.unpack()
}

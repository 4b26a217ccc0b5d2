//! Defaults and validation: all faults at once, in Kong's words.
//!
//! ```text
//! input ─complete─► defaults, shorthands, auto fields ─(pointers resolved)─► validate ─► packed
//! ```
//! The wording is tested against answers recorded from Kong: clients match on it.
//!
//! Source: Kong `kong/db/schema/init.lua`, `kong/db/dao/init.lua`.

mod faults;

pub use crate::fault::Fault;
pub use faults::{Faults, Wrong};

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

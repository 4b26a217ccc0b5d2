//! The vocabulary in which entities and plugins are described: fields, kinds, limits, rules.
//!
//! Everything is `static` data, written with const builder functions:
//! ```text
//! integer("retries", "How many more tries.").or(Preset::Integer(5)).between(0, 32_767)
//! ```
//! One table yields validation (`check.rs`), defaults, SQL columns and `GET /schemas/…`
//! (`describe.rs`), Admin routes and form coercion. Adding an entity is adding one data file.
//!
//! Source: Kong `kong/db/schema/{init,entity,typedefs,metaschema}.lua`.

mod catalogue;
mod entity;
mod field;
mod kind;
pub mod older;
mod plugin;
mod rule;
#[cfg(test)]
pub(crate) mod samples;
pub mod typical;

pub use catalogue::Catalogue;
pub use entity::{Entity, Farewell, Guard, NamedChildren, Random, Transform, Variant, Variants};
pub use field::{
    Deprecation, Expand, Field, LIMITS_MAX, Shorthand, any, array, boolean, foreign, integer, json,
    map, matching, number, record, set, text,
};
pub use kind::{Choices, Judge, Kind, Limit, OnDelete, Preset, Shape};
pub use plugin::PluginSchema;
pub use rule::{Otherwise, Rule};

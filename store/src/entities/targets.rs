//! A Target: one address of an Upstream.
//!
//! Source: Kong `kong/db/schema/entities/targets.lua`, `kong/db/dao/targets.lua`.

use crate::check::{Fault, Faults, address, formats};
use crate::schema::typical::{CREATED_AT_MS, ID, TAGS, UPDATED_AT_MS};
use crate::schema::{Entity, Preset, foreign, integer, text};
use crate::snapshot::Tables;
use crate::value::{Row, Value};

/// The port of a target that has none.
pub const TARGET_PORT: u16 = 8000;

/// The entity.
pub static TARGETS: Entity = Entity {
    name: "targets",
    endpoint_key: Some("target"),
    cache_key: &["upstream", "target"],
    fields: &[
        ID,
        CREATED_AT_MS,
        UPDATED_AT_MS,
        foreign(
            "upstream",
            "upstreams",
            "The unique identifier or the name of the upstream for which to update the target.",
        )
        .required()
        .cascade(),
        text("target", "The target address (ip or hostname) and port.")
            .required()
            .custom(formats::target),
        integer(
            "weight",
            "The weight this target gets within the upstream loadbalancer (0-65535).",
        )
        .or(Preset::Integer(100))
        .between(0, 65_535),
        TAGS,
    ],
    guard: Some(written_out),
    not_null: &["weight"],
    ..Entity::EMPTY
};

/// Writes the address out: with a port, IPv6 in full. A new target with a bad one is told so before
/// anything else is checked; a change of one hears it from the field's own check.
fn written_out(_: &Tables, input: &mut Value, before: Option<&Row>) -> Result<(), Fault> {
    if spell_out(input) || before.is_some() {
        return Ok(());
    }
    Err(Faults::of("target", "Invalid target; not a valid hostname or ip address").into())
}

/// Writes a target's address out, where it is one. A document without a database has it as it was
/// typed, and Kong reads it so each time; here the row has what is read.
pub fn spell_out(target: &mut Value) -> bool {
    let Some(text) = target.get("target").as_text() else { return true };
    let Ok(address) = address::parse(text) else { return false };
    target.put("target", Value::text(address.with_port(TARGET_PORT)));
    true
}

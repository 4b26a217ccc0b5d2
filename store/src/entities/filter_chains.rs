//! A Filter Chain: WebAssembly filters of a Route or a Service.
//!
//! Filters do not run here, as in a Kong with `wasm=off`: none can be stored, and the Admin API
//! says so.
//!
//! Source: Kong `kong/db/schema/entities/filter_chains.lua`.

use crate::schema::typical::{CREATED_AT, ID, TAGS, UPDATED_AT, utf8_name};
use crate::schema::{Entity, Field, Preset, Rule, array, boolean, foreign, json, record, text};
use crate::value::Value;

const CONFIG_SCHEMA: &str = r#"{
    "default": {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "type": ["string", "null"]
    },
    "namespace": "proxy-wasm-filters",
    "optional": true,
    "parent_subschema_key": "name"
}"#;

const FILTER: Field = record(
    "",
    "",
    &[
        text("name", "").required().one_of(&[]).fault("no such filter"),
        boolean("enabled", "").or(Preset::Flag(true)).required(),
        json("config", "", CONFIG_SCHEMA).optional(),
    ],
);

/// The entity.
pub static FILTER_CHAINS: Entity = Entity {
    name: "filter_chains",
    admin_name: Some("filter-chains"),
    endpoint_key: Some("name"),
    cache_key: &["route", "service"],
    admin: false,
    fields: &[
        ID,
        utf8_name("name"),
        boolean("enabled", "").or(Preset::Flag(true)).required(),
        foreign("route", "routes", "").or(Preset::Null).unique().cascade(),
        foreign("service", "services", "").or(Preset::Null).unique().cascade(),
        array("filters", "", &FILTER).len_min(1).required(),
        CREATED_AT,
        UPDATED_AT,
        TAGS,
    ],
    rules: &[
        Rule::MutuallyExclusive(&["service", "route"]),
        Rule::AtLeastOneOf(&["service", "route"]),
        Rule::Custom {
            fields: &["filters"],
            run_with_missing_fields: false,
            run_with_invalid_fields: true,
            check: off,
        },
    ],
    ..Entity::EMPTY
};

fn off(_: &Value) -> Result<(), String> {
    Err("wasm support is not enabled".to_owned())
}

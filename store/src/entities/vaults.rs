//! A Vault: where references (`{vault://…}`) are looked up.
//!
//! Source: Kong `kong/db/schema/entities/vaults.lua`, `kong/vaults/env/schema.lua`.

use crate::schema::typical::{CREATED_AT, ID, TAGS, UPDATED_AT};
use crate::schema::{Entity, Variant, Variants, record, text};

/// The entity.
pub static VAULTS: Entity = Entity {
    name: "vaults",
    table: Some("sm_vaults"),
    endpoint_key: Some("prefix"),
    cache_key: &["prefix"],
    fields: &[
        ID,
        text("prefix", "The unique prefix (or identifier) for this Vault configuration.")
            .required()
            .unique_across_workspaces()
            .not_one_of(&["env"])
            .matches("^[a-z][a-z%d-]-[a-z%d]+$"),
        text("name", "The name of the Vault that's going to be added.").required(),
        text("description", "The description of the Vault entity."),
        record(
            "config",
            "The configuration properties for the Vault which can be found on the vaults' \
             documentation page.",
            &[],
        )
        .is_abstract(),
        CREATED_AT,
        UPDATED_AT,
        TAGS,
    ],
    variants: Variants::Of { key: "name", unknown: "vault '%s' is not installed", list: &[ENV] },
    ..Entity::EMPTY
};

/// Environment variables.
const ENV: Variant = Variant {
    keys: &["env"],
    fields: &[record(
        "config",
        "",
        &[text(
            "prefix",
            "The prefix for the environment variable that the value will be stored in.",
        )
        .matches("^[%a_-][%a%d_-]*$")],
    )
    .required()],
    rules: &[],
};

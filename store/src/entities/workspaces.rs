//! A Workspace. There is exactly one, `default`, which every row belongs to.
//!
//! Source: Kong `kong/db/schema/entities/workspaces.lua`.

use crate::schema::typical::{CREATED_AT, ID, UPDATED_AT, utf8_name};
use crate::schema::{Entity, record, text};

/// The name of the one workspace.
pub const WORKSPACE: &str = "default";

/// Names that would be paths of entities.
const RESERVED: &[&str] = &[
    "workspaces",
    "consumers",
    "certificates",
    "services",
    "routes",
    "snis",
    "upstreams",
    "targets",
    "plugins",
    "tags",
    "ca_certificates",
    "clustering_data_planes",
    "parameters",
    "vaults",
    "key_sets",
    "keys",
    "filter_chains",
];

/// The entity.
pub static WORKSPACES: Entity = Entity {
    name: "workspaces",
    endpoint_key: Some("name"),
    cache_key: &["name"],
    workspaced: false,
    admin: false,
    exported: false,
    fields: &[
        ID,
        utf8_name("name").required().not_one_of(RESERVED),
        text("comment", ""),
        CREATED_AT,
        UPDATED_AT,
        record("meta", "", &[]),
        record("config", "", &[]),
    ],
    ..Entity::EMPTY
};

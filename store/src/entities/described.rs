//! What Kong describes under `/schemas` and keeps elsewhere than in rows of ours: tags (a view),
//! parameters and data planes (the cluster's own).
//!
//! Source: Kong `kong/db/schema/entities/{tags,parameters,clustering_data_planes}.lua`.

use crate::schema::typical::{CREATED_AT, ID, host, ip};
use crate::schema::{Entity, Field, Preset, map, number, record, set, text};

/// Schemas without tables.
pub static DESCRIBED: &[&Entity] = &[&TAGS, &PARAMETERS, &CLUSTERING_DATA_PLANES];

static TAGS: Entity = Entity {
    name: "tags",
    endpoint_key: Some("tag"),
    admin: false,
    exported: false,
    fields: &[
        crate::schema::typical::TAG.named("tag"),
        text("entity_name", "The name of the Kong Gateway entity being tagged.").required(),
        ID.named("entity_id").required(),
    ],
    ..Entity::EMPTY
};

static PARAMETERS: Entity = Entity {
    name: "parameters",
    admin: false,
    exported: false,
    fields: &[
        CREATED_AT,
        text("key", "They key value of a parameter.").required().unique(),
        text("value", "The value attached to the key.").required(),
    ],
    ..Entity::EMPTY
};

const STATES: &[&str] = &[
    "unknown",
    "normal",
    "kong_version_incompatible",
    "plugin_set_incompatible",
    "plugin_version_incompatible",
    "filter_set_incompatible",
];
const LABEL: Field = text("", "");
const CAPABILITY: Field = text("", "A string representing an RPC capability.");

static CLUSTERING_DATA_PLANES: Entity = Entity {
    name: "clustering_data_planes",
    admin: false,
    exported: false,
    ttl: true,
    fields: &[
        ID.required(),
        CREATED_AT.named("last_seen"),
        CREATED_AT.named("updated_at"),
        ip("ip").required(),
        text("config_hash", "").len_eq(32),
        host("hostname").required(),
        text(
            "version",
            "A string representing a semantic version number in the format X.Y.Z(-build), where \
             X, Y, and Z are integers, plus an optional hyphen-separated build identifier.",
        )
        .match_any(
            &["^%d+[%.%d]*$", "^%d+[%.%d]*%-?.*$"],
            "invalid version number: must be in format of X.Y.Z",
        )
        .match_none(&[("%.%.", "must not have empty version segments")]),
        text("sync_status", "The status of the clustering data planes sync.")
            .required()
            .or(Preset::Text("unknown"))
            .one_of(STATES),
        map("labels", "Custom key value pairs as meta-data for DPs.", &LABEL, &LABEL),
        record(
            "cert_details",
            "Certificate details of the DPs.",
            &[number("expiry_timestamp", "").optional().timestamp()],
        ),
        set("rpc_capabilities", "An array of RPC capabilities this node supports.", &CAPABILITY),
    ],
    ..Entity::EMPTY
};

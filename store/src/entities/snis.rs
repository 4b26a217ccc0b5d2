//! An SNI: the server name for which a Certificate is shown.
//!
//! Source: Kong `kong/db/schema/entities/snis.lua`.

use crate::schema::typical::{CREATED_AT, ID, TAGS, UPDATED_AT, wildcard_host};
use crate::schema::{Entity, foreign};

/// The entity.
pub static SNIS: Entity = Entity {
    name: "snis",
    endpoint_key: Some("name"),
    fields: &[
        ID,
        wildcard_host("name").required().unique_across_workspaces(),
        CREATED_AT,
        UPDATED_AT,
        TAGS,
        foreign(
            "certificate",
            "certificates",
            "The id (a UUID) of the certificate with which to associate the SNI hostname.",
        )
        .required(),
    ],
    ..Entity::EMPTY
};

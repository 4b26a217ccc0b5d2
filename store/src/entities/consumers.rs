//! A Consumer: someone who calls.
//!
//! Source: Kong `kong/db/schema/entities/consumers.lua`.

use crate::schema::typical::{CREATED_AT, ID, TAGS, UPDATED_AT};
use crate::schema::{Entity, Rule, text};

/// The entity.
pub static CONSUMERS: Entity = Entity {
    name: "consumers",
    endpoint_key: Some("username"),
    fields: &[
        ID,
        CREATED_AT,
        UPDATED_AT,
        text(
            "username",
            "The unique username of the Consumer. You must send at least one of username or \
             custom_id with the request.",
        )
        .unique(),
        text(
            "custom_id",
            "Stores the existing unique ID of the consumer. You must send at least one of username \
             or custom_id with the request.",
        )
        .unique(),
        TAGS,
    ],
    rules: &[Rule::AtLeastOneOf(&["custom_id", "username"])],
    ..Entity::EMPTY
};

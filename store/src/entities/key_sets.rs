//! A Key Set: keys that belong together.
//!
//! Source: Kong `kong/db/schema/entities/key_sets.lua`.

use crate::schema::typical::{CREATED_AT, ID, TAGS, UPDATED_AT};
use crate::schema::{Entity, text};

/// The entity.
pub static KEY_SETS: Entity = Entity {
    name: "key_sets",
    admin_name: Some("key-sets"),
    endpoint_key: Some("name"),
    fields: &[
        ID,
        text("name", "The name to associate with the given key-set.").optional().unique(),
        TAGS,
        CREATED_AT,
        UPDATED_AT,
    ],
    ..Entity::EMPTY
};

//! A Key: public, private or both, as a JSON Web Key or as PEM.
//!
//! Source: Kong `kong/db/schema/entities/keys.lua`, `kong/db/schema/typedefs.lua` (`jwk`, `pem`).

use crate::check::{jwk, pem};
use crate::schema::typical::{CREATED_AT, ID, TAGS, UPDATED_AT};
use crate::schema::{Entity, Rule, foreign, record, text};

/// The entity.
pub static KEYS: Entity = Entity {
    name: "keys",
    endpoint_key: Some("name"),
    cache_key: &["kid", "set"],
    fields: &[
        ID,
        foreign("set", "key_sets", "The id of the key-set with which to associate the key.")
            .optional()
            .cascade(),
        text("name", "The name to associate with the given keys.").optional().unique(),
        text("kid", "A unique identifier for a key.").required().not_unique(),
        text("jwk", "A JSON Web Key represented as a string.").referenceable().encrypted(),
        record(
            "pem",
            "A pair of PEM-encoded public and private keys, which can be either a string or a \
             reference to a credential in Kong Vault. If provided as strings, they must be valid \
             PEM-encoded keys.",
            &[
                text("private_key", "").optional().referenceable().encrypted(),
                text("public_key", "").optional().referenceable(),
            ],
        )
        .rules(&[Rule::AtLeastOneOf(&["private_key", "public_key"])])
        .optional()
        .custom(pem::key_pair),
        TAGS,
        CREATED_AT,
        UPDATED_AT,
    ],
    rules: &[
        Rule::MutuallyExclusive(&["jwk", "pem"]),
        Rule::AtLeastOneOf(&["jwk", "pem"]),
        Rule::Custom {
            fields: &["jwk", "pem", "kid"],
            run_with_missing_fields: false,
            run_with_invalid_fields: false,
            check: jwk::key,
        },
    ],
    ..Entity::EMPTY
};

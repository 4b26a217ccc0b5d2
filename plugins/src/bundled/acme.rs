//! acme: gets and renews certificates by itself. Its behaviour is not built yet.
//!
//! Source: Kong `kong/plugins/acme/{schema,daos}.lua`.

mod schema;

use store::schema::{Entity, text, typical};

use crate::pdk::Spec;

/// The plugin.
pub static PLUGIN: Spec = Spec { entities: &[&STORAGE], ..Spec::not_built(schema::SCHEMA) };

/// Keys, certificates and renewals, where `storage` is `kong`.
static STORAGE: Entity = Entity {
    name: "acme_storage",
    cache_key: &["key"],
    workspaced: false,
    ttl: true,
    fields: &[
        typical::ID,
        text("key", "").required().unique().auto(),
        text("value", "").required().auto(),
        typical::CREATED_AT,
    ],
    ..Entity::EMPTY
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::script::check_fault;
    use serde_json::json;

    #[test]
    fn what_kong_refuses_is_refused() {
        let check = |config, expected| check_fault(&PLUGIN, config, expected);
        check(json!({"account_email": "a@b.example", "tos_accepted": true}), "");
        check(
            json!({"account_email": "a@b.example", "api_uri": "https://acme-v02.api.letsencrypt.org"}),
            "terms of service must be accepted, see https://letsencrypt.org/repository/",
        );
        check(json!({}), "required field missing");
        check(json!({"account_email": "nobody"}), "invalid value: nobody");
        check(
            json!({"account_email": "a@b.example", "storage": "redis"}),
            "failed conditional validation given value of field 'config.storage'",
        );
        check(
            json!({"account_email": "a@b.example", "domains": ["a.*.b"]}),
            "invalid wildcard: must be placed at leftmost or rightmost label",
        );
        check(
            json!({"account_email": "a@b.example", "storage_config": {"shm": {"shm_name": "x"}}}),
            "failed validating: x",
        );
        check(
            json!({"account_email": "a@b.example", "storage_config": {"redis": {"namespace": "kong_acme:cert_key:"}}}),
            "namespace can't be prefixed with reserved word: kong_acme:cert_key:",
        );
    }
}

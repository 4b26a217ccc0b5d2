//! session: remembers who was let in, in a cookie that nobody else can make or read.
//!
//! Source: Kong `kong/plugins/session/{schema,daos,access,header_filter,session}.lua` and
//! lua-resty-session 4; recorded in `recorded/plugins/session.jsonl`.

mod schema;

use store::schema::{Entity, integer, text, typical};

use crate::pdk::Spec;

/// The plugin. Its rows are Kong's; what it does with them is not built yet.
pub static PLUGIN: Spec = Spec { entities: &[&SESSIONS], ..Spec::not_built(schema::SCHEMA) };

/// Sessions that are kept here and not in their cookie.
pub static SESSIONS: Entity = Entity {
    name: "sessions",
    endpoint_key: Some("session_id"),
    cache_key: &["session_id"],
    workspaced: false,
    ttl: true,
    exported: false,
    fields: &[
        typical::ID,
        text("session_id", "").required().unique(),
        integer("expires", ""),
        text("data", ""),
        typical::CREATED_AT,
    ],
    ..Entity::EMPTY
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::script;
    use serde_json::json;

    #[test]
    fn old_names_of_fields_are_taken() {
        let old =
            json!({"cookie_lifetime": 60, "cookie_samesite": "off", "cookie_persistent": true});
        let fault = script::fault(&PLUGIN, old).unwrap_or_default();
        assert!(!fault.contains("schema violation"), "{fault}");
    }
}

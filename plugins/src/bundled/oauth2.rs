//! oauth2: hands out tokens to applications of consumers, and lets in who holds one.
//!
//! Source: Kong `kong/plugins/oauth2/{schema,daos,access,secret}.lua`; recorded in
//! `recorded/plugins/oauth2.jsonl` and the suite `plugins-auth`.

mod rows;
mod schema;
#[allow(dead_code, reason = "hashes are verified where tokens are handed out, the next step")]
mod secret;

use crate::pdk::Spec;

/// The plugin. Its rows are Kong's; what it does with them is not built yet.
pub static PLUGIN: Spec = Spec {
    entities: &[&rows::CREDENTIALS, &rows::CODES, &rows::TOKENS],
    ..Spec::not_built(schema::SCHEMA)
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::script;
    use serde_json::json;

    #[test]
    fn one_flow_is_asked_for() {
        let fault = script::fault(&PLUGIN, json!({})).unwrap_or_default();
        assert!(fault.contains("at least one of these fields must be true: enable_"), "{fault}");
    }
}

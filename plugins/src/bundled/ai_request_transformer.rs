//! ai-request-transformer: asks a model to rewrite requests. Its behaviour is not built yet.
//!
//! Source: Kong `kong/plugins/ai-request-transformer/schema.lua`.

mod schema;

use crate::pdk::Spec;

/// The plugin.
pub static PLUGIN: Spec = Spec::not_built(schema::SCHEMA);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::script::check_fault;
    use serde_json::json;

    #[test]
    fn what_kong_refuses_is_refused() {
        let check = |config, expected| check_fault(&PLUGIN, config, expected);
        check(
            json!({"prompt": "a", "llm": {"route_type": "llm/v1/chat", "model": {"provider": "openai"}}}),
            "",
        );
        check(
            json!({"prompt": "a", "http_proxy_host": "b", "llm": {"route_type": "llm/v1/chat", "model": {"provider": "openai"}}}),
            "all or none of these fields must be set: 'config.http_proxy_host', 'config.http_proxy_port'",
        );
        check(
            json!({"prompt": "a", "llm": {"route_type": "preserve", "model": {"provider": "openai"}}}),
            "'config.llm.route_type' must be 'llm/v1/chat' for AI transformer plugins",
        );
        check(json!({"prompt": "a"}), "required field missing");
    }
}

//! ai-proxy: asks a large language model in one format for all. Its behaviour is not built yet.
//!
//! Source: Kong `kong/plugins/ai-proxy/schema.lua`, `kong/llm/schemas/init.lua`.

pub(crate) mod llm;
mod schema;
pub(crate) mod transforming;

use crate::pdk::Spec;

/// The plugin.
pub static PLUGIN: Spec = Spec::not_built(schema::SCHEMA);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::script::check_fault;
    use serde_json::json;

    fn with(mut config: serde_json::Value, name: &str, value: &str) -> serde_json::Value {
        config["route_type"] = json!("llm/v1/chat");
        config["model"][name] = json!(value);
        config
    }

    #[test]
    fn what_kong_refuses_is_refused() {
        let check = |config, expected| check_fault(&PLUGIN, config, expected);
        check(with(json!({}), "provider", "openai"), "");
        check(
            with(json!({"auth": {"header_name": "a"}}), "provider", "openai"),
            "all or none of these fields must be set: 'auth.header_name', 'auth.header_value'",
        );
        check(
            with(json!({}), "provider", "mistral"),
            "must set 'model.options.mistral_format' for mistral provider",
        );
        check(
            with(json!({"llm_format": "gemini"}), "provider", "openai"),
            "native llm_format 'gemini' can only be used with the 'gemini' model.provider",
        );
        check(with(json!({}), "provider", "nobody"), "expected one of: ");
        check(
            with(json!({"auth": {"allow_override": true}}), "provider", "bedrock"),
            "bedrock and gemini only support auth.allow_override = false",
        );
        let completions = json!({
            "route_type": "llm/v1/completions",
            "logging": {"log_statistics": true},
            "model": {"provider": "anthropic", "options": {"anthropic_version": "1"}},
        });
        check(
            completions,
            "anthropic does not support statistics when route_type is llm/v1/completions",
        );
    }
}

//! opentelemetry: reports traces and logs in OpenTelemetry's protocol. Its behaviour is not
//! built yet.
//!
//! Source: Kong `kong/plugins/opentelemetry/schema.lua`.

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
        check(json!({"traces_endpoint": "http://a.example/v1/traces"}), "");
        check(json!({"endpoint": "http://a.example/v1/traces"}), "");
        check(
            json!({}),
            "at least one of these fields must be non-empty: 'traces_endpoint', 'logs_endpoint'",
        );
        check(json!({"logs_endpoint": "nowhere"}), "missing host in url");
        check(
            json!({"logs_endpoint": "http://a.example", "sampling_rate": 2}),
            "value should be between 0 and 1",
        );
        check(
            json!({"logs_endpoint": "http://a.example", "headers": {"a b": "c"}}),
            "bad header name 'a b'",
        );
        check(
            json!({"logs_endpoint": "http://a.example", "propagation": {"default_format": "w3c", "clear": ["a b"]}}),
            "bad header name 'a b'",
        );
    }
}

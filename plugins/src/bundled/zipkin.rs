//! zipkin: reports traces to Zipkin. Its behaviour is not built yet.
//!
//! Source: Kong `kong/plugins/zipkin/schema.lua`.

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
        check(json!({"http_endpoint": "http://a.example/api/v2/spans"}), "");
        check(
            json!({"static_tags": [{"name": "a", "value": "b"}, {"name": "a", "value": "c"}]}),
            "repeated tags are not allowed: a",
        );
        check(json!({"static_tags": [{"name": "lc", "value": "b"}]}), "must not be one of: ");
        check(json!({"traceid_byte_count": 9}), "expected one of: 8, 16");
    }
}

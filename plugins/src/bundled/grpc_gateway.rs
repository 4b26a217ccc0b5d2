//! grpc-gateway: serves gRPC services as JSON over HTTP. Its behaviour is not built yet.
//!
//! Source: Kong `kong/plugins/grpc-gateway/schema.lua`.

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
        check(json!({"proto": "/a.proto"}), "");
        check(json!({"proto": 1}), "expected a string");
    }
}

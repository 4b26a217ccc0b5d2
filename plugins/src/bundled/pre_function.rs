//! pre-function: runs Lua before the other plugins. Its behaviour is not built yet.
//!
//! Source: Kong `kong/plugins/pre-function/_schema.lua`.

pub(crate) mod schema;

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
        check(json!({"access": ["return 1"]}), "");
        check(json!({}), "at least one of these fields must be non-empty: 'config.certificate'");
        check(json!({"log": "return 1"}), "expected an array");
        let words = "error parsing pre-function: [string ";
        check(json!({"log": ["return 1", "return ("]}), words);
    }
}

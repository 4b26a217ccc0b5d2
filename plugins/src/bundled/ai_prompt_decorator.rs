//! ai-prompt-decorator: puts messages before and after a chat. Its behaviour is not built yet.
//!
//! Source: Kong `kong/plugins/ai-prompt-decorator/schema.lua`.

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
        check(json!({"prompts": {"prepend": [{"content": "a"}]}}), "");
        check(
            json!({}),
            "at least one of these fields must be non-empty: 'config.prompts.prepend', 'config.prompts.append'",
        );
        check(
            json!({"prompts": {"append": [{"role": "nobody", "content": "a"}]}}),
            "expected one of: system, assistant, user",
        );
        check(json!({"prompts": {"append": [{}]}}), "required field missing");
    }
}

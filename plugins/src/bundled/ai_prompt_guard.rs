//! ai-prompt-guard: lets prompts pass, or not, by patterns. Its behaviour is not built yet.
//!
//! Source: Kong `kong/plugins/ai-prompt-guard/schema.lua`.

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
    fn patterns_are_asked_for() {
        let check = |config, expected| check_fault(&PLUGIN, config, expected);
        check(json!({"allow_patterns": ["a"]}), "");
        check(json!({}), "at least one of these fields must be non-empty: 'config.allow_patterns'");
        let roles = json!({"deny_patterns": ["a"], "match_all_roles": true});
        check(roles.clone(), "");
        let mut roles = roles;
        roles["allow_all_conversation_history"] = json!(true);
        check(roles, "failed conditional validation given value of field 'config.match_all_roles'");
    }
}

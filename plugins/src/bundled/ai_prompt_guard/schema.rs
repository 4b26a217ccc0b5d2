//! The configuration of ai-prompt-guard. Descriptions are Kong's: `/schemas` prints them.

use store::schema::{Field, PluginSchema, Preset, Rule, array, boolean, integer, matching, text};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "ai-prompt-guard",
    priority: 771,
    config: CONFIG,
    rules: RULES,
    ..PluginSchema::EMPTY
};

const CONFIG: &[Field] = &[
    array(
        "allow_patterns",
        "Array of valid regex patterns, or valid questions from the 'user' role in chat.",
        &text("", "").len_max(500),
    )
    .optional()
    .len_max(10),
    array(
        "deny_patterns",
        "Array of invalid regex patterns, or invalid questions from the 'user' role in chat.",
        &text("", "").len_max(500),
    )
    .optional()
    .len_max(10),
    boolean(
        "allow_all_conversation_history",
        "If true, will ignore all previous chat prompts from the conversation history.",
    )
    .required()
    .or(Preset::Flag(false)),
    integer("max_request_body_size", "max allowed body size allowed to be introspected")
        .or(Preset::Integer(8192))
        .gt(0),
    boolean(
        "match_all_roles",
        "If true, will match all roles in addition to 'user' role in conversation history.",
    )
    .required()
    .or(Preset::Flag(false)),
    text("llm_format", "LLM input and output format and schema to use")
        .optional()
        .or(Preset::Text("openai"))
        .one_of(&["openai", "bedrock", "gemini"]),
];

const RULES: &[Rule] = &[
    Rule::AtLeastOneOf(&["config.allow_patterns", "config.deny_patterns"]),
    Rule::Conditional {
        if_field: "config.match_all_roles",
        if_match: matching().eq(Preset::Flag(true)),
        then_field: "config.allow_all_conversation_history",
        then_match: matching().eq(Preset::Flag(false)),
        then_err: None,
    },
];

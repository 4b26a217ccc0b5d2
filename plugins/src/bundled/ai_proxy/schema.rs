//! The configuration of ai-proxy. Descriptions are Kong's: `/schemas` prints them.

use store::schema::{Field, PluginSchema, Preset, Rule, boolean, integer, matching, text};

use super::llm;

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "ai-proxy",
    priority: 770,
    config: CONFIG,
    config_rules: llm::RULES,
    rules: RULES,
    ..PluginSchema::EMPTY
};

const CONFIG: &[Field] = &[
    llm::ROUTE_TYPE,
    llm::AUTH,
    llm::MODEL,
    llm::LOGGING,
    text(
        "response_streaming",
        "Whether to 'optionally allow', 'deny', or 'always' (force) the streaming of answers via \
         server sent events.",
    )
    .optional()
    .or(Preset::Text("allow"))
    .one_of(&["allow", "deny", "always"]),
    integer("max_request_body_size", "max allowed body size allowed to be introspected")
        .or(Preset::Integer(8192))
        .gt(0),
    boolean(
        "model_name_header",
        "Display the model name selected in the X-Kong-LLM-Model response header",
    )
    .or(Preset::Flag(true)),
    text("llm_format", "LLM input and output format and schema to use")
        .optional()
        .or(Preset::Text("openai"))
        .one_of(&["openai", "bedrock", "gemini"]),
];

const RULES: &[Rule] = &[
    Rule::Conditional {
        if_field: "config.llm_format",
        if_match: matching().one_of(&["bedrock", "gemini"]),
        then_field: "config.route_type",
        then_match: matching().eq(Preset::Text("llm/v1/chat")),
        then_err: Some(
            "native provider options in llm_format can only be used with the 'llm/v1/chat' \
             route_type",
        ),
    },
    Rule::Conditional {
        if_field: "config.llm_format",
        if_match: matching().eq(Preset::Text("bedrock")),
        then_field: "config.model.provider",
        then_match: matching().eq(Preset::Text("bedrock")),
        then_err: Some(
            "native llm_format 'bedrock' can only be used with the 'bedrock' model.provider",
        ),
    },
    Rule::Conditional {
        if_field: "config.llm_format",
        if_match: matching().eq(Preset::Text("gemini")),
        then_field: "config.model.provider",
        then_match: matching().eq(Preset::Text("gemini")),
        then_err: Some(
            "native llm_format 'gemini' can only be used with the 'gemini' model.provider",
        ),
    },
];

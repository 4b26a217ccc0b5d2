//! The configuration of ai-response-transformer. Descriptions are Kong's: `/schemas` prints them.

use store::schema::{
    Field, PluginSchema, Preset, Rule, boolean, integer, matching, record, text, typical,
};

use crate::bundled::ai_proxy::llm;

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "ai-response-transformer",
    priority: 768,
    config: CONFIG,
    rules: RULES,
    ..PluginSchema::EMPTY
};

const CONFIG: &[Field] = &[
    text(
        "prompt",
        "Use this prompt to tune the LLM system/assistant message for the returning proxy \
         response (from the upstream), adn what response format you are expecting.",
    )
    .required(),
    text(
        "transformation_extract_pattern",
        "Defines the regular expression that must match to indicate a successful AI \
         transformation at the response phase. The first match will be set as the returning body. \
         If the AI service's response doesn't match this pattern, a failure is returned to the \
         client.",
    )
    .optional(),
    boolean(
        "parse_llm_response_json_instructions",
        "Set true to read specific response format from the LLM, and accordingly set the status \
         code / body / headers that proxy back to the client. You need to engineer your LLM \
         prompt to return the correct format, see plugin docs 'Overview' page for usage \
         instructions.",
    )
    .required()
    .or(Preset::Flag(false)),
    integer("http_timeout", "Timeout in milliseconds for the AI upstream service.")
        .required()
        .or(Preset::Integer(60_000)),
    boolean("https_verify", "Verify the TLS certificate of the AI upstream service.")
        .required()
        .or(Preset::Flag(true)),
    integer("max_request_body_size", "max allowed body size allowed to be introspected")
        .or(Preset::Integer(8192))
        .gt(0),
    typical::host("http_proxy_host"),
    typical::port("http_proxy_port"),
    typical::host("https_proxy_host"),
    typical::port("https_proxy_port"),
    record("llm", "", llm::FIELDS).rules(llm::RULES),
];

const RULES: &[Rule] = &[
    Rule::Conditional {
        if_field: "config.llm.route_type",
        if_match: matching().not_one_of(&["llm/v1/chat"]),
        then_field: "config.llm.route_type",
        then_match: matching().eq(Preset::Text("llm/v1/chat")),
        then_err: Some("'config.llm.route_type' must be 'llm/v1/chat' for AI transformer plugins"),
    },
    Rule::MutuallyRequired(&["config.http_proxy_host", "config.http_proxy_port"]),
    Rule::MutuallyRequired(&["config.https_proxy_host", "config.https_proxy_port"]),
];

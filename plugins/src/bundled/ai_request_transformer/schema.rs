//! The configuration of ai-request-transformer. Descriptions are Kong's: `/schemas` prints them.

use store::schema::{
    Field, PluginSchema, Preset, Rule, boolean, integer, matching, record, text, typical,
};

use crate::bundled::ai_proxy::llm;

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "ai-request-transformer",
    priority: 777,
    no_consumer: true,
    config: CONFIG,
    rules: RULES,
    ..PluginSchema::EMPTY
};

const CONFIG: &[Field] = &[
    text(
        "prompt",
        "Use this prompt to tune the LLM system/assistant message for the incoming proxy request \
         (from the client), and what you are expecting in return.",
    )
    .required(),
    text(
        "transformation_extract_pattern",
        "Defines the regular expression that must match to indicate a successful AI \
         transformation at the request phase. The first match will be set as the outgoing body. \
         If the AI service's response doesn't match this pattern, it is marked as a failure.",
    )
    .optional(),
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

//! The configuration of ai-response-transformer. Descriptions are Kong's: `/schemas` prints them.

use store::schema::{Field, PluginSchema, Preset, boolean, text};

use crate::bundled::ai_proxy::transforming;

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "ai-response-transformer",
    priority: 768,
    config: CONFIG,
    rules: transforming::RULES,
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
    transforming::HTTP_TIMEOUT,
    transforming::HTTPS_VERIFY,
    transforming::BODY_SIZE_MAX,
    transforming::HTTP_PROXY_HOST,
    transforming::HTTP_PROXY_PORT,
    transforming::HTTPS_PROXY_HOST,
    transforming::HTTPS_PROXY_PORT,
    transforming::LLM,
];

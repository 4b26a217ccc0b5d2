//! The configuration of ai-request-transformer. Descriptions are Kong's: `/schemas` prints them.

use store::schema::{Field, PluginSchema, text};

use crate::bundled::ai_proxy::transforming;

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "ai-request-transformer",
    priority: 777,
    no_consumer: true,
    config: CONFIG,
    rules: transforming::RULES,
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
    transforming::HTTP_TIMEOUT,
    transforming::HTTPS_VERIFY,
    transforming::BODY_SIZE_MAX,
    transforming::HTTP_PROXY_HOST,
    transforming::HTTP_PROXY_PORT,
    transforming::HTTPS_PROXY_HOST,
    transforming::HTTPS_PROXY_PORT,
    transforming::LLM,
];

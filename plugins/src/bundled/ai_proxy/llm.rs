//! What the AI plugins are told about a model: shared by ai-proxy and the two AI transformers.

use store::schema::{
    Field, Preset, Rule, boolean, integer, matching, number, record, text, typical,
};
use store::value::Value;

/// All of it, for plugins that keep it in a record of its own.
pub(crate) const FIELDS: &[Field] = &[ROUTE_TYPE, AUTH, MODEL, LOGGING];

pub(super) const ROUTE_TYPE: Field = text(
    "route_type",
    "The model's operation implementation, for this provider. Set to `preserve` to pass through \
     without transformation.",
)
.required()
.one_of(&["llm/v1/chat", "llm/v1/completions", "preserve"]);

pub(super) const AUTH: Field = record(
    "auth",
    "",
    &[
        text(
            "header_name",
            "If AI model requires authentication via Authorization or API key header, specify its \
             name here.",
        )
        .optional()
        .referenceable(),
        text(
            "header_value",
            "Specify the full auth header value for 'header_name', for example 'Bearer key' or \
             just 'key'.",
        )
        .optional()
        .referenceable()
        .encrypted(),
        text(
            "param_name",
            "If AI model requires authentication via query parameter, specify its name here.",
        )
        .optional()
        .referenceable(),
        text("param_value", "Specify the full parameter value for 'param_name'.")
            .optional()
            .referenceable()
            .encrypted(),
        text(
            "param_location",
            "Specify whether the 'param_name' and 'param_value' options go in a query string, or \
             the POST form/JSON body.",
        )
        .optional()
        .one_of(&["query", "body"]),
        boolean(
            "gcp_use_service_account",
            "Use service account auth for GCP-based providers and models.",
        )
        .optional()
        .or(Preset::Flag(false)),
        text(
            "gcp_service_account_json",
            "Set this field to the full JSON of the GCP service account to authenticate, if \
             required. If null (and gcp_use_service_account is true), Kong will attempt to read \
             from environment variable `GCP_SERVICE_ACCOUNT`.",
        )
        .optional()
        .referenceable(),
        text(
            "aws_access_key_id",
            "Set this if you are using an AWS provider (Bedrock) and you are authenticating using \
             static IAM User credentials. Setting this will override the AWS_ACCESS_KEY_ID \
             environment variable for this plugin instance.",
        )
        .optional()
        .referenceable()
        .encrypted(),
        text(
            "aws_secret_access_key",
            "Set this if you are using an AWS provider (Bedrock) and you are authenticating using \
             static IAM User credentials. Setting this will override the AWS_SECRET_ACCESS_KEY \
             environment variable for this plugin instance.",
        )
        .optional()
        .referenceable()
        .encrypted(),
        boolean(
            "allow_override",
            "If enabled, the authorization header or parameter can be overridden in the request \
             by the value configured in the plugin.",
        )
        .optional()
        .or(Preset::Flag(false)),
    ],
)
.optional();

pub(super) const MODEL: Field = record(
    "model",
    "",
    &[
        text(
            "provider",
            "AI provider request format - Kong translates requests to and from the specified \
             backend compatible formats.",
        )
        .required()
        .one_of(&[
            "openai",
            "azure",
            "anthropic",
            "cohere",
            "mistral",
            "llama2",
            "gemini",
            "bedrock",
            "huggingface",
        ]),
        text("name", "Model name to execute.").optional(),
        record(
            "options",
            "Key/value settings for the model",
            &[
                integer(
                    "max_tokens",
                    "Defines the max_tokens, if using chat or completion models.",
                )
                .optional(),
                number("input_cost", "Defines the cost per 1M tokens in your prompt.")
                    .optional()
                    .gt(0),
                number("output_cost", "Defines the cost per 1M tokens in the output of the AI.")
                    .optional()
                    .gt(0),
                number(
                    "temperature",
                    "Defines the matching temperature, if using chat or completion models.",
                )
                .optional()
                .between(0, 5),
                number("top_p", "Defines the top-p probability mass, if supported.")
                    .optional()
                    .between(0, 1),
                integer("top_k", "Defines the top-k most likely tokens, if supported.")
                    .optional()
                    .between(0, 500),
                text(
                    "anthropic_version",
                    "Defines the schema/API version, if using Anthropic provider.",
                )
                .optional(),
                text("azure_instance", "Instance name for Azure OpenAI hosted models.").optional(),
                text("azure_api_version", "'api-version' for Azure OpenAI instances.")
                    .optional()
                    .or(Preset::Text("2023-05-15")),
                text("azure_deployment_id", "Deployment ID for Azure OpenAI instances.").optional(),
                text(
                    "llama2_format",
                    "If using llama2 provider, select the upstream message format.",
                )
                .optional()
                .one_of(&["raw", "openai", "ollama"]),
                text(
                    "mistral_format",
                    "If using mistral provider, select the upstream message format.",
                )
                .optional()
                .one_of(&["openai", "ollama"]),
                typical::url("upstream_url")
                    .about(
                        "Manually specify or override the full URL to the AI operation endpoints, \
                         when calling (self-)hosted models, or for running via a private endpoint.",
                    )
                    .optional(),
                text(
                    "upstream_path",
                    "Manually specify or override the AI operation path, used when e.g. using the \
                     'preserve' route_type.",
                )
                .optional(),
                record(
                    "gemini",
                    "",
                    &[
                        text(
                            "api_endpoint",
                            "If running Gemini on Vertex, specify the regional API endpoint \
                             (hostname only).",
                        )
                        .optional(),
                        text("project_id", "If running Gemini on Vertex, specify the project ID.")
                            .optional(),
                        text(
                            "location_id",
                            "If running Gemini on Vertex, specify the location ID.",
                        )
                        .optional(),
                    ],
                )
                .rules(&[Rule::MutuallyRequired(&["api_endpoint", "project_id", "location_id"])])
                .optional(),
                record(
                    "bedrock",
                    "",
                    &[text(
                        "aws_region",
                        "If using AWS providers (Bedrock) you can override the `AWS_REGION` \
                         environment variable by setting this option.",
                    )
                    .optional()],
                )
                .optional(),
                record(
                    "huggingface",
                    "",
                    &[
                        boolean("use_cache", "Use the cache layer on the inference API").optional(),
                        boolean("wait_for_model", "Wait for the model if it is not ready")
                            .optional(),
                    ],
                )
                .optional(),
            ],
        )
        .optional(),
    ],
);

pub(super) const LOGGING: Field = record(
    "logging",
    "",
    &[
        boolean(
            "log_statistics",
            "If enabled and supported by the driver, will add model usage and token metrics into \
             the Kong log plugin(s) output.",
        )
        .required()
        .or(Preset::Flag(false)),
        boolean(
            "log_payloads",
            "If enabled, will log the request and response body into the Kong log plugin(s) \
             output.",
        )
        .required()
        .or(Preset::Flag(false)),
    ],
);

/// Rules across these fields.
pub(crate) const RULES: &[Rule] = &[
    Rule::Conditional {
        if_field: "model.provider",
        if_match: matching().one_of(&["bedrock", "gemini"]),
        then_field: "auth.allow_override",
        then_match: matching().eq(Preset::Flag(false)),
        then_err: Some("bedrock and gemini only support auth.allow_override = false"),
    },
    Rule::MutuallyRequired(&["auth.header_name", "auth.header_value"]),
    Rule::MutuallyRequired(&["auth.param_name", "auth.param_value", "auth.param_location"]),
    Rule::ConditionalAtLeastOneOf {
        if_field: "model.provider",
        if_match: matching().one_of(&["llama2"]),
        then_at_least_one_of: &["model.options.llama2_format"],
        then_err: Some("must set %s for llama2 provider"),
        otherwise: None,
    },
    Rule::ConditionalAtLeastOneOf {
        if_field: "model.provider",
        if_match: matching().one_of(&["mistral"]),
        then_at_least_one_of: &["model.options.mistral_format"],
        then_err: Some("must set %s for mistral provider"),
        otherwise: None,
    },
    Rule::ConditionalAtLeastOneOf {
        if_field: "model.provider",
        if_match: matching().one_of(&["anthropic"]),
        then_at_least_one_of: &["model.options.anthropic_version"],
        then_err: Some("must set %s for anthropic provider"),
        otherwise: None,
    },
    Rule::ConditionalAtLeastOneOf {
        if_field: "model.provider",
        if_match: matching().one_of(&["azure"]),
        then_at_least_one_of: &["model.options.azure_instance"],
        then_err: Some("must set %s for azure provider"),
        otherwise: None,
    },
    Rule::ConditionalAtLeastOneOf {
        if_field: "model.provider",
        if_match: matching().one_of(&["azure"]),
        then_at_least_one_of: &["model.options.azure_api_version"],
        then_err: Some("must set %s for azure provider"),
        otherwise: None,
    },
    Rule::ConditionalAtLeastOneOf {
        if_field: "model.provider",
        if_match: matching().one_of(&["azure"]),
        then_at_least_one_of: &["model.options.azure_deployment_id"],
        then_err: Some("must set %s for azure provider"),
        otherwise: None,
    },
    Rule::ConditionalAtLeastOneOf {
        if_field: "model.provider",
        if_match: matching().one_of(&["llama2"]),
        then_at_least_one_of: &["model.options.upstream_url"],
        then_err: Some("must set %s for self-hosted providers/models"),
        otherwise: None,
    },
    Rule::Custom {
        fields: &["route_type", "model", "logging"],
        run_with_missing_fields: false,
        run_with_invalid_fields: false,
        check: has_statistics,
    },
];

/// Anthropic counts nothing for completions.
fn has_statistics(llm: &Value) -> Result<(), String> {
    let text = |path| llm.path(path).and_then(Value::as_text).unwrap_or_default();
    let wanted = llm.path("logging.log_statistics").and_then(Value::as_flag) == Some(true);
    let (provider, route_type) = (text("model.provider"), text("route_type"));
    if wanted && provider == "anthropic" && route_type == "llm/v1/completions" {
        return Err(format!(
            "{provider} does not support statistics when route_type is {route_type}"
        ));
    }
    Ok(())
}

//! What ai-request-transformer and ai-response-transformer share of their configuration.

use store::schema::{Field, Preset, Rule, boolean, integer, matching, record, typical};

use super::llm;

pub(crate) const HTTP_TIMEOUT: Field =
    integer("http_timeout", "Timeout in milliseconds for the AI upstream service.")
        .required()
        .or(Preset::Integer(60_000));
pub(crate) const HTTPS_VERIFY: Field =
    boolean("https_verify", "Verify the TLS certificate of the AI upstream service.")
        .required()
        .or(Preset::Flag(true));
pub(crate) const BODY_SIZE_MAX: Field =
    integer("max_request_body_size", "max allowed body size allowed to be introspected")
        .or(Preset::Integer(8192))
        .gt(0);
pub(crate) const HTTP_PROXY_HOST: Field = typical::host("http_proxy_host");
pub(crate) const HTTP_PROXY_PORT: Field = typical::port("http_proxy_port");
pub(crate) const HTTPS_PROXY_HOST: Field = typical::host("https_proxy_host");
pub(crate) const HTTPS_PROXY_PORT: Field = typical::port("https_proxy_port");
pub(crate) const LLM: Field = record("llm", "", llm::FIELDS).rules(llm::RULES);

pub(crate) const RULES: &[Rule] = &[
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

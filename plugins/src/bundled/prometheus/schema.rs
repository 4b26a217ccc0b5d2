//! The configuration of prometheus. Descriptions are Kong's: `/schemas` prints them.

use store::schema::{Field, PluginSchema, Preset, boolean, typical};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "prometheus",
    priority: 13,
    protocols: typical::PROTOCOLS,
    config: CONFIG,
    ..PluginSchema::EMPTY
};

const CONFIG: &[Field] = &[
    boolean(
        "per_consumer",
        "A boolean value that determines if per-consumer metrics should be collected. If enabled, \
         the `kong_http_requests_total` and `kong_bandwidth_bytes` metrics fill in the consumer \
         label when available.",
    )
    .or(Preset::Flag(false)),
    boolean(
        "status_code_metrics",
        "A boolean value that determines if status code metrics should be collected. If enabled, \
         `http_requests_total`, `stream_sessions_total` metrics will be exported.",
    )
    .or(Preset::Flag(false)),
    boolean(
        "ai_metrics",
        "A boolean value that determines if ai metrics should be collected. If enabled, the \
         `ai_llm_requests_total`, `ai_llm_cost_total` and `ai_llm_tokens_total` metrics will be \
         exported.",
    )
    .or(Preset::Flag(false)),
    boolean(
        "latency_metrics",
        "A boolean value that determines if latency metrics should be collected. If enabled, \
         `kong_latency_ms`, `upstream_latency_ms` and `request_latency_ms` metrics will be \
         exported.",
    )
    .or(Preset::Flag(false)),
    boolean(
        "bandwidth_metrics",
        "A boolean value that determines if bandwidth metrics should be collected. If enabled, \
         `bandwidth_bytes` and `stream_sessions_total` metrics will be exported.",
    )
    .or(Preset::Flag(false)),
    boolean(
        "upstream_health_metrics",
        "A boolean value that determines if upstream metrics should be collected. If enabled, \
         `upstream_target_health` metric will be exported.",
    )
    .or(Preset::Flag(false)),
];

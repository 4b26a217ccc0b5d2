//! The configuration of opentelemetry. Descriptions are Kong's: `/schemas` prints them.

use store::schema::{
    Deprecation, Expand, Field, PluginSchema, Preset, Rule, Shorthand, map, number, text, typical,
};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "opentelemetry",
    priority: 14,
    config: CONFIG,
    config_rules: CONFIG_RULES,
    shorthands: SHORTHANDS,
    ..PluginSchema::EMPTY
};

const CONFIG: &[Field] = &[
    typical::url("traces_endpoint").referenceable(),
    typical::url("logs_endpoint").referenceable(),
    map(
        "headers",
        "The custom headers to be added in the HTTP request sent to the OTLP server. This setting \
         is useful for adding the authentication headers (token) for the APM backend.",
        &typical::header_name(""),
        &text("", "").referenceable(),
    ),
    map(
        "resource_attributes",
        "Attributes to add to the OpenTelemetry resource object, following the spec for Semantic \
         Attributes. \nThe following attributes are automatically added:\n- `service.name`: The \
         name of the service (default: `kong`).\n- `service.version`: The version of Kong \
         Gateway.\n- `service.instance.id`: The node ID of Kong Gateway.\n\nYou can use this \
         property to override default attribute values. For example, to override the default for \
         `service.name`, you can specify `{ \"service.name\": \"my-service\" }`.",
        &text("", ""),
        &text("", ""),
    ),
    typical::queue("queue").or(Preset::Record(&[("max_batch_size", Preset::Integer(200))])),
    store::older_queue!(
        "opentelemetry",
        batch_span_count,
        "The number of spans to be sent in a single batch."
    ),
    store::older_queue!(
        "opentelemetry",
        batch_flush_delay,
        "The delay, in seconds, between two consecutive batches."
    ),
    typical::timeout_ms("connect_timeout").or(Preset::Integer(1000)),
    typical::timeout_ms("send_timeout").or(Preset::Integer(5000)),
    typical::timeout_ms("read_timeout").or(Preset::Integer(5000)),
    text(
        "http_response_header_for_traceid",
        "Specifies a custom header for the `trace_id`. If set, the plugin sets the corresponding \
         header in the response.",
    ),
    text(
        "header_type",
        "All HTTP requests going through the plugin are tagged with a tracing HTTP request. This \
         property codifies what kind of tracing header the plugin expects on incoming requests.",
    )
    .optional()
    .or(Preset::Text("preserve"))
    .deprecated(&Deprecation {
        message: "opentelemetry: config.header_type is deprecated, please use config.propagation \
                  options instead",
        removal_in_version: "4.0",
        old_default: Some(Preset::Text("preserve")),
        replaced_with: &[],
    })
    .one_of(&[
        "preserve",
        "ignore",
        "b3",
        "b3-single",
        "w3c",
        "jaeger",
        "ot",
        "aws",
        "gcp",
        "datadog",
    ]),
    number(
        "sampling_rate",
        "Tracing sampling rate for configuring the probability-based sampler. When set, this \
         value supersedes the global `tracing_sampling_rate` setting from kong.conf.",
    )
    .optional()
    .between(0, 1),
    typical::propagation("propagation")
        .or(Preset::Record(&[("default_format", Preset::Text("w3c"))])),
];

const CONFIG_RULES: &[Rule] = &[Rule::AtLeastOneOf(&["traces_endpoint", "logs_endpoint"])];

const SHORTHANDS: &[Shorthand] = &[Shorthand {
    field: typical::url("endpoint").referenceable().deprecated(&Deprecation {
        message: "OpenTelemetry: config.endpoint is deprecated, please use config.traces_endpoint \
                  instead",
        removal_in_version: "4.0",
        old_default: None,
        replaced_with: &[],
    }),
    expand: Expand::Into(&["traces_endpoint"]),
}];

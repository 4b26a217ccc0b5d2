//! The configuration of zipkin. Descriptions are Kong's: `/schemas` prints them.

use store::schema::{
    Deprecation, Field, PluginSchema, Preset, array, boolean, integer, number, record, text,
    typical,
};
use store::value::Value;

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "zipkin",
    priority: 100_000,
    protocols: typical::PROTOCOLS,
    config: CONFIG,
    ..PluginSchema::EMPTY
};

const CONFIG: &[Field] = &[
    text("local_service_name", "The name of the service as displayed in Zipkin.")
        .required()
        .or(Preset::Text("kong")),
    typical::url("http_endpoint"),
    number(
        "sample_ratio",
        "How often to sample requests that do not contain trace IDs. Set to `0` to turn sampling \
         off, or to `1` to sample **all** requests. ",
    )
    .or(Preset::Number(0.001))
    .between(0, 1),
    text(
        "default_service_name",
        "Set a default service name to override `unknown-service-name` in the Zipkin spans.",
    ),
    boolean(
        "include_credential",
        "Specify whether the credential of the currently authenticated consumer should be \
         included in metadata sent to the Zipkin server.",
    )
    .required()
    .or(Preset::Flag(true)),
    integer("traceid_byte_count", "The length in bytes of each request's Trace ID.")
        .required()
        .or(Preset::Integer(16))
        .one_of_integers(&[8, 16]),
    text(
        "header_type",
        "All HTTP requests going through the plugin are tagged with a tracing HTTP request. This \
         property codifies what kind of tracing header the plugin expects on incoming requests",
    )
    .required()
    .or(Preset::Text("preserve"))
    .deprecated(&Deprecation {
        message: "zipkin: config.header_type is deprecated, please use config.propagation options \
                  instead",
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
        "datadog",
        "gcp",
    ]),
    text(
        "default_header_type",
        "Allows specifying the type of header to be added to requests with no pre-existing \
         tracing headers and when `config.header_type` is set to `\"preserve\"`. When \
         `header_type` is set to any other value, `default_header_type` is ignored.",
    )
    .required()
    .or(Preset::Text("b3"))
    .deprecated(&Deprecation {
        message: "zipkin: config.default_header_type is deprecated, please use \
                  config.propagation.default_format instead",
        removal_in_version: "4.0",
        old_default: Some(Preset::Text("b3")),
        replaced_with: &[],
    })
    .one_of(&["b3", "b3-single", "w3c", "jaeger", "ot", "aws", "datadog", "gcp"]),
    text(
        "tags_header",
        "The Zipkin plugin will add extra headers to the tags associated with any HTTP requests \
         that come with a header named as configured by this property.",
    )
    .required()
    .or(Preset::Text("Zipkin-Tags")),
    array(
        "static_tags",
        "The tags specified on this property will be added to the generated request traces.",
        &record(
            "",
            "",
            &[
                text("name", "").required().not_one_of(&[
                    "error",
                    "http.method",
                    "http.path",
                    "http.status_code",
                    "kong.balancer.state",
                    "kong.balancer.try",
                    "kong.consumer",
                    "kong.credential",
                    "kong.node.id",
                    "kong.route",
                    "kong.service",
                    "lc",
                    "peer.hostname",
                ]),
                text("value", "").required(),
            ],
        ),
    )
    .custom(are_distinct),
    text("http_span_name", "Specify whether to include the HTTP path in the span name.")
        .required()
        .or(Preset::Text("method"))
        .one_of(&["method", "method_path"]),
    typical::timeout_ms("connect_timeout").or(Preset::Integer(2000)),
    typical::timeout_ms("send_timeout").or(Preset::Integer(5000)),
    typical::timeout_ms("read_timeout").or(Preset::Integer(5000)),
    text("http_response_header_for_traceid", ""),
    text(
        "phase_duration_flavor",
        "Specify whether to include the duration of each phase as an annotation or a tag.",
    )
    .required()
    .or(Preset::Text("annotations"))
    .one_of(&["annotations", "tags"]),
    typical::queue("queue"),
    typical::propagation("propagation")
        .or(Preset::Record(&[("default_format", Preset::Text("b3"))])),
];

/// No two static tags have the same name.
fn are_distinct(tags: &Value) -> Result<(), String> {
    let name = |tag: &Value| tag.lookup("name").and_then(Value::as_text).map(str::to_owned);
    let mut found = std::collections::BTreeSet::new();
    for name in tags.items().iter().filter_map(name) {
        if found.contains(&name) {
            return Err(format!("repeated tags are not allowed: {name}"));
        }
        found.insert(name);
    }
    Ok(())
}

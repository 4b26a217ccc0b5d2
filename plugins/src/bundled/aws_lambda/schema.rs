//! The configuration of aws-lambda. Descriptions are Kong's: `/schemas` prints them.

use store::schema::{Field, PluginSchema, Preset, Rule, boolean, integer, number, text, typical};
use store::value::Value;

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "aws-lambda",
    priority: 750,
    config: CONFIG,
    rules: RULES,
    ..PluginSchema::EMPTY
};

const CONFIG: &[Field] = &[
    number("timeout", "An optional timeout in milliseconds when invoking the function.")
        .required()
        .or(Preset::Integer(60_000)),
    number(
        "keepalive",
        "An optional value in milliseconds that defines how long an idle connection lives before \
         being closed.",
    )
    .required()
    .or(Preset::Integer(60_000)),
    text("aws_key", "The AWS key credential to be used when invoking the function.")
        .referenceable()
        .encrypted(),
    text("aws_secret", "The AWS secret credential to be used when invoking the function. ")
        .referenceable()
        .encrypted(),
    text("aws_assume_role_arn", "The target AWS IAM role ARN used to invoke the Lambda function.")
        .referenceable()
        .encrypted(),
    text("aws_role_session_name", "The identifier of the assumed role session.")
        .or(Preset::Text("kong")),
    typical::url("aws_sts_endpoint_url"),
    typical::host("aws_region"),
    text(
        "function_name",
        "The AWS Lambda function to invoke. Both function name and function ARN (including \
         partial) are supported.",
    )
    .optional(),
    text("qualifier", "The qualifier to use when invoking the function."),
    text(
        "invocation_type",
        "The InvocationType to use when invoking the function. Available types are \
         RequestResponse, Event, DryRun.",
    )
    .required()
    .or(Preset::Text("RequestResponse"))
    .one_of(&["RequestResponse", "Event", "DryRun"]),
    text(
        "log_type",
        "The LogType to use when invoking the function. By default, None and Tail are supported.",
    )
    .required()
    .or(Preset::Text("Tail"))
    .one_of(&["Tail", "None"]),
    typical::host("host"),
    typical::port("port").or(Preset::Integer(443)),
    boolean("disable_https", "").or(Preset::Flag(false)),
    integer(
        "unhandled_status",
        "The response status code to use (instead of the default 200, 202, or 204) in the case of \
         an Unhandled Function Error.",
    )
    .between(100, 999),
    boolean(
        "forward_request_method",
        "An optional value that defines whether the original HTTP request method verb is sent in \
         the request_method field of the JSON-encoded request.",
    )
    .or(Preset::Flag(false)),
    boolean(
        "forward_request_uri",
        "An optional value that defines whether the original HTTP request URI is sent in the \
         request_uri field of the JSON-encoded request.",
    )
    .or(Preset::Flag(false)),
    boolean(
        "forward_request_headers",
        "An optional value that defines whether the original HTTP request headers are sent as a \
         map in the request_headers field of the JSON-encoded request.",
    )
    .or(Preset::Flag(false)),
    boolean(
        "forward_request_body",
        "An optional value that defines whether the request body is sent in the request_body \
         field of the JSON-encoded request. If the body arguments can be parsed, they are sent in \
         the separate request_body_args field of the request. ",
    )
    .or(Preset::Flag(false)),
    boolean(
        "is_proxy_integration",
        "An optional value that defines whether the response format to receive from the Lambda to \
         this format.",
    )
    .or(Preset::Flag(false)),
    boolean(
        "awsgateway_compatible",
        "An optional value that defines whether the plugin should wrap requests into the Amazon \
         API gateway.",
    )
    .or(Preset::Flag(false)),
    typical::url("proxy_url"),
    boolean(
        "skip_large_bodies",
        "An optional value that defines whether Kong should send large bodies that are buffered \
         to disk",
    )
    .or(Preset::Flag(true)),
    boolean("base64_encode_body", "An optional value that Base64-encodes the request body.")
        .or(Preset::Flag(true)),
    text(
        "aws_imds_protocol_version",
        "Identifier to select the IMDS protocol version to use: `v1` or `v2`.",
    )
    .required()
    .or(Preset::Text("v1"))
    .one_of(&["v1", "v2"]),
    text(
        "empty_arrays_mode",
        "An optional value that defines whether Kong should send empty arrays (returned by Lambda \
         function) as `[]` arrays or `{}` objects in JSON responses. The value `legacy` means \
         Kong will send empty arrays as `{}` objects in response",
    )
    .required()
    .or(Preset::Text("legacy"))
    .one_of(&["legacy", "correct"]),
];

const RULES: &[Rule] = &[
    Rule::MutuallyRequired(&["config.aws_key", "config.aws_secret"]),
    Rule::Custom {
        fields: &["config.proxy_url"],
        run_with_missing_fields: false,
        run_with_invalid_fields: false,
        check: is_reached_in_the_clear,
    },
];

/// The proxy itself speaks no TLS.
fn is_reached_in_the_clear(row: &Value) -> Result<(), String> {
    let url = row.path("config.proxy_url").and_then(Value::as_text).unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, _)) if !scheme.is_empty() && !scheme.contains(':') && scheme != "http" => {
            Err("proxy_url scheme must be http".to_owned())
        }
        _ => Ok(()),
    }
}

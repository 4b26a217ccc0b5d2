//! The configuration of http-log. Descriptions are Kong's: `/schemas` prints them.

use store::schema::{Field, PluginSchema, Preset, map, number, older, text, typical};
use store::value::Value;

use crate::pdk::logging::CUSTOM_FIELDS;

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "http-log",
    priority: 12,
    protocols: typical::PROTOCOLS,
    config: CONFIG,
    config_check: Some(one_authorization),
    ..PluginSchema::EMPTY
};

const CONFIG: &[Field] = &[
    typical::url("http_endpoint").required().referenceable().encrypted(),
    text(
        "method",
        "An optional method used to send data to the HTTP server. Supported values are `POST` \
         (default), `PUT`, and `PATCH`.",
    )
    .or(Preset::Text("POST"))
    .one_of(&["POST", "PUT", "PATCH"]),
    text(
        "content_type",
        "Indicates the type of data sent. The only available option is `application/json`.",
    )
    .or(Preset::Text("application/json"))
    .one_of(&["application/json", "application/json; charset=utf-8"]),
    number(
        "timeout",
        "An optional timeout in milliseconds when sending data to the upstream server.",
    )
    .or(Preset::Integer(10_000)),
    number(
        "keepalive",
        "An optional value in milliseconds that defines how long an idle connection will live \
         before being closed.",
    )
    .or(Preset::Integer(60_000)),
    store::older_queue!("http-log", retry_count, older::RETRY_COUNT),
    store::older_queue!("http-log", queue_size, older::QUEUE_SIZE),
    store::older_queue!("http-log", flush_timeout, older::FLUSH_TIMEOUT),
    map(
        "headers",
        "An optional table of headers included in the HTTP message to the upstream server. Values \
         are indexed by header name, and each header name accepts a single string.",
        &HEADER_NAME,
        &HEADER_VALUE,
    ),
    typical::queue("queue"),
    CUSTOM_FIELDS,
];

const HEADER_NAME: Field = typical::header_name("").match_none(&[
    ("^[Hh][Oo][Ss][Tt]$", "cannot contain 'Host' header"),
    (
        "^[Cc][Oo][Nn][Tt][Ee][Nn][Tt]%-[Ll][Ee][nn][Gg][Tt][Hh]$",
        "cannot contain 'Content-Length' header",
    ),
    ("^[Cc][Oo][Nn][Tt][Ee][Nn][Tt]%-[Tt][Yy][Pp][Ee]$", "cannot contain 'Content-Type' header"),
]);
const HEADER_VALUE: Field = text("", "").referenceable();

/// A user in the URL and a header of one's own exclude each other.
fn one_authorization(config: &Value) -> Result<(), String> {
    let endpoint = config.lookup("http_endpoint").and_then(Value::as_text).unwrap_or_default();
    let authority = endpoint.split_once("://").map_or("", |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    let headers = config.lookup("headers").map(Value::pairs).unwrap_or_default();
    let own = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    if own && authority.contains('@') {
        return Err(
            "specifying both an 'Authorization' header and user info in 'http_endpoint' is \
                    not allowed"
                .to_owned(),
        );
    }
    Ok(())
}

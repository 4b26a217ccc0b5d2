//! A Service: one upstream API.
//!
//! Source: Kong `kong/db/schema/entities/services.lua`.

use crate::check::uri;
use crate::schema::typical::{CREATED_AT, ID, TAGS, UPDATED_AT, UUID_ELEMENT};
use crate::schema::typical::{host, path, port, protocol, utf8_name};
use crate::schema::{
    Entity, Expand, Field, Preset, Rule, Shorthand, array, boolean, foreign, integer, matching,
    text,
};
use crate::value::Value;

const TIMEOUT_MS_MAX: i64 = (1 << 31) - 2;
const WITHOUT_PATH: &[&str] = &["tcp", "tls", "udp", "grpc", "grpcs"];
const TLS: &[&str] = &["https", "tls"];

const fn timeout_ms(name: &'static str) -> Field {
    integer(name, "").or(Preset::Integer(60_000)).between(1, TIMEOUT_MS_MAX)
}

const fn only_with_tls(field: &'static str) -> Rule {
    Rule::Conditional {
        if_field: "protocol",
        if_match: matching().not_one_of(TLS),
        then_field: field,
        then_match: matching().null(),
        then_err: None,
    }
}

/// The entity.
pub static SERVICES: Entity = Entity {
    name: "services",
    endpoint_key: Some("name"),
    fields: &[
        ID,
        CREATED_AT,
        UPDATED_AT,
        utf8_name("name"),
        integer("retries", "The number of retries to execute upon failure to proxy.")
            .or(Preset::Integer(5))
            .between(0, 32_767),
        protocol("protocol").or(Preset::Text("http")).required(),
        host("host").required(),
        port("port").or(Preset::Integer(80)).required(),
        path("path"),
        timeout_ms("connect_timeout"),
        timeout_ms("write_timeout"),
        timeout_ms("read_timeout"),
        TAGS,
        foreign(
            "client_certificate",
            "certificates",
            "Certificate to be used as client certificate while TLS handshaking to the upstream \
             server.",
        ),
        boolean(
            "tls_verify",
            "Whether to enable verification of upstream server TLS certificate. If not set, the \
             global level config `proxy_ssl_verify` will be used.",
        ),
        integer(
            "tls_verify_depth",
            "Maximum depth of chain while verifying Upstream server's TLS certificate.",
        )
        .or(Preset::Null)
        .between(0, 64),
        array(
            "ca_certificates",
            "Array of CA Certificate object UUIDs that are used to build the trust store while \
             verifying upstream server's TLS certificate.",
            &UUID_ELEMENT,
        ),
        boolean("enabled", "Whether the Service is active. ").or(Preset::Flag(true)).required(),
    ],
    rules: &[
        Rule::Conditional {
            if_field: "protocol",
            if_match: matching().one_of(WITHOUT_PATH),
            then_field: "path",
            then_match: matching().null(),
            then_err: None,
        },
        only_with_tls("client_certificate"),
        only_with_tls("tls_verify"),
        only_with_tls("tls_verify_depth"),
        only_with_tls("ca_certificates"),
    ],
    shorthands: &[Shorthand { field: text("url", ""), expand: Expand::With(url) }],
    ..Entity::EMPTY
};

/// `url` stands for `protocol`, `host`, `port` and `path`.
fn url(value: &Value) -> Vec<(&'static str, Value)> {
    if value.is_null() {
        // Kong reads how Lua prints a null, `userdata: NULL`.
        return vec![
            ("protocol", Value::text("userdata")),
            ("host", Value::Null),
            ("port", Value::Integer(80)),
            ("path", Value::text(" NULL")),
        ];
    }
    let parts = uri::split(value.as_text().unwrap_or_default());
    let port = parts.port.as_deref().and_then(|port| port.parse::<i64>().ok());
    let usual = match port {
        Some(443) => "https",
        _ => "http",
    };
    let protocol = parts.scheme.as_deref().unwrap_or(usual);
    let port_usual = if protocol == "https" { 443 } else { 80 };
    let port = match (port, parts.port) {
        (None, Some(unreadable)) => Value::text(unreadable),
        (port, _) => Value::Integer(port.unwrap_or(port_usual)),
    };
    let text = |part: Option<String>| part.map_or(Value::Null, Value::text);
    vec![
        ("protocol", Value::text(protocol)),
        ("host", text(parts.host)),
        ("port", port),
        ("path", text(parts.path)),
    ]
}

//! An Upstream: a name for several targets, and how requests are spread over them.
//!
//! Source: Kong `kong/db/schema/entities/upstreams.lua`.

mod healthchecks;

use crate::check::{Fault, formats};
use crate::schema::typical::{
    CREATED_AT, ID, TAGS, UPDATED_AT, cookie_name, header_name, host_with_optional_port, path,
};
use crate::schema::{
    Entity, Expand, Field, Preset, Rule, Shorthand, boolean, foreign, integer, matching, text,
};
use crate::snapshot::Tables;
use crate::value::{Row, Value};

const HASHES: &[&str] =
    &["none", "consumer", "ip", "header", "cookie", "path", "query_arg", "uri_capture"];

const fn hash(name: &'static str) -> Field {
    text(name, "").or(Preset::Text("none")).one_of(HASHES)
}

/// A name without a grammar of its own.
const fn simple(name: &'static str) -> Field {
    text(name, "").len_min(1)
}

/// While `if_field` is `pattern`, `then_field` must be given.
const fn needs(if_field: &'static str, pattern: &'static str, then_field: &'static str) -> Rule {
    Rule::Conditional {
        if_field,
        if_match: matching().matches(pattern),
        then_field,
        then_match: matching().required(),
        then_err: None,
    }
}

/// While `hash_on` is `pattern`, `hash_fallback` is one of `choices`.
const fn falls_back(pattern: &'static str, choices: &'static [&'static str]) -> Rule {
    Rule::Conditional {
        if_field: "hash_on",
        if_match: matching().matches(pattern),
        then_field: "hash_fallback",
        then_match: matching().one_of(choices),
        then_err: None,
    }
}

/// The entity.
pub static UPSTREAMS: Entity = Entity {
    name: "upstreams",
    endpoint_key: Some("name"),
    fields: &[
        ID,
        CREATED_AT,
        text("name", "This is a hostname, which must be equal to the host of a Service.")
            .required()
            .unique()
            .custom(formats::upstream_name),
        UPDATED_AT,
        text("algorithm", "Which load balancing algorithm to use.")
            .or(Preset::Text("round-robin"))
            .one_of(&["consistent-hashing", "least-connections", "round-robin", "latency"]),
        hash("hash_on"),
        hash("hash_fallback"),
        header_name("hash_on_header"),
        header_name("hash_fallback_header"),
        cookie_name("hash_on_cookie")
            .about("The cookie name to take the value from as hash input."),
        path("hash_on_cookie_path").or(Preset::Text("/")),
        simple("hash_on_query_arg"),
        simple("hash_fallback_query_arg"),
        simple("hash_on_uri_capture"),
        simple("hash_fallback_uri_capture"),
        integer("slots", "The number of slots in the load balancer algorithm.")
            .or(Preset::Integer(10_000))
            .between(10, 65_536),
        healthchecks::FIELD,
        TAGS,
        host_with_optional_port("host_header"),
        foreign(
            "client_certificate",
            "certificates",
            "If set, the certificate to be used as client certificate while TLS handshaking to \
             the upstream server.",
        ),
        boolean("use_srv_name", "If set, the balancer will use SRV hostname.")
            .or(Preset::Flag(false)),
    ],
    rules: &[
        needs("hash_on", "^header$", "hash_on_header"),
        needs("hash_fallback", "^header$", "hash_fallback_header"),
        needs("hash_on", "^cookie$", "hash_on_cookie"),
        needs("hash_fallback", "^cookie$", "hash_on_cookie"),
        falls_back("^none$", &["none"]),
        falls_back("^cookie$", &["none"]),
        falls_back(
            "^consumer$",
            &["none", "ip", "header", "cookie", "path", "query_arg", "uri_capture"],
        ),
        falls_back(
            "^ip$",
            &["none", "consumer", "header", "cookie", "path", "query_arg", "uri_capture"],
        ),
        falls_back(
            "^path$",
            &["none", "consumer", "header", "cookie", "query_arg", "ip", "uri_capture"],
        ),
        Rule::Distinct(&["hash_on_header", "hash_fallback_header"]),
        needs("hash_on", "^query_arg$", "hash_on_query_arg"),
        needs("hash_fallback", "^query_arg$", "hash_fallback_query_arg"),
        Rule::Distinct(&["hash_on_query_arg", "hash_fallback_query_arg"]),
        needs("hash_on", "^uri_capture$", "hash_on_uri_capture"),
        needs("hash_fallback", "^uri_capture$", "hash_fallback_uri_capture"),
        Rule::Distinct(&["hash_on_uri_capture", "hash_fallback_uri_capture"]),
    ],
    shorthands: &[
        Shorthand { field: text("algorithm", ""), expand: Expand::With(algorithm) },
        Shorthand { field: text("hash_on", ""), expand: Expand::With(hash_on) },
    ],
    guard: Some(with_hash_input),
    not_null: &["slots"],
    ..Entity::EMPTY
};

/// Kong spells `hash_on` out whenever it reads a row, so what hashes nothing takes turns: an input
/// that asks for hashing alone is read as if it said on what as well.
fn with_hash_input(_: &Tables, input: &mut Value, before: Option<&Row>) -> Result<(), Fault> {
    let hashes = input.get("algorithm").as_text() == Some("consistent-hashing");
    if hashes && input.lookup("hash_on").is_none() {
        let hash_on = before.and_then(|row| row.text("hash_on")).unwrap_or("none");
        input.put("hash_on", Value::text(hash_on));
    }
    Ok(())
}

/// An algorithm that hashes nothing takes `hash_on` away.
fn algorithm(value: &Value) -> Vec<(&'static str, Value)> {
    let own = ("algorithm", value.clone());
    match value.as_text() {
        None => vec![("algorithm", Value::text("round-robin"))],
        Some("least-connections" | "latency") => vec![own, ("hash_on", Value::Null)],
        _ => vec![own],
    }
}

/// What is hashed on decides about the algorithm.
fn hash_on(value: &Value) -> Vec<(&'static str, Value)> {
    let with =
        |algorithm: &str| vec![("hash_on", value.clone()), ("algorithm", Value::text(algorithm))];
    match value.as_text() {
        None => vec![("hash_on", Value::text("none"))],
        Some("none") => with("round-robin"),
        Some(_) => with("consistent-hashing"),
    }
}

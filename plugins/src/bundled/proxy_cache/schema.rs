//! The configuration of proxy-cache. Descriptions are Kong's: `/schemas` prints them.

use store::schema::{
    Field, PluginSchema, Preset, Rule, array, boolean, integer, record, text, typical,
};
use store::value::Value;

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "proxy-cache",
    priority: 100,
    protocols: typical::PROTOCOLS,
    config: CONFIG,
    rules: RULES,
    ..PluginSchema::EMPTY
};

const CONFIG: &[Field] = &[
    array(
        "response_code",
        "Upstream response status code considered cacheable.",
        &integer("", "").between(100, 900),
    )
    .required()
    .or(Preset::List(&[Preset::Integer(200), Preset::Integer(301), Preset::Integer(404)]))
    .len_min(1),
    array(
        "request_method",
        "Downstream request methods considered cacheable.",
        &text("", "").one_of(&["HEAD", "GET", "POST", "PATCH", "PUT"]),
    )
    .required()
    .or(Preset::List(&[Preset::Text("GET"), Preset::Text("HEAD")])),
    array(
        "content_type",
        "Upstream response content types considered cacheable. The plugin performs an **exact \
         match** against each specified value.",
        &text("", ""),
    )
    .required()
    .or(Preset::List(&[Preset::Text("text/plain"), Preset::Text("application/json")])),
    integer("cache_ttl", "TTL, in seconds, of cache entities.").or(Preset::Integer(300)).gt(0),
    text("strategy", "The backing data store in which to hold cache entities.")
        .required()
        .one_of(&["memory"]),
    boolean(
        "cache_control",
        "When enabled, respect the Cache-Control behaviors defined in RFC7234.",
    )
    .required()
    .or(Preset::Flag(false)),
    boolean("ignore_uri_case", "").optional().or(Preset::Flag(false)),
    integer(
        "storage_ttl",
        "Number of seconds to keep resources in the storage backend. This value is independent of \
         `cache_ttl` or resource TTLs defined by Cache-Control behaviors.",
    ),
    record(
        "memory",
        "",
        &[text(
            "dictionary_name",
            "The name of the shared dictionary in which to hold cache entities when the memory \
             strategy is selected. Note that this dictionary currently must be defined manually \
             in the Kong Nginx template.",
        )
        .required()
        .or(Preset::Text("kong_db_cache"))],
    ),
    array(
        "vary_query_params",
        "Relevant query parameters considered for the cache key. If undefined, all params are \
         taken into consideration.",
        &text("", ""),
    ),
    array(
        "vary_headers",
        "Relevant headers considered for the cache key. If undefined, none of the headers are \
         taken into consideration.",
        &text("", ""),
    ),
    record(
        "response_headers",
        "Caching related diagnostic headers that should be included in cached responses",
        &[
            boolean("age", "").or(Preset::Flag(true)),
            boolean("X-Cache-Status", "").or(Preset::Flag(true)),
            boolean("X-Cache-Key", "").or(Preset::Flag(true)),
        ],
    ),
];

const RULES: &[Rule] = &[Rule::Custom {
    fields: &["config"],
    run_with_missing_fields: false,
    run_with_invalid_fields: false,
    check: has_dictionary,
}];

/// The dictionaries that a Kong has by itself. Here all of them are one cache.
const DICTIONARIES: &[&str] = &[
    "kong",
    "kong_locks",
    "kong_healthchecks",
    "kong_cluster_events",
    "kong_rate_limiting_counters",
    "kong_core_db_cache",
    "kong_core_db_cache_miss",
    "kong_db_cache",
    "kong_db_cache_miss",
    "kong_secrets",
    "prometheus_metrics",
];

fn has_dictionary(row: &Value) -> Result<(), String> {
    let name = row.path("config.memory.dictionary_name").and_then(Value::as_text);
    match name.filter(|name| !DICTIONARIES.contains(name)) {
        None => Ok(()),
        Some(name) => Err(format!("missing shared dict '{name}'")),
    }
}

//! Plugins and their entities for tests, as their own files describe them.

use super::typical::{CREATED_AT, ID, TAGS, header_name, path, redis};
use super::{
    Catalogue, Deprecation, Entity, Expand, Field, PluginSchema, Preset, Rule, Shorthand, array,
    boolean, foreign, integer, matching, number, text,
};
use crate::value::Value;

/// A catalogue with these plugins.
pub(crate) fn catalogue() -> Catalogue {
    Catalogue::new(vec![&KEY_AUTH, &RATE_LIMITING, &REQUEST_TERMINATION, &CORS], &[&KEYAUTH])
}

/// Plugin `key-auth`'s keys.
pub(crate) static KEYAUTH: Entity = Entity {
    name: "keyauth_credentials",
    admin_name: Some("key-auths"),
    admin_nested_name: Some("key-auth"),
    endpoint_key: Some("key"),
    cache_key: &["key"],
    ttl: true,
    fields: &[
        ID,
        CREATED_AT,
        foreign("consumer", "consumers", "").required().cascade(),
        text("key", "").optional().unique().auto(),
        TAGS,
    ],
    ..Entity::EMPTY
};

const KEY_NAME: Field = header_name("");

/// A plugin for HTTP that cannot be set on consumers.
pub(crate) static KEY_AUTH: PluginSchema = PluginSchema {
    name: "key-auth",
    priority: 1250,
    no_consumer: true,
    config: &[
        array(
            "key_names",
            "Describes an array of parameter names where the plugin will look for a key. The key \
             names may only contain [a-z], [A-Z], [0-9], [_] underscore, and [-] hyphen.",
            &KEY_NAME,
        )
        .or(Preset::List(&[Preset::Text("apikey")]))
        .required(),
        boolean(
            "hide_credentials",
            "An optional boolean value telling the plugin to show or hide the credential from the \
             upstream service. If `true`, the plugin strips the credential from the request.",
        )
        .or(Preset::Flag(false))
        .required(),
        text(
            "anonymous",
            "An optional string (consumer UUID or username) value to use as an “anonymous” \
             consumer if authentication fails. If empty (default null), the request will fail with \
             an authentication failure `4xx`.",
        ),
        boolean(
            "key_in_header",
            "If enabled (default), the plugin reads the request header and tries to find the key \
             in it.",
        )
        .or(Preset::Flag(true))
        .required(),
        boolean(
            "key_in_query",
            "If enabled (default), the plugin reads the query parameter in the request and tries \
             to find the key in it.",
        )
        .or(Preset::Flag(true))
        .required(),
        boolean(
            "key_in_body",
            "If enabled, the plugin reads the request body. Supported MIME types: \
             `application/www-form-urlencoded`, `application/json`, and `multipart/form-data`.",
        )
        .or(Preset::Flag(false))
        .required(),
        boolean(
            "run_on_preflight",
            "A boolean value that indicates whether the plugin should run (and try to \
             authenticate) on `OPTIONS` preflight requests. If set to `false`, then `OPTIONS` \
             requests are always allowed.",
        )
        .or(Preset::Flag(true))
        .required(),
        text(
            "realm",
            "When authentication fails the plugin sends `WWW-Authenticate` header with `realm` \
             attribute value.",
        )
        .optional(),
    ],
    ..PluginSchema::EMPTY
};

const fn limit(name: &'static str, about: &'static str) -> Field {
    number(name, about).gt(0)
}

macro_rules! old {
    ($field:expr, $new:literal) => {
        Shorthand {
            field: $field.deprecated(&Deprecation {
                message: concat!(
                    "rate-limiting: config.redis_",
                    $new,
                    " is deprecated, please use config.redis.",
                    $new,
                    " instead"
                ),
                removal_in_version: "4.0",
                old_default: None,
                replaced_with: &[&["redis", $new]],
            }),
            expand: Expand::Into(&["redis", $new]),
        }
    };
}

const fn needs_redis(then_field: &'static str) -> Rule {
    Rule::Conditional {
        if_field: "config.policy",
        if_match: matching().eq(Preset::Text("redis")),
        then_field,
        then_match: matching().required(),
        then_err: None,
    }
}

const fn limited_by(kind: &'static str, then_field: &'static str) -> Rule {
    Rule::Conditional {
        if_field: "config.limit_by",
        if_match: matching().eq(Preset::Text(kind)),
        then_field,
        then_match: matching().required(),
        then_err: None,
    }
}

/// A plugin with rules, a record and shorthands.
pub(crate) static RATE_LIMITING: PluginSchema = PluginSchema {
    name: "rate-limiting",
    priority: 910,
    config: &[
        limit("second", "The number of HTTP requests that can be made per second."),
        limit("minute", "The number of HTTP requests that can be made per minute."),
        limit("hour", "The number of HTTP requests that can be made per hour."),
        limit("day", "The number of HTTP requests that can be made per day."),
        limit("month", "The number of HTTP requests that can be made per month."),
        limit("year", "The number of HTTP requests that can be made per year."),
        text("limit_by", "The entity that is used when aggregating the limits.")
            .or(Preset::Text("consumer"))
            .one_of(&["consumer", "credential", "ip", "service", "header", "path"]),
        header_name("header_name"),
        path("path"),
        text(
            "policy",
            "The rate-limiting policies to use for retrieving and incrementing the limits.",
        )
        .or(Preset::Text("local"))
        .one_of(&["local", "cluster", "redis"])
        .len_min(0),
        boolean(
            "fault_tolerant",
            "A boolean value that determines if the requests should be proxied even if Kong has \
             troubles connecting a third-party data store. If `true`, requests will be proxied \
             anyway, effectively disabling the rate-limiting function until the data store is \
             working again. If `false`, then the clients will see `500` errors.",
        )
        .or(Preset::Flag(true))
        .required(),
        redis("redis"),
        boolean("hide_client_headers", "Optionally hide informative response headers.")
            .or(Preset::Flag(false))
            .required(),
        number("error_code", "Set a custom error code to return when the rate limit is exceeded.")
            .or(Preset::Integer(429))
            .gt(0),
        text(
            "error_message",
            "Set a custom error message to return when the rate limit is exceeded.",
        )
        .or(Preset::Text("API rate limit exceeded")),
        number(
            "sync_rate",
            "How often to sync counter data to the central data store. A value of -1 results in \
             synchronous behavior.",
        )
        .or(Preset::Integer(-1))
        .required(),
    ],
    shorthands: &[
        old!(text("redis_host", ""), "host"),
        old!(integer("redis_port", ""), "port"),
        old!(text("redis_password", "").len_min(0), "password"),
        old!(text("redis_username", ""), "username"),
        old!(boolean("redis_ssl", ""), "ssl"),
        old!(boolean("redis_ssl_verify", ""), "ssl_verify"),
        old!(text("redis_server_name", ""), "server_name"),
        old!(integer("redis_timeout", ""), "timeout"),
        old!(integer("redis_database", ""), "database"),
    ],
    config_check: Some(periods_rise),
    rules: &[
        Rule::AtLeastOneOf(&[
            "config.second",
            "config.minute",
            "config.hour",
            "config.day",
            "config.month",
            "config.year",
        ]),
        needs_redis("config.redis.host"),
        needs_redis("config.redis.port"),
        needs_redis("config.redis.timeout"),
        limited_by("header", "config.header_name"),
        limited_by("path", "config.path"),
    ],
    ..PluginSchema::EMPTY
};

fn periods_rise(config: &Value) -> Result<(), String> {
    let periods = ["second", "minute", "hour", "day", "month", "year"];
    for (place, long) in periods.iter().enumerate() {
        let Some(of_long) = config.get(long).as_number() else { continue };
        for short in &periods[..place] {
            let Some(of_short) = config.get(short).as_number() else { continue };
            if of_long < of_short {
                return Err(format!(
                    "The limit for {long}({of_long:.1}) cannot be lower than the limit for \
                     {short}({of_short:.1})"
                ));
            }
        }
    }
    Ok(())
}

/// A plugin with bounds.
pub(crate) static REQUEST_TERMINATION: PluginSchema = PluginSchema {
    name: "request-termination",
    priority: 2,
    config: &[
        integer("status_code", "").or(Preset::Integer(503)).between(100, 599).required(),
        text("message", ""),
        text("body", ""),
    ],
    ..PluginSchema::EMPTY
};

/// A plugin without rules.
pub(crate) static CORS: PluginSchema =
    PluginSchema { name: "cors", priority: 2000, ..PluginSchema::EMPTY };

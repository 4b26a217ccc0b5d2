//! The configuration of rate-limiting. Descriptions are Kong's: `/schemas` prints them.

use store::schema::{Field, PluginSchema, Preset, Rule, boolean, matching, number, text, typical};
use store::value::Value;

use crate::pdk::window::PERIODS;

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "rate-limiting",
    priority: 910,
    config: CONFIG,
    shorthands: store::older_redis!("rate-limiting"),
    config_check: Some(check),
    rules: RULES,
    ..PluginSchema::EMPTY
};

const fn limit(name: &'static str, about: &'static str) -> Field {
    number(name, about).gt(0)
}

const CONFIG: &[Field] = &[
    limit("second", "The number of HTTP requests that can be made per second."),
    limit("minute", "The number of HTTP requests that can be made per minute."),
    limit("hour", "The number of HTTP requests that can be made per hour."),
    limit("day", "The number of HTTP requests that can be made per day."),
    limit("month", "The number of HTTP requests that can be made per month."),
    limit("year", "The number of HTTP requests that can be made per year."),
    text("limit_by", "The entity that is used when aggregating the limits.")
        .or(Preset::Text("consumer"))
        .one_of(&["consumer", "credential", "ip", "service", "header", "path"]),
    typical::header_name("header_name"),
    typical::path("path"),
    text("policy", "The rate-limiting policies to use for retrieving and incrementing the limits.")
        .or(Preset::Text("local"))
        .len_min(0)
        .one_of(&["local", "cluster", "redis"]),
    boolean(
        "fault_tolerant",
        "A boolean value that determines if the requests should be proxied even if Kong has \
         troubles connecting a third-party data store. If `true`, requests will be proxied anyway, \
         effectively disabling the rate-limiting function until the data store is working again. \
         If `false`, then the clients will see `500` errors.",
    )
    .required()
    .or(Preset::Flag(true)),
    typical::redis("redis"),
    boolean("hide_client_headers", "Optionally hide informative response headers.")
        .required()
        .or(Preset::Flag(false)),
    number("error_code", "Set a custom error code to return when the rate limit is exceeded.")
        .or(Preset::Integer(429))
        .gt(0),
    text("error_message", "Set a custom error message to return when the rate limit is exceeded.")
        .or(Preset::Text("API rate limit exceeded")),
    number(
        "sync_rate",
        "How often to sync counter data to the central data store. A value of -1 results in \
         synchronous behavior.",
    )
    .required()
    .or(Preset::Integer(-1)),
];

/// Limits of longer periods must not be lower, and `sync_rate` belongs to redis.
fn check(config: &Value) -> Result<(), String> {
    let limit = |name| config.lookup(name).and_then(Value::as_number);
    let mut lower: Option<(&str, f64)> = None;
    for period in PERIODS {
        let Some(limit) = limit(period.name()) else { continue };
        if let Some((name, before)) = lower
            && limit < before
        {
            return Err(format!(
                "The limit for {}({limit:.1}) cannot be lower than the limit for \
                 {name}({before:.1})",
                period.name()
            ));
        }
        lower = Some((period.name(), limit));
    }
    let redis = config.lookup("policy").and_then(Value::as_text) == Some("redis");
    match limit("sync_rate") {
        Some(rate) if rate != -1.0 && !redis => {
            Err("sync_rate can only be used with the redis policy".to_owned())
        }
        Some(rate) if rate != -1.0 && rate < 0.02 => {
            Err("sync_rate must be greater than 0.02, or -1 to disable".to_owned())
        }
        _ => Ok(()),
    }
}

const fn needs(
    if_field: &'static str,
    if_match: Field,
    then_field: &'static str,
    then_match: Field,
) -> Rule {
    Rule::Conditional { if_field, if_match, then_field, then_match, then_err: None }
}

const REDIS: Field = matching().eq(Preset::Text("redis"));
const GIVEN: Field = matching().required();

const RULES: &[Rule] = &[
    Rule::AtLeastOneOf(&[
        "config.second",
        "config.minute",
        "config.hour",
        "config.day",
        "config.month",
        "config.year",
    ]),
    needs("config.policy", REDIS, "config.redis.host", GIVEN),
    needs("config.policy", REDIS, "config.redis.port", GIVEN),
    needs("config.policy", REDIS, "config.redis.timeout", GIVEN),
    needs(
        "config.limit_by",
        matching().eq(Preset::Text("header")).len_min(1),
        "config.header_name",
        matching().required().len_min(1),
    ),
    needs(
        "config.limit_by",
        matching().eq(Preset::Text("path")).len_min(1),
        "config.path",
        matching().required().len_min(1),
    ),
];

//! The configuration of response-ratelimiting. Descriptions are Kong's: `/schemas` prints them.

use store::schema::{
    Field, PluginSchema, Preset, Rule, boolean, map, matching, number, record, text, typical,
};
use store::value::Value;

use crate::pdk::window::PERIODS;

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "response-ratelimiting",
    priority: 900,
    config: CONFIG,
    shorthands: store::older_redis!("response-ratelimiting"),
    rules: RULES,
    ..PluginSchema::EMPTY
};

const NAME: Field = text("", "");

const LIMITS: Field = record(
    "",
    "",
    &[
        number("second", "").gt(0),
        number("minute", "").gt(0),
        number("hour", "").gt(0),
        number("day", "").gt(0),
        number("month", "").gt(0),
        number("year", "").gt(0),
    ],
)
.rules(&[Rule::AtLeastOneOf(&["second", "minute", "hour", "day", "month", "year"])])
.required()
.custom(in_order);
const CONFIG: &[Field] = &[
    text("header_name", "The name of the response header used to increment the counters.")
        .or(Preset::Text("x-kong-limit")),
    text(
        "limit_by",
        "The entity that will be used when aggregating the limits: `consumer`, `credential`, \
         `ip`. If the `consumer` or the `credential` cannot be determined, the system will always \
         fallback to `ip`.",
    )
    .or(Preset::Text("consumer"))
    .one_of(&["consumer", "credential", "ip"]),
    text("policy", "The rate-limiting policies to use for retrieving and incrementing the limits.")
        .or(Preset::Text("local"))
        .one_of(&["local", "cluster", "redis"]),
    boolean(
        "fault_tolerant",
        "A boolean value that determines if the requests should be proxied even if Kong has \
         troubles connecting a third-party datastore. If `true`, requests will be proxied anyway, \
         effectively disabling the rate-limiting function until the datastore is working again. \
         If `false`, then the clients will see `500` errors.",
    )
    .required()
    .or(Preset::Flag(true)),
    typical::redis("redis"),
    boolean(
        "block_on_first_violation",
        "A boolean value that determines if the requests should be blocked as soon as one limit \
         is being exceeded. This will block requests that are supposed to consume other limits \
         too.",
    )
    .required()
    .or(Preset::Flag(false)),
    boolean("hide_client_headers", "Optionally hide informative response headers.")
        .required()
        .or(Preset::Flag(false)),
    map("limits", "A map that defines rate limits for the plugin.", &NAME, &LIMITS)
        .required()
        .len_min(1),
];

/// The limit of a longer period must not be lower.
fn in_order(limits: &Value) -> Result<(), String> {
    let limit = |name| limits.lookup(name).and_then(Value::as_number);
    for (at, lower) in PERIODS.iter().enumerate() {
        for upper in PERIODS.iter().skip(at + 1) {
            if let (Some(low), Some(high)) = (limit(lower.name()), limit(upper.name()))
                && high < low
            {
                return Err(format!(
                    "the limit for {}({high:.1}) cannot be lower than the limit for {}({low:.1})",
                    upper.name(),
                    lower.name()
                ));
            }
        }
    }
    Ok(())
}

const fn needs(then_field: &'static str) -> Rule {
    Rule::Conditional {
        if_field: "config.policy",
        if_match: matching().eq(Preset::Text("redis")).len_min(1),
        then_field,
        then_match: matching().required(),
        then_err: None,
    }
}

const RULES: &[Rule] =
    &[needs("config.redis.host"), needs("config.redis.port"), needs("config.redis.timeout")];

//! The configuration of statsd. Descriptions are Kong's: `/schemas` prints them.

use store::schema::{
    Field, PluginSchema, Preset, Rule, array, boolean, integer, matching, number, record, text,
    typical,
};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "statsd",
    priority: 11,
    protocols: typical::PROTOCOLS,
    config: CONFIG,
    ..PluginSchema::EMPTY
};

const CONFIG: &[Field] = &[
    typical::host("host")
        .about("The IP address or hostname of StatsD server to send data to.")
        .or(Preset::Text("localhost")),
    integer("port", "The port of StatsD server to send data to.")
        .or(Preset::Integer(8125))
        .between(0, 65_535),
    text("prefix", "String to prefix to each metric's name.").or(Preset::Text("kong")),
    array(
        "metrics",
        "List of metrics to be logged.",
        &record(
            "",
            "",
            &[
                text("name", "StatsD metric’s name.").required().one_of(&[
                    "kong_latency",
                    "latency",
                    "request_count",
                    "request_per_user",
                    "request_size",
                    "response_size",
                    "status_count",
                    "status_count_per_user",
                    "unique_users",
                    "upstream_latency",
                    "status_count_per_workspace",
                    "status_count_per_user_per_route",
                    "shdict_usage",
                ]),
                text("stat_type", "Determines what sort of event a metric represents.")
                    .required()
                    .one_of(&["counter", "gauge", "histogram", "meter", "set", "timer"]),
                number("sample_rate", "Sampling rate").gt(0),
                text("consumer_identifier", "Authenticated user detail.").one_of(&[
                    "consumer_id",
                    "custom_id",
                    "username",
                ]),
                text("service_identifier", "Service detail.").one_of(&[
                    "service_id",
                    "service_name",
                    "service_host",
                    "service_name_or_host",
                ]),
                text("workspace_identifier", "Workspace detail.")
                    .one_of(&["workspace_id", "workspace_name"]),
            ],
        )
        .rules(&[Rule::Conditional {
            if_field: "stat_type",
            if_match: matching().one_of(&["counter", "gauge"]),
            then_field: "sample_rate",
            then_match: matching().required(),
            then_err: None,
        }]),
    )
    .or(Preset::List(&[
        Preset::Record(&[
            ("name", Preset::Text("request_count")),
            ("sample_rate", Preset::Integer(1)),
            ("stat_type", Preset::Text("counter")),
        ]),
        Preset::Record(&[("name", Preset::Text("latency")), ("stat_type", Preset::Text("timer"))]),
        Preset::Record(&[
            ("name", Preset::Text("request_size")),
            ("sample_rate", Preset::Integer(1)),
            ("stat_type", Preset::Text("counter")),
        ]),
        Preset::Record(&[
            ("name", Preset::Text("status_count")),
            ("sample_rate", Preset::Integer(1)),
            ("stat_type", Preset::Text("counter")),
        ]),
        Preset::Record(&[
            ("name", Preset::Text("response_size")),
            ("sample_rate", Preset::Integer(1)),
            ("stat_type", Preset::Text("counter")),
        ]),
        Preset::Record(&[
            ("name", Preset::Text("unique_users")),
            ("stat_type", Preset::Text("set")),
        ]),
        Preset::Record(&[
            ("name", Preset::Text("request_per_user")),
            ("sample_rate", Preset::Integer(1)),
            ("stat_type", Preset::Text("counter")),
        ]),
        Preset::Record(&[
            ("name", Preset::Text("upstream_latency")),
            ("stat_type", Preset::Text("timer")),
        ]),
        Preset::Record(&[
            ("name", Preset::Text("kong_latency")),
            ("stat_type", Preset::Text("timer")),
        ]),
        Preset::Record(&[
            ("name", Preset::Text("status_count_per_user")),
            ("sample_rate", Preset::Integer(1)),
            ("stat_type", Preset::Text("counter")),
        ]),
        Preset::Record(&[
            ("name", Preset::Text("status_count_per_workspace")),
            ("sample_rate", Preset::Integer(1)),
            ("stat_type", Preset::Text("counter")),
        ]),
        Preset::Record(&[
            ("name", Preset::Text("status_count_per_user_per_route")),
            ("sample_rate", Preset::Integer(1)),
            ("stat_type", Preset::Text("counter")),
        ]),
        Preset::Record(&[
            ("name", Preset::Text("shdict_usage")),
            ("sample_rate", Preset::Integer(1)),
            ("stat_type", Preset::Text("gauge")),
        ]),
    ])),
    array(
        "allow_status_codes",
        "List of status code ranges that are allowed to be logged in metrics.",
        &text("", "").matches("^[0-9]+-[0-9]+$"),
    ),
    number("udp_packet_size", "").or(Preset::Integer(0)).between(0, 65_507),
    boolean("use_tcp", "").or(Preset::Flag(false)),
    boolean("hostname_in_prefix", "").or(Preset::Flag(false)),
    text("consumer_identifier_default", "").required().or(Preset::Text("custom_id")).one_of(&[
        "consumer_id",
        "custom_id",
        "username",
    ]),
    text("service_identifier_default", "")
        .required()
        .or(Preset::Text("service_name_or_host"))
        .one_of(&["service_id", "service_name", "service_host", "service_name_or_host"]),
    text("workspace_identifier_default", "")
        .required()
        .or(Preset::Text("workspace_id"))
        .one_of(&["workspace_id", "workspace_name"]),
    store::older_queue!("statsd", retry_count, ""),
    store::older_queue!("statsd", queue_size, ""),
    store::older_queue!("statsd", flush_timeout, ""),
    text("tag_style", "").optional().one_of(&["dogstatsd", "influxdb", "librato", "signalfx"]),
    typical::queue("queue"),
];

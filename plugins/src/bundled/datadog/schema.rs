//! The configuration of datadog. Descriptions are Kong's: `/schemas` prints them.

use store::schema::{
    Field, PluginSchema, Preset, Rule, array, matching, number, older, record, text, typical,
};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "datadog",
    priority: 10,
    protocols: typical::PROTOCOLS,
    config: CONFIG,
    ..PluginSchema::EMPTY
};

const CONFIG: &[Field] = &[
    typical::host("host").or(Preset::Text("localhost")).referenceable(),
    typical::port("port").or(Preset::Integer(8125)),
    text("prefix", "String to be attached as a prefix to a metric's name.")
        .or(Preset::Text("kong")),
    text("service_name_tag", "String to be attached as the name of the service.")
        .or(Preset::Text("name")),
    text("status_tag", "String to be attached as the tag of the HTTP status.")
        .or(Preset::Text("status")),
    text("consumer_tag", "String to be attached as tag of the consumer.")
        .or(Preset::Text("consumer")),
    store::older_queue!("datadog", retry_count, older::RETRY_COUNT),
    store::older_queue!("datadog", queue_size, older::QUEUE_SIZE),
    store::older_queue!("datadog", flush_timeout, older::FLUSH_TIMEOUT),
    typical::queue("queue"),
    array(
        "metrics",
        "List of metrics to be logged.",
        &record(
            "",
            "",
            &[
                text("name", "Datadog metric’s name").required().one_of(&[
                    "kong_latency",
                    "latency",
                    "request_count",
                    "request_size",
                    "response_size",
                    "upstream_latency",
                ]),
                text("stat_type", "Determines what sort of event the metric represents")
                    .required()
                    .one_of(&[
                        "counter",
                        "gauge",
                        "histogram",
                        "meter",
                        "set",
                        "timer",
                        "distribution",
                    ]),
                array("tags", "List of tags", &text("", "").matches("^.*[^:]$")),
                number("sample_rate", "Sampling rate").between(0, 1),
                text("consumer_identifier", "Authenticated user detail").one_of(&[
                    "consumer_id",
                    "custom_id",
                    "username",
                ]),
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
    .required()
    .or(Preset::List(&[
        Preset::Record(&[
            ("consumer_identifier", Preset::Text("custom_id")),
            ("name", Preset::Text("request_count")),
            ("sample_rate", Preset::Integer(1)),
            ("stat_type", Preset::Text("counter")),
            ("tags", Preset::List(&[Preset::Text("app:kong")])),
        ]),
        Preset::Record(&[
            ("consumer_identifier", Preset::Text("custom_id")),
            ("name", Preset::Text("latency")),
            ("stat_type", Preset::Text("timer")),
            ("tags", Preset::List(&[Preset::Text("app:kong")])),
        ]),
        Preset::Record(&[
            ("consumer_identifier", Preset::Text("custom_id")),
            ("name", Preset::Text("request_size")),
            ("stat_type", Preset::Text("timer")),
            ("tags", Preset::List(&[Preset::Text("app:kong")])),
        ]),
        Preset::Record(&[
            ("consumer_identifier", Preset::Text("custom_id")),
            ("name", Preset::Text("response_size")),
            ("stat_type", Preset::Text("timer")),
            ("tags", Preset::List(&[Preset::Text("app:kong")])),
        ]),
        Preset::Record(&[
            ("consumer_identifier", Preset::Text("custom_id")),
            ("name", Preset::Text("upstream_latency")),
            ("stat_type", Preset::Text("timer")),
            ("tags", Preset::List(&[Preset::Text("app:kong")])),
        ]),
        Preset::Record(&[
            ("consumer_identifier", Preset::Text("custom_id")),
            ("name", Preset::Text("kong_latency")),
            ("stat_type", Preset::Text("timer")),
            ("tags", Preset::List(&[Preset::Text("app:kong")])),
        ]),
    ])),
];

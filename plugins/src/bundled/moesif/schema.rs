//! The configuration of moesif, as version 2.1.2 of the plugin has it, but for `event_queue_size`,
//! whose default is the documented one.

use store::schema::{Field, PluginSchema, Preset, array, boolean, number, text, typical};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "moesif",
    priority: 5,
    version: "2.1.2",
    no_consumer: true,
    config: CONFIG,
    ..PluginSchema::EMPTY
};

const NAME: Field = typical::header_name("");

const fn names(name: &'static str) -> Field {
    array(name, "", &NAME).or(Preset::List(&[]))
}

const fn switch(name: &'static str) -> Field {
    boolean(name, "").or(Preset::Flag(false))
}

const fn amount(name: &'static str, preset: i64) -> Field {
    number(name, "").or(Preset::Integer(preset))
}

const CONFIG: &[Field] = &[
    text("api_endpoint", "").required().or(Preset::Text("https://api.moesif.net")),
    amount("timeout", 1_000),
    amount("connect_timeout", 1_000),
    amount("send_timeout", 5_000),
    amount("keepalive", 5_000),
    amount("event_queue_size", 100_000),
    text("api_version", "").or(Preset::Text("1.0")),
    text("application_id", "").required(),
    switch("disable_capture_request_body"),
    switch("disable_capture_response_body"),
    names("request_masks"),
    names("request_body_masks"),
    names("request_header_masks"),
    names("response_masks"),
    names("response_body_masks"),
    names("response_header_masks"),
    amount("batch_size", 50).stray_elements(&NAME),
    switch("disable_transaction_id"),
    switch("debug"),
    switch("disable_gzip_payload_decompression"),
    text("user_id_header", ""),
    text("authorization_header_name", "").or(Preset::Text("authorization")),
    text("authorization_user_id_field", "").or(Preset::Text("sub")),
    text("authorization_company_id_field", ""),
    text("company_id_header", ""),
    amount("max_callback_time_spent", 750),
    amount("request_max_body_size_limit", 100_000),
    amount("response_max_body_size_limit", 100_000),
    names("request_query_masks"),
    switch("enable_compression"),
];

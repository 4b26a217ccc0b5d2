//! The configuration of hmac-auth. Descriptions are Kong's: `/schemas` prints them.

use store::schema::{Field, PluginSchema, Preset, array, boolean, number, text, typical};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "hmac-auth",
    priority: 1030,
    no_consumer: true,
    config: CONFIG,
    ..PluginSchema::EMPTY
};

const CONFIG: &[Field] = &[
    boolean(
        "hide_credentials",
        "An optional boolean value telling the plugin to show or hide the credential from the \
         upstream service.",
    )
    .required()
    .or(Preset::Flag(false)),
    number("clock_skew", "Clock skew in seconds to prevent replay attacks.")
        .or(Preset::Integer(300))
        .gt(0),
    text(
        "anonymous",
        "An optional string (Consumer UUID or username) value to use as an “anonymous” consumer \
         if authentication fails.",
    ),
    boolean(
        "validate_request_body",
        "A boolean value telling the plugin to enable body validation.",
    )
    .required()
    .or(Preset::Flag(false)),
    array(
        "enforce_headers",
        "A list of headers that the client should at least use for HTTP signature creation.",
        &typical::TEXT_ELEMENT,
    )
    .or(Preset::List(&[])),
    array(
        "algorithms",
        "A list of HMAC digest algorithms that the user wants to support. Allowed values are \
         `hmac-sha1`, `hmac-sha256`, `hmac-sha384`, and `hmac-sha512`",
        &text("", "").one_of(&["hmac-sha1", "hmac-sha256", "hmac-sha384", "hmac-sha512"]),
    )
    .or(Preset::List(&[
        Preset::Text("hmac-sha1"),
        Preset::Text("hmac-sha256"),
        Preset::Text("hmac-sha384"),
        Preset::Text("hmac-sha512"),
    ])),
    text(
        "realm",
        "When authentication fails the plugin sends `WWW-Authenticate` header with `realm` \
         attribute value.",
    )
    .optional(),
];

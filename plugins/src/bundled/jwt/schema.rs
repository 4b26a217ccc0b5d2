//! The configuration of jwt. Descriptions are Kong's: `/schemas` prints them.

use store::schema::{
    Field, PluginSchema, Preset, Rule, boolean, matching, number, set, text, typical,
};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "jwt",
    priority: 1450,
    no_consumer: true,
    config: CONFIG,
    rules: RULES,
    ..PluginSchema::EMPTY
};

const CONFIG: &[Field] = &[
    set(
        "uri_param_names",
        "A list of querystring parameters that Kong will inspect to retrieve JWTs.",
        &typical::TEXT_ELEMENT,
    )
    .or(Preset::List(&[Preset::Text("jwt")])),
    set(
        "cookie_names",
        "A list of cookie names that Kong will inspect to retrieve JWTs.",
        &typical::TEXT_ELEMENT,
    )
    .or(Preset::List(&[])),
    text(
        "key_claim_name",
        "The name of the claim in which the key identifying the secret must be passed. The plugin \
         will attempt to read this claim from the JWT payload and the header, in that order.",
    )
    .or(Preset::Text("iss")),
    boolean(
        "secret_is_base64",
        "If true, the plugin assumes the credential’s secret to be base64 encoded. You will need \
         to create a base64-encoded secret for your Consumer, and sign your JWT with the original \
         secret.",
    )
    .required()
    .or(Preset::Flag(false)),
    set(
        "claims_to_verify",
        "A list of registered claims (according to RFC 7519) that Kong can verify as well. \
         Accepted values: one of exp or nbf.",
        &text("", "").one_of(&["exp", "nbf"]),
    ),
    text(
        "anonymous",
        "An optional string (consumer UUID or username) value to use as an “anonymous” consumer \
         if authentication fails.",
    ),
    boolean(
        "run_on_preflight",
        "A boolean value that indicates whether the plugin should run (and try to authenticate) \
         on OPTIONS preflight requests. If set to false, then OPTIONS requests will always be \
         allowed.",
    )
    .required()
    .or(Preset::Flag(true)),
    number(
        "maximum_expiration",
        "A value between 0 and 31536000 (365 days) limiting the lifetime of the JWT to \
         maximum_expiration seconds in the future.",
    )
    .or(Preset::Integer(0))
    .between(0, 31_536_000),
    set(
        "header_names",
        "A list of HTTP header names that Kong will inspect to retrieve JWTs.",
        &typical::TEXT_ELEMENT,
    )
    .or(Preset::List(&[Preset::Text("authorization")])),
    text(
        "realm",
        "When authentication fails the plugin sends `WWW-Authenticate` header with `realm` \
         attribute value.",
    )
    .optional(),
];

const RULES: &[Rule] = &[Rule::Conditional {
    if_field: "config.maximum_expiration",
    if_match: matching().gt(0),
    then_field: "config.claims_to_verify",
    then_match: matching().contains("exp"),
    then_err: None,
}];

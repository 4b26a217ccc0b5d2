//! The configuration of ldap-auth. Descriptions are Kong's: `/schemas` prints them.

use store::schema::{Field, PluginSchema, Preset, Rule, boolean, matching, number, text, typical};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "ldap-auth",
    priority: 1200,
    no_consumer: true,
    config: CONFIG,
    config_rules: CONFIG_RULES,
    ..PluginSchema::EMPTY
};

const CONFIG: &[Field] = &[
    typical::host("ldap_host").required(),
    typical::port("ldap_port").required().or(Preset::Integer(389)),
    boolean(
        "ldaps",
        "Set to `true` to connect using the LDAPS protocol (LDAP over TLS).  When `ldaps` is \
         configured, you must use port 636. If the `ldap` setting is enabled, ensure the \
         `start_tls` setting is disabled.",
    )
    .required()
    .or(Preset::Flag(false)),
    boolean(
        "start_tls",
        "Set it to `true` to issue StartTLS (Transport Layer Security) extended operation over \
         `ldap` connection. If the `start_tls` setting is enabled, ensure the `ldaps` setting is \
         disabled.",
    )
    .required()
    .or(Preset::Flag(false)),
    boolean(
        "verify_ldap_host",
        "Set to `true` to authenticate LDAP server. The server certificate will be verified \
         according to the CA certificates specified by the `lua_ssl_trusted_certificate` \
         directive.",
    )
    .required()
    .or(Preset::Flag(false)),
    text("base_dn", "Base DN as the starting point for the search; e.g., dc=example,dc=com")
        .required(),
    text("attribute", "Attribute to be used to search the user; e.g. cn").required(),
    number("cache_ttl", "Cache expiry time in seconds.").required().or(Preset::Integer(60)),
    boolean(
        "hide_credentials",
        "An optional boolean value telling the plugin to hide the credential to the upstream \
         server. It will be removed by Kong before proxying the request.",
    )
    .required()
    .or(Preset::Flag(false)),
    number(
        "timeout",
        "An optional timeout in milliseconds when waiting for connection with LDAP server.",
    )
    .or(Preset::Integer(10_000)),
    number(
        "keepalive",
        "An optional value in milliseconds that defines how long an idle connection to LDAP \
         server will live before being closed.",
    )
    .or(Preset::Integer(60_000)),
    text(
        "anonymous",
        "An optional string (consumer UUID or username) value to use as an “anonymous” consumer \
         if authentication fails. If empty (default null), the request fails with an \
         authentication failure `4xx`.",
    ),
    text("header_type", "An optional string to use as part of the Authorization header")
        .or(Preset::Text("ldap")),
    text(
        "realm",
        "When authentication fails the plugin sends `WWW-Authenticate` header with `realm` \
         attribute value.",
    )
    .optional(),
];

const CONFIG_RULES: &[Rule] = &[Rule::Conditional {
    if_field: "ldaps",
    if_match: matching().eq(Preset::Flag(true)),
    then_field: "start_tls",
    then_match: matching().eq(Preset::Flag(false)),
    then_err: Some("'ldaps' and 'start_tls' cannot be enabled simultaneously"),
}];

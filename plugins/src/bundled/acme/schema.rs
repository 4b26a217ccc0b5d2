//! The configuration of acme. Descriptions are Kong's: `/schemas` prints them.

use store::check::formats;
use store::schema::{
    Deprecation, Expand, Field, PluginSchema, Preset, Rule, Shorthand, array, boolean, integer,
    matching, number, record, text, typical,
};
use store::value::Value;

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "acme",
    priority: 1705,
    no_consumer: true,
    no_route: true,
    no_service: true,
    config: CONFIG,
    rules: RULES,
    ..PluginSchema::EMPTY
};

const CONFIG: &[Field] = &[
    text("account_email", "The account identifier. Can be reused in a different plugin instance.")
        .required()
        .referenceable()
        .encrypted()
        .matches("%w*%p*@+%w*%.?%w*"),
    record(
        "account_key",
        "The private key associated with the account.",
        &[
            text("key_id", "The Key ID.").required(),
            text("key_set", "The ID of the key set to associate the Key ID with."),
        ],
    )
    .optional(),
    typical::url("api_uri").or(Preset::Text("https://acme-v02.api.letsencrypt.org/directory")),
    boolean(
        "tos_accepted",
        "If you are using Let's Encrypt, you must set this to `true` to agree the terms of \
         service.",
    )
    .or(Preset::Flag(false)),
    text(
        "eab_kid",
        "External account binding (EAB) key id. You usually don't need to set this unless it is \
         explicitly required by the CA.",
    )
    .referenceable()
    .encrypted(),
    text(
        "eab_hmac_key",
        "External account binding (EAB) base64-encoded URL string of the HMAC key. You usually \
         don't need to set this unless it is explicitly required by the CA.",
    )
    .referenceable()
    .encrypted(),
    text(
        "cert_type",
        "The certificate type to create. The possible values are `rsa` for RSA certificate or \
         `ecc` for EC certificate.",
    )
    .or(Preset::Text("rsa"))
    .one_of(&["rsa", "ecc"]),
    number(
        "rsa_key_size",
        "RSA private key size for the certificate. The possible values are 2048, 3072, or 4096.",
    )
    .or(Preset::Integer(4096))
    .one_of_integers(&[2048, 3072, 4096]),
    number("renew_threshold_days", "Days remaining to renew the certificate before it expires.")
        .or(Preset::Integer(14)),
    array(
        "domains",
        "An array of strings representing hosts. A valid host is a string containing one or more \
         labels separated by periods, with at most one wildcard label ('*')",
        &text("", "")
            .match_all(&[("^[^*]*%*?[^*]*$", "invalid wildcard: must have at most one wildcard")])
            .match_any(
                &["^%*%.", "%.%*$", "^[^*]*$"],
                "invalid wildcard: must be placed at leftmost or rightmost label",
            )
            .custom(formats::route_host),
    ),
    boolean(
        "allow_any_domain",
        "If set to `true`, the plugin allows all domains and ignores any values in the `domains` \
         list.",
    )
    .or(Preset::Flag(false)),
    number(
        "fail_backoff_minutes",
        "Minutes to wait for each domain that fails to create a certificate. This applies to both \
         a\nnew certificate and a renewal certificate.",
    )
    .or(Preset::Integer(5)),
    text(
        "storage",
        "The backend storage type to use. In DB-less mode and Konnect, `kong` storage is \
         unavailable. In hybrid mode and Konnect, `shm` storage is unavailable. `shm` storage \
         does not persist during Kong restarts and does not work for Kong running on different \
         machines, so consider using one of `kong`, `redis`, `consul`, or `vault` in production.",
    )
    .or(Preset::Text("shm"))
    .one_of(&["kong", "shm", "redis", "consul", "vault"]),
    record(
        "storage_config",
        "",
        &[
            record(
                "shm",
                "",
                &[text("shm_name", "Name of shared memory zone used for Kong API gateway storage")
                    .or(Preset::Text("kong"))
                    .custom(is_shared_memory)],
            ),
            record("kong", "", &[]),
            record(
                "redis",
                "",
                &[
                    typical::host("host"),
                    typical::port("port").or(Preset::Integer(6379)),
                    typical::timeout_ms("timeout").or(Preset::Integer(2000)),
                    text(
                        "username",
                        "Username to use for Redis connections. If undefined, ACL authentication \
                         won't be performed. This requires Redis v6.0.0+. To be compatible with \
                         Redis v5.x.y, you can set it to `default`.",
                    )
                    .referenceable(),
                    text(
                        "password",
                        "Password to use for Redis connections. If undefined, no AUTH commands \
                         are sent to Redis.",
                    )
                    .referenceable()
                    .encrypted()
                    .len_min(0),
                    integer(
                        "database",
                        "Database to use for the Redis connection when using the `redis` strategy",
                    )
                    .or(Preset::Integer(0)),
                    boolean("ssl", "If set to true, uses SSL to connect to Redis.")
                        .optional()
                        .or(Preset::Flag(false)),
                    boolean(
                        "ssl_verify",
                        "If set to true, verifies the validity of the server SSL certificate. If \
                         setting this parameter, also configure `lua_ssl_trusted_certificate` in \
                         `kong.conf` to specify the CA (or server) certificate used by your Redis \
                         server. You may also need to configure `lua_ssl_verify_depth` \
                         accordingly.",
                    )
                    .optional()
                    .or(Preset::Flag(false)),
                    typical::sni("server_name").optional(),
                    record(
                        "extra_options",
                        "Custom ACME Redis options",
                        &[
                            text(
                                "namespace",
                                "A namespace to prepend to all keys stored in Redis.",
                            )
                            .required()
                            .or(Preset::Text(""))
                            .len_min(0)
                            .custom(is_free_namespace),
                            number(
                                "scan_count",
                                "The number of keys to return in Redis SCAN calls.",
                            )
                            .optional()
                            .or(Preset::Integer(10)),
                        ],
                    ),
                ],
            )
            .shorthands(&[
                Shorthand {
                    field: text("auth", "")
                        .deprecated(&Deprecation {
                            message: "acme: config.storage_config.redis.auth is deprecated, \
                                      please use config.storage_config.redis.password instead",
                            removal_in_version: "4.0",
                            old_default: None,
                            replaced_with: &[&["password"]],
                        })
                        .len_min(0),
                    expand: Expand::Into(&["password"]),
                },
                Shorthand {
                    field: text("ssl_server_name", "").deprecated(&Deprecation {
                        message: "acme: config.storage_config.redis.ssl_server_name is \
                                  deprecated, please use config.storage_config.redis.server_name \
                                  instead",
                        removal_in_version: "4.0",
                        old_default: None,
                        replaced_with: &[&["server_name"]],
                    }),
                    expand: Expand::Into(&["server_name"]),
                },
                Shorthand {
                    field: text("namespace", "")
                        .deprecated(&Deprecation {
                            message: "acme: config.storage_config.redis.namespace is deprecated, \
                                      please use \
                                      config.storage_config.redis.extra_options.namespace instead",
                            removal_in_version: "4.0",
                            old_default: None,
                            replaced_with: &[&["extra_options", "namespace"]],
                        })
                        .len_min(0),
                    expand: Expand::Into(&["extra_options", "namespace"]),
                },
                Shorthand {
                    field: integer("scan_count", "").deprecated(&Deprecation {
                        message: "acme: config.storage_config.redis.scan_count is deprecated, \
                                  please use config.storage_config.redis.extra_options.scan_count \
                                  instead",
                        removal_in_version: "4.0",
                        old_default: None,
                        replaced_with: &[&["extra_options", "scan_count"]],
                    }),
                    expand: Expand::Into(&["extra_options", "scan_count"]),
                },
            ]),
            record(
                "consul",
                "",
                &[
                    boolean("https", "Boolean representation of https.").or(Preset::Flag(false)),
                    typical::host("host"),
                    typical::port("port"),
                    text("kv_path", "KV prefix path."),
                    number("timeout", "Timeout in milliseconds."),
                    text("token", "Consul ACL token.").referenceable(),
                ],
            ),
            record(
                "vault",
                "",
                &[
                    boolean("https", "Boolean representation of https.").or(Preset::Flag(false)),
                    typical::host("host"),
                    typical::port("port"),
                    text("kv_path", "KV prefix path."),
                    number("timeout", "Timeout in milliseconds."),
                    text("token", "Consul ACL token.").referenceable(),
                    boolean("tls_verify", "Turn on TLS verification.").or(Preset::Flag(true)),
                    text("tls_server_name", "SNI used in request, default to host if omitted."),
                    text(
                        "auth_method",
                        "Auth Method, default to token, can be 'token' or 'kubernetes'.",
                    )
                    .or(Preset::Text("token"))
                    .one_of(&["token", "kubernetes"]),
                    text("auth_path", "Vault's authentication path to use."),
                    text("auth_role", "The role to try and assign."),
                    text("jwt_path", "The path to the JWT."),
                ],
            ),
        ],
    ),
    text(
        "preferred_chain",
        "A string value that specifies the preferred certificate chain to use when generating \
         certificates.",
    ),
    boolean(
        "enable_ipv4_common_name",
        "A boolean value that controls whether to include the IPv4 address in the common name \
         field of generated certificates.",
    )
    .or(Preset::Flag(true)),
];

const RULES: &[Rule] = &[
    Rule::Conditional {
        if_field: "config.api_uri",
        if_match: matching().one_of(&[
            "https://acme-v02.api.letsencrypt.org",
            "https://acme-staging-v02.api.letsencrypt.org",
        ]),
        then_field: "config.tos_accepted",
        then_match: matching().eq(Preset::Flag(true)),
        then_err: Some(
            "terms of service must be accepted, see https://letsencrypt.org/repository/",
        ),
    },
    Rule::Conditional {
        if_field: "config.storage",
        if_match: matching().eq(Preset::Text("redis")),
        then_field: "config.storage_config.redis.host",
        then_match: matching().required(),
        then_err: None,
    },
    Rule::Conditional {
        if_field: "config.storage",
        if_match: matching().eq(Preset::Text("redis")),
        then_field: "config.storage_config.redis.port",
        then_match: matching().required(),
        then_err: None,
    },
    Rule::Custom {
        fields: &["config.storage"],
        run_with_missing_fields: false,
        run_with_invalid_fields: false,
        check: fits_the_node,
    },
];

/// The areas of shared memory that Kong has: a name of another is refused, as there.
const SHARED_MEMORY: &[&str] = &[
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

fn is_shared_memory(name: &Value) -> Result<(), String> {
    let name = name.as_text().unwrap_or_default();
    if SHARED_MEMORY.contains(&name) {
        return Ok(());
    }
    Err(format!("failed validating: {name}"))
}

const RESERVED: &[&str] =
    &["kong_acme:renew_config:", "kong_acme:renew_last_run", "kong_acme:cert_key:"];

fn is_free_namespace(namespace: &Value) -> Result<(), String> {
    let namespace = namespace.as_text().unwrap_or_default();
    match RESERVED.iter().find(|word| namespace.starts_with(**word)) {
        Some(word) => Err(format!("namespace can't be prefixed with reserved word: {word}")),
        None => Ok(()),
    }
}

/// Which storage fits depends on the node alone (`kong` needs a database): the declarative loader
/// looks at it, and no control plane is built.
fn fits_the_node(_row: &Value) -> Result<(), String> {
    Ok(())
}

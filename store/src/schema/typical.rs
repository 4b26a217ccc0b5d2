//! Fields that many entities and plugins share (Kong: `typedefs.lua`).
//!
//! Descriptions are Kong's: `/schemas` prints them.

use super::{Field, Preset, array, boolean, foreign, integer, map, number, record, set, text};
use crate::check::{formats, lua};

/// Every protocol.
pub const ALL_PROTOCOLS: &[&str] =
    &["grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp"];
/// The protocols of the HTTP road.
pub const HTTP_PROTOCOLS: &[&str] = &["grpc", "grpcs", "http", "https"];
const HTTP_PRESET: Preset = Preset::List(&[
    Preset::Text("grpc"),
    Preset::Text("grpcs"),
    Preset::Text("http"),
    Preset::Text("https"),
]);

/// The primary key.
pub const ID: Field =
    text("id", "A string representing a UUID (universally unique identifier).").uuid().auto();
/// When the row was made.
pub const CREATED_AT: Field =
    integer("created_at", "An integer representing an automatic Unix timestamp in seconds.")
        .timestamp()
        .auto();
/// When the row was last written.
pub const UPDATED_AT: Field = CREATED_AT.named("updated_at");
/// When the row was made, with milliseconds.
pub const CREATED_AT_MS: Field =
    number("created_at", "A number representing an automatic Unix timestamp in milliseconds.")
        .timestamp()
        .auto();
/// When the row was last written, with milliseconds.
pub const UPDATED_AT_MS: Field = CREATED_AT_MS.named("updated_at");

/// One protocol.
pub const PROTOCOL: Field =
    text("protocol", "A string representing a protocol, such as HTTP or HTTPS.")
        .one_of(ALL_PROTOCOLS);
/// The protocols of a plugin that also knows streams.
pub const PROTOCOLS: Field =
    set("protocols", "A set of strings representing protocols.", &PROTOCOL)
        .or(HTTP_PRESET)
        .required();
/// The protocols of a plugin for HTTP alone.
pub const PROTOCOLS_HTTP: Field =
    set("protocols", "A set of strings representing HTTP protocols.", {
        const ELEMENT: Field = text("", "").one_of(HTTP_PROTOCOLS);
        &ELEMENT
    })
    .or(HTTP_PRESET)
    .required();

/// A plugin that cannot be set on a consumer.
pub const NO_CONSUMER: Field = foreign(
    "consumer",
    "consumers",
    "Custom type for representing a foreign key with a null value allowed.",
)
.null();
/// A plugin that cannot be set on a route.
pub const NO_ROUTE: Field =
    foreign("route", "routes", "A reference to the 'routes' table with a null value allowed.")
        .null();
/// A plugin that cannot be set on a service.
pub const NO_SERVICE: Field = foreign(
    "service",
    "services",
    "A reference to the 'services' table with a null value allowed.",
)
.null();

/// A set of tags.
pub const TAGS: Field = set("tags", "A set of strings representing tags.", &TAG);
/// One tag.
pub const TAG: Field = text("", "A string representing a tag.").required().custom(formats::tag);

/// An element of a list of ids.
pub const UUID_ELEMENT: Field = text("", "").uuid();
/// An element of a list of strings.
pub const TEXT_ELEMENT: Field = text("", "");
/// The values of a map of headers to lists of values.
pub const HEADERS_VALUES: Field = super::array("", "", &TEXT_ELEMENT);
const HEADER_NAME: Field = header_name("");

/// One protocol.
pub const fn protocol(name: &'static str) -> Field {
    PROTOCOL.named(name)
}

/// A unique name of any characters but ASCII punctuation.
pub const fn utf8_name(name: &'static str) -> Field {
    text(name, "A unique string representing a UTF-8 encoded name.")
        .unique()
        .custom(formats::utf8_name)
}

/// A unique name of unreserved ASCII characters.
pub const fn name(name: &'static str) -> Field {
    text(name, "A unique string representing a name.").unique().custom(formats::name)
}

/// A host name or address.
pub const fn host(name: &'static str) -> Field {
    text(name, "A string representing a host name, such as example.com.").custom(formats::host)
}

/// A host name or address, perhaps with a port.
pub const fn host_with_optional_port(name: &'static str) -> Field {
    text(
        name,
        "A string representing a host name with an optional port number, such as example.com or \
         example.com:8080.",
    )
    .custom(formats::host_with_optional_port)
}

/// A server name that may have a star.
pub const fn wildcard_host(name: &'static str) -> Field {
    text(name, "A string representing a wildcard host name, such as *.example.com.")
        .custom(formats::wildcard_host)
}

/// A server name.
pub const fn sni(name: &'static str) -> Field {
    text(name, "A string representing an SNI (server name indication) value for TLS.")
        .custom(formats::sni)
}

/// An address.
pub const fn ip(name: &'static str) -> Field {
    text(name, "A string representing an IP address, such as 192.168.1.1.").custom(formats::ip)
}

/// An address or a block of addresses.
pub const fn ip_or_cidr(name: &'static str) -> Field {
    text(
        name,
        "A string representing an IP address or CIDR block, such as 192.168.1.1 or 192.168.0.0/16.",
    )
    .custom(formats::ip_or_cidr)
}

/// A port.
pub const fn port(name: &'static str) -> Field {
    integer(name, "An integer representing a port number between 0 and 65535, inclusive.")
        .between(0, 65_535)
}

/// A path for requests.
pub const fn path(name: &'static str) -> Field {
    text(
        name,
        "A string representing a URL path, such as /path/to/resource. Must start with a forward \
         slash (/) and must not contain empty segments (i.e., two consecutive forward slashes).",
    )
    .starts_with("/")
    .match_none(&[("//", "must not have empty segments")])
    .custom(formats::path)
}

/// A URL.
pub const fn url(name: &'static str) -> Field {
    text(
        name,
        "A string representing a URL, such as https://example.com/path/to/resource?q=search.",
    )
    .custom(formats::url)
}

/// The name of a header.
pub const fn header_name(name: &'static str) -> Field {
    text(name, "A string representing an HTTP header name.").custom(formats::header_name)
}

/// The name of a cookie.
pub const fn cookie_name(name: &'static str) -> Field {
    text(name, "A string representing an HTTP token defined by RFC 2616.")
        .custom(formats::cookie_name)
}

/// Headers and their values.
pub const fn headers(name: &'static str) -> Field {
    map(name, "A map of header names to arrays of header values.", &HEADER_NAME, &HEADERS_VALUES)
}

/// Milliseconds.
pub const fn timeout_ms(name: &'static str) -> Field {
    integer(
        name,
        "An integer representing a timeout in milliseconds. Must be between 0 and 2^31-2.",
    )
    .between(0, (1 << 31) - 2)
}

/// Names of log fields and the Lua code that fills them. The code must parse.
pub const fn lua_code(name: &'static str) -> Field {
    map(name, "Lua code as a key-value map", &LUA_NAME, &LUA_CODE)
}

const LUA_NAME: Field = text("", "").len_min(1);
const LUA_CODE: Field = text("", "").len_min(1).custom(lua::expression);

/// A connection to Redis.
pub const fn redis(name: &'static str) -> Field {
    record(name, "Redis configuration", REDIS)
}

/// The fields of [`redis`].
pub const REDIS: &[Field] = &[
    host("host"),
    port("port").or(Preset::Integer(6379)),
    timeout_ms("timeout").or(Preset::Integer(2000)),
    text(
        "username",
        "Username to use for Redis connections. If undefined, ACL authentication won't be \
         performed. This requires Redis v6.0.0+. To be compatible with Redis v5.x.y, you can set \
         it to `default`.",
    )
    .referenceable(),
    text(
        "password",
        "Password to use for Redis connections. If undefined, no AUTH commands are sent to Redis.",
    )
    .referenceable()
    .encrypted()
    .len_min(0),
    integer("database", "Database to use for the Redis connection when using the `redis` strategy")
        .or(Preset::Integer(0)),
    boolean("ssl", "If set to true, uses SSL to connect to Redis.")
        .or(Preset::Flag(false))
        .optional(),
    boolean(
        "ssl_verify",
        "If set to true, verifies the validity of the server SSL certificate. If setting this \
         parameter, also configure `lua_ssl_trusted_certificate` in `kong.conf` to specify the CA \
         (or server) certificate used by your Redis server. You may also need to configure \
         `lua_ssl_verify_depth` accordingly.",
    )
    .or(Preset::Flag(false))
    .optional(),
    sni("server_name").optional(),
];

/// Which headers carry a trace's context, in and out.
pub const fn propagation(name: &'static str) -> Field {
    record(name, "", PROPAGATION)
}

const PROPAGATION: &[Field] = &[
    array(
        "extract",
        "Header formats used to extract tracing context from incoming requests. If multiple \
         values are specified, the first one found will be used for extraction. If left empty, \
         Kong will not extract any tracing context information from incoming requests and \
         generate a trace with no parent and a new trace ID.",
        &text("", "").one_of(&["b3", "gcp", "jaeger", "aws", "ot", "w3c", "datadog"]),
    ),
    array(
        "clear",
        "Header names to clear after context extraction. This allows to extract the context from \
         a certain header and then remove it from the request, useful when extraction and \
         injection are performed on different header formats and the original header should not \
         be sent to the upstream. If left empty, no headers are cleared.",
        &text("", "").custom(formats::header_name),
    ),
    array(
        "inject",
        "Header formats used to inject tracing context. The value `preserve` will use the same \
         header format as the incoming request. If multiple values are specified, all of them \
         will be used during injection. If left empty, Kong will not inject any tracing context \
         information in outgoing requests.",
        &text("", "").one_of(&[
            "preserve",
            "b3",
            "gcp",
            "b3-single",
            "jaeger",
            "aws",
            "ot",
            "w3c",
            "datadog",
        ]),
    ),
    text(
        "default_format",
        "The default header format to use when extractors did not match any format in the \
         incoming headers and `inject` is configured with the value: `preserve`. This can happen \
         when no tracing header was found in the request, or the incoming tracing header formats \
         were not included in `extract`.",
    )
    .required()
    .one_of(&["b3", "gcp", "b3-single", "jaeger", "aws", "ot", "w3c", "datadog"]),
];

/// How a log plugin batches and retries (Kong: `kong/tools/queue_schema.lua`).
pub const fn queue(name: &'static str) -> Field {
    record(name, "", QUEUE)
}

const QUEUE: &[Field] = &[
    integer("max_batch_size", "Maximum number of entries that can be processed at a time.")
        .or(Preset::Integer(1))
        .between(1, 1_000_000),
    number(
        "max_coalescing_delay",
        "Maximum number of (fractional) seconds to elapse after the first entry was queued before \
         the queue starts calling the handler.",
    )
    .or(Preset::Integer(1))
    .between(0, 3600),
    integer("max_entries", "Maximum number of entries that can be waiting on the queue.")
        .or(Preset::Integer(10_000))
        .between(1, 1_000_000),
    integer(
        "max_bytes",
        "Maximum number of bytes that can be waiting on a queue, requires string content.",
    ),
    number(
        "max_retry_time",
        "Time in seconds before the queue gives up calling a failed handler for a batch.",
    )
    .or(Preset::Integer(60)),
    number(
        "initial_retry_delay",
        "Time in seconds before the initial retry is made for a failing batch.",
    )
    .or(Preset::Number(0.01))
    .between_numbers(0.001, 1_000_000.0),
    number("max_retry_delay", "Maximum time in seconds between retries, caps exponential backoff.")
        .or(Preset::Integer(60))
        .between_numbers(0.001, 1_000_000.0),
    integer("concurrency_limit", "The number of of queue delivery timers. -1 indicates unlimited.")
        .or(Preset::Integer(1))
        .one_of_integers(&[-1, 1]),
];

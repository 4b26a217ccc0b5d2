//! A Route: which requests go to a Service.
//!
//! Source: Kong `kong/db/schema/entities/{routes,routes_subschemas}.lua`.

use crate::check::{expression, formats};
use crate::schema::typical::{
    CREATED_AT, HEADERS_VALUES, ID, PROTOCOL, TAGS, UPDATED_AT, header_name, ip_or_cidr, port,
    utf8_name, wildcard_host,
};
use crate::schema::{
    Entity, Field, Otherwise, Preset, Rule, Variant, Variants, array, boolean, foreign, integer,
    map, matching, record, set, text,
};
use crate::value::Value;

const PEER: Field =
    record("", "", &[ip_or_cidr("ip"), port("port")]).rules(&[Rule::AtLeastOneOf(&["ip", "port"])]);
const METHOD: Field = text(
    "",
    "A string representing an HTTP method, such as GET, POST, PUT, or DELETE. The string must \
     contain only uppercase letters.",
)
.matches("^%u+$");
const HOST: Field = text("", "")
    .match_all(&[("^[^*]*%*?[^*]*$", "invalid wildcard: must have at most one wildcard")])
    .match_any(
        &["^%*%.", "%.%*$", "^[^*]*$"],
        "invalid wildcard: must be placed at leftmost or rightmost label",
    )
    .custom(formats::route_host);
const PATH: Field = text(
    "",
    "A string representing a router path. It must start with a forward slash ('/') for a fixed \
     path, or the sequence '~/' for a regex path. It must not have empty segments.",
)
.match_any(&["^/", "^~/"], "should start with: / (fixed path) or ~/ (regex path)")
.match_none(&[("//", "must not have empty segments")])
.custom(formats::route_path);
const HEADER: Field = header_name("").match_none(&[(
    "^[Hh][Oo][Ss][Tt]$",
    "cannot contain 'host' header, which must be specified in the 'hosts' attribute",
)]);
const SNI: Field = wildcard_host("");

const SOURCES: Field = set(
    "sources",
    "A set of sources, each of which is a record with at least one of 'ip' or 'port'.",
    &PEER,
);
const DESTINATIONS: Field = set(
    "destinations",
    "A set of destinations, each of which is a record with at least one of 'ip' or 'port'.",
    &PEER,
);
const METHODS: Field = set(
    "methods",
    "A set of strings representing HTTP methods. Each method must be a valid HTTP method.",
    &METHOD,
);
const HOSTS: Field = array(
    "hosts",
    "An array of strings representing hosts. A valid host is a string containing one or more \
     labels separated by periods, with at most one wildcard label ('*')",
    &HOST,
);
const PATHS: Field = array("paths", "An array of strings representing router paths.", &PATH);
const HEADERS: Field =
    map("headers", "A map of header names to arrays of header values.", &HEADER, &HEADERS_VALUES);
const STRIP_PATH: Field = boolean(
    "strip_path",
    "When matching a Route via one of the paths, strip the matching prefix from the upstream \
     request URL.",
)
.required();

const FIELDS: [Field; FIELDS_COUNT] = [
    ID,
    CREATED_AT,
    UPDATED_AT,
    utf8_name("name"),
    set("protocols", "An array of the protocols this Route should allow.", &PROTOCOL)
        .len_min(1)
        .required()
        .exclusive_subsets(&[
            &["http", "https"],
            &["tcp", "tls", "udp"],
            &["tls_passthrough"],
            &["grpc", "grpcs"],
        ])
        .or(Preset::List(&[Preset::Text("http"), Preset::Text("https")])),
    integer(
        "https_redirect_status_code",
        "The status code Kong responds with when all properties of a Route match except the \
         protocol",
    )
    .one_of_integers(&[426, 301, 302, 307, 308])
    .or(Preset::Integer(426))
    .required(),
    STRIP_PATH.or(Preset::Flag(true)),
    boolean(
        "preserve_host",
        "When matching a Route via one of the hosts domain names, use the request Host header \
         in the upstream request headers.",
    )
    .or(Preset::Flag(false))
    .required(),
    boolean("request_buffering", "Whether to enable request body buffering or not. With HTTP 1.1.")
        .or(Preset::Flag(true))
        .required(),
    boolean("response_buffering", "Whether to enable response body buffering or not.")
        .or(Preset::Flag(true))
        .required(),
    TAGS,
    foreign(
        "service",
        "services",
        "The Service this Route is associated to. This is where the Route proxies traffic to.",
    ),
    set("snis", "A list of SNIs that match this Route.", &SNI),
    SOURCES,
    DESTINATIONS,
    METHODS,
    HOSTS,
    PATHS,
    HEADERS,
    integer(
        "regex_priority",
        "A number used to choose which route resolves a given request when several routes \
         match it using regexes simultaneously.",
    )
    .or(Preset::Integer(0)),
    text(
        "path_handling",
        "Controls how the Service path, Route path and requested path are combined when \
         sending a request to the upstream.",
    )
    .or(Preset::Text("v0"))
    .one_of(&["v0", "v1"]),
];
const FIELDS_COUNT: usize = 21;

const SNIS_NEED_TLS: Rule = Rule::Conditional {
    if_field: "protocols",
    if_match: matching().elements(&WITHOUT_SNI),
    then_field: "snis",
    then_match: matching().len_eq(0),
    then_err: Some(
        "'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or \
                 'tls_passthrough'",
    ),
};
const OLD_PATHS: Rule = Rule::Custom {
    fields: &["path_handling"],
    run_with_missing_fields: false,
    run_with_invalid_fields: false,
    check: path_handling,
};
/// Kong's one check of the whole route; `check` differs between the flavours.
const fn whole(check: crate::schema::Judge) -> Rule {
    Rule::Custom {
        fields: &[
            "id",
            "protocols",
            "snis",
            "sources",
            "destinations",
            "methods",
            "hosts",
            "paths",
            "headers",
            "expression",
            "regex_priority",
            "priority",
        ],
        run_with_missing_fields: true,
        run_with_invalid_fields: false,
        check,
    }
}

/// The entity.
pub static ROUTES: Entity = Entity {
    name: "routes",
    endpoint_key: Some("name"),
    fields: &FIELDS,
    rules: &[SNIS_NEED_TLS, OLD_PATHS, whole(header_patterns)],
    variants: Variants::Of {
        key: "protocols",
        unknown: "unknown type: %s",
        list: &[HTTP, STREAM, GRPC],
    },
    ..Entity::EMPTY
};

const PRIORITY_MAX: i64 = (1 << 46) - 1;

const fn with_expression() -> [Field; FIELDS_COUNT + 2] {
    let expression = text(
        "expression",
        "Use Router Expression to perform route match. This \
        option is only available when `router_flavor` is set to `expressions`.",
    );
    let priority = integer(
        "priority",
        "A number used to specify the matching order for \
        expression routes. The higher the `priority`, the sooner an route will be evaluated. \
        This field is ignored unless `expression` field is set.",
    )
    .between(0, PRIORITY_MAX)
    .required()
    .or(Preset::Integer(0));
    let mut all = [expression; FIELDS_COUNT + 2];
    let mut at = 0;
    while at < FIELDS_COUNT {
        all[at] = FIELDS[at];
        at += 1;
    }
    all[FIELDS_COUNT + 1] = priority;
    all
}

/// The entity with `router_flavor = expressions`.
pub static ROUTES_BY_EXPRESSION: Entity = Entity {
    name: "routes",
    endpoint_key: Some("name"),
    fields: &with_expression(),
    rules: &[SNIS_NEED_TLS, OLD_PATHS, whole(expression_or_header_patterns)],
    variants: Variants::Of {
        key: "protocols",
        unknown: "unknown type: %s",
        list: &[HTTP_BY_EXPRESSION, STREAM_BY_EXPRESSION, GRPC_BY_EXPRESSION],
    },
    ..Entity::EMPTY
};

const WITHOUT_SNI: Field = text("", "").not_one_of(&["grpcs", "https", "tls", "tls_passthrough"]);

const NOT_HTTP_SOURCES: &str = "cannot set 'sources' when 'protocols' is 'http' or 'https'";
const NOT_HTTP_DESTINATIONS: &str =
    "cannot set 'destinations' when 'protocols' is 'http' or 'https'";

/// HTTP routes: their own fields, and what one of must be set for `https` and for `http`.
macro_rules! http {
    ($fields:expr, $https:expr, $http:expr) => {
        Variant {
            keys: &["http", "https"],
            fields: $fields,
            rules: &[Rule::ConditionalAtLeastOneOf {
                if_field: "protocols",
                if_match: matching().contains("https"),
                then_at_least_one_of: $https,
                then_err: Some("must set one of %s when 'protocols' is 'https'"),
                otherwise: Some(Otherwise {
                    matching: matching().contains("http"),
                    at_least_one_of: $http,
                    err: Some("must set one of %s when 'protocols' is 'http'"),
                }),
            }],
        }
    };
}

const HTTP: Variant = http!(
    &[SOURCES.null().fault(NOT_HTTP_SOURCES), DESTINATIONS.null().fault(NOT_HTTP_DESTINATIONS),],
    &["methods", "hosts", "headers", "paths", "snis"],
    &["methods", "hosts", "headers", "paths"]
);
const HTTP_BY_EXPRESSION: Variant = http!(
    &[],
    &["methods", "hosts", "headers", "paths", "snis", "expression"],
    &["methods", "hosts", "headers", "paths", "expression"]
);

const NOT_STREAM_METHODS: &str =
    "cannot set 'methods' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'";
const NOT_STREAM_HOSTS: &str =
    "cannot set 'hosts' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'";
const NOT_STREAM_PATHS: &str =
    "cannot set 'paths' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'";
const NOT_STREAM_HEADERS: &str =
    "cannot set 'headers' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'";
const OPEN_STREAM: Field = text("", "").one_of(&["tcp", "tls", "udp"]);
const PASSTHROUGH: Field = text("", "").one_of(&["tls_passthrough"]);

/// Stream routes: what one of must be set for open protocols and for `tls_passthrough`.
macro_rules! stream {
    ($open:expr, $passed:expr) => {
        Variant {
            keys: &["tcp", "tls", "udp", "tls_passthrough"],
            fields: &[
                METHODS.null().fault(NOT_STREAM_METHODS),
                HOSTS.null().fault(NOT_STREAM_HOSTS),
                PATHS.null().fault(NOT_STREAM_PATHS),
                HEADERS.null().fault(NOT_STREAM_HEADERS),
            ],
            rules: &[
                Rule::ConditionalAtLeastOneOf {
                    if_field: "protocols",
                    if_match: matching().elements(&OPEN_STREAM),
                    then_at_least_one_of: $open,
                    then_err: Some("must set one of %s when 'protocols' is 'tcp', 'tls' or 'udp'"),
                    otherwise: None,
                },
                Rule::ConditionalAtLeastOneOf {
                    if_field: "protocols",
                    if_match: matching().elements(&PASSTHROUGH),
                    then_at_least_one_of: $passed,
                    then_err: Some("must set snis when 'protocols' is 'tls_passthrough'"),
                    otherwise: None,
                },
            ],
        }
    };
}

const STREAM: Variant = stream!(&["sources", "destinations", "snis"], &["snis"]);
const STREAM_BY_EXPRESSION: Variant =
    stream!(&["sources", "destinations", "snis", "expression"], &["snis", "expression"]);

/// gRPC routes: what one of must be set for `grpcs` and for `grpc`.
macro_rules! grpc {
    ($grpcs:expr, $grpc:expr) => {
        Variant {
            keys: &["grpc", "grpcs"],
            fields: &[
                STRIP_PATH
                    .or(Preset::Flag(false))
                    .ne(Preset::Flag(true))
                    .fault("cannot set 'strip_path' when 'protocols' is 'grpc' or 'grpcs'"),
                METHODS.null().fault("cannot set 'methods' when 'protocols' is 'grpc' or 'grpcs'"),
                SOURCES.null().fault("cannot set 'sources' when 'protocols' is 'grpc' or 'grpcs'"),
                DESTINATIONS
                    .null()
                    .fault("cannot set 'destinations' when 'protocols' is 'grpc' or 'grpcs'"),
            ],
            rules: &[Rule::ConditionalAtLeastOneOf {
                if_field: "protocols",
                if_match: matching().contains("grpcs"),
                then_at_least_one_of: $grpcs,
                then_err: Some("must set one of %s when 'protocols' is 'grpcs'"),
                otherwise: Some(Otherwise {
                    matching: matching().contains("grpc"),
                    at_least_one_of: $grpc,
                    err: Some("must set one of %s when 'protocols' is 'grpc'"),
                }),
            }],
        }
    };
}

const GRPC: Variant = grpc!(&["hosts", "headers", "paths", "snis"], &["hosts", "headers", "paths"]);
const GRPC_BY_EXPRESSION: Variant = grpc!(
    &["hosts", "headers", "paths", "snis", "expression"],
    &["hosts", "headers", "paths", "expression"]
);

/// The old way of joining paths is taken and told; the router of this flavour does not know it.
fn path_handling(route: &Value) -> Result<(), String> {
    if route.get("path_handling").as_text() == Some("v1") {
        log::warn!(
            "path_handling='v1' is deprecated and will not work under 'expressions' or \
             'traditional_compatible' router_flavor, please use path_handling='v0' instead"
        );
    }
    Ok(())
}

/// A header's only value that begins with `~*` is a regular expression, which must compile.
fn header_patterns(route: &Value) -> Result<(), String> {
    for (_, values) in route.get("headers").pairs() {
        if let [Value::Text(only)] = values.items()
            && let Some(pattern) = only.strip_prefix("~*")
            && let Err(why) = formats::regex(pattern)
        {
            return Err(format!("Router Expression failed validation: {why}"));
        }
    }
    Ok(())
}

fn expression_or_header_patterns(route: &Value) -> Result<(), String> {
    expression::route(route)?;
    header_patterns(route)
}

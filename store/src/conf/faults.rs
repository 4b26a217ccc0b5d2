//! What is wrong between settings, in Kong's words.
//!
//! Source: Kong `kong/conf_loader/parse.lua`, `check_and_parse`. What needs a file (whether a
//! certificate can be read) is found where the file is read.

use std::net::IpAddr;

use ipnet::IpNet;

use super::listen::{self, Subsystem};
use super::{Settings, nginx};

/// The `*_listen` settings and what they may say.
pub(super) const LISTENERS: &[(&str, Subsystem)] = &[
    ("proxy_listen", Subsystem::Http),
    ("stream_listen", Subsystem::Stream),
    ("admin_listen", Subsystem::Http),
    ("admin_gui_listen", Subsystem::Http),
    ("status_listen", Subsystem::Http),
    ("cluster_listen", Subsystem::Http),
];

/// Header names that `headers` knows, in lower case, with the words that `GET /` shows.
///
/// Source: Kong `kong/conf_loader/constants.lua`, `HEADER_KEY_TO_NAME`.
pub(super) const HEADERS: &[&str] = &[
    "server_tokens",
    "latency_tokens",
    "Server",
    "Via",
    "X-Kong-Proxy-Latency",
    "X-Kong-Response-Latency",
    "X-Kong-Admin-Latency",
    "X-Kong-Upstream-Latency",
    "X-Kong-Upstream-Status",
    "X-Kong-Request-Id",
];

const SUITES: &[&str] = &["modern", "intermediate", "old", "fips", "custom"];
const TRACED: &[&str] = &[
    "off",
    "all",
    "request",
    "db_query",
    "dns_query",
    "router",
    "http_client",
    "balancer",
    "plugin_rewrite",
    "plugin_access",
    "plugin_header_filter",
];

/// Everything that is wrong, in Kong's order.
pub(super) fn all(settings: &Settings) -> Vec<String> {
    let mut faults = Vec::new();
    port_maps(settings, &mut faults);
    certificates(settings, &mut faults);
    gui_path(settings, &mut faults);
    words(settings, &mut faults);
    addresses(settings, &mut faults);
    numbers(settings, &mut faults);
    role(settings, &mut faults);
    if settings.text("node_id").is_some_and(|id| uuid::Uuid::try_parse(id).is_err()) {
        faults.push("node_id must be a valid UUID".to_owned());
    }
    if settings.text("database") == Some("cassandra") {
        faults.push(
            "Cassandra as a datastore for Kong is not supported in versions 3.4 and above. \
             Please use Postgres."
                .to_owned(),
        );
    }
    for (name, subsystem) in LISTENERS {
        faults.extend(listen::parse(name, settings.list(name), *subsystem).err());
    }
    faults.extend(nginx::faults(settings));
    faults
}

/// Reads one item of `port_maps`: the port outside and the port here.
pub(super) fn port_map(item: &str) -> Option<(u16, u16)> {
    let (outside, here) = item.split_once(':')?;
    let (outside, here) = (outside.trim().parse().ok()?, here.trim().parse().ok()?);
    (outside > 0 && here > 0).then_some((outside, here))
}

fn port_maps(settings: &Settings, faults: &mut Vec<String>) {
    for item in settings.list("port_maps") {
        if port_map(item).is_none() {
            faults.push(format!("invalid port mapping (`port_maps`): {item}"));
        }
    }
}

fn certificates(settings: &Settings, faults: &mut Vec<String>) {
    let tls = |name: &str| {
        settings.list(name).iter().any(|item| item.split_whitespace().any(|word| word == "ssl"))
    };
    for (own, prefix) in
        [("proxy_", ""), ("admin_", "admin_"), ("admin_gui_", "admin_gui_"), ("status_", "status_")]
    {
        let on = tls(&format!("{own}listen")) || (own == "proxy_" && tls("stream_listen"));
        let certs = settings.list(&format!("{prefix}ssl_cert")).len();
        let keys = settings.list(&format!("{prefix}ssl_cert_key")).len();
        if !on || certs == keys {
            continue;
        }
        faults.push(if keys == 0 {
            format!("{prefix}ssl_cert_key must be specified")
        } else if certs == 0 {
            format!("{prefix}ssl_cert must be specified")
        } else {
            format!(
                "{prefix}ssl_cert was specified {certs} times while {prefix}ssl_cert_key was \
                 specified {keys} times"
            )
        });
    }
    if settings.flag("client_ssl") {
        match (settings.text("client_ssl_cert"), settings.text("client_ssl_cert_key")) {
            (Some(_), None) => faults.push("client_ssl_cert_key must be specified".to_owned()),
            (None, Some(_)) => faults.push("client_ssl_cert must be specified".to_owned()),
            _ => {}
        }
    }
}

fn gui_path(settings: &Settings, faults: &mut Vec<String>) {
    let Some(path) = settings.text("admin_gui_path") else { return };
    if !path.starts_with('/') {
        faults.push("admin_gui_path must start with a slash ('/')".to_owned());
    }
    if path.len() > 2 && path.starts_with('/') && path.ends_with('/') {
        faults.push("admin_gui_path must not end with a slash ('/')".to_owned());
    }
    if !path.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/')) {
        faults.push(
            "admin_gui_path can only contain letters, digits, hyphens ('-'), underscores ('_'), \
             and slashes ('/')"
                .to_owned(),
        );
    }
    if path.contains("//") {
        faults.push("admin_gui_path must not contain continuous slashes ('/')".to_owned());
    }
}

/// Settings whose items come from a closed set.
fn words(settings: &Settings, faults: &mut Vec<String>) {
    if let Some(suite) = settings.text("ssl_cipher_suite")
        && !SUITES.contains(&suite)
    {
        faults.push(format!("Undefined cipher suite {suite}"));
    }
    for item in settings.list("headers") {
        if item != "off" && !HEADERS.iter().any(|name| name.eq_ignore_ascii_case(item)) {
            faults.push(format!("headers: invalid entry '{item}'"));
        }
    }
    for item in settings.list("headers_upstream") {
        if item != "off" && !item.eq_ignore_ascii_case("x-kong-request-id") {
            faults.push(format!("headers_upstream: invalid entry '{item}'"));
        }
    }
    for item in settings.list("dns_order") {
        let known = ["LAST", "A", "AAAA", "CNAME", "SRV"];
        if !known.iter().any(|name| name.eq_ignore_ascii_case(item)) {
            faults.push(format!("dns_order: invalid entry '{item}'"));
        }
    }
    let traced = settings.list("tracing_instrumentations");
    for item in traced {
        if !TRACED.contains(&item.as_str()) {
            faults.push(format!("invalid tracing type: {item}"));
        }
    }
    if traced.len() > 1 && traced.iter().any(|item| item == "off") {
        faults.push("invalid tracing types: off, other types are mutually exclusive".to_owned());
    }
}

fn addresses(settings: &Settings, faults: &mut Vec<String>) {
    for server in settings.list("dns_resolver") {
        let (host, port) = match server.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
            _ => (server.as_str(), None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let sound =
            host.parse::<IpAddr>().is_ok() && port.is_none_or(|port| port.parse::<u16>().is_ok());
        if !sound {
            faults.push(format!(
                "dns_resolver must be a comma separated list in the form of IPv4/6 or \
                 IPv4/6:port, got '{server}'"
            ));
        }
    }
    for address in settings.list("trusted_ips") {
        let sound = address == "unix:"
            || address.parse::<IpAddr>().is_ok()
            || address.parse::<IpNet>().is_ok();
        if !sound {
            faults.push(format!(
                "trusted_ips must be a comma separated list in the form of IPv4 or IPv6 address \
                 or CIDR block or 'unix:', got '{address}'"
            ));
        }
    }
    if let Some(url) = settings.text("proxy_server") {
        faults.extend(proxy_server(url));
    }
}

fn proxy_server(url: &str) -> Option<String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Some("proxy_server missing scheme".to_owned());
    };
    if scheme != "http" && scheme != "https" {
        return Some(format!("proxy_server only supports \"http\" and \"https\", got {scheme}"));
    }
    if rest.is_empty() || rest.starts_with('/') {
        return Some("proxy_server missing host".to_owned());
    }
    rest.contains(['?', '#', ';']).then(|| {
        "fragments, query strings or parameters are meaningless in proxy configuration".to_owned()
    })
}

fn numbers(settings: &Settings, faults: &mut Vec<String>) {
    let mut refuse = |name: &str, wrong: fn(f64) -> bool, rule: &str| {
        if settings.number(name).is_some_and(wrong) {
            faults.push(format!("{name} must be {rule}"));
        }
    };
    for own in
        ["max_concurrent_queries", "semaphore_timeout", "keepalive_timeout", "pool_size", "backlog"]
    {
        for name in [format!("pg_{own}"), format!("pg_ro_{own}")] {
            refuse(&name, |n| n < 0.0, "greater than 0");
            refuse(&name, |n| n.fract() != 0.0, "an integer greater than 0");
        }
    }
    refuse("worker_state_update_frequency", |n| n <= 0.0, "greater than 0");
    refuse("cluster_data_plane_purge_delay", |n| n < 60.0, "60 or greater");
    refuse("cluster_max_payload", |n| n < 4_194_304.0, "4194304 (4MB) or greater");
    for name in [
        "upstream_keepalive_pool_size",
        "upstream_keepalive_max_requests",
        "upstream_keepalive_idle_timeout",
    ] {
        refuse(name, |n| n < 0.0, "0 or greater");
    }
    refuse("tracing_sampling_rate", |n| !(0.0..=1.0).contains(&n), "between 0 and 1");
    for name in
        ["lua_max_req_headers", "lua_max_resp_headers", "lua_max_uri_args", "lua_max_post_args"]
    {
        let outside = |n: f64| !(1.0..=1000.0).contains(&n) || n.fract() != 0.0;
        refuse(name, outside, "an integer between 1 and 1000");
    }
}

fn role(settings: &Settings, faults: &mut Vec<String>) {
    let role = settings.text("role").unwrap_or_default();
    let off = |name: &str| settings.list(name).first().is_none_or(|first| first == "off");
    let memory = settings.text("database") == Some("off");
    let labels = !settings.list("cluster_dp_labels").is_empty();
    let mut say = |wrong: bool, words: &str| {
        if wrong {
            faults.push(words.to_owned());
        }
    };
    let hybrid = role == "control_plane" || role == "data_plane";
    let pair =
        settings.text("cluster_cert").is_some() && settings.text("cluster_cert_key").is_some();
    say(hybrid && !pair, "cluster certificate and key must be provided to use Hybrid mode");
    if role == "control_plane" {
        say(off("admin_listen"), "admin_listen must be specified when role = \"control_plane\"");
        let unsigned = settings.text("cluster_mtls") == Some("pki")
            && settings.text("cluster_ca_cert").is_none();
        say(unsigned, "cluster_ca_cert must be specified when cluster_mtls = \"pki\"");
        say(
            off("cluster_listen"),
            "cluster_listen must be specified when role = \"control_plane\"",
        );
        say(memory, "in-memory storage can not be used when role = \"control_plane\"");
        let proxied = settings.flag("cluster_use_proxy");
        say(proxied, "cluster_use_proxy can not be used when role = \"control_plane\"");
        say(labels, "cluster_dp_labels can not be used when role = \"control_plane\"");
    } else if role == "data_plane" {
        say(off("proxy_listen"), "proxy_listen must be specified when role = \"data_plane\"");
        say(
            !memory,
            "only in-memory storage can be used when role = \"data_plane\"\n\
             Hint: set database = off in your kong.conf",
        );
        let proxyless =
            settings.flag("cluster_use_proxy") && settings.text("proxy_server").is_none();
        say(proxyless, "cluster_use_proxy is turned on but no proxy_server is configured");
    } else {
        say(labels, "cluster_dp_labels can only be used when role = \"data_plane\"");
    }
}

//! Every setting of `kong.conf`, as one table: name, kind, default, meaning, and whether this
//! program acts on it.
//!
//! Source: Kong `kong/templates/kong_defaults.lua` and `kong/conf_loader/constants.lua`.
//! Deliberate differences: `plugins` includes moesif, `database` may be unset or `sqlite`,
//! `admin_gui_listen` is off.

use Kind::{Choice, Flag, List, Number, Switch, Text};

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Its name in `kong.conf`; the environment has it in capitals after `KONG_`.
    pub name: &'static str,
    /// How its text is read.
    pub kind: Kind,
    /// The text it has when nobody gives one; empty is unset.
    pub default: &'static str,
    /// One sentence for people.
    pub about: &'static str,
    /// Whether this program acts on it.
    pub standing: Standing,
    /// Whether its value must never be shown.
    pub secret: bool,
    /// Settings that take this one's value when it is given and they are not.
    pub also: &'static [&'static str],
}

/// How the text of a setting is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As it stands.
    Text,
    /// A decimal number.
    Number,
    /// `on` and `true` are true, everything else is false.
    Flag,
    /// nginx's own boolean: the text `on` or `off`.
    Switch,
    /// Items between commas.
    List,
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// Whether this program acts on a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Built,
    /// Not yet; giving it is said in one line at start.
    Later,
    /// There is nothing to do: it tunes a part of Kong that does not exist here.
    Moot,
}

impl Setting {
    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    const fn also(mut self, names: &'static [&'static str]) -> Self {
        self.also = names;
        self
    }
}

const fn row(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
    standing: Standing,
) -> Setting {
    Setting { name, kind, default, about, standing, secret: false, also: &[] }
}

const fn built(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
) -> Setting {
    row(name, kind, default, about, Standing::Built)
}

const fn later(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
) -> Setting {
    row(name, kind, default, about, Standing::Later)
}

const fn moot(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
) -> Setting {
    row(name, kind, default, about, Standing::Moot)
}

const LEVELS: &[&str] = &["debug", "info", "notice", "warn", "error", "crit", "alert", "emerg"];
const ERROR_TYPES: &[&str] = &["application/json", "application/xml", "text/html", "text/plain"];
const FLAVORS: &[&str] = &["traditional", "traditional_compatible", "expressions"];

/// Every setting, in the order of Kong's own documentation.
#[rustfmt::skip]
pub static TABLE: &[Setting] = &[
    built("prefix", Text, "/usr/local/kong/",
        "Working directory: logs, pid file, certificates, the embedded database."),
    built("log_level", Choice(LEVELS), "notice", "The least grave log lines that are written."),
    built("proxy_access_log", Text, "logs/access.log",
        "Where one line for every request goes: a path, /dev/stdout, /dev/stderr or off. \
        The word json behind it makes every line a JSON object."),
    built("proxy_error_log", Text, "logs/error.log",
        "Where this program's own log lines go: a path, /dev/stdout or /dev/stderr."),
    later("proxy_stream_access_log", Text, "logs/access.log basic", "Access log of streams."),
    later("proxy_stream_error_log", Text, "logs/error.log", "Error log of streams."),
    built("admin_access_log", Text, "logs/admin_access.log",
        "Where one line for every Admin API call goes, or off."),
    built("admin_error_log", Text, "logs/error.log", "Where the Admin API's log lines go."),
    later("admin_gui_access_log", Text, "logs/admin_gui_access.log", "Access log of Kong Manager."),
    later("admin_gui_error_log", Text, "logs/admin_gui_error.log", "Error log of Kong Manager."),
    built("status_access_log", Text, "off", "Where one line for every status call goes, or off."),
    built("status_error_log", Text, "logs/status_error.log",
        "Where the status listener's log lines go."),
    built("vaults", List, "bundled", "Vaults that may be used; env is built."),
    built("plugins", List, "bundled,moesif", "Plugins that may be used: bundled, off, names."),
    built("port_maps", List, "", "Pairs host:container for X-Forwarded-Port and routing."),
    moot("host_ports", Text, "", "Made from port_maps."),
    moot("anonymous_reports", Flag, "on", "Reports to Kong Inc.; Tollgate sends none."),
    later("proxy_server", Text, "", "Forward proxy for hybrid/remote calls.").secret(),
    later("proxy_server_ssl_verify", Flag, "on",
        "Whether the certificate of proxy_server is checked."),
    later("error_template_html", Text, "", "File with the HTML error page, with two %s."),
    later("error_template_json", Text, "", "File with the JSON error body."),
    later("error_template_xml", Text, "", "File with the XML error body."),
    later("error_template_plain", Text, "", "File with the plain error body."),
    built("node_id", Text, "", "This node's UUID; unset: made once and kept under the prefix."),
    built("proxy_listen",
        List,
        "0.0.0.0:8000 reuseport backlog=16384, 0.0.0.0:8443 http2 ssl reuseport backlog=16384",
        "HTTP(S) proxy addresses."),
    later("stream_listen", List, "off", "L4 addresses."),
    built("admin_listen",
        List,
        "127.0.0.1:8001 reuseport backlog=16384, 127.0.0.1:8444 http2 ssl reuseport backlog=16384",
        "Admin API addresses."),
    later("admin_gui_listen", List, "off",
        "Addresses of Kong Manager, which is not built: off by default."),
    built("status_listen", List, "127.0.0.1:8007 reuseport backlog=16384", "Status API addresses."),
    later("cluster_listen", List, "0.0.0.0:8005", "Addresses of a control plane."),
    later("cluster_control_plane", Text, "127.0.0.1:8005", "The control plane's host:port."),
    later("cluster_cert", Text, "", "Hybrid certificate (path, PEM or base64)."),
    later("cluster_cert_key", Text, "", "Hybrid key.").secret(),
    later("cluster_mtls", Choice(&["shared", "pki"]), "shared",
        "shared: one pinned certificate; pki: signed by a CA."),
    later("cluster_ca_cert", Text, "", "CA for pki."),
    later("cluster_server_name", Text, "",
        "SNI/verify name for pki (shared uses kong_clustering)."),
    later("cluster_data_plane_purge_delay", Number, "1209600",
        "Seconds a vanished DP row is kept (60 or more)."),
    later("cluster_ocsp", Choice(&["on", "off", "optional"]), "off",
        "OCSP check of DP certs (pki)."),
    later("cluster_max_payload", Number, "16777216",
        "Max websocket payload bytes (4194304 or more)."),
    later("cluster_use_proxy", Flag, "off", "Whether a data plane goes through proxy_server."),
    later("cluster_dp_labels", List, "", "Labels of a data plane, key:value, at most 10."),
    later("cluster_rpc", Flag, "off", "Enable /v2/outlet JSON-RPC."),
    later("cluster_rpc_sync", Flag, "off", "Enable kong.sync.v2 incremental sync."),
    moot("cluster_cjson", Flag, "off", "Use cjson rather than simdjson for configs."),
    moot("lmdb_environment_path", Text, "dbless.lmdb", "DB-less/DP config database dir."),
    moot("lmdb_map_size", Text, "2048m", "Size of Kong's own embedded store."),
    moot("mem_cache_size", Text, "128m", "Size of each entity cache shm."),
    moot("worker_events_max_payload", Number, "65535", "Bytes of an event between nginx workers."),
    built("ssl_cert", List, "", "Default certificates of the proxy: paths, PEM or base64 of PEM."),
    built("ssl_cert_key", List, "", "Their keys, in the same order.").secret(),
    built("client_ssl", Flag, "off", "Enable a global upstream client certificate."),
    built("client_ssl_cert", Text, "", "The global client certificate."),
    built("client_ssl_cert_key", Text, "", "Its key.").secret(),
    built("ssl_cipher_suite", Text, "intermediate", "modern, intermediate, old, fips or custom."),
    later("ssl_ciphers", Text, "", "The ciphers of ssl_cipher_suite = custom."),
    built("ssl_protocols", Text, "TLSv1.2 TLSv1.3",
        "TLS versions offered to clients.")
        .also(&["nginx_http_ssl_protocols", "nginx_stream_ssl_protocols"]),
    later("ssl_prefer_server_ciphers", Switch, "on",
        "Overridden by suite (intermediate: off).")
        .also(&["nginx_http_ssl_prefer_server_ciphers", "nginx_stream_ssl_prefer_server_ciphers"]),
    later("ssl_dhparam", Text, "",
        "Diffie-Hellman group: a file, PEM or ffdhe name.")
        .also(&["nginx_http_ssl_dhparam", "nginx_stream_ssl_dhparam"]),
    later("ssl_session_tickets", Switch, "on",
        "Whether sessions resume by ticket.")
        .also(&["nginx_http_ssl_session_tickets", "nginx_stream_ssl_session_tickets"]),
    later("ssl_session_timeout", Text, "1d",
        "How long a session can be resumed.")
        .also(&["nginx_http_ssl_session_timeout", "nginx_stream_ssl_session_timeout"]),
    later("ssl_session_cache_size", Text, "10m", "Size of the session cache."),
    built("admin_ssl_cert", List, "", "Certificates of the Admin API."),
    built("admin_ssl_cert_key", List, "", "Their keys.").secret(),
    later("admin_gui_ssl_cert", List, "", "Certificates of Kong Manager."),
    later("admin_gui_ssl_cert_key", List, "", "Their keys.").secret(),
    built("status_ssl_cert", List, "", "Certificates of the status listener."),
    built("status_ssl_cert_key", List, "", "Their keys.").secret(),
    built("headers", List, "server_tokens, latency_tokens, x-kong-request-id",
        "Headers the gateway adds: off, server_tokens, latency_tokens, names."),
    built("headers_upstream", List, "x-kong-request-id",
        "Headers added to the upstream's request: off or x-kong-request-id."),
    built("trusted_ips", List, "", "Peers allowed to set X-Forwarded-*/real ip; IP, CIDR, unix:."),
    built("error_default_type", Choice(ERROR_TYPES), "text/plain",
        "Error body type when request has no Accept/Content-Type."),
    built("upstream_keepalive_pool_size", Number, "512",
        "Idle upstream connections per pool and core; 0: none."),
    built("upstream_keepalive_max_requests", Number, "10000",
        "Requests on one upstream connection; 0: no limit."),
    built("upstream_keepalive_idle_timeout", Number, "60",
        "Seconds an idle one is kept; 0: for ever."),
    built("allow_debug_header", Flag, "off",
        "Whether a request with Kong-Debug: 1 is told its route and service."),
    later("nginx_user", Text, "kong kong",
        "User and group that the workers run as.").also(&["nginx_main_user"]),
    built("nginx_worker_processes", Text, "auto",
        "How many cores serve: auto or a number.").also(&["nginx_main_worker_processes"]),
    built("nginx_daemon", Switch, "on",
        "Whether kong start leaves the terminal; tollgate start never does.")
        .also(&["nginx_main_daemon"]),
    built("nginx_main_daemon", Text, "on", "As nginx_daemon."),
    later("nginx_main_user", Text, "kong kong", "As nginx_user."),
    built("nginx_main_worker_processes", Text, "auto", "As nginx_worker_processes."),
    built("nginx_main_worker_rlimit_nofile", Text, "auto",
        "Most open files: auto is the hard limit."),
    built("nginx_events_worker_connections", Text, "auto",
        "Most client connections, for each core; auto: three quarters of the open files together."),
    moot("nginx_events_multi_accept", Text, "on", "How nginx accepts."),
    moot("nginx_http_charset", Text, "UTF-8", "The charset nginx adds to text answers."),
    built("nginx_http_client_max_body_size", Text, "0",
        "Most bytes of a request body; 0: no limit."),
    built("nginx_http_client_body_buffer_size", Text, "8k",
        "Bytes of a request body that plugins may read."),
    later("nginx_http_ssl_protocols", Text, "", "ssl_protocols for HTTP alone."),
    later("nginx_http_ssl_prefer_server_ciphers", Text, "",
        "ssl_prefer_server_ciphers for HTTP alone."),
    later("nginx_http_ssl_dhparam", Text, "", "ssl_dhparam for HTTP alone."),
    later("nginx_http_ssl_session_tickets", Text, "", "ssl_session_tickets for HTTP alone."),
    later("nginx_http_ssl_session_timeout", Text, "", "ssl_session_timeout for HTTP alone."),
    later("nginx_http_ssl_conf_command", Text, "", "OpenSSL commands."),
    later("nginx_http_proxy_ssl_conf_command", Text, "", "OpenSSL commands."),
    moot("nginx_http_lua_ssl_conf_command", Text, "", "OpenSSL commands."),
    later("nginx_http_grpc_ssl_conf_command", Text, "", "OpenSSL commands."),
    moot("nginx_http_lua_regex_match_limit", Text, "100000", "Limit of Lua regexes."),
    moot("nginx_http_lua_regex_cache_max_entries", Text, "8192", "Cache of Lua regexes."),
    built("nginx_http_keepalive_requests", Text, "10000",
        "Requests on one client connection; then it closes."),
    later("nginx_stream_ssl_conf_command", Text, "", "OpenSSL commands."),
    later("nginx_stream_proxy_ssl_conf_command", Text, "", "OpenSSL commands."),
    moot("nginx_stream_lua_ssl_conf_command", Text, "", "OpenSSL commands."),
    later("nginx_stream_ssl_protocols", Text, "", "ssl_protocols for streams alone."),
    later("nginx_stream_ssl_prefer_server_ciphers", Text, "",
        "ssl_prefer_server_ciphers for streams alone."),
    later("nginx_stream_ssl_dhparam", Text, "", "ssl_dhparam for streams alone."),
    later("nginx_stream_ssl_session_tickets", Text, "", "ssl_session_tickets for streams alone."),
    later("nginx_stream_ssl_session_timeout", Text, "", "ssl_session_timeout for streams alone."),
    built("nginx_proxy_real_ip_header", Text, "X-Real-IP",
        "The header with the client's address, from trusted_ips only."),
    built("nginx_proxy_real_ip_recursive", Text, "off",
        "Whether trusted addresses in it are skipped."),
    built("nginx_admin_client_max_body_size", Text, "10m", "Most bytes of an Admin API body."),
    moot("nginx_admin_client_body_buffer_size", Text, "10m",
        "Bytes of it that nginx keeps in memory."),
    built("client_body_buffer_size", Text, "8k",
        "As nginx_http_client_body_buffer_size.").also(&["nginx_http_client_body_buffer_size"]),
    built("real_ip_header", Text, "X-Real-IP",
        "As nginx_proxy_real_ip_header.").also(&["nginx_proxy_real_ip_header"]),
    built("real_ip_recursive", Switch, "off",
        "As nginx_proxy_real_ip_recursive.").also(&["nginx_proxy_real_ip_recursive"]),
    built("database", Choice(&["postgres", "cassandra", "off", "sqlite"]), "",
        "sqlite, postgres or off. Unset: sqlite, or postgres if any pg_* is given."),
    built("pg_host", Text, "127.0.0.1", "Host or socket dir."),
    built("pg_port", Number, "5432", "Port of the database server."),
    built("pg_database", Text, "kong", "Name of the database."),
    built("pg_schema", Text, "", "Search schema."),
    built("pg_timeout", Number, "5000", "Milliseconds to connect, send or receive."),
    built("pg_user", Text, "kong", "Who logs in."),
    built("pg_password", Text, "", "With what.").secret(),
    built("pg_ssl", Flag, "off", "Whether the connection is encrypted."),
    built("pg_ssl_verify", Flag, "off", "Uses lua_ssl_trusted_certificate."),
    built("pg_ssl_cert", Text, "", "Our certificate for the database, a file of PEM."),
    built("pg_ssl_cert_key", Text, "", "Its key."),
    moot("pg_max_concurrent_queries", Number, "0", "Most queries at once; 0: no limit."),
    moot("pg_semaphore_timeout", Number, "60000", "Milliseconds to wait for a free connection."),
    moot("pg_keepalive_timeout", Number, "", "Milliseconds an idle connection is kept."),
    moot("pg_pool_size", Number, "", "Most connections kept."),
    moot("pg_backlog", Number, "", "Most waiting for one."),
    moot("_debug_pg_ttl_cleanup_interval", Number, "300",
        "Seconds between sweeps of expired rows."),
    built("pg_ro_host", Text, "", "Enables read replica; pg_ro_* default to pg_*."),
    built("pg_ro_port", Number, "", "pg_port of the read replica."),
    built("pg_ro_database", Text, "", "pg_database of the read replica."),
    built("pg_ro_schema", Text, "", "pg_schema of the read replica."),
    built("pg_ro_timeout", Number, "", "pg_timeout of the read replica."),
    built("pg_ro_user", Text, "", "pg_user of the read replica."),
    built("pg_ro_password", Text, "", "pg_password of the read replica.").secret(),
    built("pg_ro_ssl", Flag, "", "pg_ssl of the read replica."),
    built("pg_ro_ssl_verify", Flag, "", "pg_ssl_verify of the read replica."),
    moot("pg_ro_max_concurrent_queries", Number, "",
        "pg_max_concurrent_queries of the read replica."),
    moot("pg_ro_semaphore_timeout", Number, "", "pg_semaphore_timeout of the read replica."),
    moot("pg_ro_keepalive_timeout", Number, "", "pg_keepalive_timeout of the read replica."),
    moot("pg_ro_pool_size", Number, "", "pg_pool_size of the read replica."),
    moot("pg_ro_backlog", Number, "", "pg_backlog of the read replica."),
    built("declarative_config", Text, "", "File loaded at start when database=off."),
    built("declarative_config_string", Text, "",
        "The same as text; the file wins.").secret(),
    built("db_update_frequency", Number, "5", "Seconds between looks for other nodes' changes."),
    built("db_update_propagation", Number, "0", "Seconds a replicated database may lag."),
    moot("db_cache_ttl", Number, "0", "Seconds an entity is cached; 0 for ever."),
    moot("db_cache_neg_ttl", Number, "", "Seconds an absent entity is remembered."),
    moot("db_resurrect_ttl", Number, "30", "Seconds old entities serve while the database fails."),
    moot("db_cache_warmup_entities", List, "services", "Entities loaded at start."),
    built("dns_resolver", List, "", "Name servers ip[:port]."),
    built("dns_hostsfile", Text, "/etc/hosts", "The hosts file."),
    built("dns_order", List, "LAST,SRV,A,CNAME", "Record types order."),
    built("dns_valid_ttl", Number, "", "Overrides the TTL of answers, in seconds."),
    built("dns_stale_ttl", Number, "3600", "How long an old answer may serve, in seconds."),
    built("dns_cache_size", Number, "10000", "Most names kept."),
    built("dns_not_found_ttl", Number, "30", "Seconds an absent name is remembered."),
    built("dns_error_ttl", Number, "1", "Seconds a failure is remembered."),
    moot("dns_no_sync", Flag, "off", "Whether equal lookups run side by side."),
    built("new_dns_client", Flag, "off", "Switch to resolver_* client."),
    built("resolver_address", List, "", "Name servers."),
    built("resolver_hosts_file", Text, "/etc/hosts", "The hosts file."),
    built("resolver_family", List, "A,SRV", "Record types: SRV, A, AAAA."),
    built("resolver_valid_ttl", Number, "", "Overrides the TTL of answers, in seconds."),
    built("resolver_stale_ttl", Number, "3600", "How long an old answer may serve, in seconds."),
    built("resolver_lru_cache_size", Number, "10000", "Most names kept per worker."),
    moot("resolver_mem_cache_size", Text, "5m", "Size of the shared cache."),
    built("resolver_error_ttl", Number, "1", "Seconds a failure is remembered."),
    moot("dedicated_config_processing", Flag, "on", "Privileged worker for DP config."),
    moot("worker_consistency", Choice(&["strict", "eventual"]), "eventual",
        "When changes reach the road: here always at once."),
    moot("worker_state_update_frequency", Number, "5", "Seconds between rebuilds; here none wait."),
    built("router_flavor", Choice(FLAVORS), "traditional_compatible",
        "Which routes match: traditional_compatible, traditional, expressions."),
    moot("lua_socket_pool_size", Number, "256", "Idle Lua sockets kept."),
    built("lua_ssl_trusted_certificate", List, "system",
        "CA bundles for upstreams and where events go: system, paths."),
    later("lua_ssl_verify_depth", Number, "1", "Longest certificate chain."),
    later("lua_ssl_protocols", Text, "TLSv1.2 TLSv1.3",
        "TLS versions offered to upstreams of plugins.")
        .also(&["nginx_http_lua_ssl_protocols", "nginx_stream_lua_ssl_protocols"]),
    later("lua_package_path", Text, "./?.lua;./?/init.lua;", "Custom Lua plugin search path."),
    moot("lua_package_cpath", Text, "", "Where Lua looks for shared objects."),
    later("lua_max_req_headers", Number, "100", "Request headers that plugins see, 1 to 1000."),
    later("lua_max_resp_headers", Number, "100", "Response headers that plugins see."),
    later("lua_max_uri_args", Number, "100", "Query arguments that plugins see."),
    later("lua_max_post_args", Number, "100", "Form arguments that plugins see."),
    built("role", Choice(&["data_plane", "control_plane", "traditional"]), "traditional",
        "Part in a cluster; only traditional is built."),
    moot("kic", Flag, "off", "Kong Ingress Controller mode."),
    later("pluginserver_names", List, "", "External plugin servers."),
    later("untrusted_lua", Choice(&["on", "off", "sandbox"]), "sandbox",
        "Whether Lua from the Admin API may run: on, off or sandbox."),
    later("untrusted_lua_sandbox_requires", List, "", "Modules that sandboxed Lua may load."),
    later("untrusted_lua_sandbox_environment", List, "", "Globals that sandboxed Lua may see."),
    later("admin_gui_url", List, "", "Public origin(s) of Manager; drives Admin CORS."),
    later("admin_gui_path", Text, "/", "Path under which Kong Manager is served."),
    later("admin_gui_api_url", Text, "", "Admin API URL used by the browser."),
    later("admin_gui_csp_header", Flag, "off", "Whether Kong Manager sends a CSP header."),
    moot("openresty_path", Text, "", "Where OpenResty is."),
    later("opentelemetry_tracing", List, "off",
        "As tracing_instrumentations.").also(&["tracing_instrumentations"]),
    later("opentelemetry_tracing_sampling_rate", Number, "0.01",
        "As tracing_sampling_rate.").also(&["tracing_sampling_rate"]),
    later("tracing_instrumentations", List, "off", "What is traced: off, all, or names."),
    later("tracing_sampling_rate", Number, "0.01", "Share of requests traced, 0 to 1."),
    later("wasm", Flag, "off", "Proxy-wasm support."),
    later("wasm_filters_path", Text, "", "Folder of WebAssembly filters."),
    moot("wasm_dynamic_module", Text, "", "The nginx module that runs them."),
    later("wasm_filters", List, "bundled,user", "Filters that may be used."),
    later("request_debug", Flag, "on", "X-Kong-Request-Debug header feature."),
    later("request_debug_token", Text, "", "What proves that a debug request is allowed."),
];

/// The setting of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Setting> {
    TABLE.iter().find(|setting| setting.name == name)
}

/// What the names of nginx directives and other open sets begin with.
///
/// Source: Kong `kong/conf_loader/constants.lua`, `DYNAMIC_KEY_NAMESPACES`.
pub const NAMESPACES: &[&str] = &[
    "nginx_main_",
    "nginx_events_",
    "nginx_http_",
    "nginx_upstream_",
    "nginx_proxy_",
    "nginx_location_",
    "nginx_status_",
    "nginx_admin_",
    "nginx_stream_",
    "nginx_supstream_",
    "nginx_sproxy_",
    "nginx_wasm_",
    "pluginserver_",
    "vault_",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_aliases_exist() {
        for (index, setting) in TABLE.iter().enumerate() {
            assert!(TABLE.iter().skip(index + 1).all(|other| other.name != setting.name));
            for name in setting.also {
                let known = find(name).is_some() || NAMESPACES.iter().any(|n| name.starts_with(n));
                assert!(known, "{} names {name}", setting.name);
            }
        }
    }

    #[test]
    fn every_default_is_of_its_kind() {
        for setting in TABLE {
            match setting.kind {
                Number if !setting.default.is_empty() => {
                    assert!(setting.default.parse::<f64>().is_ok(), "{}", setting.name);
                }
                Choice(words) if setting.name != "database" => {
                    assert!(words.contains(&setting.default), "{}", setting.name);
                }
                Switch => assert!(["on", "off"].contains(&setting.default), "{}", setting.name),
                _ => {}
            }
            assert!(setting.about.ends_with('.'), "{}", setting.name);
        }
    }
}

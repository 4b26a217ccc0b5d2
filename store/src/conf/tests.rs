//! Settings as data: pairs in, a getter's answer or Kong's sentence out.

use super::*;

fn of(file: &str, env: &[(&str, &str)]) -> Result<(Settings, Vec<String>), ConfFault> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Settings::of(Some((Path::new("/etc/kong.conf"), file)), env)
}

/// Settings of an environment that must be sound.
fn env(env: &[(&str, &str)]) -> Settings {
    of("", env).unwrap().0
}

/// The message for one wrong setting.
#[track_caller]
fn refused(name: &str, value: &str, expected: &str) {
    let name = format!("KONG_{}", name.to_uppercase());
    let found = of("", &[(&name, value)]).err().map(|fault| fault.to_string());
    assert_eq!(found.as_deref(), Some(expected), "{name}={value}");
}

#[test]
fn defaults_then_file_then_environment() {
    let (settings, notices) = of("log_level = info\npg_port = 1\nwasm = on", &[]).unwrap();
    assert_eq!(settings.text("log_level"), Some("info"));
    assert_eq!(settings.integer("pg_port"), Some(1));
    assert_eq!(settings.text("error_default_type"), Some("text/plain"));
    assert!(settings.is_set("log_level") && !settings.is_set("error_default_type"));
    assert_eq!(notices.len(), 1, "{notices:?}");
    let (settings, _) = of("log_level = info", &[("KONG_LOG_LEVEL", "warn")]).unwrap();
    assert_eq!(settings.text("log_level"), Some("warn"));
}

#[test]
fn empty_is_unset() {
    let settings = env(&[("KONG_LOG_LEVEL", ""), ("KONG_PG_PASSWORD", "")]);
    assert_eq!(settings.text("log_level"), Some("notice"));
    assert_eq!(settings.text("pg_password"), None);
    assert_eq!(settings.database(), Database::Sqlite);
}

#[test]
fn kinds() {
    let settings = env(&[
        ("KONG_CLIENT_SSL", "true"),
        ("KONG_PG_SSL", "yes"),
        ("KONG_PLUGINS", " bundled, ,x "),
        ("KONG_TRACING_SAMPLING_RATE", "0.5"),
        ("KONG_NGINX_DAEMON", "off"),
    ]);
    assert!(settings.flag("client_ssl") && !settings.flag("pg_ssl"));
    assert_eq!(settings.list("plugins"), ["bundled", "x"]);
    assert_eq!(settings.number("tracing_sampling_rate"), Some(0.5));
    assert_eq!(settings.text("nginx_daemon"), Some("off"));
    assert_eq!(settings.text("nginx_main_daemon"), Some("off"), "the alias is followed");
    let settings = env(&[("KONG_NGINX_PROXY_REAL_IP_HEADER", "X-Other")]);
    assert_eq!(settings.text("real_ip_header"), Some("X-Other"), "the alias follows");
    let word = |name: &str| (name == "A_WHO").then(|| "me".to_owned());
    let prefixed = env(&[("KONG_VAULT_ENV_PREFIX", "a_")]);
    assert_eq!(prefixed.secret("env/who", word), Ok("me".to_owned()));
    assert_eq!(prefixed.secret("{vault://env/who}", word), Ok("me".to_owned()));
    assert!(prefixed.secret("env/nobody", word).is_err());
    assert!(env(&[("KONG_VAULTS", "off")]).secret("env/a-who", word).is_err());
    let secret = [("KONG_PG_USER", "{vault://env/who}"), ("WHO", "me"), ("KONG_VAULTS", "off")];
    assert!(of("", &secret).is_err(), "no vault is open");
}

#[test]
fn wrong_values_are_refused_in_kongs_words() {
    refused(
        "database",
        "mysql",
        "database has an invalid value: 'mysql' (postgres, cassandra, off, sqlite)",
    );
    refused("pg_port", "many", "pg_port is not a number: 'many'");
    refused("headers", "X-Nope", "headers: invalid entry 'X-Nope'");
    refused("dns_order", "A,XXX", "dns_order: invalid entry 'XXX'");
    refused("node_id", "x", "node_id must be a valid UUID");
    refused("ssl_cipher_suite", "x", "Undefined cipher suite x");
    refused("ssl_cert", "/a", "ssl_cert_key must be specified");
    refused("admin_ssl_cert_key", "/a", "admin_ssl_cert must be specified");
    refused("cluster_max_payload", "1", "cluster_max_payload must be 4194304 (4MB) or greater");
    refused(
        "lua_max_req_headers",
        "1001",
        "lua_max_req_headers must be an integer between 1 and 1000",
    );
    refused(
        "worker_state_update_frequency",
        "0",
        "worker_state_update_frequency must be greater than 0",
    );
    refused("admin_gui_path", "x", "admin_gui_path must start with a slash ('/')");
    refused("port_maps", "80", "invalid port mapping (`port_maps`): 80");
    refused(
        "role",
        "data",
        "role has an invalid value: 'data' (data_plane, control_plane, traditional)",
    );
    refused(
        "nginx_http_client_max_body_size",
        "lots",
        "nginx_http_client_max_body_size is not a size: 'lots'",
    );
    refused(
        "nginx_worker_processes",
        "0",
        "nginx_main_worker_processes must be auto or a number greater than 0, got '0'",
    );
    refused(
        "trusted_ips",
        "1.2.3.4,nope",
        "trusted_ips must be a comma separated list in the form of IPv4 or IPv6 address or CIDR \
         block or 'unix:', got 'nope'",
    );
    refused(
        "database",
        "cassandra",
        "Cassandra as a datastore for Kong is not supported in versions 3.4 and above. Please use \
         Postgres.",
    );
    refused(
        "role",
        "data_plane",
        "cluster certificate and key must be provided to use Hybrid mode\nonly in-memory storage \
         can be used when role = \"data_plane\"\nHint: set database = off in your kong.conf",
    );
    refused(
        "pg_password",
        "{vault://env/nope}",
        "failed to dereference '{vault://env/nope}': unable to load value (nope) from vault \
         (env): not found [{vault://env/nope}] for config option 'pg_password'",
    );
}

#[test]
fn a_listener_must_be_one() {
    let message = of("", &[("KONG_ADMIN_LISTEN", "")]).unwrap_err().to_string();
    assert!(message.starts_with("admin_listen must be of form: [off] | <ip>:<port> [ssl]"));
    let settings = env(&[("KONG_ADMIN_LISTEN", "off"), ("KONG_PROXY_LISTEN", "[::]:9000 ssl")]);
    assert_eq!(settings.listen("admin_listen"), []);
    assert_eq!(settings.listen("proxy_listen")[0].address(), "[::]:9000");
    assert_eq!(settings.listen("status_listen")[0].port, 8007);
}

#[test]
fn all_faults_come_at_once() {
    let fault = of("pg_port = x\nlog_level = loud", &[]).unwrap_err();
    let ConfFault::Invalid(all) = fault else { panic!("{fault:?}") };
    assert_eq!(all.len(), 2, "{all:?}");
    let fault = of("one\ntwo", &[]).unwrap_err();
    assert_eq!(fault.to_string(), "/etc/kong.conf line 1: expected \"key = value\"");
    let missing = Settings::load(Some(Path::new("/no/such")), std::iter::empty()).unwrap_err();
    assert_eq!(missing.to_string(), "no file at: /no/such");
}

#[test]
fn what_is_not_built_or_unknown_is_named_in_one_line_each() {
    let (_, notices) = of(
        "wasm = on\nclient_ssl = off\nmy_own = 1",
        &[("KONG_FOO", "1"), ("KONG_NGINX_HTTP_GZIP", "on"), ("KONG_MEM_CACHE_SIZE", "1m")],
    )
    .unwrap();
    assert_eq!(
        notices,
        [
            "known settings that are not built yet and have no effect: nginx_http_gzip, wasm",
            "unknown settings, ignored: my_own, KONG_FOO"
        ]
    );
    let many: Vec<String> = (0..20).map(|n| format!("x{n} = 1")).collect();
    let (_, notices) = of(&many.join("\n"), &[]).unwrap();
    assert!(notices[0].ends_with("x11 and 8 more"), "{notices:?}");
}

#[test]
fn the_database_follows_what_points_to_one() {
    assert_eq!(env(&[]).database(), Database::Sqlite);
    assert_eq!(env(&[("KONG_PG_HOST", "db")]).database(), Database::Postgres);
    assert_eq!(env(&[("KONG_DATABASE", "off"), ("KONG_PG_HOST", "db")]).database(), Database::Off);
    assert_eq!(env(&[]).refusal(), None);
    assert_eq!(env(&[("KONG_PG_HOST", "db")]).refusal(), None);
    assert_eq!(env(&[("KONG_DATABASE", "off")]).refusal(), None);
    assert_eq!(env(&[("KONG_ROUTER_FLAVOR", "expressions")]).refusal(), None);
}

#[test]
fn the_prefix_falls_back_to_the_home_only_when_nobody_chose_it() {
    let mut settings = env(&[("HOME", "/home/me")]);
    assert_eq!(settings.prefix(), Path::new("/usr/local/kong"));
    assert_eq!(settings.settle_prefix(|_| true), None);
    assert!(settings.settle_prefix(|_| false).unwrap().contains("/home/me/.tollgate"));
    assert_eq!(settings.prefix(), Path::new("/home/me/.tollgate"));
    let mut settings = env(&[("HOME", "/home/me"), ("XDG_STATE_HOME", "/state")]);
    settings.settle_prefix(|_| false);
    assert_eq!(settings.prefix(), Path::new("/state/tollgate"));
    let mut settings = env(&[("HOME", "/home/me"), ("KONG_PREFIX", "/opt/x/")]);
    assert_eq!(settings.settle_prefix(|_| false), None);
    assert_eq!(settings.prefix(), Path::new("/opt/x"));
}

#[test]
fn headers_unfold_their_tokens() {
    let names = |value| env(&[("KONG_HEADERS", value)]).headers();
    assert_eq!(names("off"), [""; 0]);
    assert_eq!(names("server_tokens"), ["server_tokens", "Server", "Via"]);
    assert_eq!(names("x-kong-upstream-status"), ["X-Kong-Upstream-Status"]);
    assert_eq!(names("latency_tokens").len(), 5);
}

#[test]
fn the_edge_reads_nginx_directives() {
    let edge = Edge::of(&env(&[]));
    assert_eq!((edge.cores, edge.body_bytes_max, edge.keepalive_ms), (None, None, 75_000));
    assert_eq!((edge.head_buffers_max, edge.head_buffer_bytes), (4, 8192));
    assert_eq!(edge.admin_body_bytes_max, Some(10 << 20));
    let edge = Edge::of(&env(&[
        ("KONG_NGINX_WORKER_PROCESSES", "2"),
        ("KONG_NGINX_HTTP_CLIENT_MAX_BODY_SIZE", "1m"),
        ("KONG_NGINX_PROXY_CLIENT_MAX_BODY_SIZE", "2m"),
        ("KONG_NGINX_HTTP_LARGE_CLIENT_HEADER_BUFFERS", "8 16k"),
        ("KONG_NGINX_HTTP_KEEPALIVE_TIMEOUT", "5s"),
        ("KONG_CLIENT_BODY_BUFFER_SIZE", "64k"),
    ]));
    assert_eq!((edge.cores, edge.body_bytes_max), (Some(2), Some(2 << 20)));
    assert_eq!((edge.head_buffers_max, edge.head_buffer_bytes), (8, 16_384));
    assert_eq!((edge.keepalive_ms, edge.body_buffer_bytes), (5_000, 65_536));
}

#[test]
fn get_root_shows_typed_values_and_no_secret() {
    let settings = env(&[
        ("KONG_PG_PASSWORD", "hush"),
        ("KONG_PG_USER", "{vault://env/who}"),
        ("WHO", "somebody"),
        ("KONG_SSL_CERT", "/a"),
        ("KONG_SSL_CERT_KEY", "/secret-path"),
        ("KONG_NGINX_HTTP_GZIP", "on"),
    ]);
    let shown = settings.json(["key-auth"]);
    let text = serde_json::to_string(&shown).unwrap();
    for secret in ["hush", "somebody", "secret-path"] {
        assert!(!text.contains(secret), "{secret}");
    }
    assert_eq!(shown["pg_password"], "******");
    assert_eq!(shown["pg_user"], "{vault://env/who}");
    assert_eq!(shown["pg_port"], 5432);
    assert_eq!(shown["tracing_sampling_rate"], 0.01);
    assert_eq!(shown["client_ssl"], false);
    assert_eq!(shown["trusted_ips"], serde_json::json!({}));
    assert_eq!(shown["loaded_plugins"], serde_json::json!({"key-auth": true}));
    assert_eq!(shown["proxy_listeners"][1]["http2"], true);
    assert_eq!(shown["enabled_headers"]["X-Kong-Upstream-Status"], false);
    let directives = shown["nginx_http_directives"].as_array().unwrap();
    assert!(directives.contains(&serde_json::json!({"name": "gzip", "value": "on"})));
}

#[test]
fn plugins_in_force() {
    let installed = ["key-auth", "acl", "moesif"];
    let names = |value| env(&[("KONG_PLUGINS", value)]).plugins(&installed);
    let list = |names: &[&str]| Ok(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    assert_eq!(env(&[]).plugins(&installed), list(&["acl", "key-auth", "moesif"]));
    assert_eq!(names("bundled"), list(&["acl", "key-auth"]));
    assert_eq!(names("off"), list(&[]));
    assert_eq!(names("moesif"), list(&["moesif"]));
    let fault = names("bundled,mine").unwrap_err();
    assert_eq!(fault, "mine plugin is enabled but not installed");
}

//! Settings as `GET /` shows them: typed JSON without secrets.
//!
//! Source: recorded from Kong 3.9.1. What is unset is absent, an empty list is `{}` (Lua knows no
//! other), secrets are `******`. Paths of files that only nginx has are left out.

use serde_json::{Map, Value, json};

use super::faults::{HEADERS, LISTENERS, port_map};
use super::table::{Kind, NAMESPACES, TABLE};
use super::{Database, Settings, Typed};

/// What is shown in place of a secret.
const MASK: &str = "******";

/// Paths under the prefix that other programs look up, by the name Kong gives them.
const PATHS: &[(&str, &str)] = &[
    ("nginx_pid", "pids/nginx.pid"),
    ("nginx_err_logs", "logs/error.log"),
    ("nginx_acc_logs", "logs/access.log"),
    ("admin_acc_logs", "logs/admin_access.log"),
    ("ssl_cert_default", "ssl/kong-default.crt"),
    ("ssl_cert_key_default", "ssl/kong-default.key"),
    ("admin_ssl_cert_default", "ssl/admin-kong-default.crt"),
    ("admin_ssl_cert_key_default", "ssl/admin-kong-default.key"),
    ("status_ssl_cert_default", "ssl/status-kong-default.crt"),
    ("status_ssl_cert_key_default", "ssl/status-kong-default.key"),
];

impl Settings {
    /// The `configuration` of `GET /`.
    ///
    /// `loaded_plugins` are the names that are in force after `plugins` was read.
    #[must_use]
    pub fn json<'a>(
        &self,
        loaded_plugins: impl IntoIterator<Item = &'a str>,
    ) -> Map<String, Value> {
        let mut shown = Map::new();
        for setting in TABLE {
            let value = match self.typed(setting.name) {
                Some(_) if setting.secret => Some(Value::from(MASK)),
                Some(value) => Some(json_of(value)),
                None if setting.kind == Kind::List && setting.secret => Some(Value::from(MASK)),
                None if setting.kind == Kind::List => Some(json!({})),
                None if setting.kind == Kind::Flag => Some(Value::from(false)),
                None => None,
            };
            if let Some(value) = value {
                shown.insert(setting.name.to_owned(), value);
            }
        }
        for (name, value) in self.dynamic() {
            shown.insert(name.to_owned(), json_of(value));
        }
        for (name, reference) in &self.references {
            shown.insert(name.clone(), Value::from(reference.as_str()));
        }
        let database = match self.database() {
            Database::Sqlite => "sqlite",
            Database::Postgres => "postgres",
            Database::Off => "off",
        };
        shown.insert("database".to_owned(), Value::from(database));
        shown.insert("prefix".to_owned(), Value::from(self.prefix().to_string_lossy()));
        self.show_listeners(&mut shown);
        self.show_directives(&mut shown);
        self.show_sets(&mut shown, loaded_plugins);
        for (name, path) in PATHS {
            let path = self.prefix().join(path);
            shown.insert((*name).to_owned(), Value::from(path.to_string_lossy()));
        }
        shown
    }

    fn show_listeners(&self, shown: &mut Map<String, Value>) {
        for (name, subsystem) in LISTENERS {
            let all = self.listen(name);
            let own = name.trim_end_matches("_listen");
            let tls = match own {
                "stream" => "stream_proxy_ssl_enabled".to_owned(),
                "cluster" => String::new(),
                own => format!("{own}_ssl_enabled"),
            };
            if !tls.is_empty() {
                shown.insert(tls, Value::from(all.iter().any(|one| one.tls)));
            }
            let all: Vec<Value> = all.iter().map(|one| one.json(*subsystem)).collect();
            shown.insert(format!("{name}ers"), list_or_object(all));
        }
        for (own, prefix) in [("proxy", ""), ("admin", "admin_"), ("status", "status_")] {
            let tls = shown.get(&format!("{own}_ssl_enabled")) == Some(&Value::from(true));
            let certs = format!("{prefix}ssl_cert");
            if tls && self.list(&certs).is_empty() {
                let file = format!("ssl/{}kong-default.crt", prefix.replace('_', "-"));
                let file = self.prefix().join(file);
                shown.insert(certs, json!([file.to_string_lossy()]));
            }
        }
    }

    fn show_directives(&self, shown: &mut Map<String, Value>) {
        for own in NAMESPACES.iter().filter(|own| own.starts_with("nginx_")) {
            let named = self.values.iter().filter_map(|(name, value)| {
                let directive = name.strip_prefix(own)?;
                let Typed::Text(value) = value else { return None };
                let shown = value != "NONE" && directive != "lua_ssl_protocols";
                shown.then(|| json!({"name": directive, "value": value}))
            });
            shown.insert(format!("{own}directives"), list_or_object(named.collect()));
        }
    }

    fn show_sets<'a>(
        &self,
        shown: &mut Map<String, Value>,
        loaded_plugins: impl IntoIterator<Item = &'a str>,
    ) {
        let plugins: Map<String, Value> =
            loaded_plugins.into_iter().map(|name| (name.to_owned(), Value::from(true))).collect();
        shown.insert("loaded_plugins".to_owned(), Value::Object(plugins));
        shown.insert("loaded_vaults".to_owned(), json!({"env": true}));
        shown.insert("pluginservers".to_owned(), json!({}));
        let headers = self.headers();
        let enabled: Map<String, Value> = HEADERS
            .iter()
            .map(|name| ((*name).to_owned(), Value::from(headers.contains(name))))
            .collect();
        shown.insert("enabled_headers".to_owned(), Value::Object(enabled));
        let id = self.list("headers_upstream").iter().any(|item| item != "off");
        shown.insert("enabled_headers_upstream".to_owned(), json!({"X-Kong-Request-Id": id}));
        let mut ports = Map::new();
        for (outside, here) in self.list("port_maps").iter().filter_map(|item| port_map(item)) {
            ports.insert(here.to_string(), Value::from(outside));
        }
        shown.insert("host_ports".to_owned(), Value::Object(ports));
    }
}

fn list_or_object(all: Vec<Value>) -> Value {
    if all.is_empty() { json!({}) } else { Value::Array(all) }
}

fn json_of(value: &Typed) -> Value {
    match value {
        Typed::Text(text) => Value::from(text.as_str()),
        Typed::Flag(flag) => Value::from(*flag),
        Typed::List(items) => list_or_object(items.iter().map(|i| i.as_str().into()).collect()),
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
        Typed::Number(number) if number.fract() == 0.0 && number.abs() < 9.0e15 => {
            Value::from(*number as i64)
        }
        Typed::Number(number) => Value::from(*number),
    }
}

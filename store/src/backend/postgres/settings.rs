//! Where the database is and how to log in, from the settings `pg_*` and `pg_ro_*`.

use crate::conf::Settings;
use std::path::PathBuf;
use uuid::Uuid;

/// How long a connection may take when `pg_timeout` does not say, in milliseconds.
const TIMEOUT_MS: u64 = 5_000;
/// Bundles of trusted authorities where systems keep them.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// One server and one login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// A name, an address, or the folder of a socket.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database.
    pub database: String,
    /// The schema; empty is the session's own.
    pub schema: String,
    /// Who logs in.
    pub user: String,
    /// With what.
    pub password: Option<String>,
    /// Milliseconds that a connection, or one answer, may take.
    pub timeout_ms: u64,
    /// Whether the connection is encrypted.
    pub ssl: bool,
    /// Whether its certificate is checked.
    pub ssl_verify: bool,
    /// Files of trusted authorities.
    pub trusted: Vec<PathBuf>,
    /// Our own certificate and its key, as files of PEM.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// All that the backend is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresPlan {
    /// Where everything is written, and read for the Admin API.
    pub server: Server,
    /// Where whole tables are read, if that is another one.
    pub replica: Option<Server>,
    /// This node, as other nodes see it in events.
    pub node_id: Uuid,
    /// Milliseconds between two looks for changes of others.
    pub poll_ms: u64,
    /// Seconds that the database may take to replicate an event.
    pub propagation_s: u64,
    /// Where the last good configuration is kept; none keeps none.
    pub saved: Option<PathBuf>,
}

impl PostgresPlan {
    /// Reads checked settings. `saved` is the file of the last good configuration.
    #[must_use]
    pub fn of(settings: &Settings, node_id: Uuid, saved: Option<PathBuf>) -> Self {
        let server = Server::primary(settings);
        let replica = settings.text("pg_ro_host").map(|_| server.replica(settings));
        let poll_s = settings.number("db_update_frequency").unwrap_or(5.0).clamp(0.05, 3_600.0);
        let propagation_s = settings.number("db_update_propagation").unwrap_or(0.0).max(0.0);
        Self {
            server,
            replica,
            node_id,
            poll_ms: (poll_s * 1_000.0) as u64,
            propagation_s: propagation_s as u64,
            saved,
        }
    }
}

impl Server {
    fn primary(settings: &Settings) -> Self {
        let text = |name, usual: &str| settings.text(name).unwrap_or(usual).to_owned();
        let file = |name| settings.text(name).map(PathBuf::from);
        let trusted = settings.list("lua_ssl_trusted_certificate");
        Self {
            host: text("pg_host", "127.0.0.1"),
            port: port(settings, "pg_port").unwrap_or(5432),
            database: text("pg_database", "kong"),
            schema: text("pg_schema", ""),
            user: text("pg_user", "kong"),
            password: settings.text("pg_password").map(str::to_owned),
            timeout_ms: millis(settings, "pg_timeout").unwrap_or(TIMEOUT_MS),
            ssl: settings.flag("pg_ssl"),
            ssl_verify: settings.flag("pg_ssl_verify"),
            trusted: trusted.iter().flat_map(|item| bundle(item)).collect(),
            client: file("pg_ssl_cert").zip(file("pg_ssl_cert_key")),
        }
    }

    /// The replica: what `pg_ro_*` leaves out is as for the primary.
    fn replica(&self, settings: &Settings) -> Self {
        let text =
            |name, usual: &String| settings.text(name).map_or_else(|| usual.clone(), str::to_owned);
        let flag = |name, usual| if settings.is_set(name) { settings.flag(name) } else { usual };
        Self {
            host: text("pg_ro_host", &self.host),
            port: port(settings, "pg_ro_port").unwrap_or(self.port),
            database: text("pg_ro_database", &self.database),
            schema: text("pg_ro_schema", &self.schema),
            user: text("pg_ro_user", &self.user),
            password: settings
                .text("pg_ro_password")
                .map(str::to_owned)
                .or_else(|| self.password.clone()),
            timeout_ms: millis(settings, "pg_ro_timeout").unwrap_or(self.timeout_ms),
            ssl: flag("pg_ro_ssl", self.ssl),
            ssl_verify: flag("pg_ro_ssl_verify", self.ssl_verify),
            trusted: self.trusted.clone(),
            client: self.client.clone(),
        }
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}/{}", self.host, self.port, self.database)
    }
}

fn port(settings: &Settings, name: &str) -> Option<u16> {
    settings.integer(name).and_then(|number| number.try_into().ok())
}

fn millis(settings: &Settings, name: &str) -> Option<u64> {
    settings.integer(name).and_then(|number| u64::try_from(number).ok()).filter(|ms| *ms > 0)
}

/// The files of one item of `lua_ssl_trusted_certificate`; `system` is the system's own bundle.
fn bundle(item: &str) -> Option<PathBuf> {
    if item != "system" {
        return Some(PathBuf::from(item));
    }
    BUNDLES.iter().map(PathBuf::from).find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(pairs: &[(&str, &str)]) -> PostgresPlan {
        let env = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings = Settings::of(None, env).unwrap().0;
        PostgresPlan::of(&settings, Uuid::nil(), None)
    }

    #[test]
    fn defaults_are_kongs() {
        let plan = plan(&[("KONG_PG_HOST", "db")]);
        assert_eq!(plan.server.place(), "db:5432/kong");
        assert_eq!((plan.server.user.as_str(), plan.server.timeout_ms), ("kong", 5_000));
        assert_eq!((plan.poll_ms, plan.propagation_s, plan.replica), (5_000, 0, None));
    }

    #[test]
    fn a_replica_takes_what_it_is_not_told_from_the_primary() {
        let plan = plan(&[
            ("KONG_PG_HOST", "one"),
            ("KONG_PG_PASSWORD", "secret"),
            ("KONG_PG_SSL", "on"),
            ("KONG_PG_RO_HOST", "two"),
            ("KONG_PG_RO_PORT", "6432"),
            ("KONG_PG_RO_SSL", "off"),
        ]);
        let replica = plan.replica.unwrap();
        assert_eq!(replica.place(), "two:6432/kong");
        assert_eq!(replica.password.as_deref(), Some("secret"));
        assert!(plan.server.ssl && !replica.ssl);
    }
}

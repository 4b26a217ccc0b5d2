//! TLS towards services: what the settings say, and what rows add to it.
//!
//! Most services share the connectors of the settings; one with a client certificate, or with
//! authorities of its own, gets a pair of its own when its row or theirs changes. Source: Kong
//! `kong/runloop/upstream_ssl.lua`, and nginx `proxy_ssl_*` for what is checked.
//!
//! `tls_verify_depth` is not applied: the library bounds the path by itself.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use runtime::tls::{Connector, ConnectorPlan, Identity, Verify};
use store::conf::Settings;
use store::snapshot::{Change, Tables};
use store::value::Row;
use uuid::Uuid;

use crate::certificates;
use crate::desk::checks::Trust;

/// TLS towards one service. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    /// Without HTTP/2, and with.
    connectors: Arc<[Connector; 2]>,
    /// A fingerprint of what is shown and who is believed.
    print: u64,
}

impl Tls {
    /// Opens connections; `http2` offers nothing but that.
    pub fn connector(&self, http2: bool) -> &Connector {
        let [http1, both] = &*self.connectors;
        if http2 { both } else { http1 }
    }

    /// A fingerprint of these settings and a server's name: connections of the same one may carry
    /// each other's requests. Never 0, which is a connection in the clear.
    pub fn print(&self, name: &str) -> u64 {
        FixedState::default().hash_one((name, self.print)) | 1
    }
}

/// What the settings say: who is believed, what is shown.
pub struct UpstreamTls {
    /// Certificates in PEM; none means those that browsers trust.
    roots: Option<String>,
    identity: Option<Identity>,
    /// Believing everybody.
    pub believing: Tls,
    /// Checking certificates (`tls_verify`).
    pub checking: Tls,
}

impl UpstreamTls {
    /// Reads `lua_ssl_trusted_certificate` and `client_ssl*`.
    ///
    /// # Errors
    /// One sentence.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let mut roots = String::new();
        for item in settings.list("lua_ssl_trusted_certificate") {
            if item != "system" {
                let read = certificates::pem(item);
                roots.push_str(&read.ok_or_else(|| {
                    format!("lua_ssl_trusted_certificate: failed loading certificate from {item}")
                })?);
                roots.push('\n');
            }
        }
        let identity = if settings.flag("client_ssl") { Some(client(settings)?) } else { None };
        Self::with((!roots.is_empty()).then_some(roots), identity)
    }

    /// Without settings: browsers' authorities, and no certificate of our own.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn usual() -> Result<Self, String> {
        Self::with(None, None)
    }

    fn with(roots: Option<String>, identity: Option<Identity>) -> Result<Self, String> {
        let tls = |verify: bool| {
            let verify = || match (&roots, verify) {
                (_, false) => Verify::Nobody,
                (None, true) => Verify::Mozilla,
                (Some(roots), true) => Verify::Roots(roots.clone()),
            };
            pair(verify, identity.as_ref())
        };
        let believing = Tls { connectors: tls(false)?, print: 0 };
        let checking = Tls { connectors: tls(true)?, print: 1 };
        Ok(Self { roots, identity, believing, checking })
    }

    /// TLS towards a service, from its row and the certificates that it names.
    ///
    /// # Errors
    /// A certificate that is missing or cannot be read: the service must not be asked.
    pub fn of(&self, row: &Row, tables: &Tables) -> Result<Tls, String> {
        let verify = row.flag("tls_verify").unwrap_or(false);
        let upstream = row.text("host").and_then(|host| tables.by("upstreams", "name", host));
        let shown = row
            .foreign("client_certificate")
            .or_else(|| upstream.and_then(|upstream| upstream.foreign("client_certificate")));
        let trusted: Vec<Uuid> =
            row.list("ca_certificates").iter().filter_map(store::value::Value::as_id).collect();
        let own_roots = verify && !trusted.is_empty();
        if shown.is_none() && !own_roots {
            return Ok(if verify { &self.checking } else { &self.believing }.clone());
        }
        let mut print = vec![u64::from(verify)];
        let mut note = |row: &Row| {
            let (high, low) = row.id().as_u64_pair();
            print.extend([high, low, row.version()]);
        };
        let identity = match shown {
            None => self.identity.clone(),
            Some(id) => {
                let row = tables.get("certificates", id);
                let row = row.ok_or_else(|| format!("its client certificate {id} is gone"))?;
                note(row);
                let read = certificates::read(row).into_iter().next();
                Some(read.ok_or_else(|| format!("its client certificate {id} cannot be read"))?)
            }
        };
        let mut roots = String::new();
        for id in trusted.iter().filter(|_| own_roots) {
            let row = tables.get("ca_certificates", *id);
            let row = row.ok_or_else(|| format!("its CA certificate {id} is gone"))?;
            note(row);
            roots.push_str(row.text("cert").unwrap_or_default());
            roots.push('\n');
        }
        let verify = || match (verify, own_roots, &self.roots) {
            (false, ..) => Verify::Nobody,
            (true, true, _) => Verify::Roots(roots.clone()),
            (true, false, None) => Verify::Mozilla,
            (true, false, Some(roots)) => Verify::Roots(roots.clone()),
        };
        let connectors = pair(verify, identity.as_ref())?;
        Ok(Tls { connectors, print: FixedState::default().hash_one(&print) })
    }

    /// What checks of an Upstream's peers show, and whom they believe; none where it has no client
    /// certificate, so that what the settings say holds.
    pub fn of_checks(&self, upstream: &Row, tables: &Tables) -> Option<Trust> {
        let id = upstream.foreign("client_certificate")?;
        let row = tables.get("certificates", id);
        let Some(identity) = row.and_then(|row| certificates::read(row).into_iter().next()) else {
            log::error!("checks of {} show no certificate: {id} cannot be read", upstream.id());
            return None;
        };
        let both = |verify: &dyn Fn() -> Verify| {
            let pair = pair(verify, Some(&identity)).ok()?;
            let [http1, both] = &*pair;
            Some([http1.config(), both.config()])
        };
        let checking = || self.roots.clone().map_or(Verify::Mozilla, Verify::Roots);
        Some(Trust { checking: both(&checking)?, believing: both(&|| Verify::Nobody)? })
    }

    /// The Upstreams whose checks a change of certificates touches.
    pub fn checks_touched(tables: &Tables, changes: &[Change]) -> Vec<Arc<Row>> {
        let mut touched = Vec::new();
        for change in changes {
            let shown = |row: &Option<Arc<Row>>| row.as_ref()?.foreign("client_certificate");
            match (change.entity.name, &change.after) {
                ("certificates", Some(row)) => {
                    let shows = tables.children("upstreams", "client_certificate", row.id(), None);
                    touched.extend(shows.cloned());
                }
                ("upstreams", Some(row)) if shown(&change.before) != shown(&change.after) => {
                    touched.push(Arc::clone(row));
                }
                _ => {}
            }
        }
        touched
    }

    /// The services whose TLS a change of certificates touches.
    pub fn touched(tables: &Tables, changes: &[Change]) -> Vec<Arc<Row>> {
        let mut touched: Vec<Arc<Row>> = Vec::new();
        for change in changes {
            let Some(row) = change.after.as_ref().or(change.before.as_ref()) else { continue };
            let id = row.id();
            match change.entity.name {
                "certificates" => {
                    let shows = tables.children("services", "client_certificate", id, None);
                    touched.extend(shows.cloned());
                    for upstream in tables.children("upstreams", "client_certificate", id, None) {
                        touched.extend(balanced(tables, upstream));
                    }
                }
                "upstreams" => {
                    let shown =
                        |row: &Option<Arc<Row>>| row.as_ref()?.foreign("client_certificate");
                    if shown(&change.before) != shown(&change.after) {
                        touched.extend(balanced(tables, row));
                    }
                }
                "ca_certificates" => {
                    let trusts = |row: &&Arc<Row>| {
                        row.list("ca_certificates").iter().any(|value| value.as_id() == Some(id))
                    };
                    touched.extend(tables.all("services").filter(trusts).cloned());
                }
                _ => {}
            }
        }
        touched
    }
}

/// The services that ask an Upstream.
fn balanced(tables: &Tables, upstream: &Row) -> Vec<Arc<Row>> {
    let name = upstream.text("name");
    tables.all("services").filter(|service| service.text("host") == name).cloned().collect()
}

fn client(settings: &Settings) -> Result<Identity, String> {
    let read = |name: &str| {
        let text = settings.text(name).unwrap_or_default();
        certificates::pem(text).ok_or_else(|| format!("{name}: it cannot be read"))
    };
    Identity::from_pem(&read("client_ssl_cert")?, &read("client_ssl_cert_key")?)
        .map_err(|fault| format!("client_ssl_cert: {fault}"))
}

fn pair(
    verify: impl Fn() -> Verify,
    identity: Option<&Identity>,
) -> Result<Arc<[Connector; 2]>, String> {
    let connector = |http2| {
        let identity = identity.cloned();
        let plan = ConnectorPlan { verify: verify(), identity, http2, ..ConnectorPlan::default() };
        Connector::new(plan).map_err(|fault| fault.to_string())
    };
    Ok(Arc::new([connector(false)?, connector(true)?]))
}

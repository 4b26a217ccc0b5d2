//! What the office compiles out of the rows for the road: router, services, plugins.
//!
//! A change makes the next roadmap out of the one before; what did not change is shared.

use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::FixedState;
use plugins::pdk::Scope;
use store::snapshot::{Change, Tables};
use store::value::Row;
use uuid::Uuid;

use crate::desk::checks::Trust;
use crate::plan::{Plan, PluginTable, Slots};
use crate::pool::Key;
use crate::route::{RouteChange, RouteEntry, RouteSpec, Router};
use crate::shards::Shards;
use crate::upstream_tls::{Tls, UpstreamTls};

/// One service, ready for the road.
pub struct Service {
    /// The row, for plugins and reports.
    pub row: Arc<Row>,
    /// A name or an address.
    pub host: Box<str>,
    /// The host, if it is an address; a stand-in where there is a `socket`.
    pub ip: Option<IpAddr>,
    /// The Unix socket that is connected to instead of an address.
    pub socket: Option<Box<Path>>,
    /// The port.
    pub port: u16,
    /// Put before the path of every request.
    pub path: Box<str>,
    /// The Host line that the upstream gets, unless the route preserves the client's.
    pub host_line: Box<str>,
    /// How it is spoken to over TLS; none in the clear.
    pub tls: Option<Tls>,
    /// Whether it is asked in HTTP/2.
    pub grpc: bool,
    /// Further tries after the first.
    pub retries: u32,
    /// Milliseconds to open a connection.
    pub connect_timeout_ms: u64,
    /// Milliseconds between two writes.
    pub write_timeout_ms: u64,
    /// Milliseconds between two reads.
    pub read_timeout_ms: u64,
}

/// Kong's default for the three timeouts of a service.
const TIMEOUT_MS_DEFAULT: i64 = 60_000;

impl Service {
    /// A service out of its row; none while it is switched off, or where its TLS cannot be had.
    pub fn from_row(row: &Arc<Row>, tables: &Tables, tls: &UpstreamTls) -> Option<Self> {
        if !row.flag("enabled").unwrap_or(true) {
            return None;
        }
        let host = row.text("host")?;
        let protocol = row.text("protocol").unwrap_or("http");
        let port = u16::try_from(row.integer("port").unwrap_or(80)).ok()?;
        let secure = matches!(protocol, "https" | "grpcs" | "tls");
        let usual = if secure { 443 } else { 80 };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let shown = if bare.parse::<std::net::Ipv6Addr>().is_ok() {
            format!("[{bare}]")
        } else {
            host.to_owned()
        };
        let path = row.text("path").unwrap_or("/");
        let (socket, path) = match unix_socket(host, path) {
            Some((socket, path)) => (Some(Box::from(Path::new(socket))), path),
            None => (None, path),
        };
        let host_line = match &socket {
            // nginx's name for it.
            Some(_) => "localhost".to_owned(),
            None if port == usual => shown,
            None => format!("{shown}:{port}"),
        };
        let tls = match secure.then(|| tls.of(row, tables)).transpose() {
            Ok(tls) => tls,
            Err(why) => {
                log::error!("the service {} is not asked: {why}", row.id());
                return None;
            }
        };
        let ms = |name| {
            let ms = row.integer(name).unwrap_or(TIMEOUT_MS_DEFAULT);
            u64::try_from(ms).unwrap_or(TIMEOUT_MS_DEFAULT as u64)
        };
        Some(Self {
            row: Arc::clone(row),
            host: bare.into(),
            ip: match socket {
                Some(_) => Some(IpAddr::from([0; 4])),
                None => bare.parse().ok(),
            },
            socket,
            port,
            path: path.into(),
            host_line: host_line.into(),
            tls,
            grpc: matches!(protocol, "grpc" | "grpcs"),
            retries: row.integer("retries").and_then(|n| n.try_into().ok()).unwrap_or(5),
            connect_timeout_ms: ms("connect_timeout"),
            write_timeout_ms: ms("write_timeout"),
            read_timeout_ms: ms("read_timeout"),
        })
    }

    /// What a connection to one of its addresses can be exchanged for. `name` is what that one is
    /// called in a TLS handshake.
    pub fn key(&self, address: SocketAddr, name: &str) -> Key {
        let tls = self.tls.as_ref().map_or(0, |tls| tls.print(name));
        // No address tells two sockets apart.
        let socket = self.socket.as_ref().map_or(0, |path| FixedState::default().hash_one(path));
        Key { address, tls: tls ^ socket }
    }
}

/// Endings by which a file is taken for a socket.
const SOCKET_ENDINGS: [&str; 2] = [".sock", ".socket"];

/// The socket's file and the path behind it, where a service's URL is nginx's
/// `http://unix:/run/app.sock:/path`: of that, Kong's own reading of URLs makes the host `unix` and
/// the path `/run/app.sock:/path`. Kong would look the name `unix` up.
fn unix_socket<'a>(host: &str, path: &'a str) -> Option<(&'a str, &'a str)> {
    let (socket, behind) = path.split_once(':').unwrap_or((path, "/"));
    let named = SOCKET_ENDINGS.iter().any(|ending| socket.ends_with(ending));
    (host == "unix" && named && behind.starts_with('/')).then_some((socket, behind))
}

/// Everything the road reads, compiled from one snapshot.
#[derive(Clone)]
pub struct Roadmap {
    /// Finds the route.
    pub router: Arc<Router>,
    /// The enabled services.
    pub services: Shards<Uuid, Arc<Service>>,
    /// The enabled plugins.
    pub plugins: PluginTable,
    /// The order of plugins.
    pub slots: Arc<Slots>,
    /// Changes whenever a plan that a core has made may be wrong.
    pub plans_number: u64,
    tls: Arc<UpstreamTls>,
}

impl Roadmap {
    /// A roadmap without a road, for a router without routes.
    pub fn empty(slots: Arc<Slots>, tls: Arc<UpstreamTls>, router: Router) -> Self {
        Self {
            router: Arc::new(router),
            services: Shards::default(),
            plugins: PluginTable::default(),
            slots,
            plans_number: 0,
            tls,
        }
    }

    /// The next roadmap.
    #[must_use]
    pub fn with(&self, tables: &Tables, changes: &[Change]) -> Self {
        let of = |entity| changes.iter().filter(move |change| change.entity.name == entity);
        let compiled = |row| Service::from_row(row, tables, &self.tls).map(Arc::new);
        let services = of("services").filter_map(|change| {
            let row = change.after.as_ref().or(change.before.as_ref())?;
            Some((row.id(), change.after.as_ref().and_then(compiled)))
        });
        let touched = UpstreamTls::touched(tables, changes);
        let touched = touched.iter().map(|row| (row.id(), compiled(row)));
        let services: Vec<_> = services.chain(touched).collect();
        let plugins: Vec<_> =
            of("plugins").map(|c| (c.before.as_deref(), c.after.as_deref())).collect();
        let (table, plans_hold) = if plugins.is_empty() {
            (self.plugins.clone(), true)
        } else {
            self.plugins.with(&self.slots, &plugins)
        };
        let plans_hold = plans_hold && services.is_empty();
        let switched =
            services.iter().filter(|(id, now)| self.services.get(id).is_some() != now.is_some());
        let routes = Self::changed_routes(tables, changes, switched.map(|(id, _)| *id).collect());
        let services =
            if services.is_empty() { self.services.clone() } else { self.services.with(services) };
        let router = if routes.is_empty() {
            Arc::clone(&self.router)
        } else {
            let (router, faults) = self.router.with(routes.into_iter().map(|(id, row)| {
                match row.filter(|row| is_served(&services, row)) {
                    Some(row) => match RouteSpec::from_row(&row, self.router.flavor()) {
                        Ok(spec) => RouteChange::Put(Box::new(spec)),
                        Err(reason) => {
                            log::error!("the route {id} is not served: {reason}");
                            RouteChange::Drop(id)
                        }
                    },
                    None => RouteChange::Drop(id),
                }
            }));
            for fault in faults {
                log::error!("the route {} is not served: {}", fault.id, fault.reason);
            }
            Arc::new(router)
        };
        Self {
            router,
            services,
            plugins: table,
            slots: Arc::clone(&self.slots),
            plans_number: self.plans_number + u64::from(!plans_hold),
            tls: Arc::clone(&self.tls),
        }
    }

    /// What checks of Upstreams show from a change on, by the Upstream's id.
    pub fn checks(&self, tables: &Tables, changes: &[Change]) -> Vec<(Uuid, Option<Arc<Trust>>)> {
        let touched = UpstreamTls::checks_touched(tables, changes);
        let shown = |row: Arc<Row>| (row.id(), self.tls.of_checks(&row, tables).map(Arc::new));
        touched.into_iter().map(shown).collect()
    }

    /// The routes that changed, and those whose service was switched on or off.
    fn changed_routes(
        tables: &Tables,
        changes: &[Change],
        switched: Vec<Uuid>,
    ) -> Vec<(Uuid, Option<Arc<Row>>)> {
        let mut routes: Vec<_> = changes
            .iter()
            .filter(|change| change.entity.name == "routes")
            .filter_map(|change| {
                let id = change.after.as_ref().or(change.before.as_ref())?.id();
                Some((id, change.after.clone()))
            })
            .collect();
        for service in switched {
            let children = tables.children("routes", "service", service, None);
            routes.extend(children.map(|row| (row.id(), Some(Arc::clone(row)))));
        }
        routes
    }
}

/// Whether a route leads somewhere: one whose service is switched off vanishes, one without a
/// service stays (its plugins may answer).
fn is_served(services: &Shards<Uuid, Arc<Service>>, route: &Row) -> bool {
    route.foreign("service").is_none_or(|id| services.get(&id).is_some())
}

/// A route as one core serves it: what was matched, and who takes part.
pub struct Planned {
    /// The rows, for plugins.
    pub scope: Rc<Scope>,
    /// The route.
    pub route: Arc<RouteEntry>,
    /// Its service.
    pub service: Option<Arc<Service>>,
    /// Its plugins.
    pub plan: Plan,
    /// The roadmap's number when this was made.
    pub plans_number: u64,
}

impl Planned {
    /// Whether the request's body is read before the upstream is asked.
    pub fn request_buffering(&self) -> bool {
        self.route.spec.request_buffering
    }
}

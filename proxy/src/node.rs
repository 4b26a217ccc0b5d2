//! This node as the Admin API shows it: facts of its start, and gauges that move.
//!
//! The store is started before the cores, because they need its first snapshot; so what the cores
//! count is plugged in here later.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use exporter::{DestinationState, Dropped, Sums};
use plugins::pdk::Spec;
use serde_json::{Map, Value, json};
use store::admin::{Balancers, Live, Node, NodeFacts};
use store::conf::{Database, Settings};
use store::snapshot::Tables;
use store::value::Row;
use uuid::Uuid;

use crate::cli::VERSION;
use crate::logs::Logs;
use crate::process;

/// What the cores have counted together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections since the start.
    pub accepted: u64,
    /// Connections that are open.
    pub active: u64,
    /// Those of them that wait for a request.
    pub waiting: u64,
    /// Requests since the start.
    pub requests: u64,
}

/// A reading that can be taken from any thread at any time, without waiting.
type Reading<T> = Box<dyn Fn() -> T + Send + Sync>;

/// What moves. Shared by the program, which plugs readings in, and the Admin API.
#[derive(Default)]
pub struct Gauges {
    traffic: OnceLock<Reading<Traffic>>,
    database: OnceLock<Reading<bool>>,
    more: Mutex<Vec<(&'static str, Reading<Value>)>>,
    /// Why the node does not serve: at first because it is starting.
    unready: Mutex<Option<String>>,
}

impl Gauges {
    /// Gauges of a node that is starting.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let gauges = Self::default();
        gauges.set_unready(Some("starting"));
        Arc::new(gauges)
    }

    /// Plugs in what the cores count; the first one stays.
    pub fn count_traffic(&self, read: impl Fn() -> Traffic + Send + Sync + 'static) {
        let _kept = self.traffic.set(Box::new(read));
    }

    /// Plugs in whether the database answers; the first one stays.
    pub fn watch_database(&self, read: impl Fn() -> bool + Send + Sync + 'static) {
        let _kept = self.database.set(Box::new(read));
    }

    /// Shows one more thing under `tollgate` in `GET /status`.
    pub fn show(&self, name: &'static str, read: impl Fn() -> Value + Send + Sync + 'static) {
        let mut more = self.more.lock().unwrap_or_else(PoisonError::into_inner);
        more.push((name, Box::new(read)));
    }

    /// Says why the node does not serve, for `GET /status/ready`; none: it does.
    pub fn set_unready(&self, why: Option<&str>) {
        let mut unready = self.unready.lock().unwrap_or_else(PoisonError::into_inner);
        *unready = why.map(str::to_owned);
    }

    fn live(&self) -> Live {
        let traffic = self.traffic.get().map(|read| read()).unwrap_or_default();
        let more = self.more.lock().unwrap_or_else(PoisonError::into_inner);
        let unready = self.unready.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let database_reachable = self.database.get().is_none_or(|read| read());
        // A node without its database is not ready, in Kong's words.
        let unready = unready
            .or_else(|| (!database_reachable).then(|| "failed to connect to database".to_owned()));
        Live {
            pid: std::process::id(),
            memory_bytes: process::memory_bytes(),
            connections_accepted: traffic.accepted,
            connections_active: traffic.active,
            connections_waiting: traffic.waiting,
            requests_total: traffic.requests,
            database_reachable,
            unready,
            more: more.iter().map(|(name, read)| ((*name).to_owned(), read())).collect(),
        }
    }
}

/// The node for the Admin API. `plugins` are the names in force.
pub fn node<'a>(
    settings: &Settings,
    id: Uuid,
    plugins: impl IntoIterator<Item = &'a str>,
    logs: &Logs,
    gauges: &Arc<Gauges>,
) -> Node {
    let gauges = Arc::clone(gauges);
    let store = match settings.database() {
        Database::Sqlite => "sqlite",
        Database::Postgres => "postgres",
        Database::Off => "off",
    };
    Node {
        facts: NodeFacts {
            hostname: process::hostname(),
            node_id: id,
            version: VERSION.to_owned(),
            store: store.to_owned(),
            configuration: settings.json(plugins),
            origins: settings.list("admin_gui_url").iter().filter_map(|url| origin(url)).collect(),
        },
        live: Box::new(move || gauges.live()),
        log_level: logs.level_dial(),
        balancers: Balancers::default(),
        endpoints: Vec::new(),
    }
}

/// The origin of a URL: scheme, host and port.
fn origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next().filter(|host| !host.is_empty())?;
    Some(format!("{scheme}://{host}"))
}

/// Most rows that `GET /status` lists as inactive; all of them are counted.
const INACTIVE_ROWS_MAX: usize = 100;

/// The enabled rows of plugins whose behaviour is not built yet, as `GET /status` shows them.
#[must_use]
pub fn inactive(tables: &Tables, specs: &[&'static Spec]) -> Value {
    let waiting: BTreeSet<&str> =
        specs.iter().filter(|spec| !spec.is_built()).map(|spec| spec.schema.name).collect();
    let is_inactive = |row: &&Arc<Row>| {
        row.flag("enabled").unwrap_or(true)
            && row.text("name").is_some_and(|name| waiting.contains(name))
    };
    let (mut rows, mut total) = (Vec::new(), 0_usize);
    for row in tables.all("plugins").filter(is_inactive) {
        total += 1;
        if rows.len() < INACTIVE_ROWS_MAX {
            let parent = |name| row.foreign(name).map(|id| json!({ "id": id.to_string() }));
            rows.push(json!({
                "id": row.id().to_string(),
                "name": row.text("name"),
                "route": parent("route"),
                "service": parent("service"),
                "consumer": parent("consumer"),
            }));
        }
    }
    json!({ "plugins": rows, "total": total })
}

/// The sums of events, as `GET /status` shows them.
#[must_use]
pub fn events(sums: &Sums) -> Value {
    let reasons: Map<String, Value> = Dropped::REASONS
        .iter()
        .map(|(loss, name)| ((*name).to_owned(), json!(sums.dropped.count(*loss))))
        .filter(|(_, count)| *count != json!(0))
        .collect();
    json!({
        "received": sums.received,
        "delivered": sums.delivered,
        "queued": sums.queued,
        "dropped": sums.dropped.total(),
        "dropped_because": reasons,
        "bodies_left_out": sums.bodies_left_out,
        "rings_set_aside": sums.rings_set_aside,
    })
}

/// How destinations do, as `GET /status` shows them.
#[must_use]
pub fn destinations(states: &[DestinationState]) -> Value {
    let shown = states.iter().map(|state| {
        json!({
            "to": state.label,
            "queued": state.queued,
            "bytes": state.bytes,
            "delivered": state.delivered,
            "failures": state.failures,
            "last_error": state.last_error,
        })
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_plugged_in_later() {
        let gauges = Gauges::new();
        let live = gauges.live();
        assert_eq!((live.requests_total, live.unready.as_deref()), (0, Some("starting")));
        gauges.count_traffic(|| Traffic { accepted: 3, active: 2, waiting: 1, requests: 9 });
        gauges.show("cores", || json!(2));
        gauges.set_unready(None);
        let live = gauges.live();
        let counts = (live.connections_accepted, live.connections_active, live.requests_total);
        assert_eq!((counts, live.unready), ((3, 2, 9), None));
        assert_eq!(live.more, json!({"cores": 2}).as_object().cloned().unwrap());
        assert!(live.memory_bytes > 0);
    }

    #[test]
    fn origins_have_no_path() {
        assert_eq!(origin("https://a.example:8445/manager"), Some("https://a.example:8445".into()));
        assert_eq!(origin("https:///x"), None);
        assert_eq!(origin("a.example"), None);
    }

    #[test]
    fn the_sums_of_events_are_shown() {
        let shown = events(&Sums { received: 5, delivered: 5, ..Sums::default() });
        assert_eq!((&shown["received"], &shown["dropped_because"]), (&json!(5), &json!({})));
    }
}

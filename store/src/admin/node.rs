//! What only the program knows about this node, and the endpoints that tell it.
//!
//! Source: Kong `kong/api/routes/{kong,health,cache,debug}.lua`; `facts/{root,status}.json`.

use super::body::Sent;
use super::health::Balancers;
use super::own::OwnEndpoint;
use super::page::{Query, lua_number};
use super::rows::Answered;
use super::{Method, Reply};
use crate::actor::Working;
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeSet;
use uuid::Uuid;

/// Kong's version that this gateway behaves like: tools branch on it.
pub const KONG_VERSION: &str = "3.9.1";

/// What is the same as long as the node runs.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// Of this machine.
    pub hostname: String,
    /// Of this node, kept over restarts.
    pub node_id: Uuid,
    /// Version of Tollgate.
    pub version: String,
    /// What rows are kept in: `sqlite`, `postgres` or `off`.
    pub store: String,
    /// Every setting in force by name, without secrets: `Settings::json`.
    pub configuration: Map<String, Json>,
    /// `admin_gui_origin`: pages that may call; empty means any.
    pub origins: Vec<String>,
}

/// What changes while the node runs, asked for once per call that shows it.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// Process id.
    pub pid: u32,
    /// Resident memory of the process.
    pub memory_bytes: u64,
    /// Connections of the proxy since the start.
    pub connections_accepted: u64,
    /// Those that are open.
    pub connections_active: u64,
    /// Those of them that wait for a request.
    pub connections_waiting: u64,
    /// Requests since the start.
    pub requests_total: u64,
    /// Whether the store answers.
    pub database_reachable: bool,
    /// Why the node cannot serve yet, or not any more; `None` if it can.
    pub unready: Option<String>,
    /// What stands under `tollgate` in `GET /status`, beside the version: the sums of events, what
    /// is stored and not built yet, …
    pub more: Map<String, Json>,
}

/// Sets the log level for so many seconds (0: for good) if one is given. Levels have Kong's names
/// (`notice`). Returns the level that was in force before.
pub type LogLevel = Box<dyn FnMut(Option<(&str, u64)>) -> String + Send>;

/// The node as the Admin API sees it.
pub struct Node {
    /// What stays.
    pub facts: NodeFacts,
    /// What changes.
    pub live: Box<dyn FnMut() -> Live + Send>,
    /// Reads or changes the log level.
    pub log_level: LogLevel,
    /// How upstreams do.
    pub balancers: Balancers,
    /// Endpoints that plugins bring along.
    pub endpoints: Vec<OwnEndpoint>,
}

/// `GET /`
pub(super) fn root(node: &mut Node, store: &Working<'_>) -> Reply {
    let live = (node.live)();
    let facts = &node.facts;
    let catalogue = store.catalogue();
    let usable = catalogue.plugins.iter().filter(|known| catalogue.plugin(known.name).is_some());
    let available: Map<String, Json> = usable
        .map(|plugin| {
            let shown = json!({ "version": plugin.version, "priority": plugin.priority });
            (plugin.name.to_owned(), shown)
        })
        .collect();
    let now_s = store.now_s();
    let rows = store.tables().all("plugins").filter(|row| row.is_alive(now_s));
    let enabled: BTreeSet<_> = rows.filter_map(|row| row.text("name")).collect();
    let body = json!({
        "tagline": "Welcome to kong",
        "version": KONG_VERSION,
        "edition": "community",
        "tollgate": { "version": facts.version, "store": facts.store },
        "hostname": facts.hostname,
        "node_id": facts.node_id.to_string(),
        "timers": { "running": 0, "pending": 0 },
        "plugins": { "available_on_server": available, "enabled_in_cluster": enabled },
        "lua_version": "none",
        "configuration": configuration(facts),
        "pids": { "master": live.pid, "workers": [live.pid] },
    });
    Reply::json(200, &body)
}

/// The settings. Tools only tell a gateway with a database from one without, and know no SQLite,
/// so an embedded store says `postgres`; `tollgate.store` says what it is.
fn configuration(facts: &NodeFacts) -> Map<String, Json> {
    let mut shown = facts.configuration.clone();
    let database = if facts.store == "off" { "off" } else { "postgres" };
    shown.insert("database".to_owned(), json!(database));
    shown.entry("router_flavor").or_insert_with(|| json!("traditional_compatible"));
    shown
}

/// `GET /status`
pub(super) fn status(node: &mut Node, store: &Working<'_>, query: &str) -> Answered {
    let query = Query::read(query)?;
    let (unit, scale) = (query.text("unit").unwrap_or("m"), query.text("scale").unwrap_or("2"));
    let live = (node.live)();
    let memory = size(live.memory_bytes, unit, scale)?;
    let mut tollgate = live.more;
    tollgate.insert("version".to_owned(), json!(node.facts.version));
    tollgate.insert("store".to_owned(), json!(node.facts.store));
    let waiting = live.connections_waiting.min(live.connections_active);
    let mut body = json!({
        "memory": {
            "workers_lua_vms": [{ "pid": live.pid, "http_allocated_gc": memory }],
            "lua_shared_dicts": {},
        },
        "server": {
            "connections_active": live.connections_active,
            "connections_reading": 0,
            "connections_writing": live.connections_active - waiting,
            "connections_waiting": waiting,
            "connections_accepted": live.connections_accepted,
            "connections_handled": live.connections_accepted,
            "total_requests": live.requests_total,
        },
        "tollgate": tollgate,
    });
    if store.is_declarative() {
        let hash = store.tables().config_hash();
        body["configuration_hash"] = json!(format!("{hash:032x}"));
    } else {
        body["database"] = json!({ "reachable": live.database_reachable });
    }
    Ok(Reply::json(200, &body))
}

/// Digits behind the point when the client does not say, or says no number.
const SCALE: f64 = 2.0;
/// Most digits behind the point.
const SCALE_MAX: f64 = 20.0;

/// A number of bytes in that unit, as Kong prints it.
fn size(bytes: u64, unit: &str, scale: &str) -> Result<Json, Reply> {
    let (name, divisor) = match unit.to_ascii_lowercase().as_str() {
        "b" => return Ok(json!(bytes)),
        "k" => ("KiB", 1_u64 << 10),
        "m" => ("MiB", 1 << 20),
        "g" => ("GiB", 1 << 30),
        _ => {
            let words = format!("invalid unit '{unit}' (expected 'k/K', 'm/M', or 'g/G')");
            return Err(Reply::message(400, &words));
        }
    };
    let digits = Some(lua_number(scale).unwrap_or(SCALE));
    let Some(digits) = digits.filter(|digits| (0.0..=SCALE_MAX).contains(digits)) else {
        return Err(Reply::message(400, "scale must be equal or greater than 0"));
    };
    let shown = bytes as f64 / divisor as f64;
    Ok(json!(format!("{shown:.*} {name}", digits as usize)))
}

/// `POST /status/ready`: the node says from now on that it is draining.
pub(super) fn drain(draining: &mut bool, sent: &Sent) -> Reply {
    if sent.fields.get("status").and_then(Json::as_str) != Some("draining") {
        return Reply::empty(400);
    }
    *draining = true;
    Reply::empty(204)
}

/// `GET /status/ready`
pub(super) fn ready(node: &mut Node, store: &Working<'_>, draining: bool) -> Reply {
    if draining {
        return Reply::message(503, "draining");
    }
    match (node.live)().unready {
        None if store.is_declarative() && store.tables().config_hash() == 0 => {
            let words = "no configuration available (empty configuration present)";
            Reply::message(503, words)
        }
        None => Reply::message(200, "ready"),
        Some(why) => Reply::message(503, &why),
    }
}

/// `GET /timers`: there are none; the shape is what tools expect.
pub(super) fn timers() -> Reply {
    let flamegraph = json!({ "running": "", "pending": "", "elapsed_time": "" });
    let sys = json!({ "total": 0, "runs": 0, "running": 0, "pending": 0, "waiting": 0 });
    let stats = json!({ "flamegraph": flamegraph, "sys": sys, "timers": {} });
    Reply::json(200, &json!({ "worker": { "id": 0, "count": 1 }, "stats": stats }))
}

/// Kong's levels.
const LEVELS: &[&str] = &["debug", "info", "notice", "warn", "error", "crit", "alert", "emerg"];
/// How long a changed level holds when the client does not say.
const LEVEL_TIMEOUT_S: u64 = 60;
const LEVEL_TIMEOUT_S_MAX: f64 = 1e9;

/// `/debug/node/log-level` and, with `level`, `/debug/{node,cluster}/log-level/{level}`.
pub(super) fn log_level(
    node: &mut Node,
    method: Method,
    level: &str,
    timeout: Option<&Json>,
) -> Answered {
    let now = (node.log_level)(None);
    if method == Method::Get {
        return Ok(Reply::message(200, &format!("log level: {now}")));
    }
    if !LEVELS.contains(&level) {
        return Err(Reply::message(400, &format!("unknown log level: {level}")));
    }
    let seconds = match timeout {
        None => Some(LEVEL_TIMEOUT_S as f64),
        Some(Json::String(text)) => lua_number(text),
        Some(other) => other.as_f64(),
    };
    let Some(seconds) = seconds.filter(|seconds| *seconds >= 0.0) else {
        return Err(Reply::message(400, "timeout must be greater than or equal to 0"));
    };
    if now == level {
        return Ok(Reply::message(200, &format!("log level is already {level}")));
    }
    (node.log_level)(Some((level, seconds.min(LEVEL_TIMEOUT_S_MAX) as u64)));
    Ok(Reply::message(200, "log level changed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    #[allow(clippy::needless_pass_by_value, reason = "so that calls read as a table")]
    fn check(unit: &str, scale: &str, expected: Result<Json, &str>) {
        let found = size(3 << 19, unit, scale);
        let expected = expected.map_err(|words| Reply::message(400, words));
        assert_eq!(found, expected, "{unit} {scale}");
    }

    #[test]
    fn memory_is_printed_in_kongs_units() {
        check("m", "2", Ok(json!("1.50 MiB")));
        check("K", "0", Ok(json!("1536 KiB")));
        check("g", "", Ok(json!("0.00 GiB")));
        check("b", "x", Ok(json!(1_572_864)));
        check("x", "2", Err("invalid unit 'x' (expected 'k/K', 'm/M', or 'g/G')"));
        check("m", "x", Ok(json!("1.50 MiB")));
        for scale in ["-1", "1e9"] {
            check("m", scale, Err("scale must be equal or greater than 0"));
        }
    }

    #[test]
    fn tools_see_a_database_or_none() {
        let shown = |store: &str| {
            let facts = NodeFacts { store: store.to_owned(), ..NodeFacts::default() };
            configuration(&facts).remove("database")
        };
        assert_eq!(shown("sqlite"), Some(json!("postgres")));
        assert_eq!(shown("postgres"), Some(json!("postgres")));
        assert_eq!(shown("off"), Some(json!("off")));
    }
}

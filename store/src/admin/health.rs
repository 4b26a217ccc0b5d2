//! How the targets of an upstream do: what the balancers tell, and what clients see of it.
//!
//! ```text
//! GET …/health ─► Balancers::health(row) ─► addresses ─┬─► HEALTHY, UNHEALTHY, DNS_ERROR,
//!                          upstream's checks, weights ──┘   HEALTHCHECKS_OFF
//! PUT …/unhealthy ─► Balancers::mark
//! ```
//! The program fills [`Balancers`]; the default knows what rows alone tell.
//!
//! Source: Kong `kong/runloop/balancer/healthcheckers.lua`, `kong/db/dao/targets.lua`.

use crate::check::address;
use crate::entities::TARGET_PORT;
use crate::snapshot::Tables;
use crate::value::{Row, Value};
use serde_json::{Map, Value as Json, json};

/// One address of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressHealth {
    /// The IP address, without brackets.
    pub ip: String,
    /// The port.
    pub port: u16,
    /// Its weight among all addresses.
    pub weight: u64,
    /// Whether it gets requests.
    pub healthy: bool,
}

/// The addresses of one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetHealth {
    /// `host:port`, as the row has it.
    pub target: String,
    /// Where the addresses come from: `A`, `AAAA`, `SRV`, a fault of DNS, or nothing.
    pub dns: String,
    /// None: the name cannot be resolved.
    pub addresses: Vec<AddressHealth>,
}

/// The balancer of one upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamHealth {
    /// Whether enough of it is healthy (`healthchecks.threshold`) to be sent requests.
    pub healthy: bool,
    /// Its targets, in any order.
    pub targets: Vec<TargetHealth>,
}

/// An operator declares addresses healthy or not.
#[derive(Clone, Copy, Debug)]
pub struct HealthMark<'a> {
    /// The upstream's row.
    pub upstream: &'a Row,
    /// The target's row.
    pub target: &'a Row,
    /// One address of it; `None` means all.
    pub address: Option<(&'a str, u16)>,
    /// What it is declared to be.
    pub healthy: bool,
}

/// Tells how the addresses of an upstream do; `None` if nobody balances it.
pub type ReadHealth = Box<dyn FnMut(&Row, &Tables) -> Option<UpstreamHealth> + Send>;
/// Takes a mark; the error is the answer (400).
pub type TakeMark = Box<dyn FnMut(&HealthMark<'_>) -> Result<(), String> + Send>;

/// What the balancers know. Both run on the store's thread: they must not block.
pub struct Balancers {
    /// How the addresses of an upstream do.
    pub health: ReadHealth,
    /// Takes a mark.
    pub mark: TakeMark,
}

impl Default for Balancers {
    fn default() -> Self {
        Self {
            health: Box::new(|upstream, tables| Some(believed(upstream, tables))),
            mark: Box::new(|mark| {
                let name = mark.upstream.text("name").unwrap_or_default();
                Err(format!("Upstream {name} has no balancer"))
            }),
        }
    }
}

/// What rows tell: a target that is an address is healthy, a name is unknown.
fn believed(upstream: &Row, tables: &Tables) -> UpstreamHealth {
    let rows = tables.children("targets", "upstream", upstream.id(), None);
    let targets = rows.filter_map(|row| {
        let target = row.text("target")?;
        let address = address::parse(target).ok()?;
        let own = AddressHealth {
            ip: address.host.clone(),
            port: address.port.unwrap_or(TARGET_PORT),
            weight: weight(row),
            healthy: true,
        };
        let addresses = if address.is_name { Vec::new() } else { vec![own] };
        Some(TargetHealth { target: target.to_owned(), dns: "unknown".to_owned(), addresses })
    });
    UpstreamHealth { healthy: true, targets: targets.collect() }
}

fn weight(target: &Row) -> u64 {
    target.get("weight").as_integer().and_then(|weight| weight.try_into().ok()).unwrap_or(0)
}

/// Whether anything watches the targets of this upstream.
fn is_watched(upstream: &Row) -> bool {
    let counts = [
        "active.healthy.interval",
        "active.unhealthy.interval",
        "passive.unhealthy.tcp_failures",
        "passive.unhealthy.timeouts",
        "passive.unhealthy.http_failures",
    ];
    let checks = upstream.get("healthchecks");
    let count = |path: &&str| checks.path(path).and_then(Value::as_number).unwrap_or(0.0);
    counts.iter().any(|path| count(path) != 0.0)
}

/// Sums of weights: all, of healthy addresses, of the others.
fn weights<'a>(addresses: impl Iterator<Item = &'a AddressHealth>) -> Json {
    let (mut total, mut available) = (0, 0);
    for address in addresses {
        total += address.weight;
        available += if address.healthy { address.weight } else { 0 };
    }
    json!({ "total": total, "available": available, "unavailable": total - available })
}

/// A list as Kong prints it here: an empty one is `{}`.
fn list(items: Vec<Json>) -> Json {
    if items.is_empty() { json!({}) } else { items.into() }
}

/// `host`, `port` and the rest of one target; `of` shows how one address does.
fn target_json(
    target: &TargetHealth,
    node_weight: u64,
    of: impl Fn(&AddressHealth) -> (&'static str, Json),
) -> Json {
    let (host, port) = target.target.rsplit_once(':').unwrap_or((&target.target, ""));
    let addresses: Vec<Json> = target
        .addresses
        .iter()
        .map(|address| {
            let (name, state) = of(address);
            json!({ "ip": address.ip, "port": address.port, "weight": address.weight, name: state })
        })
        .collect();
    json!({
        "host": host,
        "port": port.parse::<u16>().unwrap_or(TARGET_PORT),
        "dns": target.dns,
        "nodeWeight": node_weight,
        "weight": weights(target.addresses.iter()),
        "addresses": list(addresses),
    })
}

/// One address of one target, in the words of `kong_upstream_target_health`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TargetState {
    /// The upstream's name.
    pub upstream: String,
    /// The target, as the row has it.
    pub target: String,
    /// `ip:port`; empty where the target has no address.
    pub address: String,
    /// `healthchecks_off`, `healthy`, `unhealthy` or `dns_error`.
    pub state: &'static str,
}

/// How the addresses of all upstreams do.
pub(super) fn states(tables: &Tables, read: &mut ReadHealth) -> Vec<TargetState> {
    let mut states = Vec::new();
    for upstream in tables.all("upstreams") {
        let Some(health) = read(upstream, tables) else { continue };
        let is_watched = is_watched(upstream);
        let name = upstream.text("name").unwrap_or_default();
        let one = |target: &TargetHealth, address: String, state| TargetState {
            upstream: name.to_owned(),
            target: target.target.clone(),
            address,
            state,
        };
        for target in &health.targets {
            if target.addresses.is_empty() {
                states.push(one(target, String::new(), "dns_error"));
            }
            for address in &target.addresses {
                let state = match (is_watched, address.healthy) {
                    (false, _) => "healthchecks_off",
                    (true, true) => "healthy",
                    (true, false) => "unhealthy",
                };
                states.push(one(target, format!("{}:{}", address.ip, address.port), state));
            }
        }
    }
    states
}

/// Adds `health` and `data` to a target as clients see it.
pub(super) fn of_target(
    upstream: &Row,
    health: &UpstreamHealth,
    row: &Row,
    object: &mut Map<String, Json>,
) {
    let wanted = row.text("target").unwrap_or_default();
    let known = health.targets.iter().find(|known| known.target == wanted);
    let is_watched = is_watched(upstream) && weight(row) > 0;
    let state = |address: &AddressHealth| match (is_watched, address.healthy) {
        (false, _) => "HEALTHCHECKS_OFF",
        (true, true) => "HEALTHY",
        (true, false) => "UNHEALTHY",
    };
    let addresses = known.map(|known| known.addresses.as_slice()).unwrap_or_default();
    let whole = match addresses {
        [] => "DNS_ERROR",
        _ if !is_watched => "HEALTHCHECKS_OFF",
        some if some.iter().any(|address| address.healthy) => "HEALTHY",
        _ => "UNHEALTHY",
    };
    object.insert("health".to_owned(), json!(whole));
    if let Some(known) = known {
        let shown = target_json(known, weight(row), |address| ("health", json!(state(address))));
        object.insert("data".to_owned(), shown);
    }
}

/// The whole upstream, for `?balancer_health=1`.
pub(super) fn of_upstream(upstream: &Row, health: &UpstreamHealth, tables: &Tables) -> Json {
    let balancer = if health.healthy { "HEALTHY" } else { "UNHEALTHY" };
    let node_weight = |target: &TargetHealth| {
        let key = [Value::Id(upstream.id()), Value::text(target.target.as_str())];
        tables.by_key("targets", &key).map_or(0, |row| weight(row))
    };
    let healthy = |address: &AddressHealth| ("healthy", json!(address.healthy));
    let hosts: Vec<Json> = health
        .targets
        .iter()
        .map(|target| target_json(target, node_weight(target), healthy))
        .collect();
    json!({
        "health": if is_watched(upstream) { balancer } else { "HEALTHCHECKS_OFF" },
        "balancer_health": balancer,
        "id": upstream.id().to_string(),
        "details": {
            "healthy": health.healthy,
            "weight": weights(health.targets.iter().flat_map(|target| &target.addresses)),
            "hosts": list(hosts),
        },
    })
}

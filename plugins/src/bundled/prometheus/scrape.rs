//! What `GET /metrics` shows: Kong's metrics under Kong's names, then this program's own.
//!
//! Left out of Kong's are those of streams, of control and data planes and of AI plugins, which are
//! not built. What Kong tells of its Lua memory is told of this process: its resident bytes, and
//! the tables that hold counters.
//!
//! `promtool check metrics` takes the text, and finds fault with six names that are Kong's
//! (suffixes
//! and units in `kong_bandwidth_bytes`, `kong_nginx_connections_total`, `kong_nginx_requests_total`
//! and the three latencies): they stay as dashboards know them. Our own names pass.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use exporter::Dropped;
use store::admin::{KONG_VERSION, Reply};

use super::text::{CONTENT_TYPE, Kind, Text};
use crate::pdk::meters::{Histogram, Labels, Meter, Meters, SERIES_MAX};
use crate::pdk::{Asked, Lent};

/// The workspace that everything is in.
const WORKSPACE: &str = "default";

/// Answers a scrape.
pub(super) fn answer(asked: &Asked<'_>, lent: &Lent) -> Reply {
    let mut text = Text::default();
    push_exchanges(&mut text, &lent.meters);
    push_node(&mut text, asked, lent);
    if wants_health(asked) {
        push_health(&mut text, asked);
    }
    push_own(&mut text, asked, lent);
    Reply::of_type(200, CONTENT_TYPE, text.finish())
}

type Owned = (String, String, String);

/// Series of all cores, added up by labels.
#[derive(Default)]
struct Sums {
    requests: BTreeMap<(Owned, u16, bool), u64>,
    bytes: BTreeMap<Owned, (u64, u64)>,
    latency: BTreeMap<(String, String), Vec<u64>>,
}

impl Sums {
    fn of(meters: &Meters) -> Self {
        let mut sums = Self::default();
        for series in meters.tables().iter().flat_map(|table| table.series()) {
            let Labels { service, route, consumer } = series.labels();
            let owned = (service.to_owned(), route.to_owned(), consumer.to_owned());
            let cells = series.read();
            match (series.meter(), cells.as_slice()) {
                (Meter::Requests { status, from_service }, [count]) => {
                    *sums.requests.entry((owned, status, from_service)).or_default() += count;
                }
                (Meter::Bytes, [received, sent]) => {
                    let sum = sums.bytes.entry(owned).or_default();
                    *sum = (sum.0 + received, sum.1 + sent);
                }
                (Meter::Latency, cells) => {
                    let sum = sums.latency.entry((owned.0, owned.1)).or_default();
                    sum.resize(cells.len(), 0);
                    sum.iter_mut().zip(cells).for_each(|(sum, cell)| *sum += cell);
                }
                _ => {}
            }
        }
        sums
    }
}

fn push_exchanges(text: &mut Text, meters: &Meters) {
    let sums = Sums::of(meters);
    if !sums.bytes.is_empty() {
        let help = "Total bandwidth (ingress/egress) throughput in bytes";
        let mut family = text.family("kong_bandwidth_bytes", help, Kind::Counter);
        for ((service, route, consumer), (received, sent)) in &sums.bytes {
            for (direction, bytes) in [("egress", sent), ("ingress", received)] {
                let labels = [
                    ("service", service.as_str()),
                    ("route", route),
                    ("direction", direction),
                    ("workspace", WORKSPACE),
                    ("consumer", consumer),
                ];
                family.line(&labels, bytes);
            }
        }
    }
    if !sums.requests.is_empty() {
        let help = "HTTP status codes per consumer/service/route in Kong";
        let mut family = text.family("kong_http_requests_total", help, Kind::Counter);
        for (((service, route, consumer), status, from_service), count) in &sums.requests {
            let labels = [
                ("service", service.as_str()),
                ("route", route),
                ("code", &status.to_string()),
                ("source", if *from_service { "service" } else { "kong" }),
                ("workspace", WORKSPACE),
                ("consumer", consumer),
            ];
            family.line(&labels, count);
        }
    }
    for (name, help, histogram) in [
        (
            "kong_kong_latency_ms",
            "Latency added by Kong and enabled plugins for each service/route in Kong",
            Histogram::OWN,
        ),
        (
            "kong_request_latency_ms",
            "Total latency incurred during requests for each service/route in Kong",
            Histogram::WHOLE,
        ),
        (
            "kong_upstream_latency_ms",
            "Latency added by upstream response for each service/route in Kong",
            Histogram::UPSTREAM,
        ),
    ] {
        // A route whose upstream was never asked has no times of it.
        let observed = |cells: &&Vec<u64>| {
            histogram.of(cells).iter().take(histogram.bounds.len() + 1).any(|count| *count > 0)
        };
        let rows = sums.latency.iter().filter(|(_, cells)| observed(cells)).collect::<Vec<_>>();
        if rows.is_empty() {
            continue;
        }
        let mut family = text.family(name, help, Kind::Histogram);
        for ((service, route), cells) in rows {
            let labels =
                [("service", service.as_str()), ("route", route), ("workspace", WORKSPACE)];
            family.histogram(&labels, histogram.bounds, histogram.of(cells));
        }
    }
}

/// What Kong always tells of a node.
fn push_node(text: &mut Text, asked: &Asked<'_>, lent: &Lent) {
    let (live, node) = (&asked.live, asked.node_id.to_string());
    let help = "Datastore reachable from Kong, 0 is unreachable";
    let reachable = u8::from(live.database_reachable);
    text.single("kong_datastore_reachable", help, Kind::Gauge, reachable);
    let tables = [
        ("kong_rate_limiting_counters", lent.tally.bytes()),
        ("prometheus_metrics", lent.meters.bytes()),
    ];
    for (name, help) in [
        ("kong_memory_lua_shared_dict_bytes", "Allocated slabs in bytes in a shared_dict"),
        ("kong_memory_lua_shared_dict_total_bytes", "Total capacity in bytes of a shared_dict"),
    ] {
        let mut family = text.family(name, help, Kind::Gauge);
        for (table, bytes) in tables {
            let labels =
                [("node_id", node.as_str()), ("shared_dict", table), ("kong_subsystem", "http")];
            family.line(&labels, bytes);
        }
    }
    let help = "Allocated bytes in worker Lua VM";
    let pid = live.pid.to_string();
    let labels = [("node_id", node.as_str()), ("pid", &pid), ("kong_subsystem", "http")];
    text.family("kong_memory_workers_lua_vms_bytes", help, Kind::Gauge)
        .line(&labels, live.memory_bytes);
    push_traffic(text, asked, &node);
    let help = "Number of nginx-lua-prometheus errors";
    let refused: u64 = lent.meters.tables().iter().map(|table| table.refused()).sum();
    text.single("kong_nginx_metric_errors_total", help, Kind::Counter, refused);
    let mut family = text.family("kong_nginx_timers", "Number of nginx timers", Kind::Gauge);
    for state in ["pending", "running"] {
        family.line(&[("state", state)], 0);
    }
    let labels = [("node_id", node.as_str()), ("version", KONG_VERSION)];
    text.family("kong_node_info", "Kong Node metadata information", Kind::Gauge).line(&labels, 1);
}

fn push_traffic(text: &mut Text, asked: &Asked<'_>, node: &str) {
    let live = &asked.live;
    let help = "Number of connections by subsystem";
    let mut family = text.family("kong_nginx_connections_total", help, Kind::Gauge);
    for (state, connections) in [
        ("accepted", live.connections_accepted),
        ("active", live.connections_active),
        ("handled", live.connections_accepted),
        ("reading", 0),
        ("total", live.requests_total),
        ("waiting", live.connections_waiting),
        ("writing", live.connections_active.saturating_sub(live.connections_waiting)),
    ] {
        family.line(&[("node_id", node), ("subsystem", "http"), ("state", state)], connections);
    }
    let labels = [("node_id", node), ("subsystem", "http")];
    text.family("kong_nginx_requests_total", "Number of requests total", Kind::Gauge)
        .line(&labels, live.requests_total);
}

/// Whether a row asks for the health of upstreams.
fn wants_health(asked: &Asked<'_>) -> bool {
    asked.tables.all("plugins").any(|row| {
        row.text("name") == Some("prometheus")
            && row.flag("enabled").unwrap_or(true)
            && row.get("config").get("upstream_health_metrics").as_flag() == Some(true)
    })
}

fn push_health(text: &mut Text, asked: &Asked<'_>) {
    const STATES: [&str; 4] = ["dns_error", "healthchecks_off", "healthy", "unhealthy"];
    let mut states = asked.target_states();
    if states.is_empty() {
        return;
    }
    states.sort();
    states.dedup_by(|one, other| {
        (&one.upstream, &one.target, &one.address)
            == (&other.upstream, &other.target, &other.address)
    });
    let help = "Health status of targets of upstream. States = \
                healthchecks_off|healthy|unhealthy|dns_error, value is 1 when state is populated.";
    let mut family = text.family("kong_upstream_target_health", help, Kind::Gauge);
    for target in &states {
        for state in STATES {
            let labels = [
                ("upstream", target.upstream.as_str()),
                ("target", &target.target),
                ("address", &target.address),
                ("state", state),
                ("subsystem", "http"),
            ];
            family.line(&labels, u8::from(target.state == state));
        }
    }
}

/// This program's own.
fn push_own(text: &mut Text, asked: &Asked<'_>, lent: &Lent) {
    let live = &asked.live;
    for (name, help, kind, value) in [
        (
            "tollgate_connections_accepted_total",
            "Connections that clients have opened.",
            Kind::Counter,
            live.connections_accepted,
        ),
        (
            "tollgate_connections",
            "Connections of clients now.",
            Kind::Gauge,
            live.connections_active,
        ),
        (
            "tollgate_requests_total",
            "Requests that have begun.",
            Kind::Counter,
            live.requests_total,
        ),
        (
            "tollgate_resident_memory_bytes",
            "Resident memory of the process.",
            Kind::Gauge,
            live.memory_bytes,
        ),
        (
            "tollgate_snapshot_number",
            "The number of the configuration that is published.",
            Kind::Gauge,
            asked.tables.number(),
        ),
    ] {
        text.single(name, help, kind, value);
    }
    let published_s = lent.published_s.load(Ordering::Relaxed);
    if published_s > 0 {
        let age_s = (asked.now_s.max(0) as u64).saturating_sub(published_s);
        let help = "How long that configuration has been published.";
        text.single("tollgate_snapshot_age_seconds", help, Kind::Gauge, age_s);
    }
    push_events(text, lent);
    push_destinations(text, lent);
    let series: usize = lent.meters.tables().iter().map(|table| table.series().count()).sum();
    text.single("tollgate_series", "Series of the cores' counters.", Kind::Gauge, series);
    let most = SERIES_MAX * lent.meters.tables().len();
    let help = "Series that the cores' counters have room for.";
    text.single("tollgate_series_max", help, Kind::Gauge, most);
    let help = "Reservations of rate limits that found no room.";
    text.single("tollgate_tally_full_total", help, Kind::Counter, lent.tally.full());
}

/// Events and log entries: received = delivered + queued + dropped.
fn push_events(text: &mut Text, lent: &Lent) {
    let sums = lent.exporter.sums();
    let help = "Events and log entries that were reported.";
    text.single("tollgate_events_received_total", help, Kind::Counter, sums.received);
    let help = "Events and log entries that a destination has taken.";
    text.single("tollgate_events_delivered_total", help, Kind::Counter, sums.delivered);
    let help = "Events and log entries that wait.";
    text.single("tollgate_events_queued", help, Kind::Gauge, sums.queued);
    let help = "Events and log entries that were given up, by reason.";
    let mut family = text.family("tollgate_events_dropped_total", help, Kind::Counter);
    for (loss, reason) in Dropped::REASONS {
        family.line(&[("reason", reason)], sums.dropped.count(loss));
    }
    let rings = lent.exporter.ring_counts();
    let help = "Reports that a core has written into its ring.";
    let mut family = text.family("tollgate_ring_reports_total", help, Kind::Counter);
    for (core, counts) in rings.iter().enumerate() {
        family.line(&[("core", &core.to_string())], counts.committed);
    }
    let help = "Reports that a core's ring had no room for.";
    let mut family = text.family("tollgate_ring_refused_total", help, Kind::Counter);
    for (core, counts) in rings.iter().enumerate() {
        let core = core.to_string();
        for (reason, count) in [("full", counts.lost_full), ("large", counts.lost_large)] {
            family.line(&[("core", &core), ("reason", reason)], count);
        }
    }
}

fn push_destinations(text: &mut Text, lent: &Lent) {
    let states = lent.exporter.destinations();
    let mut by_label = BTreeMap::new();
    for state in &states {
        let sum: &mut (u64, u64, u64) = by_label.entry(state.label.as_str()).or_default();
        *sum = (sum.0 + state.queued as u64, sum.1 + state.bytes, sum.2 + state.delivered);
    }
    if by_label.is_empty() {
        return;
    }
    for (name, help, kind, place) in [
        ("tollgate_destination_queued", "What waits for a destination.", Kind::Gauge, 0),
        (
            "tollgate_destination_held_bytes",
            "Bytes that are held for a destination, in the journal or in memory.",
            Kind::Gauge,
            1,
        ),
        ("tollgate_destination_delivered_total", "What a destination has taken.", Kind::Counter, 2),
    ] {
        let mut family = text.family(name, help, kind);
        for (label, (queued, bytes, delivered)) in &by_label {
            let value = match place {
                0 => queued,
                1 => bytes,
                _ => delivered,
            };
            family.line(&[("destination", label)], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::tests::read;
    use super::*;
    use crate::pdk::meters::Counters;
    use std::sync::Arc;

    #[test]
    fn cores_are_added_up_and_the_text_is_strict() {
        let meters = Meters::new(2);
        let labels = Labels { service: "s\"x", route: "r", consumer: "" };
        for table in meters.tables() {
            let counters = Counters::new(Arc::clone(table));
            counters.count(200, true, labels);
            counters.count(404, false, labels);
            counters.add_bytes(10, 20, labels);
            counters.observe(&[(Histogram::OWN, Some(3)), (Histogram::WHOLE, Some(30))], labels);
        }
        let mut text = Text::default();
        push_exchanges(&mut text, &meters);
        let text = String::from_utf8(text.finish()).unwrap();
        let seen = read(&text);
        let get = |name: &str, labels: &str| {
            seen.get(&(name.to_owned(), labels.to_owned())).copied().unwrap_or(-1.0)
        };
        let labels = "service=\"s\\\"x\",route=\"r\"";
        assert_eq!(
            get(
                "kong_http_requests_total",
                &format!(
                    "{labels},code=\"200\",source=\"service\",workspace=\"default\",consumer=\"\"}}"
                )
            ),
            2.0,
            "{text}"
        );
        assert_eq!(
            get(
                "kong_bandwidth_bytes",
                &format!("{labels},direction=\"egress\",workspace=\"default\",consumer=\"\"}}")
            ),
            40.0
        );
        assert_eq!(
            get(
                "kong_kong_latency_ms_bucket",
                &format!("{labels},workspace=\"default\",le=\"5\"}}")
            ),
            2.0
        );
        assert!(!text.contains("kong_upstream_latency_ms"), "nobody was asked");
    }
}

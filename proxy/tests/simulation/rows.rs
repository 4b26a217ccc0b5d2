//! The configurations of the scripted gateway: one after the other is published while it serves.

use std::sync::{Arc, LazyLock};

use plugins::pdk::Snapshot;
use proxy::plan::Slots;
use proxy::roadmap::Roadmap;
use proxy::route::{Flavor, Router};
use proxy::settings::{Patience, RoadSettings};
use proxy::upstream_tls::UpstreamTls;
use serde_json::{Value, json};
use store::conf::Settings;
use store::schema::Catalogue;
use store::script::with_row;
use store::snapshot::{Change, Tables};

use super::witness;

/// Where the gateway listens.
pub(crate) const FRONT: ([u8; 4], u16) = ([203, 0, 113, 1], 8000);
/// The services that are asked in HTTP/1.
pub(crate) const SERVERS: [([u8; 4], u16); 4] = [
    ([198, 51, 100, 1], 80),
    ([198, 51, 100, 2], 80),
    ([198, 51, 100, 3], 80),
    ([198, 51, 100, 4], 80),
];
/// The service that is asked in HTTP/2.
pub(crate) const CALLS: ([u8; 4], u16) = ([198, 51, 100, 9], 50051);
/// The service's timeout in both directions.
pub(crate) const TIMEOUT_MS: u64 = 400;
/// What captures of one core may hold.
pub(crate) const CAPTURE_BYTES_MAX: usize = 60_000;

/// The settings, with times that a virtual clock reaches soon.
pub(crate) fn settings() -> Arc<RoadSettings> {
    static SETTINGS: LazyLock<Arc<RoadSettings>> = LazyLock::new(|| {
        let (settings, _) = Settings::of(None, std::iter::empty()).unwrap();
        let mut road = RoadSettings::of(&settings);
        road.patience = Patience {
            client_header_ms: 1_000,
            client_body_ms: 1_000,
            keepalive_ms: 600,
            send_ms: 1_000,
        };
        road.request_buffer_bytes_max = 4_000;
        road.keepalive_requests_max = 6;
        road.pool.idle_max = 3;
        road.pool.idle_timeout_ms = 700;
        road.pool.requests_max = 5;
        road.capture_bytes_max = CAPTURE_BYTES_MAX;
        Arc::new(road)
    });
    Arc::clone(&SETTINGS)
}

/// Everything that is published, in order, and what changed each time.
pub(crate) struct Rows {
    pub(crate) snapshots: Vec<Arc<Snapshot>>,
    pub(crate) changes: Vec<Vec<Change>>,
}

pub(crate) fn rows() -> &'static Rows {
    static ROWS: LazyLock<Rows> = LazyLock::new(build);
    &ROWS
}

fn id(number: u32) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

/// A service; `path` goes before the path of every request.
fn service(number: u32, url: (&str, &str, u16), path: Option<&str>) -> Value {
    let (protocol, host, port) = url;
    json!({
        "id": id(number), "name": format!("service-{number}"), "protocol": protocol,
        "host": host, "port": port, "path": path, "retries": 2,
        "connect_timeout": TIMEOUT_MS, "read_timeout": TIMEOUT_MS, "write_timeout": TIMEOUT_MS,
    })
}

fn route(number: u32, service: u32, path: &str, buffering: bool) -> Value {
    let protocols = if path == "/calls" { ["grpc", "grpcs"] } else { ["http", "https"] };
    json!({
        "id": id(number), "name": format!("route-{number}"), "service": { "id": id(service) },
        "paths": [path], "protocols": protocols, "strip_path": false,
        "request_buffering": buffering, "response_buffering": buffering,
    })
}

fn first() -> Vec<(&'static str, Value)> {
    let mut rows = vec![
        ("services", service(1, ("http", "198.51.100.1", 80), None)),
        ("services", service(2, ("http", "spread", 80), None)),
        ("services", service(3, ("grpc", "198.51.100.9", 50051), None)),
        ("routes", route(11, 1, "/held", true)),
        ("routes", route(12, 1, "/streamed", false)),
        ("routes", route(13, 2, "/spread", true)),
        ("routes", route(14, 1, "/answered", true)),
        ("routes", route(15, 3, "/calls", false)),
        ("upstreams", json!({ "id": id(21), "name": "spread", "algorithm": "least-connections" })),
        ("plugins", json!({ "id": id(41), "name": "witness", "config": {} })),
    ];
    for (number, last) in [(31, 2), (32, 3), (33, 4)] {
        let target = format!("198.51.100.{last}:80");
        let upstream = json!({ "id": id(21) });
        rows.push(("targets", json!({ "id": id(number), "target": target, "upstream": upstream })));
    }
    rows
}

/// What follows, one publication each.
fn later() -> Vec<Vec<(&'static str, Value)>> {
    let scoped =
        json!({ "id": id(42), "name": "witness", "route": { "id": id(12) }, "config": {} });
    vec![
        vec![("services", service(1, ("http", "198.51.100.1", 80), Some("/one")))],
        vec![("routes", route(11, 2, "/held", false)), ("plugins", scoped)],
        vec![
            ("services", service(1, ("http", "198.51.100.2", 80), Some("/two"))),
            ("routes", route(12, 2, "/streamed", true)),
        ],
    ]
}

fn build() -> Rows {
    let catalogue = Catalogue::new(vec![&witness::WITNESS.schema], &[]);
    let slots = Arc::new(Slots::new([&witness::WITNESS]));
    let tls = Arc::new(UpstreamTls::usual().unwrap());
    let mut roadmap = Roadmap::empty(slots, tls, Router::empty(Flavor::default()));
    let mut tables = Tables::new(&catalogue);
    let mut rows = Rows { snapshots: Vec::new(), changes: Vec::new() };
    for (number, step) in std::iter::once(first()).chain(later()).enumerate() {
        let mut changes = Vec::new();
        for (entity, input) in step {
            let row_id = input["id"].as_str().unwrap().parse().unwrap();
            let before = tables.get(entity, row_id).cloned();
            tables = with_row(&catalogue, Some(tables), entity, &input).unwrap();
            let after = tables.get(entity, row_id).cloned();
            let entity = after.as_ref().unwrap().entity();
            changes.push(Change { entity, before, after });
        }
        roadmap = roadmap.with(&tables, &changes);
        let snapshot = Snapshot {
            number: number as u64,
            tables: Arc::new(tables.clone()),
            road: Box::new(roadmap.clone()),
        };
        rows.snapshots.push(Arc::new(snapshot));
        rows.changes.push(changes);
    }
    rows
}

//! Log entries from a core's ring to a sink: each arrives, or is counted with its reason.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test: a panic is its fault report")]

use exporter::event::{Lines, Scheme};
use exporter::logs::{
    FilePlan, Form, Latencies, LogDestination, LogReport, LogSettings, RowKey, TcpPlan, Terms, Way,
};
use exporter::{Destination, DestinationKind, Exporter, ExporterPlan, Loss};
use runtime::ring::Producer;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(20);

fn start(prefix: &Path) -> Exporter {
    let mut plan = ExporterPlan::new(prefix.to_path_buf(), 1);
    plan.ring_dir = prefix.to_path_buf();
    plan.ring_bytes = 1 << 20;
    exporter::start(&plan).unwrap()
}

fn configure(exporter: &Exporter, row: RowKey, way: Way, terms: Terms) {
    let destination = LogDestination { plugin: "test-log", way, terms };
    let settings = LogSettings { destination, form: Form::Document, fields: Vec::new() };
    let kind = DestinationKind::Log(Arc::new(settings));
    exporter.configure(&Destination { row_id: row.id, version: row.version, kind }).unwrap();
}

const fn row(id: u128) -> RowKey {
    RowKey { id: Uuid::from_u128(id), version: 1 }
}

fn commit(producer: &mut Producer, rows: &[RowKey]) {
    let report = LogReport {
        rows,
        request_id: b"0123456789abcdef0123456789abcdef",
        started_us: 1_700_000_000_000_000,
        latencies: Latencies::default(),
        request_bytes: 60,
        response_bytes: 200,
        content_length: None,
        chunked: false,
        keep_alive: true,
        from_upstream: false,
        scheme: Scheme::Http,
        tls: None,
        port: 80,
        client_ip: [127, 0, 0, 1].into(),
        host: b"h",
        method: "GET",
        target: b"/",
        upstream_path: b"",
        upstream_query: None,
        status: 404,
        request_fields: Lines::Pairs(&[]),
        response_fields: Lines::Pairs(&[]),
        route: None,
        service: None,
        consumer: None,
        credential: None,
        tries: &[],
        values: Lines::Pairs(&[]),
    };
    assert!(report.commit(producer));
}

fn until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn entries_reach_their_file_and_unknown_rows_are_counted() {
    let prefix = tempfile::tempdir().unwrap();
    let exporter = start(prefix.path());
    let path = prefix.path().join("entries");
    let way = Way::File(FilePlan { path: path.clone(), reopen: false });
    configure(&exporter, row(1), way, Terms::PROMPT);
    let mut producer = exporter.producer(0).unwrap();
    (0..300).for_each(|_| commit(&mut producer, &[row(1), row(9)]));
    until("the book", || exporter.sums().delivered == 300);
    let sums = exporter.stop(0);
    assert!(sums.add_up(), "{sums:?}");
    assert_eq!((sums.received, sums.dropped.count(Loss::SettingsGone), sums.queued), (600, 300, 0));
    let lines = std::fs::read_to_string(path).unwrap();
    assert_eq!(lines.lines().count(), 300);
    assert!(lines.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}

/// A port that nobody listens on.
fn nobody() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn tcp(port: u16) -> Way {
    let (timeout_ms, keepalive_ms) = (500, 60_000);
    Way::Tcp(TcpPlan { host: "127.0.0.1".into(), port, timeout_ms, keepalive_ms, tls: None })
}

#[test]
fn what_nobody_takes_expires_or_ends_and_its_neighbour_is_not_delayed() {
    let prefix = tempfile::tempdir().unwrap();
    let exporter = start(prefix.path());
    let path = prefix.path().join("entries");
    let way = Way::File(FilePlan { path, reopen: false });
    configure(&exporter, row(1), way, Terms::PROMPT);
    let soon = Terms { retry_ms_first: 10, retry_time_ms: 100, ..Terms::PROMPT };
    configure(&exporter, row(2), tcp(nobody()), soon);
    let few = Terms { entries_max: 10, ..Terms::PROMPT };
    configure(&exporter, row(3), tcp(nobody()), few);
    let mut producer = exporter.producer(0).unwrap();
    let begun = Instant::now();
    (0..100).for_each(|_| commit(&mut producer, &[row(1), row(2), row(3)]));
    until("the file", || exporter.sums().delivered == 100);
    assert!(begun.elapsed() < PATIENCE / 4, "{:?}", begun.elapsed());
    until("the short terms", || exporter.sums().dropped.count(Loss::Expired) == 100);
    let sums = exporter.stop(0);
    assert!(sums.add_up() && sums.queued == 0, "{sums:?}");
    let lost = [Loss::QueueFull, Loss::Ended].map(|loss| sums.dropped.count(loss));
    assert_eq!(lost.iter().sum::<u64>(), 100, "{sums:?}");
    assert!(lost.iter().all(|count| *count > 0), "{sums:?}");
}

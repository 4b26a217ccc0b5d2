//! How many events the exporter's one thread makes a second. Ignored by default: a measurement.
//!
//! `CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo test -p exporter --test throughput -- --ignored --nocapture`
//! optimises our crates only; a release build is faster.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test: a panic is its fault report")]

#[path = "common/collector.rs"]
mod collector;
#[path = "common/traffic.rs"]
mod traffic;

use collector::Collector;
use exporter::ExporterPlan;
use exporter::event::{RECORD_VERSION, RowRef};
use runtime::ring::{self, Next};
use serde_json::json;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};
use traffic::{Traffic, configure};
use uuid::Uuid;

/// CPU seconds of the exporter's thread.
fn cpu_s() -> f64 {
    // A thread names itself, a moment after it was made.
    thread::sleep(Duration::from_millis(50));
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        if fs::read_to_string(task.join("comm")).unwrap().trim() == "tollgate-events" {
            let stat = fs::read_to_string(task.join("schedstat")).unwrap();
            return stat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9;
        }
    }
    panic!("no exporter thread");
}

fn measure(name: &str, url: &str, events: usize, body: &str, delivered: bool) {
    let prefix = tempfile::tempdir().unwrap();
    let plan = ExporterPlan {
        ring_bytes: 64 << 20,
        journal_bytes_max: 8 << 30,
        ..ExporterPlan::new(prefix.path().to_owned(), 1)
    };
    let exporter = exporter::start(&plan).unwrap();
    let config = json!({"api_endpoint": url, "event_queue_size": 10_000_000, "batch_size": 500});
    let row = configure(&exporter, 1, &config);
    let mut producer = exporter.producer(0).unwrap();
    let mut traffic = Traffic::new(row, 0);
    let (begun, cpu) = (Instant::now(), cpu_s());
    for _ in 0..events {
        while traffic.commit(&mut producer, body).is_none() {
            thread::sleep(Duration::from_micros(100));
        }
    }
    loop {
        let sums = exporter.sums();
        let made = sums.received - sums.dropped.total();
        let left = if delivered { made - sums.delivered } else { 0 };
        if made as usize == events && left == 0 && !exporter_behind(&sums, &exporter) {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    let (wall_s, cpu_s) = (begun.elapsed().as_secs_f64(), cpu_s() - cpu);
    println!(
        "{name}: {events} events, {:.2} us of the exporter's thread each = {:.0} a second on one \
         core; {:.0} a second of wall time here",
        cpu_s * 1e6 / events as f64,
        events as f64 / cpu_s,
        events as f64 / wall_s
    );
}

/// Whether the ring still has records: then more is received than destinations know of.
fn exporter_behind(sums: &exporter::Sums, exporter: &exporter::Exporter) -> bool {
    let known: usize = exporter.destinations().iter().map(|state| state.queued).sum();
    known as u64 + sums.delivered < sums.received - sums.dropped.total()
}

/// What a report costs the core: the shortest of many runs, because the machine is shared.
#[test]
#[ignore = "a measurement"]
fn a_commit() {
    let row = RowRef { id: Uuid::from_u128(1), version: 1, fingerprint: 1 };
    for len in [20, 1_024, 4_096, 65_536] {
        let body = "x".repeat(len);
        let (mut producer, mut consumer) = ring::anonymous(8 << 20, RECORD_VERSION).unwrap();
        let mut traffic = Traffic::new(row, 0);
        let runs = (0..300).map(|_| {
            let begun = Instant::now();
            let commits = (6 << 20) / (len + 700);
            let commits = commits.min(1_000);
            (0..commits).for_each(|_| assert!(traffic.commit(&mut producer, &body).is_some()));
            let ns = begun.elapsed().as_nanos() / commits as u128;
            while let Next::Record { .. } = consumer.take() {}
            consumer.release();
            ns
        });
        let mut runs: Vec<u128> = runs.collect();
        runs.sort_unstable();
        println!("commit with a body of {len} bytes: {} ns, median {} ns", runs[0], runs[150]);
    }
}

#[test]
#[ignore = "a measurement"]
fn events_a_second() {
    let small = "{\"ok\":true,\"id\":12345}";
    let large = format!("{{\"text\":\"{}\"}}", "lorem ipsum ".repeat(340));
    let collector = Collector::start();
    measure("small, into the journal", "http://127.0.0.1:9", 300_000, small, false);
    measure("4 KiB body, into the journal", "http://127.0.0.1:9", 60_000, &large, false);
    measure("small, delivered", &collector.url, 100_000, small, true);
}

/// Takes batches and says so after a while; looks at nothing.
fn slow_collector(late: Duration) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || answer_late(stream.unwrap(), late));
        }
    });
    url
}

fn answer_late(stream: TcpStream, late: Duration) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    let mut body = Vec::new();
    loop {
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        body.resize(length, 0);
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        thread::sleep(late);
        if stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}

/// With every setting at its default, 20,000 events a second leave at a round trip of 100 ms.
#[test]
#[ignore = "a measurement"]
fn twenty_thousand_a_second_over_a_long_way() {
    const PER_MS: u64 = 20;
    const SECONDS: u64 = 20;
    let prefix = tempfile::tempdir().unwrap();
    let exporter = exporter::start(&ExporterPlan::new(prefix.path().to_owned(), 1)).unwrap();
    let url = slow_collector(Duration::from_millis(100));
    let row = configure(&exporter, 1, &json!({"api_endpoint": url}));
    let mut producer = exporter.producer(0).unwrap();
    let mut traffic = Traffic::new(row, 0);
    let (begun, mut sent, mut most) = (Instant::now(), 0, 0);
    let mut halfway = None;
    while begun.elapsed() < Duration::from_secs(SECONDS) {
        let due = begun.elapsed().as_millis() as u64 * PER_MS;
        while sent < due && traffic.commit(&mut producer, "{\"ok\":true}").is_some() {
            sent += 1;
        }
        let sums = exporter.sums();
        most = most.max(sums.queued);
        if halfway.is_none() && begun.elapsed() > Duration::from_secs(SECONDS / 2) {
            halfway = Some((begun.elapsed(), sums.delivered));
        }
        thread::sleep(Duration::from_millis(1));
    }
    let (sums, ended) = (exporter.sums(), begun.elapsed());
    let (half, delivered) = halfway.unwrap();
    println!(
        "{sent} events in {ended:?}: {:.0} a second left in the second half; at most {most} waited, \
         {} wait at the end, {} dropped; {} posts outside of the budget",
        (sums.delivered - delivered) as f64 / (ended - half).as_secs_f64(),
        sums.queued,
        sums.dropped.total(),
        exporter.applications()[0].budget_overruns
    );
    assert_eq!(sums.dropped.total(), 0);
    exporter.stop(0);
}

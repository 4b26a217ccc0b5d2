//! Changes a configuration of 100,000 credentials while requests run at a fixed rate.
//!
//! Every write makes a new snapshot that every core adopts. Windows with and without writes take
//! turns; the latencies of both are compared window by window.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Findings, Options, Stage};
use crate::{
    Fault,
    admin::Admin,
    clients::{Load, Pace, Plan},
    collector::Depth,
    scene, stats,
};

const WRITERS: u64 = 16;
const CONSUMERS: u64 = 100;
const CONNECTIONS: usize = 16;
const RATE: f64 = 4_000.0;
const WINDOWS: usize = 10;
const WINDOW: Duration = Duration::from_secs(2);
const WRITE_PAUSE: Duration = Duration::from_millis(100);
const ADDED_US_MAX: f64 = 50.0;

pub(super) fn run(options: &Options, driver: &str, findings: &mut Findings) -> Result<(), Fault> {
    let mut stage = Stage::open(options, driver, 1, Depth::Count)?;
    scene::plain(&mut stage.admin, stage.engine.upstream.addr()?)?;
    scene::guarded(&mut stage.admin, &stage.collector.url())?;
    fill(&mut stage, options.credentials, findings)?;
    let begun = Instant::now();
    findings.judge(stage.server.stop(), "SIGTERM ended the gateway by itself");
    let begun_start = Instant::now();
    stage.server.restart()?;
    findings.note(&format!(
        "stop {:.0} ms; start over {} credentials {:.0} ms",
        (begun_start - begun).as_secs_f64() * 1e3,
        options.credentials,
        begun_start.elapsed().as_secs_f64() * 1e3
    ));
    compare(&mut stage, findings)
}

/// Writes the credentials over many connections at once.
fn fill(stage: &mut Stage, credentials: u64, findings: &mut Findings) -> Result<(), Fault> {
    for consumer in 0..CONSUMERS {
        let name = json!({"username": format!("consumer-{consumer}")});
        stage.admin.must("POST", "/consumers", &name)?;
    }
    let begun = Instant::now();
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let mut admin = stage.server.admin()?;
        writers.push(thread::spawn(move || -> Result<(), Fault> {
            for number in (writer..credentials).step_by(WRITERS as usize) {
                let path = format!("/consumers/consumer-{}/key-auth", number % CONSUMERS);
                admin.must("POST", &path, &json!({"key": format!("key-{number}")}))?;
            }
            Ok(())
        }));
    }
    for writer in writers {
        writer.join().map_err(|_| "a writer failed")??;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let rate = credentials as f64 / seconds;
    findings.note(&format!("{credentials} credentials written in {seconds:.1} s, {rate:.0}/s"));
    Ok(())
}

fn compare(stage: &mut Stage, findings: &mut Findings) -> Result<(), Fault> {
    let writing = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicBool::new(false));
    let admin = stage.server.admin()?;
    let writer = {
        let (writing, done) = (Arc::clone(&writing), Arc::clone(&done));
        thread::spawn(move || write_until(admin, &writing, &done))
    };
    let request = scene::get("/guarded/", &format!("apikey: {}\r\n", scene::KEY));
    let plan = Plan {
        target: stage.server.proxy,
        connections: CONNECTIONS,
        pace: Pace::Rate(RATE),
        ask: Box::new(move |_, out| out.extend_from_slice(&request)),
        hear: None,
        want: None,
        tls: None,
    };
    let mut load = Load::new(&mut stage.engine, plan);
    load.run_for(WINDOW)?;
    let mut latencies_us = [Vec::new(), Vec::new()];
    let mut failures = 0;
    for window in 0..2 * WINDOWS {
        let kind = window % 2;
        writing.store(kind == 1, Ordering::Relaxed);
        load.clear();
        load.run_for(WINDOW)?;
        failures += load.score().failures();
        latencies_us[kind].push(load.score().latencies.at(0.99) as f64 / 1e3);
    }
    done.store(true, Ordering::Relaxed);
    load.drain(Duration::from_secs(5))?;
    let writes = writer.join().map_err(|_| "the writer failed")??;
    let added = stats::difference(&latencies_us[1], &latencies_us[0]);
    findings.judge(failures == 0, &format!("{failures} requests failed during {writes} writes"));
    findings.judge(
        added.high <= ADDED_US_MAX,
        &format!(
            "p99 under writes - at rest: {:.0} us [{:.0}, {:.0}]; at rest {:.0} us",
            added.mean,
            added.low,
            added.high,
            stats::median(&latencies_us[0])
        ),
    );
    Ok(())
}

/// Writes and deletes one credential again and again while told to; how many writes.
fn write_until(mut admin: Admin, writing: &AtomicBool, done: &AtomicBool) -> Result<u64, Fault> {
    let mut writes = 0;
    while !done.load(Ordering::Relaxed) {
        thread::sleep(WRITE_PAUSE);
        if !writing.load(Ordering::Relaxed) {
            continue;
        }
        let path = "/consumers/loader/key-auth";
        let made = admin.must("POST", path, &json!({"key": format!("new-{writes}")}))?;
        let id = made["id"].as_str().unwrap_or_default().to_owned();
        admin.must("DELETE", &format!("{path}/{id}"), &Value::Null)?;
        writes += 2;
    }
    Ok(writes)
}

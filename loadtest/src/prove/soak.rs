//! Mixed traffic for minutes while the configuration changes every second: memory and descriptors
//! must not grow.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Dice, Findings, Options, Stage};
use crate::{
    Fault,
    admin::Admin,
    clients::{Load, Pace, Plan},
    collector::Depth,
    scene, stats, upstream,
};

const CORES: usize = 2;
const CONNECTIONS: usize = 64;
const RATE: f64 = 1_000.0;
/// How often memory and descriptors are read.
const LOOK: Duration = Duration::from_secs(5);
/// Pools and caches fill up first: this part of the time, and not more than five minutes.
const WARM_SHARE: f64 = 0.35;
const WARM_MAX: Duration = Duration::from_secs(300);
/// The bound.
const SLOPE_KIB_MAX: f64 = 1_024.0;
/// What the bound is about.
const SLOPE_SECONDS: f64 = 600.0;
/// Below this a slope is too uncertain to be judged by its mean: its interval is.
const SURE_MINUTES: f64 = 15.0;
/// Descriptors that come and go: connections that were closed for their age and not opened again.
const FILES_MORE_MAX: f64 = 8.0;
const CHANGE_EVERY: Duration = Duration::from_secs(1);

/// One look at the gateway.
struct Look {
    seconds: f64,
    memory_kib: f64,
    files: f64,
}

pub(super) fn run(options: &Options, driver: &str, findings: &mut Findings) -> Result<(), Fault> {
    let mut stage = Stage::open(options, driver, CORES, Depth::Count)?;
    let addr = stage.engine.upstream.addr()?;
    scene::plain(&mut stage.admin, addr)?;
    scene::guarded(&mut stage.admin, &stage.collector.url())?;
    let over = Arc::new(AtomicBool::new(false));
    let changer = {
        let (admin, over) = (stage.server.admin()?, Arc::clone(&over));
        thread::spawn(move || change(admin, addr, &over))
    };
    let mut dice = Dice::new(options.seed);
    let plan = Plan {
        target: stage.server.proxy,
        connections: CONNECTIONS,
        pace: Pace::Rate(RATE),
        ask: Box::new(move |number, out| ask(number, &mut dice, out)),
        hear: None,
        want: None,
        tls: None,
    };
    let time = Duration::from_secs_f64(options.minutes * 60.0);
    let pid = stage.server.pids().first().copied().unwrap_or_default();
    let server = &stage.server;
    let mut load = Load::new(&mut stage.engine, plan);
    let (begun, mut looks) = (Instant::now(), Vec::new());
    while begun.elapsed() < time {
        load.run_for(LOOK.min(time))?;
        looks.push(Look {
            seconds: begun.elapsed().as_secs_f64(),
            memory_kib: server.memory_kib() as f64,
            files: files(pid)? as f64,
        });
    }
    over.store(true, Ordering::Relaxed);
    load.drain(Duration::from_secs(10))?;
    let (answers, failures) = (load.score().answers(), load.score().failures());
    let p99_us = load.score().latencies.at(0.99) as f64 / 1e3;
    let changes = changer.join().map_err(|_| "the changes failed")??;
    let words = format!("{failures} of {answers} requests failed during {changes} changes");
    findings.judge(failures == 0, &words);
    findings.note(&format!("p99 {p99_us:.0} us"));
    // The connection to the Admin API that is as old as the run was closed for its rest.
    let status = scene::status(&mut server.admin()?)?;
    findings.note(&format!("events: {}", status["tollgate"]["events"]));
    judge(&looks, options.minutes, findings);
    Ok(())
}

/// Open descriptors of a process.
fn files(pid: u32) -> Result<usize, Fault> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// A mix: small and large answers, bodies, with and without plugins.
fn ask(number: u64, dice: &mut Dice, out: &mut Vec<u8>) {
    let key = format!("apikey: {}\r\n", scene::KEY);
    match dice.below(10) {
        0 => out.extend_from_slice(&scene::get(&format!("/load/bytes/65536?n={number}"), "")),
        1..=3 => {
            out.extend_from_slice(&scene::get(&format!("/guarded/bytes/512?n={number}"), &key))
        }
        4 => {
            let bytes = dice.below(32 * 1024) as usize;
            let head = format!(
                "POST /guarded/bytes/64?n={number} HTTP/1.1\r\nHost: load.example\r\n{key}\
                 Content-Type: application/json\r\nContent-Length: {bytes}\r\n\r\n"
            );
            out.extend_from_slice(head.as_bytes());
            upstream::json_of(bytes, out);
        }
        5 => {
            let head = "POST /load/ HTTP/1.1\r\nHost: load.example\r\n\
                        Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n";
            out.extend_from_slice(head.as_bytes());
        }
        _ => out.extend_from_slice(&scene::get(&format!("/load/?n={number}"), "")),
    }
}

/// Makes and removes rows of every kind that the road compiles, one change a second.
fn change(
    mut admin: Admin,
    upstream: std::net::SocketAddr,
    over: &AtomicBool,
) -> Result<u64, Fault> {
    let mut changes = 0;
    while !over.load(Ordering::Relaxed) {
        let name = format!("soak-{}", changes % 5);
        match changes % 5 {
            0 => {
                let route = json!({"name": name, "paths": [format!("/{name}")]});
                admin.must("PUT", &format!("/services/load/routes/{name}"), &route)?;
            }
            1 => {
                let config = json!({"header_name": format!("X-{changes}")});
                let row = json!({"name": "correlation-id", "config": config});
                let made = admin.must("POST", "/routes/plain/plugins", &row)?;
                let id = made["id"].as_str().unwrap_or_default();
                admin.must("DELETE", &format!("/plugins/{id}"), &Value::Null)?;
            }
            2 => {
                admin.must("PUT", &format!("/consumers/{name}"), &json!({"username": name}))?;
                admin.must("POST", &format!("/consumers/{name}/key-auth"), &json!({}))?;
                admin.must("DELETE", &format!("/consumers/{name}"), &Value::Null)?;
            }
            3 => {
                admin.must("PUT", &format!("/upstreams/{name}"), &json!({"name": name}))?;
                let target = json!({"target": upstream.to_string()});
                admin.must("POST", &format!("/upstreams/{name}/targets"), &target)?;
                admin.must("DELETE", &format!("/upstreams/{name}"), &Value::Null)?;
            }
            _ => {
                let retries = json!({"retries": 1 + changes % 7});
                admin.must("PATCH", "/services/load", &retries)?;
                admin.must("DELETE", "/routes/soak-0", &Value::Null)?;
            }
        }
        changes += 1;
        thread::sleep(CHANGE_EVERY);
    }
    Ok(changes)
}

/// A line through the looks after the first part.
fn judge(looks: &[Look], minutes: f64, findings: &mut Findings) {
    let warm = (minutes * 60.0 * WARM_SHARE).min(WARM_MAX.as_secs_f64());
    let later: Vec<&Look> = looks.iter().filter(|look| look.seconds > warm).collect();
    let points: Vec<(f64, f64)> =
        later.iter().map(|look| (look.seconds, look.memory_kib)).collect();
    let slope = stats::slope(&points);
    let [mean, low, high] = [slope.mean, slope.low, slope.high].map(|kib| kib * SLOPE_SECONDS);
    let last = looks.last().map_or(0.0, |look| look.memory_kib);
    let words = format!(
        "memory: {mean:.0} KiB more in ten minutes [{low:.0}, {high:.0}], {last:.0} KiB at the end"
    );
    // A short run's slope is mostly noise; it fails where it is surely above the bound.
    let judged = if minutes >= SURE_MINUTES { mean } else { low };
    findings.judge(judged < SLOPE_KIB_MAX, &words);
    let third = later.len() / 3;
    let middle =
        |part: &[&Look]| stats::median(&part.iter().map(|look| look.files).collect::<Vec<_>>());
    let before = middle(later.get(..third).unwrap_or_default());
    let after = middle(later.get(later.len() - third..).unwrap_or_default());
    findings.judge(
        after - before <= FILES_MORE_MAX,
        &format!("descriptors: {before:.0} early, {after:.0} late"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Judges looks every five seconds, made by `of(second)`: memory in KiB, descriptors.
    #[track_caller]
    fn check(minutes: f64, of: impl Fn(f64) -> (f64, f64), failed: u64) {
        let looks: Vec<Look> = (0..(minutes * 12.0) as u64)
            .map(|at| {
                let seconds = at as f64 * 5.0;
                let (memory_kib, files) = of(seconds);
                Look { seconds, memory_kib, files }
            })
            .collect();
        let mut findings = Findings::default();
        judge(&looks, minutes, &mut findings);
        assert_eq!(findings.failed, failed);
    }

    #[test]
    fn growth_is_seen_and_noise_is_not() {
        let noise = |seconds: f64| (seconds * 12.9).sin() * 300.0;
        check(20.0, |at| (50_000.0 + noise(at), 90.0), 0);
        check(20.0, |at| (50_000.0 + at * 3.0 + noise(at), 90.0), 1);
        check(20.0, |at| (50_000.0, 90.0 + at / 10.0), 1);
        check(3.0, |at| (50_000.0 + noise(at), 90.0), 0);
        check(3.0, |at| (50_000.0 + at * 100.0, 90.0), 1);
        // What fills up at the beginning is no growth.
        check(20.0, |at| (50_000.0 + at.min(200.0) * 100.0, 90.0 + at.min(100.0)), 0);
    }

    #[test]
    fn every_kind_of_request_is_asked() {
        let (mut dice, mut kinds) = (Dice::new(7), std::collections::BTreeSet::new());
        for number in 0..200 {
            let mut out = Vec::new();
            ask(number, &mut dice, &mut out);
            let line = String::from_utf8_lossy(&out).lines().next().unwrap_or_default().to_owned();
            kinds.insert(line.split(['?']).next().unwrap_or_default().to_owned());
        }
        assert_eq!(kinds.len(), 5, "{kinds:?}");
    }
}

//! Limits must be exact however many cores and connections share them.
//!
//! Kong refuses a longer period with a lower limit (minute=100, hour=5), so the longer period is
//! the one that decides only where both are equal.

use std::{
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::{Findings, Options, Stage};
use crate::{
    Fault,
    clients::{Load, Pace, Plan},
    collector::Depth,
    cpu, scene,
};

const CONNECTIONS: usize = 1_000;
const REQUESTS: u64 = 20_000;
/// A case takes a few seconds and must not see the minute change.
const LEFT_SECONDS_MIN: u64 = 30;

pub(super) fn run(options: &Options, driver: &str, findings: &mut Findings) -> Result<(), Fault> {
    for cores in [1, 2, 8] {
        let mut stage = Stage::open(options, driver, cores, Depth::Count)?;
        scene::plain(&mut stage.admin, stage.engine.upstream.addr()?)?;
        let cases = [
            ("minute=5", json!({"minute": 5}), 5),
            ("minute=5,hour=5", json!({"minute": 5, "hour": 5}), 5),
            ("minute=5,hour=100", json!({"minute": 5, "hour": 100}), 5),
            ("minute=1000", json!({"minute": 1_000}), 1_000),
        ];
        for (number, (name, periods, admitted)) in cases.iter().enumerate() {
            let words = case(&mut stage, number, periods, *admitted)?;
            findings.judge(words.0, &format!("{cores} cores, {name}: {}", words.1));
        }
        findings.note(&format!("CPU ms by road thread: {}", spread(&stage)?));
    }
    Ok(())
}

/// One limit on a route of its own: whether it was exact, and what happened.
fn case(
    stage: &mut Stage,
    number: usize,
    periods: &Value,
    admitted: u64,
) -> Result<(bool, String), Fault> {
    let (name, path) = (format!("limited-{number}"), format!("/limited-{number}"));
    let route = json!({"name": name, "paths": [path]});
    stage.admin.must("POST", "/services/load/routes", &route)?;
    scene::limit(&mut stage.admin, &name, periods)?;
    wait_for_room();
    let request = scene::get(&path, "");
    let plan = Plan {
        target: stage.server.proxy,
        connections: CONNECTIONS,
        pace: Pace::Closed,
        ask: Box::new(move |_, out| out.extend_from_slice(&request)),
        hear: None,
        want: None,
        tls: None,
    };
    let mut load = Load::new(&mut stage.engine, plan);
    load.run_until(REQUESTS, Duration::from_secs(LEFT_SECONDS_MIN - 5))?;
    load.drain(Duration::from_secs(5))?;
    let score = load.score();
    let of = |status| score.statuses.get(&status).copied().unwrap_or(0);
    let exact = of(200) == admitted && of(429) == score.answers() - admitted && score.cut == 0;
    let words = format!(
        "{} admitted of {} over {CONNECTIONS} connections, {:?}",
        of(200),
        score.answers(),
        score.statuses
    );
    Ok((exact, words))
}

/// Waits until the clock minute has enough seconds left.
fn wait_for_room() {
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if 60 - now.as_secs() % 60 >= LEFT_SECONDS_MIN {
            return;
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// How the work was spread over the road threads.
fn spread(stage: &Stage) -> Result<String, Fault> {
    let mut all = Vec::new();
    for pid in stage.server.pids() {
        for thread in cpu::threads(pid)? {
            if cpu::is_road(&thread.name, &["core-"]) {
                all.push(format!("{} {}", thread.name, thread.used_ns / 1_000_000));
            }
        }
    }
    Ok(all.join(", "))
}

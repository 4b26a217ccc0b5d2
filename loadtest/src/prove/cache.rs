//! A gigabyte of distinct cacheable answers goes through a gateway: its memory stays within the
//! cache's bound, and what was kept last is still answered from the cache.

use std::time::Duration;

use serde_json::json;

use super::{Findings, Options, Stage};
use crate::{
    Fault,
    clients::{Load, Pace, Plan},
    collector::Depth,
    scene,
};

const CONNECTIONS: usize = 32;
const ANSWER_BYTES: u64 = 64 << 10;
const ALL_BYTES: u64 = 1 << 30;
/// The bound that a gateway has where nothing is configured.
const CACHE_BYTES_MAX: u64 = 128 << 20;
/// What may come on top: answers on their way into the cache, shards that were just replaced, what
/// the allocator holds back.
const BESIDE_BYTES_MAX: u64 = 64 << 20;
/// The longest that the load may take.
const TIME: Duration = Duration::from_secs(120);

pub(super) fn run(options: &Options, driver: &str, findings: &mut Findings) -> Result<(), Fault> {
    let mut stage = Stage::open(options, driver, 1, Depth::Count)?;
    scene::plain(&mut stage.admin, stage.engine.upstream.addr()?)?;
    let config = json!({"strategy": "memory", "content_type": ["*/*"], "cache_ttl": 3_600});
    let row = json!({"name": "proxy-cache", "config": config});
    stage.admin.must("POST", "/routes/plain/plugins", &row)?;
    let before = stage.server.memory_kib() << 10;
    let requests = ALL_BYTES / ANSWER_BYTES;
    let plan = Plan {
        target: stage.server.proxy,
        connections: CONNECTIONS,
        pace: Pace::Closed,
        ask: Box::new(move |number, out| {
            let path = format!("/load/{number}/bytes/{ANSWER_BYTES}");
            out.extend_from_slice(&scene::get(&path, ""));
        }),
        hear: None,
        want: None,
        tls: None,
    };
    let mut load = Load::new(&mut stage.engine, plan);
    let mut most = before;
    for part in 1..=16 {
        load.run_until(requests * part / 16, TIME / 16)?;
        most = most.max(stage.server.memory_kib() << 10);
    }
    load.drain(Duration::from_secs(10))?;
    let (answers, failures) = (load.score().answers(), load.score().failures());
    drop(load);
    most = most.max(stage.server.memory_kib() << 10);
    findings.judge(
        answers >= requests && failures == 0,
        &format!("{answers} answers of {ANSWER_BYTES} bytes, {failures} failed"),
    );
    let grown = most.saturating_sub(before);
    let words = format!("memory grew by {} MiB at most", grown >> 20);
    findings.judge(grown <= CACHE_BYTES_MAX + BESIDE_BYTES_MAX, &words);
    let before = stage.engine.upstream.requests;
    again(&mut stage, answers - 1)?;
    let asked = stage.engine.upstream.requests - before;
    findings.judge(asked == 0, &format!("the newest answer: the upstream was asked {asked} times"));
    again(&mut stage, 0)?;
    let asked = stage.engine.upstream.requests - before;
    findings.judge(asked == 1, &format!("the oldest: the upstream was asked {asked} times"));
    Ok(())
}

/// Asks for one answer once more.
fn again(stage: &mut Stage, number: u64) -> Result<(), Fault> {
    let request = scene::get(&format!("/load/{number}/bytes/{ANSWER_BYTES}"), "");
    let plan = Plan {
        target: stage.server.proxy,
        connections: 1,
        pace: Pace::Closed,
        ask: Box::new(move |_, out| out.extend_from_slice(&request)),
        hear: None,
        want: None,
        tls: None,
    };
    let mut load = Load::new(&mut stage.engine, plan);
    load.run_until(1, Duration::from_secs(10))?;
    load.drain(Duration::from_secs(10))?;
    Ok(())
}

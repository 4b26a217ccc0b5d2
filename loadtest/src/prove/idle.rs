//! What ten thousand idle connections cost, each of which has carried an answer of 64 KiB.

use std::{sync::Arc, thread, time::Duration};

use rustls::ClientConfig;

use super::{Findings, Options, Stage};
use crate::{
    Fault,
    clients::{Load, Pace, Plan},
    collector::Depth,
    cpu, scene,
    servers::Server,
    stream,
};

const ANSWER_BYTES: usize = 64 * 1024;
/// For comparison: what a connection costs before it has carried much.
const SMALL_BYTES: usize = 1_024;
/// Slow enough that few answers are under way at once: a pool that grew is not an idle connection.
const RATE: f64 = 1_000.0;
const WARM_CONNECTIONS: usize = 100;
const BYTES_MAX: f64 = 2_048.0;
/// The same over TLS.
const TLS_BYTES_MAX: f64 = 24.0 * 1_024.0;
/// Time for an allocator to give back what it holds.
const REST: Duration = Duration::from_secs(3);

pub(super) fn run(options: &Options, driver: &str, findings: &mut Findings) -> Result<(), Fault> {
    let mut stage = Stage::open(options, driver, 1, Depth::Count)?;
    scene::plain(&mut stage.admin, stage.engine.upstream.addr()?)?;
    let engine = &mut stage.engine;
    let small = measure(engine, &stage.server, options.idle, SMALL_BYTES, None)?;
    findings.note(&format!("{small:.0} bytes after an answer of {SMALL_BYTES} bytes"));
    let nginx = Server::nginx(engine.upstream.addr()?, &cpu::allowed()?)?;
    let tls = stream::trusting()?;
    for (tls, bytes_max, words) in [(None, BYTES_MAX, ""), (Some(&tls), TLS_BYTES_MAX, " over TLS")]
    {
        let ours = measure(engine, &stage.server, options.idle, ANSWER_BYTES, tls)?;
        let words = format!("{ours:.0} bytes per idle connection at {}{words}", options.idle);
        findings.judge(ours <= bytes_max, &words);
        let theirs = measure(engine, &nginx, options.idle, ANSWER_BYTES, tls)?;
        findings.note(&format!("nginx: {theirs:.0} bytes"));
    }
    Ok(())
}

/// Bytes of anonymous memory per connection beyond what a warm server has.
fn measure(
    engine: &mut crate::engine::Engine,
    server: &Server,
    connections: usize,
    answer_bytes: usize,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<f64, Fault> {
    let request = scene::get(&format!("/load/bytes/{answer_bytes}"), "");
    let plan = |connections| {
        let request = request.clone();
        Plan {
            target: if tls.is_some() { server.tls } else { server.proxy },
            connections,
            pace: Pace::Rate(RATE),
            ask: Box::new(move |_, out: &mut Vec<u8>| out.extend_from_slice(&request)),
            hear: None,
            want: None,
            tls: tls.cloned(),
        }
    };
    let mut warm = Load::new(engine, plan(WARM_CONNECTIONS));
    warm.run_for(Duration::from_secs(2))?;
    warm.drain(Duration::from_secs(5))?;
    drop(warm);
    thread::sleep(REST);
    let before_kib = server.memory_kib();
    let mut load = Load::new(engine, plan(connections));
    let rounds = Duration::from_secs_f64(connections as f64 / RATE * 1.5 + 1.0);
    load.run_for(rounds)?;
    load.drain(Duration::from_secs(30))?;
    let (open, score) = (load.open(), load.score().clone());
    if open != connections || score.failures() > 0 {
        let words = format!("{open} of {connections} connections are open: {:?}", score.statuses);
        return Err(format!("{words}, {} cut, {} refused", score.cut, score.refused).into());
    }
    thread::sleep(REST);
    let after_kib = server.memory_kib();
    Ok(after_kib.saturating_sub(before_kib) as f64 * 1024.0 / connections as f64)
}

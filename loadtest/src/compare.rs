//! Several gateways under the same load, in interleaved rounds of one run.
//!
//! Every round visits every target, in an order that turns by one each round, so that whatever
//! changes on the machine meanwhile touches all alike. Ratios are taken round by round.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::{
    Fault,
    clients::{Load, Pace, Plan},
    collector::{Collector, Depth},
    cpu::{self, Usage},
    engine::Engine,
    scene,
    servers::{Place, Server},
    stats,
};

/// What `compare` is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program `tollgate`; without it nginx is compared with itself.
    pub tollgate: Option<PathBuf>,
    /// Its drivers: `epoll`, `io_uring`.
    pub drivers: Vec<String>,
    /// How many rounds.
    pub rounds: usize,
    /// The measured part of a visit; a third of it goes before, unmeasured.
    pub visit_ms: u64,
    /// Keep-alive connections.
    pub connections: usize,
    /// Length of the upstream's answers.
    pub body_bytes: usize,
    /// Requests a second of the scenario with a fixed rate.
    pub rate: f64,
    /// Which scenarios: `plain`, `plugins`, `rate`; `moesif` and `moesif-rate` are a gateway with
    /// that plugin alone beside itself without it, in a closed loop and at the fixed rate.
    pub scenarios: Vec<String>,
    /// The gateway's CPU.
    pub road_cpu: usize,
    /// The CPU of clients, upstream, collector and the gateway's other threads.
    pub load_cpu: usize,
}

const SCENARIOS: [&str; 5] = ["plain", "plugins", "rate", "moesif", "moesif-rate"];

/// A way through a server.
struct Target<'s> {
    label: String,
    server: &'s Server,
    request: Vec<u8>,
    rounds: Vec<Round>,
}

/// What one visit measured.
#[derive(Debug, Clone, Default)]
pub struct Round {
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    /// CPU of the road's threads for each answer.
    pub road_us: f64,
    user_us: f64,
    /// CPU of the whole process for each answer.
    pub whole_us: f64,
    /// Answers of another status than 200, and requests without one.
    pub failures: u64,
}

/// Runs every scenario and prints what came of it.
///
/// # Errors
/// A server does not start, or the machine refuses something; in words.
pub fn run(options: &Options) -> Result<(), Fault> {
    cpu::pin(None, &[options.load_cpu])?;
    // The load must not wait for the office's threads that share its CPU; only root may ask.
    let _ = rustix::process::setpriority_process(None, -15);
    let mut engine = Engine::new("127.0.0.1:0".parse()?, options.body_bytes)?;
    let upstream = engine.upstream.addr()?;
    let collector = Collector::start("127.0.0.1:0".parse()?, Depth::Count)?;
    let servers = start_all(options, upstream, &collector)?;
    println!(
        "{} rounds of {} ms, {} connections, answers of {} bytes, road on CPU {}, load on CPU {}",
        options.rounds,
        options.visit_ms,
        options.connections,
        options.body_bytes,
        options.road_cpu,
        options.load_cpu
    );
    for scenario in &options.scenarios {
        let mut targets = targets(scenario, &servers)?;
        let fixed = matches!(scenario.as_str(), "rate" | "moesif-rate");
        let pace = if fixed { Pace::Rate(options.rate) } else { Pace::Closed };
        for round in 0..options.rounds {
            for step in 0..targets.len() {
                let index = (round + step) % targets.len();
                let target = &mut targets[index];
                let (server, request) = (target.server, &target.request);
                let size = (options.connections, options.visit_ms);
                let measured = visit(&mut engine, size, server, request, pace)?;
                target.rounds.push(measured);
            }
        }
        // With and without the plugin on one gateway; otherwise all beside the first.
        let beside = if scenario.starts_with("moesif") { 2 } else { targets.len() };
        targets.chunks(beside.max(1)).for_each(|targets| report(scenario, targets));
    }
    let events = collector.books().events;
    println!("the collector took {events} events");
    Ok(())
}

/// The baseline first.
fn start_all(
    options: &Options,
    upstream: SocketAddr,
    collector: &Collector,
) -> Result<Vec<Server>, Fault> {
    let mut servers = vec![Server::nginx(upstream, &[options.road_cpu])?];
    let Some(program) = &options.tollgate else {
        servers.push(Server::nginx(upstream, &[options.road_cpu])?);
        servers[1].name = "nginx again".to_owned();
        return Ok(servers);
    };
    let place = Place { cores: 1, cpus: vec![options.road_cpu] };
    for driver in &options.drivers {
        match Server::tollgate(program, driver, &place, &[]) {
            Ok(server) => {
                let mut admin = server.admin()?;
                scene::plain(&mut admin, upstream)?;
                scene::guarded(&mut admin, &collector.url())?;
                scene::reported(&mut admin, &collector.url())?;
                server.move_office(&[options.load_cpu]);
                servers.push(server);
            }
            Err(fault) if driver == "io_uring" => {
                println!("!! io_uring does not run here and is left out: {fault}");
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(servers)
}

fn targets<'s>(scenario: &str, servers: &'s [Server]) -> Result<Vec<Target<'s>>, Fault> {
    let mut targets = Vec::new();
    let mut add = |server: &'s Server, what: &str, path: &str, headers: &str| {
        let label = format!("{}{what}", server.name);
        targets.push(Target {
            label,
            server,
            request: scene::get(path, headers),
            rounds: Vec::new(),
        });
    };
    let key = format!("apikey: {}\r\n", scene::KEY);
    for server in servers.iter().filter(|server| server.admin.is_some()) {
        if scenario.starts_with("moesif") {
            add(server, "", "/load/", "");
            add(server, " + moesif", "/reported/", "");
        }
    }
    for server in servers.iter().filter(|_| !scenario.starts_with("moesif")) {
        let plain = server.admin.is_none() || scenario != "plugins";
        if plain {
            add(server, "", "/load/", "");
        }
        if server.admin.is_some() && scenario != "plain" {
            add(server, " + 3 plugins", "/guarded/", &key);
        }
    }
    if !SCENARIOS.contains(&scenario) {
        let known = SCENARIOS.join(", ");
        return Err(format!("there is no scenario {scenario}: {known}").into());
    }
    Ok(targets)
}

/// One target's turn: so many connections ask the same for so many milliseconds, and for a third
/// of them before, unmeasured.
///
/// # Errors
/// The kernel's.
pub fn visit(
    engine: &mut Engine,
    (connections, visit_ms): (usize, u64),
    server: &Server,
    request: &[u8],
    pace: Pace,
) -> Result<Round, Fault> {
    let request = request.to_vec();
    let plan = Plan {
        target: server.proxy,
        connections,
        pace,
        ask: Box::new(move |_, out| out.extend_from_slice(&request)),
        hear: None,
        want: None,
    };
    let mut load = Load::new(engine, plan);
    load.run_for(Duration::from_millis(visit_ms / 3))?;
    load.clear();
    let (before, begun_ns) = (server.usage(), load.engine.now_ns());
    load.run_for(Duration::from_millis(visit_ms))?;
    let (used, ended_ns) = (server.usage().since(before), load.engine.now_ns());
    let score = load.score().clone();
    load.drain(Duration::from_secs(1))?;
    Ok(round(&score, used, ended_ns - begun_ns))
}

fn round(score: &crate::clients::Score, used: Usage, time_ns: u64) -> Round {
    let answers = score.answers().max(1) as f64;
    let us = |quantile: f64| score.latencies.at(quantile) as f64 / 1e3;
    Round {
        per_second: score.answers() as f64 * 1e9 / time_ns as f64,
        p50_us: us(0.5),
        p99_us: us(0.99),
        p999_us: us(0.999),
        road_us: used.road_ns as f64 / 1e3 / answers,
        user_us: used.road_user_ns as f64 / 1e3 / answers,
        whole_us: used.whole_ns as f64 / 1e3 / answers,
        failures: score.failures() + score.refused,
    }
}

fn report(scenario: &str, targets: &[Target<'_>]) {
    println!("\nscenario {scenario} (medians of rounds; ratios to {} [95 %])", targets[0].label);
    println!(
        "{:32} {:>9} {:>7} {:>7} {:>8} {:>8} {:>7} {:>9}  {:22} {:22} p99 - baseline, us",
        "",
        "req/s",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "road us",
        "user us",
        "whole us",
        "road",
        "whole"
    );
    let of = |target: &Target<'_>, field: fn(&Round) -> f64| -> Vec<f64> {
        target.rounds.iter().map(field).collect()
    };
    for target in targets {
        let middle = |field| stats::median(&of(target, field));
        let ratio = |field| {
            let found = stats::ratio(&of(target, field), &of(&targets[0], field));
            format!("{:.3} [{:.3}, {:.3}]", found.mean, found.low, found.high)
        };
        let late = stats::difference(&of(target, |r| r.p99_us), &of(&targets[0], |r| r.p99_us));
        println!(
            "{:32} {:9.0} {:7.0} {:7.0} {:8.0} {:8.2} {:7.2} {:9.2}  {:22} {:22} {:.0} \
             [{:.0}, {:.0}]",
            target.label,
            middle(|r| r.per_second),
            middle(|r| r.p50_us),
            middle(|r| r.p99_us),
            middle(|r| r.p999_us),
            middle(|r| r.road_us),
            middle(|r| r.user_us),
            middle(|r| r.whole_us),
            ratio(|r| r.road_us),
            ratio(|r| r.whole_us),
            late.mean,
            late.low,
            late.high
        );
        let failures: u64 = target.rounds.iter().map(|round| round.failures).sum();
        if failures > 0 {
            println!("!! {}: {failures} requests failed", target.label);
        }
    }
}

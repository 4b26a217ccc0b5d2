//! Several gateways under the same load, in interleaved rounds of one run.
//!
//! Every round visits every target, in an order that turns by one each round, so that whatever
//! changes on the machine meanwhile touches all alike. Ratios are taken round by round.

mod h2load;
mod rows;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use rustls::ClientConfig;

use crate::{
    Fault,
    clients::{Load, Pace, Plan, Score},
    collector::{Collector, Depth},
    cpu::{self, Usage},
    engine::Engine,
    scene,
    servers::{Place, Server, find_program},
    stats,
};
use h2load::H2load;
use rows::{By, Port, Row};

/// What `compare` is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program `tollgate`; without it nginx is compared with itself.
    pub tollgate: Option<PathBuf>,
    /// Its drivers: `epoll`, `io_uring`, and `glommio` where it was built in.
    pub drivers: Vec<String>,
    /// Another build of it, compared with the first on each driver as well.
    pub other: Option<PathBuf>,
    /// The program of `bench/examples/minimal.rs`.
    pub minimal: Option<PathBuf>,
    /// Its event loops; each is compared with the first as well.
    pub loops: Vec<String>,
    /// How many rounds.
    pub rounds: usize,
    /// The measured part of a visit; a third of it goes before, unmeasured.
    pub visit_ms: u64,
    /// Keep-alive connections.
    pub connections: usize,
    /// Length of the upstream's answers.
    pub body_bytes: usize,
    /// Requests a second of the row with a fixed rate.
    pub rate: f64,
    /// Which rows, by name.
    pub rows: Vec<String>,
    /// The gateway's CPU.
    pub road_cpu: usize,
    /// The CPU of clients, upstream and collector.
    pub load_cpu: usize,
    /// The CPU of the gateway's other threads; without it the load's. The road's own is what a
    /// machine with one CPU has.
    pub office_cpu: Option<usize>,
}

/// The names of all rows.
pub fn every_row() -> Vec<String> {
    rows::ROWS.iter().map(|row| row.name.to_owned()).collect()
}

/// A way through a server.
struct Target<'s> {
    label: String,
    server: &'s Server,
    /// What it is compared with besides the baseline, by its place in the row.
    kin: Option<usize>,
    request: Vec<u8>,
    rounds: Vec<Round>,
}

/// What one visit measured.
#[derive(Debug, Clone, Default)]
pub struct Round {
    per_second: f64,
    p50_us: f64,
    /// Latency that 1 % of the answers exceed.
    pub p99_us: f64,
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
    let rows = options.rows.iter().map(|name| Row::named(name));
    let mut rows = rows.collect::<Result<Vec<_>, _>>()?;
    if options.tollgate.is_none() {
        rows.retain(|row| !row.is_guarded());
    }
    if options.minimal.is_some() {
        rows.retain(|row| row.is_minimal());
    }
    cpu::pin(None, &[options.load_cpu])?;
    let mut engine = Engine::new("127.0.0.1:0".parse()?, options.body_bytes)?;
    let upstream = engine.upstream.addr()?;
    let collector = Collector::start("127.0.0.1:0".parse()?, Depth::Count)?;
    let mut servers = start_all(options, upstream, &collector)?;
    servers.extend(start_minimal(options, upstream)?);
    // The load must not wait for the office and the collector, which share its CPU here and have
    // CPUs of their own elsewhere. Only root may ask; what was started before stays as it is.
    let _ = rustix::process::setpriority_process(None, -15);
    println!(
        "{} rounds of {} ms, {} connections, answers of {} bytes, road on CPU {}, load on CPU {}",
        options.rounds,
        options.visit_ms,
        options.connections,
        options.body_bytes,
        options.road_cpu,
        options.load_cpu
    );
    for row in rows {
        let mut targets = targets(row, &servers);
        if row.by == By::H2load && find_program("h2load").is_err() {
            println!("\n!! row {} is left out: it needs h2load (nghttp2-client)", row.name);
            continue;
        }
        let tls = row.tls()?;
        if row.by == By::Rate && !go_first(&servers, true) {
            println!("\n!! row {}: load and road wait for what shares their CPUs", row.name);
            println!("!! (a real-time class needs root and chrt of util-linux)");
        }
        for round in 0..options.rounds {
            for step in 0..targets.len() {
                let index = (round + step) % targets.len();
                let target = &mut targets[index];
                let measured = if row.by == By::H2load {
                    visit_by_h2load(&mut engine, options, target, row)?
                } else {
                    visit_by_us(&mut engine, options, target, row, tls.as_ref())?
                };
                target.rounds.push(measured);
            }
        }
        if row.by == By::Rate {
            go_first(&servers, false);
        }
        // With and without the plugin on one gateway; otherwise all beside the first.
        let beside = if row.is_pair() { 2 } else { targets.len() };
        targets.chunks(beside.max(1)).for_each(|targets| report(row, targets));
    }
    let events = collector.books().events;
    println!("the collector took {events} events");
    Ok(())
}

/// Load and roads go before everything else on their CPUs, or no longer; false if not granted.
fn go_first(servers: &[Server], first: bool) -> bool {
    let roads = servers.iter().all(|server| server.go_first(first));
    cpu::go_first(std::process::id(), first) && roads
}

/// The baseline first.
fn start_all(
    options: &Options,
    upstream: SocketAddr,
    collector: &Collector,
) -> Result<Vec<Server>, Fault> {
    let mut servers = vec![Server::nginx(upstream, &[options.road_cpu])?];
    if options.tollgate.is_none() && options.minimal.is_none() {
        servers.push(Server::nginx(upstream, &[options.road_cpu])?);
        servers[1].name = "nginx again".to_owned();
    }
    let place = Place { cores: 1, cpus: vec![options.road_cpu] };
    let programs = [(&options.tollgate, ""), (&options.other, OTHER)];
    let programs = programs.iter().filter_map(|(program, mark)| Some((program.as_ref()?, mark)));
    for ((program, mark), driver) in
        programs.flat_map(|one| options.drivers.iter().map(move |driver| (one, driver)))
    {
        match Server::tollgate(program, driver, &place, &[]) {
            Ok(mut server) => {
                server.name += mark;
                let mut admin = server.admin()?;
                scene::plain(&mut admin, upstream)?;
                scene::guarded(&mut admin, &collector.url())?;
                scene::reported(&mut admin, &collector.url())?;
                server.move_office(&[options.office_cpu.unwrap_or(options.load_cpu)]);
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

/// What is said behind the name of the other build.
const OTHER: &str = ", other build";

fn start_minimal(options: &Options, upstream: SocketAddr) -> Result<Vec<Server>, Fault> {
    let Some(program) = &options.minimal else { return Ok(Vec::new()) };
    let start = |kind: &String| Server::minimal(program, kind, upstream, &[options.road_cpu]);
    options.loops.iter().map(start).collect()
}

fn targets<'s>(row: &Row, servers: &'s [Server]) -> Vec<Target<'s>> {
    let of = |server: &'s Server| {
        let requests = row.requests(server).into_iter();
        requests.map(move |(what, request)| Target {
            label: format!("{}{what}", server.name),
            server,
            kin: None,
            request,
            rounds: Vec::new(),
        })
    };
    let mut targets: Vec<Target<'s>> = servers.iter().flat_map(of).collect();
    for index in 0..targets.len() {
        targets[index].kin = kin(&targets, index);
    }
    targets
}

/// The same driver of the first build, or the first of the minimal loops.
fn kin(targets: &[Target<'_>], index: usize) -> Option<usize> {
    let minimal = |target: &Target<'_>| target.server.name.starts_with("minimal ");
    let label = &targets[index].label;
    let found = if minimal(&targets[index]) {
        targets.iter().position(minimal)
    } else {
        let first = label.contains(OTHER).then(|| label.replace(OTHER, ""))?;
        targets.iter().position(|target| target.label == first)
    };
    found.filter(|found| *found != index)
}

/// One target's turn.
fn visit_by_us(
    engine: &mut Engine,
    options: &Options,
    target: &Target<'_>,
    row: &Row,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<Round, Fault> {
    let request = target.request.clone();
    let server = target.server;
    let plan = Plan {
        target: if row.port == Port::Tls { server.tls } else { server.proxy },
        connections: row.connections(options.connections),
        pace: row.pace(options.rate),
        ask: Box::new(move |_, out| out.extend_from_slice(&request)),
        hear: None,
        want: None,
        tls: tls.cloned(),
    };
    measure(engine, plan, server, options.visit_ms)
}

/// So many connections ask a server the same in the clear, for so many milliseconds and a third of
/// them before, unmeasured.
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
    visit_each(engine, (connections, visit_ms), server, &[request.to_vec()], pace)
}

/// The same with several requests, which come in turn.
///
/// # Errors
/// The kernel's.
pub fn visit_each(
    engine: &mut Engine,
    (connections, visit_ms): (usize, u64),
    server: &Server,
    requests: &[Vec<u8>],
    pace: Pace,
) -> Result<Round, Fault> {
    let requests = requests.to_vec();
    let plan = Plan {
        target: server.proxy,
        connections,
        pace,
        ask: Box::new(move |number, out| {
            out.extend_from_slice(&requests[number as usize % requests.len()]);
        }),
        hear: None,
        want: None,
        tls: None,
    };
    measure(engine, plan, server, visit_ms)
}

fn measure(
    engine: &mut Engine,
    plan: Plan,
    server: &Server,
    visit_ms: u64,
) -> Result<Round, Fault> {
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

/// One target's turn with h2load: what reaches the upstream is counted.
fn visit_by_h2load(
    engine: &mut Engine,
    options: &Options,
    target: &Target<'_>,
    row: &Row,
) -> Result<Round, Fault> {
    let before_ms = options.visit_ms / 3 + 200;
    let client = H2load::start(&row.url(target.server), before_ms + options.visit_ms + 200)?;
    engine.serve_for(before_ms)?;
    let (before, asked) = (target.server.usage(), engine.upstream.requests);
    let begun_ns = engine.now_ns();
    engine.serve_for(options.visit_ms)?;
    let used = target.server.usage().since(before);
    let answered = engine.upstream.requests - asked;
    let mut measured = costs(answered, used, engine.now_ns() - begun_ns);
    measured.failures = client.finish(engine)?;
    Ok(measured)
}

/// What so many answers cost.
fn costs(answers: u64, used: Usage, time_ns: u64) -> Round {
    let each = |ns: u64| ns as f64 / 1e3 / answers.max(1) as f64;
    Round {
        per_second: answers as f64 * 1e9 / time_ns as f64,
        road_us: each(used.road_ns),
        user_us: each(used.road_user_ns),
        whole_us: each(used.whole_ns),
        ..Round::default()
    }
}

fn round(score: &Score, used: Usage, time_ns: u64) -> Round {
    let us = |quantile: f64| score.latencies.at(quantile) as f64 / 1e3;
    Round {
        p50_us: us(0.5),
        p99_us: us(0.99),
        p999_us: us(0.999),
        failures: score.failures() + score.refused,
        ..costs(score.answers(), used, time_ns)
    }
}

fn report(row: &Row, targets: &[Target<'_>]) {
    println!("\nrow {}: {} (medians of rounds; ratios to nginx [95 %])", row.name, row.about);
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
            found.to_string()
        };
        let late = stats::difference(&of(target, |r| r.p99_us), &of(&targets[0], |r| r.p99_us));
        println!(
            "{:32} {:9.0} {:7.0} {:7.0} {:8.0} {:8.2} {:7.2} {:9.2}  {:22} {:22} {late:.0}",
            target.label,
            middle(|r| r.per_second),
            middle(|r| r.p50_us),
            middle(|r| r.p99_us),
            middle(|r| r.p999_us),
            middle(|r| r.road_us),
            middle(|r| r.user_us),
            middle(|r| r.whole_us),
            ratio(|r| r.road_us),
            ratio(|r| r.whole_us)
        );
        if row.by == By::Rate {
            let ours = of(target, |r| r.p99_us);
            let late = stats::middle_difference(&ours, &of(&targets[0], |r| r.p99_us));
            println!("{:32} p99 - baseline, the median of the rounds: {late:.0} us", "");
        }
        let goal = row.goal(&target.label);
        if goal > 0.0 {
            let road = stats::ratio(&of(target, |r| r.road_us), &of(&targets[0], |r| r.road_us));
            println!("{:32} goal {goal:.2}: {}", "", against(goal, road));
        }
        if let Some(kin) = target.kin.and_then(|kin| targets.get(kin)) {
            let road = stats::ratio(&of(target, |r| r.road_us), &of(kin, |r| r.road_us));
            let late = stats::difference(&of(target, |r| r.p99_us), &of(kin, |r| r.p99_us));
            println!("{:32} beside {}: road {road}, p99 {late:.0} us", "", kin.label);
        }
        let failures: u64 = target.rounds.iter().map(|round| round.failures).sum();
        if failures > 0 {
            println!("!! {}: {failures} requests failed", target.label);
        }
    }
}

/// Whether an estimate reaches a goal.
fn against(goal: f64, found: stats::Estimate) -> &'static str {
    match found.mean {
        mean if mean <= goal && found.high <= goal => "met",
        mean if mean <= goal => "met, the interval reaches above it",
        _ if found.low <= goal => "missed, the interval reaches below it",
        _ => "missed",
    }
}

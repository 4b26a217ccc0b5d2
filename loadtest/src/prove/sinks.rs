//! A log sink that is down, frozen or closing costs nothing on the road, and every entry is
//! delivered or counted.
//!
//! Each trouble is visited beside the same plugin with a sink that is well, in rounds of one run:
//! once as fast as the road goes (CPU), once at a fixed rate (latency). In the end what the gateway
//! says of its entries is held against the requests that were made and what the sinks have.

mod stand;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Findings, Options};
use crate::{
    Fault,
    clients::Pace,
    compare::{self, Round},
    cpu,
    engine::Engine,
    scene,
    servers::{Place, Server},
    stats,
};
use stand::{Kind, Mood, Sink};

const ROUNDS: usize = 6;
const CONNECTIONS: usize = 64;
/// The measured milliseconds of a visit as fast as the road goes, and of one at a fixed rate.
const FAST_MS: u64 = 250;
const PACED_MS: u64 = 500;
const RATE: f64 = 4_000.0;
/// Between two visits: what one left to the exporter must not burden the next.
const REST_MS: u64 = 40;
const RESTS_MAX: usize = 50;
const ANSWER_BYTES: usize = 1_024;
/// What trouble may cost, beside a sink that is well: the lower end of the interval.
const ROAD_US_MAX: f64 = 0.5;
const P99_US_MAX: f64 = 100.0;
/// How long the sinks that are well may need for what waits.
const SETTLE: Duration = Duration::from_secs(30);

const TROUBLES: &[(Kind, &[Mood])] = &[
    (Kind::Http, &[Mood::Well, Mood::Down, Mood::Frozen, Mood::Closing]),
    (Kind::Tcp, &[Mood::Well, Mood::Down, Mood::Frozen, Mood::Closing]),
    (Kind::Udp, &[Mood::Well, Mood::Down, Mood::Frozen]),
    (Kind::File, &[Mood::Well, Mood::Down, Mood::Frozen, Mood::Closing]),
];

/// A route with a log plugin, and the sink behind it.
struct Case {
    kind: Kind,
    mood: Mood,
    sink: Sink,
    /// Requests that reached the upstream through it.
    requests: u64,
    /// Rounds of its own, and of the sink that is well beside them: fast, paced.
    rounds: [[Vec<Round>; 2]; 2],
}

impl Case {
    const fn plugin(&self) -> &'static str {
        match self.kind {
            Kind::Http => "http-log",
            Kind::Tcp => "tcp-log",
            Kind::Udp => "udp-log",
            Kind::File => "file-log",
        }
    }

    fn name(&self) -> String {
        format!("{}-{:?}", self.plugin(), self.mood).to_lowercase()
    }

    fn config(&self) -> Value {
        let (host, port) = (self.sink.addr.ip().to_string(), self.sink.addr.port());
        match self.kind {
            Kind::Http => json!({
                "http_endpoint": format!("http://{host}:{port}/"), "timeout": 300,
                "queue": {"max_batch_size": 200, "max_coalescing_delay": 0.05, "max_retry_time": 2},
            }),
            Kind::Tcp => json!({"host": host, "port": port, "timeout": 300}),
            Kind::Udp => json!({"host": host, "port": port}),
            Kind::File => json!({"path": self.sink.path}),
        }
    }
}

pub(super) fn run(options: &Options, driver: &str, findings: &mut Findings) -> Result<(), Fault> {
    let cpus = cpu::allowed()?;
    let (load_cpu, road_cpu) = (cpus[0], cpus[cpus.len() - 1]);
    cpu::pin(None, &[load_cpu])?;
    let mut engine = Engine::new("127.0.0.1:0".parse()?, ANSWER_BYTES)?;
    let folder = std::env::temp_dir().join(format!("tollgate-sinks-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let mut cases = Vec::new();
    for (kind, moods) in TROUBLES {
        for mood in *moods {
            let sink = Sink::open(*kind, *mood, &folder)?;
            let (kind, mood) = (*kind, *mood);
            cases.push(Case { kind, mood, sink, requests: 0, rounds: Default::default() });
        }
    }
    let place = Place { cores: 1, cpus: vec![road_cpu] };
    let mut server = Server::tollgate(&options.tollgate, driver, &place, &[])?;
    set_up(&server, &engine, &cases)?;
    server.move_office(&[load_cpu]);
    for round in 0..ROUNDS {
        for step in 0..cases.len() {
            let at = (round * 7 + step) % cases.len();
            if cases[at].mood != Mood::Well {
                pair(&mut engine, &server, &mut cases, at, round)?;
            }
        }
    }
    cpu::pin(None, &cpus)?;
    for case in cases.iter().filter(|case| case.mood != Mood::Well) {
        report(case, findings);
    }
    let balanced = balance(&server, &mut engine, &cases, findings);
    findings.judge(server.stop(), "the gateway ends when it is told to");
    std::fs::remove_dir_all(&folder)?;
    balanced
}

fn set_up(server: &Server, engine: &Engine, cases: &[Case]) -> Result<(), Fault> {
    let mut admin = server.admin()?;
    let url = format!("http://{}", engine.upstream.addr()?);
    admin.must("POST", "/services", &json!({"name": "load", "url": url}))?;
    for case in cases {
        let name = case.name();
        let route = json!({"name": name, "paths": [format!("/{name}")]});
        admin.must("POST", "/services/load/routes", &route)?;
        let row = json!({"name": case.plugin(), "config": case.config()});
        admin.must("POST", &format!("/routes/{name}/plugins"), &row)?;
    }
    Ok(())
}

/// A case in trouble and the one that is well beside it; the two take turns at being first.
fn pair(
    engine: &mut Engine,
    server: &Server,
    cases: &mut [Case],
    at: usize,
    round: usize,
) -> Result<(), Fault> {
    let kind = cases[at].kind;
    let is_well = |case: &Case| case.kind == kind && case.mood == Mood::Well;
    let well = cases.iter().position(is_well).unwrap_or(0);
    for (way, visit_ms, pace) in [(0, FAST_MS, Pace::Closed), (1, PACED_MS, Pace::Rate(RATE))] {
        for side in [round % 2, (round + 1) % 2] {
            let visited = [well, at][side];
            let request = scene::get(&format!("/{}", cases[visited].name()), "");
            rest(engine)?;
            let before = engine.upstream.requests;
            let visit = (CONNECTIONS, visit_ms);
            let measured = compare::visit(engine, visit, server, &request, pace)?;
            cases[visited].requests += engine.upstream.requests - before;
            cases[at].rounds[way][side].push(measured);
        }
    }
    Ok(())
}

/// Waits until nothing of the last visit comes any more.
fn rest(engine: &mut Engine) -> Result<(), Fault> {
    for _ in 0..RESTS_MAX {
        let before = engine.upstream.requests;
        engine.serve_for(REST_MS)?;
        if engine.upstream.requests == before {
            break;
        }
    }
    Ok(())
}

fn report(case: &Case, findings: &mut Findings) {
    let of = |rounds: &[Round], field: fn(&Round) -> f64| -> Vec<f64> {
        rounds.iter().map(field).collect()
    };
    let [fast, paced] = &case.rounds;
    let road_us = |side: usize| of(&fast[side], |round| round.road_us);
    let p99_us = |side: usize| of(&paced[side], |round| round.p99_us);
    let road = stats::difference(&road_us(1), &road_us(0));
    let late = stats::difference(&p99_us(1), &p99_us(0));
    let failures: u64 = case.rounds.iter().flatten().flatten().map(|round| round.failures).sum();
    let words = format!(
        "{:18} road {:5.2} us, {:5.2} while well, {:+.2} [{:+.2}, {:+.2}]; p99 {:4.0} us, {:4.0} \
         while well, {:+.0} [{:+.0}, {:+.0}]; {failures} failed",
        case.name(),
        stats::median(&road_us(1)),
        stats::median(&road_us(0)),
        road.mean,
        road.low,
        road.high,
        stats::median(&p99_us(1)),
        stats::median(&p99_us(0)),
        late.mean,
        late.low,
        late.high,
    );
    findings.judge(failures == 0 && road.low <= ROAD_US_MAX && late.low <= P99_US_MAX, &words);
}

/// What the gateway says of one case: delivered, queued.
fn told(destinations: &Value, case: &Case) -> (u64, u64) {
    let place = match case.kind {
        Kind::File => case.sink.path.to_string_lossy().into_owned(),
        _ => case.sink.addr.to_string(),
    };
    let mine = |to: &&Value| {
        let label = to["to"].as_str().unwrap_or_default();
        label.starts_with(case.plugin()) && label.contains(&place)
    };
    let found = destinations.as_array().into_iter().flatten().find(mine);
    let count = |name: &str| found.and_then(|to| to[name].as_u64()).unwrap_or(0);
    (count("delivered"), count("queued"))
}

/// Holds the gateway's book against the requests and the sinks.
fn balance(
    server: &Server,
    engine: &mut Engine,
    cases: &[Case],
    findings: &mut Findings,
) -> Result<(), Fault> {
    let mut admin = server.admin()?;
    let begun = Instant::now();
    let mut book;
    loop {
        engine.serve_for(100)?;
        book = scene::status(&mut admin)?["tollgate"].take();
        let mut well = cases.iter().filter(|case| case.mood == Mood::Well);
        if well.all(|case| told(&book["destinations"], case).1 == 0) || begun.elapsed() > SETTLE {
            break;
        }
    }
    // The book is one moment's, the sinks are looked at afterwards.
    engine.serve_for(500)?;
    let mut gone = 0;
    for case in cases {
        let (delivered, queued) = told(&book["destinations"], case);
        let dropped = case.requests.cast_signed() - (delivered + queued).cast_signed();
        gone += dropped;
        let taken = case.sink.taken();
        let words = format!(
            "{:18} {:7} entries = {delivered} delivered + {queued} queued + {dropped} dropped; its \
             sink has {taken}",
            case.name(),
            case.requests
        );
        // A request that outlived its visit was counted among the next one's.
        let sums = dropped >= -(CONNECTIONS as i64);
        findings.judge(
            sums && match (case.kind, case.mood) {
                // What came a second time stands in the sink and not in the book.
                (Kind::Http | Kind::Tcp | Kind::File, Mood::Well) => {
                    queued == 0 && delivered > 0 && taken >= delivered
                }
                (Kind::Http | Kind::File, _) | (Kind::Tcp, Mood::Down) => {
                    delivered == 0 || case.mood == Mood::Frozen
                }
                _ => true,
            },
            &words,
        );
    }
    let events = &book["events"];
    let count = |name: &str| events[name].as_u64().unwrap_or(0);
    let requests: u64 = cases.iter().map(|case| case.requests).sum();
    let words = format!("{requests} requests; the book: {events}");
    let sums = count("received") == count("delivered") + count("dropped") + count("queued");
    findings.judge(
        sums && count("received") == requests && count("dropped").cast_signed() == gone,
        &words,
    );
    Ok(())
}

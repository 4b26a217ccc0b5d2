//! How fast the office is, and that the road does not notice: 10,000 routes, 100,000 consumers
//! with a key each, and 1,000 PUTs a second while requests run (SQLite).
//!
//! Windows without PUTs, with PUTs into this gateway and with the same PUTs into a twin take
//! turns, so that what the machine does besides falls on all. The twin has the same rows, serves
//! nobody and lives with the offices: what its PUTs add is disk, caches and interrupts of the
//! machine, not work of our road. The road's core, the clients and the upstream have a CPU of
//! their own, the offices and who writes have the others: what is compared is what the office does
//! to the road, not who gets the CPU. On one CPU there is nothing to keep apart; that is said.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Findings, Options};
use crate::{
    Fault,
    admin::Admin,
    clients::{Load, Pace, Plan, Score},
    cpu,
    engine::Engine,
    scene,
    servers::{Place, Server},
    stats,
};

const ROUTES: u64 = 10_000;
const CONSUMERS: u64 = 100_000;
const WRITERS: u64 = 16;
const PUTS_A_SECOND: f64 = 1_000.0;
const PUT_CONNECTIONS: usize = 16;
/// A PUT may be late now and then; far fewer than asked for are another experiment.
const PUTS_SHARE_MIN: f64 = 0.98;
const CONNECTIONS: usize = 16;
const RATE: f64 = 2_000.0;
const WINDOWS: usize = 12;
const WINDOW: Duration = Duration::from_millis(1_500);
/// Between two windows, for what the last one left behind.
const PAUSE: Duration = Duration::from_millis(150);
const START_MS_MAX: f64 = 1_000.0;
const ADDED_US_MAX: f64 = 40.0;
/// What the last route answers by itself, since nobody serves the upstream during a start.
const CLOSED: u16 = 418;
const REST: Duration = Duration::from_secs(3);

pub(super) fn run(options: &Options, driver: &str, findings: &mut Findings) -> Result<(), Fault> {
    let all = cpu::allowed()?;
    let mut engine = Engine::new("127.0.0.1:0".parse()?, 1_024)?;
    let place = Place { cores: 1, cpus: all.clone() };
    let mut server = Server::tollgate(&options.tollgate, driver, &place, &[])?;
    scene::plain(&mut server.admin()?, engine.upstream.addr()?)?;
    let rate = write_routes(&server)?;
    findings.note(&format!("{ROUTES} routes written, {rate:.0} a second"));
    let closed = json!({"name": "request-termination", "config": {"status_code": CLOSED}});
    let last = format!("/routes/{}/plugins", id(2, ROUTES - 1));
    server.admin()?.must("POST", &last, &closed)?;
    let start_ms = restarted(&mut server)?;
    findings.judge(
        start_ms <= START_MS_MAX,
        &format!("start over {ROUTES} routes: {start_ms:.0} ms until the last of them answers"),
    );
    thread::sleep(REST);
    let before_kib = server.memory_kib();
    let rate = write_consumers(&server)?;
    findings.note(&format!("{CONSUMERS} consumers with a key each written, {rate:.0} a second"));
    let start_ms = restarted(&mut server)?;
    thread::sleep(REST);
    let added_kib = server.memory_kib().saturating_sub(before_kib);
    findings.note(&format!(
        "they take {:.1} MiB, {:.0} bytes a consumer with its key; start {start_ms:.0} ms",
        added_kib as f64 / 1024.0,
        added_kib as f64 * 1024.0 / CONSUMERS as f64,
    ));
    let twin = filled_twin(options, driver, &place, &engine)?;
    let road = all.last().map(|cpu| vec![*cpu]).unwrap_or_default();
    let mut office: Vec<usize> = all.iter().copied().filter(|cpu| !road.contains(cpu)).collect();
    if office.is_empty() {
        findings.note("!! one CPU: road, offices and clients share it");
        office.clone_from(&road);
    } else {
        findings.note("the road and its clients on one CPU, offices and writers on the others");
    }
    compare(&mut engine, [&server, &twin], [&road, &office], findings)?;
    server.move_all(&all);
    cpu::pin(None, &all)?;
    Ok(())
}

/// A gateway that serves nobody, with the same rows.
fn filled_twin(
    options: &Options,
    driver: &str,
    place: &Place,
    engine: &Engine,
) -> Result<Server, Fault> {
    let twin = Server::tollgate(&options.tollgate, driver, place, &[])?;
    scene::plain(&mut twin.admin()?, engine.upstream.addr()?)?;
    write_routes(&twin)?;
    write_consumers(&twin)?;
    Ok(twin)
}

/// How many a second.
fn write_routes(server: &Server) -> Result<f64, Fault> {
    fill(server, ROUTES, &|admin, number| {
        let path = format!("/services/load/routes/{}", id(2, number));
        admin.must("PUT", &path, &route(number, 0)).map(drop)
    })
}

/// Each with a key; how many a second.
fn write_consumers(server: &Server) -> Result<f64, Fault> {
    fill(server, CONSUMERS, &|admin, number| {
        let name = json!({"username": format!("consumer-{number}")});
        admin.must("PUT", &format!("/consumers/{}", id(1, number)), &name)?;
        let path = format!("/consumers/{}/key-auth", id(1, number));
        admin.must("POST", &path, &json!({"key": format!("key-{number:028}")})).map(drop)
    })
}

/// An id that tells its number.
fn id(kind: u8, number: u64) -> String {
    let spread = number.wrapping_mul(2_654_435_761) % (1 << 32);
    format!("{spread:08x}-000{kind}-4000-8000-{number:012x}")
}

/// Route `number`; every write of it says something new.
fn route(number: u64, write: u64) -> Value {
    json!({"paths": [format!("/route-{number}/")], "tags": [format!("write-{write}")]})
}

/// Writes `count` times over many connections at once; how many a second.
fn fill(
    server: &Server,
    count: u64,
    write: &(dyn Fn(&mut Admin, u64) -> Result<(), Fault> + Sync),
) -> Result<f64, Fault> {
    let begun = Instant::now();
    thread::scope(|scope| -> Result<(), Fault> {
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let mut admin = server.admin()?;
            writers.push(scope.spawn(move || {
                let mut numbers = (writer..count).step_by(WRITERS as usize);
                numbers.try_for_each(|number| write(&mut admin, number))
            }));
        }
        for writer in writers {
            writer.join().map_err(|_| "a writer failed")??;
        }
        Ok(())
    })?;
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

/// Stops and starts the gateway: milliseconds until it knows its last route.
fn restarted(server: &mut Server) -> Result<f64, Fault> {
    server.stop();
    let begun = Instant::now();
    server.restart()?;
    let path = format!("/route-{}/closed", ROUTES - 1);
    match Admin::new(server.proxy).call("GET", &path, &Value::Null)?.0 {
        CLOSED => Ok(begun.elapsed().as_secs_f64() * 1e3),
        status => Err(format!("the last route is answered {status}").into()),
    }
}

/// PUTs at a fixed rate while told to, on a loop and CPUs of their own: what came of them.
fn write_until(
    target: std::net::SocketAddr,
    cpus: &[usize],
    writing: &AtomicBool,
    done: &AtomicBool,
) -> Result<(Score, f64), Fault> {
    cpu::pin(None, cpus)?;
    let mut engine = Engine::new("127.0.0.1:0".parse()?, 0)?;
    let ask = move |number: u64, out: &mut Vec<u8>| {
        let (path, body) = match number % 2 {
            0 => {
                let number = number.wrapping_mul(7_919) % ROUTES;
                (format!("/services/load/routes/{}", id(2, number)), route(number, 1 + number))
            }
            _ => {
                let consumer = number.wrapping_mul(7_919) % CONSUMERS;
                let body = json!({"username": format!("consumer-{consumer}"),
                    "tags": [format!("write-{number}")]});
                (format!("/consumers/{}", id(1, consumer)), body)
            }
        };
        let body = body.to_string();
        let head = format!(
            "PUT {path} HTTP/1.1\r\nHost: admin\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        out.extend_from_slice(head.as_bytes());
    };
    let plan = Plan {
        target,
        connections: PUT_CONNECTIONS,
        pace: Pace::Paused,
        ask: Box::new(ask),
        hear: None,
        want: None,
        tls: None,
    };
    let mut load = Load::new(&mut engine, plan);
    let (mut paused, mut seconds) = (true, 0.0);
    let mut begun = Instant::now();
    while !done.load(Ordering::Relaxed) {
        let wanted = writing.load(Ordering::Relaxed);
        if wanted == paused {
            paused = !wanted;
            load.set_pace(if wanted { Pace::Rate(PUTS_A_SECOND) } else { Pace::Paused });
            match wanted {
                true => begun = Instant::now(),
                false => seconds += begun.elapsed().as_secs_f64(),
            }
        }
        load.run_for(Duration::from_millis(5))?;
    }
    load.drain(Duration::from_secs(5))?;
    let score = load.score().clone();
    Ok((score, seconds))
}

/// The kinds of windows: who is written to meanwhile.
const KINDS: [&str; 3] = ["at rest", "during PUTs into a twin", "during PUTs"];
/// The shares of requests whose latencies are told.
const SHARES: [(f64, &str); 2] = [(0.5, "p50"), (0.99, "p99")];

/// Who writes: told by a flag, one thread a gateway.
struct Writer {
    writing: Arc<AtomicBool>,
    done: Arc<AtomicBool>,
    thread: thread::JoinHandle<Result<(Score, f64), Fault>>,
}

impl Writer {
    fn start(target: &Server, cpus: &[usize]) -> Result<Self, Fault> {
        let (writing, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let thread = {
            let (writing, done) = (Arc::clone(&writing), Arc::clone(&done));
            let (target, cpus) = (target.admin.ok_or("no Admin API")?, cpus.to_vec());
            thread::spawn(move || write_until(target, &cpus, &writing, &done))
        };
        Ok(Self { writing, done, thread })
    }

    fn stop(self) -> Result<(Score, f64), Fault> {
        self.done.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the writer failed")?
    }
}

fn compare(
    engine: &mut Engine,
    [server, twin]: [&Server; 2],
    [road, office]: [&[usize]; 2],
    findings: &mut Findings,
) -> Result<(), Fault> {
    twin.move_all(office);
    server.move_all(road);
    server.move_office(office);
    let writers = [Writer::start(twin, office)?, Writer::start(server, office)?];
    cpu::pin(None, road)?;
    let request = scene::get("/load/", "");
    let plan = Plan {
        target: server.proxy,
        connections: CONNECTIONS,
        pace: Pace::Rate(RATE),
        ask: Box::new(move |_, out| out.extend_from_slice(&request)),
        hear: None,
        want: None,
        tls: None,
    };
    let mut load = Load::new(engine, plan);
    load.run_for(WINDOW)?;
    let mut latencies_us: [[Vec<f64>; SHARES.len()]; KINDS.len()] = Default::default();
    let mut failures = 0;
    for window in 0..KINDS.len() * WINDOWS {
        let kind = window % KINDS.len();
        for (at, writer) in writers.iter().enumerate() {
            writer.writing.store(kind == at + 1, Ordering::Relaxed);
        }
        load.run_for(PAUSE)?;
        load.clear();
        load.run_for(WINDOW)?;
        failures += load.score().failures();
        for ((share, _), values) in SHARES.into_iter().zip(&mut latencies_us[kind]) {
            values.push(load.score().latencies.at(share) as f64 / 1e3);
        }
    }
    writers.iter().for_each(|writer| writer.writing.store(false, Ordering::Relaxed));
    load.run_for(PAUSE)?;
    for writer in writers {
        let (puts, seconds) = writer.stop()?;
        tell_puts(&puts, seconds, findings);
    }
    load.drain(Duration::from_secs(5))?;
    findings.judge(failures == 0, &format!("{failures} requests failed"));
    for (at, (_, name)) in SHARES.into_iter().enumerate() {
        let all: Vec<&[f64]> = latencies_us.iter().map(|kind| kind[at].as_slice()).collect();
        tell_latencies(name, &all, findings);
    }
    Ok(())
}

fn tell_latencies(name: &str, kinds: &[&[f64]], findings: &mut Findings) {
    let [rest, twin, own] = kinds else { return };
    for (kind, values) in KINDS.iter().zip(kinds) {
        let median = stats::median(values);
        findings.note(&format!("{name} {kind} {median:.0} us (median of {WINDOWS} windows)"));
    }
    let told = |ours: &[f64], theirs: &[f64]| {
        let added = stats::difference(ours, theirs);
        let words = format!("{:.0} us [{:.0}, {:.0}]", added.mean, added.low, added.high);
        (added.high, words)
    };
    findings.note(&format!("{name}: PUTs into a twin add {}", told(twin, rest).1));
    findings.note(&format!("{name}: ours instead of the twin's add {}", told(own, twin).1));
    let (high, words) = told(own, rest);
    findings.judge(high <= ADDED_US_MAX, &format!("{name}: PUTs add {words}"));
}

fn tell_puts(puts: &Score, seconds: f64, findings: &mut Findings) {
    let rate = puts.answers() as f64 / seconds;
    let words = format!(
        "{rate:.0} PUTs a second for {seconds:.0} s, {} failed; answered after {:.1} ms (p50), \
         {:.1} ms (p99)",
        puts.failures(),
        puts.latencies.at(0.5) as f64 / 1e6,
        puts.latencies.at(0.99) as f64 / 1e6,
    );
    findings.judge(rate >= PUTS_SHARE_MIN * PUTS_A_SECOND && puts.failures() == 0, &words);
}

#[cfg(test)]
mod tests {
    use super::id;

    #[test]
    fn ids_are_uuids_and_differ() {
        assert_eq!(id(2, 1), "9e3779b1-0002-4000-8000-000000000001");
        let mut all: Vec<String> = (0..5_000).map(|number| id(1, number)).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 5_000);
    }
}

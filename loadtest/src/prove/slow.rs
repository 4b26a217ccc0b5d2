//! Ten thousand clients that send their heads byte by byte, beside honest ones.
//!
//! Rounds with and without the slow ones take turns; the honest clients' latencies are compared
//! round by round.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{Findings, Options, Stage};
use crate::{
    Fault,
    clients::{Load, Pace, Plan},
    collector::Depth,
    scene, stats,
};

const CONNECTIONS: usize = 16;
/// Low enough that two busy CPUs of a machine are not what is measured.
const RATE: f64 = 2_000.0;
const ROUNDS: usize = 16;
const WINDOW: Duration = Duration::from_secs(2);
/// Between a crowd's coming or going and a window: ten thousand resets at once, and what they have
/// held up, are not what a window is about.
const SETTLE: Duration = Duration::from_millis(1_500);
/// The crowd comes in groups of so many, with a rest between: a flood of connections is another
/// experiment.
const GROUP: usize = 25;
const GROUP_REST: Duration = Duration::from_millis(10);
/// How often each slow client sends one byte more.
const BYTE_EVERY: Duration = Duration::from_secs(5);
/// How long the slow ones may take to connect.
const CONNECT_SECONDS_MAX: u64 = 30;
const ADDED_US_MAX: f64 = 200.0;
const HEAD: &[u8] = b"GET /load/ HTTP/1.1\r\nHost: slow.example\r\nX-Slow: ";

pub(super) fn run(options: &Options, driver: &str, findings: &mut Findings) -> Result<(), Fault> {
    let mut stage = Stage::open(options, driver, 1, Depth::Count)?;
    scene::plain(&mut stage.admin, stage.engine.upstream.addr()?)?;
    let request = scene::get("/load/", "");
    let plan = Plan {
        target: stage.server.proxy,
        connections: CONNECTIONS,
        pace: Pace::Rate(RATE),
        ask: Box::new(move |_, out| out.extend_from_slice(&request)),
        hear: None,
        want: None,
        tls: None,
    };
    let (target, admin) = (stage.server.proxy, &mut stage.admin);
    let mut load = Load::new(&mut stage.engine, plan);
    load.run_for(WINDOW)?;
    let mut latencies_us = [Vec::new(), Vec::new()];
    let (mut failures, mut open_min) = (0, u64::MAX);
    for _ in 0..ROUNDS {
        failures += drive(&mut load, SETTLE)?.failures;
        let alone = drive(&mut load, WINDOW)?;
        // The crowd arrives while honest clients are served; then it only trickles.
        let slow = Slow::start(target, options.slow);
        let until = Instant::now() + Duration::from_secs(CONNECT_SECONDS_MAX);
        while !slow.is_there() && Instant::now() < until {
            load.run_for(Duration::from_millis(50))?;
        }
        let arriving = drive(&mut load, SETTLE)?;
        let beside = drive(&mut load, WINDOW)?;
        failures += alone.failures + arriving.failures + beside.failures;
        latencies_us[0].push(alone.p99_us);
        latencies_us[1].push(beside.p99_us);
        let active = scene::status(admin)?["server"]["connections_active"].as_u64();
        open_min = open_min.min(active.unwrap_or(0));
        findings.note(&format!(
            "p99, us: alone {:.0}, while they arrive {:.0}, beside them {:.0}",
            alone.p99_us, arriving.p99_us, beside.p99_us
        ));
        slow.end()?;
    }
    load.drain(Duration::from_secs(5))?;
    let added = stats::difference(&latencies_us[1], &latencies_us[0]);
    let middle = stats::middle_difference(&latencies_us[1], &latencies_us[0]);
    let wanted = options.slow as u64;
    findings
        .judge(open_min >= wanted, &format!("{open_min} connections open, {wanted} of them slow"));
    findings.judge(failures == 0, &format!("{failures} honest requests failed"));
    findings.judge(
        added.high <= ADDED_US_MAX,
        &format!(
            "p99 beside {wanted} slow clients - alone: {added:.0} us on average, \
             {middle:.0} in the middle round; alone {:.0} us",
            stats::median(&latencies_us[0])
        ),
    );
    Ok(())
}

/// What honest clients saw since the last part.
struct Seen {
    failures: u64,
    p99_us: f64,
}

/// Goes on for `time` and gives the score since the last part's end.
fn drive(load: &mut Load, time: Duration) -> Result<Seen, Fault> {
    load.run_for(time)?;
    let score = load.score();
    let seen = Seen { failures: score.failures(), p99_us: score.latencies.at(0.99) as f64 / 1e3 };
    load.clear();
    Ok(seen)
}

/// The slow clients, on a thread of their own.
pub(super) struct Slow {
    open: Arc<AtomicU64>,
    wanted: u64,
    over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Slow {
    /// Begins to connect so many.
    pub(super) fn start(target: SocketAddr, count: usize) -> Self {
        let (open, over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (told, stop) = (Arc::clone(&open), Arc::clone(&over));
        let thread = thread::spawn(move || trickle(target, count, &told, &stop));
        Self { open, wanted: count as u64, over, thread }
    }

    /// Whether all have connected.
    pub(super) fn is_there(&self) -> bool {
        self.open.load(Ordering::Relaxed) >= self.wanted
    }

    /// Closes all of them.
    pub(super) fn end(self) -> Result<(), Fault> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the slow clients failed".into())
    }
}

/// Connects, then sends one byte on each connection in turn. One that was cut is opened again.
fn trickle(target: SocketAddr, count: usize, open: &AtomicU64, over: &AtomicBool) {
    // They stand for other machines; the honest clients' clock must not wait for them.
    let _ = rustix::process::setpriority_process(None, 10);
    let mut all: Vec<Option<TcpStream>> = (0..count).map(|_| None).collect();
    let pause = BYTE_EVERY / count.max(1) as u32;
    let mut first = true;
    while !over.load(Ordering::Relaxed) {
        for (number, slot) in all.iter_mut().enumerate() {
            if over.load(Ordering::Relaxed) {
                return;
            }
            let alive = slot.as_mut().is_some_and(|stream| stream.write_all(b"x").is_ok());
            if !alive {
                *slot = connect(target);
            }
            if first {
                open.fetch_add(u64::from(slot.is_some()), Ordering::Relaxed);
                if number % GROUP == GROUP - 1 {
                    thread::sleep(GROUP_REST);
                }
            } else {
                thread::sleep(pause);
            }
        }
        first = false;
    }
}

fn connect(target: SocketAddr) -> Option<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(5)).ok()?;
    // Ends with a reset, or the ports of ten thousand would rest for a minute.
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).ok()?;
    stream.set_nodelay(true).ok()?;
    stream.write_all(HEAD).ok()?;
    stream.set_nonblocking(true).ok()?;
    Some(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Read, net::TcpListener};

    #[test]
    fn a_slow_client_sends_a_head_that_never_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let slow = Slow::start(listener.local_addr().unwrap(), 2);
        let mut streams: Vec<_> = (0..2).map(|_| listener.accept().unwrap().0).collect();
        for stream in &mut streams {
            let mut head = vec![0; HEAD.len()];
            stream.read_exact(&mut head).unwrap();
            assert_eq!(head, HEAD);
        }
        while !slow.is_there() {
            thread::sleep(Duration::from_millis(1));
        }
        slow.end().unwrap();
        // The end is a reset, after bytes of the same line at most.
        let mut rest = Vec::new();
        let ended = streams[0].read_to_end(&mut rest);
        assert!(ended.is_err() || rest.iter().all(|byte| *byte == b'x'), "{rest:?}");
    }
}

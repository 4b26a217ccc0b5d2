//! SIGKILL at random moments: whatever was committed before the answer is delivered, once by id.
//!
//! The test runs itself again as the gateway's process: threads commit exchanges and then, as the
//! client's answer, write the id to a file. The parent kills it, starts the next one on the same
//! prefix, and in the end compares what was answered with what the collector accepted.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test: a panic is its fault report")]

#[path = "common/collector.rs"]
mod collector;
#[path = "common/traffic.rs"]
mod traffic;

use collector::Collector;
use exporter::{ExporterPlan, Sums};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde_json::json;
use std::collections::HashSet;
use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use traffic::{Traffic, configure};
use uuid::Uuid;

const CORES: usize = 2;
const PREFIX: &str = "TOLLGATE_TEST_KILL_PREFIX";
const URL: &str = "TOLLGATE_TEST_KILL_URL";
const RUN: &str = "TOLLGATE_TEST_KILL_RUN";
const FILE_BYTES: &str = "TOLLGATE_TEST_KILL_FILE_BYTES";

fn plan(prefix: &Path) -> ExporterPlan {
    ExporterPlan { ring_bytes: 1 << 20, ..ExporterPlan::new(prefix.to_owned(), CORES) }
}

/// The process that is killed. Does nothing unless the parent has started it.
#[test]
fn child() {
    let Ok(prefix) = env::var(PREFIX) else { return };
    let (prefix, run) = (PathBuf::from(prefix), env::var(RUN).unwrap());
    if let Ok(bytes) = env::var(FILE_BYTES) {
        die_at(bytes.parse().unwrap());
    }
    fs::write(prefix.join(format!("begun-{run}")), "").unwrap();
    let exporter = exporter::start(&plan(&prefix)).unwrap();
    assert_eq!(exporter.rings_fault(), None, "this test needs shared memory");
    let row = configure(&exporter, 1, &json!({"api_endpoint": env::var(URL).unwrap()}));
    fs::write(prefix.join(format!("started-{run}")), "").unwrap();
    let run: u64 = run.parse().unwrap();
    thread::scope(|scope| {
        for core in 0..CORES {
            let mut producer = exporter.producer(core).unwrap();
            let path = prefix.join(format!("answers-{run}-{core}"));
            scope.spawn(move || {
                let mut answers = File::create(path).unwrap();
                let mut traffic = Traffic::new(row, run << 8 | core as u64);
                let body = format!("\"{}\"", "x".repeat(64 << 10));
                for number in 0_usize.. {
                    // Mostly small, some up to 64 KiB.
                    let len =
                        if number % 50 == 0 { number * 37 % (64 << 10) } else { number % 300 };
                    match traffic.commit(&mut producer, &body[..len]) {
                        Some(id) => {
                            answers.write_all(Uuid::parse_str(&id).unwrap().as_bytes()).unwrap()
                        }
                        // Refused: counted as dropped, and the client's answer is not this test's.
                        None => thread::sleep(Duration::from_millis(1)),
                    }
                    if number % 20 == 0 {
                        thread::sleep(Duration::from_micros(500));
                    }
                }
            });
        }
    });
}

/// The kernel ends this process (SIGXFSZ) as soon as it writes beyond so many bytes of any file,
/// after the bytes before that were written: a kill in the middle of an append.
fn die_at(bytes: u64) {
    let limit = |bytes| Rlimit { current: Some(bytes), maximum: Some(bytes) };
    setrlimit(Resource::Core, limit(0)).unwrap();
    setrlimit(Resource::Fsize, limit(bytes)).unwrap();
}

fn command(prefix: &Path, url: &str, run: u64) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["child", "--exact", "--nocapture"])
        .env(PREFIX, prefix)
        .env(URL, url)
        .env(RUN, run.to_string())
        .stdout(Stdio::null());
    command
}

fn spawn(prefix: &Path, url: &str, run: u64) -> Child {
    command(prefix, url, run).spawn().unwrap()
}

fn wait_for_file(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !path.exists() {
        assert!(Instant::now() < deadline, "{} does not come", path.display());
        thread::sleep(Duration::from_micros(200));
    }
}

/// All ids that were answered in any run.
fn answered(prefix: &Path, runs: u64) -> HashSet<String> {
    let mut ids = HashSet::new();
    for (run, core) in (0..runs).flat_map(|run| (0..CORES).map(move |core| (run, core))) {
        let Ok(bytes) = fs::read(prefix.join(format!("answers-{run}-{core}"))) else { continue };
        for id in bytes.chunks_exact(16) {
            assert!(ids.insert(Uuid::from_slice(id).unwrap().to_string()), "an id came twice");
        }
    }
    ids
}

/// Kills `runs` processes, every third one while it still adopts; gives the kills of either kind.
fn massacre(prefix: &Path, url: &str, runs: u64, seed: u64) -> (u64, u64) {
    let mut random = seed;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % below
    };
    let (mut adopting, mut working) = (0, 0);
    for run in 0..runs {
        let mut child = spawn(prefix, url, run);
        if run % 3 == 2 {
            wait_for_file(&prefix.join(format!("begun-{run}")));
            thread::sleep(Duration::from_micros(next(30_000)));
        } else {
            wait_for_file(&prefix.join(format!("started-{run}")));
            thread::sleep(Duration::from_millis(next(400)));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if prefix.join(format!("started-{run}")).exists() {
            working += 1;
        } else {
            adopting += 1;
        }
    }
    (adopting, working)
}

/// A last process that is not killed delivers what the others have left.
fn deliver_rest(prefix: &Path) -> Sums {
    let exporter = exporter::start(&plan(prefix)).unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while exporter.sums().queued > 0 {
        assert!(exporter.sums().add_up());
        assert!(Instant::now() < deadline, "{:?}", exporter.sums());
        thread::sleep(Duration::from_millis(10));
    }
    exporter.stop(0)
}

fn seed() -> u64 {
    let given = env::var("TOLLGATE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64)
}

/// While nothing is acknowledged, no event may even be in the journal twice.
#[test]
fn killed_with_the_collector_away_every_answered_event_arrives_exactly_once() {
    let (prefix, seed, runs) = (tempfile::tempdir().unwrap(), seed(), 12);
    let collector = Collector::start();
    collector.answer_with(503);
    let (adopting, working) = massacre(prefix.path(), &collector.url, runs, seed);
    let answered = answered(prefix.path(), runs);
    println!(
        "seed {seed}: {} answered, killed {working} at work and {adopting} while adopting",
        answered.len()
    );
    assert!(answered.len() > 500, "too little happened");
    collector.answer_with(201);
    let sums = deliver_rest(prefix.path());
    let accepted = collector.accepted();
    let lost: Vec<&String> = answered.iter().filter(|id| !accepted.contains_key(*id)).collect();
    assert!(lost.is_empty(), "seed {seed}: {} lost, such as {}", lost.len(), lost[0]);
    let twice = accepted.values().filter(|times| **times > 1).count();
    assert_eq!(twice, 0, "seed {seed}: events were journaled twice");
    let unanswered = accepted.len() - answered.len();
    assert!(unanswered as u64 <= runs * CORES as u64, "seed {seed}: {unanswered} from nowhere");
    assert_eq!(sums.delivered as usize, accepted.len());
    nothing_is_left(prefix.path());
}

/// Every process dies inside the append that crosses a random byte of a segment.
#[test]
fn killed_in_the_middle_of_an_append_every_answered_event_arrives_exactly_once() {
    let (prefix, seed, runs) = (tempfile::tempdir().unwrap(), seed(), 6);
    let collector = Collector::start();
    collector.answer_with(503);
    for run in 0..runs {
        // Above the ring's own size; the first segment to get so far ends the process.
        let bytes = (1_100 << 10) + (seed >> (run * 5)) % (1 << 20);
        let mut child = command(prefix.path(), &collector.url, run)
            .env(FILE_BYTES, bytes.to_string())
            .spawn()
            .unwrap();
        assert!(!child.wait().unwrap().success());
    }
    let answered = answered(prefix.path(), runs);
    collector.answer_with(201);
    let sums = deliver_rest(prefix.path());
    let accepted = collector.accepted();
    println!("seed {seed}: {} answered, {sums:?}", answered.len());
    let lost = answered.iter().filter(|id| !accepted.contains_key(*id)).count();
    assert_eq!(lost, 0, "seed {seed}: of {} answered", answered.len());
    assert!(accepted.values().all(|times| *times == 1), "seed {seed}: events were journaled twice");
    nothing_is_left(prefix.path());
}

/// With a collector that answers, sometimes badly: only batches that were on their way at a kill
/// may come again, and always under their ids.
#[test]
fn killed_while_sending_every_answered_event_arrives() {
    let (prefix, seed, runs) = (tempfile::tempdir().unwrap(), seed(), 9);
    let collector = Collector::start();
    let counter = std::sync::atomic::AtomicU64::new(0);
    collector.answer_by(Box::new(move |_| {
        let post = counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        thread::sleep(Duration::from_millis(post % 7));
        if post % 11 == 10 { 503 } else { 201 }
    }));
    let (adopting, working) = massacre(prefix.path(), &collector.url, runs, seed);
    let answered = answered(prefix.path(), runs);
    let sums = deliver_rest(prefix.path());
    let accepted = collector.accepted();
    let lost: Vec<&String> = answered.iter().filter(|id| !accepted.contains_key(*id)).collect();
    assert!(lost.is_empty(), "seed {seed}: {} lost, such as {}", lost.len(), lost[0]);
    let repeats: usize = accepted.values().map(|times| times - 1).sum();
    println!(
        "seed {seed}: {} answered, {repeats} repeats under old ids, killed {working} at work and \
         {adopting} while adopting, {sums:?}",
        answered.len()
    );
    let unanswered = accepted.len() - answered.len();
    assert!(unanswered as u64 <= runs * CORES as u64, "seed {seed}: {unanswered} from nowhere");
    nothing_is_left(prefix.path());
}

/// After everything is delivered neither rings nor segments remain.
fn nothing_is_left(prefix: &Path) {
    let left: Vec<_> = fs::read_dir(prefix.join("journal")).unwrap().collect();
    assert_eq!(left.len(), 1, "only the lock is left: {left:?}");
}

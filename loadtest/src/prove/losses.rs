//! What a collector can do wrong, and what can happen to the gateway meanwhile: nothing that a
//! client was told of may be lost, and nothing may be reported under two ids.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    Findings, Options, Stage,
    crash::{Heard, judge, plan, wait_until_delivered},
    disk::Disk,
};
use crate::{
    Fault,
    admin::Admin,
    clients::{Load, Pace},
    collector::{Collector, Depth, Manner},
    scene,
    servers::Ending,
};

const CONNECTIONS: usize = 32;
const RATE: f64 = 300.0;
/// How long a post may take where answers come late.
const SEND_TIMEOUT_MS: u64 = 500;
/// Anonymous memory that an outage may cost: the rings and the journal are not in it.
const MEMORY_KIB_MAX: u64 = 256 * 1024;
/// Bytes that events may take while they wait (`TOLLGATE_EVENTS_BYTES_MAX`), and what segments may
/// hold beside them: the newest one, and heads.
const EVENTS_BYTES_MAX: u64 = 256 << 20;
const SEGMENTS_BYTES_MORE: u64 = 16 << 20;
/// The same where the bound itself is tried, and for how many seconds, several times what it takes.
const FEW_BYTES_MAX: u64 = 2 << 20;
const FILLING_SECONDS: u64 = 5;
/// Bytes of the small disk.
const DISK: &str = "32m";
/// SIGKILLs of one run.
const KILLS: u64 = 5;
/// A cycle of sending, and in how much of it all posts must start where the time for it is 10 ms.
const CYCLE_MS: f64 = 1_500.0;
const STARTS_WITHIN_MS: f64 = 10.0;
/// How often a twin wakes meanwhile, from when on it was late, and how near to a post that matters.
const TWIN_EVERY: Duration = Duration::from_millis(5);
const HICCUP_MS: f64 = 5.0;
const HICCUP_NEAR_MS: f64 = 25.0;
/// Stands before the clock of the gateway; an hour is taken off while a file is there.
const CLOCK_SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, at);
    if (id == CLOCK_REALTIME && access(BACK, F_OK) == 0) at->tv_sec -= 3600;
    return result;
}
"#;

/// One trouble: its name, what the collector does, for how many seconds.
const TROUBLES: &[(&str, Manner, u64)] = &[
    ("the collector answers 503", Manner::Refuses(503), 10),
    ("the collector is frozen", Manner::Frozen, 30),
    ("nobody listens", Manner::Gone, 60),
    ("answers come after the time limit", Manner::Late(SEND_TIMEOUT_MS * 3), 15),
    ("the collector takes batches and cuts the connection", Manner::Cuts, 10),
];

pub(super) fn run(options: &Options, driver: &str, findings: &mut Findings) -> Result<(), Fault> {
    for (name, manner, seconds) in TROUBLES {
        let seconds = (seconds / options.shorten.max(1)).max(2);
        findings.note(&format!("{name}, {seconds} s"));
        trouble(options, driver, *manner, seconds, findings)?;
    }
    for ending in [Ending::Reload, Ending::Quit, Ending::Term] {
        findings.note(&format!("{ending:?} under load"));
        signal(options, driver, ending, findings)?;
    }
    findings.note(&format!("SIGKILL under load, {KILLS} times"));
    kills(options, driver, findings)?;
    findings.note("the clock is set back by an hour");
    clock_back(options, driver, findings)?;
    findings.note("the disk is full for a while");
    full_disk(options, driver, findings)?;
    findings.note("more events wait than may");
    bytes_full(options, driver, findings)
}

fn open(options: &Options, driver: &str) -> Result<Stage, Fault> {
    open_with(options, driver, &[], &json!({"send_timeout": SEND_TIMEOUT_MS}))
}

/// A stage whose gateway has these settings, and whose plugin has this configuration.
fn open_with(
    options: &Options,
    driver: &str,
    settings: &[(&str, &str)],
    config: &Value,
) -> Result<Stage, Fault> {
    let mut stage = Stage::open_with(options, driver, 2, Depth::Book, settings)?;
    scene::plain(&mut stage.admin, stage.engine.upstream.addr()?)?;
    scene::moesif_with(&mut stage.admin, "plain", &stage.collector.url(), config)?;
    Ok(stage)
}

fn trouble(
    options: &Options,
    driver: &str,
    manner: Manner,
    seconds: u64,
    findings: &mut Findings,
) -> Result<(), Fault> {
    let bytes_max = EVENTS_BYTES_MAX.to_string();
    let settings = [("TOLLGATE_EVENTS_BYTES_MAX", bytes_max.as_str())];
    let config = json!({"send_timeout": SEND_TIMEOUT_MS});
    let mut stage = open_with(options, driver, &settings, &config)?;
    let heard = Heard::default();
    let plan = plan(&stage, CONNECTIONS, options.seed, &heard);
    let mut load = Load::new(&mut stage.engine, plan);
    load.set_pace(Pace::Rate(RATE));
    load.run_for(Duration::from_secs(1))?;
    stage.collector.behave(manner);
    load.run_for(Duration::from_secs(seconds))?;
    let memory_kib = stage.server.memory_kib();
    let held = held_bytes(&mut stage.admin)?;
    stage.collector.behave(Manner::Takes);
    load.run_for(Duration::from_secs(2))?;
    load.drain(Duration::from_secs(5))?;
    findings.judge(load.score().failures() == 0, "no request failed meanwhile");
    findings.judge(
        memory_kib <= MEMORY_KIB_MAX,
        &format!("{} MiB of memory in the worst moment", memory_kib / 1024),
    );
    let most = EVENTS_BYTES_MAX + SEGMENTS_BYTES_MORE;
    findings.judge(
        held.iter().all(|bytes| *bytes <= most),
        &format!("{held:?} bytes of events and of segments waited, at most {most} each"),
    );
    wait_until_delivered(&stage.server, &stage.collector)?;
    let status = scene::status(&mut stage.admin)?;
    findings.note(&format!("GET /status: {}", status["tollgate"]["events"]));
    judge(&heard.borrow(), &stage.collector, findings);
    Ok(())
}

/// Bytes of waiting events, and bytes of segments.
fn held_bytes(admin: &mut Admin) -> Result<[u64; 2], Fault> {
    let status = admin.must("GET", "/plugins/moesif/status", &Value::Null)?;
    let applications = status["data"].as_array().cloned().unwrap_or_default();
    let sum = |name: &str| applications.iter().filter_map(|shown| shown[name].as_u64()).sum();
    Ok([sum("bytes"), sum("journal_bytes")])
}

/// Kills the gateway again and again while the collector is away, so that nothing is safe by having
/// been sent.
fn kills(options: &Options, driver: &str, findings: &mut Findings) -> Result<(), Fault> {
    let mut stage = open(options, driver)?;
    let heard = Heard::default();
    let plan = plan(&stage, CONNECTIONS, options.seed, &heard);
    stage.collector.behave(Manner::Refuses(503));
    let mut load = Load::new(&mut stage.engine, plan);
    for kill in 0..KILLS {
        load.set_pace(Pace::Rate(RATE));
        load.run_for(Duration::from_millis(1_200 + 130 * kill))?;
        stage.server.kill();
        // Connections notice, and rest.
        load.set_pace(Pace::Paused);
        load.run_for(Duration::from_millis(200))?;
        stage.server.restart()?;
        // One of the kills comes while the collector takes batches.
        let manner = if kill == 2 { Manner::Takes } else { Manner::Refuses(503) };
        stage.collector.behave(manner);
    }
    load.set_pace(Pace::Rate(RATE));
    load.run_for(Duration::from_secs(1))?;
    stage.collector.behave(Manner::Takes);
    load.drain(Duration::from_secs(5))?;
    wait_until_delivered(&stage.server, &stage.collector)?;
    judge(&heard.borrow(), &stage.collector, findings);
    Ok(())
}

/// Sets the gateway's clock back under load, restarts it, and lets the clock come right again. The
/// clock of the machine is not touched: a small library, made with `cc`, stands before the
/// gateway's.
fn clock_back(options: &Options, driver: &str, findings: &mut Findings) -> Result<(), Fault> {
    let folder = std::env::temp_dir().join(format!("tollgate-clock-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let ended = with_clock(options, driver, &folder, findings);
    fs::remove_dir_all(&folder)?;
    ended
}

fn with_clock(
    options: &Options,
    driver: &str,
    folder: &Path,
    findings: &mut Findings,
) -> Result<(), Fault> {
    let (source, shim, back) =
        (folder.join("clock.c"), folder.join("clock.so"), folder.join("back"));
    fs::write(&source, CLOCK_SHIM)?;
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&shim, &source])
        .arg(format!("-DBACK=\"{}\"", back.display()))
        .arg("-ldl")
        .status();
    if !made.is_ok_and(|status| status.success()) {
        findings.note("!! there is no cc to make the clock's library with: left out");
        return Ok(());
    }
    let shim = shim.to_string_lossy().into_owned();
    let config = json!({"send_timeout": SEND_TIMEOUT_MS});
    let mut stage = open_with(options, driver, &[("LD_PRELOAD", &shim)], &config)?;
    let heard = Heard::default();
    let plan = plan(&stage, CONNECTIONS, options.seed, &heard);
    stage.collector.behave(Manner::Refuses(503));
    let mut load = Load::new(&mut stage.engine, plan);
    load.set_pace(Pace::Rate(RATE));
    load.run_for(Duration::from_secs(2))?;
    fs::write(&back, "")?;
    load.run_for(Duration::from_secs(3))?;
    load.set_pace(Pace::Paused);
    load.run_for(Duration::from_millis(200))?;
    findings.judge(load.score().failures() == 0, "no request failed while the clock went back");
    stage.server.kill();
    stage.server.restart()?;
    load.set_pace(Pace::Rate(RATE));
    load.run_for(Duration::from_secs(2))?;
    stage.collector.behave(Manner::Takes);
    load.run_for(Duration::from_secs(2))?;
    fs::remove_file(&back)?;
    load.run_for(Duration::from_secs(1))?;
    load.drain(Duration::from_secs(5))?;
    wait_until_delivered(&stage.server, &stage.collector)?;
    let behind = stage.collector.books().behind;
    findings.judge(behind > 0, &format!("{behind} events stand an hour back: the clock was set"));
    judge(&heard.borrow(), &stage.collector, findings);
    Ok(())
}

/// With `max_callback_time_spent` 10 and answers after 100 ms, posts start in a small part of each
/// cycle only. Cycles in which the machine kept a thread of our own waiting, too, are left out: the
/// one row that needs a machine with little else to do.
pub(super) fn cycles(
    options: &Options,
    driver: &str,
    findings: &mut Findings,
) -> Result<(), Fault> {
    let config = json!({"max_callback_time_spent": 10});
    let mut stage = open_with(options, driver, &[], &config)?;
    let heard = Heard::default();
    let plan = plan(&stage, CONNECTIONS, options.seed, &heard);
    stage.collector.behave(Manner::Late(100));
    let mut load = Load::new(&mut stage.engine, plan);
    load.set_pace(Pace::Rate(RATE / 3.0));
    let seconds = (30 / options.shorten.max(1)).max(9);
    let beside = stage.collector.clone();
    let twin = thread::spawn(move || hiccups_ms(&beside, seconds));
    load.run_for(Duration::from_secs(seconds))?;
    let all = stage.collector.books().starts_ms.clone();
    let hiccups = twin.join().map_err(|_| "the twin failed")?;
    let calm = |at: f64| !hiccups.iter().any(|hiccup| (hiccup - at).abs() < HICCUP_NEAR_MS);
    let starts: Vec<f64> = all.iter().copied().filter(|at| calm(*at)).collect();
    let within = within_cycle(&starts, STARTS_WITHIN_MS);
    findings.judge(
        starts.len() >= 5 && starts.len() * 2 >= all.len() && within == starts.len(),
        &format!("{within} of {} posts start within 10 ms of each cycle", starts.len()),
    );
    findings.note(&format!(
        "of all {} posts {} within 10 ms, {} within 20; together: {:.1} ms; {} hiccups",
        all.len(),
        within_cycle(&all, STARTS_WITHIN_MS),
        within_cycle(&all, 2.0 * STARTS_WITHIN_MS),
        spread(&all),
        hiccups.len()
    ));
    findings.note(&format!("behind the first of its cycle, ms: {:.1?}", behind_first_ms(&all)));
    stage.collector.behave(Manner::Takes);
    load.drain(Duration::from_secs(5))?;
    wait_until_delivered(&stage.server, &stage.collector)?;
    let status = stage.admin.must("GET", "/plugins/moesif/status", &Value::Null)?;
    let overruns = &status["data"][0]["budget_overruns"];
    findings.judge(*overruns == 0, &format!("{overruns} posts started outside, says the gateway"));
    judge(&heard.borrow(), &stage.collector, findings);
    Ok(())
}

/// When a thread of our own that only wakes every few milliseconds was late, on the collector's
/// clock: what the machine does to anybody.
fn hiccups_ms(collector: &Collector, seconds: u64) -> Vec<f64> {
    let (begun, mut found) = (Instant::now(), Vec::new());
    for number in 1..=(seconds * 1_000 / TWIN_EVERY.as_millis() as u64) as u32 {
        let due = TWIN_EVERY * number;
        thread::sleep(due.saturating_sub(begun.elapsed()));
        let late_ms = begun.elapsed().saturating_sub(due).as_secs_f64() * 1e3;
        if late_ms > HICCUP_MS {
            found.push(collector.elapsed_ms());
        }
    }
    found
}

/// How far each post is behind the first one within half a cycle, in milliseconds, in order.
fn behind_first_ms(times_ms: &[f64]) -> Vec<f64> {
    let mut first = f64::NEG_INFINITY;
    let mut times = times_ms.to_vec();
    times.sort_by(f64::total_cmp);
    let behind = times.iter().map(|at| {
        if at - first > CYCLE_MS / 2.0 {
            first = *at;
        }
        at - first
    });
    behind.collect()
}

/// Most of the times that fall into one window of a cycle. Nobody knows where the gateway's cycles
/// begin, so every time is tried as the window's beginning.
fn within_cycle(times_ms: &[f64], window_ms: f64) -> usize {
    let behind = |from: f64, at: f64| (at - from).rem_euclid(CYCLE_MS);
    let of = |from: f64| times_ms.iter().filter(|at| behind(from, **at) <= window_ms).count();
    times_ms.iter().map(|from| of(*from)).max().unwrap_or(0)
}

/// The smallest window of a cycle that has all the times.
fn spread(times_ms: &[f64]) -> f64 {
    let behind = |from: f64, at: f64| (at - from).rem_euclid(CYCLE_MS);
    let widest = |from: f64| times_ms.iter().map(|at| behind(from, *at)).fold(0.0, f64::max);
    times_ms.iter().map(|from| widest(*from)).fold(CYCLE_MS, f64::min)
}

fn signal(
    options: &Options,
    driver: &str,
    ending: Ending,
    findings: &mut Findings,
) -> Result<(), Fault> {
    let mut stage = open(options, driver)?;
    let heard = Heard::default();
    let plan = plan(&stage, CONNECTIONS, options.seed, &heard);
    // A collector that is away makes sure that nothing is safe by having been sent.
    stage.collector.behave(Manner::Refuses(503));
    let (server, collector) = (&mut stage.server, &stage.collector);
    let mut load = Load::new(&mut stage.engine, plan);
    load.set_pace(Pace::Rate(RATE));
    load.run_for(Duration::from_secs(2))?;
    server.end(ending);
    if ending == Ending::Reload {
        load.run_for(Duration::from_secs(1))?;
    } else {
        // Requests meet a closed door for a moment; only answers count.
        load.set_pace(Pace::Paused);
        load.run_for(Duration::from_millis(200))?;
        findings.judge(server.wait_end(), &format!("{ending:?} ended the gateway by itself"));
        server.restart()?;
        load.set_pace(Pace::Rate(RATE));
        load.run_for(Duration::from_secs(1))?;
    }
    collector.behave(Manner::Takes);
    load.drain(Duration::from_secs(5))?;
    wait_until_delivered(&stage.server, &stage.collector)?;
    judge(&heard.borrow(), &stage.collector, findings);
    Ok(())
}

/// Lets more events wait than `TOLLGATE_EVENTS_BYTES_MAX` allows: the newest are dropped, each of
/// them is counted, and what was taken before is delivered.
fn bytes_full(options: &Options, driver: &str, findings: &mut Findings) -> Result<(), Fault> {
    let bytes_max = FEW_BYTES_MAX.to_string();
    let settings = [("TOLLGATE_EVENTS_BYTES_MAX", bytes_max.as_str())];
    let mut stage = open_with(options, driver, &settings, &json!({}))?;
    let heard = Heard::default();
    let plan = plan(&stage, CONNECTIONS, options.seed, &heard);
    stage.collector.behave(Manner::Refuses(503));
    let mut load = Load::new(&mut stage.engine, plan);
    load.set_pace(Pace::Rate(RATE));
    load.run_for(Duration::from_secs(FILLING_SECONDS))?;
    load.drain(Duration::from_secs(5))?;
    findings.judge(load.score().failures() == 0, "no request failed meanwhile");
    // The exporter looks every 10 ms, and tells five times a second.
    thread::sleep(Duration::from_secs(1));
    let [bytes, _segments] = held_bytes(&mut stage.admin)?;
    // One look's worth of events may come over it.
    let most = FEW_BYTES_MAX + (1 << 20);
    findings.judge(bytes <= most, &format!("{bytes} bytes of events waited, at most {most}"));
    stage.collector.behave(Manner::Takes);
    wait_until_delivered(&stage.server, &stage.collector)?;
    let events = scene::status(&mut stage.admin)?["tollgate"]["events"].clone();
    findings.note(&format!("GET /status: {events}"));
    let (heard, books) = (&*heard.borrow(), &*stage.collector.books());
    let reported = heard.values().filter(|id| books.ids.contains_key(*id)).count() as u64;
    let dropped = events["dropped_because"]["bytes_full"].as_u64().unwrap_or(0);
    findings.judge(
        dropped > 0 && dropped == events["dropped"] && reported + dropped == heard.len() as u64,
        &format!("{} answers are {reported} reported and {dropped} dropped", heard.len()),
    );
    let numbers = |was: bool| {
        let told = heard.iter().filter(move |(_, id)| books.ids.contains_key(*id) == was);
        told.map(|(number, _)| *number)
    };
    let first_dropped = numbers(false).min().unwrap_or(0);
    let newer = numbers(true).filter(|number| *number > first_dropped).count();
    findings.judge(
        newer <= CONNECTIONS * 2,
        &format!("{newer} are newer than the first that was dropped: the newest are dropped"),
    );
    Ok(())
}

/// Fills the disk under the journal, drives, makes room again.
fn full_disk(options: &Options, driver: &str, findings: &mut Findings) -> Result<(), Fault> {
    let disk = match Disk::mount(DISK)? {
        Some(disk) => disk,
        None => {
            findings.note("!! a disk of its own cannot be mounted here: left out");
            return Ok(());
        }
    };
    let prefix = disk.0.join("prefix").to_string_lossy().into_owned();
    let config = json!({"send_timeout": SEND_TIMEOUT_MS});
    let mut stage = open_with(options, driver, &[("KONG_PREFIX", &prefix)], &config)?;
    let heard = Heard::default();
    let plan = plan(&stage, CONNECTIONS, options.seed, &heard);
    let mut load = Load::new(&mut stage.engine, plan);
    load.set_pace(Pace::Rate(RATE / 3.0));
    load.run_for(Duration::from_secs(1))?;
    let filler = disk.fill()?;
    load.run_for(Duration::from_secs(2))?;
    fs::remove_file(filler)?;
    load.run_for(Duration::from_secs(1))?;
    load.drain(Duration::from_secs(5))?;
    findings.judge(load.score().failures() == 0, "no request failed while the disk was full");
    wait_until_delivered(&stage.server, &stage.collector)?;
    judge(&heard.borrow(), &stage.collector, findings);
    drop(stage);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_cluster_over_the_end_of_a_cycle() {
        let times = [1_498.0, 3_003.0, 4_501.0, 6_750.0];
        assert_eq!(within_cycle(&times, 10.0), 3);
        assert_eq!(within_cycle(&times[..3], 4.0), 2);
        assert!((spread(&times[..3]) - 5.0).abs() < 1e-9, "{}", spread(&times[..3]));
        assert_eq!(within_cycle(&[], 10.0), 0);
        assert_eq!(behind_first_ms(&times), [0.0, 0.0, 0.0, 0.0]);
        assert_eq!(behind_first_ms(&[7.0, 5.0, 1_505.0]), [0.0, 2.0, 0.0]);
    }
}

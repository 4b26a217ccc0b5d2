//! Experiments that a gateway passes or fails: crashes, limits, live changes, memory.
//!
//! Each starts its own Tollgate with an empty store, drives it through its sockets only, and judges
//! from outside: what clients were told against what the collector has.

mod adopt;
mod allocations;
mod cache;
mod crash;
mod database;
mod disk;
mod faults;
mod idle;
mod live;
mod losses;
mod million;
mod nodes;
mod office;
mod outage;
mod plugins;
mod rate;
mod sinks;
mod slow;
mod soak;
mod together;

use std::path::PathBuf;

use crate::{
    Fault,
    admin::Admin,
    collector::{Collector, Depth},
    cpu,
    engine::Engine,
    servers::{Place, Server},
};

/// What `prove` is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program `tollgate`.
    pub tollgate: PathBuf,
    /// Its drivers: `epoll`, `io_uring`.
    pub drivers: Vec<String>,
    /// Which experiments, by name; all where empty.
    pub only: Vec<String>,
    /// Connections of the crash experiment.
    pub connections: usize,
    /// Requests of the crash experiment.
    pub requests: u64,
    /// SIGKILLs of the crash experiment.
    pub kills: u64,
    /// Idle connections of the memory experiment.
    pub idle: usize,
    /// Credentials of the adoption experiment.
    pub credentials: u64,
    /// Divides the seconds of the loss experiment.
    pub shorten: u64,
    /// Slow clients of their experiment.
    pub slow: usize,
    /// Minutes of the soak.
    pub minutes: f64,
    /// Where random moments and sizes come from.
    pub seed: u64,
}

/// One experiment: its name, what it asks, how it is done.
type Experiment =
    (&'static str, &'static str, fn(&Options, &str, &mut Findings) -> Result<(), Fault>);

const EXPERIMENTS: &[Experiment] = &[
    ("crash", "after SIGKILLs under load every counted answer is reported once", crash::run),
    ("outage", "a collector that refuses for ten seconds costs no event", outage::run),
    ("losses", "no trouble with the collector, a signal or the disk costs an event", losses::run),
    ("cycles", "batches start within the time of each cycle that is theirs", losses::cycles),
    ("rate", "limits are exact over cores and connections", rate::run),
    ("live", "an Admin write is live at once and disturbs nobody", live::run),
    ("idle", "what an idle connection costs in memory", idle::run),
    ("allocations", "calls of the allocator per request", allocations::run),
    ("plugins", "what each plugin costs on the road", plugins::run),
    ("sinks", "a log sink in trouble costs nothing on the road, no entry is lost", sinks::run),
    ("cache", "a gigabyte of cacheable answers stays within the bound", cache::run),
    ("million", "a start with a million consumers and their keys, on SQLite", million::sqlite),
    ("million-postgres", "the same on Postgres", million::postgres),
    ("postgres", "no trouble with the database costs a request or a write", database::run),
    ("nodes", "what one node writes is live on the others", nodes::run),
    ("together", "four nodes admit together what a limit allows", together::run),
    ("office", "a busy Admin API does not disturb the road", office::run),
    ("slow", "clients that send byte by byte do not hurt the others", slow::run),
    (
        "upstream",
        "an upstream killed under load and back costs no idempotent request",
        faults::upstream,
    ),
    ("stuck", "peers that stop reading or never speak cost nobody else anything", faults::stuck),
    (
        "files",
        "without descriptors who is in goes on, and all is well a second later",
        faults::files,
    ),
    ("dns", "without its name servers the gateway goes on with what it knew", faults::dns),
    ("soak", "memory and descriptors do not grow under mixed traffic and changes", soak::run),
    ("adopt", "a large configuration changes without a pause", adopt::run),
];

/// What an experiment found.
#[derive(Debug, Default)]
pub struct Findings {
    failed: u64,
}

impl Findings {
    /// Tells something that is not judged.
    pub fn note(&mut self, words: &str) {
        println!("     {words}");
    }

    /// Tells something and whether it is as it must be.
    pub fn judge(&mut self, good: bool, words: &str) {
        println!("{} {words}", if good { "ok  " } else { "FAIL" });
        self.failed += u64::from(!good);
    }
}

/// Runs the experiments on each driver.
///
/// # Errors
/// An experiment that could not be carried out, or the number of judgements that failed.
pub fn run(options: &Options) -> Result<(), Fault> {
    let mut findings = Findings::default();
    for name in &options.only {
        if !EXPERIMENTS.iter().any(|(known, _, _)| known == name) {
            return Err(format!("there is no experiment {name}").into());
        }
    }
    for driver in &options.drivers {
        if let Some(fault) = missing(options, driver)? {
            println!("!! io_uring does not run here and is left out: {fault}");
            continue;
        }
        for (name, about, carry_out) in EXPERIMENTS {
            // The soak takes as long as it is told to, so it is asked for by name.
            let usual = options.only.is_empty() && *name != "soak";
            if usual || options.only.iter().any(|only| only == name) {
                println!("\n{name} on {driver}: {about} (seed {})", options.seed);
                carry_out(options, driver, &mut findings)?;
            }
        }
    }
    match findings.failed {
        0 => Ok(()),
        failed => Err(format!("{failed} judgements failed").into()),
    }
}

/// Why the driver cannot run here; only io_uring may be missing.
fn missing(options: &Options, driver: &str) -> Result<Option<Fault>, Fault> {
    match Stage::open(options, driver, 1, Depth::Count) {
        Ok(_) => Ok(None),
        Err(fault) if driver == "io_uring" => Ok(Some(fault)),
        Err(fault) => Err(fault),
    }
}

/// A gateway with what is around it.
struct Stage {
    engine: Engine,
    collector: Collector,
    server: Server,
    admin: Admin,
}

impl Stage {
    /// An upstream, a collector and a Tollgate with an empty store on `cores` cores.
    fn open(options: &Options, driver: &str, cores: usize, depth: Depth) -> Result<Self, Fault> {
        Self::open_with(options, driver, cores, depth, &[])
    }

    /// The same with further settings of the gateway.
    fn open_with(
        options: &Options,
        driver: &str,
        cores: usize,
        depth: Depth,
        settings: &[(&str, &str)],
    ) -> Result<Self, Fault> {
        let engine = Engine::new("127.0.0.1:0".parse()?, 1_024)?;
        let collector = Collector::start("127.0.0.1:0".parse()?, depth)?;
        let place = Place { cores, cpus: cpu::allowed()? };
        let server = Server::tollgate(&options.tollgate, driver, &place, settings)?;
        let admin = server.admin()?;
        Ok(Self { engine, collector, server, admin })
    }
}

/// Repeatable dice.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall the same way for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// A number below `limit`; 0 if that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(self.0 >> 16) * u128::from(limit)) >> 48) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_stay_below_their_limit_and_reach_it() {
        let mut dice = Dice::new(1);
        let thrown: Vec<u64> = (0..1_000).map(|_| dice.below(6)).collect();
        assert!((0..6).all(|number| thrown.contains(&number)), "{thrown:?}");
        assert!(thrown.iter().all(|number| *number < 6));
        assert_eq!(dice.below(0), 0);
    }
}

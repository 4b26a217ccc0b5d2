//! What a collector can do wrong, and what can happen to the gateway meanwhile: nothing that a
//! client was told of may be lost, and nothing may be reported under two ids.

use std::{fs, time::Duration};

use serde_json::json;

use super::{
    Findings, Options, Stage,
    crash::{Heard, judge, plan, wait_until_quiet},
    disk::Disk,
};
use crate::{
    Fault,
    clients::{Load, Pace},
    collector::{Depth, Manner},
    cpu, scene,
    servers::{Ending, Place, Server},
};

const CONNECTIONS: usize = 32;
const RATE: f64 = 300.0;
/// How long a post may take where answers come late.
const SEND_TIMEOUT_MS: u64 = 500;
/// Anonymous memory that an outage may cost: the rings and the journal are not in it.
const MEMORY_KIB_MAX: u64 = 256 * 1024;
/// Bytes of the small disk.
const DISK: &str = "32m";

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
    findings.note("the disk is full for a while");
    full_disk(options, driver, findings)
}

fn open(options: &Options, driver: &str) -> Result<Stage, Fault> {
    let mut stage = Stage::open(options, driver, 2, Depth::Book)?;
    furnish(&mut stage)?;
    Ok(stage)
}

fn furnish(stage: &mut Stage) -> Result<(), Fault> {
    scene::plain(&mut stage.admin, stage.engine.upstream.addr()?)?;
    let more = json!({"send_timeout": SEND_TIMEOUT_MS});
    scene::moesif_with(&mut stage.admin, "plain", &stage.collector.url(), &more)
}

fn trouble(
    options: &Options,
    driver: &str,
    manner: Manner,
    seconds: u64,
    findings: &mut Findings,
) -> Result<(), Fault> {
    let mut stage = open(options, driver)?;
    let heard = Heard::default();
    let plan = plan(&stage, CONNECTIONS, options.seed, &heard);
    let mut load = Load::new(&mut stage.engine, plan);
    load.set_pace(Pace::Rate(RATE));
    load.run_for(Duration::from_secs(1))?;
    stage.collector.behave(manner);
    load.run_for(Duration::from_secs(seconds))?;
    let memory_kib = stage.server.memory_kib();
    stage.collector.behave(Manner::Takes);
    load.run_for(Duration::from_secs(2))?;
    load.drain(Duration::from_secs(5))?;
    findings.judge(load.score().failures() == 0, "no request failed meanwhile");
    findings.judge(
        memory_kib <= MEMORY_KIB_MAX,
        &format!("{} MiB of memory in the worst moment", memory_kib / 1024),
    );
    wait_until_quiet(&stage.collector);
    let status = scene::status(&mut stage.admin)?;
    findings.note(&format!("GET /status: {}", status["tollgate"]["events"]));
    judge(&heard.borrow(), &stage.collector, findings);
    Ok(())
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
    wait_until_quiet(&stage.collector);
    judge(&heard.borrow(), &stage.collector, findings);
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
    let mut stage = Stage::open(options, driver, 2, Depth::Book)?;
    let place = Place { cores: 2, cpus: cpu::allowed()? };
    let prefix = disk.0.join("prefix").to_string_lossy().into_owned();
    stage.server =
        Server::tollgate(&options.tollgate, driver, &place, &[("KONG_PREFIX", &prefix)])?;
    stage.admin = stage.server.admin()?;
    furnish(&mut stage)?;
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
    wait_until_quiet(&stage.collector);
    judge(&heard.borrow(), &stage.collector, findings);
    drop(stage);
    Ok(())
}

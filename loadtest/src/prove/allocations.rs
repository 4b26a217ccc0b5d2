//! Counts calls of the allocator per request, in the program as it is shipped.
//!
//! Uprobes of the kernel count how often `mi_malloc_aligned` and its relatives are entered, by any
//! thread. They need root, tracefs and `nm`; without them this says so and judges nothing.

use std::{fs, path::Path, process::Command, time::Duration};

use super::{Findings, Options, Stage};
use crate::{
    Fault,
    clients::{Load, Pace, Plan},
    collector::Depth,
    scene,
};

const TRACING: &str = "/sys/kernel/tracing";
const SYMBOLS: [&str; 3] = ["mi_malloc_aligned", "mi_zalloc_aligned", "mi_realloc_aligned"];
const CONNECTIONS: usize = 64;
const WINDOW: Duration = Duration::from_secs(3);
const PLAIN_MAX: f64 = 2.0;

pub(super) fn run(options: &Options, driver: &str, findings: &mut Findings) -> Result<(), Fault> {
    let probes = match Probes::set(&options.tollgate) {
        Ok(probes) => probes,
        Err(fault) => {
            findings.note(&format!("!! not measured: {fault}"));
            return Ok(());
        }
    };
    let mut stage = Stage::open(options, driver, 1, Depth::Count)?;
    scene::plain(&mut stage.admin, stage.engine.upstream.addr()?)?;
    scene::guarded(&mut stage.admin, &stage.collector.url())?;
    let plain = per_request(&mut stage, &probes, "/load/", "")?;
    findings.judge(plain <= PLAIN_MAX, &format!("{plain:.2} allocations per plain request"));
    let key = format!("apikey: {}\r\n", scene::KEY);
    let guarded = per_request(&mut stage, &probes, "/guarded/", &key)?;
    findings.note(&format!("{guarded:.2} with three plugins, exporter and sender included"));
    Ok(())
}

/// Allocations of the whole process per request, without those of an idle one.
fn per_request(
    stage: &mut Stage,
    probes: &Probes,
    path: &str,
    headers: &str,
) -> Result<f64, Fault> {
    let request = scene::get(path, headers);
    let plan = Plan {
        target: stage.server.proxy,
        connections: CONNECTIONS,
        pace: Pace::Closed,
        ask: Box::new(move |_, out| out.extend_from_slice(&request)),
        hear: None,
        want: None,
        tls: None,
    };
    let before = probes.hits()?;
    stage.engine.serve_for(WINDOW.as_millis() as u64)?;
    let idle = probes.hits()? - before;
    let mut load = Load::new(&mut stage.engine, plan);
    load.run_for(WINDOW)?;
    load.clear();
    let before = probes.hits()?;
    load.run_for(WINDOW)?;
    let hits = (probes.hits()? - before).saturating_sub(idle);
    let (answers, failures) = (load.score().answers(), load.score().failures());
    if failures > 0 || answers == 0 {
        return Err(format!("{failures} of {answers} requests failed on {path}").into());
    }
    Ok(hits as f64 / answers as f64)
}

/// Uprobes on a program's allocator, removed when dropped.
struct Probes {
    group: String,
}

impl Probes {
    fn set(program: &Path) -> Result<Self, Fault> {
        let program = fs::canonicalize(program)?;
        let group = format!("tollgate{}", std::process::id());
        let mut lines = String::new();
        for (symbol, offset) in offsets(&program)? {
            lines += &format!("p:{group}/{symbol} {}:{offset:#x}\n", program.display());
        }
        append("uprobe_events", &lines)?;
        let probes = Self { group };
        fs::write(format!("{TRACING}/events/{}/enable", probes.group), "1")?;
        Ok(probes)
    }

    /// How often the allocator was entered since the probes were set.
    fn hits(&self) -> Result<u64, Fault> {
        let profile = fs::read_to_string(format!("{TRACING}/uprobe_profile"))?;
        let mut hits = 0;
        for line in profile.lines() {
            let mut words = line.split_whitespace().skip(1);
            let known = words.next().is_some_and(|name| SYMBOLS.contains(&name));
            let count = words.next().and_then(|word| word.parse::<u64>().ok());
            hits += count.filter(|_| known).unwrap_or(0);
        }
        Ok(hits)
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        let _ = fs::write(format!("{TRACING}/events/{}/enable", self.group), "0");
        for symbol in SYMBOLS {
            let _ = append("uprobe_events", &format!("-:{}/{symbol}\n", self.group));
        }
    }
}

/// The kernel takes one line a write and keeps what others have set only when appended to.
fn append(file: &str, lines: &str) -> Result<(), Fault> {
    use std::io::Write;
    for line in lines.lines() {
        let mut file = fs::File::options().append(true).open(format!("{TRACING}/{file}"))?;
        file.write_all(format!("{line}\n").as_bytes())?;
    }
    Ok(())
}

/// Where in the file the allocator's functions begin.
fn offsets(program: &Path) -> Result<Vec<(&'static str, u64)>, Fault> {
    let run = |tool: &str, flag: &str| -> Result<String, Fault> {
        let out = Command::new(tool).arg(flag).arg(program).output()?;
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let symbols = run("nm", "-p")?;
    let segments = run("readelf", "-lW")?;
    let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    // The executable segment: its place in the file and in memory.
    let (in_file, in_memory) = segments
        .lines()
        .filter(|line| line.trim_start().starts_with("LOAD") && line.contains(" R E "))
        .find_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            Some((hex(words.next()?)?, hex(words.next()?)?))
        })
        .ok_or("the program has no executable segment")?;
    let mut found = Vec::new();
    for line in symbols.lines() {
        let mut words = line.split_whitespace();
        let (addr, name) = (words.next().and_then(hex), words.nth(1));
        let known = SYMBOLS.iter().find(|symbol| Some(**symbol) == name);
        if let (Some(addr), Some(symbol)) = (addr, known) {
            found.push((*symbol, addr + in_file - in_memory));
        }
    }
    if found.is_empty() {
        return Err("the program has no symbols of mimalloc".into());
    }
    Ok(found)
}

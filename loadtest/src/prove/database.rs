//! What a database can do wrong while requests run and an operator writes: no request may fail, no
//! acknowledged write may be lost, none applied twice, and no caller of the Admin API waits long.
//!
//! The database is a PostgreSQL of our own behind a forwarder: `pg_host` names one place, as in
//! Kong, and a failover moves what is behind it (an address that moves, a proxy, a DNS name).

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Findings, Options, disk::Disk};
use crate::{
    Fault,
    admin::Admin,
    clients::{Load, Pace, Plan},
    cpu,
    engine::Engine,
    forwarder::Forwarder,
    postgres::{Cluster, own},
    scene,
    servers::{Place, Server},
};

pub(super) const DATABASE: &str = "kong";
pub(super) const USER: &str = "kong";
const CONNECTIONS: usize = 32;
const RATE: f64 = 500.0;
/// The longest that a call of the Admin API may take, in milliseconds: five seconds, and a little
/// for a machine that does everything at once.
const ANSWER_MS_MAX: f64 = 5_500.0;
/// How soon after a trouble writes must go through again.
const RETURN_SECONDS_MAX: u64 = 60;
/// So many writes must go through before a trouble is over.
const WRITES_AFTER: u64 = 20;
const WRITE_PAUSE: Duration = Duration::from_millis(10);
const START_MS_MAX: f64 = 1_000.0;
/// Room for the database's tables where a full disk is tried.
const DISK: &str = "48m";
/// A slow network: each piece, in either direction.
const SLOW_MS: u64 = 20;
const FROZEN_SECONDS: u64 = 30;
const TROUBLE_SECONDS: u64 = 10;

/// The database and what stands around it.
struct Site {
    cluster: Cluster,
    forwarder: Forwarder,
    /// The folder of its tables, on a disk of their own.
    disk: Option<Disk>,
    seconds_divisor: u64,
}

/// One trouble: its name, and how it comes and goes.
type Trouble = (&'static str, fn(&mut Site) -> Result<(), Fault>);

const TROUBLES: &[Trouble] = &[
    ("frozen (SIGSTOP of all its processes)", freeze),
    ("killed (SIGKILL of all its processes) and started again", crash),
    ("out of connections (CONNECTION LIMIT 0, sessions ended)", out_of_connections),
    ("read-only (default_transaction_read_only)", read_only),
    ("slow (20 ms for each piece, in either direction)", slow),
    ("its disk is full (the tablespace's file system)", full_disk),
    ("failover: killed, and a replica promoted in its place", fail_over),
];

pub(super) fn run(options: &Options, driver: &str, findings: &mut Findings) -> Result<(), Fault> {
    let Some(mut site) = Site::make(options)? else {
        findings.note("left out: PostgreSQL is not installed");
        return Ok(());
    };
    bootstrap(options, &settings(site.forwarder.addr))?;
    let mut engine = Engine::new("127.0.0.1:0".parse()?, 1_024)?;
    let place = Place { cores: 1, cpus: cpu::allowed()? };
    let addr = site.forwarder.addr;
    let settings = settings(addr);
    let settings: Vec<(&str, &str)> = settings.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let mut server = Server::tollgate(&options.tollgate, driver, &place, &settings)?;
    let mut admin = server.admin()?;
    scene::plain(&mut admin, engine.upstream.addr()?)?;
    let route = json!({"name": "closed", "paths": ["/closed"]});
    admin.must("POST", "/services/load/routes", &route)?;
    let plugin = json!({"name": "request-termination", "config": {"status_code": 418}});
    admin.must("POST", "/routes/closed/plugins", &plugin)?;
    let mut numbers = 0;
    for (name, trouble) in TROUBLES {
        findings.note(name);
        if site.disk.is_none() && name.contains("disk") {
            findings.note("!! a disk of its own cannot be mounted here: left out");
            continue;
        }
        let written = drive(&mut engine, &server, &mut site, *trouble, &mut numbers, findings)?;
        judge(&mut engine, &server, &site, &written, findings)?;
    }
    start_alone(&mut site, &mut server, findings)
}

/// Settings of a gateway that keeps its rows there.
pub(super) fn settings(addr: SocketAddr) -> Vec<(&'static str, String)> {
    vec![
        ("KONG_DATABASE", "postgres".to_owned()),
        ("KONG_PG_HOST", addr.ip().to_string()),
        ("KONG_PG_PORT", addr.port().to_string()),
        ("KONG_PG_USER", USER.to_owned()),
        ("KONG_PG_DATABASE", DATABASE.to_owned()),
    ]
}

/// Makes the gateway's tables.
pub(super) fn bootstrap(options: &Options, settings: &[(&str, String)]) -> Result<(), Fault> {
    let mut command = Command::new(&options.tollgate);
    command.args(["migrations", "bootstrap"]);
    let done = command.envs(settings.iter().map(|(n, v)| (*n, v))).output()?;
    match done.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&done.stderr).into_owned().into()),
    }
}

impl Site {
    fn make(options: &Options) -> Result<Option<Self>, Fault> {
        let Some(cluster) = Cluster::make("")? else { return Ok(None) };
        let disk = Disk::mount(DISK)?;
        cluster.sql("postgres", &format!("CREATE ROLE {USER} LOGIN"))?;
        let mut tablespace = String::new();
        if let Some(disk) = &disk {
            let folder = disk.0.join("tables");
            own(&folder)?;
            let sql = format!("CREATE TABLESPACE small LOCATION '{}'", folder.display());
            cluster.sql("postgres", &sql)?;
            tablespace = "TABLESPACE small".to_owned();
        }
        let sql = format!("CREATE DATABASE {DATABASE} OWNER {USER} {tablespace}");
        cluster.sql("postgres", &sql)?;
        let forwarder = Forwarder::start(cluster.addr())?;
        Ok(Some(Self { cluster, forwarder, disk, seconds_divisor: options.shorten.max(1) }))
    }

    fn rest(&self, seconds: u64) {
        thread::sleep(Duration::from_secs((seconds / self.seconds_divisor).max(3)));
    }

    /// Ends the gateway's sessions, so that a change of what they may do holds at once.
    fn end_sessions(&self) -> Result<(), Fault> {
        let sql = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{USER}'"
        );
        self.cluster.sql("postgres", &sql).map(drop)
    }
}

fn freeze(site: &mut Site) -> Result<(), Fault> {
    site.cluster.freeze(true);
    site.rest(FROZEN_SECONDS);
    site.cluster.freeze(false);
    Ok(())
}

fn crash(site: &mut Site) -> Result<(), Fault> {
    site.cluster.crash();
    thread::sleep(Duration::from_secs(2));
    site.cluster.start()
}

fn out_of_connections(site: &mut Site) -> Result<(), Fault> {
    site.cluster.sql("postgres", &format!("ALTER ROLE {USER} CONNECTION LIMIT 0"))?;
    site.end_sessions()?;
    site.rest(TROUBLE_SECONDS);
    site.cluster.sql("postgres", &format!("ALTER ROLE {USER} CONNECTION LIMIT -1")).map(drop)
}

fn read_only(site: &mut Site) -> Result<(), Fault> {
    for value in ["on", "off"] {
        let sql = format!("ALTER DATABASE {DATABASE} SET default_transaction_read_only = {value}");
        site.cluster.sql("postgres", &sql)?;
        site.end_sessions()?;
        if value == "on" {
            site.rest(TROUBLE_SECONDS);
        }
    }
    Ok(())
}

fn slow(site: &mut Site) -> Result<(), Fault> {
    site.forwarder.delay(SLOW_MS);
    site.rest(TROUBLE_SECONDS);
    site.forwarder.delay(0);
    Ok(())
}

fn full_disk(site: &mut Site) -> Result<(), Fault> {
    let Some(disk) = &site.disk else { return Ok(()) };
    let filler = disk.fill()?;
    site.rest(TROUBLE_SECONDS);
    Ok(fs::remove_file(filler)?)
}

/// What the replica has not confirmed is not acknowledged (`synchronous_standby_names`), so the
/// server may be lost with all that is on it.
fn fail_over(site: &mut Site) -> Result<(), Fault> {
    let moved = site.disk.as_ref().map(|disk| (disk.0.join("tables"), disk.0.join("copied")));
    let replica = site.cluster.replica(moved.as_ref().map(|(a, b)| (a.as_path(), b.as_path())))?;
    site.cluster.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'")?;
    site.cluster.sql("postgres", "SELECT pg_reload_conf()")?;
    site.rest(TROUBLE_SECONDS);
    site.cluster.crash();
    thread::sleep(Duration::from_secs(1));
    replica.promote()?;
    site.forwarder.turn_to(replica.addr());
    site.cluster = replica;
    Ok(())
}

/// What came of the writes during one trouble, by the number that is in their path.
#[derive(Default)]
struct Written {
    acknowledged: Vec<u64>,
    /// Refusals, by their words.
    refused: BTreeMap<String, u64>,
    /// Numbers of all that were tried.
    tried: Vec<u64>,
    slowest_ms: f64,
}

/// Sends requests, and writes, before, during and after a trouble.
fn drive(
    engine: &mut Engine,
    server: &Server,
    site: &mut Site,
    trouble: fn(&mut Site) -> Result<(), Fault>,
    numbers: &mut u64,
    findings: &mut Findings,
) -> Result<Written, Fault> {
    let request = scene::get("/load/", "");
    let plan = Plan {
        target: server.proxy,
        connections: CONNECTIONS,
        pace: Pace::Rate(RATE),
        ask: Box::new(move |_, out| out.extend_from_slice(&request)),
        hear: None,
        want: None,
    };
    let (done, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writer = {
        let (admin, done, count) = (server.admin()?, Arc::clone(&done), Arc::clone(&count));
        let first = *numbers;
        thread::spawn(move || write_until(admin, first, &done, &count))
    };
    let mut load = Load::new(engine, plan);
    load.run_for(Duration::from_secs(1))?;
    thread::scope(|scope| -> Result<(), Fault> {
        let caused = scope.spawn(move || trouble(site));
        while !caused.is_finished() {
            load.run_for(Duration::from_millis(20))?;
        }
        caused.join().map_err(|_| "the trouble's thread failed")?
    })?;
    let (ended, before) = (Instant::now(), count.load(Ordering::Relaxed));
    let limit = Duration::from_secs(RETURN_SECONDS_MAX);
    let mut back_ms = None;
    while count.load(Ordering::Relaxed) < before + WRITES_AFTER && ended.elapsed() < limit {
        load.run_for(Duration::from_millis(5))?;
        if back_ms.is_none() && count.load(Ordering::Relaxed) > before {
            back_ms = Some(ended.elapsed().as_millis());
        }
    }
    done.store(true, Ordering::Relaxed);
    load.drain(Duration::from_secs(5))?;
    let score = load.score();
    let lost = score.failures() + score.refused;
    findings.judge(lost == 0, &format!("{lost} of {} requests failed", score.answers()));
    let words = back_ms.map_or("never".to_owned(), |ms| format!("{ms} ms after the trouble"));
    findings.judge(back_ms.is_some(), &format!("writes go through again: {words}"));
    let written = writer.join().map_err(|_| "the writer failed")?;
    *numbers += written.tried.len() as u64;
    Ok(written)
}

fn path(number: u64) -> String {
    format!("/written-{number}-")
}

/// Writes routes, one after another, each under a path of its own and nothing that is unique: a
/// write that is applied twice makes two.
fn write_until(mut admin: Admin, first: u64, done: &AtomicBool, count: &AtomicU64) -> Written {
    let mut written = Written::default();
    while !done.load(Ordering::Relaxed) {
        let number = first + written.tried.len() as u64;
        written.tried.push(number);
        let begun = Instant::now();
        let answer = admin.call("POST", "/services/load/routes", &json!({"paths": [path(number)]}));
        written.slowest_ms = written.slowest_ms.max(begun.elapsed().as_secs_f64() * 1e3);
        let words = match answer {
            Ok((201, _)) => {
                written.acknowledged.push(number);
                count.fetch_add(1, Ordering::Relaxed);
                thread::sleep(WRITE_PAUSE);
                continue;
            }
            Ok((status, body)) => {
                format!("{status} {}", body["message"].as_str().unwrap_or_default())
            }
            Err(fault) => format!("no answer: {fault}"),
        };
        *written.refused.entry(words).or_default() += 1;
        thread::sleep(WRITE_PAUSE);
    }
    written
}

/// Compares what was acknowledged with what is in the database, and that with what is served.
fn judge(
    engine: &mut Engine,
    server: &Server,
    site: &Site,
    written: &Written,
    findings: &mut Findings,
) -> Result<(), Fault> {
    let there = site.cluster.counts(DATABASE, "SELECT unnest(paths) FROM routes")?;
    let count = |number: &u64| there.get(&path(*number)).copied().unwrap_or(0);
    let lost = written.acknowledged.iter().filter(|number| count(number) == 0).count();
    let twice = written.tried.iter().filter(|number| count(number) > 1).count();
    let (tried, acknowledged) = (written.tried.len(), written.acknowledged.len());
    findings.judge(
        lost + twice == 0,
        &format!("of {acknowledged} acknowledged writes {lost} lost; of {tried} {twice} twice"),
    );
    let more = written.tried.iter().filter(|number| count(number) > 0).count() - acknowledged;
    findings.note(&format!("{more} writes were applied that nobody acknowledged"));
    for (words, times) in &written.refused {
        findings.note(&format!("{times} times {words}"));
    }
    findings.judge(
        written.slowest_ms <= ANSWER_MS_MAX,
        &format!("the Admin API answered after {:.0} ms at worst", written.slowest_ms),
    );
    let (asked, proxy) = (written.tried.clone(), server.proxy);
    let asking = thread::spawn(move || -> Result<Vec<u64>, Fault> {
        let mut client = Admin::new(proxy);
        let mut served = Vec::new();
        for number in asked {
            if client.call("GET", &path(number), &Value::Null)?.0 == 200 {
                served.push(number);
            }
        }
        Ok(served)
    });
    while !asking.is_finished() {
        engine.serve_for(5)?;
    }
    let served = asking.join().map_err(|_| "the reader failed")??;
    let expected: Vec<u64> =
        written.tried.iter().copied().filter(|number| count(number) > 0).collect();
    findings.judge(
        served == expected,
        &format!("{} of them are served, {} are in the database", served.len(), expected.len()),
    );
    Ok(())
}

/// Starts the gateway again while the database is away.
fn start_alone(site: &mut Site, server: &mut Server, findings: &mut Findings) -> Result<(), Fault> {
    findings.note("the gateway starts while the database is away");
    // Its copy is written a moment after the last change.
    thread::sleep(Duration::from_secs(3));
    server.stop();
    site.cluster.crash();
    let begun = Instant::now();
    server.restart()?;
    let ms = begun.elapsed().as_secs_f64() * 1e3;
    findings.judge(ms <= START_MS_MAX, &format!("started from its copy in {ms:.0} ms"));
    let mut client = Admin::new(server.proxy);
    let (status, _) = client.call("GET", "/nothing", &Value::Null)?;
    findings.judge(status == 404, &format!("a path without a route is answered {status}"));
    let (status, _) = client.call("GET", "/closed", &Value::Null)?;
    findings.judge(status == 418, &format!("a route of the copy is answered {status}"));
    Ok(())
}

//! How soon a route that one node wrote is live on the others of one database: woken by NOTIFY, and
//! by polling alone behind a pooler in transaction mode, where nobody can LISTEN.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    Findings, Options,
    database::{DATABASE, USER, bootstrap, settings},
};
use crate::{
    Fault,
    admin::Admin,
    cpu,
    postgres::{Cluster, listens},
    servers::{Place, Server, free_addr},
};

const NODES: usize = 3;
const WRITES: usize = 300;
/// Writes of the side that polls: each takes half a period and more.
const WRITES_POLLED: usize = 40;
/// `db_update_frequency` of the side that polls.
const POLL_SECONDS: &str = "0.5";
const LIVE_MS_MAX: f64 = 1_000.0;
const LIVE_MS_GOAL: f64 = 100.0;
const PATIENCE: Duration = Duration::from_secs(20);
const POOLER: &str = "/usr/sbin/pgbouncer";

pub(super) fn run(options: &Options, driver: &str, findings: &mut Findings) -> Result<(), Fault> {
    let Some(cluster) = Cluster::make("")? else {
        findings.note("left out: PostgreSQL is not installed");
        return Ok(());
    };
    cluster.sql("postgres", &format!("CREATE ROLE {USER} LOGIN"))?;
    cluster.sql("postgres", &format!("CREATE DATABASE {DATABASE} OWNER {USER}"))?;
    bootstrap(options, &settings(cluster.addr()))?;
    let (middle, last) =
        measure(options, driver, cluster.addr(), "5", WRITES, findings, "NOTIFY wakes them")?;
    findings.judge(last <= LIVE_MS_MAX, &format!("p99 {last:.1} ms, p50 {middle:.1} ms"));
    let words = if last <= LIVE_MS_GOAL { "within" } else { "above" };
    findings.note(&format!("{words} the goal of {LIVE_MS_GOAL} ms"));
    let Some(pooler) = Pooler::start(cluster.addr())? else {
        findings.note("left out: pgbouncer is not installed");
        return Ok(());
    };
    let about = format!("polling alone, every {POLL_SECONDS} s, behind PgBouncer");
    let (middle, last) =
        measure(options, driver, pooler.addr, POLL_SECONDS, WRITES_POLLED, findings, &about)?;
    findings.judge(last <= LIVE_MS_MAX, &format!("p99 {last:.1} ms, p50 {middle:.1} ms"));
    Ok(())
}

/// Writes on each node in turn: the middle and the 99th percentile of the time from the write's
/// answer until the last of the others serves it, in milliseconds.
fn measure(
    options: &Options,
    driver: &str,
    addr: SocketAddr,
    poll_seconds: &str,
    writes: usize,
    findings: &mut Findings,
    about: &str,
) -> Result<(f64, f64), Fault> {
    findings.note(&format!("{NODES} nodes, {writes} routes: {about}"));
    let mut more = settings(addr);
    more.push(("KONG_DB_UPDATE_FREQUENCY", poll_seconds.to_owned()));
    let more: Vec<(&str, &str)> = more.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let place = Place { cores: 1, cpus: cpu::allowed()? };
    let start = |_| Server::tollgate(&options.tollgate, driver, &place, &more);
    let servers: Vec<Server> = (0..NODES).map(start).collect::<Result<_, _>>()?;
    let mut admins: Vec<Admin> = servers.iter().map(Server::admin).collect::<Result<_, _>>()?;
    let mut proxies: Vec<Admin> = servers.iter().map(|server| Admin::new(server.proxy)).collect();
    let mut times_ms = Vec::with_capacity(writes);
    for number in 0..writes {
        let writer = number % NODES;
        // With an end of its own: no path may begin with another's.
        let path = format!("/{}-{poll_seconds}-{number}-", std::process::id());
        admins[writer].must("POST", "/routes", &json!({"paths": [path]}))?;
        let written = Instant::now();
        for (node, proxy) in proxies.iter_mut().enumerate() {
            let mut tries = 0;
            // A route without a service is answered 503, one that is unknown 404.
            while proxy.call("GET", &path, &Value::Null)?.0 == 404 {
                if node == writer {
                    return Err(format!("{path} is not live on the node that wrote it").into());
                }
                if written.elapsed() > PATIENCE {
                    return Err(format!("{path} did not come to life on node {node}").into());
                }
                tries += 1;
                thread::sleep(Duration::from_micros(if tries < 100 { 200 } else { 2_000 }));
            }
        }
        times_ms.push(written.elapsed().as_secs_f64() * 1e3);
        // Writes do not fall in step with the polls.
        thread::sleep(Duration::from_millis(7 + (number as u64 * 13) % 40));
    }
    times_ms.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = (times_ms.len() as f64 * share) as usize;
        times_ms.get(place.min(times_ms.len() - 1)).copied().unwrap_or_default()
    };
    Ok((at(0.5), at(0.99)))
}

/// PgBouncer in transaction mode, ended when it is dropped.
struct Pooler {
    child: Child,
    addr: SocketAddr,
    folder: std::path::PathBuf,
}

impl Pooler {
    fn start(server: SocketAddr) -> Result<Option<Self>, Fault> {
        if !std::path::Path::new(POOLER).is_file() {
            return Ok(None);
        }
        let addr = free_addr()?;
        let folder = std::env::temp_dir().join(format!("tollgate-pooler-{}", std::process::id()));
        crate::postgres::own(&folder)?;
        let file = folder.join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host={} port={} user={USER}\n[pgbouncer]\nlisten_addr = {}\n\
             listen_port = {}\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 8\n\
             unix_socket_dir =\n",
            server.ip(),
            server.port(),
            addr.ip(),
            addr.port()
        );
        fs::write(&file, text)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
        let mut command = crate::postgres::command(POOLER.as_ref());
        let child = command.arg("-q").arg(&file).stdout(Stdio::null()).spawn()?;
        let pooler = Self { child, addr, folder };
        for _ in 0..200 {
            if listens(addr) {
                return Ok(Some(pooler));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err("pgbouncer does not listen".into())
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ended = (self.child.kill(), self.child.wait());
        let _gone = fs::remove_dir_all(&self.folder);
    }
}

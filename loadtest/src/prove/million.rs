//! Starts on a store with a million consumers and a key each (`--credentials` says how many), on
//! SQLite and on Postgres, and writes one key more, again and again.
//!
//! The Postgres is one of our own.

use std::{
    path::{Path, PathBuf},
    process::Command,
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
    postgres::Cluster,
    scene,
    servers::{Place, Server},
    stats,
};

const START_MS_MAX: f64 = 15_000.0;
const KEY_BYTES_MAX: f64 = 400.0;
const LIVE_MS_MAX: f64 = 5.0;
const KEYS_WRITTEN: usize = 300;
/// Longest rest before memory is read: what a start needed for a moment is given back by then.
const REST_SECONDS_MAX: u64 = 60;

pub(super) fn sqlite(
    options: &Options,
    driver: &str,
    findings: &mut Findings,
) -> Result<(), Fault> {
    let folder = std::env::temp_dir().join(format!("tollgate-million-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let done = on_sqlite(options, driver, &folder, findings);
    std::fs::remove_dir_all(&folder)?;
    done
}

pub(super) fn postgres(
    options: &Options,
    driver: &str,
    findings: &mut Findings,
) -> Result<(), Fault> {
    let Some(cluster) = Cluster::make("max_wal_size = '4GB'\nshared_buffers = '256MB'")? else {
        findings.note("left out: PostgreSQL is not installed");
        return Ok(());
    };
    on_postgres(options, driver, &cluster, findings)
}

fn on_sqlite(
    options: &Options,
    driver: &str,
    folder: &Path,
    findings: &mut Findings,
) -> Result<(), Fault> {
    let rows = options.credentials;
    findings.note(&format!("{rows} consumers with a key each"));
    let prefix = folder.join("prefix").to_string_lossy().into_owned();
    let more = [("KONG_PREFIX", prefix.as_str())];
    measure(options, driver, &more, findings, || {
        let file: PathBuf = Path::new(&prefix).join("tollgate.db");
        let each = format!(
            "WITH RECURSIVE each(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM each \
                            WHERE n < {rows})"
        );
        // Ids that are UUIDs and far apart.
        let id = |kind: u8| {
            let spread = "(n * 2654435761) % 4294967296";
            format!("printf('%08x-0000-4000-8000-%012x', {spread}, n * 16 + {kind})")
        };
        let sql = format!(
            "{each} INSERT INTO consumers (id, username, created_at, updated_at) \
             SELECT {consumer}, 'consumer-' || n, 1700000000, 1700000000 FROM each; \
             {each} INSERT INTO keyauth_credentials (id, consumer, key, created_at) \
             SELECT {key}, {consumer}, printf('%032x', n * 2654435761), 1700000000 FROM each",
            consumer = id(1),
            key = id(2),
        );
        program("sqlite3", &[&file.to_string_lossy(), &sql])
    })
}

fn on_postgres(
    options: &Options,
    driver: &str,
    cluster: &Cluster,
    findings: &mut Findings,
) -> Result<(), Fault> {
    let rows = options.credentials;
    findings.note(&format!("{rows} consumers with a key each"));
    cluster.sql("postgres", &format!("CREATE ROLE {USER} LOGIN"))?;
    cluster.sql("postgres", &format!("CREATE DATABASE {DATABASE} OWNER {USER}"))?;
    let settings = settings(cluster.addr());
    bootstrap(options, &settings)?;
    let more: Vec<(&str, &str)> = settings.iter().map(|(n, v)| (*n, v.as_str())).collect();
    measure(options, driver, &more, findings, || {
        let from =
            format!("FROM generate_series(1, {rows}) n, workspaces w WHERE w.name = 'default'");
        let consumers = format!(
            "INSERT INTO consumers (id, username, ws_id, created_at, updated_at) \
             SELECT md5('consumer' || n)::uuid, 'consumer-' || n, w.id, now(), now() {from}"
        );
        let keys = format!(
            "INSERT INTO keyauth_credentials (id, consumer_id, key, ws_id, created_at) \
             SELECT md5('key' || n)::uuid, md5('consumer' || n)::uuid, md5('secret' || n), \
             w.id, now() {from}"
        );
        for sql in [consumers, keys] {
            // Without triggers: they have nothing to do here but to take their time.
            cluster.sql(DATABASE, &format!("SET session_replication_role = replica; {sql}"))?;
        }
        cluster.sql(DATABASE, "VACUUM ANALYZE").map(drop)
    })
}

/// Runs a program to its end.
fn program(name: &str, arguments: &[&str]) -> Result<(), Fault> {
    let output = Command::new(name).args(arguments).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
    }
}

/// An empty start, `fill`, and a start over what it made.
fn measure(
    options: &Options,
    driver: &str,
    more: &[(&str, &str)],
    findings: &mut Findings,
    fill: impl FnOnce() -> Result<(), Fault>,
) -> Result<(), Fault> {
    let place = Place { cores: 1, cpus: cpu::allowed()? };
    let mut server = Server::tollgate(&options.tollgate, driver, &place, more)?;
    scene::guarded_alone(&mut server.admin()?)?;
    let empty_kib = settled_kib(&server);
    server.stop();
    let begun = Instant::now();
    fill()?;
    findings.note(&format!("written in {:.0} s", begun.elapsed().as_secs_f64()));
    let begun = Instant::now();
    server.restart()?;
    let start_ms = begun.elapsed().as_secs_f64() * 1e3;
    findings.judge(start_ms <= START_MS_MAX, &format!("started in {start_ms:.0} ms"));
    let mut one_more = OneMore { server: &server, number: 0 };
    one_more.write(findings, "at once")?;
    let added = (settled_kib(&server).saturating_sub(empty_kib) * 1024) as f64;
    let rows = options.credentials as f64;
    findings.judge(
        added / (2.0 * rows) <= KEY_BYTES_MAX,
        &format!(
            "memory: {:.0} bytes a row; {:.0} for a consumer and its key",
            added / (2.0 * rows),
            added / rows
        ),
    );
    one_more.write(findings, "later")
}

/// The server's memory once it does not shrink any more.
fn settled_kib(server: &Server) -> u64 {
    let mut last = server.memory_kib();
    let mut rests = 0;
    for _ in 0..REST_SECONDS_MAX {
        std::thread::sleep(Duration::from_secs(1));
        let now = server.memory_kib();
        rests = if now.abs_diff(last) < last / 200 + 64 { rests + 1 } else { 0 };
        last = now;
        if rests == 3 {
            break;
        }
    }
    last
}

/// One more key among them, again and again: written, and the next request with it is let in.
struct OneMore<'a> {
    server: &'a Server,
    number: usize,
}

impl OneMore<'_> {
    fn write(&mut self, findings: &mut Findings, when: &str) -> Result<(), Fault> {
        let mut admin = self.server.admin()?;
        let (mut times_ms, mut late) = (Vec::with_capacity(KEYS_WRITTEN), 0);
        let mut proxy = Admin::new(self.server.proxy);
        for _ in 0..KEYS_WRITTEN {
            self.number += 1;
            let text = format!("one-more-{}", self.number);
            let begun = Instant::now();
            admin.must("POST", "/consumers/consumer-1/key-auth", &json!({"key": text}))?;
            let (status, _) =
                proxy.call("GET", &format!("/guarded?apikey={text}"), &Value::Null)?;
            times_ms.push(begun.elapsed().as_secs_f64() * 1e3);
            late += u64::from(status == 401);
        }
        times_ms.sort_by(f64::total_cmp);
        let middle = stats::median(&times_ms);
        let last = times_ms.get(KEYS_WRITTEN * 99 / 100).copied().unwrap_or_default();
        findings.judge(
            middle <= LIVE_MS_MAX,
            &format!("one more key {when}: live in {middle:.2} ms (median), {last:.2} ms (p99)"),
        );
        findings.judge(late == 0, &format!("{late} were unknown right after the answer"));
        Ok(())
    }
}

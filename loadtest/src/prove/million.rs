//! Starts on a Postgres with a million consumers and a key each (`--credentials` says how many).
//!
//! The server is yours: `LOADTEST_PG=host:port:user` names one where the program `psql` may make
//! and drop the database `loadtest_million`. Without it nothing is done, and that is said.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{Findings, Options};
use crate::{
    Fault, cpu,
    servers::{Place, Server},
};

const DATABASE: &str = "loadtest_million";
const START_MS_MAX: f64 = 15_000.0;
const KEY_BYTES_MAX: f64 = 400.0;
const LIVE_MS_MAX: f64 = 5.0;
const KEYS_WRITTEN: usize = 200;
/// An empty store's memory is read after so long.
const REST: Duration = Duration::from_secs(1);

/// A server of PostgreSQL that is not ours.
struct Postgres {
    host: String,
    port: String,
    user: String,
}

impl Postgres {
    fn named() -> Option<Self> {
        let text = std::env::var("LOADTEST_PG").ok()?;
        let mut parts = text.splitn(3, ':').map(str::to_owned);
        Some(Self { host: parts.next()?, port: parts.next()?, user: parts.next()? })
    }

    fn sql(&self, database: &str, sql: &str) -> Result<(), Fault> {
        let login = ["-h", &self.host, "-p", &self.port, "-U", &self.user, "-d", database];
        let done = Command::new("psql")
            .args(login)
            .args(["-q", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .output()?;
        match done.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&done.stderr).into_owned().into()),
        }
    }

    fn settings(&self) -> [(&str, &str); 5] {
        [
            ("KONG_DATABASE", "postgres"),
            ("KONG_PG_HOST", &self.host),
            ("KONG_PG_PORT", &self.port),
            ("KONG_PG_USER", &self.user),
            ("KONG_PG_DATABASE", DATABASE),
        ]
    }
}

pub(super) fn run(options: &Options, driver: &str, findings: &mut Findings) -> Result<(), Fault> {
    let Some(postgres) = Postgres::named() else {
        findings.note("left out: LOADTEST_PG=host:port:user names no server");
        return Ok(());
    };
    postgres.sql("postgres", &format!("DROP DATABASE IF EXISTS {DATABASE}"))?;
    postgres.sql("postgres", &format!("CREATE DATABASE {DATABASE}"))?;
    let done = Command::new(&options.tollgate)
        .args(["migrations", "bootstrap"])
        .envs(postgres.settings())
        .output()?;
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).into_owned().into());
    }
    let place = Place { cores: 1, cpus: cpu::allowed()? };
    let start = || Server::tollgate(&options.tollgate, driver, &place, &postgres.settings());
    let empty = start()?;
    std::thread::sleep(REST);
    let empty_kib = empty.memory_kib();
    drop(empty);
    fill(&postgres, options.credentials, findings)?;
    let begun = Instant::now();
    let server = start()?;
    let start_ms = begun.elapsed().as_secs_f64() * 1e3;
    let rows = options.credentials;
    findings.judge(
        start_ms <= START_MS_MAX,
        &format!("start over {rows} consumers with a key each: {start_ms:.0} ms"),
    );
    std::thread::sleep(REST);
    let added = (server.memory_kib().saturating_sub(empty_kib) * 1024) as f64;
    findings.judge(
        added / (2 * rows) as f64 <= KEY_BYTES_MAX,
        &format!("memory of a row: {:.0} bytes", added / (2 * rows) as f64),
    );
    one_more(&server, findings)?;
    drop(server);
    postgres.sql("postgres", &format!("DROP DATABASE {DATABASE}"))
}

fn fill(postgres: &Postgres, rows: u64, findings: &mut Findings) -> Result<(), Fault> {
    let begun = Instant::now();
    let consumers = format!(
        "INSERT INTO consumers (id, username, ws_id, created_at, updated_at) \
         SELECT md5('consumer' || n)::uuid, 'consumer-' || n, w.id, now(), now() \
         FROM generate_series(1, {rows}) n, workspaces w WHERE w.name = 'default'"
    );
    let keys = format!(
        "INSERT INTO keyauth_credentials (id, consumer_id, key, ws_id, created_at) \
         SELECT md5('key' || n)::uuid, md5('consumer' || n)::uuid, md5('secret' || n), w.id, now() \
         FROM generate_series(1, {rows}) n, workspaces w WHERE w.name = 'default'"
    );
    postgres.sql(DATABASE, &consumers)?;
    postgres.sql(DATABASE, &keys)?;
    postgres.sql(DATABASE, "ANALYZE")?;
    findings.note(&format!("{rows} of each written in {:.0} s", begun.elapsed().as_secs_f64()));
    Ok(())
}

/// One more key among them, again and again.
fn one_more(server: &Server, findings: &mut Findings) -> Result<(), Fault> {
    let mut admin = server.admin()?;
    let mut times_ms = Vec::with_capacity(KEYS_WRITTEN);
    for number in 0..KEYS_WRITTEN {
        let begun = Instant::now();
        let key = json!({"key": format!("one-more-{number}")});
        admin.must("POST", "/consumers/consumer-1/key-auth", &key)?;
        times_ms.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times_ms.sort_by(f64::total_cmp);
    let middle = times_ms.get(KEYS_WRITTEN / 2).copied().unwrap_or_default();
    findings.judge(
        middle <= LIVE_MS_MAX,
        &format!("one more key is written and live in {middle:.1} ms (median)"),
    );
    Ok(())
}

//! The state of a database's schema, and `migrations bootstrap | up | finish | list | status |
//! reset | check`.
//!
//! Kong notes in `schema_meta` which migrations a database has seen. Tollgate makes and serves what
//! Kong 3.10 makes; it serves a database of Kong 3.9 as it is, and brings it to 3.10 if told to.
//! Anything older must be brought to 3.9 by Kong itself: its migrations also change rows.
//!
//! Source: Kong `kong/cmd/migrations.lua`, `kong/cmd/utils/migrations.lua`,
//! `kong/db/migrations/state.lua`; `kong_3_10.txt` for what is made.

use super::columns::quoted;
use super::link::{Trouble, connect_alone};
use super::settings::Server;
use super::{current_schema, shape};
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

/// Kong's words for an empty database.
pub const NEEDS_BOOTSTRAP: &str = "Database needs bootstrapping or is older than Kong 1.0.\n\n\
     To start a new installation from scratch, run 'kong migrations bootstrap'.\n\n\
     To migrate from a version older than 1.0, migrated to Kong 1.5.0 first. \n\
     If you still have 'apis' entities, you can convert them to Routes and Services\n\
     using the 'kong migrations migrate-apis' command in Kong 1.5.0.\n\n";
const NOT_LEADER: &str = "aborted: another node is performing database changes";
const PENDING: &str = "Database has pending migrations; run 'kong migrations finish'";
/// The last migration of Kong 3.9; what lacks it is older.
const OLDEST: &str = "024_380_to_390";
/// What Kong 3.10 added, which a database of 3.9 does without.
const NEWER: &[(&str, &str)] = &[("core", "025_390_to_3100"), ("session", "003_330_to_3100")];
/// How often the lock's row is tried.
const LOCK_TRY_MS: u64 = 100;
/// The row in `locks`.
const LOCK: &str = "migrations";
/// How often making the first two tables is tried: two nodes may do it at the same moment.
const TRIES_MAX: usize = 5;

/// What a database has seen of one subsystem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    subsystem: String,
    last: String,
    executed: Vec<String>,
    pending: Vec<String>,
}

impl Seen {
    fn has(&self, name: &str) -> bool {
        self.executed.iter().chain(&self.pending).any(|seen| seen == name)
    }

    /// The last one is named, but not among those that were executed: Kong calls it missing.
    fn misses(&self, name: &str) -> bool {
        self.last == name && !self.has(name)
    }
}

/// What a database has seen; none: it needs a bootstrap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State(Option<Vec<Seen>>);

/// Names of migrations by subsystem.
type Names = Vec<(String, Vec<String>)>;

/// Reads the state. The search path must be the schema.
pub(super) async fn state(client: &Client) -> Result<State, Trouble> {
    let sql = "SELECT to_regclass('schema_meta') IS NOT NULL";
    if !client.query_typed_one(sql, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(State(None));
    }
    let sql = "SELECT subsystem, COALESCE(last_executed, ''), COALESCE(executed, '{}'), \
               COALESCE(pending, '{}') FROM schema_meta WHERE key = 'schema_meta' \
               ORDER BY subsystem";
    let mut seen = Vec::new();
    for row in client.query_typed(sql, &[]).await? {
        let (subsystem, last) = (row.try_get(0)?, row.try_get(1)?);
        let (executed, pending) = (row.try_get(2)?, row.try_get(3)?);
        seen.push(Seen { subsystem, last, executed, pending });
    }
    Ok(State((!seen.is_empty()).then_some(seen)))
}

impl State {
    fn seen(&self, subsystem: &str) -> Option<&Seen> {
        self.0.iter().flatten().find(|seen| seen.subsystem == subsystem)
    }

    /// Whether the program can serve this database.
    ///
    /// # Errors
    /// Kong's words for an empty one; the step to take for an old one.
    pub(super) fn may_start(&self) -> Result<(), String> {
        if self.0.is_none() {
            return Err(NEEDS_BOOTSTRAP.trim_end().to_owned());
        }
        self.not_too_old()?;
        for (names, words) in [
            (self.missing(), "database is missing some migrations"),
            (self.pending(), "database has pending migrations"),
        ] {
            if !names.is_empty() {
                log::warn!("{words}:\n{}", lines(&names));
            }
        }
        Ok(())
    }

    fn not_too_old(&self) -> Result<(), String> {
        let core = self.seen("core");
        let has = |name: &str| {
            core.is_some_and(|core| core.executed.iter().any(|n| n == name) || core.misses(name))
        };
        let last = core.map_or("nothing", |core| core.last.as_str());
        if !has(OLDEST) {
            return Err(format!(
                "the database is of a Kong older than 3.9 (the last migration of core is {last}): \
                 run 'kong migrations up' and 'kong migrations finish' of Kong 3.9 first"
            ));
        }
        for (subsystem, names) in self.fresh() {
            let known = |name: &String| {
                NEWER.contains(&(subsystem.as_str(), name)) || self.seen(&subsystem).is_none()
            };
            if let Some(name) = names.iter().find(|name| !known(name)) {
                return Err(format!(
                    "the database lacks the migration {name} of {subsystem}: \
                     run 'kong migrations up' and 'kong migrations finish' of Kong 3.9 first"
                ));
            }
        }
        Ok(())
    }

    fn executed(&self) -> Names {
        let pick = |seen: &Seen, name: &&str| seen.executed.iter().any(|n| n == name);
        self.pick(|seen, name| seen.is_some_and(|seen| pick(seen, name)))
    }

    fn pending(&self) -> Names {
        let pick = |seen: &Seen| (seen.subsystem.clone(), seen.pending.clone());
        let all = self.0.iter().flatten().map(pick);
        all.filter(|(_, names)| !names.is_empty()).collect()
    }

    fn fresh(&self) -> Names {
        self.pick(|seen, name| seen.is_none_or(|seen| !seen.has(name) && !seen.misses(name)))
    }

    fn missing(&self) -> Names {
        self.pick(|seen, name| seen.is_some_and(|seen| seen.misses(name)))
    }

    fn pick(&self, wanted: impl Fn(Option<&Seen>, &&str) -> bool) -> Names {
        let one = |(subsystem, names): (&str, Vec<&str>)| {
            let seen = self.seen(subsystem);
            let names = names.iter().filter(|name| wanted(seen, name));
            (subsystem.to_owned(), names.map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        shape::migrations().into_iter().map(one).filter(|(_, names)| !names.is_empty()).collect()
    }

    fn json(&self) -> Json {
        let list = |names: &Names| -> Json {
            let one = |(subsystem, names): &(String, Vec<String>)| {
                let namespace = match subsystem.as_str() {
                    "core" => "kong.db.migrations.core".to_owned(),
                    plugin => format!("kong.plugins.{plugin}.migrations"),
                };
                json!({ "subsystem": subsystem, "namespace": namespace, "migrations": names })
            };
            names.iter().map(one).collect()
        };
        let mut shown = json!({ "needs_bootstrap": self.0.is_none() });
        for (name, names) in [
            ("executed_migrations", self.executed()),
            ("pending_migrations", self.pending()),
            ("missing_migrations", self.missing()),
            ("new_migrations", self.fresh()),
        ] {
            if !names.is_empty() {
                shown[name] = list(&names);
            }
        }
        shown
    }
}

/// Subsystems and names in columns, as Kong prints them.
fn lines(names: &Names) -> String {
    let width = names.iter().map(|(subsystem, _)| subsystem.len()).max().unwrap_or(0);
    let one = |(subsystem, names): &(String, Vec<String>)| {
        format!("{subsystem:>width$}: {}", names.join(", "))
    };
    names.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Makes everything in an empty database.
    Bootstrap,
    /// Brings a database of Kong 3.9 to 3.10.
    Up,
    /// Ends what `up` began; nothing here leaves anything to end.
    Finish,
    /// Says what has been done, in its exit status too.
    List,
    /// The same as JSON.
    Status,
    /// Deletes everything.
    Reset,
    /// Compares with what Kong 3.10 makes.
    Check,
}

/// What is told besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Do it although it has been done.
    pub force: bool,
    /// Seconds to wait for another node, and after which its lock counts for nothing.
    pub lock_timeout_s: u64,
    /// The owner of the lock.
    pub node: Uuid,
}

/// What came of it: words for standard output, and the exit status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The words.
    pub words: String,
    /// 0, or Kong's status for `list`: 3 needs bootstrap, 4 pending, 5 new.
    pub status: u8,
}

impl From<&str> for Outcome {
    fn from(words: &str) -> Self {
        Self { words: words.to_owned(), status: 0 }
    }
}

/// Does it.
///
/// # Errors
/// One sentence.
pub fn run(server: &Server, command: Command, options: Options) -> Result<Outcome, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| why.to_string())?;
    runtime.block_on(async {
        let client = connect_alone(server).await?;
        let hand = Hand { client, schema: server.schema.clone(), options };
        hand.run(command).await.map_err(|trouble| trouble.words())
    })
}

/// One command on one connection.
struct Hand {
    client: Client,
    schema: String,
    options: Options,
}

impl Hand {
    async fn run(mut self, command: Command) -> Result<Outcome, Trouble> {
        self.schema = current_schema(&self.client, &self.schema).await?;
        let sql = format!(
            "SET search_path TO {}; SET TIME ZONE 'UTC'; SET client_min_messages TO warning",
            quoted(&self.schema)
        );
        self.client.batch_execute(&sql).await?;
        let state = state(&self.client).await?;
        match command {
            Command::List => Ok(list(&state)),
            Command::Status => Ok(state.json().to_string().as_str().into()),
            Command::Check => self.check().await,
            Command::Bootstrap => {
                if self.options.force && state.0.is_some() {
                    self.reset().await?;
                }
                self.bootstrap().await
            }
            Command::Reset if state.0.is_none() => Ok(Outcome {
                words: "Database not bootstrapped, nothing to reset".to_owned(),
                status: 1,
            }),
            Command::Reset => {
                self.reset().await?;
                Ok("Resetting database...\nDatabase successfully reset".into())
            }
            Command::Up | Command::Finish if state.0.is_none() => {
                Err(said(format!("Cannot run migrations: {}", NEEDS_BOOTSTRAP.trim_end())))
            }
            Command::Up => self.up(&state).await,
            Command::Finish => finish(&state),
        }
    }

    /// Makes what is missing for the lock, takes it, and makes the rest in one transaction.
    async fn bootstrap(&self) -> Result<Outcome, Trouble> {
        if state(&self.client).await?.0.is_some() {
            return Ok("Database already bootstrapped".into());
        }
        self.make_ground().await?;
        if !self.lock(0).await? {
            return Ok(format!("Bootstrapping database...\n{NOT_LEADER}").as_str().into());
        }
        // Another node may have finished between our look and our lock.
        let done = match state(&self.client).await?.0 {
            Some(_) => Ok("Database already bootstrapped".into()),
            None => self.make().await,
        };
        self.unlock().await?;
        done
    }

    /// The schema and the two tables that stand before everything else.
    async fn make_ground(&self) -> Result<(), Trouble> {
        let schema = quoted(&self.schema);
        let sql = "SELECT 1 FROM pg_namespace WHERE nspname = $1";
        let known = self.client.query_typed_opt(sql, &[(&self.schema, Type::TEXT)]).await?;
        if known.is_none() {
            let sql = format!("CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION CURRENT_USER");
            self.client.batch_execute(&sql).await?;
        }
        let sql = "CREATE TABLE IF NOT EXISTS schema_meta (key text, subsystem text, \
             last_executed text, executed text[], pending text[], PRIMARY KEY (key, subsystem)); \
             CREATE TABLE IF NOT EXISTS locks (key text PRIMARY KEY, owner text, ttl timestamptz); \
             CREATE INDEX IF NOT EXISTS locks_ttl_idx ON locks (ttl)";
        let mut made = self.client.batch_execute(sql).await;
        for _ in 1..TRIES_MAX {
            // Two nodes that make the same table at the same moment: one is told that it is there.
            if made.as_ref().is_ok_and(|()| true)
                || made.as_ref().is_err_and(|e| e.code().is_none())
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(LOCK_TRY_MS)).await;
            made = self.client.batch_execute(sql).await;
        }
        Ok(made?)
    }

    async fn make(&self) -> Result<Outcome, Trouble> {
        let wanted: BTreeSet<String> = shape::kongs()
            .into_keys()
            .filter(|name| name != "schema_meta" && name != "locks")
            .collect();
        let mut sql = vec!["BEGIN".to_owned(), shape::FUNCTIONS.to_owned()];
        sql.extend(shape::statements(&wanted));
        sql.push(format!(
            "INSERT INTO workspaces (id, name) VALUES ({}, 'default')",
            random_uuid()
        ));
        sql.push(format!(
            "INSERT INTO parameters (key, value, created_at) \
             VALUES ('cluster_id', {}::text, CURRENT_TIMESTAMP(0))",
            random_uuid()
        ));
        for (subsystem, names) in shape::migrations() {
            sql.push(note(subsystem, &names));
        }
        sql.push("COMMIT".to_owned());
        self.all_or_nothing(&sql.join(";\n")).await?;
        let words = format!(
            "Bootstrapping database...\n{} migrations processed\nDatabase is up-to-date",
            shape::migrations().iter().map(|(_, names)| names.len()).sum::<usize>()
        );
        Ok(words.as_str().into())
    }

    async fn all_or_nothing(&self, sql: &str) -> Result<(), Trouble> {
        let done = self.client.batch_execute(sql).await;
        if done.is_err() {
            self.client.batch_execute("ROLLBACK").await?;
        }
        Ok(done?)
    }

    async fn up(&self, seen: &State) -> Result<Outcome, Trouble> {
        if !self.options.force && !seen.pending().is_empty() {
            return Err(said(PENDING));
        }
        if !self.lock(self.options.lock_timeout_s).await? {
            return Ok(NOT_LEADER.into());
        }
        let done = self.bring_up().await;
        self.unlock().await?;
        done
    }

    async fn bring_up(&self) -> Result<Outcome, Trouble> {
        let state = state(&self.client).await?;
        state.not_too_old().map_err(said)?;
        let new = state.fresh();
        if new.is_empty() {
            return Ok("Database is already up-to-date".into());
        }
        let found = shape::of(&self.client, &self.schema).await?;
        let missing: BTreeSet<String> =
            shape::kongs().into_keys().filter(|name| !found.contains_key(name)).collect();
        let mut sql = vec!["BEGIN".to_owned(), shape::FUNCTIONS.to_owned()];
        sql.extend(shape::statements(&missing));
        if !missing.contains("clustering_sync_version") {
            sql.push("DROP TABLE IF EXISTS clustering_sync_delta".to_owned());
            sql.push(
                "ALTER TABLE clustering_sync_version ALTER COLUMN version TYPE bigint".to_owned(),
            );
            sql.push("ALTER SEQUENCE clustering_sync_version_version_seq NO MAXVALUE".to_owned());
            if self.server_has_typed_sequences().await? {
                sql.push("ALTER SEQUENCE clustering_sync_version_version_seq AS bigint".to_owned());
            }
        }
        let mut count = 0;
        for (subsystem, names) in &new {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            count += names.len();
            sql.push(note(subsystem, &names));
        }
        sql.push("COMMIT".to_owned());
        self.all_or_nothing(&sql.join(";\n")).await?;
        Ok(format!("{count} migrations processed\nDatabase is up-to-date").as_str().into())
    }

    async fn server_has_typed_sequences(&self) -> Result<bool, Trouble> {
        let sql = "SELECT current_setting('server_version_num')::int8 >= 100000";
        Ok(self.client.query_typed_one(sql, &[]).await?.try_get(0)?)
    }

    async fn reset(&self) -> Result<(), Trouble> {
        let schema = quoted(&self.schema);
        let sql = format!(
            "BEGIN; DROP SCHEMA IF EXISTS {schema} CASCADE; \
             CREATE SCHEMA {schema} AUTHORIZATION CURRENT_USER; \
             GRANT ALL ON SCHEMA {schema} TO CURRENT_USER; COMMIT"
        );
        self.all_or_nothing(&sql).await
    }

    async fn check(&self) -> Result<Outcome, Trouble> {
        let differences = shape::differences(&shape::of(&self.client, &self.schema).await?);
        if differences.is_empty() {
            return Ok(
                "The database has what Kong 3.10 makes, and nothing else in its tables".into()
            );
        }
        Ok(Outcome { words: differences.join("\n"), status: 1 })
    }

    /// Takes Kong's lock; waits for it at most so long.
    async fn lock(&self, wait_s: u64) -> Result<bool, Trouble> {
        let sql = "INSERT INTO locks (key, owner, ttl) \
             VALUES ($1, $2, CURRENT_TIMESTAMP + $3::int8 * INTERVAL '1 second') \
             ON CONFLICT DO NOTHING";
        let (owner, ttl_s) =
            (self.options.node.to_string(), self.options.lock_timeout_s.max(1).to_string());
        let given: [(&(dyn ToSql + Sync), Type); 3] =
            [(&LOCK, Type::TEXT), (&owner, Type::TEXT), (&ttl_s, Type::TEXT)];
        for _ in 0..=wait_s.saturating_mul(1_000) / LOCK_TRY_MS {
            self.client.batch_execute("DELETE FROM locks WHERE ttl < CURRENT_TIMESTAMP").await?;
            if self.client.execute_typed(sql, &given).await? == 1 {
                return Ok(true);
            }
            tokio::time::sleep(Duration::from_millis(LOCK_TRY_MS)).await;
        }
        Ok(false)
    }

    async fn unlock(&self) -> Result<(), Trouble> {
        let owner = self.options.node.to_string();
        let given: [(&(dyn ToSql + Sync), Type); 2] = [(&LOCK, Type::TEXT), (&owner, Type::TEXT)];
        let sql = "DELETE FROM locks WHERE key = $1 AND owner = $2";
        self.client.execute_typed(sql, &given).await?;
        Ok(())
    }
}

fn said(words: impl Into<String>) -> Trouble {
    Trouble::Said(words.into())
}

/// A random UUID in the words of any version of Postgres.
fn random_uuid() -> String {
    format!("'{}'::uuid", Uuid::new_v4())
}

/// Notes migrations as executed, as Kong does.
fn note(subsystem: &str, names: &[&str]) -> String {
    let list: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    let (list, last) = (list.join(", "), names.last().unwrap_or(&""));
    format!(
        "INSERT INTO schema_meta (key, subsystem, last_executed, executed) \
         VALUES ('schema_meta', '{subsystem}', '{last}', ARRAY[{list}]) \
         ON CONFLICT (key, subsystem) DO UPDATE SET last_executed = EXCLUDED.last_executed, \
         executed = schema_meta.executed || EXCLUDED.executed"
    )
}

fn list(state: &State) -> Outcome {
    if state.0.is_none() {
        return Outcome { words: NEEDS_BOOTSTRAP.to_owned(), status: 3 };
    }
    let (pending, new) = (state.pending(), state.fresh());
    let mut words = format!("Executed migrations:\n{}", lines(&state.executed()));
    if !pending.is_empty() {
        words += &format!("\n\nPending migrations:\n{}", lines(&pending));
    }
    if !new.is_empty() {
        words += &format!("\n\nNew migrations available:\n{}", lines(&new));
    }
    let (more, status) = match (pending.is_empty(), new.is_empty()) {
        (false, _) => ("\n\nRun 'kong migrations finish' when ready", 4),
        (true, false) => ("\n\nRun 'kong migrations up' to proceed", 5),
        (true, true) => ("", 0),
    };
    Outcome { words: words + more, status }
}

/// Nothing that this program does leaves something pending; what Kong left, Kong must end.
fn finish(state: &State) -> Result<Outcome, Trouble> {
    let pending = state.pending();
    if pending.is_empty() {
        return Ok(match state.fresh().is_empty() {
            true => "No pending migrations to finish".into(),
            false => "\nNew migrations available; run 'kong migrations up' to proceed".into(),
        });
    }
    Err(said(format!(
        "these migrations were begun by an older Kong: run its 'kong migrations finish'\n{}",
        lines(&pending)
    )))
}

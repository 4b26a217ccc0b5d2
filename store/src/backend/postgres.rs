//! Kong's own database: every entity in Kong's tables, columns and words, beside Kong's nodes.
//!
//! ```text
//! read   BEGIN, one snapshot ─► what others wrote (follow) ─► the tables in memory answer
//! write  BEGIN, writers' lock ─► what others wrote ─► answers ─► rows, events ─► COMMIT
//! ```
//! The tables in memory are brought up to date at the beginning of every turn, so a read of the
//! Admin API says what the database says. One node of Tollgate writes at a time (an advisory lock
//! that ends with the transaction); Kong's nodes do not know of it, so their writes may still
//! contradict ours: the database's constraints tell, and the actor asks again.
//!
//! Every transaction sets its schema and time zone by itself and every statement is unnamed, so a
//! pooler in transaction mode may stand between.

mod columns;
mod ends;
mod events;
mod follow;
mod link;
pub mod metrics;
pub mod migrations;
mod settings;
mod shape;
pub mod survey;
#[cfg(test)]
mod tests;
mod tls;
mod write;

pub use settings::{PostgresPlan, Server};

use super::{Backend, BackendFault, CommitFault, Found, Turn, Wake, saved};
use crate::schema::Catalogue;
use crate::snapshot::{Change, Tables};
use crate::value::Row;
use columns::{Catalog, Table, quoted};
use follow::{Cursor, Eyes, Seen};
use futures_util::TryStreamExt;
use link::{Link, Trouble};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use write::{Pen, Refusal};

/// The most that one turn of the Admin API may take of the database's time, in milliseconds: a
/// call that waits for the turn before it is still answered within five seconds.
const TURN_MS_MAX: u64 = 2_200;
/// The most that a whole reading may take, in milliseconds.
const READING_MS_MAX: u64 = 300_000;
/// Changes that a turn of the Admin API may well have, and what each beyond them may take, in
/// milliseconds.
const GROUP_CHANGES: usize = 1_000;
const CHANGE_MS: u64 = 5;
/// How long a start waits for the database when there is a copy to start from, in milliseconds.
const START_WAIT_MS: u64 = 600;
/// Every so many looks, large tables are looked through as well.
const THOROUGH_LOOKS: u64 = 60;
/// A node that stands still with the writers' lock loses it after so long, in milliseconds.
const IDLE_MS_MAX: u64 = 10_000;
/// The lock that writers hold: "TGat".
const WRITERS: i64 = 0x5447_6174;

/// Kong's database.
pub struct Postgres {
    plan: PostgresPlan,
    link: Link,
    catalogue: Catalogue,
    known: Option<Known>,
    /// A transaction for writing is open.
    writing: Option<Arc<Client>>,
    looks: u64,
    keeper: Option<saved::Keeper>,
    /// Whether the wake-ups of the poll still go on.
    polling: Arc<AtomicBool>,
}

/// What we know of the database.
struct Known {
    schema: String,
    workspace: String,
    stored: Vec<Table>,
    /// How far we have seen; none: not at all since the start, or the rows are from a copy.
    cursor: Option<Cursor>,
}

impl Postgres {
    /// Begins to connect.
    ///
    /// # Errors
    /// One sentence: the settings cannot be used.
    pub fn open(plan: PostgresPlan) -> Result<Self, BackendFault> {
        let link = Link::start(&plan.server, plan.node_id.to_string())?;
        Ok(Self {
            plan,
            link,
            catalogue: Catalogue::default(),
            known: None,
            writing: None,
            looks: 0,
            keeper: None,
            polling: Arc::new(AtomicBool::new(true)),
        })
    }

    /// A group of calls has the time of a turn; an import is larger and has more.
    fn commit_ms(&self, changes: usize) -> u64 {
        let more = changes.saturating_sub(GROUP_CHANGES) as u64;
        self.turn_ms().saturating_add(more.saturating_mul(CHANGE_MS)).min(READING_MS_MAX)
    }

    fn turn_ms(&self) -> u64 {
        self.plan.server.timeout_ms.min(TURN_MS_MAX)
    }

    /// Loads from the database, or from the replica.
    fn load_rows(
        &mut self,
        client: &Arc<Client>,
        each: &mut dyn FnMut(Row),
    ) -> Result<(), Trouble> {
        let catalogue = &self.catalogue;
        let plan = &self.plan;
        let limit_ms = plan.server.timeout_ms.max(TURN_MS_MAX);
        let mut known = self.link.run(limit_ms, know(client, &plan.server.schema, catalogue))?;
        let loading = async {
            client.batch_execute(&reading(&known.schema)).await?;
            let now = follow::cursor(client).await?;
            let mut replica = None;
            if let Some(server) = &plan.replica {
                let connected = link::connect_alone(server).await;
                replica =
                    connected.inspect_err(|why| log::warn!("the replica is not read: {why}")).ok();
            }
            let (source, cursor) = match &replica {
                Some(replica) => {
                    replica.batch_execute(&reading(&known.schema)).await?;
                    // What was under way there is unknown: everything since counts as unseen.
                    let there = follow::cursor(replica).await?;
                    let oldest = there.snapshot.split(':').next().unwrap_or("1").to_owned();
                    (replica, Cursor { snapshot: format!("{oldest}:{oldest}:"), ..there })
                }
                None => (client.as_ref(), now),
            };
            for table in &known.stored {
                let given = [(known.workspace.as_str(), Type::TEXT)];
                let rows = source.query_typed_raw(&follow::whole(table), given).await?;
                let mut rows = std::pin::pin!(rows);
                while let Some(row) = rows.try_next().await? {
                    each(table.read(catalogue, &row).map_err(Trouble::Said)?);
                }
            }
            client.batch_execute("COMMIT").await?;
            Ok(cursor)
        };
        let cursor = self.link.run(READING_MS_MAX, loading)?;
        known.cursor = Some(cursor);
        self.known = Some(known);
        Ok(())
    }

    /// Rows of the copy on disk, while the database is away.
    fn load_copy(&self, why: &str, each: &mut dyn FnMut(Row)) -> Result<(), BackendFault> {
        let Some(path) = &self.plan.saved else { return Err(BackendFault(why.to_owned())) };
        let rows = saved::read(path, &self.catalogue)
            .map_err(|copy| BackendFault(format!("{why}; and there is no copy: {copy}")))?;
        log::warn!(
            "{why}: serving the last good configuration ({} rows, {})",
            rows.len(),
            path.display()
        );
        rows.into_iter().for_each(each);
        Ok(())
    }

    /// Brings `tables` up to date inside the transaction that is open.
    async fn look(
        client: &Client,
        known: &Known,
        catalogue: &Catalogue,
        node: &str,
        tables: &Tables,
        thorough: bool,
    ) -> Result<Seen, Trouble> {
        let eyes = Eyes {
            client,
            catalogue,
            stored: &known.stored,
            workspace: &known.workspace,
            node,
            tables,
        };
        if let Some(cursor) = &known.cursor
            && let Some(seen) = eyes.look(cursor, thorough).await?
        {
            return Ok(seen);
        }
        eyes.everything().await
    }

    /// A turn that only looks, in one snapshot of the database.
    fn begin_reading(&mut self, turn: Turn, tables: &Tables) -> Result<Vec<Found>, Trouble> {
        let client = self.link.client().map_err(|fault| Trouble::Said(fault.0))?;
        self.get_to_know(&client)?;
        let Some(known) = &self.known else { return Ok(Vec::new()) };
        self.looks += 1;
        let thorough = turn == Turn::Follow && self.looks.is_multiple_of(THOROUGH_LOOKS);
        let node = self.plan.node_id.to_string();
        let limit_ms = match (&known.cursor, thorough) {
            (Some(_), false) => self.turn_ms(),
            _ => READING_MS_MAX,
        };
        let catalogue = &self.catalogue;
        let looking = async {
            if let Some(before) = &known.cursor
                && !thorough
            {
                let now = follow::cursor(&client).await?;
                if now.snapshot == before.snapshot {
                    return Ok(None);
                }
            }
            client.batch_execute(&reading(&known.schema)).await?;
            let seen = Self::look(&client, known, catalogue, &node, tables, thorough).await;
            client.batch_execute("COMMIT").await?;
            seen.map(Some)
        };
        let seen = self.link.run(limit_ms, looking)?;
        Ok(self.take_over(seen))
    }

    /// A turn that may write: nobody else of us does until it ends.
    fn begin_writing(&mut self, tables: &Tables) -> Result<Vec<Found>, Trouble> {
        let client = self.link.client().map_err(|fault| Trouble::Said(fault.0))?;
        self.get_to_know(&client)?;
        let Some(known) = &self.known else { return Ok(Vec::new()) };
        let limit_ms = if known.cursor.is_some() { self.turn_ms() } else { READING_MS_MAX };
        let begin = writing(&known.schema, self.turn_ms());
        let (catalogue, node) = (&self.catalogue, self.plan.node_id.to_string());
        let looking = async {
            client.batch_execute(&begin).await?;
            let seen = Self::look(&client, known, catalogue, &node, tables, false).await;
            if seen.is_err() {
                client.batch_execute("ROLLBACK").await?;
            }
            seen
        };
        let seen = self.link.run(limit_ms, looking)?;
        self.writing = Some(client);
        Ok(self.take_over(Some(seen)))
    }

    fn take_over(&mut self, seen: Option<Seen>) -> Vec<Found> {
        let Some(seen) = seen else { return Vec::new() };
        if let Some(known) = &mut self.known {
            known.cursor = Some(seen.cursor);
        }
        seen.found
    }

    /// Learns what the database looks like, once after a start from a copy.
    fn get_to_know(&mut self, client: &Arc<Client>) -> Result<(), Trouble> {
        if self.known.is_none() {
            let knowing = know(client, &self.plan.server.schema, &self.catalogue);
            self.known = Some(self.link.run(self.turn_ms(), knowing)?);
        }
        Ok(())
    }

    fn end(&mut self, changes: &[Change]) -> Result<(), CommitFault> {
        let Some(client) = self.writing.take() else {
            return if changes.is_empty() {
                Ok(())
            } else {
                Err(BackendFault("the database cannot be reached".to_owned()).into())
            };
        };
        let Some(known) = &self.known else { return Ok(()) };
        let pen = Pen {
            client: &client,
            stored: &known.stored,
            workspace: &known.workspace,
            node: self.plan.node_id,
            propagation_s: self.plan.propagation_s,
        };
        let mut conflict = None;
        let work = async {
            if changes.is_empty() {
                client.batch_execute("ROLLBACK").await?;
                return Ok(());
            }
            match pen.write(changes).await {
                Ok(()) => Ok(client.batch_execute("COMMIT").await?),
                Err(Refusal::Conflict(found)) => {
                    conflict = Some(found);
                    Ok(client.batch_execute("ROLLBACK").await?)
                }
                Err(Refusal::Trouble(trouble)) => {
                    client.batch_execute("ROLLBACK").await?;
                    Err(trouble)
                }
            }
        };
        // A refused commit is a refusal; a lost answer is too, though nobody can know.
        let ended = self.link.run(self.commit_ms(changes.len()), work);
        ended.map_err(|trouble| match trouble.code() {
            Some(_) => CommitFault::Refused(self.told(&trouble)),
            None => CommitFault::Failed(self.told(&trouble)),
        })?;
        conflict.map_or(Ok(()), |found| Err(CommitFault::Conflict(found)))
    }

    /// One sentence for the operator and the caller.
    fn told(&self, trouble: &Trouble) -> BackendFault {
        let words = trouble.words();
        if matches!(trouble, Trouble::Said(_)) {
            return BackendFault(words);
        }
        let words = match trouble.code() {
            Some(code) if *code == SqlState::READ_ONLY_SQL_TRANSACTION => {
                // Perhaps another server has taken over: a new connection finds it.
                self.link.distrust("it is read-only");
                format!("the database is read-only: {words}")
            }
            Some(code) if *code == SqlState::DISK_FULL => {
                format!("the database has no space left: {words}")
            }
            Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => {
                "another node holds the database's lock for writers".to_owned()
            }
            Some(_) => format!("the database refused: {words}"),
            None => {
                self.link.distrust(&words);
                format!("the database cannot be reached: {words}")
            }
        };
        BackendFault(words)
    }
}

impl Backend for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn load(
        &mut self,
        catalogue: &Catalogue,
        each: &mut dyn FnMut(Row),
    ) -> Result<(), BackendFault> {
        self.catalogue = catalogue.clone();
        let copied = self.plan.saved.as_ref().is_some_and(|path| path.exists());
        let wait_ms = if copied { START_WAIT_MS } else { self.plan.server.timeout_ms };
        let loaded = match self.link.wait(wait_ms) {
            Ok(client) => self.load_rows(&client, each).map_err(|trouble| self.told(&trouble)),
            Err(fault) => self.load_copy(&fault.0, each),
        };
        loaded?;
        if let Some(path) = &self.plan.saved {
            let keeper = saved::Keeper::start(path.clone(), catalogue.clone());
            let failed = |why| BackendFault(format!("cannot keep a copy: {why}"));
            self.keeper = Some(keeper.map_err(failed)?);
        }
        Ok(())
    }

    fn begin(&mut self, turn: Turn, tables: &Tables) -> Result<Vec<Found>, BackendFault> {
        let begun = match turn {
            Turn::Write => self.begin_writing(tables),
            Turn::Read | Turn::Follow => self.begin_reading(turn, tables),
        };
        begun.map_err(|trouble| self.told(&trouble))
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), CommitFault> {
        if self.writing.is_none() && !changes.is_empty() {
            self.begin_writing_blind().map_err(|trouble| self.told(&trouble))?;
        }
        self.end(changes)
    }

    fn reachable(&mut self) -> bool {
        self.link.is_up()
    }

    fn follow(&mut self, wake: Wake) {
        self.link.follow(Arc::clone(&wake));
        self.link.spawn(ends::keep_clean(self.plan.server.clone()));
        let (poll_ms, polling) = (self.plan.poll_ms, Arc::downgrade(&self.polling));
        self.link.spawn(async move {
            let every = std::time::Duration::from_millis(poll_ms);
            loop {
                tokio::time::sleep(every).await;
                match polling.upgrade() {
                    Some(going) if going.load(Ordering::Relaxed) => wake(),
                    _ => return,
                }
            }
        });
    }

    fn published(&mut self, tables: &Arc<Tables>) {
        if let Some(keeper) = &self.keeper {
            keeper.keep(tables);
        }
    }
}

impl Postgres {
    /// A transaction for changes that were made without a look: the tests' and the clean-up's.
    fn begin_writing_blind(&mut self) -> Result<(), Trouble> {
        let client = self.link.client().map_err(|fault| Trouble::Said(fault.0))?;
        self.get_to_know(&client)?;
        let Some(known) = &self.known else { return Ok(()) };
        let begin = writing(&known.schema, self.turn_ms());
        self.link.run(self.turn_ms(), async { Ok(client.batch_execute(&begin).await?) })?;
        self.writing = Some(client);
        Ok(())
    }
}

/// Begins a transaction that reads one state of the database.
fn reading(schema: &str) -> String {
    let own = own(schema);
    format!("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; {own}")
}

/// Begins a transaction that writes; waits for the writers' lock at most so long.
fn writing(schema: &str, wait_ms: u64) -> String {
    let own = own(schema);
    format!(
        "BEGIN; {own} SET LOCAL lock_timeout = {wait_ms}; \
         SELECT set_config(name, '{IDLE_MS_MAX}', true) FROM pg_settings \
         WHERE name = 'idle_in_transaction_session_timeout'; \
         SELECT pg_advisory_xact_lock({WRITERS})"
    )
}

/// What every transaction sets for itself.
fn own(schema: &str) -> String {
    format!("SET LOCAL search_path TO {}; SET LOCAL TIME ZONE 'UTC';", quoted(schema))
}

/// Looks at the schema, the workspace and the tables.
async fn know(client: &Client, schema: &str, catalogue: &Catalogue) -> Result<Known, Trouble> {
    let schema = current_schema(client, schema).await?;
    client.batch_execute(&reading(&schema)).await?;
    let known = async {
        let state = migrations::state(client).await?;
        state.may_start().map_err(Trouble::Said)?;
        let mut catalog = Catalog::new();
        for row in client.query_typed(columns::CATALOG_SQL, &[(&schema, Type::TEXT)]).await? {
            let table: String = row.try_get(0)?;
            catalog.entry(table).or_default().push((row.try_get(1)?, row.try_get(2)?));
        }
        let sql = "SELECT id::text FROM workspaces WHERE name = 'default'";
        let row = client.query_typed_opt(sql, &[]).await?;
        let row = row.ok_or_else(|| {
            Trouble::Said("the database has no workspace named default".to_owned())
        })?;
        let stored: Vec<Table> =
            catalogue.entities.iter().filter_map(|entity| Table::of(entity, &catalog)).collect();
        Ok::<(String, Vec<Table>), Trouble>((row.try_get(0)?, stored))
    };
    let known = known.await;
    client.batch_execute("COMMIT").await?;
    let (workspace, stored) = known?;
    say_what_is_lacking(catalogue, &stored);
    Ok(Known { schema, workspace, stored, cursor: None })
}

fn say_what_is_lacking(catalogue: &Catalogue, stored: &[Table]) {
    for entity in &catalogue.entities {
        match stored.iter().find(|table| table.entity == *entity) {
            None => log::warn!("the database has no table {}", entity.table()),
            Some(table) if !table.lacking.is_empty() => {
                let fields = table.lacking.join(", ");
                log::info!("the table {} has no column for: {fields}", entity.table());
            }
            Some(_) => {}
        }
    }
}

/// The schema that is meant: the setting's, else the session's.
async fn current_schema(client: &Client, given: &str) -> Result<String, Trouble> {
    if !given.is_empty() {
        return Ok(given.to_owned());
    }
    let row = client.query_typed_one("SELECT CURRENT_SCHEMA()::text", &[]).await?;
    Ok(row.try_get::<_, Option<String>>(0)?.unwrap_or_else(|| "public".to_owned()))
}

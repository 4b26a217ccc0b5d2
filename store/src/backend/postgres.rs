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
mod compare;
mod ends;
mod events;
mod follow;
mod known;
mod link;
pub mod metrics;
pub mod migrations;
mod patrol;
mod settings;
mod shape;
pub mod survey;
#[cfg(test)]
pub(crate) mod tests;
mod tls;
mod write;

pub use settings::{PostgresPlan, Server};

use super::{Backend, BackendFault, CommitFault, Found, Turn, Wake, saved};
use crate::schema::Catalogue;
use crate::snapshot::{Change, Tables};
use crate::value::Row;
use compare::Comparison;
use follow::{Cursor, Eyes, Seen};
use futures_util::TryStreamExt;
use known::{Known, current_schema, history, know, own, reading, writing};
use link::{Link, Trouble};
use patrol::Step;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use uuid::Uuid;
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

/// Kong's database.
pub struct Postgres {
    plan: PostgresPlan,
    link: Link,
    catalogue: Catalogue,
    known: Option<Known>,
    /// Every row is being compared.
    comparison: Option<Comparison>,
    /// A transaction for writing is open.
    writing: Option<Arc<Client>>,
    keeper: Option<saved::Keeper>,
    /// Whether the wake-ups of the poll still go on.
    polling: Arc<AtomicBool>,
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
            comparison: None,
            writing: None,
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
            for table in known.stored.iter() {
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
        known.patrol.rest(&cursor);
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

    /// Brings tables up to date inside the transaction that is open.
    async fn look(eyes: &Eyes<'_>, known: &Known, thorough: bool) -> Result<Seen, Trouble> {
        let since = if thorough { known.patrol.since() } else { known.cursor.as_ref() };
        if let Some(since) = since
            && let Some(seen) = eyes.look(since, thorough).await?
        {
            return Ok(Seen { thorough, ..seen });
        }
        eyes.everything().await
    }

    /// Where nothing we know of many rows can be trusted, they are compared on another thread: what
    /// came of that, if it is done; none where there is nothing to compare.
    fn compared(&mut self, turn: Turn, tables: &Tables) -> Result<Option<Vec<Found>>, Trouble> {
        if let Some(comparison) = self.comparison.take() {
            // A turn that writes begins with a look at what is known: that comes first.
            if turn == Turn::Write || !comparison.is_done() {
                self.comparison = Some(comparison);
                return Err(Trouble::Said(compare::WAIT.to_owned()));
            }
            let seen = comparison.result()?;
            return Ok(Some(self.take_over(seen)));
        }
        let client = self.link.client().map_err(|fault| Trouble::Said(fault.0))?;
        self.get_to_know(&client)?;
        let Some(known) = &self.known else { return Ok(None) };
        if known.cursor.is_some() || !compare::is_long(&self.catalogue, tables) {
            return Ok(None);
        }
        let (link, catalogue) = (&self.link, &self.catalogue);
        let node = self.speaker(known);
        let begun =
            Comparison::begin(link, &client, known, catalogue, node, tables, READING_MS_MAX)?;
        self.comparison = Some(begun);
        Err(Trouble::Said(compare::WAIT.to_owned()))
    }

    /// A turn that only looks, in one snapshot of the database.
    fn begin_reading(&mut self, turn: Turn, tables: &Tables) -> Result<Vec<Found>, Trouble> {
        let client = self.link.client().map_err(|fault| Trouble::Said(fault.0))?;
        self.get_to_know(&client)?;
        let limit_ms = self.turn_ms();
        let Some(known) = &mut self.known else { return Ok(Vec::new()) };
        let (mut walks, mut thorough) = (false, false);
        if let Some(before) = &mut known.cursor {
            let now = self.link.run(limit_ms, follow::cursor(&client))?;
            walks = turn == Turn::Follow && known.patrol.is_on(&now);
            thorough = follow::is_long(before, &now) || walks && known.patrol.is_alarmed();
            if now.snapshot == before.snapshot && !walks && !thorough {
                *before = now;
                return Ok(Vec::new());
            }
        }
        let Some(known) = &self.known else { return Ok(Vec::new()) };
        let node = self.speaker(known);
        let limit_ms = match (&known.cursor, thorough) {
            (Some(_), false) => self.turn_ms(),
            _ => READING_MS_MAX,
        };
        let eyes = known.eyes(&client, &self.catalogue, &node, tables);
        let looking = async {
            client.batch_execute(&reading(&known.schema)).await?;
            let looked = async {
                let seen = Self::look(&eyes, known, thorough).await?;
                let step = match walks && !seen.thorough {
                    true => Some(known.patrol.step(&eyes, &seen).await?),
                    false => None,
                };
                Ok::<_, Trouble>((seen, step))
            };
            let looked = looked.await;
            client.batch_execute("COMMIT").await?;
            looked
        };
        let (seen, step) = self.link.run(limit_ms, looking)?;
        if let Some(step) = step {
            self.walk_on(step);
        }
        Ok(self.take_over(seen))
    }

    /// Calls may come between two steps; at the end the walk rests for longer.
    fn walk_on(&mut self, step: Step) {
        let Some(known) = &mut self.known else { return };
        if known.patrol.take(step) {
            self.link.wake_in(patrol::PAUSE_MS);
        }
    }

    /// A turn that may write: nobody else of us does until it ends.
    fn begin_writing(&mut self, tables: &Tables) -> Result<Vec<Found>, Trouble> {
        let client = self.link.client().map_err(|fault| Trouble::Said(fault.0))?;
        self.get_to_know(&client)?;
        let Some(known) = &self.known else { return Ok(Vec::new()) };
        let limit_ms = if known.cursor.is_some() { self.turn_ms() } else { READING_MS_MAX };
        let begin = writing(known, self.turn_ms());
        let (catalogue, node) = (&self.catalogue, self.speaker(known));
        let looking = async {
            client.batch_execute(&begin).await?;
            let eyes = known.eyes(&client, catalogue, &node, tables);
            let seen = Self::look(&eyes, known, false).await;
            if seen.is_err() {
                client.batch_execute("ROLLBACK").await?;
            }
            seen
        };
        let seen = self.link.run(limit_ms, looking)?;
        self.writing = Some(client);
        Ok(self.take_over(seen))
    }

    /// Whose events say nothing new: ours, unless we do not know what we have written.
    fn speaker(&self, known: &Known) -> String {
        if known.is_in_doubt { Uuid::nil() } else { self.plan.node_id }.to_string()
    }

    fn take_over(&mut self, seen: Seen) -> Vec<Found> {
        if let Some(known) = &mut self.known {
            if seen.thorough {
                known.patrol.rest(&seen.cursor);
            }
            known.cursor = Some(seen.cursor);
            known.is_in_doubt = false;
        }
        seen.found
    }

    /// Learns what the database looks like, once after a start from a copy; and after each new
    /// connection, whether it still is the one that we know. If not (a replica has taken over), no
    /// number of a transaction means what it meant.
    fn get_to_know(&mut self, client: &Arc<Client>) -> Result<(), Trouble> {
        let Some(known) = &mut self.known else {
            let knowing = know(client, &self.plan.server.schema, &self.catalogue);
            self.known = Some(self.link.run(self.turn_ms(), knowing)?);
            return Ok(());
        };
        if known.asked.as_ptr() == Arc::as_ptr(client) {
            return Ok(());
        }
        let limit_ms = self.plan.server.timeout_ms.min(TURN_MS_MAX);
        let history = self.link.run(limit_ms, history(client))?;
        if history != known.history {
            log::warn!("another server, or another history: every row is compared");
            known.history = history;
            known.cursor = None;
        }
        known.asked = Arc::downgrade(client);
        Ok(())
    }

    /// Behind a pooler another server may have taken over, though our connection stands.
    fn ask_again(&mut self) {
        if let Some(known) = &mut self.known {
            known.asked = Weak::new();
        }
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
                return Ok(None);
            }
            match pen.write(changes).await {
                Ok(number) => {
                    client.batch_execute("COMMIT").await?;
                    Ok(Some(number))
                }
                Err(Refusal::Conflict(found)) => {
                    conflict = Some(found);
                    client.batch_execute("ROLLBACK").await?;
                    Ok(None)
                }
                Err(Refusal::Trouble(trouble)) => {
                    client.batch_execute("ROLLBACK").await?;
                    Err(trouble)
                }
            }
        };
        // A refused commit is a refusal; a lost answer is too, though nobody can know.
        let ended = self.link.run(self.commit_ms(changes.len()), work);
        let number = match ended {
            Ok(number) => number,
            Err(trouble) => {
                let told = self.told(&trouble);
                self.ask_again();
                let Some(known) = self.known.as_mut().filter(|_| trouble.code().is_none()) else {
                    return Err(CommitFault::Refused(told));
                };
                known.is_in_doubt = true;
                return Err(CommitFault::Failed(told));
            }
        };
        if let (Some(number), Some(known)) = (number, &mut self.known) {
            known.cursor = known.cursor.take().map(|cursor| cursor.with(number));
        }
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
        let begun = match (self.compared(turn, tables), turn) {
            (Ok(Some(found)), _) => Ok(found),
            (Ok(None), Turn::Write) => self.begin_writing(tables),
            (Ok(None), Turn::Read | Turn::Follow) => self.begin_reading(turn, tables),
            (Err(trouble), _) => Err(trouble),
        };
        begun.map_err(|trouble| {
            self.ask_again();
            self.told(&trouble)
        })
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
        let begin = writing(known, self.turn_ms());
        self.link.run(self.turn_ms(), async { Ok(client.batch_execute(&begin).await?) })?;
        self.writing = Some(client);
        Ok(())
    }
}

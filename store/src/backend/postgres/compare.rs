//! The comparison of every row, on a thread of its own where there are many: after a failover, or
//! when a node that started from its copy sees its database again.
//!
//! The store's thread goes on meanwhile and refuses calls about rows at once; the comparison has
//! the connection for itself. What it finds is news to the tables it was begun with, which nothing
//! has changed since.

use super::follow::{Eyes, Seen};
use super::known::{Known, reading};
use super::link::{Link, Trouble};
use crate::schema::Catalogue;
use crate::snapshot::Tables;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use tokio_postgres::Client;

/// Up to so many rows are compared at once: that takes less than a call may wait.
const HERE_ROWS_MAX: usize = if cfg!(test) { 2_000 } else { 100_000 };
/// What a call is told meanwhile.
pub(super) const WAIT: &str =
    "every row is being compared with those of the database: try again in a moment";

/// A comparison under way.
pub(super) struct Comparison {
    thread: JoinHandle<Result<Seen, Trouble>>,
    /// Set before the store is woken, which is before the thread has ended.
    done: Arc<AtomicBool>,
}

/// Whether there are so many rows that the comparison needs a thread.
pub(super) fn is_long(catalogue: &Catalogue, tables: &Tables) -> bool {
    let rows = catalogue.entities.iter().map(|entity| tables.len(entity.name));
    rows.sum::<usize>() > HERE_ROWS_MAX
}

impl Comparison {
    /// Begins. The connection is nobody else's until it is done.
    ///
    /// # Errors
    /// No thread.
    pub(super) fn begin(
        link: &Link,
        client: &Arc<Client>,
        known: &Known,
        catalogue: &Catalogue,
        node: String,
        tables: &Tables,
        limit_ms: u64,
    ) -> Result<Self, Trouble> {
        let (hand, client) = (link.hand(), Arc::clone(client));
        let (stored, workspace) = (Arc::clone(&known.stored), known.workspace.clone());
        let (catalogue, tables) = (catalogue.clone(), tables.clone());
        let begin = reading(&known.schema);
        let done = Arc::new(AtomicBool::new(false));
        let is_done = Arc::clone(&done);
        let work = move || {
            let eyes = Eyes {
                client: &client,
                catalogue: &catalogue,
                stored: &stored,
                workspace: &workspace,
                node: &node,
                tables: &tables,
            };
            let seen = hand.run(limit_ms, async {
                client.batch_execute(&begin).await?;
                let seen = eyes.everything().await;
                client.batch_execute("COMMIT").await?;
                seen
            });
            is_done.store(true, Ordering::Release);
            hand.wake();
            seen
        };
        let thread = std::thread::Builder::new().name("store-compare".to_owned()).spawn(work);
        let thread = thread.map_err(|why| Trouble::Said(format!("no thread: {why}")))?;
        log::info!("every row is compared with those of the database");
        Ok(Self { thread, done })
    }

    /// Whether it has come to its end.
    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire) || self.thread.is_finished()
    }

    /// What came of it; waits for its end.
    ///
    /// # Errors
    /// The database's.
    pub(super) fn result(self) -> Result<Seen, Trouble> {
        let failed = |_| Err(Trouble::Said("the comparison failed".to_owned()));
        self.thread.join().unwrap_or_else(failed)
    }
}

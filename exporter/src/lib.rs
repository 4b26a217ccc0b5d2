//! What leaves: events on their way from the cores' rings to their destinations.
//!
//! ```text
//!   core 0 ── ring ──┐
//!   core 1 ── ring ──┼─► one thread: record → masked event → journal ──► sender threads ─► Moesif
//!   core N ── ring ──┘      (drain.rs)                      (per destination)
//! ```
//! One thread drains the rings and makes finished, masked events; a bounded pool of sender threads
//! delivers them. This crate never runs on the road (but for [`event::Report::commit`], which only
//! copies), never reads configuration by itself, and never writes anything unmasked to a disk.

pub mod batch;
pub mod drain;
pub mod event;
pub mod journal;
pub mod losses;
pub mod moesif;
pub mod queue;
pub mod retry;
pub mod sink;

pub use losses::{Dropped, Loss, Sums};

use runtime::ring::{self, Producer};
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;

/// What the exporter needs to know at its start.
#[derive(Debug, Clone)]
pub struct ExporterPlan {
    /// The program's prefix; the journal is kept in `<prefix>/journal`.
    pub prefix: PathBuf,
    /// Shared memory for the rings (`TOLLGATE_RING_DIR`).
    pub ring_dir: PathBuf,
    /// Number of rings.
    pub cores: usize,
    /// Bytes of one ring, rounded up to a power of two.
    pub ring_bytes: usize,
    /// Bytes of all journal segments together (`TOLLGATE_JOURNAL_BYTES_MAX`).
    pub journal_bytes_max: u64,
}

impl ExporterPlan {
    /// The defaults: /dev/shm, 8 MiB a ring, a journal of 1 GiB.
    pub fn new(prefix: PathBuf, cores: usize) -> Self {
        Self {
            prefix,
            ring_dir: PathBuf::from("/dev/shm"),
            cores,
            ring_bytes: 8 << 20,
            journal_bytes_max: 1 << 30,
        }
    }
}

/// One plugin row at one version, as a destination of events.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The plugin row.
    pub row_id: Uuid,
    /// The change that wrote it (`Row::version`).
    pub version: u64,
    /// What it is.
    pub kind: DestinationKind,
}

/// The sorts of destinations.
#[derive(Debug, Clone)]
pub enum DestinationKind {
    /// The moesif plugin; its checked `config` object.
    Moesif(serde_json::Value),
}

/// The running exporter.
pub struct Exporter {
    producers: Mutex<Vec<Option<Producer>>>,
}

/// Makes the rings and starts the thread.
///
/// # Errors
/// The journal's directory cannot be made or locked, as one sentence.
pub fn start(plan: &ExporterPlan) -> io::Result<Exporter> {
    let mut producers = Vec::new();
    for _core in 0..plan.cores {
        let (producer, _consumer) = ring::anonymous(plan.ring_bytes, event::RECORD_VERSION)?;
        producers.push(Some(producer));
    }
    Ok(Exporter { producers: Mutex::new(producers) })
}

impl Exporter {
    /// The writing end of one core's ring; once per core, then `None`.
    pub fn producer(&self, core: usize) -> Option<Producer> {
        let mut producers = self.producers.lock().unwrap_or_else(PoisonError::into_inner);
        producers.get_mut(core)?.take()
    }

    /// Makes known a row at a version, before any core may see it. When this has returned, the
    /// settings outlive a kill of the process.
    ///
    /// # Errors
    /// The settings could not be saved, or are none.
    pub fn configure(&self, _destination: &Destination) -> io::Result<()> {
        Err(io::Error::other("the exporter does not send yet"))
    }

    /// A row is gone. What it has already reported is still delivered.
    pub fn forget(&self, _row_id: Uuid) {}

    /// The counts now.
    pub fn sums(&self) -> Sums {
        Sums::default()
    }

    /// Brings the rings into the journal, then tries to send for at most `rounds_ms`.
    pub fn stop(self, _rounds_ms: u64) {}
}

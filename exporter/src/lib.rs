//! What leaves: events on their way from the cores' rings to their destinations.
//!
//! ```text
//!   core 0 ── ring ──┐
//!   core 1 ── ring ──┼─► one thread: record → masked event → journal ──► sender threads ─► Moesif
//!   core N ── ring ──┘      (drain.rs)                      (per destination)
//! ```
//! One thread drains the rings and makes finished, masked events; a bounded pool of sender threads
//! delivers them. What Moesif says about an application (sampling, rules) comes the other way:
//! fetched and compiled here (remote.rs), pinned to a board, looked at by the cores. This crate
//! never runs on the road (but for [`event::Report::commit`], which only copies, and for what looks
//! at rules), never reads configuration by itself, and never writes anything unmasked to a disk.

mod adopt;
mod applications;
pub mod batch;
mod drain;
pub mod event;
mod intake;
pub mod journal;
pub mod lane;
pub mod logs;
mod losses;
pub mod moesif;
pub mod ping;
mod quarantine;
pub mod queue;
pub mod recent;
pub mod registry;
pub mod remote;
pub mod retry;
pub mod senders;
pub mod sink;
pub mod sinks;

pub use applications::ApplicationState;
pub use drain::DestinationState;
pub use losses::{Dropped, Loss, Sums};

use drain::{Drain, Order, Shared, Works};
use intake::{Intake, Lanes};
use journal::generation::House;
use logs::{Logs, RowKey, RowSource};
use losses::Ledger;
use quarantine::Quarantine;
use recent::Recents;
use registry::Registry;
use remote::{Fetching, Remotes};
use runtime::board::Board;
use runtime::clock;
use runtime::ring::{self, Bell, Consumer, Gauge, Producer};
use sinks::moesif::{Common, Trust};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
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
    /// Bytes of all events that wait (`TOLLGATE_EVENTS_BYTES_MAX`).
    pub events_bytes_max: u64,
    /// Bytes of all journal segments together (`TOLLGATE_JOURNAL_BYTES_MAX`).
    pub journal_bytes_max: u64,
    /// PEM files of certificates that destinations may be signed by, besides the system's.
    pub certificate_files: Vec<PathBuf>,
}

impl ExporterPlan {
    /// The defaults: /dev/shm, 8 MiB a ring, 512 MiB of events, a journal of 1 GiB.
    pub fn new(prefix: PathBuf, cores: usize) -> Self {
        Self {
            prefix,
            ring_dir: PathBuf::from("/dev/shm"),
            cores,
            ring_bytes: 8 << 20,
            events_bytes_max: 512 << 20,
            journal_bytes_max: 1 << 30,
            certificate_files: Vec::new(),
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
    /// A log plugin.
    Log(Arc<logs::LogSettings>),
}

/// The running exporter.
pub struct Exporter {
    shared: Arc<Shared>,
    fetching: Arc<Fetching>,
    recents: Arc<Recents>,
    registry: Arc<Registry>,
    gauges: Vec<Gauge>,
    producers: Mutex<Vec<Option<Producer>>>,
    rings_fault: Option<String>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Adopts what dead processes have left, makes the rings and starts the thread.
///
/// Blocks while rings are adopted: a fraction of a second per full ring. Adoption comes first
/// because the dead's rings may take up the room for ours.
///
/// # Errors
/// The journal's directory cannot be made or locked, or the system has no memory or threads.
pub fn start(plan: &ExporterPlan) -> io::Result<Exporter> {
    let named = |fault: io::Error| {
        let journal = plan.prefix.join("journal");
        io::Error::new(fault.kind(), format!("the event journal {}: {fault}", journal.display()))
    };
    let house = House::open(&plan.prefix, &plan.ring_dir).map_err(named)?;
    let mut rings_fault = house.rings_fault().map(str::to_owned);
    let shared = Arc::new(Shared {
        ledger: Ledger::default(),
        bell: Arc::new(Bell::new()?),
        orders: Mutex::default(),
        logs: Arc::default(),
        destinations: Mutex::default(),
        applications: Mutex::default(),
    });
    let trust = Trust::load(&plan.certificate_files);
    let fetching = Fetching::new(&plan.prefix, trust.clone());
    let recents = Arc::new(Recents::default());
    let (of_fetching, of_recents) = (Arc::clone(&fetching), Arc::clone(&recents));
    let common = Common { trust, fetching: of_fetching, recents: of_recents };
    let lanes = Lanes::new(Arc::new(common), plan.events_bytes_max, plan.journal_bytes_max);
    let id = Uuid::new_v4();
    let (random, _) = id.as_u64_pair();
    let quarantine = Quarantine::open(&plan.prefix);
    let mut works = Works::new(house, lanes, Arc::clone(&shared), quarantine, random);
    adopt::adopt_all(&mut works).map_err(named)?;
    let name = format!("{:016x}-{:08x}", clock::wall_us(), random >> 32);
    let registry = adopt::begin(&mut works, &name).map_err(named)?;
    let own = works.holdings.last().and_then(Option::as_ref);
    let dir = own.and_then(|own| own.generation.rings.clone());
    let (producers, consumers) = rings(plan, dir.as_deref(), &shared.bell, &mut rings_fault)?;
    if dir.is_none() {
        rings_fault.get_or_insert_with(|| "its directory cannot be made".to_owned());
    }
    if let Some(fault) = &rings_fault {
        log::warn!("event rings are in memory of this process and do not survive a kill: {fault}");
    }
    let gauges = consumers.iter().map(Consumer::gauge).collect();
    let logs = Logs::new(Arc::clone(&shared.logs), Arc::clone(&shared.bell));
    let intake = Intake::new(Arc::clone(&registry), logs);
    let drain = Drain::new(works, consumers, intake);
    let thread =
        thread::Builder::new().name("tollgate-events".to_owned()).spawn(move || drain.run())?;
    Ok(Exporter {
        shared,
        fetching,
        recents,
        registry,
        gauges,
        producers: Mutex::new(producers),
        rings_fault,
        thread: Mutex::new(Some(thread)),
    })
}

type Rings = (Vec<Option<Producer>>, Vec<Consumer>);

fn rings(
    plan: &ExporterPlan,
    dir: Option<&Path>,
    bell: &Arc<Bell>,
    fault: &mut Option<String>,
) -> io::Result<Rings> {
    let (mut producers, mut consumers) = (Vec::new(), Vec::new());
    for core in 0..plan.cores {
        let shared = dir.map(|dir| {
            let path = dir.join(adopt::ring_name(core));
            ring::create(&path, plan.ring_bytes, event::RECORD_VERSION)
                .map_err(|fault| format!("{}: {fault}", path.display()))
        });
        let (producer, consumer) = match shared {
            Some(Ok(ends)) => ends,
            other => {
                if let Some(Err(why)) = other {
                    fault.get_or_insert(why);
                }
                ring::anonymous(plan.ring_bytes, event::RECORD_VERSION)?
            }
        };
        producers.push(Some(producer.with_bell(Arc::clone(bell))));
        consumers.push(consumer);
    }
    Ok((producers, consumers))
}

impl Exporter {
    /// The writing end of one core's ring; once per core, then `None`.
    pub fn producer(&self, core: usize) -> Option<Producer> {
        let mut producers = self.producers.lock().unwrap_or_else(PoisonError::into_inner);
        producers.get_mut(core)?.take()
    }

    /// Makes known a row at a version, before any core may see it. When this has returned, the
    /// settings outlive a kill of the process. The newest call for an application and endpoint
    /// decides how batches are sent to it.
    ///
    /// # Errors
    /// The settings could not be saved, or have no application id.
    pub fn configure(&self, destination: &Destination) -> io::Result<()> {
        match &destination.kind {
            DestinationKind::Moesif(config) => {
                let settings =
                    self.registry.add(destination.row_id, destination.version, config)?;
                self.keep_recents();
                self.fetching.add(destination.row_id, &settings);
                self.order(Order::Configure(settings));
            }
            DestinationKind::Log(settings) => {
                let row = RowKey { id: destination.row_id, version: destination.version };
                self.shared.logs.add(row, settings);
            }
        }
        Ok(())
    }

    /// Lends the look-up of rows that log entries show. The first one stays.
    pub fn show_rows(&self, source: RowSource) {
        let _kept = self.shared.logs.rows.set(source);
    }

    /// A row is gone or disabled. What it has already reported is still delivered; its settings
    /// are kept until newer ones need the room, because an open exchange may still report.
    pub fn forget(&self, row_id: Uuid) {
        self.fetching.remove(row_id);
        self.shared.logs.forget(row_id);
        self.registry.forget(row_id);
        self.keep_recents();
    }

    /// What Moesif says about its applications, for the cores.
    pub fn remotes(&self) -> &Arc<Board<Remotes>> {
        self.fetching.board()
    }

    /// The counts now. They add up at every reading.
    pub fn sums(&self) -> Sums {
        self.shared.ledger.sums(&self.gauges)
    }

    /// What each core's ring has counted.
    pub fn ring_counts(&self) -> Vec<ring::Counts> {
        self.gauges.iter().map(Gauge::counts).collect()
    }

    /// How each destination is doing, as of at most a second ago.
    pub fn destinations(&self) -> Vec<DestinationState> {
        self.shared.destinations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How each of Moesif's applications is doing, as of at most a second ago.
    pub fn applications(&self) -> Vec<ApplicationState> {
        self.shared.applications.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last events of an application, oldest first, as they were sent; none unless its `debug`
    /// is on. By [`sink::Target::lane`].
    pub fn recent(&self, lane: u64) -> Vec<Vec<u8>> {
        self.keep_recents();
        self.recents.of(lane)
    }

    /// Events are kept for a person to see only while a row in force says so.
    fn keep_recents(&self) {
        self.recents.keep_only(|lane| self.registry.debugs(lane));
    }

    /// What Moesif last said about an application, for people; by [`sink::Target::lane`].
    pub fn remote_state(&self, lane: u64) -> Option<serde_json::Value> {
        self.fetching.describe(lane)
    }

    /// Why events would not survive a kill of this process; `None` if they would.
    pub fn rings_fault(&self) -> Option<&str> {
        self.rings_fault.as_deref()
    }

    /// Brings the rings into the journal, then tries to send for at most `rounds_ms`. The cores
    /// must have stopped. Nothing needs the network to be safe: with 0 this takes milliseconds.
    /// A second call does nothing. Gives the last reading of the book.
    pub fn stop(&self, rounds_ms: u64) -> Sums {
        self.end(rounds_ms);
        self.sums()
    }

    fn end(&self, rounds_ms: u64) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        self.fetching.stop();
        self.order(Order::Stop(rounds_ms));
        if thread.join().is_err() {
            log::error!(
                "the exporter's thread has failed; its events are taken up at the next start"
            );
        }
    }

    fn order(&self, order: Order) {
        self.shared.orders.lock().unwrap_or_else(PoisonError::into_inner).push(order);
        self.shared.bell.ring();
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.end(0);
    }
}

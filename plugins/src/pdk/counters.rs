//! Counters that many nodes share, as a core sees them: notes to the office, and questions.
//!
//! A *note* says that something was counted here; the office adds it to the shared counter by and
//! by and raises the node's own tally by what others have counted. A *question* lets the shared
//! counter decide. Neither makes a core wait without a deadline.

mod shared;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::{Sender, TrySendError};
use runtime::mailbox::Asker;
use runtime::tally::Slot;
use smallvec::SmallVec;

use super::window::Period;
pub use shared::Shared;

/// Notes that may wait for the office; more are counted as lost.
pub const NOTES_MAX: usize = 65_536;
/// How long a question waits beyond what its own place allows, in milliseconds.
const MARGIN_MS: u64 = 50;

/// A Redis, as a plugin's configuration names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RedisPlace {
    /// A name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The number of the database.
    pub database: i64,
    /// Who logs in; none: nobody in particular.
    pub username: Option<String>,
    /// With what.
    pub password: Option<String>,
    /// Whether the connection is encrypted, and whether its certificate is checked.
    pub ssl: bool,
    /// Whether the certificate is checked.
    pub ssl_verify: bool,
    /// Milliseconds that an answer may take.
    pub timeout_ms: u64,
}

/// Where a shared counter lives.
#[derive(Clone, Debug)]
pub enum Place {
    /// The database that the nodes share.
    Cluster(Arc<Standing>),
    /// A Redis.
    Redis(Arc<RedisPlace>, Arc<Standing>),
}

/// Whether a place answered when it was last asked.
#[derive(Debug, Default)]
pub struct Standing {
    down: AtomicBool,
}

impl Standing {
    /// Whether it did not answer.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Notes whether it answers; gives whether that is news.
    pub fn set_down(&self, down: bool) -> bool {
        self.down.swap(down, Ordering::Relaxed) != down
    }
}

/// One window of time of one counter.
#[derive(Clone, Debug)]
pub struct Window {
    /// `second`, `minute`, …
    pub period: &'static str,
    /// When it began, Unix time in seconds.
    pub starts_s: i64,
    /// How long it is kept, in seconds.
    pub kept_s: i64,
    /// The node's own counter of it, and the limit; with the limit 0 the node has none of its own.
    pub slot: Slot,
    /// The name under which upstreams report what is counted; none: requests are.
    pub counted: Option<Arc<str>>,
    /// By how much it rises; 0 only asks.
    pub amount: u64,
}

impl Window {
    /// The window of a period that holds a moment, in which one request is counted.
    pub fn of(period: Period, now_s: i64, slot: Slot) -> Self {
        Self {
            period: period.name(),
            starts_s: period.start_s(now_s),
            kept_s: period.usual_length_s(),
            slot,
            counted: None,
            amount: 1,
        }
    }
}

/// A counter: whose requests, under which row.
#[derive(Clone, Debug)]
pub struct Counter {
    /// Where it lives.
    pub place: Place,
    /// The route of the row, as text; the nil id if it has none.
    pub route: uuid::Uuid,
    /// The service of the row.
    pub service: uuid::Uuid,
    /// Whose requests.
    pub identifier: String,
    /// Its windows.
    pub windows: SmallVec<[Window; 2]>,
    /// How often it is brought in step, in milliseconds; 0: the shared counter decides each time.
    pub every_ms: u64,
}

/// What the shared counter decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may pass; then it is counted.
    pub admitted: bool,
    /// Each window's count before, in order.
    pub before: SmallVec<[u64; 6]>,
}

/// What the office answers; none: the place did not.
pub type Told = Option<Decision>;

/// A core's way to the office's counters.
#[derive(Clone)]
pub struct SharedCounters {
    asker: Asker<Counter, Told>,
    notes: Sender<Counter>,
    lost: Arc<AtomicU64>,
}

impl SharedCounters {
    /// A way made of a question's and a note's.
    #[must_use]
    pub fn new(asker: Asker<Counter, Told>, notes: Sender<Counter>, lost: Arc<AtomicU64>) -> Self {
        Self { asker, notes, lost }
    }

    /// A way without an office, for tests: questions are answered by `answer`.
    #[must_use]
    pub fn scripted(answer: impl Fn(Counter) -> Told + 'static) -> Self {
        let (notes, _) = crossbeam_channel::bounded(1);
        Self::new(Asker::scripted(move |counter| Some(answer(counter))), notes, Arc::default())
    }

    /// Notes what was counted here. Never waits; what finds no room is counted as lost.
    pub fn note(&self, counter: Counter) {
        if let Err(TrySendError::Full(_)) = self.notes.try_send(counter) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lets the shared counter decide; none if nobody can say in time.
    pub async fn decide(&self, counter: Counter, timeout_ms: u64) -> Told {
        self.asker.ask(counter, timeout_ms.saturating_add(MARGIN_MS)).await.ok().flatten()
    }
}

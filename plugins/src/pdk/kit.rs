//! What a core lends to the plugins that run on it.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use exporter::remote::Remotes;
use runtime::board::{Board, View};
use runtime::ring::Producer;
use runtime::tally::Tally;

use super::counters::SharedCounters;
use super::meters::{Counters, Table};
use super::{Cache, Office};

/// Who this node is, for plugins that say so in an answer.
#[derive(Debug, Default)]
pub struct Node {
    /// The node's UUID, as `GET /` shows it.
    pub id: String,
    /// The machine's name.
    pub hostname: String,
}

/// What a core lends to its plugins. One for each core, shared by its exchanges.
pub struct Kit {
    /// Counts that are exact for the whole node.
    pub tally: Arc<Tally>,
    /// The core's event ring; none in tests that look at no event.
    pub ring: RefCell<Option<Producer>>,
    /// Who this node is.
    pub node: Arc<Node>,
    /// The way to the office; nobody is there in tests that ask nobody.
    pub office: Office,
    /// What Moesif says about its applications: sampling rates and rules.
    pub remotes: View<Remotes>,
    /// Whether every peer may say whom it speaks for in a report: no `trusted_ips` are set.
    pub believes_everybody: bool,
    /// Counters that many nodes share.
    pub shared_counters: SharedCounters,
    /// Counts of exchanges, for scrapes.
    pub counters: Counters,
    /// Responses that are kept for the whole node.
    pub cache: Cache,
    capture_bytes: Cell<usize>,
    capture_bytes_max: usize,
    captures_refused: Cell<u64>,
}

impl Kit {
    /// A kit whose captured bodies may hold so many bytes at one time.
    pub fn new(
        tally: Arc<Tally>,
        ring: Option<Producer>,
        node: Arc<Node>,
        remotes: &Arc<Board<Remotes>>,
        capture_bytes_max: usize,
    ) -> Self {
        Self {
            tally,
            ring: RefCell::new(ring),
            node,
            office: Office::default(),
            remotes: Board::view(remotes),
            believes_everybody: true,
            shared_counters: SharedCounters::scripted(|_| None),
            counters: Counters::new(Arc::new(Table::new(0))),
            cache: Cache::none(),
            capture_bytes: Cell::new(0),
            capture_bytes_max,
            captures_refused: Cell::new(0),
        }
    }

    /// With a way to the office.
    #[must_use]
    pub fn with_office(mut self, office: Office) -> Self {
        self.office = office;
        self
    }

    /// The same with a way to the node's cache.
    #[must_use]
    pub fn with_cache(self, cache: Cache) -> Self {
        Self { cache, ..self }
    }

    /// The same where only `trusted_ips` may say whom they speak for, unless there are none.
    #[must_use]
    pub fn believing(self, everybody: bool) -> Self {
        Self { believes_everybody: everybody, ..self }
    }

    /// With a table for counts of exchanges.
    #[must_use]
    pub fn counting_in(mut self, table: Arc<Table>) -> Self {
        self.counters = Counters::new(table);
        self
    }

    /// The same, with a way to counters that many nodes share.
    #[must_use]
    pub fn sharing(mut self, counters: SharedCounters) -> Self {
        self.shared_counters = counters;
        self
    }

    /// Takes bytes out of the core's budget for captured bodies; counts a refusal.
    pub fn take_capture(&self, bytes: usize) -> bool {
        let taken = self.capture_bytes.get() + bytes;
        if taken > self.capture_bytes_max {
            self.captures_refused.set(self.captures_refused.get() + 1);
            return false;
        }
        self.capture_bytes.set(taken);
        true
    }

    /// Gives bytes back to the budget.
    pub fn give_capture(&self, bytes: usize) {
        debug_assert!(self.capture_bytes.get() >= bytes, "more given back than taken");
        self.capture_bytes.set(self.capture_bytes.get().saturating_sub(bytes));
    }

    /// How many bodies were left out because the budget was used up.
    pub fn captures_refused(&self) -> u64 {
        self.captures_refused.get()
    }
}

//! What the office does with every change: refuse it, or compile it and pin it to the board.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use exporter::{Destination, Exporter};
use plugins::pdk::{Config, Phase, Snapshot, Spec};
use runtime::board::Board;
use runtime::clock;
use store::check::Faults;
use store::snapshot::{Change, Tables};
use store::value::Row;

use crate::balance::registry::Registry;
use crate::certificates::Configured;
use crate::past::Past;
use crate::roadmap::Roadmap;

/// Entities whose rows the road compiles.
const COMPILED: [&str; 6] = ["upstreams", "targets", "services", "routes", "plugins", "snis"];

/// Compiles changes and publishes what comes of them. Lives on the store's thread.
pub struct Office {
    board: Arc<Board<Snapshot>>,
    exporter: Arc<Exporter>,
    registry: Arc<Registry>,
    past: Arc<Past>,
    published_s: Arc<AtomicU64>,
    /// Whether the first snapshot was published.
    begun: bool,
    roadmap: Roadmap,
    /// None where no port of the proxy speaks TLS.
    certificates: Option<Configured>,
}

impl Office {
    /// An office that has published nothing yet.
    pub fn new(
        board: Arc<Board<Snapshot>>,
        exporter: Arc<Exporter>,
        registry: Arc<Registry>,
        published_s: Arc<AtomicU64>,
        empty: Roadmap,
        certificates: Option<Configured>,
    ) -> Self {
        let past = Arc::new(Past::default());
        exporter.show_rows(past.source());
        Self {
            board,
            exporter,
            registry,
            past,
            published_s,
            begun: false,
            roadmap: empty,
            certificates,
        }
    }

    /// Publishes a change; returns when every core will see it at its next request. The first call
    /// compiles every row.
    pub fn publish(&mut self, tables: Arc<Tables>, changes: &[Change]) {
        self.past.note(&tables, changes);
        let all;
        let changes = if std::mem::replace(&mut self.begun, true) {
            changes
        } else {
            all = everything(&tables);
            &all
        };
        self.tell_exporter(changes);
        self.show(&tables, changes);
        self.registry.apply(changes);
        for (upstream, trust) in self.roadmap.checks(&tables, changes) {
            self.registry.show_in_checks(upstream, trust);
        }
        self.roadmap = self.roadmap.with(&tables, changes);
        let roadmap = self.roadmap.clone();
        let number = tables.number();
        self.published_s.store(clock::wall_us() / 1_000_000, Ordering::Relaxed);
        self.board.publish(Arc::new(Snapshot { number, tables, road: Box::new(roadmap) }));
    }

    fn show(&mut self, tables: &Tables, changes: &[Change]) {
        if let Some(certificates) = &mut self.certificates {
            certificates.follow(tables, changes);
        }
    }

    /// The exporter knows a row's settings before a core can report under it.
    fn tell_exporter(&self, changes: &[Change]) {
        for change in changes.iter().filter(|change| change.entity.name == "plugins") {
            let enabled = |row: &&Arc<Row>| row.flag("enabled").unwrap_or(true);
            let after = change.after.as_ref().filter(enabled);
            match after.and_then(|row| self.destination(row)) {
                Some(destination) => {
                    if let Err(error) = self.exporter.configure(&destination) {
                        let row_id = destination.row_id;
                        log::error!("events of the plugin {row_id} are not sent: {error}");
                    }
                }
                None => {
                    if let Some(row) = change.before.as_ref().or(change.after.as_ref()) {
                        self.exporter.forget(row.id());
                    }
                }
            }
        }
    }

    /// Where a row's reports go, if its plugin makes any.
    fn destination(&self, row: &Row) -> Option<Destination> {
        let slots = &self.roadmap.slots;
        let spec = slots.spec(slots.find(row.text("name")?)?)?;
        if !spec.has(Phase::Log) {
            return None;
        }
        // A fault is said when the row is compiled for the road.
        let prepared = (spec.prepare)(&Config::of(row)).ok()?;
        let kind = prepared.destination()?.clone();
        Some(Destination { row_id: row.id(), version: row.version(), kind })
    }
}

fn everything(tables: &Tables) -> Vec<Change> {
    let rows = COMPILED.iter().flat_map(|entity| tables.all(entity));
    let change = |row: &Arc<Row>| Change {
        entity: row.entity(),
        before: None,
        after: Some(Arc::clone(row)),
    };
    rows.map(change).collect()
}

/// Asks a plugin whether it can run with a row that is about to be written.
///
/// # Errors
/// The fault of one field of `config`, for the answer of the Admin API.
pub fn check(specs: &[&'static Spec], change: &Change) -> Result<(), Faults> {
    let Some(row) = change.after.as_deref().filter(|row| row.entity().name == "plugins") else {
        return Ok(());
    };
    let named = |spec: &&&Spec| Some(spec.schema.name) == row.text("name");
    let Some(spec) = specs.iter().find(named) else { return Ok(()) };
    (spec.prepare)(&Config::of(row)).map(drop).map_err(|fault| {
        let mut faults = Faults::new();
        faults.set_path(&format!("config.{}", fault.field), fault.message);
        faults
    })
}

//! What the office does with every change: refuse it, or compile it and pin it to the board.

use std::sync::Arc;

use exporter::{Destination, DestinationKind, Exporter};
use plugins::pdk::{Config, Snapshot, Spec};
use runtime::board::Board;
use store::check::Faults;
use store::snapshot::{Change, Tables};
use store::value::Row;

use crate::balance::registry::Registry;
use crate::certificates::Configured;
use crate::roadmap::Roadmap;

/// Entities whose rows the road compiles.
const COMPILED: [&str; 6] = ["upstreams", "targets", "services", "routes", "plugins", "snis"];

/// Compiles changes and publishes what comes of them. Lives on the store's thread.
pub struct Office {
    board: Arc<Board<Snapshot>>,
    exporter: Arc<Exporter>,
    registry: Arc<Registry>,
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
        empty: Roadmap,
        certificates: Option<Configured>,
    ) -> Self {
        Self { board, exporter, registry, begun: false, roadmap: empty, certificates }
    }

    /// Publishes a change; returns when every core will see it at its next request. The first call
    /// compiles every row.
    pub fn publish(&mut self, tables: Arc<Tables>, changes: &[Change]) {
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
        self.roadmap = self.roadmap.with(&tables, changes);
        let roadmap = self.roadmap.clone();
        let number = tables.number();
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
            let reports = |row: &&Arc<Row>| row.text("name") == Some("moesif");
            match (change.before.as_ref().filter(reports), change.after.as_ref().filter(reports)) {
                (_, Some(row)) if row.flag("enabled").unwrap_or(true) => {
                    let destination = Destination {
                        row_id: row.id(),
                        version: row.version(),
                        kind: DestinationKind::Moesif(Config::of(row).record().to_json()),
                    };
                    if let Err(error) = self.exporter.configure(&destination) {
                        log::error!("events of the plugin {} are not sent: {error}", row.id());
                    }
                }
                (Some(row), _) | (None, Some(row)) => self.exporter.forget(row.id()),
                (None, None) => {}
            }
        }
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

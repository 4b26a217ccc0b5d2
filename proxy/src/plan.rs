//! Which plugins take part in an exchange, in which order, with whose configuration.
//!
//! The office compiles the rows of `plugins` into one table (plugin, route?, service?, consumer?)
//! → configured plugin. A core makes a plan for each route that it sees: the slots, by priority,
//! that can hold a configuration there. A slot without consumer-scoped rows is decided once, in the
//! plan; the others are looked up when they are reached, with the consumer known then.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use plugins::pdk::{Config, Phase, Plugin, Prepared, Scope, Spec};
use store::value::Row;
use uuid::Uuid;

use crate::shards::Shards;

/// Where a configured plugin applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Its position in `Slots`.
    pub slot: u16,
    /// Only on this route.
    pub route: Option<Uuid>,
    /// Only for this service.
    pub service: Option<Uuid>,
    /// Only for this consumer.
    pub consumer: Option<Uuid>,
}

/// One enabled row of `plugins`, made ready.
pub struct Configured {
    /// The row's id.
    pub row_id: Uuid,
    /// The number of the change that wrote the row.
    pub version: u64,
    /// What the core makes its instance of; none for a plugin whose behaviour is not built.
    pub prepared: Option<Prepared>,
}

/// The plugins that this program knows, in the order in which they run: by priority, and names
/// backwards where it is equal, as in Kong.
pub struct Slots {
    specs: Vec<&'static Spec>,
}

impl Slots {
    /// The order of a set of plugins.
    pub fn new(specs: impl IntoIterator<Item = &'static Spec>) -> Self {
        let mut specs: Vec<_> = specs.into_iter().collect();
        specs.sort_by(|a, b| {
            let key = |spec: &Spec| (spec.schema.priority, spec.schema.name);
            key(b).cmp(&key(a))
        });
        Self { specs }
    }

    /// The plugin of a slot.
    pub fn spec(&self, slot: u16) -> Option<&'static Spec> {
        self.specs.get(usize::from(slot)).copied()
    }

    /// The slot of a plugin.
    pub fn find(&self, name: &str) -> Option<u16> {
        self.specs
            .iter()
            .position(|spec| spec.schema.name == name)
            .and_then(|at| at.try_into().ok())
    }

    fn all(&self) -> impl Iterator<Item = u16> {
        0..u16::try_from(self.specs.len()).unwrap_or(u16::MAX)
    }
}

/// All enabled rows of `plugins`, as the road looks them up. Immutable; the office makes the next.
#[derive(Clone, Default)]
pub struct PluginTable {
    places: Shards<Place, Arc<Configured>>,
    /// For each slot, how many rows have a consumer.
    by_consumer: Vec<u32>,
    /// For each slot, how many rows there are.
    rows: Vec<u32>,
    /// For each slot, whether a row has ever looked at what a route's regular expression took.
    captures: Vec<bool>,
}

impl PluginTable {
    /// The next table: takes out what a row was, puts in what it is. Says whether plans that cores
    /// have made are still right (a consumer's row leaves them so).
    #[must_use]
    pub fn with(&self, slots: &Slots, changes: &[(Option<&Row>, Option<&Row>)]) -> (Self, bool) {
        let mut next = self.clone();
        next.by_consumer.resize(slots.specs.len(), 0);
        next.rows.resize(slots.specs.len(), 0);
        next.captures.resize(slots.specs.len(), false);
        let mut places = Vec::with_capacity(changes.len() * 2);
        let mut plans_hold = true;
        for (before, after) in changes {
            let before = before.and_then(|row| place_of(slots, row));
            let after = after.and_then(|row| Some((place_of(slots, row)?, row)));
            if let Some(place) = before {
                plans_hold &= next.count(place, false);
                places.push((place, None));
            }
            if let Some((place, row)) = after {
                plans_hold &= next.count(place, true);
                let configured = configured(slots, place.slot, row);
                plans_hold &= next.note_captures(&configured, place.slot);
                places.push((place, Some(Arc::new(configured))));
            }
        }
        next.places = self.places.with(places);
        (next, plans_hold)
    }

    /// Counts a row in or out; true if no plan depends on the difference.
    fn count(&mut self, place: Place, more: bool) -> bool {
        let slot = usize::from(place.slot);
        let step = |count: &mut u32| {
            *count = if more { *count + 1 } else { count.saturating_sub(1) };
            *count == u32::from(more)
        };
        let edge = match self.by_consumer.get_mut(slot) {
            Some(count) if place.consumer.is_some() => step(count),
            _ => false,
        };
        let _ = self.rows.get_mut(slot).map(step);
        place.consumer.is_some() && !edge
    }

    /// Notes whether a row looks at captures; true if no plan depends on it.
    fn note_captures(&mut self, row: &Configured, slot: u16) -> bool {
        let wants = row.prepared.as_ref().is_some_and(Prepared::wants_captures);
        match self.captures.get_mut(usize::from(slot)) {
            Some(noted) if wants && !*noted => {
                *noted = true;
                false
            }
            _ => true,
        }
    }

    fn wants_captures(&self, slot: u16) -> bool {
        self.captures.get(usize::from(slot)).copied().unwrap_or(false)
    }

    /// The configuration of a slot for a route, a service and a consumer: the most specific wins,
    /// configurations are never merged.
    pub fn find(
        &self,
        slot: u16,
        scope: &Scope,
        consumer: Option<Uuid>,
    ) -> Option<&Arc<Configured>> {
        let route = scope.route.as_ref().map(|row| row.id());
        let service = scope.service.as_ref().map(|row| row.id());
        let get =
            |route, service, consumer| self.places.get(&Place { slot, route, service, consumer });
        let with_consumer = consumer.filter(|_| self.has_consumers(slot)).and_then(|_| {
            get(route, service, consumer)
                .or_else(|| get(route, None, consumer))
                .or_else(|| get(None, service, consumer))
        });
        with_consumer
            .or_else(|| get(route, service, None))
            .or_else(|| {
                consumer
                    .filter(|_| self.has_consumers(slot))
                    .and_then(|_| get(None, None, consumer))
            })
            .or_else(|| get(route, None, None))
            .or_else(|| get(None, service, None))
            .or_else(|| get(None, None, None))
    }

    fn has_consumers(&self, slot: u16) -> bool {
        self.by_consumer.get(usize::from(slot)).is_some_and(|count| *count > 0)
    }

    fn has_rows(&self, slot: u16) -> bool {
        self.rows.get(usize::from(slot)).is_some_and(|count| *count > 0)
    }
}

/// Where an enabled row applies; none if the row is switched off or its plugin unknown.
fn place_of(slots: &Slots, row: &Row) -> Option<Place> {
    if !row.flag("enabled").unwrap_or(true) {
        return None;
    }
    Some(Place {
        slot: slots.find(row.text("name")?)?,
        route: row.foreign("route"),
        service: row.foreign("service"),
        consumer: row.foreign("consumer"),
    })
}

/// Makes a row ready. A configuration that its plugin refuses was refused by the Admin API before;
/// one that comes from an older database closes its routes, and the log says so.
fn configured(slots: &Slots, slot: u16, row: &Row) -> Configured {
    let prepared = slots.spec(slot).and_then(|spec| match (spec.prepare)(&Config::of(row)) {
        Ok(prepared) if spec.is_built() => Some(prepared),
        Ok(_) => {
            log::warn!(
                "the {} plugin {} is stored but not built yet; requests in its scope get 503",
                spec.schema.name,
                row.id()
            );
            None
        }
        Err(fault) => {
            log::error!(
                "the {} plugin {} cannot run: config.{}: {}; requests in its scope get 503",
                spec.schema.name,
                row.id(),
                fault.field,
                fault.message
            );
            None
        }
    });
    Configured { row_id: row.id(), version: row.version(), prepared }
}

/// A configured plugin on this core.
pub struct Instance {
    /// The plugin as data.
    pub spec: &'static Spec,
    /// The row that configured it.
    pub row_id: Uuid,
    version: u64,
    /// The plugin; none if it cannot run, and then its routes are closed.
    pub plugin: Option<Box<dyn Plugin>>,
}

/// One place in the order of a plan.
pub struct Slot {
    number: u16,
    /// Decided already, unless consumers have rows of their own.
    fixed: Option<Rc<Instance>>,
    by_consumer: bool,
}

/// What takes part on one route.
#[derive(Default)]
pub struct Plan {
    /// By priority.
    pub slots: Vec<Slot>,
    /// Whether one of them may look at what the route's regular expression took.
    pub wants_captures: bool,
}

/// A core's instances, kept while their rows are unchanged.
#[derive(Default)]
pub struct Instances {
    kept: RefCell<HashMap<Uuid, Rc<Instance>, FixedState>>,
}

/// Above so many kept instances those that no plan holds are dropped.
const INSTANCES_KEPT_MAX: usize = 65_536;

impl Instances {
    /// The plan of a scope.
    pub fn plan(&self, slots: &Slots, table: &PluginTable, scope: &Scope) -> Plan {
        let slot = |number| {
            let by_consumer = table.has_consumers(number);
            let found = table.find(number, scope, None);
            let fixed = found.and_then(|row| self.instance(slots, number, row));
            (by_consumer || fixed.is_some()).then_some(Slot { number, fixed, by_consumer })
        };
        let slots: Vec<_> = slots.all().filter(|n| table.has_rows(*n)).filter_map(slot).collect();
        let wants_captures = slots.iter().any(|slot| table.wants_captures(slot.number));
        Plan { slots, wants_captures }
    }

    /// The instance of a slot, for the consumer who is known when the slot is reached.
    pub fn at(
        &self,
        slots: &Slots,
        table: &PluginTable,
        slot: &Slot,
        scope: &Scope,
        consumer: Option<Uuid>,
    ) -> Option<Rc<Instance>> {
        match consumer {
            Some(_) if slot.by_consumer => {
                let row = table.find(slot.number, scope, consumer)?;
                self.instance(slots, slot.number, row)
            }
            _ => slot.fixed.clone(),
        }
    }

    fn instance(&self, slots: &Slots, slot: u16, row: &Configured) -> Option<Rc<Instance>> {
        let mut kept = self.kept.borrow_mut();
        if let Some(instance) = kept.get(&row.row_id)
            && instance.version == row.version
        {
            return Some(Rc::clone(instance));
        }
        if kept.len() >= INSTANCES_KEPT_MAX {
            kept.retain(|_, instance| Rc::strong_count(instance) > 1);
        }
        let instance = Rc::new(Instance {
            spec: slots.spec(slot)?,
            row_id: row.row_id,
            version: row.version,
            plugin: row.prepared.as_ref().map(Prepared::instance),
        });
        kept.insert(row.row_id, Rc::clone(&instance));
        Some(instance)
    }
}

impl Instance {
    /// The plugin, if it takes part in a phase and can run.
    pub fn in_phase(&self, phase: Phase) -> Option<&dyn Plugin> {
        self.plugin.as_deref().filter(|_| self.spec.has(phase))
    }
}

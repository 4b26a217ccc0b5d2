//! A whole configuration in place of the one that there is: what a gateway without a database does
//! instead of single writes.

use super::Working;
use crate::declarative::{self, Item, Loaded, Node, Refusal, taken};
use crate::entities::WORKSPACES;
use crate::fault::{Fault, Kind};
use crate::schema::{Entity, Kind as FieldKind};
use crate::snapshot::{Change, Tables, Taken};
use crate::value::{Row, Value};
use serde_json::{Map, Value as Json};
use std::sync::Arc;

impl Working<'_> {
    /// Whether rows only come with whole configurations (`database=off`).
    pub fn is_declarative(&self) -> bool {
        self.read_only
    }

    /// Refuses a single write where there is no database; `by` is the unique field that the row
    /// was named by.
    ///
    /// # Errors
    /// Code 12.
    pub(crate) fn writable(
        &self,
        verb: &str,
        entity: &'static Entity,
        by: Option<&str>,
    ) -> Result<(), Fault> {
        if !self.read_only {
            return Ok(());
        }
        let by = by.map(|field| format!(" by '{field}'")).unwrap_or_default();
        let name = entity.name;
        let words = format!("cannot {verb} '{name}' entities{by} when not using a database");
        Err(Fault::plain(Kind::OperationUnsupported, words))
    }

    /// Makes rows of a document, without storing them.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(
        &mut self,
        document: Map<String, Json>,
        hash: u128,
        flatten: bool,
    ) -> Result<Loaded, Refusal> {
        let node = if self.read_only { Node::Off } else { Node::Database };
        declarative::load(self.catalogue, document, hash, flatten, node, &mut self.facts)
    }

    /// Puts a configuration in the place of all rows. A row that says what one with its id says
    /// already stays as it is, so that nothing is made again that has not changed.
    ///
    /// # Errors
    /// The faults in the form of the document. Nothing has changed then.
    pub fn replace(&mut self, loaded: &Loaded) -> Result<Vec<Arc<Row>>, Map<String, Json>> {
        let mut faults = Json::Null;
        let mut next = Tables::new(self.catalogue);
        for row in self.tables.all(WORKSPACES.name) {
            // The one workspace stays, whatever the document says.
            let _taken = next.put(row);
        }
        let mut rows = Vec::with_capacity(loaded.items.len());
        for item in &loaded.items {
            let row = self.row(item);
            if let Err(why) = next.put(&row) {
                item.blame(&mut faults, clash(&why, &row));
            }
            rows.push(row);
        }
        *self.version += 1;
        next.set_number(*self.version);
        next.set_config_hash(loaded.hash);
        let changes = self.differences(&next, &rows);
        for change in &changes {
            let Some(after) = &change.after else { continue };
            if let Err(fault) = (self.check)(change, &next)
                && let Some(at) = rows.iter().position(|row| Arc::ptr_eq(row, after))
                && let Some(item) = loaded.items.get(at)
            {
                item.blame(&mut faults, fault.to_json().into());
            }
        }
        if let Json::Object(faults) = faults {
            return Err(faults);
        }
        self.tables = next;
        self.changes.extend(changes);
        Ok(rows)
    }

    /// The row of an item: the one that there is, if it says the same.
    fn row(&mut self, item: &Item) -> Arc<Row> {
        let row = item.row(self.catalogue, *self.version + 1);
        match self.tables.get(item.entity.name, row.id()) {
            Some(old) if says_the_same(old, &row, item.is_dated) => Arc::clone(old),
            _ => {
                *self.version += 1;
                Arc::new(row)
            }
        }
    }

    /// What goes, children before parents; then what comes or differs, parents before children.
    ///
    /// A row that takes another place (other pointers, other names) first goes and then comes: it
    /// may take the place of one that goes as well.
    fn differences(&self, next: &Tables, rows: &[Arc<Row>]) -> Vec<Change> {
        let mut changes = Vec::new();
        for entity in self.catalogue.entities.iter().rev() {
            for old in self.tables.all(entity.name) {
                let stays = next.get(entity.name, old.id()).is_some_and(|new| same_place(old, new));
                if !stays {
                    let before = Some(Arc::clone(old));
                    changes.push(Change { entity: old.entity(), before, after: None });
                }
            }
        }
        for row in rows {
            let old = self.tables.get(row.entity().name, row.id());
            if old.is_some_and(|old| Arc::ptr_eq(old, row)) {
                continue;
            }
            let before = old.filter(|old| same_place(old, row)).cloned();
            changes.push(Change { entity: row.entity(), before, after: Some(Arc::clone(row)) });
        }
        changes
    }
}

const TIMES: [&str; 2] = ["created_at", "updated_at"];

fn says_the_same(old: &Row, new: &Row, with_times: bool) -> bool {
    let ignored = |name: &str| !with_times && TIMES.contains(&name);
    old.expires_at_s() == new.expires_at_s()
        && old
            .iter()
            .zip(new.iter())
            .all(|((field, old), (_, new))| ignored(field.name) || old == new)
}

/// Whether nothing differs by which a row is found.
fn same_place(old: &Row, new: &Row) -> bool {
    let entity = new.entity();
    let tells = |name: &str| entity.cache_key.contains(&name) || name == "enabled";
    old.iter().zip(new.iter()).all(|((field, old), (_, new))| {
        let tells =
            field.is_unique() || matches!(field.kind, FieldKind::Foreign(..)) || tells(field.name);
        !tells || old == new
    })
}

/// Kong has no check for keys of several fields; two rows that share one cannot both be found.
fn clash(why: &Taken, row: &Row) -> Json {
    let entity = row.entity();
    let fields = match why {
        Taken::Field(field) => vec![*field],
        Taken::Key => entity.cache_key.to_vec(),
    };
    let shown = |field: &&str| match row.get(field) {
        Value::Text(text) => text.to_string(),
        Value::Null => String::new(),
        other => other.to_json().as_str().unwrap_or_default().to_owned(),
    };
    let values: Vec<_> = fields.iter().map(shown).collect();
    taken(entity.name, &fields.join(", "), &values.join(":"))
}

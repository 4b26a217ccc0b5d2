//! Children that a row lists by name (a certificate's `snis`): given with the row, they are written
//! with it.
//!
//! Source: Kong `kong/db/dao/{certificates,snis}.lua`.

use super::working::{Key, Working};
use crate::check::{Fault, Faults};
use crate::schema::{Entity, NamedChildren};
use crate::snapshot::Tables;
use crate::value::{Row, Value};
use std::sync::Arc;
use uuid::Uuid;

/// The names of a row's children, sorted.
pub(crate) fn names(tables: &Tables, children: &NamedChildren, id: Uuid) -> Vec<String> {
    let rows = tables.children(children.entity, children.pointer, id, None);
    let mut names: Vec<_> =
        rows.filter_map(|row| row.text(children.name).map(str::to_owned)).collect();
    names.sort_unstable();
    names
}

impl Working<'_> {
    /// The names that an input gives its row: `None` if it leaves them as they are.
    ///
    /// # Errors
    /// A name is given twice, is none, or is another row's; Kong says so before it checks anything
    /// else.
    pub(super) fn names_given(
        &self,
        entity: &'static Entity,
        input: &Value,
        own: Option<Uuid>,
    ) -> Result<Option<Vec<String>>, Fault> {
        let Some(children) = &entity.named_children else { return Ok(None) };
        let mut names: Vec<String> = match input.lookup(children.list) {
            Some(Value::Null) => Vec::new(),
            Some(list @ Value::List(_)) => list.texts().map(str::to_owned).collect(),
            _ => return Ok(None),
        };
        names.sort_unstable();
        let refused = |words: String| Err(Faults::of(children.list, words).into());
        if let Some([twice, _]) = names.array_windows().find(|[one, two]| one == two) {
            return refused(format!("{twice} is duplicated"));
        }
        let entity = self.catalogue.entity(children.entity);
        for name in &names {
            if let Some(entity) = entity {
                self.key(entity, name)?;
            }
            let child = self.tables.by(children.entity, children.name, name);
            let Some(other) = child.and_then(|child| child.foreign(children.pointer)) else {
                continue;
            };
            if own != Some(other) {
                return refused(format!(
                    "{name} already associated with existing certificate '{other}'"
                ));
            }
        }
        Ok(Some(names))
    }

    /// Makes the children that are missing and deletes those that are not named any more.
    ///
    /// # Errors
    /// A name is not valid.
    pub(super) fn put_names(
        &mut self,
        row: &Arc<Row>,
        names: Option<&[String]>,
    ) -> Result<(), Fault> {
        let (Some(children), Some(names)) = (&row.entity().named_children, names) else {
            return Ok(());
        };
        let Some(entity) = self.catalogue.entity(children.entity) else { return Ok(()) };
        let rows = self.tables.children(children.entity, children.pointer, row.id(), None);
        let rows: Vec<_> = rows.cloned().collect();
        let named = |row: &Arc<Row>, name: &str| row.text(children.name) == Some(name);
        for name in names.iter().filter(|name| !rows.iter().any(|row| named(row, name))) {
            let pointer = Value::object([("id", Value::text(row.id().to_string()))]);
            let child = [(children.name, Value::text(name.as_str())), (children.pointer, pointer)];
            self.insert(entity, Value::object(child))?;
        }
        for row in rows.iter().filter(|row| !names.iter().any(|name| named(row, name))) {
            self.remove(entity, row.id())?;
        }
        Ok(())
    }

    /// The row whose child has that name.
    ///
    /// # Errors
    /// Code 10 if no child could have it.
    pub fn by_child_name(
        &self,
        children: &NamedChildren,
        name: &str,
    ) -> Result<Option<Uuid>, Fault> {
        let Some(entity) = self.catalogue.entity(children.entity) else { return Ok(None) };
        let key = self.key(entity, name)?;
        Ok(self.find(entity, &key).and_then(|child| child.foreign(children.pointer)))
    }

    /// The id that a key stands for, if its row exists.
    pub(super) fn id_of(&self, entity: &'static Entity, key: &Key) -> Option<Uuid> {
        match key {
            Key::Id(id) => Some(*id),
            Key::By(..) => self.find(entity, key).map(|row| row.id()),
        }
    }
}

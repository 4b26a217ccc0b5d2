//! Rows that are also found by the name of a child, and list their children's names: certificates.
//!
//! Source: Kong `kong/api/routes/certificates.lua`.

use super::rows::Rows;
use super::{Method, Reply};
use crate::actor::{self, Key};
use crate::schema::{Entity, NamedChildren};
use crate::snapshot::Tables;
use crate::value::{Row, Value, parse_uuid};
use serde_json::{Map, Value as Json};

/// Adds the names of a row's children to what clients see of it.
pub(super) fn show(tables: &Tables, row: &Row, object: &mut Map<String, Json>) {
    if let Some(children) = &row.entity().named_children {
        let names = actor::names(tables, children, row.id());
        object.insert(children.list.to_owned(), names.into());
    }
}

impl Rows<'_, '_> {
    /// The key that a path parameter stands for, which may be a child's name; with PUT an unknown
    /// one stands for a row to be made.
    pub(super) fn named_key(
        &mut self,
        children: &NamedChildren,
        parameter: usize,
    ) -> Result<Key, Reply> {
        let text = self.hit.parameter(parameter);
        if let Some(id) = parse_uuid(text) {
            return Ok(Key::Id(id));
        }
        match self.store.by_child_name(children, text)? {
            Some(id) => Ok(Key::Id(id)),
            None if self.method == Method::Put => Ok(Key::Id(self.store.new_id())),
            None => Err(Reply::message(404, children.unknown)),
        }
    }

    /// The list of names that an input means: one name alone is a list, PUT adds the name of the
    /// path to it, and without a list takes all names away.
    pub(super) fn name_list(&self, entity: &Entity, input: &mut Value) {
        let Some(children) = &entity.named_children else { return };
        let puts = self.method == Method::Put;
        if let Some(Value::Text(name)) = input.lookup(children.list) {
            let list = Value::List(vec![Value::Text(name.clone())]);
            input.put(children.list, list);
        }
        let path = self.hit.parameter(0);
        match input.lookup(children.list) {
            None if puts => input.put(children.list, Value::Null),
            Some(Value::List(names))
                if puts
                    && parse_uuid(path).is_none()
                    && !names.iter().any(|name| name.as_text() == Some(path)) =>
            {
                let mut names = names.clone();
                names.push(Value::text(path));
                input.put(children.list, Value::List(names));
            }
            _ => {}
        }
    }
}

//! What can be done with rows: the generated endpoints.
//!
//! Source: Kong `kong/api/endpoints.lua`; statuses as recorded from 3.9.1.

use super::body::Sent;
use super::named;
use super::page::{self, Page, Query};
use super::place::{Hit, Link};
use super::{Call, Method, Reply};
use crate::actor::{Key, Working};
use crate::fault::Fault;
use crate::schema::{Entity, Variants};
use crate::snapshot::Tables;
use crate::value::{Row, Value, parse_uuid};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use uuid::Uuid;

/// A reply, or the one that stopped the work.
pub(super) type Answered = Result<Reply, Reply>;

/// One call about rows.
pub(super) struct Rows<'a, 'b> {
    /// The tables.
    pub(super) store: &'a mut Working<'b>,
    /// The call.
    pub(super) call: &'a Call,
    /// Its method.
    pub(super) method: Method,
    /// Where its path leads.
    pub(super) hit: &'a Hit<'a>,
    /// Its body.
    pub(super) sent: Sent,
}

impl Rows<'_, '_> {
    /// `/E`
    pub(super) fn rows(&mut self, entity: &'static Entity) -> Answered {
        if self.method == Method::Post {
            let input = self.input(entity, None);
            return self.post(entity, input);
        }
        let query = Query::read(&self.call.query)?;
        if let Some(field) = filter(entity)
            && let Some(value) = query.only(field)
        {
            return self.filtered(entity, field, value);
        }
        let page = Page::read(&query, entity.has_tags())?;
        let path = format!("/{}", entity.admin_name());
        self.page(&page, self.store.tables().after(entity.name, page.after_id()?))
            .map(|(rows, more)| list(&rows, more, &path, &page::kept(&query)))
    }

    /// `/E/{e}`
    pub(super) fn row(&mut self, entity: &'static Entity) -> Answered {
        let key = match &entity.named_children {
            Some(children) => self.named_key(children, 0)?,
            None => self.store.key(entity, self.hit.parameter(0))?,
        };
        match self.method {
            Method::Delete => {
                self.store.delete(entity, &key)?;
                Ok(Reply::empty(204))
            }
            Method::Put => {
                let mut input = self.input(entity, None);
                self.name_list(entity, &mut input);
                self.put(entity, &key, input)
            }
            Method::Patch => {
                let row = self.store.find(entity, &key);
                // Without the row nobody knows which plugin's fields the patch is about.
                if row.is_none() && matches!(entity.variants, Variants::Plugins) {
                    return Err(Reply::not_found());
                }
                let mut input = self.input(entity, row.as_ref());
                self.name_list(entity, &mut input);
                self.patch(entity, &key, input)
            }
            _ => match (self.store.find(entity, &key), &key) {
                (Some(row), _) => Ok(self.shown(200, &row)),
                (None, Key::Id(id)) if entity.named_children.is_some() => {
                    Err(Fault::not_found(json!({ "id": id.to_string() })).into())
                }
                (None, _) => Err(Reply::not_found()),
            },
        }
    }

    /// `/E/{e}/f`
    pub(super) fn parent(&mut self, link: Link) -> Answered {
        let row = self.existing(link.child, 0)?;
        let linked = row.foreign(link.field.name);
        if self.method == Method::Put {
            return self.put_parent(link, &row, linked);
        }
        let id = linked.ok_or_else(Reply::not_found)?;
        let parent = self.store.find(link.parent, &Key::Id(id)).ok_or_else(Reply::not_found)?;
        match self.method {
            Method::Delete => Err(Reply::method_not_allowed()),
            Method::Patch => {
                let input = self.input(link.parent, Some(&parent));
                self.patch(link.parent, &Key::Id(id), input)
            }
            _ => {
                let mut object = shown(self.store.tables(), &parent, self.store.now_s());
                if let Some(children) = &link.parent.named_children {
                    // Kong reads the row alone.
                    object[children.list] = Json::Null;
                }
                Ok(Reply::json(200, &object))
            }
        }
    }

    /// Writes the row that the pointer leads to; makes one, and the pointer, if there is none.
    fn put_parent(&mut self, link: Link, row: &Arc<Row>, linked: Option<Uuid>) -> Answered {
        let input = self.input(link.parent, None);
        let id = linked.unwrap_or_else(|| self.store.new_id());
        let written = self.put(link.parent, &Key::Id(id), input)?;
        if linked.is_none() {
            let patch = Value::object([(link.field.name, pointer(id))]);
            self.store.update(link.child, &Key::Id(row.id()), patch)?;
        }
        Ok(written)
    }

    /// `/F/{f}/E`
    pub(super) fn children(&mut self, link: Link) -> Answered {
        let parent = self.above(link)?;
        if self.method == Method::Post {
            let mut input = self.input(link.child, None);
            input.put(link.field.name, pointer(parent.id()));
            return self.post(link.child, input);
        }
        let query = Query::read(&self.call.query)?;
        // Kong checks the filter of a nested list and does not apply it.
        let page = Page { tags: None, ..Page::read(&query, link.child.has_tags())? };
        let above = page::escaped(self.hit.parameter(0));
        let own = link.child.admin_nested_name();
        let path = format!("/{}/{above}/{own}", link.parent.admin_name());
        let (name, field) = (link.child.name, link.field.name);
        let rows = self.store.tables().children(name, field, parent.id(), page.after_id()?);
        self.page(&page, rows).map(|(rows, more)| list(&rows, more, &path, &[]))
    }

    /// `/F/{f}/E/{e}`
    pub(super) fn child(&mut self, link: Link) -> Answered {
        let by_name =
            link.child.nested_key.is_some() && parse_uuid(self.hit.parameter(1)).is_none();
        let parent = self.above(link).map_err(|early| match early.status {
            404 if by_name => self.not_found_with_id(),
            _ => early,
        })?;
        let key = self.child_key(link, &parent)?;
        if self.method == Method::Put {
            let mut input = self.input(link.child, None);
            self.put_nested_key(link, &mut input);
            input.put(link.field.name, pointer(parent.id()));
            return self.put(link.child, &key, input);
        }
        let row = self.store.find(link.child, &key).ok_or_else(Reply::not_found)?;
        if row.foreign(link.field.name) != Some(parent.id()) {
            return Err(Reply::not_found());
        }
        match self.method {
            Method::Delete => {
                self.store.delete(link.child, &key)?;
                Ok(Reply::empty(204))
            }
            Method::Patch => {
                let mut input = self.input(link.child, Some(&row));
                if input.lookup(link.field.name).is_none() {
                    input.put(link.field.name, pointer(parent.id()));
                }
                self.patch(link.child, &key, input)
            }
            _ => Ok(self.shown(200, &row)),
        }
    }

    /// The key of a child: its id, its endpoint key, or what is unique under this parent alone
    /// (Kong: `kong/plugins/acl/api.lua`). A PUT under a name that is not there makes a new row.
    fn child_key(&mut self, link: Link, parent: &Row) -> Result<Key, Reply> {
        let name = self.hit.parameter(1);
        if link.child.nested_key.is_none() || parse_uuid(name).is_some() {
            return Ok(self.store.key(link.child, name)?);
        }
        let values = [Value::Id(parent.id()), Value::text(name)];
        match self.store.tables().by_key(link.child.name, &values).map(|row| row.id()) {
            Some(id) => Ok(Key::Id(id)),
            None if self.method == Method::Put => Ok(Key::Id(self.store.new_id())),
            None => Err(self.not_found_with_id()),
        }
    }

    /// Kong's answer here is made like those of its proxy: it names the request.
    fn not_found_with_id(&mut self) -> Reply {
        let id = self.store.new_id().simple().to_string();
        Reply::json(404, &json!({ "message": "Not found", "request_id": id }))
    }

    /// Puts the name of the path into what is written under it, unless that names itself.
    fn put_nested_key(&self, link: Link, input: &mut Value) {
        let name = self.hit.parameter(1);
        if let Some(field) = link.child.nested_key
            && parse_uuid(name).is_none()
            && input.get(field).is_null()
        {
            input.put(field, Value::text(name));
        }
    }

    pub(super) fn post(&mut self, entity: &'static Entity, input: Value) -> Answered {
        let row = self.store.insert(entity, input)?;
        Ok(self.shown(201, &row))
    }

    pub(super) fn put(&mut self, entity: &'static Entity, key: &Key, input: Value) -> Answered {
        let row = self.store.upsert(entity, key, input)?;
        Ok(self.shown(200, &row))
    }

    pub(super) fn patch(&mut self, entity: &'static Entity, key: &Key, input: Value) -> Answered {
        let row = self.store.update(entity, key, input)?;
        Ok(self.shown(200, &row))
    }

    /// The parent of the rows that the path is about, or 404.
    fn above(&mut self, link: Link) -> Result<Arc<Row>, Reply> {
        match &link.parent.named_children {
            Some(children) if children.entity == link.child.name => {
                let key = self.named_key(children, 0)?;
                self.store.find(link.parent, &key).ok_or_else(Reply::not_found)
            }
            _ => self.existing(link.parent, 0),
        }
    }

    /// The row that a parameter of the path names, or 404.
    pub(super) fn existing(
        &mut self,
        entity: &'static Entity,
        parameter: usize,
    ) -> Result<Arc<Row>, Reply> {
        let key = self.store.key(entity, self.hit.parameter(parameter))?;
        self.store.find(entity, &key).ok_or_else(Reply::not_found)
    }

    /// The body as an object of `entity`; `row` is the one that it is a patch of.
    pub(super) fn input(&mut self, entity: &'static Entity, row: Option<&Arc<Row>>) -> Value {
        let variant = row.and_then(|row| row.text("name"));
        self.sent.take(self.store.catalogue(), entity, variant)
    }

    /// The rows of one page as JSON, and the key at which the next page begins.
    pub(super) fn page<'t>(
        &self,
        page: &Page,
        rows: impl Iterator<Item = &'t Arc<Row>>,
    ) -> Result<(Vec<Json>, Option<Uuid>), Reply> {
        let now_s = self.store.now_s();
        let wanted = |row: &&Arc<Row>| {
            row.is_alive(now_s) && page.tags.as_ref().is_none_or(|tags| tags.wants_row(row))
        };
        let mut found: Vec<_> = rows.filter(wanted).take(page.size + 1).collect();
        let more = found.len() > page.size;
        found.truncate(page.size);
        let last = found.last().filter(|_| more).map(|row| row.id());
        Ok((found.iter().map(|row| self.object(row, now_s)).collect(), last))
    }

    /// The list with the one row that has this value of a unique field, or with none.
    fn filtered(&self, entity: &'static Entity, field: &'static str, value: &str) -> Answered {
        if value.is_empty() {
            let words = format!("{field} must be an unempty string");
            return Err(Reply::message(400, &words));
        }
        let row = self.store.find(entity, &Key::By(field, value.to_owned()));
        let now_s = self.store.now_s();
        let tables = self.store.tables();
        let rows: Vec<_> = row.iter().map(|row| shown(tables, row, now_s)).collect();
        Ok(list(&rows, None, "", &[]))
    }

    pub(super) fn shown(&self, status: u16, row: &Arc<Row>) -> Reply {
        Reply::json(status, &self.object(row, self.store.now_s()))
    }

    /// A row as clients of this node see it: without a database, Kong shows no `ttl` of null.
    fn object(&self, row: &Row, now_s: i64) -> Json {
        let mut object = shown(self.store.tables(), row, now_s);
        if self.store.is_declarative()
            && let Some(object) = object.as_object_mut()
            && object.get("ttl").is_some_and(Json::is_null)
        {
            object.shift_remove("ttl");
        }
        object
    }
}

/// The one filter by value that Kong has.
fn filter(entity: &Entity) -> Option<&'static str> {
    (entity.name == "consumers").then_some("custom_id")
}

/// `{"id": …}`
fn pointer(id: Uuid) -> Value {
    Value::object([("id", Value::text(id.to_string()))])
}

/// A row as clients see it; where rows may expire, one that does not has `"ttl": null`.
pub(super) fn shown(tables: &Tables, row: &Row, now_s: i64) -> Json {
    let mut object = row.to_json(now_s);
    if row.entity().ttl {
        object.entry("ttl").or_insert(Json::Null);
    }
    named::show(tables, row, &mut object);
    Json::Object(object)
}

pub(super) fn list(rows: &[Json], more: Option<Uuid>, path: &str, kept: &[(&str, &str)]) -> Reply {
    let key = more.map(|id| [json!(id.to_string())]);
    Reply::json(200, &page::list(rows, key.as_ref().map(<[Json; 1]>::as_slice), path, kept))
}

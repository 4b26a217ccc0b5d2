//! The tables as one call sees and changes them: Kong's verbs on rows.
//!
//! Source: Kong `kong/db/dao/init.lua`; what Postgres enforces (unique, foreign keys) is enforced
//! here.

use super::WatchCheck;
use crate::check::{self, Facts, Fault, Faults, Mode, Wrong};
use crate::fault;
use crate::schema::{Catalogue, Entity, Kind, OnDelete};
use crate::snapshot::{Change, Tables, Taken};
use crate::value::{Row, Value, parse_uuid};
use serde_json::{Map, Value as Json, json};
use std::sync::Arc;
use uuid::Uuid;

/// Most seconds that a row may be told to live.
const TTL_S_MAX: i64 = 100_000_000;

/// How a row is named in a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// By its primary key.
    Id(Uuid),
    /// By the entity's endpoint key or another unique field.
    By(&'static str, String),
}

impl Key {
    /// The unique field, unless it is the primary key.
    fn field(&self) -> Option<&'static str> {
        match self {
            Self::Id(_) => None,
            Self::By(field, _) => Some(field),
        }
    }
}

/// The tables as one call sees and changes them.
///
/// Every method that fails has changed nothing. If the call's answer has a status of 400 or more,
/// the actor takes back everything that the call did.
pub struct Working<'a> {
    pub(super) tables: Tables,
    pub(super) changes: Vec<Change>,
    pub(super) catalogue: &'a Arc<Catalogue>,
    pub(super) facts: Facts<'a>,
    /// Number of the last change; never goes back, so that no two rows share a version.
    pub(super) version: &'a mut u64,
    pub(super) check: &'a mut WatchCheck,
    /// There is no database: single writes are refused.
    pub(super) read_only: bool,
}

/// A state to which [`Working::rewind`] can go back.
pub(super) struct Mark {
    tables: Tables,
    changes: usize,
}

impl<'a> Working<'a> {
    /// The tables with all that this call and those before it did.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// What can be configured.
    pub fn catalogue(&self) -> &'a Arc<Catalogue> {
        self.catalogue
    }

    /// Unix time in seconds, the same during the whole call.
    pub fn now_s(&self) -> i64 {
        self.facts.now_s
    }

    /// A random id.
    pub fn new_id(&mut self) -> Uuid {
        self.facts.uuid()
    }

    /// A random secret of letters and digits, as fields that are filled in get it.
    pub fn new_secret(&mut self) -> String {
        self.facts.secret()
    }

    /// Reads a key from a path: a UUID is an id, anything else a value of the endpoint key.
    ///
    /// # Errors
    /// Code 1 if the entity has no endpoint key, code 10 if the value is not valid for it.
    pub fn key(&self, entity: &'static Entity, text: &str) -> Result<Key, Fault> {
        if let Some(id) = parse_uuid(text) {
            return Ok(Key::Id(id));
        }
        let Some(field) = entity.endpoint_key.and_then(|name| entity.field(name)) else {
            return Err(Fault::invalid_primary_key(json!({ "id": "expected a valid UUID" })));
        };
        match check::value(self.catalogue, field, &Value::text(text)) {
            Ok(()) => Ok(Key::By(field.name, text.to_owned())),
            Err(Wrong::Text(words)) => Err(Fault::invalid_unique(field.name, &words)),
            Err(other) => Err(Faults::of(field.name, other).into()),
        }
    }

    /// The row with that key, if it exists and has not expired.
    pub fn find(&self, entity: &'static Entity, key: &Key) -> Option<Arc<Row>> {
        let row = match key {
            Key::Id(id) => self.tables.get(entity.name, *id),
            Key::By(field, value) => self.tables.by(entity.name, field, value),
        };
        row.filter(|row| row.is_alive(self.facts.now_s)).cloned()
    }

    /// Checks an object without storing it; pointers are not followed.
    ///
    /// # Errors
    /// Code 2.
    pub fn validate(&mut self, entity: &'static Entity, input: Value) -> Result<(), Fault> {
        let given = input.clone();
        let object =
            check::complete(self.catalogue, entity, input, Mode::Insert, None, &mut self.facts)?;
        check::validate(self.catalogue, entity, &object, Mode::Insert, &given, None)?;
        Ok(())
    }

    /// A new row (POST). `input` may hold `ttl` where the entity has it.
    ///
    /// # Errors
    /// Codes 2, 3, 4, 5, 11, 13, or what a plugin's `prepare` found.
    pub fn insert(&mut self, entity: &'static Entity, input: Value) -> Result<Arc<Row>, Fault> {
        let names = self.names_given(entity, &input, None)?;
        let (object, expires_at_s) = self.checked(entity, input, Mode::Insert, |_| {})?;
        self.writable("create", entity, None)?;
        if let Some(id) = object.get("id").as_id()
            && self.tables.get(entity.name, id).is_some()
        {
            return Err(Fault::primary_key_violation(json!({ "id": id.to_string() })));
        }
        self.store(entity, object, expires_at_s, names)
    }

    /// A whole row under that key, new or in place of another (PUT).
    ///
    /// # Errors
    /// As [`Working::insert`].
    pub fn upsert(
        &mut self,
        entity: &'static Entity,
        key: &Key,
        input: Value,
    ) -> Result<Arc<Row>, Fault> {
        let names = self.names_given(entity, &input, self.id_of(entity, key))?;
        let before = self.find(entity, key);
        let keyed = |object: &mut Value| match (key, &before) {
            (Key::Id(id), _) => object.put("id", Value::text(id.to_string())),
            (Key::By(field, value), before) => {
                object.put(field, Value::text(value.as_str()));
                if let Some(before) = before {
                    object.put("id", Value::text(before.id().to_string()));
                }
            }
        };
        let (object, expires_at_s) = self.checked(entity, input, Mode::Upsert, keyed)?;
        self.writable("create or update", entity, key.field())?;
        self.store(entity, object, expires_at_s, names)
    }

    /// Changes some fields of a row (PATCH): records merge, lists and maps are replaced.
    ///
    /// # Errors
    /// Code 6 if there is no such row, else as [`Working::insert`].
    pub fn update(
        &mut self,
        entity: &'static Entity,
        key: &Key,
        mut patch: Value,
    ) -> Result<Arc<Row>, Fault> {
        let Some(row) = self.find(entity, key) else { return Err(missing(key)) };
        let names = self.names_given(entity, &patch, Some(row.id()))?;
        if let Some(guard) = entity.guard {
            guard(&self.tables, &mut patch, Some(&row))?;
        }
        let expires_at_s = self.take_ttl(entity, &mut patch)?.unwrap_or(row.expires_at_s());
        patch.take("id");
        let (catalogue, given) = (self.catalogue, patch.clone());
        let before = check::before(&row);
        let patch = check::complete(
            catalogue,
            entity,
            patch,
            Mode::Update,
            Some(&before),
            &mut self.facts,
        )?;
        immutable(entity, &patch, &before)?;
        let mut object = check::merge(catalogue, entity, patch, &before, &mut self.facts)?;
        self.resolve(entity, &mut object)?;
        check::validate(catalogue, entity, &object, Mode::Update, &given, Some(&before))?;
        check::transform(entity, &mut object, &given, &mut self.facts)?;
        self.writable("update", entity, key.field())?;
        self.store(entity, object, expires_at_s, names)
    }

    /// Deletes a row and what cascades from it; `false` if there was none.
    ///
    /// # Errors
    /// Code 4 if rows point to it that must not.
    pub fn delete(&mut self, entity: &'static Entity, key: &Key) -> Result<bool, Fault> {
        let Some(row) = self.find(entity, key) else { return Ok(false) };
        self.writable("remove", entity, key.field())?;
        self.remove(entity, row.id())
    }

    /// As [`Working::delete`], whoever asks.
    pub(super) fn remove(&mut self, entity: &'static Entity, id: Uuid) -> Result<bool, Fault> {
        let Some(row) = self.tables.get(entity.name, id).cloned() else { return Ok(false) };
        let mark = self.mark();
        let done = self.delete_with_children(entity, &row);
        if done.is_err() {
            self.rewind(mark);
        }
        done.map(|()| true)
    }

    /// Children go first, so that a backend that checks pointers sees none that dangles.
    fn delete_with_children(
        &mut self,
        entity: &'static Entity,
        row: &Arc<Row>,
    ) -> Result<(), Fault> {
        if let Some(farewell) = entity.farewell {
            farewell(&self.tables, row)?;
        }
        let named = entity.named_children.map(|children| children.entity);
        for (child, field) in self.catalogue.children(entity.name) {
            let Kind::Foreign(_, on_delete) = field.kind else { continue };
            let rows: Vec<Arc<Row>> =
                self.tables.children(child.name, field.name, row.id(), None).cloned().collect();
            let on_delete = if named == Some(child.name) { OnDelete::Cascade } else { on_delete };
            match on_delete {
                OnDelete::Restrict if !rows.is_empty() => {
                    return Err(Fault::referenced(child.name, entity.name));
                }
                OnDelete::Restrict => {}
                OnDelete::Cascade => {
                    for row in rows {
                        self.delete_with_children(child, &row)?;
                    }
                }
                OnDelete::Null => {
                    for row in rows {
                        let patch = Value::object([(field.name, Value::Null)]);
                        self.update(child, &Key::Id(row.id()), patch)?;
                    }
                }
            }
        }
        let before = self.tables.remove(entity, row.id());
        if before.is_some() {
            self.record(Change { entity, before, after: None })?;
        }
        Ok(())
    }

    /// Makes an object complete and checks it; `keyed` puts the key of the path into it.
    fn checked(
        &mut self,
        entity: &'static Entity,
        mut input: Value,
        mode: Mode,
        keyed: impl Fn(&mut Value),
    ) -> Result<(Value, Option<i64>), Fault> {
        if let Some(guard) = entity.guard {
            guard(&self.tables, &mut input, None)?;
        }
        let expires_at_s = self.take_ttl(entity, &mut input)?.flatten();
        let (catalogue, given) = (self.catalogue, input.clone());
        let mut object = check::complete(catalogue, entity, input, mode, None, &mut self.facts)?;
        keyed(&mut object);
        self.resolve(entity, &mut object)?;
        check::validate(catalogue, entity, &object, mode, &given, None)?;
        check::transform(entity, &mut object, &given, &mut self.facts)?;
        Ok((object, expires_at_s))
    }

    /// Takes `ttl` out of the input: `None` if it is absent, else when the row ends, if ever.
    fn take_ttl(
        &self,
        entity: &'static Entity,
        input: &mut Value,
    ) -> Result<Option<Option<i64>>, Fault> {
        if !entity.ttl {
            return Ok(None);
        }
        match input.take("ttl") {
            None => Ok(None),
            Some(Value::Null | Value::Integer(0)) => Ok(Some(None)),
            Some(Value::Integer(ttl_s)) if (0..=TTL_S_MAX).contains(&ttl_s) => {
                Ok(Some(Some(self.facts.now_s + ttl_s)))
            }
            Some(_) => {
                let words = format!("must be an integer between 0 and {TTL_S_MAX}");
                Err(Fault::invalid_option("ttl", &words))
            }
        }
    }

    /// Turns pointers by another unique field into pointers by id.
    fn resolve(&self, entity: &'static Entity, object: &mut Value) -> Result<(), Fault> {
        for field in entity.fields {
            let Kind::Foreign(parent, _) = field.kind else { continue };
            let value = object.get(field.name);
            if value.is_null() || value.as_id().is_some() {
                continue;
            }
            let Some(parent) = self.catalogue.entity(parent) else { continue };
            if let Some(id) = self.resolved(field.name, parent, value)? {
                object.put(field.name, Value::object([("id", Value::text(id.to_string()))]));
            }
        }
        Ok(())
    }

    fn resolved(
        &self,
        pointer: &str,
        parent: &'static Entity,
        value: &Value,
    ) -> Result<Option<Uuid>, Fault> {
        let mut unresolved = None;
        for field in parent.fields {
            if !(field.is_unique() || parent.endpoint_key == Some(field.name)) {
                continue;
            }
            let Some(text) = value.get(field.name).as_text() else { continue };
            if check::value(self.catalogue, field, value.get(field.name)).is_err() {
                continue;
            }
            if let Some(row) = self.tables.by(parent.name, field.name, text) {
                return Ok(Some(row.id()));
            }
            unresolved.get_or_insert((field.name, text.to_owned()));
        }
        match unresolved {
            Some((name, text)) => Err(Fault::unresolved(pointer, name, &json!(text), parent.name)),
            None => Ok(None),
        }
    }

    /// Puts a checked object into the tables, and its children if it names them.
    fn store(
        &mut self,
        entity: &'static Entity,
        object: Value,
        expires_at_s: Option<i64>,
        names: Option<Vec<String>>,
    ) -> Result<Arc<Row>, Fault> {
        no_null(entity, &object)?;
        *self.version += 1;
        let row = Row::pack(entity, self.catalogue, object, *self.version).expiring(expires_at_s);
        let row = Arc::new(row);
        self.pointers_lead_somewhere(&row)?;
        let mark = self.mark();
        let before = self.tables.put(&row).map_err(|taken| unique(&taken, &row))?;
        let change = Change { entity, before, after: Some(Arc::clone(&row)) };
        let written = self.record(change).and_then(|()| self.put_names(&row, names.as_deref()));
        if let Err(fault) = written {
            self.rewind(mark);
            return Err(fault);
        }
        Ok(row)
    }

    fn pointers_lead_somewhere(&self, row: &Row) -> Result<(), Fault> {
        for (field, value) in row.iter() {
            if let (Kind::Foreign(parent, _), Value::Id(id)) = (field.kind, value)
                && self.tables.get(parent, *id).is_none()
            {
                // A row that breaks two rules is told of the value that is taken, as Postgres
                // looks at its indexes first.
                let mut tried = self.tables.clone();
                if let Err(taken) = tried.put(&Arc::new(row.clone())) {
                    return Err(unique(&taken, row));
                }
                return Err(Fault::dangling(field.name, &json!({ "id": id.to_string() }), parent));
            }
        }
        Ok(())
    }

    fn record(&mut self, change: Change) -> Result<(), Fault> {
        self.tables.set_number(*self.version);
        (self.check)(&change, &self.tables)?;
        self.changes.push(change);
        Ok(())
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { tables: self.tables.clone(), changes: self.changes.len() }
    }

    pub(super) fn rewind(&mut self, mark: Mark) {
        self.tables = mark.tables;
        self.changes.truncate(mark.changes);
    }

    /// Deletes rows that have ended, at most `most` of each entity.
    pub(super) fn delete_expired(&mut self, most: usize) {
        let catalogue = self.catalogue;
        for entity in catalogue.entities.iter().filter(|entity| entity.ttl) {
            for id in self.tables.expired(entity.name, self.facts.now_s, most) {
                if let Err(fault) = self.remove(entity, id) {
                    log::error!("{} {id} has ended but cannot go: {fault:?}", entity.name);
                }
            }
        }
    }
}

fn missing(key: &Key) -> Fault {
    match key {
        Key::Id(id) => Fault::not_found(json!({ "id": id.to_string() })),
        Key::By(field, value) => Fault::not_found_by(field, value),
    }
}

fn immutable(entity: &Entity, patch: &Value, before: &Value) -> Result<(), Faults> {
    let mut faults = Faults::new();
    for field in entity.fields.iter().filter(|field| field.immutable) {
        let Some(value) = patch.lookup(field.name) else { continue };
        let old = before.get(field.name);
        if !old.is_null() && value != old {
            faults.set(field.name, "immutable field cannot be updated");
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Code 3 for what only the table refuses: a null where it wants a value.
fn no_null(entity: &Entity, object: &Value) -> Result<(), Fault> {
    if entity.field("id").is_some() && object.get("id").is_null() {
        let words = "primary key violation on key '{id=\"userdata: NULL\"}'";
        return Err(Fault::of(fault::Kind::PrimaryKeyViolation, words, json!({ "id": null })));
    }
    if entity.not_null.iter().any(|name| object.get(name).is_null()) {
        let id = object.get("id").as_id().map(|id| id.to_string());
        return Err(Fault::primary_key_violation(json!({ "id": id })));
    }
    Ok(())
}

/// Code 5 with the values that another row has.
fn unique(taken: &Taken, row: &Row) -> Fault {
    let names: Vec<&str> = match taken {
        Taken::Field(name) => vec![name],
        Taken::Key => row.entity().cache_key.to_vec(),
    };
    let mut shown = row.to_json(0);
    let mut values = Map::new();
    for name in names {
        values.insert(name.to_owned(), shown.remove(name).unwrap_or(Json::Null));
    }
    Fault::unique_violation(values.into())
}

//! From a document taken apart to rows: checks, references, what must be unique.
//!
//! Kong checks twice. First an entity by itself, its pointers mere names; only if something is
//! wrong, once more with the pointers followed as far as they lead, and it is the faults of the
//! second look that it tells. Some entities pass the second look alone, so both are needed.

use super::Node;
use super::document::{Document, Found};
use super::tree::{Step, join, only, put};
use crate::check::{self, Facts, Faults, Mode};
use crate::entities::{TARGETS, spell_out};
use crate::schema::{Catalogue, Entity, Field, Kind};
use crate::value::{Row, Value};
use serde_json::{Map, Value as Json, json};
use std::collections::HashMap;
use std::fmt::Write as _;

/// One row of a configuration.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its kind.
    pub entity: &'static Entity,
    object: Value,
    expires_at_s: Option<i64>,
    /// Whether the document tells its times.
    pub(crate) is_dated: bool,
    path: Vec<OwnedStep>,
}

#[derive(Clone, Debug)]
enum OwnedStep {
    Name(Box<str>),
    Index(usize),
}

impl Item {
    /// The row, as the change of that number writes it.
    #[must_use]
    pub fn row(&self, catalogue: &Catalogue, version: u64) -> Row {
        Row::pack(self.entity, catalogue, self.object.clone(), version).expiring(self.expires_at_s)
    }

    /// Puts a fault at its place in the document.
    pub(crate) fn blame(&self, tree: &mut Json, fault: Json) {
        let steps = self.path.iter().map(|step| match step {
            OwnedStep::Name(name) => Step::Name(name),
            OwnedStep::Index(at) => Step::Index(*at),
        });
        put(tree, &steps.collect::<Vec<_>>(), fault);
    }
}

/// Stands for a pointer that is there and is followed later.
const ANY_ID: &str = "00000000-0000-0000-0000-000000000000";
const MUST_BE_NULL: &str = "value must be null";

type Fields = Map<String, Json>;

/// Makes rows of a document.
///
/// # Errors
/// The faults, in the form of the document.
pub(super) fn load(
    catalogue: &Catalogue,
    document: &Fields,
    node: Node,
    facts: &mut Facts<'_>,
) -> Result<Vec<Item>, Fields> {
    let document = Document::read(catalogue, document);
    let mut load = Load { catalogue, node, facts, document, objects: Vec::new() };
    load.check()?;
    load.adopt();
    load.unique_keys()?;
    load.follow()?;
    load.unique_fields()?;
    load.items()
}

struct Load<'a, 'f> {
    catalogue: &'a Catalogue,
    node: Node,
    facts: &'a mut Facts<'f>,
    document: Document<'a>,
    /// The entities, complete and valid, in the order of `document.found`.
    objects: Vec<Value>,
}

/// What an entity can be referred to by: kind and id, or kind and unique name.
type Known<'a> = HashMap<(&'a str, &'a str), &'a str>;

impl<'a> Load<'a, '_> {
    fn check(&mut self) -> Result<(), Fields> {
        let strict = self.look(&|found, object| names_alone(found, object));
        let faults = match strict {
            Ok(objects) => {
                self.objects = objects;
                return done(std::mem::take(&mut self.document.faults));
            }
            Err(faults) => faults,
        };
        let given: Vec<_> = self.document.found.iter().map(|found| found.input.clone()).collect();
        self.ids_for_all();
        let known = known(&self.document.found);
        let follow = |found: &Found<'_>, object: &mut Value| {
            followed(found, &self.document.found, &known, object);
            Faults::new()
        };
        let inputs: Vec<Value> = self.document.found.iter().map(|f| f.input.clone()).collect();
        let second =
            look((self.catalogue, self.node), self.facts, &self.document, &inputs, &follow);
        for (found, given) in self.document.found.iter_mut().zip(given) {
            found.input = given;
        }
        match second {
            Ok(objects) => {
                self.objects = objects;
                done(std::mem::take(&mut self.document.faults))
            }
            Err(mut tree) => {
                join(&mut tree, only(&faults, MUST_BE_NULL));
                done(tree)
            }
        }
    }

    fn look(&mut self, prepare: &Prepare<'_>) -> Result<Vec<Value>, Json> {
        let inputs: Vec<Value> = self.document.found.iter().map(|f| f.input.clone()).collect();
        look((self.catalogue, self.node), self.facts, &self.document, &inputs, prepare)
    }

    /// For the second look everything has an id, so that everything can be referred to.
    fn ids_for_all(&mut self) {
        for found in &mut self.document.found {
            if found.input.get("id").is_null() {
                found.input.put("id", Value::text(self.facts.uuid().to_string()));
            }
        }
    }

    /// Nested entities point to their parents.
    fn adopt(&mut self) {
        for (at, found) in self.document.found.iter().enumerate() {
            let Some((parent, field)) = found.parent else { continue };
            let id = self.objects.get(parent).map(|parent| parent.get("id").clone());
            if let (Some(id), Some(object)) = (id, self.objects.get_mut(at)) {
                object.put(field.name, Value::object([("id", id)]));
            }
        }
    }

    /// No two entities have the same unique name, and no two the same id.
    fn unique_keys(&self) -> Result<(), Fields> {
        let mut tree = Json::Null;
        let (mut names, mut ids) = (HashMap::new(), HashMap::new());
        for (found, object) in self.document.found.iter().zip(&self.objects) {
            let entity = found.entity.name;
            let key = unique_name(found.entity)
                .and_then(|name| Some((name, object.get(name).as_text()?)));
            let mut failed = false;
            if let Some((name, value)) = key
                && names.insert((entity, value), ()).is_some()
            {
                failed = true;
                let path = [Step::Name(entity), Step::Index(found.index())];
                put(&mut tree, &path, taken(entity, name, value));
            }
            let Some(id) = object.get("id").as_id() else { continue };
            if ids.insert((entity, id), ()).is_some() && !failed {
                let words = taken(entity, "primary key", &id.to_string());
                put(&mut tree, &self.place_under_parent(found), words);
            }
        }
        done(tree)
    }

    fn place_under_parent(&self, found: &Found<'_>) -> Vec<Step<'static>> {
        let mut path = Vec::new();
        let parent = found.parent.and_then(|(parent, _)| self.document.found.get(parent));
        if let Some(parent) = parent {
            path = vec![Step::Name(parent.entity.name), Step::Index(parent.index())];
        }
        path.extend([Step::Name(found.entity.name), Step::Index(found.index())]);
        path
    }

    /// Pointers by name become pointers by id, and every pointer leads somewhere.
    fn follow(&mut self) -> Result<(), Fields> {
        let known = known_objects(&self.document.found, &self.objects);
        let (mut tree, mut found_ids) = (Json::Null, Vec::new());
        for (at, found) in self.document.found.iter().enumerate() {
            let Some(object) = self.objects.get(at) else { continue };
            for (field, parent) in pointers(found.entity) {
                if found.parent.is_some_and(|(_, own)| own.name == field.name) {
                    continue;
                }
                let given = found.input.get(field.name);
                let key = match given {
                    Value::Null => continue,
                    Value::Text(name) => name.to_string(),
                    other => other.as_id().map(|id| id.to_string()).unwrap_or_default(),
                };
                if let Some(id) = known.get(&(parent.to_owned(), key)) {
                    found_ids.push((at, field.name, id.clone()));
                    continue;
                }
                let shown = match given {
                    Value::Text(name) => name.to_string(),
                    other => other.to_json().to_string(),
                };
                let words = format!(
                    "invalid reference '{}: {shown}' (no such entry in '{parent}')",
                    field.name
                );
                let called = unique_name(found.entity)
                    .and_then(|name| object.get(name).as_text().map(str::to_owned))
                    .unwrap_or_else(|| object.get("id").as_text().unwrap_or_default().to_owned());
                append(&mut tree, found.entity.name, &called, words);
            }
        }
        for (at, name, id) in found_ids {
            if let Some(object) = self.objects.get_mut(at) {
                object.put(name, Value::object([("id", Value::text(id))]));
            }
        }
        done(tree)
    }

    /// No two entities have the same value of any unique field.
    fn unique_fields(&self) -> Result<(), Fields> {
        let mut tree = Json::Null;
        let mut seen = HashMap::new();
        for (found, object) in self.document.found.iter().zip(&self.objects) {
            let entity = found.entity;
            for field in entity.fields.iter().filter(|field| field.is_unique()) {
                let Some(value) = object.get(field.name).as_text() else { continue };
                if seen.insert((entity.name, field.name, value), ()).is_none() {
                    continue;
                }
                let called = entity.endpoint_key.and_then(|key| object.get(key).as_text());
                let called = called.or_else(|| object.get("id").as_text()).unwrap_or_default();
                let path = [Step::Name(entity.name), Step::Name(called)];
                put(&mut tree, &path, taken(entity.name, field.name, value));
            }
        }
        done(tree)
    }

    /// The rows, parents before children.
    fn items(self) -> Result<Vec<Item>, Fields> {
        let mut tree = Json::Null;
        let mut items = Vec::with_capacity(self.objects.len());
        for (found, mut object) in self.document.found.into_iter().zip(self.objects) {
            if self.document.transform
                && let Err(fault) =
                    check::transform(found.entity, &mut object, &found.input, self.facts)
            {
                put(&mut tree, &found.path, json!({ "@entity": [fault.message] }));
            }
            let ttl = if found.entity.ttl { found.input.get("ttl").as_integer() } else { None };
            let dated = |name| !found.input.get(name).is_null();
            let owned = |step: &Step<'_>| match step {
                Step::Name(name) => OwnedStep::Name((*name).into()),
                Step::Index(at) => OwnedStep::Index(*at),
            };
            items.push(Item {
                entity: found.entity,
                object,
                expires_at_s: ttl,
                is_dated: dated("created_at") || dated("updated_at"),
                path: found.path.iter().map(owned).collect(),
            });
        }
        // There is one workspace, whatever a document says of it.
        items.retain(|item| item.entity.name != "workspaces");
        let place = |item: &Item| self.catalogue.entities.iter().position(|e| *e == item.entity);
        items.sort_by_key(place);
        done(tree).map(|()| items)
    }
}

/// Adjusts an entity's pointers before it is checked; gives what is wrong with them.
type Prepare<'a> = dyn Fn(&Found<'_>, &mut Value) -> Faults + 'a;

/// Completes and checks every entity.
fn look(
    (catalogue, node): (&Catalogue, Node),
    facts: &mut Facts<'_>,
    document: &Document<'_>,
    inputs: &[Value],
    prepare: &Prepare<'_>,
) -> Result<Vec<Value>, Json> {
    let mut tree = document.faults.clone();
    let mut objects = Vec::with_capacity(inputs.len());
    for (found, input) in document.found.iter().zip(inputs) {
        let mut given = input.clone();
        let pointers = prepare(found, &mut given);
        let entity = found.entity;
        let whole = check::complete(catalogue, entity, given.clone(), Mode::Insert, None, facts)
            .and_then(|mut object| {
                check::validate(catalogue, entity, &object, Mode::Insert, &given, None)?;
                by_node(node, entity, &object)?;
                if entity.name == TARGETS.name {
                    spell_out(&mut object);
                }
                Ok(object)
            });
        let mut wrong = Json::Null;
        match whole {
            Ok(object) => objects.push(object),
            Err(faults) => wrong = faults.to_json().into(),
        }
        if !pointers.is_empty() {
            join(&mut wrong, pointers.to_json().into());
        }
        if !wrong.is_null() {
            put(&mut tree, &found.path, wrong);
        }
    }
    if tree.is_null() { Ok(objects) } else { Err(tree) }
}

/// What cannot work without a database.
fn by_node(node: Node, entity: &Entity, object: &Value) -> Result<(), Faults> {
    let is_acme = node == Node::Off
        && entity.name == "plugins"
        && object.get("name").as_text() == Some("acme");
    if is_acme && object.path("config.storage").and_then(Value::as_text) == Some("kong") {
        return Err(Faults::whole("\"kong\" storage can't be used with dbless mode"));
    }
    Ok(())
}

/// The first look: at the top a pointer is the name of something, in a nested entity there is none.
fn names_alone(found: &Found<'_>, object: &mut Value) -> Faults {
    let mut faults = Faults::new();
    let any = || Value::object([("id", Value::text(ANY_ID))]);
    for (field, _) in pointers(found.entity) {
        let given = object.take(field.name).unwrap_or_default();
        match given {
            Value::Null if found.parent.is_some() && field.is_required() => {
                object.put(field.name, any());
            }
            Value::Null => {}
            _ if found.parent.is_some() => {
                faults.set(field.name, MUST_BE_NULL);
                if field.is_required() {
                    object.put(field.name, any());
                }
            }
            Value::Text(name) if name.is_empty() => {
                faults.set(field.name, "length must be at least 1");
            }
            Value::Text(_) => object.put(field.name, any()),
            _ => faults.set(field.name, "expected a string"),
        }
    }
    faults
}

/// The second look: pointers are followed where they lead somewhere.
fn followed(found: &Found<'_>, all: &[Found<'_>], known: &Known<'_>, object: &mut Value) {
    for (field, parent) in pointers(found.entity) {
        let id = match object.lookup(field.name) {
            Some(Value::Text(name)) => known.get(&(parent, &**name)).copied(),
            None => match found.parent {
                Some((above, own)) if own.name == field.name => all.get(above).and_then(Found::id),
                _ => None,
            },
            Some(_) => None,
        };
        if let Some(id) = id {
            object.put(field.name, Value::object([("id", Value::text(id))]));
        }
    }
}

fn pointers(entity: &'static Entity) -> impl Iterator<Item = (&'static Field, &'static str)> {
    entity.fields.iter().filter_map(|field| match field.kind {
        Kind::Foreign(parent, _) => Some((field, parent)),
        _ => None,
    })
}

fn known<'a>(all: &'a [Found<'_>]) -> Known<'a> {
    let mut known = HashMap::new();
    for found in all {
        let Some(id) = found.id() else { continue };
        known.insert((found.entity.name, id), id);
        let name = found.entity.endpoint_key.and_then(|key| found.input.get(key).as_text());
        if let Some(name) = name {
            known.entry((found.entity.name, name)).or_insert(id);
        }
    }
    known
}

fn known_objects(all: &[Found<'_>], objects: &[Value]) -> HashMap<(String, String), String> {
    let mut known = HashMap::new();
    for (found, object) in all.iter().zip(objects) {
        let entity = found.entity.name.to_owned();
        let Some(id) = object.get("id").as_id().map(|id| id.to_string()) else { continue };
        let name = unique_name(found.entity).and_then(|key| object.get(key).as_text());
        if let Some(name) = name {
            known.insert((entity.clone(), name.to_owned()), id.clone());
        }
        known.insert((entity, id.clone()), id);
    }
    known
}

/// The unique field that an entity is called by.
fn unique_name(entity: &'static Entity) -> Option<&'static str> {
    entity.endpoint_key.filter(|key| entity.field(key).is_some_and(Field::is_unique))
}

pub(crate) fn taken(entity: &str, key: &str, value: &str) -> Json {
    let mut words = String::new();
    let _written = write!(
        words,
        "uniqueness violation: '{entity}' entity with {key} set to '{value}' already declared"
    );
    words.into()
}

/// Adds a sentence to the list of what is wrong with one entity.
fn append(tree: &mut Json, entity: &str, called: &str, words: String) {
    match json_slot(json_slot(tree, entity), called) {
        Json::Array(sentences) => sentences.push(words.into()),
        other => *other = json!([words]),
    }
}

fn json_slot<'a>(tree: &'a mut Json, name: &str) -> &'a mut Json {
    if !tree.is_object() {
        *tree = json!({});
    }
    &mut tree[name]
}

fn done(tree: Json) -> Result<(), Fields> {
    match tree {
        Json::Object(fields) if !fields.is_empty() => Err(fields),
        _ => Ok(()),
    }
}

//! A document taken apart: every entity by itself, nested ones with their parent.

use super::ids;
use super::tree::{Step, put};
use crate::schema::{Catalogue, Entity, Field};
use crate::value::Value;
use serde_json::{Map, Value as Json, json};

/// The versions of the format.
const VERSIONS: [&str; 3] = ["1.1", "2.1", "3.0"];

/// One entity of a document.
#[derive(Clone, Debug)]
pub(super) struct Found<'a> {
    /// Its kind.
    pub(super) entity: &'static Entity,
    /// What the document says, without what is nested in it.
    pub(super) input: Value,
    /// The entity that it is nested in, as its place among all that were found.
    pub(super) parent: Option<(usize, &'static Field)>,
    /// Where it stands in the document.
    pub(super) path: Vec<Step<'a>>,
}

impl Found<'_> {
    /// Its place in its own list.
    pub(super) fn index(&self) -> usize {
        match self.path.last() {
            Some(Step::Index(at)) => *at,
            _ => 0,
        }
    }

    /// What the document calls it by.
    pub(super) fn id(&self) -> Option<&str> {
        self.input.get("id").as_text()
    }
}

/// A document taken apart.
pub(super) struct Document<'a> {
    /// Every entity, parents before what is nested in them.
    pub(super) found: Vec<Found<'a>>,
    /// Whether rows are transformed before they are stored (passwords hashed).
    pub(super) transform: bool,
    /// What has not the form of a document.
    pub(super) faults: Json,
}

impl<'a> Document<'a> {
    /// Takes a document apart. Entities without an id get theirs, where it can be told.
    pub(super) fn read(catalogue: &Catalogue, document: &'a Map<String, Json>) -> Self {
        let mut read = Self { found: Vec::new(), transform: true, faults: Json::Null };
        read.meta(document);
        let own = |name: &str| catalogue.entity(name).filter(|entity| entity.name != "tags");
        for (name, _) in document {
            if own(name).is_none() && !name_is_meta(name) {
                put(&mut read.faults, &[Step::Name(name)], json!("unknown field"));
            }
        }
        for entity in catalogue.entities.iter().copied().filter(|entity| own(entity.name).is_some())
        {
            if let Some(list) = document.get(entity.name) {
                read.list(catalogue, entity, list, None, &[]);
            }
        }
        read
    }

    fn meta(&mut self, document: &Map<String, Json>) {
        let mut fault = |name, words: &str| {
            put(&mut self.faults, &[Step::Name(name)], json!(words));
        };
        match document.get("_format_version") {
            None | Some(Json::Null) => fault("_format_version", "required field missing"),
            Some(Json::String(version)) if VERSIONS.contains(&version.as_str()) => {}
            Some(Json::String(_)) => {
                let words = format!("expected one of: {}", VERSIONS.join(", "));
                fault("_format_version", &words);
            }
            Some(_) => fault("_format_version", "expected a string"),
        }
        match document.get("_transform") {
            None | Some(Json::Null) => {}
            Some(Json::Bool(transform)) => self.transform = *transform,
            Some(_) => fault("_transform", "expected a boolean"),
        }
        for (name, words) in remarks(document) {
            fault(name, words);
        }
    }

    fn list(
        &mut self,
        catalogue: &Catalogue,
        entity: &'static Entity,
        list: &'a Json,
        parent: Option<(usize, &'static Field)>,
        above: &[Step<'a>],
    ) {
        let mut path = above.to_vec();
        path.push(Step::Name(entity.name));
        let items = match list {
            Json::Null => return,
            // Lua has one empty table.
            Json::Object(pairs) if pairs.is_empty() => return,
            Json::Array(items) => items,
            _ => return put(&mut self.faults, &path, json!("expected an array")),
        };
        for (at, item) in items.iter().enumerate() {
            path.push(Step::Index(at));
            match item {
                Json::Object(item) => self.item(catalogue, entity, item, parent, &path),
                _ => put(&mut self.faults, &path, json!("expected a record")),
            }
            path.pop();
        }
    }

    fn item(
        &mut self,
        catalogue: &Catalogue,
        entity: &'static Entity,
        item: &'a Map<String, Json>,
        parent: Option<(usize, &'static Field)>,
        path: &[Step<'a>],
    ) {
        for (name, words) in remarks(item) {
            let mut path = path.to_vec();
            path.push(Step::Name(name));
            put(&mut self.faults, &path, json!(words));
        }
        let nested: Vec<_> = nested(catalogue, entity)
            .filter_map(|(child, field)| Some((child, field, item.get(child.name)?)))
            .collect();
        let own = |name: &str| {
            !matches!(name, "_comment" | "_ignore")
                && !nested.iter().any(|(child, ..)| child.name == name)
        };
        let pairs = item.iter().filter(|(name, _)| own(name));
        let pairs = pairs.map(|(name, value)| (name.as_str().into(), value.clone().into()));
        let mut input = Value::Map(pairs.collect());
        let above = parent.and_then(|(place, field)| Some((self.found.get(place)?, field)));
        // A list that is a field of its parent as well (a certificate's `snis`) tells no id.
        let told = above.is_none_or(|(above, _)| above.entity.field(entity.name).is_none());
        if told && input.lookup("id").is_none() {
            let parent = above.map(|(above, field)| (field.name, above.id()));
            if let Some(id) = ids::id(entity, &input, parent) {
                input.put("id", Value::text(id.to_string()));
            }
        }
        let place = self.found.len();
        self.found.push(Found { entity, input, parent, path: path.to_vec() });
        for (child, field, list) in nested {
            self.list(catalogue, child, list, Some((place, field)), path);
        }
    }
}

/// What may be nested in an entity: whatever points to it, unless it has a field of that name.
pub(super) fn nested(
    catalogue: &Catalogue,
    entity: &'static Entity,
) -> impl Iterator<Item = (&'static Entity, &'static Field)> {
    let free = |child: &Entity| entity.field(child.name).is_none_or(|field| field.transient);
    catalogue.children(entity.name).into_iter().filter(move |(child, _)| free(child))
}

fn name_is_meta(name: &str) -> bool {
    matches!(name, "_format_version" | "_transform" | "_comment" | "_ignore")
}

/// `_comment` and `_ignore` may stand anywhere; faults of their kinds.
fn remarks(object: &Map<String, Json>) -> impl Iterator<Item = (&'static str, &'static str)> {
    let comment = object.get("_comment").filter(|value| !value.is_string() && !value.is_null());
    let ignore = object.get("_ignore").filter(|value| !value.is_array() && !value.is_null());
    let comment = comment.map(|_| ("_comment", "expected a string"));
    comment.into_iter().chain(ignore.map(|_| ("_ignore", "expected an array")))
}

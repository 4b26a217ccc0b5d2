//! The rows of one entity and every way to find them.

use super::Taken;
use super::order::Order;
use super::shards::Shards;
use crate::schema::{Entity, Kind};
use crate::value::{Row, Value};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use uuid::Uuid;

/// The rows of one entity.
#[derive(Clone, Debug)]
pub(super) struct Table {
    entity: &'static Entity,
    by_id: Shards,
    unique: Vec<Unique>,
    ids: Order<u128>,
    children: Vec<Children>,
    /// Ends of rows that end, with their ids; kept only for entities with `ttl`.
    ends: Order<(i64, u128)>,
}

/// An index over fields whose values no two rows share.
#[derive(Clone, Debug)]
struct Unique {
    /// Places of the fields.
    places: Vec<usize>,
    /// One field: rows where it is null are left out. Several: nulls count as values.
    single: Option<&'static str>,
    rows: Shards,
}

/// Children of parents, by one foreign field.
#[derive(Clone, Debug)]
struct Children {
    field: &'static str,
    place: usize,
    keys: Order<(u128, u128)>,
}

impl Table {
    pub(super) fn new(entity: &'static Entity) -> Self {
        let mut unique: Vec<Unique> = Vec::new();
        let mut children = Vec::new();
        for (place, field) in entity.fields.iter().enumerate() {
            let is_endpoint = entity.endpoint_key == Some(field.name);
            if field.name != "id"
                && (field.is_unique() || is_endpoint && !entity.has_composite_key())
            {
                let single = Some(field.name);
                unique.push(Unique { places: vec![place], single, rows: Shards::default() });
            }
            if matches!(field.kind, Kind::Foreign(..)) {
                children.push(Children { field: field.name, place, keys: Order::default() });
            }
        }
        if entity.has_composite_key() {
            let places = entity.cache_key.iter().filter_map(|name| entity.position(name)).collect();
            unique.push(Unique { places, single: None, rows: Shards::default() });
        }
        Self {
            entity,
            by_id: Shards::default(),
            unique,
            ids: Order::default(),
            children,
            ends: Order::default(),
        }
    }

    pub(super) fn entity(&self) -> &'static Entity {
        self.entity
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn get(&self, id: Uuid) -> Option<&Arc<Row>> {
        self.by_id.find(hash_of_id(id), |row| row.id() == id)
    }

    pub(super) fn by_text(&self, field: &str, text: &str) -> Option<&Arc<Row>> {
        let index = self.unique.iter().find(|index| index.single == Some(field))?;
        let place = *index.places.first()?;
        let hash = hash_with(|hasher| hash_text(text, hasher));
        index.rows.find(hash, |row| row.at(place).as_text() == Some(text))
    }

    pub(super) fn by_key(&self, values: &[Value]) -> Option<&Arc<Row>> {
        let index = self.unique.iter().find(|index| index.single.is_none())?;
        let hash = hash_with(|hasher| values.iter().for_each(|value| hash_value(value, hasher)));
        index.rows.find(hash, |row| {
            index.places.iter().zip(values).all(|(place, value)| row.at(*place) == value)
        })
    }

    pub(super) fn after(&self, id: Option<Uuid>) -> impl Iterator<Item = &Arc<Row>> {
        let start = id.map(|id| id.as_u128().saturating_add(1));
        self.ids.from(start).filter_map(|id| self.get(Uuid::from_u128(id)))
    }

    pub(super) fn children<'a>(
        &'a self,
        field: &str,
        parent: Uuid,
        after: Option<Uuid>,
    ) -> impl Iterator<Item = &'a Arc<Row>> + use<'a> {
        let parent = parent.as_u128();
        let start = (parent, after.map_or(0, |id| id.as_u128().saturating_add(1)));
        self.children
            .iter()
            .find(|children| children.field == field)
            .into_iter()
            .flat_map(move |children| children.keys.from(Some(start)))
            .take_while(move |(key, _)| *key == parent)
            .filter_map(|(_, id)| self.get(Uuid::from_u128(id)))
    }

    pub(super) fn expired(&self, now_s: i64, most: usize) -> Vec<Uuid> {
        let ended = self.ends.from(None).take_while(|(end_s, _)| *end_s <= now_s);
        ended.map(|(_, id)| Uuid::from_u128(id)).take(most).collect()
    }

    pub(super) fn put(&mut self, row: &Arc<Row>) -> Result<Option<Arc<Row>>, Taken> {
        let id = row.id();
        let before = self.get(id).cloned();
        for index in &self.unique {
            let other = hash_of_row(index, row).and_then(|hash| {
                index.rows.find(hash, |other| same(index, other, row) && other.id() != id)
            });
            if other.is_some() {
                return Err(index.single.map_or(Taken::Key, Taken::Field));
            }
        }
        if let Some(before) = &before {
            self.unlink(before);
        }
        let hash_of = |row: &Row| hash_of_id(row.id());
        self.by_id.put(hash_of_id(id), Arc::clone(row), |other| other.id() == id, hash_of);
        self.link(row);
        Ok(before)
    }

    pub(super) fn remove(&mut self, id: Uuid) -> Option<Arc<Row>> {
        let hash = hash_of_id(id);
        let row = self.by_id.remove(hash, |row| row.id() == id)?;
        self.unlink(&row);
        Some(row)
    }

    /// Enters a row into everything but the rows by id.
    fn link(&mut self, row: &Arc<Row>) {
        let id = row.id();
        for index in &mut self.unique {
            let places = &index.places;
            let hash_of = |row: &Row| hash_of_places(places, row);
            if index.single.is_some() && index.places.iter().all(|place| row.at(*place).is_null()) {
                continue;
            }
            let hash = hash_of(row);
            index.rows.put(hash, Arc::clone(row), |other| other.id() == id, hash_of);
        }
        self.ids.insert(id.as_u128());
        for children in &mut self.children {
            if let Value::Id(parent) = row.at(children.place) {
                children.keys.insert((parent.as_u128(), id.as_u128()));
            }
        }
        if let Some(end_s) = row.expires_at_s() {
            self.ends.insert((end_s, id.as_u128()));
        }
    }

    /// Takes a row out of everything but the rows by id.
    fn unlink(&mut self, row: &Arc<Row>) {
        let id = row.id();
        for place in 0..self.unique.len() {
            if let Some(hash) = hash_of_row(&self.unique[place], row) {
                self.unique[place].rows.remove(hash, |other| other.id() == id);
            }
        }
        self.ids.remove(id.as_u128());
        for children in &mut self.children {
            if let Value::Id(parent) = row.at(children.place) {
                children.keys.remove((parent.as_u128(), id.as_u128()));
            }
        }
        if let Some(end_s) = row.expires_at_s() {
            self.ends.remove((end_s, id.as_u128()));
        }
    }
}

/// The hash of a row in an index; `None` where the index leaves it out.
fn hash_of_row(index: &Unique, row: &Row) -> Option<u64> {
    let left_out =
        index.single.is_some() && index.places.iter().all(|place| row.at(*place).is_null());
    (!left_out).then(|| hash_of_places(&index.places, row))
}

fn same(index: &Unique, one: &Row, two: &Row) -> bool {
    index.places.iter().all(|place| one.at(*place) == two.at(*place))
}

fn hash_of_places(places: &[usize], row: &Row) -> u64 {
    hash_with(|hasher| {
        places.iter().for_each(|place| hash_value(row.at(*place), hasher));
    })
}

/// The seed is fixed: keys are set by operators, so no client can make them collide.
const HASHES: foldhash::fast::FixedState = foldhash::fast::FixedState::with_seed(0x7011_9a7e);

fn hash_with(feed: impl FnOnce(&mut foldhash::fast::FoldHasher<'static>)) -> u64 {
    let mut hasher = HASHES.build_hasher();
    feed(&mut hasher);
    hasher.finish()
}

fn hash_of_id(id: Uuid) -> u64 {
    hash_with(|hasher| hash_id(id, hasher))
}

fn hash_id(id: Uuid, hasher: &mut impl Hasher) {
    id.as_u128().hash(hasher);
}

fn hash_text(text: &str, hasher: &mut impl Hasher) {
    text.hash(hasher);
}

/// Values that are equal hash alike; what is never a key counts as its kind alone.
fn hash_value(value: &Value, hasher: &mut impl Hasher) {
    match value {
        Value::Text(text) => hash_text(text, hasher),
        Value::Id(id) => hash_id(*id, hasher),
        Value::Integer(number) => number.hash(hasher),
        Value::Flag(flag) => flag.hash(hasher),
        _ => hasher.write_u8(0),
    }
}

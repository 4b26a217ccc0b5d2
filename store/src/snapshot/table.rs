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
    in_order: Order<u128, Arc<Row>>,
    children: Vec<Children>,
    /// Rows that end, the first to end first; only entities with `ttl` have some.
    ends: Order<(i64, u128), Arc<Row>>,
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
    /// By parent, then by their own id.
    rows: Order<(u128, u128), Arc<Row>>,
}

impl Children {
    fn key_of(&self) -> impl Fn(&Arc<Row>) -> (u128, u128) + Copy + use<> {
        let place = self.place;
        move |row| match row.at(place) {
            Value::Id(parent) => (parent.as_u128(), id_of(row)),
            _ => (0, id_of(row)),
        }
    }
}

fn id_of(row: &Arc<Row>) -> u128 {
    row.id().as_u128()
}

fn end_of(row: &Arc<Row>) -> (i64, u128) {
    (row.expires_at_s().unwrap_or(i64::MAX), id_of(row))
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
                children.push(Children { field: field.name, place, rows: Order::default() });
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
            in_order: Order::default(),
            children,
            ends: Order::default(),
        }
    }

    /// A table of these rows, made at once: everything is sorted first, so nothing is moved twice.
    ///
    /// # Errors
    /// A row and what another one already has.
    pub(super) fn of(
        entity: &'static Entity,
        rows: &[Arc<Row>],
    ) -> Result<Self, (Arc<Row>, Taken)> {
        let mut table = Self::new(entity);
        let in_order = sorted(rows.iter().map(|row| (id_of(row), Arc::clone(row))));
        if !in_order.is_sorted_by(|one, two| one.0 < two.0) {
            // An id stands there twice, and the last row counts: as if they came one by one.
            for row in rows {
                table.put(row).map_err(|taken| (Arc::clone(row), taken))?;
            }
            return Ok(table);
        }
        let by_id = rows.iter().map(|row| (hash_of_id(row.id()), Arc::clone(row))).collect();
        table.by_id = Shards::of(by_id, |_, _| false).unwrap_or_default();
        for index in &mut table.unique {
            let keyed = |row: &Arc<Row>| Some((hash_of_row(index, row)?, Arc::clone(row)));
            let keyed = rows.iter().filter_map(keyed).collect();
            let taken = index.single.map_or(Taken::Key, Taken::Field);
            index.rows = Shards::of(keyed, |one, two| same(&index.places, one, two))
                .map_err(|row| (row, taken))?;
        }
        table.in_order = Order::of(in_order);
        for children in &mut table.children {
            let key_of = children.key_of();
            let has = |row: &&Arc<Row>| !row.at(children.place).is_null();
            let keyed = rows.iter().filter(has).map(|row| (key_of(row), Arc::clone(row)));
            children.rows = Order::of(sorted(keyed));
        }
        let ends = rows.iter().filter(|row| row.expires_at_s().is_some());
        table.ends = Order::of(sorted(ends.map(|row| (end_of(row), Arc::clone(row)))));
        Ok(table)
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
        self.in_order.from(start, id_of)
    }

    pub(super) fn children<'a>(
        &'a self,
        field: &str,
        parent: Uuid,
        after: Option<Uuid>,
    ) -> impl Iterator<Item = &'a Arc<Row>> + use<'a> {
        let start = (parent.as_u128(), after.map_or(0, |id| id.as_u128().saturating_add(1)));
        let children = self.children.iter().find(|children| children.field == field);
        children.into_iter().flat_map(move |children| {
            let rows = children.rows.from(Some(start), children.key_of());
            rows.take_while(move |row| *row.at(children.place) == Value::Id(parent))
        })
    }

    pub(super) fn expired(&self, now_s: i64, most: usize) -> Vec<Uuid> {
        let ended = self.ends.from(None, end_of).take_while(|row| !row.is_alive(now_s));
        ended.map(|row| row.id()).take(most).collect()
    }

    pub(super) fn put(&mut self, row: &Arc<Row>) -> Result<Option<Arc<Row>>, Taken> {
        let id = row.id();
        let before = self.get(id).cloned();
        for index in &self.unique {
            let other = hash_of_row(index, row).and_then(|hash| {
                index.rows.find(hash, |other| same(&index.places, other, row) && other.id() != id)
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
        self.in_order.insert(Arc::clone(row), id_of);
        for children in &mut self.children {
            if !row.at(children.place).is_null() {
                let key_of = children.key_of();
                children.rows.insert(Arc::clone(row), key_of);
            }
        }
        if row.expires_at_s().is_some() {
            self.ends.insert(Arc::clone(row), end_of);
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
        self.in_order.remove(id.as_u128(), id_of);
        for children in &mut self.children {
            if !row.at(children.place).is_null() {
                let key_of = children.key_of();
                children.rows.remove(key_of(row), key_of);
            }
        }
        if row.expires_at_s().is_some() {
            self.ends.remove(end_of(row), end_of);
        }
    }
}

/// The hash of a row in an index; `None` where the index leaves it out.
fn hash_of_row(index: &Unique, row: &Row) -> Option<u64> {
    let left_out =
        index.single.is_some() && index.places.iter().all(|place| row.at(*place).is_null());
    (!left_out).then(|| hash_of_places(&index.places, row))
}

fn sorted<K: Ord + Copy>(keyed: impl Iterator<Item = (K, Arc<Row>)>) -> Vec<(K, Arc<Row>)> {
    let mut keyed: Vec<(K, Arc<Row>)> = keyed.collect();
    keyed.sort_unstable_by_key(|(key, _)| *key);
    keyed
}

fn same(places: &[usize], one: &Row, two: &Row) -> bool {
    places.iter().all(|place| one.at(*place) == two.at(*place))
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

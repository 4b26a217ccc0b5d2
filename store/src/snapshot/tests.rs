//! Tables beside a plain map, and what a write costs among a million rows.

use super::{Tables, Taken};
use crate::schema::{Catalogue, samples};
use crate::value::{Row, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use uuid::Uuid;

fn key(catalogue: &Catalogue, id: u128, parent: u128, key: &str, version: u64) -> Arc<Row> {
    let text = |id: u128| Value::text(Uuid::from_u128(id).to_string());
    let object = Value::object([
        ("id", text(id)),
        ("consumer", Value::object([("id", text(parent))])),
        ("key", Value::text(key)),
    ]);
    Arc::new(Row::pack(&samples::KEYAUTH, catalogue, object, version))
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

/// Random writes beside a map; after each hundred an older snapshot is looked at again.
fn run(seed: u64) {
    const NAME: &str = "keyauth_credentials";
    let catalogue = samples::catalogue();
    let (mut random, mut tables) = (Random(seed), Tables::new(&catalogue));
    let mut model: BTreeMap<u128, (u128, String)> = BTreeMap::new();
    let mut older = (tables.clone(), model.clone());
    for round in 0..4_000_u64 {
        let id = u128::from(random.below(800)) << 64;
        if random.below(4) == 0 {
            let removed = tables.remove(&samples::KEYAUTH, Uuid::from_u128(id)).is_some();
            assert_eq!(removed, model.remove(&id).is_some());
        } else {
            let (parent, name) = (u128::from(random.below(9)), random.below(900).to_string());
            let owner = model.iter().find(|(_, (_, known))| *known == name).map(|(id, _)| *id);
            let put = tables.put(&key(&catalogue, id, parent, &name, round));
            if owner.is_some_and(|owner| owner != id) {
                assert_eq!(put.unwrap_err(), Taken::Field("key"));
            } else {
                assert_eq!(put.unwrap().is_some(), model.insert(id, (parent, name)).is_some());
            }
        }
        if round % 100 == 0 {
            same(&older.0, &older.1);
            older = (tables.clone(), model.clone());
        }
    }
    same(&tables, &model);
    // Made at once of the same rows in any order, and then written to, it is the same.
    let mut rows: Vec<Arc<Row>> = tables.all(NAME).cloned().collect();
    rows.sort_by_key(|row| row.version());
    let mut filled = Tables::filled(&catalogue, rows).unwrap();
    same(&filled, &model);
    for row in tables.all(NAME).filter(|row| row.version() % 3 == 0) {
        assert!(filled.remove(&samples::KEYAUTH, row.id()).is_some());
        assert!(filled.put(row).unwrap().is_none());
    }
    same(&filled, &model);

    fn same(tables: &Tables, model: &BTreeMap<u128, (u128, String)>) {
        assert_eq!(tables.len(NAME), model.len());
        assert!(tables.all(NAME).map(|row| row.id().as_u128()).eq(model.keys().copied()));
        for (id, (_, name)) in model {
            assert_eq!(tables.by(NAME, "key", name).unwrap().id().as_u128(), *id);
            assert_eq!(tables.get(NAME, Uuid::from_u128(*id)).unwrap().text("key"), Some(&**name));
        }
        assert!(tables.by(NAME, "key", "none").is_none());
        for parent in 0..9 {
            let after = Uuid::from_u128(400 << 64);
            let ours = tables.children(NAME, "consumer", Uuid::from_u128(parent), Some(after));
            let theirs =
                model.iter().filter(|(id, (of, _))| *of == parent && **id > after.as_u128());
            assert!(ours.map(|row| row.id().as_u128()).eq(theirs.map(|(id, _)| *id)));
        }
    }
}

#[test]
fn tables_are_maps_and_snapshots_stand_still() {
    (1..9).for_each(run);
}

#[test]
fn rows_that_contradict_each_other_are_told_from() {
    let catalogue = samples::catalogue();
    let rows = |last: Arc<Row>| {
        let mut rows: Vec<_> =
            (0..1_000).map(|n| key(&catalogue, n, 7, &format!("k{n}"), 1)).collect();
        rows.push(last);
        Tables::filled(&catalogue, rows).map_err(|(row, taken)| (row.id().as_u128(), taken))
    };
    let found = rows(key(&catalogue, 5_000, 7, "k500", 2)).unwrap_err();
    assert!(found.0 == 5_000 || found.0 == 500, "either of the two");
    assert_eq!(found.1, Taken::Field("key"));
    let replaced = rows(key(&catalogue, 500, 7, "other", 2)).unwrap();
    assert_eq!(replaced.len("keyauth_credentials"), 1_000);
    assert!(replaced.by("keyauth_credentials", "key", "k500").is_none());
    assert!(replaced.by("keyauth_credentials", "key", "other").is_some());
    assert!(rows(key(&catalogue, 5_000, 7, "last", 2)).is_ok());
}

#[test]
fn plugins_are_found_by_their_scope() {
    let catalogue = samples::catalogue();
    let entity = catalogue.entity("plugins").unwrap();
    let mut tables = Tables::new(&catalogue);
    let text = |id: u128| Value::text(Uuid::from_u128(id).to_string());
    let consumer = |id: u128| match id {
        0 => Value::Null,
        id => Value::object([("id", text(id))]),
    };
    for id in 0..3 {
        let object = Value::object([
            ("id", text(id + 10)),
            ("name", Value::text("cors")),
            ("consumer", consumer(id)),
        ]);
        tables.put(&Arc::new(Row::pack(entity, &catalogue, object, 1))).unwrap();
    }
    let scope = |consumer: Value| [Value::text("cors"), Value::Null, Value::Null, consumer];
    let found = |consumer: Value| tables.by_key("plugins", &scope(consumer)).map(|row| row.id());
    assert_eq!(found(Value::Null), Some(Uuid::from_u128(10)));
    assert_eq!(found(Value::Id(Uuid::from_u128(2))), Some(Uuid::from_u128(12)));
    assert_eq!(found(Value::Id(Uuid::from_u128(3))), None);
    let again = Value::object([("id", text(99)), ("name", Value::text("cors"))]);
    let again = Arc::new(Row::pack(entity, &catalogue, again, 1));
    assert_eq!(tables.put(&again).unwrap_err(), Taken::Key);
}

fn resident_bytes() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<f64>().unwrap() * 4096.0
}

/// Time that this thread has had a processor, in nanoseconds: other work on the machine does not
/// count.
fn busy_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// Prints what a million credentials cost. Run it alone, optimised:
/// `cargo test -p store --profile quick -- --ignored --nocapture a_million`.
#[test]
#[ignore = "measures; takes seconds and wants an idle machine"]
fn a_million_rows() {
    const ROWS: u64 = 1_000_000;
    const NAME: &str = "keyauth_credentials";
    let catalogue = samples::catalogue();
    let mut random = Random(7);
    let mut id =
        || u128::from(random.below(1 << 30)) << 90 | u128::from(random.below(1 << 30)) << 40;
    let before = resident_bytes();
    let rows: Vec<Arc<Row>> =
        (0..ROWS).map(|n| key(&catalogue, id(), id(), &format!("{n:032}"), n)).collect();
    let with_rows = resident_bytes();
    let begun = busy_ns();
    let mut one_by_one = Tables::new(&catalogue);
    for row in &rows {
        one_by_one.put(row).unwrap();
    }
    println!("one by one {} ns a row", (busy_ns() - begun) / ROWS);
    drop(one_by_one);
    let with_rows = resident_bytes().max(with_rows);
    let begun = Instant::now();
    let mut tables = Tables::filled(&catalogue, rows.clone()).unwrap();
    let built = u64::try_from(begun.elapsed().as_nanos()).unwrap();
    let per_row = |bytes: f64| bytes / tables.len(NAME) as f64;
    println!("rows in tables {}", tables.len(NAME));
    println!("bytes a row: the row {:.0}", per_row(with_rows - before));
    println!("bytes a row: tables {:.0}", per_row(resident_bytes() - with_rows));
    println!("build {} ms, {} ns a row", built / 1_000_000, built / ROWS);

    let mut times = Vec::new();
    for n in 0..2_000_u64 {
        let row = key(&catalogue, id(), id(), &format!("new{n}"), n);
        let held = tables.clone();
        let begun = Instant::now();
        tables.put(&row).unwrap();
        times.push(begun.elapsed());
        drop(held);
    }
    times.sort();
    println!("write with a snapshot held: p50 {:?}, p99 {:?}", times[1_000], times[1_980]);

    let begun = busy_ns();
    let hits = (0..ROWS).filter(|n| {
        let n = n.wrapping_mul(2_654_435_761) % ROWS;
        tables.by(NAME, "key", &format!("{n:032}")).is_some()
    });
    println!("{} keys found, {} ns each", hits.count(), (busy_ns() - begun) / ROWS);
    let begun = busy_ns();
    let hits = rows.iter().step_by(7).filter(|row| tables.get(NAME, row.id()).is_some()).count();
    println!("{hits} ids found, {} ns each", (busy_ns() - begun) / hits as u64);
    let begun = busy_ns();
    let count = tables.all(NAME).count();
    println!("{count} rows in order, {} ms", (busy_ns() - begun) / 1_000_000);
    let begun = busy_ns();
    drop(tables);
    println!("dropped in {} ms", (busy_ns() - begun) / 1_000_000);
}

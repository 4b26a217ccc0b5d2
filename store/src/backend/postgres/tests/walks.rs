//! The walk through large tables: what nobody announced is found, in one piece.

use super::server::Postgres as Real;
use super::{Postgres, database};
use crate::backend::{Backend, Found, Turn};
use crate::schema::{Catalogue, samples};
use crate::snapshot::Tables;
use crate::value::Row;
use std::sync::Arc;

/// More than a table that is looked through at every change, and several pages.
const ROWS: usize = 9_500;
/// More turns than a walk has pages.
const TURNS_MAX: usize = 12;

struct Walker {
    real: &'static Real,
    name: &'static str,
    backend: Postgres,
    tables: Tables,
}

impl Walker {
    /// Every tenth key will end.
    fn start(name: &'static str) -> Self {
        let real = database(name);
        let sql = format!(
            "INSERT INTO consumers (id, username, ws_id, created_at) \
             SELECT md5('c' || n)::uuid, 'c' || n, w.id, now() \
             FROM generate_series(1, {ROWS}) n, workspaces w; \
             INSERT INTO keyauth_credentials (id, consumer_id, key, ws_id, created_at, ttl) \
             SELECT md5('k' || n)::uuid, md5('c' || n)::uuid, 'k' || n, w.id, now(), \
             CASE WHEN n % 10 = 0 THEN now() + INTERVAL '1 day' END \
             FROM generate_series(1, {ROWS}) n, workspaces w"
        );
        real.sql(name, &sql).unwrap();
        let catalogue: Catalogue = samples::catalogue();
        let mut backend = Postgres::open(real.plan(name, 1)).unwrap();
        let mut rows = Vec::new();
        backend.load(&catalogue, &mut |row| rows.push(Arc::new(row))).unwrap();
        let tables = Tables::filled(&catalogue, rows).unwrap();
        assert_eq!(tables.len("consumers"), ROWS);
        Self { real, name, backend, tables }
    }

    fn sql(&self, sql: &str) {
        self.real.sql(self.name, sql).unwrap();
    }

    fn turn(&mut self) -> Vec<Found> {
        self.backend.begin(Turn::Follow, &self.tables).unwrap()
    }

    fn take(&mut self, found: Vec<Found>) {
        for Found { entity, id, row } in found {
            self.tables.remove(entity, id);
            if let Some(row) = row {
                self.tables.put(&Arc::new(row)).unwrap();
            }
        }
    }

    /// Walks until something is found or the walk has come to its end.
    fn walk(&mut self) -> Vec<Found> {
        self.backend.known.as_mut().unwrap().patrol.hurry();
        for _ in 0..TURNS_MAX {
            let found = self.turn();
            if !found.is_empty() || self.backend.known.as_ref().unwrap().patrol.rests() {
                return found;
            }
        }
        panic!("the walk has no end");
    }
}

#[test]
fn what_nobody_announced_in_a_large_table_is_found_in_one_piece() {
    let mut walker = Walker::start("walks");
    assert!(walker.walk().is_empty(), "nothing has happened");
    walker.sql(
        "BEGIN; UPDATE consumers SET custom_id = 'by hand' WHERE username = 'c17'; \
         DELETE FROM consumers WHERE username = 'c18'; \
         INSERT INTO consumers (id, username, ws_id) \
         SELECT md5('new')::uuid, 'new', id FROM workspaces; COMMIT",
    );
    assert!(walker.turn().is_empty(), "an ordinary look is led by events");
    // The cursor is past it, and only the walk still asks since when.
    let found = walker.walk();
    assert_eq!(found.len(), 4, "two consumers, one gone with its key: {found:#?}");
    walker.take(found);
    let by_hand = walker.tables.by("consumers", "username", "c17").unwrap();
    assert_eq!(by_hand.text("custom_id"), Some("by hand"));
    assert!(walker.tables.by("consumers", "username", "c18").is_none());
    assert!(walker.tables.by("consumers", "username", "new").is_some());
    assert!(walker.walk().is_empty(), "all of it is known");
}

/// Rows that have ended are not read any more, and here they may still be.
#[test]
fn rows_that_have_ended_raise_no_alarm() {
    const PAST_S: i64 = 1_700_000_000;
    let mut walker = Walker::start("walks_on");
    walker.sql(&format!(
        "UPDATE keyauth_credentials SET ttl = TO_TIMESTAMP({PAST_S}) WHERE ttl IS NOT NULL"
    ));
    let keys = walker.tables.all("keyauth_credentials");
    let ends = keys.filter(|row| row.expires_at_s().is_some());
    let ended = ends.map(|row| Arc::new(Row::clone(row).expiring(Some(PAST_S))));
    let ended: Vec<Arc<Row>> = ended.collect();
    assert_eq!(ended.len(), ROWS / 10);
    for row in &ended {
        walker.tables.put(row).unwrap();
    }
    assert!(walker.walk().is_empty());
    assert_eq!(walker.tables.len("keyauth_credentials"), ROWS);
}

/// What other nodes announce during a walk is found by its event, and the walk goes on.
#[test]
fn a_walk_goes_on_while_others_write() {
    let mut walker = Walker::start("walks_beside");
    let mut other = Postgres::open(walker.real.plan(walker.name, 2)).unwrap();
    other.load(&samples::catalogue(), &mut |_| {}).unwrap();
    walker.backend.known.as_mut().unwrap().patrol.hurry();
    let mut turns = 0;
    while turns == 0 || !walker.backend.known.as_ref().unwrap().patrol.rests() {
        turns += 1;
        assert!(turns < TURNS_MAX, "it does not come to an end");
        let id = uuid::Uuid::from_u128(turns as u128 + 1).to_string();
        let row = serde_json::json!({"id": id, "username": format!("while-{turns}")});
        let row = crate::script::row(&samples::catalogue(), "consumers", &row).unwrap();
        let entity = row.entity();
        let change = crate::snapshot::Change { entity, before: None, after: Some(row) };
        other.commit(&[change]).unwrap();
        let found = walker.turn();
        assert_eq!(found.len(), 1, "{found:#?}");
        walker.take(found);
    }
    assert!(walker.walk().is_empty());
}

/// Nothing that was known counts any more, and there are many rows: calls are refused at once while
/// all of them are compared.
#[test]
fn many_rows_are_compared_beside_the_calls() {
    let mut walker = Walker::start("compares");
    walker.sql("DELETE FROM consumers WHERE username IN ('c1', 'c2')");
    walker.backend.known.as_mut().unwrap().cursor = None;
    let refused = walker.backend.begin(Turn::Write, &walker.tables).unwrap_err();
    assert!(refused.0.contains("being compared"), "{refused}");
    let begun = std::time::Instant::now();
    let found = loop {
        match walker.backend.begin(Turn::Read, &walker.tables) {
            Ok(found) => break found,
            Err(why) => assert!(why.0.contains("being compared"), "{why}"),
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(30));
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    assert_eq!(found.len(), 4, "two consumers and their keys");
    walker.take(found);
    assert!(walker.turn().is_empty());
    walker.backend.begin(Turn::Write, &walker.tables).unwrap();
    walker.backend.commit(&[]).unwrap();
}

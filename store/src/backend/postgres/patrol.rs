//! The walk through large tables for what nobody announced: page by page, every so often.
//!
//! ```text
//! rest (300 s) ─► page, pause, page, pause, … ─► rest
//!                   └─ something differs ─► alarm: the next look reads all of it at once
//! ```
//! A page is compared with what we have in the same snapshot of the database as the look of its
//! turn, and takes milliseconds, so that a call waits for a page at most. What a page finds is not
//! taken over by itself, because more of the same transaction may lie on other pages: the alarm
//! makes a look through every table that takes all of it over in one piece.

use super::columns::Table;
use super::follow::{Cursor, Eyes, SMALL_ROWS_MAX, Seen, TOP, UNSEEN};
use super::link::Trouble;
use crate::snapshot::Tables;
use crate::value::Row;
use std::collections::HashSet;
use std::sync::Arc;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

/// Between two walks, in seconds.
const REST_S: f64 = 300.0;
/// Between two pages, in milliseconds: the time is the calls'.
pub(super) const PAUSE_MS: u64 = 40;
/// Rows of one page.
const PAGE_ROWS: usize = 4_000;
/// A row that ends so soon, in seconds, may be there or not.
const ENDING_S: i64 = 2;

/// Where the walk is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Patrol {
    /// Everything was seen as it was here; none: not yet.
    since: Option<Cursor>,
    /// This walk began here; none: it rests.
    begun: Option<Cursor>,
    place: Place,
    alarmed: bool,
}

/// A table, by its place among the stored ones, and the first id of the next page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    table: usize,
    id: Uuid,
}

/// What came of one page.
#[derive(Debug)]
pub(super) enum Step {
    /// The walk goes on there, or is at its end.
    On(Cursor, Option<Place>),
    /// Something differs.
    Alarm,
}

impl Patrol {
    /// Everything was seen as it is at `now`.
    pub(super) fn rest(&mut self, now: &Cursor) {
        *self = Self { since: Some(now.clone()), ..Self::default() };
    }

    /// Since when nobody has looked at large tables.
    pub(super) fn since(&self) -> Option<&Cursor> {
        self.since.as_ref()
    }

    /// Whether there is a page to look at.
    pub(super) fn is_on(&self, now: &Cursor) -> bool {
        let due = |since: &Cursor| now.now_s - since.now_s > REST_S;
        self.begun.is_some() || self.alarmed || self.since.as_ref().is_some_and(due)
    }

    /// Whether all tables must be looked through at once.
    pub(super) fn is_alarmed(&self) -> bool {
        self.alarmed
    }

    /// Takes a step; tells whether there is another one to be made soon.
    pub(super) fn take(&mut self, step: Step) -> bool {
        match step {
            Step::Alarm => self.alarmed = true,
            Step::On(now, Some(place)) => {
                self.begun.get_or_insert(now);
                self.place = place;
            }
            Step::On(now, None) => {
                // What was written during the walk may lie on pages that were behind it.
                let begun = self.begun.take().unwrap_or(now);
                self.rest(&begun);
                return false;
            }
        }
        true
    }

    /// Ends the rest, for tests.
    #[cfg(test)]
    pub(super) fn hurry(&mut self) {
        if let Some(since) = &mut self.since {
            since.now_s -= 2.0 * REST_S;
        }
    }

    /// Whether it rests.
    #[cfg(test)]
    pub(super) fn rests(&self) -> bool {
        self.begun.is_none() && !self.alarmed
    }

    /// Looks at the next page, in the transaction of the look that saw `seen`.
    pub(super) async fn step(&self, eyes: &Eyes<'_>, seen: &Seen) -> Result<Step, Trouble> {
        let now = seen.cursor.clone();
        let Some(since) = &self.since else { return Ok(Step::On(now, None)) };
        let ahead = eyes.stored.iter().enumerate().skip(self.place.table);
        let mut large =
            ahead.filter(|(_, table)| eyes.tables.len(table.entity.name) > SMALL_ROWS_MAX);
        let Some((number, table)) = large.next() else { return Ok(Step::On(now, None)) };
        let from = if number == self.place.table { self.place.id } else { Uuid::nil() };
        let rows = page(eyes, table, since, from).await?;
        let last = (rows.len() == PAGE_ROWS).then(|| rows.last().map(|(id, _)| *id)).flatten();
        let here: Vec<&Arc<Row>> = ours(eyes.tables, table, from, last).collect();
        let found = seen.found.iter().filter(|found| found.entity == table.entity);
        let mut apart: HashSet<Uuid> = found.map(|found| found.id).collect();
        let soon_s = seen.cursor.now_s as i64 + ENDING_S;
        apart.extend(here.iter().filter(|row| !row.is_alive(soon_s)).map(|row| row.id()));
        let counts = |id: &Uuid| !apart.contains(id);
        let there = rows.iter().map(|(id, _)| *id).filter(counts);
        if !there.eq(here.iter().map(|row| row.id()).filter(counts)) {
            return Ok(Step::Alarm);
        }
        let unseen = rows.iter().filter(|(id, unseen)| *unseen && counts(id));
        let unseen: HashSet<Uuid> = unseen.map(|(id, _)| *id).collect();
        let mut found = Vec::new();
        if !unseen.is_empty() {
            eyes.by_id(table, &unseen, &mut found).await?;
        }
        if !found.is_empty() {
            return Ok(Step::Alarm);
        }
        let next = last.and_then(|id| id.as_u128().checked_add(1)).map(Uuid::from_u128);
        let next = next
            .map_or(Place { table: number + 1, id: Uuid::nil() }, |id| Place { table: number, id });
        Ok(Step::On(now, Some(next)))
    }
}

/// Ids from `from` on, in order, and whether the row is newer than `since`.
async fn page(
    eyes: &Eyes<'_>,
    table: &Table,
    since: &Cursor,
    from: Uuid,
) -> Result<Vec<(Uuid, bool)>, Trouble> {
    let sql = format!(
        "SELECT id, {UNSEEN} FROM (SELECT id, xmin FROM {} WHERE {} AND id >= $3::uuid \
         ORDER BY id LIMIT {PAGE_ROWS}) AS page, {TOP} ORDER BY id",
        table.name(),
        table.condition()
    );
    let from = from.to_string();
    let given: [(&(dyn ToSql + Sync), Type); 3] =
        [(&eyes.workspace, Type::TEXT), (&since.snapshot, Type::TEXT), (&from, Type::TEXT)];
    let rows = eyes.client.query_typed(&sql, &given).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Our rows of that page, which ends with the table or with `last`.
fn ours<'a>(
    tables: &'a Tables,
    table: &Table,
    from: Uuid,
    last: Option<Uuid>,
) -> impl Iterator<Item = &'a Arc<Row>> + use<'a> {
    let before = from.as_u128().checked_sub(1).map(Uuid::from_u128);
    let rows = tables.after(table.entity.name, before);
    rows.take_while(move |row| last.is_none_or(|last| row.id() <= last))
}

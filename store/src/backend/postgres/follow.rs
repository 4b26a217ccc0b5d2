//! What others wrote since we last looked.
//!
//! ```text
//! cursor (the database's own list of finished transactions)
//!   ├─ the same as now?            nothing has happened
//!   ├─ events not seen by it       rows named by other nodes, Kong's or ours: read by id
//!   └─ rows not seen by it         small tables, always; all tables after a long absence:
//!                                  new and changed rows, and deletions by counting
//! ```
//! Large tables are also walked through now and then (`patrol`).
//! A row's `xmin` against the cursor says exactly whether the row is newer than our last look, so
//! what nobody announced (a cascade, an import, a hand in the database) is found as well. All of
//! it is read in one snapshot of the database: what comes of it is never a mixture.

use super::columns::Table;
use super::events::{self, About};
use super::link::Trouble;
use crate::backend::Found;
use crate::schema::{Catalogue, Entity};
use crate::snapshot::Tables;
use crate::value::Row;
use futures_util::TryStreamExt;
use std::collections::{BTreeSet, HashSet};
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// Tables up to this many rows are looked through at every change; larger ones are followed by
/// their events.
pub(super) const SMALL_ROWS_MAX: usize = 5_000;
/// Most rows that are named one by one; above it the whole table is looked through.
const NAMED_ROWS_MAX: usize = 20_000;
/// How far back events are searched behind the last look: longer than any transaction takes.
const OVERLAP_S: f64 = 120.0;
/// Kong deletes events after an hour; an absence near it needs a look at every row.
const ABSENCE_S_MAX: f64 = 3_000.0;

/// Where we are in the database's history.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cursor {
    /// `txid_current_snapshot()`.
    pub(super) snapshot: String,
    /// The database's clock, Unix time in seconds.
    pub(super) now_s: f64,
}

/// Whether a row is newer than the cursor in `$2`. The age alone tells it of most rows, and costs
/// little; what remains is asked by the transaction's number, made one that never wraps.
pub(super) const UNSEEN: &str = "(age(xmin) <= top.age AND NOT txid_visible_in_snapshot(\
     ((top.txid >> 32) - (CASE WHEN xmin::text::bigint > (top.txid & 4294967295) \
     THEN 1 ELSE 0 END)) * 4294967296 + xmin::text::bigint, $2::txid_snapshot))";
/// What [`UNSEEN`] needs beside the table.
pub(super) const TOP: &str = "(SELECT txid_snapshot_xmax(txid_current_snapshot()) AS txid, \
     age((txid_snapshot_xmin($2::txid_snapshot) & 4294967295)::text::xid) AS age OFFSET 0) AS top";

/// All that a look needs.
pub(super) struct Eyes<'a> {
    /// The connection, in a transaction.
    pub(super) client: &'a Client,
    /// What can be configured.
    pub(super) catalogue: &'a Catalogue,
    /// How it is stored.
    pub(super) stored: &'a [Table],
    /// The workspace.
    pub(super) workspace: &'a str,
    /// This node's id, whose events say nothing new.
    pub(super) node: &'a str,
    /// What we know.
    pub(super) tables: &'a Tables,
}

/// Transactions that may have begun between a look and our own one, in the list of the unfinished.
const BETWEEN_MAX: u64 = 64;

impl Cursor {
    /// The same when our own transaction `number`, which began after it, is committed: what is in
    /// it is known.
    pub(super) fn with(self, number: u64) -> Self {
        let next = next_number(&self.snapshot);
        let Some(between) = number.checked_sub(next).filter(|count| *count <= BETWEEN_MAX) else {
            return self;
        };
        let open = self.snapshot.split(':').nth(2).unwrap_or_default().split(',');
        let mut open: Vec<u64> = open.filter_map(|number| number.parse().ok()).collect();
        open.extend(next..next + between);
        let oldest = open.first().copied().unwrap_or(number + 1);
        let open: Vec<String> = open.iter().map(u64::to_string).collect();
        Self { snapshot: format!("{oldest}:{}:{}", number + 1, open.join(",")), ..self }
    }
}

/// What a look came to.
pub(super) struct Seen {
    /// Rows that differ from what we know.
    pub(super) found: Vec<Found>,
    /// Where we are now.
    pub(super) cursor: Cursor,
    /// Whether every table was looked through.
    pub(super) thorough: bool,
}

/// Where the database is now.
pub(super) async fn cursor(client: &Client) -> Result<Cursor, Trouble> {
    let sql = "SELECT txid_current_snapshot()::text, \
               EXTRACT(EPOCH FROM clock_timestamp())::float8";
    let row = client.query_typed_one(sql, &[]).await?;
    Ok(Cursor { snapshot: row.try_get(0)?, now_s: row.try_get(1)? })
}

/// Whether events may have been deleted between the two.
pub(super) fn is_long(since: &Cursor, now: &Cursor) -> bool {
    now.now_s - since.now_s > ABSENCE_S_MAX
}

/// The next transaction's number in a list of finished transactions (`xmin:xmax:…`).
fn next_number(snapshot: &str) -> u64 {
    snapshot.split(':').nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

impl Eyes<'_> {
    /// Looks for what is newer than `since`. `thorough` looks through every table.
    ///
    /// `None`: the database is older than we are (it was restored), so only a whole reading helps.
    pub(super) async fn look(
        &self,
        since: &Cursor,
        thorough: bool,
    ) -> Result<Option<Seen>, Trouble> {
        let now = cursor(self.client).await?;
        if now.snapshot == since.snapshot && !thorough {
            return Ok(Some(Seen { found: Vec::new(), cursor: now, thorough: false }));
        }
        if next_number(&now.snapshot) < next_number(&since.snapshot) {
            return Ok(None);
        }
        let thorough = thorough || is_long(since, &now);
        let mut found = Vec::new();
        let mut large = BTreeSet::new();
        for (entity, ids) in self.announced(since).await? {
            let Some(table) = self.table(entity) else { continue };
            if ids.len() > NAMED_ROWS_MAX {
                large.insert(entity.name);
            } else {
                self.by_id(table, &ids, &mut found).await?;
            }
        }
        self.unannounced(since, &mut found, |table| {
            let name = table.entity.name;
            thorough || large.contains(name) || self.tables.len(name) <= SMALL_ROWS_MAX
        })
        .await?;
        Ok(Some(Seen { found, cursor: now, thorough }))
    }

    fn table(&self, entity: &Entity) -> Option<&Table> {
        self.stored.iter().find(|table| table.entity == entity)
    }

    /// Ids of the rows that events name.
    async fn announced(
        &self,
        since: &Cursor,
    ) -> Result<Vec<(&'static Entity, HashSet<Uuid>)>, Trouble> {
        let sql = format!(
            "SELECT channel, data FROM cluster_events, {TOP} \
             WHERE at > TO_TIMESTAMP($1::float8) AND node_id <> $3::uuid \
             AND channel = ANY($4) AND {UNSEEN} ORDER BY at"
        );
        let from = (since.now_s - OVERLAP_S).to_string();
        let rows = self
            .client
            .query_typed(
                &sql,
                &[
                    (&from, Type::TEXT),
                    (&since.snapshot, Type::TEXT),
                    (&self.node, Type::TEXT),
                    (&events::CHANNELS, Type::TEXT_ARRAY),
                ],
            )
            .await?;
        let mut named: Vec<(&'static Entity, HashSet<Uuid>)> = Vec::new();
        let mut done = HashSet::new();
        for row in &rows {
            let (channel, data): (Option<&str>, Option<&str>) = (row.try_get(0)?, row.try_get(1)?);
            let (channel, data) = (channel.unwrap_or_default(), data.unwrap_or_default());
            let Some(about) = events::about(self.catalogue, channel, data) else { continue };
            if !done.insert((channel, data)) {
                continue;
            }
            let (entity, ids) = self.ids(&about).await?;
            match named.iter_mut().find(|(known, _)| *known == entity) {
                Some((_, all)) => all.extend(ids),
                None => named.push((entity, ids.into_iter().collect())),
            }
        }
        Ok(named)
    }

    /// The rows, here and in the database, that an event may be about.
    async fn ids(&self, about: &About) -> Result<(&'static Entity, Vec<Uuid>), Trouble> {
        match about {
            About::Id(entity, id) => Ok((entity, vec![*id])),
            About::Children(entity, field, parent) => {
                let values = vec![(*field, parent.to_string())];
                let here = self.tables.children(entity.name, field, *parent, None);
                let mut ids: Vec<Uuid> = here.map(|row| row.id()).collect();
                ids.extend(self.ids_by(entity, &values).await?);
                Ok((entity, ids))
            }
            About::Key(entity, values) => {
                let mut ids = self.ids_by(entity, values).await?;
                ids.extend(self.here(entity, values));
                Ok((entity, ids))
            }
        }
    }

    fn here(&self, entity: &'static Entity, values: &[(&'static str, String)]) -> Vec<Uuid> {
        let row = match values {
            [(field, value)] => self.tables.by(entity.name, field, value),
            _ => self.tables.by_key(entity.name, &events::key_values(entity, values)),
        };
        row.into_iter().map(|row| row.id()).collect()
    }

    async fn ids_by(
        &self,
        entity: &'static Entity,
        values: &[(&'static str, String)],
    ) -> Result<Vec<Uuid>, Trouble> {
        let Some(table) = self.table(entity) else { return Ok(Vec::new()) };
        let (mut conditions, mut given) = (vec![table.condition()], vec![self.workspace]);
        for (field, value) in values {
            let Some(column) = table.column_of(field) else { return Ok(Vec::new()) };
            if value.is_empty() {
                conditions.push(format!("{column} IS NULL"));
                continue;
            }
            if events::is_id(entity, field) && crate::value::parse_uuid(value).is_none() {
                return Ok(Vec::new());
            }
            given.push(value);
            let cast = if events::is_id(entity, field) { "::uuid" } else { "" };
            conditions.push(format!("{column} = ${}{cast}", given.len()));
        }
        let sql = format!("SELECT id FROM {} WHERE {}", table.name(), conditions.join(" AND "));
        let given: Vec<(&(dyn tokio_postgres::types::ToSql + Sync), Type)> =
            given.iter().map(|text| (text as _, Type::TEXT)).collect();
        let rows = self.client.query_typed(&sql, &given).await?;
        rows.iter().map(|row| row.try_get(0).map_err(Trouble::from)).collect()
    }

    /// Reads rows by id; those that are gone are found as gone.
    pub(super) async fn by_id(
        &self,
        table: &Table,
        ids: &HashSet<Uuid>,
        found: &mut Vec<Found>,
    ) -> Result<(), Trouble> {
        let sql = format!(
            "SELECT {} FROM {} WHERE {} AND id = ANY($2::uuid[])",
            table.selection(),
            table.name(),
            table.condition()
        );
        let list: Vec<String> = ids.iter().map(Uuid::to_string).collect();
        let given: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
            [(&self.workspace, Type::TEXT), (&list, Type::TEXT_ARRAY)];
        let mut left = ids.clone();
        for row in self.client.query_typed(&sql, &given).await? {
            let row = table.read(self.catalogue, &row).map_err(Trouble::Said)?;
            left.remove(&row.id());
            self.differs(table.entity, row, found);
        }
        for id in left {
            if self.tables.get(table.entity.name, id).is_some() {
                found.push(Found { entity: table.entity, id, row: None });
            }
        }
        Ok(())
    }

    fn differs(&self, entity: &'static Entity, row: Row, found: &mut Vec<Found>) {
        let known = self.tables.get(entity.name, row.id());
        if known.is_none_or(|known| !known.says_the_same(&row)) {
            found.push(Found { entity, id: row.id(), row: Some(row) });
        }
    }

    /// Looks through tables for rows that are newer than the cursor, and for rows that are gone.
    async fn unannounced(
        &self,
        since: &Cursor,
        found: &mut Vec<Found>,
        wanted: impl Fn(&Table) -> bool,
    ) -> Result<(), Trouble> {
        let wanted: Vec<&Table> = self.stored.iter().filter(|table| wanted(table)).collect();
        let one = |table: &&Table| {
            format!(
                "SELECT '{}', count(*), count(*) FILTER (WHERE {UNSEEN}) FROM {}, {TOP} WHERE {}",
                table.entity.name,
                table.name(),
                table.condition()
            )
        };
        let sql: Vec<String> = wanted.iter().map(one).collect();
        if sql.is_empty() {
            return Ok(());
        }
        let given: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
            [(&self.workspace, Type::TEXT), (&since.snapshot, Type::TEXT)];
        let rows = self.client.query_typed(&sql.join(" UNION ALL "), &given).await?;
        for row in &rows {
            let (name, count, newer): (&str, i64, i64) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let Some(table) = wanted.iter().find(|table| table.entity.name == name) else {
                continue;
            };
            if newer > 0 {
                self.newer(table, since, found).await?;
            }
            let here = self.known(table.entity, found);
            if usize::try_from(count).ok() != Some(here) {
                self.gone(table, found).await?;
            }
        }
        Ok(())
    }

    /// How many rows there are here once what was found is taken over.
    fn known(&self, entity: &'static Entity, found: &[Found]) -> usize {
        let mut count = self.tables.len(entity.name);
        for found in found.iter().filter(|found| found.entity == entity) {
            match (&found.row, self.tables.get(entity.name, found.id)) {
                (Some(_), None) => count += 1,
                (None, Some(_)) => count = count.saturating_sub(1),
                _ => {}
            }
        }
        count
    }

    async fn newer(
        &self,
        table: &Table,
        since: &Cursor,
        found: &mut Vec<Found>,
    ) -> Result<(), Trouble> {
        let sql = format!(
            "SELECT {} FROM {}, {TOP} WHERE {} AND {UNSEEN}",
            table.selection(),
            table.name(),
            table.condition()
        );
        let given = [(self.workspace, Type::TEXT), (since.snapshot.as_str(), Type::TEXT)];
        let rows = self.client.query_typed_raw(&sql, given).await?;
        let mut rows = std::pin::pin!(rows);
        let known: HashSet<Uuid> =
            found.iter().filter(|f| f.entity == table.entity).map(|found| found.id).collect();
        while let Some(row) = rows.try_next().await? {
            let row = table.read(self.catalogue, &row).map_err(Trouble::Said)?;
            if !known.contains(&row.id()) {
                self.differs(table.entity, row, found);
            }
        }
        Ok(())
    }

    /// Compares all ids: what is here and not there is gone.
    async fn gone(&self, table: &Table, found: &mut Vec<Found>) -> Result<(), Trouble> {
        let sql = format!("SELECT id FROM {} WHERE {}", table.name(), table.condition());
        let given = [(self.workspace, Type::TEXT)];
        let rows = self.client.query_typed_raw(&sql, given).await?;
        let mut rows = std::pin::pin!(rows);
        let mut there = HashSet::new();
        while let Some(row) = rows.try_next().await? {
            there.insert(row.try_get::<_, Uuid>(0)?);
        }
        let entity = table.entity;
        there.extend(found.iter().filter(|found| found.entity == entity).map(|found| found.id));
        for row in self.tables.all(entity.name).filter(|row| !there.contains(&row.id())) {
            found.push(Found { entity, id: row.id(), row: None });
        }
        Ok(())
    }

    /// Reads every row, and finds what differs.
    pub(super) async fn everything(&self) -> Result<Seen, Trouble> {
        let now = cursor(self.client).await?;
        let mut found = Vec::new();
        for table in self.stored {
            let mut there = HashSet::new();
            let sql = whole(table);
            let rows = self.client.query_typed_raw(&sql, [(self.workspace, Type::TEXT)]).await?;
            let mut rows = std::pin::pin!(rows);
            while let Some(row) = rows.try_next().await? {
                let row = table.read(self.catalogue, &row).map_err(Trouble::Said)?;
                there.insert(row.id());
                self.differs(table.entity, row, &mut found);
            }
            let entity = table.entity;
            for row in self.tables.all(entity.name).filter(|row| !there.contains(&row.id())) {
                found.push(Found { entity, id: row.id(), row: None });
            }
        }
        Ok(Seen { found, cursor: now, thorough: true })
    }
}

/// Reads a whole table; `$1` is the workspace.
pub(super) fn whole(table: &Table) -> String {
    format!("SELECT {} FROM {} WHERE {}", table.selection(), table.name(), table.condition())
}

#[cfg(test)]
mod tests {
    use super::{Cursor, next_number};

    #[test]
    fn the_list_of_finished_transactions_is_read() {
        assert_eq!(next_number("740:744:741,743"), 744);
        assert_eq!(next_number("740:740:"), 740);
        assert_eq!(next_number("nonsense"), 0);
    }

    #[test]
    fn our_own_transaction_is_seen() {
        let with = |snapshot: &str, number| {
            let cursor = Cursor { snapshot: snapshot.to_owned(), now_s: 0.0 };
            cursor.with(number).snapshot
        };
        // As the database writes it when nothing else happens.
        assert_eq!(with("740:740:", 740), "741:741:");
        assert_eq!(with("740:744:741,743", 744), "741:745:741,743");
        // Others have begun meanwhile, and nobody knows whether they have ended.
        assert_eq!(with("740:740:", 742), "740:743:740,741");
        assert_eq!(with("740:740:", 739), "740:740:");
        assert_eq!(with("740:740:", 9_000), "740:740:");
    }
}

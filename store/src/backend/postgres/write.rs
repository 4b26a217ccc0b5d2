//! Changes as statements, and the database's refusals as Kong's faults.

use super::columns::{Cell, Sent, Table, quoted};
use super::events;
use super::link::{CHANNEL, Trouble};
use crate::backend::{Conflict, ConflictKind};
use crate::snapshot::Change;
use futures_util::future::try_join_all;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

/// Statements that are on their way at one time.
const PIPELINE_MAX: usize = 128;
/// Events in one statement.
const EVENTS_MAX: usize = 1_000;
/// Kong keeps events at least so long, in seconds.
const EVENT_KEPT_S_MIN: u64 = 3_600;
/// An event is dated so far ahead, in milliseconds: it must not lie before a look that ends before
/// our commit does, because Kong never looks back.
const EVENT_AHEAD_MS: u32 = 20;

/// Why a change was not written.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It contradicts what others wrote.
    Conflict(Conflict),
    /// Anything else.
    Trouble(Trouble),
}

/// What writes.
pub(super) struct Pen<'a> {
    /// The connection, in a transaction.
    pub(super) client: &'a Client,
    /// How entities are stored.
    pub(super) stored: &'a [Table],
    /// The workspace.
    pub(super) workspace: &'a str,
    /// This node.
    pub(super) node: Uuid,
    /// Seconds that an event may take to be replicated.
    pub(super) propagation_s: u64,
}

/// A statement and its parameters.
struct Statement {
    sql: String,
    given: Vec<Sent>,
    /// Whether it must find its row.
    must_hit: bool,
}

impl Pen<'_> {
    /// Writes all of these, in order, and the events about them. Gives the transaction's number.
    pub(super) async fn write(&self, changes: &[Change]) -> Result<u64, Refusal> {
        for (round, group) in changes.chunks(PIPELINE_MAX).enumerate() {
            let one = |(at, change)| self.one(round * PIPELINE_MAX + at, change);
            try_join_all(group.iter().enumerate().map(one)).await?;
        }
        self.tell(changes).await.map_err(Refusal::Trouble)
    }

    async fn one(&self, at: usize, change: &Change) -> Result<(), Refusal> {
        let Some(table) = self.stored.iter().find(|table| table.entity == change.entity) else {
            let words = format!("the database has no table {}", change.entity.table());
            return Err(Refusal::Trouble(Trouble::Said(words)));
        };
        let Some(statement) = statement(table, change, self.workspace) else { return Ok(()) };
        let given: Vec<(&(dyn ToSql + Sync), Type)> =
            statement.given.iter().map(Sent::parameter).collect();
        let hit = self.client.execute_typed(&statement.sql, &given).await;
        match hit {
            Ok(0) if statement.must_hit => {
                Err(Refusal::Conflict(Conflict { change: at, kind: ConflictKind::Vanished }))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(match conflict(table, &error) {
                Some(kind) => Refusal::Conflict(Conflict { change: at, kind }),
                None => Refusal::Trouble(error.into()),
            }),
        }
    }

    /// Writes the events, and wakes the other Tollgate nodes when the transaction commits.
    async fn tell(&self, changes: &[Change]) -> Result<u64, Trouble> {
        let kept_s = EVENT_KEPT_S_MIN.max(10 * self.propagation_s);
        let not_before = match self.propagation_s {
            0 => "NULL::timestamptz".to_owned(),
            seconds => format!("CURRENT_TIMESTAMP + INTERVAL '{seconds} second'"),
        };
        let sql = format!(
            "INSERT INTO cluster_events (id, node_id, at, nbf, expire_at, channel, data) \
             SELECT md5(random()::text || clock_timestamp()::text || data)::uuid, $1::uuid, \
             date_trunc('milliseconds', clock_timestamp() + INTERVAL '{EVENT_AHEAD_MS} ms'), \
             {not_before}, CURRENT_TIMESTAMP + INTERVAL '{kept_s} second', channel, data \
             FROM unnest($2::text[], $3::text[]) AS told (channel, data)"
        );
        let node = self.node.to_string();
        for group in events::of(changes, self.workspace).chunks(EVENTS_MAX) {
            let channels: Vec<&str> = group.iter().map(|(channel, _)| *channel).collect();
            let data: Vec<&str> = group.iter().map(|(_, data)| data.as_str()).collect();
            let given: [(&(dyn ToSql + Sync), Type); 3] =
                [(&node, Type::TEXT), (&channels, Type::TEXT_ARRAY), (&data, Type::TEXT_ARRAY)];
            self.client.execute_typed(&sql, &given).await?;
        }
        let sql = format!("SELECT txid_current() FROM pg_notify('{CHANNEL}', $1)");
        let row = self.client.query_typed_one(&sql, &[(&node, Type::TEXT)]).await?;
        Ok(row.try_get::<_, i64>(0)?.cast_unsigned())
    }
}

/// The statement of a change; none if it changes no column.
fn statement(table: &Table, change: &Change, workspace: &str) -> Option<Statement> {
    let name = table.name();
    match (&change.before, &change.after) {
        (None, None) => None,
        (Some(before), None) => Some(Statement {
            sql: format!("DELETE FROM {name} WHERE id = $1::uuid"),
            given: vec![Sent::One(Some(before.id().to_string()))],
            must_hit: false,
        }),
        (None, Some(after)) => {
            let cells = table.cells(after, workspace);
            let columns: Vec<String> = cells.iter().map(|cell| quoted(&cell.name)).collect();
            let values: Vec<String> =
                cells.iter().enumerate().map(|(at, cell)| cell.expression(at + 1)).collect();
            let (columns, values) = (columns.join(", "), values.join(", "));
            let sql = format!("INSERT INTO {name} ({columns}) VALUES ({values})");
            let given = cells.into_iter().map(|cell| cell.value).collect();
            Some(Statement { sql, given, must_hit: true })
        }
        (Some(before), Some(after)) => {
            let old = table.cells(before, workspace);
            let new = table.cells(after, workspace);
            let changed: Vec<Cell> = new
                .into_iter()
                .zip(old)
                .filter(|(new, old)| new != old)
                .map(|(new, _)| new)
                .collect();
            if changed.is_empty() {
                return None;
            }
            let set: Vec<String> = changed
                .iter()
                .enumerate()
                .map(|(at, cell)| format!("{} = {}", quoted(&cell.name), cell.expression(at + 2)))
                .collect();
            let sql = format!("UPDATE {name} SET {} WHERE id = $1::uuid", set.join(", "));
            let mut given = vec![Sent::One(Some(before.id().to_string()))];
            given.extend(changed.into_iter().map(|cell| cell.value));
            Some(Statement { sql, given, must_hit: true })
        }
    }
}

/// What a refusal is about, by the constraint's name and the words around it, as Kong does.
fn conflict(table: &Table, error: &tokio_postgres::Error) -> Option<ConflictKind> {
    let refusal = error.as_db_error()?;
    let constraint = refusal.constraint().unwrap_or_default();
    let code = refusal.code();
    if *code == SqlState::UNIQUE_VIOLATION {
        if constraint.contains("cache_key") {
            return Some(ConflictKind::CacheKey);
        }
        let unique = table
            .entity
            .fields
            .iter()
            .filter(|field| field.is_unique() || table.entity.endpoint_key == Some(field.name));
        let named = |name: &str| {
            constraint.split('_').any(|part| part == name)
                || constraint.contains(&format!("_{name}_"))
        };
        let found = unique.map(|field| field.name).find(|name| *name != "id" && named(name));
        return Some(found.map_or(ConflictKind::PrimaryKey, ConflictKind::Unique));
    }
    if *code != SqlState::FOREIGN_KEY_VIOLATION {
        return None;
    }
    let detail = refusal.detail().unwrap_or_default();
    if detail.contains("still referenced") {
        return Some(ConflictKind::Referenced(refusal.table().unwrap_or_default().to_owned()));
    }
    let pointers =
        table.entity.fields.iter().filter(|field| events::is_id(table.entity, field.name));
    let found = pointers.map(|field| field.name).find(|name| {
        constraint.contains(&format!("_{name}_id_"))
            || constraint.contains(&format!("_{name}_fkey"))
    });
    Some(ConflictKind::Dangling(found.unwrap_or("id")))
}

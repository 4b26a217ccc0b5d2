//! What a node knows of the database itself, and how its transactions begin.

use super::columns::{self, Catalog, Table, quoted};
use super::follow::{Cursor, Eyes};
use super::link::Trouble;
use super::migrations;
use super::patrol::Patrol;
use crate::schema::Catalogue;
use crate::snapshot::Tables;
use std::sync::{Arc, Weak};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// A node that stands still with the writers' lock loses it after so long, in milliseconds.
const IDLE_MS_MAX: u64 = 10_000;
/// The lock that writers hold: "TGat".
const WRITERS: i64 = 0x5447_6174;

/// What we know of the database.
pub(super) struct Known {
    pub(super) schema: String,
    pub(super) workspace: String,
    pub(super) stored: Arc<[Table]>,
    /// How far we have seen; none: not at all since the start, or the rows are from a copy.
    pub(super) cursor: Option<Cursor>,
    /// The walk through large tables.
    pub(super) patrol: Patrol,
    /// Nobody knows whether our last transaction was committed: our own events are news then.
    pub(super) is_in_doubt: bool,
    /// The server's own name for its line of history.
    pub(super) history: String,
    /// The connection on which that was asked.
    pub(super) asked: Weak<Client>,
    /// Whether the server can end transactions that stand still (9.6).
    pub(super) ends_idle: bool,
}

impl Known {
    /// All that a look needs.
    pub(super) fn eyes<'a>(
        &'a self,
        client: &'a Client,
        catalogue: &'a Catalogue,
        node: &'a str,
        tables: &'a Tables,
    ) -> Eyes<'a> {
        let (stored, workspace) = (&self.stored, &self.workspace);
        Eyes { client, catalogue, stored, workspace, node, tables }
    }
}

/// Begins a transaction that reads one state of the database.
pub(super) fn reading(schema: &str) -> String {
    let own = own(schema);
    format!("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; {own}")
}

/// Begins a transaction that writes; waits for the writers' lock at most so long.
pub(super) fn writing(known: &Known, wait_ms: u64) -> String {
    let own = own(&known.schema);
    let idle = match known.ends_idle {
        true => format!("SET LOCAL idle_in_transaction_session_timeout = {IDLE_MS_MAX};"),
        false => String::new(),
    };
    format!(
        "BEGIN; {own} SET LOCAL lock_timeout = {wait_ms}; {idle} \
         SELECT pg_advisory_xact_lock({WRITERS})"
    )
}

/// What every transaction sets for itself.
pub(super) fn own(schema: &str) -> String {
    format!("SET LOCAL search_path TO {}; SET LOCAL TIME ZONE 'UTC';", quoted(schema))
}

/// Looks at the schema, the workspace and the tables.
pub(super) async fn know(
    client: &Arc<Client>,
    schema: &str,
    catalogue: &Catalogue,
) -> Result<Known, Trouble> {
    let schema = current_schema(client, schema).await?;
    let history = history(client).await?;
    let sql = "SELECT current_setting('server_version_num')::int4 >= 90600";
    let ends_idle = client.query_typed_one(sql, &[]).await?.try_get(0)?;
    client.batch_execute(&reading(&schema)).await?;
    let known = async {
        let state = migrations::state(client).await?;
        state.may_start().map_err(Trouble::Said)?;
        let mut catalog = Catalog::new();
        for row in client.query_typed(columns::CATALOG_SQL, &[(&schema, Type::TEXT)]).await? {
            let table: String = row.try_get(0)?;
            catalog.entry(table).or_default().push((row.try_get(1)?, row.try_get(2)?));
        }
        let sql = "SELECT id::text FROM workspaces WHERE name = 'default'";
        let row = client.query_typed_opt(sql, &[]).await?;
        let row = row.ok_or_else(|| {
            Trouble::Said("the database has no workspace named default".to_owned())
        })?;
        let stored: Vec<Table> =
            catalogue.entities.iter().filter_map(|entity| Table::of(entity, &catalog)).collect();
        Ok::<(String, Vec<Table>), Trouble>((row.try_get(0)?, stored))
    };
    let known = known.await;
    client.batch_execute("COMMIT").await?;
    let (workspace, stored) = known?;
    say_what_is_lacking(catalogue, &stored);
    Ok(Known {
        schema,
        workspace,
        stored: stored.into(),
        cursor: None,
        patrol: Patrol::default(),
        is_in_doubt: false,
        history,
        asked: Arc::downgrade(client),
        ends_idle,
    })
}

/// Names the line of history that the server is on: the same after a restart or a lost connection,
/// another one after a replica has become the server.
pub(super) async fn history(client: &Client) -> Result<String, Trouble> {
    let sql = "SELECT CASE WHEN pg_is_in_recovery() THEN 'a replica' \
               ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END";
    match client.query_typed_one(sql, &[]).await {
        Ok(row) => Ok(row.try_get(0)?),
        // Older or other servers have no such functions, or do not let everybody call them.
        Err(error) if error.code().is_some() => {
            let sql = "SELECT pg_postmaster_start_time()::text";
            Ok(client.query_typed_one(sql, &[]).await?.try_get(0)?)
        }
        Err(error) => Err(error.into()),
    }
}

fn say_what_is_lacking(catalogue: &Catalogue, stored: &[Table]) {
    for entity in &catalogue.entities {
        match stored.iter().find(|table| table.entity == *entity) {
            None => log::warn!("the database has no table {}", entity.table()),
            Some(table) if !table.lacking.is_empty() => {
                let fields = table.lacking.join(", ");
                log::info!("the table {} has no column for: {fields}", entity.table());
            }
            Some(_) => {}
        }
    }
}

/// The schema that is meant: the setting's, else the session's.
pub(super) async fn current_schema(client: &Client, given: &str) -> Result<String, Trouble> {
    if !given.is_empty() {
        return Ok(given.to_owned());
    }
    let row = client.query_typed_one("SELECT CURRENT_SCHEMA()::text", &[]).await?;
    Ok(row.try_get::<_, Option<String>>(0)?.unwrap_or_else(|| "public".to_owned()))
}

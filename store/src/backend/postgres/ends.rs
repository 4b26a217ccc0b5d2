//! Rows that have ended: deleted in batches, every so often, by any node that comes by.
//!
//! The triggers delete two at every insert; this takes the rest. What another node is deleting is
//! passed over.
//!
//! Source: Kong `kong/db/strategies/postgres/connector.lua` (its timer on the first worker).

use super::link::{Trouble, connect_alone};
use super::settings::Server;
use super::{columns::quoted, current_schema, own};
use std::time::Duration;
use tokio_postgres::types::{ToSql, Type};

/// How often, in seconds.
const EVERY_S: u64 = 300;
/// Rows in one statement.
const BATCH_ROWS_MAX: u64 = 50_000;
/// Statements for one table at one time.
const BATCHES_MAX: u32 = 20;

const TABLES_SQL: &str = "SELECT table_name::text, column_name::text \
     FROM information_schema.columns WHERE table_schema = $1 AND udt_name = 'timestamptz' \
     AND (column_name = 'ttl' AND table_name <> 'locks' \
     OR column_name = 'expire_at' AND table_name = 'cluster_events')";

/// Deletes what has ended, for ever.
pub(super) async fn keep_clean(server: Server) {
    loop {
        tokio::time::sleep(Duration::from_secs(EVERY_S)).await;
        match clean(&server).await {
            Ok(0) => {}
            Ok(rows) => log::debug!("{rows} rows that had ended are deleted"),
            // The link says what is wrong with the database.
            Err(why) => log::debug!("rows that have ended stay: {}", why.words()),
        }
    }
}

/// Deletes what has ended; how many rows.
pub(super) async fn clean(server: &Server) -> Result<u64, Trouble> {
    let client = connect_alone(server).await.map_err(Trouble::Said)?;
    let schema = current_schema(&client, &server.schema).await?;
    let given: [(&(dyn ToSql + Sync), Type); 1] = [(&schema, Type::TEXT)];
    let mut deleted = 0;
    for row in client.query_typed(TABLES_SQL, &given).await? {
        let (table, column): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let (table, column) = (quoted(&table), quoted(&column));
        let sql = format!(
            "DELETE FROM {table} WHERE ctid IN (SELECT ctid FROM {table} \
             WHERE {column} < CURRENT_TIMESTAMP ORDER BY {column} LIMIT {BATCH_ROWS_MAX} \
             FOR UPDATE SKIP LOCKED)"
        );
        for _ in 0..BATCHES_MAX {
            client.batch_execute(&format!("BEGIN; {}", own(&schema))).await?;
            let rows = client.execute_typed(&sql, &[]).await?;
            client.batch_execute("COMMIT").await?;
            deleted += rows;
            if rows < BATCH_ROWS_MAX {
                break;
            }
        }
    }
    Ok(deleted)
}

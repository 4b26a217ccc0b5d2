//! Counters of rate limits in the database that the nodes share: of requests
//! (`ratelimiting_metrics`) and of what upstreams report (`response_ratelimiting_metrics`).
//!
//! Many counters are added to in one statement, and come back with what all nodes have counted.
//! Rows are written in one order everywhere, so that two nodes cannot lock each other out.
//!
//! Source: Kong `kong/plugins/{rate-limiting,response-ratelimiting}/policies/cluster.lua`; the
//! tables in `kong_3_10.txt`.

use super::link::{Trouble, connect_alone, words};
use super::settings::Server;
use super::{current_schema, own};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

/// Counters in one statement.
pub const METRICS_MAX: usize = 1_000;

/// What is added to one counter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Metric {
    /// Whose requests.
    pub identifier: String,
    /// `second`, `minute`, …
    pub period: &'static str,
    /// When the window began, Unix time in seconds.
    pub starts_s: i64,
    /// The service; the nil id for none.
    pub service: Uuid,
    /// The route; the nil id for none.
    pub route: Uuid,
    /// How long the row is kept, in seconds.
    pub kept_s: i64,
    /// The name under which upstreams report what is counted; none: requests are.
    pub counted: Option<Arc<str>>,
}

impl Metric {
    /// The period as the table has it.
    fn period_text(&self) -> String {
        match &self.counted {
            Some(name) => format!("{name}_{}", self.period),
            None => self.period.to_owned(),
        }
    }
}

/// A connection of its own for counters, made when it is needed.
pub struct Metrics {
    server: Server,
    client: Option<Client>,
    schema: String,
}

impl Metrics {
    /// Counters in that database. Connects later.
    #[must_use]
    pub fn new(server: Server) -> Self {
        let schema = server.schema.clone();
        Self { server, client: None, schema }
    }

    /// Adds to counters, at most [`METRICS_MAX`], each named once; adding nothing only asks. Gives
    /// what each has then, in their order. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// One sentence; nothing was added then, or nobody can know.
    pub async fn add(&mut self, added: &[(Metric, u64)]) -> Result<Vec<u64>, String> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            self.client = Some(connect_alone(&self.server).await?);
        }
        let Some(client) = &self.client else { return Err("no connection".to_owned()) };
        let limit = Duration::from_millis(self.server.timeout_ms);
        let done = tokio::time::timeout(limit, add(client, &mut self.schema, added)).await;
        match done {
            Ok(Ok(totals)) => Ok(totals),
            Ok(Err(trouble)) => {
                self.client = None;
                Err(match trouble {
                    Trouble::Sql(error) => words(&error),
                    Trouble::Said(words) => words,
                })
            }
            Err(_) => {
                self.client = None;
                Err("the database does not answer".to_owned())
            }
        }
    }
}

const GIVEN: &str = "unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], \
     $6::text[], $7::text[]) AS given (i, p, d, s, r, v, k)";
/// What comes back of table `m`.
const TOTALS: &str = "m.identifier, m.period, EXTRACT(EPOCH FROM m.period_date)::int8, \
     m.service_id, m.route_id, m.value::int8";

/// Adds to counters of a table, which may keep rows for a time, or reads them.
fn statement(reported: bool, adds: bool) -> String {
    let (table, ttl, end) = match reported {
        true => ("response_ratelimiting_metrics", "", ""),
        false => {
            let end = ", CURRENT_TIMESTAMP + k::int8 * INTERVAL '1 second'";
            ("ratelimiting_metrics", ", ttl", end)
        }
    };
    if adds {
        return format!(
            "INSERT INTO {table} AS m (identifier, period, period_date, service_id, route_id, \
             value{ttl}) \
             SELECT i, p, TO_TIMESTAMP(d::float8), s::uuid, r::uuid, v::int4{end} \
             FROM {GIVEN} ORDER BY i, p, d, s, r \
             ON CONFLICT (identifier, period, period_date, service_id, route_id) \
             DO UPDATE SET value = m.value + EXCLUDED.value RETURNING {TOTALS}"
        );
    }
    format!(
        "SELECT {TOTALS} FROM {GIVEN} JOIN {table} m ON m.identifier = i AND m.period = p \
         AND m.period_date = TO_TIMESTAMP(d::float8) AND m.service_id = s::uuid \
         AND m.route_id = r::uuid"
    )
}

/// What a counter is found by within its table.
type Key = (String, String, i64, Uuid, Uuid);

async fn add(
    client: &Client,
    schema: &mut String,
    added: &[(Metric, u64)],
) -> Result<Vec<u64>, Trouble> {
    if schema.is_empty() {
        *schema = current_schema(client, "").await?;
    }
    client.batch_execute(&format!("BEGIN; {}", own(schema))).await?;
    let mut totals = [HashMap::new(), HashMap::new()];
    for (reported, totals) in [false, true].into_iter().zip(&mut totals) {
        for adds in [true, false] {
            let wanted = |(metric, count): &&(Metric, u64)| {
                metric.counted.is_some() == reported && (*count > 0) == adds
            };
            let chosen: Vec<&(Metric, u64)> = added.iter().filter(wanted).collect();
            if !chosen.is_empty() {
                ask(client, &statement(reported, adds), &chosen, totals).await?;
            }
        }
    }
    client.batch_execute("COMMIT").await?;
    let total = |(metric, count): &(Metric, u64)| {
        let key = (
            metric.identifier.clone(),
            metric.period_text(),
            metric.starts_s,
            metric.service,
            metric.route,
        );
        let [requests, reported] = &totals;
        let totals = if metric.counted.is_some() { reported } else { requests };
        totals.get(&key).and_then(|total| u64::try_from(*total).ok()).unwrap_or(*count)
    };
    Ok(added.iter().map(total).collect())
}

/// Runs one statement and takes down what comes back.
async fn ask(
    client: &Client,
    sql: &str,
    chosen: &[&(Metric, u64)],
    totals: &mut HashMap<Key, i64>,
) -> Result<(), Trouble> {
    let column = |text: &dyn Fn(&Metric, u64) -> String| -> Vec<String> {
        chosen.iter().map(|(metric, count)| text(metric, *count)).collect()
    };
    let columns = [
        column(&|metric, _| metric.identifier.clone()),
        column(&|metric, _| metric.period_text()),
        column(&|metric, _| metric.starts_s.to_string()),
        column(&|metric, _| metric.service.to_string()),
        column(&|metric, _| metric.route.to_string()),
        column(&|_, count| count.min(i32::MAX as u64).to_string()),
        column(&|metric, _| metric.kept_s.to_string()),
    ];
    let given: Vec<(&(dyn ToSql + Sync), Type)> =
        columns.iter().map(|column| (column as _, Type::TEXT_ARRAY)).collect();
    for row in &client.query_typed(sql, &given).await? {
        let key: Key =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
        totals.insert(key, row.try_get::<_, i64>(5)?);
    }
    Ok(())
}

//! What is in a database of Kong, counted: for those who think of moving.

use super::link::{Trouble, connect_alone};
use super::settings::Server;
use super::{columns, current_schema, migrations, reading};
use crate::schema::Catalogue;
use columns::{Catalog, Table};
use futures_util::TryStreamExt;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// Faulty rows that are told one by one.
const FAULTS_MAX: usize = 20;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Entities that have rows, and how many.
    pub rows: Vec<(&'static str, u64)>,
    /// Names of workspaces other than the default one.
    pub workspaces: Vec<String>,
    /// Plugins by name: enabled rows, and those that are not.
    pub plugins: Vec<(String, u64, u64)>,
    /// Routes for TCP, TLS or UDP.
    pub stream_routes: u64,
    /// Routes with an expression.
    pub expressions: u64,
    /// Chains of WebAssembly filters.
    pub filter_chains: u64,
    /// Nodes that follow a control plane.
    pub data_planes: u64,
    /// Names of the kinds of vaults in use.
    pub vaults: Vec<String>,
    /// Why the database cannot be served as it is; none: it can.
    pub refusal: Option<String>,
    /// Rows that cannot be read, and tables that are missing.
    pub faults: Vec<String>,
}

/// Looks through a database. Changes nothing.
///
/// # Errors
/// One sentence: it cannot be reached or asked.
pub fn survey(server: &Server, catalogue: &Catalogue) -> Result<Survey, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| why.to_string())?;
    runtime.block_on(async {
        let client = connect_alone(server).await?;
        look(&client, server, catalogue).await.map_err(|trouble| trouble.words())
    })
}

async fn look(client: &Client, server: &Server, catalogue: &Catalogue) -> Result<Survey, Trouble> {
    let schema = current_schema(client, &server.schema).await?;
    client.batch_execute(&reading(&schema)).await?;
    let mut survey =
        Survey { refusal: migrations::state(client).await?.may_start().err(), ..Survey::default() };
    let mut catalog = Catalog::new();
    for row in client.query_typed(columns::CATALOG_SQL, &[(&schema, Type::TEXT)]).await? {
        let table: String = row.try_get(0)?;
        catalog.entry(table).or_default().push((row.try_get(1)?, row.try_get(2)?));
    }
    let has = |table: &str, column: &str| {
        catalog.get(table).is_some_and(|known| known.iter().any(|(name, _)| name == column))
    };
    if !has("workspaces", "name") {
        return Ok(survey);
    }
    rows(client, catalogue, &catalog, &mut survey).await?;
    let texts = |sql: &'static str| async move {
        let rows = client.query_typed(sql, &[]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect::<Result<Vec<String>, Trouble>>()
    };
    let count = |sql: &'static str| async move {
        let row = client.query_typed_one(sql, &[]).await?;
        Ok::<u64, Trouble>(u64::try_from(row.try_get::<_, i64>(0)?).unwrap_or(0))
    };
    survey.workspaces =
        texts("SELECT name FROM workspaces WHERE name <> 'default' ORDER BY name").await?;
    let sql = "SELECT count(*) FROM routes WHERE protocols && ARRAY['tcp', 'tls', 'udp', \
               'tls_passthrough']";
    survey.stream_routes = count(sql).await?;
    if has("routes", "expression") {
        survey.expressions =
            count("SELECT count(*) FROM routes WHERE expression IS NOT NULL").await?;
    }
    if has("filter_chains", "id") {
        survey.filter_chains = count("SELECT count(*) FROM filter_chains").await?;
    }
    if has("clustering_data_planes", "id") {
        survey.data_planes = count("SELECT count(*) FROM clustering_data_planes").await?;
    }
    if has("sm_vaults", "name") {
        survey.vaults = texts("SELECT DISTINCT name FROM sm_vaults ORDER BY name").await?;
    }
    let sql = "SELECT name, count(*) FILTER (WHERE enabled), count(*) FILTER (WHERE NOT enabled) \
               FROM plugins GROUP BY name ORDER BY name";
    for row in client.query_typed(sql, &[]).await? {
        let (on, off): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
        survey.plugins.push((row.try_get(0)?, on.cast_unsigned(), off.cast_unsigned()));
    }
    client.batch_execute("COMMIT").await?;
    Ok(survey)
}

/// Reads every row of the default workspace as a start would.
async fn rows(
    client: &Client,
    catalogue: &Catalogue,
    catalog: &Catalog,
    survey: &mut Survey,
) -> Result<(), Trouble> {
    let sql = "SELECT id::text FROM workspaces WHERE name = 'default'";
    let Some(row) = client.query_typed_opt(sql, &[]).await? else {
        survey.faults.push("there is no workspace named default".to_owned());
        return Ok(());
    };
    let workspace: String = row.try_get(0)?;
    for entity in &catalogue.entities {
        let Some(table) = Table::of(entity, catalog) else {
            survey.faults.push(format!("there is no table {}", entity.table()));
            continue;
        };
        let given = [(workspace.as_str(), Type::TEXT)];
        let rows = client.query_typed_raw(&super::follow::whole(&table), given).await?;
        let mut rows = std::pin::pin!(rows);
        let mut count = 0;
        while let Some(row) = rows.try_next().await? {
            count += 1;
            if let Err(why) = table.read(catalogue, &row)
                && survey.faults.len() < FAULTS_MAX
            {
                survey.faults.push(why);
            }
        }
        if count > 0 {
            survey.rows.push((entity.name, count));
        }
    }
    Ok(())
}

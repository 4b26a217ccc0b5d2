//! On a real PostgreSQL.

mod counters;
mod doors;
mod nodes;
mod outages;
mod server;
mod walks;

use super::migrations::{Command, Options, Outcome, run};
use super::shape;
use super::*;
use crate::backend::tests::behaves;
pub(crate) use server::Postgres as Real;
use uuid::Uuid;

const OPTIONS: Options = Options { force: false, lock_timeout_s: 60, node: Uuid::from_u128(7) };

fn told(server: &Server, command: Command) -> Outcome {
    run(server, command, OPTIONS).unwrap()
}

/// A database that is bootstrapped.
pub(crate) fn database(name: &str) -> &'static Real {
    let real = Real::shared();
    real.database(name);
    told(&real.server(name), Command::Bootstrap);
    real
}

#[test]
fn postgres_behaves() {
    let real = database("behaves");
    behaves(&|| Box::new(Postgres::open(real.plan("behaves", 1)).unwrap()));
}

#[test]
fn a_bootstrap_makes_what_kong_makes() {
    let real = database("shape");
    let server = real.server("shape");
    let said = told(&server, Command::Check);
    assert_eq!(said.words, "The database has what Kong 3.10 makes, and nothing else in its tables");
    let rows = |sql: &str| real.sql("shape", sql).unwrap();
    // The same facts by the standard's own catalogue, which knows nothing of ours.
    let columns = rows(
        "SELECT table_name || '.' || column_name FROM information_schema.columns \
         WHERE table_schema = 'public' ORDER BY table_name, ordinal_position",
    );
    let expected: Vec<Vec<String>> = shape::kongs()
        .into_iter()
        .flat_map(|(table, shape)| {
            shape.columns.into_iter().map(move |(name, _)| vec![format!("{table}.{name}")])
        })
        .collect();
    assert_eq!(columns, expected);
    let seen = rows(
        "SELECT subsystem, last_executed, array_to_string(executed, ' '), pending \
                     FROM schema_meta ORDER BY subsystem",
    );
    let mut expected: Vec<Vec<String>> = shape::migrations()
        .into_iter()
        .map(|(subsystem, names)| {
            let last = names.last().unwrap().to_string();
            vec![subsystem.to_owned(), last, names.join(" "), String::new()]
        })
        .collect();
    expected.sort();
    assert_eq!(seen, expected);
    assert_eq!(rows("SELECT name FROM workspaces"), [["default"]]);
    assert_eq!(rows("SELECT key FROM parameters"), [["cluster_id"]]);
    assert!(rows("SELECT key FROM locks").is_empty());
    assert_eq!(told(&server, Command::Bootstrap).words, "Database already bootstrapped");
    assert_eq!(told(&server, Command::Up).words, "Database is already up-to-date");
    assert_eq!(told(&server, Command::Finish).words, "No pending migrations to finish");
    assert_eq!(told(&server, Command::List).status, 0);
    let status: serde_json::Value =
        serde_json::from_str(&told(&server, Command::Status).words).unwrap();
    assert_eq!(status["needs_bootstrap"], false);
    assert_eq!(status["executed_migrations"][0]["namespace"], "kong.db.migrations.core");
    assert_eq!(
        told(&server, Command::Reset).words.lines().last().unwrap(),
        "Database successfully reset"
    );
    assert_eq!(told(&server, Command::List).status, 3);
}

#[test]
fn many_bootstraps_at_once_make_one_database() {
    let real = Real::shared();
    real.database("rush");
    let server = real.server("rush");
    let words: Vec<String> = std::thread::scope(|scope| {
        let one = |node: u128| {
            let (server, options) = (&server, Options { node: Uuid::from_u128(node), ..OPTIONS });
            scope.spawn(move || run(server, Command::Bootstrap, options).unwrap().words)
        };
        let all: Vec<_> = (1..=6).map(one).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let made = words.iter().filter(|words| words.contains("migrations processed")).count();
    assert_eq!(made, 1, "{words:#?}");
    let said = told(&server, Command::Check);
    assert_eq!(said.status, 0, "{}", said.words);
}

#[test]
fn an_empty_or_old_database_is_told() {
    let real = Real::shared();
    real.database("empty");
    let opened = |name: &str| {
        let mut backend = Postgres::open(real.plan(name, 1)).unwrap();
        backend.load(&crate::schema::samples::catalogue(), &mut |_| {}).map_err(|fault| fault.0)
    };
    assert!(opened("empty").unwrap_err().starts_with("Database needs bootstrapping or is older"));
    let none = opened("no_such_database").unwrap_err();
    assert!(none.contains("database \"no_such_database\" does not exist"), "{none}");

    let real = database("of_39");
    let older = "DROP TABLE session_metadatas; \
        ALTER TABLE clustering_sync_version ALTER version TYPE integer; \
        UPDATE schema_meta SET executed = array_remove(executed, last_executed), \
        last_executed = executed[array_length(executed, 1) - 1] \
        WHERE subsystem IN ('core', 'session')";
    real.sql("of_39", older).unwrap();
    opened("of_39").unwrap();
    let server = real.server("of_39");
    assert_eq!(told(&server, Command::List).status, 5);
    let words = told(&server, Command::Finish).words;
    assert_eq!(words, "\nNew migrations available; run 'kong migrations up' to proceed");
    assert!(told(&server, Command::Up).words.starts_with("2 migrations processed"));
    assert_eq!(told(&server, Command::Check).status, 0, "{}", told(&server, Command::Check).words);
    assert_eq!(told(&server, Command::List).status, 0);

    let note = |sql: &str| {
        real.sql("of_39", &format!("UPDATE schema_meta SET {sql} WHERE subsystem = 'core'"))
    };
    note("executed = array_remove(executed, last_executed)").unwrap();
    let status: serde_json::Value =
        serde_json::from_str(&told(&server, Command::Status).words).unwrap();
    let missing = serde_json::json!([{"subsystem": "core", "namespace": "kong.db.migrations.core",
        "migrations": ["025_390_to_3100"]}]);
    assert_eq!(status["missing_migrations"], missing);
    assert_eq!(status["new_migrations"], serde_json::Value::Null);
    opened("of_39").unwrap();
    note("executed = executed || last_executed").unwrap();

    let oldest = "UPDATE schema_meta SET last_executed = '022_350_to_360', \
        executed = executed[1:22] WHERE subsystem = 'core'";
    real.sql("of_39", oldest).unwrap();
    let words = opened("of_39").unwrap_err();
    assert!(words.ends_with("of Kong 3.9 first"), "{words}");
}

#[test]
fn what_has_ended_is_deleted() {
    let real = database("ends");
    let events = "INSERT INTO cluster_events (id, node_id, at, expire_at, channel, data) \
        SELECT md5(n::text)::uuid, md5('n')::uuid, now(), \
        now() + CASE WHEN n > 3 THEN 1 ELSE -1 END * INTERVAL '1 hour', 'c', 'd' \
        FROM generate_series(1, 5) n; \
        INSERT INTO ratelimiting_metrics (identifier, period, period_date, value, ttl) \
        VALUES ('a', 'second', now(), 1, now() - INTERVAL '1 s'), ('b', 'year', now(), 1, NULL)";
    real.sql("ends", events).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(super::ends::clean(&real.server("ends"))).unwrap();
    let left = |sql: &str| real.sql("ends", sql).unwrap();
    assert_eq!(left("SELECT count(*) FROM cluster_events"), [["2"]]);
    assert_eq!(left("SELECT identifier FROM ratelimiting_metrics"), [["b"]]);
}

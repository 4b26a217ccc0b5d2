//! A database that is frozen, gone, read-only, or not there at the start.

use super::nodes::{Node, soon};
use super::server::Postgres as Real;
use super::{Command, told};
use serde_json::{Value as Json, json};
use std::time::{Duration, Instant};

/// The longest that a call may take while the database is away; the promise is five seconds, and
/// the machine may be busy.
const REFUSED_IN: Duration = Duration::from_secs(8);

/// A call that must be refused in time, with words.
#[track_caller]
fn refused(node: &Node, line: &str, words: &str) {
    let begun = Instant::now();
    let (status, body) = node.call(line, json!({"username": "lost"}));
    assert!(begun.elapsed() < REFUSED_IN, "{:?}", begun.elapsed());
    assert_eq!(status, 503, "{body}");
    let said = body["message"].as_str().unwrap_or_default();
    assert!(said.contains(words), "{said}");
}

#[test]
fn an_outage_is_told_and_overcome() {
    let mut real = Real::start("", true);
    told(&real.server("postgres"), Command::Bootstrap);
    let copy = tempfile::tempdir().unwrap();
    let plan = |number| {
        let mut plan = real.plan("postgres", number);
        plan.saved = Some(copy.path().join("rows"));
        plan
    };
    let node = Node::start(plan(1)).unwrap();
    node.made("POST consumers", json!({"username": "kept"}));
    let copied = copy.path().join("rows");
    soon("the copy", || std::fs::read_to_string(&copied).is_ok_and(|text| text.contains("kept")));

    real.freeze(true);
    refused(&node, "POST consumers", "the database");
    refused(&node, "GET consumers/kept", "the database");
    assert!(!node.store.reachable());
    assert!(node.store.tables().by("consumers", "username", "kept").is_some(), "it still serves");
    real.freeze(false);
    soon("the thaw", || node.call("GET consumers/kept", Json::Null).0 == 200);
    soon("the truth", || node.store.reachable());

    let second = plan(2);
    real.stop();
    soon("the loss", || !node.store.reachable());
    refused(&node, "POST consumers", "the database cannot be reached");
    let begun = Instant::now();
    let late = Node::start(second).unwrap();
    println!("started without the database in {:?}", begun.elapsed());
    assert!(late.store.tables().by("consumers", "username", "kept").is_some());
    refused(&late, "GET consumers/kept", "the database cannot be reached");
    real.run();
    let row = json!({"username": "after"});
    soon("the return", || node.call("PUT consumers/after", row.clone()).0 == 200);
    soon("the other", || late.store.tables().by("consumers", "username", "after").is_some());
    let sql = "SELECT username FROM consumers ORDER BY 1";
    let there = real.sql("postgres", sql).unwrap();
    assert!(
        there == [["after"], ["kept"]] || there == [["after"], ["kept"], ["lost"]],
        "{there:?}"
    );
}

#[test]
fn a_read_only_database_is_told() {
    let real = super::database("read_only");
    let node = Node::start(real.plan("read_only", 1)).unwrap();
    node.made("POST consumers", json!({"username": "u"}));
    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                  WHERE datname = 'read_only' AND pid <> pg_backend_pid()";
    let set = |value: &str| {
        let sql = format!("ALTER DATABASE read_only SET default_transaction_read_only = {value}");
        real.sql("postgres", &sql).unwrap();
        real.sql("read_only", others).unwrap();
    };
    set("on");
    soon("a connection", || node.call("GET consumers/u", Json::Null).0 == 200);
    refused(&node, "POST consumers", "read-only");
    set("off");
    soon("writing", || node.call("POST consumers", json!({"username": "v"})).0 == 200);
}

/// A replica takes over that lacks the last write; another one took its number. Who compared
/// numbers alone would keep the one and never see the other.
#[test]
fn a_replica_takes_over_with_another_history() {
    let mut real = Real::start("", true);
    told(&real.server("postgres"), Command::Bootstrap);
    let node = Node::start(real.plan("postgres", 1)).unwrap();
    node.made("POST consumers", json!({"username": "kept"}));
    let mut replica = real.replica();
    let there = |server: &Real| {
        server.sql("postgres", "SELECT username FROM consumers ORDER BY 1").unwrap_or_default()
    };
    soon("the replica", || there(&replica) == [["kept"]]);
    replica.stop();
    node.made("POST consumers", json!({"username": "lost"}));
    real.stop();
    replica.take_over(&real);
    let by_hand = "INSERT INTO consumers (id, username, ws_id) \
                   SELECT md5('hand')::uuid, 'hand', id FROM workspaces";
    replica.sql("postgres", by_hand).unwrap();
    soon("the other history", || node.call("GET consumers/hand", Json::Null).0 == 200);
    soon("its rows", || node.store.tables().by("consumers", "username", "hand").is_some());
    assert_eq!(node.made("GET consumers/lost", Json::Null), Json::Null);
    soon("writing", || node.call("POST consumers", json!({"username": "new"})).0 == 200);
    assert_eq!(there(&replica), [["hand"], ["kept"], ["new"]]);
}

#[test]
fn a_database_out_of_connections_is_told() {
    let real = super::database("full_house");
    real.sql("postgres", "CREATE ROLE guest LOGIN").unwrap();
    for table in ["ALL TABLES", "ALL SEQUENCES"] {
        let sql = format!("GRANT ALL ON {table} IN SCHEMA public TO guest");
        real.sql("full_house", &sql).unwrap();
    }
    let mut plan = real.plan("full_house", 1);
    plan.server.user = "guest".to_owned();
    let node = Node::start(plan).unwrap();
    node.made("POST consumers", json!({"username": "u"}));
    let limit = |most: i32| {
        let sql = format!("ALTER ROLE guest CONNECTION LIMIT {most}");
        real.sql("postgres", &sql).unwrap();
    };
    limit(0);
    let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'guest'";
    real.sql("postgres", ended).unwrap();
    soon("the loss", || !node.store.reachable());
    refused(&node, "POST consumers", "the database");
    soon("the cause", || {
        let said = node.call("POST consumers", json!({"username": "v"})).1;
        said["message"].as_str().is_some_and(|said| said.contains("too many connections"))
    });
    limit(-1);
    soon("writing", || node.call("PUT consumers/w", json!({"username": "w"})).0 == 200);
    let there = real.sql("full_house", "SELECT username FROM consumers ORDER BY 1").unwrap();
    assert_eq!(there, [["u"], ["w"]]);
}

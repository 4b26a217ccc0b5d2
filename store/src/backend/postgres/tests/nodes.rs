//! Many nodes on one database, ours and Kong's.

use super::server::Postgres as Real;
use super::{Postgres, PostgresPlan, database};
use crate::actor::tests::answer;
use crate::actor::{Store, StorePlan, Watch, start};
use crate::admin::Call;
use crate::backend::{Backend, BackendFault, CommitFault, ConflictKind, Turn};
use crate::schema::samples;
use crate::script;
use crate::snapshot::{Change, Tables};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime};
use uuid::Uuid;

/// How long anything may take on a busy machine.
const LONG: Duration = Duration::from_secs(30);

/// A node without its road.
pub(super) struct Node {
    pub(super) store: Store,
    /// Published snapshots in which a key had no consumer.
    torn: Arc<AtomicUsize>,
}

impl Node {
    pub(super) fn start(plan: PostgresPlan) -> Result<Self, BackendFault> {
        let torn = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&torn);
        let publish = move |tables: Arc<Tables>, _: &[Change]| {
            let orphan = |row: &Arc<crate::value::Row>| {
                let consumer = row.foreign("consumer").unwrap();
                tables.get("consumers", consumer).is_none()
            };
            if tables.all("keyauth_credentials").any(orphan) {
                seen.fetch_add(1, Ordering::SeqCst);
            }
        };
        let store = start(StorePlan {
            backend: Box::new(Postgres::open(plan)?),
            catalogue: Arc::new(samples::catalogue()),
            answer: Box::new(answer),
            watch: Watch { check: Box::new(|_, _| Ok(())), publish: Box::new(publish) },
            now_ms: Box::new(|| {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
                i64::try_from(now.as_millis()).unwrap()
            }),
            random: Box::new(|bytes| {
                for part in bytes.chunks_mut(16) {
                    part.copy_from_slice(&Uuid::new_v4().as_bytes()[..part.len()]);
                }
            }),
        })?;
        Ok(Self { store, torn })
    }

    /// Calls without waiting for the answers one by one.
    pub(super) fn calls(&self, lines: &[(String, Json)]) -> Vec<(u16, Json)> {
        let (sender, replies) = channel();
        for (place, (line, body)) in lines.iter().enumerate() {
            let (method, path) = line.split_once(' ').unwrap();
            let mut call = Call::new(method, &format!("/{path}"));
            call.body = body.to_string().into_bytes();
            let sender = sender.clone();
            let done = Box::new(move |reply: crate::admin::Reply| {
                let body = serde_json::from_slice(&reply.body).unwrap_or(Json::Null);
                sender.send((place, reply.status, body)).unwrap();
            });
            self.store.submit(call, done);
        }
        let mut all: Vec<_> =
            lines.iter().map(|_| replies.recv_timeout(LONG).expect("an answer")).collect();
        all.sort_by_key(|(place, ..)| *place);
        all.into_iter().map(|(_, status, body)| (status, body)).collect()
    }

    pub(super) fn call(&self, line: &str, body: Json) -> (u16, Json) {
        self.calls(&[(line.to_owned(), body)]).remove(0)
    }

    #[track_caller]
    pub(super) fn made(&self, line: &str, body: Json) -> Json {
        let (status, row) = self.call(line, body);
        assert_eq!(status, 200, "{line}: {row}");
        row
    }

    /// All rows as JSON.
    fn rows(&self) -> Vec<Json> {
        let tables = self.store.tables();
        let entities = samples::catalogue().entities;
        let all = entities.iter().flat_map(|entity| tables.all(entity.name));
        all.map(|row| Json::from(row.to_json(0))).collect()
    }
}

#[track_caller]
pub(super) fn soon(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < LONG, "{what}: not after {LONG:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn pair(name: &str) -> (&'static Real, Node, Node) {
    let real = database(name);
    let node = |number| Node::start(real.plan(name, number)).unwrap();
    (real, node(1), node(2))
}

#[test]
fn what_one_node_writes_the_other_reads() {
    let (_, one, two) = pair("pair");
    let row = one.made("POST services", json!({"name": "a", "host": "h", "tags": ["x"]}));
    assert_eq!(two.made("GET services/a", Json::Null), row);
    let row = two.made("PATCH services/a", json!({"host": "other"}));
    assert_eq!(one.made("GET services/a", Json::Null), row);
    let (status, body) = two.call("POST services", json!({"name": "a", "host": "h"}));
    assert_eq!((status, &body["code"]), (409, &json!(5)), "{body}");
    assert_eq!(one.call("DELETE services/a", Json::Null), (200, json!(true)));
    assert_eq!(two.made("GET services/a", Json::Null), Json::Null);
}

#[test]
fn a_change_comes_to_nodes_that_nobody_calls() {
    let (_, one, two) = pair("follows");
    for n in 0..20 {
        one.made("POST consumers", json!({"username": format!("u{n}")}));
        let name = format!("u{n}");
        soon(&name, || two.store.tables().by("consumers", "username", &name).is_some());
    }
    assert_eq!(one.rows(), two.rows());
}

#[test]
fn what_nobody_announced_is_found_when_it_is_asked_for() {
    let (real, one, _) = pair("by_hand");
    let id = "00000000-0000-4000-8000-000000000001";
    let insert = format!(
        "INSERT INTO services (id, name, host, port, protocol, enabled, ws_id, created_at) \
         SELECT '{id}', 'hand', 'h', 80, 'http', true, id, now() FROM workspaces"
    );
    real.sql("by_hand", &insert).unwrap();
    let row = one.made("GET services/hand", Json::Null);
    assert_eq!((&row["id"], &row["retries"]), (&json!(id), &Json::Null));
    real.sql("by_hand", "UPDATE services SET host = 'other', tags = '{a,b}'").unwrap();
    let row = one.made("GET services/hand", Json::Null);
    assert_eq!((&row["host"], &row["tags"]), (&json!("other"), &json!(["a", "b"])));
    real.sql("by_hand", "UPDATE services SET name = 'new'").unwrap();
    assert_eq!(one.made("GET services/hand", Json::Null), Json::Null);
    assert_eq!(one.made("GET services/new", Json::Null)["id"], json!(id));
    real.sql("by_hand", "DELETE FROM services").unwrap();
    assert_eq!(one.made("GET services/new", Json::Null), Json::Null);
}

/// Rows and events as a node of Kong writes them, seen by a node that nobody calls.
#[test]
fn events_of_kong_are_followed() {
    let real = database("kong_writes");
    let plan = PostgresPlan { poll_ms: 50, ..real.plan("kong_writes", 1) };
    let node = Node::start(plan).unwrap();
    let id = "00000000-0000-4000-8000-00000000000a";
    let ws = &real.sql("kong_writes", "SELECT id FROM workspaces").unwrap()[0][0];
    let told = |data: &str| {
        format!(
            "; INSERT INTO cluster_events (id, node_id, at, expire_at, channel, data) VALUES \
             (md5(random()::text)::uuid, '{id}', CURRENT_TIMESTAMP(3) AT TIME ZONE 'UTC', \
             now() + INTERVAL '1 hour', 'invalidations', '{data}')"
        )
    };
    let insert = format!(
        "SET TIME ZONE 'UTC'; INSERT INTO consumers (id, username, ws_id, created_at) \
         VALUES ('{id}', 'k', '{ws}', now())"
    );
    real.sql("kong_writes", &(insert + &told(&format!("consumers:{id}:::::{ws}")))).unwrap();
    soon("the consumer", || node.store.tables().by("consumers", "username", "k").is_some());
    let delete = format!("DELETE FROM consumers WHERE id = '{id}'");
    real.sql("kong_writes", &(delete + &told(&format!("consumers:{id}:::::{ws}")))).unwrap();
    soon("its end", || node.store.tables().is_empty("consumers"));
}

/// What Kong's nodes are told about our writes.
#[test]
fn kong_is_told() {
    let (real, one, _) = pair("kong_reads");
    let service = one.made("POST services", json!({"name": "a", "host": "h"}));
    let route = json!({"paths": ["/a"], "service": {"id": service["id"]}});
    one.made("POST routes", route);
    one.made("PATCH services/a", json!({"host": "i"}));
    one.made("POST consumers", json!({"username": "u"}));
    let ws = real.sql("kong_reads", "SELECT id FROM workspaces").unwrap().remove(0).remove(0);
    let sql = "SELECT channel, data FROM cluster_events ORDER BY at, data";
    let told = real.sql("kong_reads", sql).unwrap();
    let has = |channel: &str, data: &str| {
        assert!(told.contains(&vec![channel.to_owned(), data.to_owned()]), "{data}: {told:#?}");
    };
    let core = "invalidations_kong_core_db_cache";
    has(core, &format!("services:{}:::::{ws}", service["id"].as_str().unwrap()));
    has(core, "router:version");
    has("invalidations", &format!("consumers:u:::::{ws}"));
    let sql = "SELECT count(*) FROM cluster_events WHERE expire_at > now() + INTERVAL '50 min' \
               AND at <= now() + INTERVAL '1 s' AND nbf IS NULL AND node_id = \
               '00000000-0000-0000-0000-000000000001'";
    assert_eq!(real.sql("kong_reads", sql).unwrap()[0][0], told.len().to_string());
    let sql = "SELECT entity_name, tags FROM tags";
    assert!(real.sql("kong_reads", sql).unwrap().is_empty());
    one.made("PATCH services/a", json!({"tags": ["t"]}));
    assert_eq!(real.sql("kong_reads", sql).unwrap(), [["services", "{t}"]]);
}

/// A node of Kong writes between our look and our commit: the constraints tell.
#[test]
fn the_databases_constraints_become_kongs_faults() {
    let real = database("conflicts");
    let catalogue = samples::catalogue();
    let mut backend = Postgres::open(real.plan("conflicts", 1)).unwrap();
    let mut tables = Tables::new(&catalogue);
    backend.load(&catalogue, &mut |row| drop(tables.put(&Arc::new(row)))).unwrap();
    let insert = |name: &str| {
        real.sql(
            "conflicts",
            &format!(
                "INSERT INTO services (id, name, host, port, protocol, enabled, ws_id) \
             SELECT md5('{name}')::uuid, '{name}', 'h', 80, 'http', true, id FROM workspaces"
            ),
        )
        .unwrap()
    };
    let mut refused = |entity: &str, input: Json, between: &dyn Fn()| {
        backend.begin(Turn::Write, &tables).unwrap();
        between();
        let row = script::row(&catalogue, entity, &input).unwrap();
        let changes = [Change { entity: row.entity(), before: None, after: Some(row) }];
        match backend.commit(&changes) {
            Err(CommitFault::Conflict(found)) => (found.kind.clone(), found.fault(&changes)),
            other => panic!("{other:?}"),
        }
    };
    let (kind, fault) =
        refused("services", json!({"name": "a", "host": "h"}), &|| drop(insert("a")));
    assert_eq!(kind, ConflictKind::Unique("name"));
    assert_eq!(fault.message, "UNIQUE violation detected on '{name=\"a\"}'");
    let id = "00000000-0000-4000-8000-000000000009";
    let route = json!({"paths": ["/a"], "service": {"id": id}});
    let (kind, fault) = refused("routes", route, &|| {});
    assert_eq!(kind, ConflictKind::Dangling("service"));
    let words = format!(
        "the foreign key '{{id=\"{id}\"}}' does not reference an existing 'services' entity."
    );
    assert_eq!(fault.message, words);
    let plugin = json!({"name": "key-auth"});
    let (kind, _) = refused("plugins", plugin, &|| {
        drop(
            real.sql(
                "conflicts",
                "INSERT INTO plugins (id, name, config, enabled, cache_key, ws_id) \
            SELECT md5('p')::uuid, 'key-auth', '{}', true, 'plugins:key-auth:::::' || id, id \
            FROM workspaces",
            )
            .unwrap(),
        );
    });
    assert_eq!(kind, ConflictKind::CacheKey);
}

/// Calls that wait together share a transaction, and not their faults.
#[test]
fn what_the_database_refuses_costs_the_others_nothing() {
    let (_, one, two) = pair("refused");
    let post = |name: &str, id: &str| {
        ("POST consumers".to_owned(), json!({"username": name, "custom_id": id}))
    };
    let calls = [post("a", "1"), post("b", "no\u{0}text"), post("c", "3"), post("a", "4")];
    let statuses: Vec<u16> = one.calls(&calls).into_iter().map(|(status, _)| status).collect();
    assert_eq!(statuses, [200, 503, 200, 409]);
    assert_eq!(two.made("GET consumers/c", Json::Null)["custom_id"], json!("3"));
    assert_eq!(two.made("GET consumers/b", Json::Null), Json::Null);
}

/// Random writes on three nodes at once. `WRITES` makes it longer.
#[test]
fn three_nodes_agree_and_never_see_a_mixture() {
    let writes: usize = std::env::var("WRITES").ok().map_or(150, |n| n.parse().unwrap());
    let real = database("three");
    let nodes: Vec<Node> = (1..=3).map(|n| Node::start(real.plan("three", n)).unwrap()).collect();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for (number, node) in nodes.iter().enumerate() {
            scope.spawn(move || random_writes(node, number as u64 + 1, writes));
        }
    });
    let took = begun.elapsed();
    let rate = (3 * writes) as f64 / took.as_secs_f64();
    println!("{} writes on three nodes in {took:?}, {rate:.0} a second", 3 * writes);
    soon("agreement", || nodes.iter().all(|node| node.rows() == nodes[0].rows()));
    assert!(nodes.iter().all(|node| node.torn.load(Ordering::SeqCst) == 0));
    let fresh = Node::start(real.plan("three", 9)).unwrap();
    assert_eq!(fresh.rows(), nodes[0].rows(), "the database says the same");
    assert!(!fresh.rows().is_empty());
}

fn random_writes(node: &Node, seed: u64, writes: usize) {
    let mut state = seed;
    let mut below = |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % bound
    };
    for _ in 0..writes {
        let name = format!("c{}", below(12));
        let (line, body) = match below(5) {
            0 => (format!("PUT consumers/{name}"), json!({"custom_id": format!("x{}", below(12))})),
            1 => (format!("DELETE consumers/{name}"), Json::Null),
            2 => (format!("PATCH consumers/{name}"), json!({"tags": [format!("t{}", below(9))]})),
            3 => ("POST consumers".to_owned(), json!({"username": name})),
            _ => {
                let key = json!({"consumer": {"username": name}, "key": format!("k{}", below(40))});
                ("POST keyauth_credentials".to_owned(), key)
            }
        };
        let (status, told) = node.call(&line, body.clone());
        assert!([200, 400, 404, 409].contains(&status), "{line} {body}: {status} {told}");
        // Who has read the reply finds its write, or a newer one.
        if status == 200 && line.starts_with("PUT") {
            let (status, _) = node.call(&format!("GET consumers/{name}"), Json::Null);
            assert_eq!(status, 200);
        }
    }
}

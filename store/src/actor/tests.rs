//! Calls on a running store: what they change, what they may not, what is published. The same
//! bodies run on the embedded store and on Postgres.

use super::{Key, Store, StorePlan, Watch, Working, start};
use crate::admin::{Call, Reply};
use crate::backend::postgres::Postgres;
use crate::backend::postgres::tests::{Real, database};
use crate::backend::sqlite::Sqlite;
use crate::backend::{Backend, BackendFault, CommitFault, Found, Turn, Wake};
use crate::check::{Fault, Faults};
use crate::schema::{Catalogue, Entity, samples};
use crate::snapshot::{Change, Tables};
use crate::value::{Row, Value};
use serde_json::{Value as Json, json};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

/// A store whose calls are lines of verbs on rows: `POST services`, `DELETE services/x`, …
struct Bench {
    store: Option<Store>,
    now_s: Arc<AtomicI64>,
    commits_fail: Arc<AtomicBool>,
    published: Arc<Mutex<Vec<(u64, usize)>>>,
    folder: tempfile::TempDir,
    /// The database on the tests' Postgres; none: a file in the folder.
    database: Option<&'static str>,
}

/// A backend that fails when told.
struct Failing {
    inner: Box<dyn Backend>,
    fails: Arc<AtomicBool>,
}

impl Backend for Failing {
    fn name(&self) -> &'static str {
        "failing"
    }

    fn load(
        &mut self,
        catalogue: &Catalogue,
        each: &mut dyn FnMut(Row),
    ) -> Result<(), BackendFault> {
        self.inner.load(catalogue, each)
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), CommitFault> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(BackendFault("told to fail".to_owned()).into());
        }
        self.inner.commit(changes)
    }

    fn reachable(&mut self) -> bool {
        true
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    fn begin(&mut self, turn: Turn, tables: &Tables) -> Result<Vec<Found>, BackendFault> {
        self.inner.begin(turn, tables)
    }

    fn follow(&mut self, wake: Wake) {
        self.inner.follow(wake);
    }
}

/// The Admin API in small: a verb, an entity, a key.
pub(crate) fn answer(working: &mut Working<'_>, call: &Call) -> Reply {
    if call.path == "/panic" {
        panic!("as told");
    }
    match verb(working, call) {
        Ok(json) => Reply::json(200, &json),
        Err(fault) => Reply::from(fault),
    }
}

fn verb(working: &mut Working<'_>, call: &Call) -> Result<Json, Fault> {
    let mut names = call.path.trim_matches('/').splitn(2, '/');
    let entity = working.catalogue().entity(names.next().unwrap()).unwrap();
    let input: Json = serde_json::from_slice(&call.body).unwrap_or(Json::Null);
    let input = Value::from(input);
    let now_s = working.now_s();
    let shown = |row: Arc<Row>| Json::from(row.to_json(now_s));
    let Some(name) = names.next() else {
        return working.insert(entity, input).map(shown);
    };
    let key = working.key(entity, name)?;
    match call.method.as_str() {
        "PUT" => working.upsert(entity, &key, input).map(shown),
        "PATCH" => working.update(entity, &key, input).map(shown),
        "DELETE" => {
            let id = working.find(entity, &key).map(|row| row.id());
            Ok(json!(id.map(|id| working.delete(entity, &Key::Id(id))).transpose()?))
        }
        _ => Ok(working.find(entity, &key).map_or(Json::Null, shown)),
    }
}

impl Bench {
    fn new() -> Self {
        Self::on(None, 1_700_000_000)
    }

    /// On Postgres, which has a clock of its own.
    fn on_postgres(name: &'static str) -> Self {
        database(name);
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        Self::on(Some(name), i64::try_from(now.as_secs()).unwrap())
    }

    fn on(database: Option<&'static str>, now_s: i64) -> Self {
        let mut bench = Self {
            store: None,
            now_s: Arc::new(AtomicI64::new(now_s)),
            commits_fail: Arc::default(),
            published: Arc::default(),
            folder: tempfile::tempdir().unwrap(),
            database,
        };
        bench.start();
        bench
    }

    /// Waits until there are so many rows: what has ended goes when nobody calls.
    #[track_caller]
    fn comes_to(&self, entity: &str, rows: usize) {
        let begun = std::time::Instant::now();
        while self.tables().len(entity) != rows {
            assert!(begun.elapsed() < LONG, "{} {entity}", self.tables().len(entity));
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    fn start(&mut self) {
        self.store = None;
        let file = self.folder.path().join("store.db");
        let published = Arc::clone(&self.published);
        let publish = move |tables: Arc<Tables>, changes: &[Change]| {
            published.lock().unwrap().push((tables.number(), changes.len()));
        };
        self.store = Some(run(&file, self, Box::new(publish)).unwrap());
    }

    #[track_caller]
    fn call(&self, line: &str, body: Json) -> (u16, Json) {
        self.calls(&[(line, body)]).remove(0)
    }

    /// Hands in several calls before any of them can be answered.
    fn calls(&self, lines: &[(&str, Json)]) -> Vec<(u16, Json)> {
        let store = self.store.as_ref().unwrap();
        let (sender, replies) = channel();
        for (place, (line, body)) in lines.iter().enumerate() {
            let (method, path) = line.split_once(' ').unwrap();
            let mut call = Call::new(method, &format!("/{path}"));
            call.body = body.to_string().into_bytes();
            let sender = sender.clone();
            store.submit(
                call,
                Box::new(move |reply| {
                    let body = serde_json::from_slice(&reply.body).unwrap_or(Json::Null);
                    sender.send((place, reply.status, body)).unwrap();
                }),
            );
        }
        let mut all: Vec<_> = replies.iter().take(lines.len()).collect();
        all.sort_by_key(|(place, ..)| *place);
        all.into_iter().map(|(_, status, body)| (status, body)).collect()
    }

    #[track_caller]
    fn made(&self, line: &str, body: Json) -> Json {
        let (status, row) = self.call(line, body);
        assert_eq!(status, 200, "{line}: {row}");
        row
    }

    #[track_caller]
    #[allow(clippy::needless_pass_by_value, reason = "so that calls read as a table")]
    fn refused(&self, line: &str, body: Json, code: u16, message: &str) {
        let (_, fault) = self.call(line, body);
        assert_eq!((&fault["code"], &fault["message"]), (&json!(code), &json!(message)), "{line}");
    }

    fn tables(&self) -> Arc<Tables> {
        self.store.as_ref().unwrap().tables()
    }
}

fn run(file: &Path, bench: &Bench, publish: super::WatchPublish) -> Result<Store, BackendFault> {
    let (now_s, seed) = (Arc::clone(&bench.now_s), AtomicU64::new(1));
    let random = move |bytes: &mut [u8]| {
        for byte in bytes {
            let number = seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
            *byte = (number.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 56) as u8;
        }
    };
    let check = |change: &Change, _: &Tables| match &change.after {
        Some(row) if row.text("name") == Some("unprepared") => {
            Err(Faults::of("config", "cannot be prepared"))
        }
        _ => Ok(()),
    };
    let inner: Box<dyn Backend> = match bench.database {
        Some(name) => Box::new(Postgres::open(Real::shared().plan(name, 1))?),
        None => Box::new(Sqlite::open(file)?),
    };
    start(StorePlan {
        backend: Box::new(Failing { inner, fails: Arc::clone(&bench.commits_fail) }),
        catalogue: Arc::new(samples::catalogue()),
        answer: Box::new(answer),
        watch: Watch { check: Box::new(check), publish },
        now_ms: Box::new(move || now_s.load(Ordering::SeqCst) * 1000),
        random: Box::new(random),
    })
}

/// How long anything may take on a busy machine.
const LONG: std::time::Duration = std::time::Duration::from_secs(30);

/// Makes a test on each store of every body.
macro_rules! on_every_store {
    ($($name:ident)*) => {
        mod on_sqlite {
            $(#[test] fn $name() { super::$name(super::Bench::new()); })*
        }
        mod on_postgres {
            $(#[test] fn $name() { super::$name(super::Bench::on_postgres(stringify!($name))); })*
        }
    };
}

on_every_store! {
    rows_live_on
    put_replaces_and_patch_changes
    keys_and_pointers_hold
    deleting_keeps_pointers_whole
    plugins_must_meet_their_routes
    rows_end
    faults_of_the_watch_and_panics_are_answers
    calls_share_transactions
}

const GHOST: &str = "2b7f1a3e-0c4d-4e7e-9f10-0a1b2c3d4e5f";

fn rows_live_on(mut bench: Bench) {
    let service = bench.made("POST services", json!({"name": "s", "url": "http://a.example/p"}));
    let route = json!({"name": "r", "service": {"name": "s"}, "paths": ["/a", "~/b"],
        "headers": {"x": ["1"]}, "sources": null});
    let route = bench.made("POST routes", route);
    assert_eq!(route["service"], json!({"id": service["id"]}));
    let plugin =
        json!({"name": "rate-limiting", "config": {"minute": 5.5}, "route": {"name": "r"}});
    let plugin = bench.made("POST plugins", plugin);
    bench.start();
    assert_eq!(bench.made("GET services/s", Json::Null), service);
    assert_eq!(bench.made("GET routes/r", Json::Null), route);
    let found = bench.made(&format!("GET plugins/{}", plugin["id"].as_str().unwrap()), Json::Null);
    assert_eq!(found, plugin);
    assert_eq!(*bench.published.lock().unwrap(), [(1, 0), (2, 1), (3, 1), (4, 1), (1, 0)]);
}

fn put_replaces_and_patch_changes(bench: Bench) {
    let made = bench.made("PUT services/s", json!({"host": "a.example", "retries": 1}));
    assert_eq!((&made["name"], &made["retries"]), (&json!("s"), &json!(1)));
    let put = bench.made("PUT services/s", json!({"host": "b.example"}));
    assert_eq!((&put["id"], &put["retries"]), (&made["id"], &json!(5)));
    let patched = bench.made("PATCH services/s", json!({"port": 81}));
    assert_eq!((&patched["host"], &patched["port"]), (&json!("b.example"), &json!(81)));
    let by_id = bench.made(&format!("PUT consumers/{GHOST}"), json!({"username": "u"}));
    assert_eq!(by_id["id"], GHOST);
    let renamed = bench.made(&format!("PATCH consumers/{GHOST}"), json!({"username": "v"}));
    assert_eq!(renamed["username"], "v");
    assert_eq!(bench.made("GET consumers/u", Json::Null), Json::Null);
    bench.refused(
        "PATCH services/none",
        json!({"port": 1}),
        6,
        "could not find the entity with '{name=\"none\"}'",
    );
    let message = format!("could not find the entity with primary key '{{id=\"{GHOST}\"}}'");
    bench.refused(&format!("PATCH services/{GHOST}"), json!({"port": 1}), 6, &message);
}

fn keys_and_pointers_hold(bench: Bench) {
    let service = bench.made("POST services", json!({"name": "s", "host": "a.example"}));
    let taken = "UNIQUE violation detected on '{name=\"s\"}'";
    bench.refused("POST services", json!({"name": "s", "host": "b.example"}), 5, taken);
    let message = format!("primary key violation on key '{{id={}}}'", service["id"]);
    bench.refused("POST services", json!({"id": service["id"], "host": "b"}), 3, &message);
    let message = format!(
        "the foreign key '{{id=\"{GHOST}\"}}' does not reference an existing 'services' entity."
    );
    bench.refused("POST routes", json!({"paths": ["/a"], "service": {"id": GHOST}}), 4, &message);
    let message = "foreign key unresolved (service.name: the foreign key cannot be resolved with \
                   '{name=\"ghost\"}' for an existing 'services' entity)";
    let ghost = json!({"paths": ["/a"], "service": {"name": "ghost"}});
    bench.refused("POST routes", ghost, 13, message);
    bench.made("POST plugins", json!({"name": "cors", "service": {"name": "s"}}));
    let (_, fault) = bench.call("POST plugins", json!({"name": "cors", "service": {"name": "s"}}));
    let fields = json!({"consumer": null, "name": "cors", "route": null,
        "service": {"id": service["id"]}});
    assert_eq!((&fault["code"], &fault["fields"]), (&json!(5), &fields));
    bench.made("POST plugins", json!({"name": "cors"}));
    let nulls = "UNIQUE violation detected on \
                 '{consumer=null,name=\"cors\",route=null,service=null}'";
    bench.refused("POST plugins", json!({"name": "cors"}), 5, nulls);
    bench.refused(
        "GET services/with space",
        Json::Null,
        10,
        "invalid value 'with space': the only accepted ascii characters are alphanumerics or ., \
         -, _, and ~",
    );
}

fn deleting_keeps_pointers_whole(bench: Bench) {
    bench.made("POST services", json!({"name": "s", "host": "a.example"}));
    bench.made("POST routes", json!({"name": "r", "paths": ["/a"], "service": {"name": "s"}}));
    bench.made("POST plugins", json!({"name": "cors", "route": {"name": "r"}}));
    bench.made("POST plugins", json!({"name": "cors", "service": {"name": "s"}}));
    let restricted = "an existing 'routes' entity references this 'services' entity";
    bench.refused("DELETE services/s", Json::Null, 4, restricted);
    assert_eq!(bench.tables().len("plugins"), 2, "a refused call changes nothing");
    assert_eq!(bench.made("DELETE routes/r", Json::Null), json!(true));
    assert_eq!(bench.tables().len("plugins"), 1, "the route's plugin went with it");
    bench.made("DELETE services/s", Json::Null);
    assert_eq!(bench.tables().len("plugins"), 0);
    assert_eq!(bench.made("DELETE services/s", Json::Null), Json::Null);
}

fn plugins_must_meet_their_routes(bench: Bench) {
    bench.made("POST services", json!({"name": "s", "host": "a.example"}));
    let route =
        json!({"name": "r", "paths": ["/a"], "protocols": ["http"], "service": {"name": "s"}});
    let route = bench.made("POST routes", route);
    let plugin = json!({"name": "cors", "protocols": ["grpc"], "route": {"id": route["id"]}});
    let words = "schema violation (protocols: must match the associated route's protocols)";
    bench.refused("POST plugins", plugin, 2, words);
    let words = "schema violation (protocols: must match the protocols of at least one route \
                 pointing to this Plugin's service)";
    let plugin = json!({"name": "cors", "protocols": ["grpc"], "service": route["service"]});
    bench.refused("POST plugins", plugin, 2, words);
    let plugin =
        json!({"name": "cors", "protocols": ["grpc", "http"], "service": route["service"]});
    bench.made("POST plugins", plugin);
}

fn rows_end(mut bench: Bench) {
    bench.made("POST consumers", json!({"username": "u"}));
    let key =
        |ttl: Json| json!({"consumer": {"username": "u"}, "key": format!("k{ttl}"), "ttl": ttl});
    let made = bench.made("POST keyauth_credentials", key(json!(10)));
    assert_eq!(made["ttl"], 10);
    bench.made("POST keyauth_credentials", key(json!(0)));
    bench.now_s.fetch_add(4, Ordering::SeqCst);
    assert_eq!(bench.made("GET keyauth_credentials/k10", Json::Null)["ttl"], 6);
    bench.start();
    assert_eq!(bench.made("GET keyauth_credentials/k10", Json::Null)["ttl"], 6);
    bench.now_s.fetch_add(6, Ordering::SeqCst);
    assert_eq!(bench.made("GET keyauth_credentials/k10", Json::Null), Json::Null);
    bench.comes_to("keyauth_credentials", 1);
    bench.start();
    assert_eq!(bench.tables().len("keyauth_credentials"), 1, "gone for good");
    let words = "invalid option (ttl: must be an integer between 0 and 100000000)";
    for wrong in [json!(-1), json!(1.5), json!("x"), json!(100_000_001)] {
        bench.refused("POST keyauth_credentials", key(wrong), 11, words);
    }
}

#[test]
fn a_failed_commit_changes_nothing() {
    let mut bench = Bench::new();
    bench.made("POST services", json!({"name": "kept", "host": "a.example"}));
    bench.commits_fail.store(true, Ordering::SeqCst);
    let (status, body) = bench.call("POST services", json!({"name": "lost", "host": "a.example"}));
    assert_eq!((status, body), (500, json!({"message": "An unexpected error occurred"})));
    assert!(!bench.store.as_ref().unwrap().reachable());
    assert_eq!(bench.tables().len("services"), 1);
    assert_eq!(bench.made("GET services/kept", Json::Null)["name"], "kept", "reading goes on");
    bench.commits_fail.store(false, Ordering::SeqCst);
    bench.made("POST services", json!({"name": "later", "host": "a.example"}));
    assert!(bench.store.as_ref().unwrap().reachable());
    bench.start();
    assert_eq!(bench.tables().len("services"), 2);
    let versions: Vec<u64> = bench.published.lock().unwrap().iter().map(|(n, _)| *n).collect();
    assert_eq!(versions, [1, 2, 4, 1], "a number is not used twice");
}

fn faults_of_the_watch_and_panics_are_answers(bench: Bench) {
    let (status, fault) =
        bench.call("POST services", json!({"name": "unprepared", "host": "a.example"}));
    assert_eq!((status, &fault["fields"]), (400, &json!({"config": "cannot be prepared"})));
    assert_eq!(bench.call("POST panic", Json::Null).0, 500);
    assert_eq!(bench.tables().len("services"), 0);
    bench.made("POST services", json!({"name": "s", "host": "a.example"}));
}

fn calls_share_transactions(bench: Bench) {
    let lines: Vec<String> = (0..1000).map(|n| format!("PUT consumers/u{n}")).collect();
    let lines: Vec<_> =
        lines.iter().map(|line| (line.as_str(), json!({"custom_id": null}))).collect();
    let replies = bench.calls(&lines);
    assert!(replies.iter().all(|(status, _)| *status == 200));
    assert_eq!(bench.tables().len("consumers"), 1000);
    let published = bench.published.lock().unwrap();
    assert!(published.len() < 500, "{} snapshots for 1000 calls", published.len());
    assert_eq!(published.iter().map(|(_, changes)| changes).sum::<usize>(), 1000);
}

/// One call that does two things is undone as a whole.
#[test]
fn a_refused_call_is_undone() {
    let mut bench = Bench::new();
    bench.store = None;
    let file = bench.folder.path().join("other.db");
    let store = start(StorePlan {
        backend: Box::new(Sqlite::open(&file).unwrap()),
        catalogue: Arc::new(samples::catalogue()),
        answer: Box::new(|working, _| {
            let consumers: &'static Entity = working.catalogue().entity("consumers").unwrap();
            let one = Value::object([("username", Value::text("one"))]);
            working.insert(consumers, one.clone()).unwrap();
            assert!(working.find(consumers, &Key::By("username", "one".to_owned())).is_some());
            Reply::from(working.insert(consumers, one).unwrap_err())
        }),
        watch: Watch { check: Box::new(|_, _| Ok(())), publish: Box::new(|_, _| {}) },
        now_ms: Box::new(|| 1_700_000_000_000),
        random: Box::new({
            let mut count = 0_u8;
            move |bytes: &mut [u8]| {
                count += 1;
                bytes.fill(count);
            }
        }),
    })
    .unwrap();
    let (sender, reply) = channel();
    store.submit(Call::new("POST", "/"), Box::new(move |reply| sender.send(reply).unwrap()));
    assert_eq!(reply.recv().unwrap().status, 409);
    assert_eq!(store.tables().len("consumers"), 0);
    store.stop();
}

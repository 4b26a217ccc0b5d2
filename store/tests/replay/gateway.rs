//! The Admin API over a store of its own: SQLite in a folder that goes with it.

use super::suite::Gateway;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use store::actor::{Store, StorePlan, Watch, start};
use store::admin::{Admin, Balancers, Call, Live, Node, NodeFacts, Reply};
use store::backend::sqlite::Sqlite;
use store::schema::Catalogue;
use uuid::Uuid;

/// Longest time that one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// A gateway without entities.
pub(crate) fn gateway(catalogue: &Arc<Catalogue>) -> Gateway {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), catalogue);
    Box::new(move |call| {
        let _kept = &folder;
        ask(&store, call)
    })
}

/// A gateway without a database and without a configuration.
#[allow(dead_code, reason = "not every suite is replayed on it")]
pub(crate) fn declarative(catalogue: &Arc<Catalogue>) -> Gateway {
    let folder = tempfile::tempdir().expect("a folder");
    let backend = store::backend::declarative::Declarative::open(&folder.path().join("kept"));
    let mut node = node();
    "off".clone_into(&mut node.facts.store);
    let store = start(plan(Box::new(backend), catalogue, node)).expect("a store");
    Box::new(move |call| {
        let _kept = &folder;
        ask(&store, call)
    })
}

/// The store in that folder, empty or as it was left.
pub(crate) fn open(folder: &Path, catalogue: &Arc<Catalogue>) -> Store {
    open_with(folder, catalogue, node())
}

/// The same as that node.
pub(crate) fn open_with(folder: &Path, catalogue: &Arc<Catalogue>, node: Node) -> Store {
    let backend = Sqlite::open(&folder.join("tollgate.sqlite")).expect("a database");
    start(plan(Box::new(backend), catalogue, node)).expect("a store")
}

fn plan(
    backend: Box<dyn store::backend::Backend>,
    catalogue: &Arc<Catalogue>,
    node: Node,
) -> StorePlan {
    StorePlan {
        backend,
        catalogue: Arc::clone(catalogue),
        answer: Admin::new(catalogue, node).into_answer(),
        watch: Watch { check: Box::new(|_, _| Ok(())), publish: Box::new(|_, _| {}) },
        now_ms: Box::new(now_ms),
        random: Box::new(|buffer| {
            for piece in buffer.chunks_mut(16) {
                piece.copy_from_slice(&Uuid::new_v4().as_bytes()[..piece.len()]);
            }
        }),
    }
}

/// One call and its answer.
pub(crate) fn ask(store: &Store, call: Call) -> Reply {
    let (sender, receiver) = crossbeam_channel::bounded(1);
    let done = move |reply| sender.send(reply).expect("somebody waits");
    store.submit(call, Box::new(done));
    receiver.recv_timeout(ANSWER_WITHIN).expect("an answer in time")
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the year 292278994")
}

/// A node that nothing moves on.
pub(crate) fn node() -> Node {
    let mut level = "notice".to_owned();
    let configuration = serde_json::json!({ "proxy_listen": ["0.0.0.0:8000"] });
    Node {
        facts: NodeFacts {
            hostname: "gateway.example".to_owned(),
            node_id: Uuid::from_u128(1),
            version: "0.1.0".to_owned(),
            store: "sqlite".to_owned(),
            configuration: configuration.as_object().cloned().expect("an object"),
            origins: Vec::new(),
        },
        live: Box::new(|| Live { pid: 4711, database_reachable: true, ..Live::default() }),
        log_level: Box::new(move |wanted| match wanted {
            Some((wanted, _)) => std::mem::replace(&mut level, wanted.to_owned()),
            None => level.clone(),
        }),
        balancers: Balancers::default(),
        endpoints: Vec::new(),
    }
}

//! Endpoints that plugins bring along, such as `/proxy-cache/{cache_key}` and `/metrics`.

use super::body::Sent;
use super::health::{self, ReadHealth, TargetState};
use super::node::{Live, Node};
use super::place::Hit;
use super::{Call, Method, Reply};
use crate::actor::Working;
use crate::snapshot::Tables;
use serde_json::{Map, Value as Json};
use std::cell::RefCell;
use uuid::Uuid;

/// One call to such an endpoint.
pub struct Asked<'a> {
    /// One of the endpoint's methods; HEAD is asked as GET.
    pub method: Method,
    /// The values of the path's parameters, decoded, in their order.
    pub parameters: &'a [&'a str],
    /// The query without its `?`, as it was sent.
    pub query: &'a str,
    /// The body's arguments by name. Those of forms are texts.
    pub fields: &'a Map<String, Json>,
    /// All rows.
    pub tables: &'a Tables,
    /// Unix time in seconds.
    pub now_s: i64,
    /// This node's id.
    pub node_id: Uuid,
    /// What moves on this node.
    pub live: Live,
    health: RefCell<&'a mut ReadHealth>,
}

impl Asked<'_> {
    /// How the targets of all upstreams do, one by one.
    pub fn target_states(&self) -> Vec<TargetState> {
        health::states(self.tables, &mut self.health.borrow_mut())
    }
}

/// Answers a call. Runs on the store's thread: it must not block.
pub type AnswerOwn = Box<dyn FnMut(&Asked<'_>) -> Reply + Send>;

/// An endpoint that a plugin or the program brings along.
///
/// Where Kong has a row at its path (`/routes/match`), other methods and calls without arguments
/// are about that row.
pub struct OwnEndpoint {
    /// Its path, parameters in braces. What the core has already stays the core's.
    pub path: &'static str,
    /// What may be done there.
    pub methods: &'static [Method],
    /// Whether `GET /endpoints` lists it: what Kong does not have stays out of there.
    pub listed: bool,
    /// Its one operation in the words of OpenAPI; what any endpoint may do where there is none.
    pub described: Option<Json>,
    /// Answers.
    pub answer: AnswerOwn,
}

/// Asks the endpoint at that place of [`Node::endpoints`].
pub(super) fn answer(
    node: &mut Node,
    place: usize,
    store: &Working<'_>,
    call: &Call,
    method: Method,
    hit: &Hit<'_>,
    sent: &Sent,
) -> Reply {
    let live = (node.live)();
    let node_id = node.facts.node_id;
    let health = RefCell::new(&mut node.balancers.health);
    let Some(endpoint) = node.endpoints.get_mut(place) else { return Reply::not_found() };
    let asked = Asked {
        method,
        parameters: hit.parameters(),
        query: &call.query,
        fields: &sent.fields,
        tables: store.tables(),
        now_s: store.now_s(),
        node_id,
        live,
        health,
    };
    (endpoint.answer)(&asked)
}

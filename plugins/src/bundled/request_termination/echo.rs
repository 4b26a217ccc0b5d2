//! What `echo` shows: the request as this node saw it, and what it was matched to.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};
use store::value::Row;

use crate::pdk::{Answer, Exchange, parameters, query};

/// A larger body is not echoed.
pub(super) const ECHO_BODY_BYTES_MAX: usize = 1024 * 1024;

/// The workspace of a store that keeps none: Kong's id for it where it has no database.
const DEFAULT_WORKSPACE: &str = "0dc6f45b-8f8d-40d2-a504-473544ee190b";

/// An answer that shows the request.
#[derive(Clone)]
pub(super) struct Echo {
    pub(super) status: u16,
    pub(super) message: Option<String>,
}

impl Echo {
    pub(super) fn answer(&self, exchange: &Exchange) -> Answer {
        let node = &exchange.kit.node;
        let mut document = Map::new();
        if let Some(message) = &self.message {
            document.insert("message".to_owned(), message.as_str().into());
        }
        let kong = json!({
            "node_id": node.id, "worker_pid": std::process::id(), "hostname": node.hostname,
        });
        document.insert("kong".to_owned(), kong);
        document.insert("request".to_owned(), request(exchange));
        for (name, found) in
            [("matched_route", &exchange.scope.route), ("matched_service", &exchange.scope.service)]
        {
            if let Some(found) = found {
                document.insert(name.to_owned(), row(exchange, found));
            }
        }
        let kind = Some(Cow::Borrowed("application/json; charset=utf-8"));
        Answer::exact(self.status, kind, Json::from(document).to_string().into_bytes())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn request(exchange: &Exchange) -> Json {
    let fields = &exchange.request.fields;
    let host = fields.get("host").map(|host| text(host).to_ascii_lowercase());
    let host = host.map(|host| host.rsplit_once(':').map_or(host.clone(), |(name, _)| name.into()));
    let path = text(exchange.raw_path());
    let mut shown = json!({
        "scheme": exchange.client.scheme.as_str(),
        "host": host,
        "port": exchange.client.local_port,
        "headers": headers(exchange),
        "query": arguments(exchange.query().unwrap_or_default()),
        "method": exchange.request.method(),
        "path": store::check::uri::normalize(&path),
        "uri_captures": captures(exchange),
    });
    if let (Some(body), Some(members)) = (exchange.whole_body(), shown.as_object_mut()) {
        members.insert("raw_body".to_owned(), text(&body).into());
        if let Some(parsed) = parameters::of_body(fields, &body) {
            members.insert("body".to_owned(), parsed);
        }
    }
    shown
}

/// Names in small letters; what came twice is a list.
fn headers(exchange: &Exchange) -> Json {
    let mut all = Map::new();
    for (name, value) in exchange.request.fields.iter() {
        parameters::put(&mut all, text(name).to_ascii_lowercase(), text(value).into());
    }
    all.into()
}

fn arguments(query: &[u8]) -> Json {
    let mut all = Map::new();
    for (name, value) in query::arguments(query) {
        let value = value.map_or(Json::Bool(true), |value| text(&value).into());
        parameters::put(&mut all, text(&name), value);
    }
    all.into()
}

fn captures(exchange: &Exchange) -> Json {
    let took = |taken: Option<&[u8]>| taken.map(text).map_or(Json::Null, Json::from);
    let all = || exchange.captures.groups();
    let named = all().filter_map(|(name, taken)| Some((name?.to_owned(), took(taken))));
    json!({
        "named": named.collect::<Map<_, _>>(),
        "unnamed": all().map(|(_, taken)| took(taken)).collect::<Vec<_>>(),
    })
}

/// A row as Kong shows it to plugins: without what is not set, with its workspace.
fn row(exchange: &Exchange, row: &Arc<Row>) -> Json {
    let now_s = (exchange.times.started_wall_us / 1_000_000).cast_signed();
    let mut shown = row.to_json(now_s);
    shown.retain(|_, value| !value.is_null());
    shown.entry("ws_id").or_insert_with(|| {
        let workspace = exchange.tables().by("workspaces", "name", "default");
        workspace.map_or_else(|| DEFAULT_WORKSPACE.to_owned(), |row| row.id().to_string()).into()
    });
    shown.into()
}

//! The targets of an upstream, which Kong lists in an order of their own and finds by address.
//!
//! Source: Kong `kong/api/routes/upstreams.lua`, `kong/db/dao/targets.lua`.

use super::health::{self, HealthMark};
use super::page::{self, Page, Query};
use super::place::Targets;
use super::rows::{Answered, Rows, shown};
use super::{Method, Node, Reply};
use crate::actor::Key;
use crate::check::address;
use crate::entities::{TARGET_PORT, TARGETS, UPSTREAMS};
use crate::fault::{Fault, Kind};
use crate::value::{Row, Value, parse_uuid};
use serde_json::{Value as Json, json};
use std::sync::Arc;

/// Answers what is asked about the targets of an upstream.
pub(super) fn answer(mut rows: Rows<'_, '_>, node: &mut Node, of: Targets) -> Answered {
    let upstream = rows.existing(&UPSTREAMS, 0)?;
    match (of, rows.method) {
        (Targets::All, Method::Post) => {
            let mut input = rows.input(&TARGETS, None);
            let pointer = Value::object([("id", Value::text(upstream.id().to_string()))]);
            input.put("upstream", pointer);
            rows.post(&TARGETS, input)
        }
        (Targets::All, _) => {
            let query = Query::read(&rows.call.query)?;
            let (targets, more) = part(&rows, &upstream, &query)?;
            let tables = rows.store.tables();
            let now_s = rows.store.now_s();
            let data: Vec<_> = targets.iter().map(|row| shown(tables, row, now_s)).collect();
            Ok(Reply::json(200, &listed(data, more, rows.hit.parameter(0), "targets")))
        }
        (Targets::Raw, _) => raw(&rows, &upstream),
        (Targets::One, method) => {
            let target = one(&rows, &upstream)?;
            let key = Key::Id(target.id());
            match method {
                Method::Delete => {
                    rows.store.delete(&TARGETS, &key)?;
                    Ok(Reply::empty(204))
                }
                Method::Patch | Method::Put => {
                    let input = rows.input(&TARGETS, Some(&target));
                    rows.patch(&TARGETS, &key, input)
                }
                _ => Ok(rows.shown(200, &target)),
            }
        }
        (Targets::Health, _) => how_they_do(&rows, node, &upstream),
        (Targets::Mark(healthy), _) => mark(&rows, node, &upstream, healthy),
    }
}

/// All targets of an upstream, newest first.
fn newest_first(rows: &Rows<'_, '_>, upstream: &Row) -> Vec<Arc<Row>> {
    let tables = rows.store.tables();
    let found = tables.children("targets", "upstream", upstream.id(), None);
    let mut found: Vec<_> = found.cloned().collect();
    let made = |row: &Row| row.get("created_at").as_number().unwrap_or(0.0);
    found.sort_by(|one, two| made(two).total_cmp(&made(one)).then(two.id().cmp(&one.id())));
    found
}

/// One page of them, and the number at which the next one begins.
fn part(
    rows: &Rows<'_, '_>,
    upstream: &Row,
    query: &Query,
) -> Result<(Vec<Arc<Row>>, Option<usize>), Reply> {
    let size = page::clamped_size_of(query)?;
    let begin = match query.text("offset") {
        None => 0,
        Some(text) => text.parse::<usize>().map_err(|_| {
            let words = format!("'{text}' is not a valid offset: not a number");
            Fault::plain(Kind::InvalidOffset, words)
        })?,
    };
    // Looked at, and not applied.
    page::tags_of(query)?;
    let mut found = newest_first(rows, upstream);
    let end = begin.saturating_add(size).min(found.len());
    let more = (end < found.len()).then_some(end);
    found.truncate(end);
    Ok((found.split_off(begin.min(end)), more))
}

/// A list whose offsets are numbers.
fn listed(data: Vec<Json>, more: Option<usize>, upstream: &str, last: &str) -> Json {
    let mut body = json!({ "data": data, "next": null });
    if let Some(offset) = more {
        let path = page::escaped(upstream);
        body["next"] = json!(format!("/upstreams/{path}/{last}?offset={offset}"));
        body["offset"] = json!(offset.to_string());
    }
    body
}

/// `/upstreams/{u}/targets/all`: by id, paged like any list.
fn raw(rows: &Rows<'_, '_>, upstream: &Row) -> Answered {
    let query = Query::read(&rows.call.query)?;
    let page = Page { tags: None, ..Page::read(&query, true)? };
    let tables = rows.store.tables();
    let found = tables.children("targets", "upstream", upstream.id(), page.after_id()?);
    let (data, more) = rows.page(&page, found)?;
    let path = format!("/upstreams/{}/targets/all", page::escaped(rows.hit.parameter(0)));
    Ok(super::rows::list(&data, more, &path, &[]))
}

/// The target that the path names, by id or by `host:port`; it must be this upstream's.
fn one(rows: &Rows<'_, '_>, upstream: &Row) -> Result<Arc<Row>, Reply> {
    let text = rows.hit.parameter(1);
    let found = match parse_uuid(text) {
        Some(id) => rows.store.find(&TARGETS, &Key::Id(id)),
        None => {
            let key = [Value::Id(upstream.id()), Value::text(text)];
            rows.store.tables().by_key("targets", &key).cloned()
        }
    };
    found.filter(|row| row.foreign("upstream") == Some(upstream.id())).ok_or_else(Reply::not_found)
}

/// `/upstreams/{u}/health`
fn how_they_do(rows: &Rows<'_, '_>, node: &mut Node, upstream: &Arc<Row>) -> Answered {
    let query = Query::read(&rows.call.query)?;
    let tables = rows.store.tables();
    let health = (node.balancers.health)(upstream, tables);
    let node_id = json!(node.facts.node_id.to_string());
    if query.text("balancer_health") == Some("1") {
        let mut body = json!({ "next": null, "node_id": node_id });
        if let Some(health) = &health {
            body["data"] = health::of_upstream(upstream, health, tables);
        }
        return Ok(Reply::json(200, &body));
    }
    let (targets, more) = part(rows, upstream, &query)?;
    let now_s = rows.store.now_s();
    let data = targets.iter().map(|row| {
        let mut object = shown(tables, row, now_s);
        if let (Some(object), Some(health)) = (object.as_object_mut(), &health) {
            health::of_target(upstream, health, row, object);
        }
        object
    });
    let mut body = listed(data.collect(), more, rows.hit.parameter(0), "health");
    body["node_id"] = node_id;
    Ok(Reply::json(200, &body))
}

/// `/upstreams/{u}/targets/{t}[/{address}]/{healthy,unhealthy}`
fn mark(rows: &Rows<'_, '_>, node: &mut Node, upstream: &Row, healthy: bool) -> Answered {
    let target = one(rows, upstream)?;
    let address = match rows.hit.parameter(2) {
        "" => None,
        text => {
            let words = |_| Reply::message(400, "invalid address");
            Some(address::parse(text).map_err(words)?)
        }
    };
    let address =
        address.as_ref().map(|found| (found.host.as_str(), found.port.unwrap_or(TARGET_PORT)));
    let mark = HealthMark { upstream, target: &target, address, healthy };
    match (node.balancers.mark)(&mark) {
        Ok(()) => Ok(Reply::empty(204)),
        Err(words) => Err(Reply::message(400, &words)),
    }
}

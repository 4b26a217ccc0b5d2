//! `/tags`: every tag in use and what carries it.
//!
//! Source: Kong `kong/db/dao/tags.lua`, `kong/db/strategies/postgres/tags.lua`.

use super::page::{self, Page, Query};
use super::rows::Answered;
use super::{Call, Method, Reply};
use crate::actor::Working;
use crate::check::{Fault, Faults, formats};
use crate::schema::Entity;
use crate::value::{Row, Value};
use serde_json::{Value as Json, json};
use uuid::Uuid;

/// One tag of one row; rows are sorted by id, a row's tags by their place.
struct Tagged<'a> {
    id: Uuid,
    place: u64,
    entity: &'static str,
    tag: &'a str,
}

impl Tagged<'_> {
    fn to_json(&self) -> Json {
        json!({ "entity_name": self.entity, "entity_id": self.id.to_string(), "tag": self.tag })
    }
}

/// `/tags` and, with `wanted`, `/tags/{tag}`.
pub(super) fn answer(
    store: &Working<'_>,
    call: &Call,
    method: Method,
    wanted: Option<&str>,
) -> Answered {
    if wanted.is_some() && method != Method::Get {
        // Kong lists them as methods of one tag, and breaks down over each.
        return Err(Reply::method_not_allowed());
    }
    if method == Method::Post {
        let why = "does not support insert/upsert/update/delete operations";
        return Err(Fault::from(Faults::of("tags", why)).into());
    }
    if let Some(Err(words)) = wanted.map(|tag| formats::tag(&Value::text(tag))) {
        return Err(Fault::invalid_unique("tag", &words).into());
    }
    let query = Query::read(&call.query)?;
    let page = Page::read(&query, false)?;
    let after = after(&page)?;
    let mut found = Vec::new();
    for entity in store.catalogue().entities.iter().filter(|entity| entity.has_tags()) {
        collect(store, entity, wanted, after, page.size + 1, &mut found);
    }
    found.sort_unstable_by_key(|tagged| (tagged.id, tagged.place));
    let more = found.len() > page.size;
    found.truncate(page.size);
    let rows: Vec<_> = found.iter().map(Tagged::to_json).collect();
    let last = found.last().filter(|_| more);
    let key = last.map(|tagged| [json!(tagged.id.to_string()), json!(tagged.place)]);
    let key = key.as_ref().map(<[Json; 2]>::as_slice);
    let body = match wanted {
        Some(tag) => page::list(&rows, key, &format!("/tags/{}", page::escaped(tag)), &[]),
        None => page::list(&rows, key, "/tags", &page::kept(&query)),
    };
    Ok(Reply::json(200, &body))
}

/// The tag that the offset names: a row's id and the place among its tags.
fn after(page: &Page) -> Result<Option<(Uuid, u64)>, Fault> {
    let Some(key) = &page.after else { return Ok(None) };
    if let [Json::String(id), place] = key.as_slice()
        && let (Ok(id), Some(place)) = (Uuid::try_parse(id), place.as_u64())
    {
        return Ok(Some((id, place)));
    }
    Err(page::strange(key))
}

/// Adds the first `rows_max` tags of an entity behind `after`.
fn collect<'a>(
    store: &'a Working<'_>,
    entity: &'static Entity,
    wanted: Option<&str>,
    after: Option<(Uuid, u64)>,
    rows_max: usize,
    found: &mut Vec<Tagged<'a>>,
) {
    let tables = store.tables();
    let begun = after.and_then(|(id, _)| tables.get(entity.name, id));
    let rest = tables.after(entity.name, after.map(|(id, _)| id));
    let now_s = store.now_s();
    let alive = begun.into_iter().chain(rest).filter(|row| row.is_alive(now_s));
    let tags = alive.flat_map(|row| tags_of(row, entity.name));
    let wanted = tags.filter(|tagged| {
        after.is_none_or(|last| (tagged.id, tagged.place) > last)
            && wanted.is_none_or(|wanted| wanted == tagged.tag)
    });
    found.extend(wanted.take(rows_max));
}

fn tags_of<'a>(row: &'a Row, entity: &'static str) -> impl Iterator<Item = Tagged<'a>> {
    let id = row.id();
    let texts = row.list("tags").iter().filter_map(|tag| tag.as_text());
    (1..).zip(texts).map(move |(place, tag)| Tagged { id, place, entity, tag })
}

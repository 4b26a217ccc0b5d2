//! `/config`: the whole configuration at once, where there is no database.
//!
//! Source: Kong `kong/api/routes/config.lua`; `recorded/dbless.jsonl`.

use super::body;
use super::form::{Unreadable, pairs};
use super::multipart::{self, media_type};
use super::page::Query;
use super::rows::Answered;
use super::{Call, Method, Reply};
use crate::actor::Working;
use crate::declarative::{self, Refusal};
use crate::schema::Catalogue;
use serde_json::{Map, Value as Json, json};

/// What was sent.
enum Given {
    /// A document as text.
    Text(String),
    /// A document as JSON.
    Document(Map<String, Json>),
}

/// What was asked for beside it.
struct Wishes {
    /// 304 if it is the configuration that there is.
    check_hash: bool,
    /// Faults entity by entity as well.
    flatten_errors: bool,
}

/// Answers `GET` and `POST /config`.
pub(super) fn answer(store: &mut Working<'_>, call: &Call, method: Method) -> Answered {
    if method == Method::Get {
        let now_s = store.now_s();
        let text = declarative::export(store.catalogue(), store.tables(), now_s);
        return Ok(Reply::json(200, &json!({ "config": text })));
    }
    let (given, wishes) = read(call)?;
    let (document, hash, is_text) = match given {
        Given::Text(text) => {
            let hash = declarative::hash(text.as_bytes());
            (declarative::read(&text, None).map_err(|refusal| refused(&refusal))?, hash, true)
        }
        Given::Document(document) => {
            let text = Json::Object(document);
            let hash = declarative::hash(text.to_string().as_bytes());
            let Json::Object(document) = text else { return Err(Reply::unexpected()) };
            (document, hash, false)
        }
    };
    if wishes.check_hash && is_text && hash == store.tables().config_hash() {
        return Ok(Reply::empty(304));
    }
    let loaded =
        store.load(document, hash, wishes.flatten_errors).map_err(|refusal| refused(&refusal))?;
    let rows =
        store.replace(&loaded).map_err(|fields| refused(&Refusal { fields, flattened: None }))?;
    let mut shown = Map::new();
    for row in rows {
        let slot = shown.entry(row.entity().name).or_insert_with(|| json!({}));
        let mut object = row.to_json(store.now_s());
        without_older(store.catalogue(), &mut object);
        slot[row.id().to_string()] = object.into();
    }
    Ok(Reply::json(201, &shown.into()))
}

/// Takes out the older names of a plugin's fields: Kong shows entities here as they were read.
fn without_older(catalogue: &Catalogue, object: &mut Map<String, Json>) {
    let name = object.get("name").and_then(Json::as_str);
    let Some(plugin) = name.and_then(|name| catalogue.plugin(name)) else { return };
    if let Some(Json::Object(config)) = object.get_mut("config") {
        for shorthand in plugin.shorthands {
            config.shift_remove(shorthand.field.name);
        }
    }
}

fn refused(refusal: &Refusal) -> Reply {
    Reply::json(400, &refusal.to_json())
}

/// A body that is a document is taken as it is; else it is the argument `config`, and if there is
/// none, the body all the same.
fn read(call: &Call) -> Result<(Given, Wishes), Reply> {
    let mut arguments = arguments(call)?;
    let query = Query::read(&call.query)?;
    let mut wish = |name: &str| {
        let sent = arguments.shift_remove(name);
        query.text(name).map(|text| json!(text)).or(sent).unwrap_or_default()
    };
    let wishes = Wishes {
        check_hash: matches!(&wish("check_hash"), Json::String(text) if text == "1")
            || wish("check_hash") == json!(1),
        flatten_errors: is_true(&wish("flatten_errors")),
    };
    let has = |name: &str| arguments.get(name).is_some_and(|value| !value.is_null());
    let given = if has("_format_version") {
        Given::Document(arguments)
    } else {
        match arguments.shift_remove("config") {
            Some(Json::String(text)) => Given::Text(text),
            Some(Json::Object(document)) => Given::Document(document),
            _ if call.body.is_empty() => {
                return Err(Reply::message(400, "expected a declarative configuration"));
            }
            _ => Given::Text(String::from_utf8_lossy(&call.body).into_owned()),
        }
    };
    Ok((given, wishes))
}

fn arguments(call: &Call) -> Result<Map<String, Json>, Reply> {
    body::one_type(call)?;
    let Some(content_type) = call.content_type.as_deref() else {
        return if call.body.is_empty() { Ok(Map::new()) } else { Err(body::unsupported()) };
    };
    let form = |found: Result<Vec<(String, Json)>, Unreadable>| {
        found.map(Map::from_iter).map_err(Reply::from)
    };
    match media_type(content_type).as_str() {
        "application/json" => match serde_json::from_slice(&call.body) {
            Ok(Json::Object(arguments)) => Ok(arguments),
            Ok(_) => Err(Reply::message(400, "JSON body must be an object")),
            Err(_) => Err(Unreadable::NotJson.into()),
        },
        "application/yaml" | "text/yaml" => Ok(Map::new()),
        "application/x-www-form-urlencoded" => form(pairs(&call.body)),
        "multipart/form-data" if call.body.is_empty() => Ok(Map::new()),
        "multipart/form-data" => form(multipart::pairs(content_type, &call.body)),
        _ => Err(body::unsupported()),
    }
}

fn is_true(value: &Json) -> bool {
    match value {
        Json::String(text) => {
            matches!(text.to_ascii_lowercase().as_str(), "true" | "1" | "on" | "yes")
        }
        other => *other == json!(true) || *other == json!(1),
    }
}

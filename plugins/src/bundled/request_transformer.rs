//! request-transformer: changes requests on their way to the upstream.
//!
//! In this order: path, method, header lines, body, query; within each remove, rename, replace,
//! add, append. Values may look things up: `$(headers.host)`, see [`crate::pdk::template`].
//!
//! Better than Kong: a body that is no object, or that no buffer holds, is passed on as it is; a
//! form keeps the order of its fields.
//!
//! Source: Kong `kong/plugins/request-transformer/{schema,access}.lua`; recorded cases of the suite
//! `plugins-transform`.

mod arguments;
mod json;
mod multipart;
mod rules;
mod schema;

use std::borrow::Cow;
use std::sync::Arc;

use runtime::http::head::Fields;

use crate::pdk::multipart::Form;
use crate::pdk::template::{Sight, Template};
use crate::pdk::{Answer, BodyState, Config, Exchange, Fault, Phase, Plugin, Prepared, Spec, Step};
use arguments::Arguments;
use rules::Rules;

/// The plugin.
pub static PLUGIN: Spec = Spec {
    schema: schema::SCHEMA,
    phases: &[Phase::Access],
    entities: &[],
    endpoints: &[],
    prepare,
};

/// A larger body is passed on as it is.
const BODY_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug)]
struct RequestTransformer {
    method: Option<String>,
    uri: Option<Template>,
    headers: Rules,
    body: Rules,
    query: Rules,
    /// Whether any value looks something up.
    looks: bool,
}

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let uri = config.get("replace").lookup("uri").and_then(|uri| uri.as_text());
    let uri = uri.filter(|uri| !uri.is_empty()).map(Template::parse).transpose();
    let mut prepared = RequestTransformer {
        method: config.text("http_method").map(str::to_owned),
        uri: uri.map_err(|message| Fault { field: "replace.uri", message })?,
        headers: Rules::of(config, "headers")?,
        body: Rules::of(config, "body")?,
        query: Rules::of(config, "querystring")?,
        looks: false,
    };
    let looks = prepared.templates().any(Template::looks);
    prepared.looks = looks;
    let captures = prepared.templates().any(Template::looks_at_captures);
    let shared = Arc::new(prepared);
    let prepared = Prepared::new(move || Box::new(Arc::clone(&shared)));
    Ok(if captures { prepared.with_captures() } else { prepared })
}

/// How a body can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Json,
    Form,
    Multipart,
}

impl Content {
    fn of(fields: &Fields) -> Option<Self> {
        let kind = fields.get("content-type")?.to_ascii_lowercase();
        let has = |name: &str| memchr::memmem::find(&kind, name.as_bytes()).is_some();
        [
            ("application/json", Self::Json),
            ("multipart/form-data", Self::Multipart),
            ("application/x-www-form-urlencoded", Self::Form),
        ]
        .into_iter()
        .find_map(|(name, content)| has(name).then_some(content))
    }
}

impl Plugin for Arc<RequestTransformer> {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Step<'a> {
        if exchange.request_body_state == BodyState::Unread && self.reads_body(exchange) {
            return Step::Body { bytes_max: BODY_BYTES_MAX };
        }
        // What look-ups see is the request as it came, whatever is changed first.
        let before = if self.looks { exchange.request.fields.clone() } else { Fields::default() };
        let captures = std::mem::take(&mut exchange.captures);
        let (jwt, query) = (exchange.jwt.take(), exchange.onward.query.clone());
        let sight =
            Sight { headers: &before, query: &query, captures: &captures, jwt: jwt.as_deref() };
        let changed = self.change(exchange, &sight);
        (exchange.captures, exchange.jwt) = (captures, jwt);
        match changed {
            Ok(()) => Step::NEXT,
            Err(answer) => Step::answer(answer),
        }
    }
}

impl RequestTransformer {
    fn templates(&self) -> impl Iterator<Item = &Template> {
        let rules = [&self.headers, &self.body, &self.query];
        self.uri.iter().chain(rules.into_iter().flat_map(Rules::templates))
    }

    fn reads_body(&self, exchange: &Exchange) -> bool {
        let content = Content::of(&exchange.request.fields);
        (!self.body.is_empty() && content.is_some())
            || (self.tells_body() && content == Some(Content::Form))
    }

    /// Whether the method becomes one whose arguments are in the query.
    fn tells_body(&self) -> bool {
        matches!(self.method.as_deref(), Some("GET" | "HEAD" | "TRACE"))
    }

    fn change(&self, exchange: &mut Exchange, sight: &Sight<'_>) -> Result<(), Answer> {
        if let Some(uri) = &self.uri {
            replace_path(exchange, &uri.render(sight))?;
        }
        if let Some(method) = &self.method {
            exchange.request.set_method(method);
        }
        if self.tells_body() && Content::of(&exchange.request.fields) == Some(Content::Form) {
            tell_body(exchange);
        }
        let content = Content::of(&exchange.request.fields);
        change_headers(exchange, &self.headers, sight);
        if let Some(content) = content.filter(|_| !self.body.is_empty()) {
            change_body(exchange, content, &self.body, sight);
        }
        if !self.query.is_empty() {
            let mut arguments = Arguments::parse(&exchange.onward.query);
            arguments.change(&self.query, sight, true);
            put_query(exchange, arguments);
        }
        Ok(())
    }
}

/// Puts another path in place of the one that goes upstream. As in Kong it may have a query of its
/// own, before that of the request.
fn replace_path(exchange: &mut Exchange, path: &[u8]) -> Result<(), Answer> {
    if path.first() != Some(&b'/') {
        log::error!("request-transformer: replace.uri gave a path that begins with no slash");
        return Err(Answer::error(500, "An unexpected error occurred"));
    }
    let onward = &mut exchange.onward.path;
    onward.clear();
    for byte in path {
        if byte.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(byte) {
            onward.push(*byte);
        } else {
            onward.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    Ok(())
}

fn put_query(exchange: &mut Exchange, mut arguments: Arguments) {
    arguments.sort();
    exchange.onward.query = arguments.write();
    exchange.onward.has_query = !exchange.onward.query.is_empty();
}

/// Adds the arguments of a form in the body to the query.
fn tell_body(exchange: &mut Exchange) {
    let Some(body) = exchange.whole_body().map(Cow::into_owned) else { return };
    let told = Arguments::parse(&body);
    if !body.is_empty() {
        let mut arguments = Arguments::parse(&exchange.onward.query);
        arguments.extend(told);
        put_query(exchange, arguments);
    }
}

fn change_headers(exchange: &mut Exchange, rules: &Rules, sight: &Sight<'_>) {
    let is_host = |name: &str| name.eq_ignore_ascii_case("host");
    let fields = &mut exchange.request.fields;
    for name in rules.remove.iter().filter(|name| !is_host(name)) {
        fields.remove(name);
    }
    for rule in rules.rename.iter().filter(|rule| !is_host(&rule.name)) {
        let new = rule.value(sight).and_then(|new| String::from_utf8(new).ok());
        let Some(new) = new.filter(|new| *new != rule.name && !is_host(new)) else { continue };
        let values: Vec<Vec<u8>> = fields.all(&rule.name).map(<[u8]>::to_vec).collect();
        if !values.is_empty() {
            fields.remove(&rule.name);
            fields.remove(&new);
            // A name that only changes its case gets that case; others are written small.
            let small = new.to_ascii_lowercase();
            let name = if new.eq_ignore_ascii_case(&rule.name) { &new } else { &small };
            for value in &values {
                fields.add(name, value);
            }
        }
    }
    for rule in &rules.replace {
        let Some(value) = rule.value(sight) else { continue };
        if is_host(&rule.name) {
            exchange.onward.chosen_host = Some(cleaned(&value));
        } else if fields.contains(&rule.name) {
            fields.set(&rule.name, value);
        }
    }
    for rule in rules.add.iter().filter(|rule| !is_host(&rule.name)) {
        if !fields.contains(&rule.name)
            && let Some(value) = rule.value(sight)
        {
            fields.set(&rule.name, value);
        }
    }
    for rule in rules.append.iter().filter(|rule| !is_host(&rule.name)) {
        if let Some(value) = rule.value(sight) {
            fields.add(&rule.name, value);
        }
    }
}

/// A host without what would end its line or be read in two ways.
fn cleaned(host: &[u8]) -> Vec<u8> {
    host.iter().copied().filter(u8::is_ascii_graphic).collect()
}

fn change_body(exchange: &mut Exchange, content: Content, rules: &Rules, sight: &Sight<'_>) {
    let Some(body) = exchange.whole_body() else {
        return log::warn!(
            "request-transformer: a body above {BODY_BYTES_MAX} bytes is not changed"
        );
    };
    let whole = !body.is_empty();
    let changed = match content {
        Content::Json => json::change(&body, rules, sight),
        Content::Form => {
            let mut arguments = Arguments::parse(&body);
            arguments.change(rules, sight, whole).then(|| arguments.write())
        }
        Content::Multipart => {
            let kind = exchange.request.fields.get("content-type").unwrap_or_default();
            Form::parse(&body, kind).and_then(|mut form| {
                multipart::change(&mut form, rules, sight, whole).then(|| form.write())
            })
        }
    };
    if let Some(body) = changed {
        let length = itoa::Buffer::new().format(body.len()).to_owned();
        exchange.replace_body(body);
        exchange.request.fields.set("Content-Length", length);
    }
}

#[cfg(test)]
mod tests;

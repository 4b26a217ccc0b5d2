//! proxy-cache: answers from what upstreams have answered before.
//!
//! One cache for the node (see [`crate::pdk::Cache`]), bounded in bytes; a hit asks no upstream.
//! The key is Kong's, so that tools which compute it go on working.
//!
//! Better than Kong: `Vary` is heeded (what was kept for other headers is a miss, `*` is not kept);
//! with `cache_control`, a request with Authorization passes by, and what has ended is asked for
//! anew unless the client takes stale answers.
//!
//! Source: Kong `kong/plugins/proxy-cache/{schema,handler,cache_key,api}.lua`; RFC 9111; recorded
//! cases of the suite `plugins-traffic`.

mod api;
pub mod freshness;
mod key;
mod schema;

use std::rc::Rc;
use std::sync::Arc;

use runtime::buffers::Piece;
use runtime::clock;
use runtime::http::head::{Fields, Name};
use runtime::http::write::reason_of;
use smallvec::SmallVec;

use crate::pdk::cache::{Entry, Key, Varies};
use crate::pdk::media::Media;
use crate::pdk::{
    Answer, Config, Exchange, Fault, Kit, Outcome, Phase, Plugin, Prepared, Spec, Step,
    credentials, gather,
};
use freshness::Directives;
use key::Keying;

/// The plugin.
pub static PLUGIN: Spec = Spec {
    schema: schema::SCHEMA,
    phases: &[Phase::Access, Phase::HeaderFilter, Phase::BodyFilter],
    entities: &[],
    endpoints: api::ENDPOINTS,
    prepare,
};

const STATUS: Name = Name::new("X-Cache-Status: ");
const KEY: Name = Name::new("X-Cache-Key: ");
const AGE: Name = Name::new("age: ");

/// Names in Vary that are heeded; a response with more is not kept.
const VARY_MAX: usize = 16;

#[derive(Debug)]
struct ProxyCache {
    methods: Vec<String>,
    statuses: Vec<u16>,
    types: Vec<Media>,
    ttl_s: u64,
    storage_ttl_s: Option<u64>,
    cache_control: bool,
    keying: Keying,
    shows_age: bool,
    shows_status: bool,
    shows_key: bool,
}

/// Noted in the access phase: this response is wanted under a key.
struct Wanted(Key);

/// A response on its way into the cache. Its bytes count against the core's budget.
struct Collecting {
    entry: Entry,
    storage_s: u64,
    pieces: SmallVec<[Piece; 2]>,
    bytes: usize,
    kit: Rc<Kit>,
}

impl Drop for Collecting {
    fn drop(&mut self) {
        self.kit.give_capture(self.bytes);
    }
}

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let statuses = config.get("response_code").items().iter();
    let shows = |name| config.get("response_headers").lookup(name).and_then(|v| v.as_flag());
    let seconds = |field| config.integer(field).and_then(|s| u64::try_from(s).ok());
    let prepared = Arc::new(ProxyCache {
        methods: config.texts("request_method"),
        statuses: statuses.filter_map(|s| s.as_integer()?.try_into().ok()).collect(),
        types: config.texts("content_type").iter().filter_map(|t| Media::parse(t)).collect(),
        ttl_s: seconds("cache_ttl").unwrap_or(300),
        storage_ttl_s: seconds("storage_ttl"),
        cache_control: config.flag("cache_control"),
        keying: Keying {
            ignore_uri_case: config.flag("ignore_uri_case"),
            query_params: config.texts("vary_query_params"),
            headers: config.texts("vary_headers"),
        },
        shows_age: shows(AGE.as_str()).unwrap_or(true),
        shows_status: shows(STATUS.as_str()).unwrap_or(true),
        shows_key: shows(KEY.as_str()).unwrap_or(true),
    });
    Ok(Prepared::new(move || Box::new(Arc::clone(&prepared))))
}

/// What is found under a key.
enum Found {
    Nothing,
    /// It is there, but must be asked for anew.
    Stale,
    /// Its head is in the exchange.
    Hit {
        body: Piece,
        age_s: u64,
    },
}

impl Plugin for Arc<ProxyCache> {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Step<'a> {
        let told = Directives::of(exchange.request.fields.all("cache-control"));
        if !self.may_answer(exchange, &told) {
            self.show_early(exchange, self.shows_status, STATUS, b"Bypass");
            return Step::NEXT;
        }
        let key = self.keying.key(exchange);
        let found = self.find(exchange, &key, &told);
        if matches!(found, Found::Hit { .. }) || !exchange.kit.cache.is_coming(&key) {
            return Step::Done(self.decide(exchange, key, &told, found));
        }
        Step::Wait(Box::pin(async move {
            let kit = Rc::clone(&exchange.kit);
            kit.cache.settle().await;
            let found = self.find(exchange, &key, &told);
            self.decide(exchange, key, &told, found)
        }))
    }

    fn header_filter(&self, exchange: &mut Exchange) {
        let Some(Wanted(key)) = exchange.notes.take::<Wanted>() else { return };
        match self.entry(exchange, key) {
            Some((entry, storage_s)) => {
                let (pieces, kit) = (SmallVec::new(), Rc::clone(&exchange.kit));
                exchange.notes.put(Collecting { entry, storage_s, pieces, bytes: 0, kit });
            }
            None if self.shows(exchange, self.shows_status) => {
                exchange.response.fields.put(STATUS, "Bypass");
            }
            None => {}
        }
    }

    fn body_filter(&self, exchange: &mut Exchange, piece: &mut Piece, last: bool) {
        let Some(collecting) = exchange.notes.get_mut::<Collecting>() else { return };
        let bytes = piece.len();
        let fits = collecting.bytes + bytes <= collecting.kit.cache.entry_bytes_max();
        if !fits || !collecting.kit.take_capture(bytes) {
            exchange.notes.take::<Collecting>();
            return;
        }
        collecting.bytes += bytes;
        gather(&mut collecting.pieces, piece.clone());
        if last && let Some(collecting) = exchange.notes.take::<Collecting>() {
            collecting.keep();
        }
    }
}

impl ProxyCache {
    fn may_answer(&self, exchange: &Exchange, told: &Directives) -> bool {
        let passes_by =
            told.no_store || told.no_cache || exchange.request.fields.contains("authorization");
        let method = exchange.request.method();
        self.methods.iter().any(|own| own == method) && !(self.cache_control && passes_by)
    }

    /// Whether a line of the plugin's own is shown: as configured, or to who looks for a fault.
    fn shows(&self, exchange: &Exchange, configured: bool) -> bool {
        configured || exchange.request.fields.contains("kong-debug")
    }

    fn show_early(&self, exchange: &mut Exchange, configured: bool, name: Name, value: &[u8]) {
        if self.shows(exchange, configured) {
            exchange.early.put(name, value);
        }
    }

    /// Answers from what was found, or notes that the upstream's answer is wanted.
    fn decide(
        &self,
        exchange: &mut Exchange,
        key: Key,
        told: &Directives,
        found: Found,
    ) -> Outcome {
        let mut shown = [0; 64];
        credentials::hex_into(&key, &mut shown);
        if let Found::Hit { body, age_s } = found {
            self.show_hit(exchange, age_s, &shown);
            return Outcome::Replay(body);
        }
        self.show_early(exchange, self.shows_key, KEY, &shown);
        let status = match found {
            Found::Nothing if self.cache_control && told.only_if_cached => {
                return Outcome::Answer(Box::new(nothing_cached(exchange)));
            }
            Found::Stale => &b"Refresh"[..],
            _ => b"Miss",
        };
        self.show_early(exchange, self.shows_status, STATUS, status);
        exchange.notes.put(Wanted(key));
        Outcome::Next
    }

    /// Looks under a key; the head of what suits the request becomes the response's.
    fn find(&self, exchange: &mut Exchange, key: &Key, told: &Directives) -> Found {
        let now_us = clock::wall_us();
        let Exchange { kit, request, response, .. } = exchange;
        let found = kit.cache.look(key, now_us, |entry| {
            if !suits(entry, &request.fields) {
                return Found::Nothing;
            }
            let age_us = now_us.saturating_sub(entry.kept_us);
            if self.is_stale(age_us, entry.fresh_s, told) {
                return Found::Stale;
            }
            response.status = entry.status;
            response.set_reason(reason_of(entry.status));
            response.fields.clone_from(&entry.fields);
            Found::Hit { body: Piece::copy_of(&entry.body), age_s: age_us / 1_000_000 }
        });
        found.unwrap_or(Found::Nothing)
    }

    fn is_stale(&self, age_us: u64, fresh_s: u64, told: &Directives) -> bool {
        let us = |seconds: u64| seconds.saturating_mul(1_000_000);
        if !self.cache_control {
            return age_us > us(self.ttl_s);
        }
        let over_us = age_us.saturating_sub(us(fresh_s));
        told.max_age.is_some_and(|max_age| age_us > us(max_age) || max_age == 0)
            || over_us > us(told.max_stale.unwrap_or(0))
            || told.min_fresh.is_some_and(|min| us(fresh_s) < age_us.saturating_add(us(min)))
    }

    /// Adds the plugin's own lines, none of which is kept with an answer.
    fn show_hit(&self, exchange: &mut Exchange, age_s: u64, key: &[u8]) {
        let shows = |configured| self.shows(exchange, configured);
        let (age, status, shown_key) =
            (shows(self.shows_age), shows(self.shows_status), shows(self.shows_key));
        let fields = &mut exchange.response.fields;
        if age {
            fields.push(AGE, itoa::Buffer::new().format(age_s));
        }
        if status {
            fields.push(STATUS, "Hit");
        }
        if shown_key {
            fields.push(KEY, key);
        }
    }

    /// What is to be kept of a response, but for its body, and for how many seconds; none if it may
    /// not be kept.
    fn entry(&self, exchange: &Exchange, key: Key) -> Option<(Entry, u64)> {
        let response = &exchange.response;
        let fields = &response.fields;
        self.statuses.contains(&response.status).then_some(())?;
        let mut kinds = fields.all("content-type");
        let kind = Media::parse(std::str::from_utf8(kinds.next()?).ok()?)?;
        (kinds.next().is_none() && self.types.iter().any(|t| t.admits(&kind))).then_some(())?;
        let told = Directives::of(fields.all("cache-control"));
        let now_us = clock::wall_us();
        let fresh_s = match self.cache_control {
            true if told.private || told.no_store || told.no_cache => return None,
            true => told.fresh_s(fields.all("expires").last(), now_us / 1_000_000),
            false => self.ttl_s,
        };
        (fresh_s > 0).then_some(())?;
        let mut kept = kept_fields(fields);
        // The answer to HEAD has no body: what it says of its length is all there is.
        if let (true, Some(bytes)) = (exchange.request.method() == "HEAD", exchange.declared_bytes)
        {
            kept.set("Content-Length", itoa::Buffer::new().format(bytes));
        }
        let entry = Entry {
            key,
            status: response.status,
            fields: kept,
            varies: varies(fields, &exchange.request.fields)?,
            fresh_s,
            ..Entry::default()
        };
        Some((entry, self.storage_ttl_s.unwrap_or(fresh_s)))
    }
}

impl Collecting {
    fn keep(mut self) {
        let now_us = clock::wall_us();
        let mut entry = std::mem::take(&mut self.entry);
        entry.kept_us = now_us;
        entry.ends_us = now_us.saturating_add(self.storage_s.saturating_mul(1_000_000));
        let pieces: SmallVec<[&[u8]; 8]> = self.pieces.iter().map(|piece| &**piece).collect();
        entry.body = pieces.concat().into();
        if !self.kit.cache.keep(entry) {
            log::debug!("proxy-cache: a response is not kept: too large, or too much is under way");
        }
    }
}

/// The lines that a later client gets too: not those of one connection, and not the plugin's own.
fn kept_fields(fields: &Fields) -> Fields {
    const LEFT_OUT: &[&str] = &[
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailers",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "age",
        "x-cache-status",
        "x-cache-key",
    ];
    let mut kept = fields.clone();
    kept.retain(|name, _| {
        let name = name.to_ascii_lowercase();
        let counts = memchr::memmem::find(&name, b"ratelimit-remaining").is_some();
        !counts && !LEFT_OUT.iter().any(|out| out.as_bytes() == name)
    });
    kept
}

/// A request's value of a header: all its lines.
fn joined(fields: &Fields, name: &str) -> Option<Box<[u8]>> {
    let lines: SmallVec<[&[u8]; 2]> = fields.all(name).collect();
    (!lines.is_empty()).then(|| lines.join(&b", "[..]).into())
}

/// On what the response depends, by its Vary; none where that cannot be told.
fn varies(response: &Fields, request: &Fields) -> Option<Varies> {
    let mut found: Vec<(Box<str>, _)> = Vec::new();
    let names = response.all("vary").flat_map(|line| line.split(|byte| *byte == b','));
    for name in names {
        let name = std::str::from_utf8(name).ok()?.trim().to_ascii_lowercase();
        if name == "*" || found.len() == VARY_MAX {
            return None;
        }
        if !name.is_empty() && !found.iter().any(|(own, _)| **own == name) {
            let value = joined(request, &name);
            found.push((name.into(), value));
        }
    }
    Some(found.into())
}

/// Whether an entry is for a request with these headers.
fn suits(entry: &Entry, request: &Fields) -> bool {
    entry.varies.iter().all(|(name, value)| joined(request, name) == *value)
}

/// The answer to a client who wants nothing but what is kept: in plain text, as nginx tells its own
/// errors, unless the client says what it takes.
fn nothing_cached(exchange: &Exchange) -> Answer {
    const WORDS: &str = "The upstream server is timing out";
    let fields = &exchange.request.fields;
    if fields.contains("accept") || fields.contains("content-type") {
        return Answer::error(504, WORDS);
    }
    let body = format!("{WORDS}\nrequest_id: {}\n", exchange.id.as_str());
    Answer::exact(504, Some("text/plain; charset=utf-8".into()), body.into_bytes())
}

#[cfg(test)]
mod tests;

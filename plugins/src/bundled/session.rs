//! session: remembers who was let in, in a cookie that nobody else can make or read.
//!
//! ```text
//!   access         cookie ─► (row, if sessions are stored) ─► consumer known, or logged out
//!   header_filter  somebody was let in by another plugin ─► new session ─► Set-Cookie
//! ```
//! Source: Kong `kong/plugins/session/{schema,daos,access,header_filter,session}.lua`,
//! lua-resty-session 4; recorded in `recorded/plugins/session.jsonl`.

mod cookie;
mod memory;
mod schema;
mod settings;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use runtime::clock;
use store::schema::{Entity, integer, text, typical};
use uuid::Uuid;

use crate::pdk::{
    Answer, AnswerBody, BodyState, Config, Credential, Exchange, Fault, Outcome, Phase, Plugin,
    Prepared, Remembered, Spec, Step, credentials, identity, query,
};
use cookie::HEADER_CHARS;
use memory::{Memory, Session};
use settings::{Jar, Settings};

/// The plugin.
pub static PLUGIN: Spec = Spec {
    schema: schema::SCHEMA,
    phases: &[Phase::Access, Phase::HeaderFilter],
    entities: &[&SESSIONS],
    endpoints: &[],
    prepare,
};

/// Sessions that are kept here and not in their cookie.
pub static SESSIONS: Entity = Entity {
    name: "sessions",
    endpoint_key: Some("session_id"),
    cache_key: &["session_id"],
    workspaced: false,
    ttl: true,
    exported: false,
    fields: &[
        typical::ID,
        text("session_id", "").required().unique(),
        integer("expires", ""),
        text("data", ""),
        typical::CREATED_AT,
    ],
    ..Entity::EMPTY
};

/// A body above this is not searched for the wish to log out.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Seconds without a request after which the cookie says that the session was seen.
const TOUCH_S: i64 = 60;
/// A session of which there is no row is looked for in the office while it is so young: its row may
/// be on its way.
const YOUNG_S: i64 = 10;
/// Keys for cookies that live long, made ahead in the office.
const STOCK_MAX: usize = 4;
/// Cookies that an instance remembers as opened. When there are more, all are forgotten.
const OPENED_MAX: usize = 512;

const GROUPS: &str = "X-Authenticated-Groups";

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let settings = Arc::new(Settings::of(config));
    Ok(Prepared::new(move || {
        let settings = Arc::clone(&settings);
        Box::new(Sessions { settings, stock: RefCell::default(), opened: Remembered::default() })
    }))
}

struct Sessions {
    settings: Arc<Settings>,
    /// Ids and keys for the next cookies that live long.
    stock: RefCell<Vec<(cookie::Id, cookie::DataKey)>>,
    /// What cookies with their data in them hold: a browser sends the same one with each request,
    /// and deriving its keys costs more than the rest of the request.
    opened: Remembered<Box<[u8]>, Rc<Session>, OPENED_MAX>,
}

/// What the access phase leaves for the header_filter phase.
#[derive(Default)]
struct Note {
    /// The session that the request came with.
    session: Option<Rc<Session>>,
    /// Lines for the client, by the name of the cookie.
    cookies: Vec<(String, String)>,
    /// What the client is told of its session.
    headers: Vec<(&'static str, String)>,
}

impl Plugin for Sessions {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Step<'a> {
        let settings = &*self.settings;
        if settings.reads_body(exchange) {
            return Step::Body { bytes_max: BODY_BYTES_MAX };
        }
        let now_s = now_s(exchange);
        if let Some(session) = self.known(exchange, now_s) {
            return Step::Done(self.enter(exchange, session));
        }
        let header = settings.header(exchange, &settings.session, now_s);
        let found = header.as_ref().map(|header| settings.payload(exchange, header));
        let session = match (&header, found) {
            (Some(header), Some(Some(payload))) => {
                settings.open(header.clone(), &payload).map(Rc::new)
            }
            (Some(header), Some(None)) if settings.is_young(header, now_s) => {
                return Step::Wait(Box::pin(self.enter_slowly(exchange, header.clone())));
            }
            _ => None,
        };
        match session {
            Some(session) if settings.is_stored && settings.wants_out(exchange) => {
                Step::Wait(Box::pin(self.leave_slowly(exchange, session)))
            }
            Some(session) => {
                self.note_opened(exchange, &session);
                Step::Done(self.enter(exchange, session))
            }
            None if settings.remember => Step::Wait(Box::pin(self.remember(exchange))),
            None => Step::NEXT,
        }
    }

    fn header_filter(&self, exchange: &mut Exchange) {
        let mut note = exchange.notes.take::<Note>().unwrap_or_default();
        self.keep(exchange, &mut note);
        for (_, line) in note.cookies {
            exchange.response.fields.add("Set-Cookie", line);
        }
        for (name, value) in note.headers {
            exchange.response.fields.set(name, value);
        }
    }
}

impl Sessions {
    /// The session of a cookie that was opened before, if its time is not up.
    fn known(&self, exchange: &Exchange, now_s: i64) -> Option<Rc<Session>> {
        let jar = &self.settings.session;
        let cookie = credentials::cookie(&exchange.request.fields, &jar.name)?;
        let session = self.opened.get(cookie)?;
        self.settings.holds(&session.header, jar, now_s).then_some(session)
    }

    /// Remembers the session of a cookie that has its data in it.
    fn note_opened(&self, exchange: &Exchange, session: &Rc<Session>) {
        let settings = &*self.settings;
        let cookie = credentials::cookie(&exchange.request.fields, &settings.session.name);
        // A session of several cookies is opened each time.
        let size = session.header.size;
        let whole = |cookie: &&[u8]| !settings.is_stored && cookie.len() == HEADER_CHARS + size;
        if let Some(cookie) = cookie.filter(whole) {
            self.opened.keep(cookie.into(), Rc::clone(session));
        }
    }

    /// What a session does to a request.
    fn enter(&self, exchange: &mut Exchange, session: Rc<Session>) -> Outcome {
        let settings = &*self.settings;
        let mut note = Note::default();
        if settings.wants_out(exchange) {
            self.log_out(exchange, &session, &mut note);
            exchange.notes.put(note);
            return logged_out();
        }
        let consumer = session.memory.consumer.parse().ok();
        let consumer = consumer.and_then(|id| exchange.tables().get("consumers", id)).cloned();
        if consumer.is_none() {
            self.log_out(exchange, &session, &mut note);
            self.forget_row(exchange, &session);
            exchange.notes.put(note);
            return Outcome::Next;
        }
        let session = self.refreshed(exchange, session, &mut note);
        let now_s = now_s(exchange);
        for (name, value) in settings.told(&settings.request_headers, &session, now_s) {
            exchange.request.fields.set(name, value);
        }
        note.headers = settings.told(&settings.response_headers, &session, now_s);
        let credential = Credential { id: session.memory.credential.clone(), key: None };
        identity::identify(exchange, consumer, Some(credential));
        match &session.memory.groups {
            Some(groups) => drop(exchange.request.fields.set(GROUPS, groups.join(", "))),
            None => drop(exchange.request.fields.remove(GROUPS)),
        }
        exchange.authenticated_groups.clone_from(&session.memory.groups);
        note.session = Some(session);
        exchange.notes.put(note);
        Outcome::Next
    }

    /// A session whose row is not here yet.
    async fn enter_slowly(&self, exchange: &mut Exchange, header: cookie::Header) -> Outcome {
        let key = header.key();
        let rows = exchange.kit.office.write(move |working| {
            let key = store::actor::Key::By("session_id", key.clone());
            Ok(working.find(&SESSIONS, &key).into_iter().collect())
        });
        let row = rows.await.ok().and_then(|rows| rows.into_iter().next());
        let payload = row.as_deref().and_then(settings::payload_of);
        let session = payload.and_then(|payload| self.settings.open(header, &payload));
        match session.map(Rc::new) {
            Some(session) if self.settings.wants_out(exchange) => {
                self.leave_slowly(exchange, session).await
            }
            Some(session) => self.enter(exchange, session),
            None => Outcome::Next,
        }
    }

    /// Logs out of a session that is stored: it is gone when the answer is there.
    async fn leave_slowly(&self, exchange: &mut Exchange, session: Rc<Session>) -> Outcome {
        let key = session.header.key();
        let gone = exchange.kit.office.write(move |working| {
            let key = store::actor::Key::By("session_id", key.clone());
            working.delete(&SESSIONS, &key)?;
            Ok(Vec::new())
        });
        if let Err(why) = gone.await {
            log::warn!("session: a session could not be ended: {why}");
        }
        let mut note = Note::default();
        self.log_out(exchange, &session, &mut note);
        exchange.notes.put(note);
        logged_out()
    }

    fn log_out(&self, exchange: &Exchange, session: &Session, note: &mut Note) {
        let settings = &*self.settings;
        note.put(settings.gone(&settings.session, session.header.size, 1));
        let long = &settings.remembered;
        if settings.remember
            && let Some(header) = settings.header(exchange, long, now_s(exchange))
        {
            note.put(settings.gone(long, header.size, 1));
        }
    }

    /// The session with a new id when it is old, with a new time when it was not seen for a while.
    fn refreshed(&self, exchange: &Exchange, session: Rc<Session>, note: &mut Note) -> Rc<Session> {
        let settings = &*self.settings;
        let jar = &settings.session;
        let age_s = now_s(exchange) - session.header.made_s - session.header.rolled_s;
        if jar.rolling_s > 0 && age_s > (jar.rolling_s * 3 + 3) / 4 {
            let memory = session.memory.clone();
            let renewed = self.save(exchange, jar, memory, Some(&session), note);
            return renewed.map_or(session, Rc::new);
        }
        if settings.idling_s > 0 && age_s - session.header.idled_s > TOUCH_S {
            let touched = session.header.touched(age_s, &settings.keys);
            if let Some(header) = touched {
                let lines = settings.lines(jar, &header, &session.payload);
                note.put(lines.into_iter().take(1));
                return Rc::new(Session { header, ..Session::clone(&session) });
            }
        }
        session
    }

    /// Makes a session for whoever was let in by another plugin, unless it is the one that the
    /// request came with.
    fn keep(&self, exchange: &mut Exchange, note: &mut Note) {
        let settings = &*self.settings;
        let (Some(credential), Some(consumer)) = (&exchange.credential, &exchange.consumer) else {
            return;
        };
        let mut id = Uuid::encode_buffer();
        let id = &*consumer.id().hyphenated().encode_lower(&mut id);
        let before = note.session.take();
        if before.as_ref().is_some_and(|session| session.memory.is_of(id, &credential.id)) {
            return;
        }
        let memory = Memory {
            consumer: id.to_owned(),
            credential: credential.id.clone(),
            groups: exchange.authenticated_groups.clone(),
            subject: consumer.text("username").or(consumer.text("custom_id")).map(Into::into),
        };
        let before = before.as_deref();
        let session = self.save(exchange, &settings.session, memory.clone(), before, note);
        if settings.remember {
            self.save(exchange, &settings.remembered, memory, None, note);
        }
        if let Some(session) = session {
            let now_s = now_s(exchange);
            note.headers = settings.told(&settings.response_headers, &session, now_s);
        }
    }

    /// Seals a session into a cookie, and keeps its row if sessions are stored.
    fn save(
        &self,
        exchange: &Exchange,
        jar: &Jar,
        memory: Memory,
        before: Option<&Session>,
        note: &mut Note,
    ) -> Option<Session> {
        let settings = &*self.settings;
        let now_s = now_s(exchange);
        let made_s = before.map_or(now_s, |session| session.header.made_s);
        let (id, key) =
            if jar.is_long { self.stock.borrow_mut().pop()? } else { settings.fresh()? };
        let text = memory.to_json(&settings.audience);
        let plan = cookie::Sealing {
            id,
            made_s,
            rolled_s: now_s - made_s,
            is_stored: settings.is_stored,
            data: text.as_bytes(),
        };
        let (header, payload) = cookie::sealed(&plan, &key, &settings.keys)?;
        if !settings.fits(jar, &payload) {
            log::warn!("session: {} bytes are too many for cookies", payload.len());
            return None;
        }
        let lines = settings.lines(jar, &header, &payload);
        if let Some(before) = before {
            note.put(settings.gone(jar, before.header.size, lines.len() + 1));
        }
        note.put(lines);
        if settings.is_stored {
            let old = before.map(|session| session.header.key());
            let row = settings.row(jar, &header, &payload, now_s);
            let stale_s = if jar.is_long { 0 } else { settings.stale_s };
            exchange.kit.office.post("session: a session could not be kept", move |working| {
                settings::write(working, row.clone(), old.as_deref(), stale_s)
            });
        }
        Some(Session { header, payload, memory })
    }

    fn forget_row(&self, exchange: &Exchange, session: &Session) {
        if self.settings.is_stored {
            let key = session.header.key();
            exchange.kit.office.post("session: a session could not be ended", move |working| {
                settings::forget(working, &key).map(|()| Vec::new())
            });
        }
    }

    /// Looks for the cookie that lives long; gives the next one a key.
    async fn remember(&self, exchange: &mut Exchange) -> Outcome {
        let settings = Arc::clone(&self.settings);
        let long = settings.header(exchange, &settings.remembered, now_s(exchange));
        if self.stock.borrow().len() < STOCK_MAX {
            let fresh = settings.fresh_slowly(exchange).await;
            self.stock.borrow_mut().extend(fresh);
        }
        let Some(header) = long else { return Outcome::Next };
        let Some(payload) = settings.payload_in(exchange, &settings.remembered, &header) else {
            return Outcome::Next;
        };
        let Some(session) = settings.open_slowly(exchange, header, &payload).await else {
            return Outcome::Next;
        };
        let mut note = Note::default();
        let memory = session.memory.clone();
        self.save(exchange, &settings.remembered, memory.clone(), Some(&session), &mut note);
        let Some(session) = self.save(exchange, &settings.session, memory, None, &mut note) else {
            return Outcome::Next;
        };
        let outcome = self.enter(exchange, Rc::new(session));
        if let Some(entered) = exchange.notes.get_mut::<Note>() {
            note.cookies
                .retain(|(name, _)| !entered.cookies.iter().any(|(other, _)| other == name));
            note.cookies.append(&mut entered.cookies);
            entered.cookies = note.cookies;
        }
        outcome
    }
}

impl Note {
    /// Lines for the client, in place of those for the same cookies.
    fn put(&mut self, lines: impl IntoIterator<Item = (String, String)>) {
        for (name, line) in lines {
            self.cookies.retain(|(other, _)| *other != name);
            self.cookies.push((name, line));
        }
    }
}

fn logged_out() -> Outcome {
    let answer = Answer { status: 200, body: AnswerBody::Empty, headers: Vec::new() };
    Outcome::Answer(Box::new(answer))
}

fn now_s(exchange: &Exchange) -> i64 {
    (exchange.times.started_wall_us / 1_000_000).cast_signed()
}

impl Settings {
    fn may_leave(&self, exchange: &Exchange) -> bool {
        self.logout_methods.iter().any(|method| method == exchange.request.method())
    }

    fn reads_body(&self, exchange: &Exchange) -> bool {
        self.read_body_for_logout
            && exchange.request_body_state == BodyState::Unread
            && self.may_leave(exchange)
            && matches!(exchange.request.method(), "DELETE" | "PATCH" | "POST" | "PUT")
    }

    /// Whether the request asks to end the session.
    fn wants_out(&self, exchange: &Exchange) -> bool {
        if !self.may_leave(exchange) {
            return false;
        }
        let query = exchange.query().unwrap_or_default();
        let has = |text: &[u8], name: &Option<String>| {
            name.as_deref().is_some_and(|name| query::values(text, name).next().is_some())
        };
        if has(query, &self.logout_query_arg) {
            return true;
        }
        let Some(body) = exchange.whole_body().filter(|_| self.read_body_for_logout) else {
            return false;
        };
        let is_json = exchange.request.fields.get("content-type").is_some_and(|kind| {
            kind.get(..16).is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/json"))
        });
        if is_json {
            let members = serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default();
            let name = self.logout_post_arg.as_deref().unwrap_or_default();
            return members
                .get(name)
                .is_some_and(|value| !matches!(value, serde_json::Value::Bool(false)));
        }
        has(&body, &self.logout_post_arg)
    }

    /// A random id with its key.
    fn fresh(&self) -> Option<(cookie::Id, cookie::DataKey)> {
        let mut id = [0; 32];
        if !clock::secret(&mut id) {
            log::error!("session: the system gives no random bytes");
            return None;
        }
        Some((id, self.keys.data_key(&id)?))
    }
}

#[cfg(test)]
mod tests;

//! What is configured, and what follows from it: limits in time, the text of cookies, rows.

use std::sync::{Arc, OnceLock};

use store::actor::{Key, Working};
use store::check::Fault;
use store::value::{Row, Value};

use super::SESSIONS;
use super::cookie::{DataKey, HEADER_CHARS, Header, Id, Keys};
use super::memory::{Memory, Session};
use crate::pdk::{Config, Exchange, Rows, credentials};

/// Longest that anything is kept, 400 days.
const TTL_S_MAX: i64 = 34_560_000;
/// Most bytes of a cookie's name and value.
const COOKIE_BYTES_MAX: usize = 4_096;
/// Most cookies of one session.
const COOKIES_MAX: usize = 9;
const GONE: &str = "; Expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0";

/// One of the two cookies.
pub(super) struct Jar {
    pub(super) name: String,
    /// Seconds until the session needs a new id; 0 for never.
    pub(super) rolling_s: i64,
    /// Seconds until it ends whatever happens; 0 for never.
    pub(super) absolute_s: i64,
    /// It outlives the browser, and its keys are made in the office.
    pub(super) is_long: bool,
}

impl Jar {
    /// How many cookies a session takes whose sealed data has so many characters; none if that is
    /// too much.
    pub(super) fn cookies(&self, size: usize) -> Option<usize> {
        let mut bytes = self.name.len() + 1 + HEADER_CHARS + size;
        (1..=COOKIES_MAX).find(|count| {
            let fits = bytes <= COOKIE_BYTES_MAX * count;
            // Each further cookie has a name of its own.
            bytes += self.name.len() + 2;
            fits
        })
    }

    /// The name of the n-th cookie.
    fn part(&self, number: usize) -> String {
        if number < 2 { self.name.clone() } else { format!("{}{number}", self.name) }
    }

    /// Sealed data, divided among its cookies.
    fn divided<'a>(&self, payload: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        let first = (COOKIE_BYTES_MAX - HEADER_CHARS).saturating_sub(self.name.len() + 1);
        let further = COOKIE_BYTES_MAX.saturating_sub(self.name.len() + 2).max(1);
        let (mut rest, mut bytes) = (payload, first);
        let mut done = false;
        std::iter::from_fn(move || {
            if std::mem::replace(&mut done, rest.len() <= bytes) {
                return None;
            }
            let (part, after) = rest.split_at_checked(bytes).unwrap_or((rest, ""));
            (rest, bytes) = (after, further);
            Some(part)
        })
    }
}

pub(super) struct Settings {
    pub(super) keys: Arc<Keys>,
    pub(super) is_stored: bool,
    pub(super) audience: String,
    pub(super) session: Jar,
    pub(super) remembered: Jar,
    pub(super) remember: bool,
    pub(super) idling_s: i64,
    pub(super) stale_s: i64,
    pub(super) attributes: String,
    pub(super) request_headers: Vec<String>,
    pub(super) response_headers: Vec<String>,
    pub(super) read_body_for_logout: bool,
    pub(super) logout_methods: Vec<String>,
    pub(super) logout_query_arg: Option<String>,
    pub(super) logout_post_arg: Option<String>,
}

impl Settings {
    pub(super) fn of(config: &Config<'_>) -> Self {
        let text = |name: &str| config.text(name).map(str::to_owned);
        let seconds = |name: &str| config.number(name).unwrap_or(0.0) as i64;
        let jar = |name: &str, usual: &str, prefix: &str| Jar {
            name: text(name).unwrap_or_else(|| usual.to_owned()),
            rolling_s: seconds(&format!("{prefix}rolling_timeout")),
            absolute_s: seconds(&format!("{prefix}absolute_timeout")),
            is_long: !prefix.is_empty(),
        };
        Self {
            keys: Arc::new(Keys::new(config.text("secret").unwrap_or_default())),
            is_stored: config.text("storage") == Some("kong"),
            audience: text("audience").unwrap_or_else(|| "default".to_owned()),
            session: jar("cookie_name", "session", ""),
            remembered: jar("remember_cookie_name", "remember", "remember_"),
            remember: config.flag("remember"),
            idling_s: seconds("idling_timeout"),
            stale_s: seconds("stale_ttl"),
            attributes: attributes(config),
            request_headers: config.texts("request_headers"),
            response_headers: config.texts("response_headers"),
            read_body_for_logout: config.flag("read_body_for_logout"),
            logout_methods: config.texts("logout_methods"),
            logout_query_arg: text("logout_query_arg"),
            logout_post_arg: text("logout_post_arg"),
        }
    }

    /// The header of the request's cookie, if it was made here and its time is not up.
    pub(super) fn header(&self, exchange: &Exchange, jar: &Jar, now_s: i64) -> Option<Header> {
        let cookie = credentials::cookie(&exchange.request.fields, &jar.name)?;
        let header = Header::read(cookie, &self.keys, self.is_stored)?;
        self.holds(&header, jar, now_s).then_some(header)
    }

    /// Whether the time of a cookie is not up.
    pub(super) fn holds(&self, header: &Header, jar: &Jar, now_s: i64) -> bool {
        let is_over = |limit_s: i64, age_s: i64| limit_s != 0 && age_s > limit_s;
        let age_s = now_s - header.made_s;
        let rolled_s = age_s - header.rolled_s;
        let idle_s = rolled_s - header.idled_s;
        let ended = is_over(jar.absolute_s, age_s)
            || is_over(jar.rolling_s, rolled_s)
            || if jar.is_long { header.idled_s != 0 } else { is_over(self.idling_s, idle_s) };
        !ended
    }

    /// The sealed data of the session cookie or of its row.
    pub(super) fn payload(&self, exchange: &Exchange, header: &Header) -> Option<String> {
        self.payload_in(exchange, &self.session, header)
    }

    /// The same for either cookie.
    pub(super) fn payload_in(
        &self,
        exchange: &Exchange,
        jar: &Jar,
        header: &Header,
    ) -> Option<String> {
        if !self.is_stored {
            let mut payload = Vec::new();
            for number in 1..=jar.cookies(header.size)? {
                let part = credentials::cookie(&exchange.request.fields, &jar.part(number))?;
                let from = if number == 1 { HEADER_CHARS } else { 0 };
                payload.extend_from_slice(part.get(from..)?);
            }
            let is_whole = payload.len() == header.size;
            return is_whole.then(|| String::from_utf8(payload).ok()).flatten();
        }
        let row = exchange.tables().by(SESSIONS.name, "session_id", &header.key())?;
        row.is_alive(super::now_s(exchange)).then(|| payload_of(row)).flatten()
    }

    /// Whether the row of a session may be on its way.
    pub(super) fn is_young(&self, header: &Header, now_s: i64) -> bool {
        self.is_stored && now_s - header.made_s - header.rolled_s <= super::YOUNG_S
    }

    /// Opens a session of the short-lived cookie.
    pub(super) fn open(&self, header: Header, payload: &str) -> Option<Session> {
        let key = self.keys.data_key(&header.id)?;
        self.open_with(header, payload, &key)
    }

    fn open_with(&self, header: Header, payload: &str, key: &DataKey) -> Option<Session> {
        let opened = header.open(payload.as_bytes(), key)?;
        let memory = Memory::read(&opened, &self.audience)?;
        Some(Session { header, payload: payload.to_owned(), memory })
    }

    /// Opens a session of the cookie that lives long; its key is made in the office.
    pub(super) async fn open_slowly(
        &self,
        exchange: &Exchange,
        header: Header,
        payload: &str,
    ) -> Option<Session> {
        let key = self.slow_key(exchange, header.id).await?;
        self.open_with(header, payload, &key)
    }

    async fn slow_key(&self, exchange: &Exchange, id: Id) -> Option<DataKey> {
        let made = Arc::new(OnceLock::new());
        let (keys, put) = (Arc::clone(&self.keys), Arc::clone(&made));
        let work = move || put.set(keys.slow_data_key(&id)).is_ok();
        if !exchange.kit.office.work(work).await {
            return None;
        }
        made.get().copied()
    }

    /// A random id, with the key of a cookie that lives long.
    pub(super) async fn fresh_slowly(&self, exchange: &Exchange) -> Option<(Id, DataKey)> {
        let (id, _) = self.fresh()?;
        Some((id, self.slow_key(exchange, id).await?))
    }

    /// Whether a cookie may be so large.
    pub(super) fn fits(&self, jar: &Jar, payload: &str) -> bool {
        self.is_stored || jar.cookies(payload.len()).is_some()
    }

    /// The names of a session's cookies, and the lines that set them.
    pub(super) fn lines(&self, jar: &Jar, header: &Header, payload: &str) -> Vec<(String, String)> {
        let payload = if self.is_stored { "" } else { payload };
        let age_s = if jar.rolling_s == 0 { TTL_S_MAX } else { jar.rolling_s.min(TTL_S_MAX) };
        let life = match jar.is_long {
            true => format!("; Expires={}; Max-Age={age_s}", http_date(header.made_s + age_s)),
            false => String::new(),
        };
        let line = |(at, part): (usize, &str)| {
            let name = jar.part(at + 1);
            let head = if at == 0 { header.text() } else { String::new() };
            let line = format!("{name}={head}{part}{}{life}", self.attributes);
            (name, line)
        };
        jar.divided(payload).enumerate().map(line).collect()
    }

    /// The names of a session's cookies from the n-th on, and the lines that take them away.
    pub(super) fn gone(&self, jar: &Jar, size: usize, from: usize) -> Vec<(String, String)> {
        let count = if self.is_stored { 1 } else { jar.cookies(size).unwrap_or(1) };
        let line = |number| {
            let name = jar.part(number);
            let line = format!("{name}={}{GONE}", self.attributes);
            (name, line)
        };
        (from..=count).map(line).collect()
    }

    /// What client or upstream are told of a session.
    pub(super) fn told(
        &self,
        names: &[String],
        session: &Session,
        now_s: i64,
    ) -> Vec<(&'static str, String)> {
        let header = &session.header;
        let age_s = now_s - header.made_s;
        let rolled_s = age_s - header.rolled_s;
        let left = |limit_s: i64, age_s: i64| (limit_s > 0).then_some(limit_s - age_s);
        let idling = left(self.idling_s, rolled_s - header.idled_s);
        let rolling = left(self.session.rolling_s, rolled_s);
        let absolute = left(self.session.absolute_s, age_s);
        let number = |number: Option<i64>| number.map(|number| number.to_string());
        let told = names.iter().filter_map(|name| {
            let (name, value) = match name.as_str() {
                "id" => ("Session-Id", Some(header.key())),
                "audience" => ("Session-Audience", Some(self.audience.clone())),
                "subject" => ("Session-Subject", session.memory.subject.clone()),
                "timeout" => {
                    let least = [idling, rolling, absolute].into_iter().flatten().min();
                    ("Session-Timeout", number(least))
                }
                "idling-timeout" => ("Session-Idling-Timeout", number(idling)),
                "rolling-timeout" => ("Session-Rolling-Timeout", number(rolling)),
                "absolute-timeout" => ("Session-Absolute-Timeout", number(absolute)),
                _ => return None,
            };
            Some((name, value?))
        });
        told.collect()
    }

    /// The row of a session that is stored.
    pub(super) fn row(&self, jar: &Jar, header: &Header, payload: &str, now_s: i64) -> Value {
        let ttl_s = if jar.rolling_s == 0 { TTL_S_MAX } else { jar.rolling_s.min(TTL_S_MAX) };
        Value::object([
            ("session_id", Value::text(header.key())),
            ("data", Value::text(serde_json::json!([payload]).to_string())),
            ("expires", Value::Integer(now_s + ttl_s)),
            ("ttl", Value::Integer(ttl_s)),
        ])
    }
}

impl Header {
    /// The name of the session's row.
    pub(super) fn key(&self) -> String {
        credentials::to_base64url(&self.id)
    }
}

fn attributes(config: &Config<'_>) -> String {
    let same_site = config.text("cookie_same_site").unwrap_or("Lax");
    let domain = config.text("cookie_domain").filter(|domain| *domain != "localhost");
    let domain = domain.map_or_else(String::new, |domain| format!("; Domain={domain}"));
    let path = config.text("cookie_path").unwrap_or("/");
    let secure = config.flag("cookie_secure") || same_site == "None";
    let secure = if secure { "; Secure" } else { "" };
    let http_only = if config.flag("cookie_http_only") { "; HttpOnly" } else { "" };
    format!("{domain}; Path={path}; SameSite={same_site}{secure}{http_only}")
}

/// The sealed data in a row.
pub(super) fn payload_of(row: &Row) -> Option<String> {
    let data: serde_json::Value = serde_json::from_str(row.text("data")?).ok()?;
    Some(data.get(0)?.as_str()?.to_owned())
}

/// Writes a session's row. The one before it stays for a moment, for requests on their way.
pub(super) fn write(
    working: &mut Working<'_>,
    row: Value,
    old: Option<&str>,
    stale_s: i64,
) -> Result<Rows, Fault> {
    let rows = vec![working.insert(&SESSIONS, row)?];
    let Some(old) = old else { return Ok(rows) };
    if stale_s <= 0 {
        forget(working, old)?;
    } else if let Some(before) = working.find(&SESSIONS, &Key::By("session_id", old.to_owned())) {
        let end_s = Value::Integer(working.now_s() + stale_s);
        let patch = Value::object([("expires", end_s), ("ttl", Value::Integer(stale_s))]);
        working.update(&SESSIONS, &Key::Id(before.id()), patch)?;
    }
    Ok(rows)
}

/// Deletes a session's row.
pub(super) fn forget(working: &mut Working<'_>, key: &str) -> Result<(), Fault> {
    working.delete(&SESSIONS, &Key::By("session_id", key.to_owned())).map(drop)
}

/// A time as HTTP writes it.
pub(super) fn http_date(unix_s: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, second) = (unix_s.div_euclid(86_400), unix_s.rem_euclid(86_400));
    // Years begin in March, so that the day of a leap year is the last.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let month = (month + 2) % 12;
    let year = year + era * 400 + i64::from(month < 2);
    let named = |names: &[&'static str], at: i64| {
        usize::try_from(at).ok().and_then(|at| names.get(at)).copied().unwrap_or_default()
    };
    format!(
        "{}, {day_of_month:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        named(&DAYS, days.rem_euclid(7)),
        named(&MONTHS, month),
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::http_date;

    #[test]
    fn times_are_written() {
        for (unix_s, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (1_709_251_200, "Fri, 01 Mar 2024 00:00:00 GMT"),
            (1_767_225_599, "Wed, 31 Dec 2025 23:59:59 GMT"),
        ] {
            assert_eq!(http_date(unix_s), expected);
        }
    }
}

//! rate-limiting: so many requests in a second, minute, hour, day, month or year.
//!
//! Counts are exact for the whole node: one compare-and-swap in the tally decides, whichever core a
//! request is on. Of several periods all are reserved or none, so no mixture of limits is ever
//! passed. Kong counts after the answer, which lets a burst through; here the request that would
//! pass a limit is refused.
//!
//! With `policy=cluster`, and with `policy=redis` and a `sync_rate`, the node counts for itself and
//! is brought in step every so often: within the time between two such moments each other node may
//! admit what it sees as left, and no more. With `policy=redis` and no `sync_rate` the Redis
//! decides each request, atomically for all windows: the limit is exact for all nodes together.
//!
//! Source: Kong `kong/plugins/rate-limiting/{schema,handler}.lua`,
//! `kong/plugins/rate-limiting/policies/init.lua`; recorded cases of the suite `plugins-traffic`.

mod schema;

use std::net::IpAddr;
use std::sync::OnceLock;

use runtime::http::head::Name;
use runtime::tally::{Slot, Tally};
use smallvec::SmallVec;
use store::check::uri;
use uuid::Uuid;

use crate::pdk::counters::{Shared, Window};
use crate::pdk::window::{PERIODS, Period};
use crate::pdk::{
    Answer, Config, Exchange, Fault, Outcome, Phase, Plugin, Prepared, Spec, Step, lines,
};

/// The plugin.
pub static PLUGIN: Spec = Spec {
    schema: schema::SCHEMA,
    phases: &[Phase::Access],
    entities: &[],
    endpoints: &[],
    prepare,
};

const LIMIT: Name = Name::new("RateLimit-Limit: ");
const LEFT: Name = Name::new("RateLimit-Remaining: ");
const RESET: Name = Name::new("RateLimit-Reset: ");

/// One configured limit.
#[derive(Clone, Debug)]
struct Limit {
    period: Period,
    /// As configured; Kong takes fractions.
    limit: f64,
}

/// Whose requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq)]
enum By {
    Consumer,
    Credential,
    Ip,
    Service,
    Header(String),
    Path(String),
}

#[derive(Clone)]
struct RateLimiting {
    limits: SmallVec<[Limit; 2]>,
    by: By,
    /// The scope of the row: rows of different scopes count apart.
    scope: [u8; 32],
    hide_client_headers: bool,
    fault_tolerant: bool,
    error_code: u16,
    error_message: String,
    /// Where nodes count together; none: this node alone.
    shared: Option<Shared>,
    /// What the counters of each limit have in common, as the tally hashes it.
    marks: OnceLock<SmallVec<[u128; 2]>>,
}

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let limits = PERIODS
        .iter()
        .filter_map(|period| Some(Limit { period: *period, limit: config.number(period.name())? }))
        .collect();
    let named = |field| config.text(field).unwrap_or("").to_owned();
    let prepared = RateLimiting {
        limits,
        by: match config.text("limit_by") {
            Some("credential") => By::Credential,
            Some("ip") => By::Ip,
            Some("service") => By::Service,
            Some("header") => By::Header(named("header_name")),
            Some("path") => By::Path(named("path")),
            _ => By::Consumer,
        },
        scope: scope(config),
        hide_client_headers: config.flag("hide_client_headers"),
        fault_tolerant: config.flag("fault_tolerant"),
        error_code: config
            .integer("error_code")
            .and_then(|code| code.try_into().ok())
            .filter(|code| (100..=599).contains(code))
            .unwrap_or(429),
        error_message: named("error_message"),
        shared: Shared::of(config),
        marks: OnceLock::new(),
    };
    Ok(Prepared::new(move || Box::new(prepared.clone())))
}

fn scope(config: &Config<'_>) -> [u8; 32] {
    let bytes = |field| *config.row().foreign(field).unwrap_or_default().as_bytes();
    let (route, service) = (bytes("route"), bytes("service"));
    std::array::from_fn(|at| route.iter().chain(&service).nth(at).copied().unwrap_or(0))
}

impl Plugin for RateLimiting {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Step<'a> {
        let now_s = (exchange.times.started_wall_us / 1_000_000).cast_signed();
        let who = self.identifier(exchange);
        let slots = self.slots(&exchange.kit.tally, &who, now_s);
        let counter = |shared: &Shared| {
            let of = |(limit, slot): (&Limit, &Slot)| Window::of(limit.period, now_s, *slot);
            let windows = self.limits.iter().zip(&slots).map(of).collect();
            shared.counter(&self.scope, who.words(), windows)
        };
        if let Some(shared) = self.shared.as_ref().filter(|shared| shared.decides()) {
            let counter = counter(shared);
            return Step::Wait(Box::pin(async move {
                let told = exchange.kit.shared_counters.decide(counter, shared.timeout_ms).await;
                match told {
                    None => self.without_a_store(),
                    Some(told) => self.outcome(exchange, &told.before, told.admitted, now_s),
                }
            }));
        }
        let outcome = exchange.kit.tally.reserve(&slots, 1, now_s.cast_unsigned());
        if outcome.full {
            // The table has no room for another counter: as Kong without its datastore.
            return Step::Done(self.without_a_store());
        }
        if let Some(shared) = &self.shared {
            if shared.is_down() && !self.fault_tolerant {
                return Step::Done(self.without_a_store());
            }
            if outcome.admitted {
                exchange.kit.shared_counters.note(counter(shared));
            }
        }
        Step::Done(self.outcome(exchange, &outcome.before, outcome.admitted, now_s))
    }
}

/// Whether a request is for a path, however it is written.
fn is_at(exchange: &Exchange, path: &str) -> bool {
    let raw = std::str::from_utf8(exchange.raw_path()).unwrap_or_default();
    uri::normalize(raw) == path
}

/// Whose count it is, without an allocation where that is possible.
enum Who<'a> {
    Id(Uuid),
    Ip([u8; 16]),
    Text(&'a [u8]),
}

impl Who<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Id(id) => id.as_bytes(),
            Self::Ip(ip) => ip,
            Self::Text(text) => text,
        }
    }

    /// As Kong writes it where nodes count together.
    fn words(&self) -> String {
        match self {
            Self::Id(id) => id.to_string(),
            Self::Ip(ip) => std::net::Ipv6Addr::from(*ip).to_canonical().to_string(),
            Self::Text(text) => String::from_utf8_lossy(text).into_owned(),
        }
    }
}

impl RateLimiting {
    /// The node's own counter of each limit.
    fn slots(&self, tally: &Tally, who: &Who<'_>, now_s: i64) -> SmallVec<[Slot; 2]> {
        let marks = self.marks.get_or_init(|| {
            let place = self.shared.as_ref().map_or(&b""[..], |shared| shared.mark.as_bytes());
            let mark =
                |limit: &Limit| tally.fingerprint(&[&self.scope, &[limit.period.number()], place]);
            self.limits.iter().map(mark).collect()
        });
        let slot = |(limit, mark): (&Limit, &u128)| Slot {
            key: tally.fingerprint_under(*mark, who.bytes()),
            window: limit.period.window(now_s),
            ends_s: limit.period.ends_s(now_s),
            limit: limit.limit.ceil() as u64,
        };
        self.limits.iter().zip(marks).map(slot).collect()
    }

    /// Nobody can say how much is left.
    fn without_a_store(&self) -> Outcome {
        match self.fault_tolerant {
            true => Outcome::Next,
            false => Outcome::Answer(Box::new(Answer::error(500, "An unexpected error occurred"))),
        }
    }

    fn outcome(
        &self,
        exchange: &mut Exchange,
        before: &[u64],
        admitted: bool,
        now_s: i64,
    ) -> Outcome {
        let shown = self.shown(before, admitted, now_s);
        if !self.hide_client_headers {
            shown.write(exchange);
        }
        if admitted {
            return Outcome::Next;
        }
        let answer = Answer::error(self.error_code, self.error_message.clone());
        Outcome::Answer(Box::new(match self.hide_client_headers {
            true => answer,
            false => answer.with("Retry-After", shown.reset_s.to_string()),
        }))
    }

    fn identifier<'a>(&'a self, exchange: &'a Exchange) -> Who<'a> {
        let credential = || {
            let id = exchange.credential.as_ref().map(|credential| credential.id.as_bytes());
            id.map(Who::Text)
        };
        let found = match &self.by {
            By::Consumer => {
                let consumer = exchange.consumer.as_ref().map(|row| Who::Id(row.id()));
                consumer.or_else(credential)
            }
            By::Credential => credential(),
            By::Ip => None,
            By::Service => exchange.service_id().map(Who::Id),
            By::Header(name) => {
                let fields = &exchange.request.fields;
                fields.get(&*lines::spelled(fields, name)).map(Who::Text)
            }
            By::Path(path) => is_at(exchange, path).then_some(Who::Text(path.as_bytes())),
        };
        found.unwrap_or_else(|| {
            Who::Ip(match exchange.client.ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            })
        })
    }

    /// What the client is told: every limit, and the tightest of them.
    fn shown(&self, before: &[u64], admitted: bool, now_s: i64) -> Shown {
        let stop = if admitted { None } else { self.last_used_up(before) };
        let mut shown = Shown { lines: SmallVec::new(), limit: 0.0, left: f64::MAX, reset_s: 1 };
        let mut window_s = 0;
        for (at, (limit, before)) in self.limits.iter().zip(before).enumerate() {
            let used = *before as f64 + f64::from(u8::from(stop.is_none_or(|stop| stop == at)));
            let left = (limit.limit - used).max(0.0);
            let length_s = limit.period.usual_length_s();
            if left < shown.left || (left == shown.left && length_s > window_s) {
                window_s = length_s;
                shown.limit = limit.limit;
                shown.left = left;
                shown.reset_s = (length_s - (now_s - limit.period.start_s(now_s))).max(1);
            }
            shown.lines.push((limit.period, limit.limit, left));
        }
        shown
    }

    /// The last limit that is used up, in the order of the periods.
    fn last_used_up(&self, before: &[u64]) -> Option<usize> {
        let used_up = |(limit, before): (&Limit, &u64)| limit.limit - *before as f64 <= 0.0;
        self.limits.iter().zip(before).rposition(used_up)
    }
}

struct Shown {
    lines: SmallVec<[(Period, f64, f64); 2]>,
    limit: f64,
    left: f64,
    reset_s: i64,
}

impl Shown {
    fn write(&self, exchange: &mut Exchange) {
        let mut digits = Digits::default();
        for (period, limit, left) in &self.lines {
            exchange.early.put(period.limit_header(), digits.of(*limit));
            exchange.early.put(period.left_header(), digits.of(*left));
        }
        exchange.early.put(LIMIT, digits.of(self.limit));
        exchange.early.put(LEFT, digits.of(self.left));
        exchange.early.put(RESET, digits.of(self.reset_s as f64));
    }
}

/// Numbers as Lua prints them: whole ones without a fraction.
#[derive(Default)]
struct Digits {
    whole: itoa::Buffer,
    other: String,
}

impl Digits {
    fn of(&mut self, number: f64) -> &[u8] {
        let whole = number as i64;
        if whole as f64 == number && whole.unsigned_abs() < 1_000_000_000_000_000 {
            return self.whole.format(whole).as_bytes();
        }
        self.other = number.to_string();
        self.other.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::script::{Script, answered};

    const NOON_S: i64 = 1_795_262_400;

    fn call(
        script: &Script,
        plugin: &dyn Plugin,
        fields: &[(&str, &str)],
    ) -> (Option<u16>, String) {
        let mut exchange = script.get("/r", fields);
        exchange.times.started_wall_us = NOON_S as u64 * 1_000_000;
        let ended = answered(plugin.access(&mut exchange)).map(|(status, _)| status);
        let mut lines: Vec<_> = exchange
            .early
            .iter()
            .map(|(n, v)| format!("{}={}", String::from_utf8_lossy(n), String::from_utf8_lossy(v)))
            .collect();
        lines.sort();
        (ended, lines.join(" "))
    }

    /// Sends so many requests; gives how many passed.
    fn passed(config: serde_json::Value, requests: usize) -> usize {
        let script = Script::new(&PLUGIN, config);
        let plugin = script.plugin();
        (0..requests).filter(|_| call(&script, &*plugin, &[]).0.is_none()).count()
    }

    #[test]
    fn exactly_the_limit_passes() {
        assert_eq!(passed(serde_json::json!({"minute": 5}), 20), 5);
        assert_eq!(passed(serde_json::json!({"minute": 3, "hour": 5}), 20), 3);
        assert_eq!(passed(serde_json::json!({"minute": 1.5}), 20), 2);
    }

    #[test]
    fn a_path_is_one_however_it_is_written() {
        let config = serde_json::json!({"minute": 2, "limit_by": "path", "path": "/a/b"});
        let script = Script::new(&PLUGIN, config);
        let plugin = script.plugin();
        let passed = |target: &str, from: u8| {
            let mut exchange = script.get(target, &[]);
            exchange.times.started_wall_us = NOON_S as u64 * 1_000_000;
            exchange.client.ip = std::net::Ipv4Addr::new(10, 0, 0, from).into();
            answered(plugin.access(&mut exchange)).is_none()
        };
        assert!(passed("/a/b", 1) && passed("/%61/b?x", 2), "two of one path, from anywhere");
        assert!(!passed("/a/./b", 3) && !passed("/a//b", 4) && !passed("/a/b", 5));
        assert!(passed("/a/c", 3) && passed("/a/b/", 4), "other paths count by address");
    }

    #[test]
    fn every_window_is_shown_and_the_tightest() {
        let script = Script::new(&PLUGIN, serde_json::json!({"hour": 3, "day": 20}));
        let (ended, lines) = call(&script, &*script.plugin(), &[]);
        assert_eq!(ended, None);
        assert_eq!(
            lines,
            "RateLimit-Limit=3 RateLimit-Remaining=2 RateLimit-Reset=3600 X-RateLimit-Limit-Day=20 \
             X-RateLimit-Limit-Hour=3 X-RateLimit-Remaining-Day=19 X-RateLimit-Remaining-Hour=2"
        );
    }

    #[test]
    fn what_is_counted_together_is_configurable() {
        let config = serde_json::json!({"hour": 1, "limit_by": "header", "header_name": "x-user"});
        let script = Script::new(&PLUGIN, config);
        let plugin = script.plugin();
        assert_eq!(call(&script, &*plugin, &[("x-user", "a")]).0, None);
        assert_eq!(call(&script, &*plugin, &[("x-user", "a")]).0, Some(429));
        assert_eq!(call(&script, &*plugin, &[("x-user", "b")]).0, None);
        assert_eq!(call(&script, &*plugin, &[]).0, None, "without the header it is the address");
    }

    #[test]
    fn a_refused_request_is_not_counted() {
        let script = Script::new(&PLUGIN, serde_json::json!({"minute": 2, "hour": 5}));
        let plugin = script.plugin();
        for _ in 0..10 {
            call(&script, &*plugin, &[]);
        }
        let (ended, lines) = call(&script, &*plugin, &[]);
        assert_eq!(ended, Some(429));
        assert!(lines.contains("X-RateLimit-Remaining-Minute=0"), "{lines}");
        assert!(lines.contains("X-RateLimit-Remaining-Hour=3"), "{lines}");
    }

    #[test]
    fn headers_can_be_hidden_and_the_error_changed() {
        let config = serde_json::json!({
            "hour": 1, "hide_client_headers": true, "error_code": 418, "error_message": "slow down",
        });
        let script = Script::new(&PLUGIN, config);
        let plugin = script.plugin();
        assert_eq!(call(&script, &*plugin, &[]), (None, String::new()));
        let mut exchange = script.get("/r", &[]);
        exchange.times.started_wall_us = NOON_S as u64 * 1_000_000;
        let ended = answered(plugin.access(&mut exchange));
        assert_eq!(ended, Some((418, "slow down".to_owned())));
    }

    #[test]
    fn limits_that_contradict_each_other_are_faults() {
        let fault = |config| crate::pdk::script::fault(&PLUGIN, config);
        let found = fault(serde_json::json!({"minute": 10, "hour": 5}));
        let expected = "The limit for hour(5.0) cannot be lower than the limit for minute(10.0)";
        assert_eq!(found, Some(format!("schema violation (config: {expected})")));
    }
}

//! response-ratelimiting: counts what upstreams report in a header, and ends when it is too much.
//!
//! Counts are those of the whole node (the tally); with `policy=redis` those of a Redis, under
//! Kong's keys: asked before the upstream is, added to afterwards. With `policy=cluster` the node
//! counts for itself and is brought in step with Kong's table every so often, and whenever somebody
//! asked: between two such moments it knows nothing of what other nodes counted. As in Kong the
//! request that is under way may pass a limit: only what follows is refused. Unlike Kong's, a
//! negative amount gives nothing back, and a limit that was passed, not met, blocks too.
//!
//! Source: Kong `kong/plugins/response-ratelimiting/{schema,access,header_filter,log}.lua`,
//! `policies/init.lua`; recorded cases of the suite `plugins-traffic`.

mod schema;

use std::net::IpAddr;
use std::sync::Arc;

use runtime::tally::Slot;
use smallvec::SmallVec;
use store::value::Value;

use crate::pdk::counters::{Counter, Shared, Window};
use crate::pdk::window::{PERIODS, Period};
use crate::pdk::{
    Answer, Config, Exchange, Fault, Outcome, Phase, Plugin, Prepared, ResponseBody, Spec, Step,
    lua,
};

/// The plugin.
pub static PLUGIN: Spec = Spec {
    schema: schema::SCHEMA,
    phases: &[Phase::Access, Phase::HeaderFilter],
    entities: &[],
    endpoints: &[],
    prepare,
};

/// What a count may not pass whatever is reported.
const COUNT_MAX: u64 = u32::MAX as u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Consumer,
    Credential,
    Ip,
}

/// What is counted under one name.
#[derive(Clone, Debug)]
struct Counted {
    name: Arc<str>,
    /// `X-RateLimit-Remaining-<name>`.
    left_header: String,
    limits: SmallVec<[Limit; 2]>,
}

#[derive(Clone, Debug)]
struct Limit {
    period: Period,
    /// As configured; Kong takes fractions.
    limit: f64,
    /// `X-RateLimit-Limit-<name>-<period>`.
    limit_header: String,
    /// `X-RateLimit-Remaining-<name>-<period>`.
    left_header: String,
}

#[derive(Clone)]
struct ResponseRatelimiting {
    header_name: String,
    by: By,
    /// The scope of the row: rows of different scopes count apart.
    scope: [u8; 32],
    fault_tolerant: bool,
    block_on_first_violation: bool,
    hide_client_headers: bool,
    counted: Vec<Counted>,
    /// Where nodes count together; none: this node alone.
    shared: Option<Shared>,
}

/// Noted in the access phase: whose counts, in which windows.
struct Identified {
    who: SmallVec<[u8; 64]>,
    now_s: i64,
    /// The counts of all limits in order, where others know them; else the tally does.
    used: Option<SmallVec<[u64; 6]>>,
}

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let bytes = |field| *config.row().foreign(field).unwrap_or_default().as_bytes();
    let (route, service) = (bytes("route"), bytes("service"));
    let counted = |(name, limits): &(Box<str>, Value)| Counted::new(name, limits);
    let prepared = ResponseRatelimiting {
        header_name: config.text("header_name").unwrap_or("x-kong-limit").to_owned(),
        by: match config.text("limit_by") {
            Some("credential") => By::Credential,
            Some("ip") => By::Ip,
            _ => By::Consumer,
        },
        scope: std::array::from_fn(|at| route.iter().chain(&service).nth(at).copied().unwrap_or(0)),
        fault_tolerant: config.flag("fault_tolerant"),
        block_on_first_violation: config.flag("block_on_first_violation"),
        hide_client_headers: config.flag("hide_client_headers"),
        counted: config.get("limits").pairs().iter().map(counted).collect(),
        shared: Shared::of(config),
    };
    Ok(Prepared::new(move || Box::new(prepared.clone())))
}

impl Counted {
    fn new(name: &str, limits: &Value) -> Self {
        let limit = |period: &Period| {
            let limit = limits.lookup(period.name()).and_then(Value::as_number)?;
            let period_name = period.name();
            Some(Limit {
                period: *period,
                limit,
                limit_header: format!("X-RateLimit-Limit-{name}-{period_name}"),
                left_header: format!("X-RateLimit-Remaining-{name}-{period_name}"),
            })
        };
        Self {
            name: name.into(),
            left_header: format!("X-RateLimit-Remaining-{name}"),
            limits: PERIODS.iter().filter_map(limit).collect(),
        }
    }
}

impl Plugin for ResponseRatelimiting {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Step<'a> {
        let now_s = (exchange.times.started_wall_us / 1_000_000).cast_signed();
        let identified = Identified { who: self.identifier(exchange), now_s, used: None };
        let Some(shared) = self.shared.as_ref().filter(|shared| shared.decides()) else {
            return Step::Done(self.admit_here(exchange, identified));
        };
        let question = self.counter(shared, exchange, &identified, |_| 0);
        Step::Wait(Box::pin(async move {
            match exchange.kit.shared_counters.decide(question, shared.timeout_ms).await {
                Some(told) => {
                    self.admit(exchange, Identified { used: Some(told.before), ..identified })
                }
                None if self.fault_tolerant => Outcome::Next,
                None => unexpected(),
            }
        }))
    }

    fn header_filter(&self, exchange: &mut Exchange) {
        let Some(identified) = exchange.notes.take::<Identified>() else { return };
        let lines = exchange.response.fields.all(&self.header_name);
        let reported = lines.map(String::from_utf8_lossy).collect::<Vec<_>>().join(",");
        exchange.response.fields.remove(&self.header_name);
        let mut stop = false;
        for (at, (counted, limit)) in self.limits().enumerate() {
            let amount = amount(&reported, &counted.name);
            let left = self.left(exchange, (at, counted, limit), &identified);
            stop |= amount > 0 && left <= 0.0;
            if !self.hide_client_headers {
                let shown = (left - amount as f64).max(0.0);
                let fields = &mut exchange.response.fields;
                fields.set(&limit.limit_header, lua::number(limit.limit));
                fields.set(&limit.left_header, lua::number(shown));
            }
        }
        if stop {
            exchange.response.status = 429;
            exchange.response.set_reason("Too Many Requests");
            exchange.response_body = ResponseBody::Dropped;
            return;
        }
        let amount = |counted: &Counted| amount(&reported, &counted.name);
        if let Some(shared) = &self.shared {
            let counter = self.counter(shared, exchange, &identified, amount);
            if counter.windows.iter().any(|window| window.amount > 0) {
                exchange.kit.shared_counters.note(counter);
            }
        }
        if self.shared.as_ref().is_none_or(|shared| !shared.decides()) {
            for counted in &self.counted {
                self.count(exchange, counted, amount(counted), &identified);
            }
        }
    }
}

/// Nobody can say how much is left.
fn unexpected() -> Outcome {
    Outcome::Answer(Box::new(Answer::error(500, "An unexpected error occurred")))
}

/// What a report such as `videos=1, images=2` says about a name; what is no amount is nothing.
fn amount(reported: &str, name: &str) -> u64 {
    let mut found = 0.0;
    for part in reported.split(',') {
        let mut sides = part.split('=');
        if let (Some(own), Some(value), None) = (sides.next(), sides.next(), sides.next())
            && own.trim() == name
        {
            found = value.trim().parse::<f64>().unwrap_or(0.0);
        }
    }
    if found > 0.0 { found.ceil().min(COUNT_MAX as f64) as u64 } else { 0 }
}

/// The node keeps no count of its own of what is decided elsewhere.
fn no_slot(limit: &Limit, now_s: i64) -> Slot {
    let (window, ends_s) = (limit.period.window(now_s), limit.period.ends_s(now_s));
    Slot { key: 0, window, ends_s, limit: 0 }
}

impl ResponseRatelimiting {
    fn identifier(&self, exchange: &Exchange) -> SmallVec<[u8; 64]> {
        let consumer = exchange.consumer.as_ref().filter(|_| self.by == By::Consumer);
        if let Some(row) = consumer {
            return row.id().as_bytes().as_slice().into();
        }
        let credential = exchange.credential.as_ref().filter(|_| self.by != By::Ip);
        if let Some(credential) = credential {
            return credential.id.as_bytes().into();
        }
        match exchange.client.ip {
            IpAddr::V4(ip) => ip.octets().as_slice().into(),
            IpAddr::V6(ip) => ip.octets().as_slice().into(),
        }
    }

    /// Every limit with the name that it is for, in order.
    fn limits(&self) -> impl Iterator<Item = (&Counted, &Limit)> {
        self.counted.iter().flat_map(|counted| counted.limits.iter().map(move |l| (counted, l)))
    }

    /// The node's own counts decide, with what it knows of others'.
    fn admit_here(&self, exchange: &mut Exchange, identified: Identified) -> Outcome {
        if let Some(shared) = &self.shared {
            if shared.is_down() && !self.fault_tolerant {
                return unexpected();
            }
            let question = self.counter(shared, exchange, &identified, |_| 0);
            exchange.kit.shared_counters.note(question);
        }
        self.admit(exchange, identified)
    }

    /// Refuses what a limit that is used up blocks; else tells the upstream's answer what is left.
    fn admit(&self, exchange: &mut Exchange, identified: Identified) -> Outcome {
        let mut places = self.limits().enumerate().peekable();
        for counted in &self.counted {
            let mut least = f64::MAX;
            while let Some((at, (_, limit))) =
                places.next_if(|(_, (own, _))| std::ptr::eq(*own, counted))
            {
                least = least.min(self.left(exchange, (at, counted, limit), &identified));
            }
            if self.block_on_first_violation && least <= 0.0 {
                let message = format!("API rate limit exceeded for '{}'", counted.name);
                return Outcome::Answer(Box::new(Answer::error(429, message)));
            }
            exchange.early.set(&counted.left_header, lua::number(least));
        }
        exchange.notes.put(identified);
        Outcome::Next
    }

    fn slot(
        &self,
        exchange: &Exchange,
        counted: &Counted,
        limit: &Limit,
        identified: &Identified,
    ) -> Slot {
        let (who, name) = (&identified.who[..], counted.name.as_bytes());
        let period = [limit.period.number()];
        let place = self.shared.as_ref().map_or(&b""[..], |shared| shared.mark.as_bytes());
        let parts: [&[u8]; 6] = [&self.scope, who, name, &period, b"response", place];
        Slot {
            key: exchange.kit.tally.fingerprint(&parts),
            window: limit.period.window(identified.now_s),
            ends_s: limit.period.ends_s(identified.now_s),
            limit: COUNT_MAX,
        }
    }

    /// What is left of a limit, which stands at a place among all; below nothing where it was
    /// passed.
    fn left(
        &self,
        exchange: &Exchange,
        (at, counted, limit): (usize, &Counted, &Limit),
        who: &Identified,
    ) -> f64 {
        let used = match &who.used {
            Some(used) => used.get(at).copied().unwrap_or(0),
            None => exchange.kit.tally.count(&self.slot(exchange, counted, limit, who)),
        };
        limit.limit - used as f64
    }

    /// The counter in a place that nodes share, and by how much each name's windows rise there.
    fn counter(
        &self,
        shared: &Shared,
        exchange: &Exchange,
        identified: &Identified,
        amount: impl Fn(&Counted) -> u64,
    ) -> Counter {
        let now_s = identified.now_s;
        let windows = self.limits().map(|(counted, limit)| {
            let slot = match shared.decides() {
                true => no_slot(limit, now_s),
                false => self.slot(exchange, counted, limit, identified),
            };
            Window {
                counted: Some(Arc::clone(&counted.name)),
                amount: amount(counted),
                ..Window::of(limit.period, now_s, slot)
            }
        });
        let who = match (exchange.consumer.as_ref(), exchange.credential.as_ref()) {
            (Some(row), _) if self.by == By::Consumer => row.id().to_string(),
            (_, Some(credential)) if self.by != By::Ip => credential.id.clone(),
            _ => exchange.client.ip.to_canonical().to_string(),
        };
        shared.counter(&self.scope, who, windows.collect())
    }

    fn count(&self, exchange: &Exchange, counted: &Counted, amount: u64, who: &Identified) {
        if amount == 0 {
            return;
        }
        for limit in &counted.limits {
            let slot = self.slot(exchange, counted, limit, who);
            let outcome = exchange.kit.tally.reserve(&[slot], amount, who.now_s.cast_unsigned());
            if outcome.full && !self.fault_tolerant {
                log::error!("response-ratelimiting: no room to count '{}'", counted.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::script::{Script, answered, check_fault, lines};
    use serde_json::json;

    const NOON_S: u64 = 1_795_262_400;

    /// One request whose upstream reports something: the status, and the lines of the answer.
    fn call(script: &Script, plugin: &dyn Plugin, reported: &str) -> (u16, Vec<String>) {
        let mut exchange = script.get("/", &[]);
        exchange.times.started_wall_us = NOON_S * 1_000_000;
        if let Some((status, message)) = answered(plugin.access(&mut exchange)) {
            return (status, vec![message]);
        }
        let mut all = lines(&exchange.early);
        exchange.response.status = 200;
        exchange.response.fields.add("X-Kong-Limit", reported);
        plugin.header_filter(&mut exchange);
        let dropped = exchange.response_body == ResponseBody::Dropped;
        assert_eq!(exchange.response.status == 429, dropped);
        all.extend(lines(&exchange.response.fields));
        (exchange.response.status, all)
    }

    #[track_caller]
    fn check(config: serde_json::Value, calls: &[(&str, u16, &[&str])]) {
        let script = Script::new(&PLUGIN, config);
        let plugin = script.plugin();
        for (at, (reported, status, expected)) in calls.iter().enumerate() {
            let found = call(&script, &*plugin, reported);
            let expected = expected.iter().map(|line| (*line).to_owned()).collect();
            assert_eq!(found, (*status, expected), "call {at}");
        }
    }

    const fn video(
        status: u16,
        lines: &'static [&'static str],
    ) -> (&'static str, u16, &'static [&'static str]) {
        ("video=1", status, lines)
    }

    #[test]
    fn what_is_reported_is_counted() {
        let row = |left, after| match (left, after) {
            (3, 2) => &[
                "X-RateLimit-Remaining-video: 3",
                "X-RateLimit-Limit-video-minute: 3",
                "X-RateLimit-Remaining-video-minute: 2",
            ][..],
            (2, 1) => &[
                "X-RateLimit-Remaining-video: 2",
                "X-RateLimit-Limit-video-minute: 3",
                "X-RateLimit-Remaining-video-minute: 1",
            ],
            (1, 0) => &[
                "X-RateLimit-Remaining-video: 1",
                "X-RateLimit-Limit-video-minute: 3",
                "X-RateLimit-Remaining-video-minute: 0",
            ],
            _ => &[
                "X-RateLimit-Remaining-video: 0",
                "X-RateLimit-Limit-video-minute: 3",
                "X-RateLimit-Remaining-video-minute: 0",
            ],
        };
        let calls = [
            video(200, row(3, 2)),
            video(200, row(2, 1)),
            video(200, row(1, 0)),
            video(429, row(0, 0)),
            video(429, row(0, 0)),
            ("", 200, row(0, 0)),
        ];
        check(json!({"limits": {"video": {"minute": 3}}}), &calls);
    }

    #[test]
    fn names_and_periods_count_apart() {
        let config = json!({"limits": {"a": {"minute": 5, "hour": 10}, "b": {"day": 1}}});
        let refused: &[&str] = &[
            "X-RateLimit-Remaining-a: 3",
            "X-RateLimit-Remaining-b: 0",
            "X-RateLimit-Limit-a-minute: 5",
            "X-RateLimit-Remaining-a-minute: 1",
            "X-RateLimit-Limit-a-hour: 10",
            "X-RateLimit-Remaining-a-hour: 6",
            "X-RateLimit-Limit-b-day: 1",
            "X-RateLimit-Remaining-b-day: 0",
        ];
        let first: &[&str] = &[
            "X-RateLimit-Remaining-a: 5",
            "X-RateLimit-Remaining-b: 1",
            "X-RateLimit-Limit-a-minute: 5",
            "X-RateLimit-Remaining-a-minute: 3",
            "X-RateLimit-Limit-a-hour: 10",
            "X-RateLimit-Remaining-a-hour: 8",
            "X-RateLimit-Limit-b-day: 1",
            "X-RateLimit-Remaining-b-day: 0",
        ];
        let report = "a=2, b=1";
        check(config, &[(report, 200, first), (report, 429, refused), (report, 429, refused)]);
    }

    #[test]
    fn what_is_no_report_counts_nothing() {
        for (reported, expected) in [
            ("v=1", 1),
            ("v = 2", 2),
            ("x=9,v=3", 3),
            ("v=x", 0),
            ("zz=1", 0),
            ("v", 0),
            ("v=1;w=2", 0),
            ("", 0),
            ("v=-1", 0),
            ("V=1", 0),
            ("v=1=2", 0),
            ("v=1.5", 2),
            ("v=1,v=4", 4),
            ("v=inf", COUNT_MAX),
            ("v=nan", 0),
            ("v=1e99", COUNT_MAX),
        ] {
            assert_eq!(amount(reported, "v"), expected, "{reported}");
        }
    }

    #[test]
    fn several_lines_of_the_upstream_are_one_report() {
        let script = Script::new(&PLUGIN, json!({"limits": {"v": {"day": 9}, "w": {"day": 9}}}));
        let mut exchange = script.get("/", &[]);
        let plugin = script.plugin();
        assert!(answered(plugin.access(&mut exchange)).is_none());
        for reported in ["v=2", "w=3"] {
            exchange.response.fields.add("X-Kong-Limit", reported);
        }
        plugin.header_filter(&mut exchange);
        let left = |name| exchange.response.fields.get(name).map(<[u8]>::to_vec);
        assert_eq!(left("X-RateLimit-Remaining-v-day").as_deref(), Some(&b"7"[..]));
        assert_eq!(left("X-RateLimit-Remaining-w-day").as_deref(), Some(&b"6"[..]));
    }

    #[test]
    fn the_first_violation_can_block_and_headers_can_be_hidden() {
        let config = json!({
            "limits": {"v": {"minute": 1}}, "block_on_first_violation": true,
            "hide_client_headers": true,
        });
        let blocked: &[&str] = &["API rate limit exceeded for 'v'"];
        check(config, &[("v=2", 200, &["X-RateLimit-Remaining-v: 1"]), ("", 429, blocked)]);
    }

    #[test]
    fn an_answer_without_access_is_left_alone() {
        let script = Script::new(&PLUGIN, json!({"limits": {"v": {"minute": 1}}}));
        let mut exchange = script.get("/", &[]);
        exchange.response.fields.add("X-Kong-Limit", "v=1");
        script.plugin().header_filter(&mut exchange);
        assert_eq!(lines(&exchange.response.fields), ["X-Kong-Limit: v=1"]);
    }

    #[test]
    fn limits_that_contradict_each_other_are_faults() {
        let check = |config, words| check_fault(&PLUGIN, config, words);
        check(json!({}), "required field missing");
        check(json!({"limits": {}}), "length must be at least 1");
        check(json!({"limits": {"v": {}}}), "at least one of these fields must be non-empty");
        let limits = json!({"limits": {"v": {"second": 20, "minute": 10}}});
        check(limits, "the limit for minute(10.0) cannot be lower than the limit for second(20.0)");
        check(json!({"limits": {"v": {"hour": 0}}}), "greater than 0");
    }
}

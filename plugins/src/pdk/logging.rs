//! What the log plugins share: they only say that they want an exchange, and how its entries leave.
//!
//! In the log phase each puts its row into `Exchange::logged_to`; when all have spoken, the road
//! commits one record for all of them ([`commit`]). Documents, queues and sending are the
//! exporter's.

use std::sync::Arc;

use exporter::DestinationKind;
use exporter::event::{Lines, Scheme as Spoken};
use exporter::logs::queue::{FLIGHTS_MAX, QUEUE_BYTES_MAX};
use exporter::logs::{
    Field as LogField, Latencies, LogReport, LogSettings, ROWS_MAX, RowKey, Severities, Terms,
};
use smallvec::SmallVec;
use store::schema::{Field, text, typical};
use store::value::Value;

use super::{Config, Exchange, Fault, Origin, Plugin, Prepared, Scheme};

/// The field `custom_fields_by_lua`: what Lua is needed for is refused.
pub const CUSTOM_FIELDS: Field =
    typical::lua_code("custom_fields_by_lua").custom(fields_can_be_set);

/// A severity's name.
pub const fn severity(name: &'static str) -> Field {
    use store::schema::Preset;
    text(name, "")
        .or(Preset::Text("info"))
        .one_of(&["debug", "info", "notice", "warning", "err", "crit", "alert", "emerg"])
}

fn fields_can_be_set(fields: &Value) -> Result<(), String> {
    for (name, snippet) in fields.pairs() {
        LogField::parse(name, snippet.as_text().unwrap_or_default())?;
    }
    Ok(())
}

/// The fields that a row sets in its documents. A row of an older database may have some that need
/// Lua: they are taken out of the document, since what they would have hidden must not leave.
pub fn custom_fields(config: &Config<'_>) -> Vec<LogField> {
    let pairs = config.get("custom_fields_by_lua").pairs().iter();
    let field = |(name, snippet): &(Box<str>, Value)| {
        LogField::parse(name, snippet.as_text().unwrap_or_default()).unwrap_or_else(|why| {
            log::warn!("a log plugin leaves out a custom field: {why}");
            LogField::absent(name)
        })
    };
    pairs.map(field).collect()
}

/// The terms of the field `queue`, and of the older fields that still overrule it.
pub fn queue_terms(config: &Config<'_>) -> Terms {
    let number = |path: &str| config.record().path(path).and_then(Value::as_number);
    let older = |name: &str, usual: f64| config.number(name).filter(|given| *given != usual);
    let count = |number: Option<f64>, otherwise: usize| {
        number.filter(|n| *n >= 0.0).map_or(otherwise, |n| n as usize)
    };
    let ms = |number: Option<f64>, otherwise: u64| {
        number.filter(|s| *s >= 0.0).map_or(otherwise, |seconds| (seconds * 1_000.0) as u64)
    };
    let batch = older("queue_size", 1.0).or(number("queue.max_batch_size"));
    let linger = older("flush_timeout", 2.0).or(number("queue.max_coalescing_delay"));
    let unbounded = number("queue.concurrency_limit") == Some(-1.0);
    Terms {
        batch_entries_max: count(batch, 1).max(1),
        linger_ms: ms(linger, 1_000),
        entries_max: count(number("queue.max_entries"), 10_000).max(1),
        bytes_max: count(number("queue.max_bytes"), QUEUE_BYTES_MAX),
        retry_ms_first: ms(number("queue.initial_retry_delay"), 10).max(1),
        retry_ms_max: ms(number("queue.max_retry_delay"), 60_000).max(1),
        retry_time_ms: ms(number("queue.max_retry_time"), 60_000),
        flights_max: if unbounded { FLIGHTS_MAX } else { 1 },
    }
}

/// Severities of answers, and the least that is sent, as syslog and loggly have them.
pub fn severities(config: &Config<'_>, facility: u8) -> Severities {
    const USUAL: u8 = 6;
    let of = |field| config.text(field).and_then(Severities::named).unwrap_or(USUAL);
    let by_class =
        [of("successful_severity"), of("client_errors_severity"), of("server_errors_severity")];
    Severities { facility, by_class, least: of("log_level") }
}

/// Milliseconds of a number field.
pub fn milliseconds(config: &Config<'_>, field: &str) -> u64 {
    config.number(field).filter(|ms| *ms >= 0.0).map_or(0, |ms| ms as u64)
}

/// A port field.
pub fn port(config: &Config<'_>) -> u16 {
    config.integer("port").and_then(|port| port.try_into().ok()).unwrap_or(0)
}

/// Which answers a row wants.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// All.
    All,
    /// Those with a severity that is sent.
    Severe(Severities),
    /// Statuses within one of these ranges, ends included.
    Statuses(Arc<[(u16, u16)]>),
}

impl Wanted {
    fn has(&self, status: u16) -> bool {
        match self {
            Self::All => true,
            Self::Severe(severities) => severities.of(status).is_some(),
            Self::Statuses(ranges) => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&status))
            }
        }
    }
}

/// The whole of a log plugin on the core: it wants exchanges.
pub fn logging(config: &Config<'_>, settings: LogSettings, wanted: Wanted) -> Prepared {
    let row = RowKey { id: config.row().id(), version: config.row().version() };
    let destination = DestinationKind::Log(Arc::new(settings));
    let instance = move || {
        let wanted = wanted.clone();
        Box::new(Logging { row, wanted }) as Box<dyn Plugin>
    };
    Prepared::new(instance).reporting_to(destination)
}

/// A configuration that cannot be used.
///
/// # Errors
/// Always.
pub fn fault<T>(field: &'static str, message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { field, message: message.into() })
}

struct Logging {
    row: RowKey,
    wanted: Wanted,
}

impl Plugin for Logging {
    fn log(&self, exchange: &mut Exchange) {
        if self.wanted.has(exchange.response.status) && exchange.logged_to.len() < ROWS_MAX {
            exchange.logged_to.push(self.row);
        }
    }
}

/// What passed on the client's connection, for the log phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Bytes of the request, its head included.
    pub received_bytes: u64,
    /// Bytes of the response, its head included.
    pub sent_bytes: u64,
    /// The length that the client was told.
    pub content_length: Option<u64>,
    /// Whether the body went in chunks.
    pub chunked: bool,
    /// Whether the connection stays open.
    pub keep_alive: bool,
}

/// How long things took, in milliseconds, if the exchange ends now.
pub fn latencies(exchange: &Exchange) -> Latencies {
    let times = &exchange.times;
    let now_us = times.started_us + exchange.ended_wall_us().saturating_sub(times.started_wall_us);
    let ms =
        |from: u64, to: u64| u32::try_from(to.saturating_sub(from) / 1_000).unwrap_or(u32::MAX - 1);
    let left_us = if times.left_us == 0 { now_us } else { times.left_us };
    let asked = !exchange.tries.is_empty();
    let asked_us = if asked { times.upstream_started_us } else { left_us };
    let told_us =
        if times.upstream_answered_us == 0 { left_us } else { times.upstream_answered_us };
    let answered = exchange.origin == Origin::Upstream;
    Latencies {
        kong_ms: ms(times.started_us, asked_us),
        proxy_ms: asked.then(|| ms(asked_us, told_us)),
        receive_ms: if answered { ms(told_us, now_us) } else { 0 },
        request_ms: ms(times.started_us, now_us),
    }
}

/// Commits one record for all log plugins that want the exchange. One copy, no allocation beyond
/// the lists of header lines, which are short and on the stack.
pub fn commit(exchange: &Exchange) {
    let passed = &exchange.passed;
    let mut ring = exchange.kit.ring.borrow_mut();
    let Some(ring) = ring.as_mut() else { return };
    let key = |row: &Arc<store::value::Row>| RowKey { id: row.id(), version: row.version() };
    let from_upstream = exchange.origin == Origin::Upstream;
    let response: SmallVec<[(&[u8], &[u8]); 32]> = exchange
        .response
        .fields
        .iter()
        // The gateway dates its own answers; Kong's log does not know of it.
        .filter(|(name, _)| from_upstream || !name.eq_ignore_ascii_case(b"date"))
        .collect();
    let added = exchange.log_values.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let added: SmallVec<[(&[u8], &[u8]); 2]> = added.collect();
    let host = exchange.request.fields.get("host").unwrap_or_default();
    let routed = exchange.scope.route.is_some();
    let committed = LogReport {
        rows: &exchange.logged_to,
        request_id: &exchange.id.0,
        started_us: exchange.times.started_wall_us,
        latencies: latencies(exchange),
        request_bytes: passed.received_bytes,
        response_bytes: passed.sent_bytes,
        content_length: passed.content_length,
        chunked: passed.chunked,
        keep_alive: passed.keep_alive,
        from_upstream,
        scheme: match exchange.client.scheme {
            Scheme::Http => Spoken::Http,
            Scheme::Https => Spoken::Https,
        },
        tls: exchange.client.tls,
        port: exchange.client.shown_port,
        client_ip: exchange.client.ip,
        host: without_port(host),
        method: exchange.request.method(),
        target: exchange.request.target(),
        upstream_path: if routed { &exchange.onward.path } else { &[] },
        upstream_query: (routed && exchange.onward.has_query).then_some(&*exchange.onward.query),
        status: exchange.response.status,
        request_fields: Lines::Fields(&exchange.request.fields),
        response_fields: Lines::Pairs(&response),
        route: exchange.scope.route.as_ref().map(key),
        service: exchange.scope.service.as_ref().map(key),
        consumer: exchange.consumer.as_ref().map(key),
        credential: exchange.credential.as_ref().map(|credential| credential.id.as_str()),
        tries: &exchange.tries,
        values: Lines::Pairs(&added),
    }
    .commit(ring);
    if !committed {
        log::debug!("the event ring is full: log entries are left out, and counted");
    }
}

/// The host without its port; an IPv6 address keeps its brackets.
fn without_port(host: &[u8]) -> &[u8] {
    let end = match memchr::memrchr(b':', host) {
        Some(at) if memchr::memchr(b']', host).is_none_or(|bracket| bracket < at) => at,
        _ => host.len(),
    };
    host.get(..end).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundled::{file_log, http_log};
    use crate::pdk::script::{Script, fault as faults};
    use exporter::event::RECORD_VERSION;
    use runtime::ring::{self, Next};
    use serde_json::json;

    fn terms(config: serde_json::Value) -> Terms {
        let mut config = config;
        config["http_endpoint"] = "http://a".into();
        let prepared = Script::new(&http_log::PLUGIN, config).prepared().unwrap();
        match prepared.destination() {
            Some(DestinationKind::Log(settings)) => settings.destination.terms,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_queue_is_read_and_older_fields_overrule_it() {
        let usual = Terms {
            batch_entries_max: 1,
            linger_ms: 1_000,
            entries_max: 10_000,
            bytes_max: QUEUE_BYTES_MAX,
            retry_ms_first: 10,
            retry_ms_max: 60_000,
            retry_time_ms: 60_000,
            flights_max: 1,
        };
        assert_eq!(terms(json!({})), usual);
        let own = terms(json!({"queue": {
            "max_batch_size": 7, "max_coalescing_delay": 0.5, "max_entries": 3, "max_bytes": 99,
            "initial_retry_delay": 0.1, "max_retry_delay": 2, "max_retry_time": 0.7,
            "concurrency_limit": -1,
        }}));
        let expected = Terms {
            batch_entries_max: 7,
            linger_ms: 500,
            entries_max: 3,
            bytes_max: 99,
            retry_ms_first: 100,
            retry_ms_max: 2_000,
            retry_time_ms: 700,
            flights_max: FLIGHTS_MAX,
        };
        assert_eq!(own, expected);
        let older = terms(json!({"queue_size": 5, "flush_timeout": 3}));
        assert_eq!((older.batch_entries_max, older.linger_ms), (5, 3_000));
    }

    #[test]
    fn custom_fields_that_need_lua_are_refused() {
        let config = |snippet| json!({"path": "/x", "custom_fields_by_lua": {"a": snippet}});
        assert_eq!(faults(&file_log::PLUGIN, config("return 1")), None);
        let fault = faults(&file_log::PLUGIN, config("return f()")).unwrap();
        assert!(fault.contains("Lua is not built"), "{fault}");
        let fault = faults(&file_log::PLUGIN, config("return (")).unwrap();
        assert!(fault.contains("Error parsing function: [string "), "{fault}");
    }

    #[test]
    fn one_record_serves_every_log_plugin() {
        let script = Script::new(&file_log::PLUGIN, json!({"path": "/x"}));
        let (producer, mut consumer) = ring::anonymous(0, RECORD_VERSION).unwrap();
        script.with_ring(producer);
        let plugin = script.plugin();
        let mut exchange = script.get("/a?b=1", &[("Host", "h.test:80"), ("X-A", "1")]);
        exchange.response.status = 200;
        plugin.log(&mut exchange);
        plugin.log(&mut exchange);
        assert_eq!(exchange.logged_to.len(), 2);
        commit(&exchange);
        assert!(matches!(consumer.take(), Next::Record { .. }));
        assert!(matches!(consumer.take(), Next::Empty));
    }

    #[test]
    fn the_port_is_not_part_of_the_host() {
        for (host, expected) in
            [("a.example:80", "a.example"), ("a", "a"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]")]
        {
            assert_eq!(without_port(host.as_bytes()), expected.as_bytes());
        }
    }
}

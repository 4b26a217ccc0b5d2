//! What Moesif says about one exchange: whether a rule blocks it, which headers rules add, and
//! whether it is reported.
//!
//! The rules and rates hang on a board (`Kit::remotes`), compiled; this is where a core applies
//! them. Nothing here asks anybody. An application without rules and with a rate of 100 costs one
//! atomic load and one look into a table.

use std::cell::RefCell;
use std::sync::Arc;

use exporter::moesif::conditions::{Asked, body_kind};
use exporter::moesif::headers::Headers;
use exporter::moesif::identify::{Identity, Traces, identify};
use exporter::moesif::pattern::Searches;
use exporter::moesif::remote::Remote;
use exporter::moesif::rules::Blocked;
use exporter::moesif::sampling;
use exporter::moesif::settings::Settings;
use runtime::clock;
use uuid::Uuid;

use crate::pdk::{Answer, BodyState, Exchange};

/// What of a request's body is held while rules look at it: as much as the gateway holds anyway.
const HELD_BYTES_MAX: usize = 1 << 20;
/// What the plugin's own JSON answers say they are.
const JSON: &str = "application/json; charset=utf-8";

/// What the access phase comes to.
pub(super) enum Access {
    /// Nothing stands in the way.
    Open,
    /// The request's body has to be there first.
    Body {
        /// How much of it.
        bytes_max: usize,
    },
    /// A rule answers.
    Blocked(Box<Answer>),
}

/// One row's view of the rules, on one core.
pub(super) struct Judge {
    settings: Arc<Settings>,
    lane: u64,
    searches: RefCell<Searches>,
}

impl Judge {
    /// For one core: it has memory of its own.
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        let lane = settings.target().lane();
        Self { settings, lane, searches: RefCell::default() }
    }

    /// Judges an exchange before the upstream is asked. `capture_bytes_max` is how much of the
    /// body is reported: it is read before a rule answers, since nobody reads it afterwards.
    pub(super) fn access(
        &self,
        exchange: &mut Exchange,
        capture_bytes_max: Option<usize>,
    ) -> Access {
        let remotes = exchange.kit.remotes.get();
        let Some(remote) = remotes.get(self.lane).filter(|remote| !remote.is_plain()) else {
            exchange.reporting.weight = Some(1);
            return Access::Open;
        };
        let headers = Headers::Live(&exchange.request.fields);
        let unread = exchange.request_body_state == BodyState::Unread;
        if unread && remote.rules.read_body() && body_kind(&headers).is_some() {
            return Access::Body { bytes_max: HELD_BYTES_MAX };
        }
        let body = exchange.whole_body().filter(|_| !remote.body_fields.is_empty());
        let fields = body.as_deref().map(|body| remote.body_fields.read(&headers, body));
        let asked = Asked { body: fields.as_deref().unwrap_or_default(), ..asked(exchange) };
        let who = self.who(exchange, remote, None);
        let mut searches = self.searches.borrow_mut();
        let verdict = remote.judge(&asked, &who, &mut searches);
        let blocked = verdict.blocked();
        if let (Some(_), true, Some(bytes_max)) = (&blocked, unread, capture_bytes_max) {
            return Access::Body { bytes_max };
        }
        let early = remote.sampling.is_early(&who, &self.settings);
        let rate = early.then(|| remote.sampling.rate(&asked, &who, &mut searches));
        let added = verdict.headers();
        drop(fields);
        drop(body);
        for (name, value) in added {
            exchange.early.set(name, value);
        }
        exchange.reporting.weight = rate.map(|rate| sampling::weight(rate, drawn()));
        match blocked {
            Some(blocked) => {
                exchange.reporting.blocked_by = Some(blocked.rule_id.clone());
                Access::Blocked(Box::new(answer(blocked)))
            }
            None => Access::Open,
        }
    }

    /// How many exchanges this one stands for in the log phase; 0 if it is not reported.
    pub(super) fn weight(&self, exchange: &Exchange) -> u32 {
        if let Some(weight) = exchange.reporting.weight {
            return weight;
        }
        let remotes = exchange.kit.remotes.get();
        let Some(remote) = remotes.get(self.lane).filter(|remote| !remote.sampling.is_whole())
        else {
            return 1;
        };
        let pieces = exchange.request_capture.pieces.iter();
        let body: Vec<u8> = match remote.body_fields.is_empty() {
            true => Vec::new(),
            false => pieces.flat_map(|piece| piece.iter().copied()).collect(),
        };
        let headers = Headers::Live(&exchange.request.fields);
        let fields = remote.body_fields.read(&headers, &body);
        let status = Some(exchange.response.status);
        let asked = Asked { body: &fields, status, ..asked(exchange) };
        let answered = Some(Headers::Live(&exchange.response.fields));
        let who = self.who(exchange, remote, answered);
        let rate = remote.sampling.rate(&asked, &who, &mut self.searches.borrow_mut());
        sampling::weight(rate, drawn())
    }

    /// Who asks, where that matters.
    fn who(&self, exchange: &Exchange, remote: &Remote, response: Option<Headers<'_>>) -> Identity {
        if !remote.asks_who() {
            return Identity::default();
        }
        let consumer = exchange.consumer.as_deref();
        let mut id = Uuid::encode_buffer();
        let id = consumer.map(|row| &*row.id().hyphenated().encode_lower(&mut id));
        let text = |name: &str| consumer.and_then(|row| row.text(name));
        let known = [text("custom_id"), text("username"), id];
        let traces = Traces {
            request: Headers::Live(&exchange.request.fields),
            response,
            consumer: known.map(|id| id.map(str::as_bytes)),
            tokens: exchange.reported_access,
        };
        identify(&traces, &self.settings)
    }
}

/// What conditions can see before the upstream has answered, but for the body.
fn asked(exchange: &Exchange) -> Asked<'_> {
    Asked {
        verb: exchange.request.method().as_bytes(),
        target: exchange.request.target(),
        client_ip: exchange.client.ip,
        client_ip_headers_trusted: believes_headers(exchange),
        headers: Headers::Live(&exchange.request.fields),
        body: &[],
        status: None,
    }
}

/// Whether the client's address may be read from headers: as Moesif's plugin does, unless
/// `trusted_ips` says who may speak for others.
pub(super) fn believes_headers(exchange: &Exchange) -> bool {
    exchange.client.trusted || exchange.kit.believes_everybody
}

/// A random number from 0 up to, not including, 100.
fn drawn() -> f64 {
    const STEPS: f64 = (1_u64 << 53) as f64;
    (clock::random() >> 11) as f64 / STEPS * 100.0
}

fn answer(blocked: Blocked) -> Answer {
    let content_type = blocked.json.then_some(JSON.into());
    Answer::exact(blocked.status, content_type, blocked.body)
}

#[cfg(test)]
mod tests {
    use super::super::PLUGIN;
    use super::*;
    use crate::pdk::Step;
    use crate::pdk::script::{Script, answered};
    use exporter::event::RECORD_VERSION;
    use exporter::event::record::Record;
    use exporter::remote::Remotes;
    use runtime::ring::{self, Consumer, Next};
    use serde_json::{Value, json};

    struct Stage {
        script: Script,
        events: Consumer,
    }

    impl Stage {
        fn new(config: &Value, rules: &Value) -> Self {
            let row = json!({
                "application_id": "app",
                "user_id_header": "X-User",
                "company_id_header": "X-Company",
            });
            let settings = Settings::parse(&row).unwrap();
            let script = Script::new(&PLUGIN, row);
            let (remote, faults) = Remote::compile(config, rules);
            assert_eq!(faults, Vec::<String>::new());
            let lane = settings.target().lane();
            script.publish_remotes(Remotes::default().with(lane, remote));
            let (producer, events) = ring::anonymous(1 << 20, RECORD_VERSION).unwrap();
            script.with_ring(producer);
            Self { script, events }
        }

        /// One exchange from access to log; gives the blocking answer, and the weight and rule of
        /// the event, if there is one.
        fn run(&mut self, exchange: &mut Exchange) -> (Option<(u16, String)>, Option<String>) {
            let plugin = self.script.plugin();
            let mut blocked = None;
            for _turn in 0..3 {
                let decided = match plugin.access(exchange) {
                    Step::Body { .. } => None,
                    step => Some(answered(step)),
                };
                match decided {
                    None => exchange.request_body_state = BodyState::Whole,
                    Some(answer) => {
                        blocked = answer;
                        break;
                    }
                }
            }
            exchange.response.status = blocked.as_ref().map_or(200, |(status, _)| *status);
            plugin.header_filter(exchange);
            plugin.log(exchange);
            let event = match self.events.take() {
                Next::Record { bytes, .. } => {
                    let record = Record::read(bytes).unwrap();
                    let rule = record.blocked_by.map(String::from_utf8_lossy);
                    Some(format!("{} {}", record.weight, rule.unwrap_or_default()))
                }
                _ => None,
            };
            (blocked, event)
        }
    }

    fn rule(more: &Value) -> Value {
        let mut rule = json!({
            "_id": "R", "type": "regex", "block": true, "regex_config": [],
            "response": {"status": 429, "headers": {"X-Rule": "r"}, "body": {"no": 1}},
        });
        for (name, value) in more.as_object().unwrap() {
            rule[name] = value.clone();
        }
        json!([rule])
    }

    #[test]
    fn without_rules_everything_is_reported() {
        let mut stage = Stage::new(&json!({}), &json!([]));
        let mut exchange = stage.script.get("/", &[]);
        assert_eq!(stage.run(&mut exchange), (None, Some("1 ".into())));
        assert!(exchange.response_capture.bytes_max.is_some());
    }

    #[test]
    fn a_rule_blocks_and_the_event_says_which() {
        let by_user = json!({"type": "user"});
        let config = json!({"user_rules": {"u": [{"rules": "R"}]}});
        let mut stage = Stage::new(&config, &rule(&by_user));
        let mut exchange = stage.script.get("/", &[("X-User", "u")]);
        let answer = Some((429, r#"{"no":1}"#.to_owned()));
        assert_eq!(stage.run(&mut exchange), (answer, Some("1 R".into())));
        assert_eq!(exchange.early.get("x-rule"), Some(&b"r"[..]));
        let mut exchange = stage.script.get("/", &[("X-User", "v")]);
        assert_eq!(stage.run(&mut exchange), (None, Some("1 ".into())));
        assert_eq!(exchange.early.get("x-rule"), None);
    }

    #[test]
    fn a_body_is_read_where_a_rule_looks_at_it() {
        let drop = json!([{"conditions": [
            {"path": "request.body.operationName", "value": "^Drop"}]}]);
        let mut stage = Stage::new(&json!({}), &rule(&json!({"regex_config": drop})));
        let json = [("Content-Type", "application/json")];
        for (kind, body, blocked) in [
            (&json[..], r#"{"operationName":"DropAll"}"#, true),
            (&json[..], r#"{"operationName":"List"}"#, false),
            (&json[..], r#"{"operationName":"Drop"#, false),
            (&[], r#"{"operationName":"DropAll"}"#, false),
        ] {
            let mut exchange = stage.script.post("/", kind, body);
            exchange.request_body_state = BodyState::Unread;
            assert_eq!(stage.run(&mut exchange).0.is_some(), blocked, "{body}");
            assert!(!blocked || exchange.request_capture.bytes == body.len());
        }
    }

    #[test]
    fn what_is_sampled_out_is_not_captured() {
        let mut stage = Stage::new(&json!({"sample_rate": 0}), &json!([]));
        let mut exchange = stage.script.post("/", &[], "body");
        assert_eq!(stage.run(&mut exchange), (None, None));
        assert_eq!(exchange.request_capture.bytes_max, None);
        assert_eq!(exchange.response_capture.bytes_max, None);
        let id = exchange.response.fields.get("x-moesif-transaction-id");
        assert!(id.is_some(), "sampling is no reason to hide the exchange");
    }

    #[test]
    fn a_rate_that_waits_for_the_answer_is_decided_in_the_end() {
        let failures = json!([{"conditions": [{"path": "response.status", "value": "^4"}],
            "sample_rate": 50}]);
        let config = json!({"sample_rate": 0, "regex_config": failures});
        let mut stage = Stage::new(&config, &rule(&json!({"applied_to": "matching"})));
        let mut kept = 0;
        for _ in 0..64 {
            let mut exchange = stage.script.get("/", &[]);
            let (blocked, event) = stage.run(&mut exchange);
            assert_eq!(blocked.map(|(status, _)| status), Some(429));
            assert!(exchange.response_capture.bytes_max.is_some(), "it may be reported");
            kept += usize::from(event.is_some());
            assert!(event.is_none_or(|event| event == "2 R"));
        }
        assert!((8..56).contains(&kept), "{kept} of 64");
    }
}

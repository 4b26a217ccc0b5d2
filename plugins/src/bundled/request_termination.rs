//! request-termination: answers requests by itself, always or when a trigger is there.
//!
//! Source: Kong `kong/plugins/request-termination/{schema,handler}.lua`.

mod echo;

use std::borrow::Cow;

use store::schema::{PluginSchema, Preset, boolean, integer, text, typical};
use store::value::Value;

use crate::pdk::{
    Answer, AnswerBody, BodyState, Config, Exchange, Fault, Phase, Plugin, Prepared, Spec, Step,
    lines, query,
};
use echo::{ECHO_BODY_BYTES_MAX, Echo};

/// The plugin.
pub static PLUGIN: Spec = Spec {
    schema: PluginSchema {
        name: "request-termination",
        priority: 2,
        config: &[
            integer(
                "status_code",
                "The response code to send. Must be an integer between 100 and 599.",
            )
            .required()
            .or(Preset::Integer(503))
            .between(100, 599),
            text("message", "The message to send, if using the default response generator."),
            text("content_type", "Content type of the raw response configured with `config.body`."),
            text(
                "body",
                "The raw response body to send. This is mutually exclusive with the \
                 `config.message` field.",
            ),
            boolean(
                "echo",
                "When set, the plugin will echo a copy of the request back to the client. The \
                 main usecase for this is debugging. It can be combined with `trigger` in order \
                 to debug requests on live systems without disturbing real traffic.",
            )
            .required()
            .or(Preset::Flag(false)),
            typical::header_name("trigger"),
        ],
        config_check: Some(fit_together),
        ..PluginSchema::EMPTY
    },
    phases: &[Phase::Access],
    entities: &[],
    endpoints: &[],
    prepare,
};

/// Which fields exclude each other.
fn fit_together(config: &Value) -> Result<(), String> {
    let given = |name| config.lookup(name).is_some_and(|value| !value.is_null());
    let echo = config.lookup("echo").and_then(Value::as_flag).unwrap_or(false);
    if given("message") && (given("content_type") || given("body")) {
        return Err("message cannot be used with content_type or body".to_owned());
    }
    if given("content_type") && !given("body") {
        return Err("content_type requires a body".to_owned());
    }
    if echo && (given("content_type") || given("body")) {
        return Err("echo cannot be used with content_type and body".to_owned());
    }
    Ok(())
}

/// What Kong says where no message is configured.
const fn usual_message(status: u16) -> Option<&'static str> {
    Some(match status {
        401 => "Unauthorized",
        404 => "Not found",
        405 => "Method not allowed",
        500 => "An unexpected error occurred",
        502 => "Bad Gateway",
        503 => "Service unavailable",
        _ => return None,
    })
}

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let status = config.integer("status_code").and_then(|n| n.try_into().ok()).unwrap_or(503);
    let message = config.text("message").or(usual_message(status));
    let answer = match (config.text("body"), message) {
        // As in Kong, a body without a type goes out without one.
        (Some(body), _) => {
            let kind = config.text("content_type").map(|kind| Cow::Owned(kind.to_owned()));
            Answer::exact(status, kind, body.as_bytes())
        }
        (None, Some(message)) => Answer::exit_message(status, message),
        (None, None) => Answer { status, body: AnswerBody::Empty, headers: Vec::new() },
    };
    let echo =
        config.flag("echo").then(|| Echo { status, message: message.map(ToOwned::to_owned) });
    let echoes = echo.is_some();
    let termination =
        RequestTermination { answer, echo, trigger: config.text("trigger").map(Into::into) };
    let prepared = Prepared::new(move || Box::new(termination.clone()));
    Ok(if echoes { prepared.with_captures() } else { prepared })
}

#[derive(Clone)]
struct RequestTermination {
    answer: Answer,
    echo: Option<Echo>,
    trigger: Option<String>,
}

impl Plugin for RequestTermination {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Step<'a> {
        if let Some(trigger) = &self.trigger
            && !exchange.request.fields.contains(&lines::spelled(&exchange.request.fields, trigger))
            && exchange.query().is_none_or(|q| query::values(q, trigger).next().is_none())
        {
            return Step::NEXT;
        }
        match &self.echo {
            None => Step::answer(self.answer.clone()),
            Some(_) if exchange.request_body_state == BodyState::Unread => {
                Step::Body { bytes_max: ECHO_BODY_BYTES_MAX }
            }
            Some(echo) => Step::answer(echo.answer(exchange)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::Outcome;
    use crate::pdk::script::{Script, answered};

    #[track_caller]
    fn check(
        config: serde_json::Value,
        target: &str,
        fields: &[(&str, &str)],
        expected: Option<(u16, &str)>,
    ) {
        let script = Script::new(&PLUGIN, config);
        let mut exchange = script.get(target, fields);
        let found = answered(script.plugin().access(&mut exchange));
        let found = found.as_ref().map(|(status, body)| (*status, body.as_str()));
        assert_eq!(found, expected);
    }

    #[test]
    fn it_answers_with_its_message_or_the_usual_one() {
        let message = serde_json::json!({"status_code": 403, "message": "closed"});
        check(message, "/", &[], Some((403, r#"{"message":"closed"}"#)));
        check(serde_json::json!({}), "/", &[], Some((503, r#"{"message":"Service unavailable"}"#)));
        check(serde_json::json!({"status_code": 299}), "/", &[], Some((299, "")));
    }

    #[test]
    fn a_trigger_is_a_header_or_an_argument() {
        let config = serde_json::json!({"status_code": 202, "body": "<a/>", "trigger": "x-stop"});
        check(config.clone(), "/", &[], None);
        check(config.clone(), "/?x-stop=1", &[], Some((202, "<a/>")));
        check(config, "/", &[("X-Stop", "1")], Some((202, "<a/>")));
    }

    #[test]
    fn a_body_without_a_type_has_none() {
        let script = Script::new(&PLUGIN, serde_json::json!({"body": "x"}));
        let mut exchange = script.get("/", &[]);
        let plugin = script.plugin();
        let Step::Done(Outcome::Answer(answer)) = plugin.access(&mut exchange) else {
            panic!("no answer")
        };
        assert_eq!(answer.body, Answer::exact(503, None, *b"x").body);
    }

    #[test]
    fn an_echo_shows_the_request() {
        let script = Script::new(&PLUGIN, serde_json::json!({"status_code": 299, "echo": true}));
        let fields = [("Host", "H.test:80"), ("X-A", "1"), ("x-a", "2")];
        let fields = [&fields[..], &[("Content-Type", "application/json")]].concat();
        let mut exchange = script.post("/u/./42?a=1&a=2&f", &fields, r#"{"k": [1]}"#);
        exchange.captures.push(None, Some(b"/u/42"));
        exchange.captures.push(Some("id"), Some(b"42"));
        exchange.captures.push(None, None);
        let (status, body) = answered(script.plugin().access(&mut exchange)).unwrap();
        let shown: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, shown.get("message")), (299, None));
        let expected = serde_json::json!({
            "scheme": "http", "host": "h.test", "port": 8000, "method": "POST", "path": "/u/42",
            "headers": {"host": "H.test:80", "x-a": ["1", "2"], "content-type": "application/json"},
            "query": {"a": ["1", "2"], "f": true},
            "uri_captures": {"named": {"id": "42"}, "unnamed": ["42", null]},
            "raw_body": r#"{"k": [1]}"#, "body": {"k": [1]},
        });
        assert_eq!(shown["request"], expected);
        assert!(script.prepared().unwrap().wants_captures());
    }

    #[test]
    fn fields_that_exclude_each_other_are_faults() {
        let fault = |config| crate::pdk::script::fault(&PLUGIN, config);
        for (config, words) in [
            (
                serde_json::json!({"message": "a", "body": "b"}),
                "message cannot be used with content_type or body",
            ),
            (serde_json::json!({"content_type": "a/b"}), "content_type requires a body"),
            (
                serde_json::json!({"echo": true, "content_type": "a/b", "body": "x"}),
                "echo cannot be used with content_type and body",
            ),
            (
                serde_json::json!({"echo": true, "body": "x"}),
                "echo cannot be used with content_type and body",
            ),
        ] {
            assert_eq!(fault(config), Some(format!("schema violation (config: {words})")));
        }
    }
}

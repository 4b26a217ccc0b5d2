//! request-termination: answers requests by itself, always or when a trigger is there.
//!
//! Source: Kong `kong/plugins/request-termination/{schema,handler}.lua`.

use std::borrow::Cow;

use store::schema::{PluginSchema, Preset, boolean, integer, text, typical};
use store::value::Value;

use crate::pdk::{Answer, Config, Exchange, Fault, Phase, Plugin, Prepared, Spec, Step, query};

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
    if echo && given("content_type") && given("body") {
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
    let answer = match config.text("body") {
        Some(body) => {
            let kind = config.text("content_type").unwrap_or("application/json; charset=utf-8");
            Answer::exact(status, Some(Cow::Owned(kind.to_owned())), body.as_bytes())
        }
        None => match config.text("message").or(usual_message(status)) {
            Some(message) => Answer::exit_message(status, message),
            None => Answer { status, body: crate::pdk::AnswerBody::Empty, headers: Vec::new() },
        },
    };
    let echo = config.flag("echo").then(|| Echo {
        status,
        message: config.text("message").or(usual_message(status)).unwrap_or("").to_owned(),
    });
    let prepared =
        RequestTermination { answer, echo, trigger: config.text("trigger").map(Into::into) };
    Ok(Prepared::new(move || Box::new(prepared.clone())))
}

#[derive(Clone)]
struct RequestTermination {
    answer: Answer,
    echo: Option<Echo>,
    trigger: Option<String>,
}

#[derive(Clone)]
struct Echo {
    status: u16,
    message: String,
}

impl Plugin for RequestTermination {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Step<'a> {
        if let Some(trigger) = &self.trigger
            && !exchange.request.fields.contains(trigger)
            && exchange.query().is_none_or(|q| query::values(q, trigger).next().is_none())
        {
            return Step::NEXT;
        }
        match &self.echo {
            None => Step::answer(self.answer.clone()),
            Some(_) if exchange.request_body_state == crate::pdk::BodyState::Unread => {
                Step::Body { bytes_max: ECHO_BODY_BYTES_MAX }
            }
            Some(echo) => Step::answer(echo.answer(exchange)),
        }
    }
}

/// A larger body is not echoed.
const ECHO_BODY_BYTES_MAX: usize = 1024 * 1024;

impl Echo {
    fn answer(&self, exchange: &Exchange) -> Answer {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut headers = serde_json::Map::new();
        for (name, value) in exchange.request.fields.iter() {
            let slot =
                headers.entry(text(name).to_ascii_lowercase()).or_insert(serde_json::Value::Null);
            let value = serde_json::Value::from(text(value));
            *slot = match slot.take() {
                serde_json::Value::Null => value,
                serde_json::Value::Array(mut many) => {
                    many.push(value);
                    many.into()
                }
                one => vec![one, value].into(),
            };
        }
        let args: serde_json::Map<_, _> = exchange
            .query()
            .map(|q| query::all(q).map(|(k, v)| (text(&k), text(&v).into())).collect())
            .unwrap_or_default();
        let node = &exchange.kit.node;
        let now_s = (exchange.times.started_wall_us / 1_000_000).cast_signed();
        let row = |row: &Option<std::sync::Arc<store::value::Row>>| {
            row.as_ref().map(|row| row.to_json(now_s))
        };
        let body = serde_json::json!({
            "message": self.message,
            "kong": {
                "node_id": node.id,
                "worker_pid": std::process::id(),
                "hostname": node.hostname,
            },
            "request": {
                "scheme": exchange.client.scheme.as_str(),
                "host": exchange.request.fields.get("host").map(text),
                "port": exchange.client.local_port,
                "headers": headers,
                "query": args,
                "body": exchange.whole_body().map(|b| text(&b)),
                "method": exchange.request.method(),
                "path": text(exchange.raw_path()),
                "uri_captures": {},
            },
            "matched_route": row(&exchange.scope.route),
            "matched_service": row(&exchange.scope.service),
        });
        let json = Some(Cow::Borrowed("application/json; charset=utf-8"));
        Answer::exact(self.status, json, body.to_string().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        ] {
            assert_eq!(fault(config), Some(format!("schema violation (config: {words})")));
        }
    }
}

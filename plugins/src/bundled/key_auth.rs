//! key-auth: lets in who sends a key that belongs to a consumer.
//!
//! Source: Kong `kong/plugins/key-auth/{schema,daos,handler}.lua`; recorded cases of the suites
//! `plugins-auth` and `tutorial`.

use std::borrow::Cow;

use serde_json::Value as Json;
use store::schema::{Entity, Field, PluginSchema, Preset, array, boolean, foreign, text, typical};

use crate::pdk::{
    Answer, BodyState, Config, Credential, Exchange, Fault, Phase, Plugin, Prepared, Spec, Step,
    identity, lines, parameters, query,
};

/// The plugin.
pub static PLUGIN: Spec = Spec {
    schema: PluginSchema {
        name: "key-auth",
        priority: 1250,
        no_consumer: true,
        config: CONFIG,
        ..PluginSchema::EMPTY
    },
    phases: &[Phase::Access],
    entities: &[&CREDENTIALS],
    endpoints: &[],
    prepare,
};

const KEY_NAME: Field = typical::header_name("");

const CONFIG: &[Field] = &[
    array(
        "key_names",
        "Describes an array of parameter names where the plugin will look for a key. The key \
         names may only contain [a-z], [A-Z], [0-9], [_] underscore, and [-] hyphen.",
        &KEY_NAME,
    )
    .required()
    .or(Preset::List(&[Preset::Text("apikey")])),
    boolean(
        "hide_credentials",
        "An optional boolean value telling the plugin to show or hide the credential from the \
         upstream service. If `true`, the plugin strips the credential from the request.",
    )
    .required()
    .or(Preset::Flag(false)),
    text(
        "anonymous",
        "An optional string (consumer UUID or username) value to use as an \
         \u{201c}anonymous\u{201d} \
         consumer if authentication fails. If empty (default null), the request will fail with an \
         authentication failure `4xx`.",
    ),
    boolean(
        "key_in_header",
        "If enabled (default), the plugin reads the request header and tries to find the key in \
         it.",
    )
    .required()
    .or(Preset::Flag(true)),
    boolean(
        "key_in_query",
        "If enabled (default), the plugin reads the query parameter in the request and tries to \
         find the key in it.",
    )
    .required()
    .or(Preset::Flag(true)),
    boolean(
        "key_in_body",
        "If enabled, the plugin reads the request body. Supported MIME types: \
         `application/www-form-urlencoded`, `application/json`, and `multipart/form-data`.",
    )
    .required()
    .or(Preset::Flag(false)),
    boolean(
        "run_on_preflight",
        "A boolean value that indicates whether the plugin should run (and try to authenticate) on \
         `OPTIONS` preflight requests. If set to `false`, then `OPTIONS` requests are always \
         allowed.",
    )
    .required()
    .or(Preset::Flag(true)),
    text(
        "realm",
        "When authentication fails the plugin sends `WWW-Authenticate` header with `realm` \
         attribute value.",
    )
    .optional(),
];

/// A consumer's keys.
pub static CREDENTIALS: Entity = Entity {
    name: "keyauth_credentials",
    admin_name: Some("key-auths"),
    admin_nested_name: Some("key-auth"),
    endpoint_key: Some("key"),
    cache_key: &["key"],
    ttl: true,
    fields: &[
        typical::ID,
        typical::CREATED_AT,
        foreign("consumer", "consumers", "").required().cascade(),
        text("key", "").optional().unique().auto(),
        typical::TAGS,
    ],
    ..Entity::EMPTY
};

/// A body above this is not searched for a key.
const BODY_BYTES_MAX: usize = 1024 * 1024;

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let prepared = KeyAuth {
        key_names: config.texts("key_names"),
        hide_credentials: config.flag("hide_credentials"),
        anonymous: config.text("anonymous").filter(|name| !name.is_empty()).map(Into::into),
        in_header: config.flag("key_in_header"),
        in_query: config.flag("key_in_query"),
        in_body: config.flag("key_in_body"),
        run_on_preflight: config.flag("run_on_preflight"),
        challenge: match config.text("realm") {
            Some(realm) => format!("Key realm=\"{realm}\""),
            None => "Key".to_owned(),
        },
    };
    Ok(Prepared::new(move || Box::new(prepared.clone())))
}

#[derive(Clone)]
struct KeyAuth {
    key_names: Vec<String>,
    hide_credentials: bool,
    anonymous: Option<String>,
    in_header: bool,
    in_query: bool,
    in_body: bool,
    run_on_preflight: bool,
    challenge: String,
}

/// What the search for a key came to.
enum Found {
    Key(String),
    Nothing,
    Twice,
}

impl Plugin for KeyAuth {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Step<'a> {
        if !self.run_on_preflight && exchange.request.method() == "OPTIONS" {
            return Step::NEXT;
        }
        if self.anonymous.is_some() && exchange.credential.is_some() {
            return Step::NEXT;
        }
        if self.in_body && exchange.request_body_state == BodyState::Unread {
            return Step::Body { bytes_max: BODY_BYTES_MAX };
        }
        let refusal = match self.find(exchange) {
            Found::Twice => "Duplicate API key found",
            Found::Nothing => "No API key found in request",
            Found::Key(key) => {
                if self.authenticate(exchange, key) {
                    return Step::NEXT;
                }
                "Unauthorized"
            }
        };
        match &self.anonymous {
            Some(named) => identity::anonymous(exchange, named),
            None => Step::answer(
                Answer::error(401, refusal).with("WWW-Authenticate", self.challenge.clone()),
            ),
        }
    }
}

impl KeyAuth {
    /// The first key, by name, then header before query before body; hides it where that is asked
    /// for.
    fn find(&self, exchange: &mut Exchange) -> Found {
        for name in &self.key_names {
            let mut found = self.in_headers(exchange, name);
            if matches!(found, Found::Nothing) && self.in_query {
                found = one(exchange.query().into_iter().flat_map(|q| query::values(q, name)));
            }
            if matches!(found, Found::Nothing) && self.in_body {
                found = in_body(exchange, name);
            }
            match found {
                Found::Nothing => {}
                Found::Twice => return Found::Twice,
                Found::Key(key) => {
                    if self.hide_credentials {
                        self.hide(exchange, name);
                    }
                    return if key.is_empty() { Found::Nothing } else { Found::Key(key) };
                }
            }
        }
        Found::Nothing
    }

    fn in_headers(&self, exchange: &Exchange, name: &str) -> Found {
        if !self.in_header {
            return Found::Nothing;
        }
        let fields = &exchange.request.fields;
        one(fields.all(&lines::spelled(fields, name)).map(Cow::Borrowed))
    }

    fn authenticate(&self, exchange: &mut Exchange, key: String) -> bool {
        let tables = exchange.tables();
        let now_s = (exchange.times.started_wall_us / 1_000_000).cast_signed();
        let Some(row) = tables.by("keyauth_credentials", "key", &key) else { return false };
        if !row.is_alive(now_s) {
            return false;
        }
        let consumer = row.foreign("consumer").and_then(|id| tables.get("consumers", id)).cloned();
        if consumer.is_none() {
            return false;
        }
        let credential = Credential { key: Some(key), ..Credential::of(row) };
        identity::identify(exchange, consumer, Some(credential));
        true
    }

    /// Takes the key out of what goes upstream.
    fn hide(&self, exchange: &mut Exchange, name: &str) {
        let line = lines::spelled(&exchange.request.fields, name);
        exchange.request.fields.remove(&line);
        if let Some(rest) = query::without(&exchange.onward.query, name) {
            exchange.onward.query = rest;
        }
        if self.in_body
            && let Some(body) = exchange.whole_body()
        {
            let rest = parameters::without(&exchange.request.fields, &body, name);
            if let Some(rest) = rest {
                exchange.replace_body(rest);
            }
        }
    }
}

fn in_body(exchange: &Exchange, name: &str) -> Found {
    let Some(body) = exchange.whole_body() else { return Found::Nothing };
    match parameters::of_body(&exchange.request.fields, &body) {
        Some(Json::Object(members)) => match members.get(name) {
            Some(Json::String(key)) => Found::Key(key.clone()),
            Some(Json::Array(_) | Json::Object(_)) => Found::Twice,
            _ => Found::Nothing,
        },
        _ => Found::Nothing,
    }
}

fn one<'a>(mut values: impl Iterator<Item = Cow<'a, [u8]>>) -> Found {
    match (values.next(), values.next()) {
        (None, _) => Found::Nothing,
        (Some(_), Some(_)) => Found::Twice,
        (Some(value), None) => match String::from_utf8(value.into_owned()) {
            Ok(key) => Found::Key(key),
            // No stored key has such bytes.
            Err(_) => Found::Key("\u{fffd}".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::script::{Script, answered};

    fn script(config: serde_json::Value) -> Script {
        Script::new(&PLUGIN, config)
            .row("consumers", serde_json::json!({"id": BOB, "username": "bob", "custom_id": "b-1"}))
            .row("consumers", serde_json::json!({"id": ANON, "username": "anon"}))
            .row("keyauth_credentials", serde_json::json!({"consumer": {"id": BOB}, "key": "k1"}))
    }

    const BOB: &str = "00000000-0000-4000-8000-000000000001";
    const ANON: &str = "00000000-0000-4000-8000-000000000002";

    /// Sends a request; gives the refusal, or the consumer's name and what goes upstream.
    #[track_caller]
    fn check(
        config: serde_json::Value,
        target: &str,
        fields: &[(&str, &str)],
        expected: Result<(&str, &str), &str>,
    ) {
        let script = script(config);
        let mut exchange = script.get(target, fields);
        let ended = answered(script.plugin().access(&mut exchange));
        let name =
            |e: &Exchange| e.consumer.as_ref().and_then(|c| c.text("username")).map(str::to_owned);
        let found = match ended {
            Some((401, message)) => Err(message),
            Some(other) => panic!("unexpected answer {other:?}"),
            None => Ok((name(&exchange).unwrap_or_default(), script.onward(&exchange))),
        };
        let found = found.as_ref().map(|(n, t)| (n.as_str(), t.as_str())).map_err(String::as_str);
        assert_eq!(found, expected, "{target}");
    }

    #[test]
    fn a_key_comes_in_a_header_or_in_the_query() {
        let plain = serde_json::json!({});
        check(plain.clone(), "/r?apikey=k1", &[], Ok(("bob", "/r?apikey=k1")));
        check(plain.clone(), "/r", &[("ApiKey", "k1")], Ok(("bob", "/r")));
        check(plain.clone(), "/r", &[("apikey", "k2")], Err("Unauthorized"));
        check(plain.clone(), "/r", &[], Err("No API key found in request"));
        check(plain.clone(), "/r", &[("apikey", "")], Err("No API key found in request"));
        let twice = [("apikey", "k1"), ("apikey", "k1")];
        check(plain, "/r", &twice, Err("Duplicate API key found"));
        let header_only = serde_json::json!({"key_in_query": false});
        check(header_only, "/r?apikey=k1", &[], Err("No API key found in request"));
    }

    #[test]
    fn a_hidden_key_leaves_an_empty_query_as_in_kong() {
        let hide = serde_json::json!({"hide_credentials": true});
        check(hide.clone(), "/r?apikey=k1", &[], Ok(("bob", "/r?")));
        check(hide.clone(), "/r?a=1&apikey=k1&b=2", &[], Ok(("bob", "/r?a=1&b=2")));
        check(hide, "/r?a=%7E", &[("apikey", "k1")], Ok(("bob", "/r?a=%7E")));
    }

    #[test]
    fn a_name_with_an_underscore_names_a_line_with_a_hyphen() {
        let config = serde_json::json!({"key_names": ["api_key"], "hide_credentials": true});
        check(config.clone(), "/r", &[("Api-Key", "k1")], Ok(("bob", "/r")));
        check(config.clone(), "/r", &[("api_key", "k1")], Ok(("bob", "/r")));
        check(config.clone(), "/r?api-key=k1", &[], Err("No API key found in request"));
        let script = script(config);
        let mut exchange = script.get("/r", &[("Api-Key", "k1")]);
        assert!(answered(script.plugin().access(&mut exchange)).is_none());
        assert!(!exchange.request.fields.contains("api-key"), "it is hidden");
    }

    #[test]
    fn an_anonymous_consumer_is_the_fallback() {
        for named in ["anon", ANON] {
            let config = serde_json::json!({"anonymous": named});
            check(config.clone(), "/r", &[], Ok(("anon", "/r")));
            check(config.clone(), "/r", &[("apikey", "no")], Ok(("anon", "/r")));
            check(config, "/r", &[("apikey", "k1")], Ok(("bob", "/r")));
        }
    }

    #[test]
    fn the_upstream_is_told_who_asks_and_pretenders_are_not_believed() {
        let script = script(serde_json::json!({}));
        let pretended =
            [("apikey", "k1"), ("x-consumer-username", "root"), ("x-anonymous-consumer", "1")];
        let mut exchange = script.get("/", &pretended);
        assert!(answered(script.plugin().access(&mut exchange)).is_none());
        let field = |name| {
            exchange.request.fields.get(name).map(|v| String::from_utf8_lossy(v).into_owned())
        };
        assert_eq!(field("X-Consumer-ID").as_deref(), Some(BOB));
        assert_eq!(field("X-Consumer-Username").as_deref(), Some("bob"));
        assert_eq!(field("X-Consumer-Custom-ID").as_deref(), Some("b-1"));
        assert_eq!(
            field("X-Credential-Identifier"),
            exchange.credential.as_ref().map(|c| c.id.clone())
        );
        assert_eq!(field("X-Anonymous-Consumer"), None);
    }

    #[test]
    fn a_key_in_a_body_is_found_and_hidden() {
        let config = serde_json::json!({"key_in_body": true, "hide_credentials": true});
        for (kind, sent, left) in [
            ("application/x-www-form-urlencoded", "apikey=k1&title=x", "title=x"),
            ("application/json", r#"{"apikey":"k1","title":"x"}"#, r#"{"title":"x"}"#),
            (
                "multipart/form-data; boundary=b",
                "--b\r\nContent-Disposition: form-data; name=\"apikey\"\r\n\r\nk1\r\n--b\r\n\
                 Content-Disposition: form-data; name=\"t\"\r\n\r\nx\r\n--b--\r\n",
                "--b\r\nContent-Disposition: form-data; name=\"t\"\r\n\r\nx\r\n--b--\r\n",
            ),
        ] {
            let script = script(config.clone());
            let mut exchange = script.post("/", &[("content-type", kind)], sent);
            assert!(answered(script.plugin().access(&mut exchange)).is_none(), "{kind}");
            assert_eq!(&*exchange.whole_body().unwrap(), left.as_bytes(), "{kind}");
        }
    }
}

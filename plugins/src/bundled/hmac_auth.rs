//! hmac-auth: lets in who signs the request with the secret of a consumer.
//!
//! Source: Kong `kong/plugins/hmac-auth/{schema,daos,access}.lua`; recorded in
//! `recorded/plugins/hmac-auth.jsonl` and the suite `plugins-auth`. Kong cannot check bodies above
//! nginx's buffer of 8 KiB and refuses them; here they are checked up to `BODY_BYTES_MAX`.

mod date;
mod key;
mod line;
mod schema;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine;
use key::{Algorithm, Key};
use runtime::http::head::Version;
use store::check::uri;
use store::schema::{Entity, foreign, text, typical};
use store::value::Row;
use uuid::Uuid;

use crate::pdk::{
    Answer, BodyState, Config, Credential, Exchange, Fault, Phase, Plugin, Prepared, Remembered,
    Spec, Step, credentials, identity,
};

/// The plugin.
pub static PLUGIN: Spec = Spec {
    schema: schema::SCHEMA,
    phases: &[Phase::Access],
    entities: &[&CREDENTIALS],
    endpoints: &[],
    prepare,
};

/// A consumer's names and secrets.
pub static CREDENTIALS: Entity = Entity {
    name: "hmacauth_credentials",
    admin_name: Some("hmac-auths"),
    admin_nested_name: Some("hmac-auth"),
    endpoint_key: Some("username"),
    cache_key: &["username"],
    fields: &[
        typical::ID,
        typical::CREATED_AT,
        foreign("consumer", "consumers", "").required().cascade(),
        text("username", "").required().unique(),
        text("secret", "").auto(),
        typical::TAGS,
    ],
    ..Entity::EMPTY
};

/// A body above this cannot be checked, and is refused.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// The longest signature of any algorithm has 64 bytes; what is longer is none.
const SIGNATURE_BYTES_MAX: usize = 96;

/// A signed text that was longer than this leaves no room behind for the next.
const TEXT_BYTES_KEPT: usize = 4 * 1024;

/// Keys that an instance keeps ready. When there are more, all are forgotten and made again.
const KEYS_MAX: usize = 1_024;

const AUTHORIZATION: &str = "authorization";
const PROXY_AUTHORIZATION: &str = "proxy-authorization";

const NOT_VERIFIED: &str = "HMAC signature cannot be verified";
const NO_DATE: &str = "HMAC signature cannot be verified, a valid date or x-date header is \
    required for HMAC Authentication";
const NOT_THE_SAME: &str = "HMAC signature does not match";

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let settings = Arc::new(Settings {
        anonymous: config.text("anonymous").filter(|name| !name.is_empty()).map(Into::into),
        hide_credentials: config.flag("hide_credentials"),
        clock_skew_s: config.number("clock_skew").unwrap_or(f64::INFINITY),
        validate_request_body: config.flag("validate_request_body"),
        enforce_headers: config.texts("enforce_headers"),
        algorithms: config.texts("algorithms"),
        challenge: match config.text("realm") {
            Some(realm) => format!("hmac realm=\"{realm}\""),
            None => "hmac".to_owned(),
        },
    });
    Ok(Prepared::new(move || {
        let settings = Arc::clone(&settings);
        Box::new(HmacAuth { settings, keys: Remembered::default(), text: Cell::default() })
    }))
}

struct HmacAuth {
    settings: Arc<Settings>,
    /// Keys by the id and the version of their row, and the algorithm: making one costs as much as
    /// a signature.
    keys: Remembered<(Uuid, u64, Algorithm), Rc<Key>, KEYS_MAX>,
    /// Room for what is signed.
    text: Cell<Vec<u8>>,
}

struct Settings {
    anonymous: Option<String>,
    hide_credentials: bool,
    clock_skew_s: f64,
    validate_request_body: bool,
    enforce_headers: Vec<String>,
    algorithms: Vec<String>,
    challenge: String,
}

/// What a request came to.
enum Verdict {
    /// This credential signed it.
    Signed(Arc<Row>),
    /// The signature holds; the body must be read to compare its digest.
    NeedsBody,
    /// These words.
    Refused(&'static str),
}

impl Plugin for HmacAuth {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Step<'a> {
        let settings = &*self.settings;
        let named = settings.anonymous.as_deref();
        if identity::is_settled(exchange, named) {
            return Step::NEXT;
        }
        let refusal = match self.judge(exchange) {
            Verdict::NeedsBody => return Step::Body { bytes_max: BODY_BYTES_MAX },
            Verdict::Signed(row) => {
                settings.hide(exchange);
                if accept(exchange, &row) {
                    return Step::NEXT;
                }
                NOT_VERIFIED
            }
            Verdict::Refused(words) => {
                if words != NO_DATE {
                    settings.hide(exchange);
                }
                words
            }
        };
        identity::otherwise(exchange, named, || {
            Answer::error(401, refusal).with("WWW-Authenticate", settings.challenge.clone())
        })
    }
}

impl HmacAuth {
    fn judge(&self, exchange: &Exchange) -> Verdict {
        let settings = &*self.settings;
        let fields = &exchange.request.fields;
        let (authorization, proxy) = (fields.get(AUTHORIZATION), fields.get(PROXY_AUTHORIZATION));
        if authorization.is_none() && proxy.is_none() {
            return Verdict::Refused("Unauthorized");
        }
        if !settings.is_timely(exchange, "x-date") && !settings.is_timely(exchange, "date") {
            return Verdict::Refused(NO_DATE);
        }
        let sent = proxy.and_then(line::read).or_else(|| authorization.and_then(line::read));
        let Some((sent, row)) = sent.and_then(|sent| {
            let row = settings.credential(exchange, &sent)?;
            Some((sent, row))
        }) else {
            return Verdict::Refused(NOT_VERIFIED);
        };
        if !self.is_signed(exchange, &sent, &row) {
            return Verdict::Refused(NOT_THE_SAME);
        }
        if !settings.validate_request_body {
            return Verdict::Signed(row);
        }
        match exchange.request_body_state {
            BodyState::Unread => Verdict::NeedsBody,
            BodyState::Whole if has_its_digest(exchange) => Verdict::Signed(row),
            _ => Verdict::Refused(NOT_THE_SAME),
        }
    }

    /// Whether the signature is the one that the secret of the row makes.
    fn is_signed(&self, exchange: &Exchange, sent: &line::Sent<'_>, row: &Row) -> bool {
        let Some(algorithm) = Algorithm::of(sent.algorithm) else { return false };
        let mut room = [0; SIGNATURE_BYTES_MAX];
        let Some(signature) = credentials::base64_into(sent.signature, &mut room) else {
            return false;
        };
        let Some(key) = self.key(row, algorithm) else { return false };
        let mut text = self.text.take();
        text.clear();
        write_signed(exchange, sent, &mut text);
        let verified = key.verifies(&text, signature);
        if text.capacity() <= TEXT_BYTES_KEPT {
            self.text.set(text);
        }
        verified
    }

    fn key(&self, row: &Row, algorithm: Algorithm) -> Option<Rc<Key>> {
        let place = (row.id(), row.version(), algorithm);
        self.keys.get(&place).or_else(|| {
            let secret = row.text("secret").unwrap_or_default();
            let key = Rc::new(Key::new(algorithm, secret.as_bytes())?);
            self.keys.keep(place, Rc::clone(&key));
            Some(key)
        })
    }
}

impl Settings {
    /// Whether a line holds a date within the allowed skew of now.
    fn is_timely(&self, exchange: &Exchange, name: &str) -> bool {
        let sent = exchange.request.fields.get(name).and_then(date::unix_s);
        let now_s = (exchange.times.started_wall_us / 1_000_000).cast_signed();
        sent.is_some_and(|sent_s| (now_s - sent_s).unsigned_abs() as f64 <= self.clock_skew_s)
    }

    /// The row of the username, if the algorithm and the signed headers are as configured.
    fn credential(&self, exchange: &Exchange, sent: &line::Sent<'_>) -> Option<Arc<Row>> {
        let is_named = |name: &String| sent.headers().any(|sent| sent == name.as_bytes());
        let is_known = |name: &String| sent.algorithm == name.as_bytes();
        if !self.enforce_headers.iter().all(is_named) || !self.algorithms.iter().any(is_known) {
            return None;
        }
        let username = std::str::from_utf8(sent.username).ok()?;
        exchange.tables().by(CREDENTIALS.name, "username", username).cloned()
    }

    /// Takes the line that was read, or tried last, out of what goes upstream.
    fn hide(&self, exchange: &mut Exchange) {
        let fields = &mut exchange.request.fields;
        if self.hide_credentials
            && (fields.contains(AUTHORIZATION) || fields.contains(PROXY_AUTHORIZATION))
        {
            let by_proxy = fields.get(PROXY_AUTHORIZATION).and_then(line::read).is_some();
            fields.remove(if by_proxy { PROXY_AUTHORIZATION } else { AUTHORIZATION });
        }
    }
}

fn accept(exchange: &mut Exchange, row: &Row) -> bool {
    let tables = exchange.tables();
    let consumer = row.foreign("consumer").and_then(|id| tables.get("consumers", id)).cloned();
    if consumer.is_none() {
        return false;
    }
    let credential = Credential::of(row);
    identity::identify_as(exchange, consumer, Some(credential), row.text("username"));
    true
}

/// Appends what the client signed: one line for each header that it names. Two names stand for the
/// request line, unless there is a header of that name.
fn write_signed(exchange: &Exchange, sent: &line::Sent<'_>, text: &mut Vec<u8>) {
    for (number, name) in sent.headers().enumerate() {
        if number > 0 {
            text.push(b'\n');
        }
        let value = exchange.request.fields.get(name);
        let method = exchange.request.method().as_bytes();
        match (value, name) {
            (Some(value), _) => {
                [name, b": ", value].into_iter().for_each(|part| text.extend_from_slice(part));
            }
            (None, b"@request-target") => {
                text.extend_from_slice(b"@request-target: ");
                text.extend(method.iter().map(u8::to_ascii_lowercase));
                text.push(b' ');
                write_target(exchange, text);
            }
            (None, b"request-line") => {
                text.extend_from_slice(method);
                text.push(b' ');
                write_target(exchange, text);
                text.extend_from_slice(match exchange.request.version {
                    Version::H10 => b" HTTP/1.0",
                    Version::H11 => b" HTTP/1.1",
                    Version::H2 => b" HTTP/2.0",
                });
            }
            (None, _) => [name, b":"].into_iter().for_each(|part| text.extend_from_slice(part)),
        }
    }
}

/// Appends the path in its normal form and the query as it was sent, unless it is empty.
fn write_target(exchange: &Exchange, text: &mut Vec<u8>) {
    let raw = exchange.raw_path();
    match std::str::from_utf8(raw) {
        Ok(path) => text.extend_from_slice(uri::normalize(path).as_bytes()),
        Err(_) => text.extend_from_slice(raw),
    }
    if let Some(query) = exchange.query().filter(|query| !query.is_empty()) {
        text.push(b'?');
        text.extend_from_slice(query);
    }
}

/// Whether `Digest` is the body's. No such line is right where there is no body.
fn has_its_digest(exchange: &Exchange) -> bool {
    let body = exchange.whole_body().unwrap_or_default();
    let Some(sent) = exchange.request.fields.get("digest") else { return body.is_empty() };
    let digest = digest::digest(&digest::SHA256, &body);
    let made = base64::prelude::BASE64_STANDARD.encode(digest.as_ref());
    sent.strip_prefix(b"SHA-256=").is_some_and(|sent| credentials::same(sent, made.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::script::{Script, answered};
    use serde_json::json;

    const BOB: &str = "00000000-0000-4000-8000-000000000001";
    const DATE: &str = "Thu, 01 Jan 2026 00:00:00 GMT";
    /// `DATE` as microseconds.
    const THEN_US: u64 = 1_767_225_600_000_000;

    fn script(config: serde_json::Value) -> Script {
        Script::new(&PLUGIN, config)
            .row("consumers", json!({"id": BOB, "username": "bob"}))
            .row("consumers", json!({"username": "anon"}))
            .row(
                "hmacauth_credentials",
                json!({"consumer": {"id": BOB}, "username": "h", "secret": "hs"}),
            )
    }

    fn line(algorithm: &str, headers: &str, signature: &str) -> String {
        format!(
            "hmac username=\"h\", algorithm=\"{algorithm}\", headers=\"{headers}\", \
             signature=\"{signature}\""
        )
    }

    /// Sends a GET request at the time of `DATE`; gives the consumer or the refusal.
    fn sent(config: serde_json::Value, target: &str, lines: &[(&str, &str)]) -> String {
        let script = script(config);
        let mut exchange = script.get(target, lines);
        exchange.times.started_wall_us = THEN_US;
        told(&script, &mut exchange)
    }

    fn told(script: &Script, exchange: &mut Exchange) -> String {
        match answered(script.plugin().access(exchange)) {
            Some((401, message)) => message,
            Some(other) => format!("{other:?}"),
            None => {
                let consumer = exchange.consumer.as_ref().and_then(|row| row.text("username"));
                consumer.unwrap_or("needs the body").to_owned()
            }
        }
    }

    #[test]
    fn signatures_that_kong_took_are_taken() {
        #[track_caller]
        fn check(algorithm: &str, headers: &str, signature: &str, expected: &str) {
            let lines = [
                ("Host", "127.0.0.1:8000"),
                ("Date", DATE),
                ("Authorization", &line(algorithm, headers, signature)),
            ];
            assert_eq!(sent(json!({}), "/r/x?q=1", &lines), expected, "{algorithm} {headers}");
        }
        let (both, line) = ("date @request-target host", "date request-line");
        check("hmac-sha1", both, "R6Lkj0pHFWZ9+03PrrFdb0Yu8kI=", "bob");
        check("hmac-sha1", line, "bfFvjsUBqSNR9rkiZY0SC19XMWc=", "bob");
        check("hmac-sha256", both, "hxCgI7UjN5QJSm4/strQP+iv5jEFK/Bzz1k36g8CuEs=", "bob");
        check("hmac-sha256", line, "2PqPs3gxZ6YzqHIk9FYv1Bp0zCmJXm0rS92jZO8+53A=", "bob");
        check("hmac-sha256", line, "2PqPs3gxZ6YzqHIk9FYv1Bp0zCmJXm0rS92jZO8+53A", "bob");
        check("hmac-sha256", line, "no base64!", NOT_THE_SAME);
        check("hmac-sha256", "date", "2PqPs3gxZ6YzqHIk9FYv1Bp0zCmJXm0rS92jZO8+53A=", NOT_THE_SAME);
        check("hmac-md5", "date", "x", NOT_VERIFIED);
    }

    #[test]
    fn what_is_missing_is_said() {
        assert_eq!(sent(json!({}), "/", &[]), "Unauthorized");
        let signed = line("hmac-sha256", "date", "x");
        assert_eq!(sent(json!({}), "/", &[("Authorization", &signed)]), NO_DATE);
        let dated = |date, line| [("Date", date), ("Authorization", line)];
        assert_eq!(sent(json!({}), "/", &dated("nonsense", &signed)), NO_DATE);
        assert_eq!(sent(json!({}), "/", &dated("Thu, 01 Jan 2026 00:05:01 GMT", &signed)), NO_DATE);
        assert_eq!(
            sent(json!({}), "/", &dated("Thu, 01 Jan 2026 00:05:00 GMT", &signed)),
            NOT_THE_SAME
        );
        for odd in ["hmac", "hmac nonsense", "Basic x", "hmac username=\"h\""] {
            assert_eq!(sent(json!({}), "/", &dated(DATE, odd)), NOT_VERIFIED, "{odd}");
        }
        let stranger = signed.replace("\"h\"", "\"x\"");
        assert_eq!(sent(json!({}), "/", &dated(DATE, &stranger)), NOT_VERIFIED);
        let enforce = json!({"enforce_headers": ["date", "request-line"]});
        assert_eq!(sent(enforce, "/", &dated(DATE, &signed)), NOT_VERIFIED);
        assert_eq!(sent(json!({"anonymous": "anon"}), "/", &[]), "anon");
    }

    #[test]
    fn the_line_that_was_used_is_hidden() {
        let script = script(json!({"hide_credentials": true}));
        let signed = line("hmac-sha256", "date request-line", SIGNED);
        for (name, other) in
            [("Authorization", "Proxy-Authorization"), ("Proxy-Authorization", "Authorization")]
        {
            let lines = [("X-Date", DATE), ("Date", DATE), (name, &signed), (other, "Basic x")];
            let mut exchange = script.get("/r/x?q=1", &lines);
            exchange.times.started_wall_us = THEN_US;
            assert_eq!(told(&script, &mut exchange), "bob");
            let fields = &exchange.request.fields;
            assert!(!fields.contains(name) && fields.contains(other), "{name}");
            assert_eq!(fields.get("X-Credential-Identifier"), Some(&b"h"[..]));
        }
    }

    const SIGNED: &str = "2PqPs3gxZ6YzqHIk9FYv1Bp0zCmJXm0rS92jZO8+53A=";

    #[test]
    fn a_body_has_its_digest() {
        let digest = "SHA-256=AVq9f1zFei3ZS3WQ8ErYCEJzkF7jPsXOvq5iJ2qX+GI=";
        let signed =
            line("hmac-sha256", "date digest", "ZBkGtNtTGldAVdRhuGSRTYFwEx2+ABzOOzWHrmhPBTM=");
        let lines = [("Date", DATE), ("Digest", digest), ("Authorization", &*signed)];
        let script = script(json!({"validate_request_body": true}));
        for (body, expected) in [("{\"a\":1}", "bob"), ("{\"a\":2}", NOT_THE_SAME)] {
            let mut exchange = script.post("/r", &lines, body);
            exchange.times.started_wall_us = THEN_US;
            assert_eq!(told(&script, &mut exchange), expected, "{body}");
            exchange.request_body_state = BodyState::Unread;
            exchange.consumer = None;
            let step = script.plugin();
            assert!(matches!(step.access(&mut exchange), Step::Body { .. }), "{body}");
        }
        let bare = line("hmac-sha256", "date", "diElHFeQWG6TUDYP2BKjBMIr/4mI80hBUElHL21I1Ro=");
        let lines = [("Date", DATE), ("Authorization", &*bare)];
        for (body, expected) in [("", "bob"), ("{\"a\":1}", NOT_THE_SAME)] {
            let mut exchange = script.post("/r", &lines, body);
            exchange.times.started_wall_us = THEN_US;
            assert_eq!(told(&script, &mut exchange), expected, "{body}");
        }
    }
}

//! basic-auth: lets in who sends the name and the password of a consumer.
//!
//! Source: Kong `kong/plugins/basic-auth/{schema,daos,access,crypto}.lua`; recorded in
//! `recorded/plugins/basic-auth.jsonl` and the suite `plugins-auth`.

use sha1::{Digest, Sha1};
use smallvec::SmallVec;
use store::schema::{
    Entity, Field, PluginSchema, Preset, Random, Transform, boolean, foreign, text, typical,
};
use store::value::{Row, Value};
use uuid::Uuid;

use crate::pdk::{
    Answer, Config, Credential, Exchange, Fault, Phase, Plugin, Prepared, Spec, Step, credentials,
    identity,
};

/// The plugin.
pub static PLUGIN: Spec = Spec {
    schema: PluginSchema {
        name: "basic-auth",
        priority: 1100,
        no_consumer: true,
        config: CONFIG,
        ..PluginSchema::EMPTY
    },
    phases: &[Phase::Access],
    entities: &[&CREDENTIALS],
    endpoints: &[],
    prepare,
};

const CONFIG: &[Field] = &[
    text(
        "anonymous",
        "An optional string (Consumer UUID or username) value to use as an “anonymous” consumer \
         if authentication fails. If empty (default null), the request will fail with an \
         authentication failure `4xx`. Please note that this value must refer to the Consumer \
         `id` or `username` attribute, and **not** its `custom_id`.",
    ),
    boolean(
        "hide_credentials",
        "An optional boolean value telling the plugin to show or hide the credential from the \
         upstream service. If `true`, the plugin will strip the credential from the request (i.e. \
         the `Authorization` header) before proxying it.",
    )
    .required()
    .or(Preset::Flag(false)),
    text(
        "realm",
        "When authentication fails the plugin sends `WWW-Authenticate` header with `realm` \
         attribute value.",
    )
    .required()
    .or(Preset::Text("service")),
];

/// A consumer's names and passwords.
pub static CREDENTIALS: Entity = Entity {
    name: "basicauth_credentials",
    admin_name: Some("basic-auths"),
    admin_nested_name: Some("basic-auth"),
    endpoint_key: Some("username"),
    cache_key: &["username"],
    fields: &[
        typical::ID,
        typical::CREATED_AT,
        foreign("consumer", "consumers", "").required().cascade(),
        text("username", "").required().unique(),
        text("password", "").required().encrypted(),
        typical::TAGS,
    ],
    transforms: &[Transform {
        input: &["password"],
        needs: &["consumer.id"],
        apply: hash_password,
    }],
    ..Entity::EMPTY
};

/// A password is stored as its digest with the consumer's id behind it.
fn hash_password(row: &mut Value, _random: &mut Random<'_>) -> Result<(), String> {
    let consumer = row.get("consumer").as_id().ok_or("there is no consumer")?;
    let password = row.get("password").as_text().ok_or("there is no password")?;
    let hashed = hashed(password.as_bytes(), consumer);
    row.put("password", Value::text(String::from_utf8_lossy(&hashed)));
    Ok(())
}

/// The stored form: SHA-1 in hexadecimal digits, as in every Kong database.
fn hashed(password: &[u8], consumer_id: Uuid) -> [u8; 40] {
    let mut id = Uuid::encode_buffer();
    let mut salted = SmallVec::<[u8; 128]>::from_slice(password);
    salted.extend_from_slice(consumer_id.hyphenated().encode_lower(&mut id).as_bytes());
    let mut digits = [0; 40];
    credentials::hex_into(&Sha1::digest(&salted), &mut digits);
    digits
}

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let prepared = BasicAuth {
        anonymous: config.text("anonymous").filter(|name| !name.is_empty()).map(Into::into),
        hide_credentials: config.flag("hide_credentials"),
        challenge: format!("Basic realm=\"{}\"", config.text("realm").unwrap_or("service")),
    };
    Ok(Prepared::new(move || Box::new(prepared.clone())))
}

#[derive(Clone)]
struct BasicAuth {
    anonymous: Option<String>,
    hide_credentials: bool,
    challenge: String,
}

impl Plugin for BasicAuth {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Step<'a> {
        let named = self.anonymous.as_deref();
        if identity::is_settled(exchange, named) || self.authenticate(exchange) {
            return Step::NEXT;
        }
        identity::otherwise(exchange, named, || {
            Answer::error(401, "Unauthorized").with("WWW-Authenticate", self.challenge.clone())
        })
    }
}

impl BasicAuth {
    fn authenticate(&self, exchange: &mut Exchange) -> bool {
        let found = match self.look_up(exchange, "proxy-authorization") {
            Some((Some(row), password)) => Some((row, password)),
            _ => self
                .look_up(exchange, "authorization")
                .and_then(|(row, password)| Some((row?, password))),
        };
        found.is_some_and(|(row, password)| accept(exchange, &row, &password))
    }

    /// Reads one line and hides it where that is asked for; the row is that of its user.
    fn look_up(&self, exchange: &mut Exchange, line: &str) -> Option<Found> {
        let sent = exchange.request.fields.get(line).map(read);
        if self.hide_credentials && !matches!(sent, Some(Sent::Odd)) {
            exchange.request.fields.remove(line);
        }
        let Some(Sent::Credentials(username, password)) = sent else { return None };
        let row = std::str::from_utf8(&username).ok().and_then(|username| {
            exchange.tables().by(CREDENTIALS.name, "username", username).cloned()
        });
        Some((row, password))
    }
}

/// The row that a username belongs to, and the password that came with it.
type Found = (Option<std::sync::Arc<Row>>, Vec<u8>);

fn accept(exchange: &mut Exchange, row: &Row, password: &[u8]) -> bool {
    let Some(consumer_id) = row.foreign("consumer") else { return false };
    let stored = row.text("password").unwrap_or_default();
    let given = hashed(password, consumer_id);
    if !credentials::same(stored.as_bytes(), &given) {
        return false;
    }
    let Some(consumer) = exchange.tables().get("consumers", consumer_id).cloned() else {
        return false;
    };
    let credential = Credential::of(row);
    let username = row.text("username").unwrap_or_default();
    identity::identify_as(exchange, Some(consumer), Some(credential), Some(username));
    true
}

/// What one line holds.
#[derive(Debug, PartialEq, Eq)]
enum Sent {
    /// A username and a password, decoded.
    Credentials(Vec<u8>, Vec<u8>),
    /// Base64 without a colon in it.
    Odd,
    /// Nothing that is meant for this plugin.
    Other,
}

/// Reads `Basic …`. The username is what stands before the first colon that has anything before
/// it; the password ends with its line.
fn read(value: &[u8]) -> Sent {
    let decoded = credentials::after_scheme(value, "basic", 0).and_then(credentials::base64);
    let Some(mut decoded) = decoded else { return Sent::Other };
    let start = decoded.iter().take_while(|byte| **byte == b':').count();
    drop(decoded.drain(..start));
    let Some(colon) = memchr::memchr(b':', &decoded) else { return Sent::Odd };
    let mut password = decoded.split_off(colon + 1);
    decoded.truncate(colon);
    password.truncate(memchr::memchr(b'\n', &password).unwrap_or(password.len()));
    Sent::Credentials(decoded, password)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::script::{Script, answered};
    use base64::Engine;
    use serde_json::json;

    const BOB: &str = "00000000-0000-4000-8000-000000000001";
    const ANON: &str = "00000000-0000-4000-8000-000000000002";

    fn script(config: serde_json::Value) -> Script {
        Script::new(&PLUGIN, config)
            .row("consumers", json!({"id": BOB, "username": "bob"}))
            .row("consumers", json!({"id": ANON, "username": "anon"}))
            .row(
                "basicauth_credentials",
                json!({"consumer": {"id": BOB}, "username": "u", "password": "pa:ss"}),
            )
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(pair))
    }

    /// Sends lines; gives the consumer's name or the status, and the lines that go upstream.
    fn sent(config: serde_json::Value, lines: &[(&str, &str)]) -> (String, Vec<String>) {
        let script = script(config);
        let mut exchange = script.get("/", lines);
        let told = match answered(script.plugin().access(&mut exchange)) {
            Some((status, message)) => format!("{status} {message}"),
            None => {
                let consumer = exchange.consumer.as_ref().and_then(|row| row.text("username"));
                consumer.unwrap_or_default().to_owned()
            }
        };
        let fields = &exchange.request.fields;
        let left = ["authorization", "proxy-authorization"].map(|name| fields.get(name));
        let left = left.into_iter().flatten();
        (told, left.map(|value| String::from_utf8_lossy(value).into_owned()).collect())
    }

    #[track_caller]
    fn check(lines: &[(&str, &str)], expected: &str) {
        assert_eq!(sent(json!({}), lines).0, expected, "{lines:?}");
    }

    #[test]
    fn a_password_of_any_kong_database_is_known() {
        let consumer = Uuid::from_u128(0x4304_349b_eed7_454d_8fd8_9d42_84f0_fd4f);
        assert_eq!(&hashed(b"pass", consumer), b"b2f5a67fb50f0beeaf9cea6ee8e972f559d5909e");
    }

    #[test]
    fn the_password_decides() {
        check(&[("Authorization", &basic("u:pa:ss"))], "bob");
        check(&[("Authorization", &basic("u:pa"))], "401 Unauthorized");
        check(&[("Authorization", &basic("x:pa:ss"))], "401 Unauthorized");
        check(&[("Authorization", &basic(":u:pa:ss"))], "bob");
        check(&[("Authorization", &basic("u:pa:ss\nmore"))], "bob");
        check(&[("Authorization", &basic("u"))], "401 Unauthorized");
        check(&[("Authorization", &basic(""))], "401 Unauthorized");
        check(&[("Authorization", &basic("u:"))], "401 Unauthorized");
        check(&[("Authorization", &basic("\u{ff}:p"))], "401 Unauthorized");
        for odd in ["Basic !!!", "Bearer x", "Basic", "", "basic", "BASIC dTpwYTpzcw=="] {
            check(&[("Authorization", odd)], "401 Unauthorized");
        }
        check(&[("Authorization", "x, basic dTpwYTpzcw")], "bob");
        check(&[], "401 Unauthorized");
    }

    #[test]
    fn the_proxys_line_goes_first() {
        let (right, wrong) = (basic("u:pa:ss"), basic("u:no"));
        check(&[("Proxy-Authorization", &right)], "bob");
        check(&[("Proxy-Authorization", &right), ("Authorization", &wrong)], "bob");
        let stranger = basic("x:y");
        check(&[("Proxy-Authorization", &stranger), ("Authorization", &right)], "bob");
        let both = [("Proxy-Authorization", &*wrong), ("Authorization", &*right)];
        check(&both, "401 Unauthorized");
    }

    #[test]
    fn hidden_credentials_do_not_go_upstream() {
        let hide = json!({"hide_credentials": true, "anonymous": "anon"});
        let none = Vec::<String>::new();
        assert_eq!(
            sent(hide.clone(), &[("Authorization", &basic("u:pa:ss"))]),
            ("bob".into(), none.clone())
        );
        assert_eq!(sent(hide.clone(), &[("Authorization", &basic("u:no"))]), ("anon".into(), none));
        let odd = basic("no colon");
        assert_eq!(sent(hide, &[("Authorization", &odd)]), ("anon".into(), vec![odd.clone()]));
        let shown = sent(json!({}), &[("Authorization", &basic("u:pa:ss"))]).1;
        assert_eq!(shown, [basic("u:pa:ss")]);
    }

    #[test]
    fn the_upstream_is_told_the_username() {
        let script = script(json!({"realm": "my realm"}));
        let mut exchange = script.get("/", &[("Authorization", &basic("u:pa:ss"))]);
        assert!(answered(script.plugin().access(&mut exchange)).is_none());
        let told = exchange.request.fields.get("X-Credential-Identifier");
        assert_eq!(told, Some(&b"u"[..]));
        let mut exchange = script.get("/", &[]);
        let plugin = script.plugin();
        let step = plugin.access(&mut exchange);
        let Step::Done(crate::pdk::Outcome::Answer(answer)) = step else { panic!("no answer") };
        assert_eq!(answer.headers, [("WWW-Authenticate", "Basic realm=\"my realm\"".into())]);
    }

    #[test]
    fn an_anonymous_consumer_that_does_not_exist_is_a_fault_of_the_gateway() {
        let told = sent(json!({"anonymous": "nobody"}), &[]).0;
        assert_eq!(told, "500 An unexpected error occurred");
    }

    #[test]
    fn whatever_is_sent_is_read() {
        let mut random = 7_u64;
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) as usize
        };
        for _ in 0..2_000 {
            let pair: Vec<u8> = (0..next() % 16).map(|_| b"u:\n\xff="[next() % 5]).collect();
            let value = format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(&pair));
            if let Sent::Credentials(username, password) = read(value.as_bytes()) {
                let whole = [&username[..], b":", &password[..]].concat();
                let found = pair.windows(whole.len()).any(|part| part == whole);
                assert!(found && !username.is_empty(), "seed 7: {pair:?}");
            }
        }
    }
}

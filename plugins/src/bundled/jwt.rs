//! jwt: lets in who holds a JSON Web Token that is signed with a key of a consumer.
//!
//! Source: Kong `kong/plugins/jwt/{schema,daos,handler,jwt_parser}.lua`; recorded in
//! `recorded/plugins/jwt.jsonl` and the suite `plugins-auth`. Where Kong fails with a 500 (a
//! signature of the wrong length, a key that is no key), the token is refused here. Not as in Kong:
//! keys on Ed448 verify nothing, since the library has no such curve.
//!
//! A token that was verified is remembered by its bytes, for the version of the credential that it
//! was verified with: the same token comes again and again, and a signature of ECDSA costs more
//! than all else on the road. Times are compared at each request.

mod key;
mod schema;
mod token;

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};
use store::schema::{Entity, Preset, Rule, foreign, matching, text, typical};
use store::value::Row;
use uuid::Uuid;

use crate::pdk::{
    Answer, Config, Credential, Exchange, Fault, Phase, Plugin, Prepared, Remembered, Spec, Step,
    credentials, identity, lines, query,
};
use key::Key;
use smallvec::SmallVec;
use token::{Times, Token};

/// The plugin.
pub static PLUGIN: Spec = Spec {
    schema: schema::SCHEMA,
    phases: &[Phase::Access],
    entities: &[&SECRETS],
    endpoints: &[],
    prepare,
};

const ALGORITHMS: &[&str] = &[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256",
    "PS384", "PS512", "EdDSA",
];

/// A consumer's keys.
pub static SECRETS: Entity = Entity {
    name: "jwt_secrets",
    admin_name: Some("jwts"),
    admin_nested_name: Some("jwt"),
    endpoint_key: Some("key"),
    cache_key: &["key"],
    fields: &[
        typical::ID,
        typical::CREATED_AT,
        foreign("consumer", "consumers", "").required().cascade(),
        text("key", "").optional().unique().auto(),
        text("secret", "").auto(),
        text("rsa_public_key", ""),
        text("algorithm", "").or(Preset::Text("HS256")).one_of(ALGORITHMS),
        typical::TAGS,
    ],
    rules: &[Rule::Conditional {
        if_field: "algorithm",
        if_match: matching().match_any(
            &["^RS256$", "^RS384$", "^RS512$", "^PS256$", "^PS384$", "^PS512$", "^EdDSA$"],
            "",
        ),
        then_field: "rsa_public_key",
        then_match: matching().required().custom(key::check),
        then_err: None,
    }],
    ..Entity::EMPTY
};

/// Keys that an instance keeps ready. When there are more, all are forgotten and read again.
const KEYS_MAX: usize = 1_024;
/// Tokens that an instance remembers as verified. When there are more, all are forgotten.
const VERIFIED_MAX: usize = 1_024;
/// A longer token is verified each time.
const VERIFIED_BYTES_MAX: usize = 2_048;

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let realm = config.text("realm").map(|realm| format!(" realm=\"{realm}\""));
    let challenge = format!("Bearer{}", realm.unwrap_or_default());
    let settings = Arc::new(Settings {
        anonymous: config.text("anonymous").filter(|name| !name.is_empty()).map(Into::into),
        uri_param_names: config.texts("uri_param_names"),
        cookie_names: config.texts("cookie_names"),
        header_names: config.texts("header_names"),
        key_claim_name: config.text("key_claim_name").unwrap_or("iss").to_owned(),
        secret_is_base64: config.flag("secret_is_base64"),
        claims_to_verify: config.texts("claims_to_verify"),
        maximum_expiration_s: config.number("maximum_expiration").unwrap_or(0.0),
        run_on_preflight: config.flag("run_on_preflight"),
        challenge_of_fault: format!("{challenge} error=\"invalid_token\""),
        challenge,
    });
    Ok(Prepared::new(move || {
        let settings = Arc::clone(&settings);
        Box::new(Jwt { settings, keys: Remembered::default(), verified: Remembered::default() })
    }))
}

struct Settings {
    anonymous: Option<String>,
    uri_param_names: Vec<String>,
    cookie_names: Vec<String>,
    header_names: Vec<String>,
    key_claim_name: String,
    secret_is_base64: bool,
    claims_to_verify: Vec<String>,
    maximum_expiration_s: f64,
    run_on_preflight: bool,
    challenge: String,
    challenge_of_fault: String,
}

struct Jwt {
    settings: Arc<Settings>,
    /// Keys by the id and the version of their row.
    keys: Remembered<Place, Rc<Key>, KEYS_MAX>,
    /// Tokens whose signature was right.
    verified: Remembered<Box<[u8]>, Rc<Verified>, VERIFIED_MAX>,
}

/// The id and the version of a credential's row.
type Place = (Uuid, u64);

/// What a token said, and which credential it was verified with.
struct Verified {
    place: Place,
    key: Box<str>,
    times: Times,
}

/// Why somebody is not let in.
#[derive(Debug, PartialEq)]
enum Refusal {
    /// There is no token: the challenge names no error.
    Nothing,
    /// These words in `message`.
    Words(String),
    /// What is wrong with which claim.
    Claims(Map<String, Json>),
}

impl From<&str> for Refusal {
    fn from(words: &str) -> Self {
        Self::Words(words.to_owned())
    }
}

impl Plugin for Jwt {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Step<'a> {
        let settings = &*self.settings;
        if !settings.run_on_preflight && exchange.request.method() == "OPTIONS" {
            return Step::NEXT;
        }
        let named = settings.anonymous.as_deref();
        if identity::is_settled(exchange, named) {
            return Step::NEXT;
        }
        let refusal = match self.judge(exchange) {
            Ok((row, token)) if accept(exchange, &row) => {
                exchange.jwt = Some(token);
                return Step::NEXT;
            }
            Ok(_) => Refusal::from("Unauthorized"),
            Err(refusal) => refusal,
        };
        identity::otherwise(exchange, named, || settings.answer(refusal))
    }
}

impl Settings {
    fn answer(&self, refusal: Refusal) -> Answer {
        let (challenge, body) = match refusal {
            Refusal::Nothing => (&self.challenge, json!({ "message": "Unauthorized" })),
            Refusal::Words(words) => (&self.challenge_of_fault, json!({ "message": words })),
            Refusal::Claims(faults) => (&self.challenge_of_fault, Json::Object(faults)),
        };
        Answer::exit_json(401, &body).with("WWW-Authenticate", challenge.clone())
    }

    /// The one token of the request: from the query, cookies, headers. The same token in several
    /// places is one.
    fn token<'a>(&self, exchange: &'a Exchange) -> Result<Cow<'a, [u8]>, Refusal> {
        let mut found: SmallVec<[Cow<'a, [u8]>; 2]> = SmallVec::new();
        let mut put = |token: Cow<'a, [u8]>| {
            if !token.is_empty() && !found.contains(&token) {
                found.push(token);
            }
        };
        let mut odd = false;
        let named = |name: &[u8]| self.uri_param_names.iter().any(|n| n.as_bytes() == name);
        for (name, value) in query::arguments(exchange.query().unwrap_or_default()) {
            match value {
                _ if !named(&name) => {}
                Some(value) => put(value),
                // An argument without `=` is `true` to Kong.
                None => odd = true,
            }
        }
        let fields = &exchange.request.fields;
        let cookies = self.cookie_names.iter().filter_map(|name| credentials::cookie(fields, name));
        cookies.map(Cow::Borrowed).for_each(&mut put);
        let line = |name: &String| fields.get(&*lines::spelled(fields, name));
        let tokens = self
            .header_names
            .iter()
            .filter_map(line)
            .filter_map(|line| credentials::after_scheme(line, "bearer", 1));
        tokens.map(Cow::Borrowed).for_each(&mut put);
        match (found.len(), odd) {
            (0, false) => Err(Refusal::Nothing),
            (0, true) => Err("Unrecognizable token".into()),
            (1, false) => found.pop().ok_or(Refusal::Nothing),
            _ => Err("Multiple tokens provided".into()),
        }
    }

    fn check_times(&self, times: Times, now_s: f64) -> Result<(), Refusal> {
        let mut faults = Map::new();
        for name in &self.claims_to_verify {
            let claim = if name == "exp" { times.exp_s } else { times.nbf_s };
            let wrong = match (name.as_str(), claim) {
                (_, None) => "must be a number",
                ("exp", Some(end_s)) if end_s <= now_s => "token expired",
                ("nbf", Some(start_s)) if start_s > now_s => "token not valid yet",
                _ => continue,
            };
            faults.insert(name.clone(), wrong.into());
        }
        let lives_s = times.exp_s.map(|end_s| end_s - now_s);
        let max_s = self.maximum_expiration_s;
        if faults.is_empty() && max_s > 0.0 && lives_s.is_none_or(|lives_s| lives_s > max_s) {
            faults.insert("exp".to_owned(), "exceeds maximum allowed expiration".into());
        }
        if faults.is_empty() { Ok(()) } else { Err(Refusal::Claims(faults)) }
    }
}

impl Jwt {
    /// The credential that the request's token was made with, and the token.
    fn judge(&self, exchange: &Exchange) -> Result<(Arc<Row>, Vec<u8>), Refusal> {
        let sent = self.settings.token(exchange)?;
        let (row, times) = match self.known(exchange, &sent) {
            Some(known) => known,
            None => self.verify(exchange, &sent)?,
        };
        let now_s = (exchange.times.started_wall_us / 1_000_000) as f64;
        self.settings.check_times(times, now_s)?;
        Ok((row, sent.into_owned()))
    }

    /// A token that was verified before, if its credential is still the same.
    fn known(&self, exchange: &Exchange, sent: &[u8]) -> Option<(Arc<Row>, Times)> {
        let known = self.verified.get(sent)?;
        let row = exchange.tables().by(SECRETS.name, "key", &known.key)?;
        ((row.id(), row.version()) == known.place).then(|| (Arc::clone(row), known.times))
    }

    /// Verifies a token, and remembers it.
    fn verify(&self, exchange: &Exchange, sent: &[u8]) -> Result<(Arc<Row>, Times), Refusal> {
        let settings = &*self.settings;
        let token = Token::read(sent)
            .map_err(|fault| Refusal::Words(format!("Bad token; {}", fault.words())))?;
        let name = &settings.key_claim_name;
        let named = match token.key(name) {
            None => return Err(Refusal::Words(format!("No mandatory '{name}' in claims"))),
            Some("") => return Err(Refusal::Words(format!("Invalid '{name}' in claims"))),
            Some(key) => key,
        };
        let row = exchange.tables().by(SECRETS.name, "key", named);
        let row =
            row.ok_or_else(|| Refusal::Words(format!("No credentials found for given '{name}'")))?;
        let algorithm = row.text("algorithm").unwrap_or("HS256");
        if token.algorithm() != algorithm {
            return Err("Invalid algorithm".into());
        }
        let key = self.key(row, algorithm).ok_or(Refusal::from("Invalid key/secret"))?;
        if !key.verifies(token.signed, &token.signature) {
            return Err("Invalid signature".into());
        }
        let times = token.times();
        if sent.len() <= VERIFIED_BYTES_MAX {
            let place = (row.id(), row.version());
            let verified = Verified { place, key: named.into(), times };
            self.verified.keep(sent.into(), Rc::new(verified));
        }
        Ok((Arc::clone(row), times))
    }

    /// The key of a row, ready to verify with. `None` if it has none.
    fn key(&self, row: &Row, algorithm: &str) -> Option<Rc<Key>> {
        let place = (row.id(), row.version());
        if let Some(key) = self.keys.get(&place) {
            return Some(key);
        }
        let key = if algorithm.starts_with("HS") {
            let secret = row.text("secret")?.as_bytes();
            let decoded = self.settings.secret_is_base64.then(|| credentials::base64url(secret));
            Key::symmetric(algorithm, decoded.unwrap_or_else(|| Some(secret.to_vec()))?)
        } else {
            Key::public(algorithm, row.text("rsa_public_key")?)
        };
        let key = Rc::new(key);
        self.keys.keep(place, Rc::clone(&key));
        Some(key)
    }
}

fn accept(exchange: &mut Exchange, row: &Row) -> bool {
    let tables = exchange.tables();
    let consumer = row.foreign("consumer").and_then(|id| tables.get("consumers", id)).cloned();
    let key = row.text("key");
    if consumer.is_none() {
        return false;
    }
    let credential = Credential { key: key.map(Into::into), ..Credential::of(row) };
    identity::identify_as(exchange, consumer, Some(credential), key);
    true
}

#[cfg(test)]
mod tests;

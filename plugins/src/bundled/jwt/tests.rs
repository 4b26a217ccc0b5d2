//! Tokens against the plugin. Those that are written out were signed for, and answered by, Kong.

use super::*;
use crate::pdk::script::{Script, answered};
use aws_lc_rs::hmac;

const BOB: &str = "00000000-0000-4000-8000-000000000001";
const ANY: &str = "00000000-0000-4000-8000-000000000002";
const OTHER: &str = "00000000-0000-4000-8000-000000000003";
const NOW_S: u64 = 1_795_302_000;

fn script(config: &Json, secret: &Json) -> Script {
    let mut row = secret.clone();
    row["consumer"] = json!({ "id": BOB });
    Script::new(&PLUGIN, config.clone())
        .row("consumers", json!({"id": BOB, "username": "bob"}))
        .row("consumers", json!({"username": "anon"}))
        .row("jwt_secrets", row)
}

/// Sends a request; gives the consumer, or the body of the answer and its challenge.
fn told(
    config: &Json,
    secret: &Json,
    target: &str,
    lines: &[(&str, &str)],
) -> Result<String, (Json, String)> {
    let script = script(config, secret);
    let mut exchange = script.get(target, lines);
    exchange.times.started_wall_us = NOW_S * 1_000_000;
    let plugin = script.plugin();
    let answer = match plugin.access(&mut exchange) {
        Step::Done(crate::pdk::Outcome::Answer(answer)) => Some(answer),
        _ => None,
    };
    let Some(answer) = answer else {
        let name = exchange.consumer.as_ref().and_then(|row| row.text("username"));
        return Ok(name.unwrap_or_default().to_owned());
    };
    assert_eq!(answer.status, 401);
    let challenge = answer.headers.iter().find(|(name, _)| *name == "WWW-Authenticate");
    let challenge = challenge.map(|(_, value)| value.to_string()).unwrap_or_default();
    let body = answered(Step::Done(crate::pdk::Outcome::Answer(answer))).unwrap().1;
    Err((serde_json::from_str(&body).unwrap(), challenge))
}

fn signed(header: &Json, claims: &Json, secret: &[u8]) -> String {
    let parts = [header, claims].map(|part| credentials::to_base64url(part.to_string().as_bytes()));
    let signed = parts.join(".");
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
    format!("{signed}.{}", credentials::to_base64url(tag.as_ref()))
}

fn hs256(claims: &Json) -> String {
    signed(&json!({"alg": "HS256", "typ": "JWT"}), claims, b"s")
}

#[track_caller]
fn check(config: &Json, token: &str, expected: Result<&str, Json>) {
    let secret = json!({"key": "i", "secret": "s"});
    let bearer = format!("Bearer {token}");
    let found = told(config, &secret, "/", &[("Authorization", &bearer)]);
    let found = found.as_ref().map(String::as_str).map_err(|(body, _)| body.clone());
    assert_eq!(found, expected, "{config} {token}");
}

fn words(words: &str) -> Result<&'static str, Json> {
    Err(json!({ "message": words }))
}

#[test]
fn the_signature_and_the_key_decide() {
    let plain = json!({});
    check(&plain, &hs256(&json!({"iss": "i"})), Ok("bob"));
    check(&plain, &signed(&json!({"alg": "HS256", "iss": "i"}), &json!({}), b"s"), Ok("bob"));
    let other = signed(&json!({"alg": "HS256"}), &json!({"iss": "i"}), b"t");
    check(&plain, &other, words("Invalid signature"));
    check(&plain, &hs256(&json!({"iss": "q"})), words("No credentials found for given 'iss'"));
    check(&plain, &hs256(&json!({"iss": 7})), words("No credentials found for given 'iss'"));
    check(&plain, &hs256(&json!({"iss": ""})), words("Invalid 'iss' in claims"));
    check(&plain, &hs256(&json!({})), words("No mandatory 'iss' in claims"));
    let other = signed(&json!({"alg": "HS384"}), &json!({"iss": "i"}), b"s");
    check(&plain, &other, words("Invalid algorithm"));
    let none = signed(&json!({"alg": "none"}), &json!({"iss": "i"}), b"s");
    check(&plain, &none, words("Bad token; invalid alg"));
    check(&plain, "a.b.c", words("Bad token; invalid JSON"));
    check(&plain, "abc", words("Bad token; invalid JSON"));
}

#[test]
fn claims_are_checked_when_asked_for() {
    let both = json!({"claims_to_verify": ["exp", "nbf"]});
    let now = NOW_S;
    check(&both, &hs256(&json!({"iss": "i", "exp": now + 1, "nbf": now})), Ok("bob"));
    let expired = hs256(&json!({"iss": "i", "exp": now, "nbf": 1}));
    check(&both, &expired, Err(json!({"exp": "token expired"})));
    check(&json!({}), &expired, Ok("bob"));
    let early = hs256(&json!({"iss": "i", "exp": now + 9, "nbf": now + 1}));
    check(&both, &early, Err(json!({"nbf": "token not valid yet"})));
    let odd = hs256(&json!({"iss": "i", "exp": "x"}));
    check(&both, &odd, Err(json!({"exp": "must be a number", "nbf": "must be a number"})));
    let short = json!({"claims_to_verify": ["exp"], "maximum_expiration": 60});
    check(&short, &hs256(&json!({"iss": "i", "exp": now + 60})), Ok("bob"));
    let long = hs256(&json!({"iss": "i", "exp": now + 61}));
    check(&short, &long, Err(json!({"exp": "exceeds maximum allowed expiration"})));
}

#[test]
fn a_number_that_no_float_holds_is_before_or_after_all_others() {
    let exp = json!({"claims_to_verify": ["exp"]});
    let claims = |exp: &str| serde_json::from_str(&format!("{{\"iss\":\"i\",\"exp\":{exp}}}"));
    check(&exp, &hs256(&claims("1e999").unwrap()), Ok("bob"));
    let ended = json!({"exp": "token expired"});
    check(&exp, &hs256(&claims("-1e999").unwrap()), Err(ended));
}

#[test]
fn a_verified_token_is_known_until_its_time_is_up_or_its_credential_changes() {
    let config = json!({"claims_to_verify": ["exp"]});
    let bearer = format!("Bearer {}", hs256(&json!({"iss": "i", "exp": NOW_S + 60})));
    let row = json!({"id": ANY, "key": "i", "secret": "s"});
    let first = script(&config, &row);
    let plugin = first.plugin();
    let ask = |script: &Script, line: &str, now_s: u64| {
        let mut exchange = script.get("/", &[("Authorization", line)]);
        exchange.times.started_wall_us = now_s * 1_000_000;
        answered(plugin.access(&mut exchange)).map(|(_, body)| body)
    };
    for now_s in [NOW_S, NOW_S + 59] {
        assert_eq!(ask(&first, &bearer, now_s), None);
    }
    assert_eq!(ask(&first, &bearer, NOW_S + 60).as_deref(), Some(r#"{"exp":"token expired"}"#));
    let wrong = bearer.replace("Bearer ey", "Bearer  ey") + "A";
    assert!(ask(&first, &wrong, NOW_S).unwrap().contains("Invalid signature"));
    // The same plugin, after another secret was given to the credential, or it was deleted.
    let changed = script(&config, &json!({"id": OTHER, "key": "i", "secret": "t"}));
    assert!(ask(&changed, &bearer, NOW_S).unwrap().contains("Invalid signature"));
    let gone = script(&config, &json!({"key": "other", "secret": "s"}));
    assert!(ask(&gone, &bearer, NOW_S).unwrap().contains("No credentials found"));
    assert_eq!(ask(&first, &bearer, NOW_S), None);
}

#[test]
fn a_token_is_found_where_it_is_looked_for() {
    let secret = json!({"key": "i", "secret": "s"});
    let config = json!({
        "uri_param_names": ["t"], "cookie_names": ["tok"], "header_names": ["x-jwt"]
    });
    let token = hs256(&json!({"iss": "i"}));
    let ask = |target: &str, lines: &[(&str, &str)]| told(&config, &secret, target, lines);
    let (query, bearer) = (format!("/r?t={token}"), format!("Bearer {token}"));
    let cookie = format!("a=1; tok={token}");
    assert_eq!(ask(&query, &[]), Ok("bob".into()));
    assert_eq!(ask("/", &[("Cookie", &cookie)]), Ok("bob".into()));
    assert_eq!(ask("/", &[("X-Jwt", &bearer)]), Ok("bob".into()));
    assert_eq!(ask(&query, &[("X-Jwt", &bearer), ("Cookie", &cookie)]), Ok("bob".into()));
    let nothing = Err((json!({"message": "Unauthorized"}), "Bearer".to_owned()));
    for lines in [&[("X-Jwt", &*token)][..], &[("Authorization", &bearer)], &[("Cookie", "tok=")]] {
        assert_eq!(ask("/?t=", lines), nothing, "{lines:?}");
    }
    let fault =
        |words: &str| Err((json!({"message": words}), "Bearer error=\"invalid_token\"".to_owned()));
    let other = hs256(&json!({"iss": "i", "n": 2}));
    assert_eq!(
        ask(&format!("/?t={other}"), &[("X-Jwt", &bearer)]),
        fault("Multiple tokens provided")
    );
    assert_eq!(ask(&format!("/?t={other}&t={token}"), &[]), fault("Multiple tokens provided"));
    assert_eq!(ask("/?t", &[]), fault("Unrecognizable token"));
}

#[test]
fn the_realm_stands_in_every_challenge() {
    let (config, secret) = (json!({"realm": "zone"}), json!({"key": "i", "secret": "s"}));
    let challenge = |lines: &[(&str, &str)]| told(&config, &secret, "/", lines).unwrap_err().1;
    assert_eq!(challenge(&[]), "Bearer realm=\"zone\"");
    let fault = "Bearer realm=\"zone\" error=\"invalid_token\"";
    assert_eq!(challenge(&[("Authorization", "Bearer abc")]), fault);
}

#[test]
fn a_secret_may_be_base64() {
    let config = json!({"secret_is_base64": true});
    let secret = json!({"key": "i", "secret": "cmF3LWJ5dGVz"});
    let token = signed(&json!({"alg": "HS256"}), &json!({"iss": "i"}), b"raw-bytes");
    let bearer = format!("Bearer {token}");
    let ask = |secret: &Json| told(&config, secret, "/", &[("Authorization", &bearer)]);
    assert_eq!(ask(&secret), Ok("bob".into()));
    let odd = ask(&json!({"key": "i", "secret": "no base64!"})).unwrap_err().0;
    assert_eq!(odd, json!({"message": "Invalid key/secret"}));
}

#[test]
fn an_anonymous_consumer_and_a_preflight_pass() {
    let secret = json!({"key": "i", "secret": "s"});
    let anonymous = json!({"anonymous": "anon"});
    assert_eq!(told(&anonymous, &secret, "/", &[]), Ok("anon".into()));
    let script = script(&json!({"run_on_preflight": false}), &secret);
    let mut exchange = script.get("/", &[]);
    exchange.request.set_method("OPTIONS");
    assert!(answered(script.plugin().access(&mut exchange)).is_none());
}

const P256: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEI/xSySf5ERbvCfABfSbGNfRlGDZB\neTKj3LUfxaXAy0ssYYK9j/F9nQzLP3ImPYxXsHAs5VZkZrGivfzVtXupxg==\n-----END PUBLIC KEY-----\n";
const ES256: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJpc3MiLCJleHAiOjQxMDI0NDQ4MDB9.HItklKD2jOPZYFz0gDsUEFXHVc_PeqMwZgtEivVyE_z53Q4AGlopISik71oOwmZca1uwu0tKa5CEYgs98qcQ0w";
const ED25519: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAF+3aTbWKfPFpgEXAH8lstAYrCxXVfsS4fIkR5XIkizc=\n-----END PUBLIC KEY-----\n";
const EDDSA: &str = "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJpc3MiLCJleHAiOjQxMDI0NDQ4MDB9.Eie8SnvVtS7HVaR1UqHZkozzrgCfD1a2cfsivI3vINtb9Mmrh3LBuJMBzcXVzL5IVH4_iesu7bVeEU83jgahDw";

#[test]
fn public_keys_verify() {
    for (algorithm, key, token) in [("ES256", P256, ES256), ("EdDSA", ED25519, EDDSA)] {
        let ask = |token: &str, key: &str| {
            let secret = json!({"key": "iss", "algorithm": algorithm, "rsa_public_key": key});
            let bearer = format!("Bearer {token}");
            told(&json!({}), &secret, "/", &[("Authorization", &bearer)]).map_err(|told| told.0)
        };
        assert_eq!(ask(token, key), Ok("bob".into()), "{algorithm}");
        let wrong = Err(json!({"message": "Invalid signature"}));
        assert_eq!(ask(&token.replace("_z53Q", "_z53R").replace("INtb9", "INtb8"), key), wrong);
        let short = token.get(..token.len() - 4).unwrap();
        assert_eq!(ask(short, key), wrong, "{algorithm}");
    }
}

#[test]
fn a_public_key_is_checked_where_it_is_written() {
    let check = |text: &str| key::check(&store::value::Value::text(text));
    assert_eq!(check(P256), Ok(()));
    assert_eq!(check(ED25519), Ok(()));
    for odd in ["", "x", &P256.replace("MFkw", "MFkx"), &P256.replace("PUBLIC", "PRIVATE")] {
        assert_eq!(check(odd), Err("invalid key".to_owned()), "{odd}");
    }
}

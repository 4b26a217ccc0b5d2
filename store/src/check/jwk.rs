//! Checks of JSON Web Keys.
//!
//! Source: Kong `kong/db/schema/entities/keys.lua`, `kong/db/schema/typedefs.lua` (`jwk`).

use super::is_reference;
use crate::value::Value;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value as Json};

/// Names that a key may have and whose values are texts.
const TEXTS: &[&str] = &[
    "issuer", "kty", "use", "alg", "kid", "x5u", "x5t", "x5t#S256", "k", "x", "y", "crv", "n", "e",
    "d", "p", "q", "dp", "dq", "qi", "oth", "r", "t",
];
/// Names whose values are lists of texts.
const LISTS: &[&str] = &["key_ops", "x5c"];

/// The `jwk` of a row is a key, and its `kid` is the row's.
///
/// # Errors
/// Kong's words.
pub fn key(row: &Value) -> Result<(), String> {
    let Some(text) = row.get("jwk").as_text().filter(|text| !is_reference(text)) else {
        return Ok(());
    };
    let Ok(document) = serde_json::from_str::<Json>(text) else {
        return Err("could not json decode jwk string".to_owned());
    };
    let nothing = Map::new();
    let fields = document.as_object().unwrap_or(&nothing);
    let kid = fields.get("kid").and_then(Json::as_str);
    if kid != row.get("kid").as_text() {
        return Err("kid in jwk.kid must be equal to keys.kid".to_owned());
    }
    if !loads(fields) {
        return Err("could not load JWK, likely not a valid key".to_owned());
    }
    let faults: Vec<_> = fields.iter().filter_map(|(name, value)| fault(name, value)).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
}

fn fault(name: &str, value: &Json) -> Option<String> {
    let why = if TEXTS.contains(&name) {
        match value.as_str() {
            Some("") => "length must be at least 1",
            Some(_) => return None,
            None => "expected a string",
        }
    } else if LISTS.contains(&name) {
        match value.as_array() {
            Some(items) if items.iter().all(Json::is_string) => return None,
            Some(_) => "expected a string",
            None => "expected an array",
        }
    } else {
        "unknown field"
    };
    Some(format!("{name}: {why}"))
}

/// Whether OpenSSL could make a key of it: RSA, elliptic curves, Edwards curves.
fn loads(fields: &Map<String, Json>) -> bool {
    let bytes = |name: &str| {
        let text = fields.get(name)?.as_str()?;
        URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok().filter(|bytes| !bytes.is_empty())
    };
    let text = |name: &str| fields.get(name).and_then(Json::as_str).unwrap_or_default();
    let point_bytes = match (text("kty"), text("crv")) {
        ("RSA", _) => return bytes("n").is_some() && bytes("e").is_some(),
        ("EC", "P-256") => 32,
        ("EC", "P-384") => 48,
        ("EC", "P-521") => 66,
        ("OKP", "Ed25519" | "X25519") => {
            return bytes("x").is_some_and(|point| point.len() == 32);
        }
        ("OKP", "Ed448") => return bytes("x").is_some_and(|point| point.len() == 57),
        ("OKP", "X448") => return bytes("x").is_some_and(|point| point.len() == 56),
        _ => return false,
    };
    ["x", "y"].iter().all(|name| bytes(name).is_some_and(|half| half.len() <= point_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(jwk: &str, expected: Result<(), &str>) {
        let row = Value::object([("kid", Value::text("1")), ("jwk", Value::text(jwk))]);
        assert_eq!(key(&row), expected.map_err(str::to_owned), "{jwk}");
    }

    #[test]
    fn keys_are_checked_as_in_kong() {
        let x = "A".repeat(43);
        check("{vault://env/jwk}", Ok(()));
        check("x", Err("could not json decode jwk string"));
        check("[]", Err("kid in jwk.kid must be equal to keys.kid"));
        check(r#"{"kid":"2"}"#, Err("kid in jwk.kid must be equal to keys.kid"));
        let bad = Err("could not load JWK, likely not a valid key");
        check(r#"{"kid":"1"}"#, bad);
        check(r#"{"kid":"1","kty":"oct","k":"AAAA"}"#, bad);
        check(r#"{"kid":"1","kty":"RSA","n":"AQAB"}"#, bad);
        check(r#"{"kid":"1","kty":"RSA","n":"!","e":"AQAB"}"#, bad);
        check(r#"{"kid":"1","kty":"EC","crv":"P-1","x":"AA","y":"AA"}"#, bad);
        check(r#"{"kid":"1","kty":"RSA","n":"AQAB","e":"AQAB","use":"sig"}"#, Ok(()));
        let ec = format!(r#"{{"kid":"1","kty":"EC","crv":"P-256","x":"{x}","y":"{x}"}}"#);
        check(&ec, Ok(()));
        let okp = format!(r#"{{"kid":"1","kty":"OKP","crv":"Ed25519","x":"{x}"}}"#);
        check(&okp, Ok(()));
        check(
            r#"{"kid":"1","kty":"RSA","n":"AQAB","e":"AQAB","use":1,"x5c":"a","z":1}"#,
            Err("use: expected a string; x5c: expected an array; z: unknown field"),
        );
    }
}

//! A token, taken apart: three parts of base64 with dots between them.
//!
//! Source: Kong `kong/plugins/jwt/jwt_parser.lua`. JSON that is no object counts as an empty one.

use serde_json::{Map, Value as Json};

use crate::pdk::credentials;

/// A token whose signature was not looked at.
#[derive(Debug)]
pub(super) struct Token<'a> {
    /// What the signature is about: the first two parts, as they stand.
    pub(super) signed: &'a [u8],
    /// The third part, decoded.
    pub(super) signature: Vec<u8>,
    claims: Map<String, Json>,
    header: Map<String, Json>,
}

/// From when on and until when a token holds, Unix time; none for what is no number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Times {
    pub(super) exp_s: Option<f64>,
    pub(super) nbf_s: Option<f64>,
}

/// Why something is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A part is missing, is not base64, or no JSON.
    Json,
    /// The header names no algorithm that is known.
    Algorithm,
    /// The signature is not base64.
    Signature,
}

impl Fault {
    /// Kong's words.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Json => "invalid JSON",
            Self::Algorithm => "invalid alg",
            Self::Signature => "invalid signature",
        }
    }
}

impl<'a> Token<'a> {
    /// Takes a token apart. Dots behind the second belong to the signature.
    pub(super) fn read(token: &'a [u8]) -> Result<Self, Fault> {
        let mut dots = memchr::memchr_iter(b'.', token);
        let (first, second) = dots.next().zip(dots.next()).ok_or(Fault::Json)?;
        let header = part(token.get(..first))?;
        let claims = part(token.get(first + 1..second))?;
        let alg = header.get("alg").and_then(Json::as_str);
        if !alg.is_some_and(|alg| super::ALGORITHMS.contains(&alg)) {
            return Err(Fault::Algorithm);
        }
        let signature = token.get(second + 1..).and_then(credentials::base64url);
        Ok(Self {
            signed: token.get(..second).unwrap_or_default(),
            signature: signature.ok_or(Fault::Signature)?,
            claims,
            header,
        })
    }

    /// The algorithm that it says it is signed with.
    pub(super) fn algorithm(&self) -> &str {
        self.header.get("alg").and_then(Json::as_str).unwrap_or_default()
    }

    /// When it holds.
    pub(super) fn times(&self) -> Times {
        let number = |name: &str| match self.claims.get(name)? {
            // A number that no float holds is before or after all others.
            Json::Number(number) => Some(number.as_f64().unwrap_or_else(|| {
                let is_below = number.to_string().starts_with('-');
                if is_below { f64::NEG_INFINITY } else { f64::INFINITY }
            })),
            _ => None,
        };
        Times { exp_s: number("exp"), nbf_s: number("nbf") }
    }

    /// What names the key: a claim, or a field of the header. `None` if there is neither; what is
    /// no text names a key that nobody has.
    pub(super) fn key(&self, name: &str) -> Option<&str> {
        let given = |json: &&Json| !matches!(json, Json::Null | Json::Bool(false));
        let found = self.claims.get(name).filter(given);
        let found = found.or_else(|| self.header.get(name).filter(given))?;
        Some(found.as_str().unwrap_or("\u{fffd}"))
    }
}

fn part(text: Option<&[u8]>) -> Result<Map<String, Json>, Fault> {
    let decoded = text.and_then(credentials::base64url).ok_or(Fault::Json)?;
    match serde_json::from_slice(&decoded) {
        Ok(Json::Object(members)) => Ok(members),
        Ok(_) => Ok(Map::new()),
        Err(_) => Err(Fault::Json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(parts: [&str; 2], signature: &str, expected: Result<Option<&str>, Fault>) {
        let [header, claims] = parts.map(|part| credentials::to_base64url(part.as_bytes()));
        let text = format!("{header}.{claims}.{signature}");
        let token = Token::read(text.as_bytes());
        let found = token.as_ref().map(|token| token.key("iss")).map_err(|fault| *fault);
        assert_eq!(found, expected, "{parts:?}");
    }

    #[test]
    fn a_token_is_taken_apart() {
        const HS: &str = r#"{"alg":"HS256"}"#;
        check([HS, r#"{"iss":"a"}"#], "AAAA", Ok(Some("a")));
        check([r#"{"alg":"HS256","iss":"h"}"#, "{}"], "AAAA", Ok(Some("h")));
        check([r#"{"alg":"HS256","iss":"h"}"#, r#"{"iss":null}"#], "AAAA", Ok(Some("h")));
        check([HS, r#"{"iss":""}"#], "", Ok(Some("")));
        check([HS, r#"{"iss":7}"#], "", Ok(Some("\u{fffd}")));
        check([HS, "{}"], "AAAA", Ok(None));
        check([HS, "[]"], "AAAA", Ok(None));
        check([HS, "7"], "AAAA", Ok(None));
        check([HS, "{"], "AAAA", Err(Fault::Json));
        check([r#"{"alg":"none"}"#, "{}"], "", Err(Fault::Algorithm));
        check([r#"{"alg":7}"#, "{}"], "", Err(Fault::Algorithm));
        check([r#""HS256""#, "{}"], "", Err(Fault::Algorithm));
        check(["{}", "{}"], "", Err(Fault::Algorithm));
        check([HS, "{}"], "!!", Err(Fault::Signature));
        check([HS, "{}"], "AAAA.AAAA", Err(Fault::Signature));
        for odd in ["", ".", "..", "a", "a.b", "a.b.c", "eyJ9.e30.e30"] {
            assert_eq!(Token::read(odd.as_bytes()).err(), Some(Fault::Json), "{odd}");
        }
    }

    #[test]
    fn whatever_is_sent_is_read() {
        let parts = ["eyJhbGciOiJIUzI1NiJ9", ".", "e30", "=", "!", "W10", "\u{ff}", "e"];
        let mut random = 77_u64;
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) as usize
        };
        for _ in 0..5_000 {
            let text: String = (0..next() % 9).map(|_| parts[next() % parts.len()]).collect();
            if let Ok(token) = Token::read(text.as_bytes()) {
                assert!(text.as_bytes().starts_with(token.signed), "seed 77: {text}");
                assert_eq!(token.algorithm(), "HS256", "seed 77: {text}");
            }
        }
    }
}

//! Who called: user and company, in the documented order.
//!
//! User: `user_id_header` of the request, the consumer (custom id, username, id), the authorization
//! headers in their listed order, `user_id_header` of the response. Company: the same without the
//! consumer. Unlike the original, a company header is not overwritten by a token, a token's company
//! is read even if the user is known, a later authorization header is tried when an earlier one
//! says nothing, and Base64url is understood.
//!
//! Source: the plugin's documentation; `kong-plugin-moesif` `kong/plugins/moesif/moesif_gov.lua`.

use super::headers::Headers;
use super::settings::Settings;
use crate::event::record::Record;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// The longest authorization value that is looked into, in bytes.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Who an event belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user, if known.
    pub user_id: Option<Vec<u8>>,
    /// The company, if known.
    pub company_id: Option<Vec<u8>>,
}

/// What there is to identify a caller by.
#[derive(Clone, Copy)]
pub struct Traces<'a> {
    /// The request's headers, unmasked.
    pub request: Headers<'a>,
    /// The response's headers, once there are any.
    pub response: Option<Headers<'a>>,
    /// The authenticated consumer's custom id, username and id.
    pub consumer: [Option<&'a [u8]>; 3],
    /// Whether authorization headers say who it is. Not where another plugin has refused the
    /// request before: then nobody has looked at the token, as in the original.
    pub tokens: bool,
}

impl<'a> Traces<'a> {
    /// What a record has kept.
    pub const fn of(record: &Record<'a>) -> Self {
        Self {
            request: Headers::Kept(record.request_lines),
            response: Some(Headers::Kept(record.response_lines)),
            consumer: [record.consumer_custom_id, record.consumer_username, record.consumer_id],
            tokens: record.access_ran,
        }
    }
}

/// Identifies the caller of one exchange.
pub fn identify(traces: &Traces<'_>, settings: &Settings) -> Identity {
    let request = &traces.request;
    let mut user = request
        .named(settings.user_id_header.as_deref())
        .or_else(|| consumer(traces))
        .map(<[u8]>::to_vec);
    let mut company = request.named(settings.company_id_header.as_deref()).map(<[u8]>::to_vec);
    let company_in_token = settings.authorization_company_id_field.is_some();
    let names = settings.authorization_header_names.iter().filter(|_| traces.tokens);
    for name in names {
        if user.is_some() && (company.is_some() || !company_in_token) {
            break;
        }
        let found = request.named(Some(name)).map(|value| from_token(value, settings));
        let Identity { user_id, company_id } = found.unwrap_or_default();
        user = user.or(user_id);
        company = company.or(company_id);
    }
    let masked = |name: &str| {
        let dashed = name.replace('_', "-");
        settings.masks.response_headers.iter().any(|mask| mask.eq_ignore_ascii_case(&dashed))
    };
    let answered = |name: Option<&str>| {
        let name = name.filter(|name| !masked(name));
        traces.response?.named(name).map(<[u8]>::to_vec)
    };
    Identity {
        user_id: user.or_else(|| answered(settings.user_id_header.as_deref())),
        company_id: company.or_else(|| answered(settings.company_id_header.as_deref())),
    }
}

/// The consumer as authentication found it; else as upstream headers name it.
fn consumer<'a>(traces: &Traces<'a>) -> Option<&'a [u8]> {
    const NAMES: [&str; 3] = ["x-consumer-custom-id", "x-consumer-username", "x-consumer-id"];
    let known = traces.consumer.iter().find_map(|id| *id);
    known.or_else(|| NAMES.iter().find_map(|name| traces.request.named(Some(name))))
}

fn from_token(value: &[u8], settings: &Settings) -> Identity {
    if value.len() > TOKEN_BYTES_MAX {
        return Identity::default();
    }
    let after = |scheme: &[u8]| {
        let (found, rest) = value.split_at_checked(scheme.len())?;
        found.eq_ignore_ascii_case(scheme).then(|| rest.trim_ascii())
    };
    if let Some(basic) = after(b"basic ") {
        return Identity { user_id: basic_user(basic), company_id: None };
    }
    let bearer = after(b"bearer ");
    let mut parts = bearer.unwrap_or(value.trim_ascii()).split(|byte| *byte == b'.');
    // A raw token without dots may be the payload itself; a Bearer token without dots is opaque.
    let first = parts.next().filter(|_| bearer.is_none());
    let payload = parts.next().or(first).unwrap_or_default();
    let Some(claims) = decoded(payload).and_then(|bytes| claims(&bytes)) else {
        return Identity::default();
    };
    let company_field = settings.authorization_company_id_field.as_deref();
    Identity {
        user_id: claim(&claims, &settings.authorization_user_id_field),
        company_id: company_field.and_then(|field| claim(&claims, field)),
    }
}

/// The user of `Basic` credentials: the text before the first colon (RFC 7617).
fn basic_user(credentials: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = decoded(credentials)?;
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    bytes.truncate(colon);
    Some(bytes).filter(|user| !user.is_empty())
}

/// Both alphabets, with or without padding.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let url_safe: Vec<u8> = text
        .iter()
        .map(|byte| match byte {
            b'+' => b'-',
            b'/' => b'_',
            other => *other,
        })
        .collect();
    URL_SAFE.decode(url_safe).ok()
}

fn claims(bytes: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(claims)) => Some(claims),
        _ => None,
    }
}

/// A claim by its exact name, else by its name in lower case; texts and numbers as written, but
/// for a whole number's `.0`.
fn claim(claims: &Map<String, Value>, field: &str) -> Option<Vec<u8>> {
    let lower = || claims.iter().find(|(name, _)| name.to_lowercase() == field);
    let value = claims.get(field).or_else(|| lower().map(|(_, value)| value))?;
    match value {
        Value::String(text) if !text.is_empty() => Some(text.as_bytes().to_vec()),
        Value::Number(number) => {
            let text = number.to_string();
            Some(text.strip_suffix(".0").unwrap_or(&text).into())
        }
        Value::Bool(flag) => Some(flag.to_string().into_bytes()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::record::tests::{lines_of, record_of, report};
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    const CONFIG: &str = r#"{"application_id": "a", "user_id_header": "X-User",
        "company_id_header": "X_Org", "authorization_header_name": "x-token, authorization",
        "authorization_company_id_field": "org"}"#;

    /// Who a request with these headers is, `consumer` being authenticated, and the response's
    /// headers being `answer`.
    #[track_caller]
    fn check(
        headers: &[(&str, &str)],
        consumer: Option<&str>,
        answer: &[(&str, &str)],
        expected: (Option<&str>, Option<&str>),
    ) {
        let settings = Settings::parse(&serde_json::from_str(CONFIG).unwrap()).unwrap();
        let (request, response) = (lines_of(headers), lines_of(answer));
        let bytes = record_of(&report());
        let mut record = Record::read(&bytes).unwrap();
        record.access_ran = true;
        record.request_lines = request.view();
        record.response_lines = response.view();
        record.consumer_id = None;
        record.consumer_custom_id = None;
        record.consumer_username = consumer.map(str::as_bytes);
        let text = |id: Option<Vec<u8>>| id.map(|id| String::from_utf8(id).unwrap());
        let Identity { user_id, company_id } = identify(&Traces::of(&record), &settings);
        let found = (text(user_id), text(company_id));
        assert_eq!((found.0.as_deref(), found.1.as_deref()), expected, "{headers:?}");
    }

    fn bearer(claims: &Value) -> String {
        format!("Bearer h.{}.s", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    #[test]
    fn the_documented_order() {
        let token = bearer(&json!({"sub": "from-token", "org": "token-org"}));
        let auth = ("Authorization", token.as_str());
        check(&[], None, &[], (None, None));
        check(&[], None, &[("x-user", "u"), ("x-org", "o")], (Some("u"), Some("o")));
        check(&[auth], None, &[("x-user", "u")], (Some("from-token"), Some("token-org")));
        check(&[auth], Some("alice"), &[], (Some("alice"), Some("token-org")));
        check(&[auth, ("X-USER", "h")], Some("alice"), &[], (Some("h"), Some("token-org")));
        check(&[auth, ("x-org", "h-org")], None, &[], (Some("from-token"), Some("h-org")));
        check(&[auth, ("x-user", "")], None, &[], (Some("from-token"), Some("token-org")));
        let named = [("x-consumer-id", "id"), ("x-consumer-username", "name")];
        check(&named, None, &[], (Some("name"), None));
        check(&named, Some("alice"), &[], (Some("alice"), None));
    }

    #[test]
    fn tokens_of_all_sorts() {
        let one = |value: &str, user: Option<&str>| {
            check(&[("Authorization", value)], None, &[], (user, None));
        };
        one("Basic YWxpY2U6cHc6eA==", Some("alice"));
        one("basic YWxpY2U6", Some("alice"));
        one("Basic OnB3", None);
        one("Basic !!!", None);
        one("Bearer", None);
        one("Bearer a.b.c", None);
        one(&bearer(&json!({"sub": "\u{fc}\u{3fe}\u{3ff}?>~"})), Some("\u{fc}\u{3fe}\u{3ff}?>~"));
        one(&bearer(&json!({"sub": 123_456_789_012_345_678_i64})), Some("123456789012345678"));
        one(&bearer(&json!({"sub": 7.0})), Some("7"));
        one(&format!("Bearer {}", URL_SAFE_NO_PAD.encode("{\"sub\":\"raw\"}")), None);
        one(&bearer(&json!({"sub": null})), None);
        one(&bearer(&json!({"sub": {"a": 1}})), None);
        one(&bearer(&json!({"SUB": true})), Some("true"));
        one(&bearer(&json!(["sub"])), None);
        one(&URL_SAFE_NO_PAD.encode("{\"sub\":\"raw\"}"), Some("raw"));
        one(&"x".repeat(TOKEN_BYTES_MAX + 1), None);
        let token = bearer(&json!({"sub": "second"}));
        let headers = [("X-Token", "opaque"), ("Authorization", token.as_str())];
        check(&headers, None, &[], (Some("second"), None));
    }
}

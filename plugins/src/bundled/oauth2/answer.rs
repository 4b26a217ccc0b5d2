//! Answers of the two endpoints, and the refusals of everything else.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::parameters;
use crate::pdk::Answer;

/// What is wrong, in the words of RFC 6749 and Kong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// The code.
    pub(super) error: &'static str,
    /// For people.
    pub(super) description: String,
}

/// A fault of a request.
pub(super) fn wrong(error: &'static str, description: impl Into<String>) -> Wrong {
    Wrong { error, description: description.into() }
}

impl Wrong {
    /// As members of an answer.
    fn members(&self) -> Map<String, Json> {
        let mut members = Map::new();
        members.insert("error_description".to_owned(), self.description.as_str().into());
        members.insert("error".to_owned(), self.error.into());
        members
    }

    /// As an answer with a challenge.
    pub(super) fn challenge(&self, status: u16, challenge: String) -> Answer {
        Answer::exit_json(status, &self.members().into()).with("WWW-Authenticate", challenge)
    }
}

/// What a request to an endpoint came to.
pub(super) type Ended = Result<Map<String, Json>, Wrong>;

fn document(ended: &Ended, state: Option<&Json>) -> Map<String, Json> {
    let mut members = match ended {
        Ok(members) => members.clone(),
        Err(wrong) => wrong.members(),
    };
    if let Some(state) = state {
        members.insert("state".to_owned(), state.clone());
    }
    members
}

fn uncached(status: u16, body: &Json) -> Answer {
    Answer::exit_json(status, body).with("cache-control", "no-store").with("pragma", "no-cache")
}

/// The answer of the token endpoint.
pub(super) fn token(ended: &Ended, state: Option<&Json>, by_header: bool) -> Answer {
    let body = document(ended, state).into();
    match ended {
        Ok(_) => uncached(200, &body),
        // The client's own name and password were wrong, and came in a header.
        Err(_) if by_header => {
            uncached(401, &body).with("www-authenticate", "Basic realm=\"OAuth2.0\"")
        }
        Err(_) => uncached(400, &body),
    }
}

/// The answer of the authorization endpoint: where the user's browser goes next, or a plain
/// document where that is not known.
pub(super) fn authorization(
    ended: &Ended,
    state: Option<&Json>,
    redirect_uri: Option<&str>,
    in_fragment: bool,
) -> Answer {
    let members = document(ended, state);
    let body = match redirect_uri {
        Some(uri) => json!({ "redirect_uri": redirected(uri, &members, in_fragment) }),
        None => members.into(),
    };
    uncached(if ended.is_ok() { 200 } else { 400 }, &body)
}

/// A redirect URI with arguments in its query or its fragment, beside those that are there.
fn redirected(uri: &str, members: &Map<String, Json>, in_fragment: bool) -> String {
    let (rest, fragment) = uri.split_once('#').map_or((uri, None), |(r, f)| (r, Some(f)));
    let (base, query) = rest.split_once('?').map_or((rest, None), |(b, q)| (b, Some(q)));
    let there = if in_fragment { fragment } else { query };
    let mut arguments: BTreeMap<String, String> = parameters::decoded(there.unwrap_or_default());
    for (name, value) in members {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        arguments.insert(name.clone(), text);
    }
    let made = parameters::encoded(&arguments);
    let (query, fragment) =
        if in_fragment { (query, Some(&*made)) } else { (Some(&*made), fragment) };
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    let fragment = fragment.map_or_else(String::new, |fragment| format!("#{fragment}"));
    format!("{base}{query}{fragment}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(uri: &str, members: &Json, in_fragment: bool, expected: &str) {
        let members = members.as_object().unwrap();
        assert_eq!(redirected(uri, members, in_fragment), expected);
    }

    #[test]
    fn a_redirect_uri_gets_arguments() {
        let code = json!({"code": "c", "state": "st 1"});
        check("http://app.test/cb", &code, false, "http://app.test/cb?code=c&state=st%201");
        check(
            "http://app.test/cb2?x=1",
            &code,
            false,
            "http://app.test/cb2?code=c&state=st%201&x=1",
        );
        let token = json!({"access_token": "t", "expires_in": 7200, "token_type": "bearer"});
        let expected = "http://a/cb?x=1#access_token=t&expires_in=7200&token_type=bearer";
        check("http://a/cb?x=1", &token, true, expected);
        let odd = json!({"error_description": "not supported, \"x\" must/be+&="});
        let expected =
            "http://a?error_description=not%20supported%2c%20%22x%22%20must%2fbe%2b%26%3d";
        check("http://a", &odd, false, expected);
    }
}

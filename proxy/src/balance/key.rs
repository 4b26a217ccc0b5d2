//! What of a request decides, under consistent hashing, which peer it goes to.
//!
//! Source: Kong `kong/runloop/balancer/init.lua` (`get_value_to_hash`, `set_cookie`).

use std::borrow::Cow;

use plugins::pdk::{Exchange, query};
use runtime::clock;
use runtime::http::head::{Fields, Request};

use super::slots::hash;
use super::upstream::{HashOn, Upstream};
use crate::route::{normalise, target};

/// Values of one query argument that are put in order; Kong reads 100 arguments.
const VALUES_MAX: usize = 100;

/// What was hashed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Key {
    /// The hash.
    pub hash: u64,
    /// A cookie that the client gets with the answer, since it sent none.
    pub cookie: Option<Cookie>,
}

/// A cookie that keeps a client at its peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookie {
    name: Box<str>,
    line: Box<str>,
}

impl Cookie {
    fn new(name: &str, path: &str) -> (Self, String) {
        let bits = (u128::from(clock::random()) << 64) | u128::from(clock::random());
        let value = uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid().to_string();
        // The attribute's odd name is Kong's.
        let line = format!("{name}={value}; Path={path}; Same-Site=Lax; HttpOnly");
        (Self { name: name.into(), line: line.into() }, value)
    }

    /// Adds it to the lines of an answer, in place of one of that name.
    pub fn put(&self, fields: &mut Fields) {
        let is_own = |line: &[u8]| {
            line.strip_prefix(self.name.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
        };
        let kept: Vec<Vec<u8>> =
            fields.all("set-cookie").filter(|line| !is_own(line)).map(<[u8]>::to_vec).collect();
        fields.remove("set-cookie");
        for line in &kept {
            fields.add("Set-Cookie", line);
        }
        fields.add("Set-Cookie", self.line.as_bytes());
    }
}

/// The key of an exchange at an Upstream: of the first thing that the request has, else of nothing.
pub fn of(
    upstream: &Upstream,
    exchange: &Exchange,
    capture: impl Fn(&str) -> Option<Vec<u8>>,
) -> Key {
    for source in &upstream.hash_on {
        if let HashOn::Cookie { name, path } = source {
            let (hash, cookie) = match cookie(&exchange.request.fields, name) {
                Some(value) => (hash(value), None),
                None => {
                    let (cookie, value) = Cookie::new(name, path);
                    (hash(value.as_bytes()), Some(cookie))
                }
            };
            return Key { hash, cookie };
        }
        if let Some(value) = value(source, exchange, &capture) {
            return Key { hash: hash(&value), cookie: None };
        }
    }
    Key { hash: hash(b""), cookie: None }
}

/// The value of one source; none where the request does not have it.
fn value<'a>(
    source: &HashOn,
    exchange: &'a Exchange,
    capture: &impl Fn(&str) -> Option<Vec<u8>>,
) -> Option<Cow<'a, [u8]>> {
    match source {
        HashOn::None | HashOn::Cookie { .. } => None,
        HashOn::Consumer => {
            let consumer = exchange.consumer.as_ref().map(|row| row.id().to_string());
            let id = consumer.or_else(|| exchange.credential.as_ref().map(|own| own.id.clone()));
            id.map(|id| id.into_bytes().into())
        }
        HashOn::Ip => Some(exchange.client.ip.to_string().into_bytes().into()),
        HashOn::Header(name) => header(&exchange.request.fields, name),
        HashOn::Path => Some(path(&exchange.request)),
        HashOn::QueryArg(name) => argument(exchange.query()?, name),
        HashOn::UriCapture(name) => capture(name).map(Cow::Owned),
    }
}

/// All values of a header, as one line has them.
fn header<'a>(fields: &'a Fields, name: &str) -> Option<Cow<'a, [u8]>> {
    let mut values = fields.all(name);
    let first = values.next()?;
    let mut all = Cow::Borrowed(first);
    for value in values {
        let joined = all.to_mut();
        joined.extend_from_slice(b", ");
        joined.extend_from_slice(value);
    }
    Some(all)
}

/// The value of a cookie; its name in any case, as nginx looks for it.
fn cookie<'a>(fields: &'a Fields, name: &str) -> Option<&'a [u8]> {
    let pairs = fields.all("cookie").flat_map(|line| line.split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii_start).find_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (own, value) = pair.split_at_checked(at)?;
        own.eq_ignore_ascii_case(name.as_bytes()).then(|| value.get(1..))?
    })
}

/// The path in normal form; as it stands where it has none.
fn path(request: &Request) -> Cow<'_, [u8]> {
    let raw = target::split(request.target()).path;
    let mut scratch = Vec::new();
    match normalise(raw, &mut scratch) {
        Ok(normal) => Cow::Owned(normal.path.to_vec()),
        Err(_) => Cow::Owned(raw.to_vec()),
    }
}

/// All values of an argument in order; one without a value is `true`, as in Kong.
fn argument<'a>(raw: &'a [u8], name: &str) -> Option<Cow<'a, [u8]>> {
    let bare = |part: &[u8]| !part.contains(&b'=');
    let parts = raw.split(|byte| *byte == b'&').filter(|part| !part.is_empty());
    let mut values: Vec<Cow<'a, [u8]>> = parts
        .flat_map(|part| {
            let is_bare = bare(part);
            let read = move |value| if is_bare { Cow::Borrowed(&b"true"[..]) } else { value };
            query::all(part).map(move |(own, value)| (own, read(value)))
        })
        .filter(|(own, _)| **own == *name.as_bytes())
        .map(|(_, value)| value)
        .take(VALUES_MAX)
        .collect();
    if values.len() == 1 {
        return values.pop();
    }
    values.sort();
    (!values.is_empty()).then(|| Cow::Owned(values.join(&b","[..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        lines.iter().for_each(|(name, value)| assert!(fields.add(name, value.as_bytes())));
        fields
    }

    #[track_caller]
    fn check(found: Option<Cow<'_, [u8]>>, expected: Option<&str>) {
        let found = found.map(|value| String::from_utf8(value.into_owned()).unwrap());
        assert_eq!(found.as_deref(), expected);
    }

    #[test]
    fn all_values_of_a_header_count() {
        let lines = fields(&[("X-User", "a"), ("x-user", "b"), ("x-empty", "")]);
        check(header(&lines, "x-user"), Some("a, b"));
        check(header(&lines, "X-EMPTY"), Some(""));
        check(header(&lines, "x-none"), None);
    }

    #[test]
    fn cookies_are_found_in_any_line() {
        let lines = fields(&[("Cookie", "a=1; stick=abc; b="), ("cookie", "Other=x=y")]);
        let found = |name| cookie(&lines, name).map(Cow::Borrowed);
        check(found("stick"), Some("abc"));
        check(found("STICK"), Some("abc"));
        check(found("b"), Some(""));
        check(found("other"), Some("x=y"));
        check(found("tick"), None);
        check(cookie(&fields(&[("cookie", "stick")]), "stick").map(Cow::Borrowed), None);
    }

    #[test]
    fn arguments_are_decoded_and_put_in_order() {
        check(argument(b"user=b%20c&x=1", "user"), Some("b c"));
        check(argument(b"user=b&user=a&user", "user"), Some("a,b,true"));
        check(argument(b"user", "user"), Some("true"));
        check(argument(b"user=", "user"), Some(""));
        check(argument(b"", "user"), None);
        check(argument(b"users=1", "user"), None);
    }

    #[test]
    fn a_cookie_is_handed_out_once() {
        let (own, value) = Cookie::new("stick", "/x");
        assert_eq!(value.len(), 36);
        let mut lines = fields(&[("Set-Cookie", "a=1"), ("Set-Cookie", "stick=old; Path=/")]);
        own.put(&mut lines);
        let line = format!("stick={value}; Path=/x; Same-Site=Lax; HttpOnly");
        let found: Vec<_> = lines.all("set-cookie").map(<[u8]>::to_vec).collect();
        assert_eq!(found, [b"a=1".to_vec(), line.into_bytes()]);
    }
}

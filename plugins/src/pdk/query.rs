//! Query strings and urlencoded forms, byte by byte: what is not touched stays as the client sent
//! it.

use std::borrow::Cow;

/// The values of an argument, decoded, in order. An argument without `=` counts as present with an
/// empty value.
pub fn values<'a>(query: &'a [u8], name: &'a str) -> impl Iterator<Item = Cow<'a, [u8]>> {
    pairs(query).filter(move |(key, _)| *decoded(key) == *name.as_bytes()).map(|(_, v)| decoded(v))
}

/// The query without an argument. None if the argument does not occur.
pub fn without(query: &[u8], name: &str) -> Option<Vec<u8>> {
    let mut kept = Vec::with_capacity(query.len());
    let mut found = false;
    for part in query.split(|byte| *byte == b'&') {
        let key = part.split(|byte| *byte == b'=').next().unwrap_or(part);
        if *decoded(key) == *name.as_bytes() {
            found = true;
            continue;
        }
        if !kept.is_empty() {
            kept.push(b'&');
        }
        kept.extend_from_slice(part);
    }
    found.then_some(kept)
}

/// Every argument with its value, decoded, in order.
pub fn all(query: &[u8]) -> impl Iterator<Item = (Cow<'_, [u8]>, Cow<'_, [u8]>)> {
    pairs(query).map(|(key, value)| (decoded(key), decoded(value)))
}

/// Most arguments that are looked at, as in Kong.
const ARGUMENTS_MAX: usize = 100;

/// The first arguments, decoded; one without `=` has no value.
pub fn arguments(query: &[u8]) -> impl Iterator<Item = (Cow<'_, [u8]>, Option<Cow<'_, [u8]>>)> {
    let parts = query.split(|byte| *byte == b'&').filter(|part| !part.is_empty());
    parts.take(ARGUMENTS_MAX).map(|part| {
        let mut sides = part.splitn(2, |byte| *byte == b'=');
        (decoded(sides.next().unwrap_or_default()), sides.next().map(decoded))
    })
}

fn pairs(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    query.split(|byte| *byte == b'&').filter(|part| !part.is_empty()).map(|part| {
        match memchr::memchr(b'=', part).and_then(|at| part.split_at_checked(at)) {
            Some((key, value)) => (key, value.get(1..).unwrap_or_default()),
            None => (part, &[][..]),
        }
    })
}

/// Percent escapes and `+` resolved; what is no escape stays as it is.
pub fn decoded(part: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'%', b'+', part).is_none() {
        return Cow::Borrowed(part);
    }
    let mut out = Vec::with_capacity(part.len());
    let mut rest = part;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'+', _) => out.push(b' '),
            (b'%', [high, low, after @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                out.push(hex(*high) << 4 | hex(*low));
                rest = after;
            }
            _ => out.push(*first),
        }
    }
    Cow::Owned(out)
}

fn hex(digit: u8) -> u8 {
    (digit as char).to_digit(16).and_then(|value| value.try_into().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, name: &str, found: &[&str], rest: Option<&str>) {
        let values: Vec<_> = values(query.as_bytes(), name)
            .map(|v| String::from_utf8(v.into_owned()).unwrap())
            .collect();
        assert_eq!(values, found, "{query}");
        let without = without(query.as_bytes(), name).map(|q| String::from_utf8(q).unwrap());
        assert_eq!(without.as_deref(), rest, "{query}");
    }

    #[test]
    fn arguments_are_found_decoded_and_taken_out() {
        check("apikey=k1", "apikey", &["k1"], Some(""));
        check("a=1&apikey=k%2B1+x&b=%zz", "apikey", &["k+1 x"], Some("a=1&b=%zz"));
        check("a=1&b=2", "apikey", &[], None);
        check("apikey=1&apikey=2", "apikey", &["1", "2"], Some(""));
        check("%61pikey=1&apikeys=2&apikey", "apikey", &["1", ""], Some("apikeys=2"));
        check("a=%&apikey=%4", "apikey", &["%4"], Some("a=%"));
        check("", "apikey", &[], None);
    }
}

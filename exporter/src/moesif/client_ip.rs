//! The client's address, from the headers that proxies and networks put it in.
//!
//! Source: `kong-plugin-moesif` `kong/plugins/moesif/client_ip.lua`; it knows only uncompressed
//! IPv6, we take every form and RFC 7239.

use super::headers::Headers;
use std::net::IpAddr;

/// Headers in order of trust.
const HEADERS: [&str; 10] = [
    "x-client-ip",
    "x-forwarded-for",
    "cf-connecting-ip",
    "fastly-client-ip",
    "true-client-ip",
    "x-real-ip",
    "x-cluster-client-ip",
    "x-forwarded",
    "forwarded-for",
    "forwarded",
];

/// The first valid address that a header names, as it is written there, else `None`. Repeated
/// headers are ignored, as the original does: nobody can say which line is right. So are the
/// headers in `masks` (in lower case): an address that must not leave in its header must not leave
/// beside it.
pub fn client_ip<'a>(lines: &Headers<'a>, masks: &[String]) -> Option<&'a str> {
    HEADERS.iter().filter(|name| !masks.iter().any(|mask| mask == **name)).find_map(|name| {
        let value = std::str::from_utf8(lines.only(name.as_bytes())?).ok()?;
        match *name {
            "x-forwarded-for" => value.split(',').find_map(address),
            "forwarded" => address(value).or_else(|| forwarded(value)),
            _ => valid(value.trim()),
        }
    })
}

fn valid(text: &str) -> Option<&str> {
    text.parse::<IpAddr>().is_ok().then_some(text)
}

/// One address, perhaps in brackets, perhaps with a port.
fn address(text: &str) -> Option<&str> {
    let text = text.trim().trim_matches('"');
    if let Some(ip) = valid(text) {
        return Some(ip);
    }
    if let Some(bracketed) = text.strip_prefix('[') {
        return valid(bracketed.split(']').next()?);
    }
    valid(text.rsplit_once(':')?.0)
}

/// The first `for=` that is an address (RFC 7239).
fn forwarded(value: &str) -> Option<&str> {
    value.split([',', ';']).find_map(|part| {
        let (name, node) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| address(node)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::record::tests::lines_of;

    #[track_caller]
    fn check(headers: &[(&str, &str)], expected: Option<&str>) {
        let bytes = lines_of(headers);
        let found = client_ip(&Headers::Kept(bytes.view()), &["cf-connecting-ip".to_owned()]);
        assert_eq!(found, expected, "{headers:?}");
    }

    #[test]
    fn the_first_valid_one_counts() {
        check(&[], None);
        check(&[("X-Forwarded-For", "unknown, 198.51.100.7:4711, 10.0.0.1")], Some("198.51.100.7"));
        check(
            &[("X-Forwarded-For", "2001:db8::1"), ("X-Real-IP", "10.0.0.1")],
            Some("2001:db8::1"),
        );
        check(&[("X-Forwarded-For", "[2001:db8::1]:80, 1.1.1.1")], Some("2001:db8::1"));
        check(&[("X-Real-IP", "10.0.0.1"), ("X-Client-IP", "10.0.0.2")], Some("10.0.0.2"));
        check(&[("X-Real-IP", "nobody"), ("Forwarded", "10.0.0.3")], Some("10.0.0.3"));
        check(&[("Forwarded", "proto=https;for=\"[2001:db8::2]:1\"")], Some("2001:db8::2"));
        check(&[("X-Real-IP", "10.0.0.1"), ("x-real-ip", "10.0.0.2")], None);
        check(&[("X-Forwarded-For", "unknown, _hidden")], None);
        check(&[("X-Forwarded-For", "2001:DB8:0:0:0:0:0:1")], Some("2001:DB8:0:0:0:0:0:1"));
        check(&[("CF-Connecting-IP", "10.0.0.1"), ("X-Real-IP", "10.0.0.2")], Some("10.0.0.2"));
    }
}

//! Checks of strings with a grammar of their own: hosts, addresses, paths, names, tags.
//!
//! Each gives the fault in Kong's words. All of them take any [`Value`]; what is no string has
//! already been refused by its kind.
//!
//! Source: Kong `kong/db/schema/typedefs.lua`, `kong/tools/{ip,http,uri}.lua`.

use super::address::{self, Address, HostFault};
use super::uri;
use crate::value::Value;
use ipnet::IpNet;
use std::net::IpAddr;

fn text(value: &Value) -> &str {
    value.as_text().unwrap_or_default()
}

/// A host name or address without a port (services).
pub fn host(value: &Value) -> Result<(), String> {
    let host = text(value);
    match address::parse(host) {
        Err(HostFault::Port) => Err("must not have a port".to_owned()),
        Err(_) => Err(format!("invalid value: {host}")),
        Ok(Address { port: Some(_), .. }) => Err("must not have a port".to_owned()),
        Ok(_) => Ok(()),
    }
}

/// A host name or address, with or without a port.
pub fn host_with_optional_port(value: &Value) -> Result<(), String> {
    address::parse(text(value)).map(drop).map_err(|fault| fault.words(text(value)))
}

/// An element of a route's `hosts`: as above, stars stand for labels.
pub fn route_host(value: &Value) -> Result<(), String> {
    let host = text(value).replace('*', "abc");
    address::parse(&host).map(drop).map_err(|fault| fault.words(&host))
}

/// A server name, without a star.
pub fn sni(value: &Value) -> Result<(), String> {
    server_name(text(value))
}

/// A server name; one star may stand first or last.
pub fn wildcard_host(value: &Value) -> Result<(), String> {
    let host = text(value);
    let Some(place) = host.find('*') else { return server_name(host) };
    if place != 0 && place + 1 != host.len() {
        return Err("wildcard must be leftmost or rightmost character".to_owned());
    }
    if host.matches('*').count() > 1 {
        return Err("only one wildcard must be specified".to_owned());
    }
    server_name(&host.replace('*', "wildcard"))
}

fn server_name(host: &str) -> Result<(), String> {
    match address::parse(host) {
        Err(HostFault::Port) => Err("must not have a port".to_owned()),
        Err(_) => Err(format!("invalid value: {host}")),
        Ok(address) if !address.is_name => Err("must not be an IP".to_owned()),
        Ok(Address { port: Some(_), .. }) => Err("must not have a port".to_owned()),
        Ok(_) => Ok(()),
    }
}

/// An upstream's name: a host name without a port.
pub fn upstream_name(value: &Value) -> Result<(), String> {
    let name = text(value);
    let why = match address::parse(name) {
        Err(_) => "must be a valid hostname",
        Ok(address) if !address.is_name => "no ip addresses allowed",
        Ok(Address { port: Some(_), .. }) => "no port allowed",
        Ok(_) => return Ok(()),
    };
    Err(format!("Invalid name ('{name}'); {why}"))
}

/// A target: host or address, with or without a port.
pub fn target(value: &Value) -> Result<(), String> {
    let target = text(value);
    match address::parse(target) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("Invalid target ('{target}'); not a valid hostname or ip address")),
    }
}

/// An address.
pub fn ip(value: &Value) -> Result<(), String> {
    let ip = text(value);
    ip.parse::<IpAddr>().map(drop).map_err(|_| format!("not an ip address: {ip}"))
}

/// An address or a block of addresses.
pub fn ip_or_cidr(value: &Value) -> Result<(), String> {
    let range = text(value);
    if range.parse::<IpAddr>().is_ok() || range.parse::<IpNet>().is_ok() {
        return Ok(());
    }
    Err(format!("invalid ip or cidr range: '{range}'"))
}

/// An IPv4 address or block of addresses.
pub fn cidr_v4(value: &Value) -> Result<(), String> {
    let range = text(value);
    let fits = range.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4())
        || range.parse::<IpNet>().is_ok_and(|net| matches!(net, IpNet::V4(_)));
    if fits { Ok(()) } else { Err(format!("invalid ipv4 cidr range: '{range}'")) }
}

/// A path for requests: RFC 3986's characters, percent signs in order.
pub fn path(value: &Value) -> Result<(), String> {
    let path = text(value);
    if !is_plain_path(path) {
        return Err(format!(
            "invalid path: '{path}' (characters outside of the reserved list of RFC 3986 found)"
        ));
    }
    percent_encoding(path)
}

fn is_plain_path(path: &str) -> bool {
    path.starts_with('/')
        && path
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_~/%:@!$&'()*+,;=".contains(&byte))
}

fn percent_encoding(path: &str) -> Result<(), String> {
    match uri::broken_escape(path) {
        Some(found) => Err(format!("invalid url-encoded value: '{found}'")),
        None => Ok(()),
    }
}

/// An element of a route's `paths`: a normalised prefix, or `~` and a regex.
pub fn route_path(value: &Value) -> Result<(), String> {
    let path = text(value);
    // Kong looks at the escapes only where all characters are allowed.
    if is_plain_path(path) {
        percent_encoding(path)?;
    }
    match path.strip_prefix('~') {
        Some(pattern) => regex(pattern)
            .map_err(|why| format!("invalid regex: '{pattern}' (PCRE returned: {why})")),
        None => match uri::normalize(path) {
            normal if normal == path => Ok(()),
            normal => Err(format!("non-normalized path, consider use '{normal}' instead")),
        },
    }
}

/// Where PCRE says that it stopped, in terms of the part of the pattern that ours complains about.
#[derive(Clone, Copy)]
enum Stop {
    /// At the pattern's end, which is not told.
    End,
    /// At the part's first character.
    First,
    /// At its last one.
    Last,
    /// Behind it.
    Behind,
}

/// Our words for what is wrong with a regular expression, PCRE's, and where it stops.
const PCRE: &[(&str, &str, Stop)] = &[
    ("unclosed group", "missing closing parenthesis", Stop::End),
    ("unopened group", "unmatched closing parenthesis", Stop::First),
    ("unclosed character class", "missing terminating ] for character class", Stop::End),
    (
        "repetition operator missing expression",
        "quantifier does not follow a repeatable item",
        Stop::First,
    ),
    (
        "invalid repetition count range, the start must be <= the end",
        "numbers out of order in {} quantifier",
        Stop::Last,
    ),
    (
        "invalid character class range, the start must be <= the end",
        "range out of order in character class",
        Stop::Last,
    ),
    (
        "incomplete escape sequence, reached end of pattern prematurely",
        "\\ at end of pattern",
        Stop::End,
    ),
    ("Unicode property not found", "unknown property after \\P or \\p", Stop::Behind),
];

/// Whether the road could compile this regular expression; PCRE's words for it if not.
pub fn regex(pattern: &str) -> Result<(), String> {
    let Err(fault) = regex::Regex::new(pattern) else { return Ok(()) };
    let words = fault.to_string();
    let found = words.lines().last().unwrap_or_default().trim_start_matches("error: ");
    let known = PCRE.iter().find(|(ours, ..)| *ours == found);
    let (told, stop) = known.map_or((found, Stop::End), |(_, pcre, stop)| (*pcre, *stop));
    let told = format!("pcre2_compile() failed: {told} in \"{pattern}\"");
    Err(match rest(pattern, &words, stop) {
        "" => told,
        rest => format!("{told} at \"{rest}\""),
    })
}

/// What is left of a pattern where PCRE stops. Our fault shows the pattern, four columns to the
/// right, and under it marks the part that it is about.
fn rest<'a>(pattern: &'a str, words: &str, stop: Stop) -> &'a str {
    let marks = words.lines().find(|line| line.trim_start().starts_with('^')).unwrap_or_default();
    let first = marks.chars().take_while(|mark| *mark == ' ').count().saturating_sub(4);
    let behind = marks.chars().count().saturating_sub(4);
    let at = match stop {
        Stop::End => return "",
        Stop::First => first,
        Stop::Last => behind.saturating_sub(1),
        Stop::Behind => behind,
    };
    pattern.char_indices().nth(at).and_then(|(at, _)| pattern.get(at..)).unwrap_or_default()
}

/// A name of unreserved ASCII characters.
pub fn name(value: &Value) -> Result<(), String> {
    let name = text(value);
    if !name.is_empty() && name.bytes().all(unreserved) {
        return Ok(());
    }
    Err(format!(
        "invalid value '{name}': it must only contain alphanumeric and '., -, _, ~' characters"
    ))
}

fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-_~".contains(&byte)
}

/// A name of unreserved ASCII and any other characters.
pub fn utf8_name(value: &Value) -> Result<(), String> {
    let name = text(value);
    if !name.is_empty() && name.bytes().all(|byte| unreserved(byte) || byte >= 0x80) {
        return Ok(());
    }
    Err(format!(
        "invalid value '{name}': the only accepted ascii characters are alphanumerics or ., -, _, \
         and ~"
    ))
}

/// A tag.
pub fn tag(value: &Value) -> Result<(), String> {
    let tag = text(value);
    let allowed = |byte: u8| byte >= 0x20 && byte != 0x7f && byte != b',' && byte != b'/';
    if !tag.is_empty() && tag.bytes().all(allowed) {
        return Ok(());
    }
    Err(format!(
        "invalid tag '{tag}': expected printable ascii (except `,` and `/`) or valid utf-8 \
         sequences"
    ))
}

/// A URL with scheme and host.
pub fn url(value: &Value) -> Result<(), String> {
    let parts = uri::split(text(value));
    if parts.host.is_none() {
        return Err("missing host in url".to_owned());
    }
    if parts.scheme.is_none() {
        return Err("missing scheme in url".to_owned());
    }
    Ok(())
}

/// The name of a header.
pub fn header_name(value: &Value) -> Result<(), String> {
    let name = text(value);
    if name.is_empty() {
        return Err("no header name provided".to_owned());
    }
    if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
        return Ok(());
    }
    Err(format!("bad header name '{name}', allowed characters are A-Z, a-z, 0-9, '_', and '-'"))
}

/// The name of a cookie: a token of RFC 2616.
pub fn cookie_name(value: &Value) -> Result<(), String> {
    let name = text(value);
    if name.is_empty() {
        return Err("no token provided".to_owned());
    }
    let allowed = |byte: u8| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/?={}[]".contains(&byte);
    if name.bytes().all(allowed) {
        return Ok(());
    }
    Err("contains one or more invalid characters. ASCII control characters (0-31;127), space, \
         tab and the characters ()<>@,;:\\\"/?={}[] are not allowed."
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(pattern: &str, words: &str) {
        assert_eq!(regex(pattern), Err(format!("pcre2_compile() failed: {words}")), "{pattern}");
    }

    /// Source: PCRE2 10.42, in the words of `ngx.re`.
    #[test]
    fn a_broken_regex_is_told_in_the_words_of_pcre() {
        refused("/(", "missing closing parenthesis in \"/(\"");
        refused("/a)b", "unmatched closing parenthesis in \"/a)b\" at \")b\"");
        refused("/[a", "missing terminating ] for character class in \"/[a\"");
        refused("/[z-a]x", "range out of order in character class in \"/[z-a]x\" at \"a]x\"");
        refused("/a{2,1}x", "numbers out of order in {} quantifier in \"/a{2,1}x\" at \"}x\"");
        refused("*", "quantifier does not follow a repeatable item in \"*\" at \"*\"");
        refused("/\\p{Foo}", "unknown property after \\P or \\p in \"/\\p{Foo}\"");
        refused("/a\\", "\\ at end of pattern in \"/a\\\"");
    }
}

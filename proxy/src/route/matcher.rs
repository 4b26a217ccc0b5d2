//! What one route asks of a request, compiled.
//!
//! Source: Kong `kong/router/transform.lua` (`get_expression`): conditions are joined by "and",
//! the values of one by "or". Kong compares hosts and server names case-sensitively; names of
//! hosts are not case-sensitive, so here they are compared in small letters.

use super::Lookup;
use super::condition::{Condition, Hints};
use super::pattern::{Pattern, Searches};
use super::priority::Order;
use super::spec::{Net, PathGroup, PathText, Protocols, RouteSpec};
use runtime::http::head::Fields;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

/// A route that is ready to be matched.
#[derive(Debug)]
pub struct RouteEntry {
    /// The route as it is configured.
    pub spec: RouteSpec,
    pub(super) hosts: Box<[NameRule]>,
    snis: Box<[NameRule]>,
    headers: Box<[HeaderRule]>,
}

const PLAIN: Protocols = Protocols::HTTP.and(Protocols::GRPC);
const SECURE: Protocols = Protocols::HTTPS.and(Protocols::GRPCS);

/// A name with or without a wildcard, in small letters, and the port that must go with it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NameRule {
    pub(super) name: Name,
    pub(super) port: Option<u32>,
}

#[derive(Debug, PartialEq, Eq, Hash, Clone)]
pub(super) enum Name {
    Exact(Box<[u8]>),
    /// `*.a.com`, kept as `.a.com`.
    Suffix(Box<[u8]>),
    /// `a.*`, kept as `a.`.
    Prefix(Box<[u8]>),
}

#[derive(Debug)]
struct HeaderRule {
    name: Box<str>,
    values: Box<[ValueRule]>,
}

#[derive(Debug)]
enum ValueRule {
    Equal(Box<[u8]>),
    Regex(Pattern),
}

/// One path group of a route, with its place in the order of all.
#[derive(Debug)]
pub(super) struct Matcher {
    pub(super) order: Order,
    asks: u8,
    pub(super) paths: Paths,
    pub(super) entry: Arc<RouteEntry>,
}

/// What a matcher asks beside the path, so that a route that asks little is not even looked at.
mod asks {
    pub(super) const METHOD: u8 = 1;
    pub(super) const HOST: u8 = 1 << 1;
    pub(super) const SNI: u8 = 1 << 2;
    pub(super) const SOURCE: u8 = 1 << 3;
    pub(super) const DESTINATION: u8 = 1 << 4;
    pub(super) const HEADERS: u8 = 1 << 5;
    pub(super) const PROTOCOL: u8 = 1 << 6;
}

#[derive(Debug)]
pub(super) enum Paths {
    Any,
    /// Kept by the node: it is asked only for paths that begin with its text.
    Prefix,
    Patterns(Box<[Pattern]>),
    /// An expression, which names a part of the path by itself.
    Condition(Condition),
}

/// Which part of the path a matcher took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Taken {
    Nothing,
    Prefix(usize),
    Regex { at: usize, range: Range<usize> },
}

impl RouteEntry {
    /// Compiles a route.
    ///
    /// # Errors
    /// The first regular expression that does not compile, in one sentence.
    pub fn new(spec: RouteSpec) -> Result<Self, String> {
        // The host that an expression asks for decides where the route is kept.
        let hinted = spec.expression.as_deref().and_then(|text| Hints::of(text).host);
        let hosts = spec.hosts.iter().chain(&hinted).map(|host| host_rule(host)).collect();
        let snis = spec.snis.iter().map(|sni| sni_rule(sni)).collect();
        let headers = spec.headers.iter().map(|(name, values)| HeaderRule::new(name, values));
        let headers = headers.collect::<Result<_, _>>()?;
        Ok(Self { hosts, snis, headers, spec })
    }

    fn asks(&self) -> u8 {
        let spec = &self.spec;
        let ask = |any: bool, bit: u8| if any { bit } else { 0 };
        ask(!spec.methods.is_empty(), asks::METHOD)
            | ask(!spec.hosts.is_empty(), asks::HOST)
            | ask(!spec.snis.is_empty(), asks::SNI)
            | ask(!spec.sources.is_empty(), asks::SOURCE)
            | ask(!spec.destinations.is_empty(), asks::DESTINATION)
            | ask(!spec.headers.is_empty(), asks::HEADERS)
            | ask(spec.bound_to_protocols && spec.protocols != Protocols::HTTPS, asks::PROTOCOL)
    }

    /// Server names count only where there is TLS.
    fn admits_sni(&self, lookup: &Lookup<'_>) -> bool {
        if !lookup.tls {
            return true;
        }
        let Some(sni) = lookup.sni else { return false };
        self.snis.iter().any(|rule| rule.name.admits_any_case(sni.as_bytes()))
    }
}

/// The Host of a request, taken apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Host<'a> {
    /// In small letters, without the port.
    pub(super) name: &'a [u8],
    /// The port in the Host header, else the one that the client reached.
    pub(super) port: u32,
}

/// What a search may use: the core's caches, and room for a value in small letters.
pub(super) struct Scratch<'a> {
    pub(super) searches: &'a mut Searches,
    pub(super) value: &'a mut Vec<u8>,
}

impl Matcher {
    /// One path group of a route, compiled.
    ///
    /// # Errors
    /// The first regular expression that does not compile, in one sentence.
    pub(super) fn new(entry: &Arc<RouteEntry>, group: &PathGroup<'_>) -> Result<Self, String> {
        let priority = super::priority::priority(&entry.spec, group.paths.first().copied());
        Ok(Self {
            order: Order { priority, id: group.id.as_u128() },
            asks: entry.asks(),
            paths: match &entry.spec.expression {
                Some(text) => Paths::Condition(Condition::new(text)?),
                None => Paths::new(&group.paths)?,
            },
            entry: Arc::clone(entry),
        })
    }

    /// Whether the request fits, and which part of its path is the route's. The path begins with
    /// the text of the node that keeps this matcher, `start_len` bytes.
    pub(super) fn take(
        &self,
        lookup: &Lookup<'_>,
        host: &Host<'_>,
        start_len: usize,
        scratch: &mut Scratch<'_>,
    ) -> Option<Taken> {
        if self.asks != 0 && !self.admits(lookup, host, scratch) {
            return None;
        }
        match &self.paths {
            Paths::Any => Some(Taken::Nothing),
            Paths::Prefix => Some(Taken::Prefix(start_len)),
            Paths::Condition(condition) => condition.take(lookup, host, scratch),
            // Last, because they cost most.
            Paths::Patterns(all) => all.iter().enumerate().find_map(|(at, pattern)| {
                let range = scratch.searches.find(pattern, lookup.path.path)?;
                Some(Taken::Regex { at, range })
            }),
        }
    }

    fn admits(&self, lookup: &Lookup<'_>, host: &Host<'_>, scratch: &mut Scratch<'_>) -> bool {
        let RouteEntry { spec, hosts, headers, .. } = &*self.entry;
        let asks = |bit| self.asks & bit != 0;
        let protocols = if lookup.tls { SECURE } else { PLAIN };
        (!asks(asks::PROTOCOL) || spec.protocols.any(protocols))
            && (!asks(asks::METHOD) || spec.methods.iter().any(|method| method == lookup.method))
            && (!asks(asks::HOST) || hosts.iter().any(|rule| rule.admits(host)))
            && (!asks(asks::SNI) || self.entry.admits_sni(lookup))
            && (!asks(asks::SOURCE) || within(&spec.sources, lookup.client))
            && (!asks(asks::DESTINATION)
                || within_port(&spec.destinations, lookup.local.ip(), host.port))
            && (!asks(asks::HEADERS)
                || headers.iter().all(|rule| rule.admits(lookup.headers, scratch)))
    }
}

impl Paths {
    fn new(texts: &[&PathText]) -> Result<Self, String> {
        let patterns = texts.iter().filter_map(|text| match text {
            PathText::Prefix(_) => None,
            PathText::Regex(text) => Some(Pattern::path(text)),
        });
        let patterns = patterns.collect::<Result<Box<[_]>, _>>()?;
        Ok(match (texts.is_empty(), patterns.is_empty()) {
            (true, _) => Self::Any,
            (false, true) => Self::Prefix,
            (false, false) => Self::Patterns(patterns),
        })
    }
}

/// Host and port of `a.com:80`; a part behind the colon that is no number belongs to the name.
pub(super) fn split_port(host: &[u8]) -> (&[u8], Option<u32>) {
    let Some(at) = memchr::memchr(b':', host) else { return (host, None) };
    let digits = host.get(at + 1..).unwrap_or_default();
    let port = std::str::from_utf8(digits)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok());
    match port {
        Some(port) => (host.get(..at).unwrap_or_default(), Some(port)),
        None => (host, None),
    }
}

fn host_rule(text: &str) -> NameRule {
    let text = text.to_ascii_lowercase();
    let (name, port) = split_port(text.as_bytes());
    NameRule { name: Name::new(name), port }
}

fn sni_rule(text: &str) -> NameRule {
    let text = text.to_ascii_lowercase();
    let text = match text.strip_suffix('.') {
        Some(rest) if !rest.is_empty() => rest,
        _ => text.as_str(),
    };
    NameRule { name: Name::new(text.as_bytes()), port: None }
}

impl NameRule {
    fn admits(&self, host: &Host<'_>) -> bool {
        let port = self.port.is_none_or(|port| port == host.port);
        let name = host.name;
        port && match &self.name {
            Name::Exact(text) => name == &**text,
            Name::Suffix(text) => name.ends_with(text),
            Name::Prefix(text) => name.starts_with(text),
        }
    }
}

impl Name {
    fn new(text: &[u8]) -> Self {
        match (text.strip_prefix(b"*"), text.strip_suffix(b"*")) {
            (Some(rest), _) => Self::Suffix(rest.into()),
            (None, Some(rest)) => Self::Prefix(rest.into()),
            (None, None) => Self::Exact(text.into()),
        }
    }

    fn admits_any_case(&self, name: &[u8]) -> bool {
        let part = |text: &[u8], part: Option<&[u8]>| {
            part.is_some_and(|part| part.eq_ignore_ascii_case(text))
        };
        match self {
            Self::Exact(text) => name.eq_ignore_ascii_case(text),
            Self::Suffix(text) => {
                part(text, name.len().checked_sub(text.len()).and_then(|at| name.get(at..)))
            }
            Self::Prefix(text) => part(text, name.get(..text.len())),
        }
    }
}

impl HeaderRule {
    fn new(name: &str, values: &[String]) -> Result<Self, String> {
        let value = |text: &String| {
            let small = text.to_lowercase();
            Ok(match small.strip_prefix("~*") {
                Some(regex) => ValueRule::Regex(Pattern::new(regex)?),
                None => ValueRule::Equal(small.into_bytes().into()),
            })
        };
        let values = values.iter().map(value).collect::<Result<_, String>>()?;
        Ok(Self { name: name.into(), values })
    }

    /// Whether any line of that name has one of the values.
    fn admits(&self, lines: &Fields, scratch: &mut Scratch<'_>) -> bool {
        let mut values = lines.iter().filter(|(name, _)| same_name(&self.name, name));
        values.any(|(_, value)| self.values.iter().any(|rule| rule.admits(value, scratch)))
    }
}

/// Kong's router calls a header by its name with underscores, so `-` and `_` are one.
pub(super) fn same_name(ours: &str, theirs: &[u8]) -> bool {
    let same = |(ours, theirs): (u8, &u8)| {
        ours.eq_ignore_ascii_case(theirs) || matches!((ours, theirs), (b'-', b'_') | (b'_', b'-'))
    };
    ours.len() == theirs.len() && ours.bytes().zip(theirs).all(same)
}

impl ValueRule {
    fn admits(&self, value: &[u8], scratch: &mut Scratch<'_>) -> bool {
        match self {
            Self::Equal(text) => value.eq_ignore_ascii_case(text),
            Self::Regex(pattern) => {
                scratch.value.clear();
                scratch.value.extend(value.iter().map(u8::to_ascii_lowercase));
                scratch.searches.is_match(pattern, scratch.value)
            }
        }
    }
}

fn within(nets: &[Net], address: SocketAddr) -> bool {
    within_port(nets, address.ip(), u32::from(address.port()))
}

fn within_port(nets: &[Net], ip: std::net::IpAddr, port: u32) -> bool {
    let ip = ip.to_canonical();
    nets.iter().any(|net| {
        net.ip.is_none_or(|net| net.contains(&ip))
            && net.port.is_none_or(|ours| u32::from(ours) == port)
            && (net.ip.is_some() || net.port.is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_split_off_only_where_it_is_a_number() {
        for (host, name, port) in [
            ("a.com", "a.com", None),
            ("a.com:80", "a.com", Some(80)),
            ("a.com:", "a.com:", None),
            ("a.com:8x", "a.com:8x", None),
            ("[::1]:80", "[::1]:80", None),
            (":80", "", Some(80)),
        ] {
            assert_eq!(split_port(host.as_bytes()), (name.as_bytes(), port), "{host}");
        }
    }

    #[test]
    fn names_of_headers_ignore_case_and_underscores() {
        assert!(same_name("x-foo", b"X-Foo"));
        assert!(same_name("x-foo", b"x_foo"));
        assert!(same_name("X_Foo", b"x-foo"));
        assert!(!same_name("x-foo", b"xfoo"));
    }

    #[test]
    fn a_final_dot_of_a_server_name_does_not_count() {
        let exact = Name::Exact(b"d.com"[..].into());
        assert_eq!(sni_rule("D.com."), NameRule { name: exact, port: None });
        assert!(Name::new(b"*.b.com").admits_any_case(b"A.B.com"));
        assert!(!Name::new(b"*.b.com").admits_any_case(b"b.com"));
        assert!(Name::new(b"c.*").admits_any_case(b"C.org"));
        assert!(!Name::new(b"c.*").admits_any_case(b"c"));
    }
}

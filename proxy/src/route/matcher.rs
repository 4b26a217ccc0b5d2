//! What one route asks of a request, compiled.
//!
//! Source: Kong `kong/router/transform.lua` (`get_expression`): conditions are joined by "and",
//! the values of one by "or". For the traditional flavour `kong/router/traditional.lua`.

use super::Lookup;
use super::condition::{Condition, Hints};
use super::name::{Host, NameRule};
use super::pattern::{Pattern, Searches};
use super::priority::Order;
use super::spec::{Flavor, Net, PathGroup, PathText, Protocols, RouteSpec};
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

#[derive(Debug)]
struct HeaderRule {
    flavor: Flavor,
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
        let flavor = spec.flavor;
        let hosts = spec.hosts.iter().chain(&hinted);
        let hosts = hosts.map(|host| NameRule::host(host, flavor)).collect();
        let snis = spec.snis.iter().map(|sni| NameRule::server(sni, flavor)).collect();
        let headers = spec.headers.iter();
        let headers = headers.map(|(name, values)| HeaderRule::new(name, values, flavor));
        let headers = headers.collect::<Result<_, _>>()?;
        Ok(Self { hosts, snis, headers, spec })
    }

    fn asks(&self) -> u8 {
        let spec = &self.spec;
        let ask = |any: bool, bit: u8| if any { bit } else { 0 };
        let bound = spec.flavor == Flavor::Expressions && spec.protocols != Protocols::HTTPS;
        ask(!spec.methods.is_empty(), asks::METHOD)
            | ask(!spec.hosts.is_empty(), asks::HOST)
            | ask(!spec.snis.is_empty(), asks::SNI)
            | ask(!spec.sources.is_empty(), asks::SOURCE)
            | ask(!spec.destinations.is_empty(), asks::DESTINATION)
            | ask(!spec.headers.is_empty(), asks::HEADERS)
            | ask(bound, asks::PROTOCOL)
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
        Ok(Self {
            order: Order::of(&entry.spec, group),
            asks: entry.asks(),
            paths: match &entry.spec.expression {
                Some(text) => Paths::Condition(Condition::new(text)?),
                None => Paths::new(&group.paths, entry.spec.flavor)?,
            },
            entry: Arc::clone(entry),
        })
    }

    /// Whether it asks for a server name.
    pub(super) fn asks_sni(&self) -> bool {
        self.asks & asks::SNI != 0
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
            && (!asks(asks::HOST) || admits_host(hosts, host, spec.flavor))
            && (!asks(asks::SNI) || self.entry.admits_sni(lookup))
            && (!asks(asks::SOURCE) || within(&spec.sources, lookup.client))
            && (!asks(asks::DESTINATION)
                || within_port(&spec.destinations, lookup.local.ip(), host.port))
            && (!asks(asks::HEADERS)
                || headers.iter().all(|rule| rule.admits(lookup.headers, scratch)))
    }
}

fn admits_host(rules: &[NameRule], host: &Host<'_>, flavor: Flavor) -> bool {
    match flavor {
        Flavor::Traditional => rules.iter().any(|rule| rule.admits_traditional(host)),
        Flavor::Compatible | Flavor::Expressions => rules.iter().any(|rule| rule.admits(host)),
    }
}

impl Paths {
    fn new(texts: &[&PathText], flavor: Flavor) -> Result<Self, String> {
        let patterns = texts.iter().filter_map(|text| match text {
            PathText::Prefix(_) => None,
            PathText::Regex(text) if flavor == Flavor::Traditional => {
                Some(Pattern::path_of_bytes(text))
            }
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

impl HeaderRule {
    /// The traditional flavour takes a regular expression only as a header's single value, and as
    /// it stands, though values are compared in small letters.
    fn new(name: &str, values: &[String], flavor: Flavor) -> Result<Self, String> {
        let single = values.len() == 1;
        let value = |text: &String| {
            let small = text.to_lowercase();
            Ok(match (small.strip_prefix("~*"), flavor) {
                (Some(_), Flavor::Traditional) if single => {
                    ValueRule::Regex(Pattern::of_bytes(text.get(2..).unwrap_or_default())?)
                }
                (Some(regex), Flavor::Compatible | Flavor::Expressions) => {
                    ValueRule::Regex(Pattern::new(regex)?)
                }
                (_, _) => ValueRule::Equal(small.into_bytes().into()),
            })
        };
        let values = values.iter().map(value).collect::<Result<_, String>>()?;
        Ok(Self { flavor, name: name.into(), values })
    }

    /// Whether any line of that name has one of the values.
    fn admits(&self, lines: &Fields, scratch: &mut Scratch<'_>) -> bool {
        let same = match self.flavor {
            Flavor::Traditional => same_or_dashed,
            Flavor::Compatible | Flavor::Expressions => same_name,
        };
        let mut values = lines.iter().filter(|(name, _)| same(&self.name, name));
        values.any(|(_, value)| self.values.iter().any(|rule| rule.admits(value, scratch)))
    }
}

/// The traditional flavour finds a header by its name, and a name with underscores also where the
/// request has dashes.
fn same_or_dashed(ours: &str, theirs: &[u8]) -> bool {
    let same = |(ours, theirs): (u8, &u8)| {
        ours.eq_ignore_ascii_case(theirs) || (ours == b'_' && *theirs == b'-')
    };
    ours.len() == theirs.len() && ours.bytes().zip(theirs).all(same)
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
    fn names_of_headers_ignore_case_and_underscores() {
        assert!(same_name("x-foo", b"X-Foo"));
        assert!(same_name("x-foo", b"x_foo"));
        assert!(same_name("X_Foo", b"x-foo"));
        assert!(!same_name("x-foo", b"xfoo"));
    }

    #[test]
    fn the_traditional_flavour_folds_one_way_only() {
        assert!(same_or_dashed("x_foo", b"X-Foo") && same_or_dashed("x-foo", b"x-foo"));
        assert!(!same_or_dashed("x-foo", b"x_foo"));
    }
}

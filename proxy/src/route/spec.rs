//! A route as it is configured, in plain data, and how its paths are grouped.
//!
//! Source: Kong `kong/db/schema/entities/routes.lua`; grouping: `kong/router/transform.lua`
//! (`split_routes_and_services_by_path`).

use ipnet::IpNet;
use uuid::Uuid;

/// The namespace of the ids that path groups get, from Kong's source.
const GROUPS: Uuid = Uuid::from_u128(0x7f14_5bf9_0dce_4f91_98eb_debb_ce4b_9f6b);

/// A set of protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Protocols(u8);

impl Protocols {
    /// `http`.
    pub const HTTP: Self = Self(1);
    /// `https`.
    pub const HTTPS: Self = Self(2);
    /// `grpc`.
    pub const GRPC: Self = Self(4);
    /// `grpcs`.
    pub const GRPCS: Self = Self(8);
    /// `tcp`, `tls`, `udp` and `tls_passthrough`: routes that no request matches.
    pub const STREAM: Self = Self(16);

    /// The protocol of that name in the Admin API.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "http" => Some(Self::HTTP),
            "https" => Some(Self::HTTPS),
            "grpc" => Some(Self::GRPC),
            "grpcs" => Some(Self::GRPCS),
            "tcp" | "tls" | "udp" | "tls_passthrough" => Some(Self::STREAM),
            _ => None,
        }
    }

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether any protocol of `other` is in this set.
    #[must_use]
    pub const fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// How routes are told apart: Kong's `router_flavor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flavor {
    /// `traditional_compatible`: one number orders all routes.
    #[default]
    Compatible,
    /// `traditional`: categories of conditions, then what is special within one.
    Traditional,
    /// `expressions`: as the first, and routes may be expressions.
    Expressions,
}

impl Flavor {
    /// The flavour of that name in kong.conf; the first where it has none of the three.
    #[must_use]
    pub fn named(name: Option<&str>) -> Self {
        match name {
            Some("traditional") => Self::Traditional,
            Some("expressions") => Self::Expressions,
            _ => Self::Compatible,
        }
    }

    /// Its name in kong.conf.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Compatible => "traditional_compatible",
            Self::Traditional => "traditional",
            Self::Expressions => "expressions",
        }
    }
}

/// One entry of `paths`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathText {
    /// Bytes that the path begins with.
    Prefix(String),
    /// A regular expression, without its `~`.
    Regex(String),
}

impl PathText {
    /// Reads an entry as it stands in the configuration.
    #[must_use]
    pub fn new(text: &str) -> Self {
        match text.strip_prefix('~') {
            Some(regex) => Self::Regex(regex.to_owned()),
            None => Self::Prefix(text.to_owned()),
        }
    }
}

/// One entry of `sources` or `destinations`: an address, a network, a port, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Net {
    /// The address or network; `None` is any.
    pub ip: Option<IpNet>,
    /// The port; `None` is any.
    pub port: Option<u16>,
}

/// A route of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSpec {
    /// Primary key.
    pub id: Uuid,
    /// Unique in its workspace.
    pub name: Option<String>,
    /// The service that is asked; without one the answer is 503, unless a plugin answers.
    pub service: Option<Uuid>,
    /// Which protocols the route is for; they do not take part in matching, see
    /// [`super::protocol_fault`].
    pub protocols: Protocols,
    /// Exact methods; empty is any. So are the next ones.
    pub methods: Vec<String>,
    /// `a.com`, `*.a.com`, `a.*`, each with or without `:port`.
    pub hosts: Vec<String>,
    /// Prefixes and regular expressions.
    pub paths: Vec<PathText>,
    /// Names and the values of which one must be there; `~*` begins a regular expression.
    pub headers: Vec<(String, Vec<String>)>,
    /// Server names of TLS, with wildcards as in `hosts`.
    pub snis: Vec<String>,
    /// Where the client may be.
    pub sources: Vec<Net>,
    /// Which of our addresses it may have asked.
    pub destinations: Vec<Net>,
    /// Decides among routes with regular expressions.
    pub regex_priority: i64,
    /// Whether the matched prefix is left out of the upstream's path.
    pub strip_path: bool,
    /// Whether the upstream gets the client's Host.
    pub preserve_host: bool,
    /// What a plain HTTP client of an `https` route gets: 426, 301, 302, 307 or 308.
    pub https_redirect_status_code: u16,
    /// Whether the request is read whole before the upstream is asked.
    pub request_buffering: bool,
    /// Whether the response is read whole before the client gets it.
    pub response_buffering: bool,
    /// Unix seconds.
    pub created_at: i64,
    /// What is asked instead of the conditions above; `paths` then holds what its paths begin with.
    pub expression: Option<String>,
    /// Decides among expressions: the greater goes first.
    pub priority: u64,
    /// Whether paths are joined in the old way (`path_handling` v1, traditional flavour only).
    pub path_v1: bool,
    /// The flavour of the router that it is for. With expressions only requests of a route's
    /// protocols match; one for `https` alone matches the others too, to redirect them.
    pub flavor: Flavor,
}

/// Paths that are matched together: all regular expressions, or all prefixes of one length; in the
/// traditional flavour each path by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathGroup<'a> {
    /// The route's id, or one made from it where the route has several groups.
    pub id: Uuid,
    /// In the order of the configuration.
    pub paths: Vec<&'a PathText>,
}

impl RouteSpec {
    /// Splits the paths into groups; a route without paths has one empty group.
    #[must_use]
    pub fn groups(&self) -> Vec<PathGroup<'_>> {
        if self.flavor == Flavor::Traditional && !self.paths.is_empty() {
            let alone = |path| PathGroup { id: self.id, paths: vec![path] };
            return self.paths.iter().map(alone).collect();
        }
        let mut groups: Vec<(usize, Vec<&PathText>)> = Vec::new();
        for path in &self.paths {
            let key = match path {
                PathText::Regex(_) => 0,
                PathText::Prefix(text) => text.len(),
            };
            match groups.iter_mut().find(|(other, _)| *other == key) {
                Some((_, paths)) => paths.push(path),
                None => groups.push((key, vec![path])),
            }
        }
        if groups.len() < 2 {
            let paths = groups.pop().map(|(_, paths)| paths).unwrap_or_default();
            return vec![PathGroup { id: self.id, paths }];
        }
        let id = |index| Uuid::new_v5(&GROUPS, format!("{}#{index}", self.id).as_bytes());
        let numbered = groups.into_iter().enumerate();
        numbered.map(|(index, (_, paths))| PathGroup { id: id(index + 1), paths }).collect()
    }

    /// Whether the route can match any request at all.
    ///
    /// One for streams cannot; one without a single condition is refused by the Admin API, and
    /// would lead everything to its upstream.
    #[must_use]
    pub fn is_routable(&self) -> bool {
        let conditions = self.methods.len()
            + self.hosts.len()
            + self.paths.len()
            + self.headers.len()
            + self.snis.len()
            + self.sources.len()
            + self.destinations.len();
        (conditions > 0 || self.expression.is_some()) && !self.protocols.any(Protocols::STREAM)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A route from words such as `hosts=a.com,*.b paths=/x,~/y methods=GET headers=x-a:1|2`.
    pub(crate) fn spec(text: &str) -> RouteSpec {
        let mut spec = RouteSpec {
            id: Uuid::from_u128(1),
            name: None,
            service: None,
            protocols: Protocols::HTTP.and(Protocols::HTTPS),
            methods: Vec::new(),
            hosts: Vec::new(),
            paths: Vec::new(),
            headers: Vec::new(),
            snis: Vec::new(),
            sources: Vec::new(),
            destinations: Vec::new(),
            regex_priority: 0,
            strip_path: true,
            preserve_host: false,
            https_redirect_status_code: 426,
            request_buffering: true,
            response_buffering: true,
            created_at: 0,
            expression: None,
            priority: 0,
            path_v1: false,
            flavor: Flavor::Compatible,
        };
        for word in text.split_whitespace() {
            let (key, values) = word.split_once('=').unwrap();
            let list = || values.split(',').map(str::to_owned).collect::<Vec<_>>();
            match key {
                "id" => spec.id = Uuid::from_u128(values.parse().unwrap()),
                "methods" => spec.methods = list(),
                "hosts" => spec.hosts = list(),
                "paths" => spec.paths = values.split(',').map(PathText::new).collect(),
                "snis" => spec.snis = list(),
                "sources" => spec.sources = values.split(',').map(net).collect(),
                "destinations" => spec.destinations = values.split(',').map(net).collect(),
                "created_at" => spec.created_at = values.parse().unwrap(),
                "regex_priority" => spec.regex_priority = values.parse().unwrap(),
                "protocols" => {
                    let all = values.split(',').map(|name| Protocols::named(name).unwrap());
                    spec.protocols = all.fold(Protocols::default(), Protocols::and);
                }
                "headers" => {
                    let header = |text: &str| {
                        let (name, values) = text.split_once(':').unwrap();
                        (name.to_owned(), values.split('|').map(str::to_owned).collect())
                    };
                    spec.headers = values.split(',').map(header).collect();
                }
                _ => panic!("no such word: {word}"),
            }
        }
        spec
    }

    /// `1.2.3.4`, `10.0.0.0/8`, `:80` or `1.2.3.4:80`.
    fn net(text: &str) -> Net {
        let (ip, port) = text.split_once(':').map_or((text, None), |(ip, port)| (ip, Some(port)));
        let ip = (!ip.is_empty()).then(|| {
            ip.parse().unwrap_or_else(|_| IpNet::from(ip.parse::<std::net::IpAddr>().unwrap()))
        });
        Net { ip, port: port.map(|port| port.parse().unwrap()) }
    }

    /// Adds `count` headers.
    pub(in crate::route) fn with_headers(mut route: RouteSpec, count: usize) -> RouteSpec {
        let header = |number| (format!("x-{number}"), vec!["1".to_owned()]);
        route.headers = (0..count).map(header).collect();
        route
    }

    #[track_caller]
    fn check(paths: &str, expected: &[&[&str]]) {
        let spec = spec(&format!("paths={paths}"));
        let groups = spec.groups();
        let texts: Vec<Vec<PathText>> = groups
            .iter()
            .map(|group| group.paths.iter().map(|&path| path.clone()).collect())
            .collect();
        let expected: Vec<Vec<PathText>> = expected
            .iter()
            .map(|paths| paths.iter().map(|path| PathText::new(path)).collect())
            .collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn paths_are_grouped_by_length_and_regexes_together() {
        check("~/r1,/aa,~/r2,/bb,/ccc", &[&["~/r1", "~/r2"], &["/aa", "/bb"], &["/ccc"]]);
        check("/a", &[&["/a"]]);
        check("/a,/b", &[&["/a", "/b"]]);
    }

    #[test]
    fn several_groups_get_ids_of_their_own() {
        let mut route = spec("paths=/a,/bb,~/c");
        route.id = "11111111-1111-4111-8111-111111111111".parse().unwrap();
        let ids: Vec<String> = route.groups().iter().map(|group| group.id.to_string()).collect();
        let expected = [
            "5dd9fda7-7f08-598d-ad26-e11b8febf570",
            "63536896-00a0-5a9d-8eb8-f691d41b6eee",
            "b3c86cb5-4604-5c16-a9f5-5def1d1526d4",
        ];
        assert_eq!(ids, expected);
        route.paths.truncate(1);
        assert_eq!(route.groups().first().map(|group| group.id), Some(route.id));
    }

    #[test]
    fn a_route_without_conditions_or_for_streams_is_not_routable() {
        assert!(!spec("").is_routable());
        assert!(!spec("protocols=tcp sources=1.2.3.4").is_routable());
        assert!(spec("methods=GET").is_routable());
    }
}

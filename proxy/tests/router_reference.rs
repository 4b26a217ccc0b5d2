//! The sharded router against a naive one: all routes sorted by priority, the first that fits wins.
//!
//! The reference reads the rules from the configuration's text with the plainest code there is, and
//! shares nothing with the router but the arithmetic of priorities, which has its own table. For
//! the traditional flavour it shares nothing at all: it sorts by one field after the other, and
//! turns hosts into the regular expressions that Kong makes of them.

#![allow(clippy::unwrap_used, reason = "all of it is a test")]

use proxy::route::{
    Flavor, Lookup, Net, Order, PathText, Protocols, RouteCache, RouteChange, RouteSpec, Router,
    normalise, priority::priority,
};
use regex::{Regex, bytes};
use runtime::http::head::Fields;
use std::cell::RefCell;
use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::net::SocketAddr;
use uuid::Uuid;

thread_local! {
    static COMPILED: RefCell<HashMap<String, Regex>> = RefCell::default();
}

/// Whether and where `text` fits the regular expression; each is compiled once.
fn find(regex: &str, text: &str) -> Option<std::ops::Range<usize>> {
    COMPILED.with_borrow_mut(|all| {
        let new = || Regex::new(regex).unwrap();
        all.entry(regex.to_owned()).or_insert_with(new).find(text).map(|found| found.range())
    })
}

thread_local! {
    static OF_BYTES: RefCell<HashMap<String, bytes::Regex>> = RefCell::default();
}

/// As [`find`], where letters are ASCII's.
fn find_bytes(regex: &str, text: &str) -> Option<std::ops::Range<usize>> {
    OF_BYTES.with_borrow_mut(|all| {
        let new = || bytes::RegexBuilder::new(regex).unicode(false).build().unwrap();
        let regex = all.entry(regex.to_owned()).or_insert_with(new);
        regex.find(text.as_bytes()).map(|found| found.range())
    })
}

/// A small generator, so that a failure can be repeated by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// Some of them, each at most once, often none.
    fn some(&mut self, of: &[&str]) -> Vec<String> {
        if self.below(2) == 0 {
            return Vec::new();
        }
        let keep = 1 + self.below(4);
        let mut all: Vec<String> = of.iter().map(|&text| text.to_owned()).collect();
        for at in (1..all.len()).rev() {
            all.swap(at, self.below(at + 1));
        }
        all.truncate(1 + self.below(keep));
        all
    }
}

const PATHS: &[&str] = &[
    "/",
    "/a",
    "/ab",
    "/a/",
    "/a/b",
    "/a/bc",
    "/a/b/c",
    "/b",
    "/b/",
    "/b/a/x",
    "/é",
    "/a.b",
    "/a%2F",
    "~/a",
    r"~/a/\w+$",
    "~/(a|b)/c",
    "~/b/(?<n>[0-9]*)x",
    "~/a|/b/a",
    "~/.*/c",
    "~/a?b",
    r"~/\d+",
    "~(?i)/A/B",
    "~/a/b.*",
    "~/$",
];
const HOSTS: &[&str] = &[
    "a.com",
    "b.com",
    "x.a.com",
    "*.a.com",
    "*.com",
    "a.*",
    "x.*",
    "a.com:81",
    "*.a.com:8000",
    "B.org",
    "b.*:81",
];
const METHODS: &[&str] = &["GET", "POST", "FOO"];
const SNIS: &[&str] = &["s.com", "*.s.com", "t.*", "u.com."];
const HEADERS: &[&str] = &[
    "x-a:1|2",
    "X_B:~*^v[0-9]",
    "x-b:y",
    "x-a:3",
    "x-b:~*^V",
    "x-a:~*[13]|zz",
    "x-c:~*^n?[oy]$|q",
];
const NETS: &[&str] = &["10.0.0.0/8|", "1.2.3.4|", "|7", "1.2.3.4|7", "127.0.0.1|8000", "|81"];

const ASKED_PATHS: &[&str] = &[
    "/",
    "/a",
    "/ab",
    "/abc/d",
    "/a/",
    "/a/b",
    "/a/bcd",
    "/a/b/c",
    "/a/b/c/d",
    "/b",
    "/b/a/x/y",
    "/b/12x",
    "/b/c",
    "/c",
    "/é/x",
    "/e",
    "/a.b/c",
    "/a%2Fx",
    "/12/x",
    "/A/B",
    "/x/y/c",
    "/zzz",
    "//a///b",
    "/a/../b/",
    "/q\\r;s/c",
];
const ASKED_HOSTS: &[&str] = &[
    "",
    "a.com",
    "A.com",
    "b.com",
    "x.a.com",
    "y.x.a.com:81",
    "a.com:81",
    "q.com",
    "a.org",
    "x.net",
    "b.org",
    "b.net:81",
    "com",
    ".a.com",
    "[::1]:81",
    "a.com:x",
];
const ASKED_SNIS: &[&str] = &["s.com", "x.s.com", "t.org", "u.com", "v.com", "S.COM"];
const ASKED_CLIENTS: &[&str] = &["10.1.2.3:7", "1.2.3.4:7", "1.2.3.4:8", "9.9.9.9:9", "[::1]:7"];

fn net(text: &str) -> Net {
    let (ip, port) = text.split_once('|').unwrap();
    let ip = match ip {
        "" => None,
        _ => Some(ip.parse().unwrap_or_else(|_| ip.parse::<std::net::IpAddr>().unwrap().into())),
    };
    Net { ip, port: port.parse().ok() }
}

fn route(random: &mut Random, flavor: Flavor) -> RouteSpec {
    // Any bit may decide between equals.
    let id = (0..4).fold(0, |id, _| id << 32 | random.below(1 << 31) as u128);
    let nets = if flavor == Flavor::Traditional { &[] } else { NETS };
    let mut headers: Vec<(String, Vec<String>)> = Vec::new();
    for text in random.some(HEADERS) {
        let (name, values) = text.split_once(':').unwrap();
        headers.push((name.to_owned(), values.split('|').map(str::to_owned).collect()));
    }
    let rare = |random: &mut Random, of: &[&str]| match random.below(4) {
        0 if !of.is_empty() => random.some(of),
        _ => Vec::new(),
    };
    RouteSpec {
        id: Uuid::from_u128(id),
        name: None,
        service: None,
        protocols: Protocols::HTTP,
        methods: rare(random, METHODS),
        hosts: random.some(HOSTS),
        paths: random.some(PATHS).iter().map(|path| PathText::new(path)).collect(),
        headers: if random.below(4) == 0 { headers } else { Vec::new() },
        snis: rare(random, SNIS),
        sources: rare(random, nets).iter().map(|text| net(text)).collect(),
        destinations: rare(random, nets).iter().map(|text| net(text)).collect(),
        regex_priority: [0, 0, 1, 7, 1_024, 4_096, 8_193, -1][random.below(8)],
        strip_path: true,
        preserve_host: false,
        https_redirect_status_code: 426,
        request_buffering: true,
        response_buffering: true,
        created_at: random.below(3) as i64,
        expression: None,
        priority: 0,
        path_v1: false,
        flavor,
    }
}

/// What a request shows the router, owned.
struct Asked {
    method: &'static str,
    host: &'static str,
    path: &'static str,
    fields: Fields,
    sni: Option<&'static str>,
    tls: bool,
    client: SocketAddr,
    local: SocketAddr,
}

fn asked(random: &mut Random) -> Asked {
    let mut fields = Fields::new();
    let lines = [("X-A", "1"), ("x-a", "3"), ("X-B", "V7"), ("x_b", "Y"), ("x-b", "no")];
    for (name, value) in lines.into_iter().chain([("X-C", "NO"), ("x-c", "~*^n?[oy]$")]) {
        if random.below(3) == 0 {
            assert!(fields.add(name, value));
        }
    }
    let tls = random.below(3) == 0;
    Asked {
        method: random.one(METHODS),
        host: random.one(ASKED_HOSTS),
        path: random.one(ASKED_PATHS),
        fields,
        sni: (tls && random.below(4) > 0).then(|| random.one(ASKED_SNIS)),
        tls,
        client: random.one(ASKED_CLIENTS).parse().unwrap(),
        local: "127.0.0.1:8000".parse().unwrap(),
    }
}

/// The name fits `a.com`, `*.com` or `a.*`.
fn fits_name(rule: &str, name: &str) -> bool {
    match (rule.strip_prefix('*'), rule.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end),
        (_, Some(start)) => name.starts_with(start),
        _ => rule == name,
    }
}

fn port_of(host: &str) -> (&str, Option<u16>) {
    match host.split_once(':').map(|(name, port)| (name, port.parse())) {
        Some((name, Ok(port))) => (name, Some(port)),
        _ => (host, None),
    }
}

fn fits_nets(nets: &[Net], address: SocketAddr) -> bool {
    nets.is_empty()
        || nets.iter().any(|net| {
            net.ip.is_none_or(|ip| ip.contains(&address.ip()))
                && net.port.is_none_or(|port| port == address.port())
        })
}

fn fits_headers(route: &RouteSpec, fields: &Fields) -> bool {
    let plain = |name: &str| name.to_lowercase().replace('-', "_");
    route.headers.iter().all(|(name, values)| {
        fields.iter().any(|(other, value)| {
            let value = String::from_utf8(value.to_vec()).unwrap().to_lowercase();
            plain(name) == plain(std::str::from_utf8(other).unwrap())
                && values.iter().any(|rule| match rule.strip_prefix("~*") {
                    Some(regex) => find(&regex.to_lowercase(), &value).is_some(),
                    None => rule.to_lowercase() == value,
                })
        })
    })
}

/// Whether a route fits, its paths left out.
fn fits(route: &RouteSpec, asked: &Asked) -> bool {
    let (host, port) = port_of(asked.host);
    let port = port.unwrap_or(asked.local.port());
    let local = SocketAddr::new(asked.local.ip(), port);
    let host_fits = |rule: &String| {
        let (name, of_rule) = port_of(rule);
        fits_name(name, host) && of_rule.is_none_or(|of_rule| of_rule == port)
    };
    let sni_fits = |rule: &String| {
        let rule = rule.strip_suffix('.').unwrap_or(rule).to_lowercase();
        asked.sni.is_some_and(|sni| fits_name(&rule, &sni.to_lowercase()))
    };
    (route.methods.is_empty() || route.methods.iter().any(|method| method == asked.method))
        && (route.hosts.is_empty() || route.hosts.iter().any(host_fits))
        && (route.snis.is_empty() || !asked.tls || route.snis.iter().any(sni_fits))
        && fits_nets(&route.sources, asked.client)
        && fits_nets(&route.destinations, local)
        && fits_headers(route, &asked.fields)
}

/// What a path group takes of the path.
fn taken<'p>(group: &[&PathText], path: &'p str) -> Option<&'p str> {
    if group.is_empty() {
        return Some("");
    }
    group.iter().find_map(|text| match text {
        PathText::Prefix(prefix) => path.starts_with(prefix).then(|| &path[..prefix.len()]),
        PathText::Regex(text) => find(&format!("^{text}"), path).map(|range| &path[range]),
    })
}

/// Which id a path group has: the route's own where there is one group only.
fn id_of_group(route: &RouteSpec, number: usize, count: usize) -> Uuid {
    let space: Uuid = "7f145bf9-0dce-4f91-98eb-debbce4b9f6b".parse().unwrap();
    match count {
        1 => route.id,
        _ => Uuid::new_v5(&space, format!("{}#{number}", route.id).as_bytes()),
    }
}

/// The paths of a route that are matched together: regular expressions, prefixes of one length.
fn groups_of(route: &RouteSpec) -> Vec<Vec<&PathText>> {
    let key = |path: &PathText| match path {
        PathText::Prefix(text) => Some(text.len()),
        PathText::Regex(_) => None,
    };
    let mut keys = Vec::new();
    for path in &route.paths {
        if !keys.contains(&key(path)) {
            keys.push(key(path));
        }
    }
    let group = |wanted| route.paths.iter().filter(|path| key(path) == wanted).collect();
    if keys.is_empty() { vec![Vec::new()] } else { keys.into_iter().map(group).collect() }
}

/// The naive router.
fn reference(routes: &[RouteSpec], asked: &Asked, path: &str) -> Option<(Uuid, String)> {
    let mut all = Vec::new();
    for route in routes.iter().filter(|route| route.is_routable()) {
        let groups = groups_of(route);
        let count = groups.len();
        for (number, paths) in (1..).zip(groups) {
            let priority = priority(route, paths.first().copied());
            let id = id_of_group(route, number, count).as_u128();
            all.push((Order { priority, rank: 0, id, position: 0 }, route, paths));
        }
    }
    all.sort_by_key(|(order, ..)| std::cmp::Reverse(*order));
    let found = all.iter().find_map(|(_, route, paths)| {
        fits(route, asked).then(|| taken(paths, path)).flatten().map(|text| (route.id, text))
    });
    found.map(|(id, text)| (id, text.to_owned()))
}

/// One path of a route (or none), as the traditional flavour orders them.
type Alone<'a> = (&'a RouteSpec, Option<&'a PathText>);

/// How many conditions a route has; then which, the more important first.
fn category(route: &RouteSpec) -> (usize, [bool; 5]) {
    let has = [
        !route.hosts.is_empty(),
        !route.headers.is_empty(),
        !route.paths.is_empty(),
        !route.methods.is_empty(),
        !route.snis.is_empty(),
    ];
    (has.iter().filter(|has| **has).count(), has)
}

/// The order of the traditional flavour, field by field.
fn traditional_order((one, path): &Alone<'_>, (other, other_path): &Alone<'_>) -> Ordering {
    let wild = |route: &RouteSpec| route.hosts.iter().any(|host| host.contains('*'));
    let wild_port =
        |route: &RouteSpec| route.hosts.iter().any(|host| host.contains('*') && host.contains(':'));
    let plain = |route: &RouteSpec| !route.hosts.is_empty() && !wild(route);
    let regex = |path: &Option<&PathText>| matches!(path, Some(PathText::Regex(_)));
    let len = |path: &Option<&PathText>| match path {
        Some(PathText::Prefix(text)) => text.len(),
        _ => 0,
    };
    let regexes = regex(path) && regex(other_path);
    let first = |ordering: Ordering| ordering.reverse();
    first(category(one).cmp(&category(other)))
        .then(first(wild_port(one).cmp(&wild_port(other))))
        .then(first(plain(one).cmp(&plain(other))))
        .then(first(regex(path).cmp(&regex(other_path))))
        .then(first(one.headers.len().cmp(&other.headers.len())))
        .then(match regexes {
            true => first(one.regex_priority.cmp(&other.regex_priority)),
            false => Ordering::Equal,
        })
        .then(first(len(path).cmp(&len(other_path))))
        .then(one.created_at.cmp(&other.created_at))
}

/// The Host header without its port, and with one.
fn traditional_host(host: &str, tls: bool) -> (String, String) {
    let usual = if tls { 443 } else { 80 };
    if host == "[::1]:81" {
        return ("::1".into(), host.into());
    }
    match host.split_once(':') {
        None => (host.into(), format!("{host}:{usual}")),
        Some((name, "")) => (name.into(), format!("{name}:{usual}")),
        Some((name, digits)) if digits.parse::<u16>().is_ok() => (name.into(), host.into()),
        Some(_) => (host.into(), format!("[{host}]:{usual}")),
    }
}

fn traditional_fits(route: &RouteSpec, asked: &Asked) -> bool {
    let asked_host = asked.host;
    let (name, with_port) = traditional_host(asked_host, asked.tls);
    let host_fits = |rule: &String| {
        if !rule.contains('*') {
            return rule == asked_host || *rule == name;
        }
        let regex = rule.replace('.', r"\.").replace('*', ".+");
        let port = if rule.contains(':') { "" } else { r"(?::\d+)?" };
        find_bytes(&format!("^{regex}{port}$"), &with_port).is_some()
    };
    let sni_fits = |rule: &String| {
        let rule = rule.strip_suffix('.').unwrap_or(rule).to_lowercase();
        asked.sni.is_some_and(|sni| sni.to_lowercase() == rule)
    };
    let header_fits = |(name, values): &(String, Vec<String>)| {
        asked.fields.iter().any(|(other, value)| {
            let (name, other) = (name.to_lowercase(), String::from_utf8(other.to_vec()).unwrap());
            let value = String::from_utf8(value.to_vec()).unwrap().to_lowercase();
            let other = other.to_lowercase();
            (name == other || name.replace('_', "-") == other)
                && (values.iter().any(|rule| {
                    rule.to_lowercase() == value && !(values.len() == 1 && rule.starts_with("~*"))
                }) || (values.len() == 1
                    && values[0]
                        .strip_prefix("~*")
                        .is_some_and(|regex| find_bytes(regex, &value).is_some())))
        })
    };
    (route.methods.is_empty() || route.methods.iter().any(|method| method == asked.method))
        && (route.hosts.is_empty() || route.hosts.iter().any(host_fits))
        && (route.snis.is_empty() || !asked.tls || route.snis.iter().any(sni_fits))
        && route.headers.iter().all(header_fits)
}

/// The naive router of the traditional flavour.
fn traditional(routes: &[RouteSpec], asked: &Asked, path: &str) -> Option<(Uuid, String)> {
    let mut all: Vec<Alone<'_>> = Vec::new();
    for route in routes.iter().filter(|route| route.is_routable()) {
        all.extend(route.paths.iter().map(|path| (route, Some(path))));
        all.extend(route.paths.is_empty().then_some((route, None)));
    }
    // Of equals the lower id, and of one route's paths the first.
    all.sort_by_key(|(route, _)| route.id);
    all.sort_by(traditional_order);
    let fitting = all.iter().filter_map(|alone| {
        let (route, text) = *alone;
        let taken = match text {
            None => Some(""),
            Some(PathText::Prefix(prefix)) => {
                path.starts_with(prefix).then(|| &path[..prefix.len()])
            }
            Some(PathText::Regex(text)) => {
                find_bytes(&format!("^(?:{text})"), path).map(|range| &path[range])
            }
        };
        traditional_fits(route, asked).then_some(())?;
        Some((alone, taken?))
    });
    let mut fitting: Vec<_> = fitting.collect();
    if !asked.tls {
        // Server names do not count, and stand behind what has none.
        fitting.sort_by_key(|((route, _), _)| {
            let (count, mut has) = category(route);
            let named = std::mem::take(&mut has[4]);
            (Reverse((count - usize::from(named), has)), named)
        });
    }
    fitting.first().map(|((route, _), taken)| (route.id, (*taken).to_owned()))
}

fn ask(
    router: &Router,
    asked: &Asked,
    path: &[u8],
    cache: &mut RouteCache,
) -> Option<(Uuid, String)> {
    let mut scratch = Vec::new();
    let path = normalise(path, &mut scratch).unwrap();
    let lookup = Lookup {
        query: b"",
        method: asked.method,
        host: asked.host.as_bytes(),
        path,
        headers: &asked.fields,
        sni: asked.sni,
        tls: asked.tls,
        client: asked.client,
        local: asked.local,
    };
    router.find(&lookup, cache).map(|found| {
        let text = found.taken(path.path).unwrap_or_default();
        (found.route.spec.id, String::from_utf8(text.to_vec()).unwrap())
    })
}

/// One world: routes come, change and go, and between the changes requests are asked.
fn run(seed: u64, flavor: Flavor) -> usize {
    let mut random = Random(seed);
    let route = |random: &mut Random| route(random, flavor);
    let mut routes: Vec<RouteSpec> =
        (0..1 + random.below(60)).map(|_| route(&mut random)).collect();
    routes.sort_by_key(|route| route.id);
    routes.dedup_by_key(|route| route.id);
    let (mut router, faults) = Router::new(routes.clone());
    assert_eq!(faults, []);
    let mut cache = RouteCache::default();
    let mut found = 0;
    for _ in 0..6 {
        for _ in 0..40 {
            let asked = asked(&mut random);
            let mut scratch = Vec::new();
            let normal = normalise(asked.path.as_bytes(), &mut scratch).unwrap();
            let path = std::str::from_utf8(normal.path).unwrap();
            let expected = match flavor {
                Flavor::Traditional => traditional(&routes, &asked, path),
                _ => reference(&routes, &asked, path),
            };
            let got = ask(&router, &asked, asked.path.as_bytes(), &mut cache);
            let words = format!("{flavor:?} {seed}: {} {} {path}", asked.method, asked.host);
            assert_eq!(got, expected, "{words}");
            found += usize::from(got.is_some());
        }
        let changes: Vec<RouteChange> = (0..random.below(5))
            .map(|_| match (random.below(3), routes.len()) {
                (0, 1..) => {
                    let gone = routes.remove(random.below(routes.len()));
                    RouteChange::Drop(gone.id)
                }
                (1, 1..) => {
                    let at = random.below(routes.len());
                    routes[at] = RouteSpec { id: routes[at].id, ..route(&mut random) };
                    RouteChange::Put(Box::new(routes[at].clone()))
                }
                _ => {
                    let new = route(&mut random);
                    routes.retain(|route| route.id != new.id);
                    routes.push(new.clone());
                    RouteChange::Put(Box::new(new))
                }
            })
            .collect();
        let (next, faults) = router.with(changes);
        assert_eq!(faults, []);
        router = next;
    }
    found
}

#[test]
fn the_sharded_router_finds_what_the_naive_one_finds() {
    let found: usize = (0..120).map(|seed| run(seed, Flavor::Compatible)).sum();
    // 28,800 requests; a test that finds no routes would prove nothing.
    assert!(found > 9_600, "only {found} requests found a route");
}

#[test]
fn the_traditional_flavour_finds_what_its_naive_one_finds() {
    let found: usize = (0..120).map(|seed| run(seed, Flavor::Traditional)).sum();
    assert!(found > 9_600, "only {found} requests found a route");
}

//! Which route comes first when several match.
//!
//! The arithmetic is the one that Kong Gateway really does on x86-64, not the layout that its
//! comments draw: the shifts by 61, 52 and 19 act on 32-bit numbers with the count taken modulo 32,
//! and a negative result becomes 2^63. Users have built their routes on the outcome.
//!
//! Source: Kong `kong/router/transform.lua` (`get_priority`), run under LuaJIT; the table of
//! results is in the tests.

use super::spec::{Flavor, PathGroup, PathText, RouteSpec};
use super::traditional;

/// Most header names that count.
const HEADER_NAMES_MAX: usize = 255;
const PLAIN_HOSTS: u64 = 1 << 60;
const REGEX: u64 = 1 << 51;
/// Expressions go before all other routes.
const EXPRESSION: u64 = 0xff << 56;
const PREFIX_LEN_MASK: u64 = 0x7_ffff;

/// The place of one path group of a route in the order of all: the higher comes first, and of
/// equals the one with the higher id. The traditional flavour has its own, see [`traditional`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    /// As computed by [`priority`].
    pub priority: u64,
    /// What the traditional flavour looks at next; 0 in the others.
    pub rank: u64,
    /// The route's id, or the id made for this path group.
    pub id: u128,
    /// Of one route's paths in the traditional flavour the first has the highest; 0 in the others.
    pub position: u8,
}

impl Order {
    /// The place of one path group of `route`.
    #[must_use]
    pub fn of(route: &RouteSpec, group: &PathGroup<'_>) -> Self {
        let path = group.paths.first().copied();
        match route.flavor {
            Flavor::Traditional => traditional::order(route, path),
            Flavor::Compatible | Flavor::Expressions => Self {
                priority: priority(route, path),
                rank: 0,
                id: group.id.as_u128(),
                position: 0,
            },
        }
    }
}

/// The priority of one path group of `route`; `path` is any path of the group.
#[must_use]
pub fn priority(route: &RouteSpec, path: Option<&PathText>) -> u64 {
    if route.expression.is_some() {
        return EXPRESSION | route.priority;
    }
    let weight = [
        !route.sources.is_empty(),
        !route.destinations.is_empty(),
        !route.methods.is_empty(),
        !route.hosts.is_empty(),
        !route.headers.is_empty(),
        !route.snis.is_empty(),
        path.is_some(),
    ];
    let weight = weight.into_iter().map(u32::from).sum::<u32>();
    let names = u32::try_from(route.headers.len().min(HEADER_NAMES_MAX)).unwrap_or_default();
    let plain_hosts = !route.hosts.is_empty() && !route.hosts.iter().any(|host| host.contains('*'));
    let (regex, len) = match path {
        Some(PathText::Regex(_)) => (true, 0),
        Some(PathText::Prefix(text)) => (false, text.len() as u64 & PREFIX_LEN_MASK),
        None => (false, 0),
    };
    // Only the low 32 bits of each number survive a shift, so the truncation is the point.
    let weight = weight << (61 % 32);
    let names = names << (52 % 32);
    if plain_hosts || regex {
        let regex_priority = if regex { (route.regex_priority as u32) << 19 } else { 0 };
        unsigned(weight)
            | if plain_hosts { PLAIN_HOSTS } else { 0 }
            | if regex { REGEX } else { 0 }
            | unsigned(names)
            | unsigned(regex_priority)
            | len
    } else {
        unsigned(weight | names | len as u32)
    }
}

/// How LuaJIT on x86-64 makes an unsigned 64-bit number of a signed 32-bit one.
const fn unsigned(bits: u32) -> u64 {
    if bits >> 31 == 1 { 1 << 63 } else { bits as u64 }
}

#[cfg(test)]
mod tests {
    use super::super::spec::tests::{spec, with_headers};
    use super::*;

    #[track_caller]
    fn check(route: &RouteSpec, expected: u64) {
        let found = priority(route, route.paths.first());
        assert_eq!(found, expected, "{found:#018x} is not {expected:#018x}: {route:?}");
    }

    #[test]
    fn the_table_of_kong_for_paths() {
        check(&spec("paths=/"), 0x2000_0001);
        check(&spec("paths=/foo"), 0x2000_0004);
        check(&spec("paths=/foo regex_priority=10"), 0x2000_0004);
        for (number, expected) in [
            (0, 0x0008_0000_2000_0000),
            (1, 0x0008_0000_2008_0000),
            (2, 0x0008_0000_2010_0000),
            (10, 0x0008_0000_2050_0000),
            (1024, 0x0008_0000_2000_0000),
            (4096, 0x8008_0000_2000_0000),
            (8192, 0x0008_0000_2000_0000),
            (-1, 0x8008_0000_2000_0000),
            (4097, 0x8008_0000_2000_0000),
        ] {
            check(&spec(&format!("paths=~/foo regex_priority={number}")), expected);
        }
    }

    #[test]
    fn the_table_of_kong_for_single_attributes() {
        check(&spec("methods=GET"), 0x2000_0000);
        check(&spec("hosts=a.com"), 0x1000_0000_2000_0000);
        check(&spec("hosts=*.a.com"), 0x2000_0000);
        check(&spec("hosts=a.com,*.b.com"), 0x2000_0000);
        check(&with_headers(spec(""), 1), 0x2010_0000);
        check(&with_headers(spec(""), 2), 0x2020_0000);
        check(&with_headers(spec(""), 255), 0x2ff0_0000);
        check(&with_headers(spec(""), 512), 0x2ff0_0000);
        check(&spec("snis=a.com"), 0x2000_0000);
    }

    #[test]
    fn the_table_of_kong_for_combinations() {
        check(&with_headers(spec("paths=/"), 1), 0x4010_0001);
        check(&with_headers(spec("paths=~/x"), 1), 0x0008_0000_4010_0000);
        check(&with_headers(spec("paths=~/x regex_priority=2"), 1), 0x0008_0000_4010_0000);
        check(&with_headers(spec("paths=~/x regex_priority=2"), 3), 0x0008_0000_4030_0000);
        check(&spec("hosts=a.com paths=/"), 0x1000_0000_4000_0001);
        check(&spec("hosts=*.a.com paths=/"), 0x4000_0001);
        check(&spec("hosts=a.com paths=~/x"), 0x1008_0000_4000_0000);
        check(&spec("methods=GET paths=/"), 0x4000_0001);
        check(&spec("methods=GET hosts=a.com paths=/"), 0x1000_0000_6000_0001);
        check(&spec("methods=GET hosts=*.a.com paths=/"), 0x6000_0001);
        check(&with_headers(spec("methods=GET paths=/"), 1), 0x6010_0001);
        let four = with_headers(spec("methods=GET hosts=a.com paths=/"), 1);
        check(&four, 0x9000_0000_0010_0001);
        let wild = with_headers(spec("methods=GET hosts=*.a.com paths=/"), 1);
        check(&wild, 0x8000_0000_0000_0000);
        let regex = with_headers(spec("methods=GET hosts=a.com paths=~/x"), 1);
        check(&regex, 0x9008_0000_0010_0000);
        let five = with_headers(spec("snis=a methods=GET hosts=a.com paths=/"), 1);
        check(&five, 0x9000_0000_0010_0001);
        let all = "snis=a sources=1.2.3.4 destinations=:80 methods=GET hosts=a.com paths=/";
        check(&with_headers(spec(all), 1), 0x9000_0000_0010_0001);
    }

    #[test]
    fn of_equals_the_higher_id_comes_first() {
        let order = |priority, id| Order { priority, rank: 0, id, position: 0 };
        assert!(order(1, 2) > order(1, 1));
        assert!(order(2, 0) > order(1, u128::MAX));
    }
}

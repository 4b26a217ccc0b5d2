//! Which route comes first in the flavour `traditional`.
//!
//! Routes fall into categories by the conditions that they have: more conditions go first, then
//! the more important ones (hosts, headers, paths, methods, server names). Within a category: a
//! wildcard host with a port, then plain hosts only, then a regular expression; more headers; the
//! greater `regex_priority` among regular expressions; the longer prefix; the older route. Each
//! path of a route is ordered by itself.
//!
//! Kong narrows a category down by an index before it looks at the order; where a category mixes
//! plain and wildcard hosts, the outcome then hangs on how many other routes share a value. And
//! over plain HTTP it leaves out routes with server names as soon as any route exists that has
//! exactly the other conditions of the request. Neither is copied: here the order alone decides,
//! and over plain HTTP a route with server names counts as one without, behind its equals.
//!
//! Of routes made in the same second Kong's order is that of an unstable sort; here the lower id
//! goes first.
//!
//! Source: Kong `kong/router/traditional.lua` (`marshall_route`, `sort_routes`,
//! `sort_categories`).

use super::priority::Order;
use super::spec::{PathText, RouteSpec};

/// The conditions, by weight: hosts, headers, paths, methods, server names, sources, destinations.
const BITS: [u64; 7] = [1 << 6, 1 << 5, 1 << 4, 1 << 3, 1 << 2, 1 << 1, 1];
const SNI: u64 = 1 << 2;

/// Where the fields of the first number begin.
const REGEX_PRIORITY: u32 = 0;
const HEADERS: u32 = 32;
const WITHIN: u32 = 48;
const CATEGORY: u32 = 51;
const WEIGHT: u32 = 58;

/// Where the fields of the second number begin.
const CREATED: u32 = 0;
const LEN: u32 = 44;
/// Seconds that fit; the field never overflows into the next.
const CREATED_MAX: u64 = (1 << (LEN - CREATED)) - 1;

/// Bits of the order within a category.
pub(super) const REGEX_PATH: u64 = 1;
pub(super) const PLAIN_HOSTS: u64 = 2;
pub(super) const WILDCARD_WITH_PORT: u64 = 4;

/// The place of one path of `route` (or of none) in the order of all.
pub(super) fn order(route: &RouteSpec, path: Option<&PathText>) -> Order {
    let bits = category(route);
    let within = within(route, path);
    let headers = route.headers.len().min(usize::from(u16::MAX)) as u64;
    let regex = matches!(path, Some(PathText::Regex(_)));
    let regex_priority = if regex { biased(route.regex_priority) } else { 0 };
    let len = match path {
        Some(PathText::Prefix(text)) => text.len().min((1 << (64 - LEN)) - 1) as u64,
        Some(PathText::Regex(_)) | None => 0,
    };
    let created_s = u64::try_from(route.created_at).unwrap_or(0).min(CREATED_MAX);
    let position = route.paths.iter().position(|other| Some(other) == path).unwrap_or(0);
    let position = u8::try_from(position).unwrap_or(u8::MAX);
    Order {
        priority: (u64::from(bits.count_ones()) << WEIGHT)
            | (bits << CATEGORY)
            | (within << WITHIN)
            | (headers << HEADERS)
            | (regex_priority << REGEX_PRIORITY),
        rank: (len << LEN) | ((CREATED_MAX - created_s) << CREATED),
        id: !route.id.as_u128(),
        position: u8::MAX - position,
    }
}

/// The conditions of a route, as bits.
pub(super) fn category(route: &RouteSpec) -> u64 {
    let has = [
        !route.hosts.is_empty(),
        !route.headers.is_empty(),
        !route.paths.is_empty(),
        !route.methods.is_empty(),
        !route.snis.is_empty(),
        !route.sources.is_empty(),
        !route.destinations.is_empty(),
    ];
    BITS.iter().zip(has).filter(|(_, has)| *has).map(|(bit, _)| bit).sum()
}

/// What is special about a route in its category, as bits.
pub(super) fn within(route: &RouteSpec, path: Option<&PathText>) -> u64 {
    let wild = route.hosts.iter().filter(|host| host.contains('*'));
    let bit = |is: bool, bit: u64| if is { bit } else { 0 };
    let regex = matches!(path, Some(PathText::Regex(_)));
    bit(regex, REGEX_PATH)
        | bit(!route.hosts.is_empty() && wild.clone().next().is_none(), PLAIN_HOSTS)
        | bit(wild.clone().any(|host| host.contains(':')), WILDCARD_WITH_PORT)
}

/// The order of routes over plain HTTP, the greatest first: one with server names (`named`) counts
/// as if it had none, and goes behind its equals.
pub(super) fn in_the_clear(order: Order, named: bool) -> (u64, bool, Order) {
    let category = order.priority >> CATEGORY;
    let sni = if named { (1 << (WEIGHT - CATEGORY)) | SNI } else { 0 };
    (category - sni, !named, order)
}

/// The names of conditions, the more important first.
pub(super) fn names(bits: u64) -> Vec<&'static str> {
    let names = ["hosts", "headers", "paths", "methods", "snis", "sources", "destinations"];
    let has = BITS.iter().zip(names).filter(|(bit, _)| bits & **bit != 0);
    has.map(|(_, name)| name).collect()
}

/// A signed number as one that sorts like it; what does not fit counts as the largest that does.
fn biased(number: i64) -> u64 {
    let low = number.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) - i64::from(i32::MIN);
    u64::try_from(low).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::spec::Flavor;
    use super::super::spec::tests::spec;
    use super::*;

    fn order_of(text: &str) -> Order {
        let route = RouteSpec { flavor: Flavor::Traditional, ..spec(text) };
        order(&route, route.paths.first())
    }

    /// Each goes before the next.
    #[track_caller]
    fn check(routes: &[&str]) {
        for pair in routes.windows(2) {
            let (first, second) = (pair[0], pair[1]);
            assert!(order_of(first) > order_of(second), "{first} goes before {second}");
        }
    }

    #[test]
    fn more_conditions_then_the_more_important_ones() {
        check(&[
            "hosts=a headers=x:1 paths=/ methods=GET",
            "hosts=a headers=x:1 paths=/a",
            "hosts=a headers=x:1",
            "hosts=a paths=/",
            "hosts=a methods=GET",
            "hosts=a snis=s",
            "headers=x:1 paths=/",
            "paths=/ methods=GET",
            "paths=/ snis=s",
            "methods=GET snis=s",
            "hosts=*.a",
            "headers=x:1",
            "paths=/long/path",
            "methods=GET",
            "snis=s",
        ]);
    }

    #[test]
    fn within_a_category() {
        check(&[
            "hosts=a.*:80,b paths=/",
            "hosts=a paths=~/a regex_priority=1",
            "hosts=a paths=~/aaa",
            "hosts=a paths=~/a regex_priority=-1",
            "hosts=a paths=/aa",
            "hosts=a paths=/a regex_priority=9",
            "hosts=a.* paths=~/a",
            "hosts=a.*,b paths=/aa",
        ]);
        check(&["paths=/a headers=x:1,y:1", "paths=/aaaa headers=x:1"]);
        check(&["paths=~/a headers=x:1", "paths=/a headers=x:1,y:1"]);
    }

    #[test]
    fn the_older_route_then_the_lower_id() {
        check(&[
            "paths=/a created_at=1 id=9",
            "paths=/b created_at=2 id=1",
            "paths=/a created_at=2 id=2",
        ]);
    }

    #[test]
    fn over_plain_http_a_server_name_does_not_shadow() {
        let goes =
            |sni, other| in_the_clear(order_of(sni), true) > in_the_clear(order_of(other), false);
        assert!(!goes("hosts=a snis=a", "hosts=a"));
        assert!(!goes("paths=/long snis=a", "paths=/"));
        assert!(goes("hosts=a paths=/ snis=a", "hosts=a"));
        assert!(goes("hosts=a snis=a", "paths=/"));
    }
}

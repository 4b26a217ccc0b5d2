//! Every route that a request fits, in the order in which the router asks them, and what put each
//! behind the one before. For people who look at a configuration; the road does not come here.

use super::matcher::{Matcher, Paths, Scratch, Taken};
use super::pattern::range;
use super::spec::{Flavor, PathText};
use super::{Lookup, RouteCache, RouteEntry, Router, traditional};
use std::cmp::Reverse;
use std::ops::Range;
use std::sync::Arc;

/// A route that a request fits.
#[derive(Debug)]
pub struct Candidate<'r> {
    /// The route.
    pub route: &'r Arc<RouteEntry>,
    /// Which of its paths took the request's; none where it has none, or is an expression.
    pub path: Option<&'r PathText>,
    /// The part of the path that it took.
    pub taken: Option<Range<usize>>,
    /// Where the groups of its regular expression are, by number from 1, with their names.
    pub groups: Vec<(Option<&'r str>, Option<Range<usize>>)>,
    matcher: &'r Arc<Matcher>,
    /// The request came over plain HTTP to a router of the traditional flavour.
    in_the_clear: bool,
}

/// One part of what orders routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Either or.
    Flag(bool),
    /// The greater goes first, but for `created_at`.
    Number(i64),
    /// An id or a set of names.
    Text(String),
}

impl Router {
    /// Every route that a request fits, the winner first. Its path must have one reading only, see
    /// [`Router::decide`].
    pub fn explain<'r>(
        &'r self,
        lookup: &Lookup<'_>,
        cache: &mut RouteCache,
    ) -> Vec<Candidate<'r>> {
        let RouteCache { searches, host, value, .. } = cache;
        let host = self.host(lookup, host);
        let mut scratch = Scratch { searches, value };
        let in_the_clear = self.flavor == Flavor::Traditional && !lookup.tls;
        let mut found: Vec<Candidate<'r>> = Vec::new();
        self.each_shard(lookup, &host, |len, matchers| {
            for matcher in matchers {
                if found.iter().any(|known| Arc::ptr_eq(known.matcher, matcher)) {
                    continue;
                }
                if let Some(taken) = matcher.take(lookup, &host, len, &mut scratch) {
                    found.push(candidate(matcher, taken, lookup, &scratch, in_the_clear));
                }
            }
        });
        found.sort_by_key(|candidate| Reverse(candidate.key()));
        found
    }
}

fn candidate<'r>(
    matcher: &'r Arc<Matcher>,
    taken: Taken,
    lookup: &Lookup<'_>,
    scratch: &Scratch<'_>,
    in_the_clear: bool,
) -> Candidate<'r> {
    let paths = &matcher.entry.spec.paths;
    let alone = usize::from(u8::MAX - matcher.order.position);
    let traditional = matcher.entry.spec.flavor == Flavor::Traditional;
    let mut regexes = paths.iter().filter(|path| matches!(path, PathText::Regex(_)));
    let is_path = |text: &&PathText, len| match text {
        PathText::Prefix(text) => lookup.path.path.get(..len) == Some(text.as_bytes()),
        PathText::Regex(_) => false,
    };
    let expression = matcher.entry.spec.expression.is_some();
    let path = match &taken {
        Taken::Nothing => None,
        _ if expression => None,
        _ if traditional => paths.get(alone),
        Taken::Prefix(len) => paths.iter().find(|path| is_path(path, *len)),
        Taken::Regex { at, .. } => regexes.nth(*at),
    };
    let pattern = match (&taken, &matcher.paths) {
        (Taken::Regex { at, .. }, Paths::Patterns(all)) => all.get(*at),
        (Taken::Regex { at, .. }, Paths::Condition(condition)) => condition.patterns.get(*at),
        _ => None,
    };
    let names = pattern.into_iter().flat_map(|pattern| pattern.group_names());
    let groups = names.enumerate().skip(1);
    let groups = groups.map(|(at, name)| (name, range(scratch.searches.groups(), at))).collect();
    let taken = match taken {
        Taken::Nothing => None,
        Taken::Prefix(len) => Some(0..len),
        Taken::Regex { range, .. } => Some(range),
    };
    Candidate { route: &matcher.entry, path, taken, groups, matcher, in_the_clear }
}

impl Candidate<'_> {
    fn key(&self) -> (u64, bool, super::Order) {
        let order = self.matcher.order;
        let named = self.matcher.asks_sni();
        if self.in_the_clear { traditional::in_the_clear(order, named) } else { (0, true, order) }
    }

    /// What orders it among others, by name, in the order in which it counts.
    #[must_use]
    pub fn parts(&self) -> Vec<(&'static str, Part)> {
        let spec = &self.route.spec;
        let id = Part::Text(match spec.flavor {
            Flavor::Traditional => spec.id.to_string(),
            _ => uuid::Uuid::from_u128(self.matcher.order.id).to_string(),
        });
        if spec.expression.is_some() {
            let priority = i64::try_from(spec.priority).unwrap_or(i64::MAX);
            return vec![("priority", Part::Number(priority)), ("id", id)];
        }
        let bits = traditional::category(spec);
        let within = traditional::within(spec, self.path);
        let flag = |bit| Part::Flag(within & bit != 0);
        let number = |number: usize| Part::Number(i64::try_from(number).unwrap_or(i64::MAX));
        let prefix_len = match self.path {
            Some(PathText::Prefix(text)) => text.len(),
            Some(PathText::Regex(_)) | None => 0,
        };
        let regex = within & traditional::REGEX_PATH != 0;
        let regex_priority = if regex { spec.regex_priority } else { 0 };
        let mut parts = vec![
            ("conditions", Part::Number(i64::from(bits.count_ones()))),
            ("plain_hosts", flag(traditional::PLAIN_HOSTS)),
            ("regex_path", flag(traditional::REGEX_PATH)),
            ("headers", number(spec.headers.len())),
            ("regex_priority", Part::Number(regex_priority)),
            ("prefix_length", number(prefix_len)),
            ("id", id),
        ];
        if spec.flavor == Flavor::Traditional {
            parts.insert(1, ("category", Part::Text(traditional::names(bits).join("+"))));
            parts.insert(2, ("wildcard_host_with_port", flag(traditional::WILDCARD_WITH_PORT)));
            let at = parts.len() - 1;
            parts.insert(at, ("created_at", Part::Number(spec.created_at)));
        } else {
            let value = format!("{:#018x}", self.matcher.order.priority);
            parts.insert(0, ("value", Part::Text(value)));
        }
        parts
    }

    /// The part that puts `other`, which comes next, behind this one.
    #[must_use]
    pub fn decided_over(&self, other: &Candidate<'_>) -> &'static str {
        let (ours, theirs) = (self.key(), other.key());
        if self.in_the_clear && ours.0 == theirs.0 && ours.1 != theirs.1 {
            return "snis";
        }
        let (ours, theirs) = (self.parts(), other.parts());
        let spec = &self.route.spec;
        if spec.flavor == Flavor::Traditional {
            let differs = ours.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs);
            return differs.map_or("paths", |((name, _), _)| *name);
        }
        let expressions = (&spec.expression, &other.route.spec.expression);
        if let (Some(_), None) | (None, Some(_)) = expressions {
            return "expression";
        }
        let differs = |name: &str| {
            let of = |parts: &[(&'static str, Part)]| {
                parts.iter().find(|(own, _)| *own == name).map(|(_, part)| part.clone())
            };
            of(&ours) != of(&theirs)
        };
        let highest = (self.matcher.order.priority ^ other.matcher.order.priority).checked_ilog2();
        match highest {
            None => "id",
            Some(_) if spec.expression.is_some() => "priority",
            Some(60) => "plain_hosts",
            Some(51) => "regex_path",
            // The same bits hold several parts; the more important one is told.
            Some(29..=31 | 63) if differs("conditions") => "conditions",
            Some(20..=28) if differs("headers") => "headers",
            Some(19..) => "regex_priority",
            Some(_) => "prefix_length",
        }
    }
}

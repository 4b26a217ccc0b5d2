//! Which route a request takes: Kong's router in its three flavours.
//!
//! Built in the office, immutable, shared by all cores. It is made of shards keyed by host and by
//! the first segment of the path, so that one changed route rebuilds its own shards and shares the
//! others. A lookup probes the shards of the request's host (exact, its wildcards, none), and in
//! each walks the prefixes of the path: its cost does not grow with the number of routes, except
//! where many routes have the same host and path, or regular expressions with the same start.
//!
//! ```text
//!  host a.com, path /api/v1/x            places                    nodes, longest prefix first
//!  ┌ exact a.com ┐   ┌ segment "api" ┐
//!  │ *.com, a.*  │ × │ short paths   │ → Shard → /api/v1 → /api/ → …    / → (no path)
//!  └ any host    ┘   └───────────────┘           each: matchers, highest order first
//! ```
//! The best match of all shards wins: the one with the higher [`Order`].

pub mod priority;
pub mod spec;
pub mod target;
pub mod upstream;

mod careless;
mod condition;
mod explain;
mod matcher;
mod name;
mod normal;
mod pattern;
mod place;
mod rows;
mod shard;
mod strict;
mod table;
mod traditional;

pub use explain::{Candidate, Part};
pub use matcher::RouteEntry;
pub use normal::{Normal, PathFault, normalise};
pub use pattern::Pattern;
pub use priority::Order;
pub use spec::{Flavor, Net, PathText, Protocols, RouteSpec};

use hashbrown::HashMap;
use matcher::{Matcher, Paths, Scratch, Taken};
use name::Host;
use pattern::Searches;
use place::Place;
use regex_automata::util::primitives::NonMaxUsize;
use runtime::http::head::Fields;
use shard::{Edit, Shard};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use table::Table;
use uuid::Uuid;

/// Longest host for which wildcards are tried, in bytes; names cannot be longer.
const HOST_BYTES_MAX: usize = 255;

/// What the router must know of a request.
#[derive(Clone, Copy)]
pub struct Lookup<'a> {
    /// In capitals, as received.
    pub method: &'a str,
    /// The Host header as received, with its port; empty where there is none.
    pub host: &'a [u8],
    /// Path in normal form, see [`normalise`].
    pub path: Normal<'a>,
    /// The query without its question mark; empty where there is none.
    pub query: &'a [u8],
    /// The header lines.
    pub headers: &'a Fields,
    /// The server name of the TLS handshake.
    pub sni: Option<&'a str>,
    /// Whether the client speaks TLS with us.
    pub tls: bool,
    /// The client, behind trusted proxies too.
    pub client: SocketAddr,
    /// Our end of the connection; its port after `port_maps`.
    pub local: SocketAddr,
}

/// One core's memory for lookups. After a warm-up no lookup allocates.
#[derive(Debug, Default)]
pub struct RouteCache {
    searches: Searches,
    /// The groups of the best match so far.
    groups: Vec<Option<NonMaxUsize>>,
    host: Vec<u8>,
    value: Vec<u8>,
    careless: Vec<u8>,
}

/// The route of a request.
#[derive(Debug, Clone)]
pub struct Match<'r> {
    /// The route.
    pub route: &'r Arc<RouteEntry>,
    /// How it took the path.
    pub path: PathMatch<'r>,
    order: Order,
}

/// Which part of the path a route took.
#[derive(Debug, Clone)]
pub enum PathMatch<'r> {
    /// The route has no paths.
    None,
    /// As many bytes from the start.
    Prefix(usize),
    /// A regular expression, and where it matched.
    Regex(&'r Pattern, Range<usize>),
}

impl PathMatch<'_> {
    /// Where the part ends, in bytes from the start of the path.
    const fn end(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Prefix(end) | Self::Regex(_, Range { end, .. }) => *end,
        }
    }
}

/// A change of one route.
#[derive(Debug, Clone)]
pub enum RouteChange {
    /// A route is new, or replaces the one with its id.
    Put(Box<RouteSpec>),
    /// A route is gone, or its service is disabled.
    Drop(Uuid),
}

/// A route that cannot be routed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteFault {
    /// Its id.
    pub id: Uuid,
    /// What is wrong with it, in one sentence.
    pub reason: String,
}

/// All routes, ready to be asked.
#[derive(Debug, Clone)]
pub struct Router {
    flavor: Flavor,
    places: Table<Arc<Place>, Arc<Shard>>,
    routes: Table<Uuid, Arc<RouteEntry>>,
    /// Whether a path that could be read in two ways is refused wherever it leads.
    strict_paths: bool,
    /// Places with a wildcard before, and with one behind.
    wildcards: (usize, usize),
    /// Routes that have paths.
    with_paths: usize,
    /// Routes that have server names.
    with_snis: usize,
}

/// Changes to the shards, before they are made.
type Edits = HashMap<Place, BTreeMap<Vec<u8>, Edit>>;

impl Router {
    /// A router of that flavour without routes.
    #[must_use]
    pub fn empty(flavor: Flavor) -> Self {
        let (places, routes) = (Table::new(), Table::new());
        let strict_paths = false;
        Self {
            flavor,
            places,
            routes,
            strict_paths,
            wildcards: (0, 0),
            with_paths: 0,
            with_snis: 0,
        }
    }

    /// The same router, strict with paths or not (`TOLLGATE_STRICT_PATHS`).
    #[must_use]
    pub fn with_strict_paths(self, strict_paths: bool) -> Self {
        Self { strict_paths, ..self }
    }

    /// A router of these routes, with the flavour of the first; what cannot be compiled is left out
    /// and told.
    pub fn new(routes: impl IntoIterator<Item = RouteSpec>) -> (Self, Vec<RouteFault>) {
        let mut routes = routes.into_iter().peekable();
        let flavor = routes.peek().map(|route| route.flavor).unwrap_or_default();
        Self::empty(flavor).with(routes.map(|route| RouteChange::Put(Box::new(route))))
    }

    /// How it tells routes apart.
    #[must_use]
    pub fn flavor(&self) -> Flavor {
        self.flavor
    }

    /// This router after some changes, sharing what they do not touch.
    ///
    /// A route that cannot be compiled matches nothing, even where its former version did: an old
    /// rule must not outlive its replacement.
    #[must_use]
    pub fn with(&self, changes: impl IntoIterator<Item = RouteChange>) -> (Self, Vec<RouteFault>) {
        let mut next = self.clone();
        let mut edits = Edits::new();
        let mut faults = Vec::new();
        for change in changes {
            let (id, spec) = match change {
                RouteChange::Put(spec) => (spec.id, Some(*spec)),
                RouteChange::Drop(id) => (id, None),
            };
            next.forget(id, &mut edits);
            if let Some(spec) = spec.filter(RouteSpec::is_routable)
                && let Err(reason) = next.learn(spec, &mut edits)
            {
                faults.push(RouteFault { id, reason });
            }
        }
        for (place, edits) in edits {
            next.edit(&Arc::new(place), &edits);
        }
        (next, faults)
    }

    /// How many routes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether there is no route at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn forget(&mut self, id: Uuid, edits: &mut Edits) {
        let Some(entry) = self.routes.set(place::hash_id(id), &id, None) else { return };
        self.with_paths -= usize::from(!entry.spec.paths.is_empty());
        self.with_snis -= usize::from(!entry.spec.snis.is_empty());
        let texts = place::texts(&entry.spec.paths);
        for place in place::all(&entry, &texts) {
            for text in texts.iter().filter(|text| place.has(text)) {
                let edit = edits.entry(place.clone()).or_default().entry(text.clone()).or_default();
                edit.new.retain(|matcher| matcher.entry.spec.id != id);
                edit.gone.insert(id);
            }
        }
    }

    fn learn(&mut self, spec: RouteSpec, edits: &mut Edits) -> Result<(), String> {
        let id = spec.id;
        let entry = Arc::new(RouteEntry::new(spec)?);
        let groups = entry.spec.groups();
        let matchers = groups.iter().map(|group| Matcher::new(&entry, group));
        let matchers = matchers.collect::<Result<Vec<_>, _>>()?;
        for (group, matcher) in groups.iter().zip(matchers) {
            let matcher = Arc::new(matcher);
            let texts = place::texts(&group.paths);
            for place in place::all(&entry, &texts) {
                for text in texts.iter().filter(|text| place.has(text)) {
                    let texts = edits.entry(place.clone()).or_default();
                    texts.entry(text.clone()).or_default().new.push(Arc::clone(&matcher));
                }
            }
        }
        self.with_paths += usize::from(!entry.spec.paths.is_empty());
        self.with_snis += usize::from(!entry.spec.snis.is_empty());
        self.routes.set(place::hash_id(id), &id, Some(entry));
        Ok(())
    }

    fn edit(&mut self, place: &Arc<Place>, edits: &BTreeMap<Vec<u8>, Edit>) {
        let hash = place.hash();
        let old = self.places.get(hash, place).cloned().unwrap_or_default();
        let new = old.edited(edits);
        let count = |shard: &Shard| usize::from(!shard.is_empty());
        let (before, behind) = place.wildcards();
        self.wildcards.0 = self.wildcards.0 + before * count(&new) - before * count(&old);
        self.wildcards.1 = self.wildcards.1 + behind * count(&new) - behind * count(&old);
        self.places.set(hash, place, (!new.is_empty()).then(|| Arc::new(new)));
    }

    /// The route of a request, or the reason to refuse it.
    ///
    /// A path that more careless readers behind the gateway might resolve otherwise is looked up in
    /// their reading too: where that would be a route that comes before the one found, the
    /// request has tried to pass it by.
    ///
    /// # Errors
    /// `Ambiguous`, or `SecondReading` from a router that is strict with paths; both are a 400.
    pub fn decide<'r>(
        &'r self,
        lookup: &Lookup<'_>,
        cache: &mut RouteCache,
    ) -> Result<Option<Match<'r>>, PathFault> {
        if self.strict_paths {
            return self.decide_strictly(lookup, cache);
        }
        if !lookup.path.wary {
            return Ok(self.find(lookup, cache));
        }
        let mut careless = std::mem::take(&mut cache.careless);
        let read = careless::read(lookup.path.path, &mut careless);
        let path = Normal { path: &careless, wary: true };
        let other = self.find(&Lookup { path, ..*lookup }, cache).map(|found| found.order);
        cache.careless = careless;
        read?;
        let found = self.find(lookup, cache);
        match (&found, other) {
            (Some(found), Some(other)) if other > found.order => Err(PathFault::Ambiguous),
            _ => Ok(found),
        }
    }

    /// Refuses a path with a second reading, and one that in small letters would be the path of a
    /// route that takes more of it: the upstream may not tell `/Private` from `/private`.
    fn decide_strictly<'r>(
        &'r self,
        lookup: &Lookup<'_>,
        cache: &mut RouteCache,
    ) -> Result<Option<Match<'r>>, PathFault> {
        if !strict::check(lookup.path.path)? {
            return Ok(self.find(lookup, cache));
        }
        let mut small = std::mem::take(&mut cache.careless);
        small.clear();
        small.extend(lookup.path.path.iter().map(u8::to_ascii_lowercase));
        let path = Normal { path: &small, ..lookup.path };
        let other = self.find(&Lookup { path, ..*lookup }, cache);
        let other = other.map(|found| (found.order, found.path.end()));
        cache.careless = small;
        let found = self.find(lookup, cache);
        match (&found, other) {
            (Some(found), Some((order, end))) if order > found.order && end > found.path.end() => {
                Err(PathFault::SecondReading)
            }
            _ => Ok(found),
        }
    }

    /// The route of a request whose path has one reading only.
    pub fn find<'r>(&'r self, lookup: &Lookup<'_>, cache: &mut RouteCache) -> Option<Match<'r>> {
        let (matcher, taken) = if self.flavor == Flavor::Traditional && self.with_snis > 0 {
            self.hunt_beside_server_names(lookup, cache)?
        } else {
            self.hunt(lookup, cache, Among::All)?
        };
        Some(matched(matcher, taken))
    }

    /// Over plain HTTP a route with server names does not shadow one without.
    fn hunt_beside_server_names<'r>(
        &'r self,
        lookup: &Lookup<'_>,
        cache: &mut RouteCache,
    ) -> Option<Best<'r>> {
        if lookup.tls {
            return self.hunt(lookup, cache, Among::All);
        }
        let Some(named) = self.hunt(lookup, cache, Among::WithServerNames) else {
            return self.hunt(lookup, cache, Among::Others);
        };
        match self.hunt(lookup, cache, Among::Others) {
            Some(other)
                if traditional::in_the_clear(other.0.order, false)
                    > traditional::in_the_clear(named.0.order, true) =>
            {
                Some(other)
            }
            // Once more, for the groups of its regular expression.
            _ => self.hunt(lookup, cache, Among::WithServerNames),
        }
    }

    fn hunt<'r>(
        &'r self,
        lookup: &Lookup<'_>,
        cache: &mut RouteCache,
        among: Among,
    ) -> Option<Best<'r>> {
        let RouteCache { searches, groups, host, value, .. } = cache;
        let host = self.host(lookup, host);
        let scratch = Scratch { searches, value };
        let mut hunt = Hunt { lookup, host, scratch, groups, among, best: None };
        self.each_shard(lookup, &host, |len, matchers| hunt.consider(len, matchers));
        hunt.best
    }

    fn host<'a>(&self, lookup: &Lookup<'a>, scratch: &'a mut Vec<u8>) -> Host<'a> {
        let whole = match self.flavor {
            Flavor::Expressions => small_letters(lookup.host, scratch),
            Flavor::Compatible | Flavor::Traditional => lookup.host,
        };
        Host::new(whole, self.flavor, lookup.local.port(), lookup.tls)
    }

    /// Shows the matchers that a request could fit, and how much of its path they begin with.
    fn each_shard<'r>(
        &'r self,
        lookup: &Lookup<'_>,
        host: &Host<'_>,
        mut show: impl FnMut(usize, &'r [Arc<Matcher>]),
    ) {
        let path = lookup.path.path;
        // Kong's engine works on text: what is no UTF-8 matches nothing where paths matter.
        let text = self.with_paths == 0 || self.flavor == Flavor::Traditional;
        if !text && std::str::from_utf8(path).is_err() {
            return;
        }
        self.each_host(host, |kind, name| {
            let hash = place::hash_host(kind, name);
            for segment in [place::segment(path), None] {
                // A place of the same hash by chance does no harm: its matchers do not fit.
                for shard in self.places.with_hash(place::hash(hash, segment)) {
                    shard.visit(path, &mut show);
                }
                if segment.is_none() {
                    break;
                }
            }
        });
    }

    /// Shows every way in which routes may name this host.
    fn each_host(&self, host: &Host<'_>, mut show: impl FnMut(place::Kind, &[u8])) {
        let name = host.name;
        show(place::Kind::Exact, name);
        if self.flavor == Flavor::Traditional && host.whole.first() == Some(&b'[') {
            show(place::Kind::Exact, host.whole);
        }
        if self.wildcards != (0, 0) && name.len() <= HOST_BYTES_MAX {
            for dot in memchr::memchr_iter(b'.', name) {
                if self.wildcards.0 > 0 {
                    show(place::Kind::Suffix, name.get(dot..).unwrap_or_default());
                }
                if self.wildcards.1 > 0 {
                    show(place::Kind::Prefix, name.get(..=dot).unwrap_or_default());
                }
            }
        }
        show(place::Kind::Any, b"");
    }
}

/// What a lookup has found so far.
type Best<'r> = (&'r Arc<Matcher>, Taken);

fn matched(matcher: &Arc<Matcher>, taken: Taken) -> Match<'_> {
    let pattern = |at: usize| match &matcher.paths {
        Paths::Patterns(all) => all.get(at),
        Paths::Condition(condition) => condition.patterns.get(at),
        Paths::Any | Paths::Prefix => None,
    };
    let path = match taken {
        Taken::Nothing => PathMatch::None,
        Taken::Prefix(len) => PathMatch::Prefix(len),
        Taken::Regex { at, range } => {
            pattern(at).map_or(PathMatch::None, |pattern| PathMatch::Regex(pattern, range))
        }
    };
    Match { route: &matcher.entry, path, order: matcher.order }
}

/// Which routes are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Among {
    All,
    WithServerNames,
    Others,
}

/// A lookup under way.
struct Hunt<'a, 'r> {
    lookup: &'a Lookup<'a>,
    host: Host<'a>,
    scratch: Scratch<'a>,
    groups: &'a mut Vec<Option<NonMaxUsize>>,
    among: Among,
    best: Option<Best<'r>>,
}

impl<'r> Hunt<'_, 'r> {
    /// Takes the first of `matchers` that fits, unless what was found already comes before it.
    fn consider(&mut self, start_len: usize, matchers: &'r [Arc<Matcher>]) {
        for matcher in matchers {
            if self.best.as_ref().is_some_and(|(best, _)| best.order >= matcher.order) {
                return;
            }
            if self.among != Among::All && matcher.asks_sni() != (self.among != Among::Others) {
                continue;
            }
            if let Some(taken) = matcher.take(self.lookup, &self.host, start_len, &mut self.scratch)
            {
                if matches!(taken, Taken::Regex { .. }) {
                    self.groups.clear();
                    self.groups.extend_from_slice(self.scratch.searches.groups());
                }
                self.best = Some((matcher, taken));
                return;
            }
        }
    }
}

impl Match<'_> {
    /// The part of `path` that the route took: what stripping removes and `X-Forwarded-Prefix`
    /// tells. `None` where the route has no paths.
    #[must_use]
    pub fn taken<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        match &self.path {
            PathMatch::None => None,
            PathMatch::Prefix(len) => path.get(..*len),
            PathMatch::Regex(_, range) => path.get(range.clone()),
        }
    }

    /// Whether a regular expression took the path.
    #[must_use]
    pub fn is_regex(&self) -> bool {
        matches!(self.path, PathMatch::Regex(..))
    }

    /// Name and text of each group of the regular expression, the whole match left out. `cache`
    /// must be the one of the lookup, and not used since.
    pub fn groups<'a>(
        &'a self,
        path: &'a [u8],
        cache: &'a RouteCache,
    ) -> impl Iterator<Item = (Option<&'a str>, Option<&'a [u8]>)> {
        let pattern = match &self.path {
            PathMatch::Regex(pattern, _) => Some(pattern),
            _ => None,
        };
        let names = pattern.into_iter().flat_map(|pattern| pattern.group_names());
        names.enumerate().skip(1).map(move |(at, name)| {
            (name, pattern::range(&cache.groups, at).and_then(|range| path.get(range)))
        })
    }
}

/// The host in small letters; borrowed where it is.
fn small_letters<'a>(host: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
    if !host.iter().any(u8::is_ascii_uppercase) {
        return host;
    }
    scratch.clear();
    scratch.extend(host.iter().map(u8::to_ascii_lowercase));
    scratch
}

#[cfg(test)]
mod tests;

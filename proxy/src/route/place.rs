//! Where a route is kept: under a way to name the host, and a first path segment.

use super::matcher::RouteEntry;
use super::name::Name;
use super::pattern::literal_start;
use super::spec::PathText;
use std::borrow::Borrow;
use std::hash::{BuildHasher, Hasher};
use uuid::Uuid;

/// How a place names the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Any,
    Exact,
    /// The end of the host, from a dot.
    Suffix,
    /// The start of the host, up to a dot.
    Prefix,
}

/// The key of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    kind: Kind,
    name: Box<[u8]>,
    /// The first segment of all paths of the shard; `None` for paths that end within theirs.
    segment: Option<Box<[u8]>>,
}

impl Place {
    /// Whether a literal start of paths belongs here, as far as its first segment goes.
    pub(super) fn has(&self, text: &[u8]) -> bool {
        self.segment.as_deref() == segment(text)
    }

    /// One for a wildcard before the name, one for a wildcard behind it.
    pub(super) fn wildcards(&self) -> (usize, usize) {
        (usize::from(self.kind == Kind::Suffix), usize::from(self.kind == Kind::Prefix))
    }

    pub(super) fn hash(&self) -> u64 {
        hash(hash_host(self.kind, &self.name), self.segment.as_deref())
    }
}

/// Every place of a route with these literal starts.
pub(super) fn all(entry: &RouteEntry, texts: &[Vec<u8>]) -> Vec<Place> {
    let mut hosts: Vec<(Kind, Box<[u8]>)> =
        entry.hosts.iter().map(|rule| key(&rule.name)).collect();
    if hosts.is_empty() {
        hosts.push((Kind::Any, Box::default()));
    }
    hosts.sort();
    hosts.dedup();
    let mut segments: Vec<Option<&[u8]>> = texts.iter().map(|text| segment(text)).collect();
    segments.sort();
    segments.dedup();
    let place = |(kind, name): &(Kind, Box<[u8]>), segment: &Option<&[u8]>| Place {
        kind: *kind,
        name: name.clone(),
        segment: segment.map(Into::into),
    };
    let places = hosts.iter().flat_map(|host| segments.iter().map(|s| place(host, s)));
    places.collect()
}

/// A wildcard that does not stand beside a dot is kept among the routes of any host.
fn key(name: &Name) -> (Kind, Box<[u8]>) {
    match name {
        Name::Exact(text) => (Kind::Exact, text.clone()),
        Name::Suffix(text) if text.starts_with(b".") => (Kind::Suffix, text.clone()),
        Name::Prefix(text) if text.ends_with(b".") => (Kind::Prefix, text.clone()),
        Name::Suffix(_) | Name::Prefix(_) => (Kind::Any, Box::default()),
    }
}

/// What the path must begin with for each of `paths`, each once; one empty text for no paths.
pub(super) fn texts(paths: &[impl Borrow<PathText>]) -> Vec<Vec<u8>> {
    let text = |path: &PathText| match path {
        PathText::Prefix(text) => text.clone().into_bytes(),
        PathText::Regex(text) => literal_start(text),
    };
    let mut texts: Vec<_> = paths.iter().map(|path| text(path.borrow())).collect();
    if texts.is_empty() {
        texts.push(Vec::new());
    }
    texts.sort();
    texts.dedup();
    texts
}

/// The first segment of a path, where a slash follows it.
pub(super) fn segment(path: &[u8]) -> Option<&[u8]> {
    let rest = path.get(1..)?;
    rest.get(..memchr::memchr(b'/', rest)?)
}

pub(super) fn hash_host(kind: Kind, name: &[u8]) -> u64 {
    let mut hasher = foldhash::fast::FixedState::default().build_hasher();
    hasher.write_u8(kind as u8);
    hasher.write(name);
    hasher.finish()
}

pub(super) fn hash(host: u64, segment: Option<&[u8]>) -> u64 {
    let Some(segment) = segment else { return host };
    let mut hasher = foldhash::fast::FixedState::default().build_hasher();
    hasher.write_u64(host);
    hasher.write(segment);
    hasher.finish()
}

pub(super) fn hash_id(id: Uuid) -> u64 {
    foldhash::fast::FixedState::default().hash_one(id)
}

//! Which paths there are, made from the tables of entities.
//!
//! For every entity E: `/E`, `/E/{e}`; for each of its pointers f to an entity F: `/E/{e}/f`,
//! `/F/{f}/E`, `/F/{f}/E/{e}`. Beside them the few paths that are not about rows.
//!
//! Source: Kong `kong/api/endpoints.lua`, `generate_endpoints`; `kong/api/routes/*.lua`.

use super::{Method, OwnEndpoint};
use crate::schema::{Catalogue, Entity, Field, Kind};

const GET: &[Method] = &[Method::Get];
const POST: &[Method] = &[Method::Post];
const PUT: &[Method] = &[Method::Put];
const DELETE: &[Method] = &[Method::Delete];
const LIST: &[Method] = &[Method::Get, Method::Post];
const ROW: &[Method] = &[Method::Delete, Method::Get, Method::Patch, Method::Put];
const CACHED: &[Method] = &[Method::Delete, Method::Get];

/// What a path stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// All rows of an entity.
    Rows(&'static Entity),
    /// One row.
    Row(&'static Entity),
    /// The row that a row's pointer leads to.
    Parent(Link),
    /// The rows that point to a row.
    Children(Link),
    /// One of them.
    Child(Link),
    /// The targets of an upstream, and how they do.
    Targets(Targets),
    /// An endpoint of a plugin, by its place in the node's list.
    Own(usize),
    /// Anything that is not a row.
    Fixed(Fixed),
}

/// What is asked about an upstream's targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Targets {
    /// The targets, newest first.
    All,
    /// Every row, by id.
    Raw,
    /// One of them, by id or address.
    One,
    /// How they do.
    Health,
    /// One of them is declared healthy, or not.
    Mark(bool),
}

/// A pointer between entities.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    /// The entity whose rows have the pointer.
    pub(super) child: &'static Entity,
    /// The pointer.
    pub(super) field: &'static Field,
    /// The entity that it leads to.
    pub(super) parent: &'static Entity,
}

/// The endpoints that are not about rows of an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fixed {
    /// What this gateway is.
    Root,
    /// This API in the words of generic tools.
    OpenApi,
    /// How it does.
    Status,
    /// Whether it can serve.
    Ready,
    /// Names that are being resolved.
    StatusDns,
    /// All paths.
    Endpoints,
    /// Names of the plugins that may be used.
    PluginsEnabled,
    /// The configuration of a plugin (an old form).
    PluginConfigSchema,
    /// An entity's fields.
    EntitySchema,
    /// A plugin's fields.
    PluginSchema,
    /// A vault's fields.
    VaultSchema,
    /// A filter's fields.
    FilterSchema,
    /// Checks an object without storing it.
    EntityValidate,
    /// Checks a plugin.
    PluginValidate,
    /// Checks a vault.
    VaultValidate,
    /// All tags in use.
    Tags,
    /// What carries one tag.
    Tag,
    /// Everything cached.
    Cache,
    /// One cached value.
    CacheKey,
    /// What runs later.
    Timers,
    /// How much is logged.
    LogLevel,
    /// Changes that for a while.
    SetLogLevel,
    /// The declarative configuration.
    Config,
    /// A path that Kong knows and keeps shut.
    Disabled,
    /// What search engines may read: nothing.
    Robots,
    /// The nodes that follow this one.
    Clustering,
    /// Filters in WebAssembly.
    Wasm,
}

/// The fixed paths. Those with a parameter stand behind the literal ones that they would cover.
const FIXED: &[(&str, Fixed, &[Method])] = &[
    ("/", Fixed::Root, GET),
    ("/cache", Fixed::Cache, DELETE),
    ("/cache/{key}", Fixed::CacheKey, CACHED),
    ("/clustering/data-planes", Fixed::Clustering, GET),
    ("/clustering/status", Fixed::Clustering, GET),
    ("/config", Fixed::Config, LIST),
    ("/debug/cluster/log-level/{log_level}", Fixed::SetLogLevel, PUT),
    ("/debug/node/log-level", Fixed::LogLevel, GET),
    ("/debug/node/log-level/{log_level}", Fixed::SetLogLevel, PUT),
    ("/endpoints", Fixed::Endpoints, GET),
    ("/filter-chains", Fixed::Wasm, LIST),
    ("/filter-chains/{filter_chains}", Fixed::Wasm, ROW),
    ("/filter-chains/{filter_chains}/route", Fixed::Wasm, ROW),
    ("/filter-chains/{filter_chains}/service", Fixed::Wasm, ROW),
    ("/openapi.json", Fixed::OpenApi, GET),
    ("/plugins/enabled", Fixed::PluginsEnabled, GET),
    ("/plugins/schema/{name}", Fixed::PluginConfigSchema, GET),
    ("/robots.txt", Fixed::Robots, GET),
    ("/routes/{routes}/filter-chains", Fixed::Wasm, LIST),
    ("/routes/{routes}/filter-chains/{filter_chains}", Fixed::Wasm, ROW),
    ("/routes/{routes}/filters/all", Fixed::Wasm, GET),
    ("/routes/{routes}/filters/disabled", Fixed::Wasm, GET),
    ("/routes/{routes}/filters/enabled", Fixed::Wasm, GET),
    ("/schemas/filters/{name}", Fixed::FilterSchema, GET),
    ("/schemas/plugins/validate", Fixed::PluginValidate, POST),
    ("/schemas/plugins/{name}", Fixed::PluginSchema, GET),
    ("/schemas/vaults/validate", Fixed::VaultValidate, POST),
    ("/schemas/vaults/{name}", Fixed::VaultSchema, GET),
    ("/schemas/{db_entity_name}/validate", Fixed::EntityValidate, POST),
    ("/schemas/{name}", Fixed::EntitySchema, GET),
    ("/services/{services}/filter-chains", Fixed::Wasm, LIST),
    ("/services/{services}/filter-chains/{filter_chains}", Fixed::Wasm, ROW),
    ("/snis/{snis}/certificate", Fixed::Disabled, ROW),
    ("/status", Fixed::Status, GET),
    ("/status/dns", Fixed::StatusDns, GET),
    ("/status/ready", Fixed::Ready, LIST),
    ("/tags", Fixed::Tags, LIST),
    ("/tags/{tags}", Fixed::Tag, ROW),
    ("/targets", Fixed::Disabled, LIST),
    ("/targets/{targets}", Fixed::Disabled, ROW),
    ("/targets/{targets}/upstream", Fixed::Disabled, ROW),
    ("/timers", Fixed::Timers, GET),
];

/// The paths of targets, which are made by hand.
const TARGETS: &[(&str, Targets, &[Method])] = &[
    ("/upstreams/{upstreams}/health", Targets::Health, GET),
    ("/upstreams/{upstreams}/targets", Targets::All, LIST),
    ("/upstreams/{upstreams}/targets/all", Targets::Raw, GET),
    ("/upstreams/{upstreams}/targets/{targets}", Targets::One, ROW),
    ("/upstreams/{upstreams}/targets/{targets}/healthy", Targets::Mark(true), PUT),
    ("/upstreams/{upstreams}/targets/{targets}/unhealthy", Targets::Mark(false), PUT),
    ("/upstreams/{upstreams}/targets/{targets}/{address}/healthy", Targets::Mark(true), PUT),
    ("/upstreams/{upstreams}/targets/{targets}/{address}/unhealthy", Targets::Mark(false), PUT),
];

/// One path and what may be done there.
#[derive(Clone, Debug)]
struct Endpoint {
    /// Literal segments as they are, parameters in braces.
    segments: Vec<String>,
    place: Place,
    methods: &'static [Method],
    /// `GET /endpoints` shows it.
    is_listed: bool,
}

/// Every path of the Admin API.
#[derive(Debug)]
pub(super) struct Places(Vec<Endpoint>);

/// The place that a path leads to, with the values of its parameters.
#[derive(Debug)]
pub(super) struct Hit<'a> {
    /// What the path stands for.
    pub(super) place: Place,
    /// What may be done there.
    pub(super) methods: &'static [Method],
    parameters: Vec<&'a str>,
}

impl Hit<'_> {
    /// The parameter at that position; every place has as many as its path has braces.
    pub(super) fn parameter(&self, at: usize) -> &str {
        self.parameters.get(at).copied().unwrap_or_default()
    }

    /// All of them.
    pub(super) fn parameters(&self) -> &[&str] {
        &self.parameters
    }
}

impl Places {
    /// The paths of these entities.
    pub(super) fn new(catalogue: &Catalogue) -> Self {
        let mut places = Self(Vec::new());
        for (path, fixed, methods) in FIXED {
            places.add(path, Place::Fixed(*fixed), methods);
        }
        for (path, of, methods) in TARGETS.iter().filter(|_| catalogue.entity("targets").is_some())
        {
            places.add(path, Place::Targets(*of), methods);
        }
        for entity in catalogue.entities.iter().copied().filter(|entity| entity.admin) {
            places.add_entity(catalogue, entity);
        }
        places
    }

    fn add(&mut self, path: &str, place: Place, methods: &'static [Method]) {
        let segments: Vec<_> =
            path.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect();
        if !self.0.iter().any(|known| known.segments == segments) {
            let is_listed =
                !matches!(place, Place::Fixed(Fixed::Ready | Fixed::OpenApi | Fixed::Robots));
            self.0.push(Endpoint { segments, place, methods, is_listed });
        }
    }

    /// Adds what plugins bring along; a path that the core has stays the core's.
    pub(super) fn add_own(&mut self, endpoints: &[OwnEndpoint]) {
        for (place, endpoint) in endpoints.iter().enumerate() {
            let known = self.0.len();
            self.add(endpoint.path, Place::Own(place), endpoint.methods);
            if let Some(added) = self.0.get_mut(known) {
                added.is_listed = endpoint.listed;
            }
        }
    }

    fn add_entity(&mut self, catalogue: &Catalogue, entity: &'static Entity) {
        let (own, name) = (entity.admin_name(), entity.name);
        self.add(&format!("/{own}"), Place::Rows(entity), LIST);
        self.add(&format!("/{own}/{{{name}}}"), Place::Row(entity), ROW);
        for field in entity.fields {
            let Kind::Foreign(parent, _) = field.kind else { continue };
            let Some(parent) = catalogue.entity(parent).filter(|parent| parent.admin) else {
                continue;
            };
            let link = Link { child: entity, field, parent };
            let nested = entity.admin_nested_name();
            let above = format!("/{}/{{{}}}/{nested}", parent.admin_name(), parent.name);
            self.add(&format!("/{own}/{{{name}}}/{}", field.name), Place::Parent(link), ROW);
            self.add(&above, Place::Children(link), LIST);
            self.add(&format!("{above}/{{{name}}}"), Place::Child(link), ROW);
        }
    }

    /// Where the path leads; a literal segment goes before a parameter.
    pub(super) fn find<'a>(&self, segments: &'a [String]) -> Option<Hit<'a>> {
        self.find_where(segments, |_| true)
    }

    /// The row that a path leads to, whatever endpoint was put before it.
    pub(super) fn find_row<'a>(&self, segments: &'a [String]) -> Option<Hit<'a>> {
        self.find_where(segments, |place| matches!(place, Place::Row(_)))
    }

    fn find_where<'a>(
        &self,
        segments: &'a [String],
        wanted: impl Fn(&Place) -> bool,
    ) -> Option<Hit<'a>> {
        let fits = |endpoint: &&Endpoint| {
            wanted(&endpoint.place)
                && endpoint.segments.len() == segments.len()
                && endpoint
                    .segments
                    .iter()
                    .zip(segments)
                    .all(|(known, segment)| is_parameter(known) || known == segment)
        };
        let literals = |endpoint: &&Endpoint| {
            endpoint.segments.iter().map(|segment| !is_parameter(segment)).collect::<Vec<_>>()
        };
        let found = self.0.iter().filter(fits).max_by_key(literals)?;
        let parameters = found
            .segments
            .iter()
            .zip(segments)
            .filter(|(known, _)| is_parameter(known))
            .map(|(_, value)| value.as_str())
            .collect();
        Some(Hit { place: found.place, methods: found.methods, parameters })
    }

    /// Every path with what it stands for and what may be done there.
    pub(super) fn each(&self) -> impl Iterator<Item = (String, Place, &'static [Method])> {
        self.0
            .iter()
            .map(|known| (format!("/{}", known.segments.join("/")), known.place, known.methods))
    }

    /// All of Kong's paths, sorted segment by segment.
    pub(super) fn paths(&self) -> Vec<String> {
        let shown = self.0.iter().filter(|known| known.is_listed);
        let mut all: Vec<_> = shown.map(|known| &known.segments).collect();
        all.sort_unstable();
        all.into_iter().map(|segments| format!("/{}", segments.join("/"))).collect()
    }
}

fn is_parameter(segment: &str) -> bool {
    segment.starts_with('{')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{foreign, text};

    static OWNERS: Entity = Entity { name: "owners", fields: &[text("id", "")], ..Entity::EMPTY };
    static KEYS: Entity = Entity {
        name: "key_rows",
        admin_name: Some("keys"),
        admin_nested_name: Some("key"),
        fields: &[text("id", ""), foreign("owner", "owners", ""), foreign("ghost", "ghosts", "")],
        ..Entity::EMPTY
    };
    static HIDDEN: Entity = Entity { name: "ghosts", admin: false, ..Entity::EMPTY };

    fn places() -> Places {
        let catalogue =
            Catalogue { entities: vec![&OWNERS, &KEYS, &HIDDEN], ..Catalogue::default() };
        Places::new(&catalogue)
    }

    #[test]
    fn every_pointer_makes_paths_both_ways() {
        let fixed = Places::new(&Catalogue::default()).paths();
        let mut own = places().paths();
        own.retain(|path| !fixed.contains(path));
        let expected = [
            "/keys",
            "/keys/{key_rows}",
            "/keys/{key_rows}/owner",
            "/owners",
            "/owners/{owners}",
            "/owners/{owners}/key",
            "/owners/{owners}/key/{key_rows}",
        ];
        assert_eq!(own, expected);
    }

    #[track_caller]
    fn check(path: &str, expected: Option<(&str, &[&str])>) {
        let segments = super::super::path::segments(path).expect("a path");
        let places = places();
        let found = places.find(&segments).map(|hit| {
            let shown = format!("{:?}", hit.place);
            (shown.split(['(', ' ']).next().unwrap_or_default().to_owned(), hit.parameters.clone())
        });
        let expected = expected.map(|(place, names)| (place.to_owned(), names.to_vec()));
        assert_eq!(found, expected, "{path}");
    }

    #[test]
    fn paths_lead_to_places() {
        check("/", Some(("Fixed", &[])));
        check("/owners", Some(("Rows", &[])));
        check("/owners/a%2Fb/", Some(("Row", &["a/b"])));
        check("/owners/a/key", Some(("Children", &["a"])));
        check("/owners/a/key/b", Some(("Child", &["a", "b"])));
        check("/keys/a/owner", Some(("Parent", &["a"])));
        check("/keys/a/ghost", None);
        check("/ghosts", None);
        check("/owners/a/keys", None);
        check("/schemas", None);
    }

    #[test]
    fn a_literal_goes_before_a_parameter() {
        let fixed = |path: &str| {
            let segments = super::super::path::segments(path).expect("a path");
            match places().find(&segments).map(|hit| hit.place) {
                Some(Place::Fixed(fixed)) => Some(fixed),
                _ => None,
            }
        };
        assert_eq!(fixed("/schemas/plugins/validate"), Some(Fixed::PluginValidate));
        assert_eq!(fixed("/schemas/plugins/x"), Some(Fixed::PluginSchema));
        assert_eq!(fixed("/schemas/owners/validate"), Some(Fixed::EntityValidate));
        assert_eq!(fixed("/schemas/plugins"), Some(Fixed::EntitySchema));
    }
}

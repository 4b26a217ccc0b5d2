//! The Admin API without a socket: a `Call` goes in, a `Reply` comes out.
//!
//! ```text
//! transport ──Call──► path → place → method → body (JSON, form) → entity verb ──Reply──►
//! ```
//! The paths are made from the entities' own tables, so a new entity needs no line here.
//! Nothing in these files opens a socket, reads a clock or blocks on anything but the store.
//!
//! Source: Kong `kong/api/{init,endpoints,api_helpers,arguments}.lua` and what 3.9.1 answered.

mod body;
mod call;
mod coerce;
mod config;
mod form;
mod health;
mod multipart;
mod named;
mod node;
mod openapi;
mod own;
mod page;
mod path;
mod place;
mod reply;
mod rows;
mod schemas;
mod tags;
mod targets;

pub use call::{Call, Method, Work};
pub use health::{
    AddressHealth, Balancers, HealthMark, ReadHealth, TakeMark, TargetHealth, TargetState,
    UpstreamHealth,
};
pub use node::{KONG_VERSION, Live, LogLevel, Node, NodeFacts};
pub use own::{AnswerOwn, Asked, OwnEndpoint};
pub use reply::Reply;

use crate::actor::{Answer, Working};
use crate::schema::Catalogue;
use body::Sent;
use place::{Fixed, Hit, Place, Places};
use rows::{Answered, Rows};
use serde_json::{Value as Json, json};

/// Largest request body, in bytes; the transport stops reading there and answers
/// [`Reply::body_too_large`]. Kong: `nginx_admin_client_max_body_size=10m`.
pub const ADMIN_BODY_BYTES_MAX: usize = 10 << 20;

/// Most arguments that one query or one form may have, as in Kong; and most names in one JSON
/// object, where Kong knows no bound.
pub const ADMIN_ARGUMENTS_MAX: usize = 1000;

/// Most values in one JSON body: a list of addresses may be long, but each costs memory.
pub const ADMIN_VALUES_MAX: usize = 200_000;

/// Deepest nesting that the names of form arguments may ask for (`a.b[c].d` is 4).
pub const ADMIN_ARGUMENT_DEPTH_MAX: usize = 32;

/// The Admin API of one node.
pub struct Admin {
    node: Node,
    places: Places,
    /// Told by `POST /status/ready`; nothing takes it back but a start.
    draining: bool,
}

impl Admin {
    /// The Admin API of these entities on that node.
    #[must_use]
    pub fn new(catalogue: &Catalogue, node: Node) -> Self {
        let mut places = Places::new(catalogue);
        places.add_own(&node.endpoints);
        Self { node, places, draining: false }
    }

    /// As the actor wants it.
    #[must_use]
    pub fn into_answer(mut self) -> Answer {
        Box::new(move |store, call| self.answer(store, call))
    }

    /// Answers one call. Never panics, whatever the call holds.
    pub fn answer(&mut self, store: &mut Working<'_>, call: &Call) -> Reply {
        if let Some(Work(work)) = &call.work {
            return work(store);
        }
        let reply = self.reply(store, call).unwrap_or_else(|early| early);
        reply.finished(call, &self.node.facts.origins)
    }

    fn reply(&mut self, store: &mut Working<'_>, call: &Call) -> Answered {
        let named = Method::named(&call.method);
        if !path::is_well_escaped(&call.path) {
            return Err(Reply::message(400, "Bad request"));
        }
        if named.is_some_and(Method::has_body) {
            body::accepted(call)?;
        }
        let Some(segments) = path::segments(&call.path) else { return Err(Reply::not_found()) };
        let mut hit = self.places.find(&segments).ok_or_else(Reply::not_found)?;
        let reads = matches!(named, Some(Method::Get | Method::Head)) && !call.query.is_empty();
        if matches!(hit.place, Place::Own(_)) && !reads {
            // A row may have the name that the endpoint took.
            hit = self.places.find_row(&segments).unwrap_or(hit);
        }
        if matches!(hit.place, Place::Fixed(Fixed::Disabled)) {
            return Err(Reply::not_found());
        }
        let method = match named {
            Some(Method::Options) => return Ok(reply::options(call, hit.methods)),
            Some(Method::Head) => Method::Get,
            Some(method) => method,
            None => return Err(Reply::method_not_allowed()),
        };
        if !hit.methods.contains(&method) {
            return Err(Reply::method_not_allowed());
        }
        let is_config = matches!(hit.place, Place::Fixed(Fixed::Config));
        let reads = method.has_body() && !is_config;
        let sent = if reads { body::read(call)? } else { Sent::default() };
        if let Place::Fixed(fixed) = hit.place {
            let (node, draining) = (&mut self.node, &mut self.draining);
            return Fixture { node, draining, places: &self.places, store, call, method }
                .answer(fixed, &hit, sent);
        }
        if let Place::Own(place) = hit.place {
            return Ok(own::answer(&mut self.node, place, store, call, method, &hit, &sent));
        }
        let mut rows = Rows { store, call, method, hit: &hit, sent };
        match hit.place {
            Place::Rows(entity) => rows.rows(entity),
            Place::Row(entity) => rows.row(entity),
            Place::Parent(link) => rows.parent(link),
            Place::Children(link) => rows.children(link),
            Place::Child(link) => rows.child(link),
            Place::Targets(of) => targets::answer(rows, &mut self.node, of),
            Place::Own(_) | Place::Fixed(_) => Err(Reply::not_found()),
        }
    }
}

/// One call that is not about rows.
struct Fixture<'a, 'b> {
    node: &'a mut Node,
    draining: &'a mut bool,
    places: &'a Places,
    store: &'a mut Working<'b>,
    call: &'a Call,
    method: Method,
}

impl Fixture<'_, '_> {
    fn answer(self, fixed: Fixed, hit: &Hit<'_>, sent: Sent) -> Answered {
        let name = hit.parameter(0);
        match fixed {
            Fixed::Root => Ok(node::root(self.node, self.store)),
            Fixed::OpenApi => {
                let version = &self.node.facts.version;
                let document = openapi::document(
                    self.store.catalogue(),
                    self.places,
                    &self.node.endpoints,
                    version,
                );
                Ok(Reply::json(200, &document))
            }
            Fixed::Status => node::status(self.node, self.store, &self.call.query),
            Fixed::Ready if self.method == Method::Post => Ok(node::drain(self.draining, &sent)),
            Fixed::Ready => Ok(node::ready(self.node, self.store, *self.draining)),
            Fixed::StatusDns => {
                Err(Reply::message(501, "not implemented with the legacy DNS client"))
            }
            Fixed::Endpoints => Ok(Reply::json(200, &json!({ "data": self.places.paths() }))),
            Fixed::PluginsEnabled => {
                let names = json!({ "enabled_plugins": self.store.catalogue().enabled });
                Ok(Reply::json(200, &names))
            }
            Fixed::PluginConfigSchema => schemas::plugin_config(self.store.catalogue(), name),
            Fixed::EntitySchema => schemas::entity(self.store.catalogue(), name),
            Fixed::PluginSchema => schemas::plugin(self.store.catalogue(), name),
            Fixed::VaultSchema => schemas::vault(name),
            Fixed::FilterSchema => Err(Reply::message(404, &format!("Filter '{name}' not found"))),
            Fixed::EntityValidate => schemas::validate(self.store, name, sent),
            Fixed::PluginValidate => schemas::validate(self.store, "plugins", sent),
            Fixed::VaultValidate => schemas::validate(self.store, "vaults", sent),
            Fixed::Tags => tags::answer(self.store, self.call, self.method, None),
            Fixed::Tag => tags::answer(self.store, self.call, self.method, Some(name)),
            // Nothing is cached beside the snapshot, which is never stale.
            Fixed::Cache => Ok(Reply::empty(204)),
            Fixed::CacheKey if self.method == Method::Delete => Ok(Reply::empty(204)),
            Fixed::CacheKey => Err(Reply::not_found()),
            Fixed::Timers => Ok(node::timers()),
            Fixed::SetLogLevel if self.store.is_declarative() => {
                Err(Reply::message(405, "cannot change log level when not using a database"))
            }
            Fixed::LogLevel | Fixed::SetLogLevel => {
                let timeout = timeout(&sent, &self.call.query)?;
                node::log_level(self.node, self.method, name, timeout.as_ref())
            }
            Fixed::Config if self.store.is_declarative() => {
                config::answer(self.store, self.call, self.method)
            }
            Fixed::Config => Err(unavailable("Kong is configured to not use a database")),
            Fixed::Clustering => {
                Err(unavailable("Kong is configured to run as Control Plane for the cluster"))
            }
            Fixed::Disabled => Err(Reply::not_found()),
            Fixed::Robots => {
                Ok(Reply::of_type(200, "text/plain", b"User-agent: *\nDisallow: /".to_vec()))
            }
            Fixed::Wasm => Err(unavailable("wasm is enabled")),
        }
    }
}

/// How long a log level holds, from the body or the query.
fn timeout(sent: &Sent, query: &str) -> Result<Option<Json>, Reply> {
    let query = page::Query::read(query)?;
    let asked = || query.text("timeout").map(|text| json!(text));
    Ok(sent.fields.get("timeout").cloned().or_else(asked))
}

fn unavailable(when: &str) -> Reply {
    Reply::message(400, &format!("this endpoint is only available when {when}"))
}

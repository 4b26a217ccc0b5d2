//! All that a plugin is and may see (Kong calls this the plugin development kit).
//!
//! A plugin's life: `prepare` in the office, once for each version of a row (regexes, keys, masks;
//! its fault is the answer of the Admin API); `Prepared::instance` on the core at first use, kept
//! by row id and version; then one call for each phase. Nothing here blocks or does I/O.

mod answer;
pub mod cache;
mod captures;
mod config;
pub mod counters;
pub mod credentials;
mod endpoint;
mod exchange;
pub mod identity;
pub mod json;
mod kit;
pub mod lines;
pub mod logging;
pub mod lua;
pub mod media;
pub mod meters;
pub mod multipart;
mod notes;
mod office;
pub mod parameters;
mod pattern;
pub mod query;
mod remembered;
pub mod script;
pub mod template;
pub mod window;

use std::sync::Arc;

use exporter::DestinationKind;
use runtime::buffers::Piece;
use store::schema::{Entity, PluginSchema};

pub use answer::{Answer, AnswerBody};
pub use cache::{Cache, Keeper};
pub use captures::Captures;
pub use config::Config;
pub use endpoint::{Asked, Endpoint, Lent};
pub use exchange::{
    BodyState, Capture, Client, Credential, Exchange, LeftOut, Onward, Origin, Reporting,
    RequestId, ResponseBody, Scheme, Scope, Snapshot, Times, gather,
};
pub use kit::{Kit, Node};
pub use notes::Notes;
pub use office::{Answered, Errand, Office, Refused, Rows, Write};
pub use pattern::{Pattern, Search};
pub use remembered::Remembered;

/// A plugin as data: what it is called, what it can be told, when it runs.
pub struct Spec {
    /// Name, priority, version and configuration fields, as the Admin API shows them.
    pub schema: PluginSchema,
    /// The phases that `Plugin` really has; the others are never called. None at all: the behaviour
    /// is not built yet (see [`Spec::not_built`]).
    pub phases: &'static [Phase],
    /// The entities that come with this plugin, such as `keyauth_credentials`.
    pub entities: &'static [&'static Entity],
    /// Endpoints of the Admin API that come with it, beside those of its entities.
    pub endpoints: &'static [Endpoint],
    /// Turns a checked configuration into something every core can make instances of. Runs in the
    /// office, where it may be slow.
    pub prepare: fn(&Config<'_>) -> Result<Prepared, Fault>,
}

impl Spec {
    /// A plugin whose behaviour is not built yet, and which brings no entities.
    ///
    /// Its configurations are checked and stored as Kong's. While a row of it is enabled,
    /// `GET /status` lists it as inactive and every request in its scope is answered 503: a gateway
    /// that served without the authentication that was asked for would be open.
    pub const fn not_built(schema: PluginSchema) -> Self {
        Self { schema, phases: &[], entities: &[], endpoints: &[], prepare: not_built }
    }

    /// Whether the plugin does anything; see [`Spec::not_built`].
    pub const fn is_built(&self) -> bool {
        !self.phases.is_empty()
    }

    /// Whether the plugin takes part in a phase.
    pub fn has(&self, phase: Phase) -> bool {
        self.phases.contains(&phase)
    }
}

/// A place on the road where plugins take part, in the order in which an exchange passes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before the request goes upstream; may answer it.
    Access,
    /// When the head of the response is known and not sent.
    HeaderFilter,
    /// Each piece of the response body.
    BodyFilter,
    /// When the last bytes of the response are about to be handed to the kernel.
    Log,
}

/// A plugin's configuration, made ready in the office and shared by the cores.
#[derive(Clone)]
pub struct Prepared {
    make: Arc<dyn Fn() -> Box<dyn Plugin> + Send + Sync>,
    captures: bool,
    destination: Option<DestinationKind>,
}

impl Prepared {
    /// Keeps how an instance is made. What the closure captures is shared by all cores, so it must
    /// be immutable; making an instance must be cheap, since a request waits for it.
    pub fn new(instance: impl Fn() -> Box<dyn Plugin> + Send + Sync + 'static) -> Self {
        Self { make: Arc::new(instance), captures: false, destination: None }
    }

    /// Its instances look at `Exchange::captures`, which are kept only where somebody does.
    #[must_use]
    pub fn with_captures(self) -> Self {
        Self { captures: true, ..self }
    }

    /// Whether its instances look at `Exchange::captures`.
    pub fn wants_captures(&self) -> bool {
        self.captures
    }

    /// With what the exporter must know of the row before a core can report under it.
    #[must_use]
    pub fn reporting_to(mut self, destination: DestinationKind) -> Self {
        self.destination = Some(destination);
        self
    }

    /// Where the plugin's reports go, if it makes any.
    pub const fn destination(&self) -> Option<&DestinationKind> {
        self.destination.as_ref()
    }

    /// A fresh instance for one core.
    pub fn instance(&self) -> Box<dyn Plugin> {
        (self.make)()
    }
}

/// For [`Spec::prepare`] of a plugin that is not built: every configuration that its schema allows
/// is stored, and no instance is ever made.
///
/// # Errors
/// Never.
pub fn not_built(_config: &Config<'_>) -> Result<Prepared, Fault> {
    struct Nothing;
    impl Plugin for Nothing {}
    Ok(Prepared::new(|| Box::new(Nothing)))
}

/// Why a configuration cannot be used though its schema holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field of `config` that is at fault.
    pub field: &'static str,
    /// What the Admin API says about it.
    pub message: String,
}

/// A configured plugin on one core. It may keep state: no other core sees it.
pub trait Plugin {
    /// Lets the request pass, or answers it.
    fn access<'a>(&'a self, _exchange: &'a mut Exchange) -> Step<'a> {
        Step::NEXT
    }

    /// Changes the head of the response.
    fn header_filter(&self, _exchange: &mut Exchange) {}

    /// Sees each piece of the response body, and may replace it; `last` comes once, with the last
    /// piece or with an empty one.
    fn body_filter(&self, _exchange: &mut Exchange, _piece: &mut Piece, _last: bool) {}

    /// Reports. What must leave this machine goes into the core's ring.
    fn log(&self, _exchange: &mut Exchange) {}
}

/// What the access phase came to.
pub enum Step<'a> {
    /// Decided.
    Done(Outcome),
    /// Decided later: the plugin asks somebody. Costs one allocation.
    Wait(std::pin::Pin<Box<dyn Future<Output = Outcome> + 'a>>),
    /// The plugin has to see the request's body first: the road reads up to so many bytes into
    /// `exchange.request_body`, then calls `access` once more.
    Body {
        /// Above this the body counts as `BodyState::TooLarge` and streams on untouched.
        bytes_max: usize,
    },
}

impl Step<'_> {
    /// The next plugin may look.
    pub const NEXT: Self = Self::Done(Outcome::Next);

    /// Ends the access phase with an answer; the upstream is not asked.
    pub fn answer(answer: Answer) -> Self {
        Self::Done(Outcome::Answer(Box::new(answer)))
    }
}

/// A decision.
#[derive(Debug)]
pub enum Outcome {
    /// The next plugin may look.
    Next,
    /// This answer goes to the client.
    Answer(Box<Answer>),
    /// What an upstream answered before goes to the client: its head stands in
    /// `exchange.response`, its body is here. It is shown as a proxied answer, as in Kong.
    Replay(Piece),
}

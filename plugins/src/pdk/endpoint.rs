//! Endpoints of the Admin API that a plugin brings along.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use exporter::Exporter;
use runtime::tally::Tally;
use store::admin::{Method, Reply};

use super::Keeper;
use super::meters::Meters;

pub use store::admin::Asked;

/// One endpoint, as data in a plugin's [`super::Spec`].
///
/// ```text
/// Endpoint {
///     path: "/proxy-cache/{cache_key}",
///     methods: &[Method::Delete, Method::Get],
///     answer: |asked, lent| Reply::message(404, "Not found"),
///     ..Endpoint::EMPTY
/// }
/// ```
/// It is there while the plugin is enabled on this node (setting `plugins`), whether or not a row
/// configures it.
pub struct Endpoint {
    /// Its path, parameters in braces: `/proxy-cache/{cache_key}`.
    pub path: &'static str,
    /// What may be done there, in the order of [`Method`]; HEAD and OPTIONS come by themselves.
    pub methods: &'static [Method],
    /// Whether the status port has it too. Its path must be without parameters then.
    pub on_status_port: bool,
    /// Whether Kong has it: only then `GET /endpoints` lists it.
    pub is_kongs: bool,
    /// Answers. Runs on the office's store thread: it must not block, and what it sends goes out
    /// as it is.
    pub answer: fn(&Asked<'_>, &Lent) -> Reply,
}

impl Endpoint {
    /// An endpoint of Kong's that nobody can ask.
    pub const EMPTY: Self = Self {
        path: "",
        methods: &[],
        on_status_port: false,
        is_kongs: true,
        answer: |_, _| Reply::message(404, "Not found"),
    };
}

/// What the office lends to endpoints.
#[derive(Clone)]
pub struct Lent {
    /// The counts of the node.
    pub tally: Arc<Tally>,
    /// Where events leave.
    pub exporter: Arc<Exporter>,
    /// What the cores count of exchanges.
    pub meters: Meters,
    /// When the newest configuration was published: Unix time in seconds, 0 before the first.
    pub published_s: Arc<AtomicU64>,
    /// Responses that are kept for the whole node.
    pub cache: Arc<Keeper>,
}

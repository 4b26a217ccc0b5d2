//! The settings that the road reads, taken out of kong.conf once at start.

use ipnet::IpNet;
use runtime::http::head::Limits;
use store::conf::Edge;
use store::conf::Settings;

use crate::forwarded::response::Shown;
use crate::forwarded::trust::Trust;
use crate::reply::Templates;

use crate::pool::PoolLimits;

/// How long a client may take, in milliseconds. The names are nginx's.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// To send a head (`client_header_timeout`).
    pub client_header_ms: u64,
    /// Between two pieces of a body (`client_body_timeout`).
    pub client_body_ms: u64,
    /// Between two requests (`keepalive_timeout`).
    pub keepalive_ms: u64,
    /// To take a piece of the answer (`send_timeout`).
    pub send_ms: u64,
}

impl Patience {
    /// The same, but nothing longer than this.
    #[must_use]
    pub fn at_most(self, ms: u64) -> Self {
        Self {
            client_header_ms: self.client_header_ms.min(ms),
            client_body_ms: self.client_body_ms.min(ms),
            keepalive_ms: self.keepalive_ms.min(ms),
            send_ms: self.send_ms.min(ms),
        }
    }
}

/// What the road reads of the settings. Immutable; one for all cores.
#[derive(Clone, Debug)]
pub struct RoadSettings {
    /// How long clients may take.
    pub patience: Patience,
    /// How large a request's head may be.
    pub limits: Limits,
    /// Peers whose forwarding headers are believed.
    pub trust: Trust,
    /// The lines that the gateway adds to answers.
    pub shown: Shown,
    /// Whether upstreams get the request's id.
    pub id_upstream: bool,
    /// Whether `Kong-Debug: 1` is answered with the names of route and service.
    pub allow_debug_header: bool,
    /// The texts of errors.
    pub templates: Templates,
    /// Ports here and what the outside calls them.
    pub port_maps: Vec<(u16, u16)>,
    /// The largest request body; 0 is no limit.
    pub client_body_bytes_max: u64,
    /// A request's body up to this is held before the upstream is asked, and can be sent again.
    pub request_buffer_bytes_max: usize,
    /// Requests that one client connection carries.
    pub keepalive_requests_max: u64,
    /// Idle connections to upstreams.
    pub pool: PoolLimits,
    /// Bytes of captured bodies that a core may hold at one time.
    pub capture_bytes_max: usize,
}

/// Requests above this stream to the upstream instead of being held (DESIGN, section 4).
const REQUEST_BUFFER_BYTES_MAX: usize = 1024 * 1024;
/// Bodies that wait for the log phase, on one core.
const CAPTURE_BYTES_MAX: usize = 64 * 1024 * 1024;

impl RoadSettings {
    /// Reads checked settings.
    pub fn of(settings: &Settings) -> Self {
        let edge = Edge::of(settings);
        let count = |name, usual: u64| {
            settings.integer(name).and_then(|n| n.try_into().ok()).unwrap_or(usual)
        };
        let line_bytes_max = usize::try_from(edge.head_buffer_bytes).unwrap_or(8 * 1024);
        let buffers_max = usize::try_from(edge.head_buffers_max).unwrap_or(4);
        Self {
            patience: Patience {
                client_header_ms: edge.head_timeout_ms,
                client_body_ms: edge.body_timeout_ms,
                keepalive_ms: edge.keepalive_ms,
                send_ms: edge.send_timeout_ms,
            },
            limits: Limits {
                request_line_bytes_max: line_bytes_max,
                header_line_bytes_max: line_bytes_max,
                head_bytes_max: line_bytes_max.saturating_mul(buffers_max),
                ..Limits::default()
            },
            trust: Trust {
                nets: settings.list("trusted_ips").iter().filter_map(|item| net(item)).collect(),
                header: settings.text("real_ip_header").unwrap_or("X-Real-IP").to_owned(),
                recursive: settings.flag("real_ip_recursive"),
            },
            shown: settings
                .headers()
                .into_iter()
                .filter_map(Shown::named)
                .fold(Shown::NONE, Shown::and),
            id_upstream: settings
                .list("headers_upstream")
                .iter()
                .any(|name| name.eq_ignore_ascii_case("x-kong-request-id")),
            allow_debug_header: settings.flag("allow_debug_header"),
            templates: Templates::default(),
            port_maps: settings.port_maps(),
            client_body_bytes_max: edge.body_bytes_max.unwrap_or(0),
            request_buffer_bytes_max: REQUEST_BUFFER_BYTES_MAX,
            keepalive_requests_max: edge.keepalive_requests_max,
            pool: PoolLimits {
                idle_max: count("upstream_keepalive_pool_size", 512) as usize,
                idle_timeout_ms: count("upstream_keepalive_idle_timeout", 60) * 1_000,
                requests_max: count("upstream_keepalive_max_requests", 10_000),
            },
            capture_bytes_max: CAPTURE_BYTES_MAX,
        }
    }
}

impl RoadSettings {
    /// What the outside calls a port of ours.
    pub fn shown_port(&self, port: u16) -> u16 {
        let mapped = self.port_maps.iter().find(|(_, here)| *here == port);
        mapped.map_or(port, |(outside, _)| *outside)
    }
}

/// An address or a network; `unix:` and what is neither trust nobody here.
fn net(item: &str) -> Option<IpNet> {
    item.parse().ok().or_else(|| item.parse().ok().map(|ip: std::net::IpAddr| IpNet::from(ip)))
}

//! One Upstream, taken out of its row: how peers are chosen and how they are checked.

use std::sync::Arc;

use store::value::{Row, Value};
use uuid::Uuid;

use super::marks::Sign;

/// How a peer is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// In turn, by weight.
    RoundRobin,
    /// By the hash of something in the request.
    ConsistentHashing,
    /// Who has the fewest requests under way for its weight.
    LeastConnections,
    /// Who answered fastest of late.
    Latency,
}

/// What of a request is hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashOn {
    /// Nothing.
    None,
    /// Who asks, else the credential.
    Consumer,
    /// The client's address.
    Ip,
    /// A header's values.
    Header(Box<str>),
    /// A cookie, which is handed out where it is missing.
    Cookie {
        /// Its name.
        name: Box<str>,
        /// The path that it is for.
        path: Box<str>,
    },
    /// The path.
    Path,
    /// A query argument's values.
    QueryArg(Box<str>),
    /// A named group of the route's path.
    UriCapture(Box<str>),
}

/// How an active check speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    /// It connects.
    Tcp,
    /// It asks with GET.
    Http,
    /// The same over TLS.
    Https,
    /// It asks gRPC's own health service.
    Grpc,
    /// The same over TLS.
    Grpcs,
}

/// Statuses and thresholds; a threshold of 0 counts nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    good_statuses: Box<[u16]>,
    bad_statuses: Box<[u16]>,
    successes: u8,
    tcp_failures: u8,
    http_failures: u8,
    timeouts: u8,
}

impl Rules {
    /// What a status says; nothing where it is in neither list.
    #[must_use]
    pub fn sign(&self, status: u16) -> Option<Sign> {
        if self.good_statuses.contains(&status) {
            Some(Sign::Success)
        } else {
            (status == 0 || self.bad_statuses.contains(&status)).then_some(Sign::HttpFailure)
        }
    }

    /// The threshold of a sign.
    #[must_use]
    pub const fn limit(&self, sign: Sign) -> u8 {
        match sign {
            Sign::Success => self.successes,
            Sign::TcpFailure => self.tcp_failures,
            Sign::HttpFailure => self.http_failures,
            Sign::Timeout => self.timeouts,
        }
    }

    fn of(checks: &Value) -> Self {
        let statuses = |path| -> Box<[u16]> {
            let items = checks.path(path).map(Value::items).unwrap_or_default();
            items.iter().filter_map(|item| item.as_integer()?.try_into().ok()).collect()
        };
        let count = |path| {
            let count = checks.path(path).and_then(Value::as_integer).unwrap_or(0);
            u8::try_from(count).unwrap_or(if count < 0 { 0 } else { u8::MAX })
        };
        Self {
            good_statuses: statuses("healthy.http_statuses"),
            bad_statuses: statuses("unhealthy.http_statuses"),
            successes: count("healthy.successes"),
            tcp_failures: count("unhealthy.tcp_failures"),
            http_failures: count("unhealthy.http_failures"),
            timeouts: count("unhealthy.timeouts"),
        }
    }
}

/// Checks that the gateway makes of its own accord.
#[derive(Debug, Clone, PartialEq)]
pub struct Active {
    /// How it speaks.
    pub speech: Speech,
    /// Milliseconds between two rounds over the peers that may be asked; 0 makes none.
    pub healthy_interval_ms: u64,
    /// The same for those that may not.
    pub unhealthy_interval_ms: u64,
    /// Milliseconds that one check may take.
    pub timeout_ms: u64,
    /// Checks of one round at a time.
    pub concurrency: usize,
    /// What is asked for.
    pub http_path: Box<str>,
    /// Name for the TLS handshake, where it is not the peer's.
    pub https_sni: Option<Box<str>>,
    /// Whether certificates are checked.
    pub verified: bool,
    /// Further header lines.
    pub headers: Box<[(Box<str>, Box<str>)]>,
    /// What counts.
    pub rules: Rules,
}

/// One Upstream.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// The row's id.
    pub id: Uuid,
    /// What services call it.
    pub name: Box<str>,
    /// How a peer is chosen.
    pub algorithm: Algorithm,
    /// What is hashed, and what instead where the request does not have it.
    pub hash_on: [HashOn; 2],
    /// Slots of the ring.
    pub slots: usize,
    /// In place of the peers' names in Host lines.
    pub host_header: Option<Box<str>>,
    /// The row of the certificate that is shown to peers.
    pub client_certificate: Option<Uuid>,
    /// Whether a peer found by SRV is called by the name in that record.
    pub use_srv_name: bool,
    /// Per cent of the weight that must be exceeded by what may be asked.
    pub threshold: f64,
    /// Active checks.
    pub active: Active,
    /// What the answers to clients' requests say about peers.
    pub passive: Rules,
}

/// Bounds of checks at one time: Kong's own is the number of its file descriptors.
const CONCURRENCY_MAX: usize = 256;

impl Upstream {
    /// An Upstream out of its row; none where the row has no name.
    #[must_use]
    pub fn from_row(row: &Row) -> Option<Arc<Self>> {
        let algorithm = match row.text("algorithm") {
            Some("consistent-hashing") => Algorithm::ConsistentHashing,
            Some("least-connections") => Algorithm::LeastConnections,
            Some("latency") => Algorithm::Latency,
            _ => Algorithm::RoundRobin,
        };
        let checks = row.get("healthchecks");
        let none = Value::Null;
        Some(Arc::new(Self {
            id: row.id(),
            name: row.text("name")?.into(),
            algorithm,
            hash_on: [hash_on(row, "hash_on"), hash_on(row, "hash_fallback")],
            slots: row.integer("slots").and_then(|slots| slots.try_into().ok()).unwrap_or(10_000),
            host_header: row.text("host_header").map(Into::into),
            client_certificate: row.foreign("client_certificate"),
            use_srv_name: row.flag("use_srv_name").unwrap_or(false),
            threshold: checks.path("threshold").and_then(Value::as_number).unwrap_or(0.0),
            active: Active::of(checks.path("active").unwrap_or(&none)),
            passive: Rules::of(checks.path("passive").unwrap_or(&none)),
        }))
    }

    /// Whether peers are checked at all; if not, every peer may be asked.
    #[must_use]
    pub fn is_checked(&self) -> bool {
        let passive = &self.passive;
        self.is_probed()
            || passive.tcp_failures != 0
            || passive.timeouts != 0
            || passive.http_failures != 0
    }

    /// Whether there are active checks.
    #[must_use]
    pub fn is_probed(&self) -> bool {
        self.active.healthy_interval_ms != 0 || self.active.unhealthy_interval_ms != 0
    }
}

impl Active {
    fn of(checks: &Value) -> Self {
        let number = |path| checks.path(path).and_then(Value::as_number).unwrap_or(0.0);
        // Not above the time that a number of the schema can say: 65,535 s.
        let ms = |path| (number(path) * 1_000.0).clamp(0.0, 65_535_000.0) as u64;
        let text = |path| checks.path(path).and_then(Value::as_text);
        let lines = checks.path("headers").map(Value::pairs).unwrap_or_default();
        let lines = lines.iter().flat_map(|(name, values)| {
            values.texts().map(|value| (name.clone(), Box::<str>::from(value)))
        });
        Self {
            speech: match text("type") {
                Some("tcp") => Speech::Tcp,
                Some("https") => Speech::Https,
                Some("grpc") => Speech::Grpc,
                Some("grpcs") => Speech::Grpcs,
                _ => Speech::Http,
            },
            healthy_interval_ms: ms("healthy.interval"),
            unhealthy_interval_ms: ms("unhealthy.interval"),
            timeout_ms: ms("timeout").max(1),
            concurrency: (number("concurrency") as usize).clamp(1, CONCURRENCY_MAX),
            http_path: text("http_path").unwrap_or("/").into(),
            https_sni: text("https_sni").map(Into::into),
            verified: checks.path("https_verify_certificate").and_then(Value::as_flag)
                != Some(false),
            headers: lines.collect(),
            rules: Rules::of(checks),
        }
    }
}

/// What `hash_on` or `hash_fallback` says, with the name that belongs to it.
fn hash_on(row: &Row, field: &str) -> HashOn {
    let named = |what: &str| row.text(&format!("{field}_{what}")).map(Box::<str>::from);
    let found = match row.text(field) {
        Some("consumer") => Some(HashOn::Consumer),
        Some("ip") => Some(HashOn::Ip),
        Some("path") => Some(HashOn::Path),
        Some("header") => named("header").map(HashOn::Header),
        Some("query_arg") => named("query_arg").map(HashOn::QueryArg),
        Some("uri_capture") => named("uri_capture").map(HashOn::UriCapture),
        Some("cookie") => row.text("hash_on_cookie").map(|name| HashOn::Cookie {
            name: name.into(),
            path: row.text("hash_on_cookie_path").unwrap_or("/").into(),
        }),
        _ => None,
    };
    found.unwrap_or(HashOn::None)
}

#[cfg(test)]
impl Upstream {
    /// One for tests, without checks.
    pub(crate) fn sample(algorithm: Algorithm) -> Self {
        Self {
            id: Uuid::nil(),
            name: "up".into(),
            algorithm,
            hash_on: [HashOn::None, HashOn::None],
            slots: 10_000,
            host_header: None,
            client_certificate: None,
            use_srv_name: false,
            threshold: 0.0,
            active: Active::of(&Value::Null),
            passive: Rules::default(),
        }
    }
}

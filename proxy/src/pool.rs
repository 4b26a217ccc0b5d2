//! Idle connections to upstreams, kept by the core that opened them.

use std::net::SocketAddr;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use runtime::clock;

use crate::upstream::Connection;

/// What makes two connections interchangeable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Where it leads.
    pub address: SocketAddr,
    /// A fingerprint of name and trust settings of its TLS; 0 in the clear.
    pub tls: u64,
}

/// The bounds of a pool; Kong's `upstream_keepalive_*` settings.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// Idle connections to one upstream; 0 keeps none.
    pub idle_max: usize,
    /// Milliseconds that a connection may rest.
    pub idle_timeout_ms: u64,
    /// Requests that one connection carries; 0 is no limit.
    pub requests_max: u64,
}

/// A connection rests so long before the next user looks whether the upstream has closed it. One
/// that rested less may still have been closed: then the try is repeated on a fresh one, where the
/// request allows that.
const PROBE_AFTER_US: u64 = 20_000;

/// An upstream that answered within this is taken to be coming back when it refuses.
const LATELY_US: u64 = 10_000_000;

/// The idle connections of one core.
pub struct Pool {
    limits: PoolLimits,
    upstreams: HashMap<Key, Upstream, FixedState>,
}

/// What is known of one upstream.
#[derive(Default)]
struct Upstream {
    idle: Vec<Idle>,
    /// When it last answered.
    answered_us: u64,
}

struct Idle {
    connection: Connection,
    since_us: u64,
    suspect: bool,
}

impl Pool {
    /// An empty pool.
    pub fn new(limits: PoolLimits) -> Self {
        Self { limits, upstreams: HashMap::default() }
    }

    /// The connection that rested least, if one is there that the upstream has not closed.
    /// `careful` is for a request that cannot be tried again: it looks in any case.
    pub fn take(&mut self, key: Key, careful: bool) -> Option<Connection> {
        let resting = &mut self.upstreams.get_mut(&key)?.idle;
        let now_us = clock::now_us();
        while let Some(Idle { connection, since_us, suspect }) = resting.pop() {
            let rested_us = now_us.saturating_sub(since_us);
            let fresh = rested_us < self.limits.idle_timeout_ms * 1_000;
            let trusted = rested_us < PROBE_AFTER_US && !careful && !suspect;
            if fresh && (trusted || connection.is_quiet()) {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next exchange, or closes it. The next user of a `suspect` one
    /// looks whether something came that nobody asked for.
    pub fn put(&mut self, connection: Connection, suspect: bool) {
        let limits = self.limits;
        let upstream = self.upstreams.entry(connection.key()).or_default();
        upstream.answered_us = clock::now_us();
        if limits.requests_max > 0 && connection.requests() >= limits.requests_max {
            return;
        }
        if upstream.idle.len() < limits.idle_max {
            upstream.idle.push(Idle { connection, since_us: upstream.answered_us, suspect });
        }
    }

    /// Notes that an upstream answered, whose connection cannot be kept.
    pub fn answered(&mut self, key: Key) {
        self.upstreams.entry(key).or_default().answered_us = clock::now_us();
    }

    /// Whether an upstream answered within the last seconds.
    pub fn answered_lately(&self, key: Key) -> bool {
        let since_us = self.upstreams.get(&key).map(|upstream| upstream.answered_us);
        since_us.is_some_and(|since_us| clock::now_us().saturating_sub(since_us) < LATELY_US)
    }

    /// Closes what has rested too long. Called by the core once a second.
    pub fn sweep(&mut self) {
        let now_us = clock::now_us();
        let timeout_us = self.limits.idle_timeout_ms * 1_000;
        self.upstreams.retain(|_, upstream| {
            upstream.idle.retain(|idle| now_us.saturating_sub(idle.since_us) < timeout_us);
            !upstream.idle.is_empty() || now_us.saturating_sub(upstream.answered_us) < LATELY_US
        });
    }

    /// How many connections rest.
    pub fn len(&self) -> usize {
        self.upstreams.values().map(|upstream| upstream.idle.len()).sum()
    }

    /// Whether none rests.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

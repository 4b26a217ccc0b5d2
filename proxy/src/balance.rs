//! Which peer of an Upstream is asked, and which next when that fails.
//!
//! ```text
//!   rows, names ─► registry (office) ─► Balancer: seats, Picker ─► directory ─ board ─► cores
//!                     ▲     ▲                    │ marks, turns, busy: shared words
//!       desk: names ──┘     └── desk: checks ◄───┘
//! ```
//! A [`Balancer`] is made in the office whenever an Upstream, one of its targets, an address or a
//! mark changes, and never changes again but for the few words that all cores share. Choosing costs
//! the same for three peers and for a thousand.
//!
//! Source: Kong `kong/runloop/balancer/*.lua`.

pub mod admin;
pub mod directory;
pub mod key;
pub mod marks;
pub mod registry;
pub mod slots;
pub mod tries;
pub mod turns;
pub mod upstream;
pub mod vital;

#[cfg(test)]
pub(crate) mod samples;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use slots::{Claim, Slots};
use turns::Turns;
use upstream::{Algorithm, Upstream};
use vital::{Lease, Vital};

/// Peers that least-connections and latency compare for one request. Among more, those that are
/// compared change with every request.
const COMPARED_MAX: usize = 32;
/// Turns that are passed by because a peer was marked since the balancer was made.
const TURNS_PASSED_MAX: usize = 64;

/// One peer: an address that a target leads to.
#[derive(Debug, Clone)]
pub struct Seat {
    /// Where it is.
    pub address: SocketAddr,
    /// Its part of the requests, at least 1.
    pub weight: u32,
    /// What it is called in the Host line and in the TLS handshake, without a port.
    pub host: Arc<str>,
    /// The same with its port.
    pub host_port: Arc<str>,
    /// Its life.
    pub vital: Arc<Vital>,
}

impl Seat {
    /// What it is called in a TLS handshake: without brackets, and without a port that the
    /// Upstream's `host_header` may have.
    #[must_use]
    pub fn tls_name(&self) -> &str {
        if let Some((address, _)) = self.host.strip_prefix('[').and_then(|v| v.split_once(']')) {
            return address;
        }
        self.host.split(':').next().unwrap_or_default()
    }

    /// What the Host line says: the port stands in it unless it is the usual one of the protocol.
    #[must_use]
    pub fn host_line(&self, tls: bool) -> &str {
        let usual = if tls { 443 } else { 80 };
        if self.address.port() == usual { &self.host } else { &self.host_port }
    }
}

/// What stays while balancers of one Upstream follow each other.
#[derive(Debug, Default)]
pub struct Live {
    /// The number of the next turn, for the whole node.
    turn: AtomicU64,
    /// Set when a peer was marked and the balancer should be made anew.
    turned: AtomicBool,
}

/// The peers of one Upstream, ready to be chosen from.
#[derive(Debug)]
pub struct Balancer {
    /// The Upstream.
    pub upstream: Arc<Upstream>,
    /// Every peer.
    pub seats: Box<[Seat]>,
    /// Places of the peers that could be asked when this was made.
    pub(crate) open: Box<[u32]>,
    pub(crate) picker: Picker,
    pub(crate) live: Arc<Live>,
    weight_total: u64,
    /// Of the peers that may be asked now.
    weight_open: AtomicU64,
    /// Whether a name of a target was not looked up yet.
    pub unsettled: bool,
}

/// The part that differs between algorithms.
#[derive(Debug)]
pub(crate) enum Picker {
    RoundRobin(Turns),
    ConsistentHashing(Slots),
    LeastConnections,
    Latency,
}

impl Balancer {
    /// A balancer of these seats, which weigh something. `before` is the one that it follows.
    #[must_use]
    pub fn new(
        upstream: Arc<Upstream>,
        seats: Vec<Seat>,
        unsettled: bool,
        before: Option<&Self>,
    ) -> Self {
        let live = before.map(|before| Arc::clone(&before.live)).unwrap_or_default();
        live.turned.store(false, Ordering::Release);
        let is_open = |place: &u32| {
            seats.get(*place as usize).is_some_and(|seat| seat.vital.marks.are_good())
        };
        let open: Box<[u32]> = (0..seats.len() as u32).filter(is_open).collect();
        let weights = |places: &[u32]| -> Vec<u32> {
            places.iter().filter_map(|at| seats.get(*at as usize)).map(|seat| seat.weight).collect()
        };
        let sum = |weights: &[u32]| weights.iter().map(|weight| u64::from(*weight)).sum();
        let open_weights = weights(&open);
        let picker = match upstream.algorithm {
            Algorithm::RoundRobin => Picker::RoundRobin(Turns::new(&open_weights)),
            Algorithm::LeastConnections => Picker::LeastConnections,
            Algorithm::Latency => Picker::Latency,
            Algorithm::ConsistentHashing => {
                Picker::ConsistentHashing(ring(&upstream, &seats, &open, before))
            }
        };
        let all: Vec<u32> = (0..seats.len() as u32).collect();
        Self {
            weight_total: sum(&weights(&all)),
            weight_open: AtomicU64::new(sum(&open_weights)),
            upstream,
            seats: seats.into(),
            open,
            picker,
            live,
            unsettled,
        }
    }

    /// Whether enough of the peers may be asked.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        let open = self.weight_open.load(Ordering::Acquire) as f64;
        self.weight_total > 0 && open * 100.0 > self.upstream.threshold * self.weight_total as f64
    }

    /// The weight of all peers, and of those that may be asked now.
    #[must_use]
    pub fn weights(&self) -> (u64, u64) {
        (self.weight_total, self.weight_open.load(Ordering::Acquire))
    }

    /// Whether a peer was marked since this was made.
    #[must_use]
    pub fn has_turned(&self) -> bool {
        self.live.turned.load(Ordering::Acquire)
    }

    /// A mark of a peer has changed whether it may be asked. Counts anew who may: marks are rare.
    pub fn turned(&self) {
        let good = self.seats.iter().filter(|seat| seat.vital.marks.are_good());
        let weight = good.map(|seat| u64::from(seat.weight)).sum();
        self.weight_open.store(weight, Ordering::Release);
        self.live.turned.store(true, Ordering::Release);
    }

    /// The place of the peer to ask; `key` is what is hashed, `may` leaves out who failed already.
    /// None where nobody may be asked.
    pub fn pick(&self, key: u64, now_us: u64, may: impl Fn(u32) -> bool) -> Option<u32> {
        if !self.is_healthy() {
            return None;
        }
        let may = |place: u32| {
            let seat = self.seats.get(place as usize)?;
            (seat.vital.marks.are_good() && may(place)).then_some(seat)
        };
        let at = |at: usize| self.open.get(at).copied().filter(|place| may(*place).is_some());
        let picked = match &self.picker {
            Picker::RoundRobin(turns) => (0..TURNS_PASSED_MAX.min(turns.cycle() as usize + 1))
                .find_map(|_| turns.at(self.turn()).and_then(at)),
            Picker::ConsistentHashing(slots) => {
                slots.find(key, |own| at(own).is_some()).and_then(at)
            }
            Picker::LeastConnections => self.least(|place| {
                let seat = may(place)?;
                Some((f64::from(seat.vital.busy()) + 1.0) / f64::from(seat.weight))
            }),
            Picker::Latency => self.least(|place| {
                let seat = may(place)?;
                Some(f64::from(seat.vital.pace_us(now_us)) / f64::from(seat.weight))
            }),
        };
        // Only where marks or failures have hidden everybody else since this was made.
        picked.or_else(|| self.open.iter().copied().find(|place| may(*place).is_some()))
    }

    /// The open peer with the least cost, among so many as are compared.
    fn least(&self, cost: impl Fn(u32) -> Option<f64>) -> Option<u32> {
        let count = self.open.len();
        let turn = self.turn();
        let first = if count > COMPARED_MAX { slots::hash(&turn.to_le_bytes()) } else { turn };
        let first = first.checked_rem(count as u64)? as usize;
        let compared = (0..count.min(COMPARED_MAX)).filter_map(|step| {
            let place = *self.open.get((first + step) % count)?;
            Some((place, cost(place)?))
        });
        compared.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(place, _)| place)
    }

    fn turn(&self) -> u64 {
        self.live.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// What counts the request while it is under way, where the algorithm needs that.
    #[must_use]
    pub fn lease(&self, seat: &Seat, now_us: u64) -> Option<Lease> {
        match self.picker {
            Picker::RoundRobin(_) | Picker::ConsistentHashing(_) => None,
            Picker::LeastConnections => Some(Lease::counted(&seat.vital)),
            Picker::Latency => Some(Lease::timed(&seat.vital, now_us)),
        }
    }
}

/// The ring of the open seats, made out of the one before where there is one.
fn ring(upstream: &Upstream, seats: &[Seat], open: &[u32], before: Option<&Balancer>) -> Slots {
    let claims: Vec<Claim> =
        open.iter().filter_map(|at| seats.get(*at as usize)).map(claim).collect();
    let count = upstream.slots.max(slots::SLOTS_MIN);
    let Some(before) = before else { return Slots::new(count, &claims) };
    match &before.picker {
        Picker::ConsistentHashing(ring) if ring.len() == count => {
            let places: hashbrown::HashMap<(u64, u32), u32> = claims
                .iter()
                .zip(0..)
                .map(|(claim, at)| ((claim.seed, claim.weight), at))
                .collect();
            let moved: Vec<_> = before
                .open
                .iter()
                .map(|at| {
                    let claim = before.seats.get(*at as usize).map(claim)?;
                    places.get(&(claim.seed, claim.weight)).copied()
                })
                .collect();
            ring.next(&moved, &claims)
        }
        _ => Slots::new(count, &claims),
    }
}

fn claim(seat: &Seat) -> Claim {
    Claim { seed: slots::hash(seat.address.to_string().as_bytes()), weight: seat.weight }
}

#[cfg(test)]
mod tests;

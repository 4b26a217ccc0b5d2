//! One Upstream in the book: its targets, the addresses behind them, their lives.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hashbrown::HashMap;
use store::value::Row;
use uuid::Uuid;

use super::Round;
use crate::balance::upstream::Upstream;
use crate::balance::vital::Vital;
use crate::balance::{Balancer, Seat};
use crate::desk::checks::Trust;
use crate::names::{Answer, Found, NameFault};

/// How long a peer that is gone is remembered, in microseconds: who comes back meanwhile comes back
/// with its marks. (Kong's `CLEAR_HEALTH_STATUS_DELAY`.)
const REMEMBERED_US: u64 = 300_000_000;

/// Whose life: the target's name and the address.
type Who = (Box<str>, SocketAddr);

/// One Upstream.
pub(super) struct Entry {
    pub(super) upstream: Arc<Upstream>,
    pub(super) targets: BTreeMap<Uuid, Target>,
    pub(super) balancer: Arc<Balancer>,
    /// What its checks show and believe, where that is not what the settings say.
    pub(super) trust: Option<Arc<Trust>>,
    lives: HashMap<Who, Life>,
    /// Rounds over the peers that may be asked, and over the others.
    clocks: [RoundClock; 2],
}

struct Life {
    vital: Arc<Vital>,
    /// Since when no target leads to it; 0 while one does.
    gone_us: u64,
}

/// When a kind of round runs next, and whether one is running.
#[derive(Default)]
struct RoundClock {
    due_us: u64,
    running: Arc<()>,
}

/// One target.
#[derive(Debug, Clone)]
pub struct Target {
    /// A name or an address, as the row has it.
    pub host: Box<str>,
    /// The port.
    pub port: u16,
    /// Its weight; 0 is kept and not asked.
    pub weight: u32,
    /// When the row was made, for the order of lists.
    pub created: f64,
    /// What is behind the name.
    pub found: Behind,
    /// When the name is looked up next; 0 while it is, and for addresses.
    pub(super) due_us: u64,
}

/// What is behind a target's name.
#[derive(Debug, Clone)]
pub enum Behind {
    /// The target is an address.
    Itself(IpAddr),
    /// It was not looked up yet.
    Unknown,
    /// These.
    Peers(Arc<Answer>),
    /// Nothing, for this reason.
    Nothing(NameFault),
}

impl Target {
    /// A target out of its row; none where its text is none.
    pub(super) fn from_row(row: &Row) -> Option<Self> {
        let (host, port) = row.text("target")?.rsplit_once(':')?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let found = bare.parse().map_or(Behind::Unknown, Behind::Itself);
        Some(Self {
            host: host.into(),
            port: port.parse().ok()?,
            weight: row.integer("weight").and_then(|n| n.try_into().ok()).unwrap_or(100),
            created: row.number("created_at").unwrap_or(0.0),
            found,
            due_us: 0,
        })
    }

    pub(super) fn is_name(&self) -> bool {
        !matches!(self.found, Behind::Itself(_))
    }

    /// Takes an answer in; whether anything has changed.
    pub(super) fn learn(&mut self, answer: &Result<Arc<Answer>, NameFault>) -> bool {
        let changed = match (answer, &self.found) {
            (Ok(new), Behind::Peers(old)) => new.addresses != old.addresses,
            (Err(new), Behind::Nothing(old)) => new != old,
            _ => true,
        };
        self.found = match answer {
            Ok(answer) => Behind::Peers(Arc::clone(answer)),
            Err(fault) => Behind::Nothing(fault.clone()),
        };
        changed
    }

    /// Addresses with their weights, and the name that SRV gave them.
    pub fn peers(&self) -> Vec<(SocketAddr, u32, Option<&str>)> {
        match &self.found {
            Behind::Itself(ip) => vec![(SocketAddr::new(*ip, self.port), self.weight, None)],
            Behind::Unknown | Behind::Nothing(_) => Vec::new(),
            Behind::Peers(answer) => {
                let peer = |found| self.peer(found);
                answer.addresses.iter().map(peer).collect()
            }
        }
    }

    fn peer<'a>(&self, found: &'a Found) -> (SocketAddr, u32, Option<&'a str>) {
        let port = found.port.filter(|port| *port != 0).unwrap_or(self.port);
        // A target of weight 0 stays without requests, whatever its records weigh.
        let weight = match found.weight {
            Some(weight) if self.weight > 0 => u32::from(weight).max(1),
            _ => self.weight,
        };
        (SocketAddr::new(found.ip, port), weight, found.name.as_deref())
    }
}

impl Entry {
    pub(super) fn new(upstream: Arc<Upstream>) -> Self {
        let balancer = Balancer::new(Arc::clone(&upstream), Vec::new(), false, None);
        Self {
            upstream,
            targets: BTreeMap::new(),
            balancer: Arc::new(balancer),
            trust: None,
            lives: HashMap::new(),
            clocks: Default::default(),
        }
    }

    /// Makes the balancer anew out of what is known.
    pub(super) fn rebuild(&mut self, now_us: u64) {
        let lives = &mut self.lives;
        lives.values_mut().for_each(|life| life.gone_us = life.gone_us.max(1));
        let upstream = &self.upstream;
        let mut seats = Vec::new();
        for target in self.targets.values() {
            for (address, weight, srv_name) in target.peers() {
                if weight == 0 {
                    continue;
                }
                let life = lives
                    .entry((target.host.clone(), address))
                    .or_insert_with(|| Life { vital: Arc::default(), gone_us: 0 });
                life.gone_us = 0;
                if !upstream.is_checked() {
                    life.vital.marks.set(true);
                }
                let named = srv_name.filter(|_| upstream.use_srv_name);
                let host = upstream.host_header.as_deref().or(named).unwrap_or(&target.host);
                seats.push(Seat {
                    address,
                    weight,
                    host: host.into(),
                    host_port: format!("{host}:{}", address.port()).into(),
                    vital: Arc::clone(&life.vital),
                });
            }
        }
        lives.retain(|_, life| {
            if life.gone_us == 1 {
                life.gone_us = now_us;
            }
            life.gone_us == 0 || now_us.saturating_sub(life.gone_us) < REMEMBERED_US
        });
        pace_new(&seats, now_us);
        let unknown = |target: &Target| matches!(target.found, Behind::Unknown);
        let unsettled = self.targets.values().any(unknown);
        let balancer = Balancer::new(Arc::clone(upstream), seats, unsettled, Some(&self.balancer));
        self.balancer = Arc::new(balancer);
    }

    /// The life of a peer, if a target leads to it.
    pub(super) fn vital(&self, host: &str, address: SocketAddr) -> Option<&Arc<Vital>> {
        self.lives.get(&(Box::from(host), address)).map(|life| &life.vital)
    }

    /// The rounds that should begin.
    pub(super) fn due_rounds(&mut self, now_us: u64) -> Vec<Round> {
        if !self.upstream.is_probed() {
            return Vec::new();
        }
        let active = &self.upstream.active;
        let intervals_ms = [active.healthy_interval_ms, active.unhealthy_interval_ms];
        let mut due = Vec::new();
        for ((clock, interval_ms), good) in
            self.clocks.iter_mut().zip(intervals_ms).zip([true, false])
        {
            let is_running = Arc::strong_count(&clock.running) > 1;
            // A shorter interval than before counts at once.
            clock.due_us = clock.due_us.min(now_us + interval_ms * 1_000);
            if interval_ms == 0 || is_running || clock.due_us > now_us {
                continue;
            }
            clock.due_us = now_us + interval_ms * 1_000;
            let seats = self.balancer.seats.iter();
            let seats = seats.filter(|seat| seat.vital.marks.are_good() == good);
            due.push(Round {
                upstream: Arc::clone(&self.upstream),
                seats: seats.cloned().collect(),
                running: Arc::clone(&clock.running),
                trust: self.trust.clone(),
            });
        }
        due.retain(|round| !round.seats.is_empty());
        due
    }
}

/// New peers begin as fast as the others are on average, so that they are not flooded.
fn pace_new(seats: &[Seat], now_us: u64) {
    let paced = seats.iter().filter(|seat| seat.vital.is_paced());
    let (count, sum) = paced
        .fold((0_u32, 0.0), |(count, sum), seat| (count + 1, sum + seat.vital.pace_us(now_us)));
    if count > 0 {
        let mean = sum / count as f32;
        seats.iter().filter(|seat| !seat.vital.is_paced()).for_each(|seat| {
            seat.vital.set_pace(mean, now_us);
        });
    }
}

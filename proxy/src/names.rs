//! Names of upstreams, as a core knows them: what the desk answered, kept for its time to live.
//!
//! What has expired is used once more while the desk is asked anew, so that no request waits for a
//! name that was ever known; the desk says when it is too old.

mod turn;

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use runtime::mailbox::Asker;
use runtime::{clock, io};
use smallvec::SmallVec;
use uuid::Uuid;

use crate::balance::turns::Turns;
use crate::fault::{Fault, What};
use crate::roadmap::Service;
pub use turn::{ADDRESSES_MAX, Tries};

/// Names that a core remembers. When there are more, all are forgotten and asked again.
const NAMES_MAX: usize = 4_096;
/// How long a request waits for the desk; the desk's own limit is shorter.
const ASK_TIMEOUT_MS: u64 = 12_000;

/// One address of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The address.
    pub ip: IpAddr,
    /// The port that a record of type SRV says.
    pub port: Option<u16>,
    /// The weight that it says.
    pub weight: Option<u16>,
    /// The name in it.
    pub name: Option<Box<str>>,
}

/// The type of the records that gave an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Addresses of version 4.
    A,
    /// Addresses of version 6.
    Aaaa,
    /// Names with ports and weights.
    Srv,
}

impl Kind {
    /// As DNS calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Srv => "SRV",
        }
    }
}

/// The addresses of a name; never empty, at most [`ADDRESSES_MAX`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// In an order that does not change while the records are the same.
    pub addresses: Box<[Found]>,
    /// Where they come from.
    pub kind: Kind,
    /// How many seconds they hold.
    pub ttl_s: u32,
}

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameFault {
    /// The name servers say that there is none.
    NotFound,
    /// They could not be asked, or did not answer in time.
    Failed(String),
    /// The desk did not answer in time.
    Unanswered,
}

impl NameFault {
    /// In words; those of Kong where it has some.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::NotFound => "dns server error: 3 name error".to_owned(),
            Self::Failed(why) => why.clone(),
            Self::Unanswered => "the desk is busy".to_owned(),
        }
    }
}

/// What a core asks the desk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// The addresses of a name.
    Name(Box<str>),
    /// To be told when every target of an Upstream was looked up.
    Settled(Uuid),
}

/// The answer to a name; to [`Question::Settled`] it says nothing.
pub type Told = Result<Arc<Answer>, NameFault>;

/// The addresses of one service.
pub type Addresses = SmallVec<[SocketAddr; 4]>;

/// What a core knows of names.
#[derive(Clone)]
pub struct Names(Rc<Own>);

struct Own {
    desk: Asker<Question, Told>,
    known: RefCell<HashMap<Box<str>, Known, FixedState>>,
}

struct Known {
    answer: Arc<Answer>,
    turns: Turns,
    turn: u64,
    expires_us: u64,
    /// Whether the desk is being asked again.
    asking: bool,
}

impl Names {
    /// Knows nothing yet.
    pub fn new(desk: Asker<Question, Told>) -> Self {
        Self(Rc::new(Own { desk, known: RefCell::default() }))
    }

    /// The addresses of a service, and the order of tries. An address is its own name.
    ///
    /// # Errors
    /// The name has no address, or nobody could be asked in time.
    pub async fn resolve(&self, service: &Service) -> Result<(Addresses, Tries), Fault> {
        if let Some(ip) = service.ip {
            let only = Addresses::from_slice(&[SocketAddr::new(ip, service.port)]);
            return Ok((only, Tries::new(0, service.retries)));
        }
        if let Some(found) = self.recall(service) {
            return Ok(found);
        }
        self.ask(&service.host).await.map_err(|fault| match fault {
            NameFault::NotFound => Fault::from(What::NameNotFound),
            other => Fault::from(What::NameFailed).because(other.words()),
        })?;
        self.recall(service).ok_or_else(|| Fault::from(What::NameFailed))
    }

    /// Waits until every target of an Upstream was looked up, at most a few seconds.
    pub async fn settled(&self, upstream: Uuid) {
        let _told = self.0.desk.ask(Question::Settled(upstream), ASK_TIMEOUT_MS).await;
    }

    async fn ask(&self, host: &str) -> Result<(), NameFault> {
        let told = self.0.desk.ask(Question::Name(host.into()), ASK_TIMEOUT_MS).await;
        let answer = match told.unwrap_or(Err(NameFault::Unanswered)) {
            Ok(answer) => answer,
            Err(fault) => {
                let mut known = self.0.known.borrow_mut();
                match known.get_mut(host) {
                    // What is known serves while the desk is busy.
                    Some(known) if fault == NameFault::Unanswered => known.asking = false,
                    _ => drop(known.remove(host)),
                }
                return Err(fault);
            }
        };
        let expires_us = clock::now_us() + u64::from(answer.ttl_s) * 1_000_000;
        let mut known = self.0.known.borrow_mut();
        if known.len() >= NAMES_MAX {
            known.clear();
        }
        match known.get_mut(host).filter(|known| known.answer.addresses == answer.addresses) {
            Some(known) => {
                (known.answer, known.expires_us, known.asking) = (answer, expires_us, false);
            }
            None => {
                let weight = |found: &Found| found.weight.map_or(1, |weight| weight.max(1).into());
                let weights: Vec<u32> = answer.addresses.iter().map(weight).collect();
                let turns = Turns::new(&weights);
                let fresh = Known { answer, turns, turn: 0, expires_us, asking: false };
                known.insert(host.into(), fresh);
            }
        }
        Ok(())
    }

    fn recall(&self, service: &Service) -> Option<(Addresses, Tries)> {
        let mut known = self.0.known.borrow_mut();
        let entry = known.get_mut(&*service.host)?;
        if entry.expires_us <= clock::now_us() && !std::mem::replace(&mut entry.asking, true) {
            let (names, host) = (self.clone(), service.host.clone());
            io::spawn(async move { drop(names.ask(&host).await) });
        }
        let with_port =
            |found: &Found| SocketAddr::new(found.ip, found.port.unwrap_or(service.port));
        let addresses = entry.answer.addresses.iter().map(with_port).collect();
        let first = entry.turns.at(entry.turn).unwrap_or(0);
        entry.turn = entry.turn.wrapping_add(1);
        Some((addresses, Tries::new(first, service.retries)))
    }
}

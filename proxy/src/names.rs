//! Names of upstreams, as a core knows them: what the desk answered, kept for its time to live.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use runtime::clock;
use runtime::mailbox::Asker;
use smallvec::SmallVec;

use crate::balance::{Tries, Turn};
use crate::desk::{NameFault, Resolved};
use crate::fault::{Fault, What};
use crate::roadmap::Service;

/// Names that a core remembers. When there are more, all are forgotten and asked again.
const NAMES_MAX: usize = 4_096;
/// How long a request waits for the desk; the desk's own limit is shorter.
const ASK_TIMEOUT_MS: u64 = 12_000;

/// The addresses of one service.
pub type Addresses = SmallVec<[SocketAddr; 4]>;

/// What a core knows of names.
pub struct Names {
    desk: Asker<Box<str>, Resolved>,
    known: RefCell<HashMap<Box<str>, Known, FixedState>>,
}

struct Known {
    addresses: Vec<IpAddr>,
    expires_us: u64,
    turn: Turn,
}

impl Names {
    /// Knows nothing yet.
    pub fn new(desk: Asker<Box<str>, Resolved>) -> Self {
        Self { desk, known: RefCell::default() }
    }

    /// The addresses of a service, and the order of tries. An address is its own name.
    ///
    /// # Errors
    /// The name has no address, or nobody could be asked in time.
    pub async fn resolve(&self, service: &Service) -> Result<(Addresses, Tries), Fault> {
        if let Some(ip) = service.ip {
            let only = Addresses::from_slice(&[SocketAddr::new(ip, service.port)]);
            return Ok((only, Turn::default().begin(service.retries)));
        }
        if let Some(found) = self.recall(service) {
            return Ok(found);
        }
        let answer = self.desk.ask(service.host.clone(), ASK_TIMEOUT_MS).await;
        let answer = answer.unwrap_or(Err(NameFault::Unanswered));
        let (addresses, ttl_s) = answer.map_err(|fault| match fault {
            NameFault::NotFound => Fault::from(What::NameNotFound),
            NameFault::Failed(why) => Fault::from(What::NameFailed).because(why),
            NameFault::Unanswered => Fault::from(What::NameFailed).because("the desk is busy"),
        })?;
        let expires_us = clock::now_us() + u64::from(ttl_s) * 1_000_000;
        let mut known = self.known.borrow_mut();
        if known.len() >= NAMES_MAX {
            known.clear();
        }
        known.insert(service.host.clone(), Known { addresses, expires_us, turn: Turn::default() });
        drop(known);
        self.recall(service).ok_or_else(|| Fault::from(What::NameFailed))
    }

    fn recall(&self, service: &Service) -> Option<(Addresses, Tries)> {
        let mut known = self.known.borrow_mut();
        let entry = known.get_mut(&*service.host)?;
        if entry.expires_us <= clock::now_us() {
            return None;
        }
        let with_port = |ip: &IpAddr| SocketAddr::new(*ip, service.port);
        let addresses = entry.addresses.iter().map(with_port).collect();
        Some((addresses, entry.turn.begin(service.retries)))
    }
}

//! Marks by hand, and how peers do, for the Admin API.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use uuid::Uuid;

use super::{Registry, Target};

/// How an Upstream does, for the Admin API.
#[derive(Debug, Clone)]
pub struct View {
    /// Whether enough of its weight may be asked.
    pub healthy: bool,
    /// Targets, each with its addresses.
    pub targets: Vec<(Target, Vec<Peer>)>,
}

/// One address of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Where it is.
    pub address: SocketAddr,
    /// Its weight.
    pub weight: u32,
    /// Whether it may be asked.
    pub good: bool,
}

/// Which of the peers behind a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Every one.
    All,
    /// Those with this port.
    Port(u16),
    /// The one there.
    At(SocketAddr),
}

impl Which {
    fn has(self, peer: SocketAddr) -> bool {
        match self {
            Self::All => true,
            Self::Port(port) => peer.port() == port,
            Self::At(address) => peer == address,
        }
    }
}

impl Registry {
    /// Marks peers behind a target. What the target does not lead
    /// to is passed over, as Kong does.
    ///
    /// # Errors
    /// The Upstream is not checked at all; in Kong's words.
    pub fn mark(
        &self,
        upstream: Uuid,
        target: Uuid,
        which: Which,
        healthy: bool,
    ) -> Result<(), String> {
        let mut book = self.book();
        let Some(entry) = book.entries.get(&upstream) else {
            return Err("upstream not found".to_owned());
        };
        if !entry.upstream.is_checked() {
            return Err(format!("no healthchecker found for {}", entry.upstream.name));
        }
        if let Some(target) = entry.targets.get(&target) {
            let peers = target.peers();
            let wanted = peers.iter().filter(|peer| which.has(peer.0));
            for vital in wanted.filter_map(|peer| entry.vital(&target.host, peer.0)) {
                vital.marks.set(healthy);
            }
        }
        self.publish(&mut book, &BTreeSet::from([upstream]), Vec::new());
        Ok(())
    }

    /// An Upstream's balancer, and its targets with their addresses; none where there is no such
    /// one.
    #[must_use]
    pub fn view(&self, upstream: Uuid) -> Option<View> {
        let book = self.book();
        let entry = book.entries.get(&upstream)?;
        let target = |target: &Target| {
            let good = |at| entry.vital(&target.host, at).is_none_or(|v| v.marks.are_good());
            let peers = target.peers();
            let peer = |(at, weight, _): &(SocketAddr, u32, _)| Peer {
                address: *at,
                weight: *weight,
                good: good(*at),
            };
            let peers = peers.iter().map(peer).collect();
            (target.clone(), peers)
        };
        let targets = entry.targets.values().map(target).collect();
        Some(View { healthy: entry.balancer.is_healthy(), targets })
    }
}

//! A core that accepts while another is much less busy hands the socket over.
//!
//! `SO_REUSEPORT` throws dice: of 64 long-lived connections on 8 cores the busiest core gets 12 and
//! not 8. A connection is handed over before its first byte is read, at most once, through a
//! bounded queue; the receiving core is woken once. Where the queue is full the socket stays, and
//! where the other core has been told to end.

use super::{Accepted, Core, Order, Shared};
use crate::io::{self, Peer};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Sockets that may wait for one core.
pub(super) const HANDED_MAX: usize = 64;
/// A core with more connections than the least busy one and this keeps no new one …
const SLACK: u64 = 4;
/// … nor with more than this share of the other's connections beyond them: 1/4.
const SLACK_SHARE: u64 = 4;

/// A socket on its way from one core to another.
pub(super) struct Handed {
    socket: OwnedFd,
    peer: Peer,
    listen: usize,
    over: bool,
}

/// Whether a core with `own` connections is much busier than one with `least`.
pub(super) const fn is_much(own: u64, least: u64) -> bool {
    let share = least / SLACK_SHARE;
    own > least + if share > SLACK { share } else { SLACK }
}

/// Hands a connection to the least busy core if that one is much less busy. Gives it back where it
/// stays; nothing if it went, or was lost to a lack of descriptors.
pub(super) fn hand_over(core: &Core, accepted: Accepted) -> Option<Accepted> {
    let Some(other) = less_busy(core) else { return Some(accepted) };
    // Counted before it is there, so that the next to hand over sees it.
    let Some(place) = Place::take(other) else { return Some(accepted) };
    let Accepted { reader, writer, peer, listen, over } = accepted;
    let socket = match io::release(reader, writer) {
        Ok(socket) => socket,
        Err(error) => {
            log::warn!("core {} lost a connection: {error}", core.number());
            return None;
        }
    };
    match other.to_hand.try_send(Handed { socket, peer, listen, over }) {
        Ok(()) => {
            place.keep();
            core.0.shared.counters.handed.fetch_add(1, Ordering::Relaxed);
            other.bell.ring();
            None
        }
        Err(full) => {
            drop(place);
            let Handed { socket, peer, listen, over } = full.into_inner();
            let (reader, writer) = io::adopt(socket).ok()?;
            Some(Accepted { reader, writer, peer, listen, over })
        }
    }
}

/// A connection counted with another core before it gets there; given back when it is dropped.
struct Place<'a>(&'a Shared);

impl<'a> Place<'a> {
    /// None with a core that has been told to end: it may have ended already.
    ///
    /// Who sees the order to run here has counted before the order to end was given, all of it
    /// in one sequence, so the other core finds the count when it asks whether it may end.
    fn take(other: &'a Shared) -> Option<Self> {
        other.counters.active.fetch_add(1, Ordering::SeqCst);
        let place = Self(other);
        (other.order() == Order::Run).then_some(place)
    }

    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.counters.active.fetch_sub(1, Ordering::Relaxed);
        if self.0.order() != Order::Run {
            // It may have waited for this one.
            self.0.bell.ring();
        }
    }
}

fn less_busy(core: &Core) -> Option<&Arc<Shared>> {
    let active = |shared: &Shared| shared.counters.active.load(Ordering::Relaxed);
    let own = core.active();
    // The usual case: nobody can be so much less busy.
    if !is_much(own, 0) {
        return None;
    }
    let others = core.0.all.iter().filter(|other| !Arc::ptr_eq(other, &core.0.shared));
    let other = others.min_by_key(|other| active(other))?;
    is_much(own, active(other)).then_some(other)
}

/// Takes what others have handed to this core; each is counted already.
pub(super) fn take(core: &Core, mut begin: impl FnMut(Accepted)) {
    while let Ok(Handed { socket, peer, listen, over }) = core.0.shared.handed_here.try_recv() {
        match io::adopt(socket) {
            Ok((reader, writer)) => begin(Accepted { reader, writer, peer, listen, over }),
            Err(error) => {
                log::warn!("core {} cannot take a connection: {error}", core.number());
                core.0.shared.counters.active.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_much_is_much() {
        for (own, least, much) in
            [(0, 0, false), (4, 0, false), (5, 0, true), (14, 10, false), (15, 10, true)]
        {
            assert_eq!(is_much(own, least), much, "{own} beside {least}");
        }
        assert!(!is_much(1_250, 1_000));
        assert!(is_much(1_251, 1_000));
    }
}

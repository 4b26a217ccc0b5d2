//! The tries of one exchange among the addresses of one name.
//!
//! Source: Kong's DNS client turns records round-robin; retries: `kong/runloop/balancer/init.lua`.

use std::net::SocketAddr;

/// Addresses of one name that are considered.
pub const ADDRESSES_MAX: usize = 64;

/// The tries of one exchange: where they began and which addresses failed.
#[derive(Debug, Clone, Copy)]
pub struct Tries {
    start: usize,
    last: usize,
    /// One bit for each address that failed.
    failed: u64,
    left: u32,
}

impl Tries {
    /// Begins at the address `first`, with as many tries as `retries` says, and one.
    #[must_use]
    pub fn new(first: usize, retries: u32) -> Self {
        Self { start: first, last: 0, failed: 0, left: retries.saturating_add(1) }
    }

    /// The address to try: the next in turn that has not failed in this exchange; when all have,
    /// they get another chance. `None` when no try is left, or there is no address.
    ///
    /// `addresses` must be the same for all tries of an exchange.
    pub fn next(&mut self, addresses: &[SocketAddr]) -> Option<SocketAddr> {
        let count = addresses.len().min(ADDRESSES_MAX);
        self.left = self.left.checked_sub(1)?;
        let all = all(count)?;
        if self.failed & all == all {
            self.failed = 0;
        }
        let at = (0..count)
            .map(|step| self.start.wrapping_add(step) % count)
            .find(|at| self.failed >> at & 1 == 0)?;
        (self.last, self.start) = (at, at + 1);
        addresses.get(at).copied()
    }

    /// The address that [`Tries::next`] gave last has failed.
    pub fn failed(&mut self) {
        self.failed |= 1_u64.checked_shl(u32::try_from(self.last).unwrap_or(64)).unwrap_or(0);
    }

    /// Whether every address has failed since the last other chance.
    #[must_use]
    pub fn all_failed(&self, addresses: &[SocketAddr]) -> bool {
        all(addresses.len().min(ADDRESSES_MAX)).is_none_or(|all| self.failed & all == all)
    }

    /// The last try shall not count: nothing was sent, and the address gets a moment.
    pub fn again(&mut self) {
        self.left = self.left.saturating_add(1);
    }
}

/// A bit for each of `count` addresses; none for none.
fn all(count: usize) -> Option<u64> {
    u64::MAX.checked_shr(64 - u32::try_from(count).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(count: u16) -> Vec<SocketAddr> {
        (0..count).map(|number| SocketAddr::from(([127, 0, 0, 1], number))).collect()
    }

    /// Ports of the tries of one exchange in which every try fails.
    fn tries(first: usize, retries: u32, count: u16) -> Vec<u16> {
        let addresses = addresses(count);
        let mut tries = Tries::new(first, retries);
        let all = std::iter::from_fn(|| {
            let address = tries.next(&addresses)?;
            tries.failed();
            Some(address.port())
        });
        all.collect()
    }

    #[test]
    fn a_retry_goes_elsewhere_while_it_can() {
        assert_eq!(tries(0, 5, 3), [0, 1, 2, 0, 1, 2]);
        assert_eq!(tries(1, 1, 3), [1, 2]);
        assert_eq!(tries(2, 2, 1), [0, 0, 0]);
        assert_eq!(tries(0, 0, 3), [0]);
        assert_eq!(tries(0, 5, 0), [0; 0]);
    }

    #[test]
    fn many_addresses_are_bounded() {
        let ports = tries(0, 200, 1_000);
        assert_eq!(ports.len(), 201);
        assert!(ports.iter().all(|port| usize::from(*port) < ADDRESSES_MAX));
    }
}

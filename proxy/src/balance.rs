//! Which of an upstream's addresses is asked, and which next when that fails.
//!
//! Only what the first slice needs: the addresses of one name in turn, failed ones last. Weights,
//! hashing and health come with the Upstream entity.
//!
//! Source: Kong's DNS client turns records round-robin; retries: `kong/runloop/balancer/init.lua`.

use std::net::SocketAddr;

/// Addresses of one name that are considered.
pub const ADDRESSES_MAX: usize = 64;

/// Whose turn it is among the addresses of one name, on one core.
#[derive(Debug, Clone, Copy, Default)]
pub struct Turn {
    next: usize,
}

/// The tries of one exchange: where they began and which addresses failed.
#[derive(Debug, Clone, Copy)]
pub struct Tries {
    start: usize,
    last: usize,
    /// One bit for each address that failed.
    failed: u64,
    left: u32,
}

impl Turn {
    /// Begins an exchange that may try as often as `retries` says, and once more.
    pub fn begin(&mut self, retries: u32) -> Tries {
        self.next = self.next.wrapping_add(1);
        Tries {
            start: self.next.wrapping_sub(1),
            last: 0,
            failed: 0,
            left: retries.saturating_add(1),
        }
    }
}

impl Tries {
    /// The address to try: the next in turn that has not failed in this exchange; when all have,
    /// they get another chance. `None` when no try is left, or there is no address.
    ///
    /// `addresses` must be the same for all tries of an exchange.
    pub fn next(&mut self, addresses: &[SocketAddr]) -> Option<SocketAddr> {
        let count = addresses.len().min(ADDRESSES_MAX);
        self.left = self.left.checked_sub(1)?;
        let all = u64::MAX.checked_shr(64 - u32::try_from(count).ok()?)?;
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(count: u16) -> Vec<SocketAddr> {
        (0..count).map(|number| SocketAddr::from(([127, 0, 0, 1], number))).collect()
    }

    /// Ports of the tries of one exchange in which every try fails.
    fn tries(turn: &mut Turn, retries: u32, count: u16) -> Vec<u16> {
        let addresses = addresses(count);
        let mut tries = turn.begin(retries);
        let all = std::iter::from_fn(|| {
            let address = tries.next(&addresses)?;
            tries.failed();
            Some(address.port())
        });
        all.collect()
    }

    #[test]
    fn exchanges_take_turns() {
        let (mut turn, addresses) = (Turn::default(), addresses(3));
        let ports: Vec<_> =
            (0..7).map(|_| turn.begin(5).next(&addresses).unwrap().port()).collect();
        assert_eq!(ports, [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn a_retry_goes_elsewhere_while_it_can() {
        let mut turn = Turn::default();
        assert_eq!(tries(&mut turn, 5, 3), [0, 1, 2, 0, 1, 2]);
        assert_eq!(tries(&mut turn, 1, 3), [1, 2]);
        assert_eq!(tries(&mut turn, 2, 1), [0, 0, 0]);
        assert_eq!(tries(&mut turn, 0, 3), [0]);
        assert_eq!(tries(&mut turn, 5, 0), [0; 0]);
    }

    #[test]
    fn many_addresses_are_bounded() {
        let ports = tries(&mut Turn::default(), 200, 1_000);
        assert_eq!(ports.len(), 201);
        assert!(ports.iter().all(|port| usize::from(*port) < ADDRESSES_MAX));
    }
}

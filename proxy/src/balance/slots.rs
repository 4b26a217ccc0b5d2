//! Consistent hashing: a ring of slots, each owned by one peer.
//!
//! Every peer draws a waiting time for every slot, by hashing both and by its weight alone; the
//! shortest wait owns the slot. So a peer that goes loses its slots to many, a peer that comes
//! takes some from many, and no other slot changes hands, whatever the weights are. Every node
//! draws the same, since the hashes are fixed.
//!
//! A change draws only for what changed: one peer more is one draw a slot, one less is new draws
//! for the slots that it owned.
//!
//! Source: Kong `kong/runloop/balancer/consistent_hashing.lua` (`slots`, fewer than 1,000 are
//! 1,000; its 160 points a peer, where a change of one moves some of the others, are not copied).

/// Fewer slots than this are not enough to share evenly.
pub const SLOTS_MIN: usize = 1_000;
/// Slots that are looked at, from a key's own on, for a peer that may be asked.
const WALK_MAX: usize = 256;

/// What a peer brings to the ring.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Claim {
    /// Who it is: [`hash`] of its address.
    pub seed: u64,
    /// How much it takes, relative to the others; 0 takes nothing.
    pub weight: u32,
}

/// The ring.
#[derive(Debug, Clone)]
pub struct Slots {
    slots: Box<[Slot]>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    /// Place of the owner among the claims.
    owner: u32,
    wait: f64,
}

const NOBODY: Slot = Slot { owner: u32::MAX, wait: f64::INFINITY };

impl Slots {
    /// A ring of `count` slots for these claims.
    #[must_use]
    pub fn new(count: usize, claims: &[Claim]) -> Self {
        let none = Self { slots: vec![NOBODY; count.max(SLOTS_MIN)].into() };
        none.next(&[], claims)
    }

    /// The ring after a change. `moved` tells for every claim of this ring its place among the new
    /// ones, if it is there with the same weight.
    #[must_use]
    pub fn next(&self, moved: &[Option<u32>], claims: &[Claim]) -> Self {
        let mut kept = vec![false; claims.len()];
        for place in moved.iter().flatten() {
            if let Some(kept) = kept.get_mut(*place as usize) {
                *kept = true;
            }
        }
        let (old, new): (Vec<u32>, Vec<u32>) =
            (0..claims.len() as u32).partition(|place| kept.get(*place as usize) == Some(&true));
        let slot = |(number, slot): (usize, &Slot)| {
            let stays = moved.get(slot.owner as usize).copied().flatten();
            let before = match stays {
                Some(owner) => Slot { owner, ..*slot },
                None => draw(NOBODY, number, &old, claims),
            };
            draw(before, number, &new, claims)
        };
        Self { slots: self.slots.iter().enumerate().map(slot).collect() }
    }

    /// How many slots there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no slot; there always is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The owner of a key's slot, else the first owner down the ring that may be asked. Looks at a
    /// bounded part of the ring.
    pub fn find(&self, key: u64, mut may: impl FnMut(usize) -> bool) -> Option<usize> {
        let count = self.slots.len();
        let first = ((u128::from(key) * count as u128) >> 64) as usize;
        let mut last = NOBODY.owner;
        for step in 0..count.min(WALK_MAX) {
            let slot = self.slots.get((first + count - step) % count)?;
            if slot.owner != last && slot.owner != NOBODY.owner && may(slot.owner as usize) {
                return Some(slot.owner as usize);
            }
            last = slot.owner;
        }
        None
    }
}

/// The best of a slot's owner so far and those who draw for it.
fn draw(mut best: Slot, number: usize, drawing: &[u32], claims: &[Claim]) -> Slot {
    for place in drawing {
        let Some(claim) = claims.get(*place as usize).filter(|claim| claim.weight > 0) else {
            continue;
        };
        // Within (0, 1]; what is missing to 1 is never more than the wait, and much cheaper.
        let bits = mix(claim.seed ^ mix(number as u64 + 1));
        let lot = ((bits >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        let weight = f64::from(claim.weight);
        if (1.0 - lot) / weight <= best.wait {
            let wait = -lot.ln() / weight;
            if wait < best.wait {
                best = Slot { owner: *place, wait };
            }
        }
    }
    best
}

/// A fixed hash: the same on every node and in every version.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    let sum = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(sum)
}

/// Spreads 64 bits over 64 bits (the finish of splitmix64).
const fn mix(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::samples::Random;

    fn claims(weights: &[u32]) -> Vec<Claim> {
        let claim = |(at, weight): (usize, &u32)| Claim {
            seed: hash(format!("10.0.{}.{}:80", at / 250, at % 250).as_bytes()),
            weight: *weight,
        };
        weights.iter().enumerate().map(claim).collect()
    }

    fn owners(slots: &Slots) -> Vec<u32> {
        slots.slots.iter().map(|slot| slot.owner).collect()
    }

    /// Every random change gives the ring that those claims give from nothing, and moves only
    /// slots of the peer that changed.
    #[test]
    fn only_the_keys_of_what_changed_move() {
        for seed in 1..=40_u64 {
            let mut random = Random(seed);
            let count = 2 + random.below(30) as usize;
            let weights: Vec<u32> = (0..count).map(|_| random.below(200) as u32).collect();
            let mut all = claims(&weights);
            let before = Slots::new(2_000, &all);
            let changed = random.below(count as u64) as usize;
            let mut moved: Vec<_> = (0..count as u32).map(Some).collect();
            if random.below(2) == 0 {
                all[changed].weight += 1 + random.below(300) as u32;
                moved[changed] = None;
            } else {
                all.remove(changed);
                moved.iter_mut().skip(changed).for_each(|to| *to = to.map(|to| to.max(1) - 1));
                moved[changed] = None;
            }
            let after = before.next(&moved, &all);
            let fresh = Slots::new(2_000, &all);
            assert_eq!(owners(&after), owners(&fresh), "seed {seed}");
            let removed = all.len() < count;
            for (was, is) in owners(&before).into_iter().zip(owners(&after)) {
                let same = was != NOBODY.owner && moved[was as usize] == Some(is);
                let touched = was as usize == changed || (!removed && is as usize == changed);
                assert!(same || touched || was == is, "seed {seed}: a slot of {was} went to {is}");
            }
        }
    }

    #[test]
    fn one_of_a_thousand_moves_a_thousandth() {
        let mut all = claims(&[100; 1_000]);
        let before = Slots::new(10_000, &all);
        let gone = all.pop().unwrap();
        let moved: Vec<_> = (0..1_000).map(|at| (at < 999).then_some(at)).collect();
        let after = before.next(&moved, &all);
        let differ = |a: &Slots, b: &Slots| {
            owners(a).into_iter().zip(owners(b)).filter(|(a, b)| a != b).count()
        };
        let of_the_last = owners(&before).into_iter().filter(|owner| *owner == 999).count();
        assert_eq!(differ(&before, &after), of_the_last);
        assert!((1..60).contains(&of_the_last), "{of_the_last} of 10,000");
        all.push(gone);
        let moved: Vec<_> = (0..999).map(Some).collect();
        let back = after.next(&moved, &all);
        assert_eq!(differ(&before, &back), 0, "who comes back gets its own slots");
    }

    #[test]
    fn slots_are_shared_by_weight() {
        for seed in 1..=20_u64 {
            let mut random = Random(seed);
            let weights: Vec<u32> = (0..5).map(|_| 1 + random.below(100) as u32).collect();
            let slots = Slots::new(10_000, &claims(&weights));
            let sum: u32 = weights.iter().sum();
            for (at, weight) in weights.iter().enumerate() {
                let owned = owners(&slots).into_iter().filter(|owner| *owner == at as u32).count();
                let share = 10_000.0 * f64::from(*weight) / f64::from(sum);
                let deviation = share.sqrt();
                assert!(
                    (owned as f64 - share).abs() < 5.0 * deviation + 1.0,
                    "seed {seed}: {weights:?}: {owned} for {share}"
                );
            }
        }
    }

    /// Shares of many keys among peers of equal weight.
    #[test]
    fn keys_are_spread_over_slots() {
        let slots = Slots::new(10_000, &claims(&[1; 4]));
        let mut met = [0; 4];
        for key in 0..20_000 {
            let key = hash(format!("user-{key}").as_bytes());
            met[slots.find(key, |_| true).unwrap()] += 1;
        }
        assert!(met.iter().all(|met| (4_300..5_700).contains(met)), "{met:?}");
    }

    #[test]
    fn who_may_not_be_asked_is_passed_by() {
        let slots = Slots::new(1_000, &claims(&[10, 10, 10]));
        for key in 0..200_u64 {
            let key = hash(&key.to_le_bytes());
            let own = slots.find(key, |_| true).unwrap();
            let other = slots.find(key, |at| at != own).unwrap();
            assert_ne!(own, other);
            assert_eq!(slots.find(key, |at| at == own), Some(own));
            assert_eq!(slots.find(key, |_| false), None);
        }
        assert_eq!(Slots::new(10, &[]).find(5, |_| true), None);
        assert_eq!(Slots::new(10, &claims(&[0])).find(5, |_| true), None);
        assert_eq!(Slots::new(10, &claims(&[1])).len(), SLOTS_MIN);
    }

    /// A change of this hash would send every client of every cluster elsewhere.
    #[test]
    fn the_hash_is_fixed() {
        assert_eq!(hash(b""), 0xc381_7c01_6ba4_ff30);
        assert_eq!(hash(b"alice"), 0x1a04_6f57_3e1e_5475);
    }
}

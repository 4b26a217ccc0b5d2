//! What is kept is found, by its core at once, and memory stays within the bound.

use super::*;
use std::rc::Rc;

use proptest::prelude::*;

const MIB: usize = 1 << 20;

fn entry(number: u16, bytes: usize, ends_us: u64) -> Entry {
    let mut key = [0; 32];
    key[..2].copy_from_slice(&number.to_be_bytes());
    Entry { key, status: 200, body: vec![7; bytes].into(), ends_us, ..Entry::default() }
}

/// A keeper, and two cores whose entries it takes in when it is told to.
struct Node {
    keeper: Arc<Keeper>,
    waiting: Rc<RefCell<Vec<Arc<Entry>>>>,
    cores: [Cache; 2],
}

fn node(bytes_max: usize) -> Node {
    let keeper = Arc::new(Keeper::new(2, bytes_max));
    let waiting = Rc::new(RefCell::new(Vec::new()));
    let cores = [0, 1].map(|core| {
        let waiting = Rc::clone(&waiting);
        let asker = Asker::scripted(move |entry: Parcel| {
            waiting.borrow_mut().extend(entry);
            Some(())
        });
        Cache::new(&keeper, asker, core)
    });
    Node { keeper, waiting, cores }
}

impl Node {
    fn take(&self) {
        self.keeper.take(self.waiting.take().into_iter());
    }

    fn found(&self, core: usize, number: u16) -> Option<usize> {
        self.cores[core].look(&entry(number, 0, 0).key, 10, |entry| entry.body.len())
    }
}

#[test]
fn a_core_finds_its_own_at_once_and_others_after_the_keeper() {
    let node = node(64 * MIB);
    assert!(node.cores[0].keep(entry(1, 5, 99)));
    assert_eq!((node.found(0, 1), node.found(1, 1)), (Some(5), None));
    node.take();
    assert_eq!((node.found(0, 1), node.found(1, 1)), (Some(5), Some(5)));
    assert!(node.cores[1].keep(entry(1, 6, 99)));
    assert_eq!((node.found(0, 1), node.found(1, 1)), (Some(5), Some(6)));
    node.take();
    assert_eq!((node.found(0, 1), node.found(1, 1)), (Some(6), Some(6)));
    assert_eq!(node.keeper.size(), (1, 6 + ENTRY_OVERHEAD_BYTES));
    node.cores.iter().for_each(Cache::sweep);
}

#[test]
fn a_core_sees_that_an_entry_of_another_is_coming() {
    let node = node(64 * MIB);
    let coming = |core: usize, number| node.cores[core].is_coming(&entry(number, 0, 0).key);
    assert!(!coming(0, 1) && !coming(1, 1));
    assert!(node.cores[0].keep(entry(1, 5, 99)));
    assert!(!coming(0, 1), "it finds its own without waiting");
    assert!(coming(1, 1) && !coming(1, 2));
    node.cores[0].sweep();
    assert!(coming(1, 1), "it is still on its way");
    node.take();
    node.cores[0].sweep();
    assert!(!coming(1, 1) && node.found(1, 1) == Some(5));
}

#[test]
fn the_admin_api_sees_what_cores_have_sent_before() {
    let node = node(64 * MIB);
    assert!(node.cores[0].keep(entry(1, 5, 99)) && node.cores[1].keep(entry(2, 5, 99)));
    let (keeper, sent) = (Arc::clone(&node.keeper), node.waiting.take());
    let taker = std::thread::spawn(move || {
        for entry in sent {
            std::thread::sleep(std::time::Duration::from_millis(5));
            keeper.take(std::iter::once(entry));
        }
    });
    node.keeper.settle();
    node.keeper.clear();
    assert_eq!(node.keeper.size(), (0, 0));
    taker.join().unwrap();
    assert_eq!(node.keeper.size(), (0, 0), "nothing came behind");
}

#[test]
fn what_has_ended_is_not_found_and_goes() {
    let node = node(64 * MIB);
    assert!(node.cores[0].keep(entry(1, 5, 10)) && node.cores[0].keep(entry(2, 5, 11)));
    assert_eq!((node.found(0, 1), node.found(0, 2)), (None, Some(5)));
    node.take();
    assert_eq!((node.found(1, 1), node.found(1, 2)), (None, Some(5)));
    assert!(node.keeper.get(&entry(1, 0, 0).key, 10).is_none());
    (0..SHARDS).for_each(|_| node.keeper.sweep(10));
    assert_eq!(node.keeper.size().0, 1);
}

#[test]
fn what_is_forgotten_is_not_found() {
    let node = node(64 * MIB);
    for number in 0..9 {
        assert!(node.cores[0].keep(entry(number, 5, 99)));
    }
    node.take();
    assert!(node.keeper.forget(&entry(3, 0, 0).key) && !node.keeper.forget(&entry(3, 0, 0).key));
    assert_eq!((node.found(0, 3), node.found(1, 3), node.found(1, 4)), (None, None, Some(5)));
    node.keeper.clear();
    assert_eq!((node.found(0, 4), node.keeper.size()), (None, (0, 0)));
}

#[test]
fn what_is_under_way_is_bounded() {
    let node = node(1024 * MIB);
    let kept = (0..100).filter(|number| node.cores[0].keep(entry(*number, MIB, 99))).count();
    assert_eq!(kept, 15);
    node.take();
    assert_eq!(node.found(0, 1), Some(MIB), "which also forgets what was taken in");
    assert!(node.cores[0].keep(entry(1, MIB, 99)));
}

#[test]
fn an_entry_that_is_too_large_is_not_kept() {
    let node = node(MIB);
    assert!(!node.cores[0].keep(entry(1, MIB / 8, 99)));
    assert!(node.cores[0].keep(entry(1, MIB / 8 - ENTRY_OVERHEAD_BYTES, 99)));
    assert!(!Cache::none().keep(entry(1, 1, 99)));
}

proptest! {
    /// Under any order of keeping, taking in and forgetting: never above the bound, sums that are
    /// right, and what is found is the newest of its key.
    #[test]
    fn memory_stays_within_the_bound(
        steps in prop::collection::vec(
            (0_u8..10, any::<bool>(), 0_u16..40, 0_usize..6_000),
            1..300,
        ),
    ) {
        let bytes_max = 64 * 1024;
        let node = node(bytes_max);
        let mut newest = std::collections::HashMap::new();
        for (what, core, number, bytes) in steps {
            match what {
                0..7 => {
                    prop_assert!(node.cores[usize::from(core)].keep(entry(number, bytes, 99)));
                    newest.insert(number, bytes);
                    node.take();
                }
                7 => {
                    node.keeper.forget(&entry(number, 0, 0).key);
                    newest.remove(&number);
                }
                8 => node.keeper.sweep(11),
                _ => {
                    node.keeper.clear();
                    newest.clear();
                }
            }
            let (entries, bytes) = node.keeper.size();
            prop_assert!(bytes <= bytes_max);
            let found: Vec<_> = (0..40).filter_map(|n| Some((n, node.found(0, n)?))).collect();
            prop_assert_eq!(found.len(), entries);
            let sum: usize = found.iter().map(|(_, bytes)| bytes + ENTRY_OVERHEAD_BYTES).sum();
            prop_assert_eq!(sum, bytes);
            for (number, bytes) in found {
                prop_assert_eq!(newest.get(&number), Some(&bytes));
            }
        }
    }
}

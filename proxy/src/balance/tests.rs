//! Tests of the balancer: who is picked, by every algorithm.

use super::samples::Random;
use super::tries::Tries;
use super::*;
use marks::Sign;

const NOW_US: u64 = 100_000_000;

fn seats(weights: &[u32]) -> Vec<Seat> {
    let seat = |(at, weight): (usize, &u32)| Seat {
        address: SocketAddr::from(([10, 0, (at / 250) as u8, (at % 250) as u8], 80)),
        weight: *weight,
        host: "h".into(),
        host_port: "h:80".into(),
        vital: Arc::default(),
    };
    weights.iter().enumerate().map(seat).collect()
}

fn balancer(algorithm: Algorithm, weights: &[u32]) -> Balancer {
    Balancer::new(Arc::new(Upstream::sample(algorithm)), seats(weights), false, None)
}

/// The same seats after a mark or a measurement.
fn again(before: &Balancer) -> Balancer {
    Balancer::new(Arc::clone(&before.upstream), before.seats.to_vec(), false, Some(before))
}

fn mark(balancer: &Balancer, place: usize, good: bool) {
    if balancer.seats[place].vital.marks.set(good).is_some() {
        balancer.turned();
    }
}

fn counts(balancer: &Balancer, picks: u64) -> Vec<usize> {
    let mut met = vec![0; balancer.seats.len()];
    for key in 0..picks {
        if let Some(at) = balancer.pick(slots::hash(&key.to_le_bytes()), NOW_US, |_| true) {
            met[at as usize] += 1;
        }
    }
    met
}

const ALL: [Algorithm; 4] = [
    Algorithm::RoundRobin,
    Algorithm::ConsistentHashing,
    Algorithm::LeastConnections,
    Algorithm::Latency,
];

#[test]
fn turns_are_shared_by_weight_also_between_threads() {
    assert_eq!(counts(&balancer(Algorithm::RoundRobin, &[100, 100]), 10), [5, 5]);
    assert_eq!(counts(&balancer(Algorithm::RoundRobin, &[30, 10]), 16), [12, 4]);
    let shared = balancer(Algorithm::RoundRobin, &[3, 2, 1]);
    let met: Vec<Vec<usize>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| counts(&shared, 200))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let sum = |at: usize| met.iter().map(|met| met[at]).sum::<usize>();
    assert_eq!([sum(0), sum(1), sum(2)], [300, 200, 100]);
}

#[test]
fn nobody_is_picked_where_nobody_may_be_asked() {
    for algorithm in ALL {
        assert_eq!(balancer(algorithm, &[]).pick(1, NOW_US, |_| true), None);
        let one = balancer(algorithm, &[10]);
        mark(&one, 0, false);
        assert_eq!(one.pick(1, NOW_US, |_| true), None, "{algorithm:?}");
        assert_eq!(again(&one).pick(1, NOW_US, |_| true), None, "{algorithm:?}");
    }
}

/// A marked peer is left out at once, also by balancers made before the mark, and comes back.
#[test]
fn marks_count_at_once() {
    for algorithm in ALL {
        let before = balancer(algorithm, &[10, 10, 10]);
        mark(&before, 1, false);
        assert!(before.has_turned());
        let after = again(&before);
        assert!(!after.has_turned());
        for balancer in [&before, &after] {
            let met = counts(balancer, 600);
            assert_eq!((met[1], met.iter().sum::<usize>()), (0, 600), "{algorithm:?}");
        }
        mark(&after, 1, true);
        let healed = again(&after);
        assert_eq!(healed.open.len(), 3);
        if algorithm != Algorithm::Latency {
            assert!(counts(&healed, 600)[1] > 100, "{algorithm:?}");
        }
    }
}

#[test]
fn many_marked_peers_are_passed_by() {
    for algorithm in ALL {
        let all = balancer(algorithm, &[1; 1_000]);
        (0..1_000).filter(|at| *at != 777).for_each(|at| {
            all.seats[at].vital.marks.set(false);
        });
        all.turned();
        assert_eq!(all.pick(5, NOW_US, |_| true), Some(777), "{algorithm:?}");
        assert_eq!(*again(&all).open, [777]);
    }
}

/// Weights, the marked places, the threshold, whether the balancer is healthy.
#[track_caller]
fn check_threshold(weights: &[u32], marked: &[usize], threshold: f64, healthy: bool) {
    let upstream = Upstream { threshold, ..Upstream::sample(Algorithm::RoundRobin) };
    let balancer = Balancer::new(Arc::new(upstream), seats(weights), false, None);
    marked.iter().for_each(|at| mark(&balancer, *at, false));
    assert_eq!(balancer.is_healthy(), healthy, "{weights:?} without {marked:?} at {threshold} %");
    assert_eq!(again(&balancer).is_healthy(), healthy);
    assert_eq!(balancer.pick(1, NOW_US, |_| true).is_some(), healthy);
}

#[test]
fn more_than_the_threshold_must_be_open() {
    check_threshold(&[10, 10], &[], 0.0, true);
    check_threshold(&[10, 10], &[0], 0.0, true);
    check_threshold(&[10, 10], &[0, 1], 0.0, false);
    check_threshold(&[10, 10], &[0], 49.9, true);
    check_threshold(&[10, 10], &[0], 50.0, false);
    check_threshold(&[30, 10], &[1], 74.0, true);
    check_threshold(&[30, 10], &[0], 25.0, false);
    check_threshold(&[10], &[], 100.0, false);
    check_threshold(&[], &[], 0.0, false);
}

#[test]
fn fewest_requests_for_its_weight() {
    let balancer = balancer(Algorithm::LeastConnections, &[20, 10]);
    let mut held = Vec::new();
    let mut met = [0, 0];
    for _ in 0..30 {
        let at = balancer.pick(0, NOW_US, |_| true).unwrap() as usize;
        met[at] += 1;
        held.push(balancer.lease(&balancer.seats[at], NOW_US));
    }
    assert_eq!(met, [20, 10], "requests under way stand as the weights do");
    held.clear();
    let idle = (0..10).map(|_| balancer.pick(0, NOW_US, |_| true).unwrap());
    assert!(idle.into_iter().all(|at| at == 0), "idle peers: the heaviest");
}

#[test]
fn idle_peers_of_equal_weight_take_turns() {
    let met = counts(&balancer(Algorithm::LeastConnections, &[10, 10]), 8);
    assert_eq!(met, [4, 4]);
}

#[test]
fn the_fastest_for_its_weight() {
    let balancer = balancer(Algorithm::Latency, &[10, 10, 30]);
    for (at, pace_us) in [(0, 900.0), (1, 300.0), (2, 1_200.0)] {
        balancer.seats[at].vital.set_pace(pace_us, NOW_US);
    }
    assert_eq!(balancer.pick(0, NOW_US, |_| true), Some(1));
    balancer.seats[2].vital.set_pace(600.0, NOW_US);
    assert_eq!(balancer.pick(0, NOW_US, |_| true), Some(2));
    assert_eq!(balancer.pick(0, NOW_US, |at| at != 2), Some(1));
}

/// Among many, so few are compared that a pick costs the same, and none is forgotten.
#[test]
fn among_many_all_have_their_chance() {
    let balancer = balancer(Algorithm::LeastConnections, &[10; 1_000]);
    let held: Vec<_> = (0..20_000)
        .map(|_| {
            let at = balancer.pick(0, NOW_US, |_| true).unwrap() as usize;
            balancer.lease(&balancer.seats[at], NOW_US)
        })
        .collect();
    let busy: Vec<u32> = balancer.seats.iter().map(|seat| seat.vital.busy()).collect();
    assert!(busy.iter().all(|busy| (16..=24).contains(busy)), "{busy:?}");
    drop(held);
}

#[test]
fn a_key_stays_with_its_peer() {
    let balancer = balancer(Algorithm::ConsistentHashing, &[10; 20]);
    for key in 0..200_u64 {
        let key = slots::hash(&key.to_le_bytes());
        let first = balancer.pick(key, NOW_US, |_| true);
        assert_eq!(first, balancer.pick(key, NOW_US, |_| true));
        assert_eq!(first, again(&balancer).pick(key, NOW_US, |_| true));
        assert_ne!(first, balancer.pick(key, NOW_US, |at| Some(at) != first), "a try elsewhere");
    }
}

/// A peer that is marked and healed gets exactly its own keys back.
#[test]
fn keys_of_others_stay_while_a_peer_is_out() {
    for seed in 1..=20_u64 {
        let mut random = Random(seed);
        let weights: Vec<u32> = (0..12).map(|_| 1 + random.below(100) as u32).collect();
        let all = balancer(Algorithm::ConsistentHashing, &weights);
        let out = random.below(12) as usize;
        let keys: Vec<u64> = (0..500_u64).map(|key| slots::hash(&key.to_le_bytes())).collect();
        let picks = |balancer: &Balancer| -> Vec<_> {
            keys.iter().map(|key| balancer.pick(*key, NOW_US, |_| true).unwrap()).collect()
        };
        let before = picks(&all);
        mark(&all, out, false);
        let without = again(&all);
        for (was, is) in before.iter().zip(picks(&without)) {
            assert!(*was == is || *was as usize == out, "seed {seed}");
        }
        mark(&without, out, true);
        assert_eq!(before, picks(&again(&without)), "seed {seed}");
    }
}

/// Places of the tries of an exchange in which every try fails.
fn tried(balancer: &Balancer, retries: u32) -> Vec<u32> {
    let mut tries = Tries::new(7, retries);
    let all = std::iter::from_fn(|| {
        let place = tries.next(balancer, NOW_US)?;
        tries.failed();
        Some(place)
    });
    all.collect()
}

#[test]
fn a_retry_goes_elsewhere_while_it_can() {
    for algorithm in ALL {
        let balancer = balancer(algorithm, &[10, 10, 10]);
        let all = tried(&balancer, 5);
        for three in all.chunks(3) {
            let mut three = three.to_vec();
            three.sort_unstable();
            assert_eq!(three, [0, 1, 2], "{algorithm:?}: {all:?}");
        }
        assert_eq!(tried(&balancer, 0).len(), 1);
        assert_eq!(tried(&super::tests::balancer(algorithm, &[10]), 3), [0; 4]);
        assert_eq!(tried(&super::tests::balancer(algorithm, &[]), 3), [0; 0]);
    }
}

#[test]
fn tries_end_when_the_last_peer_is_marked() {
    let balancer = balancer(Algorithm::RoundRobin, &[10]);
    let mut tries = Tries::new(0, 5);
    assert_eq!(tries.next(&balancer, NOW_US), Some(0));
    tries.failed();
    assert_eq!(balancer.seats[0].vital.marks.note(Sign::TcpFailure, 1), Some(false));
    balancer.turned();
    assert_eq!((tries.next(&balancer, NOW_US), tries.is_over()), (None, false));
}

#[test]
fn a_handshake_knows_neither_brackets_nor_ports() {
    for (host, expected) in [
        ("a.example", "a.example"),
        ("a.example:8443", "a.example"),
        ("10.0.0.1", "10.0.0.1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:8443", "2001:db8::1"),
    ] {
        let seat = Seat { host: host.into(), ..seats(&[1]).remove(0) };
        assert_eq!(seat.tls_name(), expected);
    }
}

#[test]
fn the_host_line_has_a_port_unless_it_is_the_usual_one() {
    for (port, tls, expected) in [
        (80, false, "h"),
        (80, true, "h:p"),
        (443, true, "h"),
        (443, false, "h:p"),
        (8_000, false, "h:p"),
    ] {
        let address = SocketAddr::from(([10, 0, 0, 1], port));
        let (host, host_port) = ("h".into(), "h:p".into());
        let seat = Seat { address, weight: 1, host, host_port, vital: Arc::default() };
        assert_eq!(seat.host_line(tls), expected, "{port} {tls}");
    }
}

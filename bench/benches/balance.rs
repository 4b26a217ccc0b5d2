//! Choosing a peer: the cost must not grow with their number, by any algorithm.

#![allow(clippy::unwrap_used, reason = "a benchmark stops where it is wrong")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use proxy::balance::slots::{Claim, Slots, hash};
use proxy::balance::turns::Turns;
use proxy::balance::upstream::{Algorithm, Upstream};
use proxy::balance::{Balancer, Seat};
use serde_json::json;

fn seats(count: usize) -> Vec<Seat> {
    let seat = |at: usize| Seat {
        address: SocketAddr::from(([10, 0, (at / 250) as u8, (at % 250) as u8], 80)),
        weight: 1 + (at % 100) as u32,
        host: "h".into(),
        host_port: "h:80".into(),
        vital: Arc::default(),
    };
    (0..count).map(seat).collect()
}

fn upstream(algorithm: Algorithm) -> Arc<Upstream> {
    let catalogue = proxy::keeper::catalogue(Vec::new(), &[], Vec::new(), false);
    let row = store::script::row(&catalogue, "upstreams", &json!({ "name": "up" })).unwrap();
    let upstream = Upstream::from_row(&row).unwrap();
    Arc::new(Upstream { algorithm, ..(*upstream).clone() })
}

fn pick(bench: &mut Criterion) {
    for (name, algorithm) in [
        ("round-robin", Algorithm::RoundRobin),
        ("consistent-hashing", Algorithm::ConsistentHashing),
        ("least-connections", Algorithm::LeastConnections),
        ("latency", Algorithm::Latency),
    ] {
        for count in [3, 1_000] {
            let balancer = Balancer::new(upstream(algorithm), seats(count), false, None);
            let mut key = 0_u64;
            bench.bench_function(&format!("balance/{name}/{count}"), |bench| {
                bench.iter(|| {
                    key = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
                    black_box(balancer.pick(key, 1_000_000, |_| true))
                });
            });
        }
    }
}

fn change(bench: &mut Criterion) {
    let claims: Vec<Claim> = (0..1_000_u64)
        .map(|at| Claim { seed: hash(&at.to_le_bytes()), weight: 1 + (at % 100) as u32 })
        .collect();
    let ring = Slots::new(10_000, &claims);
    let moved: Vec<Option<u32>> = (0..1_000).map(|at| (at < 999).then_some(at)).collect();
    bench.bench_function("balance/ring/one-of-1000-goes", |bench| {
        bench.iter(|| black_box(ring.next(&moved, &claims[..999])));
    });
    let weights: Vec<u32> = claims.iter().map(|claim| claim.weight).collect();
    bench.bench_function("balance/turns/1000", |bench| {
        bench.iter(|| black_box(Turns::new(&weights)));
    });
}

criterion_group!(benches, pick, change);
criterion_main!(benches);

//! The road without a kernel: connections, routes, plugins and upstreams of one core between
//! scripted clients and services, with a virtual clock and faults drawn from a seed.
//!
//! What must hold in every world: each request gets exactly one well-framed answer, its own, or its
//! connection ends; nothing that may have been processed is asked again; no byte of one exchange is
//! seen in another; nobody hangs; connections, pages, captured bytes and counted requests are given
//! back; each exchange is reported once, before its answer has ended.
//!
//! A seed that fails is printed; `TOLLGATE_SIMULATION_SEED=N cargo test -p proxy --test simulation`
//! runs its world alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "simulation/ask.rs"]
mod ask;
#[path = "simulation/client.rs"]
mod client;
#[path = "simulation/line.rs"]
mod line;
#[path = "simulation/rows.rs"]
mod rows;
#[path = "simulation/upstream.rs"]
mod upstream;
#[path = "simulation/witness.rs"]
mod witness;
#[path = "simulation/world.rs"]
mod world;

use std::ops::Range;

/// The variable that names the one seed to run.
const ONE_SEED: &str = "TOLLGATE_SIMULATION_SEED";
/// Threads that run worlds side by side.
const THREADS: u64 = 2;

/// Runs the worlds of these seeds; panics with those that fail.
#[track_caller]
fn check(seeds: Range<u64>) {
    let one = std::env::var(ONE_SEED).ok().and_then(|seed| seed.parse().ok());
    let seeds = one.map_or(seeds, |seed: u64| seed..seed + 1);
    let panics = runtime::io::panics();
    let ran: Vec<(u64, Result<usize, Vec<String>>)> = std::thread::scope(|scope| {
        let part = |first: u64| {
            let seeds = seeds.clone().skip(first as usize).step_by(THREADS as usize);
            scope.spawn(move || seeds.map(|seed| (seed, world::run(seed))).collect::<Vec<_>>())
        };
        let threads: Vec<_> = (0..THREADS).map(part).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut own = 0;
    let mut failed = Vec::new();
    for (seed, result) in ran {
        match result {
            Ok(answers) => own += answers,
            Err(faults) => failed.push((seed, faults)),
        }
    }
    failed.sort_unstable();
    for (seed, faults) in failed.iter().take(20) {
        println!("{ONE_SEED}={seed}: {}", faults.join("\n    "));
    }
    assert!(failed.is_empty(), "{} worlds of {seeds:?} fail", failed.len());
    assert_eq!(runtime::io::panics(), panics, "a task of the gateway panicked");
    let worlds = (seeds.end - seeds.start) as usize;
    assert!(one.is_some() || own > worlds, "{own} answers in {worlds} worlds prove little");
}

#[test]
fn what_must_hold_holds_in_the_worlds_of_the_first_seeds() {
    check(0..300);
}

#[test]
#[ignore = "takes a minute"]
fn what_must_hold_holds_in_ten_thousand_worlds() {
    check(0..10_000);
}

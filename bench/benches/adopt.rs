//! Adopting a new configuration on a core: what it adds to one turn of the loop.
//!
//! Budget: under 50 µs for any single turn, at 1,000,000 credentials (DESIGN section 7). The
//! machine interrupts a thread now and then for longer than that, so a turn that adopts and one
//! that has nothing to adopt are measured in pairs, one right after the other, and the upper ends
//! of both are printed: what adopting adds to the longest turns is their difference. Times are the
//! thread's CPU time, which does not count that others had the CPU.

#![allow(clippy::unwrap_used, reason = "a benchmark stops where it is wrong")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use plugins::pdk::Snapshot;
use proxy::plan::Slots;
use proxy::roadmap::Roadmap;
use proxy::route::{Flavor, Router};
use proxy::upstream_tls::UpstreamTls;
use runtime::board::{Board, View};
use serde_json::json;
use store::schema::Catalogue;
use store::script;
use store::snapshot::Tables;

const COUNTS: [usize; 2] = [100_000, 1_000_000];

/// What this thread has had of a CPU.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

fn catalogue() -> Catalogue {
    let specs = proxy::engine::specs();
    let schemas = specs.iter().map(|spec| &spec.schema).collect();
    let owned: Vec<_> = specs.iter().flat_map(|spec| spec.entities.iter().copied()).collect();
    let enabled = specs.iter().map(|spec| spec.schema.name.to_owned()).collect();
    Arc::unwrap_or_clone(proxy::keeper::catalogue(schemas, &owned, enabled, false))
}

/// One consumer, and so many keys of his.
fn filled(catalogue: &Catalogue, count: usize) -> (Tables, String) {
    let consumer = script::row(catalogue, "consumers", &json!({"username": "a"})).unwrap();
    let mut tables = Tables::new(catalogue);
    tables.put(&consumer).unwrap();
    let owner = consumer.id().to_string();
    for number in 0..count {
        put_key(catalogue, &mut tables, &owner, number);
    }
    (tables, owner)
}

fn put_key(catalogue: &Catalogue, tables: &mut Tables, owner: &str, number: usize) {
    let id = uuid::Uuid::from_u128(number as u128 + 1);
    let key =
        json!({"id": id.to_string(), "key": format!("key-{number}"), "consumer": {"id": owner}});
    let row = script::row(catalogue, "keyauth_credentials", &key).unwrap();
    tables.put(&row).unwrap();
}

/// One turn of the loop: the newest is looked up, what an exchange held is let go.
fn turn<Held>(view: &View<Snapshot>, held: Held) -> Duration {
    let begun = cpu();
    black_box(view.get());
    drop(held);
    view.sweep();
    cpu() - begun
}

/// The upper ends of both kinds of turns, side by side.
fn tell(count: usize, adopting: &mut [Duration], idle: &mut [Duration]) {
    adopting.sort_unstable();
    idle.sort_unstable();
    println!("adopt/{count}: {} turns of each kind, the longest last", adopting.len());
    for share in [0.5, 0.9, 0.99, 0.999, 0.9999, 1.0] {
        let at = |turns: &[Duration]| turns[((turns.len() - 1) as f64 * share) as usize];
        let (with, without) = (at(adopting), at(idle));
        println!("  {share}: adopting {with:?}, nothing to adopt {without:?}");
    }
}

fn adopt(c: &mut Criterion) {
    let catalogue = catalogue();
    let slots = Arc::new(Slots::new(proxy::engine::specs().iter().copied()));
    let tls = Arc::new(UpstreamTls::usual().unwrap());
    let mut group = c.benchmark_group("adopt");
    group.sample_size(20);
    for count in COUNTS {
        let (mut tables, owner) = filled(&catalogue, count);
        let snapshot = |number, tables: &Tables| {
            let road = Box::new(Roadmap::empty(
                Arc::clone(&slots),
                Arc::clone(&tls),
                Router::empty(Flavor::Compatible),
            ));
            Arc::new(Snapshot { number, tables: Arc::new(tables.clone()), road })
        };
        let board = Arc::new(Board::new(snapshot(0, &tables)));
        let view = Board::view(&board);
        let (mut adopting, mut idle, mut changes) = (Vec::new(), Vec::new(), 0);
        group.bench_function(BenchmarkId::from_parameter(count), |bench| {
            bench.iter_custom(|times| {
                let mut whole = Duration::ZERO;
                for _ in 0..times {
                    changes += 1;
                    put_key(&catalogue, &mut tables, &owner, count + changes % 1_000);
                    // An exchange still holds what is replaced, as on a busy core.
                    let held = view.get();
                    board.publish(snapshot(changes as u64, &tables));
                    let took = turn(&view, held);
                    adopting.push(took);
                    whole += took;
                    idle.push(turn(&view, view.get()));
                }
                whole
            });
        });
        tell(count, &mut adopting, &mut idle);
    }
    group.finish();
}

criterion_group!(benches, adopt);
criterion_main!(benches);

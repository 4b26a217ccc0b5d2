//! Adopting a new configuration on a core: what it adds to one turn of the loop.
//!
//! Budget (issue of the first slice): under 50 µs at 100,000 credentials, for any single turn, so
//! the longest is printed beside criterion's mean, by the wall clock and by the thread's CPU time,
//! which does not count that others had the CPU. DESIGN section 7 wants the same at 1,000,000.

#![allow(clippy::unwrap_used, reason = "a benchmark stops where it is wrong")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use plugins::pdk::Snapshot;
use proxy::plan::Slots;
use proxy::roadmap::Roadmap;
use proxy::route::Flavor;
use proxy::upstream_tls::UpstreamTls;
use runtime::board::Board;
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

fn adopt(c: &mut Criterion) {
    let catalogue = catalogue();
    let slots = Arc::new(Slots::new(proxy::engine::specs().iter().copied()));
    let tls = Arc::new(UpstreamTls::usual().unwrap());
    let mut group = c.benchmark_group("adopt");
    group.sample_size(20);
    for count in COUNTS {
        let (mut tables, owner) = filled(&catalogue, count);
        let snapshot = |number, tables: &Tables| {
            let road =
                Box::new(Roadmap::empty(Arc::clone(&slots), Arc::clone(&tls), Flavor::Compatible));
            Arc::new(Snapshot { number, tables: Arc::new(tables.clone()), road })
        };
        let board = Arc::new(Board::new(snapshot(0, &tables)));
        let view = Board::view(&board);
        let (mut longest, mut longest_cpu, mut changes) = (Duration::ZERO, Duration::ZERO, 0);
        group.bench_function(BenchmarkId::from_parameter(count), |bench| {
            bench.iter_custom(|times| {
                let mut whole = Duration::ZERO;
                for _ in 0..times {
                    changes += 1;
                    put_key(&catalogue, &mut tables, &owner, count + changes % 1_000);
                    // An exchange still holds what is replaced, as on a busy core.
                    let held = view.get();
                    board.publish(snapshot(changes as u64, &tables));
                    let (begun_cpu, begun) = (cpu(), Instant::now());
                    black_box(view.get());
                    drop(held);
                    view.sweep();
                    let took = begun.elapsed();
                    longest = longest.max(took);
                    longest_cpu = longest_cpu.max(cpu() - begun_cpu);
                    whole += took;
                }
                whole
            });
        });
        println!("adopt/{count}: longest of {changes} turns {longest:?}, CPU {longest_cpu:?}");
        // The same without anything to adopt, beside as much other work: what the machine does to
        // the longest turn by itself.
        let mut idle = Duration::ZERO;
        for change in 0..changes {
            put_key(&catalogue, &mut tables, &owner, count + change % 1_000);
            drop(snapshot(0, &tables));
            let begun = cpu();
            black_box(view.get());
            view.sweep();
            idle = idle.max(cpu() - begun);
        }
        println!("adopt/{count}: longest of as many turns with nothing to adopt, CPU {idle:?}");
    }
    group.finish();
}

criterion_group!(benches, adopt);
criterion_main!(benches);

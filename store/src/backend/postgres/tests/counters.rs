//! Counters that nodes share.

use super::super::metrics::{Metric, Metrics};
use super::database;
use uuid::Uuid;

fn metric(identifier: &str, period: &'static str) -> Metric {
    Metric {
        identifier: identifier.to_owned(),
        period,
        starts_s: 1_795_262_400,
        service: Uuid::nil(),
        route: Uuid::from_u128(7),
        kept_s: 3_600,
    }
}

#[test]
fn nodes_add_to_the_same_counters() {
    const ROUNDS: u64 = 30;
    let real = database("counters");
    let totals: Vec<u64> = std::thread::scope(|scope| {
        let node = || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut metrics = Metrics::new(real.server("counters"));
                let mut last = 0;
                for round in 0..ROUNDS {
                    // In another order each time: the statement's own order keeps locks apart.
                    let mut added = vec![(metric("a", "hour"), 2), (metric("b", "day"), 1)];
                    if round % 2 == 0 {
                        added.reverse();
                    }
                    let totals = metrics.add(&added).await.unwrap();
                    let place = usize::from(round % 2 == 0);
                    assert!(totals[place] > last);
                    last = totals[place];
                }
                last
            })
        };
        let all: Vec<_> = (0..4).map(|_| scope.spawn(node)).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(totals.into_iter().max(), Some(4 * ROUNDS * 2));
    let sql = "SELECT identifier, period, value, ttl > now() \
               FROM ratelimiting_metrics ORDER BY 1";
    let rows = real.sql("counters", sql).unwrap();
    let row = |name: &str, period: &str, value: u64| -> Vec<String> {
        [name, period, &value.to_string(), "t"].map(str::to_owned).to_vec()
    };
    assert_eq!(rows, [row("a", "hour", 4 * ROUNDS * 2), row("b", "day", 4 * ROUNDS)]);
}

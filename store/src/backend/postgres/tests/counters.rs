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
        counted: None,
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

/// What upstreams report is in a table of its own, as Kong's nodes read it; adding nothing asks.
#[test]
fn what_upstreams_report_is_in_kongs_table() {
    let real = database("reported");
    let sql = |sql: &str| real.sql("reported", sql).unwrap();
    let video = Metric { counted: Some("video".into()), ..metric("a", "minute") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let add = |metrics: &mut Metrics, added: &[(Metric, u64)]| {
        runtime.block_on(metrics.add(added)).unwrap()
    };
    let (mut one, mut two) =
        (Metrics::new(real.server("reported")), Metrics::new(real.server("reported")));
    assert_eq!(add(&mut one, &[(video.clone(), 0)]), [0]);
    assert_eq!(sql("SELECT count(*) FROM response_ratelimiting_metrics"), [["0"]]);
    let both = [(video.clone(), 3), (metric("a", "minute"), 1)];
    assert_eq!(add(&mut one, &both), [3, 1]);
    // A node of Kong adds its own.
    sql("UPDATE response_ratelimiting_metrics SET value = value + 4");
    assert_eq!(add(&mut two, &[(metric("a", "minute"), 0), (video.clone(), 0)]), [1, 7]);
    assert_eq!(add(&mut two, &[(video, 2)]), [9]);
    let rows = sql("SELECT identifier, period, EXTRACT(EPOCH FROM period_date)::int8, \
         service_id, route_id, value FROM response_ratelimiting_metrics");
    let (none, route) =
        ("00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000007");
    assert_eq!(rows, [["a", "video_minute", "1795262400", none, route, "9"]]);
}

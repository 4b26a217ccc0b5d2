//! From a core's report to the collector, through everything.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test: a panic is its fault report")]

#[path = "common/collector.rs"]
mod collector;
#[path = "common/traffic.rs"]
mod traffic;

use collector::{CUT, Collector};
use exporter::{ApplicationState, Exporter, ExporterPlan, Loss};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use traffic::{Traffic, configure};

fn plan(prefix: &Path, cores: usize) -> ExporterPlan {
    ExporterPlan { ring_dir: prefix.to_owned(), ..ExporterPlan::new(prefix.to_owned(), cores) }
}

fn start(prefix: &Path, cores: usize) -> Exporter {
    exporter::start(&plan(prefix, cores)).unwrap()
}

/// Watches the book while `work` runs: it must add up at every reading.
fn while_adding_up(exporter: &Exporter, work: impl FnOnce()) -> u64 {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut readings = 0;
            while !stop.load(Ordering::Relaxed) {
                let sums = exporter.sums();
                assert!(sums.add_up(), "{sums:?}");
                readings += 1;
            }
            readings
        });
        work();
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    })
}

#[test]
fn every_event_arrives_once_and_the_book_adds_up() {
    let prefix = tempfile::tempdir().unwrap();
    let collector = Collector::start();
    let exporter = start(prefix.path(), 3);
    let row = configure(&exporter, 1, &json!({"api_endpoint": collector.url}));
    let readings = while_adding_up(&exporter, || {
        thread::scope(|scope| {
            for core in 0..3 {
                let mut producer = exporter.producer(core).unwrap();
                scope.spawn(move || {
                    let mut traffic = Traffic::new(row, core as u64);
                    (0..2_000).for_each(|_| assert!(traffic.commit(&mut producer, "{}").is_some()));
                });
            }
        });
        collector.wait_for(6_000, 20);
    });
    assert!(readings > 100);
    let sums = exporter.stop(1_000);
    assert_eq!(
        (sums.received, sums.delivered, sums.queued, sums.dropped.total()),
        (6_000, 6_000, 0, 0)
    );
    assert!(collector.accepted().values().all(|times| *times == 1));
    let posts = collector.posts.lock().unwrap();
    assert!(posts.iter().all(|post| post.events.len() <= 50), "batch_size");
    for line in [
        "post /v1/events/batch http/1.1",
        "x-moesif-application-id: application-0123456789",
        "content-type: application/json",
        "user-agent: tollgate/",
    ] {
        assert!(posts[0].head.contains(line), "{line} in {}", posts[0].head);
    }
    assert!(!posts[0].head.contains("transfer-encoding"), "a length, as in the original");
    drop(posts);
    let left: Vec<_> = std::fs::read_dir(prefix.path().join("journal")).unwrap().collect();
    assert_eq!(left.len(), 1, "only the lock is left: {left:?}");
    let left: Vec<_> = std::fs::read_dir(prefix.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "no directory for rings: {left:?}");
}

#[test]
fn a_single_event_arrives_within_two_seconds() {
    let prefix = tempfile::tempdir().unwrap();
    let collector = Collector::start();
    let exporter = start(prefix.path(), 1);
    let row = configure(&exporter, 1, &json!({"api_endpoint": collector.url}));
    let mut producer = exporter.producer(0).unwrap();
    let mut traffic = Traffic::new(row, 0);
    for events in 1..4 {
        let begun = Instant::now();
        traffic.commit(&mut producer, "{}").unwrap();
        collector.wait_for(events, 5);
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        thread::sleep(Duration::from_millis(370));
    }
    assert!(exporter.producer(0).is_none(), "once per core");
}

#[test]
fn an_outage_loses_nothing_and_makes_no_second_id() {
    let prefix = tempfile::tempdir().unwrap();
    let collector = Collector::start();
    collector.answer_with(503);
    let exporter = start(prefix.path(), 1);
    let row = configure(&exporter, 1, &json!({"api_endpoint": collector.url}));
    let mut producer = exporter.producer(0).unwrap();
    let mut traffic = Traffic::new(row, 0);
    let mut ids = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        ids.push(traffic.commit(&mut producer, "{}").unwrap());
        thread::sleep(Duration::from_millis(2));
    }
    assert!(collector.accepted().is_empty());
    let state = loop {
        match exporter.destinations().first() {
            Some(state) if state.failures > 1 => break state.clone(),
            _ => thread::sleep(Duration::from_millis(20)),
        }
    };
    assert!(state.last_error.unwrap().contains("503") && state.queued > 0);
    let failed = collector.posts.lock().unwrap().iter().filter(|post| post.status == 503).count();
    assert!((2..20).contains(&failed), "{failed} posts: the waits grow");
    collector.answer_with(201);
    collector.wait_for(ids.len(), 20);
    let accepted = collector.accepted();
    assert!(ids.iter().all(|id| accepted.get(id) == Some(&1)));
    assert_eq!(accepted.len(), ids.len(), "and nothing else");
}

#[test]
fn a_refused_event_is_found_and_only_it_is_dropped() {
    for status in [400, 413] {
        let prefix = tempfile::tempdir().unwrap();
        let collector = Collector::start();
        let poisoned =
            |event: &Value| event["request"]["uri"].as_str().unwrap().contains("/poison");
        collector.answer_by(Box::new(
            move |events| {
                if events.iter().any(poisoned) { status } else { 201 }
            },
        ));
        let exporter = start(prefix.path(), 1);
        let row = configure(&exporter, 1, &json!({"api_endpoint": collector.url}));
        let mut producer = exporter.producer(0).unwrap();
        let mut traffic = Traffic::new(row, 0);
        for number in 0..200 {
            traffic.target = if number % 83 == 7 { "/poison" } else { "/fine" };
            traffic.commit(&mut producer, "{}").unwrap();
        }
        collector.wait_for(197, 20);
        let sums = exporter.stop(2_000);
        let aside = std::fs::read_dir(prefix.path().join("moesif/refused")).unwrap();
        let aside: Vec<_> =
            aside.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
        let read = |text: &Vec<u8>| serde_json::from_slice::<Value>(text).unwrap();
        assert!(aside.len() == 3 && aside.iter().all(|event| poisoned(&read(event))));
        assert_eq!((sums.delivered, sums.dropped.count(Loss::Refused)), (197, 3), "{sums:?}");
        assert!(sums.add_up() && sums.queued == 0);
    }
}

#[test]
fn one_destinations_trouble_is_not_anothers() {
    let prefix = tempfile::tempdir().unwrap();
    let (good, bad) = (Collector::start(), Collector::start());
    bad.answer_with(401);
    let exporter = start(prefix.path(), 1);
    let to_good = configure(&exporter, 1, &json!({"api_endpoint": good.url}));
    let to_bad = configure(&exporter, 2, &json!({"api_endpoint": bad.url}));
    let mut producer = exporter.producer(0).unwrap();
    let (mut goods, mut bads) = (Traffic::new(to_good, 1), Traffic::new(to_bad, 2));
    for _ in 0..500 {
        goods.commit(&mut producer, "{}").unwrap();
        bads.commit(&mut producer, "{}").unwrap();
    }
    good.wait_for(500, 10);
    thread::sleep(Duration::from_millis(1_600));
    let posts = bad.posts.lock().unwrap().len();
    assert_eq!(posts, 1, "a refused key is not tried again and again");
    let sums = exporter.sums();
    assert_eq!((sums.delivered, sums.queued), (500, 500));
    // A new configuration is a reason to try at once.
    bad.answer_with(201);
    configure(&exporter, 2, &json!({"api_endpoint": bad.url, "batch_size": 500}));
    bad.wait_for(500, 10);
}

#[test]
fn the_bounds_hold_and_drop_the_newest() {
    let prefix = tempfile::tempdir().unwrap();
    let collector = Collector::start();
    collector.answer_with(500);
    let exporter = start(prefix.path(), 1);
    let config = json!({"api_endpoint": collector.url, "event_queue_size": 100});
    let row = configure(&exporter, 1, &config);
    let mut producer = exporter.producer(0).unwrap();
    let mut traffic = Traffic::new(row, 0);
    let ids: Vec<String> = (0..250).map(|_| traffic.commit(&mut producer, "{}").unwrap()).collect();
    let deadline = Instant::now() + Duration::from_secs(5);
    while exporter.sums().dropped.count(Loss::QueueFull) < 150 {
        assert!(Instant::now() < deadline, "{:?}", exporter.sums());
        thread::sleep(Duration::from_millis(5));
    }
    collector.answer_with(201);
    collector.wait_for(100, 20);
    let accepted = collector.accepted();
    assert!(ids[..100].iter().all(|id| accepted.contains_key(id)), "the oldest are kept");
    // The last answer may still be on its way.
    settled(&exporter, |state| state.queued == 0);
    let sums = exporter.stop(0);
    assert_eq!((sums.received, sums.delivered, sums.queued), (250, 100, 0));
}

#[test]
fn the_bytes_that_wait_are_bounded_and_each_application_adds_up() {
    let prefix = tempfile::tempdir().unwrap();
    let collector = Collector::start();
    collector.answer_with(500);
    let exporter =
        exporter::start(&ExporterPlan { events_bytes_max: 100_000, ..plan(prefix.path(), 1) })
            .unwrap();
    let config =
        json!({"api_endpoint": collector.url, "debug": true, "max_callback_time_spent": 10});
    let row = configure(&exporter, 1, &config);
    let mut producer = exporter.producer(0).unwrap();
    let mut traffic = Traffic::new(row, 0);
    (0..400).for_each(|_| drop(traffic.commit(&mut producer, "{}").unwrap()));
    let state = settled(&exporter, |state| state.received == 400 && state.failures > 0);
    assert!(state.dropped.count(Loss::BytesFull) > 100, "{state:?}");
    assert!(state.queued > 50 && state.bytes < 110_000, "{state:?}");
    assert!(state.oldest_age_ms.is_some() && state.last_success_age_ms.is_none(), "{state:?}");
    assert!(exporter.recent(state.lane).is_empty(), "nothing was sent");
    collector.answer_with(201);
    let kept = state.queued;
    collector.wait_for(kept as usize, 20);
    let state = settled(&exporter, |state| state.queued == 0);
    assert_eq!((state.delivered, state.failures, state.bytes), (kept, 0, 0));
    assert!(state.budget_overruns > 0, "it was pressed: {state:?}");
    let recent = exporter.recent(state.lane);
    assert_eq!(recent.len(), 20);
    let last: Value = serde_json::from_slice(&recent[19]).unwrap();
    let accepted = collector.accepted();
    assert!(accepted.contains_key(last["transaction_id"].as_str().unwrap()));
    // The row goes elsewhere, or is gone: nobody has asked for these events to be shown any longer.
    let elsewhere = json!({"api_endpoint": "http://127.0.0.1:9", "debug": true});
    configure(&exporter, 1, &elsewhere);
    assert!(exporter.recent(state.lane).is_empty());
}

/// The state of the only application, once it is as wanted; it adds up at every reading.
#[track_caller]
fn settled(exporter: &Exporter, wanted: impl Fn(&ApplicationState) -> bool) -> ApplicationState {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(state) = exporter.applications().into_iter().next() {
            assert!(state.adds_up(), "{state:?}");
            if wanted(&state) {
                return state;
            }
            assert!(Instant::now() < deadline, "{state:?}");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_small_journal_drops_and_counts() {
    let prefix = tempfile::tempdir().unwrap();
    let collector = Collector::start();
    collector.answer_with(500);
    let exporter =
        exporter::start(&ExporterPlan { journal_bytes_max: 100_000, ..plan(prefix.path(), 1) })
            .unwrap();
    let row = configure(&exporter, 1, &json!({"api_endpoint": collector.url}));
    let mut producer = exporter.producer(0).unwrap();
    let mut traffic = Traffic::new(row, 0);
    for _ in 0..40 {
        (0..50)
            .for_each(|_| drop(traffic.commit(&mut producer, "{\"a\":\"0123456789\"}").unwrap()));
        thread::sleep(Duration::from_millis(15));
    }
    let sums = exporter.stop(0);
    assert!(sums.add_up() && sums.dropped.count(Loss::JournalFull) > 1_000, "{sums:?}");
    assert!(sums.queued > 50, "{sums:?}");
}

#[test]
fn a_full_ring_refuses_and_counts() {
    let prefix = tempfile::tempdir().unwrap();
    let exporter =
        exporter::start(&ExporterPlan { ring_bytes: 1, ..plan(prefix.path(), 1) }).unwrap();
    let row = configure(&exporter, 1, &json!({"api_endpoint": "http://127.0.0.1:9"}));
    let mut producer = exporter.producer(0).unwrap();
    let mut traffic = Traffic::new(row, 0);
    let body = format!("\"{}\"", "x".repeat(20_000));
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..300 {
        match traffic.commit(&mut producer, &body) {
            Some(_) => taken += 1,
            None => refused += 1,
        }
    }
    assert!(traffic.commit(&mut producer, &body.repeat(4)).is_none());
    let sums = exporter.stop(0);
    assert!(refused > 0 && sums.add_up(), "{sums:?}");
    assert_eq!(sums.dropped.count(Loss::RingFull), refused);
    assert_eq!(sums.dropped.count(Loss::RecordTooLarge), 1);
    assert_eq!((sums.received, sums.queued), (taken + refused + 1, taken));
}

#[test]
fn a_stop_without_network_keeps_everything_for_the_next_start() {
    let prefix = tempfile::tempdir().unwrap();
    let collector = Collector::start();
    collector.answer_with(500);
    let exporter = start(prefix.path(), 2);
    let row = configure(&exporter, 1, &json!({"api_endpoint": collector.url}));
    let mut producer = exporter.producer(1).unwrap();
    let mut traffic = Traffic::new(row, 0);
    let ids: Vec<String> = (0..321).map(|_| traffic.commit(&mut producer, "{}").unwrap()).collect();
    let begun = Instant::now();
    let sums = exporter.stop(0);
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    assert_eq!((sums.received, sums.queued), (321, 321));
    // A batch that was on its way at the end gets its 500 first.
    thread::sleep(Duration::from_millis(300));
    collector.answer_with(201);
    // No configuration yet, another number of cores: the journal knows whom its events are for.
    let exporter = start(prefix.path(), 1);
    collector.wait_for(321, 10);
    let sums = exporter.stop(1_000);
    assert_eq!((sums.received, sums.delivered, sums.queued), (321, 321, 0));
    let accepted = collector.accepted();
    assert!(ids.iter().all(|id| accepted.get(id) == Some(&1)));
}

#[test]
fn what_is_masked_is_never_on_disk() {
    let prefix = tempfile::tempdir().unwrap();
    let shm = tempfile::tempdir().unwrap();
    let collector = Collector::start();
    collector.answer_with(500);
    let exporter = exporter::start(&ExporterPlan {
        ring_dir: shm.path().to_owned(),
        ..plan(prefix.path(), 1)
    })
    .unwrap();
    let config = json!({
        "api_endpoint": collector.url,
        "request_body_masks": ["password"],
        "request_header_masks": ["Authorization"],
        "request_query_masks": ["token"],
        "enable_compression": true,
    });
    let row = configure(&exporter, 1, &config);
    let mut producer = exporter.producer(0).unwrap();
    let mut traffic = Traffic::new(row, 0);
    traffic.target = "/x?token=SECRET1&b=2";
    traffic.commit(&mut producer, "{\"password\":\"SECRET2\",\"a\":1}").unwrap();
    traffic.commit(&mut producer, "{\"password\":\"SECRET3\",").unwrap();
    let sums = exporter.stop(0);
    assert_eq!((sums.queued, sums.bodies_left_out), (2, 1));
    let journal = contents(prefix.path());
    assert!(journal.contains("transaction_id") && !journal.contains("SECRET"), "{journal}");
    collector.answer_with(201);
    let exporter = start(prefix.path(), 1);
    collector.wait_for(2, 10);
    drop(exporter);
    let posts = collector.posts.lock().unwrap();
    let event = &posts.last().unwrap().events[0];
    assert_eq!(event["request"]["body"], json!({"a": 1}));
    assert!(event["request"]["uri"].as_str().unwrap().ends_with("/x?token=*****&b=2"));
}

/// Everything under a directory, as text.
fn contents(path: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text.push_str(&contents(&path));
        } else {
            text.push_str(&String::from_utf8_lossy(&std::fs::read(&path).unwrap()));
        }
    }
    text
}

#[test]
fn compressed_batches_are_zlib() {
    let prefix = tempfile::tempdir().unwrap();
    let collector = Collector::start();
    let exporter = start(prefix.path(), 1);
    let config =
        json!({"api_endpoint": format!("{}/collector", collector.url), "enable_compression": true});
    let row = configure(&exporter, 1, &config);
    let mut producer = exporter.producer(0).unwrap();
    let mut traffic = Traffic::new(row, 0);
    (0..60).for_each(|_| drop(traffic.commit(&mut producer, "{}").unwrap()));
    collector.wait_for(60, 10);
    let posts = collector.posts.lock().unwrap();
    assert!(posts[0].head.starts_with("post /collector/v1/events/batch "), "{}", posts[0].head);
    assert!(posts[0].head.contains("content-encoding: deflate"));
}

#[test]
fn a_small_budget_gathers_the_starts_of_posts() {
    let prefix = tempfile::tempdir().unwrap();
    let collector = Collector::start();
    let exporter = start(prefix.path(), 1);
    let config = json!({"api_endpoint": collector.url, "max_callback_time_spent": 10});
    let row = configure(&exporter, 1, &config);
    let mut producer = exporter.producer(0).unwrap();
    let mut traffic = Traffic::new(row, 0);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(5_000) {
        traffic.commit(&mut producer, "{}").unwrap();
        thread::sleep(Duration::from_millis(40));
    }
    let posts = collector.posts.lock().unwrap();
    let times: Vec<u128> = posts.iter().map(|post| (post.at - begun).as_millis()).collect();
    assert!((3..=5).contains(&posts.len()), "one a cycle: {times:?}");
}

#[test]
fn two_processes_at_one_prefix_leave_each_other_alone() {
    let prefix = tempfile::tempdir().unwrap();
    let collector = Collector::start();
    let first = start(prefix.path(), 1);
    let second = start(prefix.path(), 1);
    let mut producers = Vec::new();
    for exporter in [&first, &second] {
        let row = configure(exporter, 1, &json!({"api_endpoint": collector.url}));
        producers.push((exporter.producer(0).unwrap(), row));
    }
    for (seed, (producer, row)) in producers.iter_mut().enumerate() {
        let mut traffic = Traffic::new(*row, seed as u64);
        (0..100).for_each(|_| drop(traffic.commit(producer, "{}").unwrap()));
    }
    collector.wait_for(200, 10);
    assert!(collector.accepted().values().all(|times| *times == 1));
    assert_eq!((first.stop(500).delivered, second.stop(500).delivered), (100, 100));
}

/// Between round trips of 100 ms many batches are on their way at once.
#[test]
fn a_far_collector_takes_thousands_a_second() {
    let prefix = tempfile::tempdir().unwrap();
    let collector = Collector::start();
    collector.answer_by(Box::new(|_| {
        thread::sleep(Duration::from_millis(100));
        201
    }));
    let exporter = start(prefix.path(), 1);
    let row = configure(&exporter, 1, &json!({"api_endpoint": collector.url}));
    let mut producer = exporter.producer(0).unwrap();
    let mut traffic = Traffic::new(row, 0);
    (0..10_000).for_each(|_| drop(traffic.commit(&mut producer, "{}").unwrap()));
    // One at a time this takes 20 s, and 40 s with half of each cycle closed.
    collector.wait_for(10_000, 12);
    assert!(collector.accepted().values().all(|times| *times == 1));
}

/// Answers that come too late, and connections that are cut: the same events again, under the same
/// ids, and none of them lost.
#[test]
fn late_answers_and_cut_connections_lose_nothing() {
    let prefix = tempfile::tempdir().unwrap();
    let collector = Collector::start();
    let posts = AtomicUsize::new(0);
    collector.answer_by(Box::new(move |_| match posts.fetch_add(1, Ordering::Relaxed) {
        0 | 3 => {
            thread::sleep(Duration::from_millis(600));
            201
        }
        1 | 4 => CUT,
        _ => 201,
    }));
    let exporter = start(prefix.path(), 1);
    let config = json!({"api_endpoint": collector.url, "send_timeout": 200});
    let row = configure(&exporter, 1, &config);
    let mut producer = exporter.producer(0).unwrap();
    let mut traffic = Traffic::new(row, 0);
    let ids: Vec<String> = (0..500).map(|_| traffic.commit(&mut producer, "{}").unwrap()).collect();
    let deadline = Instant::now() + Duration::from_secs(20);
    while exporter.sums().delivered < 500 {
        assert!(Instant::now() < deadline, "{:?}", exporter.sums());
        thread::sleep(Duration::from_millis(10));
    }
    let accepted = collector.accepted();
    assert!(ids.iter().all(|id| accepted.contains_key(id)) && accepted.len() == 500);
    assert!(accepted.values().any(|times| *times > 1), "a late answer is no answer");
}

/// A disk that refuses: nothing is lost, the rings hold what they can, and the book adds up.
#[test]
fn a_journal_that_cannot_be_written_holds_events_back() {
    let prefix = tempfile::tempdir().unwrap();
    let collector = Collector::start();
    let exporter = start(prefix.path(), 1);
    let row = configure(&exporter, 1, &json!({"api_endpoint": collector.url}));
    let mut producer = exporter.producer(0).unwrap();
    let mut traffic = Traffic::new(row, 0);
    let (journal, away) = (prefix.path().join("journal"), prefix.path().join("away"));
    std::fs::rename(&journal, &away).unwrap();
    for _ in 0..50 {
        (0..10).for_each(|_| drop(traffic.commit(&mut producer, "{}").unwrap()));
        thread::sleep(Duration::from_millis(5));
    }
    let sums = exporter.sums();
    assert!(sums.add_up());
    assert_eq!((sums.received, sums.queued, sums.delivered), (500, 500, 0));
    std::fs::rename(&away, &journal).unwrap();
    collector.wait_for(500, 10);
    assert!(collector.accepted().values().all(|times| *times == 1));
    assert_eq!(exporter.stop(500).delivered, 500);
}

/// Rings that cannot lie in shared memory are said so and work.
#[test]
fn without_shared_memory_events_still_arrive() {
    let prefix = tempfile::tempdir().unwrap();
    let collector = Collector::start();
    let ring_dir = prefix.path().join("no such directory");
    let exporter = exporter::start(&ExporterPlan { ring_dir, ..plan(prefix.path(), 1) }).unwrap();
    assert!(exporter.rings_fault().is_some());
    let row = configure(&exporter, 1, &json!({"api_endpoint": collector.url}));
    let mut producer = exporter.producer(0).unwrap();
    let mut traffic = Traffic::new(row, 0);
    (0..10).for_each(|_| drop(traffic.commit(&mut producer, "{}").unwrap()));
    collector.wait_for(10, 10);
}

/// A prefix that cannot be written is one sentence, not a panic.
#[test]
fn an_unwritable_prefix_is_one_sentence() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let fault = exporter::start(&ExporterPlan::new(file.path().to_owned(), 1)).err().unwrap();
    let text = fault.to_string();
    assert!(text.starts_with("the event journal /") && !text.contains('\n'), "{text}");
}

/// What a dead process has left, and this version cannot read, stays where it is.
#[test]
fn rings_of_another_version_are_kept_aside() {
    let prefix = tempfile::tempdir().unwrap();
    let _other = start(prefix.path(), 1);
    let house = std::fs::read_dir(prefix.path()).unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        path.file_name()?.to_str()?.starts_with("tollgate-").then_some(path)
    });
    let generation = house.unwrap().join("0000-from-the-future");
    std::fs::create_dir(&generation).unwrap();
    let ring = generation.join("core-7.ring");
    let (mut producer, _consumer) = runtime::ring::create(&ring, 1, 99).unwrap();
    let mut slot = producer.reserve(3, 1).unwrap();
    slot.write(b"abc");
    assert!(slot.commit());
    for _start in 0..2 {
        let sums = start(prefix.path(), 1).stop(0);
        assert!(sums.add_up());
        assert_eq!((sums.rings_set_aside, sums.received), (1, 0));
        assert!(ring.exists());
    }
}

/// A record whose settings nobody knows is never made into an event: who knows what to mask?
#[test]
fn a_record_without_its_settings_is_dropped_and_counted() {
    let prefix = tempfile::tempdir().unwrap();
    let collector = Collector::start();
    let exporter = start(prefix.path(), 1);
    let row = configure(&exporter, 1, &json!({"api_endpoint": collector.url}));
    let mut producer = exporter.producer(0).unwrap();
    for row in [
        exporter::event::RowRef { version: 2, ..row },
        exporter::event::RowRef { fingerprint: row.fingerprint ^ 1, ..row },
        row,
    ] {
        Traffic::new(row, row.version).commit(&mut producer, "{}").unwrap();
    }
    collector.wait_for(1, 10);
    let sums = exporter.stop(500);
    assert_eq!((sums.delivered, sums.dropped.count(Loss::SettingsGone)), (1, 2));
    assert!(sums.add_up());
}

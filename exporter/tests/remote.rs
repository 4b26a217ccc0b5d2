//! What Moesif says about an application reaches the cores, stays in force, and outlives restarts.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test: a panic is its fault report")]

#[path = "common/collector.rs"]
mod collector;
#[path = "common/traffic.rs"]
mod traffic;

use collector::{Collector, Says};
use exporter::moesif::conditions::Asked;
use exporter::moesif::headers::Headers;
use exporter::moesif::identify::Identity;
use exporter::moesif::pattern::Searches;
use exporter::moesif::settings::Settings;
use exporter::{Exporter, ExporterPlan};
use runtime::http::head::Fields;
use serde_json::{Value, json};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use traffic::{Traffic, configure};

fn start(prefix: &Path) -> Exporter {
    let plan = ExporterPlan::new(prefix.to_owned(), 1);
    exporter::start(&ExporterPlan { ring_dir: prefix.to_owned(), ..plan }).unwrap()
}

fn config(collector: &Collector) -> Value {
    json!({"api_endpoint": collector.url, "application_id": "application-0123456789"})
}

/// What is in force for anybody's request: the rate in percent, and who blocks.
fn in_force(exporter: &Exporter, collector: &Collector) -> (u32, Option<String>) {
    let lane = Settings::parse(&config(collector)).unwrap().target().lane();
    let remotes = exporter.remotes().newest();
    let Some(remote) = remotes.get(lane) else { return (100, None) };
    let lines = Fields::new();
    let asked = Asked {
        verb: b"GET",
        target: b"/",
        client_ip: [127, 0, 0, 1].into(),
        client_ip_headers_trusted: true,
        headers: Headers::Live(&lines),
        body: &[],
        status: None,
    };
    let (who, mut searches) = (Identity::default(), Searches::default());
    let rate = remote.sampling.rate(&asked, &who, &mut searches);
    let verdict = remote.judge(&asked, &who, &mut searches);
    (rate as u32, verdict.blocked().map(|blocked| blocked.rule_id.into()))
}

#[track_caller]
fn until(exporter: &Exporter, collector: &Collector, expected: (u32, Option<&str>)) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let found = in_force(exporter, collector);
        if (found.0, found.1.as_deref()) == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{found:?} is in force, not {expected:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn rules(id: &str) -> Option<Value> {
    let response = json!({"status": 403, "headers": {}, "body": "no"});
    let broken = json!({"_id": "broken", "type": "regex", "block": true});
    let rule = json!({"_id": id, "type": "regex", "block": true, "regex_config": [],
        "response": response});
    Some(json!([broken, rule]))
}

#[test]
fn it_is_fetched_at_once_and_when_tags_change_and_kept_over_a_restart() {
    let prefix = tempfile::tempdir().unwrap();
    let collector = Collector::start();
    *collector.says.lock().unwrap() = Says {
        config: Some(json!({"sample_rate": 30})),
        rules: rules("first"),
        config_tag: "c1".to_owned(),
        rules_tag: "r1".to_owned(),
    };
    let exporter = start(prefix.path());
    let row = configure(&exporter, 1, &config(&collector));
    until(&exporter, &collector, (30, Some("first")));
    assert_eq!(*collector.gets.lock().unwrap(), ["/v1/config", "/v1/rules"]);

    // The same tags again: nobody asks. Other tags: only the configuration, then the rules, too.
    let mut producer = exporter.producer(0).unwrap();
    let mut traffic = Traffic::new(row, 0);
    traffic.commit(&mut producer, "{}").unwrap();
    collector.wait_for(1, 10);
    thread::sleep(Duration::from_millis(1_200));
    assert_eq!(collector.gets.lock().unwrap().len(), 2);
    {
        let mut says = collector.says.lock().unwrap();
        (says.config, says.config_tag) = (Some(json!({"sample_rate": 40})), "c2".to_owned());
    }
    traffic.commit(&mut producer, "{}").unwrap();
    until(&exporter, &collector, (40, Some("first")));
    assert_eq!(collector.gets.lock().unwrap().len(), 3);
    {
        let mut says = collector.says.lock().unwrap();
        (says.rules, says.rules_tag) = (rules("second"), "r2".to_owned());
    }
    traffic.commit(&mut producer, "{}").unwrap();
    until(&exporter, &collector, (40, Some("second")));
    exporter.stop(0);
    drop(exporter);

    // An error changes nothing, over a restart neither.
    *collector.says.lock().unwrap() = Says::default();
    let exporter = start(prefix.path());
    assert_eq!(in_force(&exporter, &collector), (100, None), "nobody asked about it yet");
    configure(&exporter, 1, &config(&collector));
    assert_eq!(in_force(&exporter, &collector), (40, Some("second".to_owned())));
    let gets = collector.gets.lock().unwrap().len();
    let deadline = Instant::now() + Duration::from_secs(20);
    while collector.gets.lock().unwrap().len() == gets {
        assert!(Instant::now() < deadline, "it is asked at the start");
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_millis(200));
    assert_eq!(in_force(&exporter, &collector), (40, Some("second".to_owned())));
    exporter.forget(uuid::Uuid::from_u128(1));
    assert_eq!(in_force(&exporter, &collector), (100, None), "nobody is reported to it any more");
}

#[test]
fn a_configuration_counts_even_if_its_rules_cannot_be_had() {
    let prefix = tempfile::tempdir().unwrap();
    let collector = Collector::start();
    collector.says.lock().unwrap().config = Some(json!({"sample_rate": 30}));
    let exporter = start(prefix.path());
    configure(&exporter, 1, &config(&collector));
    until(&exporter, &collector, (30, None));
    collector.says.lock().unwrap().rules = rules("late");
    until(&exporter, &collector, (30, Some("late")));
}

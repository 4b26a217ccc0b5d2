//! Tests of the book of Upstreams: rows and answers in, balancers out.

use std::sync::Arc;

use serde_json::{Value as Json, json};
use store::script;
use store::value::Row;

use super::*;
use crate::keeper;
use crate::names::{Found, Kind};

const UP: &str = "0a5b3c1e-0000-4000-8000-000000000001";

/// A book, and the rows that it was told.
struct Told {
    registry: Arc<Registry>,
    rows: BTreeMap<Uuid, Arc<Row>>,
}

impl Told {
    fn new(upstream: Json) -> Self {
        let mut told = Self { registry: Registry::new(), rows: BTreeMap::new() };
        told.upstream(upstream);
        told
    }

    fn tell(&mut self, entity: &str, row: Option<Json>, id: Uuid) {
        let catalogue = keeper::catalogue(Vec::new(), &[], Vec::new(), false);
        let after = row.map(|row| script::row(&catalogue, entity, &row).unwrap());
        let before = match &after {
            Some(row) => self.rows.insert(id, Arc::clone(row)),
            None => self.rows.remove(&id),
        };
        let entity = after.as_ref().or(before.as_ref()).unwrap().entity();
        self.registry.apply(&[Change { entity, before, after }]);
    }

    fn upstream(&mut self, mut row: Json) {
        row["id"] = json!(UP);
        row["name"] = row.get("name").cloned().unwrap_or_else(|| json!("up"));
        self.tell("upstreams", Some(row), up());
    }

    fn target(&mut self, number: u8, target: &str, weight: u32) {
        let row = json!({
            "id": id(number).to_string(), "upstream": { "id": UP }, "target": target,
            "weight": weight,
        });
        self.tell("targets", Some(row), id(number));
    }

    fn gone(&mut self, number: u8) {
        self.tell("targets", None, id(number));
    }

    fn balancer(&self) -> Arc<Balancer> {
        let name: Box<str> = "up".into();
        Arc::clone(self.registry.board().newest().get(&name).unwrap())
    }

    /// Addresses and weights.
    fn seats(&self) -> Vec<(String, u32)> {
        let balancer = self.balancer();
        let mut seats: Vec<_> =
            balancer.seats.iter().map(|seat| (seat.address.to_string(), seat.weight)).collect();
        seats.sort();
        seats
    }

    /// Looks every due name up; gives the names.
    fn look_up(&self, answer: &Result<Arc<Answer>, NameFault>) -> Vec<String> {
        let due = self.registry.due_names(clock::now_us());
        due.iter().for_each(|name| self.registry.found(name, answer));
        due.into_iter().map(|name| name.host.into()).collect()
    }
}

fn up() -> Uuid {
    UP.parse().unwrap()
}

fn id(number: u8) -> Uuid {
    Uuid::from_u128(0x0b00_0000_0000_4000_8000_0000_0000_0000 | u128::from(number))
}

fn found(last: u8, port: Option<u16>, weight: Option<u16>) -> Found {
    Found { ip: [10, 0, 0, last].into(), port, weight, name: port.map(|_| "srv.test".into()) }
}

fn answer(addresses: &[Found], kind: Kind) -> Result<Arc<Answer>, NameFault> {
    Ok(Arc::new(Answer { addresses: addresses.into(), kind, ttl_s: 60 }))
}

#[test]
fn rows_become_balancers() {
    let mut told = Told::new(json!({}));
    assert!(told.seats().is_empty() && !told.balancer().is_healthy());
    told.target(1, "10.0.0.1:81", 30);
    told.target(2, "10.0.0.2:82", 0);
    told.target(3, "[::1]:83", 10);
    let seat = |at: &str, weight| (at.to_owned(), weight);
    assert_eq!(told.seats(), [seat("10.0.0.1:81", 30), seat("[::1]:83", 10)]);
    told.target(1, "10.0.0.1:81", 7);
    told.gone(3);
    assert_eq!(told.seats(), [seat("10.0.0.1:81", 7)]);
    told.upstream(json!({ "name": "renamed" }));
    let (old, new): (Box<str>, Box<str>) = ("up".into(), "renamed".into());
    let directory = told.registry.board().newest();
    assert!(directory.get(&old).is_none() && directory.get(&new).is_some());
    told.tell("upstreams", None, up());
    assert!(told.registry.board().newest().get(&new).is_none());
}

#[test]
fn a_change_keeps_the_lives_of_all_others() {
    let checks = json!({ "healthchecks": { "active": { "healthy": { "interval": 1 } } } });
    let mut told = Told::new(checks.clone());
    (1..=3).for_each(|number| told.target(number, &format!("10.0.0.{number}:80"), 10));
    let vitals = |told: &Told| -> BTreeMap<String, Arc<Vital>> {
        let balancer = told.balancer();
        let life = |seat: &Seat| (seat.address.to_string(), Arc::clone(&seat.vital));
        balancer.seats.iter().map(life).collect()
    };
    let before = vitals(&told);
    told.registry.mark(up(), id(2), Which::All, false).unwrap();
    told.target(4, "10.0.0.4:80", 10);
    told.gone(1);
    told.target(3, "10.0.0.3:80", 99);
    let mut changed = checks;
    changed["algorithm"] = json!("least-connections");
    told.upstream(changed);
    let after = vitals(&told);
    for at in ["10.0.0.2:80", "10.0.0.3:80"] {
        assert!(Arc::ptr_eq(&before[at], &after[at]), "{at}");
    }
    assert!(!after["10.0.0.2:80"].marks.are_good(), "the mark stays");
    // Who goes and comes back within minutes is remembered.
    told.gone(2);
    told.target(2, "10.0.0.2:80", 10);
    assert!(!vitals(&told)["10.0.0.2:80"].marks.are_good());
}

#[test]
fn names_are_looked_up_and_followed() {
    let mut told = Told::new(json!({}));
    told.target(1, "a.test:80", 40);
    assert!(told.balancer().unsettled && !told.registry.is_settled(up()));
    let two = answer(&[found(1, None, None), found(2, None, None)], Kind::A);
    assert_eq!(told.look_up(&two), ["a.test"]);
    let seat = |at: &str, weight| (at.to_owned(), weight);
    assert_eq!(told.seats(), [seat("10.0.0.1:80", 40), seat("10.0.0.2:80", 40)]);
    assert!(told.registry.is_settled(up()));
    assert_eq!(told.look_up(&two), [""; 0], "not before the records expire");
    // A new weight asks nobody; another name does, and until then nothing is behind it.
    told.target(1, "a.test:80", 5);
    assert_eq!(told.seats()[0].1, 5);
    assert_eq!(told.look_up(&two), [""; 0]);
    told.target(1, "b.test:80", 5);
    assert!(told.seats().is_empty());
    let services =
        answer(&[found(3, Some(8_001), Some(70)), found(4, Some(0), Some(0))], Kind::Srv);
    assert_eq!(told.look_up(&services), ["b.test"]);
    assert_eq!(told.seats(), [seat("10.0.0.3:8001", 70), seat("10.0.0.4:80", 1)]);
}

#[test]
fn a_name_without_address_is_settled_and_shown() {
    let mut told = Told::new(json!({}));
    told.target(1, "a.test:80", 40);
    assert_eq!(told.look_up(&Err(NameFault::NotFound)), ["a.test"]);
    assert!(told.seats().is_empty() && told.registry.is_settled(up()));
    let view = told.registry.view(up()).unwrap();
    assert!(matches!(view.targets[0].0.found, Behind::Nothing(NameFault::NotFound)));
}

/// An answer that comes after its target has changed is nobody's.
#[test]
fn a_late_answer_is_dropped() {
    let mut told = Told::new(json!({}));
    told.target(1, "a.test:80", 40);
    let due = told.registry.due_names(clock::now_us());
    told.target(1, "b.test:80", 40);
    told.registry.found(&due[0], &answer(&[found(1, None, None)], Kind::A));
    assert!(told.seats().is_empty());
    assert_eq!(told.look_up(&answer(&[found(2, None, None)], Kind::A)), ["b.test"]);
    told.gone(1);
    told.registry.found(&due[0], &answer(&[found(1, None, None)], Kind::A));
    assert!(told.seats().is_empty());
}

/// What peers are called: settings of the Upstream, the target, and its address.
#[track_caller]
fn check_host(upstream: Json, target: &str, expected: &str) {
    let mut told = Told::new(upstream);
    told.target(1, target, 10);
    told.look_up(&answer(&[found(1, Some(8_000), Some(1))], Kind::Srv));
    assert_eq!(told.balancer().seats[0].host_line(false), expected);
}

#[test]
fn peers_have_names() {
    check_host(json!({}), "10.0.0.1:8000", "10.0.0.1:8000");
    check_host(json!({}), "10.0.0.1:80", "10.0.0.1");
    check_host(json!({}), "a.test:1", "a.test:8000");
    check_host(json!({ "use_srv_name": true }), "a.test:1", "srv.test:8000");
    check_host(json!({ "use_srv_name": true, "host_header": "h.test" }), "a.test:1", "h.test:8000");
    check_host(json!({ "host_header": "h.test" }), "10.0.0.1:80", "h.test");
}

#[test]
fn rounds_of_checks_are_due_at_their_intervals() {
    let mut told = Told::new(json!({ "healthchecks": { "active": {
        "healthy": { "interval": 2 }, "unhealthy": { "interval": 0.5 },
    } } }));
    (1..=3).for_each(|number| told.target(number, &format!("10.0.0.{number}:80"), 10));
    told.registry.mark(up(), id(2), Which::All, false).unwrap();
    let start_us = clock::now_us();
    let due = |ms: u64| -> Vec<usize> {
        let rounds = told.registry.due_rounds(start_us + ms * 1_000);
        rounds.iter().map(|round| round.seats.len()).collect()
    };
    assert_eq!(due(0), [2, 1], "the healthy ones, and the others");
    assert_eq!(due(400), [0; 0]);
    assert_eq!(due(500), [1]);
    assert_eq!(due(1_900), [1]);
    assert_eq!(due(2_000), [2]);
    let running = told.registry.due_rounds(start_us + 9_000_000);
    assert_eq!(running.len(), 2);
    assert_eq!(due(20_000), [0; 0], "a round that runs is waited for");
    drop(running);
    assert_eq!(due(20_000), [2, 1]);
}

#[test]
fn marks_need_checks() {
    let mut told = Told::new(json!({}));
    told.target(1, "10.0.0.1:80", 10);
    let refused = told.registry.mark(up(), id(1), Which::All, false);
    assert_eq!(refused, Err("no healthchecker found for up".to_owned()));
    assert!(told.registry.mark(id(9), id(1), Which::All, false).is_err());
    told.upstream(json!({ "healthchecks": { "passive": { "unhealthy": { "timeouts": 1 } } } }));
    let other = "10.0.0.9:80".parse().unwrap();
    assert_eq!(told.registry.mark(up(), id(1), Which::At(other), false), Ok(()));
    assert_eq!(told.registry.mark(up(), id(1), Which::Port(8000), false), Ok(()));
    assert!(told.balancer().is_healthy(), "no target leads there");
    assert_eq!(told.registry.mark(up(), id(1), Which::Port(80), false), Ok(()));
    assert!(!told.balancer().is_healthy());
    assert_eq!(told.registry.mark(up(), id(1), Which::Port(80), true), Ok(()));
    assert_eq!(told.registry.mark(up(), id(1), Which::All, false), Ok(()));
    assert!(!told.balancer().is_healthy());
    // Without checks everybody may be asked.
    told.upstream(json!({}));
    assert!(told.balancer().is_healthy());
}

/// Marks that cores set are seen by the next sweep.
#[test]
fn a_sweep_makes_marked_balancers_anew() {
    let mut told = Told::new(json!({ "healthchecks": { "passive": {
        "unhealthy": { "http_failures": 1 },
    } } }));
    (1..=2).for_each(|number| told.target(number, &format!("10.0.0.{number}:80"), 10));
    let before = told.balancer();
    told.registry.sweep();
    assert!(Arc::ptr_eq(&before, &told.balancer()), "nothing was marked");
    assert_eq!(before.seats[0].vital.marks.note(Sign::HttpFailure, 1), Some(false));
    before.turned();
    told.registry.sweep();
    assert_eq!((told.balancer().open.len(), told.balancer().weights()), (1, (20, 10)));
}

/// A thousand targets: one more, one less, one name: a fraction of a millisecond each, and nobody
/// else's slots move (see `slots`).
#[test]
fn one_of_a_thousand_is_a_small_change() {
    let mut told = Told::new(json!({ "algorithm": "consistent-hashing" }));
    let catalogue = keeper::catalogue(Vec::new(), &[], Vec::new(), false);
    let rows: Vec<Change> = (0..1_000_u32)
        .map(|number| {
            let row = json!({
                "upstream": { "id": UP }, "target": format!("10.0.{}.{}:80", number / 250, number % 250),
                "id": Uuid::from_u128(u128::from(number) + 1_000).to_string(),
            });
            let row = script::row(&catalogue, "targets", &row).unwrap();
            Change { entity: row.entity(), before: None, after: Some(row) }
        })
        .collect();
    told.registry.apply(&rows);
    let before = told.balancer();
    assert_eq!(before.open.len(), 1_000);
    let owners = |balancer: &Balancer| -> Vec<String> {
        let keys = (0..2_000_u64).map(|key| super::super::slots::hash(&key.to_le_bytes()));
        let pick = |key| balancer.pick(key, 1, |_| true).unwrap() as usize;
        keys.map(|key| balancer.seats[pick(key)].address.to_string()).collect()
    };
    let was = owners(&before);
    told.target(1, "10.9.9.9:80", 100);
    let is = owners(&told.balancer());
    let moved: Vec<&String> =
        was.iter().zip(&is).filter(|(was, is)| was != is).map(|(_, is)| is).collect();
    assert!(moved.len() < 20 && moved.iter().all(|at| *at == "10.9.9.9:80"), "{moved:?}");
    told.gone(1);
    assert_eq!(was, owners(&told.balancer()));
}

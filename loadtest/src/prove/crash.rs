//! Kills the gateway at random moments under load, and compares what clients were told with what
//! the collector got.

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use super::{Dice, Findings, Options, Stage};
use crate::{
    Fault,
    admin::Admin,
    clients::{Load, Pace, Plan},
    collector::{Books, Collector, Depth},
    scene,
    servers::Server,
    upstream,
};

const BODY_BYTES_MAX: u64 = 64 * 1024;
const SEGMENT_SECONDS_MAX: u64 = 120;
const DELIVERY_SECONDS_MAX: u64 = 120;
/// The books are complete when nothing came for so long.
const QUIET_SECONDS: u64 = 4;

/// The transaction id that each request number was answered with.
pub(super) type Heard = Rc<RefCell<HashMap<u64, String>>>;

pub(super) fn run(options: &Options, driver: &str, findings: &mut Findings) -> Result<(), Fault> {
    let mut stage = Stage::open(options, driver, 2, Depth::Book)?;
    scene::plain(&mut stage.admin, stage.engine.upstream.addr()?)?;
    scene::moesif(&mut stage.admin, "plain", &stage.collector.url())?;
    let heard = Heard::default();
    let mut plan = plan(&stage, options.connections, options.seed, &heard);
    plan.pace = Pace::Closed;
    let mut dice = Dice::new(options.seed);
    let mut dropped = 0;
    let (server, admin) = (&mut stage.server, &mut stage.admin);
    let mut load = Load::new(&mut stage.engine, plan);
    for kill in 1..=options.kills + 1 {
        let share = options.requests / (options.kills + 1);
        let moment = if kill > options.kills { share } else { share / 2 + dice.below(share) };
        let goal = (share * (kill - 1) + moment).max(load.score().answers() + 1);
        load.run_until(goal, Duration::from_secs(SEGMENT_SECONDS_MAX))?;
        if kill <= options.kills {
            let (answers, busy) = (load.score().answers(), load.busy());
            // What this process has counted as dropped would be forgotten with it.
            dropped += dropped_by(admin)?;
            server.kill();
            let begun = Instant::now();
            server.restart()?;
            let back_ms = begun.elapsed().as_millis();
            findings.note(&format!(
                "kill {kill}: after {answers} answers, {busy} under way; back after {back_ms} ms"
            ));
            *admin = server.admin()?;
        }
    }
    load.drain(Duration::from_secs(30))?;
    let score = load.score().clone();
    findings.note(&format!("answers {:?}, cut {}", score.statuses, score.cut));
    findings.judge(
        score.answers() >= options.requests,
        &format!("{} answers of {} wanted", score.answers(), options.requests),
    );
    wait_until_sent(admin)?;
    wait_until_quiet(&stage.collector);
    dropped += dropped_by(admin)?;
    findings.judge(dropped == 0, &format!("{dropped} events were dropped and counted"));
    judge(&heard.borrow(), &stage.collector, findings);
    Ok(())
}

/// Requests with bodies of 0 to 64 KiB in either direction; each has its number in the query.
pub(super) fn plan(stage: &Stage, connections: usize, seed: u64, heard: &Heard) -> Plan {
    let mut dice = Dice::new(seed.wrapping_add(1));
    let heard = Rc::clone(heard);
    Plan {
        target: stage.server.proxy,
        connections,
        pace: Pace::Paused,
        ask: Box::new(move |number, out| ask(number, &mut dice, out)),
        hear: Some(Box::new(move |number, answer| {
            if answer.status == 200 {
                heard.borrow_mut().insert(number, answer.wanted.clone());
            }
        })),
        want: Some("X-Moesif-Transaction-Id"),
        tls: None,
    }
}

/// Small bodies are as likely as large ones: the size is drawn below a limit that is drawn too.
fn ask(number: u64, dice: &mut Dice, out: &mut Vec<u8>) {
    let limit = 1 << dice.below(17);
    let bytes = dice.below(limit + 1).min(BODY_BYTES_MAX);
    if dice.below(2) == 0 {
        let path = format!("/load/bytes/{bytes}?n={number}");
        out.extend_from_slice(&scene::get(&path, ""));
        return;
    }
    let head = format!(
        "POST /load/bytes/64?n={number} HTTP/1.1\r\nHost: load.example\r\n\
         Content-Type: application/json\r\nContent-Length: {bytes}\r\n\r\n"
    );
    out.extend_from_slice(head.as_bytes());
    upstream::json_of(bytes as usize, out);
}

fn dropped_by(admin: &mut Admin) -> Result<u64, Fault> {
    let events = &scene::status(admin)?["tollgate"]["events"];
    Ok(events["dropped"].as_u64().ok_or("the status tells no drops")?)
}

/// Waits until the gateway has nothing queued and the collector has had nothing new for a while.
pub(super) fn wait_until_delivered(server: &Server, collector: &Collector) -> Result<(), Fault> {
    wait_until_sent(&mut server.admin()?)?;
    wait_until_quiet(collector);
    Ok(())
}

/// Waits until nothing is queued: a batch that was cut waits longer for its next try than the
/// collector need be without news to be called quiet.
pub(super) fn wait_until_sent(admin: &mut Admin) -> Result<(), Fault> {
    let until = Instant::now() + Duration::from_secs(DELIVERY_SECONDS_MAX);
    while Instant::now() < until {
        if scene::status(admin)?["tollgate"]["events"]["queued"] == 0 {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Waits until the collector has had nothing new for a while.
pub(super) fn wait_until_quiet(collector: &Collector) {
    let until = Instant::now() + Duration::from_secs(DELIVERY_SECONDS_MAX);
    let (mut seen, mut since) = (0, Instant::now());
    while Instant::now() < until && since.elapsed() < Duration::from_secs(QUIET_SECONDS) {
        let events = collector.books().events;
        if events != seen {
            (seen, since) = (events, Instant::now());
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Compares what clients were told with the books.
pub(super) fn judge(heard: &HashMap<u64, String>, collector: &Collector, findings: &mut Findings) {
    judge_books(heard, &collector.books(), findings);
}

fn judge_books(heard: &HashMap<u64, String>, books: &Books, findings: &mut Findings) {
    let nameless = heard.values().filter(|id| id.is_empty()).count();
    let lost = heard.values().filter(|id| !books.ids.contains_key(*id)).count();
    let twice = books.numbers.values().filter(|ids| ids.len() > 1).count();
    let again = books.ids.values().filter(|count| **count > 1).count();
    let other = heard
        .iter()
        .filter(|(number, id)| books.numbers.get(number).is_some_and(|ids| !ids.contains(id)))
        .count();
    findings.note(&format!(
        "collector: {} events, {} ids in {} batches; {} strange, {} without id",
        books.events,
        books.ids.len(),
        books.batches,
        books.strange,
        books.nameless
    ));
    let answers = heard.len();
    findings
        .judge(nameless == 0, &format!("{nameless} of {answers} answers without a transaction id"));
    findings.judge(lost == 0, &format!("{lost} of {answers} counted answers were not reported"));
    findings.judge(twice == 0, &format!("{twice} requests were reported under two ids"));
    findings.judge(other == 0, &format!("{other} requests were reported under an id not told"));
    findings.judge(books.nameless == 0 && books.strange == 0, "every event was readable");
    findings.note(&format!("{again} ids came in more than one batch (the receiver merges them)"));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Judges answers (number, id told) against events (number, id) and counts the faults.
    #[track_caller]
    fn check(told: &[(u64, &str)], events: &[(u64, &str)], faults: u64) {
        let heard = told.iter().map(|(number, id)| (*number, (*id).to_owned())).collect();
        let mut books = Books::default();
        for (number, id) in events {
            *books.ids.entry((*id).to_owned()).or_default() += 1;
            let ids = books.numbers.entry(*number).or_default();
            if !ids.iter().any(|known| known == id) {
                ids.push((*id).to_owned());
            }
        }
        let mut findings = Findings::default();
        judge_books(&heard, &books, &mut findings);
        assert_eq!(findings.failed, faults);
    }

    #[test]
    fn lost_doubled_and_strange_events_are_seen() {
        check(&[(1, "a"), (2, "b")], &[(1, "a"), (2, "b")], 0);
        check(&[(1, "a")], &[(1, "a"), (1, "a"), (2, "not told")], 0);
        check(&[(1, "a"), (2, "b")], &[(1, "a")], 1);
        check(&[(1, "a")], &[(1, "a"), (1, "b")], 1);
        check(&[(1, "a")], &[(1, "b")], 2);
        check(&[(1, "")], &[], 2);
    }

    #[test]
    fn asks_are_whole_requests_with_their_number() {
        let mut dice = Dice::new(3);
        let mut posts = 0;
        for number in 0..200 {
            let mut out = Vec::new();
            ask(number, &mut dice, &mut out);
            let mut lines = [httparse::EMPTY_HEADER; 8];
            let mut head = httparse::Request::new(&mut lines);
            let httparse::Status::Complete(used) = head.parse(&out).unwrap() else { panic!() };
            assert!(head.path.unwrap().ends_with(&format!("?n={number}")));
            let mut body = crate::body::Body::announced(head.headers).unwrap_or_default();
            assert_eq!(body.take(&out[used..]), Ok(out.len() - used));
            assert!(body.is_over());
            posts += u64::from(head.method == Some("POST"));
        }
        assert!((50..150).contains(&posts), "{posts}");
    }
}

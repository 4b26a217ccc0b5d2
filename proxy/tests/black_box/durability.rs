//! What the Admin API has answered is on the disk: `kill -9` in the middle of many writes, on the
//! embedded store. (Power loss is another matter: see ARCHITECTURE.)

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::gateway::Gateway;
use super::http::{Connection, request};

/// Kills, writes that are acknowledged before each, and clients who write at the same time.
const ROUNDS: usize = 5;
const WRITES: usize = 2_000;
const WRITERS: usize = 8;
/// Every so many writes, one is of several rows: a certificate and its two SNIs.
const WHOLE_EVERY: usize = 50;

const CERTIFICATE: &str = include_str!("../../../store/tests/data/pem/ec.crt");
const KEY: &str = include_str!("../../../store/tests/data/pem/ec8.key");
const FORM: (&str, &str) = ("Content-Type", "application/json");

/// One write: its path and body, or a certificate with SNIs of that number.
fn write_of(number: usize) -> (String, String) {
    if number.is_multiple_of(WHOLE_EVERY) {
        let snis = [format!("a{number}.example"), format!("b{number}.example")];
        let body = serde_json::json!({ "cert": CERTIFICATE, "key": KEY, "snis": snis });
        return (format!("/certificates/{}", id_of(number)), body.to_string());
    }
    let body = serde_json::json!({ "custom_id": format!("id-{number}"), "tags": ["t", "u"] });
    (format!("/consumers/c{number}"), body.to_string())
}

fn id_of(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

/// Writes until the gateway dies; notes the number of every write that was answered.
fn write(port: u16, next: &AtomicUsize, acknowledged: &Mutex<Vec<usize>>) {
    let mut connection = Connection::open(port);
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let (path, body) = write_of(number);
        let bytes = request("PUT", &path, &[FORM], body.as_bytes());
        if connection.stream().write_all(&bytes).is_err() {
            return;
        }
        let Ok(answer) = connection.read(false) else { return };
        assert_eq!(answer.status, 200, "{}", answer.text());
        acknowledged.lock().unwrap().push(number);
    }
}

/// Every write that was answered is there, whole; nothing is there in half.
fn check(port: u16, acknowledged: &[usize], tried: usize) {
    let mut connection = Connection::open(port);
    let mut read = |path: &str| {
        let answer = connection.call("GET", path, &[], b"");
        (answer.status, answer.json())
    };
    for number in 0..tried {
        let is_owed = acknowledged.binary_search(&number).is_ok();
        if number.is_multiple_of(WHOLE_EVERY) {
            let (status, row) = read(&format!("/certificates/{}", id_of(number)));
            let snis =
                serde_json::json!([format!("a{number}.example"), format!("b{number}.example")]);
            assert!(status == 200 || !is_owed, "the certificate {number} is lost");
            assert!(status != 200 || row["snis"] == snis, "{number} is there in half: {row}");
            let (sni, _) = read(&format!("/snis/b{number}.example"));
            assert_eq!(sni, status, "the SNIs of {number} are not as its certificate");
        } else if is_owed {
            let (status, row) = read(&format!("/consumers/c{number}"));
            assert_eq!(status, 200, "the consumer {number} is lost");
            assert_eq!(row["custom_id"], format!("id-{number}"));
            assert_eq!(row["tags"], serde_json::json!(["t", "u"]));
        }
    }
}

#[test]
fn every_answered_write_survives_kill_9() {
    let mut gateway = Gateway::start("epoll", &[]);
    let (next, acknowledged) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    for round in 1..=ROUNDS {
        std::thread::scope(|scope| {
            let (port, next, acknowledged) = (gateway.admin, &next, &acknowledged);
            for _ in 0..WRITERS {
                scope.spawn(move || write(port, next, acknowledged));
            }
            while acknowledged.lock().unwrap().len() < round * WRITES {
                std::thread::sleep(Duration::from_millis(1));
            }
            gateway.kill_and_restart();
        });
    }
    let mut acknowledged = acknowledged.into_inner().unwrap();
    acknowledged.sort_unstable();
    assert!(acknowledged.len() >= ROUNDS * WRITES);
    check(gateway.admin, &acknowledged, next.into_inner());
}

//! One long session with a real Kong, call by call.

use super::normal::{Normaliser, answer_of};
use super::suite::Gateway;
use serde_json::{Value, json};
use std::path::Path;
use store::admin::Call;

/// Replays the calls of `recorded.jsonl` in order, up to number `last`, and compares status and
/// body.
///
/// # Panics
/// If an answer differs that is not in `known` (by number, with its reason), or one that is in it
/// does not differ any more.
#[track_caller]
pub(crate) fn replay(data: &Path, last: u64, known: &[(u64, &str)], mut gateway: Gateway) {
    let text = std::fs::read_to_string(data.join("recorded.jsonl")).expect("the recorded session");
    let (mut ours, mut theirs) = (Normaliser::default(), Normaliser::default());
    let (mut faults, mut passed, mut all) = (Vec::new(), 0, 0);
    for line in text.lines() {
        let recorded: Value = serde_json::from_str(line).expect("JSON");
        let number = recorded["n"].as_u64().expect("a number");
        if number > last {
            break;
        }
        all += 1;
        let answer = answer_of(&gateway(call(&recorded)));
        let want = theirs.value(&expected(&recorded), "");
        let got = ours.value(&shown(&recorded, &answer), "");
        let reason = known.iter().find(|(known, _)| *known == number);
        match (want == got, reason) {
            (true, None) => passed += 1,
            (true, Some(_)) => faults.push(format!("{number} passes now, take it off the list")),
            (false, Some((_, why))) => println!("recorded: known failure: {number}: {why}"),
            (false, None) => {
                let call = &recorded["call"];
                faults.push(format!(
                    "{number} {call} {}\n  want {want}\n  got  {got}",
                    recorded["body"]
                ));
            }
        }
    }
    println!("recorded: {passed} of {all} answers are Kong's");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn call(recorded: &Value) -> Call {
    let text = |name: &str| recorded[name].as_str();
    let (method, target) = text("call").and_then(|line| line.split_once(' ')).expect("a call");
    let call =
        Call::new(method, target).with_body(text("body").unwrap_or_default().as_bytes().to_vec());
    match text("type") {
        Some(kind) => call.header("Content-Type", kind.as_bytes()),
        None => call,
    }
}

/// What a list holds depends on random ids, so only its length is compared.
fn comparable(status: &Value, body: &Value) -> Value {
    match body["data"].as_array() {
        Some(rows) => {
            json!({ "status": status, "rows": rows.len(), "more": body["next"].is_string() })
        }
        None => json!({ "status": status, "body": body }),
    }
}

fn expected(recorded: &Value) -> Value {
    comparable(&recorded["status"], &recorded["answer"])
}

fn shown(recorded: &Value, answer: &Value) -> Value {
    let empty = recorded["answer"].is_null();
    let body = if empty && answer["body"] == json!("") { &Value::Null } else { &answer["body"] };
    comparable(&answer["status"], body)
}

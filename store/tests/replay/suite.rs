//! Whole suites: which cases pass, which are known not to.

use super::case::{Outcome, run};
use serde_json::Value;
use std::path::{Path, PathBuf};
use store::admin::{Call, Reply};

/// Answers calls; each case gets one of its own, without entities.
pub(crate) type Gateway = Box<dyn FnMut(Call) -> Reply>;

/// Most differences of one case that are printed.
const DIFFERENCES_SHOWN: usize = 4;

/// A case that is known not to pass, and why.
pub(crate) type Known = (&'static str, &'static str);

fn document(folder: &Path, suite: &str) -> Value {
    let path = folder.join(format!("{suite}.json"));
    let text = std::fs::read_to_string(&path).expect("a recorded suite");
    serde_json::from_str(&text).expect("JSON")
}

/// Replays one suite and prints how it went.
///
/// # Panics
/// If a case fails that is not in `known`, or one passes that is.
#[track_caller]
pub(crate) fn replay(data: &Path, suite: &str, known: &[Known], gateway: &dyn Fn() -> Gateway) {
    let cases = document(&data.join("cases"), suite);
    let golden = document(&data.join("golden"), suite);
    let cases = cases.as_array().expect("a list of cases");
    let mut faults = Vec::new();
    let (mut passed, mut ran, mut skipped) = (0, 0, 0);
    for case in cases {
        let name = case["name"].as_str().expect("a case has a name");
        let expected = golden[name].as_array().expect("a golden answer a step");
        let outcome: Outcome = run(case, expected, &mut *gateway());
        ran += outcome.ran;
        skipped += outcome.skipped;
        let reason = known.iter().find(|(case, _)| *case == name).map(|(_, why)| why);
        match (outcome.wrong.as_slice(), reason) {
            ([], None) => passed += 1,
            ([], Some(_)) => faults.push(format!("{name}: passes now, take it off the list")),
            (_, Some(why)) => println!("{suite}: known failure: {name}: {why}"),
            (wrong, None) => {
                let first = wrong.get(..DIFFERENCES_SHOWN).unwrap_or(wrong).join("\n    ");
                faults.push(format!("{name}: {} differences\n    {first}", wrong.len()));
            }
        }
    }
    println!(
        "{suite}: {passed} of {} cases pass ({ran} steps, {skipped} of the proxy left out)",
        cases.len()
    );
    let stale = known.iter().filter(|(case, _)| cases.iter().all(|known| known["name"] != *case));
    faults.extend(stale.map(|(case, _)| format!("{case}: there is no such case")));
    assert!(faults.is_empty(), "{suite}:\n{}", faults.join("\n"));
}

/// Where the recorded suites are.
pub(crate) fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/tests/data")
}

//! What a real Kong answered about plugins and what they bring along, replayed without sockets
//! against the Admin API over an embedded store, with the bundled plugins' own schemas.
//!
//! Lists of known failures may only shrink: a case that passes and is still listed fails the test.

#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot go on says why")]

#[path = "../../store/tests/replay/case.rs"]
mod case;
#[path = "../../store/tests/replay/document.rs"]
mod document;
#[path = "../../store/tests/replay/gateway.rs"]
mod gateway;
#[path = "../../store/tests/replay/hostile.rs"]
mod hostile;
#[path = "../../store/tests/replay/normal.rs"]
mod normal;
#[path = "../../store/tests/replay/recorded.rs"]
mod recorded;
#[path = "../../store/tests/replay/schemas.rs"]
mod schemas;
#[path = "../../store/tests/replay/suite.rs"]
mod suite;

use plugins::bundled::ALL;
use std::sync::Arc;
use store::schema::Catalogue;
use suite::Known;

fn catalogue() -> Arc<Catalogue> {
    let schemas = ALL.iter().map(|plugin| &plugin.schema).collect();
    let owned: Vec<_> = ALL.iter().flat_map(|plugin| plugin.entities.iter().copied()).collect();
    Arc::new(Catalogue::new(schemas, &owned))
}

#[track_caller]
fn check(suite: &str, known: &[Known]) {
    let catalogue = catalogue();
    suite::replay(&suite::data(), suite, known, &|| gateway::gateway(&catalogue));
}

#[test]
fn tutorial() {
    check("tutorial", &[]);
}

#[test]
fn moesif() {
    check("moesif-admin", &[]);
}

#[test]
fn misc() {
    check("admin-misc", &[]);
}

#[test]
fn consumers_and_credentials() {
    check("admin-consumers-credentials", &[]);
}

#[test]
fn plugin_rows() {
    check("admin-plugins", &[]);
}

#[test]
fn declarative() {
    let catalogue = catalogue();
    suite::replay(&suite::data(), "dbless", &[], &|| gateway::declarative(&catalogue));
}

#[test]
fn a_recorded_session() {
    recorded::replay(&suite::data(), u64::MAX, &[], gateway::gateway(&catalogue()));
}

/// Differences that stay, with their reasons.
const SCHEMA_DIFFERENCES: &[(&str, &str)] = &[
    (
        "session.fields/config.config.fields/secret.secret.auto: unexpected true",
        "Kong makes one default secret for each process; here each row gets its own",
    ),
    (
        "session.fields/config.config.fields/secret.secret.default: missing",
        "Kong makes one default secret for each process; here each row gets its own",
    ),
];

#[test]
fn schemas_are_those_of_kong() {
    let data = suite::data();
    let found = ALL.iter().filter_map(|plugin| {
        let name = plugin.schema.name;
        let path = data.join(format!("schemas/plugins/{name}.json"));
        schemas::between(&path, &store::describe::plugin_document(&plugin.schema), name)
    });
    let found: Vec<_> = found.collect();
    assert!(found.len() >= 45, "only {} were compared", found.len());
    let known = |fault: &str| SCHEMA_DIFFERENCES.iter().any(|(known, _)| fault.starts_with(known));
    let (known, new): (Vec<_>, Vec<_>) = found.concat().into_iter().partition(|fault| known(fault));
    assert!(new.is_empty(), "{}", new.join("\n"));
    assert_eq!(known.len(), SCHEMA_DIFFERENCES.len(), "one of them is gone: take it off the list");
}

#[test]
fn entities_of_plugins_are_described_as_by_kong() {
    let data = suite::data();
    let owned = ALL.iter().flat_map(|plugin| plugin.entities);
    let found = owned.filter_map(|entity| {
        let path = data.join(format!("schemas/{}.json", entity.name));
        schemas::between(&path, &store::describe::entity_document(entity), entity.name)
    });
    let faults = found.collect::<Vec<_>>().concat();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn calls_of_any_content_are_answered_without_a_database() {
    hostile::throw(1_000, gateway::declarative(&catalogue()));
}

#[test]
fn calls_of_any_content_are_answered() {
    hostile::throw(1_000, gateway::gateway(&catalogue()));
}

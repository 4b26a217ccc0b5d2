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

/// Why a case waits.
const PLUGIN: &str = "needs a plugin that is not built yet";
const ENTITY: &str = "needs an entity that is not built yet";

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
    check(
        "admin-misc",
        &[("a key set and a key are stored", ENTITY), ("a vault prefix is checked", ENTITY)],
    );
}

#[test]
fn consumers_and_credentials() {
    let known = [
        ("deleting a consumer takes its credentials with it", ENTITY),
        ("a basic-auth credential is stored hashed", ENTITY),
        ("a jwt credential gets a key, a secret and HS256 by itself", ENTITY),
        ("an hmac-auth credential needs a username and gets a secret", ENTITY),
        ("acl groups are added, read by group, listed and removed", ENTITY),
        ("an oauth2 credential gets a client id and secret", ENTITY),
        ("credentials are listed flat with their consumer", ENTITY),
    ];
    check("admin-consumers-credentials", &known);
}

#[test]
fn plugin_rows() {
    check("admin-plugins", &[("an acl takes either allow or deny", PLUGIN)]);
}

#[test]
fn a_recorded_session() {
    recorded::replay(&suite::data(), u64::MAX, &[], gateway::gateway(&catalogue()));
}

/// Differences that stay, with their reasons.
const SCHEMA_DIFFERENCES: &[(&str, &str)] = &[(
    "moesif.fields/config.config.fields/batch_size.batch_size.elements: missing",
    "a number has no elements: a slip of the plugin's schema that means nothing",
)];

#[test]
fn schemas_are_those_of_kong() {
    let data = suite::data();
    let found = ALL.iter().filter_map(|plugin| schemas::differences(&data, &plugin.schema));
    let found: Vec<_> = found.collect();
    assert!(found.len() >= 4, "only {} were compared", found.len());
    let known = |fault: &str| SCHEMA_DIFFERENCES.iter().any(|(known, _)| fault.starts_with(known));
    let (known, new): (Vec<_>, Vec<_>) = found.concat().into_iter().partition(|fault| known(fault));
    assert!(new.is_empty(), "{}", new.join("\n"));
    assert_eq!(known.len(), SCHEMA_DIFFERENCES.len(), "one of them is gone: take it off the list");
}

#[test]
fn calls_of_any_content_are_answered() {
    hostile::throw(1_000, gateway::gateway(&catalogue()));
}

//! A plugin that gets one line of any content. It must answer or pass, never panic, and let nobody
//! in whom it does not know.

use plugins::pdk::Spec;
use plugins::pdk::script::Script;

/// Sends `sent` as the value of a header line, behind `prefix`.
pub fn throw(script: &Script, name: &str, prefix: &[u8], sent: &[u8]) {
    let mut exchange = script.get("/r", &[("Date", "Thu, 01 Jan 2026 00:00:00 GMT")]);
    exchange.times.started_wall_us = 1_767_225_600_000_000;
    exchange.request.fields.set(name, [prefix, sent].concat());
    let plugin = script.plugin();
    drop(plugin.access(&mut exchange));
    assert!(exchange.credential.is_none(), "nobody has a credential");
    plugin.header_filter(&mut exchange);
}

/// A plugin, a consumer with a credential whose secret nobody guesses, and no other rows.
pub fn script(
    spec: &'static Spec,
    config: serde_json::Value,
    credential: Option<(&str, serde_json::Value)>,
) -> Script {
    const BOB: &str = "00000000-0000-4000-8000-000000000001";
    let bob = serde_json::json!({"id": BOB, "username": "bob"});
    let script = Script::new(spec, config).row("consumers", bob);
    let Some((entity, mut row)) = credential else { return script };
    if let Some(members) = row.as_object_mut() {
        members.insert("consumer".to_owned(), serde_json::json!({ "id": BOB }));
    }
    script.row(entity, row)
}

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

/// A plugin without rows.
pub fn script(spec: &'static Spec, config: serde_json::Value) -> Script {
    Script::new(spec, config)
}

//! Any content of a `Cookie` line.
#![no_main]

mod plugin;

use serde_json::json;

libfuzzer_sys::fuzz_target!(|sent: &[u8]| {
    thread_local! {
        static SCRIPT: plugins::pdk::script::Script = plugin::script(
            &plugins::bundled::session::PLUGIN,
            json!({"secret": "s"}),
            None,
        );
    }
    SCRIPT.with(|script| {
        plugin::throw(script, "Cookie", b"", sent);
        plugin::throw(script, "Cookie", b"session=", sent);
    });
});

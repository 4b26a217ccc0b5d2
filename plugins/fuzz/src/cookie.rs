//! Any content of a `Cookie` line, and any bytes in the place of a session.
#![no_main]

mod plugin;

use plugins::pdk::credentials::to_base64url;
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
        plugin::throw(script, "Cookie", b"session=", to_base64url(sent).as_bytes());
    });
});

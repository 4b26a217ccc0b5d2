//! Any content of an `Authorization` line.
#![no_main]

mod plugin;

use serde_json::json;

const SECRET: &str = "Rn4tYv0cB7qLk2Xs9WdZ";

libfuzzer_sys::fuzz_target!(|sent: &[u8]| {
    thread_local! {
        static SCRIPT: plugins::pdk::script::Script = plugin::script(
            &plugins::bundled::hmac_auth::PLUGIN,
            json!({}),
            Some(("hmacauth_credentials", json!({"username": "h", "secret": SECRET}))),
        );
    }
    SCRIPT.with(|script| {
        plugin::throw(script, "Authorization", b"", sent);
        plugin::throw(script, "Authorization", b"hmac username=\"", sent);
    });
});

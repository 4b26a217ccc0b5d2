//! Any content of an `Authorization` line, and any two texts as header and claims of a token.
#![no_main]

mod plugin;

use plugins::pdk::credentials::to_base64url;
use serde_json::json;

const SECRET: &str = "Rn4tYv0cB7qLk2Xs9WdZ";

libfuzzer_sys::fuzz_target!(|sent: &[u8]| {
    thread_local! {
        static SCRIPT: plugins::pdk::script::Script = plugin::script(
            &plugins::bundled::jwt::PLUGIN,
            json!({"cookie_names": ["t"]}),
            Some(("jwt_secrets", json!({"key": "i", "secret": SECRET}))),
        );
    }
    SCRIPT.with(|script| {
        plugin::throw(script, "Authorization", b"", sent);
        plugin::throw(script, "Authorization", b"Bearer ", sent);
        // Mutations of base64 seldom are JSON.
        let mut parts = sent.splitn(2, |byte| *byte == b'\n');
        let [header, claims] = [(); 2].map(|()| to_base64url(parts.next().unwrap_or_default()));
        let token = format!("{header}.{claims}.{}", "A".repeat(43));
        plugin::throw(script, "Authorization", b"Bearer ", token.as_bytes());
    });
});

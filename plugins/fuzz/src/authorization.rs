//! Any content of an `Authorization` line, and any name with any password.
#![no_main]

mod plugin;

use plugins::pdk::credentials::to_base64_unpadded;
use serde_json::json;

const SECRET: &str = "Rn4tYv0cB7qLk2Xs9WdZ";

libfuzzer_sys::fuzz_target!(|sent: &[u8]| {
    thread_local! {
        static SCRIPT: plugins::pdk::script::Script = plugin::script(
            &plugins::bundled::basic_auth::PLUGIN,
            json!({}),
            Some(("basicauth_credentials", json!({"username": "u", "password": SECRET}))),
        );
    }
    SCRIPT.with(|script| {
        plugin::throw(script, "Authorization", b"", sent);
        plugin::throw(script, "Authorization", b"Basic ", sent);
        plugin::throw(script, "Authorization", b"Basic ", to_base64_unpadded(sent).as_bytes());
    });
});

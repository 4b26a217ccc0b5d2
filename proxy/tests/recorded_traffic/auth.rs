//! The authentication plugins.

use crate::replay::{Known, Plan, replay};

const PAST: &str =
    "what was signed for a date that has passed; the plugin's own tests have a clock";
const LUA: &str = "needs pre-function, which runs Lua";
const SECOND: &str = "a token of one second needs a clock; the plugin's own tests have one";

#[test]
fn acl() {
    let known =
        &[Known("authenticated groups set by another plugin, without a consumer", "all", LUA)];
    // Kong had not seen yet that the anonymous consumer is in a group.
    let skips = &[("anonymous consumer in a group; groups header", 0)];
    replay("acl", &Plan { known, skips, ..Plan::default() });
}

#[test]
fn basic_auth() {
    replay("basic-auth", &Plan::default());
}

#[test]
fn hmac_auth() {
    let known =
        &[Known("enforce_headers, algorithms limited, hide_credentials, clock skew", "all", PAST)];
    replay("hmac-auth", &Plan { known, ..Plan::default() });
}

#[test]
fn jwt() {
    let known = &[Known(
        "key_claim_name kid in the header; secret_is_base64; cookie; header_names; \
         maximum_expiration",
        "all",
        PAST,
    )];
    replay("jwt", &Plan { known, ..Plan::default() });
}

#[test]
fn key_auth() {
    replay("key-auth", &Plan::default());
}

#[test]
fn oauth2() {
    let known = &[Known(
        "client credentials; token in query, in body, in a header without Bearer; expired token",
        "all",
        SECOND,
    )];
    replay("oauth2", &Plan { known, ..Plan::default() });
}

#[test]
fn session() {
    replay("session", &Plan::default());
}

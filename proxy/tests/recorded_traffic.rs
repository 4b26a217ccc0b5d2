//! What a real Kong did with each plugin, replayed over sockets: the same entities, the same
//! requests, an upstream that answers as it did then. Compared are the answers of the Admin API's
//! set-up, what the client gets, and what the upstream got.
//!
//! `tests/data/plugins/*.jsonl` are the recorded scenarios, one a line. What differs on purpose
//! stands in a list with its reason; an entry that no longer differs fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "recorded_traffic/auth.rs"]
mod auth;
#[path = "recorded_traffic/compare.rs"]
mod compare;
#[allow(dead_code, reason = "the replay needs a part of it")]
#[path = "black_box/gateway.rs"]
mod gateway;
#[allow(dead_code, reason = "the replay needs a part of it")]
#[path = "black_box/http.rs"]
mod http;
#[path = "recorded_traffic/learn.rs"]
mod learn;
#[path = "recorded_traffic/replay.rs"]
mod replay;
#[path = "recorded_traffic/tls.rs"]
mod tls;
#[path = "recorded_traffic/upstream.rs"]
mod upstream;

use replay::{Known, Plan, replay};

/// nginx's own pages, where Kong ends a request without a body.
const PAGE: &str = "nginx's page for an answer without a body is an accident: the body is empty";
/// Needs a Redis.
const REDIS: &str = "the replay has no Redis";
/// Needs a plugin with Lua code.
const LUA: &str = "needs pre-function, which runs Lua";

#[test]
fn cors() {
    replay("cors", &Plan::default());
}

#[test]
fn correlation_id() {
    let known = &[
        Known("404, terminated, 401 with echo", "response 0", PAGE),
        Known("404, terminated, 401 with echo", "response 1", PAGE),
    ];
    replay("correlation-id", &Plan { known, ..Plan::default() });
}

#[test]
fn bot_detection() {
    replay("bot-detection", &Plan::default());
}

#[test]
fn redirect() {
    replay("redirect", &Plan::default());
}

#[test]
fn standard_webhooks() {
    replay("standard-webhooks", &Plan::default());
}

#[test]
fn request_transformer() {
    let known = &[
        Known("templates: headers, query_params, uri_captures, shared, consumer-less", "all", LUA),
        Known(
            "templates: lua expression and escape",
            "all",
            "Kong stores it and answers 500; here the template is refused at once",
        ),
    ];
    replay("request-transformer", &Plan { known, ..Plan::default() });
}

#[test]
fn response_transformer() {
    replay("response-transformer", &Plan::default());
}

#[test]
fn response_ratelimiting() {
    const GIVES_BACK: &str = "a negative amount gives nothing back";
    let known = &[
        Known("malformed and unknown limits in the upstream's header", "response 5", GIVES_BACK),
        Known("malformed and unknown limits in the upstream's header", "response 6", GIVES_BACK),
        Known("policy redis: keys and commands", "all", REDIS),
    ];
    replay("response-ratelimiting", &Plan { known, in_one_minute: true, ..Plan::default() });
}

#[test]
fn proxy_cache() {
    const ADMIN: &str = "Admin API: GET, DELETE one, DELETE all";
    const KEPT: &str = "lines of one connection, and the cache's own status, are not kept";
    const JSON: &str = "what is not found is told in JSON, not by nginx's page";
    let known = &[
        Known(ADMIN, "response 1", KEPT),
        Known(ADMIN, "response 2", KEPT),
        Known(ADMIN, "response 4", JSON),
        Known(ADMIN, "response 5", JSON),
    ];
    let rests = &[("Miss, Hit, Refresh after ttl; headers", 2, 1_100)];
    replay("proxy-cache", &Plan { known, rests, ..Plan::default() });
}

#[test]
fn request_termination() {
    const ECHO: &str = "trigger by header, by query; echo";
    const ROWS: &str = "an echo shows this node, and rows as the Admin API shows them";
    let known = &[
        Known(ECHO, "response 1", ROWS),
        Known(ECHO, "response 2", ROWS),
        Known(ECHO, "response 3", ROWS),
    ];
    replay("request-termination", &Plan { known, ..Plan::default() });
}

#[test]
fn rate_limiting() {
    let known = &[
        Known("policy redis: keys, expiry and commands", "all", REDIS),
        Known("policy redis: database 1, limit by consumer, by header, exhausted", "all", REDIS),
        Known("policy redis with sync_rate 0.3: counts are pushed in the background", "all", REDIS),
        Known("policy redis unreachable, fault_tolerant true and false", "all", REDIS),
    ];
    replay("rate-limiting", &Plan { known, in_one_minute: true, ..Plan::default() });
}

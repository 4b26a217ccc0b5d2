//! What a real Kong's log plugins sent to third parties, replayed over sockets: the same entities,
//! the same requests byte by byte, an upstream and sinks that answer as they did then. Compared is
//! what the sinks got.
//!
//! `tests/data/logs/*.jsonl` are the recorded scenarios, one a line. What is not compared stands in a
//! list with its reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code, reason = "the replay needs a part of it")]
#[path = "black_box/gateway.rs"]
mod gateway;
#[allow(dead_code, reason = "the replay needs a part of it")]
#[path = "black_box/http.rs"]
mod http;
#[path = "recorded_logs/normal.rs"]
mod normal;
#[path = "recorded_logs/replay.rs"]
mod replay;
#[path = "recorded_logs/scrape.rs"]
mod scrape;
#[path = "recorded_logs/stand_ins.rs"]
mod stand_ins;

use replay::replay;

/// A scenario that is not replayed, or does not come out the same, and why.
type Known = (&'static str, &'static str);

const TLS: &str = "the stand-in has no certificate; TLS to a sink is tested beside the sink";
const TIMED: &str = "turns on the sink's timing, which this replay does not script: see black_box";

#[test]
fn http_log() {
    const KNOWN: &[Known] = &[
        ("https sink", TLS),
        (
            "custom_fields_by_lua: a snippet that raises an error: nothing is sent at all",
            "Kong loses the entry; here the row is refused, because the snippet needs Lua",
        ),
        ("document: TLS client, HTTP/1.1", "the replay speaks no TLS: see black_box"),
        (
            "document: upstream object with two targets, first refuses",
            "which of two equal targets is first is chance: then it was the one that answers",
        ),
        ("queue of max_entries 3 while the sink is slow: the oldest entries are dropped", TIMED),
        ("sink times out (timeout 300 ms), retried", TIMED),
    ];
    replay("http-log", KNOWN);
}

#[test]
fn file_log() {
    const KNOWN: &[Known] = &[
        ("reopen false: a renamed file goes on receiving", TIMED),
        ("reopen true: after a rename a new file is made", TIMED),
        ("/dev/stdout is accepted", "nothing to compare"),
    ];
    replay("file-log", KNOWN);
}

#[test]
fn tcp_log() {
    replay("tcp-log", &[("TLS with SNI", TLS)]);
}

#[test]
fn udp_log() {
    replay("udp-log", &[]);
}

#[test]
fn loggly() {
    replay("loggly", &[]);
}

#[test]
fn statsd() {
    // Lines about shared dictionaries are not compared: there are none here.
    replay("statsd", &[]);
}

#[test]
fn syslog() {
    replay("syslog", &[]);
}

#[test]
fn datadog() {
    replay("datadog", &[]);
}

#[test]
fn prometheus() {
    scrape::replay();
}

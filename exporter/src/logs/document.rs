//! The log document: one exchange as JSON, as the log plugins of Kong send it.
//!
//! Source: recorded documents; Kong `kong/pdk/log.lua` (what stands under which name).

use super::record::LogRecord;
use super::report::Try;
use super::rows::Found;
use crate::event::Scheme;
use crate::event::record::LineBytes;
use crate::moesif::json::push_text;
use std::borrow::Cow;
use std::io::Write;

/// Most arguments of a query that are shown.
const ARGUMENTS_MAX: usize = 100;
/// Request headers that never leave.
const SECRET: [&str; 2] = ["authorization", "proxy-authorization"];

/// Appends the document of one record as one line of JSON.
pub(super) fn push_document(out: &mut Vec<u8>, record: &LogRecord<'_>, found: &Found) {
    push_request(out, record);
    push_upstream(out, record);
    push_response(out, record);
    push_latencies(out, record);
    if record.route.is_some() {
        push_tries(out, &record.tries);
    }
    if let Some(credential) = record.credential {
        out.extend_from_slice(b",\"authenticated_entity\":{\"id\":");
        push_text(out, credential);
        out.push(b'}');
    }
    for (name, row) in
        [("route", &found.route), ("service", &found.service), ("consumer", &found.consumer)]
    {
        if let Some(row) = row {
            push(out, format_args!(",\"{name}\":"));
            out.extend_from_slice(&row.text);
        }
    }
    for (name, value) in record.values.iter() {
        out.push(b',');
        push_text(out, name);
        out.push(b':');
        push_text(out, value);
    }
    push(out, format_args!(",\"client_ip\":\"{}\"", record.client_ip));
    push(out, format_args!(",\"started_at\":{}", record.started_us / 1_000));
    let source = if record.from_upstream { "upstream" } else { "kong" };
    push(out, format_args!(",\"source\":\"{source}\""));
    out.extend_from_slice(b",\"workspace\":");
    push_text(out, found.workspace.id.as_bytes());
    out.extend_from_slice(b",\"workspace_name\":");
    push_text(out, found.workspace.name.as_bytes());
    out.push(b'}');
}

fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // A vector takes everything.
    let _never = out.write_fmt(text);
}

fn push_request(out: &mut Vec<u8>, record: &LogRecord<'_>) {
    let id = std::str::from_utf8(&record.request_id).unwrap_or_default();
    push(out, format_args!("{{\"request\":{{\"id\":\"{id}\",\"method\":"));
    push_text(out, record.method);
    out.extend_from_slice(b",\"uri\":");
    push_text(out, record.target);
    out.extend_from_slice(b",\"url\":");
    push_text(out, &url(record));
    push(out, format_args!(",\"size\":{},\"querystring\":", record.request_bytes));
    push_query(out, query(record));
    out.extend_from_slice(b",\"headers\":");
    push_lines(out, &record.request_lines, &SECRET, &[]);
    if let Some((version, cipher)) = record.tls {
        out.extend_from_slice(b",\"tls\":{\"version\":");
        push_text(out, version);
        out.extend_from_slice(b",\"cipher\":");
        push_text(out, cipher);
        out.extend_from_slice(b",\"client_verify\":\"NONE\"}");
    }
    out.push(b'}');
}

fn url(record: &LogRecord<'_>) -> Vec<u8> {
    let scheme = match record.scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    let mut url = Vec::with_capacity(record.target.len() + record.host.len() + 16);
    push(&mut url, format_args!("{scheme}://"));
    url.extend(record.host.iter().map(u8::to_ascii_lowercase));
    push(&mut url, format_args!(":{}", record.port));
    url.extend_from_slice(record.target);
    url
}

/// The query as plugins left it; the client's where nothing was routed.
pub(super) fn query<'a>(record: &LogRecord<'a>) -> &'a [u8] {
    if record.route.is_some() {
        return record.upstream_query.unwrap_or_default();
    }
    let mut parts = record.target.splitn(2, |byte| *byte == b'?');
    parts.nth(1).unwrap_or_default()
}

/// One argument of a query, decoded; no value stands for a name without `=`.
type Argument<'a> = (Cow<'a, [u8]>, Option<Cow<'a, [u8]>>);

/// The arguments of a query.
pub(super) fn arguments(query: &[u8]) -> Vec<Argument<'_>> {
    let parts = query.split(|byte| *byte == b'&');
    let pair = |part: &'_ [u8]| -> (usize, bool) {
        part.iter().position(|byte| *byte == b'=').map_or((part.len(), false), |at| (at, true))
    };
    parts
        .map(|part| {
            let (at, valued) = pair(part);
            let (name, rest) = part.split_at_checked(at).unwrap_or((part, &[]));
            let value = valued.then(|| decoded(rest.get(1..).unwrap_or_default()));
            (decoded(name), value)
        })
        .filter(|(name, _)| !name.is_empty())
        .take(ARGUMENTS_MAX)
        .collect()
}

/// Percent escapes and `+` resolved; what is no escape stays as it is.
fn decoded(part: &[u8]) -> Cow<'_, [u8]> {
    if !part.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(part);
    }
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let mut out = Vec::with_capacity(part.len());
    let mut rest = part;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let byte = match (first, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, behind @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = behind;
                    high << 4 | low
                }
                _ => b'%',
            },
            _ => *first,
        };
        out.push(byte);
    }
    Cow::Owned(out)
}

fn push_query(out: &mut Vec<u8>, query: &[u8]) {
    let mut pairs = arguments(query);
    // Stable: values of one name keep their order.
    pairs.sort_by(|one, other| one.0.cmp(&other.0));
    push_groups(out, &pairs, |out, value| match value {
        Some(value) => push_text(out, value),
        None => out.extend_from_slice(b"true"),
    });
}

/// Pairs sorted by name as one object; what has several values becomes a list.
fn push_groups<N: AsRef<[u8]> + PartialEq, V>(
    out: &mut Vec<u8>,
    pairs: &[(N, V)],
    push_value: impl Fn(&mut Vec<u8>, &V),
) {
    out.push(b'{');
    for (number, group) in pairs.chunk_by(|one, other| one.0 == other.0).enumerate() {
        let Some((name, value)) = group.first() else { continue };
        if number > 0 {
            out.push(b',');
        }
        push_text(out, name.as_ref());
        out.push(b':');
        if group.len() == 1 {
            push_value(out, value);
            continue;
        }
        for (number, (_, value)) in group.iter().enumerate() {
            out.push(if number == 0 { b'[' } else { b',' });
            push_value(out, value);
        }
        out.push(b']');
    }
    out.push(b'}');
}

/// Header lines as one object, names in lower case, and `more` of them.
fn push_lines(out: &mut Vec<u8>, lines: &LineBytes<'_>, secret: &[&str], more: &[(&[u8], &[u8])]) {
    let all = lines.iter().chain(more.iter().copied());
    let mut pairs: Vec<(Vec<u8>, &[u8])> =
        all.map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    for (name, value) in &mut pairs {
        if secret.iter().any(|word| word.as_bytes() == name.as_slice()) {
            *value = b"REDACTED";
        }
    }
    pairs.sort_by(|one, other| one.0.cmp(&other.0));
    push_groups(out, &pairs, |out, value| push_text(out, value));
}

fn push_upstream(out: &mut Vec<u8>, record: &LogRecord<'_>) {
    out.extend_from_slice(b",\"upstream_uri\":");
    let mut uri = record.upstream_path.to_vec();
    if let Some(query) = record.upstream_query {
        uri.push(b'?');
        uri.extend_from_slice(query);
    }
    push_text(out, &uri);
    out.extend_from_slice(b",\"upstream_status\":\"");
    for (number, one) in record.tries.iter().enumerate() {
        push(out, format_args!("{}{}", if number == 0 { "" } else { ", " }, one.status));
    }
    out.push(b'"');
}

fn push_response(out: &mut Vec<u8>, record: &LogRecord<'_>) {
    push(out, format_args!(",\"response\":{{\"status\":{},\"size\":", record.status));
    push(out, format_args!("{},\"headers\":", record.response_bytes));
    let connection: &[u8] = match (record.status, record.keep_alive) {
        (101, _) => b"upgrade",
        (_, true) => b"keep-alive",
        (_, false) => b"close",
    };
    let length = record.content_length.map(|bytes| bytes.to_string());
    let mut more: Vec<(&[u8], &[u8])> = Vec::with_capacity(3);
    if record.response_lines.get(b"connection").is_none() {
        more.push((b"connection", connection));
    }
    if let Some(length) = &length {
        more.push((b"content-length", length.as_bytes()));
    }
    if record.chunked {
        more.push((b"transfer-encoding", b"chunked"));
    }
    push_lines(out, &record.response_lines, &[], &more);
    out.push(b'}');
}

fn push_latencies(out: &mut Vec<u8>, record: &LogRecord<'_>) {
    let times = &record.latencies;
    let proxy_ms = times.proxy_ms.map_or(-1, i64::from);
    push(out, format_args!(",\"latencies\":{{\"request\":{},", times.request_ms));
    push(out, format_args!("\"kong\":{},\"proxy\":{proxy_ms},", times.kong_ms));
    push(out, format_args!("\"receive\":{}}}", times.receive_ms));
}

fn push_tries(out: &mut Vec<u8>, tries: &[Try]) {
    out.extend_from_slice(b",\"tries\":[");
    for (number, one) in tries.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        let (ms, ns) = (one.started_us / 1_000, u128::from(one.started_us) * 1_000);
        push(out, format_args!("{comma}{{\"balancer_start\":{ms},\"balancer_start_ns\":{ns}"));
        let (ms, ns) = (one.chosen_us / 1_000, u64::from(one.chosen_us) * 1_000);
        push(out, format_args!(",\"balancer_latency\":{ms},\"balancer_latency_ns\":{ns}"));
        push(out, format_args!(",\"ip\":\"{}\"", one.address.ip()));
        push(out, format_args!(",\"port\":{}", one.address.port()));
        if one.failed {
            push(out, format_args!(",\"state\":\"failed\",\"code\":{}", one.status));
        }
        out.push(b'}');
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{bytes_of, report};
    use super::super::report::LogReport;
    use super::*;
    use crate::event::Lines;
    use crate::logs::rows::tests::found;
    use serde_json::{Value, json};

    fn document(report: &LogReport<'_>) -> Value {
        let bytes = bytes_of(report);
        let record = LogRecord::read(&bytes).unwrap();
        let mut out = Vec::new();
        push_document(&mut out, &record, &found(&record));
        assert!(!out.contains(&b'\n'));
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn the_document_of_an_answered_request() {
        let expected = json!({
            "request": {
                "id": "0123456789abcdef0123456789abcdef", "method": "GET",
                "uri": "/r?a=1&b=2&a=3", "url": "http://127.0.0.1:8000/r?a=1&b=2&a=3",
                "size": 131, "querystring": {"a": ["1", "3"], "b": "2"},
                "headers": {"authorization": "REDACTED", "host": "127.0.0.1:8000"},
            },
            "upstream_uri": "/?a=1&b=2&a=3", "upstream_status": "200",
            "response": {"status": 200, "size": 248, "headers": {
                "connection": "close", "content-length": "11", "content-type": "application/json",
            }},
            "latencies": {"request": 6, "kong": 1, "proxy": 2, "receive": 3},
            "tries": [{
                "balancer_start": 1_795_300_901_852_u64,
                "balancer_start_ns": 1_795_300_901_852_500_000_u64,
                "balancer_latency": 0, "balancer_latency_ns": 16_000,
                "ip": "127.0.0.1", "port": 9999,
            }],
            "route": {"id": "00000000-0000-0000-0000-000000000003", "name": "r"},
            "service": {"id": "00000000-0000-0000-0000-000000000004", "name": "s", "host": "h"},
            "client_ip": "127.0.0.1", "started_at": 1_795_300_901_852_u64, "source": "upstream",
            "workspace": "w-id", "workspace_name": "default", "correlation_id": "c-1",
        });
        assert_eq!(document(&report()), expected);
    }

    #[test]
    fn without_a_route_there_are_no_tries_and_the_query_is_the_clients() {
        let lost = LogReport {
            route: None,
            service: None,
            target: b"/none?x=%20y&flag&e=",
            upstream_path: b"",
            upstream_query: None,
            tries: &[],
            from_upstream: false,
            status: 404,
            latencies: super::super::Latencies { proxy_ms: None, ..report().latencies },
            ..report()
        };
        let document = document(&lost);
        assert_eq!(document["request"]["querystring"], json!({"x": " y", "flag": true, "e": ""}));
        assert_eq!(
            (&document["upstream_uri"], &document["upstream_status"]),
            (&json!(""), &json!(""))
        );
        assert_eq!((document.get("tries"), document.get("route")), (None, None));
        assert_eq!(
            (&document["source"], &document["latencies"]["proxy"]),
            (&json!("kong"), &json!(-1))
        );
    }

    #[test]
    fn tries_that_failed_tell_their_code() {
        let one = Try { status: 502, failed: true, ..report().tries[0] };
        let tries = [one, Try { status: 504, ..one }];
        let document = document(&LogReport { tries: &tries, from_upstream: false, ..report() });
        assert_eq!(document["upstream_status"], "502, 504");
        assert_eq!(
            (&document["tries"][1]["state"], &document["tries"][1]["code"]),
            (&json!("failed"), &json!(504))
        );
    }

    #[test]
    fn repeated_lines_are_lists_and_bytes_that_are_no_text_are_marked() {
        let lines: &[(&[u8], &[u8])] = &[(b"X-A", b"1"), (b"x-a", b"2"), (b"X-B", b"\xff\"")];
        let document = document(&LogReport {
            request_fields: Lines::Pairs(lines),
            keep_alive: true,
            chunked: true,
            content_length: None,
            ..report()
        });
        let headers = &document["request"]["headers"];
        assert_eq!(headers, &json!({"x-a": ["1", "2"], "x-b": "\u{fffd}\""}));
        let expected = json!({
            "connection": "keep-alive", "transfer-encoding": "chunked",
            "content-type": "application/json",
        });
        assert_eq!(document["response"]["headers"], expected);
    }
}

//! Any heads and bodies as an event: valid JSON within its size, and nothing that is masked: no
//! masked header or argument, and no body in which a masked key stands as JSON writes it.
//!
//! The input is lines of a head, `name: value`, an empty line, and a body; both sides of the
//! exchange get them. The first byte says which settings apply.
#![no_main]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use exporter::event::record::Record;
use exporter::event::{
    Body, BodyState, Consumer as Caller, Credential, Direction, Lines, RECORD_VERSION, Report,
    Scheme,
};
use exporter::moesif::event::{EVENT_BYTES_MAX, push_event};
use exporter::moesif::json::names_member;
use exporter::moesif::settings::Settings;
use libfuzzer_sys::fuzz_target;
use runtime::ring::{self, Consumer, Next, Producer};
use std::cell::RefCell;

/// A value that no input has by chance.
const SECRET: &str = "s3cr3t-0123456789";

fn settings(choice: u8) -> Option<Settings> {
    let config = serde_json::json!({
        "application_id": "a",
        "request_body_masks": ["pin", "a\"b"],
        "response_body_masks": ["pin"],
        "request_header_masks": ["x-secret"],
        "response_header_masks": ["x-secret"],
        "request_query_masks": ["token"],
        "disable_gzip_payload_decompression": choice & 1 != 0,
        "user_id_header": if choice & 2 != 0 { "x-user" } else { "" },
        "authorization_company_id_field": "org",
        "debug": choice & 4 != 0,
        "request_max_body_size_limit": 100_000,
        "response_max_body_size_limit": 100_000,
    });
    Settings::parse(&config)
}

fuzz_target!(|input: &[u8]| {
    let Some((&choice, input)) = input.split_first() else { return };
    let end = input.windows(2).position(|pair| pair == b"\n\n").unwrap_or(input.len());
    let (head, body) = input.split_at(end);
    let body = body.strip_prefix(b"\n\n").unwrap_or_default();
    let mut lines: Vec<(&[u8], &[u8])> = head
        .split(|byte| *byte == b'\n')
        .map(|line| {
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            let (name, value) = line.split_at(colon);
            (name, value.strip_prefix(b":").unwrap_or_default().trim_ascii())
        })
        .collect();
    lines.push((b"X-Secret", SECRET.as_bytes()));
    let target = format!("/p?x=1&token={SECRET}");
    let pieces = [body];
    let captured = Body { state: BodyState::Captured, pieces: &pieces };
    let report = Report {
        rows: &[],
        transaction_id: [7; 16],
        started_us: 1,
        ended_us: 2,
        direction: Direction::Incoming,
        scheme: Scheme::Https,
        host: lines.first().map_or(&[][..], |line| line.1),
        port: 1,
        target: target.as_bytes(),
        method: "POST",
        client_ip: [127, 0, 0, 1].into(),
        client_ip_headers_trusted: true,
        access_ran: true,
        request_fields: Lines::Pairs(&lines),
        request_body: captured,
        status: 200,
        response_fields: Lines::Pairs(&lines),
        response_fields_more: Lines::Pairs(&[]),
        response_body: captured,
        consumer: Caller::default(),
        credential: Credential::default(),
        service_name: None,
        route_hosts: None,
        blocked_by: None,
        weight: 1,
    };
    RING.with_borrow_mut(|ring| {
        let Some((producer, consumer)) = ring else { return };
        if report.commit(producer) {
            let taken = consumer.take();
            assert!(matches!(taken, Next::Record { .. }), "what was committed is there");
            if let Next::Record { bytes, .. } = taken {
                check(bytes, choice);
            }
            consumer.release();
        }
    });
});

thread_local! {
    /// One for all inputs: to make one takes longer than to make an event.
    static RING: RefCell<Option<(Producer, Consumer)>> =
        RefCell::new(ring::anonymous(1 << 20, RECORD_VERSION).ok());
}

/// One record as an event.
fn check(bytes: &[u8], choice: u8) {
    let record = Record::read(bytes);
    assert!(record.is_ok(), "our own record is read");
    let (Ok(record), Some(settings)) = (record, settings(choice)) else { return };
    let mut event = Vec::new();
    push_event(&mut event, &record, &settings);
    assert!(event.len() <= EVENT_BYTES_MAX, "{} bytes", event.len());
    let text = String::from_utf8_lossy(&event);
    assert!(!text.contains('\u{fffd}') || std::str::from_utf8(&event).is_ok(), "it is UTF-8");
    assert!(!text.contains(SECRET), "something masked is in {text}");
    // serde_json stops at a depth of 128; ours goes further, and knows the grammar itself.
    match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(event) => {
            for side in ["request", "response"] {
                let body = event.pointer(&format!("/{side}/body"));
                let shown = body.map(shown).unwrap_or_default();
                assert!(!names_member(&shown, &["pin".to_owned()]), "a masked key in {text}");
            }
        }
        Err(fault) => assert!(fault.to_string().contains("recursion"), "{fault} in {text}"),
    }
}

/// A body's bytes as the event shows them.
fn shown(body: &serde_json::Value) -> Vec<u8> {
    match body.as_str() {
        Some(text) => STANDARD.decode(text).unwrap_or_else(|_| b"\"pin\":".to_vec()),
        None => body.to_string().into_bytes(),
    }
}

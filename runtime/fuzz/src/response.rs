//! Any bytes as a response: no panic, no surprise by a cut, and what is written is read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runtime::http::body::response_framing;
use runtime::http::head::{Limits, Response, Version, parse_response};
use runtime::http::write;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { header_line_bytes_max: 256, headers_max: 80, ..Limits::default() };
    let mut response = Response::default();
    let Ok(Some(used)) = parse_response(bytes, &limits, &mut response) else { return };
    let mut again = Response::default();
    let (head, _) = bytes.split_at(used);
    assert_eq!(parse_response(head, &limits, &mut again), Ok(Some(used)));
    assert_eq!(response, again, "what follows a head changes it");
    let (part, _) = head.split_at(used - 1);
    assert_eq!(parse_response(part, &limits, &mut again), Ok(None));
    let mut out = Vec::new();
    write::response_head(&mut out, response.status, response.reason(), &response.fields);
    let wide = Limits { header_line_bytes_max: 260, ..limits };
    assert_eq!(parse_response(&out, &wide, &mut again), Ok(Some(out.len())));
    if response.version == Version::H11 {
        // The writer cuts spaces around a reason; everything else stays.
        assert_eq!(again.reason(), response.reason().trim_matches([' ', '\t']));
        assert_eq!(again.fields, response.fields);
        assert_eq!(
            response_framing(&again, "GET").is_ok(),
            response_framing(&response, "GET").is_ok()
        );
    }
});

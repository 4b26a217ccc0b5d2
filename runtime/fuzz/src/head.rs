//! Any bytes as a request: no panic, no surprise by a cut, and what is written is read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runtime::http::body::{Framing, request_framing};
use runtime::http::head::{Limits, Request, Version, parse_request};
use runtime::http::write;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { header_line_bytes_max: 256, headers_max: 80, ..Limits::default() };
    let mut request = Request::default();
    let outcome = parse_request(bytes, &limits, &mut request);
    let Ok(Some(used)) = outcome else { return };
    let mut again = Request::default();
    let (head, _) = bytes.split_at(used);
    assert_eq!(parse_request(head, &limits, &mut again), Ok(Some(used)));
    assert_eq!(request, again, "what follows a head changes it");
    for cut in [1, 2, used / 2] {
        let (part, _) = head.split_at(used - cut.min(used));
        assert_eq!(parse_request(part, &limits, &mut again), Ok(None), "cut by {cut}");
    }
    let mut out = Vec::new();
    write::request_head(&mut out, request.method(), request.target(), &request.fields);
    assert!(out.windows(4).position(|four| four == b"\r\n\r\n") == Some(out.len() - 4));
    let wide = Limits { header_line_bytes_max: 260, ..limits };
    let outcome = parse_request(&out, &wide, &mut again);
    if request.version == Version::H11 {
        assert_eq!(outcome, Ok(Some(out.len())));
        assert_eq!(request, again, "what is written is not what was read");
    }
    let framing = request_framing(&request);
    let before = request.fields.get("content-length").map(<[u8]>::to_vec);
    write::remove_hop_by_hop(&mut request.fields);
    if let Ok(Framing::Length(_)) = framing {
        assert_eq!(request.fields.get("content-length").map(<[u8]>::to_vec), before);
    }
    assert!(!request.fields.contains("transfer-encoding"));
    assert!(!request.fields.contains("connection"));
});

//! Any changes of header lines: whatever a plugin sets, the message that goes out is one message
//! with these lines.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runtime::http::head::{Fields, Limits, Response, parse_response};
use runtime::http::write;

fuzz_target!(|bytes: &[u8]| {
    let mut fields = Fields::new();
    let mut parts = bytes.split(|&b| b == 0xff);
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        let Some((&change, name)) = name.split_first() else { continue };
        let Ok(name) = std::str::from_utf8(name) else { continue };
        let before = fields.len();
        match change % 4 {
            0 if fields.set(name, value) => assert_eq!(fields.all(name).count(), 1),
            1 if fields.add(name, value) => assert_eq!(fields.len(), before + 1),
            2 => assert_eq!(fields.remove(name), before - fields.len()),
            3 => write::remove_hop_by_hop(&mut fields),
            _ => assert_eq!(fields.len(), before, "a refused change changed something"),
        }
        assert!(change % 4 != 2 || !fields.contains(name));
    }
    let mut out = Vec::new();
    write::response_head(&mut out, 200, "OK", &fields);
    let limits = Limits {
        header_line_bytes_max: usize::MAX,
        head_bytes_max: usize::MAX,
        ..Limits::default()
    };
    let mut response = Response::default();
    if fields.len() <= limits.headers_max {
        assert_eq!(parse_response(&out, &limits, &mut response), Ok(Some(out.len())));
        assert_eq!(response.fields, fields);
    }
});

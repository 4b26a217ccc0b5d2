//! Any text as a template: it compiles or says why not, and what compiles renders.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plugins::pdk::Captures;
use plugins::pdk::template::{Sight, Template};
use runtime::http::head::Fields;

fuzz_target!(|input: &str| {
    let Ok(template) = Template::parse(input) else { return };
    let mut headers = Fields::default();
    headers.add("Host", "h.example");
    headers.add("X-Two", "1");
    headers.add("X-Two", "2");
    let mut captures = Captures::default();
    captures.push(None, Some(b"/u/42"));
    captures.push(Some("id"), Some(b"42"));
    let (query, jwt) = (&b"a=1&b&a=%20"[..], Some(&b"h.p.s"[..]));
    let sight = Sight { headers: &headers, query, captures: &captures, jwt };
    let out = template.render(&sight);
    // Every expression gives at most all it can see, joined once for each of its operators.
    assert!(out.len() <= input.len() * 64 + 64, "{} bytes of {}", out.len(), input.len());
    if !template.looks() {
        assert_eq!(out, input.as_bytes(), "what looks nothing up stays");
    }
});

//! Any bytes as Cache-Control and Expires: no panic, and times within bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plugins::bundled::proxy_cache::freshness::{Directives, http_date_s};

fuzz_target!(|input: &[u8]| {
    let lines = input.split(|byte| *byte == b'\n');
    let told = Directives::of(lines);
    for now_s in [0, 1_795_262_400, u64::MAX] {
        let fresh_s = told.fresh_s(Some(input), now_s);
        assert!(fresh_s <= i32::MAX as u64);
    }
    if let Some(at_s) = http_date_s(input) {
        assert!(at_s <= 253_402_300_800, "within the year 9999");
    }
});

//! Any bytes before a connection's first: the PROXY header ends where it says, whatever follows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runtime::proxy_protocol::{HEADER_BYTES_MAX, parse};

fuzz_target!(|bytes: &[u8]| {
    match parse(bytes) {
        Ok(Some((used, told))) => {
            assert!(used <= bytes.len() && used <= HEADER_BYTES_MAX);
            let (head, _) = bytes.split_at(used);
            assert_eq!(parse(head), Ok(Some((used, told))), "what follows a header changes it");
            for cut in [1, 2, used / 2] {
                let (part, _) = head.split_at(used - cut.min(used));
                assert_eq!(parse(part), Ok(None), "cut by {cut}");
            }
        }
        Ok(None) => assert!(bytes.len() < HEADER_BYTES_MAX, "it waits for ever"),
        Err(fault) => {
            let longer = [bytes, b"\r\n"].concat();
            assert!(parse(&longer).is_err(), "more bytes mend it: {fault}");
        }
    }
});

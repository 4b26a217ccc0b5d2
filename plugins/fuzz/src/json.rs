//! Any bytes as a JSON object: read exactly where serde_json reads one, and what is written again
//! means the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plugins::pdk::json::Object;

fuzz_target!(|input: &[u8]| {
    let found = Object::parse(input);
    let expected = serde_json::from_slice::<serde_json::Value>(input);
    match (&found, &expected) {
        // serde_json stops at a depth of 128; ours goes further. A lone surrogate is a fault there
        // and kept here.
        (Some(_), Err(fault)) => {
            let words = fault.to_string();
            let known = ["recursion", "surrogate", "hex escape"];
            assert!(known.iter().any(|known| words.contains(known)), "{words}");
        }
        (None, Ok(value)) => assert!(!value.is_object(), "{value}"),
        _ => {}
    }
    if let (Some(mut object), Ok(expected)) = (found, expected) {
        let written = serde_json::from_slice::<serde_json::Value>(&object.write());
        assert_eq!(written.ok().as_ref(), Some(&expected));
        object.append("a", "1");
        object.set("b", "2");
        object.remove("a");
        let changed = serde_json::from_slice::<serde_json::Value>(&object.write());
        assert_eq!(changed.ok().and_then(|v| v.get("b").cloned()), Some(2.into()));
    }
});

//! Any bytes as a chunked body, arriving in any pieces: the same bytes, the same fault.
//! The first byte says how the input is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runtime::http::body::{BodyFault, Decoder, Framing};

fn decode(input: &[u8], step_bytes: usize) -> Result<(Vec<u8>, usize, bool), BodyFault> {
    let mut decoder = Decoder::new(Framing::Chunked);
    let (mut out, mut used, mut arrived) = (Vec::new(), 0, 0);
    while !decoder.is_done() && (used < arrived || arrived < input.len()) {
        if used == arrived {
            arrived = input.len().min(arrived + step_bytes);
        }
        let offered = input.get(used..arrived).unwrap_or_default();
        let step = decoder.step(offered)?;
        assert!(step.used > 0, "no progress");
        assert!(step.piece.end <= step.used);
        assert_eq!(step.done, decoder.is_done());
        out.extend_from_slice(offered.get(step.piece).unwrap_or_default());
        used += step.used;
    }
    Ok((out, used, decoder.is_done()))
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&cut, input)) = bytes.split_first() else { return };
    let whole = decode(input, input.len().max(1));
    assert_eq!(whole, decode(input, usize::from(cut % 16) + 1));
    if let Ok((out, used, _)) = whole {
        assert!(out.len() <= used && used <= input.len());
    }
});

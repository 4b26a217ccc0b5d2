//! The codec against a second reader that is slow, strict and written to be read: both say the same
//! of every generated input.
//!
//! Ten million inputs in `make deep`; a plain run takes every hundredth of the same seeds. A seed
//! on which the two differ is printed with its input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "reference/chunks.rs"]
mod chunks;
#[path = "reference/generate.rs"]
mod generate;
#[path = "reference/head.rs"]
mod head;

use generate::Dice;
use head::{Framed, Reading, Said};
use runtime::http::body::{Decoder, Framing, request_framing};
use runtime::http::head::{Limits, Request, Version, parse_request};

/// Inputs of a whole run, half of them heads.
const INPUTS: u64 = 10_000_000;
/// A plain run takes one of so many.
const PLAIN_STEP: usize = 100;
/// Threads that share the work.
const THREADS: u64 = 2;
/// What completes a head that was refused before its end.
const COMPLETIONS: [&[u8]; 4] =
    [b"\r\n\r\n", b"\n\n", b" HTTP/1.1\r\nHost: a\r\n\r\n", b": b\r\nHost: a\r\n\r\n"];

/// Our reading of a head, in the reference's words.
fn ours(bytes: &[u8], limits: &Limits) -> Reading<Said> {
    let mut request = Request::default();
    let used = match parse_request(bytes, limits, &mut request) {
        Err(_) => return Reading::Refused,
        Ok(None) => return Reading::Partial,
        Ok(Some(used)) => used,
    };
    let framing = match request_framing(&request) {
        Err(_) => None,
        Ok(Framing::None) => Some(Framed::Nothing),
        Ok(Framing::Length(length)) => Some(Framed::Length(length)),
        Ok(Framing::Chunked) => Some(Framed::Chunked),
        Ok(Framing::UntilClose) => panic!("no request ends so"),
    };
    let lines = request.fields.iter().map(|(name, value)| (name.to_vec(), value.to_vec()));
    let said = Said {
        method: request.method().to_owned(),
        target: request.target().to_vec(),
        minor: u8::from(request.version == Version::H11),
        lines: lines.collect(),
        framing,
    };
    Reading::Whole(used, said)
}

/// What differs between the two readings of a head.
fn head_differs(seed: u64) -> Option<String> {
    let mut dice = Dice(seed);
    let bytes = generate::head(&mut dice);
    let narrow = Limits {
        request_line_bytes_max: 40,
        header_line_bytes_max: 48,
        head_bytes_max: 120,
        headers_max: 4,
    };
    let limits = if dice.below(8) == 0 { narrow } else { Limits::default() };
    let (own, reference) = (ours(&bytes, &limits), head::read(&bytes, &limits));
    let agree = match (&own, &reference) {
        // Refused early: nothing that may follow makes it good.
        (Reading::Refused, Reading::Partial) => COMPLETIONS
            .iter()
            .all(|rest| head::read(&[&bytes, *rest].concat(), &limits) == Reading::Refused),
        _ => own == reference,
    };
    let shown = bytes.escape_ascii();
    (!agree).then(|| format!("{shown}\n  ours:      {own:?}\n  reference: {reference:?}"))
}

/// Our reading of a chunked body that arrives in steps.
fn decoded(bytes: &[u8], step_bytes: usize) -> Reading<Vec<u8>> {
    let mut decoder = Decoder::new(Framing::Chunked);
    let (mut content, mut used) = (Vec::new(), 0);
    while !decoder.is_done() && used < bytes.len() {
        let offered = &bytes[used..bytes.len().min(used + step_bytes)];
        let Ok(step) = decoder.step(offered) else { return Reading::Refused };
        content.extend_from_slice(&offered[step.piece]);
        used += step.used;
    }
    if decoder.is_done() { Reading::Whole(used, content) } else { Reading::Partial }
}

fn chunks_differ(seed: u64) -> Option<String> {
    let mut dice = Dice(seed);
    let bytes = generate::chunks(&mut dice);
    let own = decoded(&bytes, 1 + dice.below(bytes.len() + 1));
    let reference = chunks::read(&bytes);
    let shown = bytes.escape_ascii();
    (own != reference).then(|| format!("{shown}\n  ours:      {own:?}\n  reference: {reference:?}"))
}

/// Compares the readings of one input in `step`.
#[track_caller]
fn check(step: usize) {
    let differing: Vec<String> = std::thread::scope(|scope| {
        let part = |first: u64| {
            scope.spawn(move || {
                let seeds = (0..INPUTS).step_by(step).skip(first as usize);
                let own = seeds.step_by(THREADS as usize);
                let differs = |seed: u64| {
                    let even = (seed / step as u64).is_multiple_of(2);
                    let words = if even { head_differs(seed) } else { chunks_differ(seed) };
                    words.map(|words| format!("seed {seed}: {words}"))
                };
                own.filter_map(differs).take(10).collect::<Vec<_>>()
            })
        };
        let threads: Vec<_> = (0..THREADS).map(part).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(differing.is_empty(), "the two readers differ:\n{}", differing.join("\n"));
}

#[test]
fn the_codec_agrees_with_the_reference_on_100_000_inputs() {
    check(PLAIN_STEP);
}

#[test]
#[ignore = "takes minutes"]
fn the_codec_agrees_with_the_reference_on_10_000_000_inputs() {
    check(1);
}

/// The generator must give both: heads and bodies that are whole, and some that are not.
#[test]
fn the_inputs_are_a_mixture() {
    let mut counts = [0_usize; 6];
    for seed in 0..4_000 {
        let head = head::read(&generate::head(&mut Dice(seed)), &Limits::default());
        let body = chunks::read(&generate::chunks(&mut Dice(seed)));
        counts[match head {
            Reading::Whole(..) => 0,
            Reading::Partial => 1,
            Reading::Refused => 2,
        }] += 1;
        counts[match body {
            Reading::Whole(..) => 3,
            Reading::Partial => 4,
            Reading::Refused => 5,
        }] += 1;
    }
    assert!(counts.iter().all(|count| *count > 200), "{counts:?}");
}

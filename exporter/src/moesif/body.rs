//! Bodies: inflated, recognised, masked, and put into the event.
//!
//! A mask names a key. JSON, forms and multipart forms have keys, and lose those that are masked;
//! what says that it is one of them and cannot be read is left out. Any other body is a text
//! without keys and is reported as it stands, as the original does, unless a masked name stands in
//! it as a key of JSON (event streams, JSONP, a prefix before a document): then it is left out.
//!
//! Source: `kong-plugin-moesif` `kong/plugins/moesif/moesif_ser.lua`, its defects left behind: a
//! gzip body is inflated whatever its checksum, other codings are inflated too, JSON keeps its
//! bytes, and nothing leaves unmasked because it could not be read.

use super::{inflate, json, multipart, query};
use crate::event::BodyState;
use crate::event::record::LineBytes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What a body needs to know of its message.
pub struct Message<'a> {
    /// The message's header lines, unmasked.
    pub lines: LineBytes<'a>,
    /// Header names (in lower case) that the event does not show. A body is then read as if they
    /// were not there, as the original does, unless keys have to be masked: a masked content type
    /// must not let a secret through.
    pub masked_lines: &'a [String],
    /// Keys that must go.
    pub masks: &'a [String],
    /// Report compressed bodies as they are.
    pub keep_compressed: bool,
    /// Longest inflated body, in bytes.
    pub inflated_bytes_max: usize,
    /// Longest text of the body in the event; a longer body is cut and says so at its end.
    pub written_bytes_max: usize,
}

impl<'a> Message<'a> {
    /// The first line of this name (in lower case) that counts.
    fn line(&self, name: &str) -> Option<&'a [u8]> {
        let hidden = self.masks.is_empty() && self.masked_lines.iter().any(|mask| mask == name);
        if hidden { None } else { self.lines.get(name.as_bytes()) }
    }

    /// The content type that speaks of this. Where keys have to be masked every line counts: nobody
    /// knows which of two the other side believes.
    fn kind(&self, of: &[u8]) -> Option<&'a [u8]> {
        const NAME: &[u8] = b"content-type";
        if self.masks.is_empty() {
            return self.line("content-type").filter(|kind| contains(kind, of));
        }
        let kinds = self.lines.iter().filter(|(name, _)| name.eq_ignore_ascii_case(NAME));
        kinds.map(|(_, kind)| kind).find(|kind| contains(kind, of))
    }
}

/// What became of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Reported as far as it was captured.
    Whole,
    /// It had to be masked and could not be read, so it was left out.
    LeftOut,
}

/// Appends `,"body":…,"transfer_encoding":…`, or nothing where the original reports nothing.
pub fn push_body(
    out: &mut Vec<u8>,
    state: BodyState,
    body: &[u8],
    message: &Message<'_>,
) -> Written {
    match state {
        BodyState::Disabled | BodyState::NotRead => Written::Whole,
        BodyState::Captured if !body.is_empty() => push_captured(out, body, message),
        BodyState::Captured => Written::Whole,
        BodyState::None | BodyState::TooLarge | BodyState::LeftOut => {
            push_bytes(out, b"", message);
            Written::Whole
        }
    }
}

/// Which way a body is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort<'a> {
    Json,
    Form,
    /// With its content type.
    Multipart(&'a [u8]),
    Bytes,
}

fn push_captured(out: &mut Vec<u8>, body: &[u8], message: &Message<'_>) -> Written {
    let coding = message.line("content-encoding").map(<[u8]>::trim_ascii);
    let coding = coding.filter(|coding| !coding.is_empty() && !named(coding, b"identity"));
    let inflated = match coding {
        Some(_) if message.keep_compressed => None,
        Some(coding) => inflate::inflate(coding, body, message.inflated_bytes_max),
        None => None,
    };
    if coding.is_some() && inflated.is_none() {
        // A declared coding that is not there: JSON is known by its looks, as in the original.
        return match sort(body, false, message) {
            Sort::Json => push_json(out, body, message),
            Sort::Form | Sort::Multipart(_) | Sort::Bytes => push_unread(out, body, message),
        };
    }
    let text = inflated.as_deref().unwrap_or(body);
    match sort(text, inflated.is_some(), message) {
        Sort::Json => push_json(out, text, message),
        Sort::Form => {
            let mut masked = Vec::with_capacity(text.len());
            query::push_form(&mut masked, text, message.masks);
            push_text(out, &masked, message)
        }
        Sort::Multipart(kind) => {
            let mut masked = Vec::with_capacity(text.len());
            match multipart::push_multipart(&mut masked, text, kind, message.masks) {
                Ok(()) => push_bytes(out, &masked, message),
                Err(multipart::NotReadable) => return push_unread(out, text, message),
            }
            Written::Whole
        }
        Sort::Bytes => push_text(out, text, message),
    }
}

/// A text: it leaves, unless a masked name stands in it as a key of JSON.
fn push_text(out: &mut Vec<u8>, text: &[u8], message: &Message<'_>) -> Written {
    if json::names_member(text, message.masks) {
        return push_unread(out, text, message);
    }
    push_bytes(out, text, message);
    Written::Whole
}

/// JSON by its declared type; by its look after inflating (as the original does) and wherever
/// masks are set, because a wrong content type must not let a secret through. With masks it is also
/// JSON if it says so and does not look like it, but for a scalar, which has no keys.
fn sort<'a>(text: &[u8], inflated: bool, message: &Message<'a>) -> Sort<'a> {
    let (declared, masked) = (message.kind(b"json").is_some(), !message.masks.is_empty());
    if json::opens(text) && (declared || inflated || masked) {
        return Sort::Json;
    }
    if !masked {
        return Sort::Bytes;
    }
    if declared && !text.trim_ascii().is_empty() && json::check(text).is_err() {
        return Sort::Json;
    }
    if let Some(kind) = message.kind(b"multipart/form-data") {
        return Sort::Multipart(kind);
    }
    if message.kind(b"x-www-form-urlencoded").is_some() { Sort::Form } else { Sort::Bytes }
}

fn push_json(out: &mut Vec<u8>, text: &[u8], message: &Message<'_>) -> Written {
    let start = out.len();
    out.extend_from_slice(b",\"body\":");
    let text_start = out.len();
    if json::push_masked(out, text, message.masks).is_ok() {
        if out.len() - text_start > message.written_bytes_max {
            // Half a document is no JSON: it leaves as bytes, masked all the same.
            let masked = out.split_off(text_start);
            out.truncate(start);
            push_bytes(out, &masked, message);
            return Written::Whole;
        }
        out.extend_from_slice(b",\"transfer_encoding\":\"json\"");
        return Written::Whole;
    }
    out.truncate(start);
    push_unread(out, text, message)
}

/// A body that could not be read: as bytes, unless something in it may have to be masked.
fn push_unread(out: &mut Vec<u8>, body: &[u8], message: &Message<'_>) -> Written {
    if message.masks.is_empty() {
        push_bytes(out, body, message);
        Written::Whole
    } else {
        push_bytes(out, b"", message);
        Written::LeftOut
    }
}

fn push_bytes(out: &mut Vec<u8>, bytes: &[u8], message: &Message<'_>) {
    let cut;
    let bytes = if encoded_len(bytes) > message.written_bytes_max {
        cut = cut_off(bytes, message.written_bytes_max / 4 * 3);
        &cut
    } else {
        bytes
    };
    out.extend_from_slice(b",\"body\":\"");
    let start = out.len();
    out.resize(start + encoded_len(bytes), 0);
    if let Some(room) = out.get_mut(start..) {
        // The room is exactly what the encoding needs.
        let written = STANDARD.encode_slice(bytes, room).unwrap_or(0);
        out.truncate(start + written);
    }
    out.extend_from_slice(b"\",\"transfer_encoding\":\"base64\"");
}

/// Bytes of Base64.
const fn encoded_len(bytes: &[u8]) -> usize {
    bytes.len().div_ceil(3) * 4
}

/// The beginning of a body that is too long, and a mark that says so, in `bytes_max` together.
fn cut_off(bytes: &[u8], bytes_max: usize) -> Vec<u8> {
    let mark = |kept: usize| format!("\n[cut by tollgate: {kept} of {} bytes]", bytes.len());
    let kept = bytes_max.saturating_sub(mark(bytes.len()).len());
    let mut cut = bytes.get(..kept).unwrap_or(bytes).to_vec();
    cut.extend_from_slice(mark(kept).as_bytes());
    cut
}

fn named(value: &[u8], name: &[u8]) -> bool {
    value.eq_ignore_ascii_case(name)
}

/// Whether `value` contains `name`, any case.
fn contains(value: &[u8], name: &[u8]) -> bool {
    value.windows(name.len()).any(|window| window.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::record::tests::lines_of;
    use std::io::Write;

    #[track_caller]
    fn check(
        headers: &[(&str, &str)],
        body: &[u8],
        masks: &[&str],
        expected: &str,
        left_out: bool,
    ) {
        let lines = lines_of(headers);
        let masks: Vec<String> = masks.iter().map(|&mask| mask.to_owned()).collect();
        let message = Message {
            lines: lines.view(),
            masked_lines: &[],
            masks: &masks,
            keep_compressed: false,
            inflated_bytes_max: 100_000,
            written_bytes_max: usize::MAX,
        };
        let mut out = Vec::new();
        let written = push_body(&mut out, BodyState::Captured, body, &message);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert_eq!(written == Written::LeftOut, left_out);
    }

    const JSON: (&str, &str) = ("Content-Type", "application/problem+JSON");
    const TEXT: (&str, &str) = ("Content-Type", "text/plain");
    const EMPTY: &str = r#","body":"","transfer_encoding":"base64""#;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn json_keeps_its_bytes() {
        let json = r#"{"items":[],"id":9007199254740993,"f":0.1234567890123456789,"x":1e999}"#;
        let expected = format!(r#","body":{json},"transfer_encoding":"json""#);
        check(&[JSON], json.as_bytes(), &[], &expected, false);
        check(&[JSON], format!(" {json}").as_bytes(), &["none"], &expected, false);
        check(&[TEXT, ("Content-Encoding", "gzip")], &gzip(json.as_bytes()), &[], &expected, false);
    }

    #[test]
    fn the_rest_is_bytes() {
        check(
            &[JSON],
            b"\"hello\"",
            &["k"],
            r#","body":"ImhlbGxvIg==","transfer_encoding":"base64""#,
            false,
        );
        check(
            &[JSON],
            b"{\"a\":",
            &[],
            r#","body":"eyJhIjo=","transfer_encoding":"base64""#,
            false,
        );
        check(
            &[TEXT],
            b"{\"a\":1}",
            &[],
            r#","body":"eyJhIjoxfQ==","transfer_encoding":"base64""#,
            false,
        );
        check(
            &[JSON, ("Content-Encoding", "gzip")],
            b"no gzip",
            &[],
            r#","body":"bm8gZ3ppcA==","transfer_encoding":"base64""#,
            false,
        );
    }

    #[test]
    fn nothing_leaves_unmasked() {
        let masked = r#","body":{"a":1},"transfer_encoding":"json""#;
        check(&[JSON], br#"{"k":2,"a":1}"#, &["k"], masked, false);
        check(&[TEXT], br#"{"k":2,"a":1}"#, &["k"], masked, false);
        check(&[], br#"{"k":2,"a":1}"#, &["k"], masked, false);
        check(&[JSON], br#"{"k":2,"a":"#, &["k"], EMPTY, true);
        check(&[JSON, ("Content-Encoding", "gzip")], b"no gzip", &["k"], EMPTY, true);
        check(&[JSON, ("Content-Encoding", "secret")], b"k=2", &["k"], EMPTY, true);
        let plain = ("Content-Encoding", "gzip");
        check(&[JSON, plain], br#"{"k":2,"a":1}"#, &["k"], masked, false);
        let form = ("Content-Type", "application/x-www-form-urlencoded");
        check(&[form], b"k=2&a=1", &["k"], r#","body":"YT0x","transfer_encoding":"base64""#, false);
        check(&[form], b"a={\"k\":1}", &["k"], EMPTY, true);
        check(&[TEXT, form], b"k=2&a=1", &["k"], &base64("a=1"), false);
        let part =
            |name: &str| format!("--x\r\nContent-Disposition: form-data; name={name}\r\n\r\n1\r\n");
        let multipart = ("Content-Type", "multipart/form-data; boundary=x");
        let (body, kept) = (part("k") + &part("a") + "--x--\r\n", part("a") + "--x--\r\n");
        check(&[multipart], body.as_bytes(), &["k"], &base64(&kept), false);
        check(&[multipart], part("a").as_bytes(), &["k"], EMPTY, true);
        check(&[multipart, plain], &gzip(body.as_bytes()), &["k"], &base64(&kept), false);
    }

    fn base64(body: &str) -> String {
        format!(r#","body":"{}","transfer_encoding":"base64""#, STANDARD.encode(body))
    }

    #[test]
    fn a_text_leaves_unless_it_has_a_masked_key() {
        for (kind, body, left_out) in [
            (TEXT, "k=2 and k: 3", false),
            (TEXT, "data: {\"k\": 2}\n\n", true),
            (TEXT, "data: {\"kk\": 2, \"a\": \"k\"}\n\n", false),
            (("Content-Type", "application/javascript"), "f({\"\\u006b\" :2})", true),
            (("Content-Type", "application/xml"), "<k>2</k>", false),
            (JSON, ")]}',\n{\"a\":2}", true),
            (JSON, "\u{feff}\"k\"", false),
            (JSON, " \n", false),
            (("Content-Type", "application/json; charset=utf-16"), "\0{\0\"\0k\0\"", true),
        ] {
            let expected = if left_out { EMPTY.to_owned() } else { base64(body) };
            check(&[kind], body.as_bytes(), &["k"], &expected, left_out);
            check(&[kind], body.as_bytes(), &[], &base64(body), false);
        }
    }

    #[track_caller]
    fn check_cut(kind: (&str, &str), body: &str, bytes_max: usize, expected: &str) {
        let lines = lines_of(&[kind]);
        let masks = ["pin".to_owned()];
        let message = Message {
            lines: lines.view(),
            masked_lines: &[],
            masks: &masks,
            keep_compressed: false,
            inflated_bytes_max: 100_000,
            written_bytes_max: bytes_max,
        };
        let mut out = Vec::new();
        push_body(&mut out, BodyState::Captured, body.as_bytes(), &message);
        let member: serde_json::Value =
            serde_json::from_slice(&[b"{\"\":0", &out[..], b"}"].concat()).unwrap();
        assert_eq!(member["transfer_encoding"], "base64");
        let text = member["body"].as_str().unwrap();
        assert!(text.len() <= bytes_max, "{} bytes", text.len());
        assert_eq!(String::from_utf8(STANDARD.decode(text).unwrap()).unwrap(), expected);
    }

    #[test]
    fn a_body_that_is_cut_says_so_and_is_masked() {
        let body = format!("{{\"pin\":1234,\"a\":\"{}\"}}", "x".repeat(150));
        let x = "x".repeat(69);
        let expected = format!("{{\"a\":\"{x}\n[cut by tollgate: 75 of 158 bytes]");
        check_cut(JSON, &body, 150, &expected);
        let expected = format!("{}\n[cut by tollgate: 114 of 200 bytes]", "y".repeat(114));
        check_cut(TEXT, &"y".repeat(200), 200, &expected);
    }

    #[test]
    fn a_bomb_is_left_as_it_is() {
        let bomb = gzip(&vec![b'['; 10_000_000]);
        let expected =
            format!(r#","body":"{}","transfer_encoding":"base64""#, STANDARD.encode(&bomb));
        check(&[JSON, ("Content-Encoding", "gzip")], &bomb, &[], &expected, false);
        check(&[JSON, ("Content-Encoding", "gzip")], &bomb, &["k"], EMPTY, true);
    }
}

//! JSON without a tree: texts into JSON strings, and bodies checked and masked in one pass.
//!
//! A body is never decoded and encoded again: numbers, key order, empty arrays and escapes reach
//! the collector as the client wrote them. What is removed is removed together with its comma.

/// Deepest nesting that counts as JSON. Deeper bodies are reported as bytes.
pub const DEPTH_MAX: usize = 1_024;

/// Appends `bytes` as a JSON string. What is not UTF-8 becomes U+FFFD: an event is always valid
/// JSON, whatever a header held.
pub fn push_text(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    if std::str::from_utf8(bytes).is_ok() {
        push_escaped(out, bytes);
    } else {
        for chunk in bytes.utf8_chunks() {
            push_escaped(out, chunk.valid().as_bytes());
            if !chunk.invalid().is_empty() {
                out.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
    }
    out.push(b'"');
}

fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text;
    loop {
        let (plain, special) = rest.split_at(plain_len(rest));
        out.extend_from_slice(plain);
        let Some((&byte, behind)) = special.split_first() else { return };
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let hex = |digit: u8| HEX.get(usize::from(digit)).copied().unwrap_or(b'0');
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[hex(byte >> 4), hex(byte & 15)]);
            }
        }
        rest = behind;
    }
}

/// How many bytes at the beginning stand for themselves in a JSON string: neither a quote nor a
/// backslash nor a control byte. Looks at eight at a time.
fn plain_len(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // A byte of `word` below `limit` borrows into its high bit, unless that was set.
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGHS;
    let is = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let mut at = 0;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let special = below(word, 0x20) | is(word, b'"') | is(word, b'\\');
        if special != 0 {
            // The lowest mark is exact; borrows only make false ones above it.
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let special = rest.iter().position(|byte| matches!(byte, 0..=0x1f | b'"' | b'\\'));
    at + special.unwrap_or(rest.len())
}

/// Whether the first byte that counts opens an object or an array: only such bodies are JSON to
/// Moesif, scalars are bytes. A byte order mark and white space may stand in front.
pub fn opens(body: &[u8]) -> bool {
    matches!(document(body).first(), Some(b'{' | b'['))
}

/// The body without byte order mark and white space in front.
pub fn document(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start()
}

/// The bytes are not a JSON document within [`DEPTH_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotJson;

/// Appends `body` without the members whose key is in `masks`, at any depth. If no key matches, it
/// is byte for byte the same; else white space between tokens goes, too. On a fault nothing is
/// appended.
///
/// One pass, no recursion: the cost does not depend on depth, and on the number of masks only by
/// the comparisons of keys.
///
/// # Errors
/// `body` is not valid JSON (RFC 8259) or not UTF-8.
pub fn push_masked(out: &mut Vec<u8>, body: &[u8], masks: &[String]) -> Result<(), NotJson> {
    let document = document(body);
    if std::str::from_utf8(document).is_err() {
        return Err(NotJson);
    }
    let start = out.len();
    let muted = masks.is_empty().then_some(NOTHING_KEPT);
    let mut scan =
        Scan { text: document, at: 0, masks, frames: Vec::new(), muted, removed: false, out };
    let result = scan.document();
    if result.is_err() || !scan.removed {
        out.truncate(start);
    }
    result?;
    if out.len() == start {
        out.extend_from_slice(document.trim_ascii_end());
    }
    Ok(())
}

/// Checks that `body` is a JSON document; nothing is written.
///
/// # Errors
/// As [`push_masked`].
pub fn check(body: &[u8]) -> Result<(), NotJson> {
    let text = document(body);
    if std::str::from_utf8(text).is_err() {
        return Err(NotJson);
    }
    let (frames, muted, mut out) = (Vec::new(), Some(NOTHING_KEPT), Vec::new());
    Scan { text, at: 0, masks: &[], frames, muted, removed: false, out: &mut out }.document()
}

/// Whether `text`, which is no JSON document, has one of `names` in it as JSON writes a key: in
/// quotes, with a colon behind. Escapes in it are undone. One pass; the text is not checked.
pub fn names_member(text: &[u8], names: &[String]) -> bool {
    let longest = names.iter().map(String::len).max().unwrap_or(0);
    let mut rest = text;
    while longest > 0
        && let Some(quote) = rest.iter().position(|byte| *byte == b'"')
    {
        rest = rest.get(quote + 1..).unwrap_or_default();
        // An escape takes up to six bytes for one.
        let near = rest.get(..(longest * 6 + 1).min(rest.len())).unwrap_or_default();
        let Some(end) = near.iter().position(|byte| *byte == b'"') else { continue };
        let (key, behind) = (rest.get(..end), rest.get(end + 1..).unwrap_or_default());
        let behind = behind.iter().find(|byte| !byte.is_ascii_whitespace());
        if behind == Some(&b':') && key.is_some_and(|key| is_named(key, names)) {
            return true;
        }
    }
    false
}

/// Whether a key, as it stands between its quotes, is one of `names`.
fn is_named(key: &[u8], names: &[String]) -> bool {
    if !key.contains(&b'\\') {
        return names.iter().any(|name| name.as_bytes() == key);
    }
    let quoted = [b"\"", key, b"\""].concat();
    let key: String = serde_json::from_slice(&quoted).unwrap_or_default();
    names.contains(&key)
}

/// A depth that is never reached: the scan only checks.
const NOTHING_KEPT: usize = usize::MAX;

/// An open object or array.
struct Frame {
    object: bool,
    /// Whether a member or element was already kept: the next one needs a comma.
    kept: bool,
}

struct Scan<'s> {
    text: &'s [u8],
    at: usize,
    masks: &'s [String],
    frames: Vec<Frame>,
    /// The number of open frames around the member that is being left out.
    muted: Option<usize>,
    removed: bool,
    out: &'s mut Vec<u8>,
}

/// What the grammar allows next.
enum Want {
    Value,
    Member,
    /// A comma or the end of what is open.
    Tail,
}

impl Scan<'_> {
    fn document(&mut self) -> Result<(), NotJson> {
        let mut want = Want::Value;
        loop {
            self.space();
            want = match want {
                Want::Value => self.value()?,
                Want::Member => self.member()?,
                Want::Tail => match self.tail()? {
                    Some(want) => want,
                    None => return Ok(()),
                },
            };
        }
    }

    /// A scalar, or the opening of an object or array.
    fn value(&mut self) -> Result<Want, NotJson> {
        let start = self.at;
        match self.next()? {
            b'{' => {
                self.open(true)?;
                return Ok(if self.peek() == Some(b'}') { Want::Tail } else { Want::Member });
            }
            b'[' => {
                self.open(false)?;
                if self.peek() == Some(b']') {
                    return Ok(Want::Tail);
                }
                self.comma();
                return Ok(Want::Value);
            }
            b'"' => self.string()?,
            b't' => self.word(b"rue")?,
            b'f' => self.word(b"alse")?,
            b'n' => self.word(b"ull")?,
            byte @ (b'-' | b'0'..=b'9') => self.number(byte)?,
            _ => return Err(NotJson),
        }
        self.keep(start);
        Ok(Want::Tail)
    }

    /// A key and its colon; decides whether the member stays.
    fn member(&mut self) -> Result<Want, NotJson> {
        let start = self.at;
        if self.next()? != b'"' {
            return Err(NotJson);
        }
        self.string()?;
        let end = self.at;
        self.space();
        if self.next()? != b':' {
            return Err(NotJson);
        }
        if self.muted.is_none() && self.masked(start, end) {
            self.muted = Some(self.frames.len());
            self.removed = true;
        }
        self.comma();
        if self.muted.is_none() {
            self.out.extend_from_slice(self.text.get(start..end).unwrap_or_default());
            self.out.push(b':');
        }
        Ok(Want::Value)
    }

    /// What stands behind a complete value; `None` at the end of the document.
    fn tail(&mut self) -> Result<Option<Want>, NotJson> {
        if self.muted == Some(self.frames.len()) {
            self.muted = None;
        }
        let Some(object) = self.frames.last().map(|frame| frame.object) else {
            return if self.at == self.text.len() { Ok(None) } else { Err(NotJson) };
        };
        match (self.next()?, object) {
            (b',', true) => return Ok(Some(Want::Member)),
            (b',', false) => {
                self.comma();
                return Ok(Some(Want::Value));
            }
            (b'}', true) => self.close(b'}'),
            (b']', false) => self.close(b']'),
            _ => return Err(NotJson),
        }
        Ok(Some(Want::Tail))
    }

    fn open(&mut self, object: bool) -> Result<(), NotJson> {
        if self.frames.len() == DEPTH_MAX {
            return Err(NotJson);
        }
        self.keep(self.at - 1);
        self.frames.push(Frame { object, kept: false });
        self.space();
        Ok(())
    }

    fn close(&mut self, byte: u8) {
        self.frames.pop();
        if self.muted.is_none() {
            self.out.push(byte);
        }
    }

    /// Whether the key, quotes included, is one that must go; escapes in it are undone first.
    fn masked(&self, start: usize, end: usize) -> bool {
        if self.masks.is_empty() {
            return false;
        }
        let quoted = self.text.get(start..end).unwrap_or_default();
        let plain = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
        is_named(plain, self.masks)
    }

    fn comma(&mut self) {
        if self.muted.is_some() {
            return;
        }
        if let Some(frame) = self.frames.last_mut() {
            if frame.kept {
                self.out.push(b',');
            }
            frame.kept = true;
        }
    }

    fn keep(&mut self, start: usize) {
        if self.muted.is_none() {
            self.out.extend_from_slice(self.text.get(start..self.at).unwrap_or_default());
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, NotJson> {
        let byte = self.peek().ok_or(NotJson)?;
        self.at += 1;
        Ok(byte)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn word(&mut self, rest: &[u8]) -> Result<(), NotJson> {
        if !self.text.get(self.at..).unwrap_or_default().starts_with(rest) {
            return Err(NotJson);
        }
        self.at += rest.len();
        Ok(())
    }

    /// The rest of a string, behind its opening quote.
    fn string(&mut self) -> Result<(), NotJson> {
        loop {
            self.at += plain_len(self.text.get(self.at..).unwrap_or_default());
            match self.next()? {
                b'"' => return Ok(()),
                0..=0x1f => return Err(NotJson),
                b'\\' => match self.next()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => self.code_point()?,
                    _ => return Err(NotJson),
                },
                _ => {}
            }
        }
    }

    /// The rest of an escaped code point, behind `\u`. Half a pair is no text: strict readers
    /// refuse it, and one event with it would cost its batch.
    fn code_point(&mut self) -> Result<(), NotJson> {
        match self.hex()? {
            0xd800..=0xdbff => {
                self.word(b"\\u")?;
                if (0xdc00..=0xdfff).contains(&self.hex()?) { Ok(()) } else { Err(NotJson) }
            }
            0xdc00..=0xdfff => Err(NotJson),
            _ => Ok(()),
        }
    }

    fn hex(&mut self) -> Result<u32, NotJson> {
        (0..4).try_fold(0, |value, _| {
            let digit = char::from(self.next()?).to_digit(16).ok_or(NotJson)?;
            Ok(value << 4 | digit)
        })
    }

    /// The rest of a number, behind its first byte.
    fn number(&mut self, first: u8) -> Result<(), NotJson> {
        let first = if first == b'-' { self.next()? } else { first };
        match first {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return Err(NotJson),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.some_digits()?;
        }
        Ok(())
    }

    fn some_digits(&mut self) -> Result<(), NotJson> {
        if !self.next()?.is_ascii_digit() {
            return Err(NotJson);
        }
        self.digits();
        Ok(())
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(body: &str, masks: &[&str], expected: Option<&str>) {
        let masks: Vec<String> = masks.iter().map(|&mask| mask.to_owned()).collect();
        let mut out = b"before".to_vec();
        let result = push_masked(&mut out, body.as_bytes(), &masks);
        assert_eq!(result.is_ok(), expected.is_some(), "{body}");
        let found = String::from_utf8(out.split_off(6)).unwrap();
        assert_eq!(found, expected.unwrap_or(""), "{body}");
    }

    #[test]
    fn where_no_mask_applies_every_byte_stays() {
        for body in ["{}", "[]", "[[],{}]", r#"{"a":1e999,"a":[ ],"b":0.10,"c":"\u00e9\/é"}"#] {
            check(body, &[], Some(body));
            check(body, &["none"], Some(body));
        }
        check(" \n[1, 2,{ \"a\" : [ null ] } ] \n", &[], Some("[1, 2,{ \"a\" : [ null ] } ]"));
        check("[1, 2,{ \"a\" : [ null ], \"p\":0 } ]", &["p"], Some("[1,2,{\"a\":[null]}]"));
        check("\u{feff}{\"a\":-0.5E+3}", &[], Some("{\"a\":-0.5E+3}"));
    }

    #[test]
    fn half_of_a_surrogate_pair_is_no_json() {
        check(r#"["\ud83d\ude00\uFFFF"]"#, &[], Some(r#"["\ud83d\ude00\uFFFF"]"#));
        for body in [
            r#"{"pin\ud800":1}"#,
            r#"["\uDFFF"]"#,
            r#"["\ud800\ud800"]"#,
            r#"["\ud800\n"]"#,
            r#"["\ud800"#,
        ] {
            check(body, &[], None);
            check(body, &["pin"], None);
        }
    }

    #[test]
    fn masked_members_go_with_their_comma() {
        check(r#"{"p":1}"#, &["p"], Some("{}"));
        check(r#"{"p":1,"a":2}"#, &["p"], Some(r#"{"a":2}"#));
        check(r#"{"a":2,"p":{"x":[1,{"p":2}]}}"#, &["p"], Some(r#"{"a":2}"#));
        check(
            r#"{"a":1,"p":[[]],"b":{"p":"}"},"c":[{"p":{}},{"q":1,"p":{"z":{}}}]}"#,
            &["p"],
            Some(r#"{"a":1,"b":{},"c":[{},{"q":1}]}"#),
        );
        check(r#"{"p":{"p":1},"P":2,"pp":3}"#, &["p"], Some(r#"{"P":2,"pp":3}"#));
        check(r#"{"\u0070":1,"a\"":2,"b":3}"#, &["p", "a\""], Some(r#"{"b":3}"#));
        check(r#"[{"a":{"b":{"p":1,"c":2}},"p":"{"}]"#, &["p"], Some(r#"[{"a":{"b":{"c":2}}}]"#));
    }

    #[test]
    fn what_is_no_json_leaves_nothing() {
        for body in [
            "",
            "{",
            "[",
            "{\"a\":",
            "{\"a\"}",
            "{\"a\":1,}",
            "[1,]",
            "[1 2]",
            "{a:1}",
            "[01]",
            "[1.]",
            "[1e]",
            "[-]",
            "[+1]",
            "[tru]",
            "[\"\\x\"]",
            "[\"\\u00g0\"]",
            "[\"\n\"]",
            "{}{}",
            "[]]",
            "{]",
            "[}",
            "{\"a\":1]",
            "{,}",
            "[,]",
            "{\"a\" 1}",
            "nul",
            "[\"",
            "{\"p\":}",
            "{\"p\":1 2}",
        ] {
            check(body, &["p"], None);
        }
        assert_eq!(push_masked(&mut Vec::new(), b"[\"\xff\"]", &[]), Err(NotJson));
    }

    #[test]
    fn depth_has_a_bound_and_costs_no_stack() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        check(&nested(1_000), &["p"], Some(&nested(1_000)));
        check(&nested(DEPTH_MAX + 1), &["p"], None);
        let objects = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        check(&objects(1_000), &["p"], Some(&objects(1_000)));
        check(&objects(1_000_000), &["p"], None);
    }

    #[test]
    fn texts_are_always_valid_json() {
        let mut out = Vec::new();
        push_text(&mut out, b"a\"\\\n\x01\xff\xc3\xa9\x7f/");
        assert_eq!(String::from_utf8(out).unwrap(), "\"a\\\"\\\\\\n\\u0001\u{fffd}é\u{7f}/\"");
    }

    proptest! {
        #[test]
        fn eight_at_a_time_sees_what_one_at_a_time_sees(bytes in prop::collection::vec(
            prop_oneof![any::<u8>(), Just(b'a'), Just(0x1f), Just(b'!')],
            0..40,
        )) {
            let special = bytes.iter().position(|byte| matches!(byte, 0..=0x1f | b'"' | b'\\'));
            prop_assert_eq!(plain_len(&bytes), special.unwrap_or(bytes.len()));
        }
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::Value;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(|n| Value::Number(n.into())),
            "[a-d\"\\\\\u{e9}\n]{0,4}".prop_map(Value::String),
        ];
        leaf.prop_recursive(6, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
                prop::collection::vec(("[a-d\"\u{e9}]{0,2}", inner), 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// The obvious way, for comparison.
    fn without(value: &mut serde_json::Value, masks: &[String]) {
        use serde_json::Value;
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| without(item, masks)),
            Value::Object(members) => {
                members.retain(|key, _| !masks.contains(key));
                members.iter_mut().for_each(|(_, member)| without(member, masks));
            }
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn masking_equals_the_obvious_way(
            value in any_json(),
            masks in prop::collection::vec("[a-d]{1,2}", 0..3),
            pretty in any::<bool>(),
        ) {
            let text = if pretty {
                serde_json::to_string_pretty(&value).unwrap()
            } else {
                serde_json::to_string(&value).unwrap()
            };
            let mut out = Vec::new();
            prop_assert_eq!(push_masked(&mut out, text.as_bytes(), &masks), Ok(()));
            let mut expected = value;
            without(&mut expected, &masks);
            let found: serde_json::Value = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(found.to_string(), expected.to_string(), "order counts, too");
        }

        #[test]
        fn what_passes_is_what_a_parser_takes(bytes in "[\\[\\]{}:,\"a1 .e+-]{0,12}") {
            let ours = push_masked(&mut Vec::new(), bytes.as_bytes(), &[]).is_ok();
            let theirs = serde_json::from_str::<serde_json::Value>(&bytes).is_ok();
            prop_assert_eq!(ours, theirs, "{}", bytes);
        }
    }
}

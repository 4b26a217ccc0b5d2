//! The header lines of one message: one buffer of bytes and a list of places in it.
//!
//! Invariant: every line lies in the buffer as it goes out, `Name: value\r\n`. A received block is
//! copied once; lines that are not written this way are written again behind it. So runs of
//! untouched lines leave with one copy.

use super::names::{Known, Name, Seen};
use std::fmt;

/// Most bytes that the lines of one message may take. Beyond it, [`Fields::add`] refuses.
pub const FIELDS_BYTES_MAX: usize = 1 << 20;
/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = u16::MAX as usize;

#[derive(Debug, Clone, Copy)]
struct Line {
    start: u32,
    value_len: u32,
    name_len: u16,
    /// The first byte of the name with bit 5 set: refuses most names without a look at the buffer.
    first: u8,
    known: Known,
}

impl Line {
    const fn value_start(self) -> usize {
        self.start as usize + self.name_len as usize + 2
    }

    const fn end(self) -> usize {
        self.value_start() + self.value_len as usize + 2
    }
}

/// The header lines of one message, in order, with the names as they were written.
///
/// Lookups ignore case. Values never hold a control byte other than a tab.
#[derive(Default)]
pub struct Fields {
    bytes: Vec<u8>,
    lines: Vec<Line>,
    seen: Seen,
}

impl Fields {
    /// No lines.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there are no lines.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Forgets the lines, keeps the buffers.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.lines.clear();
        self.seen = Seen::default();
    }

    /// The first value of this name.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        let is_named = named(&self.bytes, name.as_ref());
        let line = self.lines.iter().find(|line| is_named(line))?;
        Some(self.value(*line))
    }

    /// All values of this name, in order.
    pub fn all<'f>(&'f self, name: &str) -> impl Iterator<Item = &'f [u8]> {
        let is_named = named(&self.bytes, name.as_bytes());
        self.lines.iter().filter(move |line| is_named(line)).map(|line| self.value(*line))
    }

    /// Whether there is a line of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The first value of a well-known name; one bit test when there is none.
    pub fn get_known(&self, name: Known) -> Option<&[u8]> {
        self.all_known(name).next()
    }

    /// All values of a well-known name.
    pub fn all_known(&self, name: Known) -> impl Iterator<Item = &[u8]> {
        let lines = if self.has(name) { self.lines.as_slice() } else { &[] };
        lines.iter().filter(move |line| line.known == name).map(|line| self.value(*line))
    }

    /// Whether there is a line of this well-known name.
    pub fn has(&self, name: Known) -> bool {
        self.seen.meets(Seen(name.bit()))
    }

    /// The well-known names that are there.
    pub fn seen(&self) -> Seen {
        self.seen
    }

    /// Names and values, in order. Names are ASCII, in their original case.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.iter().map(|line| (self.name(*line), self.value(*line)))
    }

    /// Puts one line in place of all of this name: where the first of them was, or at the end.
    ///
    /// False, and nothing changed, if the name is not a token or the message would grow beyond
    /// [`FIELDS_BYTES_MAX`]. Outer spaces of the value are cut; control bytes are
    /// percent-encoded, as OpenResty does.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) -> bool {
        self.set_bytes(name.as_bytes(), value.as_ref())
    }

    fn set_bytes(&mut self, name: &[u8], value: &[u8]) -> bool {
        let line = self.write(name, value);
        if let Some(line) = line {
            self.place(line);
        }
        line.is_some()
    }

    /// [`Fields::set`] for a name of the program's own.
    pub fn put(&mut self, name: Name, value: impl AsRef<[u8]>) -> bool {
        let line = self.write_named(name, value.as_ref());
        if let Some(line) = line {
            self.place(line);
        }
        line.is_some()
    }

    /// [`Fields::put`] for each name that has a value, [`Fields::remove`] for the others: with one
    /// look at the lines where none of them is there.
    pub fn put_each(&mut self, named: &[(Name, Option<&str>)]) {
        let may_be = |line: &Line, name: &Name| {
            line.first == name.first && line.name_len as usize == name.len()
        };
        let is_new =
            !self.lines.iter().any(|line| named.iter().any(|(name, _)| may_be(line, name)));
        for &(name, value) in named {
            match value {
                Some(value) if is_new => self.push(name, value),
                Some(value) => self.put(name, value),
                None => !is_new && self.remove(name.as_str()) > 0,
            };
        }
    }

    /// [`Fields::add`] for a name of the program's own.
    pub fn push(&mut self, name: Name, value: impl AsRef<[u8]>) -> bool {
        let line = self.write_named(name, value.as_ref());
        if let Some(line) = line {
            self.lines.push(line);
            self.seen.0 |= line.known.bit();
        }
        line.is_some()
    }

    /// Puts a line, whose bytes are here, in place of all of its name.
    fn place(&mut self, line: Line) {
        self.seen.0 |= line.known.bit();
        let is_named = named(&self.bytes, name_of(&self.bytes, line));
        let Some(first) = self.lines.iter().position(&is_named) else {
            return self.lines.push(line);
        };
        let (mut at, after) = (0, first + 1);
        let mut rest = self.lines.iter().skip(after);
        if rest.any(&is_named) {
            self.lines.retain(|old| {
                at += 1;
                at <= after || !is_named(old)
            });
        }
        if let Some(place) = self.lines.get_mut(first) {
            *place = line;
        }
    }

    /// Puts each line of `over` in place of all of its name, as [`Fields::set`] does; the bytes are
    /// clean already. Lines that would not fit are left out.
    pub fn lay_over(&mut self, over: &Self) {
        for line in &over.lines {
            let (bytes, start) =
                (over.bytes.get(line.start as usize..line.end()), self.bytes.len());
            let bytes = bytes.unwrap_or_default();
            if start + bytes.len() > FIELDS_BYTES_MAX {
                let _fits = self.set_bytes(over.name(*line), over.value(*line));
                continue;
            }
            self.bytes.extend_from_slice(bytes);
            self.place(Line { start: start as u32, ..*line });
        }
    }

    /// Adds a line at the end. Refuses and cleans like [`Fields::set`].
    pub fn add(&mut self, name: &str, value: impl AsRef<[u8]>) -> bool {
        let line = self.write(name.as_bytes(), value.as_ref());
        if let Some(line) = line {
            self.lines.push(line);
            self.seen.0 |= line.known.bit();
        }
        line.is_some()
    }

    /// Removes all lines of this name; says how many there were.
    pub fn remove(&mut self, name: &str) -> usize {
        let before = self.lines.len();
        {
            let is_named = named(&self.bytes, name.as_bytes());
            self.lines.retain(|line| !is_named(line));
        }
        if self.lines.len() != before {
            self.note_seen();
        }
        before - self.lines.len()
    }

    /// Keeps the lines for which `keep(name, value)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let bytes = &self.bytes;
        self.lines.retain(|line| keep(name_of(bytes, *line), value_of(bytes, *line)));
        self.note_seen();
    }

    /// Removes all lines of these well-known names.
    pub fn remove_known(&mut self, names: Seen) {
        if self.seen.meets(names) {
            self.lines.retain(|line| names.0 & line.known.bit() == 0);
            self.seen.0 &= !names.0;
        }
    }

    /// Lengths of the name and of the value of each line, in order.
    pub fn lengths(&self) -> impl Iterator<Item = (usize, usize)> {
        self.lines.iter().map(|line| (line.name_len as usize, line.value_len as usize))
    }

    /// The first lines as they go out, `Name: value\r\n` each, in as few slices as possible.
    pub fn runs(&self, lines_max: usize) -> impl Iterator<Item = &[u8]> {
        let mut lines = self.lines.iter().take(lines_max).copied().peekable();
        std::iter::from_fn(move || {
            let first = lines.next()?;
            let mut end = first.end();
            while let Some(next) = lines.next_if(|next| next.start as usize == end) {
                end = next.end();
            }
            Some(self.bytes.get(first.start as usize..end).unwrap_or_default())
        })
    }

    /// Appends the lines as they go out, but for those whose name `skips`: neighbours that both
    /// stay with one copy.
    pub fn write_others(&self, out: &mut Vec<u8>, skips: impl Fn(&[u8]) -> bool) {
        let mut run = 0..0;
        let mut copy = |run| out.extend_from_slice(self.bytes.get(run).unwrap_or_default());
        for line in self.lines.iter().filter(|line| !skips(self.name(**line))) {
            let start = line.start as usize;
            if start != run.end {
                copy(std::mem::replace(&mut run, start..start));
            }
            run.end = line.end();
        }
        copy(run);
    }

    /// Starts a received message with its block of header lines.
    pub(super) fn load(&mut self, block: &[u8], lines: usize) {
        self.clear();
        self.bytes.extend_from_slice(block);
        self.lines.reserve(lines);
    }

    /// Notes a line of the loaded block. `name` lies at `start`.
    #[inline]
    pub(super) fn adopt(
        &mut self,
        start: usize,
        name: &[u8],
        value_start: usize,
        value_len: usize,
    ) {
        let name_end = start + name.len();
        let value_end = value_start + value_len;
        let canonical = value_start == name_end + 2
            && self.bytes.get(name_end..value_start) == Some(b": ")
            && self.bytes.get(value_end..value_end + 2) == Some(b"\r\n");
        let start = if canonical {
            start
        } else {
            let again = self.bytes.len();
            self.bytes.extend_from_within(start..name_end);
            self.bytes.extend_from_slice(b": ");
            self.bytes.extend_from_within(value_start..value_end);
            self.bytes.extend_from_slice(b"\r\n");
            again
        };
        if let Some(line) = line(start, name, value_len) {
            self.seen.0 |= line.known.bit();
            self.lines.push(line);
        }
    }

    /// Writes `name: value\r\n` behind the other bytes.
    fn write(&mut self, name: &[u8], value: &[u8]) -> Option<Line> {
        if !is_token(name) {
            return None;
        }
        let start = self.make_room(name.len(), value.len())?;
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(b": ");
        let value_len = self.finish(value);
        line(start, name, value_len)
    }

    /// The same with a name that is known to be one.
    fn write_named(&mut self, name: Name, value: &[u8]) -> Option<Line> {
        let start = self.make_room(name.len(), value.len())?;
        self.bytes.extend_from_slice(name.start().as_bytes());
        let value_len = self.finish(value);
        Some(Line {
            start: start as u32,
            value_len: value_len as u32,
            name_len: name.len() as u16,
            first: name.first,
            known: name.known,
        })
    }

    /// Makes room for one more line; gives where it begins, below [`FIELDS_BYTES_MAX`] as its end.
    fn make_room(&mut self, name_len: usize, value_len: usize) -> Option<usize> {
        // An escaped byte takes three.
        let room = name_len + value_len.saturating_mul(3) + 4;
        if self.bytes.len().saturating_add(room) > FIELDS_BYTES_MAX {
            self.compact();
            if self.bytes.len().saturating_add(room) > FIELDS_BYTES_MAX {
                return None;
            }
        }
        self.bytes.reserve(name_len + value_len + 4);
        Some(self.bytes.len())
    }

    /// Writes the value of a line and its end; gives the value's length.
    fn finish(&mut self, value: &[u8]) -> usize {
        let value_start = self.bytes.len();
        push_clean(&mut self.bytes, value);
        let value_len = self.bytes.len() - value_start;
        self.bytes.extend_from_slice(b"\r\n");
        value_len
    }

    /// Forgets the bytes that no line uses.
    fn compact(&mut self) {
        let mut bytes = Vec::with_capacity(self.lines.iter().map(|line| line.end()).sum());
        for line in &mut self.lines {
            let old = self.bytes.get(line.start as usize..line.end()).unwrap_or_default();
            line.start = bytes.len() as u32;
            bytes.extend_from_slice(old);
        }
        self.bytes = bytes;
    }

    fn note_seen(&mut self) {
        self.seen = Seen(self.lines.iter().fold(0, |bits, line| bits | line.known.bit()));
    }

    fn name(&self, line: Line) -> &[u8] {
        name_of(&self.bytes, line)
    }

    fn value(&self, line: Line) -> &[u8] {
        value_of(&self.bytes, line)
    }
}

impl Clone for Fields {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes.clone(), lines: self.lines.clone(), seen: self.seen }
    }

    /// The lines of another, in the buffers that are here.
    fn clone_from(&mut self, other: &Self) {
        self.bytes.clone_from(&other.bytes);
        self.lines.clone_from(&other.lines);
        self.seen = other.seen;
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Fields {}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes| String::from_utf8_lossy(bytes);
        f.debug_list().entries(self.iter().map(|(name, value)| (text(name), text(value)))).finish()
    }
}

fn line(start: usize, name: &[u8], value_len: usize) -> Option<Line> {
    Some(Line {
        start: u32::try_from(start).ok()?,
        value_len: u32::try_from(value_len).ok()?,
        name_len: u16::try_from(name.len()).ok()?,
        first: name.first()? | 0x20,
        known: Known::of(name),
    })
}

fn name_of(bytes: &[u8], line: Line) -> &[u8] {
    let start = line.start as usize;
    bytes.get(start..start + line.name_len as usize).unwrap_or_default()
}

fn value_of(bytes: &[u8], line: Line) -> &[u8] {
    let start = line.value_start();
    bytes.get(start..start + line.value_len as usize).unwrap_or_default()
}

/// Whether a line of these bytes has this name, in any case.
fn named(bytes: &[u8], name: &[u8]) -> impl Fn(&Line) -> bool {
    let first = name.first().map_or(0, |byte| byte | 0x20);
    move |line| {
        line.name_len as usize == name.len()
            && line.first == first
            && is_same(name_of(bytes, *line), name)
    }
}

/// Whether two names of one length are the same in any case, eight bytes at a time.
fn is_same(one: &[u8], two: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let lower = |word: &[u8; 8]| {
        let word = u64::from_ne_bytes(*word);
        let ascii = word & (ONES * 0x7f);
        // The top bit of a byte from `A` on, and of one behind `Z`.
        let (from_a, behind_z) = (ascii + ONES * (0x80 - 0x41), ascii + ONES * (0x80 - 0x5b));
        word | ((from_a & !behind_z & !word & (ONES << 7)) >> 2)
    };
    let (Some(last_one), Some(last_two)) = (one.last_chunk(), two.last_chunk()) else {
        return one.eq_ignore_ascii_case(two);
    };
    let words = one.as_chunks().0.iter().zip(two.as_chunks().0);
    // What no word covers is in the last eight bytes.
    let last = lower(last_one) ^ lower(last_two);
    words.fold(last, |found, (one, two)| found | (lower(one) ^ lower(two))) == 0
}

/// Whether these bytes are a token of RFC 9110, at most 65,535 of them.
pub(crate) const fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.len() <= NAME_BYTES_MAX && !has_any(bytes, NO_TOKEN)
}

/// Whether nginx would drop a line of this name.
pub(crate) fn is_odd(name: &[u8]) -> bool {
    has_any(name, ODD)
}

/// Bytes that are in no token.
const NO_TOKEN: u8 = 1;
/// Bytes that nginx does not take in a name.
const ODD: u8 = 2;

/// The classes of each byte.
static CLASSES: [u8; 256] = {
    let mut classes = [NO_TOKEN | ODD; 256];
    let mut byte = 0;
    while byte < 256 {
        // IN BOUNDS: checked when compiled.
        classes[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => 0,
            b'!' | b'#'..=b'\'' | b'*' | b'+' | b'.' | b'^' | b'`' | b'|' | b'~' => ODD,
            _ => NO_TOKEN | ODD,
        };
        byte += 1;
    }
    classes
};

/// Whether any byte is of this class.
const fn has_any(bytes: &[u8], class: u8) -> bool {
    // Without an early end: names are short, and branches cost more than bytes.
    let (mut found, mut rest) = (0, bytes);
    while let [byte, after @ ..] = rest {
        // IN BOUNDS: a byte is below 256.
        found |= CLASSES[*byte as usize];
        rest = after;
    }
    found & class != 0
}

/// Whether a server that folds `_` into `-` would frame the message by this line.
pub(crate) fn is_disguised(name: &[u8]) -> bool {
    match name.len() {
        14 => name.eq_ignore_ascii_case(b"content_length"),
        17 => name.eq_ignore_ascii_case(b"transfer_encoding"),
        _ => false,
    }
}

/// Appends a value that cannot end its line: outer spaces cut, control bytes percent-encoded.
pub(crate) fn push_clean(out: &mut Vec<u8>, value: &[u8]) {
    let value = trimmed(value);
    if is_plain(value) {
        out.extend_from_slice(value);
        return;
    }
    for &byte in value {
        if is_control(byte) {
            push_escape(out, byte);
        } else {
            out.push(byte);
        }
    }
}

/// Appends `%XX`.
pub(super) fn push_escape(out: &mut Vec<u8>, byte: u8) {
    let digit = |half: u8| half + if half < 10 { b'0' } else { b'A' - 10 };
    out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
}

/// Whether no byte is a control byte, eight at a time. A tab is taken for one: it is rare.
fn is_plain(value: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let controls = |word: u64| {
        let delete = word ^ (ONES * 0x7f);
        // The top bit of a byte that is below 0x20, or 0 after the change; a borrow can only
        // add a bit above one that is set already.
        (word.wrapping_sub(ONES * 0x20) & !word) | (delete.wrapping_sub(ONES) & !delete)
    };
    // What no word covers, in the last eight bytes: some of them once more.
    let last = match (value.last_chunk(), value.first_chunk(), value.last_chunk()) {
        (Some(last), ..) => u64::from_ne_bytes(*last),
        (None, Some(first), Some(last)) => {
            u64::from(u32::from_ne_bytes(*first)) << 32 | u64::from(u32::from_ne_bytes(*last))
        }
        _ => value.iter().fold(ONES * 0x20, |word, byte| word << 8 | u64::from(*byte)),
    };
    let words = value.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word));
    words.fold(controls(last), |found, word| found | controls(word)) & (ONES << 7) == 0
}

const fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}

fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(lines: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::new();
        lines.iter().for_each(|(name, value)| assert!(fields.add(name, value)));
        fields
    }

    #[test]
    fn control_bytes_are_seen_wherever_they_stand() {
        for (byte, len) in (0..=255_u8).flat_map(|byte| (1..20).map(move |len| (byte, len))) {
            for place in 0..len {
                let mut value = vec![b'a'; len];
                value[place] = byte;
                let plain = byte >= b' ' && byte != 0x7f;
                assert_eq!(is_plain(&value), plain, "{byte} at {place} of {len}");
            }
        }
    }

    #[test]
    fn names_are_the_same_in_any_case_and_in_no_other_way() {
        let name = |byte: u8, place: usize, len: usize| {
            let mut name = vec![b'-'; len];
            name[place] = byte;
            name
        };
        for (one, two) in (0..=255_u8).flat_map(|one| (0..=255).map(move |two| (one, two))) {
            for (place, len) in [(0, 1), (6, 7), (0, 8), (7, 9), (8, 9), (3, 17), (15, 17)] {
                let same = is_same(&name(one, place, len), &name(two, place, len));
                assert_eq!(same, one.eq_ignore_ascii_case(&two), "{one} {two}: {place} of {len}");
            }
        }
    }

    #[test]
    fn lines_laid_over_are_as_if_each_was_set() {
        let over = fields(&[("b", "4"), ("N", " 5 "), ("B", "6")]);
        let mut laid = fields(&[("a", "1"), ("B", "2"), ("c", "3"), ("b", "0")]);
        let mut set = laid.clone();
        laid.lay_over(&over);
        for (name, value) in over.iter() {
            set.set(std::str::from_utf8(name).unwrap(), value);
        }
        assert_eq!(laid, set);
        check(&laid, "a=1 B=6 c=3 N=5");
    }

    #[track_caller]
    fn check(fields: &Fields, expected: &str) {
        let text: Vec<String> = fields
            .iter()
            .map(|(name, value)| {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                format!("{}={}", text(name), text(value))
            })
            .collect();
        assert_eq!(text.join(" "), expected);
        let written: Vec<u8> = fields.runs(usize::MAX).flatten().copied().collect();
        let lines = |skips: &dyn Fn(&[u8]) -> bool| -> Vec<u8> {
            let lines = fields.iter().filter(|(name, _)| !skips(name));
            lines.flat_map(|(name, value)| [name, b": ", value, b"\r\n"].concat()).collect()
        };
        assert_eq!(written, lines(&|_| false), "runs differ from lines");
        for skips in [|name: &[u8]| name.eq_ignore_ascii_case(b"b"), |_: &[u8]| false] {
            let mut others = b"before".to_vec();
            fields.write_others(&mut others, skips);
            assert_eq!(others, [b"before", &*lines(&skips)].concat());
        }
    }

    #[test]
    fn a_set_line_takes_the_first_place() {
        let mut lines = fields(&[("A", "1"), ("B", "2"), ("a", "3"), ("C", "4"), ("A", "5")]);
        assert!(lines.set("a", "6"));
        check(&lines, "a=6 B=2 C=4");
        assert!(lines.set("D", "7"));
        check(&lines, "a=6 B=2 C=4 D=7");
        assert_eq!(lines.remove("b"), 1);
        assert_eq!(lines.remove("b"), 0);
        check(&lines, "a=6 C=4 D=7");
        lines.retain(|name, _| name != b"C");
        check(&lines, "a=6 D=7");
    }

    #[test]
    fn lookups_ignore_case() {
        let lines = fields(&[("X-One", "1"), ("x-one", "2"), ("X-Two", "")]);
        assert_eq!(lines.get("x-ONE"), Some(&b"1"[..]));
        assert_eq!(lines.all("X-One").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(lines.get("x-two"), Some(&b""[..]));
        assert!(!lines.contains("x-on") && !lines.contains(""));
    }

    #[test]
    fn well_known_names_are_seen_as_long_as_they_are_there() {
        let mut lines = fields(&[("HOST", "a"), ("tE", "b"), ("te", "c"), ("Content-lengtH", "1")]);
        assert_eq!(lines.get_known(Known::Host), Some(&b"a"[..]));
        assert_eq!(lines.all_known(Known::Te).count(), 2);
        assert!(lines.has(Known::ContentLength) && !lines.has(Known::Expect));
        lines.remove("content-length");
        assert!(!lines.has(Known::ContentLength) && lines.has(Known::Te));
        lines.remove_known(Seen::of(&[Known::Te, Known::Expect]));
        check(&lines, "HOST=a");
        assert!(!lines.has(Known::Te));
        lines.clear();
        assert!(!lines.has(Known::Host) && lines.is_empty());
    }

    #[test]
    fn every_well_known_name_is_recognised() {
        let names = ["Host", "Connection", "Content-Length", "Transfer-Encoding", "Expect"];
        let more = ["Upgrade", "TE", "Trailer", "Keep-Alive", "Proxy", "Proxy-Connection"];
        let known: Vec<Known> =
            names.iter().chain(&more).map(|name| Known::of(name.as_bytes())).collect();
        assert_eq!(known.iter().map(|k| k.bit()).sum::<u16>(), 0b1111_1111_1110);
        assert_eq!(Known::of(b"hosts"), Known::Other);
        assert_eq!(Known::of(b""), Known::Other);
    }

    #[test]
    fn no_value_ends_its_line_and_no_name_is_strange() {
        let mut lines = Fields::new();
        assert!(lines.set("A", " \tx\r\nEvil: y\0\x7f\tz "));
        check(&lines, "A=x%0D%0AEvil: y%00%7F\tz");
        for name in ["", "a b", "a:", "a\r\n", "\u{e9}", &"n".repeat(70_000)] {
            assert!(!lines.add(name, "v") && !lines.set(name, "v"), "{name}");
        }
        assert_eq!(lines.len(), 1);
    }

    #[test]
    fn a_message_has_a_largest_size_and_old_bytes_do_not_count() {
        let mut lines = fields(&[("Keep", "me")]);
        let large = vec![b'v'; 100_000];
        for _ in 0..100 {
            assert!(lines.set("Large", &large));
        }
        assert!(lines.bytes.len() <= FIELDS_BYTES_MAX);
        assert_eq!(lines.get("large"), Some(large.as_slice()));
        assert_eq!(lines.get("keep"), Some(&b"me"[..]));
        assert!(!lines.add("More", vec![b'v'; FIELDS_BYTES_MAX]));
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn untouched_runs_leave_in_one_piece() {
        let mut lines = fields(&[("A", "1"), ("B", "2"), ("C", "3"), ("D", "4")]);
        assert_eq!(lines.runs(usize::MAX).count(), 1);
        lines.remove("B");
        assert_eq!(lines.runs(usize::MAX).count(), 2);
    }

    proptest! {
        /// Against a list of pairs, under any order of changes.
        #[test]
        fn changes_are_those_of_a_list(
            changes in proptest::collection::vec((0..4, "[ab]|host|te", "[ -~]{0,6}"), 0..40)
        ) {
            let (mut lines, mut model) = (Fields::new(), Vec::<(String, String)>::new());
            for (change, name, value) in changes {
                let value = value.trim_matches([' ', '\t']).to_owned();
                match change {
                    0 | 1 => {
                        lines.add(&name, &value);
                        model.push((name, value));
                    }
                    2 => {
                        lines.set(&name, &value);
                        let place = model.iter().position(|(old, _)| *old == name);
                        let place = place.unwrap_or(model.len());
                        model.insert(place, (name.clone(), value));
                        let mut at = 0;
                        model.retain(|(old, _)| { at += 1; at - 1 == place || *old != name });
                    }
                    _ => {
                        let gone = lines.remove(&name);
                        let before = model.len();
                        model.retain(|(old, _)| *old != name);
                        prop_assert_eq!(gone, before - model.len());
                    }
                }
                let text: Vec<String> = model.iter().map(|(n, v)| format!("{n}={v}")).collect();
                check(&lines, &text.join(" "));
                prop_assert_eq!(lines.has(Known::Te), model.iter().any(|(n, _)| n == "te"));
            }
        }
    }
}

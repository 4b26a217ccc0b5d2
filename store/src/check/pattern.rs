//! Lua patterns: the schemas are written with them, and `/schemas` prints them.
//!
//! Classes, sets, anchors and the four repetitions; captures are read over, `%b` and `%f` are not
//! known (no schema uses them).
//!
//! Source: Lua 5.1 reference manual, section 5.4.1; `lstrlib.c`.

/// Most steps of one search; beyond it the text counts as not matching.
const STEPS_MAX: u32 = 1_000_000;

/// Whether `pattern` matches anywhere in `text`.
pub fn matches(text: &str, pattern: &str) -> bool {
    let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
    let mut search = Search { text, steps: 0 };
    match pattern.strip_prefix(b"^") {
        Some(anchored) => search.here(0, anchored),
        None => (0..=text.len()).any(|start| search.here(start, pattern)),
    }
}

struct Search<'a> {
    text: &'a [u8],
    steps: u32,
}

impl Search<'_> {
    fn here(&mut self, mut at: usize, mut pattern: &[u8]) -> bool {
        loop {
            self.steps += 1;
            if self.steps > STEPS_MAX {
                return false;
            }
            match pattern {
                [] => return true,
                [b'$'] => return at == self.text.len(),
                [b'(' | b')', rest @ ..] => {
                    pattern = rest;
                    continue;
                }
                _ => {}
            }
            let (single, rest) = split_single(pattern);
            match rest.first() {
                Some(b'?') => {
                    if self.fits(at, single) && self.here(at + 1, &rest[1..]) {
                        return true;
                    }
                    pattern = &rest[1..];
                }
                Some(b'+') => {
                    return self.fits(at, single) && self.most(at + 1, single, &rest[1..]);
                }
                Some(b'*') => return self.most(at, single, &rest[1..]),
                Some(b'-') => return self.least(at, single, &rest[1..]),
                _ => {
                    if !self.fits(at, single) {
                        return false;
                    }
                    at += 1;
                    pattern = rest;
                }
            }
        }
    }

    fn most(&mut self, at: usize, single: &[u8], rest: &[u8]) -> bool {
        let mut end = at;
        while self.fits(end, single) {
            end += 1;
        }
        (at..=end).rev().any(|end| self.here(end, rest))
    }

    fn least(&mut self, at: usize, single: &[u8], rest: &[u8]) -> bool {
        let mut end = at;
        loop {
            if self.here(end, rest) {
                return true;
            }
            if !self.fits(end, single) {
                return false;
            }
            end += 1;
        }
    }

    fn fits(&self, at: usize, single: &[u8]) -> bool {
        let Some(&byte) = self.text.get(at) else { return false };
        match single {
            [b'.'] => true,
            [b'%', class] => in_class(byte, *class),
            [b'[', inside @ .., b']'] => in_set(byte, inside),
            [plain] => byte == *plain,
            _ => false,
        }
    }
}

/// One character, class or set, and what follows it.
fn split_single(pattern: &[u8]) -> (&[u8], &[u8]) {
    let length = match pattern {
        [b'%', _, ..] => 2,
        [b'[', ..] => set_length(pattern),
        _ => 1,
    };
    pattern.split_at(length.min(pattern.len()))
}

fn set_length(pattern: &[u8]) -> usize {
    let mut at = if pattern.get(1) == Some(&b'^') { 2 } else { 1 };
    loop {
        match pattern.get(at) {
            Some(b'%') => at += 2,
            // A bracket that comes first is an ordinary character.
            Some(b']') if at > 1 && !(at == 2 && pattern[1] == b'^') => return at + 1,
            Some(_) => at += 1,
            None => return pattern.len(),
        }
    }
}

fn in_set(byte: u8, inside: &[u8]) -> bool {
    let (negated, mut rest) = match inside {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    while let [first, ..] = rest {
        let (hit, length) = match rest {
            [b'%', class, ..] => (in_class(byte, *class), 2),
            [low, b'-', high, ..] => ((*low..=*high).contains(&byte), 3),
            _ => (byte == *first, 1),
        };
        found |= hit;
        rest = &rest[length..];
    }
    found != negated
}

fn in_class(byte: u8, class: u8) -> bool {
    let found = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        b's' => byte.is_ascii_whitespace() || byte == 0x0b,
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        _ => return byte == class,
    };
    found != class.is_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_in_lua() {
        #[track_caller]
        fn check(pattern: &str, yes: &[&str], no: &[&str]) {
            for text in yes {
                assert!(matches(text, pattern), "{pattern} should match {text}");
            }
            for text in no {
                assert!(!matches(text, pattern), "{pattern} should not match {text}");
            }
        }
        check("^%u+$", &["GET"], &["get", "", "GeT"]);
        check("//", &["/a//b"], &["/a/b"]);
        check("^[^*]*%*?[^*]*$", &["a", "*.a", "a.*"], &["*.a.*", "a**"]);
        check("%.%*$", &["a.*"], &["a.*b", "a*"]);
        check("^[Hh][Oo][Ss][Tt]$", &["Host"], &["hosts"]);
        check("^[a-z][a-z%d-]-[a-z%d]+$", &["ab", "my-vault1"], &["a", "-a", "A1", "a-"]);
        check("^%d+[%.%d]*%-?.*$", &["1.2.3-rc"], &["x"]);
        check("^[%a_-][%a%d_-]*$", &["_a-1"], &["1a"]);
        check("^[^:]+:.*$", &["a:b"], &[":b", "ab"]);
        check("%w*%p*@+%w*%.?%w*", &["a@b.c"], &["ab"]);
        check("^[]x]+$", &["]x"], &["a"]);
        check("a(b)c", &["xabcx"], &["ac"]);
        check("", &["", "a"], &[]);
    }

    #[test]
    fn a_hostile_text_ends() {
        assert!(!matches(&"a".repeat(20_000), "a*a*a*b"));
    }
}

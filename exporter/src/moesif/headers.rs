//! Header lines as identification and rules read them: those of an exchange that is on its way, or
//! those that a record has kept.

use crate::event::record::LineBytes;
use runtime::http::head::Fields;

/// The header lines of one message.
#[derive(Clone, Copy)]
pub enum Headers<'a> {
    /// On the road.
    Live(&'a Fields),
    /// In a record.
    Kept(LineBytes<'a>),
}

impl<'a> Headers<'a> {
    /// What `found` makes of the first line of which it makes something.
    pub fn find<T>(&self, mut found: impl FnMut(&'a [u8], &'a [u8]) -> Option<T>) -> Option<T> {
        match self {
            Self::Live(fields) => fields.iter().find_map(|(name, value)| found(name, value)),
            Self::Kept(lines) => lines.iter().find_map(|(name, value)| found(name, value)),
        }
    }

    /// The first line of this name, any case.
    pub fn first(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.find(|line, value| line.eq_ignore_ascii_case(name).then_some(value))
    }

    /// The line of this name, any case; `None` if there are several.
    pub fn only(&self, name: &[u8]) -> Option<&'a [u8]> {
        let (mut value, mut several) = (None, false);
        self.find(|line, found| {
            if line.eq_ignore_ascii_case(name) {
                several |= value.replace(found).is_some();
            }
            several.then_some(())
        });
        value.filter(|_| !several)
    }

    /// The first line of a configured name, in which `_` stands for `-`, unless it is empty.
    pub fn named(&self, name: Option<&str>) -> Option<&'a [u8]> {
        let name = name?.as_bytes();
        let dash = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        let same = |line: &[u8]| {
            line.len() == name.len() && line.iter().zip(name).all(|(a, b)| dash(a) == dash(b))
        };
        self.find(|line, value| same(line).then_some(value)).filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::record::tests::lines_of;

    #[test]
    fn both_sorts_say_the_same() {
        let lines = [("X-A", "1"), ("x-b", "2"), ("X-B", "3"), ("X_C", "4"), ("X-D", "")];
        let kept = lines_of(&lines);
        let mut fields = Fields::new();
        for (name, value) in lines {
            fields.add(name, value);
        }
        for headers in [Headers::Live(&fields), Headers::Kept(kept.view())] {
            assert_eq!(headers.first(b"x-B"), Some(&b"2"[..]));
            assert_eq!((headers.only(b"x-a"), headers.only(b"x-b")), (Some(&b"1"[..]), None));
            assert_eq!(headers.named(Some("x-c")), Some(&b"4"[..]));
            assert_eq!(headers.named(Some("X_A")), Some(&b"1"[..]));
            assert_eq!((headers.named(Some("x-d")), headers.named(None)), (None, None));
        }
    }
}

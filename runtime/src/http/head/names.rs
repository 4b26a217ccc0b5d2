//! Names of header lines that the program knows: those it looks for, and those it writes.

use super::fields::is_token;

/// Names that framing, connections and routing ask for. Recognised once, when a line arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Known {
    /// Any other name.
    Other,
    /// Host.
    Host,
    /// Connection.
    Connection,
    /// Content-Length.
    ContentLength,
    /// Transfer-Encoding.
    TransferEncoding,
    /// Expect.
    Expect,
    /// Upgrade.
    Upgrade,
    /// TE.
    Te,
    /// Trailer.
    Trailer,
    /// Keep-Alive.
    KeepAlive,
    /// Proxy: would become `HTTP_PROXY` in a CGI program.
    Proxy,
    /// Proxy-Connection.
    ProxyConnection,
}

impl Known {
    /// Recognises a name in any case.
    #[inline]
    pub const fn of(name: &[u8]) -> Self {
        let first = if let [first, ..] = name { *first | 0x20 } else { 0 };
        let (known, spelling) = match (name.len(), first) {
            (4, b'h') => (Self::Host, "host"),
            (10, b'c') => (Self::Connection, "connection"),
            (14, b'c') => (Self::ContentLength, "content-length"),
            (17, b't') => (Self::TransferEncoding, "transfer-encoding"),
            (6, b'e') => (Self::Expect, "expect"),
            (7, b'u') => (Self::Upgrade, "upgrade"),
            (2, b't') => (Self::Te, "te"),
            (7, b't') => (Self::Trailer, "trailer"),
            (10, b'k') => (Self::KeepAlive, "keep-alive"),
            (5, b'p') => (Self::Proxy, "proxy"),
            (16, b'p') => (Self::ProxyConnection, "proxy-connection"),
            _ => return Self::Other,
        };
        if name.eq_ignore_ascii_case(spelling.as_bytes()) { known } else { Self::Other }
    }

    pub(super) const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// A set of [`Known`] names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen(pub(super) u16);

impl Seen {
    /// The set of these names.
    pub const fn of(names: &[Known]) -> Self {
        let (mut bits, mut rest) = (0, names);
        while let [name, after @ ..] = rest {
            bits |= name.bit();
            rest = after;
        }
        Self(bits)
    }

    /// Whether any name is in both.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A name that the program itself writes, looked at once, when it is compiled.
#[derive(Debug, Clone, Copy)]
pub struct Name {
    start: &'static str,
    pub(super) first: u8,
    pub(super) known: Known,
}

impl Name {
    /// The name of a line that begins like this: `X-Name: `. For constants: what is no such
    /// beginning does not compile.
    pub const fn new(start: &'static str) -> Self {
        let name = match start.as_bytes() {
            [name @ .., b':', b' '] => name,
            _ => b"",
        };
        assert!(is_token(name), "a line begins with a token, a colon and a space");
        let first = if let [first, ..] = name { *first | 0x20 } else { 0 };
        Self { start, first, known: Known::of(name) }
    }

    /// The name alone.
    pub fn as_str(self) -> &'static str {
        self.start.get(..self.len()).unwrap_or_default()
    }

    /// Up to the value: `X-Name: `.
    pub(crate) const fn start(self) -> &'static str {
        self.start
    }

    pub(super) const fn len(self) -> usize {
        self.start.len() - 2
    }
}

#[cfg(test)]
mod tests {
    use super::super::Fields;
    use super::*;

    #[test]
    fn a_name_of_ours_is_set_and_added_like_any_other() {
        const NAME: Name = Name::new("X-Name: ");
        const LENGTH: Name = Name::new("Content-Length: ");
        let (mut ours, mut plain) = (Fields::new(), Fields::new());
        for (name, value) in [(NAME, " a\nb "), (LENGTH, "1"), (NAME, "c"), (LENGTH, "")] {
            assert!(ours.put(name, value) && plain.set(name.as_str(), value));
            assert_eq!(ours, plain);
            assert_eq!(ours.seen(), plain.seen());
        }
        assert!(ours.push(NAME, "d\te") && plain.add("X-Name", "d\te"));
        assert_eq!(ours, plain);
        assert_eq!((NAME.as_str(), ours.get("x-name")), ("X-Name", Some(&b"c"[..])));
        let huge = vec![b'a'; super::super::FIELDS_BYTES_MAX];
        assert!(!ours.put(NAME, &huge) && !ours.push(NAME, &huge));
        assert_eq!(ours, plain);
    }

    #[test]
    fn names_put_together_are_as_if_each_was_put() {
        const NAMES: [Name; 3] = [Name::new("X-One: "), Name::new("X-Two: "), Name::new("Te: ")];
        let lines = [("x-one", "1"), ("a", "2"), ("X-TWO", "3"), ("x-one", "4"), ("TE", "5")];
        let values = [Some("v"), None, Some(" w\n")];
        // Every choice of lines, with every choice of values.
        for (chosen, told) in (0..1 << lines.len()).flat_map(|c| (0..27).map(move |t| (c, t))) {
            let mut together = Fields::new();
            for (at, (name, value)) in lines.iter().enumerate() {
                if chosen >> at & 1 == 1 {
                    together.add(name, value);
                }
            }
            let mut apart = together.clone();
            let named = [0, 1, 2].map(|at| (NAMES[at], values[told / [1, 3, 9][at] % 3]));
            together.put_each(&named);
            for (name, value) in named {
                match value {
                    Some(value) => assert!(apart.put(name, value)),
                    None => _ = apart.remove(name.as_str()),
                }
            }
            assert_eq!(together, apart, "lines {chosen:b}, values {told}");
            assert_eq!(together.seen(), apart.seen(), "lines {chosen:b}, values {told}");
        }
    }
}

//! Names of hosts and servers: how routes write them, and which requests fit.
//!
//! Source: Kong `kong/router/transform.lua` (hosts), and for the traditional flavour
//! `kong/router/traditional.lua` (`split_port`, matcher of hosts). Kong compares hosts
//! case-sensitively, as recorded: `Host: H.TEST` does not fit `h.test`. Server names of TLS and
//! the hosts of expressions are compared in small letters.

use super::spec::Flavor;

/// A name with or without a wildcard, and the port that must go with it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NameRule {
    pub(super) name: Name,
    pub(super) port: Option<u32>,
}

#[derive(Debug, PartialEq, Eq, Hash, Clone)]
pub(super) enum Name {
    Exact(Box<[u8]>),
    /// `*.a.com`, kept as `.a.com`.
    Suffix(Box<[u8]>),
    /// `a.*`, kept as `a.`.
    Prefix(Box<[u8]>),
}

/// The Host of a request, taken apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Host<'a> {
    /// Without the port; in small letters where routes may be expressions.
    pub(super) name: &'a [u8],
    /// The port in the Host header, else the one that the client reached (in the traditional
    /// flavour: that of its scheme).
    pub(super) port: u32,
    /// Whether the Host header has a port.
    pub(super) named_port: bool,
    /// The whole header.
    pub(super) whole: &'a [u8],
    /// In the traditional flavour brackets and odd ports keep wildcards off.
    pub(super) plain: bool,
}

impl<'a> Host<'a> {
    /// Takes a Host header apart. `local_port` is where the client came
    /// in, `tls` whether over TLS.
    pub(super) fn new(whole: &'a [u8], flavor: Flavor, local_port: u16, tls: bool) -> Self {
        if flavor == Flavor::Traditional {
            let split = Split::of(whole);
            let port = split.port.unwrap_or(if tls { 443 } else { 80 });
            let Split { name, plain, .. } = split;
            return Self { name, port, named_port: split.port.is_some(), whole, plain };
        }
        let (name, port) = split_port(whole);
        let named_port = port.is_some();
        let port = port.unwrap_or_else(|| u32::from(local_port));
        Self { name, port, named_port, whole, plain: true }
    }
}

/// Host and port of `a.com:80`; a part behind the colon that is no number belongs to the name.
pub(super) fn split_port(host: &[u8]) -> (&[u8], Option<u32>) {
    let Some(at) = memchr::memchr(b':', host) else { return (host, None) };
    let digits = host.get(at + 1..).unwrap_or_default();
    match number(digits) {
        Some(port) => (host.get(..at).unwrap_or_default(), Some(port)),
        None => (host, None),
    }
}

fn number(digits: &[u8]) -> Option<u32> {
    let digits = digits.iter().all(u8::is_ascii_digit).then_some(digits)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A Host header as the traditional flavour takes it apart.
#[derive(Debug, PartialEq, Eq)]
struct Split<'a> {
    /// Without brackets, where they close.
    name: &'a [u8],
    port: Option<u32>,
    /// No brackets and no second colon.
    plain: bool,
}

impl<'a> Split<'a> {
    fn of(host: &'a [u8]) -> Self {
        let part = |range: std::ops::Range<usize>| host.get(range).unwrap_or_default();
        if host.first() == Some(&b'[') {
            let end = memchr::memchr(b']', host).unwrap_or(0);
            let rest = part(end + 1..host.len());
            let port = rest.strip_prefix(b":").and_then(number);
            let closes = end > 0 && (rest.is_empty() || rest == b":" || port.is_some());
            let name = if closes { part(1..end) } else { host };
            return Self { name, port: port.filter(|_| closes), plain: false };
        }
        let Some(colon) = memchr::memchr(b':', host) else {
            return Self { name: host, port: None, plain: true };
        };
        match part(colon + 1..host.len()) {
            b"" => Self { name: part(0..colon), port: None, plain: true },
            digits => match number(digits) {
                Some(port) => Self { name: part(0..colon), port: Some(port), plain: true },
                None => Self { name: host, port: None, plain: false },
            },
        }
    }
}

impl NameRule {
    /// A host as a route writes it.
    pub(super) fn host(text: &str, flavor: Flavor) -> Self {
        let small = (flavor == Flavor::Expressions).then(|| text.to_ascii_lowercase());
        let text = small.as_deref().unwrap_or(text);
        if flavor != Flavor::Traditional {
            let (name, port) = split_port(text.as_bytes());
            return Self { name: Name::new(name), port };
        }
        let Split { name, port, .. } = Split::of(text.as_bytes());
        // Without a port the text is compared as it stands, brackets included.
        let name = if port.is_some() { name } else { text.as_bytes() };
        Self { name: Name::new(name), port }
    }

    /// A server name as a route writes it. The traditional flavour knows no wildcards there.
    pub(super) fn server(text: &str, flavor: Flavor) -> Self {
        let text = text.to_ascii_lowercase();
        let text = match text.strip_suffix('.') {
            Some(rest) if !rest.is_empty() => rest,
            _ => text.as_str(),
        };
        let name = match flavor {
            Flavor::Traditional => Name::Exact(text.as_bytes().into()),
            Flavor::Compatible | Flavor::Expressions => Name::new(text.as_bytes()),
        };
        Self { name, port: None }
    }

    pub(super) fn admits(&self, host: &Host<'_>) -> bool {
        let port = self.port.is_none_or(|port| port == host.port);
        let name = host.name;
        port && match &self.name {
            Name::Exact(text) => name == &**text,
            Name::Suffix(text) => name.ends_with(text),
            Name::Prefix(text) => name.starts_with(text),
        }
    }

    /// As [`Self::admits`] in the traditional flavour: a plain host with a port asks for a Host
    /// header that names it, a wildcard with a port takes the scheme's too, and stands for at least
    /// one byte.
    pub(super) fn admits_traditional(&self, host: &Host<'_>) -> bool {
        let Host { name, port, named_port, whole, plain } = *host;
        let longer = |text: &[u8]| name.len() > text.len();
        match (&self.name, self.port) {
            (Name::Exact(text), Some(asked)) => named_port && port == asked && name == &**text,
            (Name::Exact(text), None) => name == &**text || whole == &**text,
            (Name::Suffix(text), asked) => {
                plain
                    && asked.is_none_or(|asked| asked == port)
                    && name.ends_with(text)
                    && longer(text)
            }
            (Name::Prefix(text), Some(asked)) => {
                plain && port == asked && name.starts_with(text) && longer(text)
            }
            (Name::Prefix(text), None) => plain && name.starts_with(text),
        }
    }
}

impl Name {
    pub(super) fn new(text: &[u8]) -> Self {
        match (text.strip_prefix(b"*"), text.strip_suffix(b"*")) {
            (Some(rest), _) => Self::Suffix(rest.into()),
            (None, Some(rest)) => Self::Prefix(rest.into()),
            (None, None) => Self::Exact(text.into()),
        }
    }

    pub(super) fn admits_any_case(&self, name: &[u8]) -> bool {
        let part = |text: &[u8], part: Option<&[u8]>| {
            part.is_some_and(|part| part.eq_ignore_ascii_case(text))
        };
        match self {
            Self::Exact(text) => name.eq_ignore_ascii_case(text),
            Self::Suffix(text) => {
                part(text, name.len().checked_sub(text.len()).and_then(|at| name.get(at..)))
            }
            Self::Prefix(text) => part(text, name.get(..text.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_split_off_only_where_it_is_a_number() {
        for (host, name, port) in [
            ("a.com", "a.com", None),
            ("a.com:80", "a.com", Some(80)),
            ("a.com:", "a.com:", None),
            ("a.com:8x", "a.com:8x", None),
            ("[::1]:80", "[::1]:80", None),
            (":80", "", Some(80)),
        ] {
            assert_eq!(split_port(host.as_bytes()), (name.as_bytes(), port), "{host}");
        }
    }

    #[test]
    fn the_traditional_flavour_takes_hosts_apart_in_its_own_way() {
        for (host, name, port, plain) in [
            ("a.com", "a.com", None, true),
            ("a.com:80", "a.com", Some(80), true),
            ("a.com:", "a.com", None, true),
            ("a.com:8x", "a.com:8x", None, false),
            ("[::1]:80", "::1", Some(80), false),
            ("[::1]", "::1", None, false),
            ("[::1]:", "::1", None, false),
            ("[::1]x", "[::1]x", None, false),
            ("::1", "::1", None, false),
            ("[", "[", None, false),
        ] {
            let expected = Split { name: name.as_bytes(), port, plain };
            assert_eq!(Split::of(host.as_bytes()), expected, "{host}");
        }
    }

    #[test]
    fn a_final_dot_of_a_server_name_does_not_count() {
        let exact = Name::Exact(b"d.com"[..].into());
        let rule = NameRule { name: exact, port: None };
        assert_eq!(NameRule::server("D.com.", Flavor::Compatible), rule);
        assert_eq!(NameRule::server("D.com.", Flavor::Traditional), rule);
        assert!(Name::new(b"*.b.com").admits_any_case(b"A.B.com"));
        assert!(!Name::new(b"*.b.com").admits_any_case(b"b.com"));
        assert!(Name::new(b"c.*").admits_any_case(b"C.org"));
        assert!(!Name::new(b"c.*").admits_any_case(b"c"));
    }
}

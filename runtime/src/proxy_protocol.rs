//! The PROXY protocol, receiving side: who a client is behind a proxy that forwards bytes.
//!
//! Both versions are read; what they carry beside the addresses (TLVs) is skipped. Source: HAProxy
//! `doc/proxy-protocol.txt`, and nginx `ngx_proxy_protocol.c` for what is accepted.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Who asked whom, as the proxy saw it.
    Ends {
        /// The client.
        client: SocketAddr,
        /// The address that it asked.
        asked: SocketAddr,
    },
    /// The proxy itself asks (`LOCAL`), or does not know for whom (`UNKNOWN`).
    Nobody,
}

/// Bytes that are no PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFault {
    /// Neither version begins like this.
    NoHeader,
    /// The first version's line is broken.
    Line,
    /// The second version's command, family or addresses are broken.
    Binary,
    /// Longer than `HEADER_BYTES_MAX`.
    TooLong,
}

impl fmt::Display for HeaderFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NoHeader => "the connection does not begin with a PROXY header",
            Self::Line => "the line of the PROXY header is broken",
            Self::Binary => "the binary PROXY header is broken",
            Self::TooLong => "the PROXY header is too long",
        })
    }
}

impl std::error::Error for HeaderFault {}

/// The longest header that is read, TLVs included (nginx's bound too).
pub const HEADER_BYTES_MAX: usize = 4_096;
/// The longest line of the first version, with its end.
const LINE_BYTES_MAX: usize = 107;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED_BYTES: usize = 16;

/// Reads a header from the first bytes of a connection: how many bytes it took, and what it says.
/// `None` while it is incomplete.
///
/// # Errors
/// What came is no header; the connection must be closed.
pub fn parse(bytes: &[u8]) -> Result<Option<(usize, Told)>, HeaderFault> {
    let begins = |whole: &[u8]| {
        let both = whole.len().min(bytes.len());
        bytes.get(..both) == whole.get(..both)
    };
    if begins(SIGNATURE) {
        return binary(bytes);
    }
    if begins(b"PROXY ") {
        return line(bytes);
    }
    Err(HeaderFault::NoHeader)
}

fn line(bytes: &[u8]) -> Result<Option<(usize, Told)>, HeaderFault> {
    let reach = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = memchr::memmem::find(reach, b"\r\n") else {
        return if bytes.len() < LINE_BYTES_MAX { Ok(None) } else { Err(HeaderFault::Line) };
    };
    let text = bytes.get(..end).and_then(|line| std::str::from_utf8(line).ok());
    let told = text.and_then(words).ok_or(HeaderFault::Line)?;
    Ok(Some((end + 2, told)))
}

fn words(line: &str) -> Option<Told> {
    let mut words = line.strip_prefix("PROXY ")?.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(Told::Nobody);
    }
    let (client, asked): (IpAddr, IpAddr) =
        (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let fits = match family {
        "TCP4" => client.is_ipv4() && asked.is_ipv4(),
        "TCP6" => client.is_ipv6() && asked.is_ipv6(),
        _ => false,
    };
    let (client_port, asked_port) = (port(words.next()?)?, port(words.next()?)?);
    (fits && words.next().is_none()).then_some(Told::Ends {
        client: SocketAddr::new(client, client_port),
        asked: SocketAddr::new(asked, asked_port),
    })
}

fn port(text: &str) -> Option<u16> {
    // `parse` alone would take a sign.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn binary(bytes: &[u8]) -> Result<Option<(usize, Told)>, HeaderFault> {
    let Some(fixed) = bytes.first_chunk::<FIXED_BYTES>() else { return Ok(None) };
    let [.., version_command, family, high, low] = *fixed;
    let end = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if end > HEADER_BYTES_MAX {
        return Err(HeaderFault::TooLong);
    }
    let Some(rest) = bytes.get(FIXED_BYTES..end) else { return Ok(None) };
    let told = match (version_command, family) {
        (0x20, _) => Some(Told::Nobody),
        // Only streams are forwarded to us: 1 is TCP over IPv4, 2 TCP over IPv6.
        (0x21, 0x11) => v4(rest),
        (0x21, 0x21) => v6(rest),
        (0x21, _) => Some(Told::Nobody),
        _ => None,
    };
    told.map(|told| Some((end, told))).ok_or(HeaderFault::Binary)
}

fn v4(rest: &[u8]) -> Option<Told> {
    let [a, b, c, d, e, f, g, h, ports @ ..] = rest.first_chunk::<12>()?;
    let ip = |octets: [u8; 4]| IpAddr::V4(Ipv4Addr::from(octets));
    Some(ends(ip([*a, *b, *c, *d]), ip([*e, *f, *g, *h]), *ports))
}

fn v6(rest: &[u8]) -> Option<Told> {
    let (client, rest) = rest.split_first_chunk::<16>()?;
    let (asked, rest) = rest.split_first_chunk::<16>()?;
    let ip = |octets: &[u8; 16]| IpAddr::V6(Ipv6Addr::from(*octets));
    Some(ends(ip(client), ip(asked), *rest.first_chunk()?))
}

fn ends(client: IpAddr, asked: IpAddr, [a, b, c, d]: [u8; 4]) -> Told {
    Told::Ends {
        client: SocketAddr::new(client, u16::from_be_bytes([a, b])),
        asked: SocketAddr::new(asked, u16::from_be_bytes([c, d])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks what is told, and that every beginning of the header is incomplete.
    #[track_caller]
    fn check(header: &[u8], expected: Result<Option<(&str, &str)>, HeaderFault>) {
        let mut bytes = header.to_vec();
        bytes.extend_from_slice(b"GET / HTTP/1.1");
        let expected = expected.map(|ends| {
            let told = ends.map_or(Told::Nobody, |(client, asked)| Told::Ends {
                client: client.parse().unwrap(),
                asked: asked.parse().unwrap(),
            });
            Some((header.len(), told))
        });
        assert_eq!(parse(&bytes), expected, "{:?}", String::from_utf8_lossy(header));
        if expected.is_ok() {
            for end in 0..header.len() {
                assert_eq!(parse(&header[..end]), Ok(None), "{end} bytes of it");
            }
        }
    }

    #[test]
    fn the_first_version_is_a_line() {
        check(b"PROXY TCP4 1.2.3.4 5.6.7.8 9 80\r\n", Ok(Some(("1.2.3.4:9", "5.6.7.8:80"))));
        check(b"PROXY TCP6 ::1 fe80::2 9 80\r\n", Ok(Some(("[::1]:9", "[fe80::2]:80"))));
        check(b"PROXY UNKNOWN\r\n", Ok(None));
        check(b"PROXY UNKNOWN ffff::1 x y\r\n", Ok(None));
        for broken in [
            "PROXY TCP4 1.2.3.4 5.6.7.8 9\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 9 80 1\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 9 +80\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 9 65536\r\n",
            "PROXY TCP4 ::1 5.6.7.8 9 80\r\n",
            "PROXY TCP6 1.2.3.4 ::1 9 80\r\n",
            "PROXY UDP4 1.2.3.4 5.6.7.8 9 80\r\n",
            "PROXY TCP4  1.2.3.4 5.6.7.8 9 80\r\n",
            "PROXY \r\n",
        ] {
            check(broken.as_bytes(), Err(HeaderFault::Line));
        }
        check(&[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat(), Err(HeaderFault::Line));
    }

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = (rest.len() as u16).to_be_bytes();
        [SIGNATURE.as_slice(), &[command, family], &length, rest].concat()
    }

    #[test]
    fn the_second_version_is_binary() {
        let four = [1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 0, 80];
        check(&binary(0x21, 0x11, &four), Ok(Some(("1.2.3.4:9", "5.6.7.8:80"))));
        let with_more = [four.as_slice(), &[3, 0, 1, 7]].concat();
        check(&binary(0x21, 0x11, &with_more), Ok(Some(("1.2.3.4:9", "5.6.7.8:80"))));
        let mut six = [0; 36];
        (six[15], six[31], six[33], six[35]) = (1, 2, 9, 80);
        check(&binary(0x21, 0x21, &six), Ok(Some(("[::1]:9", "[::2]:80"))));
        check(&binary(0x20, 0x00, &[]), Ok(None));
        check(&binary(0x20, 0x11, &[1]), Ok(None));
        check(&binary(0x21, 0x31, &[0; 216]), Ok(None));
        check(&binary(0x21, 0x11, &four[..11]), Err(HeaderFault::Binary));
        check(&binary(0x21, 0x21, &six[..35]), Err(HeaderFault::Binary));
        check(&binary(0x11, 0x11, &four), Err(HeaderFault::Binary));
        check(&binary(0x22, 0x11, &four), Err(HeaderFault::Binary));
        check(&binary(0x21, 0x11, &[0; 4_081]), Err(HeaderFault::TooLong));
    }

    #[test]
    fn anything_else_is_no_header() {
        check(b"GET / HTTP/1.1\r\n", Err(HeaderFault::NoHeader));
        check(b"PROXYTCP4", Err(HeaderFault::NoHeader));
        check(b"\r\n\r\n\r\n", Err(HeaderFault::NoHeader));
        assert_eq!(parse(b""), Ok(None));
    }

    /// Random bytes behind each beginning: never a panic, never more used than is there.
    #[test]
    fn nothing_makes_it_stumble() {
        let mut state = 0x5eed_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..100_000 {
            let mut bytes = match next() % 3 {
                0 => SIGNATURE.to_vec(),
                1 => b"PROXY TCP4 1.2.3.4 ".to_vec(),
                _ => b"PROXY ".to_vec(),
            };
            let length = next() % 64;
            bytes.extend((0..length).map(|_| next() as u8));
            if let Ok(Some((used, _))) = parse(&bytes) {
                assert!(used <= bytes.len() && used <= HEADER_BYTES_MAX);
            }
        }
    }
}

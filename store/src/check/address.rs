//! Host names and addresses with ports, as Kong takes them apart.
//!
//! Source: Kong `kong/tools/ip.lua` (`normalize_ip`).

use std::fmt::Write;

/// A host, and perhaps a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The name as given; IPv4 without leading zeros; IPv6 expanded, without brackets.
    pub host: String,
    /// The port.
    pub port: Option<u16>,
    /// It is a name, not an address.
    pub is_name: bool,
    /// It is an IPv6 address.
    pub is_v6: bool,
}

/// Why it is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostFault {
    /// The port is above 65535.
    Port,
    /// Not a host name.
    Name,
    /// Not an IPv4 address.
    V4,
    /// Not an IPv6 address.
    V6,
    /// Something other than a port behind the brackets.
    Brackets,
}

impl HostFault {
    /// Kong's words.
    pub fn words(self, address: &str) -> String {
        match self {
            Self::Port => "invalid port number".to_owned(),
            Self::Name => format!("invalid hostname: {address}"),
            Self::V4 => format!("invalid ipv4 address: {address}"),
            Self::V6 => format!("invalid ipv6 address: {address}"),
            Self::Brackets => "invalid ipv6 address".to_owned(),
        }
    }
}

impl Address {
    /// With brackets round IPv6, and the port, or `port_default` where there is none.
    pub fn with_port(&self, port_default: u16) -> String {
        let port = self.port.unwrap_or(port_default);
        if self.is_v6 { format!("[{}]:{port}", self.host) } else { format!("{}:{port}", self.host) }
    }
}

/// Takes a host apart.
///
/// # Errors
/// What kind of thing it looked like, and was not.
pub fn parse(address: &str) -> Result<Address, HostFault> {
    if address.bytes().filter(|byte| *byte == b':').count() > 1 {
        return v6(address);
    }
    let without_colons = address.replace(':', "");
    let digits = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    if !without_colons.is_empty() && without_colons.bytes().all(digits) {
        return v4(address);
    }
    name(address)
}

fn port(digits: &str) -> Result<u16, HostFault> {
    digits.parse::<u32>().ok().and_then(|port| u16::try_from(port).ok()).ok_or(HostFault::Port)
}

fn v4(address: &str) -> Result<Address, HostFault> {
    let (host, digits) = match address.split_once(':') {
        Some((_, "")) => return Err(HostFault::V4),
        Some((host, digits)) => (host, Some(digits)),
        None => (address, None),
    };
    let mut numbers = Vec::with_capacity(4);
    for part in host.split('.') {
        let number = part.parse::<u16>().ok().filter(|number| *number < 256 && part.len() <= 3);
        numbers.push(number.ok_or(HostFault::V4)?);
    }
    let [a, b, c, d] = numbers[..] else { return Err(HostFault::V4) };
    if digits.is_some_and(|digits| !digits.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(HostFault::V4);
    }
    let port = digits.map(port).transpose()?;
    Ok(Address { host: format!("{a}.{b}.{c}.{d}"), port, is_name: false, is_v6: false })
}

fn v6(address: &str) -> Result<Address, HostFault> {
    let (inside, digits) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inside, "")) => (inside, None),
        Some((inside, behind)) => {
            let digits = behind.strip_prefix(':').ok_or(HostFault::Brackets)?;
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(HostFault::Brackets);
            }
            (inside, Some(digits))
        }
        None => (address, None),
    };
    // Kong knows no IPv6 that ends in the dotted form.
    let hex = Some(inside).filter(|inside| !inside.contains('.')).ok_or(HostFault::V6)?;
    let ip: std::net::Ipv6Addr = hex.parse().map_err(|_| HostFault::V6)?;
    let port = digits.map(port).transpose()?;
    let mut host = String::with_capacity(39);
    for (place, segment) in ip.segments().iter().enumerate() {
        let colon = if place == 0 { "" } else { ":" };
        // Writing to a string cannot fail.
        let _ = write!(host, "{colon}{segment:04x}");
    }
    Ok(Address { host, port, is_name: false, is_v6: true })
}

fn name(address: &str) -> Result<Address, HostFault> {
    let (host, port) = match address.rsplit_once(':') {
        Some((host, digits))
            if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            (host, Some(port(digits)?))
        }
        _ => (address, None),
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if host.is_empty() || !host.bytes().all(allowed) {
        return Err(HostFault::Name);
    }
    let labels: Vec<&str> = host.split('.').collect();
    let last = labels.len() - 1;
    for (place, label) in labels.iter().enumerate() {
        if label.ends_with('-') || (label.is_empty() && place != last) {
            return Err(HostFault::Name);
        }
    }
    Ok(Address { host: host.to_owned(), port, is_name: true, is_v6: false })
}

#[cfg(test)]
mod tests {
    use super::{HostFault, parse};

    #[test]
    fn addresses_are_taken_apart_as_in_kong() {
        #[track_caller]
        fn check(address: &str, expected: Result<&str, HostFault>) {
            let found = parse(address).map(|address| address.with_port(8000));
            assert_eq!(found, expected.map(str::to_owned), "{address}");
        }
        check("example.com", Ok("example.com:8000"));
        check("example.com:80", Ok("example.com:80"));
        check("example.com.", Ok("example.com.:8000"));
        check("a..b", Err(HostFault::Name));
        check("a-.b", Err(HostFault::Name));
        check("-a.b", Ok("-a.b:8000"));
        check("a b", Err(HostFault::Name));
        check("", Err(HostFault::Name));
        check("a:99999", Err(HostFault::Port));
        check("010.001.0.1:80", Ok("10.1.0.1:80"));
        check("1.2.3", Err(HostFault::V4));
        check("1.2.3.400", Err(HostFault::V4));
        check("1.2.3.4:99999", Err(HostFault::Port));
        check("::1", Ok("[0000:0000:0000:0000:0000:0000:0000:0001]:8000"));
        check("[::1]:81", Ok("[0000:0000:0000:0000:0000:0000:0000:0001]:81"));
        check("[::1]x", Err(HostFault::Brackets));
        check("a:b:c", Err(HostFault::V6));
        check("::ffff:1.2.3.4", Err(HostFault::V6));
        check("[::ffff:1.2.3.4]:8", Err(HostFault::V6));
        check("::ffff:102:304", Ok("[0000:0000:0000:0000:0000:ffff:0102:0304]:8000"));
    }
}

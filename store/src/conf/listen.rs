//! The syntax of `proxy_listen` and its kin: `off`, or addresses with flags between commas.
//!
//! Source: Kong `kong/conf_loader/listeners.lua`.

use std::net::{IpAddr, Ipv6Addr};

use serde_json::{Map, Value};

/// One address to listen on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    /// An address or a host name; an IPv6 address without its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether connections begin with a TLS handshake (`ssl`).
    pub tls: bool,
    /// Whether HTTP/2 is spoken as well.
    pub http2: bool,
    /// Whether a PROXY protocol header comes first.
    pub proxy_protocol: bool,
    /// Whether it is a UDP socket (streams only).
    pub udp: bool,
    /// Connections that may wait to be accepted; `None` is the program's default.
    pub backlog: Option<u32>,
    /// Whether an IPv6 address leaves IPv4 alone; `None` is the system's default.
    pub ipv6only: Option<bool>,
    /// The flags as written, each once, in the order of Kong's own list.
    pub flags: Vec<String>,
}

/// Which flags an address may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subsystem {
    /// HTTP listeners.
    Http,
    /// L4 listeners.
    Stream,
}

const HTTP_FLAGS: &[&str] = &[
    "ssl",
    "http2",
    "proxy_protocol",
    "deferred",
    "bind",
    "reuseport",
    "backlog=%d+",
    "ipv6only=on",
    "ipv6only=off",
    "so_keepalive=on",
    "so_keepalive=off",
    "so_keepalive=%w*:%w*:%d*",
];
const STREAM_FLAGS: &[&str] = &[
    "udp",
    "ssl",
    "proxy_protocol",
    "bind",
    "reuseport",
    "backlog=%d+",
    "ipv6only=on",
    "ipv6only=off",
    "so_keepalive=on",
    "so_keepalive=off",
    "so_keepalive=%w*:%w*:%d*",
];

impl Subsystem {
    /// The flags, as the patterns that Kong's messages show.
    #[must_use]
    pub const fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Http => HTTP_FLAGS,
            Self::Stream => STREAM_FLAGS,
        }
    }
}

/// Reads the items of one `*_listen` setting; `off` gives none.
///
/// # Errors
/// Kong's sentence when an item is not an address with known flags, or when there is none.
pub fn parse(name: &str, items: &[String], subsystem: Subsystem) -> Result<Vec<Listen>, String> {
    let usage = || {
        let flags = subsystem.flags().join("] [");
        format!("{name} must be of form: [off] | <ip>:<port> [{flags}], [... next entry ...]")
    };
    match items.first() {
        None => Err(usage()),
        Some(first) if first == "off" => Ok(Vec::new()),
        Some(_) => {
            items.iter().map(|item| entry(item, subsystem)).collect::<Option<_>>().ok_or_else(usage)
        }
    }
}

fn entry(item: &str, subsystem: Subsystem) -> Option<Listen> {
    let mut listen = Listen::default();
    let mut address = None;
    let mut found: Vec<(usize, &str)> = Vec::new();
    for word in item.split_whitespace() {
        if let Some(place) = subsystem.flags().iter().position(|flag| matches(flag, word)) {
            if found.iter().all(|(other, _)| *other != place) {
                found.push((place, word));
                listen.set(word)?;
            }
        } else if address.replace(word).is_some() {
            return None;
        }
    }
    found.sort_unstable();
    listen.flags = found.iter().map(|(_, word)| (*word).to_owned()).collect();
    (listen.host, listen.port) = split(address?)?;
    Some(listen)
}

/// Whether a word is the flag; the three Lua patterns in the lists are spelled out here.
fn matches(flag: &str, word: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let letters = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric());
    match flag.split_once('=') {
        Some(("backlog", _)) => {
            word.strip_prefix("backlog=").is_some_and(|n| !n.is_empty() && digits(n))
        }
        Some(("so_keepalive", times)) if times.contains(':') => {
            let parts = word.strip_prefix("so_keepalive=").map(|rest| rest.split(':'));
            let parts: Vec<&str> = parts.into_iter().flatten().collect();
            matches!(parts[..], [idle, every, count]
                if letters(idle) && letters(every) && digits(count))
        }
        _ => word == flag,
    }
}

/// Splits `host:port`, with brackets round an IPv6 address.
fn split(address: &str) -> Option<(String, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let port = port.parse().ok()?;
    if let Some(inner) = host.strip_prefix('[') {
        let inner: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
        return Some((inner.to_string(), port));
    }
    if host.is_empty() || host.contains([':', '/', '[', ']']) {
        return None;
    }
    let numeric = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    (!numeric || host.parse::<IpAddr>().is_ok()).then(|| (host.to_owned(), port))
}

impl Listen {
    /// Host and port as they are written: brackets round an IPv6 address.
    #[must_use]
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Whether the flag was written.
    #[must_use]
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|other| other == flag)
    }

    fn set(&mut self, flag: &str) -> Option<()> {
        match flag {
            "ssl" => self.tls = true,
            "http2" => self.http2 = true,
            "proxy_protocol" => self.proxy_protocol = true,
            "udp" => self.udp = true,
            "ipv6only=on" => self.ipv6only = Some(true),
            "ipv6only=off" => self.ipv6only = Some(false),
            other => {
                if let Some(number) = other.strip_prefix("backlog=") {
                    self.backlog = Some(number.parse().ok()?);
                }
            }
        }
        Some(())
    }

    /// The listener as `GET /` shows it: one boolean for every known flag.
    ///
    /// `http2` is a flag of its own but no part of `listener`, as recorded from Kong 3.9.1.
    #[must_use]
    pub fn json(&self, subsystem: Subsystem) -> Value {
        let mut shown = Map::new();
        let mut words = vec![self.address()];
        words.extend(self.flags.iter().filter(|flag| *flag != "http2").cloned());
        shown.insert("listener".to_owned(), Value::from(words.join(" ")));
        let host = self.address();
        let host = host.rsplit_once(':').map_or("", |(host, _)| host);
        shown.insert("ip".to_owned(), Value::from(host));
        shown.insert("port".to_owned(), Value::from(self.port));
        for flag in subsystem.flags() {
            match self.flags.iter().find(|word| matches(flag, word)) {
                Some(word) => shown.insert(word.clone(), Value::from(true)),
                None => shown.insert((*flag).to_owned(), Value::from(false)),
            };
        }
        Value::Object(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USAGE: &str = "admin_listen must be of form: [off] | <ip>:<port> [ssl] [http2] \
        [proxy_protocol] [deferred] [bind] [reuseport] [backlog=%d+] [ipv6only=on] [ipv6only=off] \
        [so_keepalive=on] [so_keepalive=off] [so_keepalive=%w*:%w*:%d*], [... next entry ...]";

    /// Reads one setting and compares addresses with their flags, or the message.
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let items: Vec<String> =
            text.split(',').map(str::trim).filter(|i| !i.is_empty()).map(str::to_owned).collect();
        let found = match parse("admin_listen", &items, Subsystem::Http) {
            Ok(all) => {
                let all: Vec<String> = all
                    .iter()
                    .map(|one| format!("{} {}", one.address(), one.flags.join(" ")))
                    .collect();
                all.join("|")
            }
            Err(message) => message,
        };
        assert_eq!(found.trim(), expected, "{text}");
    }

    #[test]
    fn addresses_and_flags() {
        check("off", "");
        check("127.0.0.1:8001", "127.0.0.1:8001");
        check("0.0.0.0:80 reuseport ssl backlog=5", "0.0.0.0:80 ssl reuseport backlog=5");
        check("[::1]:80, localhost:81 http2", "[::1]:80 |localhost:81 http2");
        check("ssl 1.2.3.4:5", "1.2.3.4:5 ssl");
        check("1.2.3.4:5 so_keepalive=30m::10", "1.2.3.4:5 so_keepalive=30m::10");
    }

    #[test]
    fn everything_else_is_kongs_sentence() {
        for text in [
            "",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:x",
            "127.0.0.1:70000",
            "1.2.3:80",
            "::1:80",
            "127.0.0.1:80 nonsense",
            "127.0.0.1:80 127.0.0.1:81",
            "127.0.0.1:80 backlog=",
            "127.0.0.1:80 backlog=99999999999",
            "ssl",
        ] {
            check(text, USAGE);
        }
    }

    #[test]
    fn it_is_shown_as_recorded() {
        let items = ["127.0.0.1:8443 http2 ssl backlog=16384".to_owned()];
        let all = parse("proxy_listen", &items, Subsystem::Http).unwrap();
        let expected = serde_json::json!({
            "backlog=16384": true, "bind": false, "deferred": false, "http2": true,
            "ip": "127.0.0.1", "ipv6only=off": false, "ipv6only=on": false,
            "listener": "127.0.0.1:8443 ssl backlog=16384", "port": 8443,
            "proxy_protocol": false, "reuseport": false, "so_keepalive=%w*:%w*:%d*": false,
            "so_keepalive=off": false, "so_keepalive=on": false, "ssl": true
        });
        assert_eq!(all[0].json(Subsystem::Http), expected);
    }
}

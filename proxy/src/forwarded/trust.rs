//! Who the client is, where a trusted proxy stands between.
//!
//! Source: nginx `ngx_http_realip_module` (`real_ip_header`, `real_ip_recursive`), which Kong
//! configures from `trusted_ips`.

use ipnet::IpNet;
use runtime::http::head::Fields;
use std::net::{IpAddr, SocketAddr};

/// Addresses of a forwarding list that are looked at.
const HOPS_MAX: usize = 64;

/// Which peers may speak for others, and in which header.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// `trusted_ips`.
    pub nets: Vec<IpNet>,
    /// `real_ip_header`; `proxy_protocol` means the header before the connection's first byte.
    pub header: String,
    /// `real_ip_recursive`: whether trusted addresses in the list are skipped too.
    pub recursive: bool,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// The other end of the connection.
    pub peer: IpAddr,
    /// The client, behind trusted proxies too: `X-Real-IP`, and what rate limits count.
    pub ip: IpAddr,
    /// Its port; that of the peer where no other is known.
    pub port: u16,
    /// Whether the peer may speak for others.
    pub trusted: bool,
}

impl Trust {
    /// Whether this address may speak for others.
    #[must_use]
    pub fn has(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.nets.iter().any(|net| net.contains(&ip))
    }

    /// Whether the client is who the PROXY header says.
    #[must_use]
    pub fn by_proxy_protocol(&self) -> bool {
        self.header == "proxy_protocol"
    }

    /// Whether each request may name another client than its connection.
    #[must_use]
    pub fn by_header(&self) -> bool {
        !self.nets.is_empty() && !self.header.is_empty() && !self.by_proxy_protocol()
    }

    /// Who the client is.
    #[must_use]
    pub fn client(&self, peer: SocketAddr, fields: &Fields) -> Client {
        let trusted = self.has(peer.ip());
        let mut client = Client { peer: peer.ip(), ip: peer.ip(), port: peer.port(), trusted };
        if trusted && !self.header.is_empty() {
            self.follow(&mut client, fields);
        }
        client
    }

    /// Walks the list from its end, as far as it is trusted.
    fn follow(&self, client: &mut Client, fields: &Fields) {
        let mut lists: [&[u8]; HOPS_MAX] = [b""; HOPS_MAX];
        let values = fields.all(&self.header);
        let hops = values.flat_map(|value| value.split(|&byte| byte == b','));
        let mut count = 0;
        for (slot, hop) in lists.iter_mut().zip(hops) {
            *slot = hop;
            count += 1;
        }
        for hop in lists.iter().take(count).rev() {
            let Some((ip, port)) = address(hop.trim_ascii()) else { return };
            client.ip = ip;
            client.port = port.unwrap_or(0);
            if !(self.recursive && self.has(ip)) {
                return;
            }
        }
    }
}

/// An address with or without a port, an IPv6 one with or without brackets.
fn address(text: &[u8]) -> Option<(IpAddr, Option<u16>)> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(ip) = text.parse() {
        return Some((ip, None));
    }
    if let Ok(both) = text.parse::<SocketAddr>() {
        return Some((both.ip(), Some(both.port())));
    }
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    Some((inner.parse().ok()?, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(peer: &str, recursive: bool, lines: &[&str], expected: &str, trusted: bool) {
        let trust = Trust {
            nets: ["10.0.0.0/8", "::1/128"].iter().map(|net| net.parse().unwrap()).collect(),
            header: "X-Forwarded-For".into(),
            recursive,
        };
        let mut fields = Fields::new();
        for line in lines {
            assert!(fields.add("x-forwarded-for", line));
        }
        let client = trust.client(peer.parse().unwrap(), &fields);
        let found = SocketAddr::new(client.ip, client.port);
        assert_eq!((found, client.trusted), (expected.parse().unwrap(), trusted), "{lines:?}");
    }

    #[test]
    fn nobody_else_may_speak_for_others() {
        check("9.9.9.9:1", true, &["1.2.3.4"], "9.9.9.9:1", false);
        check("10.0.0.1:1", true, &["1.2.3.4"], "1.2.3.4:0", true);
        check("[::1]:1", true, &["1.2.3.4:5"], "1.2.3.4:5", true);
        check("[::ffff:10.0.0.1]:1", true, &["[2001:db8::1]"], "[2001:db8::1]:0", true);
        check("10.0.0.1:1", true, &[], "10.0.0.1:1", true);
    }

    #[test]
    fn the_list_is_walked_from_its_end() {
        let list = &["6.6.6.6, 1.2.3.4", "10.0.0.2,10.0.0.3"];
        check("10.0.0.1:1", true, list, "1.2.3.4:0", true);
        check("10.0.0.1:1", false, list, "10.0.0.3:0", true);
        check("10.0.0.1:1", true, &["10.0.0.9, 10.0.0.8"], "10.0.0.9:0", true);
        check("10.0.0.1:1", true, &["1.2.3.4, nonsense"], "10.0.0.1:1", true);
        check("10.0.0.1:1", true, &["nonsense, 10.0.0.2"], "10.0.0.2:0", true);
    }
}

//! What a person reads when the gateway is up: where everything listens, what to type next.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::cli::VERSION;
use crate::ports::{Audience, Port};

/// An address as a URL that works on this machine: a wildcard becomes the loopback.
fn url(address: SocketAddr, tls: bool) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let scheme = if tls { "https" } else { "http" };
    format!("{scheme}://{}", SocketAddr::new(ip, address.port()))
}

/// The words. `proxy` are the proxy's addresses and whether they speak TLS; `engine` tells how
/// many cores run on what; `notices` are what the settings gave rise to say.
#[must_use]
pub fn words(
    proxy: &[(SocketAddr, bool)],
    ports: &[(Audience, SocketAddr, bool)],
    prefix: &Path,
    engine: &str,
    notices: &[String],
) -> String {
    let of = |audience: Audience| -> Vec<String> {
        let own = ports.iter().filter(|(other, ..)| *other == audience);
        own.map(|(_, address, tls)| url(*address, *tls)).collect()
    };
    let proxy: Vec<String> = proxy.iter().map(|(address, tls)| url(*address, *tls)).collect();
    let admin = of(Audience::Admin);
    let mut out = format!("tollgate {VERSION} is ready: {engine}\n");
    for (name, urls) in [("proxy", &proxy), ("admin", &admin), ("status", &of(Audience::Status))] {
        let urls = if urls.is_empty() { "off".to_owned() } else { urls.join("  ") };
        let _written = writeln!(out, "  {name:<7} {urls}");
    }
    let _written = writeln!(out, "  {:<7} {}", "prefix", prefix.display());
    for notice in notices {
        let _written = writeln!(out, "Note: {notice}");
    }
    if let Some(admin) = admin.first() {
        let _written = writeln!(
            out,
            "Add a first service:\n  curl -i -X POST {admin}/services \
             --data name=example_service --data url=http://httpbin.konghq.com"
        );
    }
    out
}

/// Where ports stand, for [`words`], before they are given away.
#[must_use]
pub fn places(ports: &[Port]) -> Vec<(Audience, SocketAddr, bool)> {
    ports.iter().map(|port| (port.audience, port.address, port.tls)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_what_can_be_typed_here() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let proxy = [(at("0.0.0.0:8000"), false), (at("[::]:8443"), true)];
        let ports = [(Audience::Admin, at("127.0.0.1:8001"), false)];
        let words = words(&proxy, &ports, Path::new("/p"), "2 cores on epoll", &["x".to_owned()]);
        let expected = format!(
            "tollgate {VERSION} is ready: 2 cores on epoll\n  \
             proxy   http://127.0.0.1:8000  https://[::1]:8443\n  \
             admin   http://127.0.0.1:8001\n  \
             status  off\n  \
             prefix  /p\n\
             Note: x\n\
             Add a first service:\n  curl -i -X POST http://127.0.0.1:8001/services \
             --data name=example_service --data url=http://httpbin.konghq.com\n"
        );
        assert_eq!(words, expected);
    }
}

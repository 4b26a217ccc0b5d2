//! The hosts file: names that no name server is asked for.

use std::net::IpAddr;

use hashbrown::HashMap;

use crate::names::{Answer, Found, Kind};

/// A hosts file is read up to this many bytes.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a line of the file holds for, in seconds.
const TTL_S: u32 = 300;

/// Names and addresses.
#[derive(Debug, Default)]
pub(super) struct Hosts(HashMap<Box<str>, Vec<IpAddr>>);

impl Hosts {
    /// Reads a file; one that cannot be read is empty, as in Kong.
    pub(super) fn load(path: &str) -> Self {
        match std::fs::read(path) {
            Ok(bytes) => Self::parse(&String::from_utf8_lossy(
                bytes.get(..bytes.len().min(BYTES_MAX)).unwrap_or_default(),
            )),
            Err(error) => {
                log::debug!("the hosts file {path} cannot be read: {error}");
                Self::default()
            }
        }
    }

    fn parse(text: &str) -> Self {
        let mut names: HashMap<Box<str>, Vec<IpAddr>> = HashMap::new();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let Some(ip) = words.next().and_then(|word| word.parse().ok()) else { continue };
            for name in words {
                let all = names.entry(name.to_ascii_lowercase().into()).or_default();
                if !all.contains(&ip) {
                    all.push(ip);
                }
            }
        }
        Self(names)
    }

    /// The addresses of a name, of one kind.
    pub(super) fn get(&self, name: &str, kind: Kind) -> Option<Answer> {
        let all = self.0.get(&*name.to_ascii_lowercase())?;
        // The first line of a kind counts, as in Kong.
        let first = all.iter().find(|ip| match kind {
            Kind::A => ip.is_ipv4(),
            Kind::Aaaa => ip.is_ipv6(),
            Kind::Srv => false,
        })?;
        let found = Found { ip: *first, port: None, weight: None, name: None };
        Some(Answer { addresses: [found].into(), kind, ttl_s: TTL_S })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_give_names_addresses() {
        let hosts = Hosts::parse(
            "127.0.0.1 localhost Local # here\n::1 localhost\n\n# 10.0.0.1 no\n10.0.0.2\tdb\n\
             10.0.0.3 db\nnonsense db\n",
        );
        for (name, kind, expected) in [
            ("localhost", Kind::A, Some("127.0.0.1")),
            ("LOCAL", Kind::A, Some("127.0.0.1")),
            ("localhost", Kind::Aaaa, Some("::1")),
            ("db", Kind::A, Some("10.0.0.2")),
            ("db", Kind::Aaaa, None),
            ("here", Kind::A, None),
            ("no", Kind::A, None),
            ("localhost", Kind::Srv, None),
        ] {
            let found = hosts.get(name, kind).map(|answer| answer.addresses[0].ip.to_string());
            assert_eq!(found.as_deref(), expected, "{name}");
        }
    }
}

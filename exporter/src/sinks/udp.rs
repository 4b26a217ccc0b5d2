//! Log entries as datagrams: udp-log, loggly, statsd, datadog.
//!
//! A datagram counts as delivered when the kernel has taken it: nobody ever answers.

use super::{all, none};
use crate::logs::UdpPlan;
use crate::logs::queue::Delivery;
use runtime::clock;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::{Mutex, PoisonError};

/// The longest datagram of IPv4.
const DATAGRAM_BYTES_MAX: usize = 65_507;
/// How long an address is believed, in microseconds.
const ADDRESS_US_MAX: u64 = 60_000_000;

/// One receiver.
pub(crate) struct Udp {
    plan: UdpPlan,
    open: Mutex<Option<Open>>,
}

struct Open {
    socket: UdpSocket,
    to: SocketAddr,
    since_us: u64,
}

impl Udp {
    pub(crate) fn new(plan: &UdpPlan) -> Self {
        Self { plan: plan.clone(), open: Mutex::default() }
    }

    pub(crate) fn deliver(&self, batch: &[Vec<u8>]) -> Delivery {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |open: &Open| clock::now_us().saturating_sub(open.since_us) < ADDRESS_US_MAX;
        let receiver = match open.take().filter(fresh) {
            Some(receiver) => receiver,
            None => match self.find() {
                Ok(receiver) => receiver,
                Err(fault) => return none(fault),
            },
        };
        let delivery = match self.plan.lines_bytes_max {
            Some(bytes_max) => {
                match packets(batch, bytes_max).try_for_each(|p| receiver.send(&p)) {
                    Ok(()) => all(batch),
                    Err(fault) => none(fault),
                }
            }
            None => entries(&receiver, batch),
        };
        if delivery.fault.is_none() {
            *open = Some(receiver);
        }
        delivery
    }

    fn find(&self) -> io::Result<Open> {
        let found = (self.plan.host.as_str(), self.plan.port).to_socket_addrs()?;
        let mut all: Vec<SocketAddr> = found.collect();
        // IPv4 first, as Kong's resolver does.
        all.sort_by_key(SocketAddr::is_ipv6);
        let to = *all.first().ok_or_else(|| io::Error::other("the name has no address"))?;
        let socket = match to {
            SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?,
            SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?,
        };
        Ok(Open { socket, to, since_us: clock::now_us() })
    }
}

impl Open {
    fn send(&self, packet: &[u8]) -> io::Result<()> {
        self.socket.send_to(packet, self.to).map(drop)
    }
}

/// Each entry as a datagram; stops where one cannot be sent.
fn entries(receiver: &Open, batch: &[Vec<u8>]) -> Delivery {
    let mut delivery = Delivery::default();
    for entry in batch {
        if entry.len() > DATAGRAM_BYTES_MAX {
            if delivery.refused == 0 && delivery.delivered > 0 {
                // What is settled goes back first: refused ones stand behind the delivered.
                delivery.refused = 1;
                delivery.fault = Some("an entry is too long for a datagram".to_owned());
                return delivery;
            }
            delivery.refused += 1;
            continue;
        }
        if delivery.refused > 0 {
            delivery.fault = Some("an entry is too long for a datagram".to_owned());
            return delivery;
        }
        match receiver.send(entry) {
            Ok(()) => delivery.delivered += 1,
            Err(fault) => {
                delivery.fault = Some(fault.to_string());
                return delivery;
            }
        }
    }
    delivery
}

/// The lines of all entries, joined up to so many bytes.
fn packets(batch: &[Vec<u8>], bytes_max: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut lines = batch.iter().flat_map(|entry| entry.split(|byte| *byte == b'\n')).peekable();
    std::iter::from_fn(move || {
        let mut packet = lines.next()?.to_vec();
        while let Some(line) = lines.peek()
            && packet.len() + 1 + line.len() <= bytes_max.min(DATAGRAM_BYTES_MAX)
        {
            packet.push(b'\n');
            packet.extend_from_slice(line);
            lines.next();
        }
        Some(packet)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn lines_are_joined_up_to_the_packet_size() {
        let batch = [b"aa\nbb\ncc".to_vec(), b"dd".to_vec()];
        let of = |bytes| packets(&batch, bytes).collect::<Vec<_>>();
        assert_eq!(of(0), [b"aa", b"bb", b"cc", b"dd"]);
        assert_eq!(of(5), [b"aa\nbb", b"cc\ndd"]);
        assert_eq!(of(500), [b"aa\nbb\ncc\ndd"]);
    }

    #[test]
    fn entries_are_datagrams_and_one_that_is_too_long_is_refused_alone() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let port = receiver.local_addr().unwrap().port();
        let sink = Udp::new(&UdpPlan { host: "127.0.0.1".into(), port, lines_bytes_max: None });
        let long = vec![b'x'; DATAGRAM_BYTES_MAX + 1];
        let mut batch = vec![b"1".to_vec(), long.clone(), b"2".to_vec(), long];
        let (mut delivered, mut refused) = (0, 0);
        while !batch.is_empty() {
            let delivery = sink.deliver(&batch);
            delivered += delivery.delivered;
            refused += delivery.refused;
            assert!(delivery.delivered + delivery.refused > 0);
            batch.drain(..delivery.delivered + delivery.refused);
        }
        assert_eq!((delivered, refused), (2, 2));
        let mut bytes = [0; 10];
        let got: Vec<_> = (0..2)
            .map(|_| receiver.recv(&mut bytes).map(|n| bytes[..n].to_vec()).unwrap())
            .collect();
        assert_eq!(got, [b"1", b"2"]);
    }
}

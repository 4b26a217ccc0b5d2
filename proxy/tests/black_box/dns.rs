//! A name server for tests: it answers from a table that a test changes, or not at all.

use std::collections::HashMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// One record.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    /// An address.
    A(Ipv4Addr),
    /// Priority, weight, port, name.
    Srv(u16, u16, u16, &'static str),
}

const TYPE_A: u16 = 1;
const TYPE_SRV: u16 = 33;

type Zone = HashMap<(String, u16), (u32, Vec<Record>)>;

/// A running name server.
pub(crate) struct NameServer {
    pub(crate) port: u16,
    zone: Arc<Mutex<Zone>>,
    gone: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl NameServer {
    pub(crate) fn start() -> Self {
        let socket = (0..100)
            .find_map(|_| UdpSocket::bind(("127.0.0.1", super::gateway::free_port())).ok())
            .unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let server = Self {
            port: socket.local_addr().unwrap().port(),
            zone: Arc::default(),
            gone: Arc::default(),
            asked: Arc::default(),
            over: Arc::default(),
        };
        let (zone, gone) = (Arc::clone(&server.zone), Arc::clone(&server.gone));
        let (asked, over) = (Arc::clone(&server.asked), Arc::clone(&server.over));
        thread::spawn(move || {
            let mut packet = [0; 1_500];
            while !over.load(Ordering::SeqCst) {
                let Ok((length, from)) = socket.recv_from(&mut packet) else { continue };
                asked.fetch_add(1, Ordering::SeqCst);
                if !gone.load(Ordering::SeqCst) {
                    let answer = answer(&packet[..length], &zone.lock().unwrap());
                    let _sent = socket.send_to(&answer, from);
                }
            }
        });
        server
    }

    /// What `name` is from now on; nothing at all is a name that does not exist.
    pub(crate) fn set(&self, name: &str, ttl_s: u32, records: &[Record]) {
        let kind = match records.first() {
            Some(Record::Srv(..)) => TYPE_SRV,
            _ => TYPE_A,
        };
        let mut zone = self.zone.lock().unwrap();
        zone.remove(&(name.to_owned(), kind));
        if !records.is_empty() {
            zone.insert((name.to_owned(), kind), (ttl_s, records.to_vec()));
        }
    }

    /// Whether it stops to answer.
    pub(crate) fn is_gone(&self, gone: bool) {
        self.gone.store(gone, Ordering::SeqCst);
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
    }
}

fn answer(query: &[u8], zone: &Zone) -> Vec<u8> {
    let (mut at, mut labels) = (12, Vec::new());
    while query[at] != 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..at + 1 + length]).to_ascii_lowercase());
        at += 1 + length;
    }
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let question = &query[12..at + 5];
    let name = labels.join(".");
    let known = zone.keys().any(|(own, _)| *own == name);
    let (ttl_s, records) = zone.get(&(name, kind)).cloned().unwrap_or_default();
    let code = if known { 0 } else { 3 };
    let mut out = query[..2].to_vec();
    out.extend([0x81, 0x80 | code, 0, 1]);
    out.extend((records.len() as u16).to_be_bytes());
    out.extend([0; 4]);
    out.extend(question);
    for record in records {
        let data = match record {
            Record::A(ip) => ip.octets().to_vec(),
            Record::Srv(priority, weight, port, name) => {
                let mut data: Vec<u8> =
                    [priority, weight, port].iter().flat_map(|part| part.to_be_bytes()).collect();
                for label in name.split('.') {
                    data.push(label.len() as u8);
                    data.extend(label.bytes());
                }
                data.push(0);
                data
            }
        };
        out.extend([0xc0, 12]);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1]);
        out.extend(ttl_s.to_be_bytes());
        out.extend((data.len() as u16).to_be_bytes());
        out.extend(data);
    }
    out
}

//! A name server that knows one answer: every name of type A is 127.0.0.1 for a second.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

const MESSAGE_BYTES_MAX: usize = 512;
const HEAD_BYTES: usize = 12;
/// QTYPE A.
const TYPE_A: [u8; 2] = [0, 1];
/// Pointer to the name of the question, A, IN, one second, four bytes: 127.0.0.1.
const RECORD: [u8; 16] = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1];

/// It runs until it is dropped.
pub(super) struct NameServer {
    addr: SocketAddr,
    asked: Arc<AtomicU64>,
    silent: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
}

impl NameServer {
    pub(super) fn start() -> io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let server = Self {
            addr: socket.local_addr()?,
            asked: Arc::default(),
            silent: Arc::default(),
            over: Arc::default(),
        };
        let own = (Arc::clone(&server.asked), Arc::clone(&server.silent), Arc::clone(&server.over));
        thread::spawn(move || {
            let (asked, silent, over) = own;
            let mut question = [0; MESSAGE_BYTES_MAX];
            while !over.load(Ordering::Relaxed) {
                let Ok((bytes, from)) = socket.recv_from(&mut question) else { continue };
                asked.fetch_add(1, Ordering::Relaxed);
                if !silent.load(Ordering::Relaxed)
                    && let Some(answer) = answer(&question[..bytes])
                {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Ok(server)
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Questions so far.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    pub(super) fn fall_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// The answer to a message with one question; no record for other types than A.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let id = question.get(..2)?;
    let name = question.get(HEAD_BYTES..)?;
    let end = HEAD_BYTES + name.iter().position(|byte| *byte == 0)? + 1;
    let asked = question.get(HEAD_BYTES..end + 4)?;
    let has = question.get(end..end + 2)? == TYPE_A;
    let mut answer = id.to_vec();
    // A response, recursion desired and available, no fault; one question, so many answers.
    answer.extend_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(has), 0, 0, 0, 0]);
    answer.extend_from_slice(asked);
    if has {
        answer.extend_from_slice(&RECORD);
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A question for `a` of this type.
    fn question(kind: u8) -> Vec<u8> {
        vec![7, 8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, kind, 0, 1]
    }

    #[test]
    fn only_addresses_of_version_four_are_known() {
        let a = answer(&question(1)).unwrap();
        assert_eq!((&a[..2], a[7], a.len()), (&[7, 8][..], 1, 19 + RECORD.len()));
        let srv = answer(&question(33)).unwrap();
        assert_eq!((srv[7], srv.len()), (0, 19));
        assert_eq!(answer(b"short"), None);
        assert_eq!(answer(&[0; 13]), None);
    }
}

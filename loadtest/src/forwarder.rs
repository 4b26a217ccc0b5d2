//! Passes TCP connections on, to where it was last told: a database that moves keeps its address.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{Fault, servers::free_addr};

/// Most connections at one time.
const CONNECTIONS_MAX: usize = 256;
const CONNECT_SECONDS_MAX: u64 = 1;
const PAGE_BYTES: usize = 16 * 1024;

/// The forwarder. Dropping it ends its connections.
#[derive(Debug)]
pub struct Forwarder {
    /// Where it listens.
    pub addr: SocketAddr,
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Inner {
    target: Mutex<SocketAddr>,
    open: Mutex<Vec<TcpStream>>,
    delay_ms: AtomicU64,
    ended: AtomicBool,
}

impl Forwarder {
    /// Listens on a free port and passes on to `target`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn start(target: SocketAddr) -> Result<Self, Fault> {
        let addr = free_addr()?;
        let listener = TcpListener::bind(addr)?;
        let inner = Arc::new(Inner {
            target: Mutex::new(target),
            open: Mutex::default(),
            delay_ms: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let own = Arc::clone(&inner);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if own.ended.load(Ordering::Relaxed) {
                    return;
                }
                let _refused = stream.map(|stream| own.pass(stream));
            }
        });
        Ok(Self { addr, inner, thread: Some(thread) })
    }

    /// Ends what is open, and passes new connections on to `target`.
    pub fn turn_to(&self, target: SocketAddr) {
        *self.inner.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
        self.inner.close();
    }

    /// Holds every piece back for so long, in either direction.
    pub fn delay(&self, ms: u64) {
        self.inner.delay_ms.store(ms, Ordering::Relaxed);
    }
}

impl Inner {
    fn pass(self: &Arc<Self>, near: TcpStream) -> Option<()> {
        let target = *self.target.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = Duration::from_secs(CONNECT_SECONDS_MAX);
        let far = TcpStream::connect_timeout(&target, wait).ok()?;
        near.set_nodelay(true).ok()?;
        far.set_nodelay(true).ok()?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|stream| stream.peer_addr().is_ok());
        if open.len() >= CONNECTIONS_MAX {
            return None;
        }
        for (from, to) in [(&near, &far), (&far, &near)] {
            let (mut from, mut to) = (from.try_clone().ok()?, to.try_clone().ok()?);
            let own = Arc::clone(self);
            thread::spawn(move || own.copy(&mut from, &mut to));
        }
        open.extend([near, far]);
        Some(())
    }

    fn copy(&self, from: &mut TcpStream, to: &mut TcpStream) {
        let mut page = vec![0; PAGE_BYTES];
        while let Ok(bytes @ 1..) = from.read(&mut page) {
            let delay_ms = self.delay_ms.load(Ordering::Relaxed);
            if delay_ms > 0 {
                thread::sleep(Duration::from_millis(delay_ms));
            }
            if to.write_all(&page[..bytes]).is_err() {
                break;
            }
        }
        let _gone = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }

    fn close(&self) {
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _gone = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.inner.ended.store(true, Ordering::Relaxed);
        self.inner.close();
        // The last connection wakes the listener.
        drop(TcpStream::connect(self.addr));
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every connection with one byte.
    fn answers(byte: u8) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _gone = (&stream).write_all(&[byte]);
            }
        });
        addr
    }

    #[test]
    fn connections_go_where_it_was_last_told() {
        let forwarder = Forwarder::start(answers(b'a')).unwrap();
        let heard = || {
            let mut text = String::new();
            let _cut = TcpStream::connect(forwarder.addr).unwrap().read_to_string(&mut text);
            text
        };
        assert_eq!(heard(), "a");
        forwarder.turn_to(answers(b'b'));
        forwarder.delay(5);
        assert_eq!(heard(), "b");
    }
}

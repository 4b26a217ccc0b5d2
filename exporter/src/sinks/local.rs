//! Log entries as messages to this machine's log: syslog.

use super::none;
use crate::logs::queue::Delivery;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long the log may keep a message waiting.
const SEND_WAIT: Duration = Duration::from_secs(10);

/// The socket of the machine's log.
pub(crate) struct Local {
    path: PathBuf,
    open: Mutex<Option<UnixDatagram>>,
}

impl Local {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), open: Mutex::default() }
    }

    pub(crate) fn deliver(&self, batch: &[Vec<u8>]) -> Delivery {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut delivery = Delivery::default();
        for entry in batch {
            match self.send(&mut open, entry) {
                Ok(()) => delivery.delivered += 1,
                Err(fault) if is_too_long(&fault) => {
                    delivery.refused = 1;
                    delivery.fault = Some(fault.to_string());
                    return delivery;
                }
                Err(fault) => {
                    delivery.fault = none(fault).fault;
                    return delivery;
                }
            }
        }
        delivery
    }

    /// A log that was restarted has a new socket under the same path: tried once more at once.
    fn send(&self, open: &mut Option<UnixDatagram>, entry: &[u8]) -> io::Result<()> {
        if let Some(socket) = open.take() {
            match socket.send(entry) {
                Ok(_) => {
                    *open = Some(socket);
                    return Ok(());
                }
                Err(fault) if is_too_long(&fault) => {
                    *open = Some(socket);
                    return Err(fault);
                }
                Err(_) => {}
            }
        }
        let socket = UnixDatagram::unbound()?;
        socket.connect(&self.path)?;
        socket.set_write_timeout(Some(SEND_WAIT))?;
        socket.send(entry)?;
        *open = Some(socket);
        Ok(())
    }
}

fn is_too_long(fault: &io::Error) -> bool {
    fault.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restarted_log_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let sink = Local::new(&path);
        assert!(sink.deliver(&[b"0".to_vec()]).fault.is_some());
        for message in [b"1", b"2"] {
            let log = UnixDatagram::bind(&path).unwrap();
            log.set_read_timeout(Some(SEND_WAIT)).unwrap();
            assert_eq!(sink.deliver(&[message.to_vec()]).delivered, 1);
            let mut bytes = [0; 10];
            let read = log.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..read], message);
            std::fs::remove_file(&path).unwrap();
        }
    }
}

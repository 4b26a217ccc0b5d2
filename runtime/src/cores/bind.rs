//! Binding the listeners of all cores, and saying why it cannot be done.

use super::Listen;
use crate::io::{Error, ErrorKind, Result};
use std::fmt;
use std::net::{SocketAddr, TcpListener};

/// Why the cores did not start.
#[derive(Debug)]
pub enum StartFault {
    /// A listener could not be bound.
    Listen(SocketAddr, Error),
    /// A thread or its driver could not be started.
    Core(usize, Error),
}

impl fmt::Display for StartFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(addr, error) => {
                write!(out, "cannot listen on {addr}: {}", listen_fault(error))
            }
            Self::Core(number, error) => write!(out, "cannot start core {number}: {error}"),
        }
    }
}

impl std::error::Error for StartFault {}

fn listen_fault(error: &Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => "address in use".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::AddrNotAvailable => "this machine does not have the address".to_owned(),
        _ => error.to_string(),
    }
}

/// The addresses with real ports, and the sockets of each core.
type Bound = (Vec<SocketAddr>, Vec<Vec<TcpListener>>);

/// One listening socket per address and core, all bound before a thread runs.
pub(super) fn bind_all(listen: &[Listen], count: usize) -> std::result::Result<Bound, StartFault> {
    let mut addrs = Vec::new();
    let mut sockets: Vec<Vec<TcpListener>> = (0..count).map(|_| Vec::new()).collect();
    for entry in listen {
        let fault = |error| StartFault::Listen(entry.addr, error);
        // With SO_REUSEPORT a second gateway would get half of the connections instead of an
        // error: somebody else on this address is found by binding it once without.
        drop(bind(entry.addr, entry.backlog, false).map_err(fault)?);
        let mut addr = entry.addr;
        for own in &mut sockets {
            let socket = bind(addr, entry.backlog, true).map_err(fault)?;
            addr = socket.local_addr().map_err(fault)?;
            own.push(socket);
        }
        addrs.push(addr);
    }
    Ok((addrs, sockets))
}

fn bind(addr: SocketAddr, backlog: u32, shared: bool) -> Result<TcpListener> {
    let kind = socket2::Type::STREAM.cloexec().nonblocking();
    let socket = socket2::Socket::new(socket2::Domain::for_address(addr), kind, None)?;
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        // Kong listens on [::] beside 0.0.0.0; without this the two would collide.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(shared)?;
    socket.bind(&addr.into())?;
    if shared {
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    }
    Ok(socket.into())
}

//! The calls on sockets that both drivers with a kernel share. None of them blocks.

use super::{ConnectOptions, Target};
use crate::buffers::Pages;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags};
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

/// Pieces that are handed to the kernel at once; IOV_MAX is 1,024.
pub(super) const SLICES_MAX: usize = 64;
/// Most writes have no more pieces than this, and a short list is made faster.
const SLICES_FEW: usize = 8;

/// Makes a non-blocking socket and begins to connect it. The flag tells whether it is done; else
/// it is when the socket becomes writable, and `finish_connect` says how.
pub(super) fn begin_connect(to: &Target<'_>, options: &ConnectOptions) -> Result<(OwnedFd, bool)> {
    let (addr, domain) = match to {
        Target::Tcp(addr) => (socket2::SockAddr::from(*addr), socket2::Domain::for_address(*addr)),
        Target::Unix(path) => (socket2::SockAddr::unix(path)?, socket2::Domain::UNIX),
    };
    let kind = socket2::Type::STREAM.nonblocking().cloexec();
    let socket = socket2::Socket::new(domain, kind, None)?;
    if matches!(to, Target::Tcp(_)) {
        socket.set_tcp_nodelay(true)?;
    }
    if let Some(bind) = options.bind {
        socket.bind(&bind.into())?;
    }
    match socket.connect(&addr) {
        Ok(()) => Ok((socket.into(), true)),
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {
            Ok((socket.into(), false))
        }
        Err(error) => Err(error),
    }
}

/// How a connect went whose socket has become writable.
pub(super) fn finish_connect(socket: impl AsFd) -> Result<()> {
    Ok(rustix::net::sockopt::socket_error(socket)??)
}

/// Accepts one waiting client, with `TCP_NODELAY`.
pub(super) fn accept_now(listener: &TcpListener, blocking: bool) -> Result<(OwnedFd, SocketAddr)> {
    let mut flags = SocketFlags::CLOEXEC;
    if !blocking {
        flags |= SocketFlags::NONBLOCK;
    }
    let (fd, addr) = rustix::net::acceptfrom_with(listener, flags)?;
    let addr = addr.and_then(|addr| SocketAddr::try_from(addr).ok());
    let addr = addr.ok_or_else(|| Error::from(ErrorKind::ConnectionAborted))?;
    // A client that is gone already is its reader's business.
    let _ = rustix::net::sockopt::set_tcp_nodelay(&fd, true);
    Ok((fd, addr))
}

/// Sends as much of `pages` as the kernel takes at once.
pub(super) fn send_now(socket: impl AsFd, pages: &Pages) -> rustix::io::Result<usize> {
    match pages.as_slice() {
        [piece] => rustix::net::send(socket, piece, FLAGS),
        few if few.len() <= SLICES_FEW => send_slices::<SLICES_FEW>(socket, pages),
        _ => send_slices::<SLICES_MAX>(socket, pages),
    }
}

const FLAGS: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

fn send_slices<const MAX: usize>(socket: impl AsFd, pages: &Pages) -> rustix::io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); MAX];
    for (slice, piece) in slices.iter_mut().zip(pages) {
        *slice = IoSlice::new(piece);
    }
    let slices = slices.get(..pages.len().min(MAX)).unwrap_or_default();
    rustix::net::sendmsg(socket, slices, &mut SendAncillaryBuffer::default(), FLAGS)
}

/// Whether nothing has come that was not read: no bytes, no end.
pub(super) fn is_quiet(socket: impl AsFd) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(rustix::net::recv(socket, &mut [0_u8; 1], flags), Err(Errno::AGAIN))
}

/// Whether the peer has ended its direction or the connection is broken, read or not.
pub(super) fn has_ended(socket: impl AsFd) -> bool {
    let over = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    let mut asked = [PollFd::new(&socket, over)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match rustix::event::poll(&mut asked, Some(&now)) {
        Ok(_) => asked.iter().any(|told| told.revents().intersects(over)),
        Err(_) => false,
    }
}

/// Our side's address of a connected socket.
pub(super) fn local_addr(socket: impl AsFd) -> Result<SocketAddr> {
    let addr = rustix::net::getsockname(socket)?;
    SocketAddr::try_from(addr).map_err(|_| ErrorKind::Unsupported.into())
}

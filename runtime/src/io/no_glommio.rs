//! Stands where the driver on glommio would, in builds without the feature `glommio`.
//!
//! Its connections cannot exist, so no code can reach the arms that name them.

use super::{ConnectOptions, Driver, Peer, Pipe, Target};
use crate::buffers::{Page, Pages};
use std::convert::Infallible;
use std::future::Future;
use std::io::{Error, ErrorKind, Result};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

/// Whether this build has the driver.
pub(super) const BUILT_IN: bool = false;
/// Why it has not.
pub(super) const ABSENT: &str =
    "this program was built without it; build it with `--features glommio`";

fn absent() -> Error {
    Error::new(ErrorKind::Unsupported, ABSENT)
}

/// No driver.
pub(super) struct Glommio;

pub(super) fn block_on<T>(_future: impl Future<Output = T>) -> Result<T> {
    Err(absent())
}

/// No receiving half.
pub(super) struct Reader(Infallible);
/// No sending half.
pub(super) struct Writer(Infallible);
/// No connection to end.
#[derive(Clone)]
pub(super) struct Closer(Infallible);

impl Reader {
    pub(super) fn release(self) -> Result<OwnedFd> {
        match self.0 {}
    }

    pub(super) async fn ended(&self) {
        match self.0 {}
    }

    pub(super) fn closer(&self) -> Closer {
        match self.0 {}
    }

    pub(super) fn has_ended(&self) -> bool {
        match self.0 {}
    }

    pub(super) fn is_quiet(&self) -> bool {
        match self.0 {}
    }

    pub(super) fn local_addr(&self) -> Result<SocketAddr> {
        match self.0 {}
    }

    pub(super) async fn fill(&mut self, _pipe: &mut Pipe, _bytes_max: u64) -> Result<usize> {
        match self.0 {}
    }
}

impl Writer {
    pub(super) fn closer(&self) -> Closer {
        match self.0 {}
    }

    pub(super) async fn drain(&mut self, _pipe: &mut Pipe) -> Result<()> {
        match self.0 {}
    }
}

impl Closer {
    pub(super) fn close(&self) {
        match self.0 {}
    }

    pub(super) fn is_quiet(&self) -> bool {
        match self.0 {}
    }
}

pub(super) fn adopt(_fd: OwnedFd) -> Result<(Reader, Writer)> {
    Err(absent())
}

/// Nothing to poll.
pub(super) struct Pollable(Infallible);

impl Pollable {
    pub(super) fn new(_fd: OwnedFd) -> Result<Self> {
        Err(absent())
    }

    pub(super) async fn readable(&mut self) {
        match self.0 {}
    }
}

/// No listening socket.
pub(super) struct Listener(Infallible);

impl Listener {
    pub(super) fn new(_listener: TcpListener) -> Result<Self> {
        Err(absent())
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        match self.0 {}
    }
}

impl Driver for Glommio {
    type Reader = Reader;
    type Writer = Writer;
    type Listener = Listener;

    async fn accept(listener: &mut Listener) -> Result<(Reader, Writer, Peer)> {
        match listener.0 {}
    }

    async fn connect(_to: &Target<'_>, _options: &ConnectOptions) -> Result<(Reader, Writer)> {
        Err(absent())
    }

    async fn readable(reader: &mut Reader) -> Result<()> {
        match reader.0 {}
    }

    async fn read(reader: &mut Reader, _page: Page) -> (Result<usize>, Page) {
        match reader.0 {}
    }

    async fn write(writer: &mut Writer, _pages: Pages) -> Result<()> {
        match writer.0 {}
    }

    fn shutdown(writer: &mut Writer) -> Result<()> {
        match writer.0 {}
    }

    fn spawn(_task: impl Future<Output = ()> + 'static) {}

    async fn pause(_ms: u64) {}
}

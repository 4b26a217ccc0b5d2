//! The driver without a kernel. Being written: nothing can be accepted or connected yet.

use super::{ConnectOptions, Driver, Peer, Target};
use crate::buffers::{Page, Pages};
use std::future::{Future, pending};
use std::io::{ErrorKind, Result};
use std::net::SocketAddr;

pub(super) struct Script;
pub(super) enum Reader {}
pub(super) enum Writer {}
pub(super) enum Listener {}
#[derive(Clone)]
pub(super) enum Closer {}

impl Reader {
    pub(super) fn closer(&self) -> Closer {
        match *self {}
    }
    pub(super) fn local_addr(&self) -> Result<SocketAddr> {
        match *self {}
    }
}
impl Writer {
    pub(super) fn closer(&self) -> Closer {
        match *self {}
    }
}
impl Listener {
    pub(super) fn local_addr(&self) -> SocketAddr {
        match *self {}
    }
}
impl Closer {
    pub(super) fn close(&self) {
        match *self {}
    }
}

impl Driver for Script {
    type Reader = Reader;
    type Writer = Writer;
    type Listener = Listener;

    async fn accept(listener: &mut Listener) -> Result<(Reader, Writer, Peer)> {
        match *listener {}
    }
    async fn connect(_: &Target<'_>, _: &ConnectOptions) -> Result<(Reader, Writer)> {
        Err(ErrorKind::Unsupported.into())
    }
    async fn readable(reader: &mut Reader) -> Result<()> {
        match *reader {}
    }
    async fn read(reader: &mut Reader, _: Page) -> (Result<usize>, Page) {
        match *reader {}
    }
    async fn write(writer: &mut Writer, _: Pages) -> Result<()> {
        match *writer {}
    }
    fn shutdown(writer: &mut Writer) -> Result<()> {
        match *writer {}
    }
    fn spawn(_: impl Future<Output = ()> + 'static) {}
    async fn pause(_: u64) {
        pending().await
    }
}

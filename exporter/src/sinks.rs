//! The destinations, one file each.

mod file;
mod http;
mod local;
pub mod moesif;
mod tcp;
mod udp;

use crate::logs::Way;
use crate::logs::queue::Delivery;

/// Where log entries go: a closed set, each way with its own idea of a batch. Called on a courier's
/// thread; may block, within its own time-outs.
pub(crate) enum LogSink {
    /// Requests.
    Http(Box<http::Http>),
    /// Lines of a file.
    File(file::FileLines),
    /// Lines over a connection.
    Tcp(tcp::Tcp),
    /// Datagrams.
    Udp(udp::Udp),
    /// Datagrams on this machine.
    Local(local::Local),
}

impl LogSink {
    /// The sink of one way; connects to nobody yet.
    pub(crate) fn new(way: &Way) -> Self {
        match way {
            Way::Http(plan) => Self::Http(Box::new(http::Http::new(plan))),
            Way::File(plan) => Self::File(file::FileLines::new(plan)),
            Way::Tcp(plan) => Self::Tcp(tcp::Tcp::new(plan)),
            Way::Udp(plan) => Self::Udp(udp::Udp::new(plan)),
            Way::Local(path) => Self::Local(local::Local::new(path)),
        }
    }

    /// Delivers a batch, or its beginning.
    pub(crate) fn deliver(&self, batch: &[Vec<u8>]) -> Delivery {
        match self {
            Self::Http(sink) => sink.deliver(batch),
            Self::File(sink) => sink.deliver(batch),
            Self::Tcp(sink) => sink.deliver(batch),
            Self::Udp(sink) => sink.deliver(batch),
            Self::Local(sink) => sink.deliver(batch),
        }
    }
}

/// All of it was taken.
fn all(batch: &[Vec<u8>]) -> Delivery {
    Delivery { delivered: batch.len(), ..Delivery::default() }
}

/// Nothing was taken.
fn none(fault: impl ToString) -> Delivery {
    Delivery { fault: Some(fault.to_string()), ..Delivery::default() }
}

/// The entries as lines.
fn lines(batch: &[Vec<u8>]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(batch.iter().map(|entry| entry.len() + 1).sum());
    for entry in batch {
        lines.extend_from_slice(entry);
        lines.push(b'\n');
    }
    lines
}

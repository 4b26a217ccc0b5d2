//! What any fast server needs: bytes, time, cores. It has never heard of Kong.
//!
//! Two sorts of things live here: cores without I/O (the HTTP codec, the event ring's protocol, the
//! tally), and the shell around them (drivers, listeners, TLS). This crate never knows what a
//! service, a route or a plugin is.

pub mod board;
pub mod buffers;
pub mod clock;
pub mod cores;
pub mod http;
pub mod io;
pub mod mailbox;
pub mod proxy_protocol;
pub mod ring;
pub mod tally;
pub mod tls;
pub mod wire;

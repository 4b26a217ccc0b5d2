//! The asking side: one connection to a server, many calls at once.

use super::stream::{Body, Chunk, Fault, Sender, push_fields};
use super::{Limits, pipe};
use crate::buffers::Piece;
use crate::clock::Deadline;
use crate::http::head::{Known, Request, Response, Version};
use crate::io;
use crate::wire::{WireReader, WireWriter};
use ::h2::client::{Builder, ResponseFuture, SendRequest};
use ::http::Uri;
use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// A connection to a server of HTTP/2. Cheap to clone; it closes when the last clone and the last
/// call are gone.
#[derive(Clone)]
pub struct Client {
    send: SendRequest<Chunk>,
    ended: Rc<Cell<bool>>,
}

/// One request on its way: send its body, ask for the response.
pub struct Call {
    /// The body of the request; nothing to send if the request was said to end.
    pub sender: Sender,
    /// What comes back.
    pub response: Awaited,
}

/// A response that has not begun.
pub struct Awaited(ResponseFuture);

impl Client {
    /// Makes a connection that is open already into one of HTTP/2. Uses `limits` as the server
    /// does, apart from those that count a client's streams.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn new(
        reader: WireReader,
        writer: WireWriter,
        limits: &Limits,
    ) -> Result<Self, Fault> {
        let deadline = Deadline::new(reader.closer());
        let linger_ms = limits.linger_ms;
        let (pipe, pumps) = pipe::start(reader, writer, Piece::empty(), None);
        let shaken = builder(limits).handshake(pipe).await;
        let ended = Rc::new(Cell::new(shaken.is_err()));
        let life = Rc::clone(&ended);
        let (send, connection) = match shaken {
            Ok((send, connection)) => (Ok(send), Some(connection)),
            Err(fault) => (Err(fault.into()), None),
        };
        io::spawn(async move {
            if let Some(connection) = connection {
                // Each call learns of the fault by itself.
                let _ = connection.await;
            }
            life.set(true);
            deadline.arm(linger_ms);
            pumps.ended().await;
        });
        send.map(|send| Self { send, ended })
    }

    /// Whether the connection is gone: make a new one.
    pub fn is_ended(&self) -> bool {
        self.ended.get()
    }

    /// Waits until the server allows one more call. May be dropped.
    ///
    /// # Errors
    /// The connection is gone or the server takes no more calls on it.
    pub async fn ready(&mut self) -> Result<(), Fault> {
        poll_fn(|cx| self.send.poll_ready(cx)).await.map_err(Fault::from)
    }

    /// Sends the head of a request; with `end` it has no body. Host becomes `:authority`,
    /// Connection and the like are left out. Call [`Client::ready`] first.
    ///
    /// # Errors
    /// `Misuse` for a target or Host that is no URI; otherwise the connection is gone.
    pub fn ask(&mut self, request: &Request, https: bool, end: bool) -> Result<Call, Fault> {
        let host = request.fields.get_known(Known::Host).ok_or(Fault::Misuse)?;
        let uri = Uri::builder()
            .scheme(if https { "https" } else { "http" })
            .authority(host)
            .path_and_query(request.target())
            .build()
            .map_err(|_| Fault::Misuse)?;
        let mut head = ::http::Request::builder()
            .version(::http::Version::HTTP_2)
            .method(request.method())
            .uri(uri)
            .body(())
            .map_err(|_| Fault::Misuse)?;
        push_fields(head.headers_mut(), &request.fields)?;
        let (response, sender) = self.send.send_request(head, end)?;
        Ok(Call { sender: Sender(sender), response: Awaited(response) })
    }
}

impl Awaited {
    /// Waits for the head of the response; gives its body. May be dropped. Interim heads are
    /// passed over. Once it has given a body, there is no other.
    ///
    /// # Errors
    /// The server gave the call up or the connection is gone.
    pub async fn head(&mut self, into: &mut Response) -> Result<Body, Fault> {
        let received = poll_fn(|cx| {
            while let Poll::Ready(Some(interim)) = self.0.poll_informational(cx) {
                drop(interim?);
            }
            std::pin::Pin::new(&mut self.0).poll(cx)
        });
        let (parts, body) = received.await.map_err(Fault::from)?.into_parts();
        into.clear();
        into.version = Version::H2;
        into.status = parts.status.as_u16();
        for (name, value) in &parts.headers {
            into.fields.add(name.as_str(), value.as_bytes());
        }
        Ok(Body::new(body))
    }
}

fn builder(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .max_header_list_size(u32::try_from(limits.head.head_bytes_max).unwrap_or(u32::MAX))
        .initial_window_size(limits.stream_window_bytes)
        .initial_connection_window_size(limits.connection_window_bytes)
        .max_send_buffer_size(limits.send_buffer_bytes_max)
        .max_concurrent_reset_streams(super::REMEMBERED_RESETS_MAX)
        .reset_stream_duration(Duration::from_millis(super::REMEMBERED_RESETS_MS))
        .max_local_error_reset_streams(Some(super::BROKEN_STREAMS_MAX))
        .data_frame_budget(super::DATA_FRAME_BUDGET);
    builder
}

//! The asking side: one connection to a server, many calls at once.

use super::flood::Watch;
use super::intake::Crowd;
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
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// A connection to a server of HTTP/2. Cheap to clone; it closes when the last clone and the last
/// call are gone.
#[derive(Clone)]
pub struct Client {
    send: SendRequest<Chunk>,
    ended: Rc<Cell<bool>>,
    crowd: Rc<Crowd>,
}

/// One request on its way: send its body, ask for the response.
pub struct Call {
    /// The body of the request; nothing to send if the request was said to end.
    pub sender: Sender,
    /// What comes back.
    pub response: Awaited,
}

/// A response that has not begun.
pub struct Awaited {
    response: ResponseFuture,
    crowd: Rc<Crowd>,
}

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
        let crowd = Rc::new(Crowd::default());
        let watch = Watch::of_server(Rc::clone(&crowd));
        let (pipe, pumps) = pipe::start(reader, writer, Piece::empty(), watch);
        let shaken = builder(limits).handshake(pipe).await;
        let ended = Rc::new(Cell::new(shaken.is_err()));
        let (life, bodies) = (Rc::clone(&ended), Rc::clone(&crowd));
        let (send, connection) = match shaken {
            Ok((send, connection)) => (Ok(send), Some(connection)),
            Err(fault) => (Err(fault.into()), None),
        };
        io::spawn(async move {
            if let Some(mut connection) = connection {
                // Each call learns of the fault by itself.
                let _ = poll_fn(|cx| {
                    let ended = Pin::new(&mut connection).poll(cx);
                    if ended.is_pending() && pumps.is_crowded() {
                        bodies.gather();
                        // Behind the tasks that were woken: one may take a body that was missed.
                        let again = cx.waker().clone();
                        io::spawn(async move { again.wake() });
                    }
                    ended
                })
                .await;
            }
            life.set(true);
            deadline.arm(linger_ms);
            pumps.ended().await;
        });
        send.map(|send| Self { send, ended, crowd })
    }

    /// Whether the connection is gone, or in doubt: make a new one.
    pub fn is_ended(&self) -> bool {
        self.ended.get()
    }

    /// Tells that a call was asked at this time and not answered. If nothing at all has come since,
    /// the server may have vanished without a word, and the connection counts as gone; its open
    /// calls go on.
    pub fn doubt(&self, asked_us: u64) {
        if self.crowd.heard_us() < asked_us {
            self.ended.set(true);
        }
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
        let response = Awaited { response, crowd: Rc::clone(&self.crowd) };
        Ok(Call { sender: Sender(sender), response })
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
            while let Poll::Ready(Some(interim)) = self.response.poll_informational(cx) {
                drop(interim?);
            }
            Pin::new(&mut self.response).poll(cx)
        });
        let (parts, body) = received.await.map_err(Fault::from)?.into_parts();
        into.clear();
        into.version = Version::H2;
        into.status = parts.status.as_u16();
        for (name, value) in &parts.headers {
            into.fields.add(name.as_str(), value.as_bytes());
        }
        Ok(Body::new(&self.crowd, body))
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

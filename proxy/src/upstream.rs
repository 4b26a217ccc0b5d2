//! The upstream's side of one exchange: connect, send the request, read the response.
//!
//! A request whose body the gateway holds whole can be tried again; one whose body streams cannot,
//! once a byte of it was sent. What may have been processed is never sent twice: after the first
//! byte was written, only methods that are idempotent are tried again, and only where nothing or
//! too little came back: an answer that cannot be understood is an answer.

mod aim;
mod connect;
mod exchange;
mod grpc;
mod patience;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use plugins::pdk::{BodyState, Exchange, gather};
use runtime::buffers::{Pages, Piece};
use runtime::clock;
use runtime::http::body::Framing;
use runtime::http::head::{Fields, Known, Seen};
use runtime::http::write;

use aim::{Aim, Aims};
use connect::response_head;
pub use connect::{Connection, dial};
pub use exchange::Answered;
use exchange::Http1;
pub use grpc::Connections;
use patience::Patience;

use crate::balance::directory::Directory;
use crate::balance::vital::Lease;
use crate::client::{Client, ClientFault};
use crate::core::Core;
use crate::fault::{Fault, What};
use crate::heads;
use crate::roadmap::{Planned, Service};

/// A held body up to this is sent in one go with its head, before anything is read: it fits the
/// buffers of every socket, so a service that answers without reading it cannot hold us up.
const SENT_AT_ONCE_BYTES_MAX: usize = 32 * 1024;

/// Asks the service of a plan; comes back when the head of the response is in
/// `exchange.response`. Puts into `held` what counts the request while it lasts.
///
/// # Errors
/// Every try failed, or one failed that must not be repeated; or the client's body broke off.
pub async fn ask(
    core: &Core,
    planned: &Planned,
    client: &mut Client,
    exchange: &mut Exchange,
    held: &mut Option<Lease>,
) -> Result<Answered, Fault> {
    let service = planned.service.as_deref().ok_or(What::NoService)?;
    if planned.request_buffering() && !service.grpc {
        hold_body(core, client, exchange).await?;
    } else if client.body_length() == Some(0) {
        exchange.request_body_state = BodyState::Whole;
    }
    exchange.times.upstream_started_us = clock::now_us();
    let directory = unless_gone(client, settled(core, service)).await?;
    let begun = Aims::begin(core, planned, service, exchange, &directory);
    let mut aims = unless_gone(client, begun).await?;
    let mut patience = Patience::new(core);
    let mut fault = None;
    loop {
        let aim = aims.next(exchange, fault.take())?;
        let lease = aims.lease(&aim);
        exchange.begin_try(aim.address, 0);
        let tried = one_try(core, planned, client, exchange, &aim).await;
        let status = tried.as_ref().err().map(|fault| fault.what.answer().0);
        exchange.end_try(status.unwrap_or(exchange.response.status), status.is_some());
        let failed = match tried {
            Ok(answered) => {
                aims.answered(&aim, exchange);
                *held = lease;
                return Ok(answered);
            }
            Err(failed) => failed,
        };
        aims.failed(&aim, &failed);
        if !failed.retry {
            return Err(failed);
        }
        let key = service.key(aim.address, aim.name);
        let refused = failed.unsent && failed.what == What::Unreachable && service.retries > 0;
        if refused && aims.all_failed() && patience.pause(key).await {
            aims.again();
        }
        fault = Some(failed);
    }
}

/// The balancers. Waits for the names of a new Upstream's targets, where nobody can be asked
/// before.
async fn settled(core: &Core, service: &Service) -> Result<Rc<Arc<Directory>>, Fault> {
    let directory = core.directory();
    if service.ip.is_some() {
        return Ok(directory);
    }
    let unknown = directory
        .get(&service.host)
        .filter(|balancer| balancer.unsettled && balancer.seats.is_empty())
        .map(|balancer| balancer.upstream.id);
    match unknown {
        Some(upstream) => {
            core.names.settled(upstream).await;
            Ok(core.directory())
        }
        None => Ok(directory),
    }
}

/// One try with one address. A resting connection that turns out to be closed does not count as a
/// try: a fresh one takes its place.
async fn one_try(
    core: &Core,
    planned: &Planned,
    client: &mut Client,
    exchange: &mut Exchange,
    aim: &Aim<'_>,
) -> Result<Answered, Fault> {
    let service = planned.service.as_deref().ok_or(What::NoService)?;
    // As in Kong, the name in the handshake is the one in the Host line.
    let kept = service.tls.as_ref().and_then(|_| heads::kept_host(planned, exchange));
    let name = kept.as_deref().unwrap_or(aim.name);
    let key = service.key(aim.address, name);
    if service.grpc {
        return Box::pin(grpc::ask(core, planned, client, exchange, key, name)).await;
    }
    loop {
        let careful = !repeatable(exchange);
        let resting = core.pool.borrow_mut().take(key, careful);
        let rested = resting.is_some();
        let connection = match resting {
            Some(connection) => connection,
            None => unless_gone(client, dial(service, key, name)).await?,
        };
        match over(core, planned, client, exchange, connection).await {
            Err(fault) if fault.retry && rested && fault.what == What::Unreachable => {}
            ended => return ended,
        }
    }
}

/// Sends the request over a connection and reads the head of the response.
async fn over(
    core: &Core,
    planned: &Planned,
    client: &mut Client,
    exchange: &mut Exchange,
    mut connection: Connection,
) -> Result<Answered, Fault> {
    let whole = exchange.request_body_state == BodyState::Whole;
    let repeatable = repeatable(exchange);
    let held_bytes: usize = exchange.request_body.iter().map(|piece| piece.len()).sum();
    let at_once = whole && held_bytes <= SENT_AT_ONCE_BYTES_MAX;
    let framing = match (whole, client.body_length()) {
        (true, _) => held_framing(exchange),
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::Chunked,
    };
    let head = heads::request(core, planned, exchange, framing);
    let mut pages = Pages::new();
    pages.push(head);
    if at_once {
        pages.extend(exchange.request_body.iter().cloned());
    }
    let service = planned.service.as_deref().ok_or(What::NoService)?;
    connection.send(pages, service.write_timeout_ms).await.map_err(|f| f.retry(repeatable))?;
    let sent = if at_once {
        let read = connection.response(&mut exchange.response, service.read_timeout_ms);
        unless_gone(client, read).await.map(|()| true)
    } else {
        Box::pin(stream(core, &mut connection, client, exchange, service, framing)).await
    }
    .map_err(|fault| {
        let unanswered = !matches!(fault.what, What::BadResponse | What::ClientGone);
        fault.retry(repeatable && unanswered)
    })?;
    exchange.times.upstream_answered_us = clock::now_us();
    let answered = Http1::new(connection, exchange, sent, service.read_timeout_ms)?;
    Ok(Answered::H1(answered))
}

/// Waits, unless the client gives up before it is done: then what is dropped here must not be used
/// again.
async fn unless_gone<T>(
    client: &mut Client,
    waiting: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let (mut waiting, mut gone) = (pin!(waiting), pin!(client.given_up()));
    poll_fn(|cx| match waiting.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(done),
        Poll::Pending => gone.as_mut().poll(cx).map(|fault| Err(fault.into())),
    })
    .await
}

/// Whether the request may be sent again after a part of it was sent.
fn repeatable(exchange: &Exchange) -> bool {
    exchange.request_body_state == BodyState::Whole && idempotent(exchange.request.method())
}

/// The framing of a body that the gateway holds: none where the client's request had none.
fn held_framing(exchange: &Exchange) -> Framing {
    let bytes: usize = exchange.request_body.iter().map(|piece| piece.len()).sum();
    let framing = Seen::of(&[Known::ContentLength, Known::TransferEncoding]);
    let declared = exchange.request.fields.seen().meets(framing);
    if bytes == 0 && !declared { Framing::None } else { Framing::Length(bytes as u64) }
}

/// Methods that may be sent again (RFC 9110, 9.2.2, but for what nginx counts as not idempotent).
fn idempotent(method: &str) -> bool {
    !matches!(method, "POST" | "PATCH" | "LOCK" | "CONNECT")
}

/// Reads the request's body before the upstream is asked, as `request_buffering` says: up to
/// `request_buffer_bytes_max`; a larger one streams and cannot be repeated.
async fn hold_body(core: &Core, client: &mut Client, exchange: &mut Exchange) -> Result<(), Fault> {
    if exchange.request_body_state == BodyState::Unread {
        read_body(core, client, exchange, core.settings.request_buffer_bytes_max).await?;
    }
    Ok(())
}

/// Reads up to so many bytes of the request's body into the exchange.
///
/// # Errors
/// The client broke off, was too slow, or broke the rules of its framing, or the body is larger
/// than `client_max_body_size`.
pub async fn read_body(
    core: &Core,
    client: &mut Client,
    exchange: &mut Exchange,
    bytes_max: usize,
) -> Result<(), Fault> {
    let mut bytes = 0;
    while bytes <= bytes_max {
        let Some(piece) = body(core, client, exchange.request_bytes_max).await? else {
            exchange.request_body_state = BodyState::Whole;
            return Ok(());
        };
        bytes += piece.len();
        exchange.request_capture.keep(&piece, &exchange.kit);
        gather(&mut exchange.request_body, piece);
    }
    exchange.request_body_state = BodyState::TooLarge;
    Ok(())
}

/// The next piece of the client's body, unless it makes the body too large: for the gateway, or for
/// a plugin of this exchange.
async fn body(
    core: &Core,
    client: &mut Client,
    plugin_bytes_max: Option<u64>,
) -> Result<Option<Piece>, Fault> {
    let piece = client.body().await.map_err(|fault| match fault {
        // As nginx: who leaves within the body is logged with 400, who leaves after it with 499.
        ClientFault::Gone(error) if !client.is_h2() => Fault::new(What::BadRequest).because(error),
        fault => fault.into(),
    })?;
    if plugin_bytes_max.is_some_and(|bytes_max| client.body_bytes() > bytes_max) {
        return Err(What::OverPluginLimit.into());
    }
    let bytes_max = core.settings.client_body_bytes_max;
    if bytes_max > 0 && client.body_bytes() > bytes_max {
        return Err(What::BodyTooLarge.into());
    }
    Ok(piece)
}

/// Sends a body piece by piece, what is held and then what arrives, and reads the response's head
/// at the same time: a service may answer before it has read everything.
async fn stream(
    core: &Core,
    connection: &mut Connection,
    client: &mut Client,
    exchange: &mut Exchange,
    service: &Service,
    framing: Framing,
) -> Result<bool, Fault> {
    let whole = exchange.request_body_state == BodyState::Whole;
    let held = exchange.request_body.clone();
    if !whole {
        exchange.request_body.clear();
    }
    let (mut sender, inbox, deadlines) = connection.split();
    let (capture, kit) = (&mut exchange.request_capture, &exchange.kit);
    let write_ms = service.write_timeout_ms;
    let plugin_bytes_max = exchange.request_bytes_max;
    let framed = |piece| match framing {
        Framing::Chunked => chunk(piece),
        _ => Pages::from_iter([piece]),
    };
    let mut answer = pin!(response_head(inbox, &mut exchange.response));
    let (mut pumping, mut unsent) = (true, None);
    let early = {
        let mut pump = pin!(async {
            for piece in held {
                sender.send(framed(piece), write_ms).await?;
            }
            while !whole && let Some(piece) = body(core, client, plugin_bytes_max).await? {
                capture.keep(&piece, kit);
                sender.send(framed(piece), write_ms).await?;
            }
            if framing == Framing::Chunked {
                sender.send(last_chunk(client.trailers().await?), write_ms).await?;
            }
            Ok::<(), Fault>(())
        });
        poll_fn(|cx| {
            if let Poll::Ready(pumped) = pump.as_mut().poll(cx) {
                pumping = false;
                // Only from here on is it the upstream that keeps us waiting.
                deadlines.read.arm(service.read_timeout_ms);
                match pumped {
                    // It takes no more; it may have said why.
                    Err(fault) if fault.what == What::Unreachable => unsent = Some(fault),
                    Err(fault) => return Poll::Ready(Some(Err(fault))),
                    Ok(()) => {}
                }
            }
            match answer.as_mut().poll(cx) {
                Poll::Ready(answered) => Poll::Ready(Some(answered)),
                Poll::Pending if pumping => Poll::Pending,
                Poll::Pending => Poll::Ready(None),
            }
        })
        .await
    };
    // The request is sent, and the client is free to be watched.
    let answered = match early {
        Some(answered) => answered,
        None => unless_gone(client, answer).await,
    };
    // An answer in the middle abandons the upload, and its deadline with it.
    let missed = deadlines.end();
    match (answered, unsent) {
        _ if missed => Err(What::TimedOut.into()),
        (Err(_), Some(fault)) => Err(fault),
        (answered, unsent) => answered.map(|()| !pumping && unsent.is_none()),
    }
}

/// The end of a chunked body.
fn last_chunk(trailers: Option<Fields>) -> Pages {
    let Some(trailers) = trailers else {
        return Pages::from_iter([Piece::from_static(write::LAST_CHUNK)]);
    };
    let mut end = Vec::new();
    write::last_chunk(&mut end, &trailers);
    Pages::from_iter([Piece::from_vec(end)])
}

/// One chunk of a chunked body.
fn chunk(piece: Piece) -> Pages {
    let mut head = Vec::with_capacity(18);
    write::chunk_head(&mut head, piece.len());
    Pages::from_iter([Piece::from_vec(head), piece, Piece::from_static(b"\r\n")])
}

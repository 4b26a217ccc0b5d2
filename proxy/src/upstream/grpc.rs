//! gRPC upstreams: HTTP/2, many calls on one connection, both directions open until either ends.
//!
//! A body is never held back here: a call may speak and listen at the same time for hours. So the
//! upload is a future of its own that moves whenever the exchange waits for the upstream. What it
//! keeps for reports goes back to the exchange before it is logged.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use plugins::pdk::{BodyState, Capture, Exchange, Kit};
use runtime::buffers::Piece;
use runtime::clock;
use runtime::http::body::Framing;
use runtime::http::h2::{self, Body, Sender};
use runtime::http::head::{self, Fields, Request};
use smallvec::SmallVec;

use super::connect::{self, RESPONSE_LIMITS};
use super::{Answered, read_body, unless_gone};
use crate::client::{Client, ClientFault, Length, Upload};
use crate::core::Core;
use crate::fault::{Fault, What};
use crate::forwarded::trailers;
use crate::heads;
use crate::pool::Key;
use crate::roadmap::{Planned, Service};

/// Connections of one core to one upstream; with more calls than they carry, calls wait.
const CONNECTIONS_MAX: usize = 16;
/// Calls on one connection above which another is opened. Servers allow 100 or more.
const CALLS_MAX: usize = 100;
/// Tries with a connection that turns out to be gone before the call was sent.
const TRIES_MAX: usize = 2;

/// The open connections of one core.
#[derive(Default)]
pub struct Connections {
    open: HashMap<Key, Vec<Shared>, FixedState>,
}

/// One connection, and who uses it.
struct Shared {
    client: h2::Client,
    /// One more than there are calls.
    calls: Rc<()>,
    used_us: u64,
}

/// A connection that is used by one call.
struct Lent {
    client: h2::Client,
    /// Counts the call while it lasts.
    call: Rc<()>,
}

impl Connections {
    /// The connection with the fewest calls, unless it is time for another.
    fn take(&mut self, key: Key) -> Option<Lent> {
        let open = self.open.get_mut(&key)?;
        open.retain(|shared| !shared.client.is_ended());
        let count = open.len();
        let idlest = open.iter_mut().min_by_key(|shared| Rc::strong_count(&shared.calls))?;
        if Rc::strong_count(&idlest.calls) > CALLS_MAX && count < CONNECTIONS_MAX {
            return None;
        }
        idlest.used_us = clock::now_us();
        Some(Lent { client: idlest.client.clone(), call: Rc::clone(&idlest.calls) })
    }

    fn put(&mut self, key: Key, client: h2::Client) -> Lent {
        let lent = Lent { client: client.clone(), call: Rc::new(()) };
        let open = self.open.entry(key).or_default();
        if open.len() < CONNECTIONS_MAX {
            let calls = Rc::clone(&lent.call);
            open.push(Shared { client, calls, used_us: clock::now_us() });
        }
        lent
    }

    /// Closes what has had no call for so long. Called by the core once a second.
    pub fn sweep(&mut self, idle_timeout_ms: u64) {
        let now_us = clock::now_us();
        self.open.retain(|_, open| {
            open.retain(|shared| {
                let busy = Rc::strong_count(&shared.calls) > 1;
                let rested_us = now_us.saturating_sub(shared.used_us);
                !shared.client.is_ended() && (busy || rested_us < idle_timeout_ms * 1_000)
            });
            !open.is_empty()
        });
    }
}

/// Sends a call and waits for the head of its response. `name` is what the upstream is called in a
/// TLS handshake.
///
/// # Errors
/// `Unreachable` and `TimedOut`, which may be tried elsewhere while nothing was sent; or the
/// client's body broke off.
pub(super) async fn ask(
    core: &Core,
    planned: &Planned,
    client: &mut Client,
    exchange: &mut Exchange,
    key: Key,
    name: &str,
) -> Result<Answered, Fault> {
    let service = planned.service.as_deref().ok_or(What::NoService)?;
    if exchange.request_body_state != BodyState::Whole && !client.is_h2() {
        // Only HTTP/2 clients speak and listen at once; of the others the body is held.
        read_body(core, client, exchange, core.settings.request_buffer_bytes_max).await?;
        if exchange.request_body_state != BodyState::Whole {
            return Err(What::BodyTooLarge.into());
        }
    }
    let whole = exchange.request_body_state == BodyState::Whole;
    let length = client.body_length();
    // Behind a body without a declared length there may be trailers, even if it is empty.
    let bodiless =
        exchange.request_body.is_empty() && (length == Some(0) || whole && length.is_some());
    let request = request(core, planned, exchange)?;
    let sent = send(core, service, (key, name), &request, bodiless);
    let (mut call, lent) = unless_gone(client, sent).await?;
    let asked_us = clock::now_us();
    let moved = Rc::new(Cell::new(clock::now_us()));
    let held = std::mem::take(&mut exchange.request_body);
    let trailers = if client.is_h2() { None } else { client.trailers().await? };
    let source =
        Source { upload: client.take_upload(core.settings.client_body_bytes_max), trailers };
    let mut tap = Tap::lend(exchange);
    let kept = tap.sibling();
    let sending = (!bodiless).then(|| upload(held, source, call.sender, Rc::clone(&moved), kept));
    // One allocation for each call: the upload outlives this function.
    let mut sending = sending.map(|sending| Box::pin(sending) as Sending);
    let timeout_ms = service.read_timeout_ms;
    let answered = patiently(timeout_ms, &moved, async {
        let (response, given_up) = (call.response.head(&mut exchange.response), client.given_up());
        let (mut response, mut given_up) = (pin!(response), pin!(given_up));
        poll_fn(|cx| {
            poll_upload(&mut sending, cx)?;
            if let Poll::Ready(fault) = given_up.as_mut().poll(cx) {
                return Poll::Ready(Err(fault.into()));
            }
            response.as_mut().poll(cx).map_err(unreachable)
        })
        .await
    });
    let body = match answered.await {
        Ok(body) => body,
        Err(fault) => {
            if fault.what == What::TimedOut {
                lent.client.doubt(asked_us);
            }
            tap.give_back(exchange);
            return Err(fault);
        }
    };
    exchange.times.upstream_answered_us = clock::now_us();
    core.pool.borrow_mut().answered(key);
    let done = body.is_ended();
    let streamed = Streamed { body, sending, tap, moved, timeout_ms, done, trailers: None, lent };
    Ok(Answered::H2(Box::new(streamed)))
}

/// The exchange's own capture of the request, lent to the upload while the call lasts.
struct Tap {
    capture: Rc<RefCell<Capture>>,
    kit: Rc<Kit>,
}

impl Tap {
    fn lend(exchange: &mut Exchange) -> Self {
        let capture = std::mem::take(&mut exchange.request_capture);
        Self { capture: Rc::new(RefCell::new(capture)), kit: Rc::clone(&exchange.kit) }
    }

    /// The same for the upload.
    fn sibling(&self) -> Self {
        Self { capture: Rc::clone(&self.capture), kit: Rc::clone(&self.kit) }
    }

    fn keep(&self, piece: &Piece) {
        self.capture.borrow_mut().keep(piece, &self.kit);
    }

    /// Returns what was kept; what the upload sends later is not.
    fn give_back(&mut self, exchange: &mut Exchange) {
        let capture = self.capture.take();
        if capture.bytes_max.is_some() {
            exchange.request_capture = capture;
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // An exchange that broke off never asks for it back.
        if Rc::strong_count(&self.capture) == 1 {
            self.kit.give_capture(self.capture.take().bytes);
        }
    }
}

type Sending = Pin<Box<dyn Future<Output = Result<(), Fault>>>>;

fn unreachable(fault: h2::Fault) -> Fault {
    Fault::new(What::Unreachable).because(fault)
}

/// The head as HTTP/2 carries it: the same lines as for any upstream.
fn request(core: &Core, planned: &Planned, exchange: &Exchange) -> Result<Request, Fault> {
    let written = heads::request(core, planned, exchange, Framing::None);
    let mut request = Request::default();
    let parsed = head::parse_request(&written, &RESPONSE_LIMITS, &mut request);
    if !matches!(parsed, Ok(Some(_))) {
        return Err(Fault::new(What::Internal).because("the head cannot be said in HTTP/2"));
    }
    request.fields.set("te", "trailers");
    Ok(request)
}

/// Opens a call on a connection that is there, or on a new one.
async fn send(
    core: &Core,
    service: &Service,
    (key, name): (Key, &str),
    request: &Request,
    bodiless: bool,
) -> Result<(h2::Call, Lent), Fault> {
    let mut failed = Fault::unsent(What::Unreachable);
    for _ in 0..TRIES_MAX {
        let kept = core.calls.borrow_mut().take(key);
        let mut lent = match kept {
            Some(lent) => lent,
            None => {
                let client = connect::dial_h2(service, key, name).await?;
                core.calls.borrow_mut().put(key, client)
            }
        };
        let ready = clock::within(service.connect_timeout_ms, lent.client.ready()).await;
        let asked = match ready {
            None => return Err(Fault::unsent(What::TimedOut)),
            Some(Err(fault)) => Err(fault),
            Some(Ok(())) => lent.client.ask(request, service.tls.is_some(), bodiless),
        };
        match asked {
            Ok(call) => return Ok((call, lent)),
            Err(h2::Fault::Misuse) => return Err(What::BadRequest.into()),
            Err(fault) => failed = Fault::unsent(What::Unreachable).because(fault),
        }
    }
    Err(failed)
}

/// Where the rest of a request comes from.
struct Source {
    /// A client of HTTP/2; it may have nothing more to say than trailers.
    upload: Option<Upload>,
    /// Those of a client of HTTP/1, whose body is held.
    trailers: Option<Fields>,
}

/// Sends what is held of the request's body, then what the client sends.
async fn upload(
    held: SmallVec<[Piece; 2]>,
    mut source: Source,
    mut sender: Sender,
    moved: Rc<Cell<u64>>,
    tap: Tap,
) -> Result<(), Fault> {
    let sent = async {
        for piece in held {
            if sender.piece(piece).await.is_err() {
                return Ok(());
            }
            moved.set(clock::now_us());
        }
        while let Some(upload) = &mut source.upload
            && let Some(piece) = upload.next().await?
        {
            moved.set(clock::now_us());
            tap.keep(&piece);
            // An upstream that takes no more has said why, or will.
            if sender.piece(piece).await.is_err() {
                return Ok(());
            }
            moved.set(clock::now_us());
        }
        let behind = match &mut source.upload {
            Some(upload) => upload.trailers().await?.and_then(trailers::passing),
            None => source.trailers,
        };
        let _gone = match behind {
            Some(behind) => sender.trailers(&behind),
            None => sender.end(),
        };
        Ok::<(), ClientFault>(())
    };
    sent.await.map_err(Fault::from)
}

/// Moves the upload; its fault is the client's and ends the exchange.
fn poll_upload(sending: &mut Option<Sending>, cx: &mut Context<'_>) -> Result<(), Fault> {
    if let Some(upload) = sending
        && let Poll::Ready(sent) = upload.as_mut().poll(cx)
    {
        *sending = None;
        sent?;
    }
    Ok(())
}

/// Waits as long as something moved within the last `timeout_ms`, in either direction.
async fn patiently<T>(
    timeout_ms: u64,
    moved: &Cell<u64>,
    waiting: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let mut waiting = pin!(waiting);
    moved.set(clock::now_us());
    loop {
        let quiet_us = clock::now_us().saturating_sub(moved.get());
        let left_ms = timeout_ms.saturating_sub(quiet_us / 1_000);
        if left_ms == 0 {
            return Err(What::TimedOut.into());
        }
        if let Some(done) = clock::within(left_ms, waiting.as_mut()).await {
            return done;
        }
    }
}

/// A response that comes while the request may still be on its way.
pub struct Streamed {
    body: Body,
    sending: Option<Sending>,
    tap: Tap,
    moved: Rc<Cell<u64>>,
    timeout_ms: u64,
    done: bool,
    trailers: Option<Fields>,
    lent: Lent,
}

impl Streamed {
    pub(super) fn length(&self, declared: Option<u64>) -> Length {
        match declared {
            Some(bytes) => Length::Known(bytes),
            None if self.done => Length::Nothing,
            None => Length::Unknown,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// The next piece; none at the end, and then the trailers are there.
    ///
    /// # Errors
    /// `TimedOut`, or either side broke off.
    pub(super) async fn next(&mut self) -> Result<Option<Piece>, Fault> {
        if self.done {
            return Ok(None);
        }
        let (body, sending) = (&mut self.body, &mut self.sending);
        let next = poll_fn(|cx| {
            poll_upload(sending, cx)?;
            let next = std::task::ready!(pin!(body.next()).poll(cx));
            Poll::Ready(next.transpose().map_err(unreachable))
        });
        let asked_us = clock::now_us();
        let piece = patiently(self.timeout_ms, &self.moved, next).await.inspect_err(|fault| {
            if fault.what == What::TimedOut {
                self.lent.client.doubt(asked_us);
            }
        })?;
        if piece.is_none() {
            self.trailers = self.body.trailers().await.map_err(unreachable)?;
            self.done = true;
        }
        Ok(piece)
    }

    /// Returns what was kept of the request's body, for the report.
    pub(super) fn give_back(&mut self, exchange: &mut Exchange) {
        self.tap.give_back(exchange);
    }

    pub(super) fn take_trailers(&mut self) -> Option<Fields> {
        self.trailers.take()
    }
}

//! The road of one exchange, top to bottom.
//!
//! ```text
//!   route ─► access plugins ─► upstream ─┐
//!     │ fault      │ answer    │ fault   ├─► header_filter ─► head ─► pieces, body_filter ─┐
//!     └────────────┴───────────┴─────────┘                    log ─► last bytes ◄──────────┘
//! ```
//! An early answer or a fault skips the upstream, never the later phases. There is one way out.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use plugins::pdk::logging;
use plugins::pdk::{Answer, BodyState, Exchange, Origin, Outcome, Phase, ResponseBody, Step};
use runtime::buffers::Piece;
use runtime::http::head::Fields;
use smallvec::SmallVec;

use crate::balance::vital::Lease;
use crate::client::{Client, ClientFault, Length};
use crate::core::Core;
use crate::fault::{Fault, Side, What};
use crate::heads;
use crate::plan::{Instance, Plan};
use crate::roadmap::Planned;
use crate::splice;
use crate::upstream::{self, Answered};

/// The plugins that take part in an exchange, in order: who was reached, or would have been.
type Walk = SmallVec<[Rc<Instance>; 8]>;

/// Where the response's body comes from.
enum Source {
    /// A plugin's or the gateway's own answer, and on whose side the reason is.
    Made(Piece, Side),
    /// The service.
    Upstream(Answered),
}

impl Source {
    /// Returns what an upload kept for the report.
    fn give_back(&mut self, exchange: &mut Exchange) {
        if let Self::Upstream(answered) = self {
            answered.give_back(exchange);
        }
    }

    /// The lines after the body.
    fn take_trailers(&mut self) -> Option<Fields> {
        match self {
            Self::Made(..) => None,
            Self::Upstream(answered) => answered.take_trailers(),
        }
    }
}

/// Brings one exchange from its request's head to the last byte of its response.
///
/// # Errors
/// The client went away, or the response broke off: its connection must be closed.
pub async fn travel(
    core: &Core,
    client: &mut Client,
    exchange: &mut Exchange,
) -> Result<(), ClientFault> {
    let mut walk = Walk::new();
    // Counts the request at its peer until its answer has ended.
    let mut held = None;
    let source = match ask(core, client, exchange, &mut walk, &mut held).await {
        Ok(source) => source,
        Err(fault) => {
            if fault.what.closes() {
                client.end_after_this();
            }
            made(core, exchange, &fault)
        }
    };
    if exchange.response.status == 101
        && let Source::Upstream(answered) = source
    {
        return upgrade(core, client, exchange, &walk, answered).await;
    }
    respond(core, client, exchange, &walk, source).await
}

/// The gateway's own answer to a fault.
fn made(core: &Core, exchange: &mut Exchange, fault: &Fault) -> Source {
    Source::Made(heads::fault(core, exchange, fault), fault.what.side())
}

/// From the request to the head of a response.
async fn ask(
    core: &Core,
    client: &mut Client,
    exchange: &mut Exchange,
    walk: &mut Walk,
    held: &mut Option<Lease>,
) -> Result<Source, Fault> {
    let planned = match core.planned(exchange) {
        Ok(planned) => planned,
        Err(fault) => {
            collect(core, &core.global_plan(exchange), exchange, walk);
            return Err(fault);
        }
    };
    let bytes_max = core.settings.client_body_bytes_max;
    if bytes_max > 0 && client.body_length().is_some_and(|bytes| bytes > bytes_max) {
        collect(core, &core.global_plan(exchange), exchange, walk);
        return Err(What::BodyTooLarge.into());
    }
    match access(core, &planned, client, exchange, walk).await? {
        None => {}
        Some(Ended::Answer(answer)) => {
            return Ok(Source::Made(heads::answer(core, exchange, &answer), Side::Gateway));
        }
        Some(Ended::Replay(body)) => {
            exchange.origin = Origin::Plugin;
            return Ok(Source::Made(body, Side::Upstream));
        }
    }
    let answered = upstream::ask(core, &planned, client, exchange, held).await?;
    exchange.origin = Origin::Upstream;
    Ok(Source::Upstream(answered))
}

/// How a plugin ended the access phase.
enum Ended {
    Answer(Box<Answer>),
    /// The head is in the exchange.
    Replay(Piece),
}

/// The access phase. The consumer that one plugin finds decides the configuration of the next.
/// After an answer the rest is only collected, for the phases of the response.
async fn access(
    core: &Core,
    planned: &Planned,
    client: &mut Client,
    exchange: &mut Exchange,
    walk: &mut Walk,
) -> Result<Option<Ended>, Fault> {
    let mut ended = Ok(None);
    for slot in &planned.plan.slots {
        let Some(instance) = core.instance(slot, exchange) else { continue };
        walk.push(Rc::clone(&instance));
        if matches!(ended, Ok(None)) {
            ended = enter(core, &instance, client, exchange).await;
        }
    }
    ended
}

/// One plugin's access phase.
async fn enter(
    core: &Core,
    instance: &Instance,
    client: &mut Client,
    exchange: &mut Exchange,
) -> Result<Option<Ended>, Fault> {
    if instance.plugin.is_none() {
        core.count_closed_route(instance);
        return Err(What::Unavailable.into());
    }
    let Some(plugin) = instance.in_phase(Phase::Access) else { return Ok(None) };
    loop {
        let mut waited = false;
        let decided = match plugin.access(exchange) {
            Step::Done(outcome) => Ok(outcome),
            Step::Wait(deciding) => {
                // It may have counted or written something, so it is not broken off; as in Kong.
                waited = true;
                Ok(deciding.await)
            }
            Step::Body { bytes_max } => Err(bytes_max),
        };
        match decided {
            Ok(Outcome::Next) if waited && client.has_left() => {
                return Err(What::ClientGone.into());
            }
            Ok(Outcome::Next) => return Ok(None),
            Ok(Outcome::Answer(answer)) => return Ok(Some(Ended::Answer(answer))),
            Ok(Outcome::Replay(body)) => return Ok(Some(Ended::Replay(body))),
            Err(bytes_max) => {
                debug_assert_eq!(exchange.request_body_state, BodyState::Unread);
                upstream::read_body(core, client, exchange, bytes_max).await?;
            }
        }
    }
}

/// Collects the plugins of a plan without running their access phase.
fn collect(core: &Core, plan: &Plan, exchange: &Exchange, walk: &mut Walk) {
    walk.extend(plan.slots.iter().filter_map(|slot| core.instance(slot, exchange)));
}

/// From the head of the response to its last byte.
async fn respond(
    core: &Core,
    client: &mut Client,
    exchange: &mut Exchange,
    walk: &Walk,
    mut source: Source,
) -> Result<(), ClientFault> {
    let (length, side) = match &source {
        Source::Made(body, side) => {
            let told = match side {
                // What is kept of an answer to HEAD tells the length that a GET would get.
                Side::Upstream => heads::take_length(exchange).filter(|_| client.asks_head()),
                _ => None,
            };
            (Length::Known(told.unwrap_or(body.len() as u64)), *side)
        }
        Source::Upstream(answered) => {
            let declared = heads::arrive(core, exchange, client.takes_trailers());
            // Where a plugin made it a HEAD, no body comes for a client who waits for one.
            let no_body = exchange.request.method() == "HEAD" && !client.asks_head();
            let length = answered.length(declared);
            (if no_body { Length::Known(0) } else { length }, Side::Upstream)
        }
    };
    heads::lay_over(exchange);
    for plugin in walk.iter().filter_map(|instance| instance.in_phase(Phase::HeaderFilter)) {
        plugin.header_filter(exchange);
    }
    heads::leave(core, exchange, side);
    let length = match exchange.response_body {
        ResponseBody::AsItComes => length,
        ResponseBody::OtherLength => Length::Unknown,
        ResponseBody::Dropped => {
            source.give_back(exchange);
            source = Source::Made(Piece::empty(), side);
            Length::Known(0)
        }
    };
    if let Length::Known(bytes) = length {
        exchange.response_capture.declare(Some(bytes), &exchange.kit);
    }
    if core.is_draining() {
        client.end_after_this();
    }
    client.head(&exchange.request, &exchange.response, length);
    let relayed = relay(client, exchange, walk, &mut source).await;
    source.give_back(exchange);
    // The report is in the ring before the client can see the end of the answer.
    let unsent = relayed.as_ref().map_or(0, |last| last.len());
    let trailers = source.take_trailers();
    log(core, client, exchange, walk, (unsent, trailers.as_ref()));
    let ended = match relayed {
        Ok(last) => client.end(last, trailers.as_ref()).await,
        Err(fault) => {
            client.abort();
            Err(fault)
        }
    };
    if let Source::Upstream(answered) = source {
        answered.finish(core);
    }
    ended
}

/// The body, piece by piece, but for the last piece, which is given back. What is queued leaves
/// before anything is waited for.
async fn relay(
    client: &mut Client,
    exchange: &mut Exchange,
    walk: &Walk,
    source: &mut Source,
) -> Result<Piece, ClientFault> {
    let seen = walk.iter().any(|instance| instance.in_phase(Phase::BodyFilter).is_some());
    let seen = seen || exchange.response_capture.keeps();
    loop {
        let (mut piece, last) = match source {
            Source::Made(body, _) => (std::mem::take(body), true),
            Source::Upstream(answered) => {
                if !answered.is_ready() {
                    client.flush().await?;
                    let bytes = if seen { 0 } else { splice::movable_bytes(client, answered) };
                    if bytes > 0 {
                        // Boxed, so that no other exchange is larger for it.
                        Box::pin(splice::pass(client, answered, bytes)).await?;
                    }
                }
                let piece = next(client, answered).await?;
                (piece.unwrap_or_default(), answered.is_done())
            }
        };
        for plugin in walk.iter().filter_map(|instance| instance.in_phase(Phase::BodyFilter)) {
            plugin.body_filter(exchange, &mut piece, last);
        }
        exchange.response_capture.keep(&piece, &exchange.kit);
        if last {
            return Ok(piece);
        }
        client.piece(piece).await?;
    }
}

/// The response broke off: nobody can be told any more but the log.
#[allow(clippy::needless_pass_by_value)] // the shape that map_err asks for
pub(crate) fn broken(fault: Fault) -> ClientFault {
    log::info!("the response broke off: {fault}");
    ClientFault::Gone(std::io::ErrorKind::ConnectionAborted.into())
}

/// The next piece from upstream, unless the client gives up while it is waited for.
async fn next(client: &mut Client, answered: &mut Answered) -> Result<Option<Piece>, ClientFault> {
    let (mut piece, mut gone) = (pin!(answered.next()), pin!(client.given_up()));
    // What is here is sent before anybody looks whether the client has gone.
    poll_fn(|cx| match piece.as_mut().poll(cx) {
        Poll::Ready(piece) => Poll::Ready(piece.map_err(broken)),
        Poll::Pending => gone.as_mut().poll(cx).map(Err),
    })
    .await
}

/// The log phase, one record for all log plugins, and the access log. So many bytes of the body are
/// still to be sent, and these trailers.
fn log(
    core: &Core,
    client: &Client,
    exchange: &mut Exchange,
    walk: &Walk,
    (unsent, trailers): (usize, Option<&Fields>),
) {
    exchange.passed = client.passed(unsent, trailers);
    for plugin in walk.iter().filter_map(|instance| instance.in_phase(Phase::Log)) {
        plugin.log(exchange);
    }
    if !exchange.logged_to.is_empty() {
        logging::commit(exchange);
    }
    core.log_access(exchange, client.sent_bytes(unsent));
}

/// The upstream agreed to another protocol: its answer goes to the client, then bytes both ways.
async fn upgrade(
    core: &Core,
    client: &mut Client,
    exchange: &mut Exchange,
    walk: &Walk,
    answered: Answered,
) -> Result<(), ClientFault> {
    heads::arrive(core, exchange, client.takes_trailers());
    heads::lay_over(exchange);
    for plugin in walk.iter().filter_map(|instance| instance.in_phase(Phase::HeaderFilter)) {
        plugin.header_filter(exchange);
    }
    heads::leave(core, exchange, Side::Upstream);
    client.upgrade(&exchange.response);
    log(core, client, exchange, walk, (0, None));
    client.flush().await?;
    let Some((upstream, silent_ms)) = answered.into_tunnel() else { return Ok(()) };
    crate::tunnel::run(client, upstream, silent_ms).await
}

/// Refuses a request whose head is no head: nothing was matched, so no plugin takes part.
///
/// # Errors
/// The client is gone.
pub async fn refuse(
    core: &Core,
    client: &mut Client,
    exchange: &mut Exchange,
    fault: &Fault,
) -> Result<(), ClientFault> {
    let made = made(core, exchange, fault);
    respond(core, client, exchange, &Walk::new(), made).await
}

//! One connection to a port of the office: hyper on this side, calls and replies on the other.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use runtime::clock;
use store::admin::{Call, Reply};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, oneshot, watch};

use super::{Audience, BODY_UNIT_BYTES, Shared};
use crate::engine::specs;
use crate::logs::{AccessLog, Line};

/// What this program calls itself in `Server`.
pub(super) const SERVER: &str = concat!("tollgate/", env!("CARGO_PKG_VERSION"));
/// Longest request head, in bytes: nginx's four buffers of 8 KiB.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Most header lines of a request.
const HEADERS_MAX: usize = 200;
/// How long a client may be idle or take for a request head: nginx's `keepalive_timeout`.
const HEAD_WAIT: Duration = Duration::from_secs(75);
/// How long a client may take for a request body.
const BODY_WAIT: Duration = Duration::from_secs(60);
/// How long the store may take for an answer.
const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// Where a node tells whether it can serve, and is told to say no.
const READY: &str = "/status/ready";

/// Who is connected.
pub(super) struct Caller {
    pub(super) audience: Audience,
    pub(super) ip: IpAddr,
    pub(super) log: AccessLog,
}

/// Serves one connection to its end, or to the end of its current call when the process stops.
pub(super) async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    caller: Caller,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
) {
    let caller = Arc::new(Mutex::new(caller));
    let service = service_fn(move |request| {
        let (caller, shared) = (Arc::clone(&caller), Arc::clone(&shared));
        // Calls of one connection come one after the other: nobody ever waits for this lock.
        async move {
            let mut caller = caller.lock().await;
            Ok::<_, Infallible>(exchange(request, &mut caller, &shared).await)
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .title_case_headers(true);
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => Some(ended),
        _ = stopped.wait_for(|stop| *stop) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(fault) = ended {
        log::debug!(target: "admin", "a connection broke: {fault}");
    }
}

/// One call from its head to its answer, and its line in the access log.
async fn exchange(
    request: hyper::Request<Incoming>,
    caller: &mut Caller,
    shared: &Shared,
) -> hyper::Response<Full<Bytes>> {
    let began_us = clock::now_us();
    let (parts, body) = request.into_parts();
    let reply = answer(&parts, body, caller.audience, shared).await;
    let took_ms = clock::now_us().saturating_sub(began_us) / 1_000;
    if !caller.log.is_off() {
        write_line(caller, &parts, &reply);
    }
    let mut response = response(reply, shared, took_ms);
    if caller.audience == Audience::Status {
        // Kong's status port has no cross-origin rules of its own.
        response.headers_mut().remove(header::ACCESS_CONTROL_ALLOW_CREDENTIALS);
    }
    let ends = parts.headers.get(header::CONNECTION).is_some_and(|value| value == "close");
    if parts.version == hyper::Version::HTTP_11 && !ends {
        let kept = HeaderValue::from_static("keep-alive");
        response.headers_mut().insert(header::CONNECTION, kept);
    }
    response
}

async fn answer(parts: &Parts, body: Incoming, audience: Audience, shared: &Shared) -> Reply {
    let mut call = call(parts);
    if audience == Audience::Status {
        if !on_status_port(&call.path, shared.declarative) {
            return Reply::not_found().finished(&call, &[]);
        }
        let drains = call.method == "POST" && call.path.trim_end_matches('/') == READY;
        if !drains && !matches!(call.method.as_str(), "GET" | "HEAD" | "OPTIONS") {
            return Reply::method_not_allowed().finished(&call, &[]);
        }
    }
    let bytes_max = shared.body_bytes_max;
    if body.size_hint().lower() > bytes_max as u64 {
        return Reply::body_too_large(&call);
    }
    // Room for the body, held until the store has answered.
    let bytes = body.size_hint().upper().map_or(bytes_max, |bytes| bytes as usize);
    let units = u32::try_from(bytes.div_ceil(BODY_UNIT_BYTES)).unwrap_or(u32::MAX);
    let room = tokio::time::timeout(BODY_WAIT, shared.bodies.acquire_many(units)).await;
    let Ok(Ok(_room)) = room else { return Reply::message(503, "Service unavailable") };
    let whole = Limited::new(body, bytes_max).collect();
    match tokio::time::timeout(BODY_WAIT, whole).await {
        Ok(Ok(whole)) => call.body = whole.to_bytes().into(),
        Ok(Err(fault)) if fault.is::<http_body_util::LengthLimitError>() => {
            return Reply::body_too_large(&call);
        }
        Ok(Err(_)) => return Reply::message(400, "The request body broke off"),
        Err(_) => return Reply::message(408, "The request body took too long"),
    }
    let (sender, receiver) = oneshot::channel();
    let tell = Box::new(move |reply| {
        // The client may have gone away meanwhile.
        let _gone: Result<(), Reply> = sender.send(reply);
    });
    (shared.submit)(call, tell);
    match tokio::time::timeout(ANSWER_WAIT, receiver).await {
        Ok(Ok(reply)) => reply,
        _ => {
            log::error!(target: "admin", "the store did not answer {}", parts.uri.path());
            Reply::unexpected()
        }
    }
}

/// Whether the status port has that path: what tells about the node, what plugins show there, and
/// without a database how upstreams and their targets do.
fn on_status_port(path: &str, declarative: bool) -> bool {
    let path = path.trim_end_matches('/');
    let mut plugins = specs().iter().flat_map(|spec| spec.endpoints);
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match segments.as_slice() {
        ["status"] | ["status", "dns" | "ready"] | ["robots.txt"] => true,
        ["upstreams", _, "health" | "targets"] | ["upstreams", _, "targets", _] => declarative,
        _ => plugins.any(|endpoint| endpoint.on_status_port && endpoint.path == path),
    }
}

fn call(parts: &Parts) -> Call {
    let mut call = Call::new(parts.method.as_str(), parts.uri.path());
    call.query = parts.uri.query().unwrap_or_default().to_owned();
    for (name, value) in &parts.headers {
        call = call.header(name.as_str(), value.as_bytes());
    }
    call
}

fn response(reply: Reply, shared: &Shared, took_ms: u64) -> hyper::Response<Full<Bytes>> {
    let mut response = hyper::Response::new(Full::new(Bytes::from(reply.body)));
    let status = hyper::StatusCode::from_u16(reply.status);
    *response.status_mut() = status.unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    for (name, value) in reply.headers {
        let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value))
        else {
            log::error!(target: "admin", "an answer's header {name} cannot be sent");
            continue;
        };
        headers.append(name, value);
    }
    if shared.latency {
        headers.append("x-kong-admin-latency", HeaderValue::from(took_ms));
    }
    if let Some(server) = shared.server {
        headers.append(header::SERVER, HeaderValue::from_static(server));
    }
    response
}

fn write_line(caller: &mut Caller, parts: &Parts, reply: &Reply) {
    let field = |headers: &HeaderMap, name: HeaderName| {
        headers.get(name).map(|value| value.as_bytes().to_vec()).unwrap_or_default()
    };
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let protocol = if parts.version == hyper::Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" };
    let line = Line {
        ended_wall_us: clock::wall_us(),
        method: parts.method.as_str(),
        target: target.as_bytes(),
        protocol,
        status: reply.status,
        sent_bytes: reply.body.len() as u64,
        referer: &field(&parts.headers, header::REFERER),
        agent: &field(&parts.headers, header::USER_AGENT),
        ..Line::default()
    };
    caller.log.request(caller.ip, &line);
    caller.log.flush();
}

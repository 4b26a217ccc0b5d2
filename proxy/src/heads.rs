//! What the gateway writes into heads: the request's for the upstream, the response's for the
//! client, and its own answers.

use plugins::pdk::{Answer, AnswerBody, Exchange, Origin};
use runtime::buffers::Piece;
use runtime::clock;
use runtime::http::body::Framing;
use runtime::http::head::{Known, Name, Seen};
use std::net::SocketAddr;

use crate::core::Core;
use crate::fault::{Fault, Side};
use crate::forwarded::response::{self, Latencies, Leaving};
use crate::forwarded::{self, Arrived, BodyLine, Forwarded, date, trust};
use crate::reply::{self, Asker};
use crate::roadmap::Planned;
use crate::route::target::Target;
use crate::route::upstream::{self, Joined};
use crate::route::{Flavor, Match, Normal, PathMatch};

const DATE: Name = Name::new("Date: ");

/// What Server and Via say.
pub const PRODUCT: &str = concat!("tollgate/", env!("CARGO_PKG_VERSION"));

/// Fills in the path that goes upstream.
///
/// # Errors
/// A path that stripping makes ambiguous.
pub fn onward(
    exchange: &mut Exchange,
    planned: &Planned,
    path: Normal<'_>,
    found: &Match<'_>,
) -> Result<(), Fault> {
    let spec = &planned.route.spec;
    let matched = match &found.path {
        PathMatch::None => None,
        PathMatch::Prefix(bytes) => path.path.get(..*bytes),
        PathMatch::Regex(_, range) => path.path.get(range.clone()),
    };
    let joined = Joined {
        base: planned.service.as_deref().map(|service| service.path.as_bytes()),
        path: path.path,
        strip: spec.strip_path,
        matched_len: matched.map(<[u8]>::len),
        query: None,
        v1: spec.path_v1 && spec.flavor == Flavor::Traditional,
    };
    upstream::write(&joined, &mut exchange.onward.path)?;
    if let Some(prefix) = matched.filter(|_| spec.strip_path) {
        exchange.onward.prefix.extend_from_slice(prefix);
    }
    Ok(())
}

/// Checks that the route's protocols admit the request.
///
/// # Errors
/// The route is for another protocol.
pub fn admit(exchange: &Exchange, planned: &Planned) -> Result<(), Fault> {
    let arrived = arrived(exchange);
    match Forwarded::new(&arrived, None).refusal(&planned.route.spec, &arrived) {
        Some(what) => Err(what.into()),
        None => Ok(()),
    }
}

/// Copies the client's query to what goes upstream.
pub fn query(exchange: &mut Exchange, target: &Target<'_>) {
    if let Some(query) = target.query {
        exchange.onward.has_query = true;
        exchange.onward.query.extend_from_slice(query);
    }
}

fn arrived(exchange: &Exchange) -> Arrived<'_> {
    let client = &exchange.client;
    Arrived {
        fields: &exchange.request.fields,
        target_host: exchange.request.target_host(),
        version: exchange.request.version,
        client: trust::Client {
            peer: client.peer.ip(),
            ip: client.ip,
            port: client.port,
            trusted: client.trusted,
        },
        tls: client.scheme == plugins::pdk::Scheme::Https,
        port: client.shown_port,
        path: exchange.raw_path(),
    }
}

/// The request's head for the upstream, in one page.
pub fn request(core: &Core, planned: &Planned, exchange: &Exchange, framing: Framing) -> Piece {
    let arrived = arrived(exchange);
    let stripped = Some(&*exchange.onward.prefix).filter(|prefix| !prefix.is_empty());
    let onward = &exchange.onward;
    let host = match (planned.route.spec.preserve_host, &planned.service) {
        _ if onward.chosen_host.is_some() => onward.chosen_host.as_deref().unwrap_or_default(),
        (false, Some(_)) if !onward.host.is_empty() => &onward.host,
        (false, Some(service)) => service.host_line.as_bytes(),
        _ => exchange.request.fields.get_known(Known::Host).unwrap_or_default(),
    };
    let onward = forwarded::Onward {
        arrived: &arrived,
        forwarded: &Forwarded::new(&arrived, stripped),
        host,
        product: PRODUCT,
        id: core.settings.id_upstream.then(|| exchange.id.as_str()),
        body: match framing {
            Framing::Length(bytes) => BodyLine::Length(bytes),
            Framing::Chunked => BodyLine::Chunked,
            Framing::None | Framing::UntilClose => BodyLine::None,
        },
    };
    core.with_scratch(|out| {
        out.extend_from_slice(exchange.request.method().as_bytes());
        out.push(b' ');
        out.extend_from_slice(&exchange.onward.path);
        if exchange.onward.has_query {
            out.push(b'?');
            out.extend_from_slice(&exchange.onward.query);
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
        forwarded::write_lines(&onward, out);
        out.extend_from_slice(b"\r\n");
        Piece::copy_of(out)
    })
}

/// The client's host name, where the route preserves it: a copy of its own.
pub fn kept_host(planned: &Planned, exchange: &Exchange) -> Option<String> {
    let host = exchange.request.fields.get_known(Known::Host)?;
    let name = std::str::from_utf8(forwarded::host_only(host)).ok()?;
    let name = name.trim_start_matches('[').trim_end_matches(']');
    planned.route.spec.preserve_host.then(|| name.to_owned())
}

/// The gateway's own answer to a fault: its head in the exchange, its body here.
pub fn fault(core: &Core, exchange: &mut Exchange, fault: &Fault) -> Piece {
    match fault.what.side() {
        Side::Client => log::debug!("{fault}"),
        Side::Gateway | Side::Upstream => log::info!("{fault}"),
    }
    let (head, reply) = (&mut exchange.response, exchange.id);
    let host = exchange.request.fields.get_known(Known::Host).unwrap_or_default();
    let host = forwarded::host_only(host).to_ascii_lowercase();
    let asker = Asker {
        version: exchange.request.version,
        fields: &exchange.request.fields,
        target: exchange.request.target(),
        host: &host,
        id: reply.as_str(),
    };
    let mut body = Vec::new();
    reply::of_fault(fault.what, &asker, &core.settings.templates, head, &mut body);
    exchange.origin = Origin::Gateway;
    Piece::from_vec(body)
}

/// A plugin's answer: its head in the exchange, its body here.
pub fn answer(core: &Core, exchange: &mut Exchange, answer: &Answer) -> Piece {
    let asker = Asker {
        version: exchange.request.version,
        fields: &exchange.request.fields,
        target: exchange.request.target(),
        host: b"",
        id: exchange.id.as_str(),
    };
    let head = &mut exchange.response;
    let body = match &answer.body {
        AnswerBody::Message(message) => {
            let mut body = Vec::new();
            let templates = &core.settings.templates;
            reply::error(answer.status, message, &asker, templates, head, &mut body);
            Piece::from_vec(body)
        }
        AnswerBody::Exact { content_type, bytes } => {
            let sent = reply::exit(answer.status, false, None, &asker, head);
            if let Some(kind) = content_type.as_deref().filter(|_| sent) {
                head.fields.add("Content-Type", kind);
            }
            if sent { Piece::copy_of(bytes) } else { Piece::empty() }
        }
        AnswerBody::Empty => {
            reply::exit(answer.status, false, None, &asker, head);
            Piece::empty()
        }
    };
    for (name, value) in &answer.headers {
        head.fields.set(name, &**value);
    }
    exchange.origin = Origin::Plugin;
    body
}

/// Cleans an upstream's head before the plugins see it; gives the length that it declared. Trailer
/// stays for a client who takes trailers.
pub fn arrive(core: &Core, exchange: &mut Exchange, takes_trailers: bool) -> Option<u64> {
    let declared = take_length(exchange);
    response::arrive(&mut exchange.response, core.settings.shown, takes_trailers);
    exchange.declared_bytes = declared;
    declared
}

/// Takes the line out that tells the length of the body; it is written anew where the answer
/// leaves.
pub fn take_length(exchange: &mut Exchange) -> Option<u64> {
    let fields = &mut exchange.response.fields;
    let declared = fields.get_known(Known::ContentLength);
    let declared = declared.and_then(|v| std::str::from_utf8(v).ok()).and_then(|v| v.parse().ok());
    fields.remove_known(Seen::of(&[Known::ContentLength]));
    declared
}

/// Lays what plugins asked for early over the head, and dates an answer that is the gateway's own.
pub fn lay_over(exchange: &mut Exchange) {
    if exchange.origin != Origin::Upstream {
        let now_s = clock::wall_us() / 1_000_000;
        exchange.response.fields.put(DATE, date::http_date(now_s));
    }
    exchange.response.fields.lay_over(&exchange.early);
}

/// Adds the gateway's own lines, after the plugins. `side` is on whose the answer was made.
pub fn leave(core: &Core, exchange: &mut Exchange, side: Side) {
    let now_us = clock::now_us();
    exchange.times.left_us = now_us;
    let times = &exchange.times;
    let ms = |from: u64, to: u64| to.saturating_sub(from) / 1_000;
    let asked_us = if times.upstream_started_us == 0 { now_us } else { times.upstream_started_us };
    let told_us = if times.upstream_answered_us == 0 { now_us } else { times.upstream_answered_us };
    let leaving = Leaving {
        shown: core.settings.shown,
        side,
        latencies: Latencies {
            upstream_ms: ms(asked_us, told_us),
            proxy_ms: ms(times.started_us, asked_us),
            response_ms: ms(times.started_us, now_us),
        },
        product: PRODUCT,
        upstream_version: runtime::http::head::Version::H11,
        id: exchange.id.as_str(),
    };
    response::leave(&mut exchange.response, &leaving);
}

/// Where a request came from and arrived, for the router.
pub fn ends(exchange: &Exchange) -> (SocketAddr, SocketAddr) {
    let client = &exchange.client;
    (SocketAddr::new(client.ip, client.port), SocketAddr::new(client.local_ip, client.shown_port))
}

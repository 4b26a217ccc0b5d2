//! One client connection, from its first byte to its last.
//!
//! While a connection waits for a request it is a small task without a buffer; what an exchange
//! needs is boxed when its first byte is there.

use std::rc::Rc;

use exporter::logs::TlsNames;
use plugins::pdk::{Client as ClientFacts, Exchange};
use runtime::buffers::{Page, Piece};
use runtime::clock::{Deadline, Timer};
use runtime::cores::Accepted;
use runtime::http::h2;
use runtime::io::Reader;
use runtime::proxy_protocol::{self, Told};
use runtime::wire::{WireReader, WireWriter};

use crate::client::{Client, H1, H2};
use crate::core::{Core, Rest, scheme};
use crate::fault::{Fault, What};
use crate::inbox::{HeadEnd, Inbox};
use crate::road;

/// A client that asks again within this time finds everything where it was; after it, what an
/// exchange needs is given back.
const LULL_MS: u64 = 100;

/// What a port promises.
pub struct Port {
    /// TLS, with these certificates.
    pub tls: Option<runtime::tls::Acceptor>,
    /// Whether HTTP/2 is spoken in the clear.
    pub http2: bool,
    /// Whether every connection begins with a PROXY header; one without is closed.
    pub proxy_protocol: bool,
}

/// A connection that is ready for requests.
struct Opened {
    h1: H1,
    facts: ClientFacts,
    /// The handshake agreed on HTTP/2.
    spoken_h2: bool,
    /// No handshake, but a request in the clear.
    should_be_tls: bool,
}

/// How long a connection that is one too many may take for each step, so that the next can be told.
const OVER_MS: u64 = 1_000;

/// Serves a connection until it ends.
///
/// Its future is what an idle connection costs: all that is large is boxed and gone while it waits.
pub async fn serve(core: Rc<Core>, port: Rc<Port>, accepted: Accepted) {
    let over = accepted.over;
    let Some(Opened { mut h1, mut facts, spoken_h2, should_be_tls }) =
        Box::pin(open(&core, &port, accepted)).await
    else {
        return;
    };
    if should_be_tls {
        return Box::pin(refuse_plain(&core, h1, &facts)).await;
    }
    if spoken_h2 {
        return Box::pin(serve_h2(core, h1, facts, over)).await;
    }
    let mut first = true;
    let mut left = core.settings.keepalive_requests_max.max(1);
    let may_be_h2 = port.http2 && port.tls.is_none();
    loop {
        let waiting = core.begins_to_wait();
        if !h1.wait(first).await {
            return;
        }
        drop(waiting);
        if first && may_be_h2 && Box::pin(speaks_h2(&mut h1)).await {
            return Box::pin(serve_h2(core, h1, facts, over)).await;
        }
        first = false;
        let served = Box::pin(busy(&core, h1, &mut facts, &mut left, over)).await;
        let Some(kept) = served else { return };
        h1 = kept;
    }
}

/// Shakes hands where the port promises TLS. `None` when the client went or did not agree.
async fn open(core: &Core, port: &Port, mut accepted: Accepted) -> Option<Opened> {
    let mut facts = ClientFacts {
        ip: accepted.peer.addr.ip(),
        port: accepted.peer.addr.port(),
        peer: accepted.peer.addr,
        trusted: core.settings.trust.has(accepted.peer.addr.ip()),
        scheme: scheme(port.tls.is_some()),
        local_ip: accepted.peer.local.ip(),
        local_port: accepted.peer.local.port(),
        shown_port: core.settings.shown_port(accepted.peer.local.port()),
        sni: None,
        connection: core.next_connection(),
        requests: 0,
        tls: None,
    };
    let usual = core.settings.patience;
    let patience = if accepted.over { usual.at_most(OVER_MS) } else { usual };
    let (mut spoken_h2, mut should_be_tls) = (false, false);
    let deadline = Deadline::new(accepted.reader.closer());
    let mut first = Piece::empty();
    if port.proxy_protocol {
        deadline.arm(patience.client_header_ms);
        let told = proxy_header(&mut accepted.reader).await;
        deadline.disarm();
        let (told, rest) = told.map_err(|fault| log::info!("{}: {fault}", facts.peer)).ok()?;
        first = rest;
        let trust = &core.settings.trust;
        if let Told::Ends { client, .. } = told
            && facts.trusted
            && trust.by_proxy_protocol()
        {
            (facts.ip, facts.port) = (client.ip(), client.port());
        }
    }
    if port.tls.is_some() {
        if first.is_empty() {
            deadline.arm(patience.client_header_ms);
            first = first_bytes(&mut accepted.reader).await.ok()?;
            deadline.disarm();
        }
        should_be_tls = first.first().is_some_and(u8::is_ascii_alphabetic);
    }
    let (reader, writer) = match &port.tls {
        None => (WireReader::Plain(accepted.reader), WireWriter::Plain(accepted.writer)),
        Some(_) if should_be_tls => {
            (WireReader::Plain(accepted.reader), WireWriter::Plain(accepted.writer))
        }
        Some(acceptor) => {
            deadline.arm(patience.client_header_ms);
            let shaken = acceptor.accept(accepted.reader, accepted.writer, first).await;
            first = Piece::empty();
            deadline.disarm();
            let (reader, writer, greeting) = shaken.ok()?;
            facts.sni = greeting.server_name.map(Rc::from);
            facts.tls = Some(TlsNames { version: greeting.version, cipher: greeting.cipher });
            spoken_h2 = greeting.http2;
            (WireReader::Tls(Box::new(reader)), WireWriter::Tls(writer))
        }
    };
    let h1 = H1::new(Inbox::with(reader, first), writer, patience, core.settings.limits);
    Some(Opened { h1, facts, spoken_h2, should_be_tls })
}

/// What a client says first; waits for it without a buffer.
async fn first_bytes(reader: &mut Reader) -> std::io::Result<Piece> {
    reader.readable().await?;
    let (read, page) = reader.read(Page::take()).await;
    match read? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(page.freeze()),
    }
}

/// Answers a request that came in the clear where TLS is spoken, in the clear.
async fn refuse_plain(core: &Core, mut h1: H1, facts: &ClientFacts) {
    let mut exchange = core.begin(facts);
    // Whatever its head says, the answer is the same.
    let _head = h1.request(&mut exchange.request).await;
    core.number(&mut exchange);
    h1.end_after_this();
    let mut client = Client::H1(h1);
    let fault = Fault::from(What::PlainOnTlsPort);
    let _gone = road::refuse(core, &mut client, &mut exchange, &fault).await;
    core.end(exchange);
    if let Client::H1(h1) = client {
        h1.close().await;
    }
}

/// Reads the PROXY header; gives what it says and what was read behind it.
async fn proxy_header(reader: &mut Reader) -> std::io::Result<(Told, Piece)> {
    let mut page = Page::take();
    // A page is longer than the longest header.
    loop {
        let read;
        (read, page) = reader.read(page).await;
        if read? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let parsed = proxy_protocol::parse(page.bytes());
        if let Some((used, told)) = parsed.map_err(std::io::Error::other)? {
            let mut rest = page.freeze();
            rest.advance(used);
            return Ok((told, rest));
        }
    }
}

/// Serves requests while they follow each other. Gives the connection back when it may wait for
/// more.
async fn busy(
    core: &Core,
    h1: H1,
    facts: &mut ClientFacts,
    left: &mut u64,
    over: bool,
) -> Option<H1> {
    let mut client = Client::H1(h1);
    let mut exchange = core.begin(facts);
    let lull = Timer::default();
    let kept = loop {
        *left = left.saturating_sub(1);
        facts.requests += 1;
        exchange.client.requests = facts.requests;
        let kept = one(core, &mut client, &mut exchange, *left == 0, over).await;
        let Client::H1(h1) = &mut client else { break kept };
        if !kept || core.is_draining() {
            break kept;
        }
        exchange.reset();
        if !h1.has_more() {
            let _waiting = core.begins_to_wait();
            if lull.within(LULL_MS, h1.more()).await.is_none() {
                break kept;
            }
        }
    };
    core.end(exchange);
    let Client::H1(h1) = client else { return None };
    // The order to drain may have come after the head had promised more.
    if kept && !core.is_draining() {
        return Some(h1);
    }
    h1.close().await;
    None
}

/// One request and its response; whether another may follow.
async fn one(
    core: &Core,
    client: &mut Client,
    exchange: &mut Exchange,
    is_last: bool,
    over: bool,
) -> bool {
    let Client::H1(h1) = client else { return false };
    let read = h1.request(&mut exchange.request).await;
    let _busy = core.begins_exchange();
    if is_last || core.is_draining() {
        h1.end_after_this();
    }
    match read {
        Ok(()) if core.sheds(over) => {
            core.number(exchange);
            h1.end_after_this();
            let _gone = road::refuse(core, client, exchange, &What::Overloaded.into()).await;
            return false;
        }
        Ok(()) => {
            core.number(exchange);
            if road::travel(core, client, exchange).await.is_err() {
                return false;
            }
        }
        Err(HeadEnd::Closed) => return false,
        Err(HeadEnd::Broken(error)) => {
            log::debug!("a client broke off in its request: {error}");
            return false;
        }
        Err(HeadEnd::Fault(fault)) => {
            core.number(exchange);
            h1.end_after_this();
            let _gone = road::refuse(core, client, exchange, &Fault::from(fault)).await;
            return false;
        }
    }
    matches!(client, Client::H1(h1) if h1.persists())
}

/// Whether the connection begins with HTTP/2's preface; it is told by its first bytes.
async fn speaks_h2(h1: &mut H1) -> bool {
    match h1.first_bytes().await {
        // No HTTP/1 method begins like this, so a part of the preface is enough.
        Ok(bytes) => bytes.len() >= 4 && h2::preface(bytes) != h2::Preface::No,
        Err(_) => false,
    }
}

/// Streams, side by side; each is one exchange on the same road.
async fn serve_h2(core: Rc<Core>, h1: H1, mut facts: ClientFacts, over: bool) {
    let (inbox, writer) = h1.into_parts();
    let (reader, first) = inbox.into_parts();
    let limits = h2::Limits {
        head: core.settings.limits,
        requests_max: core.settings.keepalive_requests_max,
        idle_ms: core.settings.patience.keepalive_ms,
        ..h2::Limits::default()
    };
    let draining = Rc::clone(&core);
    let rest = Rc::new(core.begins_to_rest());
    let served = h2::serve(
        reader,
        writer,
        first,
        &limits,
        move || over || draining.is_draining(),
        |stream| {
            facts.requests += 1;
            stream_travels(Rc::clone(&rest), facts.clone(), stream, over)
        },
    );
    if let Err(fault) = served.await {
        log::debug!("an HTTP/2 connection ended: {fault}");
    }
}

async fn stream_travels(rest: Rc<Rest>, facts: ClientFacts, stream: h2::Stream, over: bool) {
    let _moves = rest.interrupted();
    let core = rest.core();
    let _busy = core.begins_exchange();
    let mut exchange = core.begin(&facts);
    let patience = core.settings.patience;
    let (client, fault) = H2::new(stream, &mut exchange.request, patience);
    let mut client = Client::H2(client);
    core.number(&mut exchange);
    let refused = match fault {
        Some(fault) => Some(Fault::from(fault)),
        None => core.sheds(over).then(|| What::Overloaded.into()),
    };
    let ended = match refused {
        None => road::travel(core, &mut client, &mut exchange).await,
        Some(fault) => road::refuse(core, &mut client, &mut exchange, &fault).await,
    };
    if ended.is_err() {
        client.abort();
    }
    core.end(exchange);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the future that a function gives.
    fn bytes<F: Future>(_: impl FnOnce(Rc<Core>, Rc<Port>, Accepted) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_waiting_connection_is_small() {
        assert!(bytes(serve) <= 1_024, "{}", bytes(serve));
    }
}

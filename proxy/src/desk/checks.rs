//! Active checks: rounds over the peers of an Upstream, some at a time.
//!
//! Source: lua-resty-healthcheck `lib/resty/healthcheck.lua` (`run_single_check`). It speaks
//! HTTP/1.0; we speak 1.1, as later versions of it do. It asks gRPC servers with a plain GET, which
//! none of them understands; we ask their health service.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use runtime::clock;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::grpc;
use crate::balance::Seat;
use crate::balance::marks::Sign;
use crate::balance::registry::{Registry, Round};
use crate::balance::upstream::{Active, Speech, Upstream};

/// How often the desk looks for rounds that are due, and for marks that cores have set.
const LOOK: Duration = Duration::from_millis(100);
/// A status line is read up to this.
const STATUS_LINE_BYTES_MAX: usize = 1_024;

/// TLS towards peers that are checked.
#[derive(Clone)]
pub struct Trust {
    /// Checks certificates: with HTTP/1.1, and with HTTP/2.
    pub checking: [Arc<ClientConfig>; 2],
    /// Believes every certificate.
    pub believing: [Arc<ClientConfig>; 2],
}

/// Runs rounds for ever.
pub(super) async fn run(registry: Arc<Registry>, trust: Rc<Trust>) {
    loop {
        for due in registry.due_rounds(clock::now_us()) {
            tokio::task::spawn_local(round(Arc::clone(&registry), Rc::clone(&trust), due));
        }
        tokio::time::sleep(LOOK).await;
        registry.sweep();
    }
}

/// One round: as many at a time as the Upstream says.
async fn round(registry: Arc<Registry>, trust: Rc<Trust>, round: Round) {
    let Round { upstream, seats, running, trust: own } = round;
    let workers = upstream.active.concurrency.min(seats.len());
    let waiting = Rc::new(RefCell::new(VecDeque::from(seats)));
    let worker = || {
        let (registry, trust, own) = (Arc::clone(&registry), Rc::clone(&trust), own.clone());
        let (upstream, waiting) = (Arc::clone(&upstream), Rc::clone(&waiting));
        tokio::task::spawn_local(async move {
            loop {
                let next = waiting.borrow_mut().pop_front();
                let Some(seat) = next else { return };
                let trust = own.as_deref().unwrap_or(&trust);
                if let Some(sign) = check(&upstream, &seat, trust).await {
                    registry.checked(&upstream, &seat.vital, sign);
                }
            }
        })
    };
    let all: Vec<_> = (0..workers).map(|_| worker()).collect();
    for one in all {
        let _ended = one.await;
    }
    drop(running);
}

/// Checks one peer; nothing where its status counts neither way.
async fn check(upstream: &Upstream, seat: &Seat, trust: &Trust) -> Option<Sign> {
    let active = &upstream.active;
    let limit = Duration::from_millis(active.timeout_ms);
    match tokio::time::timeout(limit, ask(active, seat, trust)).await {
        Err(_) => Some(Sign::Timeout),
        Ok(Err(error)) => {
            log::debug!("a check of {} at {} failed: {error}", seat.host, seat.address);
            Some(Sign::TcpFailure)
        }
        Ok(Ok(Asked::Sign(sign))) => Some(sign),
        Ok(Ok(Asked::Status(status))) => active.rules.sign(status),
    }
}

/// What a peer answered.
pub(super) enum Asked {
    /// This status; 0 if it is none.
    Status(u16),
    /// What it says was understood at once.
    Sign(Sign),
}

async fn ask(active: &Active, seat: &Seat, trust: &Trust) -> std::io::Result<Asked> {
    let stream = TcpStream::connect(seat.address).await?;
    let host = &*seat.host;
    let config = |http2: bool| {
        let both = if active.verified { &trust.checking } else { &trust.believing };
        // IN BOUNDS: a flag is 0 or 1.
        TlsConnector::from(Arc::clone(&both[usize::from(http2)]))
    };
    let name = || {
        let name = active.https_sni.as_deref().unwrap_or(seat.tls_name());
        ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)
    };
    match active.speech {
        Speech::Tcp => Ok(Asked::Sign(Sign::Success)),
        Speech::Http => http(stream, active, host).await,
        Speech::Https => http(config(false).connect(name()?, stream).await?, active, host).await,
        Speech::Grpc => grpc::ask(stream, host, false).await,
        Speech::Grpcs => grpc::ask(config(true).connect(name()?, stream).await?, host, true).await,
    }
}

/// Asks with GET and reads the status line.
async fn http(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    active: &Active,
    host: &str,
) -> std::io::Result<Asked> {
    stream.write_all(request(active, host).as_bytes()).await?;
    stream.flush().await?;
    let mut line = Vec::new();
    while !line.contains(&b'\n') && line.len() < STATUS_LINE_BYTES_MAX {
        if stream.read_buf(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Asked::Status(status(&line).unwrap_or(0)))
}

fn request(active: &Active, host: &str) -> String {
    let mut head =
        format!("GET {} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n", active.http_path);
    let whole = |text: &str| !text.contains(['\r', '\n', '\0']);
    for (name, value) in active.headers.iter().filter(|(n, v)| whole(n) && whole(v)) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head
}

/// The status in a status line.
fn status(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line.split(|byte| *byte == b'\n').next()?).ok()?;
    let (version, rest) = line.split_once(' ')?;
    version.strip_prefix("HTTP/").filter(|version| version.contains('.'))?;
    rest.trim_start().get(..3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::upstream::Algorithm;

    #[test]
    fn a_status_line_has_a_status() {
        for (line, expected) in [
            ("HTTP/1.1 200 OK\r\nX: y", Some(200)),
            ("HTTP/1.0 503\r\n", Some(503)),
            ("HTTP/1.1  404 Not Found\n", Some(404)),
            ("HTTP/1.1 2\r\n", None),
            ("SSH-2.0-x\r\n", None),
            ("HTTP 200\r\n", None),
            ("", None),
        ] {
            assert_eq!(status(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn header_lines_are_sent_whole_or_not_at_all() {
        let mut active = Upstream::sample(Algorithm::RoundRobin).active;
        active.headers =
            Box::new([("X-One".into(), "1".into()), ("X-Two".into(), "2\r\nX-Three: 3".into())]);
        assert_eq!(
            request(&active, "a.example"),
            "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nX-One: 1\r\n\r\n"
        );
    }
}

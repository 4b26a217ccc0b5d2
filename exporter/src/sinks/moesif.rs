//! Moesif's events API over HTTP.
//!
//! Source: Moesif's API reference (`POST /v1/events/batch`); headers as `kong-plugin-moesif` sends
//! them.

use crate::moesif::settings::Settings;
use crate::ping::seconds_of;
use crate::recent::Recents;
use crate::remote::Fetching;
use crate::sink::{Outcome, Sink};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use runtime::clock;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use ureq::Agent;
use ureq::http::{Response, StatusCode};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

/// What we call ourselves.
pub const USER_AGENT: &str = concat!("tollgate/", env!("CARGO_PKG_VERSION"));
/// How much of an answer is read: nothing in it matters but its end.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// Idle connections that are kept: as many as may be in flight.
const IDLE_CONNECTIONS_MAX: usize = crate::queue::FLIGHTS_MAX;

/// Whom to trust when a destination shows its certificate.
#[derive(Clone)]
pub struct Trust(RootCerts);

impl Trust {
    /// The system's certificates, those of `files`, and Mozilla's where the system has none.
    pub fn load(files: &[impl AsRef<Path>]) -> Self {
        const SYSTEM: [&str; 3] = [
            "/etc/ssl/certs/ca-certificates.crt",
            "/etc/pki/tls/certs/ca-bundle.crt",
            "/etc/ssl/cert.pem",
        ];
        let system = SYSTEM.iter().map(Path::new).find(|path| path.exists());
        let mut certificates: Vec<Certificate<'static>> = Vec::new();
        for path in system.into_iter().chain(files.iter().map(AsRef::as_ref)) {
            match std::fs::read(path) {
                Ok(pem) => certificates.extend(parse_pem(&pem).filter_map(|item| match item {
                    Ok(PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                })),
                Err(fault) => log::warn!("cannot read certificates {}: {fault}", path.display()),
            }
        }
        if certificates.is_empty() {
            return Self(RootCerts::WebPki);
        }
        Self(RootCerts::new_with_certs(&certificates))
    }
}

/// A client with these time limits, for connecting, sending and reading, each; it keeps at most
/// `idle_max` idle connections, for `idle_ms`.
pub(crate) fn agent(trust: &Trust, limit_ms: u64, idle_max: usize, idle_ms: u64) -> Agent {
    let limit = Some(Duration::from_millis(limit_ms));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(trust.0.clone())
        .unversioned_rustls_crypto_provider(provider)
        .build();
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .timeout_connect(limit)
        .timeout_send_request(limit)
        .timeout_send_body(limit)
        .timeout_recv_response(limit)
        .timeout_recv_body(limit)
        .max_idle_connections(idle_max)
        .max_idle_connections_per_host(idle_max)
        .max_idle_age(Duration::from_millis(idle_ms))
        .tls_config(tls)
        .user_agent(USER_AGENT)
        .build();
    Agent::new_with_config(config)
}

/// What all applications share.
pub(crate) struct Common {
    /// Whom to trust.
    pub(crate) trust: Trust,
    /// Who asks about applications.
    pub(crate) fetching: Arc<Fetching>,
    /// Their last events.
    pub(crate) recents: Arc<Recents>,
}

/// One application.
pub struct Moesif {
    agent: Agent,
    lane: u64,
    common: Arc<Common>,
    debug: bool,
    url: String,
    application_id: String,
    compress: bool,
}

impl Moesif {
    /// The sink of one application with the sending settings of one row. Tags in answers are told
    /// to the fetchers.
    pub(crate) fn new(settings: &Settings, common: &Arc<Common>) -> Self {
        let lane = settings.target().lane();
        if !settings.debug {
            common.recents.forget(lane);
        }
        Self {
            agent: agent(
                &common.trust,
                settings.send_timeout_ms,
                IDLE_CONNECTIONS_MAX,
                settings.keepalive_ms,
            ),
            lane,
            common: Arc::clone(common),
            debug: settings.debug,
            // Plain concatenation, as in the original: a path prefix works.
            url: format!("{}/v1/events/batch", settings.api_endpoint),
            application_id: settings.application_id.clone(),
            compress: settings.enable_compression,
        }
    }
}

impl Moesif {
    /// Moesif says with each batch which configuration and which rules are the newest; and what it
    /// has taken is what a person may want to see.
    fn note(&self, answer: &Response<ureq::Body>, batch: &[u8]) {
        if !answer.status().is_success() {
            return;
        }
        let tag = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let tags = (tag("x-moesif-config-etag"), tag("x-moesif-rules-tag"));
        self.common.fetching.saw(self.lane, tags.0, tags.1);
        if self.debug {
            self.common.recents.keep(self.lane, batch);
        }
    }
}

impl Sink for Moesif {
    fn deliver(&self, batch: Vec<u8>, events: usize) -> Outcome {
        let mut request = self
            .agent
            .post(&self.url)
            .header("Content-Type", "application/json")
            .header("X-Moesif-Application-Id", &self.application_id);
        let compressed = if self.compress { deflated(&batch).ok() } else { None };
        if compressed.is_some() {
            request = request.header("Content-Encoding", "deflate");
        }
        match request.send(compressed.as_deref().unwrap_or(&batch)) {
            Ok(answer) => {
                self.note(&answer, &batch);
                outcome(answer, events)
            }
            Err(fault) => {
                let why = format!("failed to send request: {fault}");
                Outcome::Later { why, retry_after_ms: None }
            }
        }
    }
}

/// zlib (RFC 1950), which is what HTTP calls deflate.
fn deflated(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

fn outcome(mut answer: Response<ureq::Body>, events: usize) -> Outcome {
    let status = answer.status();
    // Read to its end, so that the connection can be used again.
    let _rest = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
    if status.is_success() {
        return Outcome::Delivered;
    }
    let status_and_events = |more: &str| {
        let status = status.as_u16();
        format!("failed to send {events} events with response status - {status}{more}")
    };
    match status {
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => {
            Outcome::Refused { why: status_and_events("") }
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Outcome::Paused {
            why: status_and_events(
                ": the application id is not accepted, sending is paused (try `tollgate moesif \
                 ping`)",
            ),
        },
        StatusCode::PAYMENT_REQUIRED => Outcome::Paused {
            why: status_and_events(": the subscription is not active, sending is paused"),
        },
        _ => {
            let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
            let retry_after_ms = after.and_then(|after| wait_ms(after, clock::wall_us()));
            Outcome::Later { why: status_and_events(""), retry_after_ms }
        }
    }
}

/// Milliseconds of a `Retry-After`: seconds, or a date.
fn wait_ms(after: &str, wall_us: u64) -> Option<u64> {
    let after = after.trim();
    match after.parse::<u64>() {
        Ok(seconds) => Some(seconds.saturating_mul(1_000)),
        Err(_) => {
            let at_ms = seconds_of(after)?.saturating_mul(1_000);
            Some(at_ms.saturating_sub(wall_us / 1_000))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_seconds_or_a_date() {
        let now_us = 784_111_770_000_000;
        assert_eq!(wait_ms(" 7 ", now_us), Some(7_000));
        assert_eq!(wait_ms("Sun, 06 Nov 1994 08:49:37 GMT", now_us), Some(7_000));
        assert_eq!(wait_ms("Sun, 06 Nov 1994 08:49:20 GMT", now_us), Some(0));
        assert_eq!((wait_ms("soon", now_us), wait_ms("-1", now_us)), (None, None));
    }
}

//! Made-up exchanges for the tests.

use exporter::event::{
    Body, BodyState, Consumer, Credential, Direction, Lines, Report, RowRef, Scheme,
};
use exporter::moesif::settings::Settings;
use exporter::{Destination, DestinationKind, Exporter};
use runtime::ring::Producer;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// Reports of one plugin row.
pub(crate) struct Traffic {
    pub(crate) row: RowRef,
    pub(crate) target: &'static str,
    seed: u64,
    count: u64,
}

impl Traffic {
    pub(crate) const fn new(row: RowRef, seed: u64) -> Self {
        Self { row, target: "/items?x=1", seed, count: 0 }
    }

    /// Commits one exchange; gives its transaction id, or `None` if the ring refused.
    pub(crate) fn commit(&mut self, producer: &mut Producer, body: &str) -> Option<String> {
        self.count += 1;
        let id = Uuid::from_u64_pair(self.seed, self.count);
        self.report(id, body, |report| report.commit(producer)).then(|| id.to_string())
    }

    fn report<T>(&self, id: Uuid, body: &str, act: impl FnOnce(&Report<'_>) -> T) -> T {
        let now_us = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
        let half = body.len() / 2;
        let pieces = [&body.as_bytes()[..half], &body.as_bytes()[half..]];
        let body = Body { state: BodyState::Captured, pieces: &pieces };
        act(&Report {
            rows: &[self.row],
            transaction_id: *id.as_bytes(),
            started_us: now_us - 1_500,
            ended_us: now_us,
            direction: Direction::Incoming,
            scheme: Scheme::Http,
            host: b"api.example.com",
            port: 8000,
            target: self.target.as_bytes(),
            method: "POST",
            client_ip: "203.0.113.9".parse().unwrap(),
            client_ip_headers_trusted: true,
            access_ran: true,
            request_fields: Lines::Pairs(&[
                (b"Host", b"api.example.com"),
                (b"User-Agent", b"curl/8.5"),
                (b"Content-Type", b"application/json"),
                (b"Authorization", b"Basic U0VDUkVUNDp4"),
            ]),
            request_body: body,
            status: 200,
            response_fields: Lines::Pairs(&[(b"Content-Type", b"application/json")]),
            response_fields_more: Lines::Pairs(&[]),
            response_body: Body { state: BodyState::Captured, pieces: &[b"{\"ok\":true}"] },
            consumer: Consumer { username: Some("alice"), ..Consumer::default() },
            credential: Credential::default(),
            service_name: Some("items"),
            route_hosts: None,
            blocked_by: None,
            weight: 1,
        })
    }
}

/// Configures a moesif row; `config` needs no application id.
pub(crate) fn configure(exporter: &Exporter, row: u128, config: &Value) -> RowRef {
    let mut config = config.clone();
    config["application_id"] = json!("application-0123456789");
    let (row_id, version) = (Uuid::from_u128(row), 1);
    let fingerprint = Settings::parse(&config).unwrap().fingerprint();
    let kind = DestinationKind::Moesif(config);
    exporter.configure(&Destination { row_id, version, kind }).unwrap();
    RowRef { id: row_id, version, fingerprint }
}

//! moesif: reports every exchange to Moesif, for analytics and monetization.
//!
//! On the core it only decides what is captured and commits one record to the ring; everything that
//! costs thought (masks, JSON, identification, sending) is the exporter's.
//!
//! A row cannot be set on a consumer, as recorded from Kong, though the plugin's documentation
//! names `consumer_id`: the consumer is the user in Moesif, and its rates and rules are set there.
//! A row with a consumer that a database has from older versions is in force.
//!
//! Source: Moesif `kong-plugin-moesif` 2.1.2, `kong/plugins/moesif/{schema,handler}.lua`.

mod govern;
mod schema;
mod shown;

use exporter::DestinationKind;
use exporter::event::{
    Body, BodyState, Consumer, Credential, Direction, Lines, Report, RowRef, Scheme,
};
use exporter::moesif::settings::Settings;
use govern::{Access, Judge};
use runtime::http::head::{Known, Name, Version};
use smallvec::SmallVec;
use std::sync::Arc;
use uuid::Uuid;

use crate::pdk::{
    self, Capture, Config, Exchange, Fault, Phase, Plugin, Prepared, Scheme as Spoken, Spec, Step,
};

/// The plugin.
pub static PLUGIN: Spec = Spec {
    schema: schema::SCHEMA,
    phases: &[Phase::Access, Phase::HeaderFilter, Phase::Log],
    entities: &[],
    endpoints: shown::ENDPOINTS,
    prepare,
};

const TRANSACTION_ID: &str = "X-Moesif-Transaction-Id";
const TRANSACTION_LINE: Name = Name::new("X-Moesif-Transaction-Id: ");

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let settings = Settings::parse(&config.record().to_json()).ok_or_else(|| Fault {
        field: "application_id",
        message: "required field missing".to_owned(),
    })?;
    let row = config.row();
    let row = RowRef { id: row.id(), version: row.version(), fingerprint: settings.fingerprint() };
    // Of the settings, not of the row: a row that an older version wrote may lack fields.
    let wanted = |disabled: bool, bytes_max: u64| (!disabled).then_some(bytes_max as usize);
    let request_bytes_max =
        wanted(settings.disable_capture_request_body, settings.request_body_bytes_max);
    let response_bytes_max =
        wanted(settings.disable_capture_response_body, settings.response_body_bytes_max);
    let disable_transaction_id = settings.disable_transaction_id;
    let settings = Arc::new(settings);
    let destination = DestinationKind::Moesif(config.record().to_json());
    let prepared = Prepared::new(move || {
        Box::new(Moesif {
            row,
            request_bytes_max,
            response_bytes_max,
            disable_transaction_id,
            judge: Judge::new(Arc::clone(&settings)),
        })
    });
    Ok(prepared.reporting_to(destination))
}

struct Moesif {
    row: RowRef,
    request_bytes_max: Option<usize>,
    response_bytes_max: Option<usize>,
    disable_transaction_id: bool,
    judge: Judge,
}

impl Plugin for Moesif {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Step<'a> {
        let id = exchange.event_id();
        exchange.reported_access = true;
        let access = self.judge.access(exchange, self.request_bytes_max);
        if let Access::Body { bytes_max } = access {
            return Step::Body { bytes_max };
        }
        if let Some(bytes_max) = self.request_bytes_max.filter(|_| is_reported(exchange)) {
            exchange.capture_request(bytes_max);
        }
        if !self.disable_transaction_id {
            let sent = exchange.request.fields.get(TRANSACTION_ID);
            if sent.is_none_or(|value| value.trim_ascii().is_empty()) {
                let mut text = Uuid::encode_buffer();
                let text = Uuid::from_bytes(id).hyphenated().encode_lower(&mut text);
                exchange.request.fields.put(TRANSACTION_LINE, text.as_bytes());
            }
        }
        match access {
            Access::Blocked(answer) => Step::answer(*answer),
            Access::Open | Access::Body { .. } => Step::NEXT,
        }
    }

    fn header_filter(&self, exchange: &mut Exchange) {
        if !self.disable_transaction_id {
            let sent =
                exchange.reported_access.then(|| exchange.request.fields.get(TRANSACTION_ID));
            match sent.flatten() {
                Some(id) => exchange.response.fields.put(TRANSACTION_LINE, id),
                None => exchange.response.fields.remove(TRANSACTION_ID) > 0,
            };
        }
        if exchange.reported_access && is_reported(exchange) {
            exchange.response_capture.bytes_max = self.response_bytes_max;
        }
    }

    fn log(&self, exchange: &mut Exchange) {
        let weight = self.judge.weight(exchange);
        if weight == 0 {
            return;
        }
        let transaction_id = exchange.event_id();
        let kit = std::rc::Rc::clone(&exchange.kit);
        let mut ring = kit.ring.borrow_mut();
        let Some(ring) = ring.as_mut() else { return };
        self.report(exchange, transaction_id, weight, ring);
    }
}

impl Moesif {
    fn report(
        &self,
        exchange: &Exchange,
        transaction_id: [u8; 16],
        weight: u32,
        ring: &mut runtime::ring::Producer,
    ) {
        let consumer = exchange.consumer.as_deref();
        let mut consumer_id = Uuid::encode_buffer();
        let consumer_id =
            consumer.map(|row| &*row.id().hyphenated().encode_lower(&mut consumer_id));
        let host = exchange.request.fields.get_known(Known::Host).unwrap_or_default();
        let hosts = hosts(exchange);
        let request_pieces = bytes(&exchange.request_capture);
        let response_pieces = bytes(&exchange.response_capture);
        let mut length = itoa::Buffer::new();
        let framing = framing(exchange, &mut length);
        let committed = Report {
            rows: &[self.row],
            transaction_id,
            started_us: exchange.times.started_wall_us,
            ended_us: exchange.ended_wall_us(),
            direction: Direction::Incoming,
            scheme: match exchange.client.scheme {
                Spoken::Http => Scheme::Http,
                Spoken::Https => Scheme::Https,
            },
            host: without_port(host),
            port: exchange.client.local_port,
            target: exchange.request.target(),
            method: exchange.request.method(),
            client_ip: exchange.client.ip,
            client_ip_headers_trusted: govern::believes_headers(exchange),
            access_ran: exchange.reported_access,
            request_fields: Lines::Fields(&exchange.request.fields),
            request_body: Body {
                state: state(self.request_bytes_max, &exchange.request_capture, exchange),
                pieces: &request_pieces,
            },
            status: exchange.response.status,
            response_fields: Lines::Fields(&exchange.response.fields),
            response_fields_more: Lines::Pairs(&framing),
            response_body: Body {
                state: state(self.response_bytes_max, &exchange.response_capture, exchange),
                pieces: &response_pieces,
            },
            consumer: Consumer {
                id: consumer_id,
                username: consumer.and_then(|row| row.text("username")),
                custom_id: consumer.and_then(|row| row.text("custom_id")),
            },
            credential: Credential {
                id: exchange.credential.as_ref().map(|credential| credential.id.as_str()),
                key: exchange.credential.as_ref().and_then(|c| c.key.as_deref()),
            },
            service_name: exchange.scope.service.as_deref().and_then(|row| row.text("name")),
            route_hosts: hosts.as_deref(),
            blocked_by: exchange.reporting.blocked_by.as_deref(),
            weight,
        }
        .commit(ring);
        if !committed {
            log::debug!("the event ring is full: an event is left out, and counted");
        }
    }
}

/// Whether the exchange is not sampled out, as far as that is known.
fn is_reported(exchange: &Exchange) -> bool {
    exchange.reporting.weight != Some(0)
}

/// Room for three lines.
type Pair<'a> = [(&'a [u8], &'a [u8]); 3];

/// The lines of the response's head that say where it ends; the road writes them by itself, unless
/// a plugin has put them into the fields.
fn framing<'a>(exchange: &Exchange, length: &'a mut itoa::Buffer) -> SmallVec<Pair<'a>> {
    let (passed, fields) = (&exchange.passed, &exchange.response.fields);
    let mut lines: SmallVec<Pair<'a>> = SmallVec::new();
    let mut add = |known: Known, name: &'static str, value: &'a str| {
        if !fields.has(known) {
            lines.push((name.as_bytes(), value.as_bytes()));
        }
    };
    if let Some(bytes) = passed.content_length {
        add(Known::ContentLength, "content-length", length.format(bytes));
    }
    if passed.chunked {
        add(Known::TransferEncoding, "transfer-encoding", "chunked");
    }
    if exchange.request.version != Version::H2 {
        let kept = if passed.keep_alive { "keep-alive" } else { "close" };
        add(Known::Connection, "connection", kept);
    }
    lines
}

fn bytes(capture: &Capture) -> SmallVec<[&[u8]; 4]> {
    capture.pieces.iter().map(|piece| &**piece).collect()
}

fn hosts(exchange: &Exchange) -> Option<SmallVec<[&str; 4]>> {
    let route = exchange.scope.route.as_deref()?;
    let hosts: SmallVec<[&str; 4]> = route.get("hosts").texts().collect();
    (!hosts.is_empty()).then_some(hosts)
}

/// The host without its port; an IPv6 address keeps its brackets.
fn without_port(host: &[u8]) -> &[u8] {
    let end = match memchr::memrchr(b':', host) {
        Some(at) if memchr::memchr(b']', host).is_none_or(|bracket| bracket < at) => at,
        _ => host.len(),
    };
    host.get(..end).unwrap_or(host)
}

fn state(wanted: Option<usize>, capture: &Capture, exchange: &Exchange) -> BodyState {
    match (wanted, capture.left_out) {
        _ if !exchange.reported_access => BodyState::NotRead,
        (None, _) => BodyState::Disabled,
        (Some(_), Some(pdk::LeftOut::TooLarge)) => BodyState::TooLarge,
        (Some(_), Some(pdk::LeftOut::NoRoom)) => BodyState::LeftOut,
        // HTTP/2 has bodies without a length.
        (Some(_), None) if capture.absent && capture.bytes == 0 => BodyState::None,
        (Some(_), None) => BodyState::Captured,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::script::{Script, answered, fault};

    fn script(config: serde_json::Value) -> Script {
        Script::new(&PLUGIN, config)
    }

    #[test]
    fn the_transaction_id_goes_both_ways_and_is_the_clients_if_it_sent_one() {
        let script = script(serde_json::json!({"application_id": "app"}));
        let plugin = script.plugin();
        for (sent, kept) in [(None, false), (Some(" "), false), (Some("mine"), true)] {
            let fields: Vec<_> = sent.map(|id| (TRANSACTION_ID, id)).into_iter().collect();
            let mut exchange = script.get("/", &fields);
            assert!(answered(plugin.access(&mut exchange)).is_none());
            plugin.header_filter(&mut exchange);
            let up = exchange.request.fields.get(TRANSACTION_ID).unwrap().to_vec();
            assert_eq!(exchange.response.fields.get(TRANSACTION_ID), Some(&up[..]));
            assert_eq!(up == b"mine", kept);
            let own = Uuid::from_bytes(exchange.event_id()).to_string();
            assert_eq!(up == own.as_bytes(), !kept, "an id of ours is the event's");
        }
    }

    #[test]
    fn without_access_an_upstreams_id_is_not_passed_on() {
        let script = script(serde_json::json!({"application_id": "app"}));
        let mut exchange = script.get("/", &[]);
        exchange.response.fields.add(TRANSACTION_ID, b"other");
        script.plugin().header_filter(&mut exchange);
        assert_eq!(exchange.response.fields.get(TRANSACTION_ID), None);
    }

    #[test]
    fn an_application_id_is_required() {
        assert!(
            fault(&PLUGIN, serde_json::json!({})).is_some_and(|f| f.contains("required field"))
        );
    }

    #[test]
    fn the_port_is_not_part_of_the_host() {
        for (host, expected) in
            [("a.example:80", "a.example"), ("a", "a"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]")]
        {
            assert_eq!(without_port(host.as_bytes()), expected.as_bytes());
        }
    }
}

//! What people can look at: how each application is doing, and what was sent to it last.

use exporter::{ApplicationState, Exporter};
use serde_json::{Value, json};
use store::admin::{Method, Reply};

use crate::pdk::Endpoint;

/// The endpoints of the plugin.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        path: "/plugins/moesif/status",
        methods: &[Method::Get],
        is_kongs: false,
        answer: |_, lent| Reply::json(200, &status(&lent.exporter)),
        ..Endpoint::EMPTY
    },
    Endpoint {
        path: "/plugins/moesif/recent",
        methods: &[Method::Get],
        is_kongs: false,
        answer: |_, lent| {
            let body = recent(&lent.exporter);
            Reply::of_type(200, "application/json; charset=utf-8", body)
        },
        ..Endpoint::EMPTY
    },
];

fn status(exporter: &Exporter) -> Value {
    let application = |state: &ApplicationState| {
        let mut shown = state.to_json();
        if let Some(members) = shown.as_object_mut() {
            let said = exporter.remote_state(state.lane).unwrap_or_default();
            members.insert("configuration".to_owned(), said);
        }
        shown
    };
    let applications: Vec<Value> = exporter.applications().iter().map(application).collect();
    json!({ "data": applications })
}

/// The events as they were sent: their texts are not read and written again.
fn recent(exporter: &Exporter) -> Vec<u8> {
    let mut body = b"{\"data\":[".to_vec();
    let mut first = true;
    for state in exporter.applications() {
        let events = exporter.recent(state.lane);
        if events.is_empty() {
            continue;
        }
        if !std::mem::replace(&mut first, false) {
            body.push(b',');
        }
        let label = Value::String(state.label);
        body.extend_from_slice(format!("{{\"application\":{label},\"events\":[").as_bytes());
        body.extend_from_slice(&events.join(&b','));
        body.extend_from_slice(b"]}");
    }
    body.extend_from_slice(
        b"],\"about\":\"the last 20 events of each application, while config.debug is on\"}",
    );
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use exporter::{Destination, DestinationKind, ExporterPlan};

    #[test]
    fn an_application_is_shown_before_it_has_events() {
        let prefix = tempfile::tempdir().unwrap();
        let plan = ExporterPlan {
            ring_dir: prefix.path().to_owned(),
            ..ExporterPlan::new(prefix.path().to_owned(), 1)
        };
        let exporter = exporter::start(&plan).unwrap();
        let config =
            json!({"application_id": "0123456789ab", "api_endpoint": "http://127.0.0.1:9"});
        let kind = DestinationKind::Moesif(config);
        let row_id = uuid::Uuid::from_u128(1);
        exporter.configure(&Destination { row_id, version: 1, kind }).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while status(&exporter)["data"].as_array().is_none_or(Vec::is_empty) {
            assert!(std::time::Instant::now() < deadline, "it is not shown");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let shown = status(&exporter);
        let shown = &shown["data"][0];
        assert_eq!(shown["application"], "\u{2026}23456789ab at http://127.0.0.1:9");
        assert_eq!((&shown["received"], &shown["queued"]), (&json!(0), &json!(0)));
        assert_eq!(shown["configuration"]["rules"], 0);
        let recent: Value = serde_json::from_slice(&recent(&exporter)).unwrap();
        assert_eq!(recent["data"], json!([]));
    }
}

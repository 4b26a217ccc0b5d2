//! prometheus: counts exchanges by route, and answers `GET /metrics` on the Admin API and on the
//! status port.
//!
//! Source: Kong `kong/plugins/prometheus/{schema,handler,exporter}.lua`; recorded scrapes. As
//! there, exchanges without a service are not counted, and what moves on the node is shown whether
//! or not a row is configured.

mod schema;
mod scrape;
mod text;

use std::rc::Rc;

use store::admin::Method;
use store::value::Row;
use uuid::Uuid;

use crate::pdk::meters::{Histogram, Labels};
use crate::pdk::{
    Config, Endpoint, Exchange, Fault, Origin, Phase, Plugin, Prepared, Spec, logging,
};

/// The plugin.
pub static PLUGIN: Spec = Spec {
    schema: schema::SCHEMA,
    phases: &[Phase::Log],
    entities: &[],
    endpoints: &[Endpoint {
        path: "/metrics",
        methods: &[Method::Get],
        on_status_port: true,
        answer: scrape::answer,
        ..Endpoint::EMPTY
    }],
    prepare,
};

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let switches = Switches {
        per_consumer: config.flag("per_consumer"),
        statuses: config.flag("status_code_metrics"),
        latency: config.flag("latency_metrics"),
        bytes: config.flag("bandwidth_metrics"),
    };
    Ok(Prepared::new(move || Box::new(switches)))
}

/// What a row counts.
#[derive(Clone, Copy)]
struct Switches {
    per_consumer: bool,
    statuses: bool,
    latency: bool,
    bytes: bool,
}

impl Plugin for Switches {
    fn log(&self, exchange: &mut Exchange) {
        // What has no route is not counted; a route may do without a service.
        let Some(route) = exchange.scope.route.as_deref() else { return };
        let service = exchange.scope.service.as_deref().map_or("", name_or_host);
        let kit = Rc::clone(&exchange.kit);
        let mut id = Uuid::encode_buffer();
        let route = match route.text("name") {
            Some(name) => name,
            None => route.id().hyphenated().encode_lower(&mut id),
        };
        let consumer = exchange.consumer.as_deref().filter(|_| self.per_consumer);
        let consumer = consumer.and_then(|row| row.text("username")).unwrap_or("");
        let labels = Labels { service, route, consumer };
        let from_service = exchange.origin == Origin::Upstream;
        if self.statuses {
            kit.counters.count(exchange.response.status, from_service, labels);
        }
        if self.bytes {
            let passed = &exchange.passed;
            kit.counters.add_bytes(passed.received_bytes, passed.sent_bytes, labels);
        }
        if self.latency {
            let times = logging::latencies(exchange);
            let times_ms = [
                (Histogram::OWN, Some(times.kong_ms)),
                (Histogram::UPSTREAM, times.proxy_ms),
                (Histogram::WHOLE, Some(times.request_ms)),
            ];
            kit.counters.observe(&times_ms, Labels { consumer: "", ..labels });
        }
    }
}

fn name_or_host(service: &Row) -> &str {
    service.text("name").or_else(|| service.text("host")).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::Scope;
    use crate::pdk::meters::Meter;
    use crate::pdk::script::Script;
    use serde_json::json;

    #[test]
    fn a_row_counts_what_it_is_told_to() {
        for (config, meters) in [
            (json!({}), 0),
            (json!({"status_code_metrics": true}), 1),
            (json!({"bandwidth_metrics": true, "latency_metrics": true}), 2),
        ] {
            let script = Script::new(&PLUGIN, config)
                .row("services", json!({"name": "s", "host": "h"}))
                .row("routes", json!({"name": "r", "paths": ["/"]}));
            let mut exchange = script.get("/", &[]);
            exchange.response.status = 200;
            let plugin = script.plugin();
            plugin.log(&mut exchange);
            assert_eq!(script.meters().series().count(), 0, "nothing without a route");
            let service = exchange.tables().all("services").next().cloned();
            let route = exchange.tables().all("routes").next().cloned();
            exchange.scope = Rc::new(Scope { route: route.clone(), service });
            plugin.log(&mut exchange);
            assert_eq!(script.meters().series().count(), meters);
            for series in script.meters().series() {
                assert_eq!(series.labels(), Labels { service: "s", route: "r", consumer: "" });
                if let Meter::Requests { status, from_service } = series.meter() {
                    assert_eq!((status, from_service, series.read()), (200, false, vec![1]));
                }
            }
            exchange.scope = Rc::new(Scope { route, service: None });
            plugin.log(&mut exchange);
            let unserved = |labels: Labels<'_>| labels.service.is_empty() && labels.route == "r";
            let counted = script.meters().series().filter(|series| unserved(series.labels()));
            assert_eq!(counted.count(), meters, "a route without a service");
        }
    }
}

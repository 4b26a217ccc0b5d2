//! datadog: counts and times each exchange at a Datadog agent, with tags.
//!
//! Source: Kong `kong/plugins/datadog/{schema,handler}.lua`; recorded datagrams. Without a host of
//! its own a row takes `KONG_DATADOG_AGENT_HOST`, without a port `KONG_DATADOG_AGENT_PORT`.

mod schema;

use exporter::logs::{Datadog, Form, LogDestination, LogSettings, Metric, UdpPlan, Way};
use store::value::Value;

use crate::pdk::logging::{Wanted, logging, queue_terms};
use crate::pdk::{Config, Fault, Phase, Prepared, Spec};

/// The plugin.
pub static PLUGIN: Spec =
    Spec { schema: schema::SCHEMA, phases: &[Phase::Log], entities: &[], endpoints: &[], prepare };

/// Name the agent's host and port for rows that name none.
const HOST: &str = "KONG_DATADOG_AGENT_HOST";
const PORT: &str = "KONG_DATADOG_AGENT_PORT";
/// Where agents listen.
const USUAL_PORT: u16 = 8_125;

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let text = |field| config.text(field).unwrap_or_default().to_owned();
    let host = config.text("host").map(str::to_owned);
    let host = host.or_else(|| std::env::var(HOST).ok()).unwrap_or_else(|| "localhost".to_owned());
    let port = config.integer("port").and_then(|port| port.try_into().ok());
    let port = port.or_else(|| std::env::var(PORT).ok()?.parse().ok()).unwrap_or(USUAL_PORT);
    // Every line is a datagram, as recorded.
    let way = Way::Udp(UdpPlan { host, port, lines_bytes_max: Some(0) });
    let datadog = Datadog {
        prefix: text("prefix"),
        service_tag: text("service_name_tag"),
        status_tag: text("status_tag"),
        consumer_tag: text("consumer_tag"),
        metrics: config.get("metrics").items().iter().map(metric).collect(),
    };
    let destination = LogDestination { plugin: "datadog", way, terms: queue_terms(config) };
    let form = Form::Datadog(Box::new(datadog));
    Ok(logging(config, LogSettings { destination, form, fields: Vec::new() }, Wanted::All))
}

fn metric(metric: &Value) -> Metric {
    let text = |name| metric.get(name).as_text().map(str::to_owned);
    Metric {
        name: text("name").unwrap_or_default(),
        kind: text("stat_type").unwrap_or_default(),
        sample_rate: metric.get("sample_rate").as_number(),
        consumer: text("consumer_identifier"),
        service: String::new(),
        workspace: String::new(),
        tags: metric.get("tags").texts().map(str::to_owned).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::script::Script;
    use serde_json::json;

    #[test]
    fn the_usual_metrics_are_tagged() {
        let prepared = Script::new(&PLUGIN, json!({})).prepared().unwrap();
        let Some(exporter::DestinationKind::Log(settings)) = prepared.destination() else {
            panic!("a log")
        };
        let Form::Datadog(datadog) = &settings.form else { panic!("datadog's form") };
        assert_eq!(datadog.metrics.len(), 6);
        assert!(datadog.metrics.iter().all(|metric| metric.tags == ["app:kong"]));
        assert_eq!(datadog.consumer_tag, "consumer");
    }
}

//! statsd: counts and times each exchange at a StatsD server.
//!
//! Source: Kong `kong/plugins/statsd/{schema,handler,log}.lua`; recorded datagrams. `shdict_usage`
//! is accepted and sends nothing: there are no shared dictionaries here.

mod schema;

use std::sync::Arc;

use exporter::logs::{
    Form, LogDestination, LogSettings, Metric, Statsd, TagStyle, TcpPlan, UdpPlan, Way,
};
use store::value::Value;

use crate::pdk::logging::{Wanted, logging, port, queue_terms};
use crate::pdk::{Config, Fault, Phase, Prepared, Spec};

/// The plugin.
pub static PLUGIN: Spec =
    Spec { schema: schema::SCHEMA, phases: &[Phase::Log], entities: &[], endpoints: &[], prepare };

/// How long a connection may take, and may rest, in milliseconds: Kong's fixed values.
const TIMEOUT_MS: u64 = 10_000;
const KEEPALIVE_MS: u64 = 60_000;

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let host = config.text("host").unwrap_or("localhost").to_owned();
    let port = port(config);
    let bytes_max = config.number("udp_packet_size").map_or(0, |bytes| bytes as usize);
    let way = if config.flag("use_tcp") {
        let (timeout_ms, keepalive_ms) = (TIMEOUT_MS, KEEPALIVE_MS);
        Way::Tcp(TcpPlan { host, port, timeout_ms, keepalive_ms, tls: None })
    } else {
        Way::Udp(UdpPlan { host, port, lines_bytes_max: Some(bytes_max) })
    };
    let statsd = Statsd {
        prefix: config.text("prefix").unwrap_or("kong").to_owned(),
        hostname_in_prefix: config.flag("hostname_in_prefix"),
        tags: config.text("tag_style").and_then(TagStyle::named),
        metrics: config.get("metrics").items().iter().map(|m| metric(config, m)).collect(),
    };
    let destination = LogDestination { plugin: "statsd", way, terms: queue_terms(config) };
    let form = Form::Statsd(Box::new(statsd));
    let settings = LogSettings { destination, form, fields: Vec::new() };
    Ok(logging(config, settings, wanted(config)))
}

fn metric(config: &Config<'_>, metric: &Value) -> Metric {
    let text = |name| metric.get(name).as_text();
    let or_usual = |name, usual| text(name).or_else(|| config.text(usual)).map(str::to_owned);
    Metric {
        name: text("name").unwrap_or_default().to_owned(),
        kind: text("stat_type").unwrap_or_default().to_owned(),
        sample_rate: metric.get("sample_rate").as_number(),
        consumer: or_usual("consumer_identifier", "consumer_identifier_default"),
        service: or_usual("service_identifier", "service_identifier_default").unwrap_or_default(),
        workspace: or_usual("workspace_identifier", "workspace_identifier_default")
            .unwrap_or_default(),
        tags: Vec::new(),
    }
}

/// `200-204` and the like; all where none is given.
fn wanted(config: &Config<'_>) -> Wanted {
    if config.get("allow_status_codes").is_null() {
        return Wanted::All;
    }
    let range = |text: String| {
        let (low, high) = text.split_once('-')?;
        Some((low.parse().ok()?, high.parse().ok()?))
    };
    let ranges: Arc<[_]> =
        config.texts("allow_status_codes").into_iter().filter_map(range).collect();
    Wanted::Statuses(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::script::Script;
    use serde_json::json;

    #[test]
    fn only_allowed_statuses_are_wanted() {
        let script = Script::new(&PLUGIN, json!({"allow_status_codes": ["200-204", "300-304"]}));
        let plugin = script.plugin();
        for (status, wanted) in [(200, 1), (204, 1), (205, 0), (301, 1), (404, 0)] {
            let mut exchange = script.get("/", &[]);
            exchange.response.status = status;
            plugin.log(&mut exchange);
            assert_eq!(exchange.logged_to.len(), wanted, "{status}");
        }
    }

    #[test]
    fn a_metric_has_the_rows_usual_identifiers() {
        let config = json!({"consumer_identifier_default": "username", "metrics": [
            {"name": "unique_users", "stat_type": "set"},
            {"name": "unique_users", "stat_type": "set", "consumer_identifier": "consumer_id"},
        ]});
        let prepared = Script::new(&PLUGIN, config).prepared().unwrap();
        let Some(exporter::DestinationKind::Log(settings)) = prepared.destination() else {
            panic!("a log")
        };
        let Form::Statsd(statsd) = &settings.form else { panic!("statsd's form") };
        let consumers: Vec<_> = statsd.metrics.iter().map(|m| m.consumer.as_deref()).collect();
        assert_eq!(consumers, [Some("username"), Some("consumer_id")]);
        assert_eq!(statsd.metrics[0].service, "service_name_or_host");
    }
}

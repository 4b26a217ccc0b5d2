//! udp-log: sends the log document of each exchange as a datagram.
//!
//! Source: Kong `kong/plugins/udp-log/{schema,handler}.lua`; recorded datagrams. A document that is
//! too long for a datagram is counted as refused.

use exporter::logs::{Form, LogDestination, LogSettings, Terms, UdpPlan, Way};
use store::schema::{PluginSchema, Preset, number, typical};

use crate::pdk::logging::{CUSTOM_FIELDS, Wanted, custom_fields, logging, port};
use crate::pdk::{Config, Fault, Phase, Prepared, Spec};

/// The plugin.
pub static PLUGIN: Spec = Spec {
    schema: PluginSchema {
        name: "udp-log",
        priority: 8,
        protocols: typical::PROTOCOLS,
        config: &[
            typical::host("host").required(),
            typical::port("port").required(),
            number(
                "timeout",
                "An optional timeout in milliseconds when sending data to the upstream server.",
            )
            .or(Preset::Integer(10_000)),
            CUSTOM_FIELDS,
        ],
        ..PluginSchema::EMPTY
    },
    phases: &[Phase::Log],
    entities: &[],
    endpoints: &[],
    prepare,
};

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let host = config.text("host").unwrap_or_default().to_owned();
    let way = Way::Udp(UdpPlan { host, port: port(config), lines_bytes_max: None });
    let destination = LogDestination { plugin: "udp-log", way, terms: Terms::PROMPT };
    let fields = custom_fields(config);
    Ok(logging(config, LogSettings { destination, form: Form::Document, fields }, Wanted::All))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::script::fault;
    use serde_json::json;

    #[test]
    fn a_target_has_host_and_port() {
        assert_eq!(fault(&PLUGIN, json!({"host": "a.example", "port": 9})), None);
        assert!(fault(&PLUGIN, json!({"port": 9})).is_some());
    }
}

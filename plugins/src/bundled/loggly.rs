//! loggly: sends the log document of each exchange to Loggly, as syslog datagrams.
//!
//! Source: Kong `kong/plugins/loggly/{schema,handler}.lua`; recorded datagrams.

use exporter::logs::{Form, LogDestination, LogSettings, Terms, UdpPlan, Way};
use store::schema::{Field, PluginSchema, Preset, number, set, text, typical};

use crate::pdk::logging::{
    CUSTOM_FIELDS, Wanted, custom_fields, fault, logging, port, severities, severity,
};
use crate::pdk::{Config, Fault, Phase, Prepared, Spec};

const TAG: Field = text("", "");

/// The plugin.
pub static PLUGIN: Spec = Spec {
    schema: PluginSchema {
        name: "loggly",
        priority: 6,
        protocols: typical::PROTOCOLS,
        config: &[
            typical::host("host").or(Preset::Text("logs-01.loggly.com")),
            typical::port("port").or(Preset::Integer(514)),
            text("key", "").required().referenceable().encrypted(),
            set("tags", "", &TAG).or(Preset::List(&[Preset::Text("kong")])),
            severity("log_level"),
            severity("successful_severity"),
            severity("client_errors_severity"),
            severity("server_errors_severity"),
            number("timeout", "").or(Preset::Integer(10_000)),
            CUSTOM_FIELDS,
        ],
        ..PluginSchema::EMPTY
    },
    phases: &[Phase::Log],
    entities: &[],
    endpoints: &[],
    prepare,
};

/// Facility `user`.
const USER: u8 = 1;
/// Loggly's number in names of structured elements.
const ENTERPRISE: u32 = 41_058;

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let key = config.text("key").unwrap_or_default();
    if key.chars().any(|c| c.is_control() || matches!(c, ' ' | '=' | ']' | '"')) {
        return fault("key", "a token has no spaces, quotes, brackets or equal signs");
    }
    let mut tags = format!("{key}@{ENTERPRISE}");
    for tag in config.texts("tags") {
        let tag = tag.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]");
        tags.push_str(&format!(" tag=\"{tag}\""));
    }
    let severities = severities(config, USER);
    let host = config.text("host").unwrap_or_default().to_owned();
    let way = Way::Udp(UdpPlan { host, port: port(config), lines_bytes_max: None });
    let destination = LogDestination { plugin: "loggly", way, terms: Terms::PROMPT };
    let (form, fields) = (Form::Loggly(severities, tags), custom_fields(config));
    let settings = LogSettings { destination, form, fields };
    Ok(logging(config, settings, Wanted::Severe(severities)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::script::{Script, fault};
    use exporter::DestinationKind;
    use serde_json::json;

    #[test]
    fn the_token_and_the_tags_are_one_structured_element() {
        let config = json!({"key": "K-2", "tags": ["a", "b \"c]"]});
        let prepared = Script::new(&PLUGIN, config).prepared().unwrap();
        let Some(DestinationKind::Log(settings)) = prepared.destination() else { panic!("a log") };
        let Form::Loggly(_, tags) = &settings.form else { panic!("loggly's form") };
        assert_eq!(tags, "K-2@41058 tag=\"a\" tag=\"b \\\"c\\]\"");
        assert!(fault(&PLUGIN, json!({"key": "a] x"})).is_some());
    }
}

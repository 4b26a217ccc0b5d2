//! tcp-log: writes the log document of each exchange as a line to a connection.
//!
//! Source: Kong `kong/plugins/tcp-log/{schema,handler}.lua`; recorded lines. Certificates are not
//! checked, as there. Where Kong loses an entry when the connection fails, it is tried again for a
//! minute here.

use exporter::logs::{Form, LogDestination, LogSettings, TcpPlan, Terms, Way};
use store::schema::{PluginSchema, Preset, boolean, integer, number, text, typical};

use crate::pdk::logging::{CUSTOM_FIELDS, Wanted, custom_fields, logging, milliseconds, port};
use crate::pdk::{Config, Fault, Phase, Prepared, Spec};

/// The plugin.
pub static PLUGIN: Spec = Spec {
    schema: PluginSchema {
        name: "tcp-log",
        priority: 7,
        protocols: typical::PROTOCOLS,
        config: &[
            typical::host("host").about("The IP address or host name to send data to.").required(),
            integer("port", "The port to send data to on the upstream server.")
                .required()
                .between(0, 65_535),
            number(
                "timeout",
                "An optional timeout in milliseconds when sending data to the upstream server.",
            )
            .or(Preset::Integer(10_000)),
            number(
                "keepalive",
                "An optional value in milliseconds that defines how long an idle connection lives \
                 before being closed.",
            )
            .or(Preset::Integer(60_000)),
            boolean(
                "tls",
                "Indicates whether to perform a TLS handshake against the remote server.",
            )
            .required()
            .or(Preset::Flag(false)),
            text(
                "tls_sni",
                "An optional string that defines the SNI (Server Name Indication) hostname to send \
                 in the TLS handshake.",
            ),
            CUSTOM_FIELDS.about(
                "A list of key-value pairs, where the key is the name of a log field and the value \
                 is a chunk of Lua code, whose return value sets or replaces the log field value.",
            ),
        ],
        ..PluginSchema::EMPTY
    },
    phases: &[Phase::Log],
    entities: &[],
    endpoints: &[],
    prepare,
};

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let plan = TcpPlan {
        host: config.text("host").unwrap_or_default().to_owned(),
        port: port(config),
        timeout_ms: milliseconds(config, "timeout"),
        keepalive_ms: milliseconds(config, "keepalive"),
        tls: config.flag("tls").then(|| config.text("tls_sni").map(str::to_owned)),
    };
    let destination =
        LogDestination { plugin: "tcp-log", way: Way::Tcp(plan), terms: Terms::PROMPT };
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
        assert!(fault(&PLUGIN, json!({"host": "a.example"})).is_some());
        assert!(fault(&PLUGIN, json!({"host": "a.example", "port": 99_999})).is_some());
    }
}

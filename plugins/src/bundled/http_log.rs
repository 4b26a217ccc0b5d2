//! http-log: sends the log document of each exchange to a server.
//!
//! Source: Kong `kong/plugins/http-log/{schema,handler}.lua`; recorded exchanges. As there, the
//! query of the endpoint is not sent, any answer but 2xx is tried again until `max_retry_time`, and
//! certificates are not checked.

mod schema;

use exporter::logs::{Form, HttpPlan, LogDestination, LogSettings, Way};
use store::value::Value;

use crate::pdk::logging::{Wanted, custom_fields, fault, logging, milliseconds, queue_terms};
use crate::pdk::{Config, Fault, Phase, Prepared, Spec};

/// The plugin.
pub static PLUGIN: Spec =
    Spec { schema: schema::SCHEMA, phases: &[Phase::Log], entities: &[], endpoints: &[], prepare };

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let text = |field, otherwise: &str| config.text(field).unwrap_or(otherwise).to_owned();
    let terms = queue_terms(config);
    let pair = |(name, value): &(Box<str>, Value)| {
        (name.to_string(), value.as_text().unwrap_or_default().to_owned())
    };
    let headers: Vec<_> = config.get("headers").pairs().iter().map(pair).collect();
    for (name, value) in &headers {
        let sendable = |byte: u8| byte == b'\t' || (b' '..0x7f).contains(&byte) || byte >= 0x80;
        if !value.bytes().all(sendable) {
            return fault("headers", format!("the value of {name} cannot be sent"));
        }
    }
    let plan = HttpPlan {
        url: text("http_endpoint", ""),
        method: text("method", "POST"),
        content_type: text("content_type", "application/json"),
        headers,
        timeout_ms: milliseconds(config, "timeout"),
        keepalive_ms: milliseconds(config, "keepalive"),
        single: terms.batch_entries_max == 1,
    };
    let destination = LogDestination { plugin: "http-log", way: Way::Http(plan), terms };
    let fields = custom_fields(config);
    Ok(logging(config, LogSettings { destination, form: Form::Document, fields }, Wanted::All))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::script::{Script, fault};
    use exporter::DestinationKind;
    use serde_json::json;

    #[test]
    fn rows_with_the_same_configuration_share_a_queue() {
        let destination = |fields: serde_json::Value| {
            let config = json!({"http_endpoint": "http://a/b", "custom_fields_by_lua": fields});
            let prepared = Script::new(&PLUGIN, config).prepared().unwrap();
            match prepared.destination() {
                Some(DestinationKind::Log(settings)) => settings.destination.clone(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(destination(json!({})), destination(json!({"a": "return 1"})));
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let config = |more: serde_json::Value| {
            let mut config = json!({"http_endpoint": "http://u:p@a/b"});
            config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            fault(&PLUGIN, config)
        };
        assert_eq!(config(json!({})), None);
        for headers in [json!({"Host": "x"}), json!({"content-type": "x"}), json!({"a": "b\nc"})] {
            assert!(config(json!({"headers": headers})).is_some(), "{headers}");
        }
        let both = config(json!({"headers": {"authorization": "x"}})).unwrap();
        assert!(both.contains("user info in 'http_endpoint' is not allowed"), "{both}");
    }
}

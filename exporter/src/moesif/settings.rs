//! The moesif plugin's configuration, as far as events and their sending depend on it.
//!
//! Source: `kong-plugin-moesif` `kong/plugins/moesif/schema.lua` (2.1.2); the default of
//! `event_queue_size` is the documented one. Values were checked by the Admin API; here anything
//! unknown or out of shape falls back to its default, because rows written by older versions of
//! the plugin must keep working.

use crate::sink::Target;
use serde_json::Value;
use std::hash::Hasher;

/// The default of the deprecated time limit, in milliseconds.
const TIMEOUT_MS: u64 = 1_000;

/// One plugin row's configuration at one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Sent as `X-Moesif-Application-Id`.
    pub application_id: String,
    /// Put in front of `/v1/...`; a path prefix is fine.
    pub api_endpoint: String,
    /// Milliseconds for connecting, sending and reading, each, of one GET.
    pub connect_timeout_ms: u64,
    /// Milliseconds for connecting, sending and reading, each, of one POST.
    pub send_timeout_ms: u64,
    /// Milliseconds that an idle connection is kept.
    pub keepalive_ms: u64,
    /// `event.request.api_version`.
    pub api_version: Option<String>,
    /// No request bodies.
    pub disable_capture_request_body: bool,
    /// No response bodies.
    pub disable_capture_response_body: bool,
    /// Longest request body that is captured, in bytes.
    pub request_body_bytes_max: u64,
    /// Longest response body that is captured, in bytes.
    pub response_body_bytes_max: u64,
    /// What is taken away before anything is written or sent.
    pub masks: Masks,
    /// Header of request or response that names the user.
    pub user_id_header: Option<String>,
    /// Header of request or response that names the company.
    pub company_id_header: Option<String>,
    /// Headers that may carry a token, in order.
    pub authorization_header_names: Vec<String>,
    /// The claim that names the user.
    pub authorization_user_id_field: String,
    /// The claim that names the company.
    pub authorization_company_id_field: Option<String>,
    /// Compressed bodies are reported as they are.
    pub disable_gzip_payload_decompression: bool,
    /// Events a POST; 0 stands for as many as fit.
    pub batch_size: usize,
    /// Milliseconds of each cycle in which posts may start.
    pub max_callback_time_spent_ms: u64,
    /// Events that may wait.
    pub event_queue_size: usize,
    /// Compress posts.
    pub enable_compression: bool,
    /// No transaction id header on request and response.
    pub disable_transaction_id: bool,
    /// More log lines.
    pub debug: bool,
}

/// Names of what must not leave. Header names are lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Masks {
    /// Request headers.
    pub request_headers: Vec<String>,
    /// Response headers.
    pub response_headers: Vec<String>,
    /// Keys of request bodies, any depth.
    pub request_body: Vec<String>,
    /// Keys of response bodies, any depth.
    pub response_body: Vec<String>,
    /// Query arguments.
    pub request_query: Vec<String>,
}

impl Settings {
    /// Reads a `config` object; `None` without an `application_id`, which no checked row lacks.
    pub fn parse(config: &Value) -> Option<Self> {
        let text = |name: &str| config.get(name).and_then(Value::as_str).map(str::to_owned);
        let filled = |name: &str| text(name).filter(|value| !value.is_empty());
        let flag = |name: &str| config.get(name).and_then(Value::as_bool).unwrap_or(false);
        let number = |name: &str, preset: u64| {
            let value = config.get(name).and_then(Value::as_f64);
            value.map_or(preset, |value| value.max(0.0) as u64)
        };
        // The deprecated time limit counts for a newer one that was left at its default.
        let deprecated = number("timeout", TIMEOUT_MS).max(1);
        let timeout = |name: &str, preset: u64| match number(name, preset).max(1) {
            same if same == preset && deprecated != TIMEOUT_MS => deprecated,
            set => set,
        };
        let auth = text("authorization_header_name").unwrap_or_else(|| "authorization".to_owned());
        Some(Self {
            application_id: text("application_id")?,
            api_endpoint: filled("api_endpoint")
                .unwrap_or_else(|| "https://api.moesif.net".to_owned()),
            connect_timeout_ms: timeout("connect_timeout", 1_000),
            send_timeout_ms: timeout("send_timeout", 5_000),
            keepalive_ms: number("keepalive", 5_000),
            api_version: text("api_version").or_else(|| Some("1.0".to_owned())),
            disable_capture_request_body: flag("disable_capture_request_body"),
            disable_capture_response_body: flag("disable_capture_response_body"),
            request_body_bytes_max: number("request_max_body_size_limit", 100_000),
            response_body_bytes_max: number("response_max_body_size_limit", 100_000),
            masks: Masks::parse(config),
            user_id_header: filled("user_id_header"),
            company_id_header: filled("company_id_header"),
            authorization_header_names: auth
                .split(',')
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect(),
            authorization_user_id_field: filled("authorization_user_id_field")
                .unwrap_or_else(|| "sub".to_owned()),
            authorization_company_id_field: filled("authorization_company_id_field"),
            disable_gzip_payload_decompression: flag("disable_gzip_payload_decompression"),
            batch_size: number("batch_size", 50) as usize,
            max_callback_time_spent_ms: number("max_callback_time_spent", 750),
            event_queue_size: number("event_queue_size", 100_000) as usize,
            enable_compression: flag("enable_compression"),
            disable_transaction_id: flag("disable_transaction_id"),
            debug: flag("debug"),
        })
    }

    /// Where its events go.
    pub fn target(&self) -> Target {
        Target::moesif(&self.application_id, &self.api_endpoint)
    }

    /// A number that is different when anything that decides what leaves is different: masks,
    /// capture switches, destination. Cores write it into each record; an event is only made with
    /// settings of the same fingerprint. It guards against mix-ups, not against attackers.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Fnv::new();
        let masks = &self.masks;
        for list in [
            &masks.request_headers,
            &masks.response_headers,
            &masks.request_body,
            &masks.response_body,
            &masks.request_query,
        ] {
            hash.write_usize(list.len());
            list.iter().for_each(|name| hash.text(name));
        }
        hash.write_u8(u8::from(self.disable_capture_request_body));
        hash.write_u8(u8::from(self.disable_capture_response_body));
        hash.text(&self.application_id);
        hash.text(&self.api_endpoint);
        hash.finish()
    }
}

impl Masks {
    fn parse(config: &Value) -> Self {
        let list = |name: &str| -> Vec<String> {
            let found = config.get(name).and_then(Value::as_array);
            let texts = found.into_iter().flatten().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        };
        let headers = |name: &str| -> Vec<String> {
            list(name).iter().map(|name| name.to_ascii_lowercase()).collect()
        };
        // The deprecated twin counts only while the new list is empty.
        let either = |name: &str, deprecated: &str| match list(name) {
            names if names.is_empty() => list(deprecated),
            names => names,
        };
        Self {
            request_headers: headers("request_header_masks"),
            response_headers: headers("response_header_masks"),
            request_body: either("request_body_masks", "request_masks"),
            response_body: either("response_body_masks", "response_masks"),
            request_query: list("request_query_masks"),
        }
    }
}

/// The FNV-1a hash: the same on every machine and in every build, which a saved fingerprint needs.
struct Fnv(u64);

impl Fnv {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn text(&mut self, text: &str) {
        self.write_usize(text.len());
        self.write(text.as_bytes());
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(config: Value) -> Settings {
        Settings::parse(&config).unwrap()
    }

    #[test]
    fn a_row_of_an_older_version_keeps_working() {
        let old = json!({
            "application_id": "a",
            "enable_reading_send_event_response": true,
            "disable_moesif_payload_compression": false,
            "max_events_sent_per_callback": 5,
            "max_body_size_limit": 100,
            "user_id_header": "",
            "batch_size": "many",
            "keepalive": null,
        });
        assert_eq!(parse(old), parse(json!({"application_id": "a"})));
        assert_eq!(Settings::parse(&json!({})), None);
    }

    #[test]
    fn deprecated_fields_count_where_the_newer_ones_were_left_alone() {
        let masks = |config: Value| parse(config).masks.request_body;
        let old = json!({"application_id": "a", "request_masks": ["x"]});
        assert_eq!(masks(old), ["x"]);
        let both =
            json!({"application_id": "a", "request_masks": ["x"], "request_body_masks": ["y"]});
        assert_eq!(masks(both), ["y"]);
        let times = |config: Value| {
            let settings = parse(config);
            (settings.connect_timeout_ms, settings.send_timeout_ms)
        };
        assert_eq!(times(json!({"application_id": "a"})), (1_000, 5_000));
        assert_eq!(times(json!({"application_id": "a", "timeout": 3_000})), (3_000, 3_000));
        let set = json!({"application_id": "a", "timeout": 3_000, "send_timeout": 700});
        assert_eq!(times(set), (3_000, 700));
    }
}

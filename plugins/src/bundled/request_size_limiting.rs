//! request-size-limiting: refuses requests whose body is too large.
//!
//! A declared length decides at once. A body without one is held up to a bound, as it is anyway
//! before the upstream is asked; beyond that the road counts what streams and ends the request when
//! it passes the limit. Kong holds all of it before it decides.
//!
//! Source: Kong `kong/plugins/request-size-limiting/{schema,handler}.lua`; recorded cases of the
//! suite `plugins-traffic`.

use runtime::http::head::Version;
use store::schema::{Field, PluginSchema, Preset, boolean, integer, text};

use crate::pdk::{Answer, BodyState, Config, Exchange, Fault, Phase, Plugin, Prepared, Spec, Step};

/// The plugin.
pub static PLUGIN: Spec = Spec {
    schema: PluginSchema {
        name: "request-size-limiting",
        priority: 951,
        config: CONFIG,
        ..PluginSchema::EMPTY
    },
    phases: &[Phase::Access],
    entities: &[],
    endpoints: &[],
    prepare,
};

const CONFIG: &[Field] = &[
    integer(
        "allowed_payload_size",
        "Allowed request payload size in megabytes. Default is `128` megabytes (128000000 bytes).",
    )
    .or(Preset::Integer(128)),
    text(
        "size_unit",
        "Size unit can be set either in `bytes`, `kilobytes`, or `megabytes` (default). This \
         configuration is not available in versions prior to Kong Gateway 1.3 and Kong Gateway \
         (OSS) 2.0.",
    )
    .required()
    .or(Preset::Text("megabytes"))
    .one_of(&["megabytes", "kilobytes", "bytes"]),
    boolean(
        "require_content_length",
        "Set to `true` to ensure a valid `Content-Length` header exists before reading the \
         request body.",
    )
    .required()
    .or(Preset::Flag(false)),
];

/// So much of a body without a length is held before its size is known.
const HELD_BYTES_MAX: u64 = 1024 * 1024;

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let unit = match config.text("size_unit") {
        Some("bytes") => 1,
        Some("kilobytes") => 1 << 10,
        _ => 1 << 20,
    };
    let allowed = config.integer("allowed_payload_size").unwrap_or(128);
    let prepared = RequestSizeLimiting {
        bytes_max: u64::try_from(allowed).unwrap_or(0).saturating_mul(unit),
        require_content_length: config.flag("require_content_length"),
    };
    Ok(Prepared::new(move || Box::new(prepared)))
}

#[derive(Clone, Copy)]
struct RequestSizeLimiting {
    bytes_max: u64,
    require_content_length: bool,
}

impl Plugin for RequestSizeLimiting {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Step<'a> {
        let fields = &exchange.request.fields;
        let declared = fields.get("content-length").and_then(|v| std::str::from_utf8(v).ok());
        if let Some(bytes) = declared.and_then(|v| v.parse::<u64>().ok()) {
            return self.judge(exchange, bytes);
        }
        let chunked = fields.get("transfer-encoding") == Some(b"chunked");
        if self.require_content_length && !chunked {
            return Step::answer(Answer::error(411, "A valid Content-Length header is required"));
        }
        let may_have_body =
            fields.contains("transfer-encoding") || exchange.request.version == Version::H2;
        if exchange.request_body_state == BodyState::Unread && may_have_body {
            let bytes_max = self.bytes_max.min(HELD_BYTES_MAX);
            return Step::Body { bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX) };
        }
        let held: usize = exchange.request_body.iter().map(|piece| piece.len()).sum();
        if exchange.request_body_state == BodyState::TooLarge {
            let limit = &mut exchange.request_bytes_max;
            *limit = Some(limit.map_or(self.bytes_max, |other| other.min(self.bytes_max)));
        }
        self.judge(exchange, held as u64)
    }
}

impl RequestSizeLimiting {
    fn judge(self, exchange: &Exchange, bytes: u64) -> Step<'static> {
        if bytes <= self.bytes_max {
            return Step::NEXT;
        }
        let expects = exchange.request.fields.get("expect").unwrap_or_default();
        let expects = expects.trim_ascii().eq_ignore_ascii_case(b"100-continue");
        let status = if expects { 417 } else { 413 };
        Step::answer(Answer::error(status, "Request size limit exceeded"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::script::{Script, answered};
    use serde_json::json;

    const EXCEEDED: &str = "Request size limit exceeded";

    #[track_caller]
    fn check(config: serde_json::Value, fields: &[(&str, &str)], expected: Option<(u16, &str)>) {
        let script = Script::new(&PLUGIN, config);
        let mut exchange = script.get("/", fields);
        let found = answered(script.plugin().access(&mut exchange));
        let found = found.as_ref().map(|(status, body)| (*status, body.as_str()));
        assert_eq!(found, expected, "{fields:?}");
    }

    #[test]
    fn a_declared_length_decides() {
        let ten = json!({"allowed_payload_size": 10, "size_unit": "bytes"});
        check(ten.clone(), &[("Content-Length", "10")], None);
        check(ten.clone(), &[("Content-Length", "11")], Some((413, EXCEEDED)));
        let expects = [("Content-Length", "11"), ("Expect", "100-Continue ")];
        check(ten.clone(), &expects, Some((417, EXCEEDED)));
        check(ten, &[], None);
        let two = json!({"allowed_payload_size": 2, "size_unit": "kilobytes"});
        check(two.clone(), &[("Content-Length", "2048")], None);
        check(two, &[("Content-Length", "2049")], Some((413, EXCEEDED)));
        check(json!({}), &[("Content-Length", "134217728")], None);
        check(json!({}), &[("Content-Length", "134217729")], Some((413, EXCEEDED)));
        check(
            json!({"allowed_payload_size": -1}),
            &[("Content-Length", "1")],
            Some((413, EXCEEDED)),
        );
    }

    #[test]
    fn a_length_can_be_demanded() {
        let config = json!({"require_content_length": true});
        let words = "A valid Content-Length header is required";
        check(config.clone(), &[], Some((411, words)));
        check(config, &[("Content-Length", "1")], None);
    }

    #[test]
    fn a_body_without_a_length_is_held_then_counted() {
        let config = json!({"allowed_payload_size": 3, "size_unit": "bytes"});
        let script = Script::new(&PLUGIN, config);
        let plugin = script.plugin();
        let chunked = [("Transfer-Encoding", "chunked")];
        let mut exchange = script.get("/", &chunked);
        assert!(matches!(plugin.access(&mut exchange), Step::Body { bytes_max: 3 }));
        let mut fits = script.post("/", &chunked, "abc");
        assert!(answered(plugin.access(&mut fits)).is_none());
        let mut exceeds = script.post("/", &chunked, "abcd");
        exceeds.request_body_state = BodyState::TooLarge;
        assert_eq!(answered(plugin.access(&mut exceeds)), Some((413, EXCEEDED.to_owned())));
    }

    #[test]
    fn what_is_not_held_is_counted_as_it_streams() {
        let script = Script::new(&PLUGIN, json!({"allowed_payload_size": 2}));
        let plugin = script.plugin();
        let chunked = [("Transfer-Encoding", "chunked")];
        let mut exchange = script.get("/", &chunked);
        assert!(matches!(plugin.access(&mut exchange), Step::Body { bytes_max: 0x10_0000 }));
        let mut exchange = script.post("/", &chunked, "the beginning");
        exchange.request_body_state = BodyState::TooLarge;
        assert!(answered(plugin.access(&mut exchange)).is_none());
        assert_eq!(exchange.request_bytes_max, Some(2 << 20));
    }
}

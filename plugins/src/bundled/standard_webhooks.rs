//! standard-webhooks: lets in only what its sender has signed (standardwebhooks.com).
//!
//! As in Kong the secret is the key itself, whatever it begins with, and exactly one signature is
//! taken. Unlike Kong's, the comparison takes the same time wherever the first difference is.
//!
//! Source: Kong `kong/plugins/standard-webhooks/{schema,internal}.lua`; recorded cases.

use aws_lc_rs::{constant_time, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use store::schema::{Field, PluginSchema, Preset, integer, text};

use crate::pdk::{
    Answer, BodyState, Config, Exchange, Fault, Phase, Plugin, Prepared, Spec, Step, lua,
};

/// The plugin.
pub static PLUGIN: Spec = Spec {
    schema: PluginSchema {
        name: "standard-webhooks",
        priority: 760,
        no_consumer: true,
        config: CONFIG,
        ..PluginSchema::EMPTY
    },
    phases: &[Phase::Access],
    entities: &[],
    endpoints: &[],
    prepare,
};

const CONFIG: &[Field] = &[
    text("secret_v1", "Webhook secret").required().referenceable().encrypted(),
    integer(
        "tolerance_second",
        "Tolerance of the webhook timestamp in seconds. If the webhook timestamp is older than \
         this number of seconds, it will be rejected with a '400' response.",
    )
    .required()
    .or(Preset::Integer(300))
    .gt(-1),
];

/// A larger body counts as unsigned.
const BODY_BYTES_MAX: usize = 1024 * 1024;

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let secret = config.text("secret_v1").unwrap_or("");
    let prepared = StandardWebhooks {
        key: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()),
        tolerance_s: config.integer("tolerance_second").unwrap_or(300) as f64,
    };
    Ok(Prepared::new(move || Box::new(prepared.clone())))
}

#[derive(Clone)]
struct StandardWebhooks {
    key: hmac::Key,
    tolerance_s: f64,
}

impl Plugin for StandardWebhooks {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Step<'a> {
        let now_s = exchange.times.started_wall_us as f64 / 1e6;
        let fields = &exchange.request.fields;
        let (Some(id), Some(sent), Some(signature)) = (
            fields.get("webhook-id"),
            fields.get("webhook-timestamp"),
            fields.get("webhook-signature"),
        ) else {
            return refused();
        };
        // What is no number is as old as can be.
        let sent_s = std::str::from_utf8(sent).ok().and_then(|text| text.trim().parse().ok());
        let sent_s = sent_s.filter(|sent_s: &f64| sent_s.is_finite()).unwrap_or(0.0);
        if now_s - sent_s > self.tolerance_s {
            return refused();
        }
        if exchange.request_body_state == BodyState::Unread {
            return Step::Body { bytes_max: BODY_BYTES_MAX };
        }
        let signed = exchange.request_body_state == BodyState::Whole
            && exchange.request_body.iter().any(|piece| !piece.is_empty())
            && self.signs(exchange, id, sent_s, signature);
        if signed { Step::NEXT } else { refused() }
    }
}

fn refused() -> Step<'static> {
    Step::answer(Answer::error(400, "Bad request"))
}

impl StandardWebhooks {
    fn signs(&self, exchange: &Exchange, id: &[u8], sent_s: f64, signature: &[u8]) -> bool {
        let mut signing = hmac::Context::with_key(&self.key);
        for part in [id, b".", lua::number(sent_s).as_bytes(), b"."] {
            signing.update(part);
        }
        exchange.request_body.iter().for_each(|piece| signing.update(piece));
        let expected = format!("v1,{}", STANDARD.encode(signing.sign()));
        constant_time::verify_slices_are_equal(expected.as_bytes(), signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::script::{Script, answered, check_fault};
    use serde_json::json;

    const NOW_S: u64 = 1_795_302_012;
    const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    fn signature(id: &str, sent: &str, body: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        let tag = hmac::sign(&key, format!("{id}.{sent}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(tag))
    }

    #[track_caller]
    fn check(fields: &[(&str, &str)], body: &str, lets_in: bool) {
        let script = Script::new(&PLUGIN, json!({"secret_v1": SECRET}));
        let mut exchange = script.post("/", fields, body);
        exchange.times.started_wall_us = NOW_S * 1_000_000;
        let found = answered(script.plugin().access(&mut exchange));
        let refusal = Some((400, "Bad request".to_owned()));
        assert_eq!(found, if lets_in { None } else { refusal }, "{fields:?}");
    }

    #[test]
    fn what_is_signed_is_let_in() {
        let check = |sent: &str, signature: &str, body: &str, lets_in| {
            let fields = [
                ("webhook-id", "msg_1"),
                ("webhook-timestamp", sent),
                ("webhook-signature", signature),
            ];
            check(&fields, body, lets_in);
        };
        let now = NOW_S.to_string();
        let good = signature("msg_1", &now, "{}");
        check(&now, &good, "{}", true);
        check(&now, &good, "{} ", false);
        check(&now, &format!("v1,AAAA {good}"), "{}", false);
        check(&now, &good.replace("v1,", "v2,"), "{}", false);
        check(&now, "", "{}", false);
        check(&format!("{now}.0"), &good, "{}", true);
        for (age_s, lets_in) in [(300, true), (301, false), (-10_000, true)] {
            let sent = (NOW_S as i64 - age_s).to_string();
            check(&sent, &signature("msg_1", &sent, "{}"), "{}", lets_in);
        }
        check(&now, &signature("msg_1", &now, ""), "", false);
        check("x", &signature("msg_1", "0", "{}"), "{}", false);
        check("inf", &signature("msg_1", "0", "{}"), "{}", false);
    }

    #[test]
    fn what_lacks_a_header_is_not() {
        let now = NOW_S.to_string();
        let good = signature("msg_1", &now, "{}");
        let all =
            [("webhook-id", "msg_1"), ("webhook-timestamp", &*now), ("webhook-signature", &*good)];
        check(&all, "{}", true);
        for at in 0..3 {
            let some: Vec<_> =
                all.iter().enumerate().filter(|(n, _)| *n != at).map(|p| *p.1).collect();
            check(&some, "{}", false);
        }
    }

    #[test]
    fn the_secret_must_be_given() {
        check_fault(&PLUGIN, json!({}), "required field missing");
        check_fault(&PLUGIN, json!({"secret_v1": "s", "tolerance_second": -1}), "greater than -1");
    }
}

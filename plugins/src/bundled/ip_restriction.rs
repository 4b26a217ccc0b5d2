//! ip-restriction: refuses clients by their address.
//!
//! Source: Kong `kong/plugins/ip-restriction/{schema,handler}.lua`; recorded cases of the suite
//! `plugins-traffic`.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use store::schema::{Field, PluginSchema, Preset, Rule, array, number, text, typical};

use crate::pdk::{Answer, Config, Exchange, Fault, Phase, Plugin, Prepared, Spec, Step};

/// The plugin.
pub static PLUGIN: Spec = Spec {
    schema: PluginSchema {
        name: "ip-restriction",
        priority: 990,
        protocols: typical::PROTOCOLS.or(Preset::List(&[
            Preset::Text("http"),
            Preset::Text("https"),
            Preset::Text("tcp"),
            Preset::Text("tls"),
            Preset::Text("grpc"),
            Preset::Text("grpcs"),
        ])),
        config: CONFIG,
        rules: &[Rule::AtLeastOneOf(&["config.allow", "config.deny"])],
        ..PluginSchema::EMPTY
    },
    phases: &[Phase::Access],
    entities: &[],
    endpoints: &[],
    prepare,
};

const CONFIG: &[Field] = &[
    array(
        "allow",
        "List of IPs or CIDR ranges to allow. One of `config.allow` or `config.deny` must be \
         specified.",
        &typical::ip_or_cidr(""),
    ),
    array(
        "deny",
        "List of IPs or CIDR ranges to deny. One of `config.allow` or `config.deny` must be \
         specified.",
        &typical::ip_or_cidr(""),
    ),
    number("status", "The HTTP status of the requests that will be rejected by the plugin.")
        .optional(),
    text("message", "The message to send as a response body to rejected requests.").optional(),
];

/// What a status may be; another counts as none.
const STATUSES: std::ops::RangeInclusive<u16> = 100..=599;

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let status = config.number("status").filter(|status| status.fract() == 0.0);
    let prepared = Arc::new(IpRestriction {
        allow: Addresses::new("allow", &config.texts("allow"))?,
        deny: Addresses::new("deny", &config.texts("deny"))?,
        status: status.map(|s| s as u16).filter(|s| STATUSES.contains(s)).unwrap_or(403),
        message: config.text("message").map(str::to_owned),
    });
    Ok(Prepared::new(move || Box::new(Arc::clone(&prepared))))
}

struct IpRestriction {
    allow: Addresses,
    deny: Addresses,
    status: u16,
    message: Option<String>,
}

impl Plugin for Arc<IpRestriction> {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Step<'a> {
        let ip = exchange.client.ip;
        let refused = self.deny.has(ip) || !(self.allow.is_empty() || self.allow.has(ip));
        if !refused {
            return Step::NEXT;
        }
        let message = match &self.message {
            Some(message) => message.clone(),
            None => format!("IP address not allowed: {ip}"),
        };
        Step::answer(Answer::error(self.status, message))
    }
}

/// Ranges of addresses, in order and apart: found by halving, however many there are.
#[derive(Default)]
struct Addresses {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Addresses {
    fn new(field: &'static str, texts: &[String]) -> Result<Self, Fault> {
        let mut all = Self::default();
        for text in texts {
            let net = text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse::<IpNet>());
            match net {
                Ok(IpNet::V4(net)) => {
                    all.v4.push((net.network().to_bits(), net.broadcast().to_bits()));
                }
                Ok(IpNet::V6(net)) => {
                    all.v6.push((net.network().to_bits(), net.broadcast().to_bits()));
                }
                Err(_) => {
                    let message = format!("invalid ip or cidr range: '{text}'");
                    return Err(Fault { field, message });
                }
            }
        }
        Ok(Self { v4: merged(all.v4), v6: merged(all.v6) })
    }

    fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    fn has(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(ip) => within(&self.v4, ip.to_bits()),
            IpAddr::V6(ip) => within(&self.v6, ip.to_bits()),
        }
    }
}

/// Puts ranges in order; of nested ones the outer stays. Blocks of addresses never overlap in part.
fn merged<N: Copy + Ord>(mut ranges: Vec<(N, N)>) -> Vec<(N, N)> {
    ranges.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    ranges.dedup_by(|inner, outer| inner.1 <= outer.1);
    ranges
}

fn within<N: Copy + Ord>(ranges: &[(N, N)], address: N) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= address);
    after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, last)| address <= *last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::script::{Script, answered, fault};
    use proptest::prelude::*;
    use serde_json::json;

    #[track_caller]
    fn check(config: serde_json::Value, ip: &str, expected: Option<(u16, &str)>) {
        let script = Script::new(&PLUGIN, config);
        let mut exchange = script.get("/", &[]);
        exchange.client.ip = ip.parse().unwrap();
        let found = answered(script.plugin().access(&mut exchange));
        let found = found.as_ref().map(|(status, body)| (*status, body.as_str()));
        assert_eq!(found, expected);
    }

    #[test]
    fn who_is_denied_or_not_allowed_is_refused() {
        let words = |ip| (403, ip);
        let denied = json!({"deny": ["127.0.0.0/8", "::1"]});
        let refused = words("IP address not allowed: 127.0.0.1");
        check(denied.clone(), "127.0.0.1", Some(refused));
        check(denied.clone(), "::1", Some(words("IP address not allowed: ::1")));
        check(denied.clone(), "128.0.0.1", None);
        check(denied, "::ffff:127.0.0.1", Some(words("IP address not allowed: ::ffff:127.0.0.1")));
        let allowed = json!({"allow": ["127.0.0.1", "10.1.0.0/16"], "deny": ["10.1.2.3"]});
        check(allowed.clone(), "127.0.0.1", None);
        check(allowed.clone(), "10.1.2.4", None);
        check(allowed.clone(), "10.1.2.3", Some(words("IP address not allowed: 10.1.2.3")));
        check(allowed, "::1", Some(words("IP address not allowed: ::1")));
        check(
            json!({"allow": ["::/0"]}),
            "1.1.1.1",
            Some(words("IP address not allowed: 1.1.1.1")),
        );
    }

    #[test]
    fn status_and_message_can_be_set() {
        let config = json!({"allow": ["10.0.0.1"], "status": 401, "message": "go away"});
        check(config, "127.0.0.1", Some((401, "go away")));
        let config = json!({"allow": ["10.0.0.1"], "status": 9000, "message": "go away"});
        check(config, "127.0.0.1", Some((403, "go away")));
    }

    #[test]
    fn one_of_the_lists_must_be_given() {
        let found = fault(&PLUGIN, json!({})).unwrap();
        assert!(found.contains("at least one of these fields must be non-empty"), "{found}");
        assert!(fault(&PLUGIN, json!({"deny": ["10.0.0.0/33"]})).is_some());
    }

    proptest! {
        /// As a look at each block in turn.
        #[test]
        fn the_search_finds_what_a_look_at_each_finds(
            blocks in prop::collection::vec((any::<u32>(), 0_u8..=32), 0..40),
            address in any::<u32>(),
            pick in any::<prop::sample::Index>(),
        ) {
            let nets: Vec<ipnet::Ipv4Net> = blocks
                .iter()
                .map(|(bits, len)| ipnet::Ipv4Net::new((*bits).into(), *len).unwrap().trunc())
                .collect();
            let texts: Vec<String> = nets.iter().map(ToString::to_string).collect();
            let all = Addresses::new("allow", &texts).unwrap();
            let near = (!nets.is_empty()).then(|| nets[pick.index(nets.len())].broadcast());
            for ip in [Some(address.into()), near].into_iter().flatten() {
                let expected = nets.iter().any(|net| net.contains(&ip));
                prop_assert_eq!(all.has(IpAddr::V4(ip)), expected);
            }
        }
    }
}

//! Sampling: which exchanges are reported, and for how many others each of them stands.
//!
//! The smallest of the rates that exist for this user, this company and the first matching group
//! of conditions decides; where there is none, the rate of the whole application does.
//!
//! Source: `kong-plugin-moesif` `kong/plugins/moesif/log.lua`; Moesif's API reference
//! (`GET /v1/config`).

use super::conditions::{Asked, BodyFields, Groups};
use super::identify::Identity;
use super::pattern::Searches;
use super::settings::Settings;
use serde_json::Value;
use std::collections::HashMap;

/// Most groups of conditions that are looked at for one exchange.
const GROUPS_MAX: usize = 256;
/// The rate at which everything is reported, in percent.
const WHOLE: f64 = 100.0;

/// The sampling rates of one application, in percent.
#[derive(Debug)]
pub struct Sampling {
    whole: f64,
    users: HashMap<Box<[u8]>, f64>,
    companies: HashMap<Box<[u8]>, f64>,
    groups: Vec<(Groups, f64)>,
}

impl Default for Sampling {
    fn default() -> Self {
        let (users, companies, groups) = Default::default();
        Self { whole: WHOLE, users, companies, groups }
    }
}

impl Sampling {
    /// Reads the rates of a configuration; says what of it is left out, and why.
    pub fn parse(config: &Value, fields: &mut BodyFields, faults: &mut Vec<String>) -> Self {
        let rates = |name: &str| {
            let found = config.get(name).and_then(Value::as_object);
            let rate = |(id, rate): (&String, &Value)| Some((id.as_bytes().into(), rate.as_f64()?));
            found.into_iter().flatten().filter_map(rate).collect()
        };
        let mut groups = Vec::new();
        let found = config.get("regex_config").and_then(Value::as_array);
        for (number, group) in found.into_iter().flatten().enumerate() {
            let rate = group.get("sample_rate").and_then(Value::as_f64);
            let read = match rate {
                _ if number >= GROUPS_MAX => Err(format!("there are more than {GROUPS_MAX}")),
                None => Err("it has no sample_rate".to_owned()),
                Some(rate) => Groups::one(group, fields).map(|group| (group, rate)),
            };
            match read {
                Ok(group) => groups.push(group),
                Err(why) => faults.push(format!("sampling group {number} is left out: {why}")),
            }
        }
        let whole = config.get("sample_rate").and_then(Value::as_f64).unwrap_or(WHOLE);
        Self {
            whole,
            users: rates("user_sample_rate"),
            companies: rates("company_sample_rate"),
            groups,
        }
    }

    /// Whether everything is reported, whoever asked.
    pub fn is_whole(&self) -> bool {
        let specific = !self.users.is_empty() || !self.companies.is_empty();
        self.whole >= WHOLE && !specific && self.groups.is_empty()
    }

    /// Whether a rate depends on who asks.
    pub fn asks_who(&self) -> bool {
        !self.users.is_empty() || !self.companies.is_empty()
    }

    /// Whether the rate can be known before the upstream has answered.
    pub fn is_early(&self, who: &Identity, settings: &Settings) -> bool {
        let response_may_say = |ids: &HashMap<Box<[u8]>, f64>, known: bool, header: bool| {
            !ids.is_empty() && !known && header
        };
        let user = (who.user_id.is_some(), settings.user_id_header.is_some());
        let company = (who.company_id.is_some(), settings.company_id_header.is_some());
        !self.groups.iter().any(|(group, _)| group.is_late())
            && !response_may_say(&self.users, user.0, user.1)
            && !response_may_say(&self.companies, company.0, company.1)
    }

    /// The rate of one exchange, in percent.
    pub fn rate(&self, asked: &Asked<'_>, who: &Identity, searches: &mut Searches) -> f64 {
        let of = |rates: &HashMap<Box<[u8]>, f64>, id: &Option<Vec<u8>>| {
            id.as_deref().and_then(|id| rates.get(id)).copied()
        };
        let mut matches = |(group, _): &&(Groups, f64)| group.hold(asked, searches);
        let by_group = self.groups.iter().find(|group| matches(group)).map(|(_, rate)| *rate);
        let specific = [of(&self.users, &who.user_id), of(&self.companies, &who.company_id)];
        let specific = specific.into_iter().chain([by_group]).flatten();
        specific.reduce(f64::min).unwrap_or(self.whole)
    }
}

/// How many exchanges one stands for that is kept at `rate` percent; 0 if it is not kept. `drawn`
/// is from 0 up to, not including, 100.
pub fn weight(rate: f64, drawn: f64) -> u32 {
    if rate.is_nan() || rate <= drawn {
        return 0;
    }
    // A rate above 100 keeps everything, too.
    (WHOLE / rate).max(1.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moesif::headers::Headers;
    use runtime::http::head::Fields;
    use serde_json::json;

    fn config() -> Value {
        json!({
            "sample_rate": 40,
            "user_sample_rate": {"u": 100, "few": 5},
            "company_sample_rate": {"c": 20},
            "regex_config": [
                {"conditions": [{"path": "request.route", "value": "^/health"}], "sample_rate": 0},
                {"conditions": [{"path": "request.route", "value": "^/h"}], "sample_rate": 50},
                {"conditions": [{"path": "request.route", "value": "("}], "sample_rate": 50},
            ],
        })
    }

    #[track_caller]
    fn check(route: &str, user: Option<&str>, company: Option<&str>, expected: f64) {
        let mut faults = Vec::new();
        let sampling = Sampling::parse(&config(), &mut BodyFields::default(), &mut faults);
        assert!(faults.len() == 1 && faults[0].contains("group 2 is left out"), "{faults:?}");
        let lines = Fields::new();
        let asked = Asked {
            verb: b"GET",
            target: route.as_bytes(),
            client_ip: [127, 0, 0, 1].into(),
            client_ip_headers_trusted: true,
            headers: Headers::Live(&lines),
            body: &[],
            status: None,
        };
        let id = |id: Option<&str>| id.map(|id| id.as_bytes().to_vec());
        let who = Identity { user_id: id(user), company_id: id(company) };
        let rate = sampling.rate(&asked, &who, &mut Searches::default());
        assert!((rate - expected).abs() < f64::EPSILON, "{route} {user:?} {company:?}: {rate}");
    }

    #[test]
    fn the_smallest_specific_rate_decides() {
        check("/", None, None, 40.0);
        check("/", Some("u"), None, 100.0);
        check("/", Some("u"), Some("c"), 20.0);
        check("/", Some("few"), Some("c"), 5.0);
        check("/", Some("other"), Some("other"), 40.0);
        check("/health", Some("u"), Some("c"), 0.0);
        check("/hello", Some("u"), None, 50.0);
        check("/hello", Some("few"), None, 5.0);
    }

    #[test]
    fn a_weight_is_what_the_dropped_ones_need() {
        for (rate, drawn, expected) in [
            (30.0, 29.0, 3),
            (30.0, 31.0, 0),
            (30.0, 30.0, 0),
            (0.0, 0.0, 0),
            (100.0, 99.999, 1),
            (250.0, 99.0, 1),
            (0.5, 0.1, 200),
            (f64::NAN, 0.0, 0),
            (-1.0, 0.0, 0),
        ] {
            assert_eq!(weight(rate, drawn), expected, "{rate} {drawn}");
        }
    }

    #[test]
    fn it_knows_what_it_needs() {
        let parse =
            |config: Value| Sampling::parse(&config, &mut BodyFields::default(), &mut Vec::new());
        let settings = |header: &str| {
            let config = json!({"application_id": "a", "user_id_header": header});
            Settings::parse(&config).unwrap()
        };
        let nobody = Identity::default();
        assert!(parse(json!({})).is_whole() && parse(json!({"sample_rate": 100})).is_whole());
        assert!(!parse(json!({"sample_rate": 99})).is_whole());
        let by_user = parse(json!({"user_sample_rate": {"u": 1}}));
        assert!(by_user.asks_who() && !by_user.is_whole());
        assert!(by_user.is_early(&nobody, &settings("")));
        assert!(!by_user.is_early(&nobody, &settings("x-user")), "the response may say who it was");
        let by_status = parse(json!({"regex_config": [
            {"conditions": [{"path": "response.status", "value": "^5"}], "sample_rate": 100}]}));
        assert!(!by_status.is_early(&nobody, &settings("")));
    }
}

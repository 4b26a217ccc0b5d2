//! What Moesif says about one application, compiled for the road: its sampling rates and its rules.

use super::conditions::{Asked, BodyFields};
use super::identify::Identity;
use super::pattern::Searches;
use super::rules::{Rules, Verdict};
use super::sampling::Sampling;
use serde_json::{Map, Value};

/// The parts of a configuration that stay in force when an answer does not name them.
const STAYING: [&str; 4] =
    ["sample_rate", "user_sample_rate", "company_sample_rate", "regex_config"];
/// The parts that every answer replaces.
const REPLACED: [&str; 2] = ["user_rules", "company_rules"];

/// One application's sampling and rules.
#[derive(Debug, Default)]
pub struct Remote {
    /// Which exchanges are reported.
    pub sampling: Sampling,
    /// Which exchanges are blocked, and which headers are added.
    pub rules: Rules,
    /// What is read of request bodies.
    pub body_fields: BodyFields,
}

impl Remote {
    /// Compiles an application's configuration and rules. What cannot be used is left out alone,
    /// and the second part says so, one sentence each.
    pub fn compile(config: &Value, rules: &Value) -> (Self, Vec<String>) {
        let (mut body_fields, mut faults) = (BodyFields::default(), Vec::new());
        let sampling = Sampling::parse(config, &mut body_fields, &mut faults);
        let rules = Rules::parse(rules, config, &mut body_fields, &mut faults);
        (Self { sampling, rules, body_fields }, faults)
    }

    /// Whether nothing here changes anything.
    pub fn is_plain(&self) -> bool {
        self.sampling.is_whole() && self.rules.is_empty()
    }

    /// Whether it matters who asks.
    pub fn asks_who(&self) -> bool {
        self.sampling.asks_who() || self.rules.ask_who()
    }

    /// The rules that apply to an exchange.
    pub fn judge(&self, asked: &Asked<'_>, who: &Identity, searches: &mut Searches) -> Verdict<'_> {
        self.rules.judge(asked, who, searches)
    }
}

/// The configuration that is in force after an answer: parts that it does not name stay as they
/// were, but for the cohorts. `None` if the answer is no configuration at all.
pub fn merged(before: &Value, answer: &Value) -> Option<Value> {
    let answer = answer.as_object()?;
    if !STAYING.iter().chain(&REPLACED).any(|name| answer.contains_key(*name)) {
        return None;
    }
    let mut merged = Map::new();
    for name in STAYING {
        let value = answer.get(name).filter(|value| !value.is_null()).or_else(|| before.get(name));
        merged.extend(value.map(|value| (name.to_owned(), value.clone())));
    }
    for name in REPLACED {
        merged.extend(answer.get(name).map(|value| (name.to_owned(), value.clone())));
    }
    Some(Value::Object(merged))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_that_is_no_configuration_changes_nothing() {
        let before = json!({"sample_rate": 30});
        for answer in [json!({"error": "no"}), json!([]), json!("x"), json!({}), Value::Null] {
            assert_eq!(merged(&before, &answer), None, "{answer}");
        }
    }

    #[test]
    fn rates_stay_and_cohorts_are_replaced() {
        let before = json!({"sample_rate": 30, "user_sample_rate": {"u": 1}, "user_rules": {}});
        let answer = json!({"sample_rate": 50, "company_rules": {"c": []}, "org_id": "o"});
        let expected =
            json!({"sample_rate": 50, "user_sample_rate": {"u": 1}, "company_rules": {"c": []}});
        assert_eq!(merged(&before, &answer), Some(expected));
    }

    #[test]
    fn nothing_said_is_plain() {
        assert!(
            Remote::default().is_plain() && Remote::compile(&json!({}), &json!([])).0.is_plain()
        );
        let (remote, faults) = Remote::compile(&json!({"sample_rate": 99}), &json!([{}]));
        assert!(!remote.is_plain() && !remote.asks_who() && faults.len() == 1);
    }
}

//! Who is blocked by which rule, with which words.

use super::*;
use crate::moesif::headers::Headers;
use runtime::http::head::Fields;
use serde_json::json;

fn rule(id: &str, kind: &str, more: &Value) -> Value {
    let mut rule = json!({
        "_id": id,
        "name": id,
        "type": kind,
        "block": true,
        "regex_config": [],
        "variables": [{"name": "0"}, {"name": "1"}],
        "response": {"status": 429, "headers": {"X-Rule": id, id: "{{0}}"}, "body": {"by": id}},
    });
    for (name, value) in more.as_object().unwrap() {
        rule[name] = value.clone();
    }
    rule
}

fn rules(rules: &Value) -> Rules {
    let config = json!({
        "user_rules": {"u": [{"rules": "U", "values": {"0": "free"}}, {"rules": "gone"}]},
        "company_rules": {"c": [{"rules": "C", "values": {"0": 5, "1": true, "2": null}}]},
    });
    let mut faults = Vec::new();
    let rules = Rules::parse(rules, &config, &mut BodyFields::default(), &mut faults);
    assert_eq!(faults, Vec::<String>::new());
    rules
}

fn asked(lines: &Fields) -> Asked<'_> {
    Asked {
        verb: b"GET",
        target: b"/v1/x",
        client_ip: [127, 0, 0, 1].into(),
        client_ip_headers_trusted: true,
        headers: Headers::Live(lines),
        body: &[],
        status: None,
    }
}

fn who(user: Option<&str>, company: Option<&str>) -> Identity {
    let id = |id: Option<&str>| id.map(|id| id.as_bytes().to_vec());
    Identity { user_id: id(user), company_id: id(company) }
}

/// Judges one exchange: who blocks it, and which headers are added.
#[track_caller]
fn check(set: &Value, who: &Identity, blocked_by: Option<&str>, headers: &[(&str, &str)]) {
    let (rules, lines) = (rules(set), Fields::new());
    let verdict = rules.judge(&asked(&lines), who, &mut Searches::default());
    let blocked = verdict.blocked();
    assert_eq!(blocked.as_ref().map(|blocked| &*blocked.rule_id), blocked_by);
    let found = verdict.headers();
    let found: Vec<_> = found.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(found, headers);
}

#[test]
fn users_before_companies_before_the_rest() {
    let all = json!([
        rule("R", "regex", &json!({})),
        rule("C", "company", &json!({})),
        rule("U", "user", &json!({})),
    ]);
    let x = |id| ("X-Rule", id);
    check(&all, &who(None, None), Some("R"), &[x("R"), ("R", "UNKNOWN")]);
    let company = [x("C"), ("C", "5"), ("R", "UNKNOWN")];
    check(&all, &who(None, Some("c")), Some("C"), &company);
    let both = [x("U"), ("U", "free"), ("C", "5"), ("R", "UNKNOWN")];
    check(&all, &who(Some("u"), Some("c")), Some("U"), &both);
    check(&all, &who(Some("v"), Some("d")), Some("R"), &[x("R"), ("R", "UNKNOWN")]);
}

#[test]
fn cohorts_matching_and_not() {
    let others = json!([rule("U", "user", &json!({"applied_to": "not_matching"}))]);
    check(&others, &who(Some("u"), None), None, &[]);
    check(&others, &who(None, None), None, &[]);
    check(&others, &who(Some("v"), None), Some("U"), &[("X-Rule", "U"), ("U", "UNKNOWN")]);
}

#[test]
fn rules_for_the_unidentified() {
    let unknown = json!([rule("U", "user", &json!({"applied_to_unidentified": true}))]);
    check(&unknown, &who(None, Some("c")), Some("U"), &[("X-Rule", "U"), ("U", "UNKNOWN")]);
    check(&unknown, &who(Some("u"), None), Some("U"), &[("X-Rule", "U"), ("U", "free")]);
    check(&unknown, &who(Some("v"), None), None, &[]);
    let route = json!([{"conditions": [{"path": "request.route", "value": "^/admin"}]}]);
    let elsewhere = json!({"applied_to_unidentified": true, "regex_config": route});
    check(&json!([rule("U", "user", &elsewhere)]), &who(None, None), None, &[]);
}

#[test]
fn a_rule_that_does_not_block_adds_its_headers() {
    let set = json!([
        rule("U", "user", &json!({"block": false})),
        rule("R", "regex", &json!({"block": false, "response": {"headers": {"x-rule": "r"}}})),
    ]);
    check(&set, &who(Some("u"), None), None, &[("X-Rule", "U"), ("U", "free")]);
    check(&set, &who(None, None), None, &[("x-rule", "r")]);
}

#[track_caller]
fn check_filled(text: &str, expected: &str) {
    let rules = rules(&json!([rule("C", "company", &json!({}))]));
    let (rule, values) = (&rules.rules[0], &rules.companies[&b"c"[..]][0].1);
    assert_eq!(rule.filled(text, Some(values)), expected);
}

#[test]
fn tags_are_replaced_if_they_are_declared() {
    check_filled("{{0}} of {{1}}", "5 of true");
    check_filled("{{2}} {{x}} {{ {{0}} }} {0} {{0", "{{2}} {{x}} {{ 5 }} {0} {{0");
    check_filled("{{{{0}}}}", "{{5}}");
    let rules = rules(&json!([rule("C", "company", &json!({}))]));
    assert_eq!(rules.rules[0].filled("{{0|none}} {{1}}", None), "none UNKNOWN");
}

#[test]
fn answers_are_json_or_as_they_are() {
    let answer = |body: Value| {
        let response = json!({"status": 403, "body": body});
        let rules = rules(&json!([rule("R", "regex", &json!({"response": response}))]));
        let lines = Fields::new();
        let verdict = rules.judge(&asked(&lines), &who(None, None), &mut Searches::default());
        let blocked = verdict.blocked().unwrap();
        (blocked.status, blocked.json, String::from_utf8(blocked.body).unwrap())
    };
    let deep = json!({"b": [1, {"a": "{{0}}"}], "a": null});
    let filled = r#"{"b":[1,{"a":"UNKNOWN"}],"a":null}"#;
    assert_eq!(answer(deep), (403, true, filled.to_owned()));
    assert_eq!(answer(json!("plain {{0}}")), (403, false, "plain UNKNOWN".to_owned()));
    assert_eq!(answer(Value::Null), (403, false, String::new()));
}

#[test]
fn a_line_stays_a_line() {
    let config = json!({"user_rules": {"u": [{"rules": "U", "values": {"0": "a\r\nX-Evil: 1"}}]}});
    let set = json!([rule("U", "user", &json!({}))]);
    let rules = Rules::parse(&set, &config, &mut BodyFields::default(), &mut Vec::new());
    let lines = Fields::new();
    let verdict = rules.judge(&asked(&lines), &who(Some("u"), None), &mut Searches::default());
    assert_eq!(verdict.headers()[1], ("U", "a  X-Evil: 1".to_owned()));
}

#[test]
fn a_broken_rule_is_switched_off_alone_and_says_why() {
    let set = json!([
        rule("A", "user", &json!({"type": "weather"})),
        rule("B", "regex", &json!({"regex_config": null})),
        rule(
            "C",
            "regex",
            &json!({"regex_config": [{"conditions": [
            {"path": "request.verb", "value": "("}]}]})
        ),
        rule("D", "user", &json!({"response": {"status": 42}})),
        rule("E", "user", &json!({"response": {"status": 403, "headers": {"a b": "x"}}})),
        rule(
            "F",
            "user",
            &json!({"response": {"status": 403, "headers": {"Transfer-Encoding": "x"}}})
        ),
        rule("G", "user", &json!({"response": {"status": 403, "body": "x".repeat(70_000)}})),
        rule("H", "user", &json!({"_id": 7})),
        rule("R", "regex", &json!({})),
        "nothing",
    ]);
    let mut faults = Vec::new();
    let rules = Rules::parse(&set, &json!({}), &mut BodyFields::default(), &mut faults);
    assert_eq!(rules.rules.len(), 1);
    assert_eq!(faults.len(), 9, "{faults:?}");
    for (fault, (name, why)) in faults.iter().zip([
        ("A", "its type"),
        ("B", "no regex_config"),
        ("C", "cannot be used"),
        ("D", "without a status"),
        ("E", "header \"a b\""),
        ("F", "Transfer-Encoding"),
        ("G", "larger"),
        ("H", "no _id"),
        ("without a name", "type"),
    ]) {
        assert!(fault.contains(&format!("rule {name} is")) && fault.contains(why), "{fault}");
    }
    let lines = Fields::new();
    let verdict = rules.judge(&asked(&lines), &who(None, None), &mut Searches::default());
    assert_eq!(verdict.blocked().map(|blocked| blocked.rule_id), Some("R".into()));
}

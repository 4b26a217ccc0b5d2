//! Governance: rules that block exchanges or add headers to their answers.
//!
//! A rule is for users, for companies, or for everyone whose request matches (`regex`). The rules
//! of users come before those of companies, and these before the others; the first one that blocks
//! gives the answer, and every one that applies adds its headers.
//!
//! Source: Moesif's API reference (`GET /v1/rules`) and the behaviour of Moesif's libraries;
//! `kong-plugin-moesif` `kong/plugins/moesif/moesif_gov.lua`, its defects left behind.

use super::conditions::{Asked, BodyFields, Groups};
use super::identify::Identity;
use super::pattern::Searches;
use serde_json::Value;
use std::collections::HashMap;

/// Most rules of one application: an exchange looks at all of them.
pub const RULES_MAX: usize = 512;
/// Largest answer of a rule, in bytes of JSON.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Most headers of one rule.
const HEADERS_MAX: usize = 64;
/// Longest value that is put in the place of a tag, in bytes.
const VALUE_BYTES_MAX: usize = 4 << 10;
/// What stands for a value that is not known.
const UNKNOWN: &str = "UNKNOWN";
/// Lines that belong to the connection or to the framing, which no rule may set.
const KEPT_HEADERS: [&str; 7] =
    ["connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

/// Name and value of a header line, the value with its tags.
type Line = (Box<str>, Box<str>);

/// What tags are replaced with, by name.
type Values = HashMap<Box<str>, Box<str>>;

/// Whose rule it is, in the order in which rules are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum List {
    User,
    UserUnidentified,
    Company,
    CompanyUnidentified,
    Regex,
}

/// One rule that can be used.
#[derive(Debug)]
pub struct Rule {
    /// Its id, for `blocked_by`.
    pub id: Box<str>,
    list: List,
    blocks: bool,
    not_matching: bool,
    groups: Groups,
    variables: Vec<Box<str>>,
    status: u16,
    headers: Vec<Line>,
    body: Option<Value>,
}

/// Users or companies by id: the rules that they are in the cohort of, with their values.
type Cohorts = HashMap<Box<[u8]>, Vec<(usize, Values)>>;

/// The rules of one application.
#[derive(Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    users: Cohorts,
    companies: Cohorts,
}

/// What the rules say about one exchange: those that apply, in order.
#[derive(Default)]
pub struct Verdict<'r> {
    matched: Vec<(&'r Rule, Option<&'r Values>)>,
}

/// A blocking rule's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// The rule's id.
    pub rule_id: Box<str>,
    /// The status.
    pub status: u16,
    /// Whether the body is JSON; a body that is a text goes out as it is, without a type.
    pub json: bool,
    /// The body.
    pub body: Vec<u8>,
}

impl Rules {
    /// Reads the rules and who is in whose cohort. A rule that cannot be used is left out alone;
    /// `faults` then says which and why.
    pub fn parse(
        rules: &Value,
        config: &Value,
        fields: &mut BodyFields,
        faults: &mut Vec<String>,
    ) -> Self {
        let mut found = Vec::new();
        for rule in rules.as_array().into_iter().flatten() {
            let name = ["_id", "name"].iter().find_map(|name| rule.get(name)?.as_str());
            let name = name.unwrap_or("without a name").to_owned();
            let read = match found.len() {
                RULES_MAX => Err(format!("there are more than {RULES_MAX}")),
                _ => Rule::parse(rule, fields),
            };
            match read {
                Ok(rule) => found.push(rule),
                Err(why) => faults.push(format!("rule {name} is switched off: {why}")),
            }
        }
        found.sort_by_key(|rule| rule.list);
        let places: HashMap<&str, usize> =
            found.iter().enumerate().map(|(at, rule)| (&*rule.id, at)).collect();
        let (users, companies) = (
            cohorts(config.get("user_rules"), &places),
            cohorts(config.get("company_rules"), &places),
        );
        Self { rules: found, users, companies }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether some rule depends on who asks.
    pub fn ask_who(&self) -> bool {
        self.rules.iter().any(|rule| rule.list != List::Regex)
    }

    /// Whether some rule looks at the request's body.
    pub fn read_body(&self) -> bool {
        self.rules.iter().any(|rule| rule.groups.reads_body())
    }

    /// The rules that apply to an exchange.
    pub fn judge(&self, asked: &Asked<'_>, who: &Identity, searches: &mut Searches) -> Verdict<'_> {
        let user = cohorts_of(&self.users, &who.user_id);
        let company = cohorts_of(&self.companies, &who.company_id);
        let mut matched = Vec::new();
        for (at, rule) in self.rules.iter().enumerate() {
            let entity = match rule.list {
                List::User | List::UserUnidentified => Some(user),
                List::Company | List::CompanyUnidentified => Some(company),
                List::Regex => None,
            };
            let values = match entity {
                None => None,
                // Nobody knows who it is: only rules for the unidentified apply.
                Some(None) if rule.is_for_unidentified() => None,
                Some(None) => continue,
                Some(Some(cohorts)) => {
                    let values = cohorts.iter().find(|(rule, _)| *rule == at).map(|(_, v)| v);
                    if values.is_some() == rule.not_matching {
                        continue;
                    }
                    values
                }
            };
            if rule.groups.is_empty() || rule.groups.hold(asked, searches) {
                matched.push((rule, values));
            }
        }
        Verdict { matched }
    }
}

/// The cohorts that someone is in; `None` if nobody knows who it is.
fn cohorts_of<'r>(cohorts: &'r Cohorts, id: &Option<Vec<u8>>) -> Option<&'r [(usize, Values)]> {
    id.as_deref().map(|id| cohorts.get(id).map_or(&[][..], Vec::as_slice))
}

/// Reads `{"<id>": [{"rules": "<rule id>", "values": {"0": …}}]}`.
fn cohorts(config: Option<&Value>, places: &HashMap<&str, usize>) -> Cohorts {
    let entry = |entry: &Value| {
        let rule = *places.get(entry.get("rules")?.as_str()?)?;
        let values = entry.get("values").and_then(Value::as_object);
        let value = |(name, value): (&String, &Value)| {
            let value = written(value)?;
            (value.len() <= VALUE_BYTES_MAX).then(|| (name.as_str().into(), value.into()))
        };
        Some((rule, values.into_iter().flatten().filter_map(value).collect()))
    };
    let of = |(id, entries): (&String, &Value)| {
        let entries = entries.as_array().into_iter().flatten().filter_map(entry).collect();
        (id.as_bytes().into(), entries)
    };
    config.and_then(Value::as_object).into_iter().flatten().map(of).collect()
}

/// A scalar as a text.
fn written(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

impl Rule {
    fn parse(rule: &Value, fields: &mut BodyFields) -> Result<Self, String> {
        let text = |name: &str| rule.get(name).and_then(Value::as_str);
        let flag = |name: &str| rule.get(name).and_then(Value::as_bool).unwrap_or(false);
        let list = match (text("type"), flag("applied_to_unidentified")) {
            (Some("user"), false) => List::User,
            (Some("user"), true) => List::UserUnidentified,
            (Some("company"), false) => List::Company,
            (Some("company"), true) => List::CompanyUnidentified,
            (Some("regex"), _) => List::Regex,
            _ => return Err("its type is not user, company or regex".to_owned()),
        };
        let groups = match rule.get("regex_config") {
            None | Some(Value::Null) if list == List::Regex => {
                // It would mean every request.
                return Err("it has no regex_config".to_owned());
            }
            None | Some(Value::Null) => Groups::default(),
            Some(groups) => Groups::parse(groups, fields)?,
        };
        let blocks = flag("block");
        let response = rule.get("response").unwrap_or(&Value::Null);
        let variables = rule.get("variables").and_then(Value::as_array).into_iter().flatten();
        Ok(Self {
            id: text("_id").ok_or("it has no _id")?.into(),
            list,
            blocks,
            not_matching: text("applied_to") == Some("not_matching"),
            groups,
            variables: variables.filter_map(|v| v.get("name")?.as_str()).map(Into::into).collect(),
            status: status(response, blocks)?,
            headers: headers(response)?,
            body: body(response)?,
        })
    }

    fn is_for_unidentified(&self) -> bool {
        matches!(self.list, List::UserUnidentified | List::CompanyUnidentified)
    }

    /// A text with its tags replaced: `{{0}}` by the value of a declared variable, or by the
    /// default in `{{0|default}}`, or by `UNKNOWN`. What is not declared stays.
    fn filled(&self, text: &str, values: Option<&Values>) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("{{") {
            out.push_str(before);
            let Some((tag, after)) = behind.split_once("}}") else {
                out.push_str("{{");
                rest = behind;
                break;
            };
            let (name, default) = match tag.split_once('|') {
                Some((name, default)) => (name, default),
                None => (tag, UNKNOWN),
            };
            if self.variables.iter().any(|variable| **variable == *name) {
                let value = values.and_then(|values| values.get(name));
                out.push_str(value.map_or(default, |value| value));
                rest = after;
            } else {
                out.push_str("{{");
                rest = behind;
            }
        }
        out.push_str(rest);
        out
    }

    fn filled_value(&self, value: &Value, values: Option<&Values>) -> Value {
        match value {
            Value::String(text) => Value::String(self.filled(text, values)),
            Value::Array(items) => {
                items.iter().map(|item| self.filled_value(item, values)).collect()
            }
            Value::Object(members) => {
                let filled = |(k, v): (&String, &Value)| (k.clone(), self.filled_value(v, values));
                Value::Object(members.iter().map(filled).collect())
            }
            other => other.clone(),
        }
    }
}

fn status(response: &Value, blocks: bool) -> Result<u16, String> {
    let status = response.get("status").and_then(Value::as_f64);
    match status {
        Some(status) if (200.0..600.0).contains(&status) => Ok(status as u16),
        _ if !blocks => Ok(200),
        _ => Err("it blocks without a status from 200 to 599".to_owned()),
    }
}

fn headers(response: &Value) -> Result<Vec<Line>, String> {
    let headers = response.get("headers").and_then(Value::as_object);
    let mut found = Vec::new();
    for (name, value) in headers.into_iter().flatten() {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let kept = KEPT_HEADERS.iter().any(|kept| kept.eq_ignore_ascii_case(name));
        if name.is_empty() || !name.bytes().all(token) || kept || found.len() == HEADERS_MAX {
            return Err(format!("it may not set the header {name:?}"));
        }
        let value = written(value).ok_or_else(|| format!("its header {name} is no text"))?;
        found.push((name.as_str().into(), value.into()));
    }
    Ok(found)
}

fn body(response: &Value) -> Result<Option<Value>, String> {
    let body = response.get("body").filter(|body| !body.is_null());
    match body {
        Some(body) if body.to_string().len() > ANSWER_BYTES_MAX => {
            Err(format!("its answer is larger than {ANSWER_BYTES_MAX} bytes"))
        }
        body => Ok(body.cloned()),
    }
}

impl Verdict<'_> {
    /// Whether no rule applies.
    pub fn is_empty(&self) -> bool {
        self.matched.is_empty()
    }

    /// The headers of all rules that apply; the first one that sets a name decides its value.
    pub fn headers(&self) -> Vec<(&str, String)> {
        let mut found: Vec<(&str, String)> = Vec::new();
        for (rule, values) in &self.matched {
            for (name, value) in &rule.headers {
                if found.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                    continue;
                }
                // A value of a user may hold anything; a line may not.
                let value = rule.filled(value, *values);
                found.push((name, value.replace(|c: char| c.is_control(), " ").trim().to_owned()));
            }
        }
        found
    }

    /// The answer of the first rule that blocks.
    pub fn blocked(&self) -> Option<Blocked> {
        let (rule, values) = self.matched.iter().find(|(rule, _)| rule.blocks)?;
        let (json, body) = match &rule.body {
            None => (false, Vec::new()),
            Some(Value::String(text)) => (false, rule.filled(text, *values).into_bytes()),
            Some(body) => (true, rule.filled_value(body, *values).to_string().into_bytes()),
        };
        Some(Blocked { rule_id: rule.id.clone(), status: rule.status, json, body })
    }
}

#[cfg(test)]
mod tests;

//! What the configuration asks for, compiled: names and templates.

use crate::pdk::template::{Sight, Template};
use crate::pdk::{Config, Fault};

/// What is done to one part of a request (headers, query, body), in this order.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub(super) remove: Vec<String>,
    pub(super) rename: Vec<Rule>,
    pub(super) replace: Vec<Rule>,
    pub(super) add: Vec<Rule>,
    pub(super) append: Vec<Rule>,
}

/// A name and a value; of a renaming the value is the new name.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) name: String,
    /// None where nothing stands behind the colon: then there is nothing to do.
    value: Option<Template>,
}

/// The name and the value of `name:value`; further colons belong to the value, but for those that
/// follow the first at once.
pub(super) fn pair(text: &str) -> (&str, &str) {
    let (name, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
    (name, rest.trim_start_matches(':'))
}

impl Rules {
    /// The rules for `part`. The fault names the record that holds the list.
    pub(super) fn of(config: &Config<'_>, part: &str) -> Result<Self, Fault> {
        let texts = |record: &'static str| -> Vec<String> {
            let list = config.get(record).lookup(part);
            list.map(|list| list.texts().map(str::to_owned).collect()).unwrap_or_default()
        };
        let rules = |record: &'static str| -> Result<Vec<Rule>, Fault> {
            texts(record).iter().map(|text| Rule::new(record, text)).collect()
        };
        Ok(Self {
            remove: texts("remove").iter().map(|text| pair(text).0.to_owned()).collect(),
            rename: rules("rename")?,
            replace: rules("replace")?,
            add: rules("add")?,
            append: rules("append")?,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.valued().next().is_none()
    }

    /// Every template.
    pub(super) fn templates(&self) -> impl Iterator<Item = &Template> {
        self.valued().filter_map(|rule| rule.value.as_ref())
    }

    fn valued(&self) -> impl Iterator<Item = &Rule> {
        self.rename.iter().chain(&self.replace).chain(&self.add).chain(&self.append)
    }
}

impl Rule {
    fn new(record: &'static str, text: &str) -> Result<Self, Fault> {
        let (name, value) = pair(text);
        let value = Some(value).filter(|value| !value.is_empty()).map(Template::parse).transpose();
        let fault = |message| Fault { field: record, message };
        Ok(Self { name: name.to_owned(), value: value.map_err(fault)? })
    }

    /// The value for one request.
    pub(super) fn value(&self, sight: &Sight<'_>) -> Option<Vec<u8>> {
        self.value.as_ref().map(|template| template.render(sight))
    }
}

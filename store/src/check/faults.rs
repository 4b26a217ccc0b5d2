//! What is wrong with an object, field by field.
//!
//! The tree becomes the `fields` of a [`Fault`], which also puts it into one sentence.

use crate::fault::Fault;
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A sentence.
    Text(String),
    /// Faults of a record's or a pointer's fields.
    Fields(Faults),
    /// Faults of a list's items, counted from 1.
    Items(Vec<(usize, Wrong)>),
}

/// What is wrong with an object: its fields, and the object as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    fields: BTreeMap<String, Wrong>,
    whole: Vec<String>,
}

impl From<&str> for Wrong {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Wrong {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl Faults {
    /// Nothing wrong.
    pub fn new() -> Self {
        Self::default()
    }

    /// One field is wrong.
    pub fn of(field: &str, wrong: impl Into<Wrong>) -> Self {
        let mut faults = Self::new();
        faults.set(field, wrong);
        faults
    }

    /// The object as a whole is wrong.
    pub fn whole(text: impl Into<String>) -> Self {
        Self { fields: BTreeMap::new(), whole: vec![text.into()] }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.whole.is_empty()
    }

    /// Puts the fault of a field, in place of an earlier one.
    pub fn set(&mut self, field: &str, wrong: impl Into<Wrong>) {
        self.fields.insert(field.to_owned(), wrong.into());
    }

    /// Puts the fault of a field by its dotted path, in place of an earlier one.
    ///
    /// A sentence on the way down gives way to the deeper fault.
    pub fn set_path(&mut self, path: &str, wrong: impl Into<Wrong>) {
        let Some((first, rest)) = path.split_once('.') else { return self.set(path, wrong) };
        let slot = self.fields.entry(first.to_owned()).or_insert(Wrong::Fields(Self::new()));
        if !matches!(slot, Wrong::Fields(_)) {
            *slot = Wrong::Fields(Self::new());
        }
        if let Wrong::Fields(inner) = slot {
            inner.set_path(rest, wrong);
        }
    }

    /// Adds a fault of the object as a whole (`@entity`).
    pub fn add_whole(&mut self, text: impl Into<String>) {
        self.whole.push(text.into());
    }

    /// The fault of a field.
    pub fn get(&self, field: &str) -> Option<&Wrong> {
        self.fields.get(field)
    }

    /// As the `fields` of an answer.
    pub fn to_json(&self) -> Map<String, Json> {
        let mut object = Map::new();
        if !self.whole.is_empty() {
            object.insert("@entity".to_owned(), json!(self.whole));
        }
        for (name, wrong) in &self.fields {
            object.insert(name.clone(), wrong.to_json());
        }
        object
    }
}

impl Wrong {
    /// As JSON; lists are padded with null up to the faulty item, as Kong's encoder does.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Text(text) => json!(text),
            Self::Fields(faults) => faults.to_json().into(),
            Self::Items(items) => {
                let mut list = Vec::new();
                for (place, wrong) in items {
                    list.resize(place.saturating_sub(1), Json::Null);
                    list.push(wrong.to_json());
                }
                list.into()
            }
        }
    }
}

impl From<Faults> for Fault {
    fn from(faults: Faults) -> Self {
        Self::schema_violation(faults.to_json())
    }
}

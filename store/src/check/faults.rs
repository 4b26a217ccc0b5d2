//! What is wrong with an object, field by field.
//!
//! The tree becomes the `fields` of a [`Fault`], which also puts it into one sentence.

use crate::fault::Fault;
use serde_json::{Map, Value as Json, json};

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
    fields: Vec<(String, Wrong)>,
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
        Self { fields: Vec::new(), whole: vec![text.into()] }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.whole.is_empty()
    }

    /// Puts the fault of a field, in place of an earlier one.
    pub fn set(&mut self, field: &str, wrong: impl Into<Wrong>) {
        let wrong = wrong.into();
        match self.fields.iter_mut().find(|(name, _)| name == field) {
            Some((_, earlier)) => *earlier = wrong,
            None => self.fields.push((field.to_owned(), wrong)),
        }
    }

    /// Puts the fault of a field by its dotted path, in place of an earlier one.
    ///
    /// A sentence on the way down gives way to the deeper fault.
    pub fn set_path(&mut self, path: &str, wrong: impl Into<Wrong>) {
        let Some((first, rest)) = path.split_once('.') else { return self.set(path, wrong) };
        if !matches!(self.get(first), Some(Wrong::Fields(_))) {
            self.set(first, Wrong::Fields(Self::new()));
        }
        let inner = self.fields.iter_mut().find(|(name, _)| name == first);
        if let Some((_, Wrong::Fields(inner))) = inner {
            inner.set_path(rest, wrong);
        }
    }

    /// Adds a fault of the object as a whole (`@entity`).
    pub fn add_whole(&mut self, text: impl Into<String>) {
        self.whole.push(text.into());
    }

    /// The fault of a field.
    pub fn get(&self, field: &str) -> Option<&Wrong> {
        self.fields.iter().find(|(name, _)| name == field).map(|(_, wrong)| wrong)
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

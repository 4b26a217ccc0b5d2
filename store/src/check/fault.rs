//! What can be wrong with a write, and Kong's words for it.
//!
//! [`Faults`] is the tree of what is wrong with fields; [`Fault`] is the answer to a whole call,
//! with Kong's code, name, message and `fields`. Clients match on all four.
//!
//! Source: Kong `kong/db/errors.lua`; statuses from `kong/api/endpoints.lua`.

use super::pretty;
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

    /// The list in the brackets of `schema violation (…)`, and how many it has.
    fn listed(&self) -> (usize, String) {
        let mut parts: Vec<String> = self.whole.clone();
        for (name, wrong) in sorted(&self.fields) {
            match wrong {
                Wrong::Text(text) => parts.push(format!("{name}: {text}")),
                Wrong::Fields(inner) => inner.listed_under(name, &mut parts),
                Wrong::Items(items) => {
                    for (place, item) in items {
                        parts.push(format!("{name}.{place}: {}", item.inline()));
                    }
                }
            }
        }
        (parts.len(), parts.join("; "))
    }

    fn listed_under(&self, name: &str, parts: &mut Vec<String>) {
        if !self.whole.is_empty() {
            let whole = pretty::lines(&json!(self.whole));
            parts.push(format!("{name}.@entity: {whole}"));
        }
        for (inner, wrong) in sorted(&self.fields) {
            parts.push(format!("{name}.{inner}: {}", wrong.inline()));
        }
    }
}

fn sorted(fields: &[(String, Wrong)]) -> Vec<&(String, Wrong)> {
    let mut fields: Vec<_> = fields.iter().collect();
    fields.sort_by(|one, two| one.0.cmp(&two.0));
    fields
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

    fn inline(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            deeper => pretty::lines(&deeper.to_json()),
        }
    }
}

/// The answer to a call that was refused.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Code 1: the key in the path is no valid primary key; what is wrong with its fields.
    PrimaryKey(Faults),
    /// Code 2: the object is not valid.
    Schema(Faults),
    /// Code 3: a row with this key exists.
    KeyTaken(Map<String, Json>),
    /// Code 4: a pointer to a row that does not exist.
    NoParent {
        /// The pointing field.
        field: String,
        /// The key it holds.
        key: Map<String, Json>,
        /// The entity it points to.
        parent: String,
    },
    /// Code 4: other rows point to this one.
    HasChildren {
        /// The entity of the row.
        parent: String,
        /// The entity of the rows that point to it.
        child: String,
    },
    /// Code 5: another row has these values.
    Unique(Map<String, Json>),
    /// Code 6: no row with this primary key.
    NotFound(Map<String, Json>),
    /// Code 6: no row with these values.
    NotFoundBy(Map<String, Json>),
    /// Code 7: a page token that is none, and why.
    Offset(String, String),
    /// Code 8: the database failed. The words go to the log; clients read an unexpected error.
    Database(String),
    /// Code 9: what is wrong with a page size.
    Size(String),
    /// Code 10: the key in the path is no valid value of that field.
    UniqueKey(String, String),
    /// Code 11: options of the call, and what is wrong with them.
    Options(Faults),
    /// Code 12: what this store cannot do.
    Unsupported(String),
    /// Code 13: pointers by another field than the id that lead nowhere.
    ForeignKeys(Faults),
    /// Code 15: a row could not be made ready for storing.
    Transform(String),
    /// Code 19: rows that name this one.
    Referenced(String),
}

impl Fault {
    /// Kong's number of it.
    pub fn code(&self) -> u16 {
        match self {
            Self::PrimaryKey(_) => 1,
            Self::Schema(_) => 2,
            Self::KeyTaken(_) => 3,
            Self::NoParent { .. } | Self::HasChildren { .. } => 4,
            Self::Unique(_) => 5,
            Self::NotFound(_) | Self::NotFoundBy(_) => 6,
            Self::Offset(..) => 7,
            Self::Database(_) => 8,
            Self::Size(_) => 9,
            Self::UniqueKey(..) => 10,
            Self::Options(_) => 11,
            Self::Unsupported(_) => 12,
            Self::ForeignKeys(_) => 13,
            Self::Transform(_) => 15,
            Self::Referenced(_) => 19,
        }
    }

    /// Kong's name of it.
    pub fn name(&self) -> String {
        let name = match self {
            Self::PrimaryKey(_) => "invalid primary key",
            Self::Schema(_) => "schema violation",
            Self::KeyTaken(_) => "primary key violation",
            Self::NoParent { .. } | Self::HasChildren { .. } => "foreign key violation",
            Self::Unique(_) => "unique constraint violation",
            Self::NotFound(_) | Self::NotFoundBy(_) => "not found",
            Self::Offset(..) => "invalid offset",
            Self::Database(_) => "database error",
            Self::Size(_) => "invalid size",
            Self::UniqueKey(field, _) => return format!("invalid unique {field}"),
            Self::Options(_) => "invalid options",
            Self::Unsupported(_) => "operation unsupported",
            Self::ForeignKeys(_) => "foreign keys unresolved",
            Self::Transform(_) => "transformation error",
            Self::Referenced(_) => "referenced by others",
        };
        name.to_owned()
    }

    /// The status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::Unique(_) => 409,
            Self::NotFound(_) | Self::NotFoundBy(_) => 404,
            Self::Unsupported(_) => 405,
            Self::Database(_) | Self::Transform(_) => 500,
            _ => 400,
        }
    }

    /// Kong's sentence.
    pub fn message(&self) -> String {
        match self {
            Self::PrimaryKey(faults) => {
                format!("invalid primary key: '{}'", pretty::line(&faults.to_json().into()))
            }
            Self::Schema(faults) => counted(faults, "schema violation", "schema violations"),
            Self::KeyTaken(key) => {
                format!("primary key violation on key '{}'", line(key))
            }
            Self::NoParent { key, parent, .. } => format!(
                "the foreign key '{}' does not reference an existing '{parent}' entity.",
                line(key)
            ),
            Self::HasChildren { parent, child } => {
                format!("an existing '{child}' entity references this '{parent}' entity")
            }
            Self::Unique(values) => format!("UNIQUE violation detected on '{}'", line(values)),
            Self::NotFound(key) => {
                format!("could not find the entity with primary key '{}'", line(key))
            }
            Self::NotFoundBy(key) => format!("could not find the entity with '{}'", line(key)),
            Self::Offset(token, why) => format!("'{token}' is not a valid offset: {why}"),
            Self::Options(faults) => counted(faults, "invalid option", "option violations"),
            Self::ForeignKeys(faults) => {
                counted(faults, "foreign key unresolved", "foreign keys unresolved")
            }
            Self::Transform(why) => format!("transformation failed: {why}"),
            Self::Database(text)
            | Self::Size(text)
            | Self::UniqueKey(_, text)
            | Self::Unsupported(text)
            | Self::Referenced(text) => text.clone(),
        }
    }

    /// What stands under `fields` (or `options`, code 11); `None` where Kong sends neither.
    pub fn fields(&self) -> Option<Map<String, Json>> {
        match self {
            Self::PrimaryKey(faults)
            | Self::Schema(faults)
            | Self::Options(faults)
            | Self::ForeignKeys(faults) => Some(faults.to_json()),
            Self::KeyTaken(key)
            | Self::Unique(key)
            | Self::NotFound(key)
            | Self::NotFoundBy(key) => Some(key.clone()),
            Self::NoParent { field, key, .. } => {
                Some(Map::from_iter([(field.clone(), key.clone().into())]))
            }
            Self::HasChildren { child, .. } => {
                Some(Map::from_iter([("@referenced_by".to_owned(), json!(child))]))
            }
            _ => None,
        }
    }

    /// The whole answer's body.
    pub fn to_json(&self) -> Map<String, Json> {
        if self.status() == 500 {
            return Map::from_iter([("message".to_owned(), json!("An unexpected error occurred"))]);
        }
        let mut body = Map::new();
        body.insert("code".to_owned(), json!(self.code()));
        body.insert("name".to_owned(), json!(self.name()));
        body.insert("message".to_owned(), json!(self.message()));
        if let Some(fields) = self.fields() {
            let name = if self.code() == 11 { "options" } else { "fields" };
            body.insert(name.to_owned(), fields.into());
        }
        body
    }
}

impl From<Faults> for Fault {
    fn from(faults: Faults) -> Self {
        Self::Schema(faults)
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message())
    }
}

fn line(key: &Map<String, Json>) -> String {
    pretty::line(&Json::Object(key.clone()))
}

fn counted(faults: &Faults, one: &str, several: &str) -> String {
    let (count, list) = faults.listed();
    if count == 1 { format!("{one} ({list})") } else { format!("{count} {several} ({list})") }
}

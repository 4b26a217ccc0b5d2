//! Declarative configuration: one document that holds all rows, in place of a database.
//!
//! ```text
//! text ─► yaml │ JSON ─► document: every entity by itself ─► ids ─► check ─► references ─► Loaded
//!                        (nested ones know their parent)           (all faults at once)
//! ```
//! Pure: nothing here reads a file or knows the store. Kong's words throughout, because tools read
//! them.
//!
//! Source: Kong `kong/db/declarative/init.lua`, `kong/db/schema/others/declarative_config.lua`,
//! `kong/db/errors.lua`; `recorded/dbless.jsonl`.

mod document;
mod export;
mod flat;
mod ids;
mod load;
mod paths;
#[cfg(test)]
mod tests;
mod tree;
mod yaml;

pub use export::export;
pub use load::Item;
pub(crate) use load::taken;
pub use yaml::{DEPTH_MAX, VALUES_MAX};

use crate::check::{Facts, Faults};
use crate::fault;
use crate::schema::{Catalogue, Variants};
use crate::snapshot::Change;
use crate::value::Row;
use md5::{Digest, Md5};
use serde_json::{Map, Value as Json, json};
use std::sync::Arc;

/// Most names in one object.
pub const NAMES_MAX: usize = 1000;

/// What the rows are for: some may only be where there is a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// `database=off`.
    Off,
    /// One with a database.
    Database,
}

/// A configuration that has passed every check.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its rows, parents before children.
    pub items: Vec<Item>,
    /// MD5 of its text: `configuration_hash` in `GET /status`.
    pub hash: u128,
}

impl Loaded {
    /// The rows by themselves, for a store that holds none yet.
    #[must_use]
    pub fn rows(&self, catalogue: &Catalogue) -> Vec<Row> {
        self.items.iter().map(|item| item.row(catalogue, 0)).collect()
    }

    /// The same, if `check` has nothing against the rows whose configuration is a plugin's. What
    /// the Admin API asks at each write is asked here for the rows of a start or an import.
    ///
    /// # Errors
    /// What it has against them, in the form of the document.
    pub fn checked(
        self,
        catalogue: &Catalogue,
        check: impl Fn(&Change) -> Result<(), Faults>,
    ) -> Result<Self, Refusal> {
        let mut faults = Json::Null;
        let is_plugins = |item: &&Item| matches!(item.entity.variants, Variants::Plugins);
        for item in self.items.iter().filter(is_plugins) {
            let after = Some(Arc::new(item.row(catalogue, 0)));
            if let Err(fault) = check(&Change { entity: item.entity, before: None, after }) {
                item.blame(&mut faults, fault.to_json().into());
            }
        }
        match faults {
            Json::Object(fields) => Err(Refusal { fields, flattened: None }),
            _ => Ok(self),
        }
    }
}

/// Why a document is no configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Kong's table of faults: it has the form of the document.
    pub fields: Map<String, Json>,
    /// Faults entity by entity, if they were asked for.
    pub flattened: Option<Vec<Json>>,
}

impl Refusal {
    /// The text itself cannot be read.
    fn unreadable(why: &str) -> Self {
        let fields = Map::from_iter([("error".to_owned(), json!(why))]);
        Self { fields, flattened: None }
    }

    /// The body of the answer: Kong's code 14.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let fields = Json::Object(self.fields.clone());
        let message = format!("declarative config is invalid: {}", fault::compact(&fields));
        let mut body = json!({
            "code": 14,
            "name": "invalid declarative configuration",
            "message": message,
            "fields": fields,
        });
        if let Some(flattened) = &self.flattened {
            // Lua's empty table is an object.
            let none = flattened.is_empty();
            body["flattened_errors"] = if none { json!({}) } else { json!(flattened) };
        }
        body
    }

    /// For a person at a terminal, one fault a line.
    #[must_use]
    pub fn to_text(&self) -> String {
        if let Some(Json::String(why)) = self.fields.get("error") {
            return why.clone();
        }
        tree::text(&self.fields)
    }
}

/// Reads a text: JSON if it is JSON, else YAML. A file's name decides by its end.
///
/// # Errors
/// The text is neither, or holds no object.
pub fn read(text: &str, file: Option<&str>) -> Result<Map<String, Json>, Refusal> {
    let ends = |end: &[&str]| file.is_none_or(|name| end.iter().any(|end| name.ends_with(end)));
    let (json, yaml) = (ends(&["json"]), ends(&["yaml", "yml"]));
    if !json && !yaml {
        let name = file.unwrap_or_default();
        let why = format!("unknown file type: {name}. (Accepted types: json, yaml)");
        return Err(Refusal::unreadable(&why));
    }
    let mut why = String::new();
    if json {
        match serde_json::from_str(text) {
            Ok(Json::Object(document)) => return Ok(document),
            Ok(_) => "expected an object".clone_into(&mut why),
            Err(fault) => why = fault.to_string(),
        }
    }
    if yaml {
        match yaml::read(text) {
            Ok(Json::Object(document)) => return Ok(document),
            Ok(_) => "expected an object".clone_into(&mut why),
            Err(fault) => why = fault,
        }
    }
    Err(Refusal::unreadable(&format!("failed parsing declarative configuration: {why}")))
}

/// Makes rows of a document.
///
/// `flatten` asks for the faults entity by entity as well.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(
    catalogue: &Catalogue,
    mut document: Map<String, Json>,
    hash: u128,
    flatten: bool,
    node: Node,
    facts: &mut Facts<'_>,
) -> Result<Loaded, Refusal> {
    if document.values().any(is_wide) {
        let words = format!("more than {NAMES_MAX} names in one object");
        return Err(Refusal::unreadable(&words));
    }
    paths::to_version_3(&mut document);
    match load::load(catalogue, &document, node, facts) {
        Ok(items) => Ok(Loaded { items, hash }),
        Err(mut fields) => {
            let flattened = flatten.then(|| flat::flatten(catalogue, document, &mut fields));
            Err(Refusal { fields, flattened })
        }
    }
}

/// Reads a text and makes rows of it.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(
    catalogue: &Catalogue,
    text: &str,
    file: Option<&str>,
    node: Node,
    facts: &mut Facts<'_>,
) -> Result<Loaded, Refusal> {
    let document = read(text, file)?;
    load(catalogue, document, hash(text.as_bytes()), false, node, facts)
}

/// Whether an object in it has more names than anything real. Depth is bounded by the readers.
fn is_wide(value: &Json) -> bool {
    match value {
        Json::Array(items) => items.iter().any(is_wide),
        Json::Object(pairs) => pairs.len() > NAMES_MAX || pairs.values().any(is_wide),
        _ => false,
    }
}

/// MD5 of a text, as a number.
#[must_use]
pub fn hash(text: &[u8]) -> u128 {
    let digest: [u8; 16] = Md5::digest(text).into();
    u128::from_be_bytes(digest)
}

//! The configuration of response-transformer. Descriptions are Kong's: `/schemas` prints them.

use store::schema::{Field, PluginSchema, Preset, array, record, text};
use store::value::Value;

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "response-transformer",
    priority: 800,
    config: CONFIG,
    ..PluginSchema::EMPTY
};

const NAME: Field = text("", "");
const PAIR: Field = text("", "").matches("^[^:]+:.*$");
const HEADER_NAMES: Field = text("", "").matches("^[^:]+:.*$").custom(are_headers);
const TYPE: Field = text("", "").one_of(&["boolean", "number", "string"]);

const fn list(name: &'static str, elements: &'static Field) -> Field {
    array(name, "", elements).required().or(Preset::List(&[]))
}

const VALUED: &[Field] = &[
    list("json", &PAIR),
    array(
        "json_types",
        "List of JSON type names. Specify the types of the JSON values returned when appending\n\
         JSON properties. Each string element can be one of: boolean, number, or string.",
        &TYPE,
    )
    .required()
    .or(Preset::List(&[])),
    list("headers", &PAIR),
];

const CONFIG: &[Field] = &[
    record("remove", "", &[list("json", &NAME), list("headers", &NAME)]),
    record("rename", "", &[list("json", &PAIR), list("headers", &HEADER_NAMES)]),
    record("replace", "", VALUED),
    record("add", "", VALUED),
    record("append", "", VALUED),
];

/// The names of two headers.
fn are_headers(value: &Value) -> Result<(), String> {
    let (from, to) = super::pair(value.as_text().unwrap_or_default());
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(allowed);
    match [from, to].into_iter().find(|name| !is_name(name)) {
        None => Ok(()),
        Some(name) => Err(format!("'{name}' is not a valid header")),
    }
}

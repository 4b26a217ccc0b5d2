//! The configuration of request-transformer. Descriptions are Kong's: `/schemas` prints them.

use store::schema::{Field, PluginSchema, Preset, array, record, text, typical};
use store::value::Value;

use super::rules::pair;
use crate::pdk::template::Template;

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "request-transformer",
    priority: 801,
    protocols: typical::PROTOCOLS,
    config: CONFIG,
    ..PluginSchema::EMPTY
};

const NAME: Field = text("", "");
const HEADER: Field = text("", "").custom(is_header);
const PAIR: Field = text("", "").custom(is_pair);
const HEADER_PAIR: Field = text("", "").matches("^[^:]+:.*$").custom(is_header);
const HEADER_NAMES: Field = text("", "").matches("^[^:]+:.*$").custom(are_headers);

const fn list(name: &'static str, elements: &'static Field) -> Field {
    array(name, "", elements).required().or(Preset::List(&[]))
}

const PAIRS: &[Field] =
    &[list("body", &PAIR), list("headers", &HEADER_PAIR), list("querystring", &PAIR)];

const CONFIG: &[Field] = &[
    text(
        "http_method",
        "A string representing an HTTP method, such as GET, POST, PUT, or DELETE. The string must \
         contain only uppercase letters.",
    )
    .matches("^%u+$"),
    record(
        "remove",
        "",
        &[list("body", &NAME), list("headers", &HEADER), list("querystring", &NAME)],
    ),
    record(
        "rename",
        "",
        &[list("body", &PAIR), list("headers", &HEADER_NAMES), list("querystring", &PAIR)],
    ),
    record(
        "replace",
        "",
        &[
            list("body", &PAIR),
            list("headers", &HEADER_PAIR),
            list("querystring", &PAIR),
            text("uri", ""),
        ],
    ),
    record("add", "", PAIRS),
    record("append", "", PAIRS),
];

/// A name and a value that can be rendered.
fn is_pair(value: &Value) -> Result<(), String> {
    let text = value.as_text().unwrap_or_default();
    let (name, value) = pair(text);
    if value.is_empty() {
        return Err(format!("key '{name}' has no value"));
    }
    renders(value)
}

fn renders(value: &str) -> Result<(), String> {
    match Template::parse(value) {
        Ok(_) => Ok(()),
        Err(why) => Err(format!("value '{value}' is not in supported format, error:{why}")),
    }
}

fn is_name(name: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !name.is_empty() && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(format!("'{name}' is not a valid header"))
}

/// The name of a header, perhaps with a value that can be rendered.
fn is_header(value: &Value) -> Result<(), String> {
    let (name, value) = pair(value.as_text().unwrap_or_default());
    is_name(name)?;
    renders(value)
}

/// The names of two headers.
fn are_headers(value: &Value) -> Result<(), String> {
    let (from, to) = pair(value.as_text().unwrap_or_default());
    is_name(from)?;
    is_name(to)
}

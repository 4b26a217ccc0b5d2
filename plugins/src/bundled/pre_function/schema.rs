//! The configuration of pre-function and post-function. Descriptions are Kong's: `/schemas` prints
//! them.

use store::check::lua;
use store::schema::{Field, PluginSchema, Preset, Rule, array, text, typical};
use store::value::Value;

pub(crate) const SCHEMA: PluginSchema = PluginSchema {
    name: "pre-function",
    priority: 1_000_000,
    protocols: typical::PROTOCOLS,
    no_consumer: true,
    config: &phases(&PRE_FUNCTION),
    rules: RULES,
    ..PluginSchema::EMPTY
};

/// The same for the other end of the road.
pub(crate) const POST_SCHEMA: PluginSchema = PluginSchema {
    name: "post-function",
    priority: -1000,
    config: &phases(&POST_FUNCTION),
    ..SCHEMA
};

const PRE_FUNCTION: Field = text("", "").optional().custom(parses_before);
const POST_FUNCTION: Field = text("", "").optional().custom(parses_after);

fn parses_before(code: &Value) -> Result<(), String> {
    parses(code, "pre-function")
}

fn parses_after(code: &Value) -> Result<(), String> {
    parses(code, "post-function")
}

fn parses(code: &Value, plugin: &str) -> Result<(), String> {
    let code = code.as_text().unwrap_or_default();
    lua::chunk(code).map_err(|why| format!("error parsing {plugin}: {why}"))
}

const fn functions(phase: &'static str, function: &'static Field) -> Field {
    array(
        phase,
        "Custom functions, which can be user-defined, are cached and executed sequentially during \
         specific phases: `certificate`, `rewrite`, `access`, `header_filter`, `body_filter`, and \
         `log`.",
        function,
    )
    .required()
    .or(Preset::List(&[]))
}

const fn phases(function: &'static Field) -> [Field; 6] {
    [
        functions("certificate", function),
        functions("rewrite", function),
        functions("access", function),
        functions("header_filter", function),
        functions("body_filter", function),
        functions("log", function),
    ]
}

const RULES: &[Rule] = &[Rule::AtLeastOneOf(&[
    "config.certificate",
    "config.rewrite",
    "config.access",
    "config.header_filter",
    "config.body_filter",
    "config.log",
])];

//! The configuration of pre-function and post-function. Descriptions are Kong's: `/schemas` prints
//! them.

use store::schema::{Field, PluginSchema, Preset, Rule, array, text, typical};

pub(crate) const SCHEMA: PluginSchema = PluginSchema {
    name: "pre-function",
    priority: 1_000_000,
    protocols: typical::PROTOCOLS,
    no_consumer: true,
    config: CONFIG,
    rules: RULES,
    ..PluginSchema::EMPTY
};

/// The Lua is not looked at until Lua can run: Kong refuses what does not parse.
const fn functions(phase: &'static str) -> Field {
    array(
        phase,
        "Custom functions, which can be user-defined, are cached and executed sequentially during \
         specific phases: `certificate`, `rewrite`, `access`, `header_filter`, `body_filter`, and \
         `log`.",
        &FUNCTION,
    )
    .required()
    .or(Preset::List(&[]))
}

const FUNCTION: Field = text("", "").optional();

const CONFIG: &[Field] = &[
    functions("certificate"),
    functions("rewrite"),
    functions("access"),
    functions("header_filter"),
    functions("body_filter"),
    functions("log"),
];

const RULES: &[Rule] = &[Rule::AtLeastOneOf(&[
    "config.certificate",
    "config.rewrite",
    "config.access",
    "config.header_filter",
    "config.body_filter",
    "config.log",
])];

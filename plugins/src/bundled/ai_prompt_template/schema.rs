//! The configuration of ai-prompt-template. Descriptions are Kong's: `/schemas` prints them.

use store::schema::{Field, PluginSchema, Preset, array, boolean, integer, record, text};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "ai-prompt-template",
    priority: 773,
    config: CONFIG,
    ..PluginSchema::EMPTY
};

const CONFIG: &[Field] = &[
    array(
        "templates",
        "Array of templates available to the request context.",
        &record(
            "",
            "",
            &[
                text(
                    "name",
                    "Unique name for the template, can be called with `{template://NAME}`",
                )
                .required(),
                text(
                    "template",
                    "Template string for this request, supports mustache-style `{{placeholders}}`",
                )
                .required(),
            ],
        ),
    )
    .required(),
    boolean(
        "allow_untemplated_requests",
        "Set true to allow requests that don't call or match any template.",
    )
    .required()
    .or(Preset::Flag(true)),
    boolean(
        "log_original_request",
        "Set true to add the original request to the Kong log plugin(s) output.",
    )
    .required()
    .or(Preset::Flag(false)),
    integer("max_request_body_size", "max allowed body size allowed to be introspected")
        .or(Preset::Integer(8192))
        .gt(0),
];

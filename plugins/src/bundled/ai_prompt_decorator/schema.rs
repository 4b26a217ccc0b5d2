//! The configuration of ai-prompt-decorator. Descriptions are Kong's: `/schemas` prints them.

use store::schema::{Field, PluginSchema, Preset, Rule, array, integer, record, text};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "ai-prompt-decorator",
    priority: 772,
    config: CONFIG,
    rules: RULES,
    ..PluginSchema::EMPTY
};

const CONFIG: &[Field] = &[
    record(
        "prompts",
        "",
        &[
            array(
                "prepend",
                "Insert chat messages at the beginning of the chat message array. This array \
                 preserves exact order when adding messages.",
                &record(
                    "",
                    "",
                    &[
                        text("role", "").required().or(Preset::Text("system")).one_of(&[
                            "system",
                            "assistant",
                            "user",
                        ]),
                        text("content", "").required().len_max(500),
                    ],
                )
                .optional(),
            )
            .optional()
            .len_max(15),
            array(
                "append",
                "Insert chat messages at the end of the chat message array. This array preserves \
                 exact order when adding messages.",
                &record(
                    "",
                    "",
                    &[
                        text("role", "").required().or(Preset::Text("system")).one_of(&[
                            "system",
                            "assistant",
                            "user",
                        ]),
                        text("content", "").required().len_max(500),
                    ],
                )
                .optional(),
            )
            .optional()
            .len_max(15),
        ],
    )
    .optional(),
    integer("max_request_body_size", "max allowed body size allowed to be introspected")
        .or(Preset::Integer(8192))
        .gt(0),
    text("llm_format", "LLM input and output format and schema to use")
        .optional()
        .or(Preset::Text("openai"))
        .one_of(&["openai", "bedrock", "gemini"]),
];

const RULES: &[Rule] = &[Rule::AtLeastOneOf(&["config.prompts.prepend", "config.prompts.append"])];

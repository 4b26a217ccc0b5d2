//! file-log: writes the log document of each exchange as a line of a file.
//!
//! Source: Kong `kong/plugins/file-log/{schema,handler}.lua`; recorded files. With `reopen` a file
//! that was renamed or removed is noticed before each write, and a new one is made.

use exporter::logs::{FilePlan, Form, LogDestination, LogSettings, Terms, Way};
use store::schema::{PluginSchema, Preset, boolean, text, typical};

use crate::pdk::logging::{CUSTOM_FIELDS, Wanted, custom_fields, logging};
use crate::pdk::{Config, Fault, Phase, Prepared, Spec};

/// The plugin.
pub static PLUGIN: Spec = Spec {
    schema: PluginSchema {
        name: "file-log",
        priority: 9,
        protocols: typical::PROTOCOLS,
        config: &[
            text(
                "path",
                "The file path of the output log file. The plugin creates the log file if it \
                 doesn't exist yet.",
            )
            .required()
            .fault("not a valid filename")
            .matches("^[^*&%%\\`]+$"),
            boolean(
                "reopen",
                "Determines whether the log file is closed and reopened on every request.",
            )
            .required()
            .or(Preset::Flag(false)),
            CUSTOM_FIELDS,
        ],
        ..PluginSchema::EMPTY
    },
    phases: &[Phase::Log],
    entities: &[],
    endpoints: &[],
    prepare,
};

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let path = config.text("path").unwrap_or_default().into();
    let way = Way::File(FilePlan { path, reopen: config.flag("reopen") });
    let destination = LogDestination { plugin: "file-log", way, terms: Terms::PROMPT };
    let fields = custom_fields(config);
    Ok(logging(config, LogSettings { destination, form: Form::Document, fields }, Wanted::All))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::script::fault;
    use serde_json::json;

    #[test]
    fn a_path_is_a_filename() {
        assert_eq!(fault(&PLUGIN, json!({"path": "/dev/stdout"})), None);
        for path in ["a*b", "a&b", "100%", "a`b"] {
            let fault = fault(&PLUGIN, json!({"path": path})).unwrap();
            assert!(fault.contains("not a valid filename"), "{path}: {fault}");
        }
    }
}

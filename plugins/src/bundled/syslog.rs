//! syslog: sends the log document of each exchange to this machine's log.
//!
//! Source: Kong `kong/plugins/syslog/{schema,handler}.lua`; recorded messages; syslog(3) for the
//! numbers of facilities. `TOLLGATE_SYSLOG_SOCKET` names the socket where it is not `/dev/log`.

use exporter::logs::{Form, LogDestination, LogSettings, Terms, Way};
use store::schema::{PluginSchema, Preset, text, typical};

use crate::pdk::logging::{CUSTOM_FIELDS, Wanted, custom_fields, logging, severities, severity};
use crate::pdk::{Config, Fault, Phase, Prepared, Spec};

/// The plugin.
pub static PLUGIN: Spec = Spec {
    schema: PluginSchema {
        name: "syslog",
        priority: 4,
        protocols: typical::PROTOCOLS,
        config: &[
            severity("log_level").required(),
            severity("successful_severity").required(),
            severity("client_errors_severity").required(),
            severity("server_errors_severity").required(),
            CUSTOM_FIELDS,
            text(
                "facility",
                "The facility is used by the operating system to decide how to handle each log \
                 message.",
            )
            .required()
            .or(Preset::Text("user"))
            .one_of(&[
                "auth", "authpriv", "cron", "daemon", "ftp", "kern", "lpr", "mail", "news",
                "syslog", "user", "uucp", "local0", "local1", "local2", "local3", "local4",
                "local5", "local6", "local7",
            ]),
        ],
        ..PluginSchema::EMPTY
    },
    phases: &[Phase::Log],
    entities: &[],
    endpoints: &[],
    prepare,
};

/// Where this machine's log listens, unless the environment names another socket.
const SOCKET: &str = "/dev/log";
const SOCKET_VARIABLE: &str = "TOLLGATE_SYSLOG_SOCKET";
/// Facilities by number.
const FACILITIES: [&str; 12] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp",
];
/// The number of `local0`.
const LOCAL: u8 = 16;

fn facility(name: &str) -> u8 {
    const USER: u8 = 1;
    if let Some(number) = name.strip_prefix("local") {
        return LOCAL + number.parse::<u8>().unwrap_or(0).min(7);
    }
    FACILITIES.iter().position(|known| *known == name).map_or(USER, |at| at as u8)
}

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let severities = severities(config, facility(config.text("facility").unwrap_or("user")));
    let socket = std::env::var_os(SOCKET_VARIABLE).unwrap_or_else(|| SOCKET.into());
    let way = Way::Local(socket.into());
    let destination = LogDestination { plugin: "syslog", way, terms: Terms::PROMPT };
    let (form, fields) = (Form::Syslog(severities), custom_fields(config));
    let settings = LogSettings { destination, form, fields };
    Ok(logging(config, settings, Wanted::Severe(severities)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::script::Script;
    use serde_json::json;

    #[test]
    fn facilities_have_the_numbers_of_syslog() {
        for (name, number) in [("kern", 0), ("auth", 4), ("ftp", 11), ("local3", 19)] {
            assert_eq!(facility(name), number);
        }
    }

    #[test]
    fn what_is_less_severe_than_the_level_is_not_wanted() {
        let config = json!({"log_level": "warning", "server_errors_severity": "err"});
        let script = Script::new(&PLUGIN, config);
        let plugin = script.plugin();
        for (status, wanted) in [(200, 0), (404, 0), (500, 1)] {
            let mut exchange = script.get("/", &[]);
            exchange.response.status = status;
            plugin.log(&mut exchange);
            assert_eq!(exchange.logged_to.len(), wanted, "{status}");
        }
    }
}

//! From a record to the bytes of one entry, in the form that its plugin sends.

use super::document::push_document;
use super::record::LogRecord;
use super::rows::Found;
use super::settings::{Form, LogSettings, Severities};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use std::io::Write;

/// Facts of this process that stand in entries.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    /// The machine's name.
    pub(super) hostname: String,
    /// The process.
    pub(super) pid: u32,
}

impl Sender {
    /// This process on this machine.
    pub(super) fn here() -> Self {
        let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { hostname, pid: std::process::id() }
    }
}

/// Writes the entry of one record for one plugin row. Empty where it has nothing to say.
pub(super) fn entry(
    record: &LogRecord<'_>,
    found: &Found,
    settings: &LogSettings,
    sender: &Sender,
    now_us: u64,
) -> Vec<u8> {
    let mut out = Vec::new();
    let severity = |severities: &Severities| {
        severities.of(record.status).map(|severity| severities.facility * 8 + severity)
    };
    match &settings.form {
        Form::Document => {}
        Form::Syslog(severities) => {
            let Some(priority) = severity(severities) else { return out };
            let time = local(now_us).strftime("%b %e %H:%M:%S").to_string();
            let _never = write!(out, "<{priority}>{time} kong[{}]: ", sender.pid);
        }
        Form::Loggly(severities, tags) => {
            let Some(priority) = severity(severities) else { return out };
            let time = timestamp(now_us).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let _never = write!(out, "<{priority}>1 {time} {} kong - - [{tags}] ", sender.hostname);
        }
        Form::Statsd(statsd) => {
            statsd.push_lines(&mut out, record, found, &sender.hostname);
            return out;
        }
        Form::Datadog(datadog) => {
            datadog.push_lines(&mut out, record, found);
            return out;
        }
    }
    push(&mut out, record, found, settings);
    out
}

/// The document, with the fields that the row changes.
fn push(out: &mut Vec<u8>, record: &LogRecord<'_>, found: &Found, settings: &LogSettings) {
    let start = out.len();
    push_document(out, record, found);
    if settings.fields.is_empty() {
        return;
    }
    let text = out.get(start..).unwrap_or_default();
    let Ok(mut document) = serde_json::from_slice(text) else { return };
    for field in &settings.fields {
        field.apply(&mut document, record);
    }
    out.truncate(start);
    out.extend_from_slice(document.to_string().as_bytes());
}

fn timestamp(now_us: u64) -> Timestamp {
    Timestamp::from_microsecond(i64::try_from(now_us).unwrap_or(0)).unwrap_or_default()
}

/// The time of the machine's zone, as libc's syslog writes it.
fn local(now_us: u64) -> Zoned {
    timestamp(now_us).to_zoned(TimeZone::system())
}

#[cfg(test)]
mod tests {
    use super::super::fields::Field;
    use super::super::queue::Terms;
    use super::super::record::tests::{bytes_of, report};
    use super::super::report::LogReport;
    use super::super::rows::tests::found;
    use super::super::settings::{FilePlan, LogDestination, Way};
    use super::*;

    fn made(form: Form, status: u16, fields: Vec<Field>) -> String {
        let bytes = bytes_of(&LogReport { status, ..report() });
        let record = LogRecord::read(&bytes).unwrap();
        let plan = FilePlan { path: "/x".into(), reopen: false };
        let destination =
            LogDestination { plugin: "t", way: Way::File(plan), terms: Terms::PROMPT };
        let settings = LogSettings { destination, form, fields };
        let sender = Sender { hostname: "gateway".into(), pid: 7 };
        let made = entry(&record, &found(&record), &settings, &sender, 1_795_300_941_123_456);
        String::from_utf8(made).unwrap()
    }

    #[test]
    fn syslog_and_loggly_have_heads_by_severity() {
        let severities = Severities { facility: 1, by_class: [6, 4, 3], least: 6 };
        let line = made(Form::Loggly(severities, "K@41058 tag=\"a\"".into()), 404, Vec::new());
        let head = "<12>1 2026-11-21T22:42:21Z gateway kong - - [K@41058 tag=\"a\"] {\"request\"";
        assert!(line.starts_with(head), "{line}");
        let line = made(Form::Syslog(severities), 503, Vec::new());
        assert!(line.starts_with("<11>Nov ") && line.contains(" kong[7]: {\"request\""), "{line}");
        let quiet = Severities { least: 5, ..severities };
        assert_eq!(made(Form::Syslog(quiet), 200, Vec::new()), "");
    }

    #[test]
    fn fields_are_set_in_the_document() {
        let field = Field::parse("request.headers.host", "return nil").unwrap();
        let line = made(Form::Document, 200, vec![field]);
        let document: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            document["request"]["headers"],
            serde_json::json!({"authorization": "REDACTED"})
        );
    }
}

//! From a record to the event that Moesif sees, as JSON text.
//!
//! Source: `kong-plugin-moesif` `kong/plugins/moesif/moesif_ser.lua` and Moesif's API reference.
//! Deliberate differences: three millisecond digits and `Z` in times; `transaction_id`, so that the
//! collector can discard repeats.

use super::body::{self, Message, Written};
use super::client_ip::client_ip;
use super::headers::Headers;
use super::identify::{Traces, identify};
use super::json::push_text;
use super::query::push_target;
use super::settings::Settings;
use crate::event::record::{LineBytes, Record};
use crate::event::{BodyState, Direction, Scheme};
use std::io::Write;
use uuid::Uuid;

/// The collector refuses larger events: the bodies of one that would be larger are cut.
pub const EVENT_BYTES_MAX: usize = 1_000_000;

/// How much of the bodies an event takes.
#[derive(Clone, Copy)]
enum Bodies {
    /// All of what was captured.
    Whole,
    /// So many bytes of each.
    Cut(usize),
    /// Nothing.
    Out,
}

impl Bodies {
    fn state(self, state: BodyState) -> BodyState {
        match (self, state) {
            (Self::Out, BodyState::Captured) => BodyState::TooLarge,
            _ => state,
        }
    }

    const fn written_bytes_max(self) -> usize {
        match self {
            Self::Cut(bytes) => bytes,
            Self::Whole | Self::Out => usize::MAX,
        }
    }
}

/// Appends the event of one record. Gives the number of bodies that had to be left out.
///
/// The result is always one valid JSON object; every mask of `settings` is applied.
pub fn push_event(out: &mut Vec<u8>, record: &Record<'_>, settings: &Settings) -> u64 {
    let start = out.len();
    let left_out = push_whole(out, record, settings, Bodies::Whole);
    if out.len() - start <= EVENT_BYTES_MAX {
        return left_out;
    }
    out.truncate(start);
    push_whole(out, record, settings, Bodies::Out);
    let room = EVENT_BYTES_MAX.saturating_sub(out.len() - start) / 2;
    out.truncate(start);
    let left_out = push_whole(out, record, settings, Bodies::Cut(room));
    if out.len() - start <= EVENT_BYTES_MAX {
        return left_out;
    }
    // Its heads alone are nearly too large.
    out.truncate(start);
    push_whole(out, record, settings, Bodies::Out);
    2
}

fn push_whole(out: &mut Vec<u8>, record: &Record<'_>, settings: &Settings, bodies: Bodies) -> u64 {
    out.extend_from_slice(b"{\"request\":{");
    let mut left_out = push_request(out, record, settings, bodies);
    out.extend_from_slice(b"},\"response\":{");
    left_out += push_response(out, record, settings, bodies);
    out.push(b'}');
    let identity = identify(&Traces::of(record), settings);
    push_member(out, "user_id", identity.user_id.as_deref());
    push_member(out, "company_id", identity.company_id.as_deref());
    push_member(out, "session_token", record.credential_key.or(record.credential_id));
    push_member(out, "blocked_by", record.blocked_by);
    push_metadata(out, record);
    let direction = match record.direction {
        Direction::Incoming => "Incoming",
        Direction::Outgoing => "Outgoing",
        Direction::Internal => "Internal",
    };
    let id = Uuid::from_bytes(record.transaction_id);
    push(out, format_args!(",\"direction\":\"{direction}\",\"weight\":{}", record.weight));
    push(out, format_args!(",\"transaction_id\":\"{id}\"}}"));
    left_out
}

fn push_request(
    out: &mut Vec<u8>,
    record: &Record<'_>,
    settings: &Settings,
    bodies: Bodies,
) -> u64 {
    out.extend_from_slice(b"\"time\":");
    push_time(out, record.started_us);
    out.extend_from_slice(b",\"uri\":");
    push_text(out, &uri(record, settings));
    push_member(out, "verb", Some(record.method));
    push_headers(out, &record.request_lines, &settings.masks.request_headers, None);
    if record.access_ran {
        push_member(out, "api_version", settings.api_version.as_deref().map(str::as_bytes));
    }
    let masked = &settings.masks.request_headers;
    let trusted = record.client_ip_headers_trusted;
    let named = trusted.then(|| client_ip(&Headers::Kept(record.request_lines), masked)).flatten();
    match named {
        Some(ip) => push(out, format_args!(",\"ip_address\":\"{ip}\"")),
        None => push(out, format_args!(",\"ip_address\":\"{}\"", record.client_ip)),
    }
    let message = Message {
        lines: record.request_lines,
        masked_lines: masked,
        masks: &settings.masks.request_body,
        keep_compressed: settings.disable_gzip_payload_decompression,
        inflated_bytes_max: settings.request_body_bytes_max as usize,
        written_bytes_max: bodies.written_bytes_max(),
    };
    let (state, bytes) = record.request_body;
    let written = body::push_body(out, bodies.state(state), bytes, &message);
    u64::from(written == Written::LeftOut)
}

fn push_response(
    out: &mut Vec<u8>,
    record: &Record<'_>,
    settings: &Settings,
    bodies: Bodies,
) -> u64 {
    out.extend_from_slice(b"\"time\":");
    push_time(out, record.ended_us);
    push(out, format_args!(",\"status\":{}", record.status));
    let pid = settings.debug.then(std::process::id);
    push_headers(out, &record.response_lines, &settings.masks.response_headers, pid);
    let message = Message {
        lines: record.response_lines,
        masked_lines: &settings.masks.response_headers,
        masks: &settings.masks.response_body,
        keep_compressed: settings.disable_gzip_payload_decompression,
        inflated_bytes_max: settings.response_body_bytes_max as usize,
        written_bytes_max: bodies.written_bytes_max(),
    };
    let (state, bytes) = record.response_body;
    // A response without a byte is an empty body, as in the original; a request is not.
    let state = match state {
        BodyState::Captured if bytes.is_empty() => BodyState::None,
        state => state,
    };
    let written = body::push_body(out, bodies.state(state), bytes, &message);
    u64::from(written == Written::LeftOut)
}

/// What the client asked for, with the port it reached. The host is as nginx knows it: in lower
/// case, without a dot at its end.
fn uri(record: &Record<'_>, settings: &Settings) -> Vec<u8> {
    let mut uri = Vec::with_capacity(record.host.len() + record.target.len() + 16);
    uri.extend_from_slice(match record.scheme {
        Scheme::Http => b"http://",
        Scheme::Https => b"https://",
    });
    let host = record.host.strip_suffix(b".").unwrap_or(record.host);
    uri.extend(host.iter().map(u8::to_ascii_lowercase));
    push(&mut uri, format_args!(":{}", record.port));
    push_target(&mut uri, record.target, &settings.masks.request_query);
    uri
}

/// Header lines as an object: names in lower case and in order, repeated lines as an array. Sorted,
/// because looking for repeats of each of a thousand lines in all others takes too long.
fn push_headers(out: &mut Vec<u8>, lines: &LineBytes<'_>, masks: &[String], pid: Option<u32>) {
    let mut sorted: Vec<(&[u8], &[u8])> = lines.iter().collect();
    sorted.sort_by(|(one, _), (other, _)| {
        let letters = one.iter().map(u8::to_ascii_lowercase);
        letters.cmp(other.iter().map(u8::to_ascii_lowercase))
    });
    out.extend_from_slice(b",\"headers\":{");
    let mut first = true;
    for group in sorted.chunk_by(|(one, _), (other, _)| one.eq_ignore_ascii_case(other)) {
        let Some((name, value)) = group.first() else { continue };
        if masks.iter().any(|mask| mask.as_bytes().eq_ignore_ascii_case(name)) {
            continue;
        }
        if !first {
            out.push(b',');
        }
        first = false;
        let start = out.len();
        push_text(out, name);
        if let Some(name) = out.get_mut(start..) {
            name.make_ascii_lowercase();
        }
        out.push(b':');
        if group.len() == 1 {
            push_text(out, value);
            continue;
        }
        for (number, (_, value)) in group.iter().enumerate() {
            out.push(if number == 0 { b'[' } else { b',' });
            push_text(out, value);
        }
        out.push(b']');
    }
    if let Some(pid) = pid {
        let comma = if first { "" } else { "," };
        push(out, format_args!("{comma}\"X-Kong-PID\":{pid}"));
    }
    out.push(b'}');
}

fn push_metadata(out: &mut Vec<u8>, record: &Record<'_>) {
    out.extend_from_slice(b",\"metadata\":{\"kong\":{");
    if let Some(hosts) = &record.route_hosts {
        out.extend_from_slice(b"\"route_hosts\":[");
        for (number, host) in hosts.iter().enumerate() {
            if number > 0 {
                out.push(b',');
            }
            push_text(out, host);
        }
        out.push(b']');
    }
    if let Some(name) = record.service_name {
        if record.route_hosts.is_some() {
            out.push(b',');
        }
        out.extend_from_slice(b"\"service_name\":");
        push_text(out, name);
    }
    out.extend_from_slice(b"}}");
}

/// Appends `,"name":"value"`, or nothing.
fn push_member(out: &mut Vec<u8>, name: &str, value: Option<&[u8]>) {
    if let Some(value) = value {
        push(out, format_args!(",\"{name}\":"));
        push_text(out, value);
    }
}

fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // A vector takes everything.
    let _infallible = out.write_fmt(text);
}

/// Appends microseconds since 1970 as `"2023-11-14T22:13:20.123Z"`; digits are cut, not rounded.
fn push_time(out: &mut Vec<u8>, us: u64) {
    let (seconds, ms) = (us / 1_000_000, us / 1_000 % 1_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    push(out, format_args!("\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"));
    push(out, format_args!(".{ms:03}Z\""));
}

/// Year, month and day of a number of days since 1970.
///
/// Counted in eras of 400 years that begin on the first of March, so that a leap day is the last
/// day of its year. Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let leap_days = day_of_era / 1_460 + day_of_era / 146_096 - day_of_era / 36_524;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn time(us: u64, expected: &str) {
        let mut out = Vec::new();
        push_time(&mut out, us);
        assert_eq!(String::from_utf8(out).unwrap(), format!("\"{expected}\""));
    }

    #[test]
    fn times_have_three_digits() {
        time(0, "1970-01-01T00:00:00.000Z");
        time(1_700_000_000_042_999, "2023-11-14T22:13:20.042Z");
        time(1_709_164_800_000_000, "2024-02-29T00:00:00.000Z");
        time(4_107_542_399_999_999, "2100-02-28T23:59:59.999Z");
        time(4_107_542_400_000_000, "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn dates_agree_with_the_calendar_library() {
        let mut day = jiff::civil::date(1970, 1, 1);
        for days in 0..100_000 {
            let (year, month, of_month) = date(days);
            let ours = (year as i16, month as i8, of_month as i8);
            assert_eq!(ours, (day.year(), day.month(), day.day()), "day {days}");
            day = day.tomorrow().unwrap();
        }
    }
}

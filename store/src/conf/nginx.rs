//! nginx directives that mean something here, as typed values.
//!
//! Kong hands every `nginx_*` setting to nginx as it stands. This program has no nginx: what has
//! a counterpart is read here in nginx's own units, the rest is named in one line at start.

use super::Settings;

/// What nginx directives say about clients and their connections. Bytes, milliseconds, counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Cores that serve; `None` is `auto`.
    pub cores: Option<usize>,
    /// Most open files; `None` is the hard limit.
    pub open_files_max: Option<u64>,
    /// Client connections for each core (`worker_connections`); `None` is `auto`.
    pub core_connections_max: Option<u64>,
    /// Most bytes of a request body (`client_max_body_size`); `None` is no limit.
    pub body_bytes_max: Option<u64>,
    /// Bytes of a request body that plugins may read (`client_body_buffer_size`).
    pub body_buffer_bytes: u64,
    /// How many large buffers a request head may fill (`large_client_header_buffers`).
    pub head_buffers_max: u64,
    /// Bytes of one such buffer: the longest request line and the longest header line.
    pub head_buffer_bytes: u64,
    /// How long an idle client connection is kept; 0 keeps none (`keepalive_timeout`).
    pub keepalive_ms: u64,
    /// Requests on one client connection (`keepalive_requests`).
    pub keepalive_requests_max: u64,
    /// Time for a whole request head (`client_header_timeout`).
    pub head_timeout_ms: u64,
    /// Time between two reads of a request body (`client_body_timeout`).
    pub body_timeout_ms: u64,
    /// Time between two writes of an answer (`send_timeout`).
    pub send_timeout_ms: u64,
    /// Most bytes of an Admin API body (`nginx_admin_client_max_body_size`); `None`: no limit.
    pub admin_body_bytes_max: Option<u64>,
}

impl Edge {
    /// Reads the directives of checked settings; what is absent has nginx's default.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        let size = |name, default| settings.directive(name).and_then(bytes).unwrap_or(default);
        let time = |name, default| settings.directive(name).and_then(ms).unwrap_or(default);
        let count = |name, default| settings.directive(name).and_then(whole).unwrap_or(default);
        let limit = |bytes: u64| (bytes > 0).then_some(bytes);
        let main = |name| settings.text(name).and_then(whole);
        let buffers = settings.directive("large_client_header_buffers").and_then(buffers);
        let (head_buffers_max, head_buffer_bytes) = buffers.unwrap_or((4, 8192));
        let admin = settings.text("nginx_admin_client_max_body_size").and_then(bytes);
        Self {
            cores: main("nginx_main_worker_processes").and_then(|n| usize::try_from(n).ok()),
            open_files_max: main("nginx_main_worker_rlimit_nofile"),
            core_connections_max: main("nginx_events_worker_connections"),
            body_bytes_max: limit(size("client_max_body_size", 0)),
            body_buffer_bytes: size("client_body_buffer_size", 8192),
            head_buffers_max,
            head_buffer_bytes,
            keepalive_ms: time("keepalive_timeout", 75_000),
            keepalive_requests_max: count("keepalive_requests", 10_000),
            head_timeout_ms: time("client_header_timeout", 60_000),
            body_timeout_ms: time("client_body_timeout", 60_000),
            send_timeout_ms: time("send_timeout", 60_000),
            admin_body_bytes_max: limit(admin.unwrap_or(10 << 20)),
        }
    }
}

const SIZES: &[&str] = &["client_max_body_size", "client_body_buffer_size"];
const TIMES: &[&str] =
    &["keepalive_timeout", "client_header_timeout", "client_body_timeout", "send_timeout"];

/// Whether a setting of an open namespace is acted on.
pub(super) fn is_built(name: &str) -> bool {
    if name == "vault_env_prefix" {
        return true;
    }
    let directive = ["nginx_http_", "nginx_proxy_"].iter().find_map(|own| name.strip_prefix(own));
    directive.is_some_and(|name| {
        SIZES.contains(&name)
            || TIMES.contains(&name)
            || ["keepalive_requests", "large_client_header_buffers"].contains(&name)
    })
}

/// Directives that are acted on but cannot be read.
pub(super) fn faults(settings: &Settings) -> Vec<String> {
    let mut faults = Vec::new();
    let mut check = |name: &str, sound: &dyn Fn(&str) -> bool, kind: &str| {
        for own in ["nginx_http_", "nginx_proxy_"] {
            let name = format!("{own}{name}");
            if let Some(value) = settings.text(&name)
                && value != "NONE"
                && !sound(value)
            {
                faults.push(format!("{name} is not a {kind}: '{value}'"));
            }
        }
    };
    for name in SIZES {
        check(name, &|value| bytes(value).is_some(), "size");
    }
    for name in TIMES {
        check(name, &|value| ms(value).is_some(), "time");
    }
    check("keepalive_requests", &|value| whole(value).is_some(), "number");
    let pair = |value: &str| buffers(value).is_some_and(|(n, size)| n > 0 && size > 0);
    check("large_client_header_buffers", &pair, "number and a size");
    for name in [
        "nginx_main_worker_processes",
        "nginx_main_worker_rlimit_nofile",
        "nginx_events_worker_connections",
    ] {
        if let Some(value) = settings.text(name)
            && value != "auto"
            && whole(value).is_none_or(|n| n == 0)
        {
            faults.push(format!("{name} must be auto or a number greater than 0, got '{value}'"));
        }
    }
    if let Some(value) = settings.text("nginx_admin_client_max_body_size")
        && bytes(value).is_none()
    {
        faults.push(format!("nginx_admin_client_max_body_size is not a size: '{value}'"));
    }
    faults
}

fn whole(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// nginx's sizes: `8192`, `8k`, `10m`, `1g`.
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, unit) = match text.chars().last()? {
        'k' | 'K' => (&text[..text.len() - 1], 1 << 10),
        'm' | 'M' => (&text[..text.len() - 1], 1 << 20),
        'g' | 'G' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// nginx's times, in milliseconds: `75`, `75s`, `500ms`, `1m`, `2h`, `1d`, `1h30m`.
///
/// Of several words only the first counts (the second of `keepalive_timeout` is a header).
#[must_use]
pub fn ms(text: &str) -> Option<u64> {
    let mut rest = text.split_whitespace().next()?;
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest.bytes().skip(digits).take_while(u8::is_ascii_alphabetic).count();
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        let unit_ms = match rest.get(digits..digits + letters)? {
            "ms" => 1,
            "" | "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        };
        sum = sum.checked_add(number.checked_mul(unit_ms)?)?;
        rest = rest.get(digits + letters..)?;
    }
    Some(sum)
}

/// `large_client_header_buffers`: a count and a size.
fn buffers(text: &str) -> Option<(u64, u64)> {
    let (count, size) = text.trim().split_once(char::is_whitespace)?;
    Some((whole(count)?, bytes(size)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_nginxs() {
        for (text, expected) in
            [("0", Some(0)), ("8k", Some(8192)), ("10M", Some(10 << 20)), ("x", None), ("", None)]
        {
            assert_eq!(bytes(text), expected, "{text}");
        }
        for (text, expected) in [
            ("75", Some(75_000)),
            ("75s 60s", Some(75_000)),
            ("500ms", Some(500)),
            ("1h30m", Some(5_400_000)),
            ("0", Some(0)),
            ("1x", None),
            ("s", None),
            ("", None),
        ] {
            assert_eq!(ms(text), expected, "{text}");
        }
        assert_eq!(buffers("4 8k"), Some((4, 8192)));
        assert_eq!(buffers("8k"), None);
    }
}

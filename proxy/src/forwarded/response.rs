//! The header lines that an answer gains and loses on its way to the client.
//!
//! [`arrive`] runs before the plugins' header phase, [`leave`] after it, as in Kong: plugins do not
//! see Via and the latencies, the log phase does.
//!
//! Source: Kong `kong/runloop/handler.lua` (`header_filter`), nginx's `charset` and upstream
//! modules, recorded answers.

use crate::fault::Side;
use plugins::pdk::Scope;
use runtime::http::head::{Fields, Known, Name, Response, Version};
use runtime::http::write;
use smallvec::SmallVec;
use uuid::Uuid;

/// Types that get `; charset=UTF-8` where they have no parameter, without and with it.
///
/// Source: nginx `charset_types` (default), Kong's `charset UTF-8`.
const CHARSET_TYPES: [(&str, &str); 6] = [
    ("text/html", "text/html; charset=UTF-8"),
    ("text/plain", "text/plain; charset=UTF-8"),
    ("text/xml", "text/xml; charset=UTF-8"),
    ("application/javascript", "application/javascript; charset=UTF-8"),
    ("text/vnd.wap.wml", "text/vnd.wap.wml; charset=UTF-8"),
    ("application/rss+xml", "application/rss+xml; charset=UTF-8"),
];

const CONTENT_TYPE: Name = Name::new("Content-Type: ");
const UPSTREAM_LATENCY: Name = Name::new("X-Kong-Upstream-Latency: ");
const PROXY_LATENCY: Name = Name::new("X-Kong-Proxy-Latency: ");
const RESPONSE_LATENCY: Name = Name::new("X-Kong-Response-Latency: ");
const REQUEST_ID: Name = Name::new("X-Kong-Request-Id: ");
const SERVER: Name = Name::new("Server: ");
const VIA: Name = Name::new("Via: ");

/// Which lines of its own the gateway shows: the setting `headers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown(u16);

impl Shown {
    /// Nothing: `off`.
    pub const NONE: Self = Self(0);
    /// `Server`.
    pub const SERVER: Self = Self(1);
    /// `Via`.
    pub const VIA: Self = Self(1 << 1);
    /// `X-Kong-Upstream-Latency`.
    pub const UPSTREAM_LATENCY: Self = Self(1 << 2);
    /// `X-Kong-Proxy-Latency`.
    pub const PROXY_LATENCY: Self = Self(1 << 3);
    /// `X-Kong-Response-Latency`.
    pub const RESPONSE_LATENCY: Self = Self(1 << 4);
    /// `X-Kong-Admin-Latency`.
    pub const ADMIN_LATENCY: Self = Self(1 << 5);
    /// `X-Kong-Request-Id`.
    pub const REQUEST_ID: Self = Self(1 << 6);
    /// `X-Kong-Upstream-Status`.
    pub const UPSTREAM_STATUS: Self = Self(1 << 7);

    /// What the setting's word stands for, in any case; `off` is [`Shown::NONE`].
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "off" => Self::NONE,
            "server_tokens" => Self::SERVER.and(Self::VIA),
            "latency_tokens" => Self::UPSTREAM_LATENCY
                .and(Self::PROXY_LATENCY)
                .and(Self::RESPONSE_LATENCY)
                .and(Self::ADMIN_LATENCY),
            "server" => Self::SERVER,
            "via" => Self::VIA,
            "x-kong-upstream-latency" => Self::UPSTREAM_LATENCY,
            "x-kong-proxy-latency" => Self::PROXY_LATENCY,
            "x-kong-response-latency" => Self::RESPONSE_LATENCY,
            "x-kong-admin-latency" => Self::ADMIN_LATENCY,
            "x-kong-request-id" => Self::REQUEST_ID,
            "x-kong-upstream-status" => Self::UPSTREAM_STATUS,
            _ => return None,
        })
    }

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl Default for Shown {
    /// `server_tokens, latency_tokens, X-Kong-Request-Id`.
    fn default() -> Self {
        let words = ["server_tokens", "latency_tokens", "x-kong-request-id"];
        words.iter().filter_map(|word| Self::named(word)).fold(Self::NONE, Self::and)
    }
}

/// How long things took, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latencies {
    /// From the first byte to the upstream until its head came back.
    pub upstream_ms: u64,
    /// From the request's arrival until the upstream was asked.
    pub proxy_ms: u64,
    /// From the request's arrival until the gateway's own answer.
    pub response_ms: u64,
}

/// What an answer is told apart from its own lines.
#[derive(Debug, Clone, Copy)]
pub struct Leaving<'a> {
    /// The setting `headers`.
    pub shown: Shown,
    /// Who made the answer. Of [`Side::Upstream`] are proxied answers and faults of the upstream.
    pub side: Side,
    /// How long things took.
    pub latencies: Latencies,
    /// `tollgate/1.2.3`.
    pub product: &'a str,
    /// The version spoken with the upstream.
    pub upstream_version: Version,
    /// The request id.
    pub id: &'a str,
}

/// Removes from an upstream's answer what is not for the client. Before the plugins.
///
/// A 101 keeps `Upgrade` and gets `Connection: upgrade`. `Trailer` stays for a client who takes
/// trailers.
pub fn arrive(response: &mut Response, shown: Shown, takes_trailers: bool) {
    let fields = &mut response.fields;
    let told = fields.get_known(Known::Trailer).filter(|_| takes_trailers).map(<[u8]>::to_vec);
    let upgrade = match (response.status, fields.get_known(Known::Upgrade)) {
        (101, Some(protocol)) => Some(protocol.to_vec()),
        _ => None,
    };
    write::remove_hop_by_hop(fields);
    if fields.iter().any(|(name, _)| is_for_nginx(name)) {
        fields.retain(|name, _| !is_for_nginx(name));
    }
    if let Some(names) = told {
        fields.add("Trailer", names);
    }
    if let Some(protocol) = upgrade {
        fields.add("Upgrade", protocol);
        fields.add("Connection", "upgrade");
    }
    if shown.has(Shown::UPSTREAM_STATUS) {
        fields.set("X-Kong-Upstream-Status", itoa::Buffer::new().format(response.status));
    }
}

/// Lines by which an upstream steers nginx; nginx never passes them on.
fn is_for_nginx(name: &[u8]) -> bool {
    matches!(name.first(), Some(b'x' | b'X'))
        && (begins(name, "x-accel-") || name.eq_ignore_ascii_case(b"x-pad"))
}

/// Adds the gateway's own lines. After the plugins.
pub fn leave(response: &mut Response, leaving: &Leaving<'_>) {
    add_charset(response);
    let fields = &mut response.fields;
    let has = Has::of(fields);
    let mut number = itoa::Buffer::new();
    let mut latency = |fields: &mut Fields, bit, name, ms: u64| {
        if leaving.shown.has(bit) {
            put(fields, has.kong, name, number.format(ms));
        }
    };
    let times = leaving.latencies;
    if leaving.side == Side::Upstream {
        latency(fields, Shown::UPSTREAM_LATENCY, UPSTREAM_LATENCY, times.upstream_ms);
        latency(fields, Shown::PROXY_LATENCY, PROXY_LATENCY, times.proxy_ms);
        if leaving.shown.has(Shown::VIA) {
            add_via(fields, has.via, leaving);
        }
        if leaving.shown.has(Shown::SERVER) && !has.server {
            fields.push(SERVER, leaving.product);
        }
    } else {
        latency(fields, Shown::RESPONSE_LATENCY, RESPONSE_LATENCY, times.response_ms);
        if leaving.shown.has(Shown::SERVER) {
            put(fields, has.server, SERVER, leaving.product);
        } else if has.server {
            fields.remove("server");
        }
    }
    if leaving.shown.has(Shown::REQUEST_ID) {
        put(fields, has.kong, REQUEST_ID, leaving.id);
    }
}

/// Which of our lines the answer has already: seldom any, and then nothing must be searched.
#[derive(Default)]
struct Has {
    via: bool,
    server: bool,
    kong: bool,
}

impl Has {
    fn of(fields: &Fields) -> Self {
        let mut has = Self::default();
        for (name, _) in fields.iter() {
            match (name.len(), name.first().map_or(0, |byte| byte | 0x20)) {
                (3, b'v') => has.via |= name.eq_ignore_ascii_case(b"via"),
                (6, b's') => has.server |= name.eq_ignore_ascii_case(b"server"),
                (8.., b'x') => has.kong |= begins(name, "x-kong-"),
                _ => {}
            }
        }
        has
    }
}

fn put(fields: &mut Fields, replace: bool, name: Name, value: &str) {
    if replace {
        fields.put(name, value);
    } else {
        fields.push(name, value);
    }
}

fn begins(name: &[u8], start: &str) -> bool {
    name.get(..start.len()).is_some_and(|text| text.eq_ignore_ascii_case(start.as_bytes()))
}

/// Tells which route and service were found, where `allow_debug_header` is on and the client sent
/// `Kong-Debug: 1`. For every answer from here on, the gateway's own too.
///
/// Source: Kong `kong/router/utils.lua` (`add_debug_headers`).
pub fn add_found(fields: &mut Fields, scope: &Scope) {
    for (row, id_line, name_line) in [
        (&scope.route, "Kong-Route-Id", "Kong-Route-Name"),
        (&scope.service, "Kong-Service-Id", "Kong-Service-Name"),
    ] {
        let Some(row) = row else { continue };
        fields.set(id_line, row.id().hyphenated().encode_lower(&mut Uuid::encode_buffer()));
        if let Some(name) = row.text("name") {
            fields.set(name_line, name);
        }
    }
}

fn add_charset(response: &mut Response) {
    let Some(kind) = response.fields.get("content-type") else { return };
    let mut types = CHARSET_TYPES.iter();
    if let Some((_, with)) = types.find(|(text, _)| kind.eq_ignore_ascii_case(text.as_bytes())) {
        response.fields.put(CONTENT_TYPE, with);
    }
}

fn add_via(fields: &mut Fields, before: bool, leaving: &Leaving<'_>) {
    let mut via = SmallVec::<[u8; 128]>::new();
    if before {
        for value in fields.all("via") {
            via.extend_from_slice(value);
            via.extend_from_slice(b", ");
        }
    }
    via.extend_from_slice(match leaving.upstream_version {
        Version::H2 => b"2 ",
        _ => &b"1.1 "[..],
    });
    via.extend_from_slice(leaving.product.as_bytes());
    if before {
        fields.put(VIA, via);
    } else {
        fields.push(VIA, via);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, lines: &[(&str, &str)]) -> Response {
        let mut response = Response::default();
        response.status = status;
        for (name, value) in lines {
            assert!(response.fields.add(name, value));
        }
        response
    }

    fn lines(response: &Response) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let lines = response.fields.iter();
        lines.map(|(name, value)| format!("{}: {}", text(name), text(value))).collect()
    }

    const LEAVING: Leaving<'_> = Leaving {
        shown: Shown::NONE,
        side: Side::Upstream,
        latencies: Latencies { upstream_ms: 5, proxy_ms: 1, response_ms: 3 },
        product: "tollgate/1.0.0",
        upstream_version: Version::H11,
        id: "47fb3908db8ab90b2db4f132cd0a3b3f",
    };

    #[test]
    fn a_proxied_answer_gains_the_lines_that_kong_adds() {
        let mut answer = response(200, &[("Content-Type", "application/json"), ("X-Echo", "1")]);
        leave(&mut answer, &Leaving { shown: Shown::default(), ..LEAVING });
        let expected = [
            "Content-Type: application/json",
            "X-Echo: 1",
            "X-Kong-Upstream-Latency: 5",
            "X-Kong-Proxy-Latency: 1",
            "Via: 1.1 tollgate/1.0.0",
            "Server: tollgate/1.0.0",
            "X-Kong-Request-Id: 47fb3908db8ab90b2db4f132cd0a3b3f",
        ];
        assert_eq!(lines(&answer), expected);
    }

    #[test]
    fn the_upstreams_server_and_via_are_kept() {
        let mut answer = response(200, &[("Server", "mine"), ("Via", "1.1 upx"), ("via", "1.0 y")]);
        let shown = Shown::SERVER.and(Shown::VIA);
        leave(&mut answer, &Leaving { shown, upstream_version: Version::H2, ..LEAVING });
        assert_eq!(lines(&answer), ["Server: mine", "Via: 1.1 upx, 1.0 y, 2 tollgate/1.0.0"]);
    }

    #[test]
    fn the_gateways_own_answer_has_one_latency_and_no_via() {
        let mut answer = response(404, &[("Server", "a plugin's")]);
        let side = Side::Gateway;
        leave(&mut answer, &Leaving { shown: Shown::default(), side, ..LEAVING });
        let expected = [
            "Server: tollgate/1.0.0",
            "X-Kong-Response-Latency: 3",
            "X-Kong-Request-Id: 47fb3908db8ab90b2db4f132cd0a3b3f",
        ];
        assert_eq!(lines(&answer), expected);
        let mut answer = response(404, &[("Server", "a plugin's")]);
        leave(&mut answer, &Leaving { side, ..LEAVING });
        assert_eq!(lines(&answer), [""; 0]);
    }

    #[test]
    fn an_upstream_cannot_set_our_lines() {
        let mut answer =
            response(200, &[("x-kong-request-id", "a"), ("X-Kong-Proxy-Latency", "b")]);
        let shown = Shown::REQUEST_ID.and(Shown::PROXY_LATENCY);
        leave(&mut answer, &Leaving { shown, ..LEAVING });
        let expected =
            ["X-Kong-Request-Id: 47fb3908db8ab90b2db4f132cd0a3b3f", "X-Kong-Proxy-Latency: 1"];
        assert_eq!(lines(&answer), expected);
    }

    #[test]
    fn text_without_a_charset_is_utf8() {
        for (kind, expected) in [
            ("text/plain", "text/plain; charset=UTF-8"),
            ("text/html", "text/html; charset=UTF-8"),
            ("text/html; charset=latin1", "text/html; charset=latin1"),
            ("text/html; x=y", "text/html; x=y"),
            ("text/css", "text/css"),
            ("application/json", "application/json"),
        ] {
            let mut answer = response(200, &[("Content-Type", kind)]);
            leave(&mut answer, &LEAVING);
            assert_eq!(lines(&answer), [format!("Content-Type: {expected}")]);
        }
    }

    #[test]
    fn what_is_for_one_connection_stays_there() {
        let mut answer = response(
            200,
            &[
                ("Connection", "X-Hop, close"),
                ("X-Hop", "1"),
                ("Keep-Alive", "5"),
                ("Upgrade", "h2c"),
                ("X-Accel-Redirect", "/etc/passwd"),
                ("x-pad", "1"),
                ("Transfer-Encoding", "chunked"),
                ("X-Accelerator", "kept"),
                ("Refresh", "kept"),
            ],
        );
        arrive(&mut answer, Shown::UPSTREAM_STATUS, false);
        let expected = ["X-Accelerator: kept", "Refresh: kept", "X-Kong-Upstream-Status: 200"];
        assert_eq!(lines(&answer), expected);
    }

    #[test]
    fn a_switch_of_protocols_is_told() {
        let mut answer = response(101, &[("Upgrade", "websocket"), ("Connection", "Upgrade")]);
        arrive(&mut answer, Shown::NONE, false);
        assert_eq!(lines(&answer), ["Upgrade: websocket", "Connection: upgrade"]);
    }

    #[test]
    fn the_setting_is_a_list_of_words() {
        assert_eq!(Shown::named("X-Kong-Request-Id"), Some(Shown::REQUEST_ID));
        assert_eq!(Shown::named("off"), Some(Shown::NONE));
        assert_eq!(Shown::named("nonsense"), None);
        assert!(Shown::default().has(Shown::ADMIN_LATENCY));
        assert!(!Shown::default().has(Shown::UPSTREAM_STATUS));
    }
}

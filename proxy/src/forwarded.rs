//! The header lines that a request gains and loses on its way to the upstream.
//!
//! What the client sent is read, never changed, so that the log phase sees it as it was. For the
//! way back see [`response`].
//!
//! Source: Kong `kong/runloop/handler.lua` (access), `kong/templates/nginx_kong.lua`
//! (`proxy_set_header`, which gives the order), recorded requests. Better than recorded: several
//! X-Forwarded-For or Via lines are all kept, HTTP/1.0 is told as `1.0`, and `Upgrade: websocket`
//! counts only with `Connection: upgrade`.

pub mod date;
pub mod response;
pub mod trailers;
pub mod trust;

use crate::fault::What;
use crate::route::{Protocols, RouteSpec};
use runtime::http::head::{Fields, Known, Version};
use runtime::http::write;
use std::io::Write;
use std::net::IpAddr;
use trust::Client;

/// Names in Connection that are looked at; the rest pass on.
const CONNECTION_NAMES_MAX: usize = 64;
/// What the names begin with by which upstreams know who was let in, in small letters.
const IDENTITY: &[&str] = &["x-consumer-", "x-credential-", "x-anonymous-consumer"];
/// What stands for the host of a request without one: nginx's name for Kong's server.
const NAMELESS: &[u8] = b"kong";

/// The request as the proxy before us saw it: its own words where we trust it, ours elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct Forwarded<'a> {
    /// `http` or `https`, or what a trusted proxy said.
    pub proto: &'a [u8],
    /// The host that was asked, without its port.
    pub host: &'a [u8],
    /// The port that was asked; `None` where `port_text` has it.
    pub port: u16,
    /// The port in a trusted proxy's words.
    pub port_text: Option<&'a [u8]>,
    /// The path as received, without query.
    pub path: &'a [u8],
    /// What the route stripped from the path.
    pub prefix: Option<&'a [u8]>,
}

/// What of a request and its connection the headers depend on.
#[derive(Debug, Clone, Copy)]
pub struct Arrived<'a> {
    /// The client's header lines, as the plugins left them.
    pub fields: &'a Fields,
    /// The host in a target in absolute form: it goes before the Host line, as in nginx's `$host`.
    pub target_host: Option<&'a [u8]>,
    /// The version the client spoke.
    pub version: Version,
    /// Who asks.
    pub client: Client,
    /// Whether it speaks TLS with us.
    pub tls: bool,
    /// Our port, after `port_maps`.
    pub port: u16,
    /// The path as received, without query.
    pub path: &'a [u8],
}

/// Removes the lines that Connection names. Before the plugins: what they add must not be taken
/// away again because the client named it.
///
/// What the gateway writes or decides itself stays, whatever Connection says.
///
/// Source: Kong does the same after its plugins, so that `Connection: X-Consumer-ID` hides the
/// consumer from the upstream; nobody should copy that.
///
/// From a client who may not speak for others the lines go by which upstreams know who was let in:
/// Kong passes them on where no plugin of the route writes them.
pub fn arrive(fields: &mut Fields, trusted: bool) {
    if !trusted && fields.iter().any(|(name, _)| is_identity(name)) {
        fields.retain(|name, _| !is_identity(name));
    }
    if !fields.has(Known::Connection) {
        return;
    }
    let is_name = |item: &&[u8]| {
        let ordinary = [&b""[..], b"close", b"keep-alive", b"upgrade"];
        !ordinary.iter().any(|other| item.eq_ignore_ascii_case(other))
    };
    let values = fields.all_known(Known::Connection);
    let items = values.flat_map(|value| value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii));
    let names: Vec<Vec<u8>> =
        items.filter(is_name).take(CONNECTION_NAMES_MAX).map(<[u8]>::to_vec).collect();
    if !names.is_empty() {
        let named = |name: &[u8]| names.iter().any(|other| name.eq_ignore_ascii_case(other));
        fields.retain(|name, _| is_ours(name) || !named(name));
    }
}

/// Whether a line of this name says who was let in, or that nobody was.
fn is_identity(name: &[u8]) -> bool {
    matches!(name.first(), Some(b'x' | b'X'))
        && IDENTITY.iter().any(|start| trailers::begins_like(name, start))
}

impl<'a> Forwarded<'a> {
    /// Decides whose words count. `stripped` is what the route took of the path, if it strips.
    #[must_use]
    pub fn new(arrived: &Arrived<'a>, stripped: Option<&'a [u8]>) -> Self {
        let said = |name| match arrived.client.trusted {
            true => arrived.fields.get(name),
            false => None,
        };
        let proto = if arrived.tls { &b"https"[..] } else { b"http" };
        let host = arrived.target_host.or_else(|| arrived.fields.get_known(Known::Host));
        let own_host = || host_only(host.unwrap_or_default());
        Self {
            proto: said("x-forwarded-proto").unwrap_or(proto),
            host: said("x-forwarded-host").unwrap_or_else(own_host),
            port: arrived.port,
            port_text: said("x-forwarded-port"),
            path: said("x-forwarded-path").unwrap_or(arrived.path),
            prefix: said("x-forwarded-prefix").or(stripped.filter(|prefix| *prefix != b"/")),
        }
    }

    /// Whether the route's protocols turn the request away although it fits.
    ///
    /// Source: Kong `kong/runloop/handler.lua`; a route that has `http` among its protocols answers
    /// over TLS too.
    #[must_use]
    pub fn refusal(&self, route: &RouteSpec, arrived: &Arrived<'_>) -> Option<What> {
        let has = |protocol| route.protocols.any(protocol);
        let https = self.proto == b"https";
        if has(Protocols::HTTPS) && !has(Protocols::HTTP) && !https {
            return Some(match route.https_redirect_status_code {
                426 => What::NeedsHttps,
                status => What::HttpsRedirect(status),
            });
        }
        if !has(Protocols::GRPC.and(Protocols::GRPCS)) {
            return None;
        }
        match arrived.fields.get("content-type") {
            Some(kind) if crate::reply::is_grpc_type(kind) => match arrived.version {
                Version::H2 if has(Protocols::GRPC) || https => None,
                Version::H2 => Some(What::NeedsGrpcs),
                _ => Some(What::NeedsHttp2),
            },
            _ => Some(What::NotGrpc),
        }
    }
}

/// The name in a Host header: no port, no final dot. `kong` where there is none.
#[must_use]
pub fn host_only(host: &[u8]) -> &[u8] {
    let end = match host.first() {
        Some(b'[') => memchr::memchr(b']', host).map_or(host.len(), |at| at + 1),
        _ => memchr::memchr(b':', host).unwrap_or(host.len()),
    };
    let name = host.get(..end).unwrap_or_default();
    match name.strip_suffix(b".").unwrap_or(name) {
        b"" => NAMELESS,
        name => name,
    }
}

/// Appends the Host that an upstream expects: the port only where it is not the scheme's own.
pub fn write_host(out: &mut Vec<u8>, name: &str, port: u16, tls: bool) {
    let bare = name.contains(':') && !name.starts_with('[');
    out.extend_from_slice(if bare { b"[" } else { b"" });
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(if bare { b"]" } else { b"" });
    if port != if tls { 443 } else { 80 } {
        out.push(b':');
        out.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
    }
}

/// How the body goes to the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLine {
    /// No body, no line.
    None,
    /// As many bytes.
    Length(u64),
    /// In chunks, because its length is not known yet.
    Chunked,
}

/// What is said to the upstream.
#[derive(Debug, Clone, Copy)]
pub struct Onward<'a> {
    /// The request as it arrived.
    pub arrived: &'a Arrived<'a>,
    /// Whose words count.
    pub forwarded: &'a Forwarded<'a>,
    /// The Host line; for `preserve_host` the client's own.
    pub host: &'a [u8],
    /// `tollgate/1.2.3`.
    pub product: &'a str,
    /// The request id, unless `headers_upstream` is off.
    pub id: Option<&'a str>,
    /// How the body goes.
    pub body: BodyLine,
}

/// Appends the header lines for the upstream in Kong's order, without the empty line.
pub fn write_lines(onward: &Onward<'_>, out: &mut Vec<u8>) {
    let arrived = onward.arrived;
    let fields = arrived.fields;
    if fields.has(Known::Te) && write::lists(fields, Known::Te, "trailers") {
        out.extend_from_slice(b"TE: trailers\r\n");
    }
    write_via(onward, out);
    line(out, "Host", onward.host);
    out.extend_from_slice(match is_websocket(fields, arrived.version) {
        true => b"Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n",
        false => &b"Connection: keep-alive\r\n"[..],
    });
    write_forwarded(onward, out);
    match onward.body {
        BodyLine::None => {}
        BodyLine::Length(len) => {
            out.extend_from_slice(b"Content-Length: ");
            out.extend_from_slice(itoa::Buffer::new().format(len).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        BodyLine::Chunked => {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
            // Only this framing has a place for what it announces.
            fields.all_known(Known::Trailer).for_each(|names| line(out, "Trailer", names));
        }
    }
    fields.write_others(out, is_ours);
}

/// Whether the client asks to go on as a WebSocket.
#[must_use]
pub fn is_websocket(fields: &Fields, version: Version) -> bool {
    version == Version::H11
        && fields.has(Known::Upgrade)
        && write::upgrade(fields).is_some_and(|to| to.eq_ignore_ascii_case(b"websocket"))
}

fn write_via(onward: &Onward<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Via: ");
    for value in onward.arrived.fields.all("via") {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
    out.extend_from_slice(match onward.arrived.version {
        Version::H10 => b"1.0 ",
        Version::H11 => b"1.1 ",
        Version::H2 => b"2 ",
    });
    out.extend_from_slice(onward.product.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_forwarded(onward: &Onward<'_>, out: &mut Vec<u8>) {
    let (arrived, forwarded) = (onward.arrived, onward.forwarded);
    out.extend_from_slice(b"X-Forwarded-For: ");
    let mut client = arrived.client.ip;
    for value in arrived.fields.all("x-forwarded-for") {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
        // Who handed us the list is its next entry, whoever the client is.
        client = arrived.client.peer;
    }
    write_ip(out, client);
    line(out, "\r\nX-Forwarded-Proto", forwarded.proto);
    out.extend_from_slice(b"X-Forwarded-Host: ");
    out.extend(forwarded.host.iter().map(u8::to_ascii_lowercase));
    match forwarded.port_text {
        Some(text) => line(out, "\r\nX-Forwarded-Port", text),
        None => {
            let mut number = itoa::Buffer::new();
            line(out, "\r\nX-Forwarded-Port", number.format(forwarded.port).as_bytes());
        }
    }
    line(out, "X-Forwarded-Path", forwarded.path);
    if let Some(prefix) = forwarded.prefix.filter(|prefix| !prefix.is_empty()) {
        out.extend_from_slice(b"X-Forwarded-Prefix: ");
        write_prefix(out, prefix);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"X-Real-IP: ");
    write_ip(out, arrived.client.ip);
    out.extend_from_slice(b"\r\n");
    if let Some(id) = onward.id {
        line(out, "X-Kong-Request-Id", id.as_bytes());
    }
}

fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn write_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let mut number = itoa::Buffer::new();
            for (at, part) in ip.octets().into_iter().enumerate() {
                out.extend_from_slice(if at == 0 { b"" } else { b"." });
                out.extend_from_slice(number.format(part).as_bytes());
            }
        }
        // Writing into a Vec cannot fail.
        IpAddr::V6(ip) => write!(out, "{ip}").unwrap_or_default(),
    }
}

/// The prefix comes from the decoded path: control bytes in it would end the line.
fn write_prefix(out: &mut Vec<u8>, prefix: &[u8]) {
    for &byte in prefix {
        if byte.is_ascii_control() {
            write!(out, "%{byte:02X}").unwrap_or_default();
        } else {
            out.push(byte);
        }
    }
}

/// Names that this file writes itself, or that are for one connection only.
fn is_ours(name: &[u8]) -> bool {
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    match (name.len(), name.first().map_or(0, |byte| byte | 0x20)) {
        (2, b't') => is("te"),
        (3, b'v') => is("via"),
        (4, b'h') => is("host"),
        (5, b'p') => is("proxy"),
        (6, b'e') => is("expect"),
        (7, b'u') => is("upgrade"),
        (7, b't') => is("trailer"),
        (9, b'x') => is("x-real-ip"),
        (10, b'c') => is("connection"),
        (10, b'k') => is("keep-alive"),
        (14, b'c') => is("content-length"),
        (15, b'x') => is("x-forwarded-for"),
        (16, b'x') => is("x-forwarded-host") || is("x-forwarded-port") || is("x-forwarded-path"),
        (16, b'p') => is("proxy-connection"),
        (17, b't') => is("transfer-encoding"),
        (17, b'x') => is("x-forwarded-proto") || is("x-kong-request-id"),
        (18, b'x') => is("x-forwarded-prefix"),
        _ => false,
    }
}

#[cfg(test)]
mod tests;

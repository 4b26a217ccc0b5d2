//! Answers that the gateway makes itself: the type of their body, the body, and the header lines
//! that go with it.
//!
//! The lines that every answer gets (Date, Content-Length, Server, latencies, request id) are added
//! where it leaves, see [`crate::forwarded`].
//!
//! Source: Kong `kong/tools/http.lua` (`get_response_type`, templates), `kong/error_handlers.lua`,
//! `kong/pdk/response.lua`; recorded answers.

use crate::fault::{Voice, What};
use runtime::http::head::{Fields, Response, Version};
use runtime::http::write::reason_of;

/// Media ranges of Accept that are looked at; the rest cannot change the type.
const RANGES_MAX: usize = 64;
/// Seconds after which a client who was turned away for lack of room may come again.
const RETRY_AFTER_S: &str = "1";
/// The type of nginx's own pages.
const PAGE_TYPE: &str = "text/html; charset=UTF-8";
/// The same of a page that a part of Kong's own code has asked nginx for.
const REDIRECT_TYPE: &str = "text/html";
/// The type of gRPC messages.
const GRPC: &str = "application/grpc";

/// How an error body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// The default.
    Json,
    /// A small page.
    Html,
    /// Two lines.
    Plain,
    /// A small document.
    Xml,
    /// No body; header lines tell.
    Grpc,
}

/// Who asked, as far as the answer depends on it.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The version the client spoke.
    pub version: Version,
    /// Its header lines; empty where the head could not be read.
    pub fields: &'a Fields,
    /// Its request target, as received.
    pub target: &'a [u8],
    /// The host it asked, without the port, in small letters: where a redirect leads.
    pub host: &'a [u8],
    /// The id of the request, 32 hexadecimal digits.
    pub id: &'a str,
}

/// The texts around message and request id, one for each style.
///
/// The settings `error_template_json` and so on replace them: the first `%s` is the message, the
/// second the request id.
#[derive(Debug, Clone)]
pub struct Templates {
    json: Template,
    html: Template,
    plain: Template,
    xml: Template,
}

/// The text before the message, between message and id, and behind; shorter without their places.
type Template = Vec<String>;

impl Default for Templates {
    fn default() -> Self {
        let html = "<!doctype html>\n<html>\n  <head>\n    <meta charset=\"utf-8\">\n    \
            <title>Error</title>\n  </head>\n  <body>\n    <h1>Error</h1>\n    <p>%s.</p>\n    \
            <p>request_id: %s</p>\n  </body>\n</html>\n";
        let xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<error>\n  \
            <message>%s</message>\n  <requestid>%s</requestid>\n</error>\n";
        Self {
            json: template("{\n  \"message\":\"%s\",\n  \"request_id\":\"%s\"\n}"),
            html: template(html),
            plain: template("%s\nrequest_id: %s\n"),
            xml: template(xml),
        }
    }
}

fn template(text: &str) -> Template {
    text.splitn(3, "%s").map(str::to_owned).collect()
}

impl Templates {
    /// Replaces the template of a style; gRPC has none.
    pub fn set(&mut self, style: Style, text: &str) {
        match style {
            Style::Json => self.json = template(text),
            Style::Html => self.html = template(text),
            Style::Plain => self.plain = template(text),
            Style::Xml => self.xml = template(text),
            Style::Grpc => {}
        }
    }

    /// Appends an error body. The message is escaped as its place demands.
    pub fn write(&self, style: Style, message: &str, id: &str, body: &mut Vec<u8>) {
        let (template, escape): (_, fn(char) -> Option<&'static str>) = match style {
            Style::Json => (&self.json, json_escape),
            Style::Html => (&self.html, markup_escape),
            Style::Plain => (&self.plain, |_| None),
            Style::Xml => (&self.xml, markup_escape),
            Style::Grpc => return,
        };
        let mut parts = template.iter();
        body.extend(parts.next().into_iter().flat_map(|text| text.bytes()));
        if let Some(between) = parts.next() {
            for letter in message.chars() {
                let mut room = [0; 4];
                let text = escape(letter).unwrap_or_else(|| letter.encode_utf8(&mut room));
                body.extend_from_slice(text.as_bytes());
            }
            body.extend_from_slice(between.as_bytes());
        }
        if let Some(behind) = parts.next() {
            body.extend_from_slice(id.as_bytes());
            body.extend_from_slice(behind.as_bytes());
        }
    }
}

const fn json_escape(letter: char) -> Option<&'static str> {
    match letter {
        '"' => Some("\\\""),
        '\\' => Some("\\\\"),
        '\n' => Some("\\n"),
        '\r' => Some("\\r"),
        '\t' => Some("\\t"),
        '\0'..='\x1f' => Some("\\ufffd"),
        _ => None,
    }
}

const fn markup_escape(letter: char) -> Option<&'static str> {
    match letter {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        _ => None,
    }
}

impl Style {
    /// The Content-Type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json; charset=utf-8",
            Self::Html => "text/html; charset=utf-8",
            Self::Plain => "text/plain; charset=utf-8",
            Self::Xml => "application/xml; charset=utf-8",
            Self::Grpc => GRPC,
        }
    }

    /// The style that the lines of an Accept header ask for: the best quality, the first of equals;
    /// what is unknown means JSON.
    pub fn accepted<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let (mut best, mut best_quality) = (Self::Json, 0);
        let ranges = lines.flat_map(|line| line.split(|&byte| byte == b','));
        for range in ranges.take(RANGES_MAX) {
            let mut parts = range.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default();
            let quality = parts.filter_map(quality).next_back().unwrap_or(1_000);
            if is_range(name) && quality > best_quality {
                (best, best_quality) = (Self::named(name), quality);
            }
        }
        best
    }

    fn named(name: &[u8]) -> Self {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        match () {
            () if is("text/html") => Self::Html,
            () if is("text/plain") || is("text/*") => Self::Plain,
            () if is("application/xml") => Self::Xml,
            () if is(GRPC) => Self::Grpc,
            () => Self::Json,
        }
    }
}

/// `type/subtype`.
fn is_range(name: &[u8]) -> bool {
    memchr::memchr(b'/', name).is_some_and(|at| at > 0 && at + 1 < name.len())
}

/// Thousandths of `q=0.5`.
fn quality(parameter: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(parameter).ok()?;
    let (name, value) = text.split_once('=')?;
    if !name.trim_end().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, part) = value.trim_start().split_once('.').unwrap_or((value.trim_start(), ""));
    let digits = part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths = format!("{part:0<3}").parse::<u32>().ok().filter(|_| digits)?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1_000),
        _ => None,
    }
}

impl Asker<'_> {
    /// Whether this is a gRPC request.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        let typed = || self.fields.get("content-type").is_some_and(is_grpc_type);
        self.version == Version::H2 && typed()
    }

    fn style(&self, voice: Voice) -> Style {
        if self.is_grpc() {
            return Style::Grpc;
        }
        if self.fields.contains("accept") {
            return Style::accepted(self.fields.all("accept"));
        }
        match (voice, self.fields.get("content-type")) {
            (Voice::Server, Some(value)) => Style::accepted(std::iter::once(value)),
            (Voice::Server, None) => Style::Plain,
            _ => Style::Json,
        }
    }
}

/// Whether a Content-Type is gRPC's, `application/grpc+proto` too.
#[must_use]
pub fn is_grpc_type(value: &[u8]) -> bool {
    value.get(..GRPC.len()).is_some_and(|start| start.eq_ignore_ascii_case(GRPC.as_bytes()))
}

/// Fills `response` and `body`, which are emptied first, with the answer to a fault.
pub fn of_fault(
    what: What,
    asker: &Asker<'_>,
    templates: &Templates,
    response: &mut Response,
    body: &mut Vec<u8>,
) {
    let (status, message) = what.answer();
    match what.voice() {
        Voice::Gateway | Voice::Server => {
            let style = asker.style(what.voice());
            write(status, message, style, asker, templates, response, body);
        }
        Voice::Page => {
            begin(status, response, body);
            let redirect = matches!(what, What::HttpsRedirect(_));
            response.fields.add("Content-Type", if redirect { REDIRECT_TYPE } else { PAGE_TYPE });
            page(what, message, body);
        }
        Voice::Silent => begin(status, response, body),
    }
    match what {
        What::NeedsHttps => upgrade(response, "TLS/1.2, HTTP/1.1"),
        What::NeedsHttp2 => upgrade(response, "HTTP/2"),
        What::Overloaded => {
            response.fields.add("Retry-After", RETRY_AFTER_S);
        }
        What::HttpsRedirect(_) => {
            let location = [b"https://", asker.host, asker.target].concat();
            response.fields.add("Location", location);
        }
        What::NeedsGrpcs => {
            response.fields.add("Content-Type", GRPC);
            response.fields.add("grpc-status", "1");
            response.fields.add("grpc-message", message);
        }
        _ => {}
    }
}

/// Fills `response` and `body`, which are emptied first, with an error in the words of a plugin:
/// Kong's `kong.response.error`. The plugin's own header lines are added behind.
pub fn error(
    status: u16,
    message: &str,
    asker: &Asker<'_>,
    templates: &Templates,
    response: &mut Response,
    body: &mut Vec<u8>,
) {
    write(status, message, asker.style(Voice::Gateway), asker, templates, response, body);
}

/// Fills `response`, which is emptied first, for a body that a plugin made: Kong's
/// `kong.response.exit`. `json` says that the body is JSON whose `message` is `message`.
///
/// A gRPC client gets the message in a header line and an empty body; the caller sends the body
/// only when this says so.
pub fn exit(
    status: u16,
    json: bool,
    message: Option<&str>,
    asker: &Asker<'_>,
    response: &mut Response,
) -> bool {
    response.clear();
    response.status = status;
    response.set_reason(reason_of(status));
    if asker.is_grpc() {
        grpc(status, message.unwrap_or_default(), response);
        return false;
    }
    if json {
        response.fields.add("Content-Type", Style::Json.content_type());
    }
    true
}

fn begin(status: u16, response: &mut Response, body: &mut Vec<u8>) {
    body.clear();
    response.clear();
    response.status = status;
    response.set_reason(reason_of(status));
}

fn write(
    status: u16,
    message: &str,
    style: Style,
    asker: &Asker<'_>,
    templates: &Templates,
    response: &mut Response,
    body: &mut Vec<u8>,
) {
    begin(status, response, body);
    match style {
        Style::Grpc if asker.is_grpc() => grpc(status, message, response),
        // Only asked for gRPC's type: Kong has no text of that type, and no type of that text.
        Style::Grpc => drop(response.fields.add("Content-Type", "")),
        _ => {
            response.fields.add("Content-Type", style.content_type());
            templates.write(style, message, asker.id, body);
        }
    }
}

fn grpc(status: u16, message: &str, response: &mut Response) {
    let code = grpc_status(status);
    let message = if message.is_empty() { grpc_words(code) } else { message };
    response.fields.add("Content-Type", GRPC);
    response.fields.add("grpc-status", itoa::Buffer::new().format(code));
    response.fields.add("grpc-message", message);
}

fn upgrade(response: &mut Response, protocols: &str) {
    response.fields.add("Upgrade", protocols);
    response.fields.add("Connection", "Upgrade");
}

fn page(what: What, message: &str, body: &mut Vec<u8>) {
    let plain = what == What::PlainOnTlsPort;
    let headline = if plain { "400 Bad Request" } else { message };
    for part in [
        "<html>\r\n<head><title>",
        message,
        "</title></head>\r\n<body>\r\n<center><h1>",
        headline,
        "</h1></center>\r\n",
    ] {
        body.extend_from_slice(part.as_bytes());
    }
    if plain {
        let words = message.trim_start_matches("400 ");
        body.extend_from_slice(b"<center>");
        body.extend_from_slice(words.as_bytes());
        body.extend_from_slice(b"</center>\r\n");
    }
    body.extend_from_slice(b"</body>\r\n</html>\r\n");
}

/// The gRPC status that stands for an HTTP status.
///
/// Source: Kong `kong/pdk/response.lua` (`HTTP_TO_GRPC_STATUS`).
#[must_use]
pub const fn grpc_status(status: u16) -> u8 {
    match status {
        401 => 16,
        403 => 7,
        404 => 5,
        409 => 6,
        429 => 8,
        499 => 1,
        501 => 12,
        503 => 14,
        504 => 4,
        200..=299 => 0,
        400..=499 => 3,
        500..=599 => 13,
        _ => 2,
    }
}

/// Source: Kong `kong/pdk/response.lua` (`GRPC_MESSAGES`).
const fn grpc_words(code: u8) -> &'static str {
    match code {
        0 => "OK",
        1 => "Canceled",
        3 => "InvalidArgument",
        4 => "DeadlineExceeded",
        5 => "NotFound",
        6 => "AlreadyExists",
        7 => "PermissionDenied",
        8 => "ResourceExhausted",
        12 => "Unimplemented",
        13 => "Internal",
        14 => "Unavailable",
        16 => "Unauthenticated",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests;

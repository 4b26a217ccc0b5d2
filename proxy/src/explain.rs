//! `GET /routes/match` on the Admin API: which route a request would take, and why.
//!
//! The request is described by arguments; the router that serves is asked, so the answer is what
//! the road would do with it at this moment. Kong has no such endpoint.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use plugins::pdk::{Snapshot, query};
use runtime::board::Board;
use runtime::http::head::{Fields, Version};
use serde_json::{Map, Value as Json, json};
use store::admin::{Method, OwnEndpoint, Reply};
use store::fault::Fault;

use crate::forwarded::{Arrived, Forwarded, trust};
use crate::roadmap::Roadmap;
use crate::route::{Candidate, Lookup, Normal, Part, PathText, RouteCache, normalise, target};

/// Routes behind the winner that are told; how many there are is told as well.
const RUNNERS_UP_MAX: usize = 100;
/// Longest value of an argument, in bytes.
const VALUE_BYTES_MAX: usize = 8 * 1024;
const SCHEMES: [&str; 4] = ["http", "https", "grpc", "grpcs"];
/// The port of our end where nobody says.
const PORTS: (u16, u16) = (8_000, 8_443);

/// The endpoint, over what is pinned to the board.
pub fn endpoint(board: Arc<Board<Snapshot>>) -> OwnEndpoint {
    OwnEndpoint {
        path: "/routes/match",
        methods: &[Method::Get],
        listed: false,
        described: Some(described()),
        answer: Box::new(move |asked| {
            let snapshot = board.newest();
            match snapshot.road.downcast_ref::<Roadmap>() {
                Some(roadmap) => answer(roadmap, asked.query),
                None => Reply::message(500, "An unexpected error occurred"),
            }
        }),
    }
}

/// Faults by argument.
type Faults = Map<String, Json>;

/// A request in words.
#[derive(Debug)]
struct Words {
    method: String,
    scheme: &'static str,
    host: String,
    target: String,
    sni: Option<String>,
    source: SocketAddr,
    destination: SocketAddr,
    headers: Fields,
}

fn answer(roadmap: &Roadmap, query: &str) -> Reply {
    let words = match Words::read(query.as_bytes()) {
        Ok(words) => words,
        Err(faults) => return Fault::schema_violation(faults).into(),
    };
    let target = target::split(words.target.as_bytes());
    let mut scratch = Vec::new();
    let path = match normalise(target.path, &mut scratch) {
        Ok(path) => path,
        Err(fault) => return Fault::schema_violation(one("path", fault.words())).into(),
    };
    let query = target.query.unwrap_or_default();
    let lookup = words.lookup(path, query);
    let mut cache = RouteCache::default();
    let refused = roadmap.router.decide(&lookup, &mut cache).err();
    let found = roadmap.router.explain(&lookup, &mut cache);
    let shown = json!({
        "router_flavor": roadmap.router.flavor().name(),
        "request": words.shown(path, query),
        "matched": found.first().map(|winner| candidate(roadmap, winner, path.path)),
        "decided_by": found.first().zip(found.get(1)).map(|(one, two)| one.decided_over(two)),
        "runners_up": runners_up(roadmap, &found, path.path),
        "runners_up_total": found.len().saturating_sub(1),
    });
    let refusal = found.first().and_then(|winner| words.refusal(winner, target.path));
    let refusal = match (refused, found.is_empty()) {
        (Some(fault), _) => Some((400, fault.words())),
        (None, true) => Some(crate::fault::What::NoRoute.answer()),
        (None, false) => refusal,
    };
    let shown = match refusal {
        None => shown,
        Some((status, message)) => {
            with(shown, "refused", json!({ "status": status, "message": message }))
        }
    };
    Reply::json(200, &shown)
}

/// An object with one more field.
fn with(mut object: Json, name: &str, value: Json) -> Json {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
    object
}

fn runners_up(roadmap: &Roadmap, found: &[Candidate<'_>], path: &[u8]) -> Json {
    let pairs = found.iter().zip(found.iter().skip(1)).take(RUNNERS_UP_MAX);
    let shown = pairs.map(|(before, behind)| {
        with(candidate(roadmap, behind, path), "behind_by", json!(before.decided_over(behind)))
    });
    shown.collect()
}

fn candidate(roadmap: &Roadmap, candidate: &Candidate<'_>, path: &[u8]) -> Json {
    let text = |range: &std::ops::Range<usize>| {
        String::from_utf8_lossy(path.get(range.clone()).unwrap_or_default()).into_owned()
    };
    let spec = &candidate.route.spec;
    let service = spec.service.and_then(|id| roadmap.services.get(&id));
    let service = service.map(
        |service| json!({ "id": service.row.id().to_string(), "name": service.row.text("name") }),
    );
    let configured = candidate.path.map(|path| match path {
        PathText::Prefix(text) => text.clone(),
        PathText::Regex(text) => format!("~{text}"),
    });
    let groups = (1..).zip(&candidate.groups).map(|(number, (name, range))| {
        json!({ "number": number, "name": name, "text": range.as_ref().map(text) })
    });
    let parts = candidate.parts().into_iter().map(|(name, part)| {
        let value = match part {
            Part::Flag(flag) => json!(flag),
            Part::Number(number) => json!(number),
            Part::Text(text) => json!(text),
        };
        (name.to_owned(), value)
    });
    json!({
        "route": { "id": spec.id.to_string(), "name": spec.name },
        "service": service,
        "path": configured,
        "expression": spec.expression,
        "taken": candidate.taken.as_ref().map(text),
        "captures": groups.collect::<Vec<_>>(),
        "priority": parts.collect::<Map<_, _>>(),
    })
}

fn one(name: &str, fault: &str) -> Faults {
    Faults::from_iter([(name.to_owned(), json!(fault))])
}

impl Words {
    /// Reads the arguments; all faults at once.
    fn read(arguments: &[u8]) -> Result<Self, Faults> {
        let mut words = Self {
            method: "GET".into(),
            scheme: "",
            host: String::new(),
            target: "/".into(),
            sni: None,
            source: ([127, 0, 0, 1], 0).into(),
            destination: ([127, 0, 0, 1], 0).into(),
            headers: Fields::new(),
        };
        let (mut faults, mut seen) = (Faults::new(), Vec::new());
        for (name, value) in query::arguments(arguments) {
            let name = String::from_utf8_lossy(&name).into_owned();
            let fault = match value.as_deref().map(std::str::from_utf8) {
                Some(Ok(text)) if text.len() <= VALUE_BYTES_MAX => {
                    let header = name.strip_prefix("headers.").map(str::to_owned);
                    match header {
                        Some(header) => words.header(&header, text),
                        None if seen.contains(&name) => Err("expected a single value"),
                        None => words.argument(&name, text),
                    }
                }
                Some(Ok(_)) => Err("value is too long"),
                Some(Err(_)) => Err("expected text in UTF-8"),
                None => Err("expected a value"),
            };
            if let Err(fault) = fault {
                faults.insert(name.clone(), json!(fault));
            }
            seen.push(name);
        }
        if words.scheme.is_empty() {
            words.scheme = if words.sni.is_some() { "https" } else { "http" };
        } else if words.sni.is_some() && !words.is_tls() {
            let fault = "'sni' can only be set when 'scheme' is 'https' or 'grpcs'";
            faults.insert("sni".into(), json!(fault));
        }
        if words.destination.port() == 0 {
            words.destination.set_port(if words.is_tls() { PORTS.1 } else { PORTS.0 });
        }
        if faults.is_empty() { Ok(words) } else { Err(faults) }
    }

    fn argument(&mut self, name: &str, text: &str) -> Result<(), &'static str> {
        let clean = !text.bytes().any(|byte| byte.is_ascii_control() || byte == b' ');
        match name {
            "method" if is_method(text) => self.method = text.to_owned(),
            "host" if clean && !text.is_empty() => {
                self.host = text.to_owned();
                if !self.headers.add("Host", text) {
                    return Err("invalid value");
                }
            }
            "path" if text.starts_with('/') => self.target = text.to_owned(),
            "path" => return Err("should start with: /"),
            "scheme" => {
                let known = SCHEMES.into_iter().find(|scheme| *scheme == text);
                self.scheme = known.ok_or("expected one of: http, https, grpc, grpcs")?;
            }
            "sni" if clean && !text.is_empty() => self.sni = Some(text.to_owned()),
            "source" => self.source = end(text).ok_or("expected an address or address:port")?,
            "destination" => {
                self.destination = end(text).ok_or("expected an address or address:port")?;
            }
            "method" | "host" | "sni" => return Err("invalid value"),
            _ => return Err("unknown field"),
        }
        Ok(())
    }

    fn header(&mut self, name: &str, text: &str) -> Result<(), &'static str> {
        if name.eq_ignore_ascii_case("host") {
            return Err("cannot contain 'host' header, which must be specified as 'host'");
        }
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let sound = !name.is_empty() && name.bytes().all(token);
        let clean = !text.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t');
        let added = sound && clean && self.headers.add(name, text.trim());
        if added { Ok(()) } else { Err("invalid header") }
    }

    fn is_tls(&self) -> bool {
        matches!(self.scheme, "https" | "grpcs")
    }

    fn lookup<'a>(&'a self, path: Normal<'a>, query: &'a [u8]) -> Lookup<'a> {
        Lookup {
            method: &self.method,
            host: self.host.as_bytes(),
            path,
            query,
            headers: &self.headers,
            sni: self.sni.as_deref(),
            tls: self.is_tls(),
            client: self.source,
            local: self.destination,
        }
    }

    /// What the client gets where the route is for another protocol.
    fn refusal(&self, winner: &Candidate<'_>, path: &[u8]) -> Option<(u16, &'static str)> {
        let (ip, port) = (self.source.ip(), self.source.port());
        let grpc = self.scheme.starts_with("grpc");
        let mut fields = self.headers.clone();
        if grpc && !fields.contains("content-type") {
            fields.add("Content-Type", "application/grpc");
        }
        let arrived = Arrived {
            fields: &fields,
            target_host: None,
            version: if grpc { Version::H2 } else { Version::H11 },
            client: trust::Client { peer: ip, ip, port, trusted: false },
            tls: self.is_tls(),
            port: self.destination.port(),
            path,
        };
        let what = Forwarded::new(&arrived, None).refusal(&winner.route.spec, &arrived)?;
        Some(what.answer())
    }

    fn shown(&self, path: Normal<'_>, query: &[u8]) -> Json {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let lines = self.headers.iter().map(|(name, value)| json!([text(name), text(value)]));
        json!({
            "method": self.method,
            "scheme": self.scheme,
            "host": self.host,
            "path": text(path.path),
            "query": text(query),
            "sni": self.sni,
            "source": self.source.to_string(),
            "destination": self.destination.to_string(),
            "headers": lines.collect::<Vec<_>>(),
        })
    }
}

/// What nginx takes for a method.
fn is_method(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_');
    !text.is_empty() && text.bytes().all(fits)
}

/// `1.2.3.4`, `1.2.3.4:80`, `::1` or `[::1]:80`; port 0 where there is none.
fn end(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let alone = || bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 0));
    text.parse().ok().or_else(alone)
}

/// The endpoint in the words of OpenAPI.
fn described() -> Json {
    let text = json!({ "type": "string" });
    let argument = |name: &str, about: &str| {
        let shown = json!({ "name": name, "in": "query", "schema": text });
        with(shown, "description", json!(about))
    };
    let parameters = [
        argument("method", "The method; GET if absent."),
        argument("host", "The Host header, with its port where it has one."),
        argument("path", "The path as the client sends it, with or without a query; / if absent."),
        argument("scheme", "http (also if absent and there is no sni), https, grpc or grpcs."),
        argument("sni", "The server name of the TLS handshake."),
        argument("source", "The client's address, with or without a port."),
        argument("destination", "Our address and port; 127.0.0.1:8000 or :8443 if absent."),
    ];
    let nullable = json!({ "type": ["string", "null"] });
    let candidate = json!({ "type": ["object", "null"], "properties": {
        "route": { "type": "object", "properties": { "id": text, "name": nullable } },
        "service": { "type": ["object", "null"], "properties": { "id": text, "name": nullable } },
        "path": nullable, "expression": nullable, "taken": nullable,
        "captures": { "type": "array", "items": { "type": "object", "properties": {
            "number": { "type": "integer" }, "name": nullable, "text": nullable,
        } } },
        "priority": { "type": "object" },
        "behind_by": text,
    } });
    let answer = json!({ "type": "object", "properties": {
        "router_flavor": text,
        "request": { "type": "object" },
        "matched": candidate,
        "decided_by": nullable,
        "runners_up": { "type": "array", "items": candidate },
        "runners_up_total": { "type": "integer" },
        "refused": { "type": "object", "properties": {
            "status": { "type": "integer" }, "message": text,
        } },
    } });
    let fault = json!({ "$ref": "#/components/schemas/fault" });
    json!({
        "summary": "Which route a request would take, and why.",
        "description": "Header lines are arguments named headers.NAME, each as often as needed. \
            Without any argument the path is that of the route named match, as in Kong.",
        "parameters": parameters,
        "responses": {
            "200": { "description": "The route that wins, and those behind it in order.",
                "content": { "application/json": { "schema": answer } } },
            "4XX": { "description": "Refused: what is wrong.",
                "content": { "application/json": { "schema": fault } } },
        },
    })
}

#[cfg(test)]
mod tests;

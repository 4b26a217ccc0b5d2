//! Whether Moesif can be reached with an application id, and in words what is wrong if not.
//!
//! Asks for the application's configuration, as the gateway itself does every minute: nothing is
//! sent that would show in anybody's analytics.

use crate::sink::Target;
use crate::sinks::moesif::{Trust, agent};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;
use ureq::http::Response;

/// How long each step may take, in milliseconds.
const STEP_MS: u64 = 5_000;
/// Moesif counts events that are further off as late, in seconds.
const CLOCK_S_MAX: u64 = 300;
/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// What was found in one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether it is as it must be.
    pub good: bool,
    /// In words.
    pub words: String,
}

/// An application as a running gateway has it configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// Sent as `X-Moesif-Application-Id`.
    pub id: String,
    /// Put in front of `/v1/...`.
    pub endpoint: String,
    /// How the gateway's own posts fare, from its `GET /plugins/moesif/status`; `None` where no
    /// gateway was asked.
    pub state: Option<Value>,
}

fn good(words: String) -> Finding {
    Finding { good: true, words }
}

fn bad(words: String) -> Finding {
    Finding { good: false, words }
}

/// Tries one application, step by step, until something is wrong. `wall_us` is the time now.
pub fn ping(application: &Application, files: &[PathBuf], wall_us: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    if application.id.trim().is_empty() || application.id.trim() != application.id {
        findings.push(bad(
            "the application id is empty or has white space around it: copy it from Moesif, \
             Settings, API keys, Collector Application Id"
                .to_owned(),
        ));
        return findings;
    }
    match connected(&application.endpoint) {
        Ok(words) => findings.push(good(words)),
        Err(words) => {
            findings.push(bad(words));
            return findings;
        }
    }
    let agent = agent(&Trust::load(files), STEP_MS, 1, STEP_MS);
    let url = format!("{}/v1/config", application.endpoint);
    match agent.get(&url).header("X-Moesif-Application-Id", &application.id).call() {
        Ok(mut answer) => findings.extend(judge(&mut answer, application, wall_us)),
        Err(fault) => findings.push(bad(explain(&fault.to_string(), &application.endpoint))),
    }
    if findings.iter().all(|finding| finding.good) {
        findings.extend(application.state.as_ref().map(posts));
    }
    findings
}

/// What became of the gateway's own posts: Moesif may tell the configuration and yet take no
/// events.
fn posts(state: &Value) -> Finding {
    let count = |name: &str| state.get(name).and_then(Value::as_u64).unwrap_or(0);
    let (delivered, queued, dropped) = (count("delivered"), count("queued"), count("dropped"));
    let told = format!("{delivered} events delivered, {queued} waiting, {dropped} dropped");
    match state.get("last_error").and_then(Value::as_str) {
        Some(fault) if count("failures") > 0 => {
            bad(format!("the gateway's events do not get through: {fault} ({told})"))
        }
        _ => good(format!("the gateway has sent there: {told}")),
    }
}

/// Resolves and connects, to tell names, firewalls and TLS apart.
fn connected(endpoint: &str) -> Result<String, String> {
    let (scheme, rest) = endpoint
        .split_once("://")
        .filter(|(scheme, _)| matches!(*scheme, "http" | "https"))
        .ok_or_else(|| {
            format!("api_endpoint {endpoint:?} does not begin with http:// or https://")
        })?;
    let authority = rest.split('/').next().unwrap_or_default();
    let port = if scheme == "https" { 443 } else { 80 };
    let named = match authority.rsplit_once(':') {
        Some((_, digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            authority.to_owned()
        }
        _ => format!("{authority}:{port}"),
    };
    let found = named.to_socket_addrs().map_err(|fault| {
        format!(
            "the name in {named} cannot be resolved ({fault}): look at /etc/resolv.conf, or \
             whether this network may ask for names outside"
        )
    })?;
    let addresses: Vec<SocketAddr> = found.collect();
    let mut last = format!("the name in {named} has no address");
    for address in &addresses {
        match TcpStream::connect_timeout(address, Duration::from_millis(STEP_MS)) {
            Ok(_) => return Ok(format!("{named} is at {address} and takes connections")),
            Err(fault) => last = refused(address, &fault),
        }
    }
    Err(last)
}

fn refused(address: &SocketAddr, fault: &std::io::Error) -> String {
    match fault.kind() {
        ErrorKind::ConnectionRefused => {
            format!("nobody listens at {address}: is api_endpoint right, is the proxy running?")
        }
        ErrorKind::TimedOut | ErrorKind::WouldBlock => format!(
            "{address} does not answer within {} s: a firewall probably drops what leaves here",
            STEP_MS / 1_000
        ),
        _ => format!("{address} cannot be reached: {fault}"),
    }
}

/// A fault of the exchange itself, in words that help.
fn explain(fault: &str, endpoint: &str) -> String {
    let lower = fault.to_ascii_lowercase();
    if lower.contains("certificate") || lower.contains("unknownissuer") {
        return format!(
            "the certificate of {endpoint} is not trusted ({fault}): where a proxy of yours signs \
             it, name its CA in lua_ssl_trusted_certificate"
        );
    }
    let cut = ["end of file", "reset", "corrupt", "invalidcontenttype"];
    if endpoint.starts_with("https:") && cut.iter().any(|words| lower.contains(words)) {
        return format!(
            "{endpoint} does not speak TLS, or lets nobody in ({fault}): should api_endpoint begin \
             with http://?"
        );
    }
    if lower.contains("tls") || lower.contains("ssl") || lower.contains("handshake") {
        return format!("{endpoint} does not speak TLS as it should: {fault}");
    }
    format!("{endpoint} does not answer as it should: {fault}")
}

fn judge(
    answer: &mut Response<ureq::Body>,
    application: &Application,
    wall_us: u64,
) -> Vec<Finding> {
    let status = answer.status().as_u16();
    let date = answer.headers().get("date").and_then(|date| date.to_str().ok());
    let clock = match date.and_then(seconds_of) {
        Some(theirs) => clock(theirs, wall_us / 1_000_000),
        None => good("the answer has no date to compare the clock with".to_owned()),
    };
    let endpoint = &application.endpoint;
    let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
    let config = body.ok().and_then(|body| serde_json::from_slice::<Value>(&body).ok());
    let said = match (status, config.filter(Value::is_object)) {
        (200..=299, Some(config)) => good(match config.get("sample_rate") {
            Some(rate) => format!("{endpoint} knows the application; it reports {rate} %"),
            None => format!("{endpoint} knows the application"),
        }),
        (200..=299, None) => bad(format!(
            "{endpoint}/v1/config answers {status}, but with no configuration: is that Moesif?"
        )),
        (401 | 403, _) => bad(format!(
            "{endpoint} does not accept the application id (status {status}): it must be the \
             Collector Application Id, not a Management API key, and whole"
        )),
        (402, _) => {
            bad(format!("{endpoint} says that the subscription is not active (status 402)"))
        }
        (400, _) => bad(format!(
            "{endpoint} does not understand the request (status 400): should api_endpoint begin \
             with https://?"
        )),
        (404, _) => bad(format!(
            "{endpoint}/v1/config does not exist (status 404): api_endpoint must end before /v1"
        )),
        (300..=399, _) => bad(format!(
            "{endpoint} sends elsewhere (status {status}), which is not followed: name the real \
             address, https:// perhaps"
        )),
        _ => bad(format!("{endpoint} answers {status}: it is in trouble itself, try again later")),
    };
    // The last word is what is wrong.
    if said.good { vec![said, clock] } else { vec![clock, said] }
}

/// Whether two clocks agree, in seconds since 1970.
fn clock(theirs_s: u64, ours_s: u64) -> Finding {
    let apart_s = theirs_s.abs_diff(ours_s);
    if apart_s <= CLOCK_S_MAX {
        return good(format!("the clocks are {apart_s} s apart"));
    }
    let way = if ours_s > theirs_s { "fast" } else { "slow" };
    bad(format!(
        "the clock of this machine is {apart_s} s {way}: events would stand at the wrong time, \
         and be refused if they seem too old"
    ))
}

/// Seconds since 1970 of an HTTP date.
pub(crate) fn seconds_of(date: &str) -> Option<u64> {
    let at = jiff::fmt::rfc2822::parse(date).ok()?;
    at.timestamp().as_second().try_into().ok()
}

/// The applications of a running gateway, asked of its Admin API (`http://host:port`).
///
/// # Errors
/// The Admin API cannot be reached, or does not answer as one.
pub fn applications(admin: &str) -> Result<Vec<Application>, String> {
    let agent = agent(&Trust::load(&[] as &[PathBuf]), STEP_MS, 1, STEP_MS);
    let read = |path: &str| {
        let fault = |fault: ureq::Error| format!("the Admin API at {admin}: {fault}");
        let mut answer = agent.get(format!("{admin}{path}")).call().map_err(fault)?;
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        body.ok()
            .and_then(|body| serde_json::from_slice::<Value>(&body).ok())
            .ok_or_else(|| format!("the Admin API at {admin} does not answer as one"))
    };
    let states = read("/plugins/moesif/status")?;
    let states = states.get("data").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut found: Vec<Application> = Vec::new();
    let mut next = Some("/plugins?size=1000".to_owned());
    // A page leads to the next; far more pages than anybody has plugins.
    for _page in 0..1_000 {
        let Some(path) = next.take() else { break };
        let page = read(&path)?;
        let rows = page.get("data").and_then(Value::as_array).into_iter().flatten();
        for row in rows.filter(|row| row.get("name").is_some_and(|name| name == "moesif")) {
            let text = |name: &str| row.pointer(&format!("/config/{name}"))?.as_str();
            let (Some(id), Some(endpoint)) = (text("application_id"), text("api_endpoint")) else {
                continue;
            };
            let label = Target::moesif(id, endpoint).label();
            let state = states.iter().find(|state| state.get("application") == Some(&json!(label)));
            let application = Application {
                id: id.to_owned(),
                endpoint: endpoint.to_owned(),
                state: state.cloned(),
            };
            if !found.iter().any(|known| known.id == id && known.endpoint == endpoint) {
                found.push(application);
            }
        }
        next = page.get("next").and_then(Value::as_str).map(str::to_owned);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    /// What is found where one answer is given; the last finding's words.
    #[track_caller]
    fn check(answer: &'static str, expected: bool, words: &str) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let endpoint = format!("http://{}/collector", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            // The first connection only tries whether there is somebody.
            for stream in listener.incoming().take(2) {
                let mut reader = BufReader::new(stream.unwrap());
                let mut line = String::new();
                while reader.read_line(&mut line).unwrap_or(0) > 2 {
                    line.clear();
                }
                // The first one is gone already.
                let _told = reader.get_mut().write_all(answer.as_bytes());
            }
        });
        let application = Application { id: "id".to_owned(), endpoint, state: None };
        let findings = ping(&application, &[], 784_111_777_000_000);
        let last = findings.last().unwrap();
        assert!(last.good == expected && last.words.contains(words), "{findings:?}");
    }

    #[test]
    fn answers_are_explained() {
        check(
            "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 18\r\n\r\n{\"sample_rate\":50}",
            true,
            "0 s apart",
        );
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", true, "no date");
        check("HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n", false, "begin with https");
        check(
            "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 18:49:37 GMT\r\nContent-Length: 2\r\n\r\n{}",
            false,
            "36000 s slow",
        );
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", false, "is that Moesif?");
        check("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", false, "does not accept");
        check("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", false, "end before /v1");
        check("HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n", false, "in trouble itself");
        check("nonsense\r\n\r\n", false, "does not answer as it should");
    }

    #[test]
    fn what_cannot_be_reached_is_explained() {
        let closed = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        for (id, endpoint, words) in [
            ("", "https://a", "application id is empty"),
            ("a\n", "https://a", "white space"),
            ("a", "api.moesif.net", "does not begin with http"),
            ("a", "http://name.invalid", "cannot be resolved"),
            ("a", &format!("http://{closed}"), "nobody listens"),
        ] {
            let application =
                Application { id: id.to_owned(), endpoint: endpoint.to_owned(), state: None };
            let findings = ping(&application, &[], 0);
            let last = findings.last().unwrap();
            assert!(!last.good && last.words.contains(words), "{findings:?}");
        }
        let explained = explain("rustls: invalid peer certificate: UnknownIssuer", "https://a");
        assert!(explained.contains("lua_ssl_trusted_certificate"), "{explained}");
        let explained = explain("io: unexpected end of file", "https://a");
        assert!(explained.contains("begin with http://"), "{explained}");
    }

    #[test]
    fn the_gateways_own_posts_are_told() {
        let state = json!({"delivered": 0, "queued": 5, "failures": 1, "last_error": "a 401"});
        let told = posts(&state).words;
        assert!(told.contains("a 401 (0 events delivered, 5 waiting, 0 dropped)"), "{told}");
        let over = json!({"delivered": 7, "failures": 0, "last_error": "of before"});
        let [over, never] = [over, json!({})].map(|state| posts(&state));
        assert!(!posts(&state).good && over.good && never.good);
        assert!(over.words.contains("sent there: 7 events") && !over.words.contains("of before"));
    }
}

//! What each plugin costs on the road: CPU of the road's thread for each request through a route
//! with the plugin, minus that of the same request to the plain route beside it, in rounds of one
//! run. The same lines are sent to both: what a longer request costs is not the plugin's.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::{Value, json};

use super::{Findings, Options};
use crate::{
    Fault,
    admin::Admin,
    clients::Pace,
    compare::{self, Round},
    cpu,
    engine::Engine,
    scene,
    servers::{Place, Server},
    stats,
};

const ROUNDS: usize = 6;
/// Of what is judged to a microsecond or two.
const FINE_ROUNDS: usize = 160;
/// Connections, and the measured milliseconds of a visit.
const VISIT: (usize, u64) = (64, 250);
/// Of what is judged finely: the machine's pace changes within a second, and the two sides of a
/// pair should meet the same.
const FINE_VISIT: (usize, u64) = (64, 120);
/// Between two visits: what one left to the office must not burden the next.
const REST_MS: u64 = 40;
const ANSWER_BYTES: usize = 1_024;
/// The budget of an authentication plugin without signatures by public keys.
const AUTH_US_MAX: f64 = 2.0;
/// The budget of a hit, as a share of a proxied request.
const HIT_MAX: f64 = 0.6;

/// How a case is judged.
#[derive(Clone, Copy, PartialEq)]
enum Judged {
    /// It is only told.
    No,
    /// An authentication plugin.
    Auth,
    /// What is compared with another case than the plain route.
    Behind(&'static str),
    /// Answers that come out of the cache.
    Hit,
}

/// A route with plugins, and the lines of its requests.
struct Case {
    name: &'static str,
    plugins: Vec<(&'static str, Value)>,
    /// The lines of one request each; they come in turn.
    lines: Vec<String>,
    judged: Judged,
}

const KEY: &str = "apikey: key-of-the-load\r\n";
const BASIC: &str = "Authorization: Basic dTpwYTpzcw==\r\n";
const BEARER: &str = "Authorization: Bearer tok\r\n";
const JWT: &str = "Authorization: Bearer eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.\
    eyJpc3MiOiJpc3MxIn0._AGL1GeNGVwToXH8u1im45x-mNZUjRJhg5WKRB3NiAM\r\n";
/// Over the date and `GET /hmac-auth HTTP/1.1`.
const SIGNED: &str = "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nAuthorization: hmac username=\"h\", \
    algorithm=\"hmac-sha256\", headers=\"date request-line\", \
    signature=\"kPZnUsBg/AjYSCYeILfTw2j/8k+DqvyHh+GgtoYt2LU=\"\r\n";

/// More tokens than a core remembers as verified: each is new when it comes again.
const TOKENS: usize = 4_096;

/// A token like that of [`JWT`], with a number in it.
fn token(number: usize) -> String {
    let claims = format!("{{\"iss\":\"iss1\",\"n\":{number}}}");
    let header = br#"{"typ":"JWT","alg":"HS256"}"#;
    signed(&[header, claims.as_bytes()].map(|part| BASE64URL.encode(part)).join("."))
}

/// The line with a token of these two parts and their signature.
fn signed(parts: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"s3cret");
    let signature = BASE64URL.encode(hmac::sign(&key, parts.as_bytes()));
    format!("Authorization: Bearer {parts}.{signature}\r\n")
}

/// The secret of all sessions.
const SECRET: &str = "s3cr3t-s3cr3t-s3cr3t-s3cr3t-1234";

/// Where log entries go.
struct Sinks {
    /// Nobody reads it: what is sent there is lost, which costs the sender the same.
    datagrams: UdpSocket,
    /// It takes connections and never reads or answers.
    deaf: TcpListener,
    /// Nobody listens.
    nobody: SocketAddr,
}

impl Sinks {
    fn open() -> Result<Self, Fault> {
        let nobody = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let datagrams = UdpSocket::bind("127.0.0.1:0")?;
        Ok(Self { datagrams, deaf: TcpListener::bind("127.0.0.1:0")?, nobody })
    }

    /// Cases of sinks in trouble, each beside a sink that takes all at once.
    fn troubled(&self) -> Result<Vec<Case>, Fault> {
        let case = |name, plugin, config| Case {
            name,
            plugins: vec![(plugin, config)],
            lines: vec![String::new()],
            judged: Judged::Behind("file-log"),
        };
        let http =
            |to: SocketAddr| json!({"http_endpoint": format!("http://{to}/"), "timeout": 2_000});
        let down = json!({"host": self.nobody.ip().to_string(), "port": self.nobody.port()});
        Ok(vec![
            case("http-log-down", "http-log", http(self.nobody)),
            case("http-log-deaf", "http-log", http(self.deaf.local_addr()?)),
            case("tcp-log-down", "tcp-log", down),
        ])
    }
}

/// A case of one plugin.
fn case(name: &'static str, config: Value, lines: &str, judged: Judged) -> Case {
    Case { name, plugins: vec![(name, config)], lines: vec![lines.to_owned()], judged }
}

/// The plain route, and those that let somebody in. The cookie of session comes later; key-auth
/// sees that somebody was let in, and does nothing.
fn guarded() -> Vec<Case> {
    let none = || json!({});
    let remembered =
        vec![("session", json!({"secret": SECRET})), ("key-auth", json!({"anonymous": "nobody"}))];
    let allowed = vec![("key-auth", none()), ("acl", json!({"allow": ["gold"]}))];
    vec![
        case("plain", none(), "", Judged::No),
        case("key-auth", none(), KEY, Judged::Auth),
        Case {
            name: "acl",
            plugins: allowed,
            lines: vec![KEY.into()],
            judged: Judged::Behind("key-auth"),
        },
        case("basic-auth", none(), BASIC, Judged::Auth),
        case("jwt", none(), JWT, Judged::Auth),
        Case {
            name: "jwt-new",
            plugins: vec![("jwt", none())],
            lines: (0..TOKENS).map(token).collect(),
            judged: Judged::No,
        },
        case("hmac-auth", json!({"clock_skew": 4_000_000_000_u64}), SIGNED, Judged::Auth),
        case(
            "oauth2",
            json!({"enable_client_credentials": true, "global_credentials": true}),
            BEARER,
            Judged::Auth,
        ),
        Case {
            name: "session",
            plugins: remembered,
            lines: vec![String::new()],
            judged: Judged::Auth,
        },
    ]
}

/// All cases; log entries go to `sink`.
fn cases(sink: SocketAddr) -> Vec<Case> {
    let to = json!({"host": sink.ip().to_string(), "port": sink.port()});
    let none = || json!({});
    let all = json!({
        "per_consumer": true, "status_code_metrics": true, "latency_metrics": true,
        "bandwidth_metrics": true, "upstream_health_metrics": true,
    });
    let mut cases = guarded();
    cases.extend([
        case("cors", none(), "Origin: http://a.example\r\n", Judged::No),
        case("ip-restriction", json!({"allow": ["127.0.0.0/8"]}), "", Judged::No),
        case("bot-detection", none(), "User-Agent: Mozilla/5.0 (X11; Linux)\r\n", Judged::No),
        case("request-size-limiting", none(), "", Judged::No),
        case("rate-limiting", json!({"minute": 1_000_000_000}), "", Judged::No),
        case("response-ratelimiting", json!({"limits": {"v": {"minute": 9}}}), "", Judged::No),
        case("correlation-id", json!({"echo_downstream": true}), "", Judged::No),
        case(
            "request-transformer",
            json!({"add": {"headers": ["x-a:1", "x-h:$(headers.host)"]}}),
            "",
            Judged::No,
        ),
        case("response-transformer", json!({"add": {"headers": ["x-a:1"]}}), "", Judged::No),
        Case {
            name: "response-transformer-json",
            plugins: vec![("response-transformer", json!({"add": {"json": ["a:1"]}}))],
            lines: vec![String::new()],
            judged: Judged::No,
        },
        case("request-termination", json!({"status_code": 200, "message": "m"}), "", Judged::No),
        case("redirect", json!({"status_code": 200, "location": "https://a.test"}), "", Judged::No),
        case(
            "proxy-cache",
            json!({"strategy": "memory", "content_type": ["*/*"], "cache_ttl": 3_600}),
            "",
            Judged::Hit,
        ),
        case("prometheus", all, "", Judged::No),
        case("file-log", json!({"path": "/dev/null"}), "", Judged::No),
        case("udp-log", to.clone(), "", Judged::No),
        case("statsd", to.clone(), "", Judged::No),
        case("datadog", to, "", Judged::No),
    ]);
    cases
}

pub(super) fn run(options: &Options, driver: &str, findings: &mut Findings) -> Result<(), Fault> {
    let cpus = cpu::allowed()?;
    let (load_cpu, road_cpu) = (cpus[0], cpus[cpus.len() - 1]);
    cpu::pin(None, &[load_cpu])?;
    let mut engine = Engine::new("127.0.0.1:0".parse()?, ANSWER_BYTES)?;
    let sinks = Sinks::open()?;
    let place = Place { cores: 1, cpus: vec![road_cpu] };
    let server = Server::tollgate(&options.tollgate, driver, &place, &[])?;
    let mut cases = cases(sinks.datagrams.local_addr()?);
    cases.extend(sinks.troubled()?);
    set_up(&mut server.admin()?, engine.upstream.addr()?, &cases)?;
    server.move_office(&[load_cpu]);
    let mut rounds: Vec<[Vec<Round>; 2]> = vec![Default::default(); cases.len()];
    for round in 0..FINE_ROUNDS {
        // A cookie is made anew once a minute, and a browser sends the newest.
        let cookie = log_in(server.proxy)?;
        if let Some(session) = cases.iter_mut().find(|case| case.name == "session") {
            session.lines = vec![cookie];
        }
        for step in 0..cases.len() {
            let at = (round * 7 + step) % cases.len();
            let is_fine = cases[at].judged != Judged::No;
            if round >= ROUNDS && !is_fine {
                continue;
            }
            // The two take turns at being first.
            let pair = [base(&cases, at), at];
            for side in [round % 2, (round + 1) % 2] {
                let path = format!("/{}", cases[pair[side]].name);
                let asks: Vec<_> =
                    cases[at].lines.iter().map(|lines| scene::get(&path, lines)).collect();
                engine.serve_for(REST_MS)?;
                let pace = Pace::Closed;
                let visit = if is_fine { FINE_VISIT } else { VISIT };
                let measured = compare::visit_each(&mut engine, visit, &server, &asks, pace)?;
                rounds[at][side].push(measured);
            }
        }
    }
    cpu::pin(None, &cpus)?;
    report(&cases, &rounds, findings);
    Ok(())
}

fn set_up(admin: &mut Admin, upstream: SocketAddr, cases: &[Case]) -> Result<(), Fault> {
    let url = format!("http://{upstream}");
    let mut must = |path: &str, body: Value| admin.must("POST", path, &body);
    must("/services", json!({"name": "load", "url": url}))?;
    must("/consumers", json!({"username": "loader"}))?;
    must("/consumers", json!({"username": "nobody"}))?;
    for (what, row) in [
        ("key-auth", json!({"key": scene::KEY})),
        ("basic-auth", json!({"username": "u", "password": "pa:ss"})),
        ("jwt", json!({"key": "iss1", "secret": "s3cret"})),
        ("hmac-auth", json!({"username": "h", "secret": "hs"})),
        ("acls", json!({"group": "gold"})),
    ] {
        must(&format!("/consumers/loader/{what}"), row)?;
    }
    let application = must("/consumers/loader/oauth2", json!({"name": "app"}))?;
    let credential = json!({"id": application["id"]});
    let token = json!({"credential": credential, "access_token": "tok", "expires_in": 0});
    must("/oauth2_tokens", token)?;
    for case in cases {
        let route = json!({"name": case.name, "paths": [format!("/{}", case.name)]});
        must("/services/load/routes", route)?;
        for (plugin, config) in case.plugins.iter().filter(|(name, _)| *name != "plain") {
            let row = json!({"name": plugin, "config": config});
            must(&format!("/routes/{}/plugins", case.name), row)?;
        }
    }
    let ends = || ("request-termination", json!({"status_code": 200}));
    let session = || ("session", json!({"secret": SECRET}));
    let known = ("key-auth", json!({"anonymous": "nobody"}));
    for (name, plugins) in [
        ("login", vec![session(), ("key-auth", json!({})), ends()]),
        ("known", vec![session(), known, ("acl", json!({"allow": ["gold"]})), ends()]),
    ] {
        let route = json!({"name": name, "paths": [format!("/{name}")]});
        must("/services/load/routes", route)?;
        for (plugin, config) in plugins {
            let row = json!({"name": plugin, "config": config});
            must(&format!("/routes/{name}/plugins"), row)?;
        }
    }
    Ok(())
}

/// Logs the load's consumer in; gives the line with the cookie, which lets it in.
fn log_in(proxy: SocketAddr) -> Result<String, Fault> {
    let head = ask(proxy, "/login", KEY)?;
    let cookie = head.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("set-cookie").then(|| value.split(';').next()).flatten()
    });
    let cookie = cookie.ok_or_else(|| format!("no cookie in {head:?}"))?;
    let line = format!("Cookie: a=1; {cookie}\r\n");
    match ask(proxy, "/known", &line)?.first() {
        Some(status) if status.contains(" 200 ") => Ok(line),
        other => Err(format!("the cookie lets nobody in: {other:?}").into()),
    }
}

/// The head of an answer, in lines.
fn ask(proxy: SocketAddr, path: &str, lines: &str) -> Result<Vec<String>, Fault> {
    let mut stream = TcpStream::connect(proxy)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(&scene::get(path, lines))?;
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    Ok(lines.take_while(|line| !line.is_empty()).collect())
}

/// The number of the case that a case is compared with.
fn base(cases: &[Case], at: usize) -> usize {
    let Some(Case { judged: Judged::Behind(other), .. }) = cases.get(at) else { return 0 };
    cases.iter().position(|case| case.name == *other).unwrap_or(0)
}

fn report(cases: &[Case], rounds: &[[Vec<Round>; 2]], findings: &mut Findings) {
    for (case, [base, own]) in cases.iter().zip(rounds) {
        let of = |rounds: &[Round], field: fn(&Round) -> f64| -> Vec<f64> {
            rounds.iter().map(field).collect()
        };
        let road = stats::difference(&of(own, |r| r.road_us), &of(base, |r| r.road_us));
        let whole = stats::difference(&of(own, |r| r.whole_us), &of(base, |r| r.whole_us));
        let share = stats::ratio(&of(own, |r| r.road_us), &of(base, |r| r.road_us));
        let failures: u64 = own.iter().map(|round| round.failures).sum();
        let words = format!(
            "{:26} {:6.2} us a request; road {:+.2} [{:+.2}, {:+.2}] us, x{:.2} [{:.2}, {:.2}]; \
             whole {:+.2} us; {failures} failed",
            case.name,
            stats::median(&of(own, |r| r.road_us)),
            road.mean,
            road.low,
            road.high,
            share.mean,
            share.low,
            share.high,
            whole.mean
        );
        match case.judged {
            _ if failures > 0 => findings.judge(false, &words),
            Judged::No => findings.note(&words),
            Judged::Auth | Judged::Behind(_) => findings.judge(road.mean <= AUTH_US_MAX, &words),
            Judged::Hit => findings.judge(share.mean <= HIT_MAX, &words),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_signed_as_others_sign_them() {
        let parts = JWT.trim_start_matches("Authorization: Bearer ").trim_end();
        let (parts, _signature) = parts.rsplit_once('.').unwrap();
        assert_eq!(signed(parts), JWT);
        assert_ne!(token(0), token(1));
    }
}

//! Things break under load: upstreams, peers that fall silent, descriptors, name servers. Requests
//! are counted one by one.

mod names;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::json;

use super::{Findings, Options, Stage, slow::Slow};
use crate::{
    Fault,
    clients::{Load, Pace, Plan},
    collector::{Collector, Depth},
    cpu,
    engine::Engine,
    scene,
    servers::{Place, Server},
};
use names::NameServer;

const CONNECTIONS: usize = 64;
const RATE: f64 = 2_000.0;
/// How often the upstream is killed.
const KILLS: usize = 5;
const DOWN: Duration = Duration::from_secs(1);
const BETWEEN: Duration = Duration::from_secs(1);
/// Seconds without name servers, divided by `shorten`.
const NAMELESS_SECONDS: u64 = 30;
/// Peers that fall silent.
const STUCK: usize = 50;
/// The time limits of that experiment, in seconds.
const LIMIT_SECONDS: u64 = 2;
/// How long the gateway may take to get rid of them.
const RID_SECONDS_MAX: u64 = 15;
/// More than all buffers between a client and a deaf upstream hold.
const POST_BYTES: usize = 16 << 20;
/// Open files of the gateway in the experiment about them, and connections that try to get in.
const FILES_MAX: &str = "400";
const CROWD: usize = 1_000;

/// GETs for `path`, evenly spaced.
fn plan(target: SocketAddr, path: &str, connections: usize) -> Plan {
    let request = scene::get(path, "");
    Plan {
        target,
        connections,
        pace: Pace::Rate(RATE),
        ask: Box::new(move |_, out| out.extend_from_slice(&request)),
        hear: None,
        want: None,
    }
}

/// Tells what came of a load, and whether every request was answered 200.
fn judge(load: &Load<'_>, what: &str, findings: &mut Findings) {
    let score = load.score();
    let longest_ms = score.latencies.at(1.0) as f64 / 1e6;
    findings.judge(
        score.failures() == 0 && score.refused == 0,
        &format!(
            "{what}: {:?}, cut {}, refused {}; the longest took {longest_ms:.0} ms",
            score.statuses, score.cut, score.refused
        ),
    );
}

/// The upstream's process ends under load and is back a second later, several times.
pub(super) fn upstream(
    options: &Options,
    driver: &str,
    findings: &mut Findings,
) -> Result<(), Fault> {
    let mut stage = Stage::open(options, driver, 2, Depth::Count)?;
    scene::plain(&mut stage.admin, stage.engine.upstream.addr()?)?;
    let mut load = Load::new(&mut stage.engine, plan(stage.server.proxy, "/load/", CONNECTIONS));
    load.run_for(BETWEEN)?;
    for _ in 0..KILLS {
        load.engine.upstream.kill();
        load.run_for(DOWN)?;
        load.engine.revive_upstream()?;
        load.run_for(BETWEEN)?;
    }
    load.drain(Duration::from_secs(10))?;
    judge(&load, &format!("GETs while the upstream was away {KILLS} times"), findings);
    Ok(())
}

/// Upstreams that accept and never read or answer, clients that ask and never read, clients that
/// are connected and never speak: they get what their time limits say, the others notice nothing.
pub(super) fn stuck(options: &Options, driver: &str, findings: &mut Findings) -> Result<(), Fault> {
    let limit = format!("{LIMIT_SECONDS}s");
    let place = Place { cores: 2, cpus: cpu::allowed()? };
    let settings = [
        ("KONG_NGINX_HTTP_SEND_TIMEOUT", limit.as_str()),
        ("KONG_NGINX_HTTP_CLIENT_HEADER_TIMEOUT", &limit),
        ("KONG_NGINX_HTTP_CLIENT_BODY_TIMEOUT", &limit),
    ];
    let server = Server::tollgate(&options.tollgate, driver, &place, &settings)?;
    let mut engine = Engine::new("127.0.0.1:0".parse()?, 1_024)?;
    let mut admin = server.admin()?;
    scene::plain(&mut admin, engine.upstream.addr()?)?;
    let deaf = TcpListener::bind("127.0.0.1:0")?;
    let service = json!({
        "name": "deaf", "url": format!("http://{}", deaf.local_addr()?), "retries": 0,
        "write_timeout": LIMIT_SECONDS * 1_000, "read_timeout": LIMIT_SECONDS * 1_000,
    });
    admin.must("POST", "/services", &service)?;
    admin.must("POST", "/services/deaf/routes", &json!({"name": "deaf", "paths": ["/deaf"]}))?;
    let mut load = Load::new(&mut engine, plan(server.proxy, "/load/", CONNECTIONS));
    load.run_for(BETWEEN)?;
    let posts: Vec<_> = (0..STUCK).map(|_| post(server.proxy)).collect();
    let large = scene::get("/load/bytes/16000000", "");
    let mute = |words: &[u8]| -> Result<TcpStream, Fault> {
        let mut stream = TcpStream::connect(server.proxy)?;
        stream.write_all(words)?;
        Ok(stream)
    };
    let silent = (0..STUCK).map(|_| mute(b"GET /load/ HT")).collect::<Result<Vec<_>, _>>()?;
    let halves =
        (0..STUCK).map(|_| mute(b"POST /load/ HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx"));
    let halves = halves.collect::<Result<Vec<_>, _>>()?;
    let deafs = (0..STUCK).map(|_| mute(&large)).collect::<Result<Vec<_>, _>>()?;
    let until = Instant::now() + Duration::from_secs(RID_SECONDS_MAX);
    let active = loop {
        load.run_for(Duration::from_millis(500))?;
        let active = scene::status(&mut admin)?["server"]["connections_active"].as_u64();
        let active = active.unwrap_or(u64::MAX);
        if active <= CONNECTIONS as u64 || Instant::now() > until {
            break active;
        }
    };
    load.drain(Duration::from_secs(5))?;
    judge(&load, &format!("GETs beside {} stuck peers", 4 * STUCK), findings);
    let words = format!("{active} connections are left of {}", 4 * STUCK + CONNECTIONS);
    findings.judge(active <= CONNECTIONS as u64, &words);
    let told = posts.into_iter().filter_map(|post| post.join().ok()).filter(|s| *s == 504).count();
    findings.judge(told == STUCK, &format!("{told} of {STUCK} posts to the deaf got 504"));
    drop((silent, halves, deafs));
    Ok(())
}

/// Sends a body larger than every buffer to the upstream that never reads; the answer's status.
fn post(target: SocketAddr) -> JoinHandle<u16> {
    thread::spawn(move || status_of_post(target).unwrap_or(0))
}

fn status_of_post(target: SocketAddr) -> Result<u16, Fault> {
    let mut stream = TcpStream::connect(target)?;
    stream.set_read_timeout(Some(Duration::from_secs(RID_SECONDS_MAX)))?;
    let mut sending = stream.try_clone()?;
    // Its end is never taken: the answer comes before, and is read meanwhile.
    thread::spawn(move || {
        let head = format!(
            "POST /deaf HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
             Content-Length: {POST_BYTES}\r\n\r\n"
        );
        let body = vec![b'x'; POST_BYTES];
        let _ = sending.write_all(head.as_bytes()).and_then(|()| sending.write_all(&body));
    });
    let mut line = [0; 12];
    stream.read_exact(&mut line)?;
    Ok(std::str::from_utf8(&line)?.get(9..12).ok_or("no status line")?.parse()?)
}

/// More connections than descriptors: who is in is served, and a second after the crowd has gone
/// everybody is.
pub(super) fn files(options: &Options, driver: &str, findings: &mut Findings) -> Result<(), Fault> {
    let place = Place { cores: 2, cpus: cpu::allowed()? };
    let settings = [("KONG_NGINX_MAIN_WORKER_RLIMIT_NOFILE", FILES_MAX)];
    let server = Server::tollgate(&options.tollgate, driver, &place, &settings)?;
    let mut engine = Engine::new("127.0.0.1:0".parse()?, 1_024)?;
    let mut admin = server.admin()?;
    scene::plain(&mut admin, engine.upstream.addr()?)?;
    let mut load = Load::new(&mut engine, plan(server.proxy, "/load/", 16));
    load.run_for(BETWEEN)?;
    let before = server.usage();
    let crowd = Slow::start(server.proxy, CROWD);
    load.run_for(Duration::from_secs(5))?;
    let used_ms = server.usage().since(before).whole_ns / 1_000_000;
    let overload = scene::status(&mut admin)?["tollgate"]["overload"].clone();
    crowd.end()?;
    let gone = Instant::now();
    load.drain(Duration::from_secs(5))?;
    judge(&load, &format!("GETs while {CROWD} wanted in"), findings);
    drop(load);
    let mut fresh = Load::new(&mut engine, plan(server.proxy, "/load/", 16));
    fresh.run_until(16, Duration::from_secs(5))?;
    let back_ms = gone.elapsed().as_millis();
    fresh.drain(Duration::from_secs(5))?;
    judge(&fresh, "new connections afterwards", findings);
    findings.judge(back_ms <= 1_000, &format!("served again after {back_ms} ms"));
    findings.note(&format!("CPU in those 5 s: {used_ms} ms; {overload}"));
    Ok(())
}

/// The name server is silent for half a minute while its answers hold for a second.
pub(super) fn dns(options: &Options, driver: &str, findings: &mut Findings) -> Result<(), Fault> {
    let names = NameServer::start()?;
    let place = Place { cores: 2, cpus: cpu::allowed()? };
    let resolver = names.addr().to_string();
    let settings = [("KONG_DNS_RESOLVER", resolver.as_str()), ("KONG_DNS_HOSTSFILE", "/dev/null")];
    let server = Server::tollgate(&options.tollgate, driver, &place, &settings)?;
    let mut engine = Engine::new("127.0.0.1:0".parse()?, 1_024)?;
    let _collector = Collector::start("127.0.0.1:0".parse()?, Depth::Count)?;
    let mut admin = server.admin()?;
    let port = engine.upstream.addr()?.port();
    let service = json!({"name": "named", "url": format!("http://up.load.test:{port}")});
    admin.must("POST", "/services", &service)?;
    admin.must("POST", "/services/named/routes", &json!({"name": "named", "paths": ["/named"]}))?;
    let mut load = Load::new(&mut engine, plan(server.proxy, "/named/", CONNECTIONS));
    load.run_for(Duration::from_secs(3))?;
    let asked = names.asked();
    names.fall_silent(true);
    let seconds = NAMELESS_SECONDS / options.shorten.max(1);
    load.run_for(Duration::from_secs(seconds))?;
    let meanwhile = names.asked() - asked;
    names.fall_silent(false);
    load.run_for(Duration::from_secs(2))?;
    load.drain(Duration::from_secs(5))?;
    judge(&load, &format!("GETs while the name server was silent for {seconds} s"), findings);
    findings.judge(asked > 0, &format!("it was asked {asked} times before, {meanwhile} meanwhile"));
    Ok(())
}

//! Limits that four nodes count together: on a Redis of our own and in a Postgres of our own.
//!
//! Every node is asked at the same pace at the same time. What a policy promises: with `redis` and
//! no `sync_rate` the limit is exact; where nodes are brought in step every so often, a node knows
//! nothing of what the others have admitted since, so the limit may be passed by what is asked for
//! within one step, and a little for the way there and back.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    Findings, Options,
    database::{DATABASE, USER, bootstrap, settings},
};
use crate::{
    Fault,
    admin::Admin,
    cpu,
    postgres::{Cluster, listens},
    servers::{Place, Server, find_program, free_addr},
};

const NODES: usize = 4;
/// The limit, and how long and how fast it is asked for on each node: the limit is reached after a
/// quarter of the time.
const LIMIT: u64 = 1_000;
const SECONDS: u64 = 6;
const NODE_RATE: u64 = 150;
/// The way to the shared counter and back, and the thread that takes notes, on a busy machine.
const WAY_SECONDS: f64 = 0.1;
/// How often `policy=cluster` is brought in step.
const CLUSTER_SECONDS: f64 = 0.2;
const SYNC_SECONDS: f64 = 0.5;
const START_TRIES: usize = 250;

pub(super) fn run(options: &Options, driver: &str, findings: &mut Findings) -> Result<(), Fault> {
    let Some(cluster) = Cluster::make("")? else {
        findings.note("left out: PostgreSQL is not installed");
        return Ok(());
    };
    let Some(redis) = Redis::start()? else {
        findings.note("left out: redis-server is not installed");
        return Ok(());
    };
    cluster.sql("postgres", &format!("CREATE ROLE {USER} LOGIN"))?;
    cluster.sql("postgres", &format!("CREATE DATABASE {DATABASE} OWNER {USER}"))?;
    bootstrap(options, &settings(cluster.addr()))?;
    let more = settings(cluster.addr());
    let more: Vec<(&str, &str)> = more.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let place = Place { cores: 1, cpus: cpu::allowed()? };
    let start = |_| Server::tollgate(&options.tollgate, driver, &place, &more);
    let servers: Vec<Server> = (0..NODES).map(start).collect::<Result<_, _>>()?;
    findings.note(&format!(
        "{NODES} nodes, a limit of {LIMIT}, {} requests a second for {SECONDS} s",
        NODE_RATE * NODES as u64
    ));
    let url = format!("http://{}", upstream()?);
    let mut admin = servers[0].admin()?;
    admin.must("POST", "/services", &json!({"name": "reports", "url": url}))?;
    let redis = json!({"host": "127.0.0.1", "port": redis.addr.port()});
    let requests = |policy: Value| ("rate-limiting", policy, "");
    let reports = |policy: Value| ("response-ratelimiting", policy, "video");
    let cases = [
        ("redis", requests(json!({"policy": "redis", "redis": redis})), 0.0),
        (
            "redis, sync_rate 0.5",
            requests(json!({"policy": "redis", "redis": redis, "sync_rate": SYNC_SECONDS})),
            SYNC_SECONDS,
        ),
        ("cluster", requests(json!({"policy": "cluster"})), CLUSTER_SECONDS),
        // As in Kong a report is counted after the answer, so what is under way may pass.
        ("redis", reports(json!({"policy": "redis", "redis": redis})), WAY_SECONDS),
        ("cluster", reports(json!({"policy": "cluster"})), CLUSTER_SECONDS),
    ];
    for (number, (name, (plugin, mut config, counted), step_seconds)) in
        cases.into_iter().enumerate()
    {
        let path = format!("/together-{number}");
        let route = json!({"name": path[1..], "paths": [path]});
        admin.must("POST", "/services/reports/routes", &route)?;
        match counted {
            "" => config["year"] = json!(LIMIT),
            counted => config["limits"] = json!({counted: {"year": LIMIT}}),
        }
        let row = json!({"name": plugin, "config": config});
        admin.must("POST", &format!("/routes/together-{number}/plugins"), &row)?;
        // Every node has the row before it is asked.
        thread::sleep(Duration::from_secs(1));
        let (admitted, asked) = ask(&servers, &path)?;
        let rate = (NODE_RATE * NODES as u64) as f64;
        let way_seconds = if step_seconds > 0.0 { WAY_SECONDS } else { 0.0 };
        let most = LIMIT + (rate * (step_seconds + way_seconds)).ceil() as u64;
        findings.judge(
            (LIMIT..=most).contains(&admitted),
            &format!("{plugin}, {name}: {admitted} of {asked} admitted, bound {most}"),
        );
    }
    Ok(())
}

/// Asks every node at the same time: how many were admitted, of how many.
fn ask(servers: &[Server], path: &str) -> Result<(u64, u64), Fault> {
    let one = |proxy: SocketAddr, path: String| -> Result<(u64, u64), Fault> {
        let (mut client, begun) = (Admin::new(proxy), Instant::now());
        let (mut admitted, mut asked) = (0, 0);
        for number in 0..SECONDS * NODE_RATE {
            let due = Duration::from_secs_f64(number as f64 / NODE_RATE as f64);
            thread::sleep(due.saturating_sub(begun.elapsed()));
            match client.call("GET", &path, &Value::Null)?.0 {
                200 => admitted += 1,
                429 => {}
                status => return Err(format!("{path} is answered {status}").into()),
            }
            asked += 1;
        }
        Ok((admitted, asked))
    };
    thread::scope(|scope| {
        let threads: Vec<_> = servers
            .iter()
            .map(|server| scope.spawn(move || one(server.proxy, path.to_owned())))
            .collect();
        let mut sum = (0, 0);
        for thread in threads {
            let (admitted, asked) = thread.join().map_err(|_| "a client failed")??;
            sum = (sum.0 + admitted, sum.1 + asked);
        }
        Ok(sum)
    })
}

/// An upstream that reports one video with each answer. It ends with the process.
fn upstream() -> Result<SocketAddr, Fault> {
    let listener = TcpListener::bind(free_addr()?)?;
    let addr = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || report(&stream));
        }
    });
    Ok(addr)
}

fn report(mut stream: &TcpStream) {
    let mut lines = BufReader::new(stream).lines();
    while let Some(Ok(line)) = lines.next() {
        let answer = b"HTTP/1.1 200 OK\r\nX-Kong-Limit: video=1\r\nContent-Length: 0\r\n\r\n";
        if line.is_empty() && stream.write_all(answer).is_err() {
            return;
        }
    }
}

/// A Redis that keeps nothing, ended when it is dropped.
struct Redis {
    child: Child,
    addr: SocketAddr,
}

impl Redis {
    fn start() -> Result<Option<Self>, Fault> {
        let Ok(program) = find_program("redis-server") else { return Ok(None) };
        let addr = free_addr()?;
        let mut command = Command::new(program);
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"]);
        command.arg(addr.port().to_string()).stdin(Stdio::null()).stdout(Stdio::null());
        let redis = Self { child: command.spawn()?, addr };
        for _ in 0..START_TRIES {
            if listens(addr) {
                return Ok(Some(redis));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err("redis-server does not listen".into())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ended = (self.child.kill(), self.child.wait());
    }
}

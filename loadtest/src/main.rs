//! The command line of the load program.

use std::{net::ToSocketAddrs, process::ExitCode, time::Duration};

use lexopt::{Arg, Parser, ValueExt};
use loadtest::{
    Fault,
    clients::{Load, Pace, Plan},
    collector::{Collector, Depth, Manner, Says},
    compare, cpu,
    engine::Engine,
    prove, scene,
};

const HELP: &str = "\
loadtest: drives any gateway with the same load

  loadtest run --url http://HOST:PORT/PATH [--connections 64] [--seconds 10] [--rate N]
               [--header 'Name: value'] [--pid PID [--road PREFIX]]
      one load; --rate sends at a fixed rate (latency from when a request was due);
      --pid also reports CPU time per request, of all threads and of those named PREFIX…
  loadtest upstream  --listen ADDR [--bytes 1024]     answers everything; /bytes/N asks for N
  loadtest collector --listen ADDR [--refuse-first S] [--status N | --late-ms N | --cut]
                     [--config FILE] [--rules FILE]
      stands in Moesif's place; the files are read again every second, with new tags
  loadtest compare [--tollgate PROGRAM] [--drivers epoll,io_uring] [--rounds 10] [--visit-ms 3000]
                   [--connections 64] [--bytes 1024] [--rate 4000]
                   [--rows get,post,tls,handshake,download,h2,h2c,download-tls,plugins,rate,moesif,
                   moesif-rate] [--road-cpu 1] [--load-cpu 0] [--office-cpu 0]
                   [--other PROGRAM] [--minimal PROGRAM [--loops epoll,tokio,io_uring]]
      Tollgate beside nginx in interleaved rounds; without a program nginx beside itself;
      --drivers glommio where Tollgate was built with it; --other is another build of Tollgate;
      --minimal is bench/examples/minimal.rs, with it the rows get and rate alone;
      h2 and h2c need the program h2load; --office-cpu like --road-cpu is a machine of one CPU
  loadtest prove --tollgate PROGRAM [--drivers epoll,io_uring]
                 [--only crash,outage,losses,cycles,rate,live,idle,allocations,plugins,sinks,
                   cache,million,million-postgres,postgres,nodes,together,office,slow,upstream,
                   stuck,files,dns,soak,adopt]
                 [--connections 256] [--requests 60000] [--kills 5] [--idle 10000]
                 [--credentials 100000] [--shorten 1] [--slow 10000] [--minutes 20]
                 [--seed N]
      experiments that pass or fail; the exit status tells
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("loadtest: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Fault> {
    let mut line = Parser::from_env();
    let command = match line.next()? {
        Some(Arg::Value(word)) => word.string()?,
        _ => String::new(),
    };
    match command.as_str() {
        "run" => one_load(line),
        "upstream" => upstream(line),
        "collector" => collector(line),
        "compare" => compare::run(&compare_options(line)?),
        "prove" => prove::run(&prove_options(line)?),
        _ => {
            print!("{HELP}");
            Ok(())
        }
    }
}

/// What `run` is told.
struct One {
    url: String,
    connections: usize,
    seconds: f64,
    pace: Pace,
    headers: String,
    pid: Option<u32>,
    road: String,
}

fn one_options(mut line: Parser) -> Result<One, Fault> {
    let mut one = One {
        url: String::new(),
        connections: 64,
        seconds: 10.0,
        pace: Pace::Closed,
        headers: String::new(),
        pid: None,
        road: "core-".into(),
    };
    while let Some(arg) = line.next()? {
        match arg {
            Arg::Long("url") => one.url = line.value()?.string()?,
            Arg::Long("connections") => one.connections = line.value()?.parse()?,
            Arg::Long("seconds") => one.seconds = line.value()?.parse()?,
            Arg::Long("rate") => one.pace = Pace::Rate(line.value()?.parse()?),
            Arg::Long("header") => one.headers += &format!("{}\r\n", line.value()?.string()?),
            Arg::Long("pid") => one.pid = Some(line.value()?.parse()?),
            Arg::Long("road") => one.road = line.value()?.string()?,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(one)
}

fn one_load(line: Parser) -> Result<(), Fault> {
    let one = one_options(line)?;
    let rest = one.url.strip_prefix("http://").ok_or("--url http://HOST:PORT/PATH is needed")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let target = host.to_socket_addrs()?.next().ok_or("the host has no address")?;
    let request = scene::get(&format!("/{path}"), &one.headers);
    let mut engine = Engine::new("127.0.0.1:0".parse()?, 0)?;
    let plan = Plan {
        target,
        connections: one.connections,
        pace: one.pace,
        ask: Box::new(move |_, out| out.extend_from_slice(&request)),
        hear: None,
        want: None,
        tls: None,
    };
    let mut load = Load::new(&mut engine, plan);
    load.run_for(Duration::from_secs_f64(one.seconds / 5.0))?;
    load.clear();
    let pids: Vec<u32> = one.pid.into_iter().collect();
    let before = cpu::usage(&pids, &[&one.road]);
    load.run_for(Duration::from_secs_f64(one.seconds))?;
    let used = cpu::usage(&pids, &[&one.road]).since(before);
    let score = load.score();
    let answers = score.answers().max(1) as f64;
    let ms = |quantile| score.latencies.at(quantile) as f64 / 1e6;
    println!(
        "{:.0} requests/s, p50 {:.3} ms, p99 {:.3} ms, p99.9 {:.3} ms, max {:.3} ms",
        score.answers() as f64 / one.seconds,
        ms(0.5),
        ms(0.99),
        ms(0.999),
        ms(1.0)
    );
    println!("statuses {:?}, cut {}, refused {}", score.statuses, score.cut, score.refused);
    if one.pid.is_some() {
        println!(
            "CPU us per request: road {:.2}, whole process {:.2}",
            used.road_ns as f64 / 1e3 / answers,
            used.whole_ns as f64 / 1e3 / answers
        );
    }
    Ok(())
}

fn upstream(mut line: Parser) -> Result<(), Fault> {
    let (mut listen, mut bytes) = ("127.0.0.1:9000".to_owned(), 1_024);
    while let Some(arg) = line.next()? {
        match arg {
            Arg::Long("listen") => listen = line.value()?.string()?,
            Arg::Long("bytes") => bytes = line.value()?.parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    let mut engine = Engine::new(listen.parse()?, bytes)?;
    println!("upstream at {}", engine.upstream.addr()?);
    loop {
        engine.turn(1_000, &mut |_, _, _, _| {})?;
    }
}

/// What `collector` is told.
struct Stand {
    listen: String,
    refuse_seconds: f64,
    manner: Manner,
    config: Option<String>,
    rules: Option<String>,
}

fn stand_options(mut line: Parser) -> Result<Stand, Fault> {
    let mut stand = Stand {
        listen: "127.0.0.1:9500".to_owned(),
        refuse_seconds: 0.0,
        manner: Manner::Takes,
        config: None,
        rules: None,
    };
    while let Some(arg) = line.next()? {
        match arg {
            Arg::Long("listen") => stand.listen = line.value()?.string()?,
            Arg::Long("refuse-first") => stand.refuse_seconds = line.value()?.parse()?,
            Arg::Long("status") => stand.manner = Manner::Refuses(line.value()?.parse()?),
            Arg::Long("late-ms") => stand.manner = Manner::Late(line.value()?.parse()?),
            Arg::Long("cut") => stand.manner = Manner::Cuts,
            Arg::Long("config") => stand.config = Some(line.value()?.string()?),
            Arg::Long("rules") => stand.rules = Some(line.value()?.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(stand)
}

impl Stand {
    /// What the files say now; a tag is a file's own number.
    fn says(&self) -> Result<Says, Fault> {
        let mut says = Says::default();
        let tag = |text: &str| {
            let sum = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, sum))
        };
        if let Some(path) = &self.config {
            says.config = std::fs::read_to_string(path)?;
            says.config_tag = tag(&says.config);
        }
        if let Some(path) = &self.rules {
            says.rules = std::fs::read_to_string(path)?;
            says.rules_tag = tag(&says.rules);
        }
        Ok(says)
    }
}

fn collector(line: Parser) -> Result<(), Fault> {
    let stand = stand_options(line)?;
    let collector = Collector::start(stand.listen.parse()?, Depth::Book)?;
    println!("collector at {}", collector.url());
    collector.say(stand.says()?);
    collector.refuse(stand.refuse_seconds > 0.0);
    std::thread::sleep(Duration::from_secs_f64(stand.refuse_seconds));
    collector.behave(stand.manner);
    let mut told = 0;
    loop {
        std::thread::sleep(Duration::from_secs(1));
        collector.say(stand.says()?);
        let books = collector.books();
        if books.events != told {
            told = books.events;
            let ids = books.ids.len();
            println!("{told} events in {} batches, {ids} transaction ids", books.batches);
            println!("last: {}", books.last);
        }
    }
}

fn compare_options(mut line: Parser) -> Result<compare::Options, Fault> {
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let mut options = compare::Options {
        tollgate: None,
        drivers: list("epoll,io_uring"),
        other: None,
        minimal: None,
        loops: list("epoll,tokio,io_uring"),
        rounds: 10,
        visit_ms: 3_000,
        connections: 64,
        body_bytes: 1_024,
        rate: 4_000.0,
        rows: compare::every_row(),
        road_cpu: 1,
        load_cpu: 0,
        office_cpu: None,
    };
    while let Some(arg) = line.next()? {
        match arg {
            Arg::Long("tollgate") => options.tollgate = Some(line.value()?.into()),
            Arg::Long("drivers") => options.drivers = list(&line.value()?.string()?),
            Arg::Long("other") => options.other = Some(line.value()?.into()),
            Arg::Long("minimal") => options.minimal = Some(line.value()?.into()),
            Arg::Long("loops") => options.loops = list(&line.value()?.string()?),
            Arg::Long("rounds") => options.rounds = line.value()?.parse()?,
            Arg::Long("visit-ms") => options.visit_ms = line.value()?.parse()?,
            Arg::Long("connections") => options.connections = line.value()?.parse()?,
            Arg::Long("bytes") => options.body_bytes = line.value()?.parse()?,
            Arg::Long("rate") => options.rate = line.value()?.parse()?,
            Arg::Long("rows" | "scenarios") => options.rows = list(&line.value()?.string()?),
            Arg::Long("road-cpu") => options.road_cpu = line.value()?.parse()?,
            Arg::Long("load-cpu") => options.load_cpu = line.value()?.parse()?,
            Arg::Long("office-cpu") => options.office_cpu = Some(line.value()?.parse()?),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(options)
}

fn prove_options(mut line: Parser) -> Result<prove::Options, Fault> {
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let mut options = prove::Options {
        tollgate: "target/release/tollgate".into(),
        drivers: list("epoll,io_uring"),
        only: Vec::new(),
        connections: 256,
        requests: 60_000,
        kills: 5,
        idle: 10_000,
        credentials: 100_000,
        shorten: 1,
        slow: 10_000,
        minutes: 20.0,
        seed: u64::from(std::process::id()),
    };
    while let Some(arg) = line.next()? {
        match arg {
            Arg::Long("tollgate") => options.tollgate = line.value()?.into(),
            Arg::Long("drivers") => options.drivers = list(&line.value()?.string()?),
            Arg::Long("only") => options.only = list(&line.value()?.string()?),
            Arg::Long("connections") => options.connections = line.value()?.parse()?,
            Arg::Long("requests") => options.requests = line.value()?.parse()?,
            Arg::Long("kills") => options.kills = line.value()?.parse()?,
            Arg::Long("idle") => options.idle = line.value()?.parse()?,
            Arg::Long("credentials") => options.credentials = line.value()?.parse()?,
            Arg::Long("shorten") => options.shorten = line.value()?.parse()?,
            Arg::Long("slow") => options.slow = line.value()?.parse()?,
            Arg::Long("minutes") => options.minutes = line.value()?.parse()?,
            Arg::Long("seed") => options.seed = line.value()?.parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(options)
}

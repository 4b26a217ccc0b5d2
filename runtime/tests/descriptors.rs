//! When descriptors run out, accepting pauses and goes on by itself. A process of its own: it lowers
//! the limit for all of it.

#![allow(clippy::expect_used, clippy::panic)] // a test may

use runtime::buffers::Page;
use runtime::cores::{self, Accepted, Core, Cores, Listen, Plan};
use runtime::io::IoChoice;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

fn limit(current: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum }).expect("a limit");
}

/// The numbers that are taken, in order, without the one that this look takes itself.
fn taken() -> Vec<u64> {
    let names = std::fs::read_dir("/proc/self/fd").expect("/proc");
    let number =
        |name: std::io::Result<std::fs::DirEntry>| name.ok()?.file_name().to_str()?.parse().ok();
    let mut taken: Vec<u64> = names.filter_map(number).collect();
    taken.retain(|number| std::fs::read_link(format!("/proc/self/fd/{number}")).is_ok());
    taken.sort_unstable();
    taken
}

/// The limit that leaves exactly `free` numbers, once nothing is being closed any longer.
fn limit_for(free: usize) -> u64 {
    let mut seen = taken();
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let now = taken();
        if now == seen {
            return (0..).filter(|number| !now.contains(number)).nth(free).expect("a number");
        }
        seen = now;
    }
}

/// Processor time of the process so far, in clock ticks of 10 ms. The file is open already, since
/// no other can be opened meanwhile.
fn ticks(stat: &File) -> u64 {
    let mut bytes = [0; 1_024];
    let count = stat.read_at(&mut bytes, 0).expect("/proc");
    let text = String::from_utf8_lossy(&bytes[..count]);
    let after = text.rsplit(')').next().expect("fields");
    let fields: Vec<u64> = after.split(' ').map(|field| field.parse().unwrap_or(0)).collect();
    fields[12] + fields[13]
}

fn active(cores: &Cores) -> u64 {
    cores.counts().iter().map(|counts| counts.active).sum()
}

#[track_caller]
fn soon(done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it did not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn check(io: IoChoice, port: u16) {
    let addr = ([127, 0, 0, 1], port).into();
    let listen = Listen { addr, backlog: 64, tls: false, http2: false, proxy_protocol: false };
    let plan = Plan { count: 1, io, pin: false, listen: vec![listen], connections_max: 0 };
    let cores = cores::start(&plan, |_| {
        |_: Core| {
            |mut accepted: Accepted| async move {
                let _ = accepted.reader.read(Page::take()).await;
            }
        }
    })
    .expect("a core");
    let stat = File::open("/proc/self/stat").expect("/proc");
    let before = getrlimit(Resource::Nofile).current.expect("a limit");
    // Room for two whole connections and the client's side of a third.
    limit(limit_for(5));
    let mut clients: Vec<TcpStream> = Vec::new();
    for n in 1..=2 {
        clients.push(TcpStream::connect(addr).expect("a client"));
        soon(|| active(&cores) == n);
    }
    clients.push(TcpStream::connect(addr).expect("the kernel accepts for us"));
    soon(|| cores.counts()[0].accept_faults > 0);
    let begun = ticks(&stat);
    std::thread::sleep(Duration::from_millis(500));
    let spent = ticks(&stat) - begun;
    assert!(spent < 20, "it spins: {spent} ticks of 50");
    assert_eq!(active(&cores), 2);
    limit(before);
    soon(|| active(&cores) == 3);
}

#[test]
fn accepting_pauses_while_descriptors_are_short() {
    let port = 30_000 + (std::process::id() % 2_000) as u16;
    for (port, &choice) in (port..).zip(IoChoice::EACH) {
        check(choice, port);
    }
}

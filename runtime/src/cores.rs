//! Pinned threads: start, accept, drain, stop.
//!
//! ```text
//!   start ─ bind every listener once per core ─► thread core-0 ─ accept ─► your future, one per
//!                                                thread core-1 ─ accept ─► connection, on its core
//!   drain ─ no new connections, idle ones close ─► the last one gone, or the time up ─► stop
//! ```
//! Each core has its own listening sockets (`SO_REUSEPORT`): the kernel spreads the connections.
//! A connection that panics ends alone. When descriptors run out, accepting pauses instead of
//! spinning. A core that accepts while another is much less busy hands the socket over. Above the
//! node's limit of connections a few are still accepted, to be told so; the rest are closed.

mod accepting;
mod bind;
mod counters;
mod handoff;
mod limits;
mod scripted;

use crate::clock;
use crate::io::{self, Bell, Closer, IoChoice, IoKind, Listener, Peer, Reader, Writer};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use handoff::Handed;

pub use bind::StartFault;
use counters::Counters;
pub use counters::Counts;
pub use limits::default_count;

/// More cores than this are refused: each has its rings, listeners and caches.
pub const CORES_MAX: usize = 1_024;
/// How long `stop` lets closed connections finish their last steps, in milliseconds.
const STOP_WAIT_MS: u64 = 200;
/// Connections above the limit that are open at one time, to be told that there are too many.
pub const OVER_MAX: u64 = 256;

/// What to start.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many cores; `default_count()` is the usual answer. At least 1.
    pub count: usize,
    /// The driver.
    pub io: IoChoice,
    /// Whether each core is bound to one CPU. Done only where there are as many cores as CPUs we
    /// may use: with fewer, several programs on one machine would crowd on the first CPUs.
    pub pin: bool,
    /// Where clients come in.
    pub listen: Vec<Listen>,
    /// Connections of all cores together; 0 is no limit.
    pub connections_max: u64,
}

/// One address to listen on. The flags are only carried to whoever gets the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address; port 0 lets the kernel choose one, the same for all cores.
    pub addr: SocketAddr,
    /// Connections that may wait to be accepted, on each core; the kernel may lower it.
    pub backlog: u32,
    /// The client begins with a TLS handshake.
    pub tls: bool,
    /// HTTP/2 may be spoken.
    pub http2: bool,
    /// A PROXY protocol header comes first.
    pub proxy_protocol: bool,
}

/// A connection that a core has accepted.
pub struct Accepted {
    /// What the client sends.
    pub reader: Reader,
    /// What the client gets.
    pub writer: Writer,
    /// Who it is.
    pub peer: Peer,
    /// Where it came in: a position in `Plan::listen`.
    pub listen: usize,
    /// It is one too many: it should be told so and end soon.
    pub over: bool,
}

/// What the office tells a core.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
enum Order {
    Run = 0,
    Drain = 1,
    Stop = 2,
}

/// The part of a core that the office sees.
struct Shared {
    order: AtomicU8,
    bell: Bell,
    counters: Counters,
    /// Sockets that other cores hand to this one.
    to_hand: Sender<Handed>,
    handed_here: Receiver<Handed>,
}

impl Shared {
    fn new() -> io::Result<Arc<Self>> {
        let (to_hand, handed_here) = crossbeam_channel::bounded(handoff::HANDED_MAX);
        let (order, counters) = (AtomicU8::new(Order::Run as u8), Counters::default());
        Ok(Arc::new(Self { order, bell: Bell::new()?, counters, to_hand, handed_here }))
    }

    fn order(&self) -> Order {
        match self.order.load(Ordering::SeqCst) {
            0 => Order::Run,
            1 => Order::Drain,
            _ => Order::Stop,
        }
    }

    fn give(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::SeqCst);
        self.bell.ring();
    }
}

/// One core, seen from its own thread. Cheap to clone.
#[derive(Clone)]
pub struct Core(Rc<Inner>);

struct Inner {
    number: usize,
    kind: IoKind,
    shared: Arc<Shared>,
    /// Every core of the node, this one too.
    all: Arc<[Arc<Shared>]>,
    connections_max: u64,
    order: Cell<Order>,
    /// How many tasks accept.
    listening: Cell<usize>,
    /// Wake when the order changes, or the last connection or accepting task ends.
    watchers: RefCell<Vec<Waker>>,
    /// Every open connection, so that stopping can close it. Free places are `None`.
    open: RefCell<Vec<Option<Closer>>>,
    free: RefCell<Vec<usize>>,
    /// What is done when the bell rings.
    errands: RefCell<Vec<Rc<dyn Fn()>>>,
}

impl Inner {
    /// Connections, with those that another core is about to hand over (see `handoff::Place`).
    fn active(&self) -> u64 {
        self.shared.counters.active.load(Ordering::SeqCst)
    }
}

impl Core {
    /// Its number, from 0.
    pub fn number(&self) -> usize {
        self.0.number
    }

    /// How many cores there are.
    pub fn count(&self) -> usize {
        self.0.all.len()
    }

    /// The driver that it runs.
    pub fn kind(&self) -> IoKind {
        self.0.kind
    }

    /// Whether a connection should end after its current request.
    pub fn draining(&self) -> bool {
        self.0.order.get() != Order::Run
    }

    /// Its counters now.
    pub fn counts(&self) -> Counts {
        self.0.shared.counters.counts()
    }

    /// Wakes this core from any thread: everything given to `on_bell` is then done on it.
    pub fn bell(&self) -> Bell {
        self.0.shared.bell.clone()
    }

    /// Does `errand` whenever the core's bell has rung. For the few queues of a core; bounded by
    /// how many of them are opened at the start.
    pub fn on_bell(&self, errand: impl Fn() + 'static) {
        self.0.errands.borrow_mut().push(Rc::new(errand));
    }

    /// Waits until `done` says so, looking whenever the order changes or a connection ends.
    async fn until(&self, done: impl Fn(&Inner) -> bool) {
        poll_fn(|cx| {
            if done(&self.0) {
                return Poll::Ready(());
            }
            let mut watchers = self.0.watchers.borrow_mut();
            // Who looks often is here once: the few are the main task and one per listener.
            if !watchers.iter().any(|waker| waker.will_wake(cx.waker())) {
                watchers.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    fn wake_watchers(&self) {
        let watchers = std::mem::take(&mut *self.0.watchers.borrow_mut());
        watchers.into_iter().for_each(Waker::wake);
    }

    fn active(&self) -> u64 {
        self.0.active()
    }

    /// Connections of all cores.
    fn node_active(&self) -> u64 {
        self.0.all.iter().map(|core| core.counters.active.load(Ordering::Relaxed)).sum()
    }

    /// Notes a connection, which is counted already.
    fn opened(&self, closer: Closer) -> Open {
        self.0.shared.counters.accepted.fetch_add(1, Ordering::Relaxed);
        let mut open = self.0.open.borrow_mut();
        let place = self.0.free.borrow_mut().pop().unwrap_or_else(|| {
            open.push(None);
            open.len() - 1
        });
        if let Some(free) = open.get_mut(place) {
            *free = Some(closer);
        }
        Open { core: self.clone(), place }
    }

    fn close_all(&self) {
        let open: Vec<Closer> = self.0.open.borrow().iter().flatten().cloned().collect();
        open.iter().for_each(Closer::close);
    }
}

/// A connection while it is counted as open. Dropped also when its task panics.
struct Open {
    core: Core,
    place: usize,
}

impl Drop for Open {
    fn drop(&mut self) {
        let inner = &self.core.0;
        if let Some(place) = inner.open.borrow_mut().get_mut(self.place) {
            *place = None;
        }
        inner.free.borrow_mut().push(self.place);
        inner.shared.counters.active.fetch_sub(1, Ordering::Relaxed);
        if inner.order.get() != Order::Run {
            self.core.wake_watchers();
        }
    }
}

/// The counters of one core; anybody may read them at any time.
#[derive(Clone)]
pub struct Reading(Arc<Shared>);

impl Reading {
    /// The counters now.
    pub fn counts(&self) -> Counts {
        self.0.counters.counts()
    }
}

/// The running cores, seen from the office. Dropping it stops them.
pub struct Cores {
    shared: Vec<Arc<Shared>>,
    threads: Vec<JoinHandle<()>>,
    ended: mpsc::Receiver<()>,
    addrs: Vec<SocketAddr>,
    kinds: Vec<IoKind>,
}

impl Cores {
    /// The addresses that are listened on, in the order of `Plan::listen`, with real ports.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// The driver of each core.
    pub fn kinds(&self) -> &[IoKind] {
        &self.kinds
    }

    /// The counters of each core.
    pub fn counts(&self) -> Vec<Counts> {
        self.shared.iter().map(|shared| shared.counters.counts()).collect()
    }

    /// The counters of each core, for whoever outlives this handle's borrow.
    pub fn readings(&self) -> Vec<Reading> {
        self.shared.iter().map(|shared| Reading(Arc::clone(shared))).collect()
    }

    /// Wakes core `number`.
    pub fn bell(&self, number: usize) -> Option<Bell> {
        self.shared.get(number).map(|shared| shared.bell.clone())
    }

    /// Accepts no more, closes idle connections, lets the others finish their request, and stops
    /// after at most `ms` milliseconds. Blocks; tells whether every connection ended by itself.
    pub fn drain(&mut self, ms: u64) -> bool {
        self.shared.iter().for_each(|shared| shared.give(Order::Drain));
        let begun_us = clock::now_us();
        // Each tells once, and who has ended before this has told already.
        let mut left = self.threads.len();
        while left > 0 {
            let gone_ms = (clock::now_us() - begun_us) / 1_000;
            let wait = Duration::from_millis(ms.saturating_sub(gone_ms));
            match self.ended.recv_timeout(wait) {
                Ok(()) => left -= 1,
                Err(_) => break,
            }
        }
        self.stop();
        left == 0
    }

    /// Closes every connection and ends the threads. Blocks for at most a little over 200 ms.
    pub fn stop(&mut self) {
        self.shared.iter().for_each(|shared| shared.give(Order::Stop));
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a core ended in a panic");
            }
        }
    }
}

impl Drop for Cores {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Binds all listeners, starts the threads, and returns when every core accepts.
///
/// `make` is called here once per core number; what it returns moves to that core's thread and is
/// called there once with the core, which gives the function that serves one connection.
///
/// # Errors
/// One sentence for people: which address cannot be listened on, or which core cannot start.
/// Nothing runs then.
pub fn start<B, S, F>(plan: &Plan, make: impl FnMut(usize) -> B) -> Result<Cores, StartFault>
where
    B: FnOnce(Core) -> S + Send + 'static,
    S: Fn(Accepted) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    let count = plan.count.clamp(1, CORES_MAX);
    let (addrs, mut sockets) = bind::bind_all(&plan.listen, count)?;
    let cpus = if plan.pin { limits::cpus_to_pin(count) } else { Vec::new() };
    let (told, tells) = mpsc::channel();
    let (end, ended) = mpsc::channel();
    let shared = |number| Shared::new().map_err(|error| StartFault::Core(number, error));
    let shared: Vec<Arc<Shared>> = (0..count).map(shared).collect::<Result<_, _>>()?;
    let all: Arc<[Arc<Shared>]> = shared.clone().into();
    let mut cores = Cores { shared, threads: Vec::new(), ended, addrs, kinds: Vec::new() };
    let begins: Vec<B> = (0..count).map(make).collect();
    for ((number, begin), shared) in begins.into_iter().enumerate().zip(all.iter()) {
        let fault = |error| StartFault::Core(number, error);
        let seed = Seed {
            number,
            io: plan.io,
            cpu: cpus.get(number).copied(),
            listeners: sockets.pop().unwrap_or_default(),
            shared: Arc::clone(shared),
            all: Arc::clone(&all),
            connections_max: plan.connections_max,
            told: told.clone(),
            end: end.clone(),
        };
        let thread = std::thread::Builder::new().name(format!("core-{number}"));
        cores.threads.push(thread.spawn(move || seed.run(begin)).map_err(fault)?);
    }
    drop(told);
    for (number, result) in tells.iter().take(count) {
        cores.kinds.push(result.map_err(|error| StartFault::Core(number, error))?);
    }
    if cores.kinds.len() < count {
        return Err(StartFault::Core(cores.kinds.len(), io::Error::other("it ended at once")));
    }
    Ok(cores)
}

/// Everything that a thread needs to become a core.
struct Seed {
    number: usize,
    io: IoChoice,
    cpu: Option<usize>,
    listeners: Vec<TcpListener>,
    shared: Arc<Shared>,
    all: Arc<[Arc<Shared>]>,
    connections_max: u64,
    told: mpsc::Sender<(usize, io::Result<IoKind>)>,
    end: mpsc::Sender<()>,
}

/// Tells that a core has ended, in a panic too.
struct Ending(mpsc::Sender<()>);

impl Drop for Ending {
    fn drop(&mut self) {
        // Nobody may be waiting any longer.
        let _ = self.0.send(());
    }
}

impl Seed {
    fn run<B, S, F>(mut self, begin: B)
    where
        B: FnOnce(Core) -> S,
        S: Fn(Accepted) -> F + 'static,
        F: Future<Output = ()> + 'static,
    {
        if let Some(cpu) = self.cpu
            && let Err(error) = limits::pin(cpu)
        {
            log::warn!("core {} is not bound to CPU {cpu}: {error}", self.number);
        }
        let (number, told) = (self.number, self.told.clone());
        let _end = Ending(self.end.clone());
        let listeners = std::mem::take(&mut self.listeners);
        let result = io::block_on_core(self.io, self.live(begin, listeners));
        if let Err(error) | Ok(Err(error)) = result {
            // The office may have given up waiting already.
            let _ = told.send((number, Err(error)));
        }
    }

    async fn live<B, S, F>(self, begin: B, sockets: Vec<TcpListener>) -> io::Result<()>
    where
        B: FnOnce(Core) -> S,
        S: Fn(Accepted) -> F + 'static,
        F: Future<Output = ()> + 'static,
    {
        let kind = io::kind().ok_or_else(|| io::Error::other("no driver"))?;
        let listeners: io::Result<Vec<Listener>> = sockets.into_iter().map(Listener::new).collect();
        let listeners = listeners?;
        let mut ear = self.shared.bell.listen_on_core()?;
        let core = Core(Rc::new(Inner {
            number: self.number,
            kind,
            shared: self.shared,
            all: self.all,
            connections_max: self.connections_max,
            order: Cell::new(Order::Run),
            listening: Cell::new(0),
            watchers: RefCell::default(),
            open: RefCell::default(),
            free: RefCell::default(),
            errands: RefCell::default(),
        }));
        let serve = Rc::new(begin(core.clone()));
        let (weak, handed) = (Rc::downgrade(&core.0), Rc::clone(&serve));
        core.on_bell(move || {
            if let Some(core) = weak.upgrade().map(Core) {
                handoff::take(&core, |accepted| begin_one(&core, &*handed, accepted));
            }
        });
        for (listen, listener) in listeners.into_iter().enumerate() {
            io::spawn(accepting::accept_all(core.clone(), listener, listen, Rc::clone(&serve)));
        }
        let _ = self.told.send((self.number, Ok(kind)));
        let listening = core.clone();
        io::spawn(async move {
            loop {
                ear.heard().await;
                hear(&listening);
            }
        });
        core.until(|inner| inner.order.get() != Order::Run).await;
        clock::close_idle();
        core.until(|inner| {
            let nobody = inner.listening.get() == 0 && inner.active() == 0;
            inner.order.get() == Order::Stop || nobody
        })
        .await;
        if core.active() > 0 {
            core.close_all();
            let ended = core.until(|inner| inner.active() == 0);
            clock::within(STOP_WAIT_MS, ended).await;
        }
        // Those are closed that were handed over too late.
        handoff::take(&core, drop);
        Ok(())
    }
}

/// Does what the bell was rung for.
fn hear(core: &Core) {
    let order = core.0.shared.order();
    core.0.order.set(order);
    let errands = core.0.errands.borrow().clone();
    errands.iter().for_each(|errand| errand());
    if order != Order::Run {
        core.wake_watchers();
    }
}

/// Serves a connection, which is counted already, in a task of its own.
fn begin_one<S, F>(core: &Core, serve: &S, accepted: Accepted)
where
    S: Fn(Accepted) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    let open = core.opened(accepted.reader.closer());
    // Boxed, because a task keeps room for a future both before and while it runs.
    let served = Box::pin(serve(accepted));
    io::spawn(async move {
        let _open = open;
        served.await;
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffers::{Page, Pages};
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::atomic::AtomicUsize;

    fn plan(count: usize, io: IoChoice) -> Plan {
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let listen = Listen { addr, backlog: 64, tls: false, http2: false, proxy_protocol: false };
        Plan { count, io, pin: true, listen: vec![listen], connections_max: 0 }
    }

    /// A port outside the range that the kernel gives to connecting sockets.
    fn free_port() -> u16 {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        loop {
            let n = NEXT.fetch_add(1, Ordering::Relaxed) + std::process::id() as usize * 16;
            let port = 25_000 + (n % 7_000) as u16;
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return port;
            }
        }
    }

    /// Sends back what comes, waits without a buffer, panics at a `!`.
    async fn echo(core: Core, mut accepted: Accepted) {
        let deadline = clock::Deadline::new(accepted.reader.closer());
        loop {
            deadline.arm_idle(60_000);
            if accepted.reader.readable().await.is_err() {
                return;
            }
            deadline.arm(60_000);
            let (count, page) = accepted.reader.read(Page::take()).await;
            assert!(!page.bytes().contains(&b'!'), "told to panic on core {}", core.number());
            if !matches!(count, Ok(1..)) {
                return;
            }
            let mut pages = Pages::new();
            pages.push(page.freeze());
            if accepted.writer.write(pages).await.is_err() || core.draining() {
                return;
            }
        }
    }

    fn start_echo(plan: &Plan) -> Cores {
        start(plan, |_| |core: Core| move |accepted| echo(core.clone(), accepted)).unwrap()
    }

    fn say(stream: &mut TcpStream, text: &[u8]) -> Vec<u8> {
        stream.write_all(text).unwrap();
        let mut answer = vec![0; text.len()];
        let count = stream.read(&mut answer).unwrap();
        answer.truncate(count);
        answer
    }

    fn active(cores: &Cores) -> u64 {
        cores.counts().iter().map(|counts| counts.active).sum()
    }

    /// Waits until `done`, at most five seconds.
    #[track_caller]
    fn soon(done: impl Fn() -> bool) {
        for _ in 0..500 {
            if done() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it did not happen within five seconds");
    }

    fn check(io: IoChoice) {
        let plan = plan(2, io);
        let mut cores = start_echo(&plan);
        let addr = cores.addrs()[0];
        let mut streams: Vec<TcpStream> =
            (0..40).map(|_| TcpStream::connect(addr).unwrap()).collect();
        for stream in &mut streams {
            assert_eq!(say(stream, b"hello"), b"hello");
        }
        let counts = cores.counts();
        assert_eq!(counts.iter().map(|counts| counts.accepted).sum::<u64>(), 40);
        assert!(counts.iter().all(|counts| counts.accepted > 0), "one core took all: {counts:?}");

        let panics = io::panics();
        assert_eq!(say(&mut streams[0], b"!"), b"", "the connection ends");
        soon(|| io::panics() > panics);
        soon(|| active(&cores) == 39);
        assert_eq!(say(&mut streams[1], b"still here"), b"still here");

        let fault = start(&plan, |_| |_: Core| |_: Accepted| async {}).err().unwrap();
        assert_eq!(fault.to_string(), format!("cannot listen on {addr}: address in use"));

        drop(streams.split_off(20));
        soon(|| active(&cores) == 19);
        assert!(cores.drain(5_000), "idle connections close at once");
        assert_eq!(streams[5].read(&mut [0; 8]).unwrap(), 0);
        assert!(TcpStream::connect(addr).is_err(), "nobody accepts any longer");
    }

    #[test]
    fn cores_serve_survive_a_panic_and_drain_on_epoll() {
        check(IoChoice::Epoll);
    }

    #[test]
    fn cores_serve_survive_a_panic_and_drain_on_the_other_drivers() {
        IoChoice::EACH.iter().filter(|io| **io != IoChoice::Epoll).for_each(|io| check(*io));
    }

    /// One core sleeps while clients connect, ask and the order to drain comes. Where there is
    /// another, it has ended before this one wakes.
    #[test]
    fn who_has_asked_before_the_order_to_drain_is_answered() {
        for (&io, count) in IoChoice::EACH.iter().flat_map(|io| [(io, 1), (io, 2)]) {
            let mut cores = start(&plan(count, io), |_| {
                |core: Core| {
                    move |mut accepted: Accepted| {
                        let core = core.clone();
                        async move {
                            let (_, page) = accepted.reader.read(Page::take()).await;
                            if page.bytes() == b"sleep" {
                                std::thread::sleep(Duration::from_millis(500));
                            }
                            let words = Pages::from_iter([page.freeze()]);
                            if accepted.writer.write(words).await.is_ok() && !core.draining() {
                                echo(core, accepted).await;
                            }
                        }
                    }
                }
            })
            .unwrap();
            let addr = cores.addrs()[0];
            let connect = || {
                let stream = TcpStream::connect(addr).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                stream
            };
            let (mut idle, mut known) = (connect(), connect());
            assert_eq!((say(&mut idle, b"a"), say(&mut known, b"b")), (b"a".into(), b"b".into()));
            let mut sleeper = connect();
            sleeper.write_all(b"sleep").unwrap();
            std::thread::sleep(Duration::from_millis(100));
            let mut others: Vec<TcpStream> = (0..40).map(|_| connect()).collect();
            others.push(known);
            others.iter_mut().for_each(|stream| stream.write_all(b"asked").unwrap());
            assert!(cores.drain(5_000), "{io:?}: all connections ended by themselves");
            for stream in &mut others {
                let mut answer = [0; 5];
                stream.read_exact(&mut answer).unwrap();
                assert_eq!(&answer, b"asked", "{io:?}");
            }
            assert_eq!(idle.read(&mut [0; 8]).unwrap(), 0, "{io:?}: the idle one is closed");
        }
    }

    /// How many of 80 connections another core took than the one that the kernel had chosen.
    fn handed_over(io: IoChoice) -> u64 {
        let cores = start_echo(&plan(4, io));
        let addr = cores.addrs()[0];
        let mut streams: Vec<TcpStream> = (0..80)
            .map(|_| {
                let mut stream = TcpStream::connect(addr).unwrap();
                // Answered, so that it is counted before the next one comes.
                assert_eq!(say(&mut stream, b"a"), b"a");
                stream
            })
            .collect();
        let counts = cores.counts();
        let active = || counts.iter().map(|counts| counts.active);
        assert_eq!(active().sum::<u64>(), 80, "{counts:?}");
        let (most, least) = (active().max().unwrap(), active().min().unwrap());
        assert!(!handoff::is_much(most - 1, least), "{counts:?}");
        assert!(streams.iter_mut().all(|stream| say(stream, b"still here") == b"still here"));
        drop(streams);
        soon(|| super::tests::active(&cores) == 0);
        counts.iter().map(|counts| counts.handed).sum()
    }

    #[test]
    fn connections_are_spread_over_the_cores() {
        for &io in IoChoice::EACH {
            // Now and then the kernel itself spreads them well.
            assert!((0..5).any(|_| handed_over(io) > 0), "{io:?}");
        }
    }

    #[test]
    fn above_the_limit_a_few_are_told_and_the_rest_closed() {
        let mut plan = plan(2, IoChoice::Auto);
        plan.connections_max = 10;
        let cores = start(&plan, |_| {
            |core: Core| {
                move |mut accepted: Accepted| {
                    let core = core.clone();
                    async move {
                        if accepted.over {
                            let words =
                                Pages::from_iter([crate::buffers::Piece::from_static(b"!")]);
                            let _ = accepted.writer.write(words).await;
                        }
                        echo(core, accepted).await;
                    }
                }
            }
        })
        .unwrap();
        let addr = cores.addrs()[0];
        let mut streams = Vec::new();
        for number in 0..10 + OVER_MAX {
            let mut stream = TcpStream::connect(addr).unwrap();
            if number >= 10 {
                let mut told = [0];
                stream.read_exact(&mut told).unwrap();
                assert_eq!(&told, b"!", "connection {number}");
            } else {
                assert_eq!(say(&mut stream, b"a"), b"a");
            }
            streams.push(stream);
        }
        let mut refused = TcpStream::connect(addr).unwrap();
        refused.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert!(matches!(refused.read(&mut [0]), Ok(0) | Err(_)));
        soon(|| cores.counts().iter().map(|counts| counts.refused).sum::<u64>() == 1);
        drop(streams);
        soon(|| active(&cores) == 0);
        assert_eq!(say(&mut TcpStream::connect(addr).unwrap(), b"a"), b"a", "it is well again");
    }

    #[test]
    fn a_busy_connection_is_closed_when_the_time_is_up() {
        let mut cores = start(&plan(1, IoChoice::Auto), |_| {
            |_: Core| {
                |mut accepted: Accepted| async move {
                    let _ = accepted.reader.read(Page::take()).await;
                }
            }
        })
        .unwrap();
        let mut stream = TcpStream::connect(cores.addrs()[0]).unwrap();
        soon(|| active(&cores) == 1);
        assert!(!cores.drain(50), "it was not idle");
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn faults_are_one_clear_sentence() {
        let fault = |kind: io::ErrorKind| {
            StartFault::Listen("0.0.0.0:80".parse().unwrap(), kind.into()).to_string()
        };
        let denied = fault(io::ErrorKind::PermissionDenied);
        assert_eq!(denied, "cannot listen on 0.0.0.0:80: permission denied");
        let mut plan = plan(1, IoChoice::Auto);
        plan.listen[0].addr = "203.0.113.7:25999".parse().unwrap();
        let fault = start(&plan, |_| |_: Core| |_: Accepted| async {}).err().unwrap();
        let words = "cannot listen on 203.0.113.7:25999: this machine does not have the address";
        assert_eq!(fault.to_string(), words);
    }
}

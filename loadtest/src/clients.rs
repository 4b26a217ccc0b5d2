//! The clients of a load: keep-alive connections in a closed loop or at a fixed rate.
//!
//! At a fixed rate a request's latency counts from the moment it was due, also when every
//! connection was busy then: a slow gateway cannot hide by slowing its clients down.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::ClientConfig;

use crate::{
    engine::{Engine, Poll},
    histogram::Histogram,
    parser::{Answer, Parser},
    stream::Stream,
};

const CONNECT_MS_MAX: u64 = 1_000;
/// How long a connection that failed rests before it is tried again.
const REST_NS: u64 = 5_000_000;
/// The longest wait of a turn: how late the end of a run may be noticed.
const TURN_WAIT_MS: u32 = 5;

/// When requests begin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Each connection asks again as soon as it is answered.
    Closed,
    /// So many requests a second over all connections, evenly spaced.
    Rate(f64),
    /// None begins; those under way may end.
    Paused,
}

/// Writes the bytes of request number N (from 0) into an empty buffer.
pub type Ask = Box<dyn FnMut(u64, &mut Vec<u8>)>;
/// Sees the complete answer to request number N.
pub type Hear = Box<dyn FnMut(u64, &Answer)>;

/// What a load is.
pub struct Plan {
    /// The gateway.
    pub target: SocketAddr,
    /// How many connections.
    pub connections: usize,
    /// When requests begin.
    pub pace: Pace,
    /// What they are.
    pub ask: Ask,
    /// Who sees the answers.
    pub hear: Option<Hear>,
    /// A header line of the answers that `hear` wants.
    pub want: Option<&'static str>,
    /// How the connections speak TLS, if they do.
    pub tls: Option<Arc<ClientConfig>>,
}

/// What came of a load since it began or was last cleared.
#[derive(Debug, Clone, Default)]
pub struct Score {
    /// Latencies of complete answers.
    pub latencies: Histogram,
    /// Complete answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests whose connection ended or spoke nonsense before the answer was complete.
    pub cut: u64,
    /// Connections that could not be opened.
    pub refused: u64,
}

impl Score {
    /// Complete answers of any status.
    pub fn answers(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// Complete answers of another status than 200, and requests without one.
    pub fn failures(&self) -> u64 {
        self.answers() - self.statuses.get(&200).copied().unwrap_or(0) + self.cut
    }
}

struct Client {
    stream: Option<Stream>,
    parser: Parser,
    unsent: Vec<u8>,
    sent: usize,
    busy: bool,
    number: u64,
    begun_ns: u64,
}

/// The connections and what they are told.
struct Clients {
    all: Vec<Client>,
    poll: Poll,
    plan: Plan,
    score: Score,
    asked: u64,
    /// Connections that wait for something to ask, the longest waiting first: at a fixed rate every
    /// connection has its turn.
    idle: VecDeque<usize>,
    /// Requests that were due while every connection was busy: when.
    late: VecDeque<u64>,
    /// Connections that rest after a failure: until when.
    resting: VecDeque<(u64, usize)>,
    due_ns: f64,
}

/// A running load.
pub struct Load<'e> {
    /// The loop; its upstream answers.
    pub engine: &'e mut Engine,
    clients: Clients,
}

impl<'e> Load<'e> {
    /// Makes the clients; they connect when they first ask.
    pub fn new(engine: &'e mut Engine, plan: Plan) -> Self {
        let client = || Client {
            stream: None,
            parser: Parser::new(plan.want),
            unsent: Vec::new(),
            sent: 0,
            busy: false,
            number: 0,
            begun_ns: 0,
        };
        let all: Vec<Client> = (0..plan.connections).map(|_| client()).collect();
        let clients = Clients {
            idle: (0..all.len()).collect(),
            all,
            poll: engine.poll(),
            plan,
            score: Score::default(),
            asked: 0,
            late: VecDeque::new(),
            resting: VecDeque::new(),
            due_ns: engine.now_ns() as f64,
        };
        Self { engine, clients }
    }

    /// What came of it so far.
    pub fn score(&self) -> &Score {
        &self.clients.score
    }

    /// Forgets the score, not the connections.
    pub fn clear(&mut self) {
        self.clients.score = Score::default();
    }

    /// How many requests are under way.
    pub fn busy(&self) -> usize {
        self.clients.all.iter().filter(|client| client.busy).count()
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.clients.all.iter().filter(|client| client.stream.is_some()).count()
    }

    /// Changes the pace. At a fixed rate the first request is due now.
    pub fn set_pace(&mut self, pace: Pace) {
        self.clients.plan.pace = pace;
        self.clients.late.clear();
        self.clients.due_ns = self.engine.now_ns() as f64;
    }

    /// Changes the gateway's address for connections that open from now on.
    pub fn set_target(&mut self, target: SocketAddr) {
        self.clients.plan.target = target;
    }

    /// Runs for a time.
    ///
    /// # Errors
    /// The kernel's.
    pub fn run_for(&mut self, time: Duration) -> io::Result<()> {
        let until = self.engine.now_ns() + time.as_nanos() as u64;
        self.run_while(&mut |_, now_ns| now_ns < until)
    }

    /// Runs until `answers` complete answers were counted in all, at most for `time`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn run_until(&mut self, answers: u64, time: Duration) -> io::Result<()> {
        let until = self.engine.now_ns() + time.as_nanos() as u64;
        self.run_while(&mut |score, now_ns| now_ns < until && score.answers() < answers)
    }

    /// Begins no more, and waits at most `time` for the requests under way.
    ///
    /// # Errors
    /// The kernel's.
    pub fn drain(&mut self, time: Duration) -> io::Result<()> {
        self.set_pace(Pace::Paused);
        let until = self.engine.now_ns() + time.as_nanos() as u64;
        while self.busy() > 0 && self.engine.now_ns() < until {
            self.turn()?;
        }
        Ok(())
    }

    fn run_while(&mut self, go_on: &mut dyn FnMut(&Score, u64) -> bool) -> io::Result<()> {
        while go_on(&self.clients.score, self.engine.now_ns()) {
            self.turn()?;
        }
        Ok(())
    }

    fn turn(&mut self) -> io::Result<()> {
        let now_ns = self.engine.now_ns();
        if let Some(due_ns) = self.clients.begin_due(now_ns) {
            self.engine.wake_after(due_ns.saturating_sub(self.engine.now_ns()))?;
        }
        let clients = &mut self.clients;
        self.engine.turn(TURN_WAIT_MS, &mut |index, gone, page, now| {
            clients.ready(index, gone, page, now);
        })
    }
}

impl Clients {
    /// Begins what is due; at a fixed rate tells when the next request is.
    fn begin_due(&mut self, now_ns: u64) -> Option<u64> {
        while let Some(&(until, index)) = self.resting.front() {
            if until > now_ns {
                break;
            }
            self.resting.pop_front();
            self.idle.push_back(index);
        }
        match self.plan.pace {
            Pace::Paused => None,
            Pace::Closed => {
                for index in std::mem::take(&mut self.idle) {
                    self.begin(index, now_ns, now_ns);
                }
                None
            }
            Pace::Rate(rate) => {
                while self.due_ns <= now_ns as f64 {
                    self.late.push_back(self.due_ns as u64);
                    self.due_ns += 1e9 / rate;
                }
                while let Some(&due) = self.late.front() {
                    let Some(index) = self.idle.pop_front() else { break };
                    self.late.pop_front();
                    self.begin(index, due, now_ns);
                }
                Some(self.due_ns as u64)
            }
        }
    }

    /// Sends the next request on a connection, opening it first where needed.
    fn begin(&mut self, index: usize, due_ns: u64, now_ns: u64) {
        if self.all[index].stream.is_none() && self.open(index).is_err() {
            self.score.refused += 1;
            self.resting.push_back((now_ns + REST_NS, index));
            if matches!(self.plan.pace, Pace::Rate(_)) {
                self.late.push_front(due_ns);
            }
            return;
        }
        let client = &mut self.all[index];
        (client.number, client.begun_ns, client.busy) = (self.asked, due_ns, true);
        self.asked += 1;
        client.unsent.clear();
        client.sent = 0;
        (self.plan.ask)(client.number, &mut client.unsent);
        if !client.flush() {
            self.fail(index, now_ns);
        }
    }

    fn open(&mut self, index: usize) -> io::Result<()> {
        let wait = Duration::from_millis(CONNECT_MS_MAX);
        let stream = TcpStream::connect_timeout(&self.plan.target, wait)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        self.poll.add_client(&stream, index)?;
        self.all[index].parser.reset();
        self.all[index].stream = Some(Stream::new(stream, self.plan.tls.as_ref())?);
        Ok(())
    }

    /// The connection is of no more use; a request under way counts as cut.
    fn fail(&mut self, index: usize, now_ns: u64) {
        let client = &mut self.all[index];
        client.stream = None;
        client.parser.reset();
        if client.busy {
            client.busy = false;
            self.score.cut += 1;
            self.resting.push_back((now_ns + REST_NS, index));
        }
    }

    /// Sends and reads what can be sent and read on a connection.
    fn ready(&mut self, index: usize, gone: bool, page: &mut [u8], now: &dyn Fn() -> u64) {
        loop {
            let client = &mut self.all[index];
            if !client.flush() {
                return self.fail(index, now());
            }
            let Some(stream) = client.stream.as_mut() else { return };
            match stream.read(page) {
                Ok(0) => return self.closed(index, now()),
                Ok(n) => {
                    let all = stream.short_read_is_all() && n < page.len() && !gone;
                    if !self.take(index, &page[..n], now()) || all {
                        return;
                    }
                }
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.fail(index, now()),
            }
        }
    }

    /// Takes bytes of an answer; false when the connection was dropped.
    fn take(&mut self, index: usize, bytes: &[u8], now_ns: u64) -> bool {
        let client = &mut self.all[index];
        if !client.busy {
            self.fail(index, now_ns);
            return false;
        }
        match client.parser.feed(bytes) {
            Ok(None) => true,
            Ok(Some(answer)) => {
                if answer.close {
                    client.stream = None;
                }
                self.done(index, &answer, now_ns);
                true
            }
            Err(_) => {
                self.fail(index, now_ns);
                false
            }
        }
    }

    fn closed(&mut self, index: usize, now_ns: u64) {
        match self.all[index].parser.closed() {
            Some(answer) => {
                self.all[index].stream = None;
                self.done(index, &answer, now_ns);
            }
            None => self.fail(index, now_ns),
        }
    }

    /// Counts an answer and lets the connection ask again.
    fn done(&mut self, index: usize, answer: &Answer, now_ns: u64) {
        let client = &mut self.all[index];
        client.busy = false;
        self.score.latencies.add(now_ns.saturating_sub(client.begun_ns));
        *self.score.statuses.entry(answer.status).or_default() += 1;
        if let Some(hear) = &mut self.plan.hear {
            hear(client.number, answer);
        }
        match (self.plan.pace, self.late.pop_front()) {
            (Pace::Closed, _) => self.begin(index, now_ns, now_ns),
            (Pace::Rate(_), Some(due_ns)) => self.begin(index, due_ns, now_ns),
            _ => self.idle.push_back(index),
        }
    }
}

impl Client {
    /// Sends what is not sent yet; false when the peer is gone.
    fn flush(&mut self) -> bool {
        let Some(stream) = self.stream.as_mut() else { return true };
        while self.sent < self.unsent.len() {
            match stream.write(&self.unsent[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(fault) => return fault.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Drives the engine's own upstream and compares how many answers came.
    #[track_caller]
    fn check(pace: Pace, time_ms: u64, answers: std::ops::RangeInclusive<u64>) -> Score {
        let mut engine = Engine::new("127.0.0.1:0".parse().unwrap(), 100).unwrap();
        let plan = Plan {
            target: engine.upstream.addr().unwrap(),
            connections: 4,
            pace,
            ask: Box::new(|_, out| out.extend_from_slice(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")),
            hear: None,
            want: None,
            tls: None,
        };
        let mut load = Load::new(&mut engine, plan);
        load.run_for(Duration::from_millis(time_ms)).unwrap();
        load.drain(Duration::from_secs(5)).unwrap();
        assert_eq!(load.busy(), 0);
        let score = load.score().clone();
        assert!(answers.contains(&score.answers()), "{score:?}");
        assert_eq!(score.failures(), 0);
        assert_eq!(score.latencies.total(), score.answers());
        score
    }

    #[test]
    fn a_closed_loop_asks_again_and_again() {
        check(Pace::Closed, 200, 100..=u64::MAX);
    }

    #[test]
    fn a_fixed_rate_is_kept() {
        check(Pace::Rate(1_000.0), 300, 150..=310);
    }

    #[test]
    fn nothing_begins_when_paused() {
        check(Pace::Paused, 20, 0..=0);
    }

    #[test]
    fn a_stall_is_counted_from_when_requests_were_due() {
        // The upstream is served by the same loop: a turn that sleeps is a gateway that stalls.
        let mut engine = Engine::new("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let target = engine.upstream.addr().unwrap();
        let plan = Plan {
            target,
            connections: 1,
            pace: Pace::Rate(1_000.0),
            ask: Box::new(|number, out| {
                if number == 50 {
                    std::thread::sleep(Duration::from_millis(100));
                }
                out.extend_from_slice(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            }),
            hear: None,
            want: None,
            tls: None,
        };
        let mut load = Load::new(&mut engine, plan);
        load.run_for(Duration::from_millis(400)).unwrap();
        // About 100 of 400 requests were due during the stall and waited 50 ms on average.
        let late_ns = load.score().latencies.at(0.9);
        assert!(late_ns > 30_000_000, "{late_ns}");
    }
}

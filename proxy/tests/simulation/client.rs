//! The clients of a scripted world, HTTP/1 and HTTP/2, and how they judge what they get.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use runtime::buffers::Piece;
use runtime::clock;
use runtime::http::h2;
use runtime::http::head::{Request, Response};
use runtime::io::{self, ConnectOptions, Writer, script};

use super::ask::{Ask, Coding, Dice, Doing, Road};
use super::line::{Cut, Frame, Line, chunked, send};
use super::rows::FRONT;
use super::upstream::GREETING;
use super::witness;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The upstream's or the plugin's own answer, whole.
    Own(u16),
    /// The gateway's answer.
    Gateway(u16),
    /// A request to leave HTTP was answered otherwise.
    NotSwitched,
    /// The connection ended in order before its turn.
    Ended,
    /// The connection or the stream broke off before the answer had ended.
    Broken,
    /// It was never sent, or the client itself left.
    Left,
}

/// What all clients of a world have met.
#[derive(Default)]
pub(crate) struct Met {
    pub(crate) outcomes: RefCell<Vec<(Ask, Outcome)>>,
    /// What breaks a rule.
    pub(crate) faults: RefCell<Vec<String>>,
    /// Clients that are done.
    pub(crate) done: Cell<usize>,
    /// Tunnels that did not come about: their frames may have been read as a request, and refused,
    /// whether or not the client came to see the answer.
    pub(crate) refused_tunnels: Cell<u64>,
}

impl Met {
    fn fault(&self, words: String) {
        self.faults.borrow_mut().push(words);
    }

    fn note(&self, ask: &Ask, outcome: Outcome) {
        log::debug!("at {} us {outcome:?}: {ask:?}", clock::now_us());
        self.outcomes.borrow_mut().push((ask.clone(), outcome));
    }

    /// Judges a whole answer.
    fn judge(&self, ask: &Ask, status: u16, own: Option<&str>, body: &[u8]) {
        let outcome = match own {
            Some(n) if n == ask.n.to_string() => {
                let expected = if ask.answers_body() || ask.road == Road::Answered {
                    if ask.method == "HEAD" { Vec::new() } else { ask.told().answer() }
                } else {
                    Vec::new()
                };
                if body != expected {
                    let (got, want) = (body.len(), expected.len());
                    self.fault(format!("{} bytes of {want} passed as whole: {ask:?}", got));
                }
                Outcome::Own(status)
            }
            Some(n) => {
                self.fault(format!("the answer of {n} came to {ask:?}"));
                Outcome::Own(status)
            }
            None => {
                const KNOWN: [u16; 12] =
                    [400, 404, 405, 408, 411, 413, 414, 426, 500, 502, 503, 504];
                let call = ask.road == Road::Calls && status == 200;
                if !call && !KNOWN.contains(&status) {
                    self.fault(format!("a status of nobody, {status}: {ask:?}"));
                }
                Outcome::Gateway(status)
            }
        };
        if witness::reports_of(ask.n) != 1 {
            let reports = witness::reports_of(ask.n);
            self.fault(format!("answered, and reported {reports} times by then: {ask:?}"));
        }
        self.note(ask, outcome);
    }
}

/// How often a batch looks whether the one before has let go of the connection.
const WRITER_LOOKS_MAX: usize = 100;
/// How many connections a client opens before it gives up.
const CONNECTIONS_MAX: usize = 40;

/// An HTTP/1 client: sends its requests, some of them behind each other without waiting.
pub(crate) async fn http1(mut asks: Vec<Ask>, met: Rc<Met>, mut dice: Dice, calm: bool) {
    for _ in 0..CONNECTIONS_MAX {
        if asks.is_empty() {
            break;
        }
        let Ok((reader, writer)) = io::connect(FRONT.into(), &ConnectOptions::default()).await
        else {
            break;
        };
        let mut line = Line::new(reader);
        if !calm && dice.chance(150) {
            line.rest_ms = 1 + dice.below(60) as u64;
        }
        connection(&mut asks, line, writer, &met, &mut dice, calm).await;
        clock::sleep_ms(dice.below(30) as u64).await;
    }
    asks.iter().for_each(|ask| met.note(ask, Outcome::Left));
    met.done.set(met.done.get() + 1);
}

/// Sends requests over one connection until it ends; takes them out of `asks`.
async fn connection(
    asks: &mut Vec<Ask>,
    mut line: Line,
    writer: Writer,
    met: &Rc<Met>,
    dice: &mut Dice,
    calm: bool,
) {
    let writer = Rc::new(RefCell::new(Some(writer)));
    while !asks.is_empty() {
        let count = (1 + dice.below(3)).min(asks.len());
        let batch: Vec<Ask> = asks.drain(..count).collect();
        let go_on = Rc::new(Cell::new(false));
        // Leaves in the middle, or ends its direction behind the last request.
        let leaves_ms = (!calm && dice.chance(80)).then(|| dice.below(300) as u64);
        let half = !calm && asks.is_empty() && dice.chance(100);
        let sending = sends(batch.clone(), Rc::clone(&writer), Rc::clone(&go_on), half);
        let sending = sending(dice.sibling());
        io::spawn(sending);
        let reading = answers(&batch, &mut line, met, &go_on);
        let ended = match leaves_ms {
            None => reading.await,
            Some(ms) => match clock::within(ms, reading).await {
                Some(ended) => ended,
                None => {
                    // What was answered is noted; who waited for the rest has left.
                    if let Some(writer) = &*writer.borrow() {
                        script::reset(writer);
                    }
                    let noted = |ask: &&Ask| {
                        met.outcomes.borrow().iter().all(|(other, _)| other.n != ask.n)
                    };
                    let left: Vec<Ask> = batch.iter().filter(noted).cloned().collect();
                    left.iter().for_each(|ask| met.note(ask, Outcome::Left));
                    return;
                }
            },
        };
        if ended || half {
            return;
        }
    }
}

type Shared = Rc<RefCell<Option<Writer>>>;

/// The task that sends a batch.
fn sends(
    batch: Vec<Ask>,
    writer: Shared,
    go_on: Rc<Cell<bool>>,
    half: bool,
) -> impl FnOnce(Dice) -> std::pin::Pin<Box<dyn Future<Output = ()>>> {
    move |mut dice| {
        Box::pin(async move {
            // The task of the batch before may still hold it.
            let mut own = writer.borrow_mut().take();
            for _ in 0..WRITER_LOOKS_MAX {
                if own.is_none() {
                    clock::sleep_ms(1).await;
                    own = writer.borrow_mut().take();
                }
            }
            let Some(mut own) = own else { return };
            for ask in &batch {
                let (head, body) = message(ask, &mut dice);
                let whole = if ask.expects { head.clone() } else { [&*head, &*body].concat() };
                if !send(&mut own, &whole, &mut dice).await {
                    break;
                }
                if ask.expects {
                    for _ in 0..50 {
                        if !go_on.get() {
                            clock::sleep_ms(10).await;
                        }
                    }
                    if !send(&mut own, &body, &mut dice).await {
                        break;
                    }
                }
            }
            if half {
                let _gone = own.shutdown().await;
            }
            *writer.borrow_mut() = Some(own);
        })
    }
}

/// The bytes of a request: its head, its body.
fn message(ask: &Ask, dice: &mut Dice) -> (Vec<u8>, Vec<u8>) {
    let mut head = format!("{} {} HTTP/1.1\r\nHost: shop.test\r\n", ask.method, ask.target());
    let body = match ask.coding {
        Coding::None => Vec::new(),
        Coding::Length => {
            head += &format!("Content-Length: {}\r\n", ask.body_bytes);
            ask.body()
        }
        Coding::Chunked => {
            head += "Transfer-Encoding: chunked\r\n";
            chunked(&ask.body(), dice)
        }
    };
    if ask.expects {
        head += "Expect: 100-continue\r\n";
    }
    if ask.closes {
        head += "Connection: close\r\n";
    }
    head += "\r\n";
    (head.into_bytes(), body)
}

/// Reads the answers of a batch; whether the connection has ended.
async fn answers(batch: &[Ask], line: &mut Line, met: &Met, go_on: &Cell<bool>) -> bool {
    for (at, ask) in batch.iter().enumerate() {
        go_on.set(false);
        match answer(ask, line, met, go_on).await {
            Ok(false) => {}
            ended => {
                if let Err(Cut::Bad(words)) = &ended {
                    met.fault(format!("a client got {words} for {ask:?}"));
                }
                if ended.is_err() {
                    met.note(ask, Outcome::Broken);
                }
                batch[at + 1..].iter().for_each(|ask| met.note(ask, Outcome::Ended));
                if ended.is_ok() && line.more().await.is_ok() {
                    met.fault(format!("bytes behind the last answer, of {ask:?}"));
                }
                return true;
            }
        }
    }
    false
}

/// Reads one answer; whether it says that it is the last.
async fn answer(ask: &Ask, line: &mut Line, met: &Met, go_on: &Cell<bool>) -> Result<bool, Cut> {
    let head = loop {
        let head = line.head().await?;
        if !head.first.starts_with("HTTP/1.1 ") {
            return Err(Cut::Bad(format!("no status line: {head:?}")));
        }
        if !(100..200).contains(&head.status()) {
            break head;
        }
        go_on.set(true);
    };
    let status = head.status();
    let frame = match head.framing()? {
        _ if ask.method == "HEAD" || matches!(status, 204 | 304) => Frame::None,
        Frame::None if head.closes() => Frame::UntilClose,
        Frame::None => return Err(Cut::Bad(format!("an answer without an end: {head:?}"))),
        framed => framed,
    };
    let body = line.body(frame).await?;
    met.judge(ask, status, head.get("x-n"), &body);
    Ok(head.closes())
}

/// An HTTP/2 client: all its requests at once, on one connection.
pub(crate) async fn http2(asks: Vec<Ask>, met: Rc<Met>, mut dice: Dice, calm: bool) {
    let done = Rc::new(Cell::new(0));
    let many = asks.len();
    let connected = io::connect(FRONT.into(), &ConnectOptions::default()).await;
    let client = match connected {
        Ok((reader, writer)) => {
            h2::Client::new(reader.into(), writer.into(), &h2::Limits::default()).await.ok()
        }
        Err(_) => None,
    };
    for ask in asks {
        let Some(client) = client.clone() else {
            met.note(&ask, Outcome::Left);
            done.set(done.get() + 1);
            continue;
        };
        let (met, done, mut dice) = (Rc::clone(&met), Rc::clone(&done), dice.sibling());
        io::spawn(async move {
            let leaves_ms = (!calm && dice.chance(120)).then(|| dice.below(200) as u64);
            let outcome = match leaves_ms {
                None => stream(client, &ask, &met, &mut dice).await,
                Some(ms) => {
                    let left = clock::within(ms, stream(client, &ask, &met, &mut dice)).await;
                    left.unwrap_or(Some(Outcome::Left))
                }
            };
            outcome.into_iter().for_each(|outcome| met.note(&ask, outcome));
            done.set(done.get() + 1);
        });
    }
    while done.get() < many {
        clock::sleep_ms(10).await;
    }
    met.done.set(met.done.get() + 1);
}

/// One stream. None: its whole answer was judged and noted.
async fn stream(mut client: h2::Client, ask: &Ask, met: &Met, dice: &mut Dice) -> Option<Outcome> {
    clock::sleep_ms(dice.below(20) as u64).await;
    let mut request = Request::default();
    request.set_method(ask.method);
    request.set_target(ask.target().as_bytes());
    request.fields.add("host", "shop.test");
    if ask.coding == Coding::Length {
        request.fields.add("content-length", ask.body_bytes.to_string());
    }
    if ask.road == Road::Calls {
        request.fields.add("content-type", "application/grpc");
        request.fields.add("te", "trailers");
    }
    if client.ready().await.is_err() {
        return Some(Outcome::Left);
    }
    let end = ask.coding == Coding::None;
    let Ok(call) = client.ask(&request, false, end) else { return Some(Outcome::Broken) };
    let (mut sender, mut awaited) = (call.sender, call.response);
    if !end {
        let (body, mut dice) = (ask.body(), dice.sibling());
        io::spawn(async move {
            for part in body.chunks(1 + dice.below(9_000)) {
                if sender.piece(Piece::from_vec(part.to_vec())).await.is_err() {
                    return;
                }
            }
            let _gone = sender.end();
        });
    }
    let mut response = Response::default();
    let Ok(mut body) = awaited.head(&mut response).await else { return Some(Outcome::Broken) };
    let mut whole = Vec::new();
    while let Some(piece) = body.next().await {
        match piece {
            Ok(piece) => whole.extend_from_slice(&piece),
            Err(_) => return Some(Outcome::Broken),
        }
    }
    if body.trailers().await.is_err() {
        return Some(Outcome::Broken);
    }
    let own = response.fields.get("x-n").map(|n| String::from_utf8_lossy(n).into_owned());
    met.judge(ask, response.status, own.as_deref(), &whole);
    None
}

/// A client that leaves HTTP, and sends its first frame right behind its request.
pub(crate) async fn tunnel(n: u32, met: Rc<Met>, mut dice: Dice, calm: bool) {
    let ask =
        Ask { road: Road::Held, doing: Doing::Length, ..Ask::draw(n, true, false, &mut dice) };
    let ask = Ask { method: "GET", coding: Coding::None, body_bytes: 0, expects: false, ..ask };
    let (outcome, got) = tunnelled(&ask, &met, &mut dice).await;
    if calm && outcome.is_none() {
        met.fault(format!("a tunnel broke off after {got} bytes: {ask:?}"));
    }
    if !matches!(outcome, Some(Outcome::Own(_))) {
        met.refused_tunnels.set(met.refused_tunnels.get() + 1);
    }
    met.note(&ask, outcome.unwrap_or(Outcome::Broken));
    met.done.set(met.done.get() + 1);
}

/// What became of a tunnel, and how many bytes came.
async fn tunnelled(ask: &Ask, met: &Met, dice: &mut Dice) -> (Option<Outcome>, usize) {
    let connected = io::connect(FRONT.into(), &ConnectOptions::default()).await;
    let Ok((reader, mut writer)) = connected else { return (None, 0) };
    let head = format!(
        "GET {} HTTP/1.1\r\nHost: shop.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        ask.target()
    );
    let frames = ask.told().answer();
    let (early, late) = frames.split_at(dice.below(frames.len() + 1));
    let (early, late) = ([head.as_bytes(), early].concat(), late.to_vec());
    let mut own = dice.sibling();
    let switched = Rc::new(Cell::new(false));
    let told = Rc::clone(&switched);
    // Beside the reading: a tunnel that is full one way goes on when the other is read.
    io::spawn(async move {
        if !send(&mut writer, &early, &mut own).await {
            return;
        }
        clock::sleep_ms(own.below(100) as u64).await;
        if send(&mut writer, &late, &mut own).await {
            // Who ends its direction before the protocols have changed has left, as in nginx.
            let looks = 0..500;
            for _ in looks.take_while(|_| !told.get()) {
                clock::sleep_ms(10).await;
            }
            let _gone = writer.shutdown().await;
        }
        // Keeps its half until the tunnel is over.
        clock::sleep_ms(5_000).await;
    });
    let mut line = Line::new(reader);
    let Ok(head) = line.head().await else { return (None, 0) };
    if head.status() != 101 {
        return (Some(Outcome::NotSwitched), 0);
    }
    switched.set(true);
    let expected = [GREETING, &*frames].concat();
    let mut got = line.take_all();
    while expected.starts_with(&got) {
        if line.more().await.is_err() {
            let whole = got == expected;
            return (whole.then_some(Outcome::Own(101)), got.len());
        }
        got.extend(line.take_all());
    }
    met.fault(format!("a tunnel lost its order within {} bytes: {ask:?}", got.len()));
    (None, got.len())
}

//! The services of a scripted world: they read requests by the letter, note what they saw, and do
//! what the target says.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use runtime::buffers::Piece;
use runtime::clock;
use runtime::http::h2;
use runtime::http::head::{Fields, Response};
use runtime::io::{self, Reader, Writer, script};

use super::ask::{Dice, Doing, Told};
use super::line::{Cut, Frame, Head, Line, chunked, send};
use super::rows::{CALLS, SERVERS, TIMEOUT_MS};

/// What all services of a world have seen.
#[derive(Default)]
pub(crate) struct Seen {
    /// Each request whose head was whole: its number and method.
    pub(crate) heads: RefCell<Vec<(u32, String)>>,
    /// What breaks a rule.
    pub(crate) faults: RefCell<Vec<String>>,
    /// Connections that are open.
    pub(crate) open: Cell<usize>,
}

impl Seen {
    pub(crate) fn fault(&self, words: String) {
        self.faults.borrow_mut().push(words);
    }

    /// How often a request came.
    pub(crate) fn count(&self, n: u32) -> usize {
        self.heads.borrow().iter().filter(|(own, _)| *own == n).count()
    }
}

/// Counts a connection while it is open.
struct Open(Rc<Seen>);

impl Open {
    fn new(seen: &Rc<Seen>) -> Self {
        seen.open.set(seen.open.get() + 1);
        Self(Rc::clone(seen))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

/// Starts every service. `rests` lets them refuse connections now and then.
pub(crate) fn start(seen: &Rc<Seen>, dice: &mut Dice, rests: bool) {
    for addr in SERVERS {
        let (seen, mut dice) = (Rc::clone(seen), dice.sibling());
        let mut first = Some(io::listen(addr.into()).unwrap());
        io::spawn(async move {
            loop {
                let next = first.take().map_or_else(|| io::listen(addr.into()), Ok);
                let mut listener = next.unwrap();
                let many = if rests { 1 + dice.below(4) } else { usize::MAX };
                for _ in 0..many {
                    let (reader, writer, _) = listener.accept().await.unwrap();
                    io::spawn(serve(reader, writer, Rc::clone(&seen), dice.sibling()));
                }
                drop(listener);
                clock::sleep_ms(dice.below(150) as u64).await;
            }
        });
    }
    let (seen, mut dice) = (Rc::clone(seen), dice.sibling());
    let mut listener = io::listen(CALLS.into()).unwrap();
    io::spawn(async move {
        loop {
            let (reader, writer, _) = listener.accept().await.unwrap();
            io::spawn(serve_calls(reader, writer, Rc::clone(&seen), dice.sibling()));
        }
    });
}

async fn serve(reader: Reader, mut writer: Writer, seen: Rc<Seen>, mut dice: Dice) {
    let _open = Open::new(&seen);
    let mut line = Line::new(reader);
    loop {
        match one(&mut line, &mut writer, &seen, &mut dice).await {
            Ok(true) => {}
            Ok(false) | Err(Cut::Ended) => return,
            Err(Cut::Bad(words)) => return seen.fault(format!("a service got {words}")),
        }
    }
}

/// One request; whether another may follow.
async fn one(
    line: &mut Line,
    writer: &mut Writer,
    seen: &Seen,
    dice: &mut Dice,
) -> Result<bool, Cut> {
    let head = line.head().await?;
    let words: Vec<&str> = head.first.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else {
        return Err(Cut::Bad(format!("no request line: {head:?}")));
    };
    let told = Told::of(target).ok_or_else(|| Cut::Bad(format!("no target: {head:?}")))?;
    if head.get("host").is_none() || head.get("x-forwarded-for").is_none() {
        return Err(Cut::Bad(format!("lines are missing: {head:?}")));
    }
    seen.heads.borrow_mut().push((told.n, method.to_owned()));
    log::debug!("at {} us a service got {}", clock::now_us(), head.first);
    if head.get("upgrade").is_some() {
        return tunnel(line, writer, &told, dice).await.map(|()| false);
    }
    if told.doing == Doing::Early {
        let whole = answered(&told, method, dice, "Connection: close\r\n");
        let _gone = send(writer, &whole, dice).await;
        if dice.chance(500) {
            let _ended = writer.shutdown().await;
            while line.more().await.is_ok() {}
        }
        return Ok(false);
    }
    let frame = head.framing()?;
    if frame == Frame::None && !told.body().is_empty() {
        return Err(Cut::Bad(format!("a body without a framing: {head:?}")));
    }
    let body = line.body(frame).await?;
    if body != told.body() {
        return Err(Cut::Bad(format!("another body than {} has: {} bytes", told.n, body.len())));
    }
    answer(writer, &told, method, dice).await
}

/// A good answer, framed as the request says.
fn answered(told: &Told, method: &str, dice: &mut Dice, more: &str) -> Vec<u8> {
    let (n, body) = (told.n, told.answer());
    let bodiless = matches!(told.doing, Doing::NoContent | Doing::NotModified);
    let status = match told.doing {
        Doing::NoContent => "204 No Content",
        Doing::NotModified => "304 Not Modified",
        _ => "200 OK",
    };
    let version = if told.doing == Doing::OldVersion { "1.0" } else { "1.1" };
    let framing = match told.doing {
        Doing::NoContent | Doing::UntilClose => String::new(),
        Doing::Chunked | Doing::CutChunked => "Transfer-Encoding: chunked\r\n".to_owned(),
        _ => format!("Content-Length: {}\r\n", body.len()),
    };
    let head = format!("HTTP/{version} {status}\r\nX-N: {n}\r\n{framing}{more}\r\n");
    let mut whole = head.into_bytes();
    match told.doing {
        _ if bodiless || method == "HEAD" => {}
        Doing::Chunked | Doing::CutChunked => whole.extend(chunked(&body, dice)),
        _ => whole.extend(body),
    }
    whole
}

async fn answer(
    writer: &mut Writer,
    told: &Told,
    method: &str,
    dice: &mut Dice,
) -> Result<bool, Cut> {
    let close = "Connection: close\r\n";
    let (more, goes_on) = match told.doing {
        Doing::UntilClose | Doing::LastOne | Doing::Early => (close, false),
        Doing::LeavesAfter | Doing::OldVersion => ("", false),
        _ => ("", true),
    };
    let mut whole = answered(told, method, dice, more);
    let head_bytes = whole.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    match told.doing {
        Doing::Silent => return Ok(false),
        Doing::Garbage => whole = b"HTTP/1.1 2x0 OK\r\n\r\n".to_vec(),
        Doing::CutHead => whole.truncate(dice.below(head_bytes)),
        Doing::CutLength | Doing::CutChunked if whole.len() > head_bytes => {
            whole.truncate(head_bytes + dice.below(whole.len() - head_bytes));
        }
        Doing::Interim => whole.splice(0..0, *b"HTTP/1.1 103 Early Hints\r\n\r\n").for_each(drop),
        Doing::Slow => clock::sleep_ms(dice.below(TIMEOUT_MS as usize / 2) as u64).await,
        Doing::Hang => clock::sleep_ms(TIMEOUT_MS * 3).await,
        Doing::SlowBody => {
            let (first, rest) = whole.split_at(head_bytes + (whole.len() - head_bytes) / 2);
            if !send(writer, first, dice).await {
                return Ok(false);
            }
            clock::sleep_ms(dice.below(TIMEOUT_MS as usize / 2) as u64).await;
            whole = rest.to_vec();
        }
        _ => {}
    }
    let sent = send(writer, &whole, dice).await;
    if told.doing.is_never_whole() {
        if dice.chance(500) {
            script::reset(writer);
        }
        return Ok(false);
    }
    if told.doing == Doing::LeavesAfter {
        clock::sleep_ms(dice.below(60) as u64).await;
    }
    Ok(sent && goes_on)
}

/// What a tunnel says first, in the packet of its 101.
pub(crate) const GREETING: &[u8] = b"\x81\x05hello";

/// Agrees to leave HTTP, greets in the same packet, and sends back what comes.
async fn tunnel(
    line: &mut Line,
    writer: &mut Writer,
    told: &Told,
    dice: &mut Dice,
) -> Result<(), Cut> {
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nX-N: {}\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\n\r\n",
        told.n
    );
    let whole = [head.as_bytes(), GREETING].concat();
    let pages = std::iter::once(Piece::from_vec(whole)).collect();
    if writer.write(pages).await.is_err() {
        return Ok(());
    }
    loop {
        while line.is_used_up() {
            if line.more().await.is_err() {
                let _ended = writer.shutdown().await;
                return Ok(());
            }
        }
        let came = line.take_all();
        if !send(writer, &came, dice).await {
            return Ok(());
        }
    }
}

async fn serve_calls(reader: Reader, writer: Writer, seen: Rc<Seen>, mut dice: Dice) {
    let open = Open::new(&seen);
    let limits = h2::Limits { idle_ms: 3_000, linger_ms: 500, ..h2::Limits::default() };
    let served = h2::serve(
        reader.into(),
        writer.into(),
        Piece::empty(),
        &limits,
        || false,
        |stream| call(stream, Rc::clone(&seen), dice.sibling()),
    );
    let _ended = served.await;
    drop(open);
}

/// One call: its body back, as the target says.
async fn call(mut stream: h2::Stream, seen: Rc<Seen>, mut dice: Dice) {
    let target = String::from_utf8_lossy(stream.request.target()).into_owned();
    let Some(told) = Told::of(&target) else {
        return seen.fault(format!("a call without a target: {target}"));
    };
    seen.heads.borrow_mut().push((told.n, "POST".to_owned()));
    if told.doing == Doing::Silent || told.doing == Doing::CutHead {
        return stream.reply.reset();
    }
    let mut body = Vec::new();
    while told.doing != Doing::Early
        && let Some(piece) = stream.body.next().await
    {
        match piece {
            Ok(piece) => body.extend_from_slice(&piece),
            Err(_) => return,
        }
    }
    if told.doing != Doing::Early && body != told.body() {
        return seen.fault(format!("a call with another body than {} has", told.n));
    }
    if told.doing == Doing::Hang {
        clock::sleep_ms(TIMEOUT_MS * 3).await;
    }
    let mut response = Response::default();
    response.status = 200;
    response.fields.add("x-n", told.n.to_string());
    response.fields.add("content-type", "application/grpc");
    if stream.reply.head(&response, false).is_err() {
        return;
    }
    let answer = told.answer();
    let cut = told.doing.is_never_whole();
    let part = if cut { dice.below(answer.len() + 1) } else { answer.len() };
    for piece in answer[..part].chunks(1 + dice.below(9_000)) {
        if stream.reply.piece(Piece::from_vec(piece.to_vec())).await.is_err() {
            return;
        }
    }
    if cut {
        return stream.reply.reset();
    }
    let mut trailers = Fields::new();
    trailers.add("grpc-status", "0");
    let _gone = stream.reply.trailers(&trailers);
}

impl Head {
    /// Whether the connection ends with this message.
    pub(crate) fn closes(&self) -> bool {
        self.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

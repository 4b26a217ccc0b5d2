//! The driver without a kernel: connections in memory, virtual time, seeded faults.
//!
//! ```text
//!   run(plan, future) ─► tasks, in an order drawn from the seed
//!                    ├─► pipes: what is written arrives in pieces, late, or never (a reset)
//!                    └─► time: jumps to the next timer when no task can move
//! ```
//! The peers are ordinary tasks in the same world: they `listen`, `io::connect`, read and write as
//! the code under test does, or follow a list of `Step`s. One seed is one run: the same order, the
//! same faults, the same times. A world in which nobody can move any more is a fault and no hang.

mod pipe;
mod world;

use super::{ConnectOptions, Driver, IoKind, OnCore, Peer, Target};
use crate::buffers::{Page, Pages, Piece};
use crate::clock;
use pipe::Pipe;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::{Rc, Weak};

pub(super) use world::bell_rung;

/// What a world is like.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where order and faults are drawn from.
    pub seed: u64,
    /// How many of 1,000 reads give only a part of what is there.
    pub short_reads_per_mille: u32,
    /// How many of 1,000 writes reset their connection instead.
    pub resets_per_mille: u32,
    /// How many of 1,000 connects are refused though somebody listens.
    pub refusals_per_mille: u32,
    /// What is written arrives up to so many microseconds later.
    pub delay_us_max: u64,
    /// Bytes that a direction holds before its writer has to wait.
    pub pipe_bytes_max: usize,
    /// Turns of the loop after which the world is taken to run in circles.
    pub turns_max: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 1,
            short_reads_per_mille: 0,
            resets_per_mille: 0,
            refusals_per_mille: 0,
            delay_us_max: 0,
            pipe_bytes_max: 64 * 1024,
            turns_max: 50_000_000,
        }
    }
}

impl Plan {
    /// No faults, and the order of `seed`.
    pub fn calm(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Short reads, delays and small pipes, but no resets: everything still arrives.
    pub fn rough(seed: u64) -> Self {
        Self {
            short_reads_per_mille: 500,
            delay_us_max: 3_000,
            pipe_bytes_max: 9_000,
            ..Self::calm(seed)
        }
    }
}

/// When the world's clock starts, in microseconds since 1970: 2023-11-14 22:13:20 UTC.
const WALL_START_US: u64 = 1_700_000_000_000_000;
const START_US: u64 = 1_000_000;

/// Runs `future` on this thread in a world of its own until it is done.
///
/// # Errors
/// `TimedOut` when nobody in the world can move any more or it runs in circles, and when a core
/// runs on this thread already.
pub fn run<T>(plan: &Plan, future: impl Future<Output = T>) -> Result<T> {
    let _core = OnCore::enter(IoKind::Script)?;
    clock::begin_virtual(START_US, WALL_START_US);
    world::run(plan, async {
        super::spawn(clock::tick_forever());
        future.await
    })
}

/// A name that can be connected to.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Name {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// The scripted driver.
pub(super) struct Script;

/// One end of a connection, shared by its two halves; gone with the last of them.
struct End {
    from: Rc<Pipe>,
    to: Rc<Pipe>,
    local: SocketAddr,
}

impl End {
    fn close(&self) {
        self.from.close();
        self.to.end();
    }

    fn reset(&self) {
        self.from.reset();
        self.to.reset();
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.close();
    }
}

/// The receiving half.
pub(super) struct Reader(Rc<End>);

/// The sending half.
pub(super) struct Writer(Rc<End>);

/// Ends a connection.
#[derive(Clone)]
pub(super) struct Closer(Weak<End>);

impl Reader {
    pub(super) async fn ended(&self) {
        poll_fn(|cx| self.0.from.ended(cx.waker())).await;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.0.from.has_ended()
    }

    pub(super) fn closer(&self) -> Closer {
        Closer(Rc::downgrade(&self.0))
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.0.from.is_quiet()
    }

    pub(super) fn local_addr(&self) -> Result<SocketAddr> {
        Ok(self.0.local)
    }
}

impl Writer {
    pub(super) fn closer(&self) -> Closer {
        Closer(Rc::downgrade(&self.0))
    }
}

impl Closer {
    pub(super) fn close(&self) {
        if let Some(end) = self.0.upgrade() {
            end.close();
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.0.upgrade().is_none_or(|end| end.from.is_quiet())
    }
}

/// Both ends of a new connection, each as its two halves.
fn connection(client: SocketAddr, server: SocketAddr) -> [(Reader, Writer); 2] {
    let (there, back) = (Pipe::new(), Pipe::new());
    let end = |from: &Rc<Pipe>, to: &Rc<Pipe>, local| {
        let end = Rc::new(End { from: Rc::clone(from), to: Rc::clone(to), local });
        (Reader(Rc::clone(&end)), Writer(end))
    };
    [end(&back, &there, client), end(&there, &back, server)]
}

/// A place that can be connected to, for as long as it lives.
pub(super) struct Listener {
    name: Name,
    addr: SocketAddr,
}

impl Listener {
    pub(super) fn new(addr: SocketAddr) -> Result<Self> {
        let addr = world::free_addr(addr);
        world::listen(Name::Tcp(addr))?;
        Ok(Self { name: Name::Tcp(addr), addr })
    }

    pub(super) const fn local_addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        world::unlisten(&self.name);
    }
}

impl Driver for Script {
    type Reader = Reader;
    type Writer = Writer;
    type Listener = Listener;

    async fn accept(listener: &mut Listener) -> Result<(Reader, Writer, Peer)> {
        let (reader, writer, addr) = poll_fn(|cx| world::accept(&listener.name, cx.waker())).await;
        Ok((reader, writer, Peer { addr, local: listener.addr }))
    }

    async fn connect(to: &Target<'_>, options: &ConnectOptions) -> Result<(Reader, Writer)> {
        let (name, server) = match to {
            Target::Tcp(addr) => (Name::Tcp(*addr), *addr),
            Target::Unix(path) => (Name::Unix(path.to_path_buf()), SocketAddr::from(([0; 4], 0))),
        };
        let client = options.bind.unwrap_or_else(world::client_addr);
        let delay_us = world::delay_us();
        if delay_us > 0 {
            world::pause_us(delay_us).await;
        }
        if world::chance(world::plan().refusals_per_mille) {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        let [(reader, writer), (theirs, answer)] = connection(client, server);
        world::offer(&name, (theirs, answer, client))?;
        Ok((reader, writer))
    }

    async fn readable(reader: &mut Reader) -> Result<()> {
        poll_fn(|cx| reader.0.from.readable(cx.waker())).await;
        Ok(())
    }

    async fn read(reader: &mut Reader, mut page: Page) -> (Result<usize>, Page) {
        poll_fn(|cx| reader.0.from.readable(cx.waker())).await;
        let result = reader.0.from.take(&mut page);
        (result, page)
    }

    async fn write(writer: &mut Writer, pages: Pages) -> Result<()> {
        for mut piece in pages {
            while !piece.is_empty() {
                if world::chance(world::plan().resets_per_mille) {
                    writer.0.reset();
                }
                let count = poll_fn(|cx| writer.0.to.put(&piece, cx.waker())).await?;
                piece.advance(count);
            }
        }
        Ok(())
    }

    fn shutdown(writer: &mut Writer) -> Result<()> {
        if writer.0.to.broken() {
            return Err(ErrorKind::NotConnected.into());
        }
        writer.0.to.end();
        Ok(())
    }

    fn spawn(task: impl Future<Output = ()> + 'static) {
        world::spawn(Box::pin(task));
    }

    async fn pause(ms: u64) {
        world::pause_us(ms.saturating_mul(1_000)).await;
    }
}

/// What a scripted peer does, one after the other.
#[derive(Clone, Debug)]
pub enum Step {
    /// Waits for exactly these bytes.
    Expect(Vec<u8>),
    /// Waits until what has come since the last expectation ends with these bytes.
    Until(Vec<u8>),
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Does nothing for so many milliseconds.
    Wait(u64),
    /// Ends its direction; the other may go on.
    End,
    /// Waits for the end of the other direction.
    ExpectEnd,
    /// Breaks the connection off.
    Reset,
}

/// Plays `steps` on a connection, whichever side of it; then drops it.
///
/// # Errors
/// What went otherwise than the steps say, in one sentence.
pub async fn play(
    mut reader: super::Reader,
    mut writer: super::Writer,
    steps: Vec<Step>,
) -> std::result::Result<(), String> {
    let mut kept = Vec::new();
    for (at, step) in steps.into_iter().enumerate() {
        let done = match step {
            Step::Expect(bytes) => {
                let got = take(&mut reader, &mut kept, |kept| kept.len() >= bytes.len()).await;
                let front = kept.get(..bytes.len()).unwrap_or(&kept);
                let same = front == bytes;
                let text = format!("expected {}, got {}", show(&bytes), show(front));
                kept.drain(..bytes.len().min(kept.len()));
                got.and(if same { Ok(()) } else { Err(Error::other(text)) })
            }
            Step::Until(bytes) => {
                let got = take(&mut reader, &mut kept, |kept| kept.ends_with(&bytes)).await;
                kept.clear();
                got
            }
            Step::Send(bytes) => writer.write([Piece::from_vec(bytes)].into_iter().collect()).await,
            Step::Wait(ms) => {
                clock::sleep_ms(ms).await;
                Ok(())
            }
            Step::End => writer.shutdown().await,
            Step::ExpectEnd => match take(&mut reader, &mut kept, |kept| !kept.is_empty()).await {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(()),
                Err(error) => Err(error),
                Ok(()) => Err(Error::other(format!("expected the end, got {}", show(&kept)))),
            },
            Step::Reset => {
                reset(&writer);
                Ok(())
            }
        };
        done.map_err(|error| format!("step {at}: {error}"))?;
    }
    Ok(())
}

/// Reads until `enough`.
async fn take(
    reader: &mut super::Reader,
    kept: &mut Vec<u8>,
    enough: impl Fn(&[u8]) -> bool,
) -> Result<()> {
    while !enough(kept) {
        let (count, page) = reader.read(Page::take()).await;
        if count? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        kept.extend_from_slice(page.bytes());
    }
    Ok(())
}

fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Breaks a connection of this world off, both ways at once. Nothing happens to any other.
pub fn reset(writer: &super::Writer) {
    if let super::WriterOf::Script(writer) = &writer.0 {
        writer.0.reset();
    }
}

/// A scripted server and what became of its connections.
#[derive(Clone, Default)]
pub struct Played(Rc<Cell<Vec<std::result::Result<(), String>>>>);

impl Played {
    /// How each connection that is over went, in the order in which they ended.
    pub fn results(&self) -> Vec<std::result::Result<(), String>> {
        let results = self.0.take();
        self.0.set(results.clone());
        results
    }
}

/// Listens on `addr` in this world and plays one list of steps on each connection, in order; then
/// listens no longer.
///
/// # Errors
/// When somebody listens there already, or outside of a world.
pub fn serve(addr: SocketAddr, connections: Vec<Vec<Step>>) -> Result<Played> {
    if !super::on_script() {
        return Err(ErrorKind::Unsupported.into());
    }
    let mut listener = super::Listener(super::ListenerOf::Script(Listener::new(addr)?));
    let played = Played::default();
    let results = Rc::clone(&played.0);
    super::spawn(async move {
        for steps in connections {
            let Ok((reader, writer, _)) = listener.accept().await else { return };
            let results = Rc::clone(&results);
            super::spawn(async move {
                let result = play(reader, writer, steps).await;
                let mut all = results.take();
                all.push(result);
                results.set(all);
            });
        }
    });
    Ok(played)
}

/// A scripted listener's offer: the server's halves and the client's address.
type Offer = (Reader, Writer, SocketAddr);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io;
    use std::cell::RefCell;

    const ADDR: ([u8; 4], u16) = ([198, 51, 100, 7], 80);

    fn text(text: &str) -> Vec<u8> {
        text.as_bytes().to_vec()
    }

    async fn dial() -> (io::Reader, io::Writer) {
        io::connect(ADDR.into(), &ConnectOptions::default()).await.unwrap()
    }

    #[test]
    fn steps_are_played_and_time_costs_nothing() {
        run(&Plan::calm(1), async {
            let server = vec![
                Step::Expect(text("GET")),
                Step::Wait(60_000),
                Step::Send(text("200")),
                Step::ExpectEnd,
            ];
            let played = serve(ADDR.into(), vec![server]).unwrap();
            let (reader, writer) = dial().await;
            let begun_us = clock::now_us();
            let client = vec![Step::Send(text("GET")), Step::Until(text("00")), Step::End];
            play(reader, writer, client).await.unwrap();
            assert!((60_000..60_030).contains(&((clock::now_us() - begun_us) / 1_000)));
            clock::sleep_ms(10).await;
            assert_eq!(played.results(), [Ok(())]);
            assert_eq!(clock::wall_us() - WALL_START_US, clock::now_us() - START_US);
        })
        .unwrap();
    }

    #[test]
    fn what_goes_otherwise_is_said() {
        run(&Plan::calm(1), async {
            let played = serve(ADDR.into(), vec![vec![Step::Expect(text("a"))]; 2]).unwrap();
            let (reader, writer) = dial().await;
            play(reader, writer, vec![Step::Send(text("b"))]).await.unwrap();
            let (reader, writer) = dial().await;
            play(reader, writer, vec![]).await.unwrap();
            clock::sleep_ms(10).await;
            let words = ["step 0: expected a, got b", "step 0: unexpected end of file"];
            let said: Vec<String> =
                played.results().into_iter().filter_map(|result| result.err()).collect();
            assert_eq!(said, words);
            let refused = io::connect(ADDR.into(), &ConnectOptions::default()).await;
            assert_eq!(refused.err().unwrap().kind(), ErrorKind::ConnectionRefused);
        })
        .unwrap();
    }

    #[test]
    fn a_world_in_which_nobody_can_move_is_a_fault() {
        let fault = run(&Plan::calm(1), std::future::pending::<()>()).unwrap_err();
        assert_eq!(fault.kind(), ErrorKind::TimedOut);
        let circle = Plan { turns_max: 1_000, ..Plan::calm(1) };
        let forever = run(&circle, async {
            loop {
                clock::sleep_ms(1).await;
            }
        });
        assert!(forever.unwrap_err().to_string().contains("circles"));
    }

    #[test]
    fn a_missed_deadline_ends_the_pending_read() {
        for seed in 0..32 {
            run(&Plan::rough(seed), async {
                let steps = vec![Step::Send(text("x")), Step::ExpectEnd];
                let played = serve(ADDR.into(), vec![steps]).unwrap();
                let (mut reader, _writer) = dial().await;
                let deadline = clock::Deadline::new(reader.closer());
                deadline.arm(1_000);
                let (count, page) = reader.read(Page::take()).await;
                assert_eq!((count.unwrap(), deadline.missed()), (1, false));
                assert_eq!(reader.read(page).await.0.unwrap(), 0, "closed for the deadline");
                assert!(deadline.missed());
                clock::sleep_ms(10).await;
                assert_eq!(played.results(), [Ok(())], "the peer sees the end");
            })
            .unwrap();
        }
    }

    /// What one seed's run looks like: the sizes of all reads, and how it ended.
    fn trace(plan: &Plan) -> (Vec<usize>, Option<ErrorKind>) {
        let sizes = RefCell::new(Vec::new());
        let ended = run(plan, async {
            let mut listener = io::listen(ADDR.into()).unwrap();
            io::spawn(async move {
                let (_reader, mut writer, _) = listener.accept().await.unwrap();
                for _ in 0..40 {
                    let pages = [Piece::from_vec(vec![7; 3_000])].into_iter().collect();
                    if writer.write(pages).await.is_err() {
                        return;
                    }
                }
            });
            let (mut reader, _writer) = dial().await;
            loop {
                match reader.read(Page::take()).await.0 {
                    Ok(0) => return None,
                    Ok(count) => sizes.borrow_mut().push(count),
                    Err(error) => return Some(error.kind()),
                }
            }
        });
        (sizes.into_inner(), ended.unwrap())
    }

    #[test]
    fn one_seed_is_one_run_and_faults_happen() {
        let mut resets = 0;
        for seed in 0..64 {
            let plan = Plan { resets_per_mille: 20, ..Plan::rough(seed) };
            let first = trace(&plan);
            assert_eq!(first, trace(&plan), "seed {seed}");
            match first.1 {
                None => assert_eq!(first.0.iter().sum::<usize>(), 120_000, "seed {seed}"),
                Some(kind) => {
                    assert_eq!(kind, ErrorKind::ConnectionReset);
                    resets += 1;
                }
            }
        }
        assert!((5..60).contains(&resets), "{resets} of 64 runs were reset");
        assert_ne!(trace(&Plan::rough(1)).0, trace(&Plan::rough(2)).0);
    }
}

//! Stand-ins for log sinks, each in one mood for its whole life, on threads of their own.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::Fault;

/// What stands once in every entry.
const MARK: &[u8] = b"\"started_at\":";
/// Connections that a frozen sink holds; further ones wait in the kernel.
const HELD_MAX: usize = 512;
const PAGE_BYTES: usize = 64 << 10;

/// What a sink does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// Takes all.
    Well,
    /// Is not there.
    Down,
    /// Takes connections and does nothing with them.
    Frozen,
    /// Ends each connection at once; a file: the disk is full.
    Closing,
}

/// The kinds of sinks, by the plugins that send to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Http,
    Tcp,
    Udp,
    File,
}

/// One sink.
pub(super) struct Sink {
    /// Where a socket's is.
    pub(super) addr: SocketAddr,
    /// Where a file's is.
    pub(super) path: PathBuf,
    taken: Arc<AtomicU64>,
    /// Keeps a pipe open that nobody reads, or a socket for datagrams.
    _held: Option<Held>,
}

/// What must stay open.
enum Held {
    Pipe(#[expect(dead_code, reason = "it is held, not used")] File),
    Datagrams(#[expect(dead_code, reason = "it is held, not used")] UdpSocket),
}

impl Sink {
    /// Opens a sink; a file's is in `folder`.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn open(kind: Kind, mood: Mood, folder: &Path) -> Result<Self, Fault> {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut sink = Self {
            addr: nowhere,
            path: folder.join(format!("{mood:?}.log")),
            taken: Arc::new(AtomicU64::new(0)),
            _held: None,
        };
        match (kind, mood) {
            (Kind::Udp, Mood::Well) => sink.addr = datagrams(Arc::clone(&sink.taken))?,
            (Kind::Udp, Mood::Frozen) => {
                let socket = UdpSocket::bind(nowhere)?;
                sink.addr = socket.local_addr()?;
                sink._held = Some(Held::Datagrams(socket));
            }
            (Kind::Udp, _) => sink.addr = UdpSocket::bind(nowhere)?.local_addr()?,
            (Kind::File, Mood::Well) => {}
            (Kind::File, Mood::Down) => sink.path = folder.join("missing/entries.log"),
            (Kind::File, Mood::Closing) => sink.path = "/dev/full".into(),
            (Kind::File, Mood::Frozen) => sink._held = Some(Held::Pipe(pipe(&sink.path)?)),
            (Kind::Http | Kind::Tcp, Mood::Down) => {
                sink.addr = TcpListener::bind(nowhere)?.local_addr()?;
            }
            (Kind::Http | Kind::Tcp, _) => {
                let listener = TcpListener::bind(nowhere)?;
                sink.addr = listener.local_addr()?;
                let taken = Arc::clone(&sink.taken);
                thread::spawn(move || serve(&listener, kind, mood, &taken));
            }
        }
        Ok(sink)
    }

    /// Entries that it has.
    pub(super) fn taken(&self) -> u64 {
        let in_file = || std::fs::read(&self.path).map_or(0, |bytes| marks(&bytes));
        if self.addr.port() == 0 && self.path.is_file() {
            return in_file();
        }
        self.taken.load(Ordering::Relaxed)
    }
}

/// How many entries stand in these bytes.
fn marks(bytes: &[u8]) -> u64 {
    memchr::memmem::find_iter(bytes, MARK).count() as u64
}

/// A named pipe that is open for reading, and that nobody reads.
fn pipe(path: &Path) -> Result<File, Fault> {
    use rustix::fs::{CWD, FileType, Mode, OFlags};
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0)?;
    let pipe = rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?;
    Ok(pipe.into())
}

/// A receiver of datagrams that reads and counts all that come.
fn datagrams(taken: Arc<AtomicU64>) -> io::Result<SocketAddr> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let addr = socket.local_addr()?;
    thread::spawn(move || {
        let mut page = vec![0; PAGE_BYTES];
        while let Ok(read) = socket.recv(&mut page) {
            taken.fetch_add(marks(&page[..read]), Ordering::Relaxed);
        }
    });
    Ok(addr)
}

fn serve(listener: &TcpListener, kind: Kind, mood: Mood, taken: &Arc<AtomicU64>) {
    let mut held = Vec::new();
    for stream in listener.incoming().flatten() {
        match mood {
            Mood::Closing | Mood::Down => drop(stream),
            Mood::Frozen => {
                held.push(stream);
                while held.len() >= HELD_MAX {
                    thread::sleep(Duration::from_secs(1));
                }
            }
            Mood::Well => {
                let taken = Arc::clone(taken);
                thread::spawn(move || take(stream, kind, &taken));
            }
        }
    }
}

/// Takes all that comes over a connection; a request is answered when its body is there.
fn take(mut stream: TcpStream, kind: Kind, taken: &AtomicU64) -> Option<()> {
    let (mut page, mut rest) = (vec![0; PAGE_BYTES], Vec::new());
    loop {
        let read = stream.read(&mut page).ok().filter(|read| *read > 0)?;
        rest.extend_from_slice(page.get(..read)?);
        let whole = match kind {
            Kind::Http => request_bytes(&rest),
            _ => memchr::memrchr(b'\n', &rest).map(|at| at + 1),
        };
        let Some(whole) = whole.filter(|whole| *whole <= rest.len()) else { continue };
        taken.fetch_add(marks(rest.get(..whole)?), Ordering::Relaxed);
        rest.drain(..whole);
        if kind == Kind::Http {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok()?;
        }
    }
}

/// The length of the request that begins here, once its head is there.
fn request_bytes(bytes: &[u8]) -> Option<usize> {
    let head = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let lines = String::from_utf8_lossy(bytes.get(..head)?).to_ascii_lowercase();
    let length = lines.lines().find_map(|line| line.strip_prefix("content-length:"));
    Some(head + length.and_then(|length| length.trim().parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_as_long_as_they_say() {
        let request = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcPOST";
        assert_eq!(request_bytes(request), Some(request.len() - 4));
        assert_eq!(request_bytes(b"POST / HTTP/1.1\r\nContent-"), None);
        assert_eq!(marks(br#"[{"started_at":1},{"started_at":2}]"#), 2);
    }

    #[test]
    fn a_sink_that_is_well_counts() {
        let sink = Sink::open(Kind::Tcp, Mood::Well, Path::new("/")).unwrap();
        let mut stream = TcpStream::connect(sink.addr).unwrap();
        stream.write_all(b"{\"started_at\":1}\n{\"started_at\":2}\n{\"sta").unwrap();
        let begun = std::time::Instant::now();
        while sink.taken() < 2 && begun.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(sink.taken(), 2);
    }
}

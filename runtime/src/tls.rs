//! TLS on both roles: rustls driven by hand over the halves of a connection.
//!
//! ```text
//!   Acceptor / Connector ─ handshake ─► TlsReader ─ ciphertext page ─► rustls ─► plaintext page
//!                                       TlsWriter ─ plaintext ─► rustls ─► ciphertext pages ─►
//! ```
//! rustls does no I/O here: it is fed from pages and emptied into pages, so the drivers' rules
//! about lent buffers hold and both directions may be busy. The two halves share one `Session` in
//! a cell that is never borrowed across an await.
//!
//! What reading makes rustls want to send (a key update's answer, an alert) is sent by the reader
//! where the writer rests, and else by the writer when it is done with what it is writing.

mod identity;
mod settings;

use crate::buffers::{self, PAGE_BYTES, Page, Pages, Piece};
use crate::io::{Closer, Error, ErrorKind, Reader, Result, Writer};
use rustls::Connection;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{IoSlice, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};

pub use identity::{Identity, Names, TlsFault, self_signed};
pub use settings::{Acceptor, AcceptorPlan, Connector, ConnectorPlan, Verify, Versions};

/// Plaintext that is encrypted before the writer waits for the kernel; bounds what a connection
/// with a slow peer holds.
const SEALED_BYTES_MAX: usize = 64 * 1024;
/// Pieces that are encrypted at once.
const SLICES_MAX: usize = 16;
/// What rustls's buffer for one read has anyway.
const RUSTLS_KEEPS_BYTES: usize = 4_096;
/// Bytes that both sides may send before the handshake is done, certificates included.
const HANDSHAKE_BYTES_MAX: usize = 256 * 1024;

/// What the handshake found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Greeting {
    /// Whether both sides agreed on HTTP/2 by ALPN.
    pub http2: bool,
    /// The name that the client asked for, in lower case; only on the accepting side.
    pub server_name: Option<String>,
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher, by OpenSSL's name.
    pub cipher: &'static str,
    /// The certificates that the peer showed, its own first, in DER.
    pub peer_chain: Vec<Vec<u8>>,
}

/// What the two halves share.
struct Session {
    tls: RefCell<Connection>,
    /// The sending half while nobody sends.
    writer: Cell<Option<Writer>>,
    /// Who waits for it.
    waiting: Cell<Option<Waker>>,
    closer: Closer,
}

/// The sending half while somebody sends; goes back when dropped.
struct Lent<'a> {
    session: &'a Session,
    writer: Option<Writer>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.session.writer.set(self.writer.take());
        if let Some(waker) = self.session.waiting.take() {
            waker.wake();
        }
    }
}

impl Session {
    /// The sending half, if nobody sends.
    fn try_lend(&self) -> Option<Lent<'_>> {
        let writer = self.writer.take()?;
        Some(Lent { session: self, writer: Some(writer) })
    }

    async fn lend(&self) -> Lent<'_> {
        poll_fn(|cx| match self.try_lend() {
            Some(lent) => Poll::Ready(lent),
            None => {
                self.waiting.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }

    /// Everything that rustls wants to send now.
    fn sealed(&self) -> Result<Pages> {
        let mut tls = self.tls.borrow_mut();
        let mut sealed = Sealed::default();
        while tls.wants_write() {
            tls.write_tls(&mut sealed)?;
        }
        Ok(sealed.into_pages())
    }

    /// Sends what rustls wants to send, where nobody else is sending.
    async fn flush_if_free(&self) -> Result<()> {
        match self.try_lend() {
            Some(mut lent) => lent.flush().await,
            None => Ok(()),
        }
    }

    /// Feeds ciphertext to rustls until plaintext is there or `sealed` is used up. Tells how
    /// much plaintext is there.
    fn open(&self, sealed: &mut Piece) -> Result<usize> {
        let mut tls = self.tls.borrow_mut();
        while !sealed.is_empty() {
            let mut bytes: &[u8] = sealed;
            let count = tls.read_tls(&mut bytes)?;
            if count == 0 {
                // Nothing counts after the peer's close_notify.
                *sealed = Piece::empty();
            }
            sealed.advance(count);
            let state = tls.process_new_packets().map_err(broken)?;
            if state.plaintext_bytes_to_read() > 0 {
                return Ok(state.plaintext_bytes_to_read());
            }
        }
        Ok(0)
    }

    /// Makes rustls give back the buffer of a whole record; it keeps 4 KiB.
    ///
    /// It does so when it prepares to read and holds nothing, so it is made to prepare for nothing.
    fn shrink(&self) {
        let _ = self.tls.borrow_mut().read_tls(&mut Dry);
    }

    /// Takes plaintext out of rustls; `None` while there is none, 0 at the peer's close_notify.
    fn take_plain(&self, page: &mut Page) -> Result<Option<usize>> {
        match self.tls.borrow_mut().reader().read(page.spare_mut()) {
            Ok(count) => {
                page.advance(count);
                Ok(Some(count))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn broken(error: rustls::Error) -> Error {
    Error::new(ErrorKind::InvalidData, error)
}

impl Lent<'_> {
    /// Sends until rustls has nothing more to send.
    async fn flush(&mut self) -> Result<()> {
        loop {
            let pages = self.session.sealed()?;
            let Some(writer) = self.writer.as_mut().filter(|_| !pages.is_empty()) else {
                return Ok(());
            };
            writer.write(pages).await?;
        }
    }
}

/// Has nothing to read yet.
struct Dry;

impl Read for Dry {
    fn read(&mut self, _: &mut [u8]) -> Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }
}

/// Collects what rustls writes in pool pages.
#[derive(Default)]
struct Sealed {
    pages: Pages,
    last: Option<Page>,
}

impl Sealed {
    fn into_pages(mut self) -> Pages {
        self.pages.extend(self.last.map(Page::freeze));
        self.pages
    }
}

impl Write for Sealed {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        if self.last.as_ref().is_some_and(|page| page.spare_len() == 0) {
            self.pages.extend(self.last.take().map(Page::freeze));
        }
        Ok(self.last.get_or_insert_with(Page::take).extend(bytes))
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The receiving half of a TLS connection. The same rules as `io::Reader`.
pub struct TlsReader {
    reader: Reader,
    session: Rc<Session>,
    /// Ciphertext that has been read and does not fit into rustls yet.
    sealed: Piece,
    /// Bytes of plaintext that rustls holds.
    plain: usize,
    /// Whether rustls's buffer has grown since it was last shrunk.
    grown: bool,
}

/// The sending half of a TLS connection. The same rules as `io::Writer`.
pub struct TlsWriter {
    session: Rc<Session>,
}

impl TlsReader {
    /// Waits until there is something to read. Holds no buffer and may be dropped. What comes may
    /// be TLS's own, so a read after it may still wait.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn readable(&mut self) -> Result<()> {
        if self.plain > 0 || !self.sealed.is_empty() {
            return Ok(());
        }
        if std::mem::take(&mut self.grown) {
            self.session.shrink();
        }
        self.reader.readable().await
    }

    /// Waits until the peer has ended the connection below; see `io::Reader::ended`.
    pub async fn ended(&mut self) {
        self.reader.ended().await;
    }

    /// Whether the peer has ended the connection below; see `io::Reader::has_ended`.
    pub fn has_ended(&self) -> bool {
        self.reader.has_ended()
    }

    /// Appends plaintext to `page`; 0 is the peer's orderly end. Must be awaited to its end.
    ///
    /// # Errors
    /// Those of the connection, `InvalidData` for what is no TLS, and `UnexpectedEof` where the
    /// connection ends without close_notify: somebody may have cut it off.
    pub async fn read(&mut self, mut page: Page) -> (Result<usize>, Page) {
        if page.spare_len() == 0 {
            return (Err(ErrorKind::InvalidInput.into()), page);
        }
        loop {
            match self.session.take_plain(&mut page) {
                Ok(Some(count)) => {
                    self.plain = self.plain.saturating_sub(count);
                    return (Ok(count), page);
                }
                Ok(None) => self.plain = 0,
                Err(error) => return (Err(error), page),
            }
            if let Err(error) = self.more().await {
                return (Err(error), page);
            }
        }
    }

    /// Gives rustls more ciphertext; `false` at the end of the connection.
    async fn more(&mut self) -> Result<bool> {
        if self.sealed.is_empty() {
            let (count, page) = self.reader.read(Page::take()).await;
            if count? == 0 {
                // Tells rustls; its reader then says whether the end was orderly.
                self.session.tls.borrow_mut().read_tls(&mut [].as_slice())?;
                return Ok(false);
            }
            self.grown |= page.len() > RUSTLS_KEEPS_BYTES;
            self.sealed = page.freeze();
        }
        let opened = self.session.open(&mut self.sealed);
        if self.session.tls.borrow().wants_write() {
            // Also after a fault: the alert tells the peer why.
            let flushed = self.session.flush_if_free().await;
            self.plain = opened?;
            flushed?;
        } else {
            self.plain = opened?;
        }
        Ok(true)
    }

    /// The address on our side of the connection.
    ///
    /// # Errors
    /// Where it has none.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        self.reader.local_addr()
    }

    /// Whether nothing has come that was not read; see `io::Reader::is_quiet`.
    pub fn is_quiet(&self) -> bool {
        self.plain == 0 && self.sealed.is_empty() && self.reader.is_quiet()
    }

    /// What ends this connection, without close_notify.
    pub fn closer(&self) -> Closer {
        self.reader.closer()
    }
}

impl TlsWriter {
    /// Encrypts and writes all of `pages` in order. Must be awaited to its end.
    ///
    /// # Errors
    /// Those of the connection; how much went out is then unknown.
    pub async fn write(&mut self, mut pages: Pages) -> Result<()> {
        let mut lent = self.session.lend().await;
        while !pages.is_empty() {
            self.seal(&mut pages)?;
            lent.flush().await?;
        }
        lent.flush().await
    }

    /// Encrypts the front of `pages`, at most `SEALED_BYTES_MAX`. Several pieces go into one record
    /// where they fit: a head and a short body are encrypted together.
    fn seal(&self, pages: &mut Pages) -> Result<()> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut room = SEALED_BYTES_MAX;
        for (slice, piece) in slices.iter_mut().zip(pages.iter()) {
            let bytes = piece.get(..piece.len().min(room)).unwrap_or_default();
            *slice = IoSlice::new(bytes);
            room -= bytes.len();
        }
        let slices = slices.get(..pages.len().min(SLICES_MAX)).unwrap_or_default();
        let count = self.session.tls.borrow_mut().writer().write_vectored(slices)?;
        buffers::advance(pages, count);
        Ok(())
    }

    /// Sends close_notify and ends the sending direction.
    ///
    /// # Errors
    /// Where the connection is gone already.
    pub async fn shutdown(&mut self) -> Result<()> {
        let mut lent = self.session.lend().await;
        self.session.tls.borrow_mut().send_close_notify();
        lent.flush().await?;
        match lent.writer.as_mut() {
            Some(writer) => writer.shutdown().await,
            None => Ok(()),
        }
    }

    /// What ends this connection, without close_notify.
    pub fn closer(&self) -> Closer {
        self.session.closer.clone()
    }
}

/// Does the handshake and gives the two halves.
async fn handshake(
    reader: Reader,
    writer: Writer,
    first: Piece,
    tls: Connection,
) -> Result<(TlsReader, TlsWriter, Greeting)> {
    let session = Rc::new(Session {
        tls: RefCell::new(tls),
        writer: Cell::new(Some(writer)),
        waiting: Cell::new(None),
        closer: reader.closer(),
    });
    let mut half =
        TlsReader { reader, session: Rc::clone(&session), sealed: first, plain: 0, grown: true };
    for _ in 0..HANDSHAKE_BYTES_MAX / PAGE_BYTES {
        session.flush_if_free().await?;
        if !session.tls.borrow().is_handshaking() {
            let greeting = greeting(&session.tls.borrow());
            return Ok((half, TlsWriter { session }, greeting));
        }
        if !half.more().await? {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    Err(Error::new(ErrorKind::InvalidData, "the handshake is too long"))
}

fn greeting(tls: &Connection) -> Greeting {
    let server_name = match tls {
        Connection::Server(tls) => tls.server_name().map(str::to_ascii_lowercase),
        Connection::Client(_) => None,
    };
    let version = match tls.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "TLSv1.2",
    };
    let chain = tls.peer_certificates().unwrap_or_default();
    Greeting {
        http2: tls.alpn_protocol() == Some(settings::ALPN_H2),
        server_name,
        version,
        cipher: tls.negotiated_cipher_suite().map_or("", |suite| cipher(suite.suite())),
        peer_chain: chain.iter().map(|certificate| certificate.to_vec()).collect(),
    }
}

/// OpenSSL's names of the suites that this build has.
const fn cipher(suite: rustls::CipherSuite) -> &'static str {
    use rustls::CipherSuite as Suite;
    match suite {
        Suite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        Suite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        Suite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        Suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        Suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        Suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::io::{self, ConnectOptions, IoChoice, Listener};
    use std::future::Future;

    struct Ends {
        acceptor: Acceptor,
        chain: String,
    }

    fn ends(versions: Versions) -> Ends {
        let (chain, key) = self_signed(&["a.test", "127.0.0.1"]).unwrap();
        let names = Names::new(vec![Identity::from_pem(&chain, &key).unwrap()]);
        let plan = AcceptorPlan { names, http2: false, versions };
        Ends { acceptor: Acceptor::new(&plan).unwrap(), chain }
    }

    fn believing(chain: &str) -> Connector {
        let verify = Verify::Roots(chain.to_owned());
        Connector::new(ConnectorPlan { verify, ..ConnectorPlan::default() }).unwrap()
    }

    type Halves = Result<(TlsReader, TlsWriter, Greeting)>;

    /// Connects the two over a socket and gives both results to `then`.
    fn meet<F: Future<Output = ()>>(
        ends: &Ends,
        connector: &Connector,
        name: &str,
        then: impl FnOnce(Halves, Halves) -> F,
    ) {
        io::block_on_core(IoChoice::Auto, async {
            let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let mut listener = Listener::new(socket).unwrap();
            let addr = listener.local_addr();
            let acceptor = ends.acceptor.clone();
            let accepted: Rc<Cell<Option<Halves>>> = Rc::default();
            let put = Rc::clone(&accepted);
            io::spawn(async move {
                let (reader, writer, _) = listener.accept().await.unwrap();
                put.set(Some(acceptor.accept(reader, writer, Piece::empty()).await));
            });
            let (reader, writer) = io::connect(addr, &ConnectOptions::default()).await.unwrap();
            let connected = connector.connect(reader, writer, name).await;
            for _ in 0..500 {
                if let Some(accepted) = accepted.take() {
                    return then(accepted, connected).await;
                }
                clock::sleep_ms(10).await;
            }
            panic!("the server's handshake hangs");
        })
        .unwrap();
    }

    fn pages(bytes: &[u8]) -> Pages {
        [Piece::copy_of(bytes)].into_iter().collect()
    }

    #[test]
    fn both_versions_and_their_names() {
        for (tls12, tls13, expected) in [(true, false, "TLSv1.2"), (true, true, "TLSv1.3")] {
            let ends = ends(Versions { tls12, tls13 });
            meet(&ends, &believing(&ends.chain), "a.test", |server, client| async move {
                let (mut reader, _writer, greeting) = server.unwrap();
                assert_eq!(greeting.version, expected);
                assert_eq!(greeting.server_name.as_deref(), Some("a.test"));
                assert!(!greeting.http2);
                let (_reader, mut writer, _) = client.unwrap();
                writer.write(pages(b"hello")).await.unwrap();
                let (count, page) = reader.read(Page::take()).await;
                assert_eq!((count.unwrap(), page.bytes()), (5, b"hello".as_slice()));
                writer.shutdown().await.unwrap();
                assert_eq!(reader.read(page).await.0.unwrap(), 0, "an orderly end");
            });
        }
    }

    #[test]
    fn who_is_not_believed_is_refused_and_told() {
        let ends = ends(Versions::default());
        let other = self_signed(&["a.test"]).unwrap().0;
        meet(&ends, &believing(&other), "a.test", |server, client| async move {
            assert_eq!(client.err().unwrap().kind(), ErrorKind::InvalidData);
            let told = match server {
                Err(error) => error,
                Ok((mut reader, ..)) => reader.read(Page::take()).await.0.unwrap_err(),
            };
            assert!(told.to_string().contains("alert"), "{told}");
        });
        meet(&ends, &believing(&ends.chain), "b.test", |_, client| async move {
            assert!(client.err().unwrap().to_string().contains("not valid for name"));
        });
        let everybody = Connector::new(ConnectorPlan::default()).unwrap();
        meet(&ends, &everybody, "b.test", |_, client| async move { drop(client.unwrap()) });
    }

    #[test]
    fn an_end_without_close_notify_is_a_fault() {
        let ends = ends(Versions::default());
        meet(&ends, &believing(&ends.chain), "127.0.0.1", |server, client| async move {
            let (mut reader, ..) = server.unwrap();
            client.unwrap().0.closer().close();
            let (count, _) = reader.read(Page::take()).await;
            assert_eq!(count.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        });
    }

    #[test]
    fn readable_waits_for_the_peer_and_sees_what_rustls_keeps() {
        let ends = ends(Versions::default());
        meet(&ends, &believing(&ends.chain), "a.test", |server, client| async move {
            let (mut reader, ..) = server.unwrap();
            let (_reader, mut writer, _) = client.unwrap();
            assert!(clock::within(30, reader.readable()).await.is_none(), "nothing is there");
            writer.write(pages(&[7; 3_000])).await.unwrap();
            reader.readable().await.unwrap();
            let mut page = Page::take();
            page.extend(&[0; PAGE_BYTES - 1_000]);
            let (count, page) = reader.read(page).await;
            assert_eq!((count.unwrap(), page.spare_len()), (1_000, 0));
            assert!(clock::within(30, reader.readable()).await.is_some(), "2,000 are left");
            assert_eq!(reader.read(Page::take()).await.0.unwrap(), 2_000);
            assert!(clock::within(30, reader.readable()).await.is_none(), "all is read");
        });
    }

    #[test]
    fn what_is_no_tls_is_a_fault() {
        let ends = ends(Versions::default());
        io::block_on_core(IoChoice::Auto, async {
            let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let mut listener = Listener::new(socket).unwrap();
            let options = ConnectOptions::default();
            let (_reader, mut writer) = io::connect(listener.local_addr(), &options).await.unwrap();
            writer.write(pages(b"GET / HTTP/1.1\r\n\r\n")).await.unwrap();
            let (reader, writer, _) = listener.accept().await.unwrap();
            let fault = ends.acceptor.accept(reader, writer, Piece::empty()).await.err().unwrap();
            assert_eq!(fault.kind(), ErrorKind::InvalidData);
        })
        .unwrap();
    }
}

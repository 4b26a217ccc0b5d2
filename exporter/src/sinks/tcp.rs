//! Log entries as lines over a connection: tcp-log, and statsd over TCP.
//!
//! There is no answer, so an entry counts as delivered when the kernel has it. A connection that
//! the other side has closed is found out before it is written to, and replaced.

use super::{all, lines, none};
use crate::logs::TcpPlan;
use crate::logs::queue::Delivery;
use runtime::clock;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use std::io::{self, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a connection attempt or a write may take where the configuration says 0.
const TIMEOUT_MS: u64 = 60_000;

/// One server.
pub(crate) struct Tcp {
    plan: TcpPlan,
    open: Mutex<Option<Open>>,
}

struct Open {
    stream: Stream,
    used_us: u64,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    const fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    /// Whether the other side has neither closed nor broken off. Nobody expects it to speak.
    fn is_open(&self) -> bool {
        let socket = self.socket();
        if socket.set_nonblocking(true).is_err() {
            return false;
        }
        let peeked = socket.peek(&mut [0]);
        let restored = socket.set_nonblocking(false).is_ok();
        let open = match peeked {
            Ok(bytes) => bytes > 0,
            Err(fault) => fault.kind() == io::ErrorKind::WouldBlock,
        };
        open && restored
    }
}

impl Tcp {
    pub(crate) fn new(plan: &TcpPlan) -> Self {
        Self { plan: plan.clone(), open: Mutex::default() }
    }

    pub(crate) fn deliver(&self, batch: &[Vec<u8>]) -> Delivery {
        let lines = lines(batch);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let idle_us_max = self.plan.keepalive_ms.saturating_mul(1_000);
        let kept = open.take().filter(|kept| {
            clock::now_us().saturating_sub(kept.used_us) < idle_us_max && kept.stream.is_open()
        });
        let sent = match kept {
            Some(kept) => self.send(kept.stream, &lines),
            None => self.connect().and_then(|stream| self.send(stream, &lines)),
        };
        match sent {
            Ok(stream) => {
                *open = Some(Open { stream, used_us: clock::now_us() });
                all(batch)
            }
            Err(fault) => none(fault),
        }
    }

    fn send(&self, mut stream: Stream, lines: &[u8]) -> io::Result<Stream> {
        stream.write(lines)?;
        Ok(stream)
    }

    fn timeout(&self) -> Duration {
        let ms = if self.plan.timeout_ms == 0 { TIMEOUT_MS } else { self.plan.timeout_ms };
        Duration::from_millis(ms)
    }

    fn connect(&self) -> io::Result<Stream> {
        let mut fault = io::Error::other("the name has no address");
        for address in (self.plan.host.as_str(), self.plan.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, self.timeout()) {
                Ok(socket) => return self.begin(socket),
                Err(failed) => fault = failed,
            }
        }
        Err(fault)
    }

    fn begin(&self, socket: TcpStream) -> io::Result<Stream> {
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(self.timeout()))?;
        socket.set_read_timeout(Some(self.timeout()))?;
        let Some(name) = &self.plan.tls else { return Ok(Stream::Plain(socket)) };
        let name = name.as_deref().unwrap_or(&self.plan.host).to_owned();
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        let tls = ClientConnection::new(believing()?, name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(tls, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Stream::Tls(Box::new(stream)))
    }
}

/// TLS that believes every certificate, as Kong's tcp-log does.
fn believing() -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Everyone))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Believes every certificate.
#[derive(Debug)]
struct Everyone;

impl ServerCertVerifier for Everyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    fn entries(lines: &[&str]) -> Vec<Vec<u8>> {
        lines.iter().map(|line| line.as_bytes().to_vec()).collect()
    }

    fn plan(port: u16) -> TcpPlan {
        let (timeout_ms, keepalive_ms) = (2_000, 60_000);
        TcpPlan { host: "127.0.0.1".into(), port, timeout_ms, keepalive_ms, tls: None }
    }

    /// Accepts once and reads so many lines.
    fn read(listener: &TcpListener, count: usize) -> (TcpStream, Vec<String>) {
        let (socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut lines = BufReader::new(socket.try_clone().unwrap()).lines();
        (socket, (0..count).map(|_| lines.next().unwrap().unwrap()).collect())
    }

    #[test]
    fn a_connection_is_kept_and_one_that_was_closed_is_replaced() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sink = Tcp::new(&plan(listener.local_addr().unwrap().port()));
        assert_eq!(sink.deliver(&entries(&["1"])).delivered, 1);
        assert_eq!(sink.deliver(&entries(&["2", "3"])).delivered, 2);
        let (socket, lines) = read(&listener, 3);
        assert_eq!(lines, ["1", "2", "3"], "over one connection");
        drop(socket);
        while sink.open.lock().unwrap().as_ref().is_some_and(|open| open.stream.is_open()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(sink.deliver(&entries(&["4"])).delivered, 1);
        assert_eq!(read(&listener, 1).1, ["4"]);
    }

    /// Accepts once over TLS; gives the name that was asked for and the first line.
    fn read_tls(listener: &TcpListener) -> (Option<String>, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["other.test".to_owned()]).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let session = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = BufReader::new(StreamOwned::new(session, socket));
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        (stream.get_ref().conn.server_name().map(str::to_owned), line)
    }

    #[test]
    fn a_server_is_asked_for_by_the_configured_name_and_believed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || read_tls(&listener));
        let plan = TcpPlan { tls: Some(Some("sink.test".into())), ..plan(port) };
        assert_eq!(Tcp::new(&plan).deliver(&entries(&["1"])), all(&entries(&["1"])));
        assert_eq!(server.join().unwrap(), (Some("sink.test".to_owned()), "1\n".to_owned()));
    }

    #[test]
    fn nobody_there_is_a_fault() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let delivery = Tcp::new(&plan(port)).deliver(&entries(&["1"]));
        assert!(delivery.delivered == 0 && delivery.fault.is_some());
    }
}

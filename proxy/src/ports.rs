//! The ports of the office: the Admin API and the status listener.
//!
//! ```text
//!   bind (before anything starts) ─► thread tollgate-admin: hyper ─ Call ─► store ─ Reply ─► hyper
//! ```
//! One thread, one tokio runtime; nothing here blocks it. The store answers by a callback, so a
//! slow write holds up nobody but its own client.
//!
//! Source: Kong `kong/api/init.lua` and `kong/status/init.lua`; limits are nginx's.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use store::admin::{Call, Reply};
use store::conf::{Database, Listen, Settings};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::certificates::{self, Shown};
use crate::logs::{AccessLog, Logs, Side};

mod http;

/// How often an address in use is tried, and how long it rests between two tries: as long as nginx
/// tries, two and a half seconds.
const PROBES_MAX: usize = 50;
const PROBE_REST: std::time::Duration = std::time::Duration::from_millis(50);

/// Most connections at one time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 1_024;
/// Connections that may wait to be accepted, unless told: nginx's.
const BACKLOG: u32 = 511;
/// Most of them, whatever is told; the kernel's own limit is usually below.
const BACKLOG_MAX: u32 = 65_535;
/// How long accepting rests after it failed (out of descriptors, say).
const ACCEPT_REST: Duration = Duration::from_millis(50);
/// Most bytes of bodies that are read or wait for the store at one time, in units; a call that
/// finds no room waits for it as long as a client may take for its body.
const BODIES_UNITS_MAX: usize = 128 * 1024;
/// One unit.
const BODY_UNIT_BYTES: usize = 1_024;
/// How long a TLS handshake may take.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(30);
/// How long open calls may take when the process stops.
const STOP_WAIT: Duration = Duration::from_millis(1_000);

/// Hands a call to the store; the answer comes back through the callback, once.
pub type Submit = Arc<dyn Fn(Call, Box<dyn FnOnce(Reply) + Send>) + Send + Sync>;

/// What may be asked on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Everything.
    Admin,
    /// Reading `/status` and what is below it.
    Status,
}

/// A bound socket that nobody serves yet.
#[derive(Debug)]
pub struct Port {
    /// Who may connect.
    pub audience: Audience,
    /// Where it is bound.
    pub address: SocketAddr,
    /// Whether connections begin with a TLS handshake.
    pub tls: bool,
    socket: TcpListener,
}

/// Resolves and binds all addresses of `admin_listen` and `status_listen`.
///
/// # Errors
/// One sentence naming the address and the setting.
pub fn bind(settings: &Settings) -> Result<Vec<Port>, String> {
    let mut ports = Vec::new();
    for (name, audience) in [("admin_listen", Audience::Admin), ("status_listen", Audience::Status)]
    {
        for listen in settings.listen(name) {
            let address = resolve(name, &listen)?;
            let socket = bound(name, address, &listen)?;
            let address = socket.local_addr().unwrap_or(address);
            ports.push(Port { audience, address, tls: listen.tls, socket });
        }
    }
    Ok(ports)
}

/// Resolves the addresses of `proxy_listen` and makes sure that nobody listens there.
///
/// The cores share their ports (`SO_REUSEPORT`), and the kernel would let a second gateway share
/// them as well, silently: so each address is bound alone first, and let go again.
///
/// # Errors
/// One sentence naming the address.
pub fn probe(settings: &Settings) -> Result<Vec<(SocketAddr, Listen)>, String> {
    let mut found = Vec::new();
    for listen in settings.listen("proxy_listen") {
        let address = resolve("proxy_listen", &listen)?;
        drop(bound_soon("proxy_listen", address, &listen)?);
        found.push((address, listen));
    }
    Ok(found)
}

/// A process that was killed may hold its sockets for a moment longer: the kernel takes an io_uring
/// apart behind it. So an address in use is tried again for a while.
fn bound_soon(name: &str, address: SocketAddr, listen: &Listen) -> Result<TcpListener, String> {
    for _ in 1..PROBES_MAX {
        match bound(name, address, listen) {
            Err(why) if why.ends_with("already in use") => std::thread::sleep(PROBE_REST),
            ended => return ended,
        }
    }
    bound(name, address, listen)
}

fn resolve(name: &str, listen: &Listen) -> Result<SocketAddr, String> {
    let text = listen.address();
    let mut found = text
        .to_socket_addrs()
        .map_err(|_| format!("{name}: the address {text} cannot be resolved"))?;
    found.next().ok_or_else(|| format!("{name}: the name {text} has no address"))
}

fn bound(name: &str, address: SocketAddr, listen: &Listen) -> Result<TcpListener, String> {
    socket(address, listen).map_err(|fault| {
        let why = match fault.kind() {
            ErrorKind::AddrInUse => "the address is already in use".to_owned(),
            ErrorKind::PermissionDenied => "permission denied".to_owned(),
            ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
            _ => fault.to_string(),
        };
        format!("cannot listen on {address} ({name}): {why}")
    })
}

/// As nginx: an IPv6 address leaves IPv4 alone unless told otherwise, so that `0.0.0.0:80` and
/// `[::]:80` can stand side by side.
fn socket(address: SocketAddr, listen: &Listen) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(listen.ipv6only.unwrap_or(true))?;
    }
    socket.bind(&address.into())?;
    let backlog = listen.backlog.unwrap_or(BACKLOG).min(BACKLOG_MAX);
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// The TLS settings of a port, if connections to it begin with a handshake.
fn tls(port: &Port, shown: &Shown) -> Result<Option<TlsAcceptor>, String> {
    let names = match port.audience {
        Audience::Admin => &shown.admin,
        Audience::Status => &shown.status,
    };
    let Some(names) = names.as_ref().filter(|_| port.tls) else { return Ok(None) };
    certificates::server(names).map(|config| Some(TlsAcceptor::from(config)))
}

/// What every connection shares.
struct Shared {
    submit: Submit,
    /// Largest body of a call, in bytes.
    body_bytes_max: usize,
    /// Whether answers carry `X-Kong-Admin-Latency`.
    latency: bool,
    /// Whether there is no database: the status port then shows upstreams, too.
    declarative: bool,
    /// The value of `Server`; none leaves it out.
    server: Option<&'static str>,
    connections: Arc<Semaphore>,
    /// Room for bodies, in units of [`BODY_UNIT_BYTES`].
    bodies: Semaphore,
}

/// The office's thread for ports. Dropping it does not stop it: call [`Serving::stop`].
pub struct Serving {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Serving {
    /// Serves the ports until [`Serving::stop`].
    ///
    /// # Errors
    /// One sentence: the thread could not be started.
    pub fn start(
        ports: Vec<Port>,
        shown: &Shown,
        settings: &Settings,
        logs: &Logs,
        submit: Submit,
    ) -> Result<Self, String> {
        let cannot = |fault: std::io::Error| format!("cannot start the Admin API: {fault}");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(cannot)?;
        let headers = settings.headers();
        let body = store::conf::Edge::of(settings).admin_body_bytes_max;
        let most = store::admin::ADMIN_BODY_BYTES_MAX;
        let shared = Arc::new(Shared {
            submit,
            body_bytes_max: body.and_then(|n| n.try_into().ok()).unwrap_or(most).min(most),
            latency: headers.contains(&"X-Kong-Admin-Latency"),
            declarative: settings.database() == Database::Off,
            server: headers.contains(&"Server").then_some(http::SERVER),
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            bodies: Semaphore::new(BODIES_UNITS_MAX),
        });
        let (stop, stopped) = watch::channel(false);
        let mut served = Vec::new();
        for port in ports {
            let clients = Clients {
                audience: port.audience,
                address: port.address,
                tls: tls(&port, shown)?,
                log: logs.access(match port.audience {
                    Audience::Admin => Side::Admin,
                    Audience::Status => Side::Status,
                }),
                shared: Arc::clone(&shared),
                stopped: stopped.clone(),
            };
            served.push((clients, port.socket));
        }
        let thread = std::thread::Builder::new()
            .name("tollgate-admin".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    for (clients, socket) in served {
                        tokio::spawn(clients.accept(socket));
                    }
                    let mut stopped = stopped;
                    let _asked = stopped.wait_for(|stop| *stop).await;
                    let all = CONNECTIONS_MAX as u32;
                    let finished = shared.connections.acquire_many(all);
                    let _timely = tokio::time::timeout(STOP_WAIT, finished).await;
                });
            })
            .map_err(cannot)?;
        Ok(Self { stop, thread })
    }

    /// Takes no more calls, lets open ones finish for at most a second, and ends the thread.
    pub fn stop(self) {
        let _gone = self.stop.send(true);
        let _joined = self.thread.join();
    }
}

/// Those who connect to one port.
struct Clients {
    audience: Audience,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    log: AccessLog,
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
}

impl Clients {
    /// Accepts until the process stops.
    async fn accept(mut self, socket: TcpListener) {
        let socket = socket.set_nonblocking(true).map(|()| socket);
        let listener = match socket.and_then(tokio::net::TcpListener::from_std) {
            Ok(listener) => listener,
            Err(fault) => {
                log::error!(target: "admin", "cannot serve {}: {fault}", self.address);
                return;
            }
        };
        let places = Arc::clone(&self.shared.connections);
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = self.stopped.wait_for(|stop| *stop) => return,
            };
            match accepted {
                Ok((stream, peer)) => self.serve(stream, peer.ip(), place),
                Err(fault) => {
                    log::warn!(target: "admin", "accepting on {} failed: {fault}", self.address);
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    }

    /// Serves one connection beside the others; `place` is given back at its end.
    fn serve(&self, stream: TcpStream, ip: IpAddr, place: OwnedSemaphorePermit) {
        let _slower = stream.set_nodelay(true);
        let caller = http::Caller { audience: self.audience, ip, log: self.log.sibling() };
        let (shared, stopped) = (Arc::clone(&self.shared), self.stopped.clone());
        let Some(tls) = self.tls.clone() else {
            tokio::spawn(async move {
                http::connection(stream, caller, shared, stopped).await;
                drop(place);
            });
            return;
        };
        tokio::spawn(async move {
            match tokio::time::timeout(HANDSHAKE_WAIT, tls.accept(stream)).await {
                Ok(Ok(stream)) => http::connection(stream, caller, shared, stopped).await,
                Ok(Err(fault)) => {
                    log::debug!(target: "admin", "{ip}: the TLS handshake failed: {fault}");
                }
                Err(_) => log::debug!(target: "admin", "{ip}: the TLS handshake took too long"),
            }
            drop(place);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;

    use super::*;

    /// An office on free ports whose store answers 200 with what it was called with.
    struct Running {
        serving: Serving,
        ports: Vec<SocketAddr>,
        logs: Logs,
        folder: tempfile::TempDir,
        shown: Shown,
        settings: Settings,
    }

    fn start(pairs: &[(&str, &str)]) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let own = [
            ("KONG_ADMIN_LISTEN", "127.0.0.1:0"),
            ("KONG_STATUS_LISTEN", "127.0.0.1:0"),
            ("KONG_ADMIN_ACCESS_LOG", "admin.log"),
            ("KONG_STATUS_ERROR_LOG", "off"),
            ("KONG_PROXY_ERROR_LOG", "off"),
            ("KONG_ADMIN_ERROR_LOG", "off"),
            ("KONG_PROXY_ACCESS_LOG", "off"),
        ];
        let env = own.iter().chain(pairs).map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
        let settings = Settings::of(None, env).unwrap().0;
        let logs = Logs::start(&settings, folder.path()).unwrap();
        let ports = bind(&settings).unwrap();
        std::fs::create_dir(folder.path().join("ssl")).unwrap();
        let shown = Shown::load(&settings, folder.path()).unwrap();
        let addresses = ports.iter().map(|port| port.address).collect();
        let submit: Submit = Arc::new(|call, tell| {
            let words = format!("{} {} {} {}", call.method, call.path, call.query, call.body.len());
            std::thread::spawn(move || tell(Reply::message(200, &words)));
        });
        let serving = Serving::start(ports, &shown, &settings, &logs, submit).unwrap();
        Running { serving, ports: addresses, logs, folder, shown, settings }
    }

    /// Sends bytes to a port and reads to the end.
    fn ask(port: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(port).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8(answer).unwrap()
    }

    #[test]
    fn calls_reach_the_store_and_answers_the_client() {
        let running = start(&[]);
        let admin = running.ports[0];
        let answer = ask(
            admin,
            b"POST /services?a=b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nUser-Agent: t\r\n\r\nabc\
              GET /x%20y HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        );
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/json"),
            "{answer}"
        );
        assert!(answer.contains(r#"{"message":"POST /services a=b 3"}"#), "{answer}");
        assert!(answer.contains(r#"{"message":"GET /x%20y  0"}"#), "{answer}");
        assert!(answer.contains("\r\nX-Kong-Admin-Latency: "), "{answer}");
        assert!(answer.contains(concat!("\r\nServer: tollgate/", env!("CARGO_PKG_VERSION"))));
        let chunked = ask(
            admin,
            b"PUT /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
              2\r\nab\r\n0\r\n\r\n",
        );
        assert!(chunked.contains(r#"{"message":"PUT /c  2"}"#), "{chunked}");
        running.serving.stop();
        running.logs.stop();
        let log = std::fs::read_to_string(running.folder.path().join("admin.log")).unwrap();
        assert_eq!(log.lines().count(), 3, "{log}");
        assert!(log.contains(r#""POST /services?a=b HTTP/1.1" 200 34 "-" "t""#), "{log}");
    }

    #[test]
    fn tls_ports_show_the_newest_certificate() {
        let running = start(&[("KONG_ADMIN_LISTEN", "127.0.0.1:0 ssl")]);
        let folder = running.folder.path();
        let shown = |file: &str| {
            let pem = std::fs::read(folder.join("ssl").join(file)).unwrap();
            CertificateDer::from_pem_slice(&pem).unwrap()
        };
        let ask = |file: &str| {
            let mut trusted = rustls::RootCertStore::empty();
            trusted.add(shown(file)).unwrap();
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(trusted)
                .with_no_client_auth();
            let name = "localhost".try_into().unwrap();
            let session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
            let socket = std::net::TcpStream::connect(running.ports[0]).unwrap();
            let mut stream = rustls::StreamOwned::new(session, socket);
            let request = b"GET /tls HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            let sent = stream.write_all(request);
            let mut answer = Vec::new();
            let _eof = sent.and_then(|()| stream.read_to_end(&mut answer));
            String::from_utf8(answer).unwrap()
        };
        assert!(ask("admin-kong-default.crt").contains(r#"{"message":"GET /tls  0"}"#));
        let before = std::fs::read(folder.join("ssl/admin-kong-default.crt")).unwrap();
        std::fs::remove_file(folder.join("ssl/admin-kong-default.crt")).unwrap();
        running.shown.reload(&running.settings, folder).unwrap();
        assert!(ask("admin-kong-default.crt").contains("GET /tls"), "the new one is shown");
        std::fs::write(folder.join("ssl/old.crt"), before).unwrap();
        assert_eq!(ask("old.crt"), "", "the old one is not");
        running.serving.stop();
    }

    #[test]
    fn what_is_too_large_or_malformed_never_reaches_the_store() {
        let running = start(&[("KONG_NGINX_ADMIN_CLIENT_MAX_BODY_SIZE", "4")]);
        let admin = running.ports[0];
        for (request, status) in [
            (
                "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nabcde",
                "413",
            ),
            (
                "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
                "413",
            ),
            ("nonsense\r\n\r\n", "400"),
        ] {
            let answer = ask(admin, request.as_bytes());
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        }
        running.serving.stop();
    }

    #[test]
    fn the_status_listener_only_reads_status() {
        let running = start(&[("KONG_HEADERS", "off")]);
        let status = running.ports[1];
        for (line, expected) in [
            ("GET /status", "200"),
            ("GET /status/ready", "200"),
            ("POST /status", "405"),
            ("POST /status/ready", "200"),
            ("DELETE /status/ready", "405"),
            ("GET /services", "404"),
            ("GET /upstreams/u/health", "404"),
            ("GET /robots.txt", "200"),
        ] {
            let request = format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let answer = ask(status, request.as_bytes());
            assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{line}: {answer}");
            assert!(!answer.contains("tollgate/") && !answer.contains("Latency"), "{answer}");
        }
        running.serving.stop();
    }

    #[test]
    fn an_address_in_use_is_one_sentence() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let listen = address.to_string();
        let env = [("KONG_ADMIN_LISTEN", "off"), ("KONG_STATUS_LISTEN", &listen)];
        let settings = |env: &[(&str, &str)]| {
            let env = env.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
            Settings::of(None, env).unwrap().0
        };
        let words =
            format!("cannot listen on {address} (status_listen): the address is already in use");
        assert_eq!(bind(&settings(&env)).unwrap_err(), words);
        let words = words.replace("status", "proxy");
        assert_eq!(probe(&settings(&[("KONG_PROXY_LISTEN", &listen)])).unwrap_err(), words);
        let nowhere = settings(&[("KONG_ADMIN_LISTEN", "no.such.name.invalid:1")]);
        let fault = bind(&nowhere).unwrap_err();
        assert_eq!(fault, "admin_listen: the address no.such.name.invalid:1 cannot be resolved");
    }
}

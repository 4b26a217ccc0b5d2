//! Starts, restarts, kills and watches the gateways that are measured.

use std::{
    fs::{self, File},
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    Fault,
    admin::Admin,
    cpu::{self, Usage},
    stream,
};

const START_SECONDS_MAX: u64 = 60;
const STOP_SECONDS_MAX: u64 = 10;
/// Ports that the kernel does not give to outgoing connections.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Files of a server's certificate.
const CERTIFICATE: &str = "server.pem";
const KEY: &str = "server.key";
/// Bytes of a server's last words that a fault repeats.
const LAST_WORDS_BYTES: usize = 2_000;

/// How to start a server.
#[derive(Debug, Clone)]
struct Launch {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    cpus: Vec<usize>,
}

/// A server that this program started. It is killed when dropped.
#[derive(Debug)]
pub struct Server {
    /// What reports call it.
    pub name: String,
    /// Where it proxies.
    pub proxy: SocketAddr,
    /// The same over TLS, HTTP/1 and HTTP/2.
    pub tls: SocketAddr,
    /// The same in HTTP/2 in the clear.
    pub h2c: SocketAddr,
    /// Where its Admin API is; nginx has none.
    pub admin: Option<SocketAddr>,
    /// Its files, removed when it is dropped.
    folder: PathBuf,
    launch: Launch,
    child: Child,
    road: &'static [&'static str],
}

/// How many cores a Tollgate gets, and which CPUs it may use.
#[derive(Debug, Clone)]
pub struct Place {
    /// Road threads.
    pub cores: usize,
    /// CPUs of the whole process.
    pub cpus: Vec<usize>,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// SIGHUP: certificates and logs are opened again.
    Reload,
    /// SIGQUIT: open requests finish first.
    Quit,
    /// SIGTERM: now.
    Term,
}

impl Server {
    /// Starts nginx with `loadtest/nginx.conf`, one worker.
    ///
    /// # Errors
    /// It is not installed, or does not answer within a minute; its last words are in the fault.
    pub fn nginx(upstream: SocketAddr, cpus: &[usize]) -> Result<Self, Fault> {
        let folder = new_folder("nginx")?;
        let (proxy, tls, h2c) = (free_addr()?, free_addr()?, free_addr()?);
        write_certificate(&folder)?;
        let conf = include_str!("../nginx.conf")
            .replace("{listen}", &proxy.to_string())
            .replace("{tls}", &tls.to_string())
            .replace("{h2c}", &h2c.to_string())
            .replace("{upstream}", &upstream.to_string())
            .replace("{folder}", &folder.to_string_lossy());
        let conf_file = folder.join("nginx.conf");
        fs::write(&conf_file, conf)?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let launch = Launch {
            program: find_program("nginx")?,
            arguments: vec!["-p".into(), text(&folder), "-c".into(), text(&conf_file)],
            environment: Vec::new(),
            cpus: cpus.to_vec(),
        };
        let child = launch.start(&folder)?;
        let name = "nginx".to_owned();
        let (admin, road) = (None, &["nginx"][..]);
        let mut server = Self { name, proxy, tls, h2c, admin, folder, launch, child, road };
        server.wait()?;
        Ok(server)
    }

    /// Starts the program `tollgate` on driver `io` (`epoll`, `io_uring`, `auto`) with an empty
    /// store. `more` are further settings as environment variables.
    ///
    /// # Errors
    /// As [`Server::nginx`].
    pub fn tollgate(
        program: &Path,
        io: &str,
        place: &Place,
        more: &[(&str, &str)],
    ) -> Result<Self, Fault> {
        let folder = new_folder("tollgate")?;
        let (proxy, admin) = (free_addr()?, free_addr()?);
        let (tls, h2c) = (free_addr()?, free_addr()?);
        write_certificate(&folder)?;
        let more_ports = "reuseport backlog=16384";
        let listen =
            format!("{proxy} {more_ports}, {tls} ssl http2 {more_ports}, {h2c} http2 {more_ports}");
        let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let own = [
            ("TOLLGATE_IO", io.to_owned()),
            ("TOLLGATE_RING_DIR", ring_folder(&folder)?),
            ("KONG_PREFIX", file("prefix")),
            ("KONG_PROXY_LISTEN", listen),
            ("KONG_SSL_CERT", file(CERTIFICATE)),
            ("KONG_SSL_CERT_KEY", file(KEY)),
            ("KONG_ADMIN_LISTEN", admin.to_string()),
            ("KONG_STATUS_LISTEN", "off".to_owned()),
            ("KONG_ADMIN_GUI_LISTEN", "off".to_owned()),
            ("KONG_NGINX_WORKER_PROCESSES", place.cores.to_string()),
            ("KONG_PROXY_ACCESS_LOG", "off".to_owned()),
            ("KONG_ADMIN_ACCESS_LOG", "off".to_owned()),
            ("KONG_LOG_LEVEL", "warn".to_owned()),
        ];
        let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        let launch = Launch {
            program: program.to_owned(),
            arguments: vec!["start".to_owned()],
            environment: own.chain(more).collect(),
            cpus: place.cpus.clone(),
        };
        let child = launch.start(&folder)?;
        let (name, road) = (format!("tollgate {io}"), &["core-"][..]);
        let admin = Some(admin);
        let mut server = Self { name, proxy, tls, h2c, admin, folder, launch, child, road };
        server.wait()?;
        Ok(server)
    }

    /// Starts the program of `bench/examples/minimal.rs` on event loop `kind`.
    ///
    /// # Errors
    /// As [`Server::nginx`].
    pub fn minimal(
        program: &Path,
        kind: &str,
        upstream: SocketAddr,
        cpus: &[usize],
    ) -> Result<Self, Fault> {
        let folder = new_folder("minimal")?;
        let proxy = free_addr()?;
        let launch = Launch {
            program: program.to_owned(),
            arguments: vec![kind.to_owned(), proxy.to_string(), upstream.to_string()],
            environment: Vec::new(),
            cpus: cpus.to_vec(),
        };
        let child = launch.start(&folder)?;
        let (tls, h2c, admin, road) = (proxy, proxy, None, &["minimal"][..]);
        let name = format!("minimal {kind}");
        let mut server = Self { name, proxy, tls, h2c, admin, folder, launch, child, road };
        server.wait()?;
        Ok(server)
    }

    /// Its Admin API.
    ///
    /// # Errors
    /// It has none.
    pub fn admin(&self) -> Result<Admin, Fault> {
        Ok(Admin::new(self.admin.ok_or("this server has no Admin API")?))
    }

    /// The process and its children.
    pub fn pids(&self) -> Vec<u32> {
        let own = self.child.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
        let children = children.unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        std::iter::once(own).chain(children).collect()
    }

    /// CPU time used so far.
    pub fn usage(&self) -> Usage {
        cpu::usage(&self.pids(), self.road)
    }

    /// Anonymous memory of all its processes in KiB.
    pub fn memory_kib(&self) -> u64 {
        self.pids().iter().filter_map(|pid| cpu::memory_kib(*pid, "status", "RssAnon").ok()).sum()
    }

    /// Moves every thread to `cpus`.
    pub fn move_all(&self, cpus: &[usize]) {
        for thread in self.pids().iter().flat_map(|pid| cpu::threads(*pid).unwrap_or_default()) {
            let _ = cpu::pin(Some(thread.tid), cpus);
        }
    }

    /// Moves every thread that is not on the road to `cpus`, so that the road has its own.
    pub fn move_office(&self, cpus: &[usize]) {
        for thread in self.pids().iter().flat_map(|pid| cpu::threads(*pid).unwrap_or_default()) {
            if !cpu::is_road(&thread.name, self.road) {
                let _ = cpu::pin(Some(thread.tid), cpus);
            }
        }
    }

    /// Lets the road's threads go before all others of their CPUs; false if that was not granted.
    pub fn go_first(&self, first: bool) -> bool {
        let threads = self.pids().into_iter().flat_map(|pid| cpu::threads(pid).unwrap_or_default());
        let mut road = threads.filter(|thread| cpu::is_road(&thread.name, self.road));
        road.all(|thread| cpu::go_first(thread.tid as u32, first))
    }

    /// Kills it as the kernel does when memory is short: SIGKILL, at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends it a signal.
    pub fn end(&self, ending: Ending) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let signal = match ending {
            Ending::Reload => rustix::process::Signal::HUP,
            Ending::Quit => rustix::process::Signal::QUIT,
            Ending::Term => rustix::process::Signal::TERM,
        };
        let _ = rustix::process::kill_process(pid, signal);
    }

    /// Asks it to end (SIGTERM) and waits; true if it ended by itself.
    pub fn stop(&mut self) -> bool {
        self.end(Ending::Term);
        self.wait_end()
    }

    /// Waits at most ten seconds until it has ended; true if it did so by itself.
    pub fn wait_end(&mut self) -> bool {
        let until = Instant::now() + Duration::from_secs(STOP_SECONDS_MAX);
        while Instant::now() < until {
            if let Ok(Some(_)) = self.child.try_wait() {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.kill();
        false
    }

    /// Starts it again after it ended, over the same files and ports.
    ///
    /// # Errors
    /// As [`Server::nginx`].
    pub fn restart(&mut self) -> Result<(), Fault> {
        self.child = self.launch.start(&self.folder)?;
        self.wait()
    }

    /// Waits until it answers.
    fn wait(&mut self) -> Result<(), Fault> {
        let until = Instant::now() + Duration::from_secs(START_SECONDS_MAX);
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("{} ended: {status}\n{}", self.name, self.words()).into());
            }
            let ready = match self.admin {
                Some(addr) => {
                    let answer = Admin::new(addr).call("GET", "/status", &Value::Null);
                    answer.is_ok_and(|(status, _)| status == 200)
                }
                None => TcpStream::connect(self.proxy).is_ok(),
            };
            if ready {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Err(format!("{} does not answer\n{}", self.name, self.words()).into())
    }

    /// The last of what it wrote.
    pub fn words(&self) -> String {
        let text = fs::read(self.folder.join("out.log")).unwrap_or_default();
        let from = text.len().saturating_sub(LAST_WORDS_BYTES);
        String::from_utf8_lossy(&text[from..]).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.stop() {
            self.kill();
        }
        let _ = fs::remove_dir_all(&self.folder);
        if let Ok(rings) = ring_folder(&self.folder) {
            let _ = fs::remove_dir_all(rings);
        }
    }
}

impl Launch {
    fn start(&self, folder: &Path) -> io::Result<Child> {
        let out = File::options().create(true).append(true).open(folder.join("out.log"))?;
        let before = cpu::allowed()?;
        // A child inherits the CPUs of the thread that starts it.
        cpu::pin(None, &self.cpus)?;
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn();
        cpu::pin(None, &before)?;
        child
    }
}

/// A loopback address that nobody listens on.
///
/// # Errors
/// Every port is taken.
pub fn free_addr() -> Result<SocketAddr, Fault> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let width = PORTS.end - PORTS.start;
    let first = (std::process::id() % u32::from(width)) as u16;
    for _ in 0..width {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + (first.wrapping_add(step)) % width;
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(addr).is_ok() {
            return Ok(addr);
        }
    }
    Err("no free port".into())
}

/// A new empty folder for one server.
fn new_folder(name: &str) -> io::Result<PathBuf> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = format!("tollgate-load-{}-{name}-{number}", std::process::id());
    let folder = std::env::temp_dir().join(folder);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A certificate for the server's TLS port.
fn write_certificate(folder: &Path) -> Result<(), Fault> {
    let (certificate, key) = stream::certificate()?;
    fs::write(folder.join(CERTIFICATE), certificate)?;
    Ok(fs::write(folder.join(KEY), key)?)
}

/// The folder of a server's event rings: in shared memory where there is some.
fn ring_folder(folder: &Path) -> io::Result<String> {
    let shared = Path::new("/dev/shm");
    let name = folder.file_name().unwrap_or_default();
    let rings = if shared.is_dir() { shared.join(name) } else { folder.join("rings") };
    fs::create_dir_all(&rings)?;
    Ok(rings.to_string_lossy().into_owned())
}

/// Where a program of that name is installed.
///
/// # Errors
/// Nowhere; says how to install it.
pub fn find_program(name: &str) -> Result<PathBuf, Fault> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    found.ok_or_else(|| format!("{name} is not installed (apt-get install {name})").into())
}

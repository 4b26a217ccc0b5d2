//! A gateway of its own for every test.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use super::http::{self, Response};

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(30);
/// How long a change may take to be seen (the promise is 100 ms; machines are busy).
const CHANGE: Duration = Duration::from_secs(5);

/// A running gateway with a fresh prefix.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) proxy: u16,
    pub(crate) tls: u16,
    pub(crate) admin: u16,
    pub(crate) prefix: tempfile::TempDir,
    env: Vec<(String, String)>,
}

/// The driver that `TOLLGATE_IO` names, else those that this kernel runs. io_uring may be forbidden:
/// then one loud line says so.
pub(crate) fn drivers() -> Vec<&'static str> {
    static NAMED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let named = NAMED.get_or_init(|| std::env::var("TOLLGATE_IO").ok()).as_deref();
    if let Some(name) = named.filter(|name| !matches!(*name, "" | "auto")) {
        return vec![name];
    }
    static URING: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    let uring = *URING.get_or_init(|| {
        let probe = Gateway::try_start("io_uring", &[]);
        if probe.is_none() {
            eprintln!("!!! this kernel gives no io_uring: these tests run on epoll alone !!!");
        }
        probe.is_some()
    });
    if uring { vec!["epoll", "io_uring"] } else { vec!["epoll"] }
}

/// A port that nobody listens on, below the range of outgoing connections.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let first = 12_000 + (std::process::id() % 150) as u16 * 100;
        let port = first + step % 5_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Gateway {
    /// Starts one on a driver, with settings beside the usual ones.
    pub(crate) fn start(driver: &str, env: &[(&str, &str)]) -> Self {
        Self::try_start(driver, env).expect("the gateway starts")
    }

    fn try_start(driver: &str, env: &[(&str, &str)]) -> Option<Self> {
        let prefix = tempfile::tempdir().unwrap();
        let (proxy, tls, admin) = (free_port(), free_port(), free_port());
        let mut all = vec![
            ("KONG_PREFIX", prefix.path().display().to_string()),
            ("KONG_PROXY_LISTEN", format!("127.0.0.1:{proxy} http2, 127.0.0.1:{tls} ssl http2")),
            ("KONG_ADMIN_LISTEN", format!("127.0.0.1:{admin}")),
            ("KONG_STATUS_LISTEN", "off".to_owned()),
            ("KONG_PLUGINS", "bundled,moesif".to_owned()),
            ("KONG_NGINX_MAIN_WORKER_PROCESSES", "2".to_owned()),
            ("TOLLGATE_IO", driver.to_owned()),
        ];
        if !env.iter().any(|(name, _)| *name == "KONG_DATABASE") {
            all.extend(postgres());
        }
        all.extend(env.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let env: Vec<_> = all.into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
        if env.iter().any(|(name, _)| name == "KONG_PG_SCHEMA") {
            bootstrap(&env);
        }
        let child = spawn(&env);
        let mut gateway = Self { child, proxy, tls, admin, prefix, env };
        gateway.wait().then_some(gateway)
    }

    /// Waits until the Admin API answers; false if the process ended.
    fn wait(&mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < START {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if self.is_ready() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the gateway does not listen after {START:?}");
    }

    /// Whether the Admin API answers; its port is bound before the proxy's are.
    fn is_ready(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.admin)) else { return false };
        stream.set_read_timeout(Some(START)).unwrap();
        let mut answer = [0; 12];
        let asked = b"GET /status/ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let told = stream.write_all(asked).and_then(|()| stream.read_exact(&mut answer));
        told.is_ok() && &answer == b"HTTP/1.1 200"
    }

    /// Ends it at once, as `kill -9` does, and starts it again on the same prefix and ports.
    pub(crate) fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(&self.env);
        let waited = self.wait();
        let said = std::fs::read_to_string(self.prefix.path().join("stderr"));
        assert!(waited, "the gateway starts again: {said:?}");
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn terminate(&mut self) -> std::process::ExitStatus {
        self.signal(rustix::process::Signal::TERM)
    }

    /// Asks it to end when its open requests are done, and does not wait.
    pub(crate) fn begin_to_quit(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::QUIT).unwrap();
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ended(&mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }

    /// Asks it to read its files again.
    pub(crate) fn reload(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    }

    /// Waits until its log has these words.
    pub(crate) fn said(&self, words: &str) {
        let (begun, file) = (Instant::now(), self.prefix.path().join("logs/error.log"));
        while !std::fs::read_to_string(&file).unwrap_or_default().contains(words) {
            assert!(begun.elapsed() < CHANGE, "the log does not say: {words}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn signal(&mut self, signal: rustix::process::Signal) -> std::process::ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
        self.child.wait().unwrap()
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the process holds of the machine's memory.
    pub(crate) fn resident_bytes(&self) -> usize {
        let path = format!("/proc/{}/statm", self.child.id());
        let pages = std::fs::read_to_string(path).unwrap();
        pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
    }

    /// A call of the Admin API with a form, which must succeed.
    pub(crate) fn post(&self, path: &str, form: &str) -> serde_json::Value {
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        let reply = http::call(self.admin, "POST", path, &headers, form.as_bytes());
        assert_eq!(reply.status, 201, "POST {path} {form}: {}", reply.text());
        reply.json()
    }

    /// A call of the Admin API.
    pub(crate) fn admin(&self, method: &str, path: &str, json: &serde_json::Value) -> Response {
        let headers = [("Content-Type", "application/json")];
        http::call(self.admin, method, path, &headers, json.to_string().as_bytes())
    }

    /// A service and a route for it under a path.
    pub(crate) fn route(&self, path: &str, upstream: u16) {
        let name = path.trim_start_matches('/');
        self.post("/services", &format!("name={name}&url=http://127.0.0.1:{upstream}"));
        self.post(&format!("/services/{name}/routes"), &format!("name={name}&paths[]={path}"));
        self.until(path, |response| response.status != 404);
    }

    /// Repeats a GET until its response is as wanted.
    pub(crate) fn until(&self, target: &str, wanted: impl Fn(&Response) -> bool) -> Response {
        let begun = Instant::now();
        loop {
            let response = http::get(self.proxy, target, &[]);
            if wanted(&response) {
                return response;
            }
            assert!(begun.elapsed() < CHANGE, "{target} stays {response:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Settings that put a gateway on the Postgres that `TOLLGATE_TEST_PG` names (`HOST:PORT/DATABASE`,
/// where everybody may log in as `postgres`), each in a schema of its own: so the tests of this
/// folder run on it too. Nothing without it: the embedded store.
fn postgres() -> Vec<(&'static str, String)> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let Ok(place) = std::env::var("TOLLGATE_TEST_PG") else { return Vec::new() };
    let (addr, database) = place.split_once('/').expect("HOST:PORT/DATABASE");
    let (host, port) = addr.split_once(':').expect("HOST:PORT");
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    vec![
        ("KONG_DATABASE", "postgres".to_owned()),
        ("KONG_PG_HOST", host.to_owned()),
        ("KONG_PG_PORT", port.to_owned()),
        ("KONG_PG_USER", "postgres".to_owned()),
        ("KONG_PG_DATABASE", database.to_owned()),
        ("KONG_PG_SCHEMA", format!("test_{}_{number}", std::process::id())),
    ]
}

fn bootstrap(env: &[(String, String)]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(["migrations", "bootstrap"]).env_clear();
    let output = command.envs(env.iter().map(|(n, v)| (n, v))).output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn spawn(env: &[(String, String)]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .arg("start")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("RUST_BACKTRACE", "1")
        .env("TOLLGATE_RING_DIR", rings(env))
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(words(env))
        .spawn()
        .expect("the program runs")
}

/// Rings lie under the prefix and go with it: a gateway that a test kills leaves no shared memory.
fn rings(env: &[(String, String)]) -> std::path::PathBuf {
    let folder = prefix(env).join("rings");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn prefix(env: &[(String, String)]) -> &std::path::Path {
    let prefix = env.iter().find(|(name, _)| name == "KONG_PREFIX").map(|(_, value)| value);
    std::path::Path::new(prefix.unwrap())
}

/// A file under the prefix takes what the program says, so that a failed start tells why.
fn words(env: &[(String, String)]) -> Stdio {
    let file = prefix(env).join("stderr");
    Stdio::from(std::fs::File::options().create(true).append(true).open(file).unwrap())
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _ended = self.child.wait();
    }
}

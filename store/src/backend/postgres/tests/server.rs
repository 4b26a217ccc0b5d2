//! A real PostgreSQL for tests: its own folder below the target folder, a free loopback port, gone
//! when it is dropped.
//!
//! Postgres refuses to run as root, so root runs it as the user `postgres` (or `nobody`), to whom
//! the folder is given. A shell watches over it: when its standard input closes, which the kernel
//! does however a test ends, it stops the server by its process id.

use super::super::settings::{PostgresPlan, Server};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use uuid::Uuid;

const MISSING: &str = "PostgreSQL 15 is not installed: on Debian, `apt-get install postgresql`";
/// Runs the server `$0` on the folder `$1` until the input ends.
const WATCH: &str = "\"$0\" -D \"$1\" & pid=$!; cat >/dev/null; \
    kill -CONT $pid 2>/dev/null; kill -QUIT $pid 2>/dev/null; wait $pid; \
    [ -z \"$2\" ] || rm -rf \"$2\"";
/// How often a start is looked at, and how many times.
const LOOK: (Duration, u32) = (Duration::from_millis(50), 1_200);

/// A running server.
pub(crate) struct Postgres {
    child: Option<Child>,
    folder: tempfile::TempDir,
    port: u16,
    /// The shell removes the folder, because nobody else will.
    leaves_nothing: bool,
}

/// Where the server's programs are: beside the one in PATH, or in Debian's folders.
fn programs() -> PathBuf {
    let mut folders: Vec<PathBuf> =
        std::env::split_paths(&std::env::var_os("PATH").unwrap()).collect();
    for version in (9..30).rev() {
        folders.push(format!("/usr/lib/postgresql/{version}/bin").into());
    }
    // A name in PATH may be a link: what stands beside the program itself belongs to it.
    let found = folders.into_iter().find_map(|folder| fs::canonicalize(folder.join("initdb")).ok());
    let found = found.unwrap_or_else(|| panic!("{MISSING}"));
    found.parent().unwrap().to_owned()
}

/// The user and group that run it; none: whoever we are.
fn user() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own)).unwrap() != 0
    {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        let mut parts = line.split(':').skip(2);
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    Some(ids("postgres").or_else(|| ids("nobody")).expect("a user who is not root"))
}

/// The server's user may empty its folder at the end, but not remove it from ours.
fn forget_empty_folders(target: &Path) {
    const OLD: Duration = Duration::from_secs(60);
    for entry in fs::read_dir(target).unwrap().flatten() {
        let age = entry.metadata().and_then(|known| known.modified());
        let age = age.ok().and_then(|changed| changed.elapsed().ok());
        if age.is_some_and(|age| age > OLD) {
            let _not_empty = fs::remove_dir(entry.path());
        }
    }
}

pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin").current_dir("/");
    if let Some((user, group)) = user() {
        command.uid(user).gid(group);
    }
    command
}

/// A port below the range of outgoing connections that nobody listens on.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 18_000 + (std::process::id() * 37 + step * 11) % 12_000;
        let port = u16::try_from(port).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A folder below the target folder that belongs to who runs the server.
fn new_folder() -> tempfile::TempDir {
    let target = std::env::var_os("CARGO_TARGET_TMPDIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| {
        let program = std::env::current_exe().unwrap();
        program.ancestors().nth(3).unwrap().join("tmp")
    });
    fs::create_dir_all(&target).unwrap();
    forget_empty_folders(&target);
    let folder = tempfile::Builder::new().prefix("pg").tempdir_in(&target);
    let folder = folder.unwrap();
    let reachable = folder.path().ancestors().all(|up| {
        fs::metadata(up).is_ok_and(|known| known.permissions().mode() & 0o001 != 0)
            || up == folder.path()
    });
    // Another user cannot pass through folders that are closed to it.
    let folder = if reachable || user().is_none() { folder } else { tempfile::tempdir().unwrap() };
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    if let Some((user, group)) = user() {
        chown(folder.path(), Some(user), Some(group)).unwrap();
    }
    folder
}

impl Postgres {
    /// Makes a cluster and starts it, with lines of `postgresql.conf` besides.
    pub(crate) fn start(conf: &str, runs: bool) -> Self {
        let folder = new_folder();
        let cluster = folder.path().join("data");
        let made = command(&programs().join("initdb"))
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "-D"])
            .arg(&cluster)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut server = Self { child: None, folder, port: free_port(), leaves_nothing: false };
        server.configure(&format!(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = off\n\
             full_page_writes = off\nshared_buffers = '16MB'\n{conf}\n"
        ));
        if runs {
            server.run();
        }
        server
    }

    /// Adds lines to its settings, its port among them.
    fn configure(&self, lines: &str) {
        let file = self.data().join("postgresql.conf");
        let text = fs::read_to_string(&file).unwrap() + lines + &format!("port = {}\n", self.port);
        fs::write(&file, text).unwrap();
    }

    /// A replica that follows it, running.
    pub(crate) fn replica(&self) -> Self {
        let folder = new_folder();
        let data = folder.path().join("data");
        let made = command(&programs().join("pg_basebackup"))
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres"])
            .args(["-R", "-X", "stream", "-c", "fast", "--no-sync", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut replica = Self { child: None, folder, port: free_port(), leaves_nothing: false };
        replica.configure("");
        replica.run();
        replica
    }

    /// Takes the place of a server that is gone: its address, and its writes.
    pub(crate) fn take_over(&mut self, gone: &Self) {
        self.stop();
        self.port = gone.port;
        self.configure("");
        self.run();
        self.sql("postgres", "SELECT pg_promote(true, 60)").unwrap();
    }

    /// Writes a file into the folder of its data.
    pub(crate) fn file(&self, name: &str, text: &str) {
        let path = self.data().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if let Some((user, group)) = user() {
            chown(&path, Some(user), Some(group)).unwrap();
        }
    }

    /// The folder that is its own.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// The one server that tests share, each with a database of its own. It ends with the process.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| {
            let mut shared = Self::start("max_connections = 200", false);
            shared.leaves_nothing = true;
            shared.run();
            shared
        })
    }

    /// The server's own process.
    fn pid(&self) -> Option<String> {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        file.lines().next().map(str::to_owned)
    }

    /// The folder of its data.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Starts the program, and waits until it answers.
    pub(crate) fn run(&mut self) {
        let mut command = command(Path::new("/bin/sh"));
        command.args(["-c", WATCH]).arg(programs().join("postgres")).arg(self.data());
        command.arg(if self.leaves_nothing { self.folder.path() } else { Path::new("") });
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        command.stderr(fs::File::create(self.folder.path().join("log")).unwrap());
        // Its own group, so that a Ctrl-C of the tests' terminal is not its business.
        command.process_group(0);
        self.child = Some(command.spawn().unwrap());
        for _ in 0..LOOK.1 {
            if self.sql("postgres", "SELECT 1").is_ok() {
                return;
            }
            std::thread::sleep(LOOK.0);
        }
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        panic!("PostgreSQL does not start: {log}");
    }

    /// Stops it at once, as a crash does.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
    }

    /// Freezes, or thaws, the server's process and all its children.
    pub(crate) fn freeze(&self, frozen: bool) {
        let name = if frozen { "-STOP" } else { "-CONT" };
        let Some(parent) = self.pid() else { return };
        let listed = Command::new("ps").args(["-o", "pid=", "--ppid", &parent]).output().unwrap();
        let children = String::from_utf8(listed.stdout).unwrap();
        for pid in children.split_whitespace().chain([parent.as_str()]) {
            let _gone = Command::new("kill").args([name, pid]).stderr(Stdio::null()).status();
        }
    }

    /// Where it is, for a database of it.
    pub(crate) fn server(&self, database: &str) -> Server {
        Server {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            database: database.to_owned(),
            schema: String::new(),
            user: "postgres".to_owned(),
            password: None,
            timeout_ms: 5_000,
            ssl: false,
            ssl_verify: false,
            trusted: Vec::new(),
            client: None,
        }
    }

    /// A plan for a node on a database of it.
    pub(crate) fn plan(&self, database: &str, node: u128) -> PostgresPlan {
        PostgresPlan {
            server: self.server(database),
            replica: None,
            node_id: Uuid::from_u128(node),
            poll_ms: 60_000,
            propagation_s: 0,
            saved: None,
        }
    }

    /// Runs statements; gives the rows of all of them, a cell a text.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> Result<Vec<Vec<String>>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = super::super::link::connect_alone(&self.server(database)).await?;
            let told = client
                .simple_query(sql)
                .await
                .map_err(|error| super::super::link::words(&error))?;
            let rows = told.iter().filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            });
            let cell = |text: Option<&str>| text.unwrap_or_default().to_owned();
            Ok(rows.map(|row| (0..row.len()).map(|at| cell(row.get(at))).collect()).collect())
        })
    }

    /// Makes an empty database.
    pub(crate) fn database(&self, name: &str) {
        self.sql("postgres", &format!("CREATE DATABASE {name}")).unwrap();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

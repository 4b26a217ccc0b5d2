//! A PostgreSQL of its own: started, frozen, killed, copied to a replica, gone when it is dropped.
//!
//! Postgres refuses to run as root, so root runs it as the user `postgres` (or `nobody`). A shell
//! watches over it: when its standard input closes, which the kernel does however we end, it stops
//! the server by its process id.

use std::{
    collections::BTreeMap,
    fs,
    net::{SocketAddr, TcpStream},
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Fault, servers::free_addr};

/// Runs the server `$0` on the folder `$1` until the input ends.
const WATCH: &str = "\"$0\" -D \"$1\" & pid=$!; cat >/dev/null; kill -CONT $pid 2>/dev/null; \
     kill -QUIT $pid 2>/dev/null; wait $pid";
const START_SECONDS_MAX: u64 = 60;
/// Versions whose folders are looked at where Debian keeps them.
const VERSIONS: std::ops::Range<u32> = 10..30;
/// Between two cells of a row in the output of `psql`.
const CELL: &str = "\u{1f}";
/// The one who may do everything.
const OWNER: &str = "postgres";

/// A server with its files.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
}

/// The program, beside `psql` or where Debian keeps it.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian =
        VERSIONS.rev().map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin")));
    let folders = std::env::split_paths(&path).chain(debian);
    // A wrapper in PATH may choose the version by itself: the real folder holds the server too.
    folders.map(|folder| folder.join(name)).find(|file| {
        file.is_file() && file.parent().is_some_and(|folder| folder.join("postgres").is_file())
    })
}

/// The user and group that run it; none: whoever we are.
fn runner() -> Option<(u32, u32)> {
    if !rustix::process::getuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        let mut parts = line.split(':').skip(2);
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    ids("postgres").or_else(|| ids("nobody"))
}

/// A program that is run as the one who runs the server.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin").current_dir("/");
    if let Some((user, group)) = runner() {
        command.uid(user).gid(group);
    }
    command
}

/// A folder that belongs to who runs the server.
///
/// # Errors
/// The disk's.
pub fn own(folder: &Path) -> Result<(), Fault> {
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    if let Some((user, group)) = runner() {
        chown(folder, Some(user), Some(group))?;
    }
    Ok(())
}

fn done(command: &mut Command) -> Result<String, Fault> {
    let output = command.stdin(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
    }
}

fn new_folder() -> Result<PathBuf, Fault> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = format!("tollgate-load-{}-postgres-{number}", std::process::id());
    let folder = std::env::temp_dir().join(folder);
    own(&folder)?;
    Ok(folder)
}

impl Cluster {
    /// Makes a cluster and starts it, with lines of `postgresql.conf` besides; none where
    /// PostgreSQL is not installed.
    ///
    /// # Errors
    /// What `initdb` says, or that the server does not start.
    pub fn make(conf: &str) -> Result<Option<Self>, Fault> {
        let Some(initdb) = program("initdb") else { return Ok(None) };
        let mut cluster = Self { folder: new_folder()?, port: free_addr()?.port(), child: None };
        let options = ["-U", OWNER, "-A", "trust", "-E", "UTF8", "--no-sync", "-D"];
        done(command(&initdb).args(options).arg(cluster.data()))?;
        cluster.configure(&format!(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\n{conf}\n"
        ))?;
        cluster.start()?;
        Ok(Some(cluster))
    }

    /// Adds lines to its settings, its port among them.
    fn configure(&self, lines: &str) -> Result<(), Fault> {
        let file = self.data().join("postgresql.conf");
        let text = fs::read_to_string(&file)? + lines + &format!("port = {}\n", self.port);
        Ok(fs::write(&file, text)?)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Starts the program, and waits until it answers.
    ///
    /// # Errors
    /// It does not; its last words are in the fault.
    pub fn start(&mut self) -> Result<(), Fault> {
        self.end();
        let server = program("postgres").ok_or("PostgreSQL is not installed")?;
        let mut watch = command(Path::new("/bin/sh"));
        watch.args(["-c", WATCH]).arg(server).arg(self.data());
        watch.stdin(Stdio::piped()).stdout(Stdio::null());
        watch.stderr(fs::File::create(self.folder.join("log"))?);
        watch.process_group(0);
        self.child = Some(watch.spawn()?);
        let until = Instant::now() + Duration::from_secs(START_SECONDS_MAX);
        while Instant::now() < until {
            if self.sql("postgres", "SELECT 1").is_ok() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        Err(format!("PostgreSQL does not start: {log}").into())
    }

    /// Runs statements as the owner; the rows of the last one, a cell a text.
    ///
    /// # Errors
    /// What `psql` says.
    pub fn sql(&self, database: &str, sql: &str) -> Result<Vec<Vec<String>>, Fault> {
        let psql = program("psql").ok_or("psql is not installed")?;
        let port = self.port.to_string();
        let login = ["-h", "127.0.0.1", "-p", &port, "-U", OWNER, "-d", database];
        let output = ["-X", "-q", "-A", "-t", "-F", CELL, "-v", "ON_ERROR_STOP=1", "-c", sql];
        let mut command = command(&psql);
        command.env("PGCONNECT_TIMEOUT", "5").args(login).args(output);
        let text = done(&mut command)?;
        let lines = text.lines().filter(|line| !line.is_empty());
        Ok(lines.map(|line| line.split(CELL).map(str::to_owned).collect()).collect())
    }

    /// How often each text stands in the one column of a query.
    ///
    /// # Errors
    /// As [`Cluster::sql`].
    pub fn counts(&self, database: &str, sql: &str) -> Result<BTreeMap<String, u64>, Fault> {
        let mut counts = BTreeMap::new();
        for mut row in self.sql(database, sql)? {
            *counts.entry(row.swap_remove(0)).or_default() += 1;
        }
        Ok(counts)
    }

    /// Its own processes.
    fn pids(&self) -> Vec<Pid> {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let Some(own) = file.lines().next().and_then(|line| line.trim().parse::<i32>().ok()) else {
            return Vec::new();
        };
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
        let children = children.unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        std::iter::once(own).chain(children).filter_map(Pid::from_raw).collect()
    }

    fn signal(&self, signal: Signal) {
        for pid in self.pids() {
            let _gone = kill_process(pid, signal);
        }
    }

    /// Stops all its processes where they stand, or lets them go on.
    pub fn freeze(&self, frozen: bool) {
        self.signal(if frozen { Signal::STOP } else { Signal::CONT });
    }

    /// Kills all its processes at once.
    pub fn crash(&mut self) {
        self.signal(Signal::KILL);
        self.end();
    }

    /// Makes a replica that follows this one, and starts it. `moved` are tablespaces' folders, here
    /// and there.
    ///
    /// # Errors
    /// What `pg_basebackup` says, or that the replica does not start.
    pub fn replica(&self, moved: Option<(&Path, &Path)>) -> Result<Self, Fault> {
        let copy = program("pg_basebackup").ok_or("pg_basebackup is not installed")?;
        let mut replica = Self { folder: new_folder()?, port: free_addr()?.port(), child: None };
        let port = self.port.to_string();
        let mut command = command(&copy);
        command.args(["-h", "127.0.0.1", "-p", &port, "-U", OWNER]);
        command.args(["-R", "-X", "stream", "-c", "fast", "-D"]).arg(replica.data());
        if let Some((here, there)) = moved {
            own(there)?;
            command.arg("-T").arg(format!("{}={}", here.display(), there.display()));
        }
        done(&mut command)?;
        replica.configure("")?;
        replica.start()?;
        Ok(replica)
    }

    /// Makes the replica the server; returns when it takes writes.
    ///
    /// # Errors
    /// As [`Cluster::sql`].
    pub fn promote(&self) -> Result<(), Fault> {
        self.sql("postgres", "SELECT pg_promote(true, 60)")?;
        Ok(())
    }

    /// Ends the watching shell, and with it the server.
    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            let _ended = child.wait();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.freeze(false);
        self.end();
        let _gone = fs::remove_dir_all(&self.folder);
    }
}

/// Whether something listens there.
pub fn listens(addr: SocketAddr) -> bool {
    TcpStream::connect_timeout(&addr, Duration::from_secs(1)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_lives_dies_and_is_followed() {
        let conf = "fsync = off\nshared_buffers = '16MB'";
        let Some(mut first) = Cluster::make(conf).unwrap() else {
            println!("PostgreSQL is not installed: nothing was tried");
            return;
        };
        let replica = first.replica(None).unwrap();
        first.sql("postgres", "CREATE TABLE t (n text)").unwrap();
        first.sql("postgres", "INSERT INTO t VALUES ('a'), ('a'), ('b')").unwrap();
        let counts = |cluster: &Cluster| {
            let counts = cluster.counts("postgres", "SELECT n FROM t").unwrap_or_default();
            counts.into_iter().collect::<Vec<_>>()
        };
        let all = [("a".to_owned(), 2), ("b".to_owned(), 1)];
        assert_eq!(counts(&first), all);
        for _ in 0..1_000 {
            if counts(&replica) == all {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        first.crash();
        assert!(!listens(first.addr()));
        assert!(replica.sql("postgres", "INSERT INTO t VALUES ('c')").is_err());
        replica.promote().unwrap();
        replica.sql("postgres", "INSERT INTO t VALUES ('c')").unwrap();
        assert_eq!(counts(&replica).len(), 3);
    }
}

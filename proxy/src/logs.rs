//! Log lines: the error log behind the `log` crate, and the access logs.
//!
//! ```text
//!   any thread  log::warn!(…) ── one line ──────┐
//!   core        AccessLog ── a buffer of lines ─┼─► bounded queue ─► writer thread ─► files
//!   admin       AccessLog ──────────────────────┘      (full: counted, never waited for)
//! ```
//! Handing a line over takes no lock and never blocks: the writer polls and is only unparked.
//! Kong's levels are the filter. Ours map onto them so that Kong's default `notice` shows what
//! `log::info!` says: error, warn, info = notice, debug = info, trace = debug.
//!
//! Times are UTC. Source of both formats: nginx, and Kong's `kong_log_format`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;

use log::{Level, LevelFilter, Metadata, Record};
use runtime::clock;
use store::admin::LogLevel;
use store::conf::Settings;

mod access;
mod writer;

use access::Style;
pub use access::{AccessLog, End, Line, More};
use writer::{Queue, Sink, Target};

/// Kong's names for levels, from chatty to silent.
const LEVELS: [&str; 8] = ["debug", "info", "notice", "warn", "error", "crit", "alert", "emerg"];
/// Longest line of the error log, in bytes; the rest is cut off.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// The crates whose lines are shown at every level; others only warn, except at `debug`.
const OURS: &[&str] =
    &["tollgate", "proxy", "store", "plugins", "runtime", "exporter", "admin", "status"];

/// The level in force, and when the one before it returns.
struct Dial {
    /// Position in [`LEVELS`].
    level: AtomicU8,
    usual: AtomicU8,
    /// Monotonic microseconds; 0 is never.
    until_us: AtomicU64,
}

impl Dial {
    fn set(&self, level: u8) {
        self.level.store(level, Ordering::Relaxed);
        log::set_max_level(match level {
            0 => LevelFilter::Trace,
            1 => LevelFilter::Debug,
            2 => LevelFilter::Info,
            3 => LevelFilter::Warn,
            4 => LevelFilter::Error,
            _ => LevelFilter::Off,
        });
    }

    /// Takes a temporary level back when its time is over.
    fn tick(&self) {
        let until_us = self.until_us.load(Ordering::Relaxed);
        if until_us != 0 && clock::now_us() >= until_us {
            self.until_us.store(0, Ordering::Relaxed);
            self.set(self.usual.load(Ordering::Relaxed));
        }
    }
}

/// Crates that only warn at `debug`, too: what they dump are requests to Moesif with their
/// application id and all events in them.
const SECRETIVE: &[&str] = &["ureq", "ureq_proto"];

/// Whether a line of this target is shown at a level of [`LEVELS`].
fn is_shown(level: u8, target: &str, line: Level) -> bool {
    let root = target.split("::").next().unwrap_or_default();
    let said = OURS.contains(&root) || (level == 0 && !SECRETIVE.contains(&root));
    said || line <= Level::Warn
}

/// Where error lines go: the proxy's own, the Admin API's, the status listener's.
struct Sinks {
    proxy: Option<Sink>,
    admin: Option<Sink>,
    status: Option<Sink>,
}

/// The backend of the `log` crate.
struct Backend {
    queue: Arc<Queue>,
    dial: Arc<Dial>,
    sinks: Sinks,
}

impl log::Log for Backend {
    fn enabled(&self, about: &Metadata<'_>) -> bool {
        is_shown(self.dial.level.load(Ordering::Relaxed), about.target(), about.level())
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let target = record.target();
        let sink = match target.split("::").next() {
            Some("admin") => self.sinks.admin,
            Some("status") => self.sinks.status,
            Some("store") if target.starts_with("store::admin") => self.sinks.admin,
            _ => self.sinks.proxy,
        };
        if let Some(sink) = sink {
            self.queue.put(sink, error_line(record), 1);
        }
    }

    fn flush(&self) {}
}

/// `2026/01/31 12:00:00 [notice] 12#34: words`, cut at [`LINE_BYTES_MAX`], one line always.
fn error_line(record: &Record<'_>) -> Vec<u8> {
    let level = match record.level() {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "notice",
        Level::Debug => "info",
        Level::Trace => "debug",
    };
    let time = access::utc(clock::wall_us(), "%Y/%m/%d %H:%M:%S");
    let pid = std::process::id();
    let thread = rustix::thread::gettid().as_raw_nonzero();
    let words = record.args().to_string().replace(['\n', '\r'], " ");
    let mut line = format!("{time} [{level}] {pid}#{thread}: {words}").into_bytes();
    line.truncate(LINE_BYTES_MAX);
    line.push(b'\n');
    line
}

/// The running logs. One per process, started before anything that may have something to say.
pub struct Logs {
    queue: Arc<Queue>,
    dial: Arc<Dial>,
    thread: Option<JoinHandle<()>>,
    access: [(Option<Sink>, Style); 3],
}

/// Which access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Requests through the proxy (`proxy_access_log`).
    Proxy,
    /// Calls of the Admin API (`admin_access_log`).
    Admin,
    /// Calls of the status listener (`status_access_log`).
    Status,
}

impl Logs {
    /// Opens the files, starts the writer and becomes the process's log.
    ///
    /// # Errors
    /// One sentence: a file that cannot be opened, or a target that is not built.
    pub fn start(settings: &Settings, prefix: &Path) -> Result<Self, String> {
        let mut targets = Vec::new();
        let mut sink = |name: &str| -> Result<Option<Sink>, String> {
            let text = settings.text(name).unwrap_or("off");
            let target = Target::of(text, prefix).map_err(|why| format!("{name}: {why}"))?;
            Ok(target.map(|target| Sink::among(&mut targets, target)))
        };
        let sinks = Sinks {
            proxy: sink("proxy_error_log")?,
            admin: sink("admin_error_log")?,
            status: sink("status_error_log")?,
        };
        let mut access = [(None, Style::default()); 3];
        let names = ["proxy_access_log", "admin_access_log", "status_access_log"];
        for (own, name) in access.iter_mut().zip(names) {
            *own = (sink(name)?, Style::of(settings.text(name).unwrap_or_default()));
        }
        let level = settings.text("log_level").and_then(position).unwrap_or(2);
        let dial = Arc::new(Dial {
            level: AtomicU8::new(level),
            usual: AtomicU8::new(level),
            until_us: AtomicU64::new(0),
        });
        let shared = Arc::clone(&dial);
        let (queue, thread) = writer::start(targets, sinks.proxy, move || shared.tick())?;
        let backend = Backend { queue: Arc::clone(&queue), dial: Arc::clone(&dial), sinks };
        if log::set_boxed_logger(Box::new(backend)).is_ok() {
            dial.set(level);
        }
        Ok(Self { queue, dial, thread: Some(thread), access })
    }

    /// An access log for one core or thread. Flush it now and then, and before the end.
    #[must_use]
    pub fn access(&self, side: Side) -> AccessLog {
        let [proxy, admin, status] = self.access;
        let (sink, style) = match side {
            Side::Proxy => proxy,
            Side::Admin => admin,
            Side::Status => status,
        };
        AccessLog::new(Arc::clone(&self.queue), sink, style)
    }

    /// Opens all files again, so that what was moved away is let go (`logrotate`).
    pub fn reopen(&self) {
        self.queue.reopen();
    }

    /// Lines that were lost because the queue was full or a file could not be written.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.queue.lost()
    }

    /// Reads or sets the level by Kong's name, for `GET` and `PUT /debug/node/log-level`.
    ///
    /// A change holds for so many seconds (0: for good). Gives the level that was in force.
    pub fn level_dial(&self) -> LogLevel {
        let dial = Arc::clone(&self.dial);
        Box::new(move |change| {
            let before = usize::from(dial.level.load(Ordering::Relaxed));
            if let Some((name, seconds)) = change
                && let Some(level) = position(name)
            {
                let until_us = clock::now_us() + seconds.saturating_mul(1_000_000);
                if seconds == 0 {
                    dial.usual.store(level, Ordering::Relaxed);
                }
                dial.until_us.store(if seconds == 0 { 0 } else { until_us }, Ordering::Relaxed);
                dial.set(level);
            }
            LEVELS.get(before).copied().unwrap_or("notice").to_owned()
        })
    }

    /// Writes what is queued and ends the writer, waiting at most half a second for it.
    pub fn stop(mut self) {
        self.queue.stop();
        if let Some(thread) = self.thread.take()
            && self.queue.ended(std::time::Duration::from_millis(500))
        {
            let _joined = thread.join();
        }
    }
}

fn position(name: &str) -> Option<u8> {
    LEVELS.iter().position(|level| *level == name).and_then(|place| u8::try_from(place).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let env = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::of(None, env).unwrap().0
    }

    #[test]
    fn other_crates_only_warn_and_some_never_tell_more() {
        for (level, target, line, shown) in [
            (2, "exporter::lane", Level::Info, true),
            (2, "h2::proto", Level::Debug, false),
            (2, "ureq", Level::Warn, true),
            (0, "h2::proto", Level::Trace, true),
            (0, "ureq_proto::dump", Level::Trace, false),
            (0, "ureq::unversioned", Level::Debug, false),
        ] {
            assert_eq!(is_shown(level, target, line), shown, "{target}");
        }
    }

    /// Other tests of this process log as well, so only lines that are known are looked for.
    #[test]
    fn lines_reach_their_files_and_rotated_files_are_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&[
            ("KONG_PROXY_ACCESS_LOG", "access.log basic"),
            ("KONG_ADMIN_ACCESS_LOG", "off"),
            ("KONG_PROXY_ERROR_LOG", "error.log"),
            ("KONG_ADMIN_ERROR_LOG", "admin.log"),
            ("KONG_STATUS_ERROR_LOG", "error.log"),
        ]);
        let logs = Logs::start(&settings, folder.path()).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        let wait = |name: &str, words: &str| wait_for(|| read(name).contains(words));
        let mut access = logs.access(Side::Proxy);
        access.line(|line| line.extend_from_slice(b"one"));
        access.flush();
        wait("access.log", "one\n");
        fs::rename(folder.path().join("access.log"), folder.path().join("old.log")).unwrap();
        logs.reopen();
        wait_for(|| folder.path().join("access.log").exists());
        access.line(|line| line.extend_from_slice(b"two"));
        access.flush();
        wait("access.log", "two\n");
        assert_eq!((read("old.log"), read("access.log")), ("one\n".into(), "two\n".into()));
        assert!(logs.access(Side::Admin).is_off());
        log::debug!("not shown at notice");
        log::info!(target: "somebody", "foreign chatter");
        log::warn!(target: "admin", "of the admin");
        log::warn!("trouble\nin two lines");
        wait("error.log", "] ");
        wait("error.log", ": trouble in two lines\n");
        wait("admin.log", "of the admin");
        let mut dial = logs.level_dial();
        assert_eq!(dial(Some(("debug", 0))), "notice");
        assert_eq!(dial(None), "debug");
        log::trace!("shown at debug");
        wait("error.log", "[debug] ");
        drop(access);
        logs.stop();
        let log = read("error.log");
        assert!(log.contains("shown at debug"), "{log}");
        for hidden in ["not shown at notice", "foreign chatter", "of the admin"] {
            assert!(!log.contains(hidden), "{hidden}");
        }
    }

    fn wait_for(done: impl Fn() -> bool) {
        for _ in 0..500 {
            if done() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("it never came");
    }
}

//! The thread that writes log files, and the queue in front of it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

/// Most entries that wait for the writer; an entry is a line or a core's buffer of lines.
pub(super) const QUEUE_ENTRIES_MAX: usize = 1024;
/// Most empty buffers that wait for a core to take them again.
const SPARE_BUFFERS_MAX: usize = 64;
/// How long the writer rests when nobody wakes it.
const REST: Duration = Duration::from_millis(200);

/// What a log setting points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The standard output.
    Stdout,
    /// The standard error.
    Stderr,
    /// A file that is appended to.
    File(PathBuf),
}

impl Target {
    /// Reads the value of a log setting: `off` is none, a relative path is under the prefix, a
    /// second word (nginx's name of a format) is passed over.
    pub(super) fn of(text: &str, prefix: &Path) -> Result<Option<Self>, String> {
        Ok(match text.split_whitespace().next().unwrap_or("off") {
            "off" => None,
            "/dev/stdout" => Some(Self::Stdout),
            "/dev/stderr" | "stderr" => Some(Self::Stderr),
            syslog if syslog.starts_with("syslog:") => {
                return Err("writing to syslog is not built yet".to_owned());
            }
            path => Some(Self::File(prefix.join(path))),
        })
    }

    /// A file that appends. `/dev/stdout` is duplicated, not opened: opening fails on a socket.
    fn open(&self) -> std::io::Result<File> {
        match self {
            Self::Stdout => Ok(File::from(std::io::stdout().as_fd().try_clone_to_owned()?)),
            Self::Stderr => Ok(File::from(std::io::stderr().as_fd().try_clone_to_owned()?)),
            Self::File(path) => {
                if let Some(folder) = path.parent() {
                    std::fs::create_dir_all(folder)?;
                }
                OpenOptions::new().create(true).append(true).open(path)
            }
        }
    }
}

/// A position in the list of open targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sink(usize);

impl Sink {
    /// The sink of a target; the same target is opened once.
    pub(super) fn among(targets: &mut Vec<Target>, target: Target) -> Self {
        let place = targets.iter().position(|other| *other == target);
        Self(place.unwrap_or_else(|| {
            targets.push(target);
            targets.len() - 1
        }))
    }
}

struct Entry {
    sink: Sink,
    bytes: Vec<u8>,
    lines: u64,
}

/// The way to the writer. Nobody ever blocks in the channel, so no lock of it is ever taken.
pub(super) struct Queue {
    entries: Sender<Entry>,
    spare: Receiver<Vec<u8>>,
    writer: OnceLock<Thread>,
    lost: AtomicU64,
    reopen: AtomicBool,
    stop: AtomicBool,
    ended: AtomicBool,
}

impl Queue {
    /// Hands bytes over; when the queue is full they are lost and counted.
    pub(super) fn put(&self, sink: Sink, bytes: Vec<u8>, lines: u64) {
        if self.entries.try_send(Entry { sink, bytes, lines }).is_err() {
            self.lost.fetch_add(lines, Ordering::Relaxed);
        }
        self.wake();
    }

    /// An empty buffer, with its room from before if one has come back.
    pub(super) fn buffer(&self) -> Vec<u8> {
        self.spare.try_recv().unwrap_or_default()
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    pub(super) fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
        self.wake();
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether the writer came to its end, waiting for it at most so long.
    pub(super) fn ended(&self, wait: Duration) -> bool {
        let step = Duration::from_millis(5);
        for _ in 0..=wait.as_millis() / step.as_millis() {
            if self.ended.load(Ordering::Acquire) {
                return true;
            }
            std::thread::sleep(step);
        }
        false
    }

    fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }
}

struct Writer {
    queue: Arc<Queue>,
    entries: Receiver<Entry>,
    spare: Sender<Vec<u8>>,
    targets: Vec<Target>,
    files: Vec<File>,
    /// Where it is said that lines were lost.
    complaints: Option<Sink>,
    told: u64,
}

/// Opens the targets and starts the thread; `tick` is called at least five times a second.
///
/// # Errors
/// One sentence naming the file that cannot be opened.
pub(super) fn start(
    targets: Vec<Target>,
    complaints: Option<Sink>,
    tick: impl Fn() + Send + 'static,
) -> Result<(Arc<Queue>, JoinHandle<()>), String> {
    let mut files = Vec::with_capacity(targets.len());
    for target in &targets {
        files.push(target.open().map_err(|fault| match target {
            Target::File(path) => format!("cannot open the log {}: {fault}", path.display()),
            other => format!("cannot open {other:?}: {fault}"),
        })?);
    }
    let (entries, received) = crossbeam_channel::bounded(QUEUE_ENTRIES_MAX);
    let (spare, spares) = crossbeam_channel::bounded(SPARE_BUFFERS_MAX);
    let queue = Arc::new(Queue {
        entries,
        spare: spares,
        writer: OnceLock::new(),
        lost: AtomicU64::new(0),
        reopen: AtomicBool::new(false),
        stop: AtomicBool::new(false),
        ended: AtomicBool::new(false),
    });
    let shared = Arc::clone(&queue);
    let mut writer =
        Writer { queue: shared, entries: received, spare, targets, files, complaints, told: 0 };
    let thread = std::thread::Builder::new()
        .name("tollgate-logs".to_owned())
        .spawn(move || writer.run(&tick))
        .map_err(|fault| format!("cannot start the log writer: {fault}"))?;
    let _first = queue.writer.set(thread.thread().clone());
    Ok((queue, thread))
}

impl Writer {
    fn run(&mut self, tick: &dyn Fn()) {
        loop {
            let stop = self.queue.stop.load(Ordering::Acquire);
            while let Ok(entry) = self.entries.try_recv() {
                self.write(entry);
            }
            if self.queue.reopen.swap(false, Ordering::AcqRel) {
                self.reopen();
            }
            self.complain();
            tick();
            if stop {
                break;
            }
            std::thread::park_timeout(REST);
        }
        self.queue.ended.store(true, Ordering::Release);
    }

    fn write(&mut self, mut entry: Entry) {
        let written = match self.files.get_mut(entry.sink.0) {
            Some(file) => file.write_all(&entry.bytes).is_ok(),
            None => false,
        };
        if !written {
            self.queue.lost.fetch_add(entry.lines, Ordering::Relaxed);
        }
        entry.bytes.clear();
        let _full = self.spare.try_send(entry.bytes);
    }

    /// Opens every file again; one that cannot be opened keeps the old.
    fn reopen(&mut self) {
        for (file, target) in self.files.iter_mut().zip(&self.targets) {
            if let Ok(opened) = target.open() {
                *file = opened;
            }
        }
    }

    fn complain(&mut self) {
        let lost = self.queue.lost();
        if lost == self.told {
            return;
        }
        let words = format!("{} log lines were lost ({lost} in all)\n", lost - self.told);
        self.told = lost;
        if let Some(file) = self.complaints.and_then(|sink| self.files.get_mut(sink.0)) {
            let _unwritable = file.write_all(words.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads one value of a log setting.
    #[track_caller]
    fn check(text: &str, expected: Result<Option<Target>, &str>) {
        let found = Target::of(text, Path::new("/p"));
        assert_eq!(found, expected.map_err(str::to_owned), "{text}");
    }

    #[test]
    fn a_log_setting_names_its_target() {
        check("off", Ok(None));
        check("/dev/stdout", Ok(Some(Target::Stdout)));
        check("/dev/stderr basic", Ok(Some(Target::Stderr)));
        check("logs/a.log", Ok(Some(Target::File("/p/logs/a.log".into()))));
        check("/var/a.log fmt", Ok(Some(Target::File("/var/a.log".into()))));
        check("syslog:server=x", Err("writing to syslog is not built yet"));
    }

    #[test]
    fn a_full_queue_loses_and_counts_and_never_waits() {
        let (entries, received) = crossbeam_channel::bounded(2);
        let (_spare, spares) = crossbeam_channel::bounded(1);
        let queue = Queue {
            entries,
            spare: spares,
            writer: OnceLock::new(),
            lost: AtomicU64::new(0),
            reopen: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        };
        for _ in 0..5 {
            queue.put(Sink(0), b"x".to_vec(), 10);
        }
        assert_eq!((queue.lost(), received.len()), (30, 2));
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_one_sentence() {
        let target = Target::File("/proc/no/such/file".into());
        let fault = start(vec![target], None, || ()).err().unwrap();
        assert!(fault.starts_with("cannot open the log /proc/no/such/file: "), "{fault}");
    }
}

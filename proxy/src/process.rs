//! What this process asks of the system: signals, open files, names, memory.

use std::fs;
use std::io;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use uuid::Uuid;

/// The file under the prefix that keeps the node's id over restarts, as Kong calls it.
const ID_FILE: &str = "kong.id";

/// How the process is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// At once: SIGTERM, SIGINT.
    Fast,
    /// After open requests: SIGQUIT.
    Graceful,
}

/// The signals that mean something to this process.
pub struct Ears {
    signals: Signals,
}

impl Ears {
    /// Listens from now on, so that no signal that comes during the start is lost or kills.
    ///
    /// # Errors
    /// One sentence.
    pub fn new() -> Result<Self, String> {
        Signals::new([SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1])
            .map(|signals| Self { signals })
            .map_err(|fault| format!("cannot listen to signals: {fault}"))
    }

    /// Waits until the process is asked to end. SIGHUP calls `reload`, SIGUSR1 `reopen` (logs).
    pub fn wait(&mut self, mut reload: impl FnMut(), mut reopen: impl FnMut()) -> Ending {
        for signal in self.signals.forever() {
            match signal {
                SIGHUP => reload(),
                SIGUSR1 => reopen(),
                SIGQUIT => return Ending::Graceful,
                _ => return Ending::Fast,
            }
        }
        Ending::Fast
    }

    /// From here on a second SIGTERM or SIGINT ends the process at once, whatever it does.
    pub fn impatient(mut self) {
        let wait = move || {
            for signal in self.signals.forever() {
                if signal == SIGTERM || signal == SIGINT {
                    std::process::exit(1);
                }
            }
        };
        // Without the thread a second signal is merely not heard.
        let _thread = std::thread::Builder::new().name("tollgate-ears".to_owned()).spawn(wait);
    }
}

/// Raises the limit of open files: to `wanted`, or to the hard limit. Gives the limit in force.
pub fn raise_open_files(wanted: Option<u64>) -> u64 {
    let now = getrlimit(Resource::Nofile);
    let hard = now.maximum.unwrap_or(u64::MAX);
    let target = wanted.unwrap_or(hard).min(hard);
    let raised =
        setrlimit(Resource::Nofile, Rlimit { current: Some(target), maximum: now.maximum });
    if raised.is_ok() { target } else { now.current.unwrap_or(hard) }
}

/// Asks the kernel for small pages of memory alone. In pages of 2 MiB, which the allocator asks for
/// where it may, whoever needs a little in many places keeps a lot: a gateway under mixed traffic
/// took more than twice as much, at the same CPU time for a request. Where the kernel refuses,
/// memory is merely larger.
pub fn use_small_pages() {
    let _refused = rustix::thread::disable_transparent_huge_pages(true);
}

/// The limit of open files in force.
#[must_use]
pub fn open_files_max() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The name of this machine.
#[must_use]
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Resident memory of this process in bytes; 0 when the system does not tell.
#[must_use]
pub fn memory_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The node's id: the setting's, else the one kept under the prefix, else a new one that is kept.
///
/// # Errors
/// One sentence: the file cannot be read or written, or holds something else.
pub fn node_id(prefix: &Path, given: Option<&str>) -> Result<Uuid, String> {
    if let Some(id) = given.and_then(|text| Uuid::try_parse(text).ok()) {
        return Ok(id);
    }
    let path = prefix.join(ID_FILE);
    let about = |words: &str| format!("the node id in {} {words}", path.display());
    match fs::read_to_string(&path) {
        Ok(text) => Uuid::try_parse(text.trim()).map_err(|_| about("is not a UUID")),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => {
            let id = Uuid::new_v4();
            fs::write(&path, format!("{id}\n"))
                .map_err(|fault| about(&format!("cannot be written: {fault}")))?;
            Ok(id)
        }
        Err(fault) => Err(about(&format!("cannot be read: {fault}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_keeps_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let id = node_id(folder.path(), None).unwrap();
        assert_eq!(node_id(folder.path(), None), Ok(id));
        let given = "11111111-2222-4333-8444-555555555555";
        assert_eq!(node_id(folder.path(), Some(given)).unwrap().to_string(), given);
        fs::write(folder.path().join(ID_FILE), "x").unwrap();
        assert!(node_id(folder.path(), None).unwrap_err().ends_with("is not a UUID"));
    }

    #[test]
    fn the_system_tells() {
        assert!(!hostname().is_empty());
        assert!(memory_bytes() > 100_000);
        let limit = raise_open_files(None);
        assert!(limit > 0);
        assert_eq!(getrlimit(Resource::Nofile).current.unwrap_or(limit), limit);
    }
}

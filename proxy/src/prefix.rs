//! The working directory: made, tried, locked, with the pid file that other commands look for.
//!
//! ```text
//! <prefix>/pids/nginx.pid   the pid; locked as long as the process lives
//! <prefix>/logs  <prefix>/ssl
//! ```
//! The pid file has the name that Kong's scripts and unit files know.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, FlockOperation, access, flock};

const PID_FILE: &str = "pids/nginx.pid";
const FOLDERS: &[&str] = &["pids", "logs", "ssl"];

/// A prefix that this process owns.
#[derive(Debug)]
pub struct Prefix {
    /// Where it is.
    pub path: PathBuf,
    /// Holds the lock; the kernel lets it go when the process ends, however it ends.
    pid_file: File,
}

/// Whether a folder can be written to, or could be made. Makes nothing.
#[must_use]
pub fn is_writable(path: &Path) -> bool {
    let standing = path.ancestors().find(|folder| folder.exists());
    standing.is_some_and(|folder| {
        folder.is_dir() && access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
    })
}

/// Makes the folders of a prefix.
///
/// # Errors
/// One sentence: it cannot be written.
pub fn prepare(path: &Path) -> Result<(), String> {
    let refused = |fault: io::Error| refused(path, &fault);
    fs::create_dir_all(path).map_err(refused)?;
    access(path, Access::WRITE_OK | Access::EXEC_OK).map_err(|fault| refused(fault.into()))?;
    for folder in FOLDERS {
        fs::create_dir_all(path.join(folder)).map_err(refused)?;
    }
    Ok(())
}

fn refused(path: &Path, fault: &io::Error) -> String {
    format!("the prefix {} cannot be written: {}", path.display(), words(fault))
}

impl Prefix {
    /// Makes the folders and takes the lock.
    ///
    /// # Errors
    /// One sentence: it cannot be written, or another process runs there.
    pub fn take(path: &Path) -> Result<Self, String> {
        prepare(path)?;
        let refused = |fault: io::Error| refused(path, &fault);
        let mut pid_file = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(path.join(PID_FILE))
            .map_err(refused)?;
        if flock(&pid_file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(format!("Kong is already running in {}", path.display()));
        }
        pid_file.set_len(0).map_err(refused)?;
        writeln!(pid_file, "{}", std::process::id()).map_err(refused)?;
        Ok(Self { path: path.to_owned(), pid_file })
    }

    /// Empties the pid file at the end of an orderly stop.
    pub fn leave(self) {
        let _emptied = self.pid_file.set_len(0);
    }
}

/// The pid of the process that runs in a prefix; none when nobody holds the lock.
#[must_use]
pub fn running(path: &Path) -> Option<i32> {
    let mut file = File::open(path.join(PID_FILE)).ok()?;
    if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return None;
    }
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// What the system says, without its error number.
fn words(fault: &io::Error) -> String {
    let words = fault.to_string();
    words.split(" (os error").next().unwrap_or(&words).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/prefix");
        assert_eq!(running(&path), None);
        let prefix = Prefix::take(&path).unwrap();
        assert_eq!(running(&path), i32::try_from(std::process::id()).ok());
        let second = Prefix::take(&path).unwrap_err();
        assert_eq!(second, format!("Kong is already running in {}", path.display()));
        prefix.leave();
        assert_eq!(running(&path), None);
        Prefix::take(&path).unwrap();
    }

    #[test]
    fn a_prefix_that_cannot_be_is_one_sentence() {
        let fault = Prefix::take(Path::new("/proc/nowhere")).unwrap_err();
        assert!(fault.starts_with("the prefix /proc/nowhere cannot be written: "), "{fault}");
    }

    #[test]
    fn trying_makes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        assert!(is_writable(&path) && !path.exists());
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(!is_writable(&file.join("x")));
    }
}

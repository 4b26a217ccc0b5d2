//! Log entries as lines of a file: file-log.

use super::{all, lines, none};
use crate::logs::FilePlan;
use crate::logs::queue::Delivery;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::{Mutex, PoisonError};

/// One file.
pub(crate) struct FileLines {
    plan: FilePlan,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    file: Option<File>,
    /// Bytes of the batch that were written before the disk refused.
    begun: usize,
}

impl FileLines {
    pub(crate) fn new(plan: &FilePlan) -> Self {
        Self { plan: plan.clone(), open: Mutex::default() }
    }

    pub(crate) fn deliver(&self, batch: &[Vec<u8>]) -> Delivery {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match self.write(&mut open, &lines(batch)) {
            Ok(()) => all(batch),
            Err(fault) => {
                open.file = None;
                none(fault)
            }
        }
    }

    /// Writes what is not there yet: after a full disk the line that was begun goes on.
    fn write(&self, open: &mut Open, lines: &[u8]) -> io::Result<()> {
        if self.plan.reopen && !open.file.as_ref().is_some_and(|file| self.is_current(file)) {
            open.file = None;
        }
        let mut file = match open.file.take() {
            Some(file) => file,
            None => self.open()?,
        };
        while let Some(rest) = lines.get(open.begun..).filter(|rest| !rest.is_empty()) {
            match file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => open.begun += written,
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
                Err(fault) => return Err(fault),
            }
        }
        *open = Open { file: Some(file), begun: 0 };
        Ok(())
    }

    /// The process's own outputs are taken as they are: a socket cannot be opened by its path.
    fn open(&self) -> io::Result<File> {
        let own = match self.plan.path.to_str() {
            Some("/dev/stdout") => io::stdout().as_fd().try_clone_to_owned()?,
            Some("/dev/stderr") => io::stderr().as_fd().try_clone_to_owned()?,
            _ => {
                let mut options = OpenOptions::new();
                return options.append(true).create(true).mode(0o644).open(&self.plan.path);
            }
        };
        Ok(own.into())
    }

    /// Whether the path still leads to this file.
    fn is_current(&self, file: &File) -> bool {
        let (Ok(now), Ok(here)) = (std::fs::metadata(&self.plan.path), file.metadata()) else {
            return false;
        };
        (now.dev(), now.ino()) == (here.dev(), here.ino())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(lines: &[&str]) -> Vec<Vec<u8>> {
        lines.iter().map(|line| line.as_bytes().to_vec()).collect()
    }

    #[test]
    fn a_renamed_file_is_left_only_where_reopen_says_so() {
        for reopen in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let (path, moved) = (folder.path().join("a"), folder.path().join("b"));
            let sink = FileLines::new(&FilePlan { path: path.clone(), reopen });
            assert_eq!(sink.deliver(&batch(&["1", "2"])).delivered, 2);
            std::fs::rename(&path, &moved).unwrap();
            assert_eq!(sink.deliver(&batch(&["3"])).delivered, 1);
            let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
            let expected = if reopen { ("3\n", "1\n2\n") } else { ("", "1\n2\n3\n") };
            assert_eq!((read(&path).as_str(), read(&moved).as_str()), expected);
            let mode = moved.metadata().unwrap().mode() & 0o777;
            assert_eq!(mode & 0o600, 0o600);
        }
    }

    #[test]
    fn a_folder_that_is_missing_is_a_fault_until_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/a");
        let sink = FileLines::new(&FilePlan { path: path.clone(), reopen: false });
        assert!(sink.deliver(&batch(&["1"])).fault.is_some());
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        assert_eq!(sink.deliver(&batch(&["1"])).delivered, 1);
        assert_eq!(std::fs::read_to_string(path).unwrap(), "1\n");
    }

    #[test]
    fn a_full_disk_doubles_nothing() {
        let sink = FileLines::new(&FilePlan { path: "/dev/full".into(), reopen: false });
        let delivery = sink.deliver(&batch(&["1"]));
        assert!(delivery.delivered == 0 && delivery.fault.is_some());
    }
}

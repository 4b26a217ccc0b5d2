//! Events that their destination refuses even alone: kept aside for a person to look at, a few.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Events that are kept; the oldest give way.
pub(crate) const EVENTS_MAX: usize = 64;

/// The folder `<prefix>/moesif/refused`, made when it is first needed. Like the journal, it holds
/// finished, masked events only.
pub(crate) struct Quarantine {
    folder: PathBuf,
    names: VecDeque<String>,
}

impl Quarantine {
    /// Finds what was kept before.
    pub(crate) fn open(prefix: &Path) -> Self {
        let folder = prefix.join("moesif").join("refused");
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        // They begin with their time.
        names.sort();
        Self { folder, names: names.into() }
    }

    /// Keeps one event; gives the file.
    ///
    /// # Errors
    /// The disk refuses. The event is counted as dropped in any case.
    pub(crate) fn keep(&mut self, wall_us: u64, id: Uuid, text: &[u8]) -> io::Result<PathBuf> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        while self.names.len() >= EVENTS_MAX {
            let Some(oldest) = self.names.pop_front() else { break };
            match fs::remove_file(self.folder.join(oldest)) {
                Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
                _ => {}
            }
        }
        let name = format!("{wall_us:016}-{id}.json");
        let path = self.folder.join(&name);
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        self.names.push_back(name);
        file.write_all(text)?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_over_a_restart() {
        let prefix = tempfile::tempdir().unwrap();
        for half in 0..2 {
            let mut quarantine = Quarantine::open(prefix.path());
            for number in 0..EVENTS_MAX as u64 {
                let at = half * 1_000 + number;
                let path = quarantine.keep(at, Uuid::from_u128(1), at.to_string().as_bytes());
                assert_eq!(fs::read(path.unwrap()).unwrap(), at.to_string().as_bytes());
            }
        }
        let quarantine = Quarantine::open(prefix.path());
        assert_eq!(quarantine.names.len(), EVENTS_MAX);
        assert!(quarantine.names[0].starts_with("0000000000001000-"));
    }
}

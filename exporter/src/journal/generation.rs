//! Generations: what one process has made, and who owns it now.

use rustix::fs::{FlockOperation, flock};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Most dead generations that one process takes over; further ones wait for the next start.
pub const ADOPTED_MAX: usize = 256;

/// The directories that all generations of one installation share.
#[derive(Debug)]
pub struct House {
    journal: PathBuf,
    ring_dir: PathBuf,
    /// `None` where shared memory cannot be used.
    rings: Option<PathBuf>,
    /// Why not.
    rings_fault: Option<String>,
}

/// One generation whose lock this process holds.
#[derive(Debug)]
pub struct Generation {
    /// Its name; names sort by age.
    pub name: String,
    /// Its segments.
    pub journal: PathBuf,
    /// Its rings, if it has or may have any.
    pub rings: Option<PathBuf>,
    /// Released when the process ends, however it ends.
    _lock: File,
}

/// The installation's lock, held for the blink of making, taking or removing generations.
struct HouseLock {
    _file: File,
}

impl House {
    /// Makes the shared directories.
    ///
    /// # Errors
    /// The journal's directory cannot be made. Unusable shared memory is no error: see
    /// [`House::rings_fault`].
    pub fn open(prefix: &Path, ring_dir: &Path) -> io::Result<Self> {
        let journal = prefix.join("journal");
        DirBuilder::new().recursive(true).mode(0o700).create(&journal)?;
        let journal = journal.canonicalize()?;
        let (rings, rings_fault) = match private_dir(ring_dir, &journal) {
            Ok(rings) => (Some(rings), None),
            Err(fault) => (None, Some(format!("{}: {fault}", ring_dir.display()))),
        };
        Ok(Self { journal, ring_dir: ring_dir.to_owned(), rings, rings_fault })
    }

    /// Why rings cannot lie in shared memory.
    pub fn rings_fault(&self) -> Option<&str> {
        self.rings_fault.as_deref()
    }

    fn lock(&self) -> io::Result<HouseLock> {
        let file = lock_file(&self.journal.join("lock"))?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(HouseLock { _file: file })
    }

    /// Makes this process's own generation; `name` must be new.
    ///
    /// # Errors
    /// The directory cannot be made or locked.
    pub fn create(&self, name: &str) -> io::Result<Generation> {
        let _lock = self.lock()?;
        let mut generation = self.take(name)?.ok_or_else(|| io::Error::other("name in use"))?;
        if let Some(rings) = &generation.rings {
            // The directory around it may have been tidied away since it was checked.
            let made = private_dir(&self.ring_dir, &self.journal)
                .and_then(|_| DirBuilder::new().mode(0o700).create(rings));
            if made.is_err() {
                generation.rings = None;
            }
        }
        Ok(generation)
    }

    /// Takes over the generations whose processes are dead, oldest first.
    ///
    /// # Errors
    /// The directories cannot be read.
    pub fn adopt(&self) -> io::Result<Vec<Generation>> {
        let _lock = self.lock()?;
        let mut names = folders(&self.journal)?;
        if let Some(rings) = &self.rings {
            names.extend(folders(rings)?);
        }
        names.sort();
        names.dedup();
        let mut adopted = Vec::new();
        for name in names {
            if adopted.len() == ADOPTED_MAX {
                break;
            }
            adopted.extend(self.take(&name)?);
        }
        Ok(adopted)
    }

    /// Locks a generation, whose journal directory is made if it is missing; `None` if a living
    /// process has it.
    fn take(&self, name: &str) -> io::Result<Option<Generation>> {
        let journal = self.journal.join(name);
        DirBuilder::new().recursive(true).mode(0o700).create(&journal)?;
        let lock = lock_file(&journal.join("lock"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(fault) if fault == rustix::io::Errno::WOULDBLOCK => return Ok(None),
            Err(fault) => return Err(fault.into()),
        }
        let rings = self.rings.as_ref().map(|rings| rings.join(name));
        Ok(Some(Generation { name: name.to_owned(), journal, rings, _lock: lock }))
    }

    /// Removes the directory for rings if no process has any, so that installations that are gone
    /// leave nothing in shared memory.
    pub fn tidy(&self) {
        if let (Some(rings), Ok(_lock)) = (&self.rings, self.lock()) {
            // Fails while there is a generation in it, which is what it is for.
            let _in_use = fs::remove_dir(rings);
        }
    }

    /// Removes a generation of which nothing is left.
    ///
    /// # Errors
    /// A file is still there, or the directories cannot be changed; nobody is hurt by them.
    pub fn remove(&self, generation: &Generation) -> io::Result<()> {
        let _lock = self.lock()?;
        for entry in fs::read_dir(&generation.journal)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name == "lock" || name.ends_with(".done") {
                fs::remove_file(&path)?;
            }
        }
        fs::remove_dir(&generation.journal)
    }
}

impl Generation {
    /// Removes the rings and their settings, which must be drained.
    ///
    /// # Errors
    /// A file cannot be removed; an empty ring that stays is adopted again, to no effect.
    pub fn remove_rings(&self) -> io::Result<()> {
        let Some(rings) = &self.rings else { return Ok(()) };
        match fs::remove_dir_all(rings) {
            Err(fault) if fault.kind() != io::ErrorKind::NotFound => Err(fault),
            _ => Ok(()),
        }
    }
}

fn lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// A directory for this installation and user alone in a place that everybody may write to.
///
/// What is already there must be a directory of ours that nobody else can enter: anything else
/// may be a trap, because records hold what is not masked yet.
fn private_dir(ring_dir: &Path, journal: &Path) -> io::Result<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let house = crate::sink::fnv(journal.as_os_str().as_encoded_bytes());
    let path = ring_dir.join(format!("tollgate-{user}-{house:016x}"));
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(fault) if fault.kind() != io::ErrorKind::AlreadyExists => return Err(fault),
        _ => {}
    }
    let found = fs::symlink_metadata(&path)?;
    let private = found.permissions().mode() & 0o077 == 0;
    if !found.is_dir() || found.uid() != user || !private {
        return Err(io::Error::other("the directory for rings belongs to someone else"));
    }
    Ok(path)
}

fn folders(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    let entries = match fs::read_dir(path) {
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(names),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir()
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_generation_is_not_adopted() {
        let (prefix, shm) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let house = House::open(prefix.path(), shm.path()).unwrap();
        let first = house.create("a").unwrap();
        let second = house.create("b").unwrap();
        assert!(first.rings.as_ref().unwrap().is_dir());
        assert_eq!(house.adopt().unwrap().len(), 0);
        drop(first);
        let adopted = house.adopt().unwrap();
        let names: Vec<_> = adopted.iter().map(|generation| generation.name.as_str()).collect();
        assert_eq!(names, ["a"]);
        assert_eq!(house.adopt().unwrap().len(), 0, "it has an owner again");
        for generation in adopted {
            generation.remove_rings().unwrap();
            house.remove(&generation).unwrap();
        }
        drop(second);
        let names: Vec<_> = house.adopt().unwrap().into_iter().map(|found| found.name).collect();
        assert_eq!(names, ["b"]);
    }

    #[test]
    fn a_directory_of_rings_that_others_can_enter_is_not_used() {
        let (prefix, shm) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let house = House::open(prefix.path(), shm.path()).unwrap();
        let rings = house.rings.unwrap();
        fs::set_permissions(&rings, fs::Permissions::from_mode(0o755)).unwrap();
        let house = House::open(prefix.path(), shm.path()).unwrap();
        assert!(house.rings.is_none() && house.rings_fault().is_some());
    }
}

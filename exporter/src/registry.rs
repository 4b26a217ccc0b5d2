//! The settings that records are made into events with, by row, version and fingerprint.
//!
//! They are saved beside the rings (in shared memory, not on disk), because a record must be
//! masked with the settings that it was captured under, also by the process after this one.

use crate::event::RowRef;
use crate::journal::entry;
use crate::moesif::settings::Settings;
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

/// Most settings that are kept though their row has newer ones or is gone. A record that needs
/// older ones than that is dropped and counted.
pub const SETTINGS_MAX: usize = 1_024;
/// When the file has this many bytes, and twice what it needs, it is written anew with what is
/// still known.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// The file's name in a generation's directory of rings.
pub const FILE_NAME: &str = "settings";

/// All known settings.
pub type Known = HashMap<RowRef, Arc<Settings>>;

/// The settings of one generation.
pub struct Registry {
    inner: Mutex<Inner>,
}

struct Inner {
    known: Arc<Known>,
    /// The settings in force of each row.
    current: HashMap<Uuid, RowRef>,
    /// Those of before, oldest first.
    old: VecDeque<RowRef>,
    /// What was saved, for writing the file anew.
    texts: HashMap<RowRef, Vec<u8>>,
    file: Option<Saved>,
}

/// The open file.
struct Saved {
    file: File,
    path: PathBuf,
    bytes: u64,
    /// When it is written anew.
    bytes_max: u64,
}

impl Registry {
    /// An empty registry that saves what it learns in `rings`, if there is such a directory.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(rings: Option<&Path>) -> io::Result<Self> {
        let make = |rings: &Path| {
            let path = rings.join(FILE_NAME);
            let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
            Ok::<_, io::Error>(Saved { file, path, bytes: 0, bytes_max: FILE_BYTES_MAX })
        };
        let file = rings.map(make).transpose()?;
        Ok(Self::with(file))
    }

    fn with(file: Option<Saved>) -> Self {
        let known = Arc::new(Known::new());
        let (current, old, texts) = (HashMap::new(), VecDeque::new(), HashMap::new());
        Self { inner: Mutex::new(Inner { known, current, old, texts, file }) }
    }

    /// Reads what a dead process has saved; a torn end is ignored (no record can refer to it).
    ///
    /// # Errors
    /// The file cannot be read. A missing file is an empty registry.
    pub fn read(rings: &Path) -> io::Result<Self> {
        let mut bytes = Vec::new();
        match File::open(rings.join(FILE_NAME)) {
            Ok(mut file) => file.read_to_end(&mut bytes)?,
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => 0,
            Err(fault) => return Err(fault),
        };
        let registry = Self::with(None);
        let mut rest = bytes.as_slice();
        while let Some(head) = entry::read(rest) {
            let (entry, behind) = rest.split_at(entry::HEAD_BYTES + head.len as usize);
            if let Some((row, settings)) = parse(entry.get(entry::HEAD_BYTES..)) {
                registry.lock().insert(row, settings);
            }
            rest = behind;
        }
        Ok(registry)
    }

    /// Learns settings and saves them. When this has returned they outlive a SIGKILL.
    ///
    /// # Errors
    /// They could not be saved; they are not known then.
    pub fn add(&self, id: Uuid, version: u64, config: &Value) -> io::Result<Arc<Settings>> {
        let settings = Settings::parse(config)
            .ok_or_else(|| io::Error::other("a moesif configuration without application_id"))?;
        let row = RowRef { id, version, fingerprint: settings.fingerprint() };
        let settings = Arc::new(settings);
        let mut inner = self.lock();
        if inner.known.contains_key(&row) {
            inner.insert(row, Arc::clone(&settings));
            return Ok(settings);
        }
        if inner.file.is_some() {
            inner.save(row, entry_of(id, version, config))?;
        }
        inner.insert(row, Arc::clone(&settings));
        Ok(settings)
    }

    /// A row is gone. Its settings are kept for a while: an open exchange may still report.
    pub fn forget(&self, id: Uuid) {
        let mut inner = self.lock();
        if let Some(row) = inner.current.remove(&id) {
            inner.retire(row);
        }
    }

    /// Whether a row in force sends to this destination with `debug` on.
    pub fn debugs(&self, lane: u64) -> bool {
        let inner = self.lock();
        let mut settings = inner.current.values().filter_map(|row| inner.known.get(row));
        settings.any(|settings| settings.debug && settings.target().lane() == lane)
    }

    /// Everything that is known now.
    pub fn known(&self) -> Arc<Known> {
        Arc::clone(&self.lock().known)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Appends an entry; if the file has grown too large, writes it anew beside and puts it in
    /// place with one rename, so that a reader finds the old or the new one.
    fn save(&mut self, row: RowRef, entry: Vec<u8>) -> io::Result<()> {
        let Some(saved) = &mut self.file else { return Ok(()) };
        if saved.bytes + entry.len() as u64 <= saved.bytes_max {
            saved.file.write_all(&entry)?;
            saved.bytes += entry.len() as u64;
            self.texts.insert(row, entry);
            return Ok(());
        }
        let beside = saved.path.with_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        let kept = self.old.iter().chain(self.current.values());
        let kept = kept.filter_map(|row| self.texts.get(row));
        let mut all: Vec<u8> = kept.flatten().copied().collect();
        all.extend_from_slice(&entry);
        file.write_all(&all)?;
        std::fs::rename(&beside, &saved.path)?;
        let bytes = all.len() as u64;
        let bytes_max = FILE_BYTES_MAX.max(bytes * 2);
        *saved = Saved { file, path: saved.path.clone(), bytes, bytes_max };
        self.texts.insert(row, entry);
        Ok(())
    }

    fn insert(&mut self, row: RowRef, settings: Arc<Settings>) {
        Arc::make_mut(&mut self.known).insert(row, settings);
        // What comes back into force is old no longer.
        self.old.retain(|old| *old != row);
        let before = self.current.insert(row.id, row);
        if let Some(before) = before.filter(|before| *before != row) {
            self.retire(before);
        }
    }

    fn retire(&mut self, row: RowRef) {
        self.old.push_back(row);
        while self.old.len() > SETTINGS_MAX {
            if let Some(oldest) = self.old.pop_front() {
                Arc::make_mut(&mut self.known).remove(&oldest);
                self.texts.remove(&oldest);
            }
        }
    }
}

fn entry_of(id: Uuid, version: u64, config: &Value) -> Vec<u8> {
    let text = json!({"row": id.to_string(), "version": version, "config": config}).to_string();
    let head = entry::Head {
        len: 0,
        position: 0,
        at_us: 0,
        transaction_id: *id.as_bytes(),
        core: 0,
        part: 0,
    };
    let mut bytes = Vec::new();
    entry::push(&mut bytes, &head, |out| out.extend_from_slice(text.as_bytes()));
    bytes
}

fn parse(text: Option<&[u8]>) -> Option<(RowRef, Arc<Settings>)> {
    let saved: Value = serde_json::from_slice(text?).ok()?;
    let settings = Settings::parse(saved.get("config")?)?;
    let row = RowRef {
        id: saved.get("row")?.as_str()?.parse().ok()?,
        version: saved.get("version")?.as_u64()?,
        fingerprint: settings.fingerprint(),
    };
    Some((row, Arc::new(settings)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::create(Some(folder.path())).unwrap();
        let id = Uuid::from_u128(5);
        let field = "x".repeat(2_000);
        let config = json!({"application_id": "a", "authorization_user_id_field": field});
        for version in 0..8_000 {
            registry.add(id, version, &config).unwrap();
        }
        let bytes = folder.path().join(FILE_NAME).metadata().unwrap().len();
        assert!(bytes <= FILE_BYTES_MAX * 2, "{bytes} bytes");
        let found = Registry::read(folder.path()).unwrap().known();
        assert_eq!(found, registry.known());
        assert_eq!(found.len(), SETTINGS_MAX + 1);
        assert!(found.keys().all(|row| row.version >= 6_975));
    }

    #[test]
    fn what_is_in_force_is_never_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::create(Some(folder.path())).unwrap();
        let rows = 3 * SETTINGS_MAX;
        let config = json!({"application_id": "a"});
        for row in 0..rows {
            registry.add(Uuid::from_u128(row as u128), 1, &config).unwrap();
        }
        assert_eq!(registry.known().len(), rows);
        assert_eq!(Registry::read(folder.path()).unwrap().known().len(), rows);
        for row in 0..rows {
            registry.forget(Uuid::from_u128(row as u128));
        }
        assert_eq!(registry.known().len(), SETTINGS_MAX, "and what is gone, only for a while");
    }

    #[test]
    fn settings_outlive_their_process() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::create(Some(folder.path())).unwrap();
        let id = Uuid::from_u128(5);
        let config = |mask: &str| json!({"application_id": "a", "request_body_masks": [mask]});
        let first = registry.add(id, 1, &config("x")).unwrap();
        let second = registry.add(id, 2, &config("y")).unwrap();
        assert_ne!(first.fingerprint(), second.fingerprint());
        let path = folder.path().join(FILE_NAME);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(&bytes.clone()[..60]);
        std::fs::write(&path, bytes).unwrap();
        let known = Registry::read(folder.path()).unwrap().known();
        assert_eq!(known.len(), 2);
        for (version, settings) in [(1, first), (2, second)] {
            let row = RowRef { id, version, fingerprint: settings.fingerprint() };
            assert_eq!(known.get(&row), Some(&settings));
            assert_eq!(known.get(&RowRef { fingerprint: 0, ..row }), None, "another mask");
        }
    }
}

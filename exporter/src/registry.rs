//! The settings that records are made into events with, by row, version and fingerprint.
//!
//! They are saved beside the rings (in shared memory, not on disk), because a record must be
//! masked with the settings that it was captured under, also by the process after this one.

use crate::event::RowRef;
use crate::journal::entry;
use crate::moesif::settings::Settings;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

/// Most settings that are kept. A record that needs older ones than that is dropped and counted.
pub const SETTINGS_MAX: usize = 4_096;
/// The file's name in a generation's directory of rings.
pub const FILE_NAME: &str = "settings";

/// All known settings, oldest first.
pub type Known = HashMap<RowRef, Arc<Settings>>;

/// The settings of one generation.
pub struct Registry {
    inner: Mutex<Inner>,
}

struct Inner {
    known: Arc<Known>,
    order: std::collections::VecDeque<RowRef>,
    file: Option<File>,
}

impl Registry {
    /// An empty registry that saves what it learns in `rings`, if there is such a directory.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(rings: Option<&Path>) -> io::Result<Self> {
        let make = |rings: &Path| {
            let path = rings.join(FILE_NAME);
            OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)
        };
        let file = rings.map(make).transpose()?;
        Ok(Self::with(file))
    }

    fn with(file: Option<File>) -> Self {
        let known = Arc::new(Known::new());
        let inner = Inner { known, order: std::collections::VecDeque::new(), file };
        Self { inner: Mutex::new(inner) }
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
        if let Some(file) = &mut inner.file {
            let text = json!({"row": id.to_string(), "version": version, "config": config});
            let mut bytes = Vec::new();
            let head = entry::Head {
                len: 0,
                position: 0,
                at_us: 0,
                transaction_id: *id.as_bytes(),
                core: 0,
                part: 0,
            };
            let text = text.to_string();
            entry::push(&mut bytes, &head, |out| out.extend_from_slice(text.as_bytes()));
            file.write_all(&bytes)?;
        }
        inner.insert(row, Arc::clone(&settings));
        Ok(settings)
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
    fn insert(&mut self, row: RowRef, settings: Arc<Settings>) {
        let known = Arc::make_mut(&mut self.known);
        if known.insert(row, settings).is_none() {
            self.order.push_back(row);
        }
        while self.order.len() > SETTINGS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                known.remove(&oldest);
            }
        }
    }
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

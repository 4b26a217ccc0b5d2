//! The last good configuration on disk: what a node starts from while its source is away.
//!
//! ```text
//! tollgate-rows 1 <crc32 of the rest, 8 hex digits> <bytes of the rest, 20 digits>\n
//! {"e":"services","x":null,"r":{"id":"…","host":"…",…}}\n      one line for each row
//! ```
//! Written beside and renamed, with the one before kept as `….before`; mode 0600, because secrets
//! are in it. A file that is not whole to the last bit is refused, and the one before is tried:
//! half a configuration is never served.

use crate::schema::{Catalogue, Kind};
use crate::snapshot::Tables;
use crate::value::{Row, Value};
use serde_json::{Map, Value as Json, json};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a file begins with.
const MAGIC: &str = "tollgate-rows 1";
/// Length of the first line with its end.
const HEAD_BYTES: usize = MAGIC.len() + 1 + 8 + 1 + 20 + 1;
/// The largest file that is read back, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 30;
/// At least so long between two files, and a millisecond more for so many rows: a busy Admin API
/// does not wear the disk out, nor a million rows a core.
const REST_MS: u64 = 1_000;
const ROWS_A_MS: usize = 20;
/// More rows than that are not written once more at the end: the end would take seconds.
const LAST_ROWS_MAX: usize = 100_000;

/// The file before that one.
fn before(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".before");
    name.into()
}

/// Writes all rows; the file that was there is kept as the one before.
///
/// # Errors
/// The disk's.
pub fn save(path: &Path, catalogue: &Catalogue, tables: &Tables) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    let mut body = Body { file: BufWriter::new(file), crc: crc32fast::Hasher::new(), bytes: 0 };
    body.file.write_all(&[b' '; HEAD_BYTES])?;
    for entity in &catalogue.entities {
        for row in tables.all(entity.name) {
            serde_json::to_writer(&mut body, &line(row))?;
            body.write_all(b"\n")?;
        }
    }
    body.file.flush()?;
    let mut file = body.file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "{MAGIC} {:08x} {:020}", body.crc.finalize(), body.bytes)?;
    file.sync_all()?;
    if path.exists() {
        fs::rename(path, before(path))?;
    }
    fs::rename(&fresh, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn line(row: &Row) -> Json {
    let fields = row.iter().filter(|(field, value)| !field.transient && !value.is_null());
    let fields: Map<String, Json> =
        fields.map(|(field, value)| (field.name.to_owned(), value.stored())).collect();
    json!({ "e": row.entity().name, "x": row.expires_at_s(), "r": fields })
}

/// Counts what is written.
struct Body {
    file: BufWriter<File>,
    crc: crc32fast::Hasher,
    bytes: u64,
}

impl Write for Body {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.crc.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Reads the last good rows: from the file, else from the one before.
///
/// # Errors
/// One sentence: neither is there and whole.
pub fn read(path: &Path, catalogue: &Catalogue) -> Result<Vec<Row>, String> {
    let first = read_one(path, catalogue);
    first.or_else(|why| {
        let second = read_one(&before(path), catalogue);
        second.map_err(|_| format!("{}: {why}", path.display()))
    })
}

fn read_one(path: &Path, catalogue: &Catalogue) -> Result<Vec<Row>, String> {
    let told = |why: io::Error| why.to_string();
    let bytes = fs::metadata(path).map_err(told)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(format!("it has {bytes} bytes, which is more than {FILE_BYTES_MAX}"));
    }
    let bytes = fs::read(path).map_err(told)?;
    rows(&bytes, catalogue)
}

/// The rows of a file's bytes.
///
/// # Errors
/// Why it is not a whole file.
pub fn rows(bytes: &[u8], catalogue: &Catalogue) -> Result<Vec<Row>, String> {
    let (head, body) = bytes.split_at_checked(HEAD_BYTES).ok_or("it is cut off")?;
    let expected = format!("{MAGIC} {:08x} {:020}\n", crc32fast::hash(body), body.len());
    if head != expected.as_bytes() {
        return Err("it is damaged".to_owned());
    }
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let rows = lines.map(|line| row(line, catalogue));
    rows.filter_map(Result::transpose).collect()
}

/// One row; none if its entity is not known here (another version wrote the file).
fn row(line: &[u8], catalogue: &Catalogue) -> Result<Option<Row>, String> {
    let json: Json = serde_json::from_slice(line).map_err(|why| why.to_string())?;
    let name = json.get("e").and_then(Json::as_str).ok_or("a row without an entity")?;
    let Some(entity) = catalogue.entity(name) else { return Ok(None) };
    let expires_at_s = json.get("x").and_then(Json::as_i64);
    let fields = json.get("r").cloned().unwrap_or_default();
    let value = |field: &crate::schema::Field| {
        let value = Value::from(fields.get(field.name).cloned().unwrap_or_default());
        match (field.kind, value.as_id()) {
            (Kind::Foreign(..), Some(id)) => Value::Id(id),
            _ => value,
        }
    };
    let values = entity.fields.iter().map(value).collect();
    Ok(Some(Row::load(entity, catalogue, values, expires_at_s)))
}

/// A thread that keeps the last good copy up to date, without anybody waiting for it.
pub struct Keeper {
    shared: Arc<(Mutex<Waiting>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Waiting {
    newest: Option<Arc<Tables>>,
    ended: bool,
}

impl Keeper {
    /// Starts the thread; the copies go to `path`.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(path: PathBuf, catalogue: Catalogue) -> io::Result<Self> {
        let shared: Arc<(Mutex<Waiting>, Condvar)> = Arc::default();
        let own = Arc::clone(&shared);
        let work = move || {
            let (mut failing, mut rows) = (false, 0);
            while let Some((tables, ended)) = next(&own, rows) {
                rows = catalogue.entities.iter().map(|entity| tables.len(entity.name)).sum();
                if ended && rows > LAST_ROWS_MAX {
                    continue;
                }
                match save(&path, &catalogue, &tables) {
                    Ok(()) => failing = false,
                    Err(why) if !failing => {
                        failing = true;
                        log::error!("no copy of the configuration in {}: {why}", path.display());
                    }
                    Err(_) => {}
                }
            }
        };
        let thread = std::thread::Builder::new().name("store-copy".to_owned()).spawn(work)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Hands over what has been published; an older one that still waits is dropped.
    pub fn keep(&self, tables: &Arc<Tables>) {
        let (lock, bell) = &*self.shared;
        lock.lock().unwrap_or_else(PoisonError::into_inner).newest = Some(Arc::clone(tables));
        bell.notify_one();
    }
}

/// The next tables to write, after a rest, and whether they are the last; none at the end. `rows`
/// were in the ones before.
fn next(shared: &(Mutex<Waiting>, Condvar), rows: usize) -> Option<(Arc<Tables>, bool)> {
    let (lock, bell) = shared;
    let mut waiting = lock.lock().unwrap_or_else(PoisonError::into_inner);
    let idle = |waiting: &mut Waiting| !waiting.ended && waiting.newest.is_none();
    waiting = bell.wait_while(waiting, idle).unwrap_or_else(PoisonError::into_inner);
    // Changes come in bursts: the first of them is not worth a file of its own.
    let rest = Duration::from_millis(REST_MS + (rows / ROWS_A_MS) as u64);
    let rested = bell.wait_timeout_while(waiting, rest, |waiting| !waiting.ended);
    waiting = rested.unwrap_or_else(PoisonError::into_inner).0;
    let ended = waiting.ended;
    waiting.newest.take().map(|tables| (tables, ended))
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let (lock, bell) = &*self.shared;
        lock.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        bell.notify_all();
        if let Some(thread) = self.thread.take() {
            let _joined = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::samples;
    use crate::script;
    use std::collections::hash_map::RandomState;
    use std::hash::{BuildHasher, Hasher};

    fn filled(catalogue: &Catalogue) -> Tables {
        let mut tables = Tables::new(catalogue);
        for n in 1..40 {
            let input = json!({"id": format!("00000000-0000-4000-8000-0000000000{n:02}"),
                "name": format!("s-{n}"), "host": "a", "tags": ["x", "ü"]});
            tables.put(&script::row(catalogue, "services", &input).unwrap()).unwrap();
        }
        let id = "00000000-0000-4000-8000-000000000001";
        let input = json!({"name": "rate-limiting", "service": {"id": id},
            "config": {"minute": 0.5, "redis": {"host": "r"}}});
        let plugin = script::row(catalogue, "plugins", &input).unwrap();
        tables.put(&Arc::new(Row::clone(&plugin).expiring(Some(99)))).unwrap();
        tables
    }

    fn shown(rows: &[Row]) -> Vec<Json> {
        rows.iter().map(|row| json!([row.to_json(0), row.expires_at_s()])).collect()
    }

    #[test]
    fn what_is_saved_is_read_back() {
        use std::os::unix::fs::PermissionsExt;
        let (catalogue, folder) = (samples::catalogue(), tempfile::tempdir().unwrap());
        let (path, tables) = (folder.path().join("rows"), filled(&samples::catalogue()));
        save(&path, &catalogue, &tables).unwrap();
        let expected: Vec<Row> = catalogue
            .entities
            .iter()
            .flat_map(|entity| tables.all(entity.name))
            .map(|row| Row::clone(row))
            .collect();
        let found = read(&path, &catalogue).unwrap();
        assert_eq!(shown(&found), shown(&expected));
        assert!(found.iter().zip(&expected).all(|(one, two)| one.says_the_same(two)));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        save(&path, &catalogue, &Tables::new(&catalogue)).unwrap();
        assert!(read(&path, &catalogue).unwrap().is_empty());
        fs::write(&path, "x").unwrap();
        assert_eq!(shown(&read(&path, &catalogue).unwrap()), shown(&expected), "the one before");
        fs::write(before(&path), "x").unwrap();
        assert!(read(&path, &catalogue).unwrap_err().ends_with("rows: it is cut off"));
    }

    /// A thousand cuts and flipped bits: a whole configuration or none. `SEED` repeats a run.
    #[test]
    fn a_damaged_file_is_never_half_read() {
        let (catalogue, folder) = (samples::catalogue(), tempfile::tempdir().unwrap());
        let path = folder.path().join("rows");
        save(&path, &catalogue, &filled(&catalogue)).unwrap();
        let whole = fs::read(&path).unwrap();
        assert!(rows(&whole, &catalogue).is_ok());
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
        let seed: u64 = seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        println!("SEED={seed}");
        let mut state = seed;
        let mut below = |bound: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % bound
        };
        for round in 0..1_000 {
            let mut bytes = whole.clone();
            if round % 2 == 0 {
                bytes.truncate(below(whole.len()));
            } else {
                for _ in 0..=below(4) {
                    let at = below(whole.len());
                    bytes[at] ^= 1 << below(8);
                }
            }
            if bytes != whole {
                assert!(rows(&bytes, &catalogue).is_err(), "seed {seed}, round {round}");
            }
        }
    }

    #[test]
    fn the_keeper_writes_the_newest_before_it_ends() {
        let (catalogue, folder) = (samples::catalogue(), tempfile::tempdir().unwrap());
        let path = folder.path().join("rows");
        let keeper = Keeper::start(path.clone(), catalogue.clone()).unwrap();
        keeper.keep(&Arc::new(Tables::new(&catalogue)));
        keeper.keep(&Arc::new(filled(&catalogue)));
        drop(keeper);
        assert_eq!(read(&path, &catalogue).unwrap().len(), 40);
    }
}

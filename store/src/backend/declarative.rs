//! No database: rows in memory, and the last configuration that was good in a file.
//!
//! ```text
//! tollgate-declarative 1 <MD5 of what follows> <configuration hash>
//! {"entity": "services", "values": {…}}          one line a row
//! ```
//! The file is written beside the old one and then renamed, so that one of them is always whole;
//! the one before stays as `….previous`. Both are for the owner alone: they hold secrets.

use super::{Backend, BackendFault, CommitFault};
use crate::declarative::hash;
use crate::schema::Catalogue;
use crate::snapshot::Change;
use crate::value::{Row, Value};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

/// What the first line begins with.
const MAGIC: &str = "tollgate-declarative 1";
/// Only the owner may read it.
const MODE: u32 = 0o600;
/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 4 << 30;

/// Rows in memory.
pub struct Declarative {
    file: PathBuf,
    hash: u128,
    /// By their entity's place among the parents and children, then by id.
    rows: BTreeMap<(usize, Uuid), Arc<Row>>,
    /// The entities, parents before children.
    order: Vec<&'static str>,
    /// What a document gave in the place of the file.
    given: Option<Vec<Row>>,
}

impl Declarative {
    /// With the configuration that the file has, if there is a whole one.
    #[must_use]
    pub fn open(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            hash: 0,
            rows: BTreeMap::new(),
            order: Vec::new(),
            given: None,
        }
    }

    /// With another configuration, which goes into the file as soon as it is loaded.
    #[must_use]
    pub fn with(file: &Path, rows: Vec<Row>, hash: u128) -> Self {
        Self { hash, given: Some(rows), ..Self::open(file) }
    }

    /// Whether there is a last good configuration.
    #[must_use]
    pub fn is_kept(file: &Path) -> bool {
        file.exists() || previous(file).exists()
    }

    fn save(&self) -> std::io::Result<()> {
        let mut body = String::new();
        for row in self.rows.values() {
            let _written = writeln!(body, "{}", line(row));
        }
        let sum = hash(body.as_bytes());
        let head = format!("{MAGIC} {sum:032x} {:032x}\n", self.hash);
        let next = beside(&self.file, "next");
        let mut out = OpenOptions::new();
        let mut out = out.write(true).create(true).truncate(true).mode(MODE).open(&next)?;
        out.write_all(head.as_bytes())?;
        out.write_all(body.as_bytes())?;
        out.sync_all()?;
        if self.file.exists() {
            fs::rename(&self.file, previous(&self.file))?;
        }
        fs::rename(&next, &self.file)
    }

    /// The rows of the file, or of the one before if it is damaged.
    fn read(&mut self, catalogue: &Catalogue) -> Vec<Row> {
        for file in [self.file.clone(), previous(&self.file)] {
            match read(&file, catalogue) {
                Ok(Some((rows, hash))) => {
                    self.hash = hash;
                    return rows;
                }
                Ok(None) => {}
                Err(why) => {
                    log::error!("the last good configuration {}: {why}", file.display());
                }
            }
        }
        Vec::new()
    }
}

impl Backend for Declarative {
    fn name(&self) -> &'static str {
        "off"
    }

    fn load(
        &mut self,
        catalogue: &Catalogue,
        each: &mut dyn FnMut(Row),
    ) -> Result<(), BackendFault> {
        self.order = catalogue.entities.iter().map(|entity| entity.name).collect();
        let given = self.given.take();
        let is_new = given.is_some();
        let rows = match given {
            Some(rows) => rows,
            None => self.read(catalogue),
        };
        for row in rows {
            let place = catalogue.entities.iter().position(|entity| *entity == row.entity());
            self.rows.insert((place.unwrap_or(usize::MAX), row.id()), Arc::new(row));
        }
        if is_new && let Err(CommitFault::Failed(fault)) = self.commit(&[]) {
            return Err(fault);
        }
        self.rows.values().for_each(|row| each(Row::clone(row)));
        Ok(())
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), CommitFault> {
        let before = self.rows.clone();
        for change in changes {
            let place = self.order.iter().position(|name| *name == change.entity.name);
            let place = place.unwrap_or(usize::MAX);
            match (&change.before, &change.after) {
                (_, Some(row)) => drop(self.rows.insert((place, row.id()), Arc::clone(row))),
                (Some(row), None) => drop(self.rows.remove(&(place, row.id()))),
                (None, None) => {}
            }
        }
        self.save().map_err(|why| {
            self.rows = before;
            let file = self.file.display();
            let words = format!("the configuration cannot be kept in {file}: {why}");
            CommitFault::Failed(BackendFault(words))
        })
    }

    fn config_hash(&self) -> u128 {
        self.hash
    }

    fn keep_hash(&mut self, hash: u128) {
        self.hash = hash;
    }

    fn reachable(&mut self) -> bool {
        true
    }
}

fn beside(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(end);
    name.into()
}

fn previous(file: &Path) -> PathBuf {
    beside(file, "previous")
}

fn line(row: &Row) -> Json {
    let values: Map<_, _> = row
        .iter()
        .filter(|(field, _)| !field.transient)
        .map(|(field, value)| (field.name.to_owned(), value.stored()))
        .collect();
    let mut line = json!({ "entity": row.entity().name, "values": values });
    if let Some(expires_at_s) = row.expires_at_s() {
        line["expires_at"] = expires_at_s.into();
    }
    line
}

fn read(file: &Path, catalogue: &Catalogue) -> Result<Option<(Vec<Row>, u128)>, String> {
    let size = match fs::metadata(file) {
        Ok(known) => known.len(),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(why.to_string()),
    };
    if size > FILE_BYTES_MAX {
        return Err(format!("is larger than {FILE_BYTES_MAX} bytes"));
    }
    let text = fs::read_to_string(file).map_err(|why| why.to_string())?;
    let damaged = || "is damaged".to_owned();
    let (head, body) = text.split_once('\n').ok_or_else(damaged)?;
    let (magic, sums) = head.split_at_checked(MAGIC.len()).ok_or_else(damaged)?;
    let mut sums = sums.split_ascii_whitespace().map(|sum| u128::from_str_radix(sum, 16));
    let (Some(Ok(sum)), Some(Ok(config))) = (sums.next(), sums.next()) else {
        return Err(damaged());
    };
    if magic != MAGIC || sum != hash(body.as_bytes()) {
        return Err(damaged());
    }
    let rows = body.lines().filter_map(|line| row(line, catalogue));
    Ok(Some((rows.collect(), config)))
}

/// A row of an entity that this program still has.
fn row(line: &str, catalogue: &Catalogue) -> Option<Row> {
    let mut line: Json = serde_json::from_str(line).ok()?;
    let entity = catalogue.entity(line.get("entity")?.as_str()?)?;
    let values = line.get_mut("values")?;
    let values = entity
        .fields
        .iter()
        .map(|field| Value::from(values.get_mut(field.name).map(Json::take).unwrap_or_default()));
    let values = values.collect();
    let expires_at_s = line.get("expires_at").and_then(Json::as_i64);
    Some(Row::load(entity, catalogue, values, expires_at_s))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::samples;
    use std::os::unix::fs::PermissionsExt;

    fn service(name: &str) -> Vec<Row> {
        let catalogue = samples::catalogue();
        let input = json!({"name": name, "host": "h"});
        let row = crate::script::row(&catalogue, "services", &input).unwrap();
        vec![Row::clone(&row)]
    }

    fn names(backend: &mut Declarative) -> Vec<String> {
        let mut names = Vec::new();
        let mut each = |row: Row| names.push(row.text("name").unwrap_or_default().to_owned());
        backend.load(&samples::catalogue(), &mut each).unwrap();
        names
    }

    #[test]
    fn the_last_good_configuration_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kept");
        assert!(!Declarative::is_kept(&file));
        assert!(names(&mut Declarative::open(&file)).is_empty());
        assert_eq!(names(&mut Declarative::with(&file, service("a"), 1)), ["a"]);
        assert_eq!(names(&mut Declarative::with(&file, service("b"), 2)), ["b"]);
        let mut again = Declarative::open(&file);
        assert_eq!((names(&mut again), again.config_hash()), (vec!["b".to_owned()], 2));
        for file in [&file, &previous(&file)] {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, MODE);
        }
        let whole = fs::read_to_string(&file).unwrap();
        for damage in
            [whole.replace("\"b\"", "\"c\""), whole[..whole.len() / 2].to_owned(), String::new()]
        {
            fs::write(&file, damage).unwrap();
            let mut again = Declarative::open(&file);
            assert_eq!((names(&mut again), again.config_hash()), (vec!["a".to_owned()], 1));
        }
        fs::remove_file(&file).unwrap();
        assert!(Declarative::is_kept(&file), "the one before is left");
    }
}

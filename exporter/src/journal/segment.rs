//! A segment: entries for one destination in one file.

use super::entry::{self, HEAD_BYTES, Head};
use crate::sink::Target;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A segment is closed when it has this many bytes.
pub const SEGMENT_BYTES_MAX: u64 = 8 << 20;
/// A segment larger than this cannot be ours: one round's entries more than the maximum.
const FILE_BYTES_MAX: u64 = 1 << 30;
const MAGIC: &[u8; 8] = b"tgseg\0\x01\0";

/// A segment's name in its generation.
pub fn file_name(lane: u64, number: u32) -> String {
    format!("{lane:016x}-{number:08x}.seg")
}

/// Lane and number of a segment's file name.
pub fn parse_name(name: &str) -> Option<(u64, u32)> {
    let (lane, number) = name.strip_suffix(".seg")?.split_once('-')?;
    Some((u64::from_str_radix(lane, 16).ok()?, u32::from_str_radix(number, 16).ok()?))
}

/// An open segment; the newest of its destination and generation.
#[derive(Debug)]
pub struct Segment {
    /// For readers.
    pub file: Arc<File>,
    /// Where it lies.
    pub path: PathBuf,
    /// Its number within lane and generation.
    pub number: u32,
    /// Bytes that are whole.
    pub bytes: u64,
}

impl Segment {
    /// Makes an empty segment that says whom it is for.
    ///
    /// # Errors
    /// The file cannot be made; nothing is left.
    pub fn create(dir: &Path, lane: u64, number: u32, target: &Target) -> io::Result<Self> {
        let path = dir.join(file_name(lane, number));
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        let text = target.to_json();
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&(text.len() as u32).to_le_bytes());
        head.extend_from_slice(&crc32fast::hash(&text).to_le_bytes());
        head.extend_from_slice(&text);
        if let Err(fault) = file.write_all_at(&head, 0) {
            fs::remove_file(&path)?;
            return Err(fault);
        }
        Ok(Self { file: Arc::new(file), path, number, bytes: head.len() as u64 })
    }

    /// Appends whole entries: all of `bytes` or nothing.
    ///
    /// # Errors
    /// The disk refuses. The same bytes may be tried again later.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(fault) = self.file.write_all_at(bytes, self.bytes) {
            // What came through in part is cut off again; if that fails, the next append writes
            // over it, and an adopter cuts it off.
            self.file.set_len(self.bytes)?;
            return Err(fault);
        }
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// What a dead process left in one segment.
#[derive(Debug)]
pub struct Scan {
    /// The file.
    pub file: File,
    /// Whom it is for.
    pub target: Target,
    /// Each whole entry with the offset of its head.
    pub entries: Vec<(u64, Head)>,
    /// Where the whole entries end.
    pub end: u64,
    /// Bytes behind that.
    pub torn_bytes: u64,
}

/// Reads a segment; `None` if not even its head is whole (then no entry was ever in it).
///
/// # Errors
/// The file cannot be read.
pub fn scan(path: &Path) -> io::Result<Option<Scan>> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let file_bytes = file.metadata()?.len();
    if file_bytes > FILE_BYTES_MAX {
        return Err(io::Error::other("larger than any segment"));
    }
    let mut bytes = vec![0; file_bytes as usize];
    file.read_exact_at(&mut bytes, 0)?;
    let Some((target, start)) = head(&bytes) else { return Ok(None) };
    let mut entries = Vec::new();
    let mut at = start;
    while let Some(head) = bytes.get(at..).and_then(entry::read) {
        entries.push((at as u64, head));
        at += HEAD_BYTES + head.len as usize;
    }
    let torn_bytes = (bytes.len() - at) as u64;
    Ok(Some(Scan { file, target, entries, end: at as u64, torn_bytes }))
}

fn head(bytes: &[u8]) -> Option<(Target, usize)> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let len = u32::from_le_bytes(*rest.first_chunk()?) as usize;
    let sum = u32::from_le_bytes(*rest.get(4..)?.first_chunk()?);
    let text = rest.get(8..8 + len)?;
    if crc32fast::hash(text) != sum {
        return None;
    }
    Some((Target::from_json(text)?, MAGIC.len() + 8 + len))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry_of(position: u64) -> Vec<u8> {
        let head = Head { len: 0, position, at_us: 0, transaction_id: [1; 16], core: 0, part: 0 };
        let mut bytes = Vec::new();
        entry::push(&mut bytes, &head, |out| out.resize(out.len() + position as usize, b'x'));
        bytes
    }

    /// Cuts a segment at every byte: exactly the entries before the cut are read.
    #[test]
    fn every_cut_leaves_the_entries_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::moesif("app", "http://collector");
        let mut segment = Segment::create(folder.path(), 7, 1, &target).unwrap();
        let head_bytes = segment.bytes;
        let mut ends = vec![head_bytes];
        for position in [0, 5, 11] {
            segment.append(&entry_of(position)).unwrap();
            ends.push(segment.bytes);
        }
        let whole = fs::read(&segment.path).unwrap();
        for cut in 0..=whole.len() {
            let path = folder.path().join("cut.seg");
            fs::write(&path, &whole[..cut]).unwrap();
            let scan = scan(&path).unwrap();
            let Some(scan) = scan else {
                assert!((cut as u64) < head_bytes, "cut at {cut}");
                continue;
            };
            let expected = ends.iter().filter(|end| **end <= cut as u64).count() - 1;
            assert_eq!((scan.entries.len(), scan.target), (expected, target.clone()), "cut {cut}");
            assert_eq!(scan.end + scan.torn_bytes, cut as u64);
        }
    }

    #[test]
    fn names_come_back() {
        assert_eq!(parse_name(&file_name(0xabc, 17)), Some((0xabc, 17)));
        for name in ["lock", "0-1.done", "x-1.seg", "1.seg"] {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }
}

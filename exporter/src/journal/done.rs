//! Up to where a destination has acknowledged: one small file per destination and generation.

use super::entry::fill;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

const SLOT_BYTES: usize = 32;

/// Everything before this place is acknowledged or counted as dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Done {
    /// The segment's number.
    pub segment: u32,
    /// The byte behind the last acknowledged entry.
    pub offset: u64,
}

/// Two slots, written in turn: a write that is cut off leaves the other one.
#[derive(Debug)]
pub struct DoneFile {
    file: File,
    turn: u64,
}

impl DoneFile {
    /// Opens or makes the file, and tells what it says.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> io::Result<(Self, Option<Done>)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let newest = (0..2_u64).filter_map(|slot| read(&file, slot)).max_by_key(|(turn, _)| *turn);
        let turn = newest.map_or(0, |(turn, _)| turn);
        Ok((Self { file, turn }, newest.map(|(_, done)| done)))
    }

    /// Writes a new position over the older of the two slots.
    ///
    /// # Errors
    /// The disk refuses; the older position stays in force, which costs only repeats.
    pub fn write(&mut self, done: Done) -> io::Result<()> {
        let turn = self.turn + 1;
        let mut bytes = [0_u8; SLOT_BYTES];
        let (turn_bytes, offset) = (turn.to_le_bytes(), done.offset.to_le_bytes());
        let segment = done.segment.to_le_bytes();
        fill(&mut bytes, &[&turn_bytes, &offset, &segment]);
        let sum = checksum(&bytes).to_le_bytes();
        fill(&mut bytes, &[&turn_bytes, &offset, &segment, &sum]);
        self.file.write_all_at(&bytes, (turn % 2) * SLOT_BYTES as u64)?;
        self.turn = turn;
        Ok(())
    }
}

fn read(file: &File, slot: u64) -> Option<(u64, Done)> {
    let mut bytes = [0_u8; SLOT_BYTES];
    file.read_exact_at(&mut bytes, slot * SLOT_BYTES as u64).ok()?;
    let number = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let long = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    if number(20)? != checksum(&bytes) {
        return None;
    }
    Some((long(0)?, Done { segment: number(16)?, offset: long(8)? }))
}

/// Over the fields, which are in front of it.
fn checksum(bytes: &[u8; SLOT_BYTES]) -> u32 {
    crc32fast::hash(bytes.get(..20).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_write_leaves_the_position_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.done");
        let (mut done, found) = DoneFile::open(&path).unwrap();
        assert_eq!(found, None);
        for offset in 1..20 {
            done.write(Done { segment: 2, offset }).unwrap();
            let (_, found) = DoneFile::open(&path).unwrap();
            assert_eq!(found, Some(Done { segment: 2, offset }));
        }
        // The newest slot loses its last bytes.
        let slot = done.turn % 2;
        done.file.write_all_at(&[0xff; 5], slot * 32 + 19).unwrap();
        let (_, found) = DoneFile::open(&path).unwrap();
        assert_eq!(found, Some(Done { segment: 2, offset: 18 }));
    }
}

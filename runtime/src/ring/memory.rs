//! The memory under a ring: a mapping with named words. All raw pointers of the ring are here.
//!
//! Layout: one page of words (below), then `capacity` bytes of records. Everything is in the byte
//! order of the machine: a ring never leaves it.

use memmap2::{MmapMut, MmapOptions, MmapRaw};
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

const MAGIC: u64 = u64::from_le_bytes(*b"tollring");
/// Grows when a field of the first page or the protocol changes.
const LAYOUT_VERSION: u64 = 1;
const PAGE_BYTES: usize = 4096;

// Words of the first page. Consumer's and producer's words live on lines of their own.
const AT_MAGIC: usize = 0;
const AT_LAYOUT: usize = 8;
const AT_RECORDS: usize = 16;
const AT_CAPACITY: usize = 24;
const AT_TAIL: usize = 256;
const AT_COMMITTED: usize = 512;
const AT_LOST_FULL: usize = 520;
const AT_LOST_LARGE: usize = 528;

/// A number that the producer keeps in the mapping.
#[derive(Clone, Copy)]
pub(super) enum Counter {
    /// Events in committed records.
    Committed,
    /// Events refused for want of room.
    LostFull,
    /// Events refused for their size.
    LostLarge,
}

/// Why a file cannot be read as a ring.
#[derive(Debug)]
pub enum OpenFault {
    /// The file cannot be opened or mapped.
    Io(io::Error),
    /// Its maker died before the ring was finished: nothing can be in it.
    Unfinished,
    /// Another program version made it.
    UnknownLayout(u64),
    /// Its size or indices cannot be right.
    Damaged,
}

impl From<io::Error> for OpenFault {
    fn from(fault: io::Error) -> Self {
        Self::Io(fault)
    }
}

/// A mapping, and nothing that knows what the words mean together.
pub(super) struct Memory {
    map: MmapRaw,
    capacity: u64,
}

impl Memory {
    /// Bytes of a file that holds `capacity` bytes of records.
    pub(super) fn file_bytes(capacity: u64) -> u64 {
        PAGE_BYTES as u64 + capacity
    }

    /// Maps a fresh file whose blocks are already there, and writes the first page.
    pub(super) fn create(file: &File, capacity: u64, record_version: u32) -> io::Result<Self> {
        let len = usize::try_from(Self::file_bytes(capacity)).map_err(io::Error::other)?;
        let map = MmapOptions::new().len(len).map_raw(file)?;
        Ok(Self::finished(map, capacity, record_version))
    }

    /// Memory that dies with the process.
    pub(super) fn anonymous(capacity: u64, record_version: u32) -> io::Result<Self> {
        let len = usize::try_from(Self::file_bytes(capacity)).map_err(io::Error::other)?;
        let map = MmapRaw::from(MmapMut::map_anon(len)?);
        Ok(Self::finished(map, capacity, record_version))
    }

    fn finished(map: MmapRaw, capacity: u64, record_version: u32) -> Self {
        let memory = Self { map, capacity };
        memory.word(AT_LAYOUT).store(LAYOUT_VERSION, Ordering::Relaxed);
        memory.word(AT_RECORDS).store(u64::from(record_version), Ordering::Relaxed);
        memory.word(AT_CAPACITY).store(capacity, Ordering::Relaxed);
        memory.word(AT_MAGIC).store(MAGIC, Ordering::Release);
        memory
    }

    /// Maps what another process left. Gives the version of the records in it, too.
    pub(super) fn open(file: &File) -> Result<(Self, u32), OpenFault> {
        let file_bytes = file.metadata()?.len();
        if file_bytes <= PAGE_BYTES as u64 {
            return Err(OpenFault::Unfinished);
        }
        let len = usize::try_from(file_bytes).map_err(|_| OpenFault::Damaged)?;
        let map = MmapOptions::new().len(len).map_raw(file)?;
        let memory = Self { map, capacity: file_bytes - PAGE_BYTES as u64 };
        if memory.word(AT_MAGIC).load(Ordering::Acquire) == 0 {
            return Err(OpenFault::Unfinished);
        }
        if memory.word(AT_MAGIC).load(Ordering::Acquire) != MAGIC {
            return Err(OpenFault::Damaged);
        }
        let layout = memory.word(AT_LAYOUT).load(Ordering::Relaxed);
        if layout != LAYOUT_VERSION {
            return Err(OpenFault::UnknownLayout(layout));
        }
        let capacity = memory.word(AT_CAPACITY).load(Ordering::Relaxed);
        let aligned = memory.tail().is_multiple_of(super::protocol::WORD_BYTES);
        if capacity != memory.capacity || !capacity.is_power_of_two() || !aligned {
            return Err(OpenFault::Damaged);
        }
        let records = memory.word(AT_RECORDS).load(Ordering::Relaxed);
        Ok((memory, records as u32))
    }

    /// Bytes for records; a power of two.
    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Where a position lies in the record area.
    pub(super) fn offset(&self, position: u64) -> u64 {
        position & (self.capacity - 1)
    }

    /// The word in front of a record, with acquire.
    pub(super) fn load_word(&self, offset: u64) -> u64 {
        self.word(PAGE_BYTES + offset as usize).load(Ordering::Acquire)
    }

    /// The word in front of a record, with release: publishes all that was written before.
    pub(super) fn store_word(&self, offset: u64, value: u64) {
        self.word(PAGE_BYTES + offset as usize).store(value, Ordering::Release);
    }

    /// Empties a word that no reader can stand at yet; published by the next release.
    pub(super) fn clear_word(&self, offset: u64) {
        self.word(PAGE_BYTES + offset as usize).store(0, Ordering::Relaxed);
    }

    /// Up to where the consumer has released.
    pub(super) fn tail(&self) -> u64 {
        self.word(AT_TAIL).load(Ordering::Acquire)
    }

    /// Releases up to here.
    pub(super) fn set_tail(&self, tail: u64) {
        self.word(AT_TAIL).store(tail, Ordering::Release);
    }

    /// One of the producer's numbers.
    pub(super) fn counter(&self, counter: Counter) -> u64 {
        self.word(at(counter)).load(Ordering::Relaxed)
    }

    /// Sets one of the producer's numbers; only the producer does.
    pub(super) fn set_counter(&self, counter: Counter, value: u64) {
        self.word(at(counter)).store(value, Ordering::Relaxed);
    }

    /// Copies `bytes` into the record area.
    ///
    /// # Safety
    /// Until the next release-store of a word nobody may read or write this range.
    pub(super) unsafe fn write(&self, offset: u64, bytes: &[u8]) {
        let at = PAGE_BYTES + offset as usize;
        assert!(at + bytes.len() <= self.map.len(), "a write beyond the ring");
        // SAFETY: in bounds by the assertion; the source is a live slice that cannot lie in the
        // range, which nobody else touches by this function's own condition.
        unsafe {
            let to = self.map.as_mut_ptr().add(at);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
    }

    /// Lends a range of the record area.
    ///
    /// # Safety
    /// Nobody may write the range while the slice lives.
    pub(super) unsafe fn read(&self, offset: u64, len: u64) -> &[u8] {
        let (at, len) = (PAGE_BYTES + offset as usize, len as usize);
        assert!(at + len <= self.map.len(), "a read beyond the ring");
        // SAFETY: in bounds by the assertion, initialised (mapped zero pages or written), alive
        // as long as `self`, and unwritten by this function's own condition.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(at), len) }
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at + 8 <= self.map.len() && at.is_multiple_of(8), "a word beyond the ring");
        // SAFETY: in bounds and aligned by the assertion (the mapping begins at a page), alive as
        // long as `self`; words are only ever accessed as atomics while the ring is shared.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(at).cast()) }
    }
}

const fn at(counter: Counter) -> usize {
    match counter {
        Counter::Committed => AT_COMMITTED,
        Counter::LostFull => AT_LOST_FULL,
        Counter::LostLarge => AT_LOST_LARGE,
    }
}

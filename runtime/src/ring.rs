//! The event ring: a bounded queue from one core to the exporter that survives the process.
//!
//! ```text
//!   position 0                                    tail ≤ every committed record < head
//!   | word bytes | word bytes | PAD .... |  (wraps)  | word bytes | 0 |
//! ```
//! One producer, one consumer. A record is a word (length and checksum) and its bytes; the word
//! is stored last, with release, and is the only thing that makes a record exist. The word behind
//! the newest record is always empty, so a reader needs no head: it walks until it finds the empty
//! word. The consumer's tail lives in the mapping.
//!
//! What that gives after a SIGKILL at any instruction: the file holds exactly the records that
//! were committed and not yet released, whole and in order. Proven by `ring/tests.rs`: every store
//! of a producer replayed and cut, and the live protocol under loom.
//!
//! What it does not give: "exactly once" by itself. A consumer that is killed between making a
//! record safe and releasing it will meet the record again. Each record therefore has a position
//! that never repeats in its ring; (generation, core, position) is written beside whatever a
//! record was turned into, and whoever adopts the ring skips what is already there. The journal of
//! the exporter does this; nothing here relies on it.
//!
//! A kernel crash or power loss takes the ring with it: it is memory.

#![allow(unsafe_code, reason = "a mapping shared with a later process is raw memory")]

mod bell;
mod memory;
mod protocol;
#[cfg(test)]
mod tests;

pub use bell::Bell;
pub use memory::OpenFault;
pub use protocol::{Consumer, Counts, Gauge, Next, Producer, Refusal, Slot};

use memory::Memory;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

/// The smallest ring that makes sense: a few heads.
pub const RING_BYTES_MIN: usize = 64 << 10;
/// The largest: record lengths and pads are 31-bit numbers.
pub const RING_BYTES_MAX: usize = 1 << 30;

/// Makes a ring in a new file, readable by its owner alone.
///
/// `bytes` is rounded up to a power of two within [`RING_BYTES_MIN`] and [`RING_BYTES_MAX`]. The
/// blocks are allocated before the first write, because a write into a hole of a full file system
/// would end the process with SIGBUS.
///
/// # Errors
/// The file exists, cannot be made, or its file system has no room: then nothing is left behind.
pub fn create(path: &Path, bytes: usize, record_version: u32) -> io::Result<(Producer, Consumer)> {
    let capacity = capacity_of(bytes);
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    let made = allocate(&file, Memory::file_bytes(capacity))
        .and_then(|()| Memory::create(&file, capacity, record_version));
    match made {
        Ok(memory) => Ok(ends(memory)),
        Err(fault) => {
            std::fs::remove_file(path)?;
            Err(fault)
        }
    }
}

/// Makes a ring that dies with the process, where shared memory is not to be had.
///
/// # Errors
/// The system has no memory.
pub fn anonymous(bytes: usize, record_version: u32) -> io::Result<(Producer, Consumer)> {
    Ok(ends(Memory::anonymous(capacity_of(bytes), record_version)?))
}

/// Opens the reading end of a ring whose process is dead, and tells the version of its records.
///
/// The caller holds the lock that proves the death; two readers would release under each other.
///
/// # Errors
/// The file is not a ring that this version can read; it is left as it is.
pub fn open(path: &Path) -> Result<(Consumer, u32), OpenFault> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let (memory, record_version) = Memory::open(&file)?;
    Ok((Consumer::new(Arc::new(memory)), record_version))
}

fn ends(memory: Memory) -> (Producer, Consumer) {
    let memory = Arc::new(memory);
    (Producer::new(Arc::clone(&memory)), Consumer::new(memory))
}

fn capacity_of(bytes: usize) -> u64 {
    bytes.clamp(RING_BYTES_MIN, RING_BYTES_MAX).next_power_of_two() as u64
}

fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes)?;
    Ok(())
}

//! Finished events that are not delivered yet, on disk: segments of checksummed entries.
//!
//! ```text
//!   <prefix>/journal/lock                         held while generations are made or removed
//!   <prefix>/journal/<generation>/lock            held as long as a process owns the generation
//!   <prefix>/journal/<generation>/<lane>-<n>.seg  entries for one destination, oldest first
//!   <prefix>/journal/<generation>/<lane>.done     up to where the destination has acknowledged
//!   <ring dir>/tollgate-…/<generation>/           the rings, and the settings their records need
//! ```
//! # Why nothing is lost and nothing gets a second id
//! An event lives in its ring until `write` into a segment has returned, and in its segment until
//! it is acknowledged or counted as dropped. Both are the kernel's: a SIGKILL takes neither.
//! Three rules make every instruction a safe place to die at, adoption included:
//!
//! 1. *Entries before release.* A round takes records from the rings, appends their entries, and
//!    only then releases the rings. Killed in between, a record is in both places. So each entry
//!    carries (core, position, part) of its record, which never repeat in a generation, and whoever
//!    adopts the ring skips what the same generation's journal already holds for that destination.
//! 2. *Rotation at round ends.* A new segment is begun only when everything appended so far has
//!    been released. So whatever is still unreleased stands in the newest segment of its
//!    destination, and a segment is only deleted when it is not the newest: the evidence that rule
//!    1 needs is never deleted too early.
//! 3. *Adoption changes nothing but owners.* A dead generation is drained into its own journal,
//!    under its own name, by the same code and the same rules; it is not merged into another one.
//!    A process that is killed while adopting leaves the generation as one that died itself. Its
//!    rings are removed when they are empty, and its segments are sent only after that.
//!
//! A torn entry at the end of a segment was never released from its ring: it is cut off and made
//! again. Acknowledgements are written after each answer of the destination and before its next
//! batch; killed in between, that batch is sent again under the same transaction ids, which the
//! destination discards: at-least-once with stable ids.
//!
//! Nothing is fsynced: power loss may cost what the kernel had not written back.

pub mod done;
pub mod entry;
pub mod generation;
pub mod segment;

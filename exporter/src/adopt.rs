//! Taking over what dead processes have left, and leaving in order.
//!
//! See `journal.rs` for the rules; this file follows rule 3: a dead generation is drained into its
//! own journal, and nothing of it is sent before its rings are gone.

use crate::drain::{Drained, Holding, Works, drain_ring, now_ms};
use crate::event::RECORD_VERSION;
use crate::intake::{Intake, Journaled};
use crate::journal::done::{Done, DoneFile};
use crate::journal::entry::Head;
use crate::journal::generation::Generation;
use crate::journal::segment::{Scan, parse_name, scan};
use crate::lane::{Found, Lane, done_name};
use crate::logs::Logs;
use crate::losses::Loss;
use crate::registry::{FILE_NAME, Registry};
use runtime::ring::{self, Consumer, OpenFault};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rounds that one ring is drained in at most: far more than the largest ring has.
const RING_ROUNDS_MAX: usize = 1 << 16;

/// Adopts every dead generation, oldest first.
///
/// # Errors
/// The directories cannot be read. A single generation that cannot be adopted is left as it is,
/// said once, and tried again at the next start.
pub(crate) fn adopt_all(works: &mut Works) -> io::Result<()> {
    for generation in works.house.adopt()? {
        let name = generation.name.clone();
        let number = works.holdings.len();
        works.holdings.push(Some(Holding { generation, segments: 0, keep: true }));
        match adopt(works, number) {
            Ok(events) if events > 0 => {
                log::info!("took over {events} events of generation {name}");
            }
            Ok(_) => {}
            Err(fault) => {
                log::error!("generation {name} cannot be taken over now: {fault}");
                unstage(works);
            }
        }
    }
    // Segments of which everything was acknowledged.
    (0..works.lanes.lanes.len()).for_each(|lane| works.persist(lane));
    Ok(())
}

/// What could not be written stays in its ring, for the next start.
fn unstage(works: &mut Works) {
    let events: u64 = works.lanes.lanes.iter_mut().map(Lane::unstage).sum();
    works.lanes.lanes.iter_mut().for_each(Lane::close);
    works.shared.ledger.enter(|entries| {
        entries.adopted -= events;
        entries.queued -= events;
    });
}

fn adopt(works: &mut Works, number: usize) -> io::Result<u64> {
    let mut journaled = Journaled::new();
    let mut events = adopt_segments(works, number, &mut journaled)?;
    let rings = works.holdings.get(number).and_then(Option::as_ref);
    let rings = rings.and_then(|holding| holding.generation.rings.clone());
    let drained = match rings.filter(|rings| rings.is_dir()) {
        Some(rings) => adopt_rings(works, number, &rings, journaled)?,
        None => Some(0),
    };
    // What was begun for this generation must not go on with another's events.
    works.lanes.lanes.iter_mut().for_each(Lane::close);
    let Some(Some(holding)) = works.holdings.get_mut(number) else { return Ok(events) };
    if let Some(drained) = drained {
        events += drained;
        holding.generation.remove_rings()?;
        holding.keep = false;
        if holding.segments == 0 {
            works.let_go(number);
        }
    }
    Ok(events)
}

/// Reads a generation's segments into their lanes; gives the number of events in them.
fn adopt_segments(works: &mut Works, number: usize, journaled: &mut Journaled) -> io::Result<u64> {
    let Some(Some(holding)) = works.holdings.get(number) else { return Ok(0) };
    let journal = holding.generation.journal.clone();
    let mut shelves: HashMap<u64, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir(&journal)? {
        let name = entry?.file_name();
        if let Some((lane, segment)) = name.to_str().and_then(parse_name) {
            shelves.entry(lane).or_default().push(segment);
        }
    }
    let mut events = 0;
    for (lane, mut numbers) in shelves {
        numbers.sort_unstable();
        let (_, done) = DoneFile::open(&journal.join(done_name(lane)))?;
        for segment in numbers {
            events += adopt_segment(works, number, &journal, (lane, segment), done, journaled)?;
        }
    }
    works.shared.ledger.enter(|entries| {
        entries.adopted += events;
        entries.queued += events;
    });
    Ok(events)
}

fn adopt_segment(
    works: &mut Works,
    generation: usize,
    journal: &Path,
    (hash, number): (u64, u32),
    done: Option<Done>,
    journaled: &mut Journaled,
) -> io::Result<u64> {
    let path = journal.join(crate::journal::segment::file_name(hash, number));
    let Some(scan) = scan(&path)? else {
        // Its process died while making it: no entry was ever in it.
        fs::remove_file(&path)?;
        return Ok(0);
    };
    let Some(lane) = works.lanes.lane_of_target(&scan.target) else { return Ok(0) };
    for (_, head) in &scan.entries {
        let newest = journaled.entry((lane, head.core)).or_insert(head.origin());
        *newest = head.origin().max(*newest);
    }
    if scan.torn_bytes > 0 {
        scan.file.set_len(scan.end)?;
    }
    let Some(lane) = works.lanes.lanes.get_mut(lane) else { return Ok(0) };
    lane.reserve_number(generation, number);
    let entries = unsettled(&scan, number, done);
    let events = entries.len() as u64;
    let Scan { file, end: bytes, .. } = scan;
    lane.adopt(Found { generation, number, file, path, bytes, entries }, now_ms());
    if let Some(Some(holding)) = works.holdings.get_mut(generation) {
        holding.segments += 1;
    }
    Ok(events)
}

/// Offset and length of the entries that were not acknowledged.
fn unsettled(scan: &Scan, number: u32, done: Option<Done>) -> Vec<(u64, u32)> {
    let entry_bytes = |head: &Head| crate::journal::entry::HEAD_BYTES as u32 + head.len;
    let open =
        |offset: u64| done.is_none_or(|done| (number, offset) >= (done.segment, done.offset));
    let entries = scan.entries.iter().filter(|(offset, _)| open(*offset));
    entries.map(|(offset, head)| (*offset, entry_bytes(head))).collect()
}

/// Drains a dead generation's rings into its journal; gives the number of events, or `None` if a
/// ring must stay.
fn adopt_rings(
    works: &mut Works,
    number: usize,
    rings: &Path,
    journaled: Journaled,
) -> io::Result<Option<u64>> {
    let registry = Arc::new(Registry::read(rings)?);
    // The rows that log records name went with their process: such entries are counted, no more.
    let logs = Logs::new(Arc::default(), Arc::clone(&works.shared.bell));
    let mut intake = Intake::new(registry, logs);
    intake.journaled = journaled;
    let (mut events, mut all) = (0, true);
    for (core, path) in ring_files(rings)? {
        match ring::open(&path) {
            Ok((mut ring, RECORD_VERSION)) => {
                events += adopt_ring(works, number, &mut ring, core, &mut intake)?;
            }
            Ok(_) | Err(OpenFault::UnknownLayout(_)) => {
                log::warn!("{} is of another version and stays", path.display());
                works.shared.ledger.enter(|entries| entries.rings_set_aside += 1);
                all = false;
            }
            // Its process died before the ring was finished: nothing was ever in it.
            Err(OpenFault::Unfinished) => {}
            Err(OpenFault::Damaged) => log::error!("{} is damaged", path.display()),
            Err(OpenFault::Io(fault)) => return Err(fault),
        }
    }
    Ok(all.then_some(events))
}

fn adopt_ring(
    works: &mut Works,
    number: usize,
    ring: &mut Consumer,
    core: u16,
    intake: &mut Intake,
) -> io::Result<u64> {
    let mut events = 0;
    for _round in 0..RING_ROUNDS_MAX {
        let drained = drain_ring(ring, core, intake, &mut works.lanes, now_ms());
        let mut tally = std::mem::take(&mut intake.tally);
        if matches!(drained, Drained::Broken) {
            // How many there were, nobody knows; one at least.
            log::error!("the ring of core {core} of a dead process is damaged");
            tally.events += 1;
            tally.dropped.add(Loss::Unreadable, 1);
        }
        events += tally.events;
        works.enter(&tally, true);
        works.flush(number)?;
        ring.release();
        if !matches!(drained, Drained::More) {
            break;
        }
    }
    Ok(events)
}

/// The rings in a directory with the number of their core, in order.
fn ring_files(rings: &Path) -> io::Result<Vec<(u16, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(rings)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let core = name.strip_prefix("core-").and_then(|name| name.strip_suffix(".ring"));
        match core.and_then(|core| core.parse().ok()) {
            Some(core) => files.push((core, path)),
            None if name == FILE_NAME => {}
            None => log::debug!("{} is not ours", path.display()),
        }
    }
    files.sort();
    Ok(files)
}

/// The name of one core's ring.
pub(crate) fn ring_name(core: usize) -> String {
    format!("core-{core}.ring")
}

/// The end of a process that has drained its rings: they go, and so does its generation if all of
/// it is settled.
pub(crate) fn leave(works: &mut Works) {
    works.lanes.lanes.iter_mut().for_each(Lane::close);
    let own = works.own;
    if let Some(Some(holding)) = works.holdings.get_mut(own) {
        holding.keep = false;
        if let Err(fault) = holding.generation.remove_rings() {
            log::warn!("drained rings cannot be removed: {fault}");
        }
    }
    works.house.tidy();
    for lane in 0..works.lanes.lanes.len() {
        works.persist(lane);
    }
    if works.holdings.get(own).and_then(Option::as_ref).is_some_and(|own| own.segments == 0) {
        works.let_go(own);
    }
}

/// Makes the generation of this process and its registry.
///
/// # Errors
/// The journal's directory cannot be made.
pub(crate) fn begin(works: &mut Works, name: &str) -> io::Result<Arc<Registry>> {
    let mut generation: Generation = works.house.create(name)?;
    let registry = match Registry::create(generation.rings.as_deref()) {
        Ok(registry) => registry,
        Err(_) => {
            // Without saved settings no other process could mask the records: no shared memory.
            generation.rings = None;
            Registry::create(None)?
        }
    };
    works.own = works.holdings.len();
    works.holdings.push(Some(Holding { generation, segments: 0, keep: true }));
    Ok(Arc::new(registry))
}

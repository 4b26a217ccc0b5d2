//! What other nodes wrote becomes ours.

use crate::backend::Found;
use crate::snapshot::{Change, Tables};
use std::sync::Arc;

/// The tables with what was found, and what that changes.
///
/// Rows that are gone or changed go first and come back after, because two rows may have swapped a
/// unique value. Rows that are as they were stay as they are, version and all.
pub(super) fn adopt(
    before: &Tables,
    found: Vec<Found>,
    version: &mut u64,
) -> (Tables, Vec<Change>) {
    let mut tables = before.clone();
    let mut changes = Vec::new();
    let mut fresh = Vec::new();
    for Found { entity, id, row } in found {
        let known = tables.get(entity.name, id).cloned();
        match (known, row) {
            (None, None) => {}
            (Some(known), Some(row)) if known.says_the_same(&row) => {}
            (known, row) => {
                tables.remove(entity, id);
                fresh.push((entity, known, row));
            }
        }
    }
    for (entity, before, row) in fresh {
        *version += 1;
        let after = row.map(|row| Arc::new(row.numbered(*version)));
        if let Some(row) = &after
            && let Err(taken) = tables.put(row)
        {
            // The row that has it is about to change too: the next look finds both.
            log::warn!("{} {} waits: {taken:?} is still taken", entity.name, row.id());
            continue;
        }
        changes.push(Change { entity, before, after });
    }
    if !changes.is_empty() {
        tables.set_number(*version);
    }
    (tables, changes)
}

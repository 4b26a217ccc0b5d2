//! The office's book of Upstreams: rows, addresses and marks become balancers here.
//!
//! The store's thread brings rows, the desk brings addresses and the outcome of checks; both make
//! what is concerned anew and pin it to the board. The lock is between those two: no core takes it.

mod entry;
mod marking;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runtime::board::Board;
use runtime::clock;
use store::snapshot::Change;
use tokio::sync::Notify;
use uuid::Uuid;

use super::directory::Directory;
use super::marks::Sign;
use super::upstream::Upstream;
use super::vital::Vital;
use super::{Balancer, Seat};
use crate::desk::checks::Trust;
use crate::names::{Answer, NameFault};
use entry::Entry;
pub use entry::{Behind, Target};
pub use marking::{Peer, View, Which};

/// Names that one look at the queue hands out.
pub const NAMES_DUE_MAX: usize = 256;
/// A record's own time and so much more passes before a name is looked up again.
const RENEW_AFTER_US: u64 = 500_000;
/// A name without addresses is looked up again after this, in microseconds.
const RETRY_AFTER_US: u64 = 5_000_000;

/// A name that should be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueName {
    /// The Upstream.
    pub upstream: Uuid,
    /// The target.
    pub target: Uuid,
    /// Its name.
    pub host: Box<str>,
}

/// One round of active checks.
pub struct Round {
    /// The Upstream, with what is checked and how.
    pub upstream: Arc<Upstream>,
    /// The peers.
    pub seats: Vec<Seat>,
    /// Held while the round runs: the next one waits for it.
    pub running: Arc<()>,
    /// What is shown and believed, where that is not what the settings say.
    pub trust: Option<Arc<Trust>>,
}

/// The book.
pub struct Registry {
    book: Mutex<Book>,
    board: Arc<Board<Directory>>,
    news: Notify,
}

#[derive(Default)]
struct Book {
    entries: BTreeMap<Uuid, Entry>,
    /// When which target's name is looked up next.
    queue: BTreeSet<(u64, Uuid, Uuid)>,
    directory: Directory,
}

impl Registry {
    /// An empty book.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            book: Mutex::default(),
            board: Arc::new(Board::new(Arc::new(Directory::default()))),
            news: Notify::new(),
        })
    }

    /// Where the balancers hang.
    #[must_use]
    pub fn board(&self) -> &Arc<Board<Directory>> {
        &self.board
    }

    /// Takes changed rows in. When it returns, every core sees them at its next request, but for
    /// names that must be looked up first.
    pub fn apply(&self, changes: &[Change]) {
        let mut touched = BTreeSet::new();
        let mut renamed = Vec::new();
        let mut book = self.book();
        let now_us = clock::now_us();
        for change in changes.iter().filter(|change| change.entity.name == "upstreams") {
            let Some(row) = change.after.as_ref().or(change.before.as_ref()) else { continue };
            touched.insert(row.id());
            match change.after.as_deref().and_then(Upstream::from_row) {
                Some(upstream) => renamed.extend(book.put_upstream(upstream)),
                None => {
                    renamed.extend(book.entries.remove(&row.id()).map(|e| e.upstream.name.clone()))
                }
            }
        }
        for change in changes.iter().filter(|change| change.entity.name == "targets") {
            let Some(row) = change.after.as_ref().or(change.before.as_ref()) else { continue };
            let Some(upstream) = row.foreign("upstream") else { continue };
            let before = change.before.as_ref().and_then(|row| row.foreign("upstream"));
            if let Some(before) = before.filter(|before| *before != upstream) {
                book.put_target(before, row.id(), None, now_us);
                touched.insert(before);
            }
            book.put_target(upstream, row.id(), change.after.as_deref(), now_us);
            touched.insert(upstream);
        }
        if !touched.is_empty() {
            self.publish(&mut book, &touched, renamed);
        }
        drop(book);
        self.news.notify_one();
    }

    /// What checks of an Upstream's peers show and believe from now on; none: what the settings
    /// say.
    pub fn show_in_checks(&self, upstream: Uuid, trust: Option<Arc<Trust>>) {
        if let Some(entry) = self.book().entries.get_mut(&upstream) {
            entry.trust = trust;
        }
    }

    /// Waits until rows have changed. For the desk.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// The names that should be looked up now, at most [`NAMES_DUE_MAX`] of them. Each must come
    /// back through [`Registry::found`].
    pub fn due_names(&self, now_us: u64) -> Vec<DueName> {
        let mut book = self.book();
        let mut due = Vec::new();
        while due.len() < NAMES_DUE_MAX {
            let Some(first) = book.queue.first().copied().filter(|first| first.0 <= now_us) else {
                break;
            };
            book.queue.remove(&first);
            let (_, upstream, target) = first;
            let known = book.entries.get_mut(&upstream).and_then(|e| e.targets.get_mut(&target));
            if let Some(known) = known.filter(|known| known.due_us == first.0) {
                known.due_us = 0;
                due.push(DueName { upstream, target, host: known.host.clone() });
            }
        }
        due
    }

    /// What came of a look-up.
    pub fn found(&self, name: &DueName, answer: &Result<Arc<Answer>, NameFault>) {
        let now_us = clock::now_us();
        let mut book = self.book();
        let Book { entries, queue, .. } = &mut *book;
        let Some(target) =
            entries.get_mut(&name.upstream).and_then(|e| e.targets.get_mut(&name.target))
        else {
            return;
        };
        if target.host != name.host || target.due_us != 0 {
            return;
        }
        let after_us = match answer {
            Ok(answer) => u64::from(answer.ttl_s) * 1_000_000 + RENEW_AFTER_US,
            Err(_) => RETRY_AFTER_US,
        };
        target.due_us = now_us + after_us;
        queue.insert((target.due_us, name.upstream, name.target));
        if target.learn(answer) {
            self.publish(&mut book, &BTreeSet::from([name.upstream]), Vec::new());
        }
    }

    /// Whether every name of an Upstream was looked up, or there is no such Upstream.
    #[must_use]
    pub fn is_settled(&self, upstream: Uuid) -> bool {
        self.book().entries.get(&upstream).is_none_or(|entry| !entry.balancer.unsettled)
    }

    /// The rounds of active checks that should begin now.
    pub fn due_rounds(&self, now_us: u64) -> Vec<Round> {
        let mut book = self.book();
        book.entries.values_mut().flat_map(|entry| entry.due_rounds(now_us)).collect()
    }

    /// Takes the outcome of one active check in.
    pub fn checked(&self, upstream: &Upstream, vital: &Vital, sign: Sign) {
        let turned = vital.marks.note(sign, upstream.active.rules.limit(sign));
        if turned.is_some() {
            self.publish(&mut self.book(), &BTreeSet::from([upstream.id]), Vec::new());
        }
    }

    /// Makes balancers anew whose peers were marked by cores. The desk calls it ten times a second.
    pub fn sweep(&self) {
        let mut book = self.book();
        let turned = book.entries.values().filter(|entry| entry.balancer.has_turned());
        let turned: BTreeSet<Uuid> = turned.map(|entry| entry.upstream.id).collect();
        if !turned.is_empty() {
            self.publish(&mut book, &turned, Vec::new());
        }
        drop(book);
        self.board.drop_returned();
    }

    /// Makes balancers anew and pins them to the board. `gone` are names that nobody has now.
    fn publish(&self, book: &mut Book, touched: &BTreeSet<Uuid>, gone: Vec<Box<str>>) {
        let now_us = clock::now_us();
        let mut changes: Vec<(Box<str>, Option<Arc<Balancer>>)> =
            gone.into_iter().map(|name| (name, None)).collect();
        for id in touched {
            if let Some(entry) = book.entries.get_mut(id) {
                entry.rebuild(now_us);
                changes.push((entry.upstream.name.clone(), Some(Arc::clone(&entry.balancer))));
            }
        }
        book.directory = book.directory.with(changes);
        self.board.publish(Arc::new(book.directory.clone()));
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// Keeps an Upstream; gives the name that it had until now and has no longer.
    fn put_upstream(&mut self, upstream: Arc<Upstream>) -> Option<Box<str>> {
        match self.entries.get_mut(&upstream.id) {
            Some(entry) => {
                let before = std::mem::replace(&mut entry.upstream, upstream);
                (before.name != entry.upstream.name).then(|| before.name.clone())
            }
            None => {
                self.entries.insert(upstream.id, Entry::new(upstream));
                None
            }
        }
    }

    fn put_target(
        &mut self,
        upstream: Uuid,
        id: Uuid,
        row: Option<&store::value::Row>,
        now_us: u64,
    ) {
        let Some(entry) = self.entries.get_mut(&upstream) else { return };
        match row.and_then(Target::from_row) {
            Some(mut target) => {
                let before = entry.targets.get(&id).filter(|before| before.host == target.host);
                if let Some(before) = before {
                    target.found.clone_from(&before.found);
                    target.due_us = before.due_us;
                } else if target.is_name() {
                    target.due_us = now_us;
                    self.queue.insert((now_us, upstream, id));
                }
                entry.targets.insert(id, target);
            }
            None => drop(entry.targets.remove(&id)),
        }
    }
}

#[cfg(test)]
mod tests;

//! The board: where the office pins up the newest of something for the cores to see.
//!
//! ```text
//!   office ── publish(n+1) ──► board ◄── one atomic load per look ── view of core 0, 1, … N
//!      ▲                                                               │ old ones, once unused
//!      └────────────────────────── dropped here ◄──────────────────────┘
//! ```
//! A look costs one atomic load while nothing changes. What was replaced is large and may take long
//! to free, so a core never frees it: when the last of its exchanges has let go, the core sends it
//! back, and the office drops it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, Sender, bounded};

/// Replaced values on their way back. A core that finds the queue full keeps what it has and tries
/// again at the next change or `sweep`.
const RETURNED_MAX: usize = 4_096;

/// What the office publishes and the cores see.
pub struct Board<T> {
    number: AtomicU64,
    newest: ArcSwap<T>,
    return_to: Sender<Arc<T>>,
    returned: Receiver<Arc<T>>,
}

impl<T: Send + Sync + 'static> Board<T> {
    /// A board with a first value.
    pub fn new(first: Arc<T>) -> Self {
        let (return_to, returned) = bounded(RETURNED_MAX);
        Self { number: AtomicU64::new(0), newest: ArcSwap::new(first), return_to, returned }
    }

    /// Replaces the value. Every look that begins after this has returned sees the new one.
    pub fn publish(&self, next: Arc<T>) {
        let old = self.newest.swap(next);
        self.number.fetch_add(1, Ordering::Release);
        drop(old);
        self.drop_returned();
    }

    /// How often a value was published.
    pub fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// The newest value, for the office.
    pub fn newest(&self) -> Arc<T> {
        self.newest.load_full()
    }

    /// Drops what cores have sent back; gives how many. Call it in the office, now and then: cores
    /// may send something back long after the last `publish`.
    pub fn drop_returned(&self) -> usize {
        self.returned.try_iter().count()
    }

    /// A core's view.
    pub fn view(board: &Arc<Self>) -> View<T> {
        let number = board.number();
        View {
            seen: Cell::new(number),
            newest: RefCell::new(Rc::new(board.newest())),
            retired: RefCell::new(Vec::new()),
            board: Arc::clone(board),
        }
    }
}

/// What one core sees of a board. The counts of the `Rc`s are touched by this core alone, unlike
/// those of the `Arc`s: that is what the second box is for.
#[allow(clippy::redundant_allocation)]
pub struct View<T> {
    board: Arc<Board<T>>,
    seen: Cell<u64>,
    newest: RefCell<Rc<Arc<T>>>,
    retired: RefCell<Vec<Rc<Arc<T>>>>,
}

impl<T: Send + Sync + 'static> View<T> {
    /// The newest value. Whoever holds it keeps it, whatever is published meanwhile.
    pub fn get(&self) -> Rc<Arc<T>> {
        // The number is read before the value: a value that is newer than its number is looked at
        // once more, an older one never kept.
        let number = self.board.number();
        if number != self.seen.get() {
            self.adopt(number);
        }
        Rc::clone(&self.newest.borrow())
    }

    fn adopt(&self, number: u64) {
        let old = self.newest.replace(Rc::new(self.board.newest()));
        self.seen.set(number);
        self.retired.borrow_mut().push(old);
        self.sweep();
    }

    /// Sends back what no exchange of this core holds any more. The core calls it now and then, for
    /// what an exchange held longer than the last change.
    pub fn sweep(&self) {
        let mut retired = self.retired.borrow_mut();
        let kept = retired.drain(..).filter_map(|old| match Rc::try_unwrap(old) {
            Ok(unused) => {
                self.board.return_to.try_send(unused).err().map(|e| Rc::new(e.into_inner()))
            }
            Err(used) => Some(used),
        });
        let kept: Vec<_> = kept.collect();
        *retired = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::thread::{self, ThreadId};

    /// Remembers which thread dropped it.
    struct Large(u64, Arc<RefCellOfThread>);
    type RefCellOfThread = std::sync::Mutex<Option<ThreadId>>;

    impl Drop for Large {
        fn drop(&mut self) {
            *self.1.lock().unwrap() = Some(thread::current().id());
        }
    }

    #[test]
    fn an_exchange_keeps_what_it_began_with_and_the_next_sees_the_new() {
        let board = Arc::new(Board::new(Arc::new(1)));
        let view = Board::view(&board);
        let kept = view.get();
        board.publish(Arc::new(2));
        assert_eq!((**kept, **view.get()), (1, 2));
    }

    #[test]
    fn what_was_replaced_is_dropped_in_the_office() {
        let dropped_by = Arc::new(RefCellOfThread::default());
        let board = Arc::new(Board::new(Arc::new(Large(1, Arc::clone(&dropped_by)))));
        let (told, tell) = bounded::<()>(0);
        let (asked, ask) = bounded::<()>(0);
        let core = thread::spawn({
            let board = Arc::clone(&board);
            move || {
                let view = Board::view(&board);
                let held = view.get();
                told.send(()).unwrap();
                ask.recv().unwrap();
                assert_eq!((held.0, view.get().0), (1, 2));
                drop(held);
                view.sweep();
                told.send(()).unwrap();
                ask.recv().unwrap();
            }
        });
        tell.recv().unwrap();
        board.publish(Arc::new(Large(2, Arc::default())));
        asked.send(()).unwrap();
        tell.recv().unwrap();
        assert_eq!(*dropped_by.lock().unwrap(), None, "the core did not drop it");
        assert_eq!(board.drop_returned(), 1);
        assert_eq!(*dropped_by.lock().unwrap(), Some(thread::current().id()));
        asked.send(()).unwrap();
        core.join().unwrap();
    }

    #[test]
    fn no_look_goes_back_in_time() {
        let board = Arc::new(Board::new(Arc::new(0_u64)));
        let done = Arc::new(AtomicUsize::new(0));
        let cores: Vec<_> = (0..2)
            .map(|_| {
                let (board, done) = (Arc::clone(&board), Arc::clone(&done));
                thread::spawn(move || {
                    let view = Board::view(&board);
                    let mut last = 0;
                    while last < 20_000 {
                        let now = **view.get();
                        assert!(now >= last, "{now} after {last}");
                        last = now;
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                })
            })
            .collect();
        for n in 1..=20_000 {
            board.publish(Arc::new(n));
        }
        cores.into_iter().for_each(|core| core.join().unwrap());
        assert_eq!(done.load(Ordering::Relaxed), 2);
        assert!(board.number() == 20_000);
    }
}

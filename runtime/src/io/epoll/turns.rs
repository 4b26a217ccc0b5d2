//! The loop of a core on epoll: tasks that can move, then what the kernel has to tell.
//!
//! A waker is made once per task and only marks it in this thread's queue, without an atomic
//! read-modify-write. Woken from another thread (nothing of ours does it: other threads ring bells)
//! it goes through a queue behind a lock and a bell of the loop's own.
//!
//! Sends come last in a turn. A task that is about to send lets those move first that can, so that
//! one call to the kernel follows another, as in a ring: the road's code and the kernel's take
//! turns in the processor's caches a few times per turn and not with every request. Whoever is
//! alone sends at once.

use super::Source;
use crate::clock;
use crate::io::{Bell, IoKind, OnCore};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{Error, Result};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Events that one turn takes from the kernel.
const EVENTS_MAX: usize = 256;
/// Tasks that move in one turn before the kernel is asked again.
const MOVES_MAX: usize = 256;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// The number of the future that the loop runs for.
const MAIN: usize = usize::MAX;
/// What the kernel calls the loop's own bell.
const HOME: u64 = u64::MAX;

/// What other threads know of a loop.
struct Home {
    woken: Mutex<Vec<usize>>,
    bell: Bell,
}

struct TaskWaker {
    number: usize,
    queued: AtomicBool,
    home: Arc<Home>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Loaded and stored, not swapped: a task that is queued twice by a rare race is only
        // looked at twice.
        if self.queued.load(Ordering::Acquire) {
            return;
        }
        self.queued.store(true, Ordering::Release);
        let at_home = LOOP.try_with(|own| {
            let at_home = own.home.get() == Arc::as_ptr(&self.home) as usize;
            if at_home {
                own.ready.borrow_mut().push_back(self.number);
            }
            at_home
        });
        if at_home != Ok(true) {
            let mut woken = self.home.woken.lock().unwrap_or_else(PoisonError::into_inner);
            woken.push(self.number);
            drop(woken);
            self.home.bell.ring();
        }
    }
}

/// A place for a task. The waker stays when the task is taken out to move.
type Place = Option<(Option<Task>, Arc<TaskWaker>)>;

struct Loop {
    /// Where its `Home` lies; 0 while no loop runs on this thread.
    home: Cell<usize>,
    ready: RefCell<VecDeque<usize>>,
    /// Tasks that send when the others have moved: at most one entry for each write.
    senders: RefCell<Vec<Waker>>,
    /// How often the senders had their turn.
    sendings: Cell<u64>,
    tasks: RefCell<Vec<Place>>,
    tasks_free: RefCell<Vec<usize>>,
    sources: RefCell<Vec<Option<Rc<Source>>>>,
    sources_free: RefCell<Vec<usize>>,
    pauses: RefCell<Vec<(u64, Waker)>>,
    running: RefCell<Option<Running>>,
}

#[derive(Clone)]
struct Running {
    epoll: Rc<OwnedFd>,
    home: Arc<Home>,
}

thread_local! {
    static LOOP: Loop = const {
        Loop {
            home: Cell::new(0),
            ready: RefCell::new(VecDeque::new()),
            senders: RefCell::new(Vec::new()),
            sendings: Cell::new(0),
            tasks: RefCell::new(Vec::new()),
            tasks_free: RefCell::new(Vec::new()),
            sources: RefCell::new(Vec::new()),
            sources_free: RefCell::new(Vec::new()),
            pauses: RefCell::new(Vec::new()),
            running: RefCell::new(None),
        }
    };
}

/// Ends the loop of this thread: tasks first, so that what they drop still finds it.
struct Over;

impl Drop for Over {
    fn drop(&mut self) {
        LOOP.with(|own| {
            let tasks = own.tasks.take();
            drop(tasks);
            own.tasks.take();
            own.tasks_free.take();
            own.ready.take();
            drop(own.senders.take());
            own.sources.take();
            own.sources_free.take();
            own.pauses.take();
            own.running.take();
            own.home.set(0);
        });
    }
}

/// Runs `future` on this thread until it is done.
pub(in crate::io) fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    let _core = OnCore::enter(IoKind::Epoll)?;
    let home = Arc::new(Home { woken: Mutex::default(), bell: Bell::new()? });
    let running = Running { epoll: Rc::new(super::create()?), home: Arc::clone(&home) };
    let data = EventData::new_u64(HOME);
    epoll::add(&*running.epoll, home.bell.fd(), data, EventFlags::IN)?;
    LOOP.with(|own| {
        own.home.set(Arc::as_ptr(&home) as usize);
        *own.running.borrow_mut() = Some(running.clone());
    });
    let _over = Over;
    let main = Arc::new(TaskWaker { number: MAIN, queued: AtomicBool::new(false), home });
    main.wake_by_ref();
    let waker = Waker::from(Arc::clone(&main));
    let mut future = pin!(future);
    let mut events = Vec::with_capacity(EVENTS_MAX);
    loop {
        for _ in 0..MOVES_MAX {
            let Some(number) = LOOP.with(Loop::next) else { break };
            if number != MAIN {
                LOOP.with(|own| own.move_task(number));
                continue;
            }
            main.queued.store(false, Ordering::Release);
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Ok(output);
            }
        }
        LOOP.with(|own| {
            // However much else can move, a send waits for one turn.
            own.let_send();
            own.ask_kernel(&running, &mut events)
        })?;
    }
}

impl Loop {
    /// Who moves next: the senders only when nobody else can.
    fn next(&self) -> Option<usize> {
        let next = self.ready.borrow_mut().pop_front();
        next.or_else(|| {
            self.let_send();
            self.ready.borrow_mut().pop_front()
        })
    }

    /// Wakes who waited in `sending`.
    fn let_send(&self) {
        if self.senders.borrow().is_empty() {
            return;
        }
        let mut senders = self.senders.take();
        self.sendings.set(self.sendings.get() + 1);
        senders.drain(..).for_each(Waker::wake);
        // Its room is kept; nobody who is only woken asks to send, but must not be forgotten.
        let mut asked = self.senders.borrow_mut();
        senders.append(&mut asked);
        *asked = senders;
    }

    fn move_task(&self, number: usize) {
        let taken = self.tasks.borrow_mut().get_mut(number).and_then(|place| {
            let (task, waker) = place.as_mut()?;
            Some((task.take()?, Arc::clone(waker)))
        });
        let Some((mut task, own)) = taken else { return };
        own.queued.store(false, Ordering::Release);
        let waker = Waker::from(own);
        if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            let mut tasks = self.tasks.borrow_mut();
            if let Some(Some((place, _))) = tasks.get_mut(number) {
                *place = Some(task);
            }
            return;
        }
        // What a task drops may look for the loop: nothing is borrowed here.
        drop(task);
        if let Some(place) = self.tasks.borrow_mut().get_mut(number) {
            *place = None;
        }
        self.tasks_free.borrow_mut().push(number);
    }

    /// Waits for events, or only looks where tasks can move, and tells the sources.
    fn ask_kernel(&self, running: &Running, events: &mut Vec<Event>) -> Result<()> {
        let timeout = self.timeout();
        events.clear();
        match epoll::wait(&*running.epoll, spare_capacity(events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::from(error)),
        }
        clock::refresh();
        for event in events.iter() {
            let data = event.data.u64();
            if data == HOME {
                running.home.bell.hush();
                let mut woken = running.home.woken.lock().unwrap_or_else(PoisonError::into_inner);
                self.ready.borrow_mut().extend(woken.drain(..));
                continue;
            }
            // A descriptor that was closed in this turn may have given its number to another,
            // which is then told too much: it only looks in vain.
            let source = self.sources.borrow().get(data as usize).and_then(Clone::clone);
            if let Some(source) = source {
                source.edge(event.flags);
            }
        }
        self.end_pauses();
        Ok(())
    }

    /// How long to wait for the kernel, in whole milliseconds: older kernels know no others.
    fn timeout(&self) -> Option<Timespec> {
        let ms = if self.ready.borrow().is_empty() {
            let due_us = self.pauses.borrow().iter().map(|(due_us, _)| *due_us).min()?;
            due_us.saturating_sub(clock::now_us()).div_ceil(1_000).min(60_000)
        } else {
            0
        };
        let (tv_sec, tv_nsec) = ((ms / 1_000) as i64, (ms % 1_000) as i64 * 1_000_000);
        Some(Timespec { tv_sec, tv_nsec })
    }

    fn end_pauses(&self) {
        let now_us = clock::now_us();
        let mut pauses = self.pauses.borrow_mut();
        if pauses.iter().all(|(due_us, _)| *due_us > now_us) {
            return;
        }
        let due: Vec<_> = pauses.extract_if(.., |(due_us, _)| *due_us <= now_us).collect();
        drop(pauses);
        due.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

pub(super) fn spawn(task: Task) {
    LOOP.with(|own| {
        // Without a loop there is nobody who could ever move the task.
        let Some(running) = own.running.borrow().clone() else { return };
        let mut tasks = own.tasks.borrow_mut();
        let number = own.tasks_free.borrow_mut().pop().unwrap_or_else(|| {
            tasks.push(None);
            tasks.len() - 1
        });
        let queued = AtomicBool::new(false);
        let waker = Arc::new(TaskWaker { number, queued, home: running.home });
        if let Some(place) = tasks.get_mut(number) {
            *place = Some((Some(task), Arc::clone(&waker)));
        }
        drop(tasks);
        waker.wake();
    });
}

/// Lets the loop watch `fd`.
pub(super) fn watch(fd: impl AsFd, flags: EventFlags) -> Result<Rc<Source>> {
    LOOP.with(|own| {
        let running = own.running.borrow().clone();
        let running = running.ok_or_else(|| Error::other("no core runs on this thread"))?;
        let mut sources = own.sources.borrow_mut();
        let number = own.sources_free.borrow_mut().pop().unwrap_or_else(|| {
            sources.push(None);
            sources.len() - 1
        });
        let added = epoll::add(&*running.epoll, fd, EventData::new_u64(number as u64), flags);
        if let Err(error) = added {
            own.sources_free.borrow_mut().push(number);
            return Err(error.into());
        }
        let source = Rc::new(Source::new(number));
        if let Some(place) = sources.get_mut(number) {
            *place = Some(Rc::clone(&source));
        }
        Ok(source)
    })
}

/// Forgets a source; `shared` is its descriptor where closing it does not end the watch.
pub(super) fn forget(number: usize, shared: Option<BorrowedFd<'_>>) {
    // While the thread or the loop ends there is nothing left to forget.
    let _ = LOOP.try_with(|own| {
        if let (Some(fd), Some(running)) = (shared, own.running.borrow().as_ref()) {
            let _ = epoll::delete(&*running.epoll, fd);
        }
        let gone = own.sources.borrow_mut().get_mut(number).and_then(Option::take);
        if gone.is_some() {
            own.sources_free.borrow_mut().push(number);
        }
    });
}

/// Waits until the other tasks that can move have moved, at most for this turn. May be dropped.
pub(super) async fn sending() {
    let (begun, alone) = LOOP.with(|own| (own.sendings.get(), own.ready.borrow().is_empty()));
    if alone {
        return;
    }
    let mut asked = false;
    poll_fn(|cx| {
        LOOP.with(|own| {
            if own.sendings.get() != begun {
                return Poll::Ready(());
            }
            if !std::mem::replace(&mut asked, true) {
                own.senders.borrow_mut().push(cx.waker().clone());
            }
            Poll::Pending
        })
    })
    .await;
}

pub(super) async fn pause(ms: u64) {
    let due_us = clock::now_us().saturating_add(ms.saturating_mul(1_000));
    poll_fn(|cx| {
        if clock::now_us() >= due_us {
            return Poll::Ready(());
        }
        LOOP.with(|own| own.pauses.borrow_mut().push((due_us, cx.waker().clone())));
        Poll::Pending
    })
    .await;
}

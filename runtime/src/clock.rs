//! The time, read once per loop turn, and the deadlines of a core.
//!
//! On a core's thread `now_us` is a cached number, refreshed when a read completes and at every
//! tick; on any other thread (office, exporter, tests) it asks the system each time. The scripted
//! driver sets it. `Instant::now` and `SystemTime::now` are called nowhere else but here.
//!
//! Deadlines hang in one wheel per core with ticks of 10 ms, which run only while something hangs
//! there. Arming is one store: the wheel looks at an alarm when its slot comes round and moves it
//! on if it was armed again meanwhile. A deadline is never early and at most about two ticks late.

use crate::io::{self, Closer};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};
use std::cell::{Cell, RefCell};
use std::collections::hash_map::RandomState;
use std::future::{Future, poll_fn};
use std::hash::BuildHasher;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::OnceLock;
use std::task::{Poll, Waker};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds between two looks at the wheel.
pub const TICK_MS: u64 = 10;
/// Slots of the wheel; what is due later than a whole turn (5 s) is looked at once a turn.
const SLOTS: u64 = 512;
/// How old the distance between the two clocks may become, in microseconds.
const WALL_AGE_US_MAX: u64 = 1_000_000;
const TICK_US: u64 = TICK_MS * 1_000;
/// Alarms that a core keeps for later waits.
const SPARE_MAX: usize = 1_024;

static START: OnceLock<Instant> = OnceLock::new();

/// Where a thread's time comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The system, at each call.
    System,
    /// The system, when `refresh` is called.
    Cached,
    /// Whoever calls `set_virtual`.
    Virtual,
}

struct Clock {
    source: Cell<Source>,
    now_us: Cell<u64>,
    wall_ahead_us: Cell<u64>,
    wall_read_us: Cell<u64>,
}

thread_local! {
    static CLOCK: Clock = const {
        Clock {
            source: Cell::new(Source::System),
            now_us: Cell::new(0),
            wall_ahead_us: Cell::new(0),
            wall_read_us: Cell::new(0),
        }
    };
    static WHEEL: RefCell<Wheel> = const { RefCell::new(Wheel::new()) };
    static SPARE: RefCell<Vec<Rc<Alarm>>> = const { RefCell::new(Vec::new()) };
}

fn system_now_us() -> u64 {
    let start = START.get_or_init(Instant::now);
    // Starts at one second, so that zero can mean "never"; 2^64 us are 584,000 years.
    1_000_000 + start.elapsed().as_micros() as u64
}

fn system_wall_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// Monotonic microseconds, the same scale on every thread of this process; never 0.
pub fn now_us() -> u64 {
    CLOCK.with(|clock| match clock.source.get() {
        Source::System => system_now_us(),
        Source::Cached | Source::Virtual => clock.now_us.get(),
    })
}

/// Microseconds since 1970 (UTC). On a core it moves in step with `now_us` and follows a
/// correction of the system's clock within a second.
pub fn wall_us() -> u64 {
    CLOCK.with(|clock| match clock.source.get() {
        Source::System => system_wall_us(),
        Source::Cached | Source::Virtual => clock.now_us.get() + clock.wall_ahead_us.get(),
    })
}

/// 64 random bits for names that must not collide, such as the ids of requests. Each thread begins
/// at one of 2^256 places that the system chose; not for secrets.
pub fn random() -> u64 {
    thread_local! {
        static STATE: RefCell<Xoshiro256PlusPlus> = RefCell::new(seeded());
    }
    STATE.with_borrow_mut(Rng::next_u64)
}

fn seeded() -> Xoshiro256PlusPlus {
    let mut seed = [0; 32];
    if !secret(&mut seed) {
        // The standard library keys its hashes from the same system, and never fails.
        let keyed = |word: u64| RandomState::new().hash_one(word).to_ne_bytes();
        let words = (0..).map(keyed);
        seed.as_chunks_mut::<8>().0.iter_mut().zip(words).for_each(|(to, word)| *to = word);
    }
    Xoshiro256PlusPlus::from_seed(seed)
}

/// Fills a buffer with bytes that nobody can guess, for secrets. False if the system gives none.
pub fn secret(bytes: &mut [u8]) -> bool {
    aws_lc_rs::rand::fill(bytes).is_ok()
}

/// Reads the system's clock into this core's cache. The drivers call it; a step that computes for
/// long may, too.
pub fn refresh() {
    CLOCK.with(|clock| {
        if clock.source.get() != Source::Cached {
            return;
        }
        let now_us = system_now_us();
        clock.now_us.set(now_us);
        if now_us - clock.wall_read_us.get() > WALL_AGE_US_MAX {
            clock.wall_read_us.set(now_us);
            clock.wall_ahead_us.set(system_wall_us().saturating_sub(now_us));
        }
    });
}

/// From here on this thread's time is cached: it is a core.
pub(crate) fn begin_cached() {
    CLOCK.with(|clock| {
        clock.source.set(Source::Cached);
        clock.wall_read_us.set(0);
    });
    refresh();
    renew_wheel();
}

/// Forgets all that hangs, and the spare alarms, which may hang there as well.
fn renew_wheel() {
    let wheel = WHEEL.with(|wheel| std::mem::replace(&mut *wheel.borrow_mut(), Wheel::new()));
    let spare = SPARE.with(RefCell::take);
    drop((wheel, spare));
}

/// From here on this thread's time is what `set_virtual` says.
pub(crate) fn begin_virtual(now_us: u64, wall_us: u64) {
    CLOCK.with(|clock| {
        clock.source.set(Source::Virtual);
        clock.now_us.set(now_us);
        clock.wall_ahead_us.set(wall_us.saturating_sub(now_us));
    });
    renew_wheel();
}

/// Moves virtual time; never back.
pub(crate) fn set_virtual(now_us: u64) {
    CLOCK.with(|clock| clock.now_us.set(now_us.max(clock.now_us.get())));
}

/// From here on this thread is an ordinary one again.
pub(crate) fn end() {
    CLOCK.with(|clock| clock.source.set(Source::System));
    renew_wheel();
}

/// One thing that may come due. The wheel knows it weakly: it dies with its owner.
struct Alarm {
    /// When, in `now_us`; 0 while it is not armed.
    due_us: Cell<u64>,
    /// The tick at which the wheel will look at it; 0 while it does not hang there.
    tick: Cell<u64>,
    missed: Cell<bool>,
    idle: Cell<bool>,
    closer: Closer,
    waker: Cell<Option<Waker>>,
}

impl Alarm {
    fn new(closer: Closer) -> Rc<Self> {
        Rc::new(Self {
            due_us: Cell::new(0),
            tick: Cell::new(0),
            missed: Cell::new(false),
            idle: Cell::new(false),
            closer,
            waker: Cell::new(None),
        })
    }

    fn arm(self: &Rc<Self>, ms: u64) {
        let due_us = now_us().saturating_add(ms.saturating_mul(1_000));
        self.due_us.set(due_us);
        let tick = self.tick.get();
        if tick == 0 || tick > tick_after(due_us) {
            WHEEL.with(|wheel| wheel.borrow_mut().hang(self, due_us));
        }
    }

    fn fire(&self) {
        self.due_us.set(0);
        self.missed.set(true);
        self.closer.close();
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The first tick that is not before `at_us`.
const fn tick_after(at_us: u64) -> u64 {
    at_us.div_ceil(TICK_US)
}

struct Wheel {
    slots: Vec<Vec<Weak<Alarm>>>,
    /// How many entries hang in all slots.
    hanging: usize,
    /// The last tick whose slot was looked at.
    looked_at: u64,
    /// Wakes the ticking task when something hangs again.
    ticker: Option<Waker>,
}

impl Wheel {
    const fn new() -> Self {
        Self { slots: Vec::new(), hanging: 0, looked_at: 0, ticker: None }
    }

    fn hang(&mut self, alarm: &Rc<Alarm>, due_us: u64) {
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS as usize, Vec::new);
        }
        if self.hanging == 0 {
            self.looked_at = now_us() / TICK_US;
        }
        let tick = tick_after(due_us).clamp(self.looked_at + 1, self.looked_at + SLOTS - 1);
        alarm.tick.set(tick);
        if let Some(slot) = self.slots.get_mut((tick % SLOTS) as usize) {
            slot.push(Rc::downgrade(alarm));
            self.hanging += 1;
        }
        if let Some(ticker) = self.ticker.take() {
            ticker.wake();
        }
    }

    /// Takes out the next slot whose time has come, with its tick.
    fn next_slot(&mut self, tick_now: u64) -> Option<(u64, Vec<Weak<Alarm>>)> {
        // After a long sleep of the whole machine every slot is looked at once, not more.
        self.looked_at = self.looked_at.max(tick_now.saturating_sub(SLOTS));
        while self.looked_at < tick_now && self.hanging > 0 {
            self.looked_at += 1;
            let slot = self.slots.get_mut((self.looked_at % SLOTS) as usize)?;
            if !slot.is_empty() {
                self.hanging -= slot.len();
                return Some((self.looked_at, std::mem::take(slot)));
            }
        }
        None
    }
}

/// Closes and wakes what has come due. The drivers call it after `refresh`.
pub(crate) fn fire_due() {
    let now_us = now_us();
    let tick_now = now_us / TICK_US;
    while let Some((tick, alarms)) = WHEEL.with(|wheel| wheel.borrow_mut().next_slot(tick_now)) {
        for alarm in alarms.iter().filter_map(Weak::upgrade) {
            // Another tick: it was armed for an earlier time after it was hung here. A tick that
            // is a whole number of turns older can only be seen after the machine slept.
            if alarm.tick.get() % SLOTS != tick % SLOTS || alarm.tick.get() > tick {
                continue;
            }
            alarm.tick.set(0);
            match alarm.due_us.get() {
                0 => {}
                due_us if due_us <= now_us => alarm.fire(),
                due_us => WHEEL.with(|wheel| wheel.borrow_mut().hang(&alarm, due_us)),
            }
        }
    }
}

/// The task that moves the wheel of this core; rests while nothing hangs there.
pub(crate) async fn tick_forever() {
    loop {
        poll_fn(|cx| {
            WHEEL.with(|wheel| {
                let mut wheel = wheel.borrow_mut();
                if wheel.hanging > 0 {
                    return Poll::Ready(());
                }
                wheel.ticker = Some(cx.waker().clone());
                Poll::Pending
            })
        })
        .await;
        io::pause(TICK_MS).await;
        refresh();
        fire_due();
    }
}

/// A time until which a connection must have made progress.
///
/// A missed deadline closes the connection both ways, so that whatever is pending on it ends: a
/// read, accept or connect is never cancelled and its connection used again.
pub struct Deadline {
    alarm: Rc<Alarm>,
}

impl Deadline {
    /// A deadline that is not armed.
    pub fn new(closer: Closer) -> Self {
        Self { alarm: Alarm::new(closer) }
    }

    /// Due in `ms` milliseconds from now; replaces what was armed before.
    pub fn arm(&self, ms: u64) {
        self.alarm.idle.set(false);
        self.alarm.arm(ms);
    }

    /// Like `arm`, for a connection between two requests: draining closes it at once.
    pub fn arm_idle(&self, ms: u64) {
        self.alarm.idle.set(true);
        self.alarm.arm(ms);
    }

    /// No longer due.
    pub fn disarm(&self) {
        self.alarm.due_us.set(0);
    }

    /// Whether it came due and the connection was closed for it.
    pub fn missed(&self) -> bool {
        self.alarm.missed.get()
    }
}

/// Closes every connection of this core that waits between two requests, but for those from which
/// something has come that is not read yet: who has asked gets an answer.
pub(crate) fn close_idle() {
    let all: Vec<Rc<Alarm>> = WHEEL
        .with(|wheel| wheel.borrow().slots.iter().flatten().filter_map(Weak::upgrade).collect());
    for alarm in all {
        if alarm.idle.get() && alarm.due_us.get() != 0 && alarm.closer.is_quiet() {
            alarm.fire();
        }
    }
}

/// An alarm that only wakes, on loan: short waits allocate nothing.
struct Lent(Rc<Alarm>);

impl Lent {
    fn take() -> Self {
        let spare = SPARE.with(|spare| spare.borrow_mut().pop());
        Self(spare.unwrap_or_else(|| Alarm::new(Closer::none())))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.due_us.set(0);
        self.0.missed.set(false);
        drop(self.0.waker.take());
        // A thread that ends has no list any longer.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE_MAX {
                spare.push(Rc::clone(&self.0));
            }
        });
    }
}

/// Waits `ms` milliseconds, up to about two ticks longer, never shorter.
pub async fn sleep_ms(ms: u64) {
    let alarm = Lent::take();
    alarm.0.arm(ms);
    poll_fn(|cx| missed(&alarm.0, cx.waker())).await;
}

/// Waits for `future`, but at most `ms` milliseconds (up to about two ticks longer). `None` means
/// that the time was up and the future was dropped: use it for asks and connects, which may be
/// dropped, never for a read.
pub async fn within<F: Future>(ms: u64, future: F) -> Option<F::Output> {
    Timer::default().within(ms, future).await
}

/// [`within`] for who waits often: after the first wait, each costs one store.
pub struct Timer {
    alarm: Lent,
}

impl Default for Timer {
    fn default() -> Self {
        Self { alarm: Lent::take() }
    }
}

impl Timer {
    /// See [`within`].
    pub async fn within<F: Future>(&self, ms: u64, future: F) -> Option<F::Output> {
        let alarm = &self.alarm.0;
        alarm.missed.set(false);
        alarm.arm(ms);
        let mut future = pin!(future);
        let output = poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            missed(alarm, cx.waker()).map(|()| None)
        })
        .await;
        alarm.due_us.set(0);
        output
    }
}

fn missed(alarm: &Alarm, waker: &Waker) -> Poll<()> {
    if alarm.missed.get() {
        return Poll::Ready(());
    }
    alarm.waker.set(Some(waker.clone()));
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(now_us: u64) {
        set_virtual(now_us);
        fire_due();
    }

    fn hanging() -> usize {
        WHEEL.with(|wheel| wheel.borrow().hanging)
    }

    const START_US: u64 = 5_000_000;

    fn begin() {
        begin_virtual(START_US, START_US + 1_700_000_000_000_000);
    }

    #[test]
    fn a_deadline_is_never_early_and_at_most_two_ticks_late() {
        for ms in [0, 1, 9, 10, 11, 500, 5_119, 5_120, 5_121, 60_000, 3_600_000] {
            begin();
            let deadline = Deadline::new(Closer::none());
            deadline.arm(ms);
            let mut now = START_US;
            while !deadline.missed() {
                now += TICK_US;
                at(now);
                assert!(now <= START_US + ms * 1_000 + 2 * TICK_US, "{ms} ms: too late");
            }
            assert!(now >= START_US + ms * 1_000, "{ms} ms: too early");
        }
    }

    #[test]
    fn arming_again_replaces_and_disarming_removes() {
        begin();
        let deadline = Deadline::new(Closer::none());
        deadline.arm(100);
        deadline.arm(10_000);
        at(START_US + 9_000_000);
        assert!(!deadline.missed());
        deadline.arm(20);
        at(START_US + 9_100_000);
        assert!(deadline.missed());

        let other = Deadline::new(Closer::none());
        other.arm(10);
        other.disarm();
        at(START_US + 20_000_000);
        assert!(!other.missed());
        assert_eq!(hanging(), 0, "nothing hangs, so nothing ticks");
    }

    #[test]
    fn a_dropped_deadline_is_forgotten_and_the_wheel_stays_small() {
        begin();
        let deadline = Deadline::new(Closer::none());
        for _ in 0..10_000 {
            deadline.arm(60_000);
            deadline.arm(1_000);
        }
        assert!(hanging() <= 2, "{} entries for one deadline", hanging());
        drop(deadline);
        at(START_US + 10_000_000);
        assert_eq!(hanging(), 0);
    }

    #[test]
    fn after_a_sleep_of_the_machine_everything_due_fires() {
        begin();
        let deadlines: Vec<Deadline> = (0..2_000)
            .map(|n| {
                let deadline = Deadline::new(Closer::none());
                deadline.arm(n * 7);
                deadline
            })
            .collect();
        at(START_US + 86_400_000_000);
        at(START_US + 86_400_000_000 + 6_000_000);
        assert!(deadlines.iter().all(Deadline::missed));
    }

    #[test]
    fn draining_closes_idle_connections_only() {
        begin();
        let (idle, busy) = (Deadline::new(Closer::none()), Deadline::new(Closer::none()));
        idle.arm_idle(60_000);
        busy.arm_idle(60_000);
        busy.arm(60_000);
        close_idle();
        assert_eq!((idle.missed(), busy.missed()), (true, false));
    }

    #[test]
    fn draining_leaves_open_what_is_not_read() {
        use std::io::Write;
        for &choice in io::IoChoice::EACH {
            io::block_on_core(choice, async {
                let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                let addr = listener.local_addr().unwrap();
                let mut client = std::net::TcpStream::connect(addr).unwrap();
                let (reader, _writer) = io::adopt(listener.accept().unwrap().0.into()).unwrap();
                let deadline = Deadline::new(reader.closer());
                deadline.arm_idle(60_000);
                client.write_all(b"asked").unwrap();
                std::thread::sleep(std::time::Duration::from_millis(20));
                close_idle();
                assert!(!deadline.missed(), "{choice:?}");
                drop(client);
            })
            .unwrap();
        }
    }

    #[test]
    fn wall_time_moves_with_virtual_time_and_ordinary_threads_see_the_system() {
        begin();
        let wall = wall_us();
        set_virtual(START_US + 5);
        assert_eq!(wall_us(), wall + 5);
        set_virtual(START_US);
        assert_eq!(now_us(), START_US + 5, "time never goes back");
        end();
        let (first, wall) = (now_us(), wall_us());
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(now_us() >= first + 2_000 && wall_us() > wall);
        assert!(wall > 1_600_000_000_000_000);
    }
}

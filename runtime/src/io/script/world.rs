//! The tasks, the timers and the names of one scripted world.

use super::{Name, Offer, Plan};
use crate::clock;
use crate::io::Bell;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// How often a world with nothing to do looks whether another thread has rung, once a
/// millisecond, before it is taken to hang.
const BELL_LOOKS_MAX: u32 = 10_000;
/// Connections that wait to be accepted.
const OFFERS_MAX: usize = 128;

type Task = Pin<Box<dyn Future<Output = ()>>>;

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

struct World {
    plan: Plan,
    random: u64,
    tasks: Vec<Option<(Task, Arc<TaskWaker>)>>,
    free: Vec<usize>,
    ready: Ready,
    timers: BTreeMap<(u64, u64), Waker>,
    timers_made: u64,
    places: Vec<Place>,
    bells: Vec<(Bell, Waker)>,
    ports_given: u16,
}

/// Somewhere to connect to.
struct Place {
    name: Name,
    offers: VecDeque<Offer>,
    waiting: Option<Waker>,
}

/// The tasks that can move, each once. The main future is `MAIN`.
type Ready = Arc<Mutex<Vec<usize>>>;
const MAIN: usize = usize::MAX;

struct TaskWaker {
    id: usize,
    queued: AtomicBool,
    ready: Ready,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.ready.lock().unwrap_or_else(PoisonError::into_inner).push(self.id);
        }
    }
}

fn waker_of(id: usize, ready: &Ready) -> Arc<TaskWaker> {
    let waker =
        Arc::new(TaskWaker { id, queued: AtomicBool::new(false), ready: Arc::clone(ready) });
    waker.wake_by_ref();
    waker
}

impl World {
    fn new(plan: &Plan) -> Self {
        Self {
            plan: plan.clone(),
            random: plan.seed,
            tasks: Vec::new(),
            free: Vec::new(),
            ready: Ready::default(),
            timers: BTreeMap::new(),
            timers_made: 0,
            places: Vec::new(),
            bells: Vec::new(),
            ports_given: 0,
        }
    }

    /// A number below `end`; 0 where there is none.
    fn below(&mut self, end: u64) -> u64 {
        // splitmix64: small, and every seed gives another order.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).checked_rem(end).unwrap_or(0)
    }

    /// Any task that can move.
    fn draw(&mut self) -> Option<usize> {
        let ready = Arc::clone(&self.ready);
        let mut ready = ready.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.below(ready.len() as u64) as usize;
        (at < ready.len()).then(|| ready.swap_remove(at))
    }

    fn place(&mut self, name: &Name) -> Option<&mut Place> {
        self.places.iter_mut().find(|place| place.name == *name)
    }

    /// Everybody whose time has come, the earliest first; else jumps to the next time.
    fn due(&mut self) -> Vec<Waker> {
        if let Some((&(at_us, _), _)) = self.timers.first_key_value() {
            clock::set_virtual(at_us);
        }
        let later = self.timers.split_off(&(clock::now_us() + 1, 0));
        std::mem::replace(&mut self.timers, later).into_values().collect()
    }

    fn rung(&mut self) -> Vec<Waker> {
        let heard = self.bells.extract_if(.., |(bell, _)| bell.is_rung());
        heard.map(|(_, waker)| waker).collect()
    }
}

/// Does something with the world of this thread; nothing where there is none.
fn with<T>(act: impl FnOnce(&mut World) -> T) -> Option<T> {
    WORLD.with(|world| world.borrow_mut().as_mut().map(act))
}

/// Ends the world of this thread, tasks first, so that what they drop still finds it.
struct Over;

impl Drop for Over {
    fn drop(&mut self) {
        let tasks = with(|world| std::mem::take(&mut world.tasks));
        drop(tasks);
        let world = WORLD.with(|world| world.borrow_mut().take());
        drop(world);
    }
}

pub(super) fn run<T>(plan: &Plan, future: impl Future<Output = T>) -> Result<T> {
    let world = World::new(plan);
    let waker = waker_of(MAIN, &world.ready);
    WORLD.with(|cell| *cell.borrow_mut() = Some(world));
    let _over = Over;
    let mut future = pin!(future);
    let mut looks = 0;
    for _ in 0..plan.turns_max {
        let Some(id) = with(World::draw).flatten() else {
            move_on(&mut looks)?;
            continue;
        };
        looks = 0;
        if id != MAIN {
            turn(id);
            continue;
        }
        waker.queued.store(false, Ordering::Release);
        let main = Waker::from(Arc::clone(&waker));
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&main)) {
            return Ok(output);
        }
    }
    Err(Error::new(ErrorKind::TimedOut, "the scripted world runs in circles"))
}

/// Lets one task move.
fn turn(id: usize) {
    let taken = with(|world| world.tasks.get_mut(id).and_then(Option::take)).flatten();
    let Some((mut task, own)) = taken else { return };
    own.queued.store(false, Ordering::Release);
    let waker = Waker::from(Arc::clone(&own));
    if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        with(|world| world.tasks.get_mut(id).map(|place| *place = Some((task, own))));
    } else {
        // What it drops may look for the world: not inside of `with`.
        drop(task);
        with(|world| world.free.push(id));
    }
}

/// When no task can move: a bell, the next timer, or the end.
fn move_on(looks: &mut u32) -> Result<()> {
    let rung = with(World::rung).unwrap_or_default();
    let wakers = if rung.is_empty() { with(World::due).unwrap_or_default() } else { rung };
    if !wakers.is_empty() {
        wakers.into_iter().for_each(Waker::wake);
        return Ok(());
    }
    let listening = with(|world| !world.bells.is_empty()).unwrap_or_default();
    if listening && *looks < BELL_LOOKS_MAX {
        *looks += 1;
        std::thread::sleep(Duration::from_millis(1));
        return Ok(());
    }
    Err(Error::new(ErrorKind::TimedOut, "nobody in the scripted world can move any more"))
}

pub(super) fn spawn(task: Task) {
    with(|world| {
        let id = world.free.pop().unwrap_or_else(|| {
            world.tasks.push(None);
            world.tasks.len() - 1
        });
        let waker = waker_of(id, &world.ready);
        if let Some(place) = world.tasks.get_mut(id) {
            *place = Some((task, waker));
        }
    });
}

pub(super) fn wake_at(at_us: u64, waker: Waker) {
    with(|world| {
        world.timers_made += 1;
        world.timers.insert((at_us, world.timers_made), waker);
    });
}

pub(super) async fn pause_us(us: u64) {
    let due_us = clock::now_us().saturating_add(us);
    poll_fn(|cx| {
        if clock::now_us() >= due_us {
            return Poll::Ready(());
        }
        wake_at(due_us, cx.waker().clone());
        Poll::Pending
    })
    .await;
}

/// Waits until `bell` has been rung by whichever thread. Time stands still meanwhile only where
/// nothing else is to come: a world with bells is not the same at each run.
pub(in crate::io) fn bell_rung(bell: &Bell, waker: &Waker) -> Poll<()> {
    if bell.is_rung() {
        return Poll::Ready(());
    }
    with(|world| world.bells.push((bell.clone(), waker.clone())));
    Poll::Pending
}

pub(super) fn plan() -> Plan {
    with(|world| world.plan.clone()).unwrap_or_default()
}

pub(super) fn below(end: u64) -> u64 {
    with(|world| world.below(end)).unwrap_or(0)
}

pub(super) fn chance(per_mille: u32) -> bool {
    per_mille > 0 && below(1_000) < u64::from(per_mille)
}

pub(super) fn delay_us() -> u64 {
    match plan().delay_us_max {
        0 => 0,
        most => below(most + 1),
    }
}

/// An address that nobody else connects from.
pub(super) fn client_addr() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], next_port()))
}

fn next_port() -> u16 {
    let number = with(|world| {
        world.ports_given = world.ports_given.wrapping_add(1);
        world.ports_given
    });
    32_768 | (number.unwrap_or(0) & 32_767)
}

/// `addr`, with a port of its own where it has none.
pub(super) fn free_addr(mut addr: SocketAddr) -> SocketAddr {
    if addr.port() == 0 {
        addr.set_port(next_port());
    }
    addr
}

pub(super) fn listen(name: Name) -> Result<()> {
    let listening = with(|world| {
        if world.place(&name).is_some() {
            return Err(ErrorKind::AddrInUse.into());
        }
        world.places.push(Place { name, offers: VecDeque::new(), waiting: None });
        Ok(())
    });
    listening.unwrap_or_else(|| Err(ErrorKind::Unsupported.into()))
}

pub(super) fn unlisten(name: &Name) {
    let gone = with(|world| {
        let at = world.places.iter().position(|place| place.name == *name)?;
        Some(world.places.swap_remove(at))
    });
    drop(gone);
}

/// Puts a connection before whoever listens there.
pub(super) fn offer(name: &Name, offer: Offer) -> Result<()> {
    let mut offer = Some(offer);
    let taken = with(|world| {
        let place = world.place(name)?;
        if place.offers.len() < OFFERS_MAX {
            place.offers.extend(offer.take());
        }
        Some(place.waiting.take())
    });
    match taken.flatten() {
        Some(_) if offer.is_some() => Err(ErrorKind::TimedOut.into()),
        None => Err(ErrorKind::ConnectionRefused.into()),
        Some(waiting) => {
            waiting.into_iter().for_each(Waker::wake);
            Ok(())
        }
    }
}

pub(super) fn accept(name: &Name, waker: &Waker) -> Poll<Offer> {
    let offer = with(|world| {
        let place = world.place(name)?;
        let offer = place.offers.pop_front();
        if offer.is_none() {
            place.waiting = Some(waker.clone());
        }
        offer
    });
    offer.flatten().map_or(Poll::Pending, Poll::Ready)
}

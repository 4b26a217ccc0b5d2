//! Mailboxes between the road and the office: ask and answer, and letters to a core.
//!
//! ```text
//!   core ─ ask ─► questions (bounded, one queue) ─ bell ─► desk ─ next() ─► Asked
//!   core ◄ wake ─ answers (bounded, one queue per core) ◄ core's bell ─ asked.answer(a)
//! ```
//! A core never waits without a deadline and takes no lock: both queues are crossbeam's arrays,
//! used only with `try_send` and `try_recv`, and waking is an eventfd. (tokio's own channel would
//! do for the questions, but waking a tokio task from another thread pushes it into a queue behind
//! a mutex; the desk therefore waits for the bell's descriptor.)
//!
//! Every question comes back, answered or not: what nobody answered returns as `Gone`. So the
//! number of open questions bounds the queue of answers too, and it can never be full.

use crate::clock;
use crate::cores::Core;
use crate::io::{self, Bell, DeskEar};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};

/// Questions of one core that may be open at once; one more fails at once.
pub const ASKS_MAX: usize = 4_096;
/// Letters that may wait for one core.
pub const LETTERS_MAX: usize = 4_096;

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AskFault {
    /// Too many questions are open already.
    Full,
    /// The time was up.
    TimedOut,
    /// The desk has ended or put the question away.
    Gone,
}

impl fmt::Display for AskFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Full => "too many questions are open",
            Self::TimedOut => "no answer in time",
            Self::Gone => "nobody answers any longer",
        })
    }
}

impl std::error::Error for AskFault {}

/// A mailbox for `cores` cores: one seed for each, to be opened on its thread, and the desk.
///
/// # Errors
/// When descriptors have run out.
pub fn channel<Q, A>(cores: usize) -> io::Result<Mailbox<Q, A>> {
    let (ask, asked) = bounded(ASKS_MAX.saturating_mul(cores.max(1)));
    let bell = Bell::new()?;
    let seed = |_| {
        let (give, answers) = bounded(ASKS_MAX);
        let back = Arc::new(Back { give, bell: OnceLock::new() });
        AskerSeed { ask: ask.clone(), desk: bell.clone(), back, answers }
    };
    let seeds = (0..cores).map(seed).collect();
    Ok((seeds, Desk { asked, bell, ear: None }))
}

/// A seed per core, and the desk.
pub type Mailbox<Q, A> = (Vec<AskerSeed<Q, A>>, Desk<Q, A>);

/// The way of answers to one core.
struct Back<A> {
    give: Sender<(usize, Option<A>)>,
    /// Known as soon as the core has opened its seed, and so before its first question.
    bell: OnceLock<Bell>,
}

/// A core's end of a mailbox, not yet on its core.
pub struct AskerSeed<Q, A> {
    ask: Sender<Asked<Q, A>>,
    desk: Bell,
    back: Arc<Back<A>>,
    answers: Receiver<(usize, Option<A>)>,
}

impl<Q: 'static, A: 'static> AskerSeed<Q, A> {
    /// Opens it on its core, once.
    pub fn open(self, core: &Core) -> Asker<Q, A> {
        let _ = self.back.bell.set(core.bell());
        let places: Rc<RefCell<Places<A>>> = Rc::default();
        let heard = Rc::clone(&places);
        let answers = self.answers;
        core.on_bell(move || {
            for (place, answer) in answers.try_iter().take(ASKS_MAX) {
                let waker = heard.borrow_mut().answered(place, answer);
                waker.into_iter().for_each(Waker::wake);
            }
        });
        Asker(Kind::Wired(Rc::new(Wired {
            ask: self.ask,
            desk: self.desk,
            back: self.back,
            places,
        })))
    }
}

/// What has become of a question.
enum Place<A> {
    Free,
    Waiting(Option<Waker>),
    Answered(Option<A>),
    /// Nobody waits any longer, but the question has not come back yet.
    Abandoned,
}

struct Places<A> {
    all: Vec<Place<A>>,
    free: Vec<usize>,
}

impl<A> Default for Places<A> {
    fn default() -> Self {
        Self { all: Vec::new(), free: Vec::new() }
    }
}

impl<A> Places<A> {
    fn take(&mut self) -> Option<usize> {
        if let Some(place) = self.free.pop() {
            self.put(place, Place::Waiting(None));
            return Some(place);
        }
        if self.all.len() == ASKS_MAX {
            return None;
        }
        self.all.push(Place::Waiting(None));
        Some(self.all.len() - 1)
    }

    fn put(&mut self, place: usize, state: Place<A>) -> Place<A> {
        let slot = self.all.get_mut(place);
        slot.map_or(Place::Free, |slot| std::mem::replace(slot, state))
    }

    fn free(&mut self, place: usize) -> Place<A> {
        self.free.push(place);
        self.put(place, Place::Free)
    }

    /// Notes an answer; gives who waits for it.
    fn answered(&mut self, place: usize, answer: Option<A>) -> Option<Waker> {
        match self.put(place, Place::Answered(answer)) {
            Place::Waiting(waker) => waker,
            Place::Abandoned => {
                self.free(place);
                None
            }
            Place::Free | Place::Answered(_) => {
                debug_assert!(false, "a question came back twice");
                None
            }
        }
    }
}

/// Asks the desk. Cheap to clone; belongs to one core.
pub struct Asker<Q, A>(Kind<Q, A>);

type Scripted<Q, A> = Rc<dyn Fn(Q) -> Option<A>>;

enum Kind<Q, A> {
    Wired(Rc<Wired<Q, A>>),
    Scripted(Scripted<Q, A>),
}

struct Wired<Q, A> {
    ask: Sender<Asked<Q, A>>,
    desk: Bell,
    back: Arc<Back<A>>,
    places: Rc<RefCell<Places<A>>>,
}

impl<Q, A> Clone for Asker<Q, A> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Kind::Wired(wired) => Kind::Wired(Rc::clone(wired)),
            Kind::Scripted(answer) => Kind::Scripted(Rc::clone(answer)),
        })
    }
}

impl<Q, A> Asker<Q, A> {
    /// An asker without a desk, for tests: `answer` answers at once, `None` is `Gone`.
    pub fn scripted(answer: impl Fn(Q) -> Option<A> + 'static) -> Self {
        Self(Kind::Scripted(Rc::new(answer)))
    }

    /// Asks, and waits for the answer at most `timeout_ms` milliseconds. May be dropped.
    ///
    /// # Errors
    /// At once when too many questions are open or the desk has ended; else when the time is up or
    /// the desk put the question away.
    pub async fn ask(&self, question: Q, timeout_ms: u64) -> Result<A, AskFault> {
        let wired = match &self.0 {
            Kind::Wired(wired) => wired,
            Kind::Scripted(answer) => return answer(question).ok_or(AskFault::Gone),
        };
        let place = wired.places.borrow_mut().take().ok_or(AskFault::Full)?;
        let waiting = WaitingFor { places: &wired.places, place };
        let reply = Reply { back: Arc::clone(&wired.back), place, given: false };
        match wired.ask.try_send(Asked { question, reply }) {
            Ok(()) => wired.desk.ring(),
            // Dropping the question sends it back as unanswered, which frees its place.
            Err(TrySendError::Full(_)) => return Err(AskFault::Full),
            Err(TrySendError::Disconnected(_)) => return Err(AskFault::Gone),
        }
        let answer = clock::within(timeout_ms, waiting.answer()).await;
        answer.ok_or(AskFault::TimedOut)?.ok_or(AskFault::Gone)
    }
}

impl<Q, A> Asker<Q, A> {
    /// Sends a question whose answer nobody waits for. Until it has come back it counts among those
    /// that are open.
    ///
    /// # Errors
    /// The question is dropped: too many are open already, or the desk has ended.
    pub fn tell(&self, question: Q) -> Result<(), AskFault> {
        let wired = match &self.0 {
            Kind::Wired(wired) => wired,
            Kind::Scripted(answer) => return answer(question).map(drop).ok_or(AskFault::Gone),
        };
        let place = wired.places.borrow_mut().take().ok_or(AskFault::Full)?;
        let left = wired.places.borrow_mut().put(place, Place::Abandoned);
        drop(left);
        let reply = Reply { back: Arc::clone(&wired.back), place, given: false };
        match wired.ask.try_send(Asked { question, reply }) {
            Ok(()) => wired.desk.ring(),
            // Dropping the question sends it back as unanswered, which frees its place.
            Err(TrySendError::Full(_)) => return Err(AskFault::Full),
            Err(TrySendError::Disconnected(_)) => return Err(AskFault::Gone),
        }
        Ok(())
    }
}

/// Somebody who waits for an answer; leaving marks the question as abandoned.
struct WaitingFor<'a, A> {
    places: &'a RefCell<Places<A>>,
    place: usize,
}

impl<A> WaitingFor<'_, A> {
    async fn answer(&self) -> Option<A> {
        poll_fn(|cx| {
            let mut places = self.places.borrow_mut();
            match places.all.get_mut(self.place) {
                Some(Place::Waiting(waker)) => {
                    *waker = Some(cx.waker().clone());
                    Poll::Pending
                }
                Some(Place::Answered(answer)) => Poll::Ready(answer.take()),
                _ => Poll::Ready(None),
            }
        })
        .await
    }
}

impl<A> Drop for WaitingFor<'_, A> {
    fn drop(&mut self) {
        let mut places = self.places.borrow_mut();
        let answered = matches!(places.all.get(self.place), Some(Place::Answered(_)));
        let left = if answered {
            places.free(self.place)
        } else {
            places.put(self.place, Place::Abandoned)
        };
        drop(places);
        drop(left);
    }
}

/// A question on the desk. Dropping it unanswered tells the asker so.
pub struct Asked<Q, A> {
    /// What is asked.
    pub question: Q,
    /// Where the answer goes.
    pub reply: Reply<A>,
}

/// The way of one answer. Dropping it unused tells the asker that nobody answers.
pub struct Reply<A> {
    back: Arc<Back<A>>,
    place: usize,
    given: bool,
}

impl<A> Reply<A> {
    /// Answers. Whoever asked may have stopped waiting; the answer is then dropped on the core.
    pub fn give(mut self, answer: A) {
        self.send(Some(answer));
    }

    fn send(&mut self, answer: Option<A>) {
        self.given = true;
        // Never full, see the head of the file; without its receiver the core has ended.
        let _ = self.back.give.try_send((self.place, answer));
        if let Some(bell) = self.back.bell.get() {
            bell.ring();
        }
    }
}

impl<A> Drop for Reply<A> {
    fn drop(&mut self) {
        if !self.given {
            self.send(None);
        }
    }
}

/// The office's end of a mailbox.
pub struct Desk<Q, A> {
    asked: Receiver<Asked<Q, A>>,
    bell: Bell,
    ear: Option<DeskEar>,
}

impl<Q, A> Desk<Q, A> {
    /// The next question, if one waits.
    pub fn try_next(&self) -> Option<Asked<Q, A>> {
        self.asked.try_recv().ok()
    }

    /// Waits for the next question, within a tokio runtime that has its I/O enabled. May be
    /// dropped.
    ///
    /// # Errors
    /// When the bell cannot be listened to, at the first call.
    pub async fn next(&mut self) -> io::Result<Asked<Q, A>> {
        loop {
            if let Some(asked) = self.try_next() {
                return Ok(asked);
            }
            match &self.ear {
                Some(ear) => ear.heard().await,
                None => self.ear = Some(self.bell.listen_on_desk()?),
            }
        }
    }

    /// Waits for the next question on an ordinary thread, at most `ms` milliseconds.
    pub fn next_blocking(&self, ms: u32) -> Option<Asked<Q, A>> {
        let until_us = clock::now_us() + u64::from(ms) * 1_000;
        loop {
            let next = self.try_next();
            let left_us = until_us.saturating_sub(clock::now_us());
            if next.is_some() || left_us == 0 {
                return next;
            }
            // May end early, by the ring of a question that was taken before it was rung for.
            self.bell.wait_blocking(left_us.div_ceil(1_000) as u32);
        }
    }
}

/// Takes letters from the office to cores, where each is handed to what the core opened its seed
/// with. Cheap to clone.
pub struct Courier<M> {
    ways: Arc<Vec<Way<M>>>,
}

struct Way<M> {
    put: Sender<M>,
    bell: OnceLock<Bell>,
}

/// A core's end of a courier, not yet on its core.
pub struct CourierSeed<M> {
    ways: Arc<Vec<Way<M>>>,
    number: usize,
    letters: Receiver<M>,
}

/// A courier to `cores` cores, and one seed for each, to be opened on its thread.
pub fn courier<M>(cores: usize) -> (Courier<M>, Vec<CourierSeed<M>>) {
    let (ways, letters): (Vec<_>, Vec<_>) = (0..cores)
        .map(|_| {
            let (put, letters) = bounded(LETTERS_MAX);
            (Way { put, bell: OnceLock::new() }, letters)
        })
        .unzip();
    let ways = Arc::new(ways);
    let seed = |(number, letters)| CourierSeed { ways: Arc::clone(&ways), number, letters };
    let seeds = letters.into_iter().enumerate().map(seed).collect();
    (Courier { ways }, seeds)
}

impl<M: 'static> CourierSeed<M> {
    /// Opens it on its core: `read` gets every letter, in order, and must not take long.
    pub fn open(self, core: &Core, read: impl Fn(M) + 'static) {
        let letters = self.letters;
        core.on_bell(move || letters.try_iter().take(LETTERS_MAX).for_each(&read));
        if let Some(way) = self.ways.get(self.number) {
            let _ = way.bell.set(core.bell());
        }
        // For letters that were put in before.
        core.bell().ring();
    }
}

impl<M> Clone for Courier<M> {
    fn clone(&self) -> Self {
        Self { ways: Arc::clone(&self.ways) }
    }
}

impl<M> Courier<M> {
    /// Sends `letter` to core `number`.
    ///
    /// # Errors
    /// The letter itself, where the core does not exist, has ended, or has too many waiting.
    pub fn send(&self, number: usize, letter: M) -> Result<(), M> {
        let Some(way) = self.ways.get(number) else {
            return Err(letter);
        };
        way.put.try_send(letter).map_err(TrySendError::into_inner)?;
        if let Some(bell) = way.bell.get() {
            bell.ring();
        }
        Ok(())
    }

    /// How many cores it reaches.
    pub fn cores(&self) -> usize {
        self.ways.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cores::{self, Accepted, Plan};
    use crate::io::IoChoice;
    use std::sync::mpsc;

    /// Runs `ask` on one core for each asker, without listeners, until all have sent a result.
    fn on_cores<Q, A, T, F>(
        io: IoChoice,
        seeds: Vec<AskerSeed<Q, A>>,
        ask: fn(Asker<Q, A>) -> F,
    ) -> Vec<T>
    where
        Q: Send + 'static,
        A: Send + 'static,
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let (told, tells) = mpsc::channel();
        let count = seeds.len();
        let mut seeds = seeds.into_iter();
        let plan = Plan { count, io, pin: false, listen: Vec::new(), connections_max: 0 };
        let _cores = cores::start(&plan, |_| {
            let (seed, told) = (seeds.next().unwrap(), told.clone());
            move |core: Core| {
                let asker = seed.open(&core);
                io::spawn(async move { told.send(ask(asker).await).unwrap() });
                |_: Accepted| async {}
            }
        })
        .unwrap();
        let wait = std::time::Duration::from_secs(20);
        (0..count).map(|_| tells.recv_timeout(wait).expect("an asker hangs")).collect()
    }

    /// A desk on a tokio thread that answers `n` with `n + 1` until it is told to end.
    fn adding_desk(mut desk: Desk<u64, u64>) {
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
            runtime.unwrap().block_on(async {
                while let Ok(Asked { question, reply }) = desk.next().await {
                    if question == u64::MAX {
                        return;
                    }
                    reply.give(question + 1);
                }
            });
        });
    }

    async fn ask_often(asker: Asker<u64, u64>) -> u64 {
        let mut sum = 0;
        for n in 0..5_000 {
            sum += asker.ask(n, 10_000).await.expect("an answer");
        }
        sum
    }

    #[test]
    fn every_question_of_every_core_is_answered() {
        for &io in IoChoice::EACH {
            let (seeds, desk) = channel(2).unwrap();
            adding_desk(desk);
            assert_eq!(on_cores(io, seeds, ask_often), [5_000 * 5_001 / 2; 2]);
        }
    }

    #[test]
    fn a_late_answer_frees_its_place_and_the_next_is_not_mixed_up() {
        let (seeds, desk) = channel::<u64, u64>(1).unwrap();
        std::thread::spawn(move || {
            let late = desk.next_blocking(10_000).expect("a question");
            let next = desk.next_blocking(10_000).expect("another");
            late.reply.give(1);
            next.reply.give(2);
            let last = desk.next_blocking(10_000).expect("one more");
            drop(last);
        });
        let results = on_cores(IoChoice::Auto, seeds, |asker| async move {
            let late = asker.ask(1, 1).await;
            let next = asker.ask(2, 10_000).await;
            let put_away = asker.ask(3, 10_000).await;
            let gone = loop {
                let answer = asker.ask(4, 10_000).await;
                if answer == Err(AskFault::Gone) {
                    break answer;
                }
            };
            (late, next, put_away, gone)
        });
        let expected = (Err(AskFault::TimedOut), Ok(2), Err(AskFault::Gone), Err(AskFault::Gone));
        assert_eq!(results, [expected]);
    }

    #[test]
    fn what_is_told_arrives_in_order_and_counts_until_it_comes_back() {
        let (seeds, desk) = channel::<u64, u64>(1).unwrap();
        let (told, tells) = mpsc::channel();
        std::thread::spawn(move || {
            while let Some(asked) = desk.next_blocking(10_000) {
                told.send(asked.question).unwrap();
                asked.reply.give(0);
                if asked.question == u64::MAX {
                    return;
                }
            }
        });
        let results = on_cores(IoChoice::Auto, seeds, |asker| async move {
            let mut sent = 0_u64;
            while sent < 3 * ASKS_MAX as u64 {
                match asker.tell(sent) {
                    Ok(()) => sent += 1,
                    Err(fault) => {
                        assert_eq!(fault, AskFault::Full);
                        clock::sleep_ms(1).await;
                    }
                }
            }
            loop {
                match asker.ask(u64::MAX, 10_000).await {
                    Err(AskFault::Full) => clock::sleep_ms(1).await,
                    ended => return ended,
                }
            }
        });
        assert_eq!(results, [Ok(0)]);
        let all: Vec<u64> = tells.iter().take_while(|n| *n != u64::MAX).collect();
        assert_eq!(all, (0..3 * ASKS_MAX as u64).collect::<Vec<_>>());
    }

    #[test]
    fn one_question_too_many_fails_at_once() {
        let (seeds, desk) = channel::<u64, u64>(1).unwrap();
        let results = on_cores(IoChoice::Auto, seeds, |asker| async move {
            for n in 0..ASKS_MAX as u64 {
                let asker = asker.clone();
                io::spawn(async move {
                    let _ = asker.ask(n, 60_000).await;
                });
            }
            clock::sleep_ms(50).await;
            asker.ask(0, 60_000).await
        });
        assert_eq!(results, [Err(AskFault::Full)]);
        assert_eq!(std::iter::from_fn(|| desk.try_next()).count(), ASKS_MAX);
    }

    #[test]
    fn letters_arrive_in_order_also_those_sent_before_the_core_ran() {
        let (courier, seeds) = courier::<u32>(1);
        let mut seeds = seeds.into_iter();
        courier.send(0, 0).unwrap();
        let (told, tells) = mpsc::channel();
        let plan = Plan {
            count: 1,
            io: IoChoice::Auto,
            pin: false,
            listen: Vec::new(),
            connections_max: 0,
        };
        let _cores = cores::start(&plan, |_| {
            let (seed, told) = (seeds.next().unwrap(), told.clone());
            move |core: Core| {
                seed.open(&core, move |letter| told.send(letter).unwrap());
                |_: Accepted| async {}
            }
        })
        .unwrap();
        (1..100).for_each(|n| courier.send(0, n).unwrap());
        assert_eq!(courier.send(1, 7), Err(7), "there is no such core");
        let wait = std::time::Duration::from_secs(20);
        let got: Vec<u32> = (0..100).map(|_| tells.recv_timeout(wait).unwrap()).collect();
        assert_eq!(got, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_scripted_asker_needs_no_desk() {
        let asker = Asker::scripted(|n: u32| (n < 5).then_some(n * 2));
        let mut answers = Vec::new();
        io::block_on_core(IoChoice::Epoll, async {
            answers = vec![asker.ask(4, 1).await, asker.ask(5, 1).await];
        })
        .unwrap();
        assert_eq!(answers, [Ok(8), Err(AskFault::Gone)]);
    }
}

//! One world: a gateway of one core between scripted clients and services, and what must hold.

use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use exporter::remote::Remotes;
use plugins::pdk::{Kit, Node, Snapshot};
use proxy::balance::directory::Directory;
use proxy::balance::registry::Registry;
use proxy::connection::{self, Port};
use proxy::core::{Core, Counts, Parts};
use proxy::logs::{Logs, Side};
use proxy::names::Names;
use runtime::board::Board;
use runtime::buffers::{POOL_PAGES_MAX, Page, pool_pages};
use runtime::io::script::{self, Plan};
use runtime::mailbox::Asker;
use runtime::tally::Tally;
use runtime::{clock, cores, io};
use store::conf::Settings;

use super::ask::{Ask, Coding, Dice, Doing, Road};
use super::client::{self, Met, Outcome};
use super::rows::{self, CAPTURE_BYTES_MAX, FRONT, rows};
use super::upstream::{self, Seen};
use super::witness;

/// How long a world may take, in its own time.
const WORLD_MS_MAX: u64 = 120_000;
/// After this everything that rests has been let go.
const AFTERWARDS_MS: u64 = 5_000;

/// What goes wrong in the world of a seed: every fourth world is calm.
fn plan(seed: u64, dice: &mut Dice) -> Plan {
    let plan = if dice.chance(500) { Plan::rough(seed) } else { Plan::calm(seed) };
    let plan = Plan { turns_max: 5_000_000, pipe_bytes_max: 6_000, ..plan };
    match seed % 4 {
        0 => plan,
        _ => Plan {
            resets_per_mille: dice.pick(&[0, 0, 5, 30]),
            refusals_per_mille: dice.pick(&[0, 0, 50, 300]),
            ..plan
        },
    }
}

/// The gateway of a world.
struct Gateway {
    handle: cores::Core,
    core: Rc<Core>,
    board: Arc<Board<Snapshot>>,
    registry: Arc<Registry>,
}

/// Nothing is logged, unless one seed is looked at.
fn logs() -> &'static Logs {
    static LOGS: LazyLock<Logs> = LazyLock::new(|| {
        let one = std::env::var_os(super::ONE_SEED).is_some();
        let (errors, level) = if one { ("/dev/stderr", "debug") } else { ("off", "notice") };
        let settings = ["PROXY", "ADMIN", "STATUS"].into_iter().flat_map(|side| {
            let access = (format!("KONG_{side}_ACCESS_LOG"), "off".to_owned());
            [access, (format!("KONG_{side}_ERROR_LOG"), errors.to_owned())]
        });
        let level = ("KONG_LOG_LEVEL".to_owned(), level.to_owned());
        let (settings, _) = Settings::of(None, settings.chain([level])).unwrap();
        Logs::start(&settings, std::path::Path::new(".")).unwrap()
    });
    &LOGS
}

impl Gateway {
    fn start() -> Self {
        let handle = cores::Core::scripted().unwrap();
        let board = Arc::new(Board::new(Arc::clone(&rows().snapshots[0])));
        let registry = Registry::new();
        registry.apply(&rows().changes[0]);
        let remotes = Arc::new(Board::new(Arc::new(Remotes::default())));
        let tally = Arc::new(Tally::new(64));
        let kit = Kit::new(tally, None, Arc::new(Node::default()), &remotes, CAPTURE_BYTES_MAX);
        let core = Rc::new(Core::new(Parts {
            kit: Rc::new(kit),
            settings: rows::settings(),
            names: Names::new(Asker::scripted(|_| None)),
            counts: Arc::new(Counts::default()),
            handle: handle.clone(),
            view: Board::view(&board),
            directory: Board::view(registry.board()),
            access_log: logs().access(Side::Proxy),
            pressure: Arc::default(),
        }));
        let port = Rc::new(Port { tls: None, http2: true, proxy_protocol: false });
        let served = Rc::clone(&core);
        handle.serve(io::listen(FRONT.into()).unwrap(), move |accepted| {
            connection::serve(Rc::clone(&served), Rc::clone(&port), accepted)
        });
        let ticking = Rc::clone(&core);
        io::spawn(async move {
            loop {
                clock::sleep_ms(100).await;
                ticking.tick();
            }
        });
        Self { handle, core, board, registry }
    }

    /// Publishes configuration after configuration.
    fn change_now_and_then(&self, dice: &mut Dice) {
        let (board, registry) = (Arc::clone(&self.board), Arc::clone(&self.registry));
        let mut dice = dice.sibling();
        io::spawn(async move {
            for (snapshot, changes) in rows().snapshots.iter().zip(&rows().changes).skip(1) {
                clock::sleep_ms(dice.below(250) as u64).await;
                registry.apply(changes);
                board.publish(Arc::clone(snapshot));
            }
        });
    }

    /// What does not hold once everything rests.
    fn faults_at_rest(&self, seen: &Seen) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |holds: bool, words: String| {
            if !holds {
                faults.push(words);
            }
        };
        let active = self.handle.counts().active;
        check(active == 0, format!("{active} connections of clients are open"));
        let resting = self.core.pool.borrow().len();
        check(resting == 0, format!("{resting} connections rest in the pool"));
        let open = seen.open.get();
        check(open == 0, format!("{open} connections to services are open"));
        let kept = self.core.kit.take_capture(CAPTURE_BYTES_MAX);
        check(kept, "captured bytes were not given back".to_owned());
        if kept {
            self.core.kit.give_capture(CAPTURE_BYTES_MAX);
        }
        let directory: Arc<Directory> = Arc::clone(&self.core.directory());
        for seat in directory.get(&"spread".into()).map(|own| own.seats.clone()).unwrap() {
            let busy = seat.vital.busy();
            check(busy == 0, format!("{busy} requests are counted at {}", seat.address));
        }
        faults
    }
}

/// Runs the world of a seed; gives what does not hold, and how many answers were the services' own.
pub(crate) fn run(seed: u64) -> Result<usize, Vec<String>> {
    let mut dice = Dice::new(seed);
    let plan = plan(seed, &mut dice);
    // Kept full before and after: what is missing then was not given back.
    drop((0..POOL_PAGES_MAX).map(|_| Page::take()).collect::<Vec<_>>());
    witness::take_reports();
    let lived = script::run(&plan, live(seed.is_multiple_of(4), &mut dice));
    let (own, mut faults) = lived.unwrap_or_else(|error| (0, vec![error.to_string()]));
    if pool_pages() != POOL_PAGES_MAX {
        faults.push(format!("{} pages were not given back", POOL_PAGES_MAX - pool_pages()));
    }
    if faults.is_empty() { Ok(own) } else { Err(faults) }
}

async fn live(calm: bool, dice: &mut Dice) -> (usize, Vec<String>) {
    let gateway = Gateway::start();
    let (seen, met) = (Rc::new(Seen::default()), Rc::new(Met::default()));
    upstream::start(&seen, dice, !calm && dice.clone().chance(300));
    if dice.chance(500) {
        gateway.change_now_and_then(dice);
    }
    let clients = begin_clients(calm, &met, dice);
    let drains = !calm && dice.chance(100);
    if drains {
        let (handle, ms) = (gateway.handle.clone(), dice.below(400) as u64);
        io::spawn(async move {
            clock::sleep_ms(ms).await;
            handle.begin_draining();
        });
    }
    let all_done = async {
        while met.done.get() < clients {
            clock::sleep_ms(20).await;
        }
    };
    let mut faults = Vec::new();
    if clock::within(WORLD_MS_MAX, all_done).await.is_none() {
        faults.push(format!("{} of {clients} clients hang", clients - met.done.get()));
    }
    clock::sleep_ms(AFTERWARDS_MS).await;
    faults.extend(gateway.faults_at_rest(&seen));
    faults.extend(met.faults.take());
    faults.extend(seen.faults.take());
    faults.extend(faults_of_exchanges(calm, &gateway, &seen, &met));
    if !faults.is_empty() {
        let shown = met.outcomes.borrow();
        let shown = shown.iter().map(|(ask, outcome)| {
            let Ask { n, road, method, coding, body_bytes, doing, .. } = ask;
            let asked = seen.count(*n);
            format!(
                "({n} {method} {road:?} {coding:?} {body_bytes}, {doing:?}: {outcome:?}, {asked})"
            )
        });
        faults.push(shown.collect());
    }
    let own = |(_, outcome): &&(Ask, Outcome)| matches!(outcome, Outcome::Own(_));
    let own = met.outcomes.borrow().iter().filter(own).count();
    (own, faults)
}

/// Starts the clients; gives how many.
fn begin_clients(calm: bool, met: &Rc<Met>, dice: &mut Dice) -> usize {
    let (clients, mut n) = (1 + dice.below(3), 0);
    for _ in 0..clients {
        let h2 = dice.chance(400);
        let mut asks = Vec::new();
        for _ in 0..1 + dice.below(4) {
            n += 1;
            asks.push(Ask::draw(n, calm, h2, dice));
        }
        let (met, own) = (Rc::clone(met), dice.sibling());
        if !h2 && dice.chance(250) {
            n += 1;
            io::spawn(client::tunnel(n, met, own, calm));
        } else if h2 {
            io::spawn(client::http2(asks, met, own, calm));
        } else {
            io::spawn(client::http1(asks, met, own, calm));
        }
    }
    clients
}

/// What must hold of each exchange: answered or ended, asked at most as often as it may be,
/// reported once.
fn faults_of_exchanges(calm: bool, gateway: &Gateway, seen: &Seen, met: &Met) -> Vec<String> {
    let mut faults = Vec::new();
    let reports = witness::take_reports();
    faults.extend(reports.iter().flat_map(|report| report.faults.clone()));
    let mut ids: Vec<&str> = reports.iter().map(|report| report.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() != reports.len() {
        faults.push("two exchanges have one id".to_owned());
    }
    let began = gateway.core.counts.requests.load(std::sync::atomic::Ordering::Relaxed);
    let refused = met.refused_tunnels.get();
    if !(reports.len() as u64..=reports.len() as u64 + refused).contains(&began) {
        let reported: Vec<u32> = reports.iter().map(|report| report.n).collect();
        faults.push(format!("{began} exchanges began, these were reported: {reported:?}"));
    }
    for (ask, outcome) in &*met.outcomes.borrow() {
        let asked = seen.count(ask.n);
        let reported = reports.iter().filter(|report| report.n == ask.n).count();
        let retries = if matches!(ask.method, "POST" | "PATCH") { 0 } else { 2 };
        // A connection that had rested too long does not count as a try.
        if asked > 2 * (1 + retries) - usize::from(retries == 0) {
            faults.push(format!("asked {asked} times: {ask:?}"));
        }
        if reported > 1 || asked > 0 && reported == 0 {
            faults.push(format!("reported {reported} times: {ask:?} {outcome:?}"));
        }
        let asks_nobody = matches!(ask.road, Road::Answered | Road::Nowhere);
        if asks_nobody && asked > 0 {
            faults.push(format!("asked though nobody should be: {ask:?}"));
        }
        let bodiless = !ask.answers_body() || ask.answer_bytes == 0;
        let may_be_whole = asks_nobody
            || !ask.doing.is_never_whole()
            || ask.doing == Doing::CutLength && bodiless
            || ask.doing == Doing::CutChunked && !ask.answers_body();
        if matches!(outcome, Outcome::Own(_)) && !may_be_whole {
            faults.push(format!("half an answer passed as whole: {ask:?}"));
        }
        if calm {
            faults.extend(fault_in_calm(ask, *outcome, asked));
        }
    }
    faults
}

/// In a calm world everything that is good is answered, and asked once.
fn fault_in_calm(ask: &Ask, outcome: Outcome, asked: usize) -> Option<String> {
    let good = match ask.road {
        Road::Nowhere => outcome == Outcome::Gateway(404),
        Road::Answered => outcome == Outcome::Own(200),
        // What an early answer leaves of the body ends the connection, and so what follows it.
        _ if ask.doing == Doing::Early && ask.coding != Coding::None => true,
        _ => matches!(outcome, Outcome::Own(_)) && asked == 1,
    };
    let ended = matches!(outcome, Outcome::Ended | Outcome::Left);
    (!good && !ended).then(|| format!("calm, and yet {outcome:?}, asked {asked} times: {ask:?}"))
}

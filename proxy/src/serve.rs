//! Starts the cores: what each owns is made here, from what they share.

use std::rc::Rc;
use std::sync::Arc;

use exporter::Exporter;
use plugins::pdk::cache::Parcel;
use plugins::pdk::meters::Meters;
use plugins::pdk::{Answered, Cache, Errand, Keeper, Kit, Node, Office, Snapshot};
use runtime::board::Board;
use runtime::cores::{self, Cores, Listen, Plan, StartFault};
use runtime::mailbox::AskerSeed;
use runtime::tally::Tally;
use runtime::tls::Acceptor;
use runtime::{clock, io};

use crate::balance::directory::Directory;
use crate::connection::{self, Port};
use crate::core::{Core, Counts, Parts};
use crate::counters::CountersSeed;
use crate::logs::AccessLog;
use crate::names::{Names, Question, Told};
use crate::pressure::Pressure;
use crate::settings::RoadSettings;

/// What the cores share; all of it is made before they start.
pub struct Shared {
    /// Settings of the road.
    pub settings: Arc<RoadSettings>,
    /// The newest configuration.
    pub board: Arc<Board<Snapshot>>,
    /// The balancers of Upstreams.
    pub directory: Arc<Board<Directory>>,
    /// Counts of the whole node.
    pub tally: Arc<Tally>,
    /// Where events leave.
    pub exporter: Arc<Exporter>,
    /// Responses that are kept for the whole node.
    pub cache: Arc<Keeper>,
    /// Who this node is.
    pub node: Arc<Node>,
    /// Certificates of the TLS ports: with HTTP/2 offered, and without.
    pub acceptors: Option<(Acceptor, Acceptor)>,
    /// One for each core.
    pub counts: Vec<Arc<Counts>>,
    /// Counts of exchanges, a table for each core.
    pub meters: Meters,
    /// Whether memory is short.
    pub pressure: Arc<Pressure>,
}

/// What one core alone gets.
pub struct Own {
    /// The way to the desk.
    pub desk: AskerSeed<Question, Told>,
    /// The way to the clerk.
    pub clerk: AskerSeed<Errand, Answered>,
    /// The way to counters that nodes share.
    pub counters: CountersSeed,
    /// The way to the keeper of responses.
    pub keeper: AskerSeed<Parcel, ()>,
    /// Where finished requests are noted.
    pub access_log: AccessLog,
}

/// How often a core looks after itself.
const TICK_MS: u64 = 1_000;

/// Starts the cores; comes back when all of them listen.
///
/// # Errors
/// A port is taken, or a core cannot start.
pub fn start(plan: &Plan, shared: &Arc<Shared>, own: Vec<Own>) -> Result<Cores, StartFault> {
    let mut own = own.into_iter();
    cores::start(plan, |_number| {
        let (shared, own) = (Arc::clone(shared), own.next());
        let listen = plan.listen.clone();
        move |handle: cores::Core| {
            let core = own.map(|own| Rc::new(core(&handle, &shared, own)));
            if let Some(core) = &core {
                io::spawn(tick(Rc::clone(core)));
            }
            // nginx has one set of protocols for all ports of a server: with one TLS port of HTTP/2
            // the others know its preface.
            let http2 = listen.iter().any(|listen| listen.http2);
            let port = |listen| Rc::new(port(listen, http2, &shared));
            let ports: Vec<_> = listen.iter().map(port).collect();
            move |accepted: cores::Accepted| {
                let served = core.clone().zip(ports.get(accepted.listen).cloned());
                async move {
                    if let Some((core, port)) = served {
                        connection::serve(core, port, accepted).await;
                    }
                }
            }
        }
    })
}

fn port(listen: &Listen, http2: bool, shared: &Shared) -> Port {
    let acceptor = shared.acceptors.as_ref().filter(|_| listen.tls);
    let tls = acceptor.map(|(http2, http1)| if listen.http2 { http2 } else { http1 }.clone());
    Port { tls, http2, proxy_protocol: listen.proxy_protocol }
}

fn core(handle: &cores::Core, shared: &Shared, own: Own) -> Core {
    let number = handle.number();
    let kit = Kit::new(
        Arc::clone(&shared.tally),
        shared.exporter.producer(number),
        Arc::clone(&shared.node),
        shared.exporter.remotes(),
        shared.settings.capture_bytes_max,
    )
    .believing(shared.settings.trust.nets.is_empty())
    .sharing(own.counters.open(handle))
    .with_cache(Cache::new(&shared.cache, own.keeper.open(handle), number));
    let table = shared.meters.table(number).cloned();
    let kit = match table {
        Some(table) => kit.counting_in(table),
        None => kit,
    };
    Core::new(Parts {
        kit: Rc::new(kit.with_office(Office::new(own.clerk.open(handle)))),
        settings: Arc::clone(&shared.settings),
        names: Names::new(own.desk.open(handle)),
        counts: shared.counts.get(number).cloned().unwrap_or_default(),
        handle: handle.clone(),
        view: Board::view(&shared.board),
        directory: Board::view(&shared.directory),
        access_log: own.access_log,
        pressure: Arc::clone(&shared.pressure),
    })
}

async fn tick(core: Rc<Core>) {
    loop {
        clock::sleep_ms(TICK_MS).await;
        core.tick();
    }
}

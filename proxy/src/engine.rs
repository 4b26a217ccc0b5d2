//! What serves: the exporter, the office's watch over the store, the cores and the desk, started
//! and stopped together.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use exporter::{Exporter, ExporterPlan};
use plugins::pdk::cache::Parcel;
use plugins::pdk::meters::Meters;
use plugins::pdk::{Keeper, Lent, Node, Snapshot, Spec};
use runtime::board::Board;
use runtime::cores::{self, Cores, Listen, Plan};
use runtime::io::IoChoice;
use runtime::mailbox;
use runtime::tally::Tally;
use runtime::tls::{Acceptor, AcceptorPlan, Names, Versions};
use serde_json::json;
use store::actor::{Store, Watch};
use store::admin::{Balancers, OwnEndpoint};
use store::backend::postgres::{PostgresPlan, Server};
use store::conf::{Database, Edge, Settings};
use uuid::Uuid;

use crate::balance::admin;
use crate::balance::registry::Registry;
use crate::certificates::Configured;
use crate::clerk;
use crate::core::Counts;
use crate::counters;
use crate::desk::checks::Trust;
use crate::desk::resolver::NameSettings;
use crate::desk::{self, Duties};
use crate::explain;
use crate::logs::{AccessLog, Logs, Side};
use crate::names::{Question, Told};
use crate::node::{self, Gauges, Traffic};
use crate::office::{self, Office};
use crate::plan::Slots;
use crate::pressure::{self, Pressure};
use crate::process::{self, Ending};
use crate::roadmap::Roadmap;
use crate::route::{Flavor, Router};
use crate::serve::{self, Own, Shared};
use crate::settings::RoadSettings;
use crate::upstream_tls::{Tls, UpstreamTls};

/// Slots of the tally: rate limit counters of the whole node, 64 bytes each.
const TALLY_SLOTS: usize = 1 << 17;
/// Bytes of responses that are kept: as Kong's `mem_cache_size` by default.
const CACHE_BYTES_MAX: u64 = 128 << 20;
/// Connections that wait to be accepted where the listener does not say.
const BACKLOG: u32 = 16_384;
/// How long open exchanges may take after SIGQUIT.
const DRAIN_MS: u64 = 10_000;
/// How long the exporter may send before the program ends: after SIGQUIT, and else.
const LAST_ROUND_MS: u64 = 2_000;

/// Made before the store, which tells it of every change.
pub struct Engine {
    exporter: Arc<Exporter>,
    board: Arc<Board<Snapshot>>,
    slots: Arc<Slots>,
    tally: Arc<Tally>,
    registry: Arc<Registry>,
    upstream_tls: Arc<UpstreamTls>,
    /// The router without routes: its flavour, and how strict it is.
    router: Router,
    meters: Meters,
    published_s: Arc<AtomicU64>,
    cache: Arc<Keeper>,
    cores: usize,
}

impl Engine {
    /// Starts the exporter and pins an empty configuration to the board.
    ///
    /// # Errors
    /// One sentence.
    pub fn new(settings: &Settings, prefix: &Path) -> Result<Self, String> {
        let cores = Edge::of(settings).cores.unwrap_or_else(cores::default_count);
        let mut plan = ExporterPlan::new(prefix.to_path_buf(), cores);
        if let Some(folder) = variable("TOLLGATE_RING_DIR") {
            plan.ring_dir = folder.into();
        }
        plan.certificate_files = crate::ping::certificates(settings);
        plan.journal_bytes_max =
            bytes_of("TOLLGATE_JOURNAL_BYTES_MAX")?.unwrap_or(plan.journal_bytes_max);
        plan.events_bytes_max =
            bytes_of("TOLLGATE_EVENTS_BYTES_MAX")?.unwrap_or(plan.events_bytes_max);
        let exporter = exporter::start(&plan).map_err(|fault| fault.to_string())?;
        let slots = Arc::new(Slots::new(specs().iter().copied()));
        let upstream_tls = Arc::new(UpstreamTls::new(settings)?);
        let router = Router::empty(Flavor::named(settings.text("router_flavor")))
            .with_strict_paths(is_on("TOLLGATE_STRICT_PATHS")?);
        let roadmap = Roadmap::empty(Arc::clone(&slots), Arc::clone(&upstream_tls), router.clone());
        let tables = Arc::new(store::snapshot::Tables::default());
        let first = Snapshot { number: 0, tables, road: Box::new(roadmap) };
        let board = Arc::new(Board::new(Arc::new(first)));
        let tally = Arc::new(Tally::new(TALLY_SLOTS));
        let registry = Registry::new();
        let cache_bytes_max = bytes_of("TOLLGATE_CACHE_BYTES_MAX")?.unwrap_or(CACHE_BYTES_MAX);
        let cache =
            Arc::new(Keeper::new(cores, usize::try_from(cache_bytes_max).unwrap_or(usize::MAX)));
        let exporter = Arc::new(exporter);
        let (meters, published_s) = (Meters::new(cores), Arc::default());
        Ok(Self {
            exporter,
            board,
            slots,
            tally,
            registry,
            upstream_tls,
            router,
            cache,
            meters,
            published_s,
            cores,
        })
    }

    /// What the store tells of every change. `shown` is what the TLS ports of the proxy show.
    pub fn watch(&self, shown: Option<&Arc<Names>>) -> Watch {
        let (board, exporter) = (Arc::clone(&self.board), Arc::clone(&self.exporter));
        let certificates = shown.map(|names| Configured::new(Arc::clone(names)));
        let registry = Arc::clone(&self.registry);
        let (slots, tls) = (Arc::clone(&self.slots), Arc::clone(&self.upstream_tls));
        let empty = Roadmap::empty(slots, tls, self.router.clone());
        let published_s = Arc::clone(&self.published_s);
        let mut office = Office::new(board, exporter, registry, published_s, empty, certificates);
        Watch {
            check: Box::new(|change, _| office::check(specs(), change)),
            publish: Box::new(move |tables, changes| office.publish(tables, changes)),
        }
    }

    /// The endpoints that the plugins of these names bring along, and the program's own, for the
    /// Admin API.
    pub fn endpoints(&self, enabled: &[String]) -> Vec<OwnEndpoint> {
        let lent = Lent {
            tally: Arc::clone(&self.tally),
            exporter: Arc::clone(&self.exporter),
            meters: self.meters.clone(),
            published_s: Arc::clone(&self.published_s),
            cache: Arc::clone(&self.cache),
        };
        let specs =
            specs().iter().filter(|spec| enabled.iter().any(|name| name == spec.schema.name));
        let own = specs.flat_map(|spec| spec.endpoints).map(|endpoint| {
            let (answer, lent) = (endpoint.answer, lent.clone());
            OwnEndpoint {
                path: endpoint.path,
                methods: endpoint.methods,
                listed: endpoint.is_kongs,
                described: None,
                answer: Box::new(move |asked| answer(asked, &lent)),
            }
        });
        own.chain([explain::endpoint(Arc::clone(&self.board))]).collect()
    }

    /// What the Admin API may ask of the balancers.
    pub fn balancers(&self) -> Balancers {
        admin::balancers(&self.registry)
    }

    /// Starts the cores, the desk, and the clerk of the store.
    ///
    /// # Errors
    /// One sentence.
    pub fn start(
        self,
        settings: &Settings,
        listen: Vec<Listen>,
        certificates: Option<&Arc<Names>>,
        node: Node,
        logs: &Logs,
        store: &Arc<Store>,
    ) -> Result<Running, String> {
        let io = IoChoice::from_env()?;
        let (seeds, desk) =
            mailbox::channel(self.cores).map_err(|fault| format!("no mailbox: {fault}"))?;
        let (keeper_seeds, kept) =
            mailbox::channel(self.cores).map_err(|fault| format!("no mailbox: {fault}"))?;
        let access: AccessLog = logs.access(Side::Proxy);
        let (clerks, errands) =
            mailbox::channel(self.cores).map_err(|fault| format!("no mailbox: {fault}"))?;
        let counters = counters::start(self.cores, &self.tally, database(settings))?;
        let own = seeds
            .into_iter()
            .zip(clerks)
            .zip(counters)
            .zip(keeper_seeds)
            .map(|(((desk, clerk), counters), keeper)| Own {
                desk,
                clerk,
                counters,
                keeper,
                access_log: access.sibling(),
            })
            .collect();
        let counts: Vec<Arc<Counts>> = (0..self.cores).map(|_| Arc::default()).collect();
        let shared = Arc::new(Shared {
            settings: Arc::new(RoadSettings::of(settings)),
            board: Arc::clone(&self.board),
            directory: Arc::clone(self.registry.board()),
            tally: Arc::clone(&self.tally),
            exporter: Arc::clone(&self.exporter),
            cache: Arc::clone(&self.cache),
            node: Arc::new(node),
            acceptors: certificates.map(|names| acceptors(settings, names)).transpose()?,
            counts: counts.clone(),
            meters: self.meters.clone(),
            pressure: pressure::start(bytes_of("TOLLGATE_MEMORY_BYTES_MAX")?)?,
        });
        let connections_max = connections_max(settings, self.cores);
        let plan = Plan { count: self.cores, io, pin: true, listen, connections_max };
        let cores = serve::start(&plan, &shared, own).map_err(|fault| fault.to_string())?;
        let duties = Duties {
            registry: self.registry,
            names: NameSettings::of(settings),
            trust: trust(&self.upstream_tls),
        };
        start_desk(desk, duties)?;
        clerk::start(errands, Arc::downgrade(store))
            .map_err(|fault| format!("cannot start the clerk: {fault}"))?;
        start_keeper(self.cache, kept)?;
        let pressure = Arc::clone(&shared.pressure);
        let (exporter, board) = (self.exporter, self.board);
        Ok(Running { cores, counts, exporter, board, pressure, connections_max })
    }
}

/// Of the open files that the process may have, so many of a hundred are for clients; the others
/// are for upstreams and its own files.
const CLIENT_FILES_PERCENT: u64 = 75;

/// Connections of clients that the node takes: what `nginx_events_worker_connections` says for each
/// core, but never so many that no descriptors are left for upstreams.
fn connections_max(settings: &Settings, cores: usize) -> u64 {
    let files = process::open_files_max() / 100 * CLIENT_FILES_PERCENT;
    let given = Edge::of(settings).core_connections_max;
    given.map_or(files, |each| each.saturating_mul(cores as u64).min(files))
}

/// What a variable of our own says. Without a value it is unset: so container files leave it.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|text| !text.is_empty())
}

/// A number of bytes out of the environment, as nginx writes sizes: `512m`.
fn bytes_of(name: &str) -> Result<Option<u64>, String> {
    let Some(text) = variable(name) else { return Ok(None) };
    let text = text.to_string_lossy();
    let bytes = store::conf::nginx::bytes(&text);
    bytes.map(Some).ok_or_else(|| format!("{name} is not a size: '{text}'"))
}

/// Whether the variable `name` is switched on, in Kong's words or as a number; not where it is
/// unset.
///
/// # Errors
/// One sentence, for any other word.
fn is_on(name: &str) -> Result<bool, String> {
    let Some(text) = variable(name) else { return Ok(false) };
    let text = text.to_string_lossy();
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Ok(true),
        "off" | "false" | "no" | "0" => Ok(false),
        _ => Err(format!("{name} is neither on nor off: '{text}'")),
    }
}

/// The database that nodes share, if there is one.
fn database(settings: &Settings) -> Option<Server> {
    let shares = settings.database() == Database::Postgres;
    shares.then(|| PostgresPlan::of(settings, Uuid::nil(), None).server)
}

/// Starts the desk. It ends with the process: nobody waits for it, and it holds nothing that must
/// be saved.
fn start_desk(asked: mailbox::Desk<Question, Told>, duties: Duties) -> Result<(), String> {
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let answered = runtime.map_err(|fault| fault.to_string()).and_then(|runtime| {
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, desk::run(asked, duties))
        });
        let Err(fault) = answered;
        log::error!("names of upstreams are not looked up: {fault}");
    };
    let started = thread::Builder::new().name("desk".to_owned()).spawn(work);
    started.map(drop).map_err(|fault| format!("cannot start the desk: {fault}"))
}

/// Starts the thread that takes responses into the cache. It ends with the process, as the desk.
fn start_keeper(keeper: Arc<Keeper>, kept: mailbox::Desk<Parcel, ()>) -> Result<(), String> {
    let started = thread::Builder::new().name("cache".to_owned()).spawn(move || keeper.run(&kept));
    started.map(drop).map_err(|fault| format!("cannot start the cache: {fault}"))
}

/// The addresses of the proxy's ports, for the cores.
pub fn listen(ports: &[(std::net::SocketAddr, store::conf::Listen)]) -> Vec<Listen> {
    let port = |(addr, listen): &(std::net::SocketAddr, store::conf::Listen)| Listen {
        addr: *addr,
        backlog: listen.backlog.unwrap_or(BACKLOG),
        tls: listen.tls,
        http2: listen.http2,
        proxy_protocol: listen.proxy_protocol,
    };
    ports.iter().map(port).collect()
}

/// Every plugin of this program.
pub fn specs() -> &'static [&'static Spec] {
    plugins::bundled::ALL
}

fn acceptors(settings: &Settings, names: &Arc<Names>) -> Result<(Acceptor, Acceptor), String> {
    let versions = versions(settings);
    let acceptor = |http2| {
        let plan = AcceptorPlan { names: Arc::clone(names), http2, versions };
        Acceptor::new(&plan).map_err(|fault| fault.to_string())
    };
    Ok((acceptor(true)?, acceptor(false)?))
}

/// The TLS versions that clients may speak, as `ssl_cipher_suite` and `ssl_protocols` say. What is
/// older than 1.2 is not spoken.
fn versions(settings: &Settings) -> Versions {
    let named = settings.text("ssl_protocols").unwrap_or_default();
    let has = |version| named.split_whitespace().any(|word| word == version);
    let versions = match settings.text("ssl_cipher_suite") {
        Some("modern") => Versions { tls12: false, tls13: true },
        Some("custom") => Versions { tls12: has("TLSv1.2"), tls13: has("TLSv1.3") },
        _ => Versions::default(),
    };
    if versions.tls12 || versions.tls13 { versions } else { Versions::default() }
}

/// The same trust for checks of peers, which the desk makes.
fn trust(tls: &UpstreamTls) -> Trust {
    let both = |tls: &Tls| [tls.connector(false).config(), tls.connector(true).config()];
    Trust { checking: both(&tls.checking), believing: both(&tls.believing) }
}

/// The engine while it serves.
pub struct Running {
    cores: Cores,
    counts: Vec<Arc<Counts>>,
    exporter: Arc<Exporter>,
    board: Arc<Board<Snapshot>>,
    pressure: Arc<Pressure>,
    connections_max: u64,
}

impl Running {
    /// In words: how many cores run on what.
    pub fn words(&self) -> String {
        let kinds = self.cores.kinds();
        let kind = kinds.first().map(ToString::to_string).unwrap_or_default();
        format!("{} core{} on {kind}", kinds.len(), if kinds.len() == 1 { "" } else { "s" })
    }

    /// Lets `GET /status` show what moves.
    pub fn show(&self, gauges: &Gauges) {
        let exporter = Arc::clone(&self.exporter);
        gauges.show("events", move || node::events(&exporter.sums()));
        let exporter = Arc::clone(&self.exporter);
        gauges.show("destinations", move || node::destinations(&exporter.destinations()));
        let words = self.words();
        gauges.show("engine", move || words.clone().into());
        let board = Arc::clone(&self.board);
        gauges.show("inactive", move || node::inactive(&board.newest().tables, specs()));
        let (counts, readings) = (self.counts.clone(), self.cores.readings());
        let sum = |counts: &[Arc<Counts>], of: fn(&Counts) -> &AtomicU64| {
            counts.iter().map(|core| of(core).load(Ordering::Relaxed)).sum::<u64>()
        };
        gauges.count_traffic(move || Traffic {
            accepted: readings.iter().map(|reading| reading.counts().accepted).sum(),
            active: readings.iter().map(|reading| reading.counts().active).sum(),
            waiting: sum(&counts, |core| &core.waiting),
            requests: sum(&counts, |core| &core.requests),
        });
        let (counts, readings) = (self.counts.clone(), self.cores.readings());
        let (pressure, connections_max) = (Arc::clone(&self.pressure), self.connections_max);
        gauges.show("overload", move || {
            let of = |count: fn(cores::Counts) -> u64| -> u64 {
                readings.iter().map(|reading| count(reading.counts())).sum()
            };
            let by_core: Vec<u64> = readings.iter().map(|core| core.counts().active).collect();
            json!({
                "connections_max": connections_max,
                "connections_refused": of(|counts| counts.refused),
                "connections_by_core": by_core,
                "connections_handed_over": of(|counts| counts.handed),
                "accept_faults": of(|counts| counts.accept_faults),
                "requests_shed": sum(&counts, |core| &core.shed),
                "memory_bytes_max": pressure.bytes_max(),
                "memory_is_short": pressure.is_high(),
                "panics": runtime::io::panics(),
            })
        });
    }

    /// Stops the cores; then every event is in the journal. The store must have stopped, so that
    /// nobody publishes any more.
    pub fn stop(mut self, ending: Ending) {
        if ending == Ending::Graceful {
            self.cores.drain(DRAIN_MS);
        }
        self.cores.stop();
        self.board.drop_returned();
        let last_round_ms = if ending == Ending::Graceful { LAST_ROUND_MS } else { 0 };
        drop(self.cores);
        let sums = self.exporter.stop(last_round_ms);
        log::info!("events: {}", node::events(&sums));
    }
}

//! What one core owns: its view of the configuration, its plans, its connections to upstreams.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use plugins::pdk::{Client, Exchange, Kit, RequestId, Scheme, Scope, Snapshot};
use runtime::board::View;
use runtime::clock;
use runtime::cores;
use runtime::http::head::{Known, Request};
use uuid::Uuid;

use crate::balance::directory::Directory;
use crate::fault::{Fault, What};
use crate::forwarded::response;
use crate::logs::{AccessLog, End, More};
use crate::names::Names;
use crate::plan::{Instance, Instances, Plan, Slot};
use crate::pool::Pool;
use crate::pressure::{EXCHANGES_ALWAYS, Pressure};
use crate::roadmap::{Planned, Roadmap};
use crate::route::{Lookup, Normal, RouteCache, RouteEntry, normalise, target};
use crate::settings::RoadSettings;
use crate::upstream::Connections;

/// Exchanges that are kept for the next request, with their buffers.
const SPARE_EXCHANGES_MAX: usize = 256;
/// Plans that are kept. When a core has seen more routes since the plans last changed, it forgets
/// them all and makes them again as they are asked for.
const PLANS_MAX: usize = 65_536;
/// Exchanges of one core that may wait for upstreams which refuse connections: a tenth of the
/// connections that Kong's worker may have.
const WAITING_MAX: usize = 16_384 / 10;

/// The lower bits of a connection's number are its core's.
const CORE_BITS: u32 = 10;

/// Counters of one core that the office reads.
#[derive(Debug, Default)]
pub struct Counts {
    /// Exchanges that began.
    pub requests: AtomicU64,
    /// Exchanges that a panic ended.
    pub panics: AtomicU64,
    /// Requests refused because a plugin in their scope cannot run.
    pub closed_routes: AtomicU64,
    /// Connections that wait for a request.
    pub waiting: AtomicU64,
    /// Requests refused for lack of room.
    pub shed: AtomicU64,
}

impl Counts {
    /// Adds to a count that this core alone writes.
    fn add(count: &AtomicU64, more: u64) {
        count.store(count.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }
}

/// A connection while it waits for a request.
pub struct Waiting<'a>(&'a Counts);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        Counts::add(&self.0.waiting, u64::MAX);
    }
}

/// A connection of HTTP/2, which waits for a request while none of its streams is open.
pub struct Rest {
    core: Rc<Core>,
    streams: Cell<usize>,
}

impl Rest {
    /// Its core.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// A stream is open until what is given is dropped.
    pub fn interrupted(&self) -> Interrupted<'_> {
        if self.streams.replace(self.streams.get() + 1) == 0 {
            Counts::add(&self.core.counts.waiting, u64::MAX);
        }
        Interrupted(self)
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        Counts::add(&self.core.counts.waiting, u64::MAX);
    }
}

/// An open stream.
pub struct Interrupted<'a>(&'a Rest);

impl Drop for Interrupted<'_> {
    fn drop(&mut self) {
        let left = self.0.streams.get().saturating_sub(1);
        self.0.streams.set(left);
        if left == 0 {
            Counts::add(&self.0.core.counts.waiting, 1);
        }
    }
}

/// An exchange, or several that follow each other on one connection, while they are under way.
pub struct Busy<'a>(&'a Cell<usize>);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// One core's own things. Never shared: `Rc` and `Cell` are the proof.
pub struct Core {
    /// What plugins may use.
    pub kit: Rc<Kit>,
    /// The settings.
    pub settings: Arc<RoadSettings>,
    /// Idle connections to upstreams.
    pub pool: RefCell<Pool>,
    /// Connections to upstreams of HTTP/2.
    pub calls: RefCell<Connections>,
    /// Names of upstreams.
    pub names: Names,
    /// Counters for the office.
    pub counts: Arc<Counts>,
    handle: cores::Core,
    view: View<Snapshot>,
    directory: View<Directory>,
    plans: RefCell<HashMap<Uuid, Rc<Planned>, FixedState>>,
    instances: Instances,
    route_cache: RefCell<RouteCache>,
    #[allow(clippy::vec_box)] // an exchange is large: it is moved by its pointer
    spare: RefCell<Vec<Box<Exchange>>>,
    access_log: RefCell<AccessLog>,
    pressure: Arc<Pressure>,
    busy: Cell<usize>,
    waiting: Cell<usize>,
    complained_s: Cell<u64>,
    connections: Cell<u64>,
    head_scratch: Cell<Vec<u8>>,
    path_scratch: Cell<Vec<u8>>,
}

/// What a core is made of.
pub struct Parts {
    /// What plugins may use.
    pub kit: Rc<Kit>,
    /// The settings.
    pub settings: Arc<RoadSettings>,
    /// Names of upstreams.
    pub names: Names,
    /// Counters for the office.
    pub counts: Arc<Counts>,
    /// The core as the runtime knows it.
    pub handle: cores::Core,
    /// What the office publishes.
    pub view: View<Snapshot>,
    /// The balancers of Upstreams.
    pub directory: View<Directory>,
    /// Where finished requests are noted.
    pub access_log: AccessLog,
    /// Whether memory is short.
    pub pressure: Arc<Pressure>,
}

impl Core {
    /// A core that has seen no request.
    pub fn new(parts: Parts) -> Self {
        let Parts { kit, settings, names, counts, handle, .. } = parts;
        let (view, directory, access_log) = (parts.view, parts.directory, parts.access_log);
        Self {
            kit,
            pool: RefCell::new(Pool::new(settings.pool)),
            calls: RefCell::default(),
            settings,
            names,
            counts,
            handle,
            view,
            directory,
            plans: RefCell::default(),
            instances: Instances::default(),
            route_cache: RefCell::default(),
            spare: RefCell::default(),
            access_log: RefCell::new(access_log),
            pressure: parts.pressure,
            busy: Cell::new(0),
            waiting: Cell::new(0),
            complained_s: Cell::new(0),
            connections: Cell::new(0),
            head_scratch: Cell::default(),
            path_scratch: Cell::default(),
        }
    }

    /// An exchange with empty buffers, and the configuration of this moment.
    pub fn begin(&self, client: &Client) -> Box<Exchange> {
        let spare = self.spare.borrow_mut().pop();
        match spare {
            Some(mut exchange) => {
                exchange.client.clone_from(client);
                exchange
            }
            None => Box::new(Exchange::new(Rc::clone(&self.kit), self.view.get(), client.clone())),
        }
    }

    /// Gives an exchange its identity and the newest configuration.
    pub fn number(&self, exchange: &mut Exchange) {
        Counts::add(&self.counts.requests, 1);
        exchange.id = RequestId::from_bits(clock::random(), clock::random());
        if self.settings.trust.by_header() {
            let client = self.settings.trust.client(exchange.client.peer, &exchange.request.fields);
            exchange.client.ip = client.ip;
            exchange.client.port = client.port;
            exchange.client.trusted = client.trusted;
        }
        crate::forwarded::arrive(&mut exchange.request.fields, exchange.client.trusted);
        exchange.times.started_us = clock::now_us();
        exchange.times.started_wall_us = clock::wall_us();
        let newest = self.view.get();
        if !Rc::ptr_eq(&newest, &exchange.snapshot) {
            exchange.snapshot = newest;
        }
    }

    /// Counts a connection that begins to wait for a request, until what is given is dropped.
    pub fn begins_to_wait(&self) -> Waiting<'_> {
        Counts::add(&self.counts.waiting, 1);
        Waiting(&self.counts)
    }

    /// The same for a connection of HTTP/2.
    pub fn begins_to_rest(self: &Rc<Self>) -> Rest {
        Counts::add(&self.counts.waiting, 1);
        Rest { core: Rc::clone(self), streams: Cell::new(0) }
    }

    /// Counts an exchange that begins, until what is given is dropped.
    pub fn begins_exchange(&self) -> Busy<'_> {
        self.busy.set(self.busy.get() + 1);
        Busy(&self.busy)
    }

    /// Whether the request that has come must be turned away, since memory is short and others are
    /// under way; or since its connection is one too many.
    pub fn sheds(&self, over: bool) -> bool {
        let sheds = over || (self.pressure.is_high() && self.busy.get() > EXCHANGES_ALWAYS);
        if sheds {
            Counts::add(&self.counts.shed, 1);
        }
        sheds
    }

    /// Takes an exchange back for the next request.
    pub fn end(&self, mut exchange: Box<Exchange>) {
        exchange.reset();
        exchange.snapshot = self.view.get();
        exchange.scope = Rc::default();
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE_EXCHANGES_MAX {
            spare.push(exchange);
        }
    }

    /// Finds the route of an exchange, and who takes part on it; fills in what goes upstream.
    ///
    /// # Errors
    /// No route, a target that cannot be a path, or a route that this protocol may not use.
    pub fn planned(&self, exchange: &mut Exchange) -> Result<Rc<Planned>, Fault> {
        let snapshot = Rc::clone(&exchange.snapshot);
        let roadmap = roadmap(&snapshot)?;
        let request = std::mem::take(&mut exchange.request);
        let mut scratch = self.path_scratch.take();
        let routed = self.route(roadmap, &snapshot, exchange, &request, &mut scratch);
        self.path_scratch.set(scratch);
        exchange.request = request;
        let planned = routed?;
        crate::heads::admit(exchange, &planned)?;
        Ok(planned)
    }

    fn route(
        &self,
        roadmap: &Roadmap,
        snapshot: &Snapshot,
        exchange: &mut Exchange,
        request: &Request,
        scratch: &mut Vec<u8>,
    ) -> Result<Rc<Planned>, Fault> {
        let target = target::split(request.target());
        let path = normalise(target.path, scratch)?;
        let lookup = lookup(exchange, request, path, target.query);
        let mut cache = self.route_cache.borrow_mut();
        let found = roadmap.router.decide(&lookup, &mut cache)?.ok_or(What::NoRoute)?;
        let planned = self.plan_of(roadmap, snapshot, found.route);
        exchange.scope = Rc::clone(&planned.scope);
        if self.settings.allow_debug_header && request.fields.get("kong-debug") == Some(b"1") {
            response::add_found(&mut exchange.early, &planned.scope);
        }
        if planned.plan.wants_captures {
            let whole = found.taken(path.path).filter(|_| found.is_regex());
            whole.into_iter().for_each(|whole| exchange.captures.push(None, Some(whole)));
            for (name, text) in found.groups(path.path, &cache) {
                exchange.captures.push(name, text);
            }
        }
        crate::heads::onward(exchange, &planned, path, &found)?;
        crate::heads::query(exchange, &target);
        Ok(planned)
    }

    fn plan_of(
        &self,
        roadmap: &Roadmap,
        snapshot: &Snapshot,
        route: &Arc<RouteEntry>,
    ) -> Rc<Planned> {
        let id = route.spec.id;
        let mut plans = self.plans.borrow_mut();
        if let Some(planned) = plans.get(&id)
            && planned.plans_number == roadmap.plans_number
            && Arc::ptr_eq(&planned.route, route)
        {
            return Rc::clone(planned);
        }
        let service = route.spec.service.and_then(|id| roadmap.services.get(&id)).cloned();
        let scope = Rc::new(Scope {
            route: snapshot.tables.get("routes", id).cloned(),
            service: service.as_ref().map(|service| Arc::clone(&service.row)),
        });
        let planned = Rc::new(Planned {
            plan: self.instances.plan(&roadmap.slots, &roadmap.plugins, &scope),
            scope,
            route: Arc::clone(route),
            service,
            plans_number: roadmap.plans_number,
        });
        if plans.len() >= PLANS_MAX {
            plans.clear();
        }
        plans.insert(id, Rc::clone(&planned));
        planned
    }

    /// The plugins of an exchange that no route matched: global rows.
    pub fn global_plan(&self, exchange: &Exchange) -> Plan {
        match roadmap(&exchange.snapshot) {
            Ok(map) => self.instances.plan(&map.slots, &map.plugins, &Scope::default()),
            Err(_) => Plan::default(),
        }
    }

    /// Who stands in a slot, for the consumer that is known now.
    pub fn instance(&self, slot: &Slot, exchange: &Exchange) -> Option<Rc<Instance>> {
        let map = roadmap(&exchange.snapshot).ok()?;
        let consumer = exchange.consumer.as_ref().map(|row| row.id());
        self.instances.at(&map.slots, &map.plugins, slot, &exchange.scope, consumer)
    }

    /// Counts a request that was refused because a plugin cannot run, and says so once a second.
    pub fn count_closed_route(&self, instance: &Instance) {
        let count = self.counts.closed_routes.fetch_add(1, Ordering::Relaxed) + 1;
        let now_s = clock::now_us() / 1_000_000;
        if self.complained_s.replace(now_s) != now_s {
            log::error!(
                "the {} plugin {} cannot run; requests in its scope get 503 ({count} so far)",
                instance.spec.schema.name,
                instance.row_id
            );
        }
    }

    /// Writes the access log's line.
    pub fn log_access(&self, exchange: &Exchange, sent_bytes: u64) {
        let mut log = self.access_log.borrow_mut();
        if log.is_off() {
            return;
        }
        let end = End {
            ended_wall_us: exchange.ended_wall_us(),
            status: exchange.response.status,
            sent_bytes,
            id: exchange.id.as_str(),
            more: told(exchange),
        };
        log.finished(exchange.client.ip, &exchange.request, &end);
    }

    /// What the core does once a second.
    pub fn tick(&self) {
        self.pool.borrow_mut().sweep();
        self.calls.borrow_mut().sweep(self.settings.pool.idle_timeout_ms);
        self.access_log.borrow_mut().flush();
        // An idle core adopts changes too, so that the office can free what they replaced.
        let _newest = self.view.get();
        self.view.sweep();
        self.kit.cache.sweep();
        let _newest = self.kit.remotes.get();
        self.kit.remotes.sweep();
        let _newest = self.directory.get();
        self.directory.sweep();
    }

    /// The balancers of Upstreams as they are now.
    pub fn directory(&self) -> Rc<Arc<Directory>> {
        self.directory.get()
    }

    /// Whether one more exchange may wait for an upstream that refuses connections.
    pub fn may_wait(&self) -> bool {
        self.waiting.get() < WAITING_MAX
    }

    /// Counts an exchange that begins or ends to wait so.
    pub fn waits(&self, begins: bool) {
        let waiting = self.waiting.get();
        self.waiting.set(if begins { waiting + 1 } else { waiting.saturating_sub(1) });
    }

    /// The text of a named group of the route's path, as the client's path matches it.
    pub fn uri_capture(
        &self,
        exchange: &Exchange,
        planned: &Planned,
        name: &str,
    ) -> Option<Vec<u8>> {
        let roadmap = roadmap(&exchange.snapshot).ok()?;
        let target = target::split(exchange.request.target());
        let mut scratch = Vec::new();
        let path = normalise(target.path, &mut scratch).ok()?;
        let lookup = lookup(exchange, &exchange.request, path, target.query);
        let mut cache = self.route_cache.borrow_mut();
        let found = roadmap.router.decide(&lookup, &mut cache).ok()??;
        let same = found.route.spec.id == planned.route.spec.id;
        let mut groups = found.groups(path.path, &cache);
        let text = groups.find(|(own, _)| same && *own == Some(name))?.1;
        text.map(<[u8]>::to_vec)
    }

    /// The number of a connection that was just accepted: no other of this process has it.
    pub fn next_connection(&self) -> u64 {
        let count = self.connections.get() + 1;
        self.connections.set(count);
        (count << CORE_BITS) | self.handle.number() as u64
    }

    /// Whether connections should end after their current request.
    pub fn is_draining(&self) -> bool {
        self.handle.draining()
    }

    /// Lends a buffer for a head that is about to be written.
    pub fn with_scratch<T>(&self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut scratch = self.head_scratch.take();
        scratch.clear();
        let written = write(&mut scratch);
        self.head_scratch.set(scratch);
        written
    }
}

/// What the JSON line of the access log tells beside the head.
fn told(exchange: &Exchange) -> More<'_> {
    let times = &exchange.times;
    let answered = times.upstream_answered_us > 0;
    let asked_us = times.upstream_answered_us.saturating_sub(times.upstream_started_us);
    let scope = &exchange.scope;
    More {
        host: exchange.request.fields.get_known(Known::Host).unwrap_or_default(),
        scheme: if exchange.client.scheme == Scheme::Https { "https" } else { "http" },
        request_us: clock::now_us().saturating_sub(times.started_us),
        upstream_us: answered.then_some(asked_us),
        upstream: exchange.tries.last().map(|tried| (tried.address, tried.status)),
        route: scope.route.as_ref().map(|row| (row.id(), row.text("name"))),
        service: scope.service.as_ref().map(|row| (row.id(), row.text("name"))),
        consumer: exchange.consumer.as_ref().map(|row| (row.id(), row.text("username"))),
    }
}

/// What the router must know of a request.
fn lookup<'a>(
    exchange: &'a Exchange,
    request: &'a Request,
    path: Normal<'a>,
    query: Option<&'a [u8]>,
) -> Lookup<'a> {
    let (client, local) = crate::heads::ends(exchange);
    Lookup {
        method: request.method(),
        query: query.unwrap_or_default(),
        host: request.fields.get_known(Known::Host).unwrap_or_default(),
        path,
        headers: &request.fields,
        sni: exchange.client.sni.as_deref(),
        tls: exchange.client.scheme == Scheme::Https,
        client,
        local,
    }
}

/// The proxy's part of a snapshot.
pub fn roadmap(snapshot: &Snapshot) -> Result<&Roadmap, Fault> {
    snapshot.road.downcast_ref::<Roadmap>().ok_or_else(|| Fault::from(What::Internal))
}

/// A scheme for a listener.
pub const fn scheme(tls: bool) -> Scheme {
    if tls { Scheme::Https } else { Scheme::Http }
}

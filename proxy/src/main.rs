//! The program `tollgate`.

use std::process::ExitCode;
use std::sync::Arc;

use plugins::pdk::Node;
use proxy::certificates::Shown;
use proxy::cli::{self, Command};
use proxy::engine::{self, Engine};
use proxy::logs::Logs;
use proxy::node::{self, Gauges};
use proxy::ports::{self, Serving};
use proxy::prefix::Prefix;
use proxy::process::{self, Ears};
use proxy::{declarative, greeting, keeper, migrate};
use store::actor::Store;
use store::conf::{Edge, Settings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::command(std::env::args_os()) {
        Ok(start) => match run(&start) {
            Ok(()) => ExitCode::SUCCESS,
            Err(fault) => cli::fail(&fault),
        },
        Err(status) => status,
    }
}

/// Starts everything in order, waits for a signal, stops everything in the opposite order.
fn run(command: &Command) -> Result<(), String> {
    process::use_small_pages();
    // 1. Settings: what is wrong, not built or unknown is said before anything is touched.
    let (settings, notices) = cli::settings(command)?;
    if let Some(refusal) = settings.refusal() {
        return Err(refusal);
    }
    // 2. Signals, heard from here on; open files; the prefix, which only one process may have.
    let mut ears = Ears::new()?;
    let open_files = process::raise_open_files(Edge::of(&settings).open_files_max);
    let prefix = Prefix::take(settings.prefix())?;
    // 3. Every port and certificate, while a fault still costs nothing.
    let office_ports = ports::bind(&settings)?;
    let proxy_ports = ports::probe(&settings)?;
    let shown = Shown::load(&settings, &prefix.path)?;
    // 4. The logs.
    let logs = Logs::start(&settings, &prefix.path)?;
    for notice in &notices {
        log::warn!("{notice}");
    }
    log::info!("tollgate {} starts with at most {open_files} open files", cli::VERSION);
    migrate::before_start(&settings, command)?;
    // 5. The engine's office side, then the store, which publishes its first snapshot through it.
    let engine = Engine::new(&settings, &prefix.path)?;
    let gauges = Gauges::new();
    let id = process::node_id(&prefix.path, settings.text("node_id"))?;
    let specs = engine::specs();
    let installed: Vec<&str> = specs.iter().map(|spec| spec.schema.name).collect();
    let enabled = settings.plugins(&installed)?;
    let mut node = node::node(&settings, id, enabled.iter().map(String::as_str), &logs, &gauges);
    node.endpoints = engine.endpoints(&enabled);
    node.balancers = engine.balancers();
    let schemas = specs.iter().map(|spec| &spec.schema).collect();
    let owned: Vec<_> = specs.iter().flat_map(|spec| spec.entities.iter().copied()).collect();
    let expressions = settings.text("router_flavor") == Some("expressions");
    let catalogue = keeper::catalogue(schemas, &owned, enabled, expressions);
    let watch = engine.watch(shown.proxy.as_ref());
    let store = Arc::new(keeper::open(&settings, &prefix.path, catalogue, node, watch)?);
    gauges.watch_database(store.reachable_reading());
    // 6. The cores and the desk.
    let listen = engine::listen(&proxy_ports);
    let node = Node { id: id.to_string(), hostname: process::hostname() };
    let running = engine.start(&settings, listen, shown.proxy.as_ref(), node, &logs, &store)?;
    running.show(&gauges);
    // 7. The Admin API, which can be asked from here on.
    let places = greeting::places(&office_ports);
    let serving = Serving::start(office_ports, &shown, &settings, &logs, keeper::submit(&store))?;
    gauges.set_unready(None);
    // 8. What a person needs to know.
    let proxy: Vec<_> = proxy_ports.iter().map(|(at, listen)| (*at, listen.tls)).collect();
    cli::say(&greeting::words(&proxy, &places, &prefix.path, &running.words(), &notices));
    // 9. Wait.
    let ending = ears.wait(|| reload(&settings, &prefix, &logs, &shown, &store), || logs.reopen());
    ears.impatient();
    // 10. Stop in the opposite order.
    log::info!("tollgate stops ({ending:?})");
    serving.stop();
    drop(store);
    running.stop(ending);
    logs.stop();
    prefix.leave();
    Ok(())
}

/// SIGHUP: certificates, log files and the declarative configuration are opened again.
fn reload(settings: &Settings, prefix: &Prefix, logs: &Logs, shown: &Shown, store: &Arc<Store>) {
    logs.reopen();
    declarative::reload(settings, store);
    match shown.reload(settings, &prefix.path) {
        Ok(()) => log::info!("certificates and logs are reloaded"),
        Err(fault) => log::error!("logs are reloaded, the old certificates stay: {fault}"),
    }
}

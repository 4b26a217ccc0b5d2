//! The program `tollgate`.

use std::process::ExitCode;
use std::sync::Arc;

use proxy::certificates::Shown;
use proxy::cli::{self, Command};
use proxy::logs::Logs;
use proxy::node::{self, Gauges};
use proxy::ports::{self, Serving};
use proxy::prefix::Prefix;
use proxy::process::{self, Ears};
use proxy::{greeting, keeper};
use store::actor::Watch;
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
    // 5. The store, with its first snapshot.
    let gauges = Gauges::new();
    let id = process::node_id(&prefix.path, settings.text("node_id"))?;
    // Until the plugins land with the road, the default setting must not fail over a missing one.
    let enabled = settings.plugins(&["moesif"])?;
    let node = node::node(&settings, id, enabled.iter().map(String::as_str), &logs, &gauges);
    let watch = Watch { check: Box::new(|_, _| Ok(())), publish: Box::new(|_, _| ()) };
    let catalogue = keeper::catalogue(Vec::new(), &[], enabled);
    let store = Arc::new(keeper::open(&prefix.path, catalogue, node, watch)?);
    // 6. The Admin API, which can be asked from here on.
    let places = greeting::places(&office_ports);
    let serving = Serving::start(office_ports, &shown, &settings, &logs, keeper::submit(&store))?;
    gauges.set_unready(None);
    // 7. What a person needs to know.
    let proxy: Vec<_> = proxy_ports.iter().map(|(at, listen)| (*at, listen.tls)).collect();
    cli::say(&greeting::words(&proxy, &places, &prefix.path, "without a road", &notices));
    // 8. Wait.
    let ending = ears.wait(|| reload(&settings, &prefix, &logs, &shown), || logs.reopen());
    ears.impatient();
    // 9. Stop in the opposite order.
    log::info!("tollgate stops ({ending:?})");
    serving.stop();
    drop(store);
    logs.stop();
    prefix.leave();
    Ok(())
}

/// SIGHUP: certificates and log files are opened again.
fn reload(settings: &Settings, prefix: &Prefix, logs: &Logs, shown: &Shown) {
    logs.reopen();
    match shown.reload(settings, &prefix.path) {
        Ok(()) => log::info!("certificates and logs are reloaded"),
        Err(fault) => log::error!("logs are reloaded, the old certificates stay: {fault}"),
    }
}

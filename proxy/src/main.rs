//! The program `tollgate`.

use std::process::ExitCode;

use proxy::cli::{self, Command};
use proxy::logs::Logs;
use proxy::ports;
use proxy::prefix::Prefix;

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
    // 2. The prefix, which only one process may have.
    let prefix = Prefix::take(settings.prefix())?;
    // 3. Every port, while a clash still costs nothing.
    let office_ports = ports::bind(&settings)?;
    let proxy_ports = ports::probe(&settings)?;
    // 4. The logs.
    let logs = Logs::start(&settings, &prefix.path)?;
    for notice in &notices {
        log::warn!("{notice}");
    }
    drop((office_ports, proxy_ports));
    logs.stop();
    prefix.leave();
    Err("this build has no road yet".to_owned())
}

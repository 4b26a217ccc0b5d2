//! `migrations …`: the schema of the database that Kong's nodes share.
//!
//! The embedded store brings itself up to date when it is opened, so there is nothing to do for it.
//!
//! Source: Kong `kong/cmd/migrations.lua` (words and exit statuses).

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use store::backend::postgres::PostgresPlan;
use store::backend::postgres::migrations::{Command as Task, Options, Outcome, run};
use store::conf::{Database, Settings};
use uuid::Uuid;

use crate::cli::{self, Command};

/// How long another node is waited for, unless told, in seconds.
const LOCK_TIMEOUT_S: u64 = 60;
/// How often a question is asked.
const QUESTIONS_MAX: usize = 3;

/// Does what was asked and says what came of it.
pub fn answer(command: &Command) -> ExitCode {
    match outcome(command) {
        Ok(outcome) => {
            if !command.quiet {
                cli::say(&format!("{}\n", outcome.words));
            }
            ExitCode::from(outcome.status)
        }
        Err(fault) => cli::fail(&fault),
    }
}

fn outcome(command: &Command) -> Result<Outcome, String> {
    let (settings, _) = cli::settings(command)?;
    if let Some(refusal) = settings.refusal() {
        return Err(refusal);
    }
    let name = command.rest.first().map_or("", String::as_str);
    let task =
        task(name).ok_or("migrations needs bootstrap, up, finish, list, status, reset or check")?;
    match settings.database() {
        Database::Postgres => {
            if task == Task::Reset && !command.yes && !agreed()? {
                return Ok(Outcome::from("cancelled"));
            }
            on_postgres(&settings, command, task)
        }
        Database::Sqlite | Database::Off => embedded(task),
    }
}

fn task(name: &str) -> Option<Task> {
    Some(match name {
        "bootstrap" => Task::Bootstrap,
        "up" => Task::Up,
        "finish" => Task::Finish,
        "list" => Task::List,
        "status" => Task::Status,
        "reset" => Task::Reset,
        "check" => Task::Check,
        _ => return None,
    })
}

/// Brings the database up to date before a start that was told to.
///
/// # Errors
/// One sentence.
pub fn before_start(settings: &Settings, command: &Command) -> Result<(), String> {
    if !command.run_migrations || settings.database() != Database::Postgres {
        return Ok(());
    }
    for task in [Task::Bootstrap, Task::Up] {
        log::info!("{}", on_postgres(settings, command, task)?.words);
    }
    Ok(())
}

fn on_postgres(settings: &Settings, command: &Command, task: Task) -> Result<Outcome, String> {
    let mut server = PostgresPlan::of(settings, Uuid::nil(), None).server;
    if let Some(timeout_s) = command.db_timeout_s {
        server.timeout_ms = timeout_s.saturating_mul(1_000);
    }
    let options = Options {
        force: command.force,
        lock_timeout_s: command.lock_timeout_s.unwrap_or(LOCK_TIMEOUT_S),
        node: Uuid::new_v4(),
    };
    run(&server, task, options).map_err(|words| words.trim_end().to_owned())
}

fn embedded(task: Task) -> Result<Outcome, String> {
    Ok(match task {
        Task::Bootstrap => "Database already bootstrapped".into(),
        Task::Up | Task::List | Task::Status | Task::Check => {
            "Database is already up-to-date".into()
        }
        Task::Finish => "No pending migrations to finish".into(),
        Task::Reset => {
            return Err("migrations reset is for Postgres: the embedded store is the \
                                   file tollgate.db under the prefix"
                .to_owned());
        }
    })
}

/// Asks the person at the terminal.
fn agreed() -> Result<bool, String> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err("not a tty: invoke 'reset' non-interactively with the --yes flag".to_owned());
    }
    let mut lines = input.lock().lines();
    for _ in 0..QUESTIONS_MAX {
        cli::say("> Are you sure? This operation is irreversible. [y/n] ");
        let _shown = std::io::stdout().flush();
        let Some(Ok(line)) = lines.next() else { return Ok(false) };
        match line.trim().to_lowercase().as_str() {
            "y" | "yes" => return Ok(true),
            "n" | "no" => return Ok(false),
            _ => {}
        }
    }
    Ok(false)
}

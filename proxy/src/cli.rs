//! The command line: Kong's commands, options, words and exit statuses.
//!
//! Called as `kong` the program behaves the same; only `version` then prints Kong's number alone.
//!
//! Source: Kong `kong/cmd/*.lua`.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use lexopt::Arg::{Long, Short, Value};
use rustix::process::{Pid, Signal, kill_process};
use store::admin::KONG_VERSION;
use store::conf::Settings;

use crate::{migrate, moving, prefix};

mod config;
mod life;

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How long `stop` waits for the process to end.
const STOP_WAIT_S: u64 = 30;
/// How long `quit` waits before it stops the process by force, unless told.
const QUIT_WAIT_S: u64 = 10;

const HELP: &str = "\
Usage: tollgate COMMAND [OPTIONS]

The available commands are:
 start     Run the gateway in the foreground: [-c,--conf FILE] [-p,--prefix FOLDER]
 stop      Stop a running gateway: [-p,--prefix FOLDER]
 quit      Stop it after open requests: [-p FOLDER] [-t,--timeout SECONDS] [-w,--wait SECONDS]
 reload    Reload certificates and the declarative file, reopen logs: [-p,--prefix FOLDER]
 restart   Stop it if it runs, and start: as start
 prepare   Make the folders of a prefix: [-c,--conf FILE] [-p,--prefix FOLDER]
 drain     Let GET /status/ready say that it is draining: [-c FILE] [-p FOLDER]
 health    Tell whether it runs: [-p,--prefix FOLDER]
 check     Check a configuration file: [FILE]
 migrations  The database: bootstrap, up, finish, list, status, reset [-y,--yes], check;
           [-f,--force] [-q,--quiet] [--lock-timeout SECONDS]
 moesif    Find out whether Moesif can be reached: ping [--application-id ID] [--endpoint URL]
 config    Declarative configuration: init [FILE], parse FILE, db_import FILE, db_export [FILE]
 vault     Print a secret: get REFERENCE, such as env/name
 migrate-from-kong --check  Tell what of a Kong's settings and database would be the same here
 version   Print the version: [-a,--all]

Settings come from FILE (by default /etc/kong/kong.conf or /etc/kong.conf), then from
environment variables: log_level is KONG_LOG_LEVEL.
";

/// Commands beside those that [`command`] answers itself.
const OTHERS: &[&str] = &[
    "health", "stop", "quit", "reload", "moesif", "config", "prepare", "drain", "roar", "hybrid",
    "vault",
];

/// Words behind those that need one.
const SUB_COMMANDS: &[(&str, &[&str])] = &[
    ("config", &["init", "parse", "db_import", "db_export"]),
    ("migrations", &["bootstrap", "up", "finish", "list", "status", "reset", "check"]),
    ("moesif", &["ping"]),
    ("vault", &["get"]),
];

const ROAR: &str = r#"   .-"""-.
  /  o o  \
  |   ^   |   Kong, Monolith destroyer.
   \ 'w' /
    '---'"#;

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Its name.
    pub name: String,
    /// `-c`, or the file given to `check`.
    pub conf: Option<PathBuf>,
    /// `-p`.
    pub prefix: Option<PathBuf>,
    all: bool,
    timeout_s: Option<u64>,
    wait_s: u64,
    /// How long the database may take.
    pub db_timeout_s: Option<u64>,
    /// How long another node that changes the database is waited for.
    pub lock_timeout_s: Option<u64>,
    /// Asks nothing.
    pub yes: bool,
    /// Says nothing.
    pub quiet: bool,
    /// Does it although it has been done.
    pub force: bool,
    /// Looks, and changes nothing.
    pub check: bool,
    /// Brings the database up to date before the start.
    pub run_migrations: bool,
    application_id: Option<String>,
    endpoint: Option<String>,
    /// Words behind the command, such as `bootstrap` behind `migrations`.
    pub rest: Vec<String>,
}

/// Reads the command line and answers it; `start` is left to the caller.
///
/// # Errors
/// The status to exit with: everything that had to be said has been said.
pub fn command(args: impl IntoIterator<Item = OsString>) -> Result<Command, ExitCode> {
    let mut parser = lexopt::Parser::from_iter(args);
    let as_kong = parser
        .bin_name()
        .is_some_and(|name| Path::new(name).file_name().is_some_and(|name| name == "kong"));
    let command = match parse(&mut parser) {
        Ok(command) => command,
        Err(fault) => return Err(fail(&fault)),
    };
    if let Some(why) = astray(&command) {
        return Err(usage(&why));
    }
    match command.name.as_str() {
        "docker-start" => return Ok(command),
        "start" | "restart" => return begin(command, as_kong),
        "" => return Err(usage("")),
        "help" => say(HELP),
        "version" => version(command.all, as_kong),
        "check" => return Err(check(command.conf.as_deref())),
        "migrations" => return Err(migrate::answer(&command)),
        "migrate-from-kong" => return Err(moving::answer(&command)),
        name if !OTHERS.contains(&name) => {
            return Err(usage(&format!("No such command: {name}\n\n")));
        }
        name => match answer(name, &command) {
            Ok(words) if words.is_empty() => {}
            Ok(words) => say(&format!("{words}\n")),
            Err(fault) => return Err(fail(&fault)),
        },
    }
    Err(ExitCode::SUCCESS)
}

/// A start, or a stop and a start. Called as `kong` the program starts behind the terminal, as Kong
/// does unless `nginx_daemon` is off; else it stays, and the caller goes on.
fn begin(command: Command, as_kong: bool) -> Result<Command, ExitCode> {
    if command.name == "restart" {
        life::stop(&command).map_err(|fault| fail(&fault))?;
    }
    if as_kong && life::start_behind(&command).map_err(|fault| fail(&fault))? {
        say("Kong started\n");
        return Err(ExitCode::SUCCESS);
    }
    Ok(command)
}

/// What a command without the word that it needs is told before the usage; a wrong word, too.
fn astray(command: &Command) -> Option<String> {
    let (_, known) = SUB_COMMANDS.iter().find(|(name, _)| *name == command.name)?;
    match command.rest.first().map(|word| word.replace('-', "_")) {
        None => Some(String::new()),
        Some(word) if known.contains(&word.as_str()) => None,
        Some(word) => Some(format!("No such command for {}: {word}\n\n", command.name)),
    }
}

/// Says what can be said, after the words why.
fn usage(why: &str) -> ExitCode {
    // There is nobody left to tell when standard error is closed.
    let _written = write!(std::io::stderr().lock(), "{why}{HELP}");
    ExitCode::FAILURE
}

fn parse(parser: &mut lexopt::Parser) -> Result<Command, String> {
    let mut command = Command::default();
    let words = |fault: lexopt::Error| fault.to_string();
    while let Some(arg) = parser.next().map_err(words)? {
        match arg {
            Short('c') | Long("conf") => {
                command.conf = Some(parser.value().map_err(words)?.into());
            }
            Short('p') | Long("prefix") => {
                command.prefix = Some(parser.value().map_err(words)?.into());
            }
            Short('a') | Long("all") => command.all = true,
            Short('t') | Long("timeout") => command.timeout_s = Some(seconds(parser)?),
            Short('w') | Long("wait") => command.wait_s = seconds(parser)?,
            Long("application-id") => command.application_id = Some(text(parser)?),
            Long("endpoint") => command.endpoint = Some(text(parser)?),
            Short('h') | Long("help") => command.name = "help".to_owned(),
            Short('V') | Long("version") => command.name = "version".to_owned(),
            // Kong has them; there is nothing here that they could change.
            Long("nginx-conf" | "nginx-conf-flags") => drop(parser.value().map_err(words)?),
            Long("db-timeout") => command.db_timeout_s = Some(seconds(parser)?),
            Long("lock-timeout") => command.lock_timeout_s = Some(seconds(parser)?),
            Short('y') | Long("yes") => command.yes = true,
            Short('q') | Long("quiet") => command.quiet = true,
            Short('f') | Long("force") => command.force = true,
            Long("check") => command.check = true,
            Long("run-migrations") => command.run_migrations = true,
            Short('v') | Long("v" | "vv") => {}
            Value(word) => {
                let word = word.to_string_lossy().into_owned();
                match command.name.as_str() {
                    "" => command.name = word,
                    "check" if command.conf.is_none() => command.conf = Some(word.into()),
                    _ => command.rest.push(word),
                }
            }
            other => return Err(words(other.unexpected())),
        }
    }
    Ok(command)
}

fn text(parser: &mut lexopt::Parser) -> Result<String, String> {
    let value = parser.value().map_err(|fault| fault.to_string())?;
    Ok(value.to_string_lossy().into_owned())
}

fn seconds(parser: &mut lexopt::Parser) -> Result<u64, String> {
    let value = parser.value().map_err(|fault| fault.to_string())?;
    let text = value.to_string_lossy();
    text.parse().map_err(|_| format!("'{text}' is not a number of seconds"))
}

/// Prints a fault as Kong does and gives exit status 1.
pub fn fail(fault: &str) -> ExitCode {
    let mut out = std::io::stderr().lock();
    // There is nobody left to tell when standard error is closed.
    let _written = writeln!(
        out,
        "Error: {fault}\n\n  Run with --v (verbose) or --vv (debug) for more details"
    );
    ExitCode::FAILURE
}

/// Prints words to standard output.
pub fn say(words: &str) {
    let mut out = std::io::stdout().lock();
    let _written = out.write_all(words.as_bytes()).and_then(|()| out.flush());
}

fn version(all: bool, as_kong: bool) {
    if all {
        say(&format!("Kong: {KONG_VERSION}\ntollgate: {VERSION}\n"));
    } else if as_kong {
        say(&format!("{KONG_VERSION}\n"));
    } else {
        say(&format!("tollgate {VERSION} (behaves like Kong {KONG_VERSION})\n"));
    }
}

/// The settings of a command: its file, the environment, its prefix on top.
///
/// # Errors
/// Every fault, one a line.
pub fn settings(command: &Command) -> Result<(Settings, Vec<String>), String> {
    let env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let prefix = command.prefix.as_deref().map(|path| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        ("KONG_PREFIX".to_owned(), path.to_string_lossy().into_owned())
    });
    let (mut settings, mut notices) = Settings::load(command.conf.as_deref(), env.chain(prefix))
        .map_err(|fault| fault.to_string())?;
    notices.extend(settings.settle_prefix(prefix::is_writable));
    Ok((settings, notices))
}

fn check(conf: Option<&Path>) -> ExitCode {
    let command = Command { conf: conf.map(Path::to_owned), ..Command::default() };
    let found = match conf {
        Some(path) => path.display().to_string(),
        None => "the environment".to_owned(),
    };
    match settings(&command) {
        Ok((_, notices)) => {
            let mut out = std::io::stderr().lock();
            for notice in &notices {
                let _written = writeln!(out, "{notice}");
            }
            say(&format!("configuration at {found} is valid\n"));
            ExitCode::SUCCESS
        }
        Err(faults) => {
            let mut out = std::io::stderr().lock();
            let _written = writeln!(out, "{faults}");
            ExitCode::FAILURE
        }
    }
}

/// Commands about a process that runs, and those that are not built.
fn answer(name: &str, command: &Command) -> Result<String, String> {
    match name {
        "health" | "stop" | "quit" | "reload" => {
            let (settings, _) = settings(command)?;
            let path = settings.prefix();
            let pid = prefix::running(path).and_then(Pid::from_raw);
            let place = if name == "health" { "at" } else { "in" };
            if !path.exists() {
                return Err(format!("no such prefix: {}", path.display()));
            }
            let absent = || format!("Kong is not running {place} {}", path.display());
            control(name, command, path, pid.ok_or_else(absent)?)
        }
        "moesif" => moesif(command),
        "config" => config::answer(command),
        "prepare" => life::prepare(command),
        "drain" => life::drain(command),
        "roar" => Ok(ROAR.to_owned()),
        "vault" => {
            let missing =
                "the 'get' command needs a <reference> argument \nkong vault get <reference>";
            let (settings, _) = settings(command)?;
            let reference = command.rest.get(1).ok_or(missing)?;
            settings.secret(reference, |name| std::env::var(name).ok())
        }
        _ => Err(format!("the command {name} is not built yet")),
    }
}

fn control(name: &str, command: &Command, path: &Path, pid: Pid) -> Result<String, String> {
    let send = |signal| kill_process(pid, signal).map_err(|fault| fault.to_string());
    let gone = |wait_s: u64| {
        let step = Duration::from_millis(50);
        (0..wait_s.saturating_mul(20)).any(|_| {
            let gone = prefix::running(path).is_none();
            if !gone {
                std::thread::sleep(step);
            }
            gone
        })
    };
    match name {
        "health" => Ok(format!("nginx.......running\n\nKong is healthy at {}", path.display())),
        "reload" => send(Signal::HUP).map(|()| "Kong reloaded".to_owned()),
        "stop" => {
            send(Signal::TERM)?;
            if gone(STOP_WAIT_S) {
                Ok("Kong stopped".to_owned())
            } else {
                Err(format!("the process {} does not stop", pid.as_raw_nonzero()))
            }
        }
        _ => {
            std::thread::sleep(Duration::from_secs(command.wait_s));
            send(Signal::QUIT)?;
            if gone(command.timeout_s.unwrap_or(QUIT_WAIT_S)) {
                return Ok("Kong stopped (gracefully)".to_owned());
            }
            send(Signal::TERM)?;
            Ok("Timeout, Kong stopped forcefully".to_owned())
        }
    }
}

fn moesif(command: &Command) -> Result<String, String> {
    let (settings, _) = settings(command)?;
    let (id, endpoint) = (command.application_id.as_deref(), command.endpoint.as_deref());
    let (words, good) = crate::ping::run(&settings, id, endpoint)?;
    if good {
        return Ok(words.trim_end().to_owned());
    }
    say(&words);
    Err("Moesif cannot be reached as configured".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a command line and compares what was understood.
    #[track_caller]
    fn check(line: &str, expected: Result<&Command, &str>) {
        let words = std::iter::once("tollgate").chain(line.split_whitespace());
        let mut parser = lexopt::Parser::from_iter(words);
        let found = parse(&mut parser);
        assert_eq!(found.as_ref().map_err(String::as_str), expected, "{line}");
    }

    #[test]
    fn options_are_kongs() {
        let start = Command {
            name: "start".into(),
            conf: Some("/a".into()),
            prefix: Some("/b".into()),
            ..Command::default()
        };
        check("start -c /a -p /b", Ok(&start));
        let with_migrations = Command { run_migrations: true, db_timeout_s: Some(3), ..start };
        check(
            "start --conf=/a --prefix /b --vv --run-migrations --db-timeout 3",
            Ok(&with_migrations),
        );
        check(
            "check /a",
            Ok(&Command { name: "check".into(), conf: Some("/a".into()), ..Command::default() }),
        );
        check(
            "quit -t 3",
            Ok(&Command { name: "quit".into(), timeout_s: Some(3), ..Command::default() }),
        );
        check("quit -t x", Err("'x' is not a number of seconds"));
        check("start --nope", Err("invalid option '--nope'"));
        check("start -c", Err("missing argument for option '-c'"));
        check("", Ok(&Command::default()));
    }
}

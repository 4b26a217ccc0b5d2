//! Commands about the life of a node: its folders, a start behind the terminal, a restart, the word
//! to draining.
//!
//! Source: Kong `kong/cmd/{start,restart,prepare,drain}.lua`.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::process::{self, Stdio};
use std::time::Duration;

use super::{Command, answer, settings};
use crate::prefix;

/// How long the status listener may take for each step of `drain`.
const DRAIN_WAIT: Duration = Duration::from_secs(1);
/// Most bytes of its answer that are looked at.
const ANSWER_BYTES_MAX: u64 = 64;
const DRAINING: &str = "{\"status\":\"draining\"}";

/// `prepare`: the folders of a prefix, for a start by other means.
pub(super) fn prepare(command: &Command) -> Result<String, String> {
    let (settings, _) = settings(command)?;
    let path = settings.prefix();
    let words = |fault| format!("could not prepare Kong prefix at {}: {fault}", path.display());
    prefix::prepare(path).map_err(words)?;
    Ok(String::new())
}

/// The first half of `restart`: whoever runs is stopped.
pub(super) fn stop(command: &Command) -> Result<(), String> {
    let (settings, _) = settings(command)?;
    match prefix::running(settings.prefix()) {
        Some(_) => answer("stop", command).map(drop),
        None => Ok(()),
    }
}

/// `kong start`: starts the gateway behind the terminal and waits until it serves. False where
/// `nginx_daemon` says that it stays in front.
///
/// # Errors
/// What the gateway had to say instead of starting.
pub(super) fn start_behind(command: &Command) -> Result<bool, String> {
    let (settings, _) = settings(command)?;
    let is_off = |name| settings.text(name) == Some("off");
    if is_off("nginx_daemon") || is_off("nginx_main_daemon") {
        return Ok(false);
    }
    let program = std::env::current_exe().map_err(|fault| fault.to_string())?;
    let mut child = process::Command::new(program);
    std::os::unix::process::CommandExt::process_group(&mut child, 0);
    let child = child
        .args(words(command))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|fault| format!("the gateway cannot be started: {fault}"))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    // It greets when everything listens; nothing at all means that it has ended.
    let mut greeting = String::new();
    let read = out.map(|out| BufReader::new(out).read_line(&mut greeting));
    if read.is_some_and(|read| read.is_ok_and(|bytes| bytes > 0)) {
        return Ok(true);
    }
    let mut fault = String::new();
    let _told = err.map(|mut err| err.read_to_string(&mut fault));
    let _status = child.wait();
    let fault = fault.strip_prefix("Error: ").unwrap_or(&fault);
    Err(fault.split("\n\n  Run with").next().unwrap_or_default().trim_end().to_owned())
}

/// The command line of a start like this one.
fn words(command: &Command) -> Vec<OsString> {
    let mut words = vec![OsString::from("start")];
    let paths = [("--conf", &command.conf), ("--prefix", &command.prefix)];
    for (name, path) in paths {
        words.extend(path.iter().flat_map(|path| [OsString::from(name), OsString::from(path)]));
    }
    let numbers =
        [("--db-timeout", command.db_timeout_s), ("--lock-timeout", command.lock_timeout_s)];
    for (name, number) in numbers {
        words.extend(
            number
                .iter()
                .flat_map(|number| [name.to_owned(), number.to_string()])
                .map(OsString::from),
        );
    }
    words.extend(command.run_migrations.then(|| OsString::from("--run-migrations")));
    words
}

/// `drain`: `GET /status/ready` says no from now on. What came of it is told, and is no fault.
pub(super) fn drain(command: &Command) -> Result<String, String> {
    let (settings, _) = settings(command)?;
    let Some(listen) = settings.listen("status_listen").into_iter().next() else {
        return Ok("No status listeners found in configuration.".to_owned());
    };
    let scheme = if listen.tls { "https" } else { "http" };
    let url = format!("{scheme}://{}/status/ready", listen.address());
    if listen.tls {
        return Ok(format!("Failed to send request to {url}: only plain HTTP is spoken here"));
    }
    let at = listen.address().to_socket_addrs().ok().and_then(|mut found| found.next());
    let told = at
        .ok_or_else(|| "no such address".to_owned())
        .and_then(|at| tell(at).map_err(|fault| fault.to_string()));
    Ok(match told {
        Err(fault) => format!("Failed to send request to {url}: {fault}"),
        Ok(204) => "Kong's status successfully changed to 'draining'".to_owned(),
        Ok(status) => format!("Unexpected response status from {url}: {status}"),
    })
}

/// Tells a status listener to drain; gives the status of its answer.
fn tell(at: SocketAddr) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&at, DRAIN_WAIT)?;
    stream.set_read_timeout(Some(DRAIN_WAIT))?;
    stream.set_write_timeout(Some(DRAIN_WAIT))?;
    let length = DRAINING.len();
    let head = format!(
        "POST /status/ready HTTP/1.1\r\nHost: {at}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{DRAINING}"
    );
    stream.write_all(head.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| std::io::Error::other("no answer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_passed_on_whole() {
        let restart = Command {
            name: "restart".into(),
            conf: Some("/a".into()),
            prefix: Some("/b".into()),
            lock_timeout_s: Some(7),
            run_migrations: true,
            ..Command::default()
        };
        let words = words(&restart);
        let expected =
            ["start", "--conf", "/a", "--prefix", "/b", "--lock-timeout", "7", "--run-migrations"];
        assert_eq!(words, expected);
    }
}

//! The program from outside: its words, its exit statuses, what it leaves behind.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

/// Runs the program with an environment of its own: no setting of this machine leaks in.
fn tollgate(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(args).env_clear().envs(env.iter().copied()).output().unwrap()
}

/// Runs it and compares exit status, standard output and standard error.
#[track_caller]
fn check(args: &[&str], env: &[(&str, &str)], status: i32, stdout: &str, stderr: &str) {
    let found = tollgate(args, env);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(found.stdout), text(found.stderr));
    assert_eq!((found.status.code(), out.as_str(), err.as_str()), (Some(status), stdout, stderr));
}

/// What Kong prints around the words of a fault.
fn fault(words: &str) -> String {
    format!("Error: {words}\n\n  Run with --v (verbose) or --vv (debug) for more details\n")
}

fn in_folder(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

#[test]
fn version_and_help() {
    let own = env!("CARGO_PKG_VERSION");
    check(&["version"], &[], 0, &format!("tollgate {own} (behaves like Kong 3.9.1)\n"), "");
    check(&["version", "-a"], &[], 0, &format!("Kong: 3.9.1\ntollgate: {own}\n"), "");
    let help = tollgate(&["--help"], &[]);
    assert!(help.status.success() && help.stdout.starts_with(b"Usage: tollgate COMMAND"));
    assert_eq!(tollgate(&[], &[]).status.code(), Some(1));
    check(&["frobnicate"], &[], 1, "", &fault("No such command: frobnicate"));
    check(&["start", "--nope"], &[], 1, "", &fault("invalid option '--nope'"));
}

#[test]
fn called_as_kong_it_prints_kongs_version() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("kong");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tollgate"), &link).unwrap();
    let output = Command::new(link).arg("version").env_clear().output().unwrap();
    assert_eq!(output.stdout, b"3.9.1\n");
}

#[test]
fn check_tells_a_sound_file_from_a_broken_one() {
    let folder = tempfile::tempdir().unwrap();
    let home = in_folder(folder.path(), "");
    let env = [("HOME", home.as_str()), ("KONG_PREFIX", home.as_str())];
    let file = in_folder(folder.path(), "kong.conf");
    fs::write(&file, "log_level = info # loud\n").unwrap();
    check(&["check", &file], &env, 0, &format!("configuration at {file} is valid\n"), "");
    fs::write(&file, "log_level = loud\npg_port = x\n").unwrap();
    let words = "log_level has an invalid value: 'loud' (debug, info, notice, warn, error, crit, \
                 alert, emerg)\n";
    let number = "pg_port is not a number: 'x'\n";
    check(&["check", &file], &env, 1, "", &format!("{words}{number}"));
    fs::write(&file, "log_level info\n").unwrap();
    let words = format!("{file} line 1: expected \"key = value\"");
    check(&["check", &file], &env, 1, "", &format!("{words}\n"));
    check(&["start", "-c", &file], &env, 1, "", &fault(&words));
    check(&["check", "/no/such"], &env, 1, "", "no file at: /no/such\n");
}

#[test]
fn what_is_not_built_is_refused_not_replaced() {
    for (name, value, words) in [
        (
            "KONG_ROUTER_FLAVOR",
            "expressions",
            "router_flavor = expressions is not built yet: use traditional_compatible",
        ),
        (
            "KONG_PG_HOST",
            "db",
            "database = postgres (because pg_host is set) is not built yet: set database = sqlite to use the embedded store",
        ),
        (
            "KONG_DATABASE",
            "off",
            "database = off (declarative configuration) is not built yet: leave database unset to use the embedded store",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let prefix = in_folder(folder.path(), "prefix");
        check(&["start", "-p", &prefix], &[(name, value)], 1, "", &fault(words));
        assert!(!Path::new(&prefix).join("logs").exists(), "nothing was begun");
    }
}

#[test]
fn a_port_in_use_is_one_sentence_for_every_listener() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for setting in ["proxy_listen", "admin_listen", "status_listen"] {
        let folder = tempfile::tempdir().unwrap();
        let prefix = in_folder(folder.path(), "prefix");
        let variable = format!("KONG_{}", setting.to_uppercase());
        let mut env = vec![
            ("KONG_PROXY_LISTEN", "off"),
            ("KONG_ADMIN_LISTEN", "off"),
            ("KONG_STATUS_LISTEN", "off"),
        ];
        env.push((&variable, &address));
        let words =
            format!("cannot listen on {address} ({setting}): the address is already in use");
        check(&["start", "-p", &prefix], &env, 1, "", &fault(&words));
    }
}

#[test]
fn an_unwritable_prefix_is_one_sentence() {
    let words = "the prefix /proc/nowhere cannot be written: No such file or directory";
    check(&["start", "-p", "/proc/nowhere"], &[], 1, "", &fault(words));
}

#[test]
fn commands_about_a_gateway_that_does_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = in_folder(folder.path(), "prefix");
    let words = |place| fault(&format!("Kong is not running {place} {prefix}"));
    check(&["health", "-p", &prefix], &[], 1, "", &words("at"));
    for command in ["stop", "quit", "reload"] {
        check(&[command, "-p", &prefix], &[], 1, "", &words("in"));
    }
    check(
        &["migrations", "bootstrap", "-p", &prefix],
        &[],
        0,
        "Database already bootstrapped\n",
        "",
    );
}

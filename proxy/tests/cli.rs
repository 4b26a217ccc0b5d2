//! The program from outside: its words, its exit statuses, what it leaves behind.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

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
    let usage = String::from_utf8(help.stdout).unwrap();
    check(&[], &[], 1, "", &usage);
    check(&["frobnicate"], &[], 1, "", &format!("No such command: frobnicate\n\n{usage}"));
    check(&["vault", "get", "env/my-word"], &[("MY_WORD", "secret")], 0, "secret\n", "");
    let missing = "the 'get' command needs a <reference> argument \nkong vault get <reference>";
    check(&["vault", "get"], &[], 1, "", &fault(missing));
    let roar = tollgate(&["roar"], &[]);
    assert!(roar.status.success() && roar.stdout.ends_with(b"\n"));
    assert!(String::from_utf8(roar.stdout).unwrap().contains("Kong, Monolith destroyer."));
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
fn a_database_that_is_not_there_is_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = in_folder(folder.path(), "prefix");
    let env = [("KONG_PG_PORT", "1"), ("KONG_PROXY_LISTEN", "off"), ("KONG_ADMIN_LISTEN", "off")];
    let env: Vec<_> = env.into_iter().chain([("KONG_STATUS_LISTEN", "off")]).collect();
    let words = "error connecting to server: Connection refused (os error 111)";
    check(&["migrations", "list", "-p", &prefix], &env, 1, "", &fault(words));
}

#[test]
fn declarative_files_are_made_checked_imported_and_exported() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (in_folder(folder.path(), "a.yml"), in_folder(folder.path(), "b.yml"));
    let prefix = in_folder(folder.path(), "prefix");
    let env = [("KONG_PREFIX", prefix.as_str())];
    check(&["config", "init", &file], &env, 0, "", "");
    check(&["config", "parse", &file], &env, 0, "parse successful\n", "");
    let words = format!("{file} already exists.\nWill not overwrite it.");
    check(&["config", "init", &file], &env, 1, "", &fault(&words));

    fs::write(&file, "_format_version: '3.0'\nservices:\n- name: s\n").unwrap();
    let words = "Failed parsing:\nin 'services':\n  - in entry 1 of 'services':\n    in 'host': \
                 required field missing";
    check(&["config", "parse", &file], &env, 1, "", &fault(words));
    let words = "expected a declarative configuration file; see `kong config --help`";
    check(&["config", "parse"], &env, 1, "", &fault(words));
    let usage = String::from_utf8(tollgate(&["--help"], &[]).stdout).unwrap();
    check(&["config"], &env, 1, "", &usage);
    let words = format!("No such command for config: nope\n\n{usage}");
    check(&["config", "nope"], &env, 1, "", &words);

    let text = "_format_version: '3.0'\nservices:\n- {name: s, host: h, routes: [{paths: [/p]}]}\n";
    fs::write(&file, text).unwrap();
    let said = "parse successful, beginning import\nimport successful\n";
    check(&["config", "db_import", &file], &env, 0, said, "");
    check(&["config", "db_export", &out], &env, 0, "", "");
    let exported = fs::read_to_string(&out).unwrap();
    assert!(exported.starts_with("_format_version: '3.0'\n_transform: false\nservices:\n- "));
    assert!(exported.contains("  - /p\n"), "{exported}");
    check(&["config", "db_import", &out], &env, 0, said, "");
    let words = format!("{out} already exists. Will not overwrite it.");
    check(&["config", "db-export", &out], &env, 1, "", &fault(&words));

    let env = [("KONG_PREFIX", prefix.as_str()), ("KONG_DATABASE", "off")];
    check(&["config", "parse", &file], &env, 0, "parse successful\n", "");
    let words = "'kong config db_export' only works with a database.";
    check(&["config", "db_export"], &env, 1, "", &fault(words));
    fs::write(&file, "_format_version: '3.0'\nx: []\n").unwrap();
    let env = [("KONG_DATABASE", "off"), ("KONG_DECLARATIVE_CONFIG", file.as_str())];
    let words = format!("error parsing declarative config file {file}:\nin 'x': unknown field");
    check(&["start", "-p", &prefix], &env, 1, "", &fault(&words));
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

/// Starts a gateway that listens nowhere but for its proxy, with these variables besides, and
/// compares the words of the refusal.
#[track_caller]
fn check_refused(variables: &[(&str, &str)], words: &str) {
    let folder = tempfile::tempdir().unwrap();
    let prefix = in_folder(folder.path(), "kong");
    let mut env = vec![
        ("KONG_PREFIX", prefix.as_str()),
        ("KONG_PROXY_LISTEN", "127.0.0.1:0"),
        ("KONG_ADMIN_LISTEN", "off"),
        ("KONG_STATUS_LISTEN", "off"),
        ("KONG_ADMIN_GUI_LISTEN", "off"),
    ];
    env.extend_from_slice(variables);
    check(&["start"], &env, 1, "", &fault(words));
}

/// Before, a size that could not be read was the default, in silence.
#[test]
fn a_variable_of_our_own_that_cannot_be_read_is_one_sentence() {
    for (name, value, words) in [
        ("TOLLGATE_STRICT_PATHS", "maybe", "is neither on nor off"),
        ("TOLLGATE_EVENTS_BYTES_MAX", "12x", "is not a size"),
        ("TOLLGATE_JOURNAL_BYTES_MAX", "-1", "is not a size"),
        ("TOLLGATE_CACHE_BYTES_MAX", "1t", "is not a size"),
    ] {
        check_refused(&[(name, value)], &format!("{name} {words}: '{value}'"));
    }
}

/// Before, an empty size ended the start.
#[test]
fn a_variable_of_our_own_without_a_value_is_unset() {
    let variables = [
        ("TOLLGATE_RING_DIR", ""),
        ("TOLLGATE_STRICT_PATHS", ""),
        ("TOLLGATE_EVENTS_BYTES_MAX", ""),
        ("TOLLGATE_JOURNAL_BYTES_MAX", ""),
        ("TOLLGATE_CACHE_BYTES_MAX", ""),
        // Read last, so that the start ends here.
        ("TOLLGATE_MEMORY_BYTES_MAX", "x"),
    ];
    check_refused(&variables, "TOLLGATE_MEMORY_BYTES_MAX is not a size: 'x'");
}

#[test]
fn commands_about_a_gateway_that_does_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = in_folder(folder.path(), "prefix");
    let none = fault(&format!("no such prefix: {prefix}"));
    for command in ["health", "stop", "quit", "reload"] {
        check(&[command, "-p", &prefix], &[], 1, "", &none);
    }
    check(&["prepare", "-p", &prefix], &[], 0, "", "");
    assert!(Path::new(&prefix).join("logs").is_dir());
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

/// A gateway in the foreground, and where its Admin API listens.
struct Gateway {
    child: Child,
    admin: String,
}

impl Gateway {
    fn start(prefix: &str) -> Self {
        let rings = Path::new(prefix).join("rings");
        fs::create_dir_all(&rings).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        let mut child = command
            .args(["start", "-p", prefix])
            .env_clear()
            .env("TOLLGATE_RING_DIR", rings)
            .env("KONG_PROXY_LISTEN", "127.0.0.1:0")
            .env("KONG_ADMIN_LISTEN", "127.0.0.1:0, 127.0.0.1:0 ssl")
            .env("KONG_STATUS_LISTEN", "off")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let admin = lines.find_map(|line| Some(line.unwrap().strip_prefix("  admin ")?.to_owned()));
        let admin = admin.unwrap();
        let url = admin.split_whitespace().next().unwrap();
        Self { child, admin: url.strip_prefix("http://").unwrap().to_owned() }
    }

    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.admin).unwrap();
        let head = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Its exit status, once it has ended.
    fn status(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

#[test]
fn a_gateway_lives_from_start_to_stop_and_keeps_what_it_was_told() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = in_folder(folder.path(), "prefix");
    let gateway = Gateway::start(&prefix);
    let healthy = format!("nginx.......running\n\nKong is healthy at {prefix}\n");
    check(&["health", "-p", &prefix], &[], 0, &healthy, "");
    let words = fault(&format!("Kong is already running in {prefix}"));
    check(&["start", "-p", &prefix], &[], 1, "", &words);
    let created = gateway.ask("PUT /services/kept?host=a.example");
    assert!(created.starts_with("HTTP/1.1 400"), "a query is no body: {created}");
    let created = gateway.ask("PUT /consumers/kept");
    assert!(created.starts_with("HTTP/1.1 200"), "{created}");
    assert!(gateway.ask("GET /status/ready").starts_with("HTTP/1.1 200"));
    let log = Path::new(&prefix).join("logs/error.log");
    fs::rename(&log, log.with_extension("old")).unwrap();
    check(&["reload", "-p", &prefix], &[], 0, "Kong reloaded\n", "");
    check(&["stop", "-p", &prefix], &[], 0, "Kong stopped\n", "");
    assert_eq!(gateway.status(), Some(0));
    assert!(fs::read_to_string(&log).unwrap().contains("tollgate stops (Fast)"));
    let gateway = Gateway::start(&prefix);
    assert!(gateway.ask("GET /consumers/kept").starts_with("HTTP/1.1 200"));
    check(&["quit", "-p", &prefix], &[], 0, "Kong stopped (gracefully)\n", "");
    assert_eq!(gateway.status(), Some(0));
}

/// As Kong's: the terminal gets its prompt back, unless `nginx_daemon` is off.
#[test]
fn called_as_kong_it_starts_behind_restarts_drains_and_stops() {
    let folder = tempfile::tempdir().unwrap();
    let (prefix, link) = (in_folder(folder.path(), "prefix"), folder.path().join("kong"));
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tollgate"), &link).unwrap();
    // Below the range of outgoing connections, where nobody else's port can be.
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let port = (20_000 + (std::process::id() % 5_000) as u16..32_000).find(free).unwrap();
    let status = format!("127.0.0.1:{port}");
    let rings = in_folder(folder.path(), "rings");
    fs::create_dir_all(&rings).unwrap();
    let kong = |words: &[&str]| {
        let mut command = Command::new(&link);
        command.args(words).args(["-p", &prefix]).env_clear().env("TOLLGATE_RING_DIR", &rings);
        command.env("KONG_PROXY_LISTEN", "127.0.0.1:0").env("KONG_ADMIN_LISTEN", "off");
        command.env("KONG_STATUS_LISTEN", &status);
        let found = command.output().unwrap();
        let told = if found.status.success() { found.stdout } else { found.stderr };
        String::from_utf8(told).unwrap()
    };
    let ready = || {
        let mut stream = TcpStream::connect(&status).unwrap();
        stream.write_all(b"GET /status/ready HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(kong(&["start"]), "Kong started\n");
    assert_eq!(ready(), "200");
    assert_eq!(kong(&["start"]), fault(&format!("Kong is already running in {prefix}")));
    assert_eq!(kong(&["drain"]), "Kong's status successfully changed to 'draining'\n");
    assert_eq!(ready(), "503");
    assert_eq!(kong(&["restart"]), "Kong started\n");
    assert_eq!(ready(), "200");
    assert_eq!(kong(&["quit"]), "Kong stopped (gracefully)\n");
    let url = format!("http://{status}/status/ready");
    assert!(kong(&["drain"]).starts_with(&format!("Failed to send request to {url}: ")));
}

#[test]
fn a_killed_gateway_leaves_nothing_that_hinders_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = in_folder(folder.path(), "prefix");
    let mut gateway = Gateway::start(&prefix);
    assert!(gateway.ask("PUT /consumers/kept").starts_with("HTTP/1.1 200"));
    gateway.child.kill().unwrap();
    assert_eq!(gateway.status(), None);
    let words = fault(&format!("Kong is not running at {prefix}"));
    check(&["health", "-p", &prefix], &[], 1, "", &words);
    let gateway = Gateway::start(&prefix);
    assert!(gateway.ask("GET /consumers/kept").starts_with("HTTP/1.1 200"));
    check(&["stop", "-p", &prefix], &[], 0, "Kong stopped\n", "");
    assert_eq!(gateway.status(), Some(0));
}

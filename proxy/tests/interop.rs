//! Other people's clients against the program: grpcio on both ends of a call.
//!
//! The scripts are in `interop/`; what they import comes from PyPI into an environment below the
//! target folder, made once. Without python3, its venv module or PyPI these tests fail and say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(dead_code, reason = "this binary needs a part of what the black box needs")]

#[path = "black_box/gateway.rs"]
mod gateway;
#[path = "black_box/http.rs"]
mod http;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Pinned, so that a new release breaks nobody's build.
const PACKAGES: [&str; 1] = ["grpcio==1.85.1"];

/// The interpreter of the environment, which is made where it is not there.
fn python() -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-interop");
    let program = place.join("bin/python");
    let whole = place.join(PACKAGES.join("+"));
    if !whole.exists() {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&place).output();
        told("python3 -m venv (install python3 and python3-venv)", made);
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        let installed = Command::new(&program).args(pip).args(PACKAGES).output();
        told("pip install (PyPI must be within reach)", installed);
        std::fs::write(&whole, "").unwrap();
    }
    program
}

/// What a program said; panics with it where the program failed.
#[track_caller]
fn told(what: &str, ran: std::io::Result<Output>) -> String {
    let output = ran.unwrap_or_else(|error| panic!("{what}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{what}: {}\n{out}{err}", output.status);
    out
}

#[test]
fn the_standard_cases_of_grpc_pass_in_the_clear_and_over_tls() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/grpc_cases.py");
    for driver in gateway::drivers() {
        let gateway = gateway::Gateway::start(driver, &[]);
        let ran = Command::new(python())
            .arg(script)
            .arg(format!("http://127.0.0.1:{}", gateway.admin))
            .arg(format!("127.0.0.1:{}", gateway.proxy))
            .arg(format!("127.0.0.1:{}", gateway.tls))
            .output();
        let out = told(driver, ran);
        assert_eq!(out.lines().filter(|line| line.starts_with("ok ")).count(), 26, "{out}");
    }
}

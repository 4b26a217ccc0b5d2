//! Python programs of other people, for tests of this crate and of `proxy`: what they import comes
//! from PyPI into an environment below the target folder, made once. Without python3, its venv
//! module or PyPI such a test fails and says so.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The interpreter of the environment `name`, which has these packages. Made where it is not there;
/// one test of a binary at a time may ask.
pub(crate) fn environment(name: &str, packages: &[&str]) -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let program = place.join("bin/python");
    let whole = place.join(packages.join("+"));
    if !whole.exists() {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&place).output();
        told("python3 -m venv (install python3 and python3-venv)", made);
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        let installed = Command::new(&program).args(pip).args(packages).output();
        told("pip install (PyPI must be within reach)", installed);
        std::fs::write(&whole, "").unwrap();
    }
    program
}

/// What a program said; panics with it where the program failed.
#[track_caller]
pub(crate) fn told(what: &str, ran: std::io::Result<Output>) -> String {
    let output = ran.unwrap_or_else(|error| panic!("{what}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{what}: {}\n{out}{err}", output.status);
    out
}

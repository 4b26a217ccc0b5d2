//! Other people's clients against the program: grpcio on both ends of a call, sslyze against the TLS
//! port, aio-kong and schemathesis against the Admin API, kosoku through a tunnel.
//!
//! The scripts are in `interop/`; what they import comes from PyPI into an environment below the
//! target folder, made once. Without python3, its venv module or PyPI these tests fail and say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(dead_code, reason = "this binary needs a part of what the black box needs")]

#[path = "interop/echo.rs"]
mod echo;
#[path = "black_box/gateway.rs"]
mod gateway;
#[path = "black_box/http.rs"]
mod http;
#[path = "../../exporter/tests/common/python.rs"]
mod python_environment;

use python_environment::{environment, told};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// Pinned, so that a new release breaks nobody's build.
const PACKAGES: [&str; 5] =
    ["grpcio==1.85.1", "aio-kong==3.7.2", "schemathesis==4.32.5", "sslyze==6.3.1", "kosoku==0.1.0"];

/// The interpreter of the environment.
fn python() -> PathBuf {
    static MADE: LazyLock<PathBuf> = LazyLock::new(|| environment("python-interop", &PACKAGES));
    MADE.clone()
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

#[test]
fn aio_kong_does_all_that_it_can() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/aio_kong_cases.py");
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/tests/data/pem");
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in [("ec.crt", "cert.pem"), ("ec8.key", "key.pem")] {
        std::fs::copy(samples.join(from), folder.path().join(to)).unwrap();
    }
    let gateway = gateway::Gateway::start("epoll", &[]);
    let ran = Command::new(python())
        .arg(script)
        .arg(format!("http://127.0.0.1:{}", gateway.admin))
        .arg(folder.path())
        .output();
    let out = told("aio-kong", ran);
    assert_eq!(out.lines().filter(|line| line.starts_with("ok ")).count(), 8, "{out}");
}

/// What schemathesis looks at: no 5xx, and every answer as the document says.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance";

/// Calls of generic tools, made from `GET /openapi.json`; the seed is fixed. Gives the number of
/// calls.
fn fuzz_the_admin_api(phases: &str, examples: usize) -> usize {
    let gateway = gateway::Gateway::start("epoll", &[]);
    let folder = tempfile::tempdir().unwrap();
    let ran = Command::new(python().with_file_name("schemathesis"))
        .current_dir(folder.path())
        .arg("run")
        .arg(format!("http://127.0.0.1:{}/openapi.json", gateway.admin))
        .args(["--checks", CHECKS, "--phases", phases, "--seed", "4711", "--no-color"])
        .args(["--max-examples", &examples.to_string(), "--continue-on-failure"])
        .output();
    let out = told("schemathesis", ran);
    let line = out.lines().find(|line| line.contains(" generated, "));
    let line = line.unwrap_or_else(|| panic!("no calls: {out}"));
    assert!(line.contains(" passed") && !line.contains("failure"), "{out}");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[test]
fn generic_tools_find_no_fault_in_the_admin_api() {
    let calls = fuzz_the_admin_api("fuzzing", 1);
    assert!(calls >= 200, "only {calls} calls");
}

#[test]
#[ignore = "takes minutes"]
fn generic_tools_find_no_fault_in_the_admin_api_in_20_000_calls() {
    let calls = fuzz_the_admin_api("coverage,fuzzing", 10);
    assert!(calls >= 20_000, "only {calls} calls");
}

/// What an operator would bring: an authority, and a certificate of a month for `localhost`.
const CERTIFICATE: &str = "set -e; cd \"$1\"
    key() { openssl ecparam -name prime256v1 -genkey -noout -out $1.key; }
    key ca; key own
    openssl req -x509 -new -key ca.key -subj /CN=ca -days 30 -addext keyUsage=keyCertSign -out ca.crt
    openssl req -new -key own.key -subj /CN=localhost -out own.csr
    printf 'subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth' > extensions
    openssl x509 -req -in own.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 \
        -extfile extensions -out own.crt";

#[test]
fn tls_is_mozillas_intermediate_without_a_violation() {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new("bash").args(["-c", CERTIFICATE, "bash"]).arg(folder.path()).output();
    told("bash and openssl (install openssl)", made);
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (cert, key) = (path("own.crt"), path("own.key"));
    for driver in gateway::drivers() {
        let settings = [("KONG_SSL_CERT", cert.as_str()), ("KONG_SSL_CERT_KEY", key.as_str())];
        let gateway = gateway::Gateway::start(driver, &settings);
        let ran = Command::new(python())
            .args(["-m", "sslyze", "--mozilla_config=intermediate", "--certinfo_ca_file"])
            .arg(path("ca.crt"))
            .arg(format!("localhost:{}", gateway.tls))
            .output();
        let out = told(driver, ran);
        assert!(out.contains("OK - Compliant"), "{driver}: {out}");
    }
}

/// Runs kosoku's fuzzing client through a gateway against an echo server: every case whose number
/// begins with one of `groups` must pass. Gives how many there were.
fn fuzz_a_tunnel(driver: &str, groups: &[&str]) -> usize {
    let upstream = gateway::free_port();
    echo::serve(upstream);
    let gateway = gateway::Gateway::start(driver, &[]);
    gateway.post("/services", &format!("name=echo&url=http://127.0.0.1:{upstream}"));
    gateway.post("/services/echo/routes", "name=echo&paths[]=/");
    gateway.until("/", |response| response.status != 404);
    let folder = tempfile::tempdir().unwrap();
    let mut kosoku = Command::new(python().with_file_name("kosoku"));
    kosoku.current_dir(folder.path()).args(["--mode", "fuzzingclient", "--outdir", "report"]);
    for group in groups {
        kosoku.args(["--include", &format!("{group}.*")]);
    }
    let ran = kosoku.arg(format!("127.0.0.1:{}", gateway.proxy)).output();
    // It ends with a failure where a case failed; the report says which.
    let said = ran.unwrap_or_else(|error| panic!("kosoku: {error}"));
    let report = std::fs::read_to_string(folder.path().join("report/index.json"));
    let report = report.unwrap_or_else(|error| panic!("{driver}: {error}: {said:?}"));
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let cases = report.as_object().unwrap().values().next().unwrap().as_object().unwrap();
    let passed = ["OK", "INFORMATIONAL"];
    let fails = |case: &serde_json::Value| {
        let is_well = |name: &str| case[name].as_str().is_some_and(|word| passed.contains(&word));
        !is_well("behavior") || !is_well("behaviorClose")
    };
    let failed: Vec<_> = cases.iter().filter(|(_, case)| fails(case)).collect();
    assert!(failed.is_empty(), "{driver}: {failed:?}");
    cases.len()
}

#[test]
fn websocket_frames_pass_a_tunnel() {
    for driver in gateway::drivers() {
        assert_eq!(fuzz_a_tunnel(driver, &["1", "2", "3", "4", "7", "10"]), 82, "{driver}");
    }
}

#[test]
#[ignore = "takes a minute"]
fn every_websocket_case_but_compression_passes_a_tunnel() {
    for driver in gateway::drivers() {
        let groups = ["1", "2", "3", "4", "5", "6", "7", "10"];
        assert_eq!(fuzz_a_tunnel(driver, &groups), 247, "{driver}");
        // Large messages.
        assert_eq!(fuzz_a_tunnel(driver, &["9"]), 54, "{driver}");
    }
}

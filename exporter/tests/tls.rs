//! HTTPS to a collector: certificates are checked, and the operator's own authority is trusted.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test: a panic is its fault report")]

#[path = "common/collector.rs"]
mod collector;
#[path = "common/traffic.rs"]
mod traffic;

use collector::Collector;
use exporter::{Exporter, ExporterPlan};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use traffic::{Traffic, configure};

/// An authority's certificate in a file, and a server's configuration signed by it.
fn authority(folder: &Path) -> (PathBuf, Arc<ServerConfig>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    let path = folder.join("authority.pem");
    std::fs::write(&path, certificate.pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let server_key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let server = server.signed_by(&server_key, &issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![server.der().clone()], key)
        .unwrap();
    (path, Arc::new(config))
}

/// Ends TLS in front of the collector.
fn front(config: Arc<ServerConfig>, collector: String) -> u16 {
    let listener = (0..500)
        .find_map(|attempt| {
            let port = 31_000 + (std::process::id() % 1_000 + attempt) as u16;
            TcpListener::bind(("127.0.0.1", port)).ok()
        })
        .unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (config, collector) = (Arc::clone(&config), collector.clone());
            thread::spawn(move || {
                // A client that does not trust us ends here.
                let _refused = serve(client.unwrap(), config, &collector);
            });
        }
    });
    port
}

fn serve(client: TcpStream, config: Arc<ServerConfig>, collector: &str) -> std::io::Result<()> {
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut tls = rustls::StreamOwned::new(connection, client);
    let mut buffer = [0; 16 << 10];
    let mut request = Vec::new();
    loop {
        let read = tls.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if body.len() < length.trim().parse().unwrap() {
            continue;
        }
        let mut behind = TcpStream::connect(collector.strip_prefix("http://").unwrap())?;
        behind.write_all(&request)?;
        behind.shutdown(Shutdown::Write)?;
        let mut answer = Vec::new();
        behind.read_to_end(&mut answer)?;
        tls.write_all(&answer)?;
        request.clear();
    }
}

fn run(files: Vec<PathBuf>, prefix: &Path, port: u16) -> Exporter {
    let plan = ExporterPlan {
        ring_dir: prefix.to_owned(),
        certificate_files: files,
        ..ExporterPlan::new(prefix.to_owned(), 1)
    };
    let exporter = exporter::start(&plan).unwrap();
    let config = json!({"api_endpoint": format!("https://localhost:{port}")});
    let row = configure(&exporter, 1, &config);
    let mut producer = exporter.producer(0).unwrap();
    let mut traffic = Traffic::new(row, 0);
    (0..120).for_each(|_| drop(traffic.commit(&mut producer, "{}").unwrap()));
    exporter
}

#[test]
fn a_collector_is_only_believed_with_a_certificate() {
    let (folder, prefix) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (file, config) = authority(folder.path());
    let collector = Collector::start();
    let port = front(config, collector.url.clone());
    let exporter = run(Vec::new(), prefix.path(), port);
    let deadline = Instant::now() + Duration::from_secs(10);
    let fault = loop {
        let found = exporter.destinations().into_iter().find_map(|state| state.last_error);
        assert!(Instant::now() < deadline && collector.accepted().is_empty());
        match found {
            Some(fault) => break fault,
            None => thread::sleep(Duration::from_millis(20)),
        }
    };
    assert!(fault.to_ascii_lowercase().contains("certificate"), "{fault}");
    assert_eq!(exporter.stop(0).queued, 120);
    drop(exporter);
    // The next start trusts the authority, and finds its own events and those before.
    let exporter = run(vec![file], prefix.path(), port);
    let deadline = Instant::now() + Duration::from_secs(20);
    while exporter.sums().delivered < 240 {
        assert!(Instant::now() < deadline, "{:?} {:?}", exporter.sums(), exporter.destinations());
        thread::sleep(Duration::from_millis(10));
    }
}

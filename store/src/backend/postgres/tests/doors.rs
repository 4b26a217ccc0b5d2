//! Logging in: passwords of both kinds, TLS checked and unchecked, client certificates, a pooler.

use super::super::link::connect_alone;
use super::nodes::Node;
use super::server::{Postgres as Real, free_port};
use super::{Command, Server, told};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::json;
use std::path::PathBuf;

const DOORS: &str = "\
host all postgres 127.0.0.1/32 trust
host all scram 127.0.0.1/32 scram-sha-256
host all md5 127.0.0.1/32 md5
hostssl all secret 127.0.0.1/32 trust
hostssl all carded 127.0.0.1/32 cert
";

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for `name` and its key, as PEM.
fn signed(by: &CertifiedIssuer<'static, KeyPair>, name: &str) -> (String, String) {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, by).unwrap().pem(), key.serialize_pem())
}

#[track_caller]
fn comes_in(server: &Server) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = connect_alone(server).await.unwrap_or_else(|why| panic!("{why}"));
        client.batch_execute("SELECT 1").await.unwrap();
    });
}

#[track_caller]
fn stays_out(server: &Server, words: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let why = runtime.block_on(connect_alone(server)).map(drop).unwrap_err();
    assert!(why.contains(words), "{why}");
}

#[test]
fn every_door_opens_to_who_has_its_key() {
    let mut real = Real::start("ssl = on\nssl_ca_file = 'ca.crt'\n", false);
    let (ca, other) = (authority("ca"), authority("other"));
    let (certificate, key) = signed(&ca, "127.0.0.1");
    for (name, text) in [
        ("server.crt", certificate.as_str()),
        ("server.key", &key),
        ("ca.crt", &ca.pem()),
        ("pg_hba.conf", DOORS),
    ] {
        real.file(name, text);
    }
    real.run();
    let users = "SET password_encryption = 'scram-sha-256'; CREATE USER scram PASSWORD 's3cret'; \
        SET password_encryption = 'md5'; CREATE USER md5 PASSWORD 's3cret'; \
        CREATE USER secret; CREATE USER carded";
    real.sql("postgres", users).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let as_user = |user: &str| Server { user: user.to_owned(), ..real.server("postgres") };
    let with = |user: &str, password: &str| Server {
        password: Some(password.to_owned()),
        ..as_user(user)
    };
    for user in ["scram", "md5"] {
        comes_in(&with(user, "s3cret"));
        stays_out(&with(user, "wrong"), "password authentication failed");
        comes_in(&Server { ssl: true, ..with(user, "s3cret") });
    }
    stays_out(&as_user("secret"), "no pg_hba.conf entry");
    let secret = Server { ssl: true, ..as_user("secret") };
    comes_in(&secret);
    let checked = |trusted| Server { ssl_verify: true, trusted: vec![trusted], ..secret.clone() };
    comes_in(&checked(file("ca", &ca.pem())));
    stays_out(&checked(file("other", &other.pem())), "invalid peer certificate");
    let carded = Server { ssl: true, ..as_user("carded") };
    stays_out(&carded, "certificate");
    let (card, key) = signed(&ca, "carded");
    let client = Some((file("card", &card), file("key", &key)));
    comes_in(&Server { client, ..carded });
}

#[test]
fn a_pooler_in_transaction_mode_stands_between() {
    let real = super::database("pooled");
    let (port, folder) = (free_port(), real.folder());
    let conf = format!(
        "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 3\n\
         unix_socket_dir =\n",
        real.server("pooled").port
    );
    // Everything goes to one user: `any` takes the one that is forced.
    let conf = conf.replace("\n[pgbouncer]", " user=postgres\n[pgbouncer]");
    let file = folder.join("pgbouncer.ini");
    std::fs::write(&file, conf).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let mut pooler = super::server::command("/usr/sbin/pgbouncer".as_ref())
        .arg("-q")
        .arg(&file)
        .spawn()
        .expect("pgbouncer is installed: on Debian, `apt-get install pgbouncer`");
    let plan = |number| {
        let mut plan = real.plan("pooled", number);
        plan.server.port = port;
        plan.poll_ms = 100;
        plan
    };
    let tries = (0..100).find(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    assert!(tries.is_some(), "pgbouncer listens");
    let nodes = [1, 2].map(|number| Node::start(plan(number)).unwrap());
    for n in 0..50 {
        let row = json!({"username": format!("u{n}")});
        let made = nodes[n % 2].made("POST consumers", row);
        let found = nodes[(n + 1) % 2].made(&format!("GET consumers/u{n}"), json!(null));
        assert_eq!(made, found);
    }
    nodes[0].made("POST consumers", json!({"username": "last"}));
    super::nodes::soon("the last", || {
        nodes[1].store.tables().by("consumers", "username", "last").is_some()
    });
    assert_eq!(told(&plan(1).server, Command::List).status, 0);
    pooler.kill().unwrap();
    pooler.wait().unwrap();
}

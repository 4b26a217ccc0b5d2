//! The certificates of our own ports: those of the settings, or one made at the first start.
//!
//! Source: Kong `kong/conf_loader/parse.lua` (what a setting may hold) and
//! `kong/cmd/utils/prefix_handler.lua` (names of the files that are made).

use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use store::conf::Settings;

/// Which port a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The proxy: `ssl_cert`.
    Proxy,
    /// The Admin API: `admin_ssl_cert`.
    Admin,
    /// The status listener: `status_ssl_cert`.
    Status,
}

impl Owner {
    /// What stands before `ssl_cert` in the settings.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Proxy => "",
            Self::Admin => "admin_",
            Self::Status => "status_",
        }
    }
}

/// A certificate with those that signed it, and its key.
pub struct Pair {
    /// The chain in DER, our own certificate first; never empty.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key in DER.
    pub key: PrivateKeyDer<'static>,
}

impl fmt::Debug for Pair {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Pair({} certificates)", self.chain.len())
    }
}

/// The certificates of a port, in the order of the settings; never empty.
///
/// Without any in the settings, one is made and kept under `<prefix>/ssl`, so that the next start
/// shows the same one.
///
/// # Errors
/// One sentence, in Kong's words where it has some.
pub fn load(settings: &Settings, prefix: &Path, owner: Owner) -> Result<Vec<Pair>, String> {
    let own = owner.prefix();
    let (certs, keys) = (format!("{own}ssl_cert"), format!("{own}ssl_cert_key"));
    let pairs = settings.list(&certs).iter().zip(settings.list(&keys));
    let mut loaded = Vec::new();
    for (cert, key) in pairs {
        let chain = pem(cert).and_then(|pem| chain(&pem));
        let chain =
            chain.ok_or_else(|| format!("{certs}: failed loading certificate from {cert}"))?;
        // A key given as text must never be repeated in a message.
        let shown = if Path::new(key).exists() { key.as_str() } else { "******" };
        let key = pem(key).and_then(|pem| PrivateKeyDer::from_pem_slice(&pem).ok());
        let key = key.ok_or_else(|| format!("{keys}: failed loading key from {shown}"))?;
        loaded.push(Pair { chain, key });
    }
    if loaded.is_empty() {
        loaded.push(default_pair(prefix, owner)?);
    }
    Ok(loaded)
}

/// The bytes of a setting that is a path, a PEM text, or base64 of a PEM text.
fn pem(value: &str) -> Option<Vec<u8>> {
    if value.contains("-----BEGIN") {
        return Some(value.as_bytes().to_vec());
    }
    if Path::new(value).exists() {
        return fs::read(value).ok();
    }
    STANDARD.decode(value.trim()).ok()
}

fn chain(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    (!chain.is_empty()).then_some(chain)
}

/// The pair under `<prefix>/ssl`, made when it is not there.
fn default_pair(prefix: &Path, owner: Owner) -> Result<Pair, String> {
    let name = format!("{}kong-default", owner.prefix().replace('_', "-"));
    let folder = prefix.join("ssl");
    let (cert, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
    if !cert.exists() || !key.exists() {
        let (cert_pem, key_pem) =
            make().map_err(|fault| format!("cannot make a certificate: {fault}"))?;
        let write = |path: &Path, text: &str, mode: u32| {
            let mut options = fs::OpenOptions::new();
            options.create(true).truncate(true).write(true).mode(mode);
            options
                .open(path)
                .and_then(|mut file| file.write_all(text.as_bytes()))
                .map_err(|fault| format!("cannot write {}: {fault}", path.display()))
        };
        write(&key, &key_pem, 0o600)?;
        write(&cert, &cert_pem, 0o644)?;
    }
    let read = |path: &Path| {
        fs::read(path).map_err(|fault| format!("cannot read {}: {fault}", path.display()))
    };
    let broken = |path: &Path| format!("{} is broken: remove it and start again", path.display());
    let chain = chain(&read(&cert)?).ok_or_else(|| broken(&cert))?;
    let key = PrivateKeyDer::from_pem_slice(&read(&key)?).map_err(|_| broken(&key))?;
    Ok(Pair { chain, key })
}

/// A self-signed certificate for this machine, valid for thirty years, and its key, as PEM.
fn make() -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.distinguished_name.push(DnType::OrganizationName, "Tollgate");
    params.subject_alt_names.push(SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()));
    params.subject_alt_names.push(SanType::IpAddress(std::net::Ipv6Addr::LOCALHOST.into()));
    params.not_before = rcgen::date_time_ymd(2024, 1, 1);
    params.not_after = rcgen::date_time_ymd(2054, 1, 1);
    let key = KeyPair::generate()?;
    let cert = params.self_signed(&key)?;
    Ok((cert.pem(), key.serialize_pem()))
}

/// TLS for a port of the office: the first certificate, HTTP/1.1 only.
///
/// # Errors
/// One sentence: a certificate that cannot be loaded, or does not belong to its key.
pub fn server(
    settings: &Settings,
    prefix: &Path,
    owner: Owner,
) -> Result<Arc<ServerConfig>, String> {
    let mut pairs = load(settings, prefix, owner)?;
    let pair = pairs.swap_remove(0);
    let refused = |fault: rustls::Error| {
        format!("{}ssl_cert does not fit {}ssl_cert_key: {fault}", owner.prefix(), owner.prefix())
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_no_client_auth()
        .with_single_cert(pair.chain, pair.key)
        .map_err(refused)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let env = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::of(None, env).unwrap().0
    }

    #[test]
    fn a_certificate_is_made_once() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("ssl")).unwrap();
        let first = load(&settings(&[]), folder.path(), Owner::Admin).unwrap();
        let again = load(&settings(&[]), folder.path(), Owner::Admin).unwrap();
        assert_eq!(first[0].chain, again[0].chain);
        let key = folder.path().join("ssl/admin-kong-default.key");
        assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
        server(&settings(&[]), folder.path(), Owner::Status).unwrap();
    }

    #[test]
    fn settings_hold_paths_pem_or_base64() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = make().unwrap();
        let path = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (cert_path, key_path) = (path("a.crt", &cert), path("a.key", &key));
        let (cert_64, key_64) = (STANDARD.encode(&cert), STANDARD.encode(&key));
        for (cert, key) in [(&cert_path, &key_path), (&cert, &key), (&cert_64, &key_64)] {
            let given = [("KONG_SSL_CERT", cert.as_str()), ("KONG_SSL_CERT_KEY", key.as_str())];
            assert_eq!(load(&settings(&given), folder.path(), Owner::Proxy).unwrap().len(), 1);
        }
        let fault = |cert: &str, key: &str| {
            let given = [("KONG_SSL_CERT", cert), ("KONG_SSL_CERT_KEY", key)];
            server(&settings(&given), folder.path(), Owner::Proxy).unwrap_err()
        };
        assert_eq!(fault("/no/a", &key_path), "ssl_cert: failed loading certificate from /no/a");
        assert_eq!(fault(&cert_path, "hush"), "ssl_cert_key: failed loading key from ******");
        let other = path("b.key", &make().unwrap().1);
        assert!(fault(&cert_path, &other).starts_with("ssl_cert does not fit ssl_cert_key"));
    }
}

//! The certificates of our own ports: those of the settings, or one made at the first start.
//!
//! Source: Kong `kong/conf_loader/parse.lua` (what a setting may hold) and
//! `kong/cmd/utils/prefix_handler.lua` (names of the files that are made).

mod configured;

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use runtime::tls::{Identity, Names, TlsFault, self_signed};
use rustls::ServerConfig;
use store::conf::Settings;

pub use configured::{Configured, read};

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

/// What each kind of port shows; none where no port of that kind speaks TLS.
pub struct Shown {
    /// The proxy's ports.
    pub proxy: Option<Arc<Names>>,
    /// The Admin API's.
    pub admin: Option<Arc<Names>>,
    /// The status listener's.
    pub status: Option<Arc<Names>>,
}

impl Shown {
    /// Loads or makes the certificates that these settings need.
    ///
    /// # Errors
    /// One sentence, in Kong's words where it has some.
    pub fn load(settings: &Settings, prefix: &Path) -> Result<Self, String> {
        let needed = |listen: &str, owner: Owner| {
            let tls = settings.listen(listen).iter().any(|listen| listen.tls);
            tls.then(|| load(settings, prefix, owner).map(Names::new)).transpose()
        };
        Ok(Self {
            proxy: needed("proxy_listen", Owner::Proxy)?,
            admin: needed("admin_listen", Owner::Admin)?,
            status: needed("status_listen", Owner::Status)?,
        })
    }

    /// Reads the files again; handshakes from now on show what they hold. All or nothing.
    ///
    /// # Errors
    /// One sentence; everything stays as it was.
    pub fn reload(&self, settings: &Settings, prefix: &Path) -> Result<(), String> {
        let own = [
            (&self.proxy, Owner::Proxy),
            (&self.admin, Owner::Admin),
            (&self.status, Owner::Status),
        ];
        let mut loaded = Vec::new();
        for (names, owner) in own {
            if let Some(names) = names {
                loaded.push((names, load(settings, prefix, owner)?));
            }
        }
        for (names, default) in loaded {
            names.set_default(default);
        }
        Ok(())
    }
}

/// The certificates of a port, in the order of the settings; never empty.
///
/// Without any in the settings, one is made and kept under `<prefix>/ssl`, so that the next start
/// shows the same one.
///
/// # Errors
/// One sentence, in Kong's words where it has some.
pub fn load(settings: &Settings, prefix: &Path, owner: Owner) -> Result<Vec<Identity>, String> {
    let own = owner.prefix();
    let (certs, keys) = (format!("{own}ssl_cert"), format!("{own}ssl_cert_key"));
    let pairs = settings.list(&certs).iter().zip(settings.list(&keys));
    let mut loaded = Vec::new();
    for (cert, key) in pairs {
        // A key given as text must never be repeated in a message.
        let shown = if Path::new(key).exists() { key.as_str() } else { "******" };
        let bad_cert = || format!("{certs}: failed loading certificate from {cert}");
        let bad_key = || format!("{keys}: failed loading key from {shown}");
        let chain = pem(cert).ok_or_else(bad_cert)?;
        let key = pem(key).ok_or_else(bad_key)?;
        loaded.push(Identity::from_pem(&chain, &key).map_err(|fault| match fault {
            TlsFault::Certificate(_) => bad_cert(),
            TlsFault::Key(_) => bad_key(),
            other => format!("{certs} and {keys}: {other}"),
        })?);
    }
    if loaded.is_empty() {
        loaded.push(default_identity(prefix, owner)?);
    }
    Ok(loaded)
}

/// The text of a setting that is a path, a PEM text, or base64 of a PEM text.
pub fn pem(value: &str) -> Option<String> {
    if value.contains("-----BEGIN") {
        return Some(value.to_owned());
    }
    if Path::new(value).exists() {
        return fs::read_to_string(value).ok();
    }
    String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()
}

/// The pair under `<prefix>/ssl`, made when it is not there.
fn default_identity(prefix: &Path, owner: Owner) -> Result<Identity, String> {
    let name = format!("{}kong-default", owner.prefix().replace('_', "-"));
    let folder = prefix.join("ssl");
    let (cert, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
    if !cert.exists() || !key.exists() {
        let (cert_pem, key_pem) =
            self_signed(&["localhost", "127.0.0.1", "::1"]).map_err(|fault| fault.to_string())?;
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
        fs::read_to_string(path).map_err(|fault| format!("cannot read {}: {fault}", path.display()))
    };
    Identity::from_pem(&read(&cert)?, &read(&key)?).map_err(|fault| {
        let (cert, key) = (cert.display(), key.display());
        format!("{cert} and {key} are broken, remove both and start again: {fault}")
    })
}

/// TLS for a port of the office: HTTP/1.1 only.
///
/// # Errors
/// One sentence.
pub fn server(names: &Arc<Names>) -> Result<Arc<ServerConfig>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|fault| format!("TLS cannot be set up: {fault}"))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(names) as Arc<_>);
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
        let read = |name: &str| fs::read(folder.path().join("ssl").join(name)).unwrap();
        load(&settings(&[]), folder.path(), Owner::Admin).unwrap();
        let first = read("admin-kong-default.crt");
        load(&settings(&[]), folder.path(), Owner::Admin).unwrap();
        assert_eq!(read("admin-kong-default.crt"), first);
        let key = folder.path().join("ssl/admin-kong-default.key");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&key, "x").unwrap();
        let fault = load(&settings(&[]), folder.path(), Owner::Admin).unwrap_err();
        assert!(fault.contains("are broken, remove both and start again"), "{fault}");
    }

    #[test]
    fn only_what_is_needed_is_loaded_and_a_broken_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("ssl")).unwrap();
        let settings = settings(&[("KONG_ADMIN_LISTEN", "127.0.0.1:0")]);
        let shown = Shown::load(&settings, folder.path()).unwrap();
        assert!(shown.proxy.is_some() && shown.admin.is_none() && shown.status.is_none());
        shown.reload(&settings, folder.path()).unwrap();
        fs::write(folder.path().join("ssl/kong-default.crt"), "x").unwrap();
        shown.reload(&settings, folder.path()).unwrap_err();
    }

    #[test]
    fn settings_hold_paths_pem_or_base64() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = self_signed(&["a.test"]).unwrap();
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
            load(&settings(&given), folder.path(), Owner::Proxy).unwrap_err()
        };
        assert_eq!(fault("/no/a", &key_path), "ssl_cert: failed loading certificate from /no/a");
        assert_eq!(fault(&cert_path, "hush"), "ssl_cert_key: failed loading key from ******");
        let other = path("b.key", &self_signed(&["b.test"]).unwrap().1);
        let words = "ssl_cert and ssl_cert_key: the private key does not belong to the certificate";
        assert_eq!(fault(&cert_path, &other), words);
    }
}

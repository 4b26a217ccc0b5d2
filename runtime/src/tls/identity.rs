//! Certificates with their keys, and which one a client is shown.

use arc_swap::ArcSwap;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

/// What is wrong with a certificate, a key, or the settings around them.
#[derive(Debug)]
pub enum TlsFault {
    /// No certificate, or one that cannot be read.
    Certificate(String),
    /// No key, one that cannot be read, or of a kind that is not supported.
    Key(String),
    /// The key does not belong to the certificate.
    Mismatch,
    /// The settings contradict each other.
    Settings(String),
}

impl fmt::Display for TlsFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(why) => write!(out, "the certificate cannot be used: {why}"),
            Self::Key(why) => write!(out, "the private key cannot be used: {why}"),
            Self::Mismatch => out.write_str("the private key does not belong to the certificate"),
            Self::Settings(why) => write!(out, "the TLS settings cannot be used: {why}"),
        }
    }
}

impl std::error::Error for TlsFault {}

/// A certificate with those that signed it, and its key. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Identity(pub(super) Arc<CertifiedKey>);

impl Identity {
    /// Reads a chain and a key from PEM, our own certificate first.
    ///
    /// # Errors
    /// When either cannot be read or they do not belong together.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, TlsFault> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
        let chain = chain.map_err(|error| TlsFault::Certificate(error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| TlsFault::Key(error.to_string()))?;
        Self::from_der(chain, &key)
    }

    /// Takes a chain and a key in DER, our own certificate first.
    ///
    /// # Errors
    /// When there is no certificate, the key is not supported, or they do not belong together.
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'static>,
    ) -> Result<Self, TlsFault> {
        if chain.is_empty() {
            return Err(TlsFault::Certificate("there is none".to_owned()));
        }
        let key = any_supported_type(key).map_err(|error| TlsFault::Key(error.to_string()))?;
        let pair = CertifiedKey::new(chain, key);
        match pair.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
                Ok(Self(Arc::new(pair)))
            }
            Err(rustls::Error::InconsistentKeys(_)) => Err(TlsFault::Mismatch),
            Err(error) => Err(TlsFault::Certificate(error.to_string())),
        }
    }
}

/// Which identity is shown for which name; changes while connections come in.
///
/// A name is looked up in this order, as in Kong (`kong/runloop/certificate.lua`): itself, with
/// its first label as `*`, with its last label as `*`, then `*`, then the default.
pub struct Names {
    table: ArcSwap<Table>,
}

/// Parts of the table: a change copies those that it touches.
const SHARDS: usize = 64;

type Shard = HashMap<String, Vec<Identity>, FixedState>;

#[derive(Clone)]
struct Table {
    shards: Box<[Arc<Shard>]>,
    count: usize,
    default: Vec<Identity>,
}

impl Names {
    /// Shows `default` to everybody: the first of them whose kind of key the client supports.
    pub fn new(default: Vec<Identity>) -> Arc<Self> {
        let shards = (0..SHARDS).map(|_| Arc::default()).collect();
        let table = Table { shards, count: 0, default };
        Arc::new(Self { table: ArcSwap::from_pointee(table) })
    }

    /// Shows others to those for whom no name fits. Handshakes that run keep what they have.
    pub fn set_default(&self, default: Vec<Identity>) {
        self.table.rcu(|table| Table { default: default.clone(), ..Table::clone(table) });
    }

    /// Gives names their identities, or takes them away with an empty list. A name may be `*` or
    /// hold one in its first or last label; several identities are tried in order.
    pub fn set(&self, names: &[(String, Vec<Identity>)]) {
        self.table.rcu(|table| {
            let mut next = Table::clone(table);
            for (name, identities) in names {
                next.set(name.to_ascii_lowercase(), identities);
            }
            next
        });
    }
}

impl Table {
    fn set(&mut self, name: String, identities: &[Identity]) {
        let Some(shard) = self.shards.get_mut(shard_of(&name)).map(Arc::make_mut) else { return };
        self.count -= usize::from(shard.remove(&name).is_some());
        if !identities.is_empty() {
            self.count += 1;
            shard.insert(name, identities.to_vec());
        }
    }

    fn get(&self, name: &str) -> Option<&Vec<Identity>> {
        self.shards.get(shard_of(name))?.get(name)
    }

    fn find(&self, name: Option<&str>) -> &[Identity] {
        let found = name.filter(|_| self.count > 0).and_then(|name| {
            let name = name.to_ascii_lowercase();
            self.get(&name)
                .or_else(|| self.get(&format!("*.{}", name.split_once('.')?.1)))
                .or_else(|| self.get(&format!("{}.*", name.rsplit_once('.')?.0)))
        });
        found.or_else(|| self.get("*")).unwrap_or(&self.default)
    }
}

fn shard_of(name: &str) -> usize {
    usize::try_from(FixedState::default().hash_one(name)).unwrap_or_default() % SHARDS
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.table.load();
        let found = table.find(hello.server_name());
        let schemes = hello.signature_schemes();
        let fits = found.iter().find(|one| one.0.key.choose_scheme(schemes).is_some());
        fits.or(found.first()).map(|one| Arc::clone(&one.0))
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Names({})", self.table.load().count)
    }
}

/// Makes a certificate that nobody vouches for, and its key, both as PEM (ECDSA P-256, valid from
/// 1975 to 4096). The first name becomes its common name.
///
/// # Errors
/// When a name is no DNS name or address.
pub fn self_signed(names: &[&str]) -> Result<(String, String), TlsFault> {
    let fault = |error: rcgen::Error| TlsFault::Certificate(error.to_string());
    let all: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(all).map_err(fault)?;
    if let Some(name) = names.first() {
        params.distinguished_name.push(DnType::CommonName, *name);
    }
    let key = KeyPair::generate().map_err(fault)?;
    let certificate = params.self_signed(&key).map_err(fault)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(name: &str) -> Identity {
        let (chain, key) = self_signed(&[name]).unwrap();
        Identity::from_pem(&chain, &key).unwrap()
    }

    #[test]
    fn names_are_found_in_kongs_order() {
        let names = Names::new(vec![identity("default.test")]);
        let table = ["a.example.com", "*.example.com", "a.example.*", "x.*", "b.c.*"];
        let ids: Vec<Identity> = table.iter().map(|_| identity("id.test")).collect();
        let all = table.iter().zip(&ids).map(|(name, id)| ((*name).to_owned(), vec![id.clone()]));
        names.set(&all.collect::<Vec<_>>());
        let check = |asked: Option<&str>, expected: Option<usize>| {
            let table = names.table.load();
            let found = &table.find(asked)[0];
            let place = ids.iter().position(|id| Arc::ptr_eq(&id.0, &found.0));
            assert_eq!(place, expected, "{asked:?}");
        };
        check(Some("a.example.com"), Some(0));
        check(Some("A.EXAMPLE.com"), Some(0));
        check(Some("b.example.com"), Some(1));
        check(Some("a.example.org"), Some(2));
        check(Some("x.org"), Some(3));
        check(Some("b.c.d"), Some(4));
        check(Some("a.b.example.com"), None);
        check(Some("example.com"), None);
        check(None, None);
        let star = identity("star.test");
        names.set(&[("*".to_owned(), vec![star.clone()])]);
        assert!(Arc::ptr_eq(&names.table.load().find(None)[0].0, &star.0));
        names.set_default(vec![identity("other.test")]);
        names.set(&[("*".to_owned(), vec![]), ("A.example.com".to_owned(), vec![])]);
        check(Some("a.example.com"), Some(1));
        check(None, None);
        assert_eq!(format!("{names:?}"), "Names(4)");
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        let (chain, key) = self_signed(&["a.test"]).unwrap();
        let (_, other) = self_signed(&["a.test"]).unwrap();
        let fault =
            |chain: &str, key: &str| Identity::from_pem(chain, key).unwrap_err().to_string();
        assert_eq!(fault(&chain, &other), "the private key does not belong to the certificate");
        assert_eq!(fault("", &key), "the certificate cannot be used: there is none");
        assert!(fault(&chain, "x").starts_with("the private key cannot be used: "));
        assert!(self_signed(&["\u{fc}"]).is_err());
    }
}

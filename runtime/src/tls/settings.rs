//! What both roles of TLS can be told, turned into rustls's configurations.
//!
//! A configuration is made in the office, once, and shared by all cores: with it its ticketer, so
//! that a client that returns to another core resumes there.

use super::identity::{Identity, Names, TlsFault};
use super::{Greeting, TlsReader, TlsWriter, handshake};
use crate::buffers::Piece;
use crate::io::{Error, ErrorKind, Reader, Result, Writer};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::ServerSessionMemoryCache;
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, RootCertStore, ServerConfig,
    ServerConnection, SignatureScheme, SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;

/// HTTP/2's name in ALPN.
pub(super) const ALPN_H2: &[u8] = b"h2";
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// Sessions that can be resumed by their ids; the oldest are forgotten.
const SESSIONS_MAX: usize = 10_240;

/// Which versions may be spoken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Versions {
    /// TLS 1.2.
    pub tls12: bool,
    /// TLS 1.3.
    pub tls13: bool,
}

impl Default for Versions {
    fn default() -> Self {
        Self { tls12: true, tls13: true }
    }
}

impl Versions {
    fn list(self) -> Vec<&'static SupportedProtocolVersion> {
        let both = [(self.tls13, &rustls::version::TLS13), (self.tls12, &rustls::version::TLS12)];
        both.into_iter().filter_map(|(wanted, version)| wanted.then_some(version)).collect()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

#[allow(clippy::needless_pass_by_value)] // the shape that map_err asks for
fn refused(error: rustls::Error) -> TlsFault {
    TlsFault::Settings(error.to_string())
}

/// What the accepting side is told.
pub struct AcceptorPlan {
    /// Which certificate is shown.
    pub names: Arc<Names>,
    /// Whether HTTP/2 is offered before HTTP/1.1.
    pub http2: bool,
    /// The versions spoken; at least one.
    pub versions: Versions,
}

/// Accepts TLS connections. Cheap to clone, shared by all cores.
#[derive(Clone)]
pub struct Acceptor(Arc<ServerConfig>);

impl Acceptor {
    /// Makes it ready, in the office.
    ///
    /// # Errors
    /// When no version is allowed or the system gives no randomness.
    pub fn new(plan: &AcceptorPlan) -> std::result::Result<Self, TlsFault> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&plan.versions.list())
            .map_err(refused)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&plan.names) as _);
        config.alpn_protocols = alpn(plan.http2);
        // Tickets resume on every core without a table. Only clients of TLS 1.2 that take no ticket
        // need one, and are found in it by the id of their session.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(refused)?;
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
        Ok(Self(Arc::new(config)))
    }

    /// Does the handshake. Give it a deadline through the reader's closer: it must be awaited.
    /// `first` is what was read before: nothing, except behind a PROXY header.
    ///
    /// # Errors
    /// Those of the connection, and `InvalidData` with rustls's words where the peer does not
    /// speak TLS as we do.
    pub async fn accept(
        &self,
        reader: Reader,
        writer: Writer,
        first: Piece,
    ) -> Result<(TlsReader, TlsWriter, Greeting)> {
        let tls = ServerConnection::new(Arc::clone(&self.0)).map_err(super::broken)?;
        handshake(reader, writer, first, Connection::Server(tls)).await
    }
}

fn alpn(http2: bool) -> Vec<Vec<u8>> {
    let h2 = http2.then(|| ALPN_H2.to_vec());
    h2.into_iter().chain([ALPN_HTTP1.to_vec()]).collect()
}

/// Whose certificate the connecting side believes.
pub enum Verify {
    /// Everybody's: Kong's default towards upstreams (`tls_verify` off).
    Nobody,
    /// Those that one of these certificates (PEM) vouches for.
    Roots(String),
    /// Those that Mozilla's roots vouch for.
    Mozilla,
}

/// What the connecting side is told.
pub struct ConnectorPlan {
    /// Whose certificate is believed.
    pub verify: Verify,
    /// What we show where we are asked.
    pub identity: Option<Identity>,
    /// Whether HTTP/2 is offered before HTTP/1.1.
    pub http2: bool,
    /// The versions spoken; at least one.
    pub versions: Versions,
}

impl Default for ConnectorPlan {
    fn default() -> Self {
        let versions = Versions::default();
        Self { verify: Verify::Nobody, identity: None, http2: false, versions }
    }
}

/// Opens TLS connections. Cheap to clone, shared by all cores.
#[derive(Clone)]
pub struct Connector(Arc<ClientConfig>);

impl Connector {
    /// Makes it ready, in the office.
    ///
    /// # Errors
    /// When a root cannot be read, none is given, or no version is allowed.
    pub fn new(plan: ConnectorPlan) -> std::result::Result<Self, TlsFault> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&plan.versions.list())
            .map_err(refused)?;
        let builder = match plan.verify {
            Verify::Nobody => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(BelieveAll(provider)))
            }
            Verify::Roots(pem) => builder.with_root_certificates(roots(&pem)?),
            Verify::Mozilla => builder.with_root_certificates(RootCertStore {
                roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
            }),
        };
        let mut config = match plan.identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::new(
                rustls::sign::SingleCertAndKey::from(identity.0),
            )),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn(plan.http2);
        Ok(Self(Arc::new(config)))
    }

    /// The same settings for somebody who opens connections in another way.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }

    /// Does the handshake with `name`, a DNS name or an address. Give it a deadline through the
    /// reader's closer: it must be awaited.
    ///
    /// # Errors
    /// `InvalidInput` for an impossible name, those of the connection, and `InvalidData` with
    /// rustls's words where the peer is not believed or does not speak TLS as we do.
    pub async fn connect(
        &self,
        reader: Reader,
        writer: Writer,
        name: &str,
    ) -> Result<(TlsReader, TlsWriter, Greeting)> {
        let name = ServerName::try_from(name.to_owned())
            .map_err(|error| Error::new(ErrorKind::InvalidInput, error))?;
        let tls = ClientConnection::new(Arc::clone(&self.0), name).map_err(super::broken)?;
        handshake(reader, writer, Piece::empty(), Connection::Client(tls)).await
    }
}

fn roots(pem: &str) -> std::result::Result<RootCertStore, TlsFault> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| TlsFault::Certificate(error.to_string()))?;
        roots.add(certificate).map_err(|error| TlsFault::Certificate(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(TlsFault::Certificate("there is none".to_owned()));
    }
    Ok(roots)
}

/// Believes every certificate, but still checks that the peer has its key.
#[derive(Debug)]
struct BelieveAll(Arc<CryptoProvider>);

impl ServerCertVerifier for BelieveAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

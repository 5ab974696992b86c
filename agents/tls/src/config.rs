//! The settings of both ends: nothing is left to defaults that could change.

use crate::TlsError;
use crate::identity::Identity;
use crate::verify::{Admit, KeyVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::version::TLS13;
use rustls::{CipherSuite, ClientConfig, ServerConfig};
use std::sync::Arc;

/// What a connection is for; sent as ALPN (RFC 7301). The number is the version of what is spoken inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// A [`greeting`](crate::greeting), then 9P2000.L with the shares.
    Files,
    /// 9P2000.L with a board's control tree; only for the other board.
    Control,
    /// Enrolment of a key by a one-time code.
    Enrol,
}

impl Service {
    pub(crate) const ALL: [Self; 3] = [Self::Files, Self::Control, Self::Enrol];

    /// Its ALPN name.
    pub const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Files => b"goblin-9p/1",
            Self::Control => b"goblin-control/1",
            Self::Enrol => b"goblin-enrol/1",
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn verifier(provider: &CryptoProvider, admit: Admit) -> Arc<KeyVerifier> {
    Arc::new(KeyVerifier { admit, algorithms: provider.signature_verification_algorithms })
}

/// Who carries the records of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Records {
    /// This process.
    Here,
    /// The kernel, to which the keys are given after the handshake: with the one cipher whose keys it need never
    /// renew, see `goblin_sys::ktls`.
    Kernel,
}

pub(crate) fn client(
    me: &Identity,
    service: Service,
    admit: Admit,
    records: Records,
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut provider = provider();
    if records == Records::Kernel {
        Arc::make_mut(&mut provider)
            .cipher_suites
            .retain(|suite| suite.suite() == CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
    }
    let verifier = verifier(&provider, admit);
    let key = AlwaysResolvesClientRawPublicKeys::new(me.certified.clone());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::OwnKey)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(key));
    config.alpn_protocols = vec![service.alpn().to_vec()];
    config.enable_secret_extraction = records == Records::Kernel;
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(Arc::new(config))
}

pub(crate) fn server(
    me: &Identity,
    service: Service,
    admit: Admit,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = provider();
    let verifier = verifier(&provider, admit);
    let key = AlwaysResolvesServerRawPublicKeys::new(me.certified.clone());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::OwnKey)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(key));
    config.alpn_protocols = vec![service.alpn().to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

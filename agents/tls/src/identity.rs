//! Who this end is.

use crate::TlsError;
use goblin_core_trust::{PublicKey, pkcs8};
use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use std::sync::Arc;

/// An ed25519 key pair, ready for handshakes. Copies share it.
#[derive(Clone)]
pub struct Identity {
    public: PublicKey,
    pub(crate) certified: Arc<CertifiedKey>,
}

impl Identity {
    /// Of the 32-byte seed (RFC 8032, section 5.1.5).
    ///
    /// # Errors
    /// [`TlsError::OwnKey`], which no seed causes.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, TlsError> {
        let public = PublicKey::of_seed(seed);
        let der = PrivatePkcs8KeyDer::from(pkcs8(seed));
        let key = any_eddsa_type(&der).map_err(TlsError::OwnKey)?;
        let spki = CertificateDer::from(public.to_spki());
        Ok(Self { public, certified: Arc::new(CertifiedKey::new(vec![spki], key)) })
    }

    /// The public half.
    pub const fn public(&self) -> PublicKey {
        self.public
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("public", &self.public).finish_non_exhaustive()
    }
}

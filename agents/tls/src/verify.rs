//! The judgement over a peer's key: a pure function of the bytes and of the question "is this key
//! admitted?".

use goblin_core_trust::PublicKey;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use std::sync::Arc;

/// Whether a key is admitted; asked once per handshake.
pub type Admit = Arc<dyn Fn(&PublicKey) -> bool + Send + Sync>;

/// Judges peers by their ed25519 key and nothing else.
pub(crate) struct KeyVerifier {
    pub(crate) admit: Admit,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl std::fmt::Debug for KeyVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyVerifier").finish_non_exhaustive()
    }
}

impl KeyVerifier {
    /// The key behind a raw public key that came as `end_entity` alone and is admitted.
    fn judge(&self, end_entity: &[u8], more: usize) -> Result<PublicKey, Error> {
        if more != 0 {
            return Err(CertificateError::BadEncoding.into());
        }
        let key = PublicKey::from_spki(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        if (self.admit)(&key) {
            Ok(key)
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn signed(
        &self,
        message: &[u8],
        spki: &[u8],
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if dss.scheme != SignatureScheme::ED25519 {
            return Err(CertificateError::BadSignature.into());
        }
        let spki = SubjectPublicKeyInfoDer::from(spki);
        verify_tls13_signature_with_raw_key(message, &spki, dss, &self.algorithms)
    }
}

const fn no_tls12() -> Error {
    Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered)
}

impl ServerCertVerifier for KeyVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(end_entity, intermediates.len()).map(|_| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for KeyVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(end_entity, intermediates.len()).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verifier(admitted: PublicKey) -> KeyVerifier {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        KeyVerifier { admit: Arc::new(move |key| *key == admitted), algorithms }
    }

    #[test]
    fn only_the_admitted_key_alone_passes() {
        let key = PublicKey::of_seed(&[1; 32]);
        let other = PublicKey::of_seed(&[2; 32]);
        let verifier = verifier(key);
        assert_eq!(verifier.judge(&key.to_spki(), 0).unwrap(), key);
        assert!(verifier.judge(&other.to_spki(), 0).is_err());
        // A chain behind a raw key means nothing here, so it is not let in.
        assert!(verifier.judge(&key.to_spki(), 1).is_err());
        assert!(verifier.judge(&key.to_spki()[1..], 0).is_err());
        assert!(verifier.judge(&[], 0).is_err());
    }
}

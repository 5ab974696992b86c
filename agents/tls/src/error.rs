//! Why there is no connection.

use std::io;

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The connection failed: try again.
    #[error("the connection failed during the handshake: {0}")]
    Io(#[from] io::Error),
    /// The peer took longer than the limit for the whole handshake.
    #[error("the handshake took too long")]
    TimedOut,
    /// The peer's key is not one that is admitted here.
    #[error("the other end's key is not the expected one")]
    Stranger,
    /// The peer says that our key is not one that it admits.
    #[error("the other end does not know this key")]
    Unknown,
    /// The peer speaks no TLS 1.3 of our kind: another protocol, version or service.
    #[error("the other end does not speak goblinux's TLS 1.3: {0}")]
    Protocol(#[source] rustls::Error),
    /// Our own key cannot be used.
    #[error("this end's own key is not usable: {0}")]
    OwnKey(#[source] rustls::Error),
}

impl TlsError {
    /// From the library's word.
    pub(crate) fn of(err: rustls::Error) -> Self {
        use rustls::AlertDescription as Alert;
        match err {
            rustls::Error::InvalidCertificate(_) => Self::Stranger,
            rustls::Error::AlertReceived(
                Alert::AccessDenied
                | Alert::BadCertificate
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::CertificateRequired,
            ) => Self::Unknown,
            other => Self::Protocol(other),
        }
    }

    /// From what the library wraps into an I/O error.
    pub(crate) fn of_io(err: io::Error) -> Self {
        match err.downcast::<rustls::Error>() {
            Ok(inner) => Self::of(inner),
            Err(err)
                if matches!(err.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) =>
            {
                Self::TimedOut
            }
            Err(err) => Self::Io(err),
        }
    }
}

impl From<TlsError> for io::Error {
    fn from(err: TlsError) -> Self {
        let kind = match err {
            TlsError::Io(err) => return err,
            TlsError::TimedOut => io::ErrorKind::TimedOut,
            TlsError::Stranger | TlsError::Unknown => io::ErrorKind::PermissionDenied,
            TlsError::Protocol(_) | TlsError::OwnKey(_) => io::ErrorKind::InvalidData,
        };
        Self::new(kind, err)
    }
}

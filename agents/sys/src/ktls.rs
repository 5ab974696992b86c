//! TLS in the kernel: a connection whose handshake is done is given to it with its keys, and is an ordinary socket
//! from then on. Source: `Documentation/networking/tls.rst` of the kernel.
//!
//! For mounts that the kernel's own 9P client serves alone; a server seals its records itself. Tried in a guest (Linux
//! 6.12, one processor that counts instructions), reads of 512 KiB that are spliced into a kernel's TLS cost 2 to 5 %
//! more of them than reads that are copied and sealed by `ring`, with AES-256-GCM as with ChaCha20-Poly1305; messages
//! without data 8 % more with the first and 37 % with the second; only writes cost less, 9 %. AES-GCM asks for new keys after 2^24 records, which
//! this kernel cannot be given (Linux 6.14 can), and a busy client has sent as many in half an hour: its session would
//! end then. ChaCha20-Poly1305 costs a server half as much again as AES-GCM does.

use nix::libc::tls12_crypto_info_chacha20_poly1305 as Info;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{TcpTlsRx, TcpTlsTx, TcpUlp, TlsCryptoInfo};
use std::io;
use std::os::fd::AsFd;

/// Keys of one direction of a TLS 1.3 connection with ChaCha20-Poly1305, the one cipher here whose keys need no
/// renewal however much is sent (RFC 8446, section 5.5), which the kernel could not follow.
#[derive(Clone)]
pub struct Keys {
    /// Key.
    pub key: [u8; 32],
    /// Initialisation vector.
    pub iv: [u8; 12],
    /// Number of the next record.
    pub sequence: u64,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl Keys {
    fn for_kernel(&self) -> TlsCryptoInfo {
        TlsCryptoInfo::Chacha20Poly1305(Info {
            info: nix::libc::tls_crypto_info {
                version: nix::libc::TLS_1_3_VERSION,
                cipher_type: nix::libc::TLS_CIPHER_CHACHA20_POLY1305,
            },
            iv: self.iv,
            key: self.key,
            salt: [],
            rec_seq: self.sequence.to_be_bytes(),
        })
    }
}

/// Gives a TCP connection's TLS to the kernel. Nothing that was read of it already may wait to be opened.
///
/// # Errors
/// `NotFound` when the kernel has no `tls` module, or its cipher is missing; the kernel's otherwise. The
/// connection is of no more use then.
pub fn hand_over(socket: &impl AsFd, send: &Keys, receive: &Keys) -> io::Result<()> {
    setsockopt(socket, TcpUlp::default(), b"tls")?;
    setsockopt(socket, TcpTlsTx, &send.for_kernel())?;
    setsockopt(socket, TcpTlsRx, &receive.for_kernel())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_not_show_in_a_log() {
        let keys = Keys { key: [0x41; 32], iv: [0x42; 12], sequence: 7 };
        assert_eq!(format!("{keys:?}"), "Keys { sequence: 7, .. }");
    }

    #[test]
    fn what_is_no_tcp_connection_is_refused() {
        let (one, _other) = crate::socket::Socket::pair().unwrap();
        let keys = Keys { key: [0; 32], iv: [0; 12], sequence: 0 };
        assert!(hand_over(&one, &keys, &keys).is_err());
    }
}

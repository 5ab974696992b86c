//! Further names of a network card, under which the kernel finds it as under its own.
//!
//! Sources: `rtnetlink(7)`; `include/uapi/linux/rtnetlink.h` (`RTM_NEWLINKPROP`) and `if_link.h`
//! (`IFLA_PROP_LIST`, `IFLA_ALT_IFNAME`) of the kernel.

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;
use std::time::Duration;

/// Longest further name, in bytes (`ALTIFNAMSIZ` less the NUL).
pub const NAME_BYTES_MAX: usize = 127;
/// Longest wait for the kernel's answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// `NLMSG_ERROR`: also the form of a plain yes.
const NLMSG_ERROR: u16 = 2;
/// `RTM_NEWLINKPROP`.
const RTM_NEWLINKPROP: u16 = 108;
/// `NLM_F_REQUEST | NLM_F_ACK | NLM_F_EXCL | NLM_F_CREATE | NLM_F_APPEND`.
const FLAGS: u16 = 0x0001 | 0x0004 | 0x0200 | 0x0400 | 0x0800;
/// `IFLA_PROP_LIST | NLA_F_NESTED`.
const PROP_LIST: u16 = 52 | 0x8000;
/// `IFLA_ALT_IFNAME`.
const ALT_IFNAME: u16 = 53;

/// Gives an interface a further name. That it has it already is fine.
///
/// # Errors
/// `InvalidInput` for a name that no interface can have; `EEXIST` when another interface has it; `EPERM` without
/// `CAP_NET_ADMIN`; `ENODEV` when the interface is gone.
pub fn add(interface: u32, name: &str) -> io::Result<()> {
    let request = request(interface, name).ok_or(io::ErrorKind::InvalidInput)?;
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    sockopt::set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_LIMIT))?;
    rustix::net::sendto(&socket, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut room = [0u8; 4096];
    let (bytes, _) = rustix::net::recv(&socket, &mut room[..], RecvFlags::empty())?;
    let answer = room.get(..bytes).unwrap_or_default();
    match verdict(answer) {
        Some(0) => Ok(()),
        Some(code) if code == Errno::EXIST.raw_os_error() => {
            match crate::peer::interface_index(name) {
                // Only an interface's first name is a folder of sysfs: it belongs to another one.
                Some(other) if other != interface => Err(Errno::EXIST.into()),
                _ => Ok(()),
            }
        }
        Some(code) => Err(io::Error::from_raw_os_error(code)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// `nlmsghdr[16] ifinfomsg[16] attribute[4] { attribute[4] name NUL }`, in the machine's byte order.
fn request(interface: u32, name: &str) -> Option<Vec<u8>> {
    let odd = |c: char| c.is_control() || c.is_whitespace() || c == '/' || c == ':';
    if name.is_empty()
        || name.len() > NAME_BYTES_MAX
        || name.contains(odd)
        || name == "."
        || name == ".."
    {
        return None;
    }
    let text_len = u16::try_from(name.len()).ok()?.checked_add(1)?;
    let inner_len = text_len.checked_add(4)?;
    let padding = usize::from(inner_len.checked_next_multiple_of(4)?.checked_sub(inner_len)?);
    let outer_len = inner_len.checked_next_multiple_of(4)?.checked_add(4)?;
    let mut message = Vec::new();
    message.extend(u32::from(outer_len).checked_add(32)?.to_ne_bytes());
    message.extend(RTM_NEWLINKPROP.to_ne_bytes());
    message.extend(FLAGS.to_ne_bytes());
    // Sequence number, and port 0: the kernel knows who asks.
    message.extend([1u32.to_ne_bytes(), [0; 4]].concat());
    // Family, type; index; flags and their mask.
    message.extend([[0; 4], interface.to_ne_bytes(), [0; 4], [0; 4]].concat());
    for word in [outer_len, PROP_LIST, inner_len, ALT_IFNAME] {
        message.extend(word.to_ne_bytes());
    }
    message.extend(name.as_bytes());
    message.extend(std::iter::repeat_n(0u8, padding.checked_add(1)?));
    Some(message)
}

/// The error number of an answer, 0 for success: `nlmsghdr[16] error[4] ..`.
fn verdict(answer: &[u8]) -> Option<i32> {
    let kind = answer.get(4..6)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))?;
    let code = answer.get(16..20)?.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes))?;
    (kind == NLMSG_ERROR).then(|| code.checked_neg())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_laid_out_as_the_kernel_reads_it() {
        let message = request(3, "enp0s3").unwrap();
        assert_eq!(message.len(), 48);
        assert_eq!(message[0..4], 48u32.to_ne_bytes());
        assert_eq!(message[20..24], 3u32.to_ne_bytes());
        assert_eq!(message[32..34], 16u16.to_ne_bytes());
        assert_eq!(message[36..38], 11u16.to_ne_bytes());
        assert_eq!(&message[40..47], b"enp0s3\0");
        for name in ["", ".", "..", "a/b", "a b", "a:b", "a\0", &"x".repeat(128)] {
            assert_eq!(request(3, name), None, "{name}");
        }
    }

    #[test]
    fn answers_are_read_and_odd_ones_are_not() {
        let answer = |kind: u16, code: i32| {
            let mut bytes = vec![0u8; 20];
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            bytes[16..20].copy_from_slice(&code.to_ne_bytes());
            bytes
        };
        assert_eq!(verdict(&answer(2, 0)), Some(0));
        assert_eq!(verdict(&answer(2, -19)), Some(19));
        assert_eq!(verdict(&answer(3, 0)), None);
        assert_eq!(verdict(&answer(2, i32::MIN)), None);
        assert_eq!(verdict(b"short"), None);
    }

    #[test]
    fn an_interface_that_is_not_there_has_no_names() {
        // Without the right the kernel says so before it looks.
        let err = add(u32::MAX >> 1, "goblin-test0").unwrap_err();
        assert!(err.raw_os_error().is_some(), "{err}");
    }
}

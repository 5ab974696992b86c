//! Words of a sandbox that stand for numbers of the kernel.

/// Names of capabilities by number, from 0. Source: `include/uapi/linux/capability.h`.
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// One capability of the kernel, capabilities(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capability(u8);

impl Capability {
    /// The capability of that name, lower case without `cap_`.
    pub fn parse(name: &str) -> Option<Self> {
        let number = CAPABILITIES.iter().position(|known| *known == name)?;
        u8::try_from(number).ok().map(Self)
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        CAPABILITIES.get(usize::from(self.0)).copied().unwrap_or("unknown")
    }
}

/// A kind of sockets, `socket(2)`'s first argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Sockets of the file system.
    Unix,
    /// IPv4 and IPv6.
    Inet,
    /// Words with the kernel: interfaces, addresses, uevents.
    Netlink,
    /// Raw frames; also needs the capability `net_raw`.
    Packet,
    /// Between a virtual machine and its host.
    Vsock,
    /// The kernel's ciphers.
    Alg,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Unix, Self::Inet, Self::Netlink, Self::Packet, Self::Vsock, Self::Alg];

    /// The family of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.name() == name)
    }

    /// Its name in a unit file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unix => "unix",
            Self::Inet => "inet",
            Self::Netlink => "netlink",
            Self::Packet => "packet",
            Self::Vsock => "vsock",
            Self::Alg => "alg",
        }
    }

    /// Its numbers. Source: `include/linux/socket.h`.
    pub fn numbers(self) -> &'static [u32] {
        match self {
            Self::Unix => &[1],
            Self::Inet => &[2, 10],
            Self::Netlink => &[16],
            Self::Packet => &[17],
            Self::Vsock => &[40],
            Self::Alg => &[38],
        }
    }
}

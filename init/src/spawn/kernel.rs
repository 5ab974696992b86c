//! System calls of the child for which there is no safe wrapper. None of them allocates.
#![allow(unsafe_code, reason = "mount attributes, Landlock, seccomp and raw descriptors")]

use rustix::io::Errno;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Error of the last call.
pub(super) fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

fn check(result: libc::c_long) -> rustix::io::Result<libc::c_long> {
    if result < 0 { Err(last_errno()) } else { Ok(result) }
}

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Whether a mount may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writing {
    /// Not, nor any mount below.
    ForbiddenBelow,
    /// Not.
    Forbidden,
    /// As its file system allows.
    Allowed,
}

/// Changes the mount at a path.
pub(super) fn set_writing(path: &CStr, writing: Writing) -> rustix::io::Result<()> {
    let read_only: u64 = 0x1;
    let (set, clear) = if writing == Writing::Allowed { (0, read_only) } else { (read_only, 0) };
    let attributes = MountAttributes { set, clear, propagation: 0, user_namespace: 0 };
    let flags = if writing == Writing::ForbiddenBelow { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `path` ends with NUL, and `attributes` is a `struct mount_attr` of the length given; both
    // live until the call is over, which only reads them.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    })
    .map(drop)
}

/// `struct landlock_ruleset_attr`, with which the kernel's version decides how much of it there is.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ruleset {
    /// Accesses to files that need a rule.
    pub(super) files: u64,
    /// Accesses to ports that need a rule.
    pub(super) ports: u64,
    /// What does not leave the domain.
    pub(super) scoped: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct Beneath {
    allowed: u64,
    parent: RawFd,
}

/// A new set of rules.
pub(super) fn landlock_create(ruleset: Ruleset) -> rustix::io::Result<OwnedFd> {
    // SAFETY: `ruleset` is a `struct landlock_ruleset_attr` of the length given and is only read.
    let fd = check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const ruleset,
            size_of::<Ruleset>(),
            0,
        )
    })?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel made this descriptor for this call, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Allows accesses to what lies beneath a file or folder.
pub(super) fn landlock_allow(
    ruleset: &OwnedFd,
    parent: &OwnedFd,
    allowed: u64,
) -> rustix::io::Result<()> {
    let rule = Beneath { allowed, parent: parent.as_raw_fd() };
    let path_beneath: libc::c_int = 1;
    // SAFETY: the ruleset is open, and `rule` is a `struct landlock_path_beneath_attr`, packed as there;
    // it is only read.
    check(unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            path_beneath,
            &raw const rule,
            0,
        )
    })
    .map(drop)
}

/// Puts the caller, and all that it starts, under the rules.
pub(super) fn landlock_restrict(ruleset: &OwnedFd) -> rustix::io::Result<()> {
    // SAFETY: takes two integers; the ruleset is open.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) })
        .map(drop)
}

/// Puts the caller, and all that it starts, under a filter of system calls.
pub(super) fn seccomp_filter(program: &[libc::sock_filter]) -> rustix::io::Result<()> {
    let length = libc::c_ushort::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: `program` names as many instructions as the slice has, which lives until the call is over;
    // the kernel copies them and writes to none.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0 as libc::c_ulong,
            &raw const program,
        )
    })
    .map(drop)
}

/// `struct bpf_insn`: `code[1] registers[1] offset[2] immediate[4]`, the lower half of `registers` is written to.
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// `union bpf_attr` of `BPF_PROG_LOAD`, as far as it is needed.
#[repr(C)]
struct LoadProgram {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

/// `union bpf_attr` of `BPF_PROG_ATTACH`.
#[repr(C)]
struct AttachProgram {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

/// `BPF_PROG_TYPE_CGROUP_DEVICE`.
const KIND_DEVICE: u32 = 15;
/// `BPF_CGROUP_DEVICE` of `enum bpf_attach_type`.
const AT_DEVICE: u32 = 6;
/// `BPF_PROG_LOAD` and `BPF_PROG_ATTACH` of `enum bpf_cmd`.
const LOAD: libc::c_int = 5;
const ATTACH: libc::c_int = 8;
/// `BPF_PROG_TYPE_CGROUP_SYSCTL`.
const KIND_SYSCTL: u32 = 23;
/// `BPF_CGROUP_SYSCTL` of `enum bpf_attach_type`.
const AT_SYSCTL: u32 = 18;

/// A program for cgroups that lets their processes read the kernel's settings and write none.
///
/// Source: `Documentation/bpf/prog_cgroup_sysctl.rst`: `struct bpf_sysctl` begins with `write[4]`, the answer is 1
/// to allow, 0 for `EPERM`. It holds for every mount of `/proc`, which a read-only mount does not.
pub fn sysctl_guard() -> rustix::io::Result<OwnedFd> {
    let line =
        |code, registers, offset, immediate| Instruction { code, registers, offset, immediate };
    let program = [
        line(0x61, 0x10, 0, 0), // r0 = write
        line(0x15, 0, 2, 0),    // r0 == 0: over the next two
        line(0xb7, 0, 0, 0),    // r0 = 0
        line(0x95, 0, 0, 0),    // exit
        line(0xb7, 0, 0, 1),    // r0 = 1
        line(0x95, 0, 0, 0),    // exit
    ];
    load_program((KIND_SYSCTL, AT_SYSCTL), *b"sysctl_guard\0\0\0\0", &program)
}

/// A device that processes of a cgroup may open.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenDevice {
    /// A disk, or else a device of characters.
    pub(super) is_block: bool,
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) may_write: bool,
}

/// Which disks may be opened beside the devices that are named.
#[derive(Debug, Clone, Copy)]
pub(super) enum Disks<'a> {
    /// None.
    No,
    /// Any, to read.
    Read,
    /// Any; those of these numbers, major and minor, only to read.
    WriteBut(&'a [(u32, u32)]),
}

/// A program for cgroups that lets their processes open these devices and disks and no other, whatever node they find
/// or make.
///
/// Source: `BPF_PROG_TYPE_CGROUP_DEVICE` in `include/uapi/linux/bpf.h`: `struct bpf_cgroup_dev_ctx` is
/// `access_type[4] major[4] minor[4]`, of which the lower half of the first is the kind (1 a disk, 2 characters) and
/// the upper half what is asked for (1 to make a node, 2 to read, 4 to write); the answer is 1 to allow.
pub(super) fn device_guard(
    devices: &[OpenDevice],
    disks: Disks<'_>,
) -> rustix::io::Result<OwnedFd> {
    let line =
        |code, registers, offset, immediate| Instruction { code, registers, offset, immediate };
    let mut program = vec![
        line(0x61, 0x12, 0, 0),      // r2 = access_type
        line(0xbf, 0x23, 0, 0),      // r3 = r2
        line(0x77, 0x03, 0, 16),     // r3 >>= 16: what is asked for
        line(0x57, 0x02, 0, 0xffff), // r2 &= 0xffff: the kind
        line(0x61, 0x14, 4, 0),      // r4 = major
        line(0x61, 0x15, 8, 0),      // r5 = minor
    ];
    let number = |number: u32| i32::from_ne_bytes(number.to_ne_bytes());
    for device in devices {
        let refused = if device.may_write { !7 } else { !3 };
        program.extend([
            line(0x55, 0x02, 7, if device.is_block { 1 } else { 2 }), // another kind: next
            line(0x55, 0x04, 6, number(device.major)),                // another major: next
            line(0x55, 0x05, 5, number(device.minor)),                // another minor: next
            line(0xbf, 0x30, 0, 0),                                   // r0 = r3
            line(0x57, 0x00, 0, refused & 0xffff),                    // what is not allowed of it
            line(0x55, 0x00, 2, 0),                                   // any: next
            line(0xb7, 0x00, 0, 1),                                   // r0 = 1
            line(0x95, 0x00, 0, 0),                                   // exit
        ]);
    }
    let read_only = match disks {
        Disks::WriteBut(numbers) => numbers,
        Disks::No | Disks::Read => &[],
    };
    for (major, minor) in read_only {
        program.extend([
            line(0x55, 0x02, 7, 1),              // no disk: next
            line(0x55, 0x04, 6, number(*major)), // another major: next
            line(0x55, 0x05, 5, number(*minor)), // another minor: next
            line(0x57, 0x03, 0, 0b101),          // making a node, writing
            line(0xb7, 0x00, 0, 1),              // r0 = 1
            line(0x15, 0x03, 1, 0),              // none of them: over the next
            line(0xb7, 0x00, 0, 0),              // r0 = 0
            line(0x95, 0x00, 0, 0),              // exit
        ]);
    }
    let refused = match disks {
        Disks::No => None,
        // Making a node, writing.
        Disks::Read => Some(0b101),
        Disks::WriteBut(_) => Some(0b001),
    };
    if let Some(refused) = refused {
        program.extend([
            line(0x55, 0x02, 5, 1),       // no disk: on
            line(0xbf, 0x30, 0, 0),       // r0 = r3
            line(0x57, 0x00, 0, refused), // what is not allowed
            line(0x55, 0x00, 2, 0),       // any of it: on
            line(0xb7, 0x00, 0, 1),       // r0 = 1
            line(0x95, 0x00, 0, 0),       // exit
        ]);
    }
    program.extend([line(0xb7, 0, 0, 0), line(0x95, 0, 0, 0)]);
    load_program((KIND_DEVICE, AT_DEVICE), *b"device_guard\0\0\0\0", &program)
}

fn load_program(
    (kind, attach_type): (u32, u32),
    name: [u8; 16],
    program: &[Instruction],
) -> rustix::io::Result<OwnedFd> {
    let license = c"Apache-2.0";
    let load = LoadProgram {
        kind,
        instruction_count: u32::try_from(program.len()).unwrap_or(0),
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
        name,
        interface: 0,
        attach_type,
    };
    // SAFETY: `load` is the beginning of a `union bpf_attr` of the length given; it names as many instructions
    // as `program` has, and a string that ends with NUL; all of them live until the call is over, which
    // only reads them.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_bpf, LOAD, &raw const load, size_of::<LoadProgram>())
    })?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel made this descriptor for this call, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts a cgroup under a program of [`sysctl_guard`]; one that is there already is replaced.
pub fn guard_sysctls(group: &OwnedFd, program: &OwnedFd) -> rustix::io::Result<()> {
    attach(group, program, AT_SYSCTL)
}

/// Puts a cgroup under a program of [`device_guard`]; one that is there already is replaced.
pub(super) fn guard_devices(group: &OwnedFd, program: &OwnedFd) -> rustix::io::Result<()> {
    attach(group, program, AT_DEVICE)
}

fn attach(group: &OwnedFd, program: &OwnedFd, attach_type: u32) -> rustix::io::Result<()> {
    let number = |fd: &OwnedFd| u32::try_from(fd.as_raw_fd()).map_err(|_| Errno::BADF);
    let attach =
        AttachProgram { target: number(group)?, program: number(program)?, attach_type, flags: 0 };
    // SAFETY: `attach` is the beginning of a `union bpf_attr` of the length given and is only read; both
    // descriptors are open.
    check(unsafe {
        libc::syscall(libc::SYS_bpf, ATTACH, &raw const attach, size_of::<AttachProgram>())
    })
    .map(drop)
}

/// `dup2`: the new descriptor survives exec.
pub(super) fn duplicate(from: &OwnedFd, to: RawFd) -> rustix::io::Result<()> {
    // SAFETY: dup2 takes any two integers; `from` is open, and what `to` was before belongs to this child
    // alone, which does not use it again.
    if unsafe { libc::dup2(from.as_raw_fd(), to) } < 0 { Err(last_errno()) } else { Ok(()) }
}

/// PID 1 blocks the signals it reads from a descriptor and Rust ignores SIGPIPE; programs expect neither.
pub(super) fn reset_signals() -> rustix::io::Result<()> {
    // SAFETY: SIG_DFL is a valid disposition of SIGPIPE, and no handler of this program is lost: it has
    // none.
    if unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) } == libc::SIG_ERR {
        return Err(last_errno());
    }
    nix::sys::signal::SigSet::empty()
        .thread_set_mask()
        .map_err(|err| Errno::from_raw_os_error(err as i32))
}

/// A descriptor that the program before this one left open for it, made to end at the next exec.
pub fn inherited(number: RawFd) -> Option<OwnedFd> {
    if number <= 2 {
        return None;
    }
    // SAFETY: fcntl takes any integer and says EBADF for one that is not open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return None;
    }
    // SAFETY: the descriptor is open (the call above), and preinit left it to this program alone: nothing
    // else here takes numbers from the environment.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

//! The groups: names and numbers of system calls, by what they are for.
//!
//! A group holds whole abilities, not single calls: a C library picks another call of the same ability
//! from one version to the next. Nowhere: `ptrace`, `process_vm_*`, `bpf`, `perf_event_open`, `kexec_*`,
//! `reboot`, `unshare`, `setns`, `pivot_root`, `keyctl`, `userfaultfd`, swap and quotas, `chroot`, `iopl`.

use libc::c_long;

/// Name and number.
pub type Call = (&'static str, c_long);

pub(super) const CLONE: u32 = number(libc::SYS_clone);
pub(super) const CLONE3: u32 = number(libc::SYS_clone3);
pub(super) const IOCTL: u32 = number(libc::SYS_ioctl);
pub(super) const SOCKET: u32 = number(libc::SYS_socket);

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a constant of the kernel below 1000, checked when compiled"
)]
const fn number(call: c_long) -> u32 {
    assert!(call >= 0 && call < 1000);
    call as u32
}

macro_rules! calls {
    ($($name:literal = $number:expr,)*) => {
        &[$(($name, $number)),*]
    };
}

/// What every program needs: memory, threads, time, its own descriptors and signals, exec.
pub const ALWAYS: &[Call] = calls![
    "alarm" = libc::SYS_alarm,
    "arch_prctl" = libc::SYS_arch_prctl,
    "brk" = libc::SYS_brk,
    "capget" = libc::SYS_capget,
    "clock_getres" = libc::SYS_clock_getres,
    "clock_gettime" = libc::SYS_clock_gettime,
    "clock_nanosleep" = libc::SYS_clock_nanosleep,
    "clone" = libc::SYS_clone,
    "clone3" = libc::SYS_clone3,
    "close" = libc::SYS_close,
    "close_range" = libc::SYS_close_range,
    "dup" = libc::SYS_dup,
    "dup2" = libc::SYS_dup2,
    "dup3" = libc::SYS_dup3,
    "epoll_create" = libc::SYS_epoll_create,
    "epoll_create1" = libc::SYS_epoll_create1,
    "epoll_ctl" = libc::SYS_epoll_ctl,
    "epoll_pwait" = libc::SYS_epoll_pwait,
    "epoll_pwait2" = libc::SYS_epoll_pwait2,
    "epoll_wait" = libc::SYS_epoll_wait,
    "eventfd" = libc::SYS_eventfd,
    "eventfd2" = libc::SYS_eventfd2,
    "execve" = libc::SYS_execve,
    "exit" = libc::SYS_exit,
    "exit_group" = libc::SYS_exit_group,
    "fcntl" = libc::SYS_fcntl,
    "fstat" = libc::SYS_fstat,
    "futex" = libc::SYS_futex,
    "futex_waitv" = libc::SYS_futex_waitv,
    "get_robust_list" = libc::SYS_get_robust_list,
    "getcpu" = libc::SYS_getcpu,
    "getcwd" = libc::SYS_getcwd,
    "getegid" = libc::SYS_getegid,
    "geteuid" = libc::SYS_geteuid,
    "getgid" = libc::SYS_getgid,
    "getgroups" = libc::SYS_getgroups,
    "getitimer" = libc::SYS_getitimer,
    "getpgid" = libc::SYS_getpgid,
    "getpgrp" = libc::SYS_getpgrp,
    "getpid" = libc::SYS_getpid,
    "getppid" = libc::SYS_getppid,
    "getpriority" = libc::SYS_getpriority,
    "getrandom" = libc::SYS_getrandom,
    "getresgid" = libc::SYS_getresgid,
    "getresuid" = libc::SYS_getresuid,
    "getrlimit" = libc::SYS_getrlimit,
    "getrusage" = libc::SYS_getrusage,
    "getsid" = libc::SYS_getsid,
    "gettid" = libc::SYS_gettid,
    "gettimeofday" = libc::SYS_gettimeofday,
    "getuid" = libc::SYS_getuid,
    "ioctl" = libc::SYS_ioctl,
    "lseek" = libc::SYS_lseek,
    "madvise" = libc::SYS_madvise,
    "membarrier" = libc::SYS_membarrier,
    "mmap" = libc::SYS_mmap,
    "mprotect" = libc::SYS_mprotect,
    "mremap" = libc::SYS_mremap,
    "munmap" = libc::SYS_munmap,
    "nanosleep" = libc::SYS_nanosleep,
    "pause" = libc::SYS_pause,
    "pipe" = libc::SYS_pipe,
    "pipe2" = libc::SYS_pipe2,
    "poll" = libc::SYS_poll,
    "ppoll" = libc::SYS_ppoll,
    "prctl" = libc::SYS_prctl,
    "prlimit64" = libc::SYS_prlimit64,
    "pselect6" = libc::SYS_pselect6,
    "read" = libc::SYS_read,
    "readv" = libc::SYS_readv,
    "restart_syscall" = libc::SYS_restart_syscall,
    "rseq" = libc::SYS_rseq,
    "rt_sigaction" = libc::SYS_rt_sigaction,
    "rt_sigprocmask" = libc::SYS_rt_sigprocmask,
    "rt_sigreturn" = libc::SYS_rt_sigreturn,
    "rt_sigsuspend" = libc::SYS_rt_sigsuspend,
    "rt_sigtimedwait" = libc::SYS_rt_sigtimedwait,
    "sched_get_priority_max" = libc::SYS_sched_get_priority_max,
    "sched_get_priority_min" = libc::SYS_sched_get_priority_min,
    "sched_getaffinity" = libc::SYS_sched_getaffinity,
    "sched_getparam" = libc::SYS_sched_getparam,
    "sched_getscheduler" = libc::SYS_sched_getscheduler,
    "sched_setaffinity" = libc::SYS_sched_setaffinity,
    "sched_yield" = libc::SYS_sched_yield,
    "select" = libc::SYS_select,
    "set_robust_list" = libc::SYS_set_robust_list,
    "set_tid_address" = libc::SYS_set_tid_address,
    "setitimer" = libc::SYS_setitimer,
    "sigaltstack" = libc::SYS_sigaltstack,
    "signalfd4" = libc::SYS_signalfd4,
    "sysinfo" = libc::SYS_sysinfo,
    "tgkill" = libc::SYS_tgkill,
    "time" = libc::SYS_time,
    "timerfd_create" = libc::SYS_timerfd_create,
    "timerfd_gettime" = libc::SYS_timerfd_gettime,
    "timerfd_settime" = libc::SYS_timerfd_settime,
    "times" = libc::SYS_times,
    "umask" = libc::SYS_umask,
    "uname" = libc::SYS_uname,
    "write" = libc::SYS_write,
    "writev" = libc::SYS_writev,
];

const BASIC_IO: &[Call] = calls![
    "access" = libc::SYS_access,
    "cachestat" = 451,
    "chdir" = libc::SYS_chdir,
    "copy_file_range" = libc::SYS_copy_file_range,
    "creat" = libc::SYS_creat,
    "faccessat" = libc::SYS_faccessat,
    "faccessat2" = libc::SYS_faccessat2,
    "fadvise64" = libc::SYS_fadvise64,
    "fallocate" = libc::SYS_fallocate,
    "fchdir" = libc::SYS_fchdir,
    "fdatasync" = libc::SYS_fdatasync,
    "fgetxattr" = libc::SYS_fgetxattr,
    "flistxattr" = libc::SYS_flistxattr,
    "flock" = libc::SYS_flock,
    "fstatfs" = libc::SYS_fstatfs,
    "fsync" = libc::SYS_fsync,
    "ftruncate" = libc::SYS_ftruncate,
    "getdents" = libc::SYS_getdents,
    "getdents64" = libc::SYS_getdents64,
    "getxattr" = libc::SYS_getxattr,
    "inotify_add_watch" = libc::SYS_inotify_add_watch,
    "inotify_init" = libc::SYS_inotify_init,
    "inotify_init1" = libc::SYS_inotify_init1,
    "inotify_rm_watch" = libc::SYS_inotify_rm_watch,
    "lgetxattr" = libc::SYS_lgetxattr,
    "listxattr" = libc::SYS_listxattr,
    "llistxattr" = libc::SYS_llistxattr,
    "lstat" = libc::SYS_lstat,
    "memfd_create" = libc::SYS_memfd_create,
    "mincore" = libc::SYS_mincore,
    "msync" = libc::SYS_msync,
    "name_to_handle_at" = libc::SYS_name_to_handle_at,
    "newfstatat" = libc::SYS_newfstatat,
    "open" = libc::SYS_open,
    "openat" = libc::SYS_openat,
    "openat2" = libc::SYS_openat2,
    "pread64" = libc::SYS_pread64,
    "preadv" = libc::SYS_preadv,
    "preadv2" = libc::SYS_preadv2,
    "pwrite64" = libc::SYS_pwrite64,
    "pwritev" = libc::SYS_pwritev,
    "pwritev2" = libc::SYS_pwritev2,
    "readahead" = libc::SYS_readahead,
    "readlink" = libc::SYS_readlink,
    "readlinkat" = libc::SYS_readlinkat,
    "sendfile" = libc::SYS_sendfile,
    "splice" = libc::SYS_splice,
    "stat" = libc::SYS_stat,
    "statfs" = libc::SYS_statfs,
    "statx" = libc::SYS_statx,
    "sync_file_range" = libc::SYS_sync_file_range,
    "syncfs" = libc::SYS_syncfs,
    "tee" = libc::SYS_tee,
    "truncate" = libc::SYS_truncate,
    "vmsplice" = libc::SYS_vmsplice,
];

const FILE_WRITE: &[Call] = calls![
    "chmod" = libc::SYS_chmod,
    "fchmod" = libc::SYS_fchmod,
    "fchmodat" = libc::SYS_fchmodat,
    "fchmodat2" = libc::SYS_fchmodat2,
    "futimesat" = libc::SYS_futimesat,
    "link" = libc::SYS_link,
    "linkat" = libc::SYS_linkat,
    "mkdir" = libc::SYS_mkdir,
    "mkdirat" = libc::SYS_mkdirat,
    "mknod" = libc::SYS_mknod,
    "mknodat" = libc::SYS_mknodat,
    "rename" = libc::SYS_rename,
    "renameat" = libc::SYS_renameat,
    "renameat2" = libc::SYS_renameat2,
    "rmdir" = libc::SYS_rmdir,
    "symlink" = libc::SYS_symlink,
    "symlinkat" = libc::SYS_symlinkat,
    "sync" = libc::SYS_sync,
    "unlink" = libc::SYS_unlink,
    "unlinkat" = libc::SYS_unlinkat,
    "utime" = libc::SYS_utime,
    "utimensat" = libc::SYS_utimensat,
    "utimes" = libc::SYS_utimes,
];

const OWNER: &[Call] = calls![
    "chown" = libc::SYS_chown,
    "fchown" = libc::SYS_fchown,
    "fchownat" = libc::SYS_fchownat,
    "fremovexattr" = libc::SYS_fremovexattr,
    "fsetxattr" = libc::SYS_fsetxattr,
    "lchown" = libc::SYS_lchown,
    "lremovexattr" = libc::SYS_lremovexattr,
    "lsetxattr" = libc::SYS_lsetxattr,
    "open_by_handle_at" = libc::SYS_open_by_handle_at,
    "removexattr" = libc::SYS_removexattr,
    "setxattr" = libc::SYS_setxattr,
];

const NETWORK: &[Call] = calls![
    "accept" = libc::SYS_accept,
    "accept4" = libc::SYS_accept4,
    "bind" = libc::SYS_bind,
    "connect" = libc::SYS_connect,
    "getpeername" = libc::SYS_getpeername,
    "getsockname" = libc::SYS_getsockname,
    "getsockopt" = libc::SYS_getsockopt,
    "listen" = libc::SYS_listen,
    "recvfrom" = libc::SYS_recvfrom,
    "recvmmsg" = libc::SYS_recvmmsg,
    "recvmsg" = libc::SYS_recvmsg,
    "sendmmsg" = libc::SYS_sendmmsg,
    "sendmsg" = libc::SYS_sendmsg,
    "sendto" = libc::SYS_sendto,
    "setsockopt" = libc::SYS_setsockopt,
    "shutdown" = libc::SYS_shutdown,
    "socket" = libc::SYS_socket,
    "socketpair" = libc::SYS_socketpair,
];

const PROCESS: &[Call] = calls![
    "execveat" = libc::SYS_execveat,
    "fork" = libc::SYS_fork,
    "kill" = libc::SYS_kill,
    "pidfd_open" = libc::SYS_pidfd_open,
    "pidfd_send_signal" = libc::SYS_pidfd_send_signal,
    "rt_sigqueueinfo" = libc::SYS_rt_sigqueueinfo,
    "setpgid" = libc::SYS_setpgid,
    "setsid" = libc::SYS_setsid,
    "tkill" = libc::SYS_tkill,
    "vfork" = libc::SYS_vfork,
    "wait4" = libc::SYS_wait4,
    "waitid" = libc::SYS_waitid,
];

const SETUID: &[Call] = calls![
    "capset" = libc::SYS_capset,
    "setfsgid" = libc::SYS_setfsgid,
    "setfsuid" = libc::SYS_setfsuid,
    "setgid" = libc::SYS_setgid,
    "setgroups" = libc::SYS_setgroups,
    "setregid" = libc::SYS_setregid,
    "setresgid" = libc::SYS_setresgid,
    "setresuid" = libc::SYS_setresuid,
    "setreuid" = libc::SYS_setreuid,
    "setuid" = libc::SYS_setuid,
];

const MOUNT: &[Call] = calls![
    "fsconfig" = libc::SYS_fsconfig,
    "fsmount" = libc::SYS_fsmount,
    "fsopen" = libc::SYS_fsopen,
    "fspick" = libc::SYS_fspick,
    "mount" = libc::SYS_mount,
    "mount_setattr" = libc::SYS_mount_setattr,
    "move_mount" = libc::SYS_move_mount,
    "open_tree" = libc::SYS_open_tree,
    "umount2" = libc::SYS_umount2,
];

const CLOCK: &[Call] = calls![
    "adjtimex" = libc::SYS_adjtimex,
    "clock_adjtime" = libc::SYS_clock_adjtime,
    "clock_settime" = libc::SYS_clock_settime,
    "settimeofday" = libc::SYS_settimeofday,
];

const HOSTNAME: &[Call] =
    calls!["setdomainname" = libc::SYS_setdomainname, "sethostname" = libc::SYS_sethostname,];

const MODULE: &[Call] = calls![
    "delete_module" = libc::SYS_delete_module,
    "finit_module" = libc::SYS_finit_module,
    "init_module" = libc::SYS_init_module,
];

const PRIORITY: &[Call] = calls![
    "ioprio_get" = libc::SYS_ioprio_get,
    "ioprio_set" = libc::SYS_ioprio_set,
    "sched_getattr" = libc::SYS_sched_getattr,
    "sched_setattr" = libc::SYS_sched_setattr,
    "sched_setparam" = libc::SYS_sched_setparam,
    "sched_setscheduler" = libc::SYS_sched_setscheduler,
    "setpriority" = libc::SYS_setpriority,
];

const MEMORY_LOCK: &[Call] = calls![
    "get_mempolicy" = libc::SYS_get_mempolicy,
    "mbind" = libc::SYS_mbind,
    "mlock" = libc::SYS_mlock,
    "mlock2" = libc::SYS_mlock2,
    "mlockall" = libc::SYS_mlockall,
    "munlock" = libc::SYS_munlock,
    "munlockall" = libc::SYS_munlockall,
    "set_mempolicy" = libc::SYS_set_mempolicy,
    "shmat" = libc::SYS_shmat,
    "shmctl" = libc::SYS_shmctl,
    "shmdt" = libc::SYS_shmdt,
    "shmget" = libc::SYS_shmget,
];

const IO_URING: &[Call] = calls![
    "io_uring_enter" = libc::SYS_io_uring_enter,
    "io_uring_register" = libc::SYS_io_uring_register,
    "io_uring_setup" = libc::SYS_io_uring_setup,
];

/// All groups by name. Their meaning is in `rootfs/units/README.md` of the source.
pub const GROUPS: &[(&str, &[Call])] = &[
    // Files and folders: open, read, look.
    ("@basic-io", BASIC_IO),
    // Folders: make, rename, remove, date.
    ("@file-write", FILE_WRITE),
    // Owners and extended attributes.
    ("@owner", OWNER),
    // Sockets of the families in `sockets`.
    ("@network", NETWORK),
    // Other programs: start, wait, signal.
    ("@process", PROCESS),
    // Change user, groups and capabilities.
    ("@setuid", SETUID),
    // Mount and unmount.
    ("@mount", MOUNT),
    // Set the clock.
    ("@clock", CLOCK),
    // Name the board.
    ("@hostname", HOSTNAME),
    // Load and unload kernel modules.
    ("@module", MODULE),
    // Priorities of processors and disks.
    ("@priority", PRIORITY),
    // Memory that is not swapped or is shared.
    ("@memory-lock", MEMORY_LOCK),
    // Io_uring.
    ("@io-uring", IO_URING),
];

/// What is wrong with another name.
pub const GROUPS_REMEDY: &str = "write @basic-io, @file-write, @owner, @network, @process, @setuid, @mount, @clock, @hostname, @module, @priority, @memory-lock or @io-uring";

/// The calls of a group, or `None` when there is none of that name.
pub fn group(name: &str) -> Option<&'static [Call]> {
    GROUPS.iter().find(|(known, _)| *known == name).map(|(_, calls)| *calls)
}

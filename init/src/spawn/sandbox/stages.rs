//! Every step between fork and exec that can be made to fail, made to fail: the parent hears its name and the
//! kernel's reason.

use super::super::{NOT_EXECUTED, Program, Started, explain, limits};
use super::*;
use crate::cgroup::{Group, Setting};
use goblin_init_core::limits::Limits;
use goblin_init_core::unit;
use rustix::fs::{Mode, OFlags};
use std::os::fd::AsFd;

/// A sandbox that takes nothing away.
fn wide() -> Sandbox {
    let text = "description = 'd'\nkind = 'service'\nexec = ['/x']\n[sandbox]\nuser = 'root'\nmounts = 'host'\n\
        network = 'host'\nlandlock = false\nprivate_tmp = false\nhide_proc = false\nprivate_dev = false\n\
        private_uts = false\nprivate_ipc = false\nread_only = false\n";
    *unit::parse("x", text).unwrap().sandbox.unwrap()
}

/// `BPF_RET | BPF_K` with `SECCOMP_RET_ALLOW`.
const ALLOW: libc::sock_filter = libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0x7fff_0000 };

fn prepared(sandbox: &Sandbox) -> Prepared {
    let own = "/run/goblin-stages";
    Prepared {
        mounts: mounts::Prepared::new(sandbox, Path::new(own)).unwrap(),
        user: sandbox.user.id(),
        groups: Vec::new(),
        // All that there are: it is the step that fails, not its means.
        capabilities: rustix::thread::capabilities(None).unwrap().permitted,
        landlock: landlock::Prepared::new(sandbox, "/run", own).unwrap(),
        filter: vec![ALLOW],
    }
}

fn program(sandbox: Option<Prepared>) -> Program {
    let exec = ["/bin/true".to_owned()];
    Program { sandbox, ..Program::helper(&exec).unwrap() }
}

/// What the parent hears, and the child's exit status.
fn outcome(program: &Program) -> (Started, i32) {
    let child = program.start().unwrap();
    let pid = rustix::process::Pid::from_raw(child.pid.cast_signed());
    let ended = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()).unwrap();
    (explain(child.status.as_fd()), ended.unwrap().1.exit_status().unwrap_or(-1))
}

fn fails(program: &Program, stage: &str, errno: i32) {
    let why = std::io::Error::from_raw_os_error(errno);
    let expected = Started::Failed(format!("not started: {stage}: {why}"));
    assert_eq!(outcome(program), (expected, NOT_EXECUTED), "{stage}");
}

#[test]
fn each_step_that_fails_is_named_with_its_reason() {
    if !rustix::process::getuid().is_root() {
        return println!("skipped 1: only root can put a sandbox on");
    }
    // Nothing fails: so what fails below does for the reason given.
    assert_eq!(outcome(&program(Some(prepared(&wide())))), (Started::Executed, 0));

    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let no_group = |settings| {
        let folder = rustix::fs::open("/", flags, Mode::empty()).unwrap();
        Program { cgroup: Some(Group { folder, settings }), ..program(None) }
    };
    fails(&no_group(Vec::new()), "cgroup", libc::ENOENT);
    // A limit that a unit needs and that cannot be set, for the kernel takes no writes to a folder.
    let limit = |needed| Setting { file: c"proc".into(), value: "1".into(), needed };
    fails(&no_group(vec![limit(true)]), "cgroup", libc::EISDIR);
    fails(&no_group(vec![limit(false)]), "cgroup", libc::ENOENT);

    let too_many = Limits { nofile: Some(u32::MAX), ..Limits::default() };
    let limits = limits::Prepared::new(&too_many).unwrap();
    fails(&Program { limits, ..program(None) }, "limits", libc::EPERM);

    let sandbox = prepared(&wide());
    let mounts = sandbox.mounts.impossible();
    fails(&program(Some(Prepared { mounts, ..sandbox })), "namespaces", libc::EINVAL);

    let long = format!("/{}", "x".repeat(5000));
    let mut walled = wide();
    walled.mounts = goblin_init_core::sandbox::Mounts::Private;
    walled.read_only = true;
    walled.write_paths.push(long.clone());
    let walled = program(Some(prepared(&walled)));
    // Where this host's root is no mount, as in a chroot, the first call is refused already.
    let Started::Failed(why) = outcome(&walled).0 else { panic!("a path that no kernel takes") };
    if why != format!("not started: mounts: {}", std::io::Error::from_raw_os_error(libc::EINVAL)) {
        fails(&walled, "mounts", libc::ENAMETOOLONG);
    }

    // One that no kernel knows.
    let capabilities = CapabilitySet::from_bits_retain(1 << 63);
    fails(
        &program(Some(Prepared { capabilities, ..prepared(&wide()) })),
        "capabilities",
        libc::EINVAL,
    );

    // More than the kernel's `NGROUPS_MAX`.
    let groups = (0..70_000).map(Gid::from_raw).collect();
    fails(&program(Some(Prepared { groups, ..prepared(&wide()) })), "user", libc::EINVAL);

    let mut walled = wide();
    walled.landlock = true;
    walled.read_paths.push(long);
    fails(&program(Some(prepared(&walled))), "landlock", libc::ENAMETOOLONG);

    let filter = Vec::new();
    fails(&program(Some(Prepared { filter, ..prepared(&wide()) })), "seccomp", libc::EINVAL);

    let exec = ["/no/such/program".to_owned()];
    let absent = Program { sandbox: Some(prepared(&wide())), ..Program::helper(&exec).unwrap() };
    fails(&absent, "exec", libc::ENOENT);
}

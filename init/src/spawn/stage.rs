//! The steps between fork and exec, and how the child tells which one failed.

use std::io;
use std::os::fd::BorrowedFd;

/// A step between fork and exec. Its number goes over the status pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    Signals = 1,
    Session,
    Cgroup,
    Descriptors,
    Limits,
    Namespaces,
    Mounts,
    Devices,
    User,
    Capabilities,
    Privileges,
    Landlock,
    Seccomp,
    Exec,
}

impl Stage {
    const ALL: [Self; 14] = [
        Self::Signals,
        Self::Session,
        Self::Cgroup,
        Self::Descriptors,
        Self::Limits,
        Self::Namespaces,
        Self::Mounts,
        Self::Devices,
        Self::User,
        Self::Capabilities,
        Self::Privileges,
        Self::Landlock,
        Self::Seccomp,
        Self::Exec,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Signals => "signals",
            Self::Session => "session",
            Self::Cgroup => "cgroup",
            Self::Descriptors => "descriptors",
            Self::Limits => "limits",
            Self::Namespaces => "namespaces",
            Self::Mounts => "mounts",
            Self::Devices => "devices",
            Self::User => "user",
            Self::Capabilities => "capabilities",
            Self::Privileges => "privileges",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
            Self::Exec => "exec",
        }
    }
}

/// A step that failed, with the kernel's reason.
pub(super) type Failed = (Stage, rustix::io::Errno);

/// Names the step of a failure.
pub(super) fn at<T>(stage: Stage, result: rustix::io::Result<T>) -> Result<T, Failed> {
    result.map_err(|errno| (stage, errno))
}

/// The failure as the status pipe carries it: `stage[1] errno[4]`, little endian.
pub(super) fn word((stage, errno): Failed) -> [u8; 5] {
    let [a, b, c, d] = errno.raw_os_error().to_le_bytes();
    [stage as u8, a, b, c, d]
}

/// What came over the status pipe.
#[derive(Debug, PartialEq, Eq)]
pub enum Started {
    /// The program runs.
    Executed,
    /// It does not; the sentence names the step and the kernel's error.
    Failed(String),
    /// Not known yet.
    Unknown,
}

/// Reads a status pipe that is ready.
pub fn explain(status: BorrowedFd<'_>) -> Started {
    let mut word = [0u8; 5];
    match rustix::io::read(status, &mut word) {
        Ok(0) => Started::Executed,
        Ok(_) => {
            let [stage, errno @ ..] = word;
            let errno = io::Error::from_raw_os_error(i32::from_le_bytes(errno));
            let stage = Stage::ALL.into_iter().find(|known| *known as u8 == stage);
            Started::Failed(format!(
                "not started: {}: {errno}",
                stage.map_or("unknown step", Stage::name)
            ))
        }
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Started::Unknown,
        Err(err) => Started::Failed(format!("not started: no word from the child: {err}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn every_step_has_its_name_on_the_other_side() {
        for stage in Stage::ALL {
            let (read, write) = rustix::pipe::pipe().unwrap();
            rustix::io::write(&write, &word((stage, rustix::io::Errno::PERM))).unwrap();
            let expected = format!("not started: {}: Operation not permitted", stage.name());
            let Started::Failed(text) = explain(read.as_fd()) else { panic!("{stage:?}") };
            assert!(text.starts_with(&expected), "{text}");
        }
    }
}

//! Limits that a process carries itself: rlimits, priority, its place in the queue of the OOM killer.

use goblin_init_core::limits::Limits;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit};
use std::ffi::CString;
use std::io;

/// The limits, ready to be set.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    rlimits: Vec<(Resource, u64)>,
    nice: Option<i32>,
    oom_score_adj: Option<CString>,
}

impl Prepared {
    pub(super) fn new(limits: &Limits) -> io::Result<Self> {
        let core = limits.core_mib.map_or(0, |mib| u64::from(mib).saturating_mul(1 << 20));
        let mut rlimits = vec![(Resource::Core, core)];
        rlimits.extend(limits.nofile.map(|count| (Resource::Nofile, u64::from(count))));
        let lock = limits.memlock_kib.map(|kib| u64::from(kib).saturating_mul(1024));
        rlimits.extend(lock.map(|bytes| (Resource::Memlock, bytes)));
        let score = limits.oom_score_adj.map(|score| CString::new(score.to_string()));
        Ok(Self {
            rlimits,
            nice: limits.nice.map(i32::from),
            oom_score_adj: score.transpose().map_err(io::Error::from)?,
        })
    }

    /// In the child, while it is still root: only root may raise a limit.
    pub(super) fn set(&self) -> rustix::io::Result<()> {
        for (resource, value) in &self.rlimits {
            let limit = Rlimit { current: Some(*value), maximum: Some(*value) };
            rustix::process::setrlimit(*resource, limit)?;
        }
        if let Some(nice) = self.nice {
            rustix::process::setpriority_process(None, nice)?;
        }
        if let Some(score) = &self.oom_score_adj {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let file = rustix::fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty())?;
            rustix::io::write(&file, score.to_bytes())?;
        }
        Ok(())
    }
}

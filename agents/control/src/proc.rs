//! Facts that the kernel tells: memory, uptime, boot id, release. Pure readers of its text, and the
//! files they come from. A file that cannot be read or understood counts as zero or empty: a status
//! with a gap is worth more than none.

use goblin_core_types::MemoryStatus;
use std::path::Path;

/// Longest text taken from one file under `/proc`, in bytes.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// What the kernel says about itself and the running boot.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KernelFacts {
    /// `uname -r`.
    pub release: String,
    /// Random identity of this boot.
    pub boot_id: String,
    /// Seconds since the kernel started.
    pub uptime_s: u64,
    /// Memory in use.
    pub memory: MemoryStatus,
    /// Host name.
    pub host: String,
}

impl KernelFacts {
    /// Reads them from `/proc`.
    pub fn read() -> Self {
        let meminfo = text("/proc/meminfo");
        Self {
            release: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            boot_id: goblin_sys::board::boot_id(),
            uptime_s: uptime_s(),
            memory: MemoryStatus {
                total_kib: kib_of(&meminfo, "MemTotal"),
                available_kib: kib_of(&meminfo, "MemAvailable"),
                pid1_rss_kib: kib_of(&text("/proc/1/status"), "VmRSS"),
            },
            host: text("/proc/sys/kernel/hostname").trim().to_owned(),
        }
    }
}

/// Seconds since the kernel started.
pub fn uptime_s() -> u64 {
    parse_uptime_s(&text("/proc/uptime"))
}

fn parse_uptime_s(text: &str) -> u64 {
    text.split(['.', ' ']).next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// The number of the line `KEY: NUMBER kB` of `/proc/meminfo` or `/proc/PID/status`.
fn kib_of(text: &str, key: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| *name == key)
        .and_then(|(_, rest)| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

fn text(path: &str) -> String {
    let bytes =
        goblin_sys::files::read_bounded(Path::new(path), TEXT_BYTES_MAX).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_whole_key() {
        let meminfo = "MemTotal:       16000 kB\nMemFree: 5 kB\nMemAvailable:   12 kB\n";
        assert_eq!(kib_of(meminfo, "MemAvailable"), 12);
        assert_eq!(kib_of(meminfo, "Mem"), 0);
        assert_eq!(kib_of("MemTotal: x kB", "MemTotal"), 0);
    }

    #[test]
    fn uptime_is_whole_seconds() {
        assert_eq!(parse_uptime_s("351.97 12.00\n"), 351);
        assert_eq!(parse_uptime_s(""), 0);
    }

    #[test]
    fn the_running_kernel_answers() {
        let facts = KernelFacts::read();
        assert!(!facts.release.is_empty());
        assert_eq!(facts.boot_id.len(), 36);
        assert!(facts.memory.total_kib > facts.memory.available_kib);
    }
}

//! preinit: the first program, in the initramfs. Arms the watchdog, opens an attempt in the boot record,
//! mounts the base image and hands over to the PID 1 inside it.
//!
//! The watchdog comes first: from here on every hang ends in a reset, and the loader counts the try. The
//! rest of the kernel's file systems are moved, not mounted again, so that the base sees them as they
//! are. When something fails, the reason is written down where possible and the program ends: the kernel
//! panics, and `panic=5` reboots.

use crate::record;
use goblin_core_types::{DiskLabel, FailReason, Version};
use goblin_core_update::mirror::{BootPlan, boot_plan};
use goblin_sys::mount::{self, MountFlags};
use goblin_sys::record::RecordPartition;
use goblin_sys::watchdog::{self, Watchdog};
use goblin_sys::{block, efivar, mirror as disks, reboot};
use rustix::event::{PollFd, PollFlags};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The base image in the initramfs; its presence makes this program preinit.
pub const BASE_IMAGE: &str = "/base.erofs";
/// Where the base is mounted before it becomes the root.
const BASE: &str = "/root";
/// PID 1 of the base.
const INIT: &str = "/usr/lib/goblin/init";
/// The kernel's own file systems, handed on to the base.
const HANDED_ON: [&str; 4] = ["/proc", "/sys", "/dev", "/run"];
/// Word with which this program opens the attempt.
pub const ATTEMPT_WORD: &str = "attempt";
/// Environment of PID 1: preinit ran, and these mounts are there.
pub const ENV_MOUNTED: &str = "GOBLIN_MOUNTED";
/// Environment of PID 1: descriptor of the armed watchdog.
pub const ENV_WATCHDOG: &str = "GOBLIN_WATCHDOG_FD";
/// Environment of PID 1: number of the attempt in the boot record.
pub const ENV_ATTEMPT: &str = "GOBLIN_ATTEMPT";
/// Time after which an unfed watchdog resets the board.
pub const WATCHDOG_TIMEOUT_S: u32 = 60;
/// Patience with a system disk that shows up late.
const DISK_WAIT: Duration = Duration::from_secs(10);
/// Patience with a disk that is there and does not answer: a board without its record still boots, and is not reset
/// for ever by the watchdog that nobody feeds meanwhile.
const ATTEMPT_WAIT: Duration = Duration::from_secs(25);
/// Longest number of an attempt, in bytes.
const ATTEMPT_BYTES_MAX: usize = 20;
/// Patience with the other one of two system disks.
const OTHER_DISK_WAIT: Duration = Duration::from_secs(3);
/// Pause between two looks for the disk.
const DISK_POLL: Duration = Duration::from_millis(20);

/// Why preinit could not hand over.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {source}")]
struct HandOverError {
    doing: String,
    source: io::Error,
}

fn doing<T>(what: impl Into<String>, result: io::Result<T>) -> Result<T, HandOverError> {
    result.map_err(|source| HandOverError { doing: what.into(), source })
}

/// Runs preinit. Returns only when it failed; the process must then end.
pub fn run() {
    // Nothing can be told before /dev is there, and everything else is worth trying without it.
    let _ = mount_kernel("devtmpfs", "/dev", MountFlags::NOSUID, "mode=0755");
    let watchdog = arm();
    say("goblin-preinit: start");
    let mut record = None;
    let Err(err) = prepare(&mut record).and_then(|attempt| hand_over(watchdog.as_ref(), attempt));
    say(&format!("goblin-preinit: {err}"));
    if let Some(partition) = record {
        let reason = FailReason::HandOver { message: err.to_string() };
        if let Err(err) = partition.update(|record| record::fail(record, reason, Vec::new())) {
            say(&format!("goblin-preinit: boot record: {err}"));
        }
    }
}

/// A line in the kernel's log. Opened for each of the few lines: there is no state to keep.
fn say(text: &str) {
    crate::kmsg::Kmsg::open().say(0, text);
}

/// Mounts one of the kernel's file systems; that it is there already is fine.
pub fn mount_kernel(fs_type: &str, target: &str, flags: MountFlags, data: &str) -> io::Result<()> {
    match mount::mount(fs_type, target, fs_type, flags, data) {
        Err(err) if err.raw_os_error() == Some(libc::EBUSY) => Ok(()),
        other => other,
    }
}

/// Arms the watchdog. A board without one works, only worse.
pub fn arm() -> Option<Watchdog> {
    let watchdog = Watchdog::open(Path::new(watchdog::DEVICE)).ok()?;
    // A driver with a fixed timeout is armed all the same.
    let _ = watchdog.set_timeout(WATCHDOG_TIMEOUT_S);
    Some(watchdog)
}

/// Mounts the rest, opens the attempt; returns its number.
fn prepare(record: &mut Option<RecordPartition>) -> Result<Option<u64>, HandOverError> {
    let strict = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    doing("mount /proc", mount_kernel("proc", "/proc", strict, ""))?;
    doing("mount /sys", mount_kernel("sysfs", "/sys", strict, ""))?;
    let private = MountFlags::NOSUID | MountFlags::NODEV;
    doing("mount /run", mount_kernel("tmpfs", "/run", private, "mode=0755,size=32m"))?;
    if let Err(err) = efivar::mount_efivarfs() {
        say(&format!("goblin-preinit: mount efivarfs: {err}"));
    }
    if efivar::loader_device_part_uuid().is_none() {
        return Ok(None);
    }
    // A board whose record cannot be reached boots all the same: the record explains, it does not decide.
    match attempt_of_child() {
        Ok(boot) => {
            // The disk has just answered.
            *record = goblin_sys::record::find().ok().flatten();
            Ok(Some(boot))
        }
        Err(err) => {
            say(&format!("goblin-preinit: boot record: {err}"));
            Ok(None)
        }
    }
}

/// Lets a child open the attempt, and waits for its number. A disk that never answers holds the child, which PID 1
/// inherits, and not the boot.
fn attempt_of_child() -> io::Result<u64> {
    let mut child = Command::new("/proc/self/exe")
        .arg(ATTEMPT_WORD)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let Some(out) = child.stdout.take() else { return Err(io::ErrorKind::BrokenPipe.into()) };
    let number = read_number(&out, ATTEMPT_WAIT)?;
    // Its answer is its last act, so this does not take long.
    let _ = child.wait();
    number.ok_or_else(|| io::Error::other("the record was not written"))
}

/// The number that a pipe brings until its end; `None` when that is no number.
fn read_number(pipe: &impl AsFd, patience: Duration) -> io::Result<Option<u64>> {
    let start = Instant::now();
    let mut text = Vec::new();
    while text.len() <= ATTEMPT_BYTES_MAX {
        let left = patience.saturating_sub(start.elapsed());
        let left = rustix::time::Timespec::try_from(left).unwrap_or_default();
        let mut fds = [PollFd::new(pipe, PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&left)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(err) => return Err(err.into()),
        }
        let mut room = [0; ATTEMPT_BYTES_MAX];
        match rustix::io::read(pipe, &mut room)? {
            0 => break,
            count => text.extend_from_slice(room.get(..count).unwrap_or_default()),
        }
    }
    Ok(std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok()))
}

/// In the child: opens the attempt in the boot record and says its number.
///
/// # Errors
/// The disk's, or that it is not there.
pub fn open_attempt() -> io::Result<()> {
    let record = wait_for_record()?;
    // Before anything is written to this disk: it may be the older one of two.
    if let Err(err) = look_at_both_disks() {
        say(&format!("goblin-preinit: the other system disk: {err}"));
    }
    let boot = begin(&record)?;
    writeln!(io::stdout(), "{boot}")
}

/// The record's partition, as soon as its disk is there.
fn wait_for_record() -> io::Result<RecordPartition> {
    let start = Instant::now();
    loop {
        match goblin_sys::record::find() {
            Ok(Some(partition)) => return Ok(partition),
            Ok(None) => return Err(io::ErrorKind::NotFound.into()),
            Err(err) if start.elapsed() > DISK_WAIT => return Err(err),
            Err(_) => std::thread::sleep(DISK_POLL),
        }
    }
}

/// On a board with two system disks: a board that was started from the older one starts again from the newer one. What
/// the other disk knows of earlier boots is taken over where both are as new.
fn look_at_both_disks() -> io::Result<()> {
    let Some(esp) = efivar::loader_device_part_uuid() else { return Ok(()) };
    let Some(disk) = block::system_disk(&esp)? else { return Ok(()) };
    let Some(label) = disks::label_of(&disk)? else { return Ok(()) };
    let Some(other) = disks::await_other(&disk, &label, OTHER_DISK_WAIT)? else { return Ok(()) };
    match boot_plan(Some(&label), Some(&other.label)) {
        BootPlan::SendOn => {
            say("goblin-preinit: this system disk is older than the other one: starting from that");
            // Counted first: a firmware that does not do it is not asked for ever.
            let sent_on = label.sent_on.saturating_add(1);
            disks::write_label(&disk, &DiskLabel { sent_on, ..label })?;
            disks::boot_next(&other.disk)?;
            Err(reboot::reboot())
        }
        BootPlan::Together => disks::carry_record(&other.disk, &disk).map(drop),
        _ => Ok(()),
    }
}

fn begin(partition: &RecordPartition) -> io::Result<u64> {
    let entry = efivar::loader_boot_count_path();
    let trial = entry.is_some();
    let version: Version = entry
        .or_else(efivar::loader_entry_selected)
        .and_then(|entry| record::version_of_entry(&entry))
        .unwrap_or(record::UNKNOWN);
    let watchdog = watchdog::has_reset();
    partition.update(|record| {
        if watchdog {
            record::blame_watchdog(record);
        }
        record::begin_attempt(record, version, trial, record::now_unix_s());
        record.boot_count
    })
}

/// Makes the base the root and runs its PID 1. Never returns without an error.
fn hand_over(
    watchdog: Option<&Watchdog>,
    attempt: Option<u64>,
) -> Result<std::convert::Infallible, HandOverError> {
    let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID;
    doing("mount the base image", mount::mount(BASE_IMAGE, BASE, "erofs", flags, ""))?;
    for directory in HANDED_ON {
        let to = format!("{BASE}{directory}");
        doing(format!("move {directory}"), mount::move_mount(directory, to))?;
    }
    // Its memory is freed when exec replaces the running program; the base image stays, it is the root.
    let _ = std::fs::remove_file("/init");
    doing("enter the base image", std::env::set_current_dir(BASE))?;
    doing("move the root", mount::move_mount(".", "/"))?;
    doing("change the root", rustix::process::chroot(".").map_err(io::Error::from))?;
    doing("enter the root", std::env::set_current_dir("/"))?;
    let mut init = Command::new(INIT);
    init.env_clear().env(ENV_MOUNTED, "1");
    if let Some(boot) = attempt {
        init.env(ENV_ATTEMPT, boot.to_string());
    }
    if let Some(watchdog) = watchdog {
        let _ = watchdog.keepalive();
        doing("keep the watchdog", watchdog.keep_over_exec())?;
        init.env(ENV_WATCHDOG, watchdog.as_fd().as_raw_fd().to_string());
    }
    doing(format!("run {INIT}"), Err(init.exec()))
}

/// Ends a boot that cannot go on: at once, where the kernel allows it.
pub fn give_up() -> ! {
    // The panic that follows the end of PID 1 reboots after five seconds; this is only quicker.
    std::thread::sleep(Duration::from_secs(5));
    let _ = reboot::reboot();
    std::process::exit(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_waited_for_and_not_for_ever() {
        let (soon, later) = (Duration::from_millis(50), Duration::from_secs(60));
        let (read, write) = rustix::pipe::pipe().unwrap();
        let silent = read_number(&read, soon).unwrap_err();
        assert_eq!(silent.kind(), io::ErrorKind::TimedOut);
        rustix::io::write(&write, b"41").unwrap();
        assert!(read_number(&read, soon).is_err(), "its end has to come too");
        rustix::io::write(&write, b"42\n").unwrap();
        drop(write);
        assert_eq!(read_number(&read, later).unwrap(), Some(42));
        for (odd, expected) in [("", None), ("many", None), ("184467440737095516150", None)] {
            let (read, write) = rustix::pipe::pipe().unwrap();
            rustix::io::write(&write, odd.as_bytes()).unwrap();
            drop(write);
            assert_eq!(read_number(&read, later).unwrap(), expected, "{odd}");
        }
    }
}

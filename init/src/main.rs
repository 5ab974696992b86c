//! goblin-init: the first two programs of a board, in one binary.
//!
//! - In the initramfs it is **preinit** ([`preinit`]): arms the hardware watchdog, opens an attempt in the
//!   boot record, mounts the base image, hands over.
//! - In the base image it is **PID 1** ([`runtime`]): starts units in the order of their dependencies
//!   ([`goblin_init_core`]), starts them again when they end, keeps their logs, judges a trial boot, and ends the
//!   board in order. Without a base image beside it, as in benchmarks, it is PID 1 at once.
//! - As a child of PID 1 it writes the boot record (`record JOB`) and takes file systems away at the end
//!   (`finish`), so that PID 1 never waits for a disk; mounts what mount units name (`mount`, `unmount`); and
//!   reads and writes what people set of units (`settings`).
//!
//! What it does **not** do: it configures no network, mounts no disk, loads no module, knows no role by
//! heart, and has no shell. It is called by the kernel, and by nobody else.
//!
//! Invariants: one thread; after the start nothing blocks; every buffer, queue and time has a limit; a
//! panic of PID 1 is a kernel panic, so nothing here panics on what comes from outside; a unit starts only
//! when all that it requires is ready, and never again before its pause is over; a shutdown ends within
//! the sum of its limits whatever the units do.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod boot;
mod cgroup;
mod ending;
mod finish;
mod kmsg;
mod memory;
mod mounting;
mod peer;
mod power;
mod preinit;
mod record;
mod runtime;
mod settings;
mod spawn;
mod uevents;
mod units;

use goblin_core_types::{LogLevel, paths};
use goblin_init::{control, log_ring};
use goblin_init_core::supervise;
use goblin_init_core::unit::Loaded;
use goblin_sys::efivar;
use goblin_sys::watchdog::Watchdog;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    match (std::process::id(), words.as_slice()) {
        // The kernel hands words of its command line that it does not know on to PID 1.
        (1, _) => {
            write_panics_to_the_kernels_log();
            if Path::new(preinit::BASE_IMAGE).exists() {
                preinit::run();
                preinit::give_up()
            }
            pid_1()
        }
        (_, ["record", job]) => write_record(job),
        (_, [preinit::ATTEMPT_WORD]) => told(preinit::open_attempt()),
        (_, ["finish"]) => {
            finish::run();
            ExitCode::SUCCESS
        }
        (_, ["mount", what, target, fs_type, options]) => {
            told(mounting::mount(what, target, fs_type, options))
        }
        (_, ["unmount", target]) => told(mounting::unmount(target)),
        (_, ["settings", "read"]) => told(settings::read()),
        (_, ["settings", "write", unit, text]) => told(settings::write(unit, text)),
        _ => {
            eprintln!(
                "goblin-init is started by the kernel as process 1; ask a running board with `goblin`"
            );
            ExitCode::from(2)
        }
    }
}

fn told(done: std::io::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("{err}");
            ExitCode::FAILURE
        }
    }
}

fn write_record(job: &str) -> ExitCode {
    let done = serde_json::from_str(job).map_err(std::io::Error::from).and_then(record::run);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("boot record: {err}");
            ExitCode::FAILURE
        }
    }
}

/// The kernel panics when PID 1 ends; this line is then among the last ones it saves.
fn write_panics_to_the_kernels_log() {
    std::panic::set_hook(Box::new(|info| {
        kmsg::Kmsg::open().say(0, &format!("goblin-init: {info}"));
    }));
}

fn pid_1() -> ! {
    memory::be_frugal();
    let start_ms = runtime::now_ms();
    let mounted = std::env::var_os(preinit::ENV_MOUNTED).is_some();
    let attempt = std::env::var(preinit::ENV_ATTEMPT).ok().and_then(|boot| boot.parse().ok());
    let problems = boot::prepare(mounted);
    let watchdog = inherited_watchdog().or_else(preinit::arm);
    kmsg::Kmsg::open().say(start_ms, "goblin-init: start");

    let has_record = efivar::loader_device_part_uuid().is_some();
    let entry = efivar::loader_boot_count_path();
    let trial = entry.is_some();
    let last_resort = entry.as_deref().is_some_and(record::is_last_resort);
    let (units, refused, unreadable) = match units::load_dir(Path::new(paths::UNITS)) {
        Ok(Loaded { units, refused }) => (units, refused, None),
        Err(err) => (Vec::new(), Vec::new(), Some(format!("{}: {err}", paths::UNITS))),
    };
    let refused: Vec<_> = refused.into_iter().map(|(name, err)| (name, err.to_string())).collect();
    let lines: Vec<String> = problems
        .into_iter()
        .chain(unreadable)
        .chain(refused.iter().map(|(_, why)| why.clone()))
        .collect();

    let boot = supervise::Boot { trial, last_resort, start_ms };
    let supervisor = supervise::Supervisor::new(units, refused, boot);
    match runtime::Runtime::new(supervisor, start_ms, has_record) {
        Ok(mut runtime) => {
            runtime.watchdog = watchdog;
            if trial {
                runtime.say(LogLevel::Info, "this boot is a trial");
            }
            if last_resort {
                runtime.say(LogLevel::Warn, "no release has tries left: this one stays up");
            }
            for line in lines {
                runtime.say(LogLevel::Error, &line);
            }
            memory::give_back();
            runtime.run(attempt)
        }
        Err(err) => {
            kmsg::Kmsg::open().say(0, &format!("goblin-init: cannot run: {err}"));
            preinit::give_up()
        }
    }
}

/// The watchdog that preinit armed.
fn inherited_watchdog() -> Option<Watchdog> {
    let number: i32 = std::env::var(preinit::ENV_WATCHDOG).ok()?.parse().ok()?;
    spawn::inherited(number).map(Watchdog::from_fd)
}

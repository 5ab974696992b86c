//! `cargo xtask run`: the whole box under QEMU, followed until Ctrl-C; and `cargo xtask goblin`, which
//! runs the box's own command on its compute board.
//!
//! One box at a time: a lock beside its folder is held while it runs. The machines die with this process,
//! however it ends; ended in order (Ctrl-C, or the compute board switched off by itself), both boards are
//! switched off in order too.

mod follow;
mod proxy;
mod words;

use crate::lab::{self, Lab, LabSpec, Ports};
use crate::release::{self, ReleaseSpec};
use crate::{host, setup};
use anyhow::{Context, Result, bail};
use follow::Boards;
use goblin_core_types::{Role, Version};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// Folder of the box that `run` keeps between runs, from the workspace's folder: short, for sockets.
const RUN_DIR: &str = "target/run";
/// Size of each of the two data disks; sparse.
const DATA_DISK_BYTES: u64 = 16 << 30;
/// Room that building and the first hours of a box take on the host, in bytes.
const ROOM_BYTES: u64 = 2 << 30;
/// Longest a board may take to switch itself off; one that still starts has to come up first.
const OFF_LIMIT: Duration = Duration::from_secs(120);

/// Builds everything and runs the box: two boards under QEMU, until Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask run                                    the box, its screen by VNC
  cargo xtask run --fresh                            new disks, as from the factory
  cargo xtask run --headless --screenshot box.png --until-healthy

The box is kept in target/run. GOBLIN_QEMU_ACCEL=kvm (or tcg) chooses QEMU's accelerator; otherwise KVM \
is tried once and used where a guest starts under it.")]
pub struct Args {
    /// Start over: forget the disks, the keys and everything stored in the box.
    #[arg(long)]
    fresh: bool,
    /// No VNC server for the compute board's screen.
    #[arg(long)]
    headless: bool,
    /// Write a PNG of the compute board's screen once both boards are healthy.
    #[arg(long, value_name = "FILE")]
    screenshot: Option<PathBuf>,
    /// Stop the box again once both boards are healthy.
    #[arg(long)]
    until_healthy: bool,
    /// Install missing host packages without asking.
    #[arg(long)]
    yes: bool,
}

/// Runs a `goblin` command on the compute board of the box that `cargo xtask run` keeps running.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask goblin status
  cargo xtask goblin upgrade
  cargo xtask goblin logs --board storage --follow")]
pub struct GoblinArgs {
    /// The command and its arguments, as `goblin --help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

/// `cargo xtask goblin ...`
///
/// # Errors
/// When no box runs, or it does not answer.
pub fn goblin(args: &GoblinArgs) -> Result<()> {
    enter_root()?;
    let code = proxy::ask(&proxy_socket(Path::new(RUN_DIR)), &args.arguments)?;
    std::process::exit(code);
}

fn proxy_socket(dir: &Path) -> PathBuf {
    dir.join("goblin.sock")
}

/// The box's paths are short from the workspace's folder, and the same wherever the command is called.
fn enter_root() -> Result<()> {
    let root = host::root();
    std::env::set_current_dir(&root).with_context(|| format!("cannot enter {}", root.display()))
}

/// `cargo xtask run`
///
/// # Errors
/// When the box cannot be built or started, or a board does not become healthy.
pub fn run(args: &Args) -> Result<()> {
    let screenshot = args.screenshot.as_ref().map(std::path::absolute).transpose()?;
    let shown_from = std::env::current_dir()?;
    enter_root()?;
    let _claim = host::claim(
        &host::target("")?.join("run.lock"),
        "a box is running already; ask it with `cargo xtask goblin status`, or stop it with Ctrl-C \
         where it was started",
    )?;
    setup::ensure(setup::Purpose::Run, args.yes)?;
    let dir = PathBuf::from(RUN_DIR);
    if args.fresh && dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("cannot clear {}", dir.display()))?;
    }
    std::fs::create_dir_all(&dir)?;
    host::need_room(&dir, ROOM_BYTES)?;
    let stop = stop_on_signals()?;
    let repository = dir.join("www");
    let ports = Ports::of(&dir)?.settled(&dir, !args.headless)?;
    let lab = prepare(args, &dir, &repository, ports)?;
    let web = lab::serve(&repository, ports)?;
    host::say("starting both boards: 10 s with KVM, about a minute without");
    stop.boards_run();
    let storage = lab.start(Role::Storage)?;
    let compute = lab.start(Role::Compute)?;
    let channel = Arc::new(compute.channel()?);
    proxy::serve(&proxy_socket(&dir), Arc::clone(&channel))?;
    let mut boards = Boards { compute, storage };
    let view = words::View { lab: &lab, headless: args.headless, shown_from: &shown_from };
    let followed = boards.follow(&view, &channel, &stop, screenshot.as_deref(), args.until_healthy);
    println!("Stopping both boards.");
    let stopped = boards.stop();
    // Nobody is there to answer now.
    let _ = std::fs::remove_file(proxy_socket(&dir));
    drop(web);
    followed.and(stopped)
}

fn prepare(args: &Args, dir: &Path, repository: &Path, ports: Ports) -> Result<Lab> {
    let first = Version::new(1, 0, 0);
    let image = release::published_image(repository, first).map_or_else(
        || {
            let notes = "Two boards, one share, upgrades that come back by themselves.";
            release::publish(&ReleaseSpec::new(first, notes), repository).map(|built| built.image)
        },
        Ok,
    )?;
    let spec = LabSpec {
        dir: dir.into(),
        image,
        trust_root: release::trust_root(repository)?,
        data_disk_bytes: DATA_DISK_BYTES,
        data_disks: 2,
        vnc: !args.headless,
        update_url: lab::guest_url(ports),
        box_name: "my goblin box".into(),
    };
    Lab::prepare(spec, ports)
}

/// What the person wants, as far as signals tell.
#[derive(Debug, Default)]
struct Stop(AtomicU8);

impl Stop {
    const BUILDING: u8 = 0;
    const RUNNING: u8 = 1;
    const STOPPING: u8 = 2;

    /// From now on the first signal stops in order.
    fn boards_run(&self) {
        self.0.store(Self::RUNNING, Ordering::SeqCst);
    }

    fn asked(&self) -> bool {
        self.0.load(Ordering::SeqCst) == Self::STOPPING
    }

    /// A signal came.
    fn signal(&self) {
        match self.0.swap(Self::STOPPING, Ordering::SeqCst) {
            Self::RUNNING => println!("\nStopping; press Ctrl-C again to pull both plugs."),
            Self::BUILDING => {
                // Everything built is written under a temporary name first: nothing is half there.
                eprintln!("\nStopped while building; the next run goes on from here.");
                std::process::exit(130);
            }
            // The second time the person means it: the machines die with us, and the boards' disks are
            // made to survive that.
            _ => std::process::exit(130),
        }
    }
}

/// Listens for Ctrl-C and for the word to end.
fn stop_on_signals() -> Result<Arc<Stop>> {
    let stop = Arc::new(Stop::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seen = Arc::clone(&stop);
    std::thread::spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let streams = (
                signal(SignalKind::interrupt()),
                signal(SignalKind::terminate()),
                signal(SignalKind::hangup()),
            );
            let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = streams else { return };
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                seen.signal();
            }
        });
    });
    Ok(stop)
}

/// Says which path to type from where the person is.
fn shown(from: &Path, path: &Path) -> String {
    let absolute = host::root().join(path);
    let short = absolute.strip_prefix(from).unwrap_or(&absolute);
    short.display().to_string()
}

/// Why a box that shall be healthy is not.
fn not_healthy(limit: Duration, shown: &str) -> Result<()> {
    bail!("the boards are not healthy after {} s: {shown}", limit.as_secs())
}

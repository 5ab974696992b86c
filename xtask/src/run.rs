//! `cargo xtask run`: the whole box under QEMU, followed until Ctrl-C; and `cargo xtask goblin`, which
//! runs the box's own command on its compute board.

mod proxy;

use crate::lab::{self, BOOT_LIMIT, Lab, LabSpec, Ports, SHARE};
use crate::release::{self, ReleaseSpec};
use crate::setup;
use anyhow::{Context, Result, bail};
use goblin_core_types::{BoardStatus, BoxStatus, HealthState, Role, Version};
use goblin_tests::channel::Channel;
use goblin_tests::qemu::Board;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Folder of the box that `run` keeps between runs.
const RUN_DIR: &str = "target/run";
/// Size of each of the two data disks; sparse.
const DATA_DISK_BYTES: u64 = 16 << 30;
/// Longest a board may take to switch itself off.
const OFF_LIMIT: Duration = Duration::from_secs(90);

/// Builds everything and runs the box: two boards under QEMU, until Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask run                                    the box, its screen by VNC
  cargo xtask run --fresh                            new disks, as from the factory
  cargo xtask run --headless --screenshot box.png --until-healthy")]
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
    let code = proxy::ask(&proxy_socket(Path::new(RUN_DIR)), &args.arguments)?;
    std::process::exit(code);
}

fn proxy_socket(dir: &Path) -> PathBuf {
    dir.join("goblin.sock")
}

/// `cargo xtask run`
///
/// # Errors
/// When the box cannot be built or started, or a board does not become healthy.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(setup::Purpose::Run, args.yes)?;
    let dir = PathBuf::from(RUN_DIR);
    if args.fresh && dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("cannot clear {}", dir.display()))?;
    }
    std::fs::create_dir_all(&dir)?;
    let stop = stop_on_signals()?;
    let repository = dir.join("www");
    let ports = Ports::of(&dir)?;
    let lab = prepare(args, &dir, &repository, ports)?;
    let web = lab::serve(&repository, ports)?;
    println!("Starting both boards; the first boot takes about a minute without KVM.");
    let storage = lab.start(Role::Storage)?;
    let mut compute = lab.start(Role::Compute)?;
    let channel = Arc::new(compute.channel()?);
    proxy::serve(&proxy_socket(&dir), Arc::clone(&channel))?;
    let followed = follow(args, &lab, &mut compute, &channel, &stop);
    println!("Stopping both boards.");
    let stopped = stop_both(compute, storage);
    drop(web);
    followed.and(stopped)
}

fn prepare(args: &Args, dir: &Path, repository: &Path, ports: Ports) -> Result<Lab> {
    let image = newest_image(repository).map_or_else(
        || {
            let notes = "Two boards, one share, upgrades that come back by themselves.";
            let spec = ReleaseSpec::new(Version::new(1, 0, 0), notes);
            release::publish(&spec, repository).map(|built| built.image)
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

/// The image of the first release in the repository, if one was published there before.
fn newest_image(repository: &Path) -> Option<PathBuf> {
    release::published_image(repository, Version::new(1, 0, 0))
}

/// Becomes true when the person presses Ctrl-C or the process is told to end.
fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seen = Arc::clone(&stop);
    std::thread::spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
            loop {
                tokio::select! {
                    _ = tokio::signal::ctrl_c() => {}
                    _ = terminate.recv() => {}
                }
                if seen.swap(true, Ordering::SeqCst) {
                    // The second time the person means it: the boards' journalled disks survive that.
                    std::process::exit(130);
                }
                println!("\nStopping; press Ctrl-C again to pull both plugs.");
            }
        });
    });
    Ok(stop)
}

fn follow(
    args: &Args,
    lab: &Lab,
    compute: &mut Board,
    channel: &Channel,
    stop: &AtomicBool,
) -> Result<()> {
    let deadline = std::time::Instant::now() + BOOT_LIMIT;
    let mut shown = String::new();
    let mut greeted = false;
    while !stop.load(Ordering::SeqCst) {
        if !compute.is_running() {
            println!("The compute board switched itself off.");
            return Ok(());
        }
        let status = channel.status(Duration::from_secs(10));
        let line = match &status {
            Ok(status) => summary(status),
            Err(_) => "the compute board does not answer (it may be starting)".into(),
        };
        if line != shown {
            println!("{line}");
            shown = line;
        }
        if let Ok(status) = &status
            && !greeted
            && lab::both_healthy(status, None)
        {
            greeted = true;
            println!("{}", screen(args, lab, status));
            if let Some(png) = &args.screenshot {
                shoot(compute, channel, png)?;
            }
            if args.until_healthy {
                return Ok(());
            }
        }
        if !greeted && std::time::Instant::now() > deadline && args.until_healthy {
            bail!("the boards are not healthy after {} s: {shown}", BOOT_LIMIT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(1500));
    }
    Ok(())
}

fn shoot(compute: &mut Board, channel: &Channel, png: &Path) -> Result<()> {
    lab::wait_screen(channel, |text| text.matches("Healthy").count() >= Role::ALL.len())?;
    compute.qmp().screenshot(png)?;
    println!("Screen written to {}", png.display());
    Ok(())
}

fn summary(status: &BoxStatus) -> String {
    let mut parts: Vec<String> = status.boards.iter().map(board_line).collect();
    parts.extend(status.absent.iter().cloned());
    parts.join("   ")
}

fn board_line(board: &BoardStatus) -> String {
    let role = board.role.map_or("board", Role::as_str);
    let version = board.boot.version.map_or_else(|| "?".into(), |version| version.to_string());
    let state = match board.health.state {
        HealthState::Starting => "starting",
        HealthState::Healthy => "healthy",
        HealthState::Degraded => "degraded",
        HealthState::Failing => "failing",
    };
    let trial = if board.boot.trial { ", on trial" } else { "" };
    let wrong = board
        .health
        .checks
        .iter()
        .find(|check| check.state == goblin_core_types::CheckState::Fail)
        .map(|check| format!(" ({}: {})", check.name, check.detail))
        .unwrap_or_default();
    format!("{role}: {state}, release {version}{trial}{wrong}")
}

/// The one screen: what is running and what to try.
fn screen(args: &Args, lab: &Lab, status: &BoxStatus) -> String {
    let dir = &lab.spec().dir;
    let ports = lab.ports;
    let console = if args.headless {
        "no VNC (--headless); cargo xtask goblin screen".to_string()
    } else {
        format!("VNC at 127.0.0.1:{}  (display :{})", 5900 + ports.vnc_display, ports.vnc_display)
    };
    let boards: String = status.boards.iter().map(|b| format!("  {}\n", board_line(b))).collect();
    format!(
        "
  goblinux: your box is running
  -----------------------------
{boards}
  The screen     {console}
  Mount a share  sudo mount -t 9p -o trans=tcp,port={port},version=9p2000.L,\\
                   aname={SHARE},access=any,msize=524312,cache=none 127.0.0.1 /mnt
  Ask the box    cargo xtask goblin status        (also: log, logs, units, --help)
  Upgrade it     cargo xtask release --version 2 --notes \"my change\" --out {repository}
                 cargo xtask goblin upgrade
  Go back        cargo xtask goblin rollback
  Logs           {dir}/compute.serial.log, {dir}/storage.serial.log
  Disks          {dir}/*.img, kept between runs (--fresh starts over)
  Stop           Ctrl-C
",
        port = ports.shares,
        repository = dir.join("www").display(),
        dir = dir.display(),
    )
}

/// Presses both power buttons; storage last, so that the compute board can let go of its shares.
fn stop_both(compute: Board, storage: Board) -> Result<()> {
    let first = compute.power_off(OFF_LIMIT);
    let second = storage.power_off(OFF_LIMIT);
    first.and(second)
}

//! `cargo xtask demo`: the main job, unattended, on any folder: flash, boot, share, upgrade, fall back,
//! roll back. Every step is checked; the first lie ends it.

mod folder;
mod report;
mod source;

use crate::lab::{self, BOOT_LIMIT, Lab, LabSpec, Ports, SHARE};
use crate::release::{self, BuiltRelease, ReleaseSpec};
use crate::{client_guest, host, setup};
use anyhow::{Context, Result, bail, ensure};
use goblin_core_types::{BoxStatus, Role, UpdateOutcome, Version};
use goblin_sys::listing::Entry;
use goblin_tests::channel::{Channel, Output};
use goblin_tests::client::{Client, ClientRequest, SOURCE_DIR, Target};
use goblin_tests::http::Web;
use goblin_tests::qemu::Board;
use report::{Figures, Report};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest an upgrade of both boards may take: two downloads, two rebuilds, two boots.
const UPGRADE_LIMIT: Duration = Duration::from_secs(900);
/// Longest silence of a client that copies or lists.
const CLIENT_LIMIT: Duration = Duration::from_secs(300);

/// Bytes a second that even a slow host's emulation reads over 9P.
const SLOW_BYTES_PER_S: u64 = 1 << 20;

/// Does the main job on a folder of yours, under QEMU, and writes target/demo/report.json.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo xtask demo --input ~/Pictures")]
pub struct Args {
    /// The folder to copy into the box and back; it is only read.
    #[arg(long, value_name = "DIR")]
    pub input: PathBuf,
    /// Where the report, the logs and the screenshots go.
    #[arg(long, value_name = "DIR", default_value = folder::OUT)]
    pub out: PathBuf,
    /// Install missing host packages without asking.
    #[arg(long)]
    pub yes: bool,
}

/// Everything the steps share.
struct Demo {
    out: PathBuf,
    report: Report,
    expected: Vec<Entry>,
    releases: Vec<BuiltRelease>,
    web: Web,
    lab: Lab,
    compute: Board,
    storage: Board,
    channel: Channel,
    client: Client,
}

/// Runs the demonstration.
///
/// # Errors
/// At the first step that fails; the report is written in any case.
pub fn run(args: &Args) -> Result<()> {
    let source = source::check(&args.input)?;
    let (out, _claim) = folder::claim(&args.out, &source.path)?;
    setup::ensure(setup::Purpose::Run, args.yes)?;
    folder::make(&out)?;
    host::need_room(&out, room_bytes(source.bytes))?;
    println!("{}", source.summary());
    let mut report = Report::new(out.join("report.json"));
    let result = play(&source, &out, &mut report);
    report.finish(result.as_ref().err())?;
    match &result {
        Ok(()) => println!("\nEvery step held. Report: {}", out.join("report.json").display()),
        Err(_) => println!("\nThe demonstration failed. Logs: {}", out.display()),
    }
    result
}

/// Room on the host: the folder on both data disks, releases, and the boards' system disks.
fn room_bytes(source_bytes: u64) -> u64 {
    source_bytes.saturating_mul(2).saturating_add(3 << 30)
}

fn play(source: &source::Source, out: &Path, report: &mut Report) -> Result<()> {
    let dir = lab_dir(out)?;
    let repository = out.join("www");
    let ports = Ports::of(&dir)?;
    let releases = report.step("build and publish releases 1 and 2", || publish(&repository))?;
    let web = lab::serve(&repository, ports)?;
    let lab = report.step("flash two disks with release 1", || {
        flash(source, &dir, &releases, &repository, ports)
    })?;
    let (mut compute, storage, channel) =
        report.step("boot both boards through UEFI until healthy", || boot(&lab))?;
    let (client, expected) = report
        .step("start a client PC with Debian's kernel, and enrol it at the console", || {
            start_client(source, &dir, &mut compute, &channel, ports)
        })?;
    let mut demo = Demo {
        out: out.into(),
        report: std::mem::take(report),
        expected,
        releases,
        web,
        lab,
        compute,
        storage,
        channel,
        client,
    };
    let result = demo.perform();
    *report = std::mem::take(&mut demo.report);
    if let Err(err) = result {
        // The screen often says what the error does not; without one there is nothing to save.
        let _ = demo.compute.qmp().screenshot(&demo.out.join("screen-at-failure.png"));
        bail!("{err:#}\n\n{}", lab::evidence(&demo.channel, &demo.compute, &demo.storage));
    }
    demo.stop()
}

/// Sockets need short paths: the box lives in the output folder unless that is too deep.
fn lab_dir(out: &Path) -> Result<PathBuf> {
    let dir = out.join("box");
    // sun_path holds 107 bytes; the longest socket name is `compute.channel`.
    ensure!(
        dir.as_os_str().len() < 85,
        "{} is too long a path for the virtual boards' sockets: name a shorter --out",
        dir.display()
    );
    Ok(dir)
}

fn publish(repository: &Path) -> Result<(Vec<BuiltRelease>, String)> {
    let specs = [
        ReleaseSpec::new(Version::new(1, 0, 0), "First light: two boards, one share."),
        ReleaseSpec::new(Version::new(2, 0, 0), "A new coat of paint, and this line.")
            .with_accent("#e0a030"),
    ];
    let mut built = Vec::new();
    for spec in specs {
        built.push(release::publish(&spec, repository)?);
    }
    let first = built.first().context("no release was built")?;
    let detail = format!("UKI {} KiB, in {}", first.uki_bytes / 1024, repository.display());
    Ok((built, detail))
}

fn flash(
    source: &source::Source,
    dir: &Path,
    releases: &[BuiltRelease],
    repository: &Path,
    ports: Ports,
) -> Result<(Lab, String)> {
    let spec = LabSpec {
        dir: dir.into(),
        image: releases.first().context("no release")?.image.clone(),
        trust_root: release::trust_root(repository)?,
        // btrfs keeps two copies of metadata and needs room to move.
        data_disk_bytes: (source.bytes * 5 / 4 + (2 << 30)).next_multiple_of(1 << 20),
        data_disks: 2,
        vnc: false,
        update_url: lab::guest_url(ports),
        box_name: "demo box".into(),
    };
    let lab = Lab::prepare(spec, ports)?;
    let detail = format!("{} and {}", Role::Compute, Role::Storage);
    Ok((lab, detail))
}

fn boot(lab: &Lab) -> Result<((Board, Board, Channel), String)> {
    let storage = lab.start(Role::Storage)?;
    let compute = lab.start(Role::Compute)?;
    let channel = compute.channel()?;
    let status = lab::wait_both(&channel, Version::new(1, 0, 0), BOOT_LIMIT)
        .with_context(|| lab::last_words(&compute, &storage))?;
    let detail = describe(&status);
    Ok(((compute, storage, channel), detail))
}

fn start_client(
    source: &source::Source,
    dir: &Path,
    compute: &mut Board,
    channel: &Channel,
    ports: Ports,
) -> Result<((Client, Vec<Entry>), String)> {
    let spec = client_guest::spec(&source.path, dir)?;
    let mut client = Client::start(&spec, BOOT_LIMIT)?;
    let code = code_at_console(compute, channel)?;
    client.ask(&ClientRequest::Login { port: ports.shares, code }, CLIENT_LIMIT)?;
    let expected = source.entries()?;
    let detail = format!("Linux {}, {} entries to copy", client.kernel_release, expected.len());
    Ok(((client, expected), detail))
}

/// A code for a new PC as a person gets it: page 7 of the screen, its first item, yes.
fn code_at_console(compute: &mut Board, channel: &Channel) -> Result<String> {
    compute.qmp().press("7")?;
    lab::wait_screen(channel, |text| text.contains("Connected now"))?;
    compute.qmp().press("ret")?;
    lab::wait_screen(channel, |text| text.contains("Show a code"))?;
    // The question stands on what changes nothing.
    compute.qmp().press("right")?;
    compute.qmp().press("ret")?;
    let shown = lab::wait_screen(channel, |text| typed_code(text).is_some())?;
    let code = typed_code(&shown).context("the code was shown and then was not")?;
    compute.qmp().press("1")?;
    Ok(code)
}

/// The code in `sudo goblin login ADDRESS CODE`, as the screen says it.
fn typed_code(screen: &str) -> Option<String> {
    let (_, rest) = screen.split_once("sudo goblin login ")?;
    rest.split_whitespace().nth(1).filter(|code| code.contains('-')).map(str::to_owned)
}

fn describe(status: &BoxStatus) -> String {
    goblin_tests::channel::brief(status)
}

impl Demo {
    fn perform(&mut self) -> Result<()> {
        self.take("copy the folder in over 9P", Self::copy_in)?;
        self.take("read it back through a second client mount", Self::read_by_client)?;
        self.take("read it back through the compute board", Self::read_by_compute)?;
        self.figures()?;
        self.take("upgrade both boards to release 2 while reading", Self::upgrade)?;
        self.take("the data is intact on release 2", Self::read_by_client)?;
        self.take("release 3 fails on purpose and the board falls back", Self::fall_back)?;
        self.take("roll both boards back to release 1", Self::roll_back)?;
        self.take("the data is intact on release 1", Self::read_by_client)?;
        self.take("the console shows it", Self::show_console)
    }

    fn take(&mut self, name: &str, step: fn(&mut Self) -> Result<String>) -> Result<()> {
        let mut report = std::mem::take(&mut self.report);
        let result = report.step(name, || step(self).map(|detail| ((), detail)));
        self.report = report;
        result
    }

    fn target(&self) -> Target {
        Target {
            host: String::new(),
            port: self.lab.ports.shares,
            share: SHARE.into(),
            cache: "none".into(),
        }
    }

    fn mount(&mut self, dir: &str) -> Result<()> {
        let target = self.target();
        self.client
            .ask(&ClientRequest::Mount { target, dir: dir.into() }, CLIENT_LIMIT)
            .with_context(|| format!("the client cannot mount the share at {dir}"))?;
        Ok(())
    }

    fn umount(&mut self, dir: &str) -> Result<()> {
        self.client.ask(&ClientRequest::Umount { dir: dir.into() }, CLIENT_LIMIT)?;
        Ok(())
    }

    fn copy_in(&mut self) -> Result<String> {
        self.mount("/mnt")?;
        let copy = ClientRequest::Copy { from: SOURCE_DIR.into(), to: "/mnt".into() };
        let (files, bytes) = self.client.ask(&copy, CLIENT_LIMIT)?;
        self.umount("/mnt")?;
        Ok(format!("{files} files, {bytes} bytes"))
    }

    fn read_by_client(&mut self) -> Result<String> {
        self.mount("/again")?;
        let seen = self.client.list(Path::new("/again"), CLIENT_LIMIT)?;
        self.umount("/again")?;
        source::compare(&self.expected, &seen)
    }

    fn read_by_compute(&mut self) -> Result<String> {
        let text =
            self.channel.run_ok(&["shares", "tree", SHARE, "--json"], Duration::from_secs(3600))?;
        let seen = text
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<Vec<Entry>, _>>()
            .context("`goblin shares tree --json` is not a listing")?;
        source::compare(&self.expected, &seen)
    }

    fn figures(&mut self) -> Result<()> {
        let status = self.channel.status(Duration::from_secs(20))?;
        let release = self.releases.first().context("no release")?;
        let board = |role| status.boards.iter().find(move |board| board.role == Some(role));
        let used = |role| {
            board(role).map_or(0, |board| {
                (u64::from(lab::BOARD_MEMORY_MIB) * 1024).saturating_sub(board.memory.available_kib)
            })
        };
        self.report.figures = Figures {
            uki_bytes: release.uki_bytes,
            base_bytes: release.base_bytes,
            executables: release.executables,
            pid1_rss_kib: status.boards.iter().map(|b| b.memory.pid1_rss_kib).max().unwrap_or(0),
            compute_idle_kib: used(Role::Compute),
            storage_idle_kib: used(Role::Storage),
        };
        Ok(())
    }

    fn upgrade(&mut self) -> Result<String> {
        let request = ClientRequest::StartReading { target: self.target(), dir: "/reading".into() };
        self.client.ask(&request, CLIENT_LIMIT)?;
        let status = self.change_release("upgrade", Version::new(2, 0, 0))?;
        let before = self.client.reading(&ClientRequest::Reading, CLIENT_LIMIT)?;
        // One more file after the upgrade proves that the reader found its way back.
        let report = self.wait_reading(before.files)?;
        ensure!(report.wrong == 0, "the client read {} files with changed content", report.wrong);
        ensure!(
            report.failures == 0 && report.remounts == 0,
            "the client's mount did not last: {} reads failed",
            report.failures
        );
        Ok(format!(
            "{}; the client read {} files on one mount, longest gap {:.1} s",
            describe(&status),
            report.files,
            report.longest_gap_ms as f64 / 1000.0
        ))
    }

    /// Runs a `goblin` command on the compute board and shows its lines.
    fn goblin(&self, command: &str) -> Result<Output> {
        let mut echo = Echo::default();
        self.channel.run_streaming(&[command], UPGRADE_LIMIT, &mut |text| echo.piece(text))
    }

    /// Takes both boards to another release. The command ends with the compute board's reboot, so a lost
    /// answer is expected; the status afterwards is the proof.
    fn change_release(&self, command: &str, to: Version) -> Result<BoxStatus> {
        if let Ok(output) = self.goblin(command)
            && output.code != 0
        {
            bail!("`goblin {command}` failed: {}", output.err.trim());
        }
        lab::wait_both(&self.channel, to, UPGRADE_LIMIT)
            .with_context(|| lab::last_words(&self.compute, &self.storage))
    }

    fn wait_reading(&mut self, beyond: u64) -> Result<goblin_tests::client::ReadingReport> {
        let bytes: u64 = self.expected.iter().map(|entry| entry.size).sum();
        let limit = BOOT_LIMIT + Duration::from_secs(bytes / SLOW_BYTES_PER_S);
        let deadline = std::time::Instant::now() + limit;
        loop {
            let report = self.client.reading(&ClientRequest::Reading, CLIENT_LIMIT)?;
            if report.files > beyond {
                return self.client.reading(&ClientRequest::StopReading, CLIENT_LIMIT);
            }
            ensure!(std::time::Instant::now() < deadline, "the client's reading never came back");
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    fn fall_back(&mut self) -> Result<String> {
        let spec = ReleaseSpec::new(Version::new(3, 0, 0), "Ends its own PID 1.").broken_init();
        self.releases.push(release::publish(&spec, &self.out.join("www"))?);
        // An answer may be lost, as above; what the boards report is the proof.
        match self.goblin("upgrade") {
            Ok(output) => {
                ensure!(output.code != 0, "`goblin upgrade` to a broken release succeeds")
            }
            Err(err) => println!("      {err:#}"),
        }
        let fallen = |status: &BoxStatus| {
            let mut reports = status.boards.iter().filter_map(|board| board.update.last.clone());
            reports.find(|report| {
                report.outcome == UpdateOutcome::FellBack && report.to == Version::new(3, 0, 0)
            })
        };
        let what = "both boards healthy on release 2, and one that fell back from release 3";
        let status = self.channel.wait_status(what, BOOT_LIMIT, &mut |status| {
            lab::both_healthy(status, Some(Version::new(2, 0, 0))) && fallen(status).is_some()
        })?;
        let report = fallen(&status).context("no board reports that it fell back")?;
        // The kernel's last words: they lie in the boot record, for nothing else was left to keep them.
        let last_words = "Attempted to kill init";
        ensure!(report.reason.contains(last_words), "the board says only `{}`", report.reason);
        Ok(report.reason.clone())
    }

    fn roll_back(&mut self) -> Result<String> {
        let status = self.change_release("rollback", Version::new(1, 0, 0))?;
        Ok(describe(&status))
    }

    fn show_console(&mut self) -> Result<String> {
        // The whole story, once nothing is on trial any more and it fits the page.
        let story = ["Release 1", SHARE, "Upgraded 1", "Rolled back 2", "Release 3"];
        lab::wait_screen(&self.channel, |text| {
            text.matches("Healthy").count() >= 2
                && !text.contains("on trial")
                && story.iter().all(|word| text.contains(word))
        })?;
        let png = self.out.join("console.png");
        self.compute.qmp().screenshot(&png)?;
        Ok(png.display().to_string())
    }

    fn stop(self) -> Result<()> {
        let asked = self.web.requests().len();
        println!("  {asked} requests reached the web server");
        self.compute.power_off(BOOT_LIMIT)?;
        self.storage.power_off(BOOT_LIMIT)
    }
}

/// Prints pieces of a command's output as whole, indented lines.
#[derive(Default)]
struct Echo(String);

impl Echo {
    fn piece(&mut self, text: &str) {
        self.0.push_str(text);
        while let Some((line, rest)) = self.0.split_once('\n') {
            println!("      {line}");
            self.0 = rest.to_owned();
        }
    }
}

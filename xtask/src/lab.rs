//! A whole box under QEMU: disks flashed as for real boards, the repository they follow, both boards.
//! `run`, `demo` and the end-to-end tests stand on it.

use crate::provision::{self, Pair, PairSpec};
use crate::{accel, flash, host};
use anyhow::{Context, Result};
use goblin_core_types::{BoxStatus, HealthState, Role, Version};
use goblin_tests::channel::Channel;
use goblin_tests::http::Web;
use goblin_tests::qemu::{Board, BoardSpec, Cable, DataDisk, free_port};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Memory of a board in MiB; the budget of an idle storage board is a quarter of it.
pub const BOARD_MEMORY_MIB: u32 = 512;
/// Size of a system disk: the ESP, RECORD and room for STATE.
pub const SYSTEM_DISK_BYTES: u64 = 4 << 30;
/// Longest a board may take from power-on to healthy, on a slow machine without hardware help.
pub const BOOT_LIMIT: Duration = Duration::from_secs(300);
/// Share that every virtual box has.
pub const SHARE: &str = "home";

/// What a virtual box shall be.
#[derive(Debug, Clone)]
pub struct LabSpec {
    /// Folder of its disks, sockets and logs; its path must be short, for unix sockets.
    pub dir: PathBuf,
    /// The image both boards are flashed with.
    pub image: PathBuf,
    /// Text of the repository's trust root.
    pub trust_root: String,
    /// Size of each data disk in bytes.
    pub data_disk_bytes: u64,
    /// Number of data disks: 1 or 2.
    pub data_disks: u8,
    /// Show the compute board's screen by VNC.
    pub vnc: bool,
    /// Address of the repository as the boards see it.
    pub update_url: String,
    /// Name of the box.
    pub box_name: String,
}

/// Ports of the host's loopback that lead into the box; kept beside the disks, because a mounted share
/// or an open VNC viewer should survive a restart.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub struct Ports {
    /// The storage board's shares.
    pub shares: u16,
    /// VNC display number.
    pub vnc_display: u16,
    /// The web server with the releases.
    pub web: u16,
}

impl Ports {
    /// These ports, checked: others of the host's may have taken one meanwhile. The screen and the shares
    /// then get new ones; the web server's is known to the boards and cannot move.
    ///
    /// # Errors
    /// When the web server's port is taken, or no other port is free.
    pub fn settled(mut self, dir: &Path, vnc: bool) -> Result<Self> {
        let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        anyhow::ensure!(
            free(self.web),
            "port {} of 127.0.0.1 is taken by another program, and the boards know the releases under \
             this port: end that program, or start over with --fresh",
            self.web
        );
        let before = (self.shares, self.vnc_display);
        if !free(self.shares) {
            self.shares = free_port()?;
        }
        if vnc && !free(5900 + self.vnc_display) {
            self.vnc_display = free_display()?;
        }
        if before != (self.shares, self.vnc_display) {
            host::say(format!(
                "ports were taken: shares are at {} now, the screen at {}",
                self.shares,
                5900 + self.vnc_display
            ));
            self.keep(dir)?;
        }
        Ok(self)
    }

    fn keep(self, dir: &Path) -> Result<()> {
        host::write_whole(&dir.join("ports.json"), &serde_json::to_vec_pretty(&self)?)
    }

    /// The ports of the box in `dir`: the remembered ones, or new ones that are free now.
    ///
    /// # Errors
    /// When no port is free or the folder cannot be written.
    pub fn of(dir: &Path) -> Result<Self> {
        let file = dir.join("ports.json");
        if let Ok(text) = std::fs::read(&file)
            && let Ok(ports) = serde_json::from_slice(&text)
        {
            return Ok(ports);
        }
        let vnc_display = free_display()?;
        let preferred = |port: u16| match std::net::TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => Ok(port),
            Err(_) => free_port(),
        };
        let ports = Self { shares: preferred(5640)?, vnc_display, web: preferred(8642)? };
        ports.keep(dir)?;
        Ok(ports)
    }
}

fn free_display() -> Result<u16> {
    (1..200)
        .find(|n| std::net::TcpListener::bind(("127.0.0.1", 5900 + n)).is_ok())
        .context("no free port between 5901 and 6099 for the screen")
}

/// A cable that no other box of the host has.
fn free_cable() -> Result<Cable> {
    let any = || std::net::UdpSocket::bind(("127.0.0.1", 0));
    // Both are held until both are known, so that they differ.
    let (here, there) = (any()?, any()?);
    Ok(Cable { here: here.local_addr()?.port(), there: there.local_addr()?.port() })
}

/// A virtual box.
#[derive(Debug)]
pub struct Lab {
    spec: LabSpec,
    /// Ports into the box.
    pub ports: Ports,
    /// The provisioning files.
    pub pair: Pair,
    /// The compute board's end.
    cable: Cable,
}

impl LabSpec {
    /// Where a board's system disk lies.
    pub fn disk(&self, role: Role) -> PathBuf {
        self.dir.join(format!("{role}.img"))
    }

    fn data_disk(&self, index: u8) -> DataDisk {
        DataDisk {
            path: self.dir.join(format!("data{index}.img")),
            serial: format!("goblin-data-{index}"),
        }
    }

    /// What `provision` is told for this box.
    pub fn pair_spec(&self) -> PairSpec {
        PairSpec {
            box_name: self.box_name.clone(),
            shares: vec![SHARE.into()],
            data_serials: (0..self.data_disks).map(|n| self.data_disk(n).serial).collect(),
            update_url: Some(self.update_url.clone()),
            update_root: Some(self.trust_root.clone()),
            host_channel: true,
            ..PairSpec::default()
        }
    }
}

impl Lab {
    /// Makes the disks as `cargo xtask flash` would, unless they are there already.
    ///
    /// # Errors
    /// When a disk cannot be written.
    pub fn prepare(spec: LabSpec, ports: Ports) -> Result<Self> {
        std::fs::create_dir_all(&spec.dir)?;
        accel::settle()?;
        let files = [spec.dir.join("compute.toml"), spec.dir.join("storage.toml")];
        let pair = if let [Ok(compute), Ok(storage)] = files.each_ref().map(std::fs::read_to_string)
        {
            Pair { compute, storage }
        } else {
            let pair = provision::make_pair(&spec.pair_spec())?;
            crate::provision::write_secret(&files[0], &pair.compute)?;
            crate::provision::write_secret(&files[1], &pair.storage)?;
            pair
        };
        for (role, text) in [(Role::Compute, &pair.compute), (Role::Storage, &pair.storage)] {
            let disk = spec.disk(role);
            if !disk.exists() {
                flash::write_disk_image(&spec.image, text, &disk, SYSTEM_DISK_BYTES)
                    .with_context(|| format!("cannot flash the {role} board's disk"))?;
            }
        }
        for index in 0..spec.data_disks {
            let path = spec.data_disk(index).path;
            if !path.exists() {
                std::fs::File::create(&path)?.set_len(spec.data_disk_bytes)?;
            }
        }
        Ok(Self { spec, ports, pair, cable: free_cable()? })
    }

    /// What the box was asked to be.
    pub fn spec(&self) -> &LabSpec {
        &self.spec
    }

    /// How one board is started.
    pub fn board_spec(&self, role: Role) -> BoardSpec {
        let compute = role == Role::Compute;
        BoardSpec {
            name: role.as_str().into(),
            dir: self.spec.dir.clone(),
            system_disk: self.spec.disk(role),
            data_disks: if compute {
                Vec::new()
            } else {
                (0..self.spec.data_disks).map(|n| self.spec.data_disk(n)).collect()
            },
            hot_disks: false,
            memory_mib: BOARD_MEMORY_MIB,
            cable: Some(if compute {
                self.cable
            } else {
                Cable { here: self.cable.there, there: self.cable.here }
            }),
            forwards: if compute {
                Vec::new()
            } else {
                vec![(self.ports.shares, goblin_core_types::paths::PORT_SHARES)]
            },
            screen: compute,
            vnc_display: (compute && self.spec.vnc).then_some(self.ports.vnc_display),
            host_channel: compute,
            number: if compute { 1 } else { 2 },
            write_log: None,
        }
    }

    /// Powers a board on.
    ///
    /// # Errors
    /// When QEMU cannot start.
    pub fn start(&self, role: Role) -> Result<Board> {
        Board::start(self.board_spec(role))
    }
}

/// The repository's web server.
///
/// # Errors
/// When its port is taken.
pub fn serve(folder: &Path, ports: Ports) -> Result<Web> {
    Web::serve_on(folder, ports.web).with_context(|| {
        format!("port {} is taken: is another `cargo xtask run` still there?", ports.web)
    })
}

/// The repository's address as the boards see it.
pub fn guest_url(ports: Ports) -> String {
    format!("http://10.0.2.2:{}/", ports.web)
}

/// Both boards are in sight, healthy, and (where asked) run `version`, not as a trial.
pub fn both_healthy(status: &BoxStatus, version: Option<Version>) -> bool {
    status.boards.len() == 2
        && status.boards.iter().all(|board| {
            board.health.state == HealthState::Healthy
                && !board.boot.trial
                && version.is_none_or(|version| board.boot.version == Some(version))
        })
}

/// Waits until [`both_healthy`].
///
/// # Errors
/// At the limit, with what was seen last.
pub fn wait_both(channel: &Channel, version: Version, limit: Duration) -> Result<BoxStatus> {
    channel.wait_status(
        &format!("both boards healthy on release {version}"),
        limit,
        &mut |status| both_healthy(status, Some(version)),
    )
}

/// What the boards say of themselves after a failure, as far as they still answer.
pub fn evidence(channel: &Channel, compute: &Board, storage: &Board) -> String {
    let limit = Duration::from_secs(20);
    let status = match channel.status(limit) {
        Ok(status) => goblin_tests::channel::brief(&status),
        Err(err) => format!("{err:#}"),
    };
    let mut told = format!("status: {status}\n");
    for role in Role::ALL {
        let ask = ["logs", "--board", role.as_str(), "--unit", "update", "--lines", "12"];
        let lines = channel.run_ok(&ask, limit).unwrap_or_else(|err| format!("{err:#}"));
        told.push_str(&format!("the {role} board's updater:\n{}\n", lines.trim_end()));
    }
    told + &last_words(compute, storage)
}

/// The last lines on both boards' serial consoles.
pub fn last_words(compute: &Board, storage: &Board) -> String {
    format!(
        "the compute board's last lines:\n{}\nthe storage board's last lines:\n{}",
        compute.serial.tail(12),
        storage.serial.tail(12)
    )
}

/// Waits until the console's visible text is as wanted: it draws what it read a moment ago.
///
/// # Errors
/// At the limit, or when the board does not answer.
pub fn wait_screen(channel: &Channel, wanted: impl Fn(&str) -> bool) -> Result<String> {
    let mut last = String::new();
    channel
        .wait_status("the console's text", Duration::from_secs(60), &mut |_| {
            last = channel.run_ok(&["screen"], Duration::from_secs(10)).unwrap_or_default();
            wanted(&last)
        })
        .with_context(|| format!("the console shows:\n{last}"))?;
    Ok(last)
}

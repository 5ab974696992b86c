//! Virtual boards: the same machine shape for tests, `run` and `demo`.
//!
//! ```text
//!   compute                                        storage
//!   q35, UEFI, system disk, watchdog, screen       q35, UEFI, system disk, data disks, watchdog
//!     |-- lan NIC  (user networking, to the host)    |-- lan NIC (user networking, to the host)
//!     '-- link NIC --------- two UDP ports of the host = the virtual cable -------'
//! ```

use crate::channel::Channel;
use crate::qmp::Qmp;
use crate::serial::Serial;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// What PID 1 says before a board goes off, when no file system stayed mounted.
pub const ALL_UNMOUNTED: &str = "goblin-init: every file system was taken away";
/// Its first word of a boot.
const INIT_STARTS: &str = "goblin-init: start";
/// Longest wait for words that were said before a machine ended.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(10);

/// Every machine is of this kind.
const QEMU: &str = "qemu-system-x86_64";
/// Ties a machine's life to ours.
const SETPRIV: &str = "/usr/bin/setpriv";
/// UEFI firmware of Debian's `ovmf`.
const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// Between two presses of the power button.
const BUTTON_EVERY: Duration = Duration::from_secs(5);
/// A board's end of the virtual cable: UDP ports of the host's loopback.
///
/// Like a real cable it loses what a board that is off or starting does not take. A socket that holds the sender up
/// instead, as a Unix one does, keeps that board's QEMU asking without a pause whether it may go on, and its virtual
/// processors from the lock that they need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cable {
    /// The port of this end.
    pub here: u16,
    /// The port of the other end.
    pub there: u16,
}

/// QEMU's id of the NIC with the inter-board cable; name it to pull the cable.
pub const LINK_DEVICE: &str = "linknic";
/// The same for the NIC towards the host.
pub const LAN_DEVICE: &str = "lannic";

/// A data disk of the storage board.
#[derive(Debug, Clone)]
pub struct DataDisk {
    /// Raw image; sparse.
    pub path: PathBuf,
    /// Serial the guest sees, at most 20 characters.
    pub serial: String,
}

/// How one board shall be.
#[derive(Debug, Clone)]
pub struct BoardSpec {
    /// Name used for sockets and logs: `compute`, `storage`.
    pub name: String,
    /// Folder for sockets, NVRAM and logs.
    pub dir: PathBuf,
    /// The flashed system disk, raw.
    pub system_disk: PathBuf,
    /// Data disks.
    pub data_disks: Vec<DataDisk>,
    /// Disks can be pulled while the board runs, and are started from in their order.
    pub hot_disks: bool,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// The virtual cable; `None`: there is none.
    pub cable: Option<Cable>,
    /// Ports of the host's loopback led to ports of the board: (host, board).
    pub forwards: Vec<(u16, u16)>,
    /// A screen (and keyboard and pointer).
    pub screen: bool,
    /// VNC display on the host's loopback: TCP port 5900 + this number.
    pub vnc_display: Option<u16>,
    /// The port for `goblin` commands from the host.
    pub host_channel: bool,
    /// Distinguishes the boards' hardware addresses.
    pub number: u8,
    /// Log every write and flush of the system disk into this file; see [`crate::writelog`].
    pub write_log: Option<PathBuf>,
}

/// A running virtual machine.
#[derive(Debug)]
pub struct Board {
    child: Child,
    /// Its serial console.
    pub serial: Serial,
    qmp: Qmp,
    spec: BoardSpec,
}

/// Name of the USB controller that every board has.
const USB_CONTROLLER: &str = "usb";
/// Name of the controller of disks that can be pulled.
const SCSI_CONTROLLER: &str = "scsi";
/// Name of the one USB stick.
const STICK: &str = "stick";
/// The USB serial cable.
const CABLE: &str = "serial-cable";
/// The USB network card.
const CARD: &str = "network-card";
/// Pause between two tries to take a pulled stick's file away from QEMU.
const STICK_PAUSE: Duration = Duration::from_millis(100);
/// Most such tries.
const STICK_TRIES_MAX: u32 = 100;

/// Names another accelerator than the one found out, in QEMU's words: `kvm`, `tcg,thread=multi`.
pub const ACCEL_OVERRIDE: &str = "GOBLIN_QEMU_ACCEL";
/// Software emulation: works everywhere.
pub const TCG: &str = "tcg,thread=multi";

/// What [`set_accelerator`] was told.
static ACCELERATOR: OnceLock<String> = OnceLock::new();

/// Tells every later machine of this process which accelerator to use; the first call counts.
pub fn set_accelerator(accel: &str) {
    let _ = ACCELERATOR.set(accel.to_owned());
}

/// QEMU's accelerator options: what `GOBLIN_QEMU_ACCEL` names, else what [`set_accelerator`] was told,
/// else software emulation, because a nested KVM can hang a guest before its first line.
pub fn accelerator() -> Vec<String> {
    let named = std::env::var(ACCEL_OVERRIDE).ok().filter(|accel| !accel.is_empty());
    let accel = named.or_else(|| ACCELERATOR.get().cloned()).unwrap_or_else(|| TCG.into());
    accelerator_options(&accel)
}

/// QEMU's options for one accelerator.
pub fn accelerator_options(accel: &str) -> Vec<String> {
    let cpu = if accel.starts_with("kvm") { "host" } else { "max" };
    ["-accel", accel, "-cpu", cpu].map(String::from).to_vec()
}

/// A path inside one of QEMU's comma-separated options: a comma of its own is doubled.
pub(crate) fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

impl BoardSpec {
    fn path(&self, suffix: &str) -> PathBuf {
        self.dir.join(format!("{}.{suffix}", self.name))
    }

    /// QEMU's control socket of this board.
    pub fn qmp_socket(&self) -> PathBuf {
        self.path("qmp")
    }

    /// Where the host channel can be reached.
    pub fn channel_socket(&self) -> PathBuf {
        self.path("channel")
    }

    /// The log of the serial console.
    pub fn serial_log(&self) -> PathBuf {
        self.path("serial.log")
    }

    fn arguments(&self) -> Vec<String> {
        let mut args = accelerator();
        let mut add = |text: &str| args.extend(text.split(' ').map(String::from));
        add("-nodefaults -no-user-config -display none -M q35 -smp 2 -serial stdio");
        add(&format!("-name goblinux-{0} -m {1}", self.name, self.memory_mib));
        add("-device i6300esb -watchdog-action reset -device virtio-rng-pci");
        add(&format!("-device qemu-xhci,id={USB_CONTROLLER}"));
        add("-rtc base=utc");
        args.extend(self.disk_arguments());
        args.extend(self.network_arguments());
        args.extend(self.screen_arguments());
        let mut pair = |key: &str, value: String| args.extend([key.to_string(), value]);
        pair("-qmp", format!("unix:{},server=on,wait=off", escaped(&self.qmp_socket())));
        if self.host_channel {
            pair("-device", "virtio-serial-pci".into());
            pair(
                "-chardev",
                format!(
                    "socket,id=host,path={},server=on,wait=off",
                    escaped(&self.channel_socket())
                ),
            );
            pair(
                "-device",
                format!(
                    "virtserialport,chardev=host,name={}",
                    goblin_core_types::paths::HOST_CHANNEL
                ),
            );
        }
        args
    }

    fn disk_arguments(&self) -> Vec<String> {
        let mut args = Vec::new();
        let mut pair = |key: &str, value: String| args.extend([key.to_string(), value]);
        pair("-drive", format!("if=pflash,format=raw,unit=0,readonly=on,file={OVMF_CODE}"));
        pair(
            "-drive",
            format!("if=pflash,format=raw,unit=1,file={}", escaped(&self.path("nvram"))),
        );
        if let Some(log) = &self.write_log {
            let disk = escaped(&self.system_disk);
            let log = log.display();
            pair(
                "-blockdev",
                format!("driver=file,node-name=system-file,discard=unmap,filename={disk}"),
            );
            pair("-blockdev", format!("driver=file,node-name=system-log,filename={log}"));
            // The log's superblock after every entry: a killed QEMU leaves a whole log.
            pair(
                "-blockdev",
                "driver=blklogwrites,node-name=system,discard=unmap,file=system-file,\
                 log=system-log,log-sector-size=512,log-super-update-interval=1"
                    .into(),
            );
        } else {
            pair(
                "-drive",
                format!(
                    "if=none,id=system,format=raw,cache=writeback,discard=unmap,file={}",
                    escaped(&self.system_disk)
                ),
            );
        }
        if self.hot_disks {
            pair("-device", format!("virtio-scsi-pci,id={SCSI_CONTROLLER}"));
        }
        pair("-device", self.disk_device("system", "system", 0));
        for (index, disk) in self.data_disks.iter().enumerate() {
            pair(
                "-drive",
                format!(
                    "if=none,id=data{index},format=raw,cache=writeback,discard=unmap,file={}",
                    escaped(&disk.path)
                ),
            );
            let number = index.saturating_add(1);
            pair("-device", self.disk_device(&format!("data{index}"), &disk.serial, number));
        }
        args
    }

    fn disk_device(&self, drive: &str, serial: &str, number: usize) -> String {
        let of = format!("drive={drive},serial={serial}");
        match number {
            _ if self.hot_disks => {
                format!("scsi-hd,bus={SCSI_CONTROLLER}.0,id=disk-{serial},{of},bootindex={number}")
            }
            0 => format!("virtio-blk-pci,{of},bootindex=0"),
            _ => format!("virtio-blk-pci,{of}"),
        }
    }

    fn network_arguments(&self) -> Vec<String> {
        let mut args = Vec::new();
        let mut pair = |key: &str, value: String| args.extend([key.to_string(), value]);
        let forwards: String = self
            .forwards
            .iter()
            .map(|(host, board)| format!(",hostfwd=tcp:127.0.0.1:{host}-:{board}"))
            .collect();
        pair("-netdev", format!("user,id=lan,ipv6=off{forwards}"));
        let mac = |kind: u8| format!("52:54:00:60:{kind:02x}:{:02x}", self.number);
        pair(
            "-device",
            format!("virtio-net-pci,netdev=lan,id={LAN_DEVICE},mac={},romfile=", mac(1)),
        );
        if let Some(Cable { here, there }) = self.cable {
            let end = |side: &str, port: u16| {
                format!("{side}.type=inet,{side}.host=127.0.0.1,{side}.port={port}")
            };
            let ends = format!("dgram,id=link,{},{}", end("local", here), end("remote", there));
            pair("-netdev", ends);
            pair(
                "-device",
                format!("virtio-net-pci,netdev=link,id={LINK_DEVICE},mac={},romfile=", mac(2)),
            );
        }
        args
    }

    fn screen_arguments(&self) -> Vec<String> {
        let mut args = Vec::new();
        let mut pair = |key: &str, value: String| args.extend([key.to_string(), value]);
        if self.screen {
            pair("-device", "virtio-vga,xres=1280,yres=800".into());
            pair("-device", "virtio-keyboard-pci".into());
            pair("-device", "virtio-tablet-pci".into());
        } else {
            pair("-vga", "none".into());
        }
        if let Some(display) = self.vnc_display {
            pair("-vnc", format!("127.0.0.1:{display}"));
        }
        args
    }
}

impl Board {
    /// Starts a board from power-off. NVRAM is kept between starts in `spec.dir`.
    ///
    /// # Errors
    /// When QEMU or the firmware is not installed, or a file is missing.
    pub fn start(spec: BoardSpec) -> Result<Self> {
        std::fs::create_dir_all(&spec.dir)?;
        let nvram = spec.path("nvram");
        if !nvram.exists() {
            std::fs::copy(OVMF_VARS, &nvram).with_context(|| {
                format!("no UEFI firmware at {OVMF_VARS}: run cargo xtask setup")
            })?;
        }
        for stale in [spec.qmp_socket(), spec.channel_socket()] {
            let _ = std::fs::remove_file(stale);
        }
        if let Some(log) = &spec.write_log {
            crate::writelog::create(log)?;
        }
        // What QEMU complained about at an earlier start explains nothing now.
        let _ = std::fs::remove_file(complaints_log(&spec.serial_log()));
        let (mut child, serial) = spawn(&spec.arguments(), &spec.serial_log())?;
        let qmp = match Qmp::connect(&spec.qmp_socket(), Duration::from_secs(30)) {
            Ok(qmp) => qmp,
            Err(err) => {
                let _ = child.kill();
                let _ = child.wait();
                let said = complaints(&spec.serial_log());
                return Err(err).with_context(|| {
                    format!("QEMU of the {} board did not start: {said}", spec.name)
                });
            }
        };
        Ok(Self { child, serial, qmp, spec })
    }

    /// What the board was started as.
    pub fn spec(&self) -> &BoardSpec {
        &self.spec
    }

    /// QEMU's control connection.
    pub fn qmp(&mut self) -> &mut Qmp {
        &mut self.qmp
    }

    /// Plugs a USB stick in, whose content is a file.
    ///
    /// # Errors
    /// When one is plugged in already, or the file cannot be opened.
    pub fn plug_stick(&mut self, image: &Path, serial: &str) -> Result<()> {
        let file = serde_json::json!({"driver": "file", "node-name": STICK, "filename": image});
        self.qmp.execute("blockdev-add", file)?;
        let device = serde_json::json!({
            "driver": "usb-storage", "id": STICK, "drive": STICK, "serial": serial, "removable": true,
            "bus": format!("{USB_CONTROLLER}.0"),
        });
        self.qmp.execute("device_add", device)?;
        Ok(())
    }

    /// Pulls the USB stick out, whether the board is done with it or not.
    ///
    /// # Errors
    /// When there is none.
    pub fn pull_stick(&mut self) -> Result<()> {
        self.qmp.execute("device_del", serde_json::json!({"id": STICK}))?;
        // The file is free once the device is gone, which QEMU tells by an event that nobody waits for here.
        let free = serde_json::json!({"node-name": STICK});
        for _ in 1..STICK_TRIES_MAX {
            if self.qmp.execute("blockdev-del", free.clone()).is_ok() {
                return Ok(());
            }
            std::thread::sleep(STICK_PAUSE);
        }
        self.qmp.execute("blockdev-del", free)?;
        Ok(())
    }

    /// Pulls a disk out of a board with [`BoardSpec::hot_disks`]; the system disk's serial is `system`.
    ///
    /// # Errors
    /// When there is none.
    pub fn pull_disk(&mut self, serial: &str) -> Result<()> {
        self.qmp.execute("device_del", serde_json::json!({"id": format!("disk-{serial}")}))?;
        Ok(())
    }

    /// Puts a disk that was pulled out in again, or another one.
    ///
    /// # Errors
    /// When one of this serial is there, or the file is in use.
    pub fn plug_disk(&mut self, disk: &DataDisk) -> Result<()> {
        let DataDisk { path, serial } = disk;
        let node = format!("plugged-{serial}");
        let file = serde_json::json!({
            "driver": "raw", "node-name": node,
            "file": {"driver": "file", "filename": path}
        });
        self.qmp.execute("blockdev-add", file)?;
        let device = serde_json::json!({
            "driver": "scsi-hd", "bus": format!("{SCSI_CONTROLLER}.0"),
            "id": format!("disk-{serial}"), "drive": node, "serial": serial
        });
        self.qmp.execute("device_add", device)?;
        Ok(())
    }

    /// Plugs a USB serial cable of FTDI's make in, with nobody at its other end.
    ///
    /// # Errors
    /// When one is plugged in already.
    pub fn plug_serial_cable(&mut self) -> Result<()> {
        // QEMU plugs the cable in once its other end is open, which a ring in memory always is.
        let end = serde_json::json!({
            "id": CABLE, "backend": {"type": "ringbuf", "data": {"size": 4096}}
        });
        self.qmp.execute("chardev-add", end)?;
        self.plug_usb("usb-serial", CABLE, &[("chardev", CABLE)])
    }

    /// Plugs a USB network card in that is one by class and of no known make.
    ///
    /// # Errors
    /// When one is plugged in already.
    pub fn plug_network_card(&mut self) -> Result<()> {
        self.plug_usb("usb-net", CARD, &[])
    }

    fn plug_usb(&mut self, driver: &str, id: &str, more: &[(&str, &str)]) -> Result<()> {
        let bus = format!("{USB_CONTROLLER}.0");
        let words = [("driver", driver), ("id", id), ("bus", &bus)];
        let device: std::collections::BTreeMap<_, _> =
            words.into_iter().chain(more.iter().copied()).collect();
        self.qmp.execute("device_add", serde_json::to_value(device)?)?;
        Ok(())
    }

    /// Opens the host channel.
    ///
    /// # Errors
    /// When the board was started without one.
    pub fn channel(&self) -> Result<Channel> {
        if !self.spec.host_channel {
            bail!("the {} board has no host channel", self.spec.name);
        }
        Channel::connect(&self.spec.channel_socket(), Duration::from_secs(30))
    }

    /// True while QEMU runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Presses the power button until the board is off. A board that is off already is fine, and one that
    /// still starts does not feel the button yet: it is pressed again and again.
    ///
    /// # Errors
    /// When the board is not off at the deadline (it is then cut off), or went off with a file system mounted.
    pub fn power_off(mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while self.is_running() && Instant::now() < deadline {
            // A board that switches itself off at this moment no longer answers.
            let _ = self.qmp.execute("system_powerdown", serde_json::json!({}));
            let pause = BUTTON_EVERY.min(deadline.saturating_duration_since(Instant::now()));
            if exits_within(&mut self.child, pause) {
                break;
            }
        }
        if !self.is_running() {
            return self.left_clean();
        }
        bail!(
            "the {} board did not power off within {} s and was cut off; last lines:\n{}",
            self.spec.name,
            limit.as_secs(),
            self.serial.tail(10)
        )
    }

    /// Whether the last PID 1 that ran, if any did, said that nothing stayed mounted.
    fn left_clean(&self) -> Result<()> {
        let lines = self.serial.all();
        let Some(start) = lines.iter().rposition(|line| line.contains(INIT_STARTS)) else {
            return Ok(());
        };
        let told = self.serial.wait_from(start, ALL_UNMOUNTED, LAST_WORDS_LIMIT);
        told.map(drop).with_context(|| {
            format!("the {} board went off with something mounted", self.spec.name)
        })
    }

    /// Pulls the plug: QEMU is killed, as a power cut would (see the crate's power-cut notes for what
    /// this cannot show: the host's cache survives).
    pub fn cut_power(mut self) {
        self.kill();
    }

    /// As [`cut_power`](Self::cut_power); what is left of the board answers nothing.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts QEMU with standard output as the serial console. It is in its own process group, so that Ctrl-C
/// reaches only us, and we stop it in order; when we are killed, the kernel kills it. The kernel ties that
/// to the calling thread: it must live as long as the machine shall.
///
/// # Errors
/// When QEMU is not installed, or the log cannot be written.
pub fn spawn(args: &[String], serial_log: &Path) -> Result<(Child, Serial)> {
    use std::os::unix::process::CommandExt;
    // Of util-linux, which every Debian has; elsewhere a machine outlives us, and its disks stay locked.
    let mut command = if Path::new(SETPRIV).exists() {
        let mut command = Command::new(SETPRIV);
        command.args(["--pdeathsig", "KILL", QEMU]);
        command
    } else {
        Command::new(QEMU)
    };
    let mut child = command
        .args(args)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start qemu-system-x86_64: run cargo xtask setup")?;
    let stdout = child.stdout.take().context("QEMU has no standard output")?;
    let serial = Serial::follow(stdout, serial_log)?;
    if let Some(stderr) = child.stderr.take() {
        // QEMU's own complaints belong beside the board's words.
        Serial::follow(stderr, &complaints_log(serial_log))?;
    }
    Ok((child, serial))
}

/// Where QEMU's own complaints go, for a machine with this serial log.
fn complaints_log(serial_log: &Path) -> PathBuf {
    serial_log.with_extension("qemu.log")
}

/// The last lines of QEMU's own complaints, without time stamps.
fn complaints(serial_log: &Path) -> String {
    let text = std::fs::read_to_string(complaints_log(serial_log)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(|line| line.get(9..).unwrap_or(line)).collect();
    lines.get(lines.len().saturating_sub(5)..).unwrap_or_default().join("\n")
}

/// Waits for a process to end; false when it has not at the limit.
pub fn exits_within(child: &mut Child, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(_)) => return true,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
            Ok(None) | Err(_) => return false,
        }
    }
}

/// A TCP port of the host's loopback that is free now.
///
/// # Errors
/// When the host has none.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

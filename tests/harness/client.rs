//! A client PC: a virtual machine with Debian's own kernel and its v9fs, driven over virtio-serial.
//!
//! The guest runs `client-init` (see `tests/guest`) from an initramfs; a folder of the host is visible
//! to it read-only as `/src`.

use crate::qemu::{accelerator, escaped, spawn};
use crate::qmp::connect_when_there;
use crate::serial::Serial;
use anyhow::{Context, Result, bail};
use goblin_sys::listing::Entry;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

/// Name of the virtio-serial port.
pub const CLIENT_PORT: &str = "goblin.client";
/// The `goblin` program inside the guest.
pub const GOBLIN: &str = "/bin/goblin";
/// Where the guest sees the host's folder.
pub const SOURCE_DIR: &str = "/src";
/// Tag of the virtio-9p device behind [`SOURCE_DIR`].
pub const SOURCE_TAG: &str = "source";
/// Longest without progress: reading one file of many gigabytes counts as none.
pub const STALL_LIMIT: Duration = Duration::from_secs(1800);
/// The host's loopback as the guest reaches it.
pub const HOST_ADDRESS: &str = "10.0.2.2";

/// Where a share is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// IPv4 address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Share.
    pub share: String,
    /// v9fs cache mode.
    pub cache: String,
}

/// Asked of the guest, one JSON line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum ClientRequest {
    /// Enrols the guest with a box; its mounts then go over TLS, by the `goblin` program.
    Login {
        /// TCP port of the shares on the host's loopback.
        port: u16,
        /// Code of `goblin client add`.
        code: String,
    },
    /// Mounts a share at a directory: by `goblin mount` once logged in, by the kernel alone before.
    Mount {
        /// Share.
        target: Target,
        /// Directory, made when absent.
        dir: PathBuf,
    },
    /// Unmounts.
    Umount {
        /// Directory.
        dir: PathBuf,
    },
    /// Copies a tree with modes and times.
    Copy {
        /// From.
        from: PathBuf,
        /// Into, which exists.
        to: PathBuf,
    },
    /// Lists a tree: [`ClientReply::Entry`] each, then [`ClientReply::Done`].
    List {
        /// Its root.
        root: PathBuf,
    },
    /// Starts reading a share again and again. Once logged in the mount has to last; before, it is made
    /// anew whenever it is lost.
    StartReading {
        /// Share.
        target: Target,
        /// Directory to mount it at.
        dir: PathBuf,
    },
    /// Asks how the reading goes: [`ClientReply::Reading`].
    Reading,
    /// Ends the reading: [`ClientReply::Reading`].
    StopReading,
    /// Runs a program to its end: [`ClientReply::Ran`].
    Run {
        /// Program, by its whole path, and arguments.
        argv: Vec<String>,
        /// User and group to run as; root when absent.
        uid: Option<u32>,
    },
    /// Pulls the network cable a little later, and puts it back; answered at once.
    Cable {
        /// Milliseconds until it is pulled.
        after_ms: u64,
        /// Milliseconds that it is out.
        out_ms: u64,
    },
    /// Powers the guest off.
    PowerOff,
}

/// Answered by the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "re", rename_all = "kebab-case")]
pub enum ClientReply {
    /// The guest is up; its kernel's release.
    Up {
        /// `uname -r`
        kernel: String,
    },
    /// One entry of a listing.
    Entry(Entry),
    /// Still at work: so many bytes so far.
    Working {
        /// Bytes.
        bytes: u64,
    },
    /// Carried out.
    Done {
        /// Files, or entries of a listing.
        files: u64,
        /// Bytes copied.
        bytes: u64,
    },
    /// State of the reader.
    Reading(ReadingReport),
    /// A program ended.
    Ran(Ran),
    /// Not carried out.
    Failed {
        /// Why.
        message: String,
    },
}

/// How a program ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// Exit status; -1 when it was killed.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// What the reader has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadingReport {
    /// Files read whole.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Times the share was lost and mounted anew.
    pub remounts: u64,
    /// Reads that failed on a mount that has to last.
    #[serde(default)]
    pub failures: u64,
    /// Files whose content differed from the first reading.
    pub wrong: u64,
    /// Longest time without a successful read, milliseconds.
    pub longest_gap_ms: u64,
}

/// What the guest is made of.
#[derive(Debug, Clone)]
pub struct ClientSpec {
    /// Debian's kernel.
    pub kernel: PathBuf,
    /// Initramfs with `client-init` and the kernel's modules.
    pub initramfs: PathBuf,
    /// Folder shown as [`SOURCE_DIR`].
    pub source: PathBuf,
    /// Folder for sockets and logs.
    pub dir: PathBuf,
    /// Name for sockets and logs.
    pub name: String,
    /// Memory in MiB.
    pub memory_mib: u32,
}

/// A running client PC.
#[derive(Debug)]
pub struct Client {
    child: Child,
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    /// Its serial console.
    pub serial: Serial,
    /// Its kernel's release, as `uname -r` says it.
    pub kernel_release: String,
}

impl Client {
    /// Starts the guest and waits until it answers.
    ///
    /// # Errors
    /// When it does not come up within the limit.
    pub fn start(spec: &ClientSpec, limit: Duration) -> Result<Self> {
        std::fs::create_dir_all(&spec.dir)?;
        let socket = spec.dir.join(format!("{}.client", spec.name));
        let _ = std::fs::remove_file(&socket);
        let log = spec.dir.join(format!("{}.serial.log", spec.name));
        let (child, serial) = spawn(&arguments(spec, &socket), &log)?;
        let stream = connect_when_there(&socket, Duration::from_secs(30))?;
        let mut client = Self {
            child,
            reader: BufReader::new(stream.try_clone()?),
            writer: stream,
            serial,
            kernel_release: String::new(),
        };
        match client.read(limit).with_context(|| {
            format!("the client guest did not come up; last lines:\n{}", client_tail(&log))
        })? {
            ClientReply::Up { kernel } => client.kernel_release = kernel,
            other => bail!("the client guest greeted with {other:?}"),
        }
        Ok(client)
    }

    fn read(&mut self, limit: Duration) -> Result<ClientReply> {
        self.reader.get_ref().set_read_timeout(Some(limit))?;
        let mut line = String::new();
        if self.reader.read_line(&mut line).context("no answer of the client guest")? == 0 {
            bail!("the client guest is gone: {}", self.serial.tail(5));
        }
        Ok(serde_json::from_str(&line)?)
    }

    fn send(&mut self, request: &ClientRequest) -> Result<()> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.writer.write_all(&line)?;
        Ok(())
    }

    /// Asks, and waits for the last reply; `limit` is the longest silence allowed in between. A guest that
    /// only says that it is alive has [`STALL_LIMIT`].
    ///
    /// # Errors
    /// When the guest falls silent, gets no further, or says that it failed.
    pub fn ask(&mut self, request: &ClientRequest, limit: Duration) -> Result<(u64, u64)> {
        self.send(request)?;
        let mut stall = Stall::new();
        loop {
            match self.read(limit).with_context(|| format!("during {request:?}"))? {
                ClientReply::Done { files, bytes } => return Ok((files, bytes)),
                ClientReply::Failed { message } => bail!("client: {message}"),
                ClientReply::Working { bytes } => stall.at(bytes)?,
                _ => {}
            }
        }
    }

    /// Runs a program in the guest, as root or as `uid`.
    ///
    /// # Errors
    /// When the guest falls silent for longer than `limit`, or cannot start it.
    pub fn run(&mut self, argv: &[&str], uid: Option<u32>, limit: Duration) -> Result<Ran> {
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        self.send(&ClientRequest::Run { argv, uid })?;
        let mut stall = Stall::new();
        loop {
            match self.read(limit)? {
                ClientReply::Ran(ran) => return Ok(ran),
                ClientReply::Failed { message } => bail!("client: {message}"),
                ClientReply::Working { bytes } => stall.at(bytes)?,
                _ => {}
            }
        }
    }

    /// Lists a tree as the guest sees it.
    ///
    /// # Errors
    /// When the guest falls silent for longer than `limit` or says that it failed.
    pub fn list(&mut self, root: &Path, limit: Duration) -> Result<Vec<Entry>> {
        self.send(&ClientRequest::List { root: root.into() })?;
        let mut entries = Vec::new();
        let mut stall = Stall::new();
        loop {
            match self.read(limit)? {
                ClientReply::Entry(entry) => entries.push(entry),
                ClientReply::Done { .. } => return Ok(entries),
                ClientReply::Failed { message } => bail!("client: {message}"),
                // A listing counts no bytes: its entries are the progress.
                ClientReply::Working { .. } => stall.at(entries.len() as u64)?,
                _ => {}
            }
        }
    }

    /// Asks about the reader.
    ///
    /// # Errors
    /// When there is none or the guest falls silent.
    pub fn reading(&mut self, request: &ClientRequest, limit: Duration) -> Result<ReadingReport> {
        self.send(request)?;
        loop {
            match self.read(limit)? {
                ClientReply::Reading(report) => return Ok(report),
                ClientReply::Failed { message } => bail!("client: {message}"),
                _ => {}
            }
        }
    }
}

/// Notices a guest that is alive but gets no further.
struct Stall {
    done: u64,
    since: Instant,
}

impl Stall {
    fn new() -> Self {
        Self { done: 0, since: Instant::now() }
    }

    fn at(&mut self, done: u64) -> Result<()> {
        if done != self.done {
            *self = Self { done, since: Instant::now() };
        } else if self.since.elapsed() > STALL_LIMIT {
            bail!("the client guest gets no further for {} s", STALL_LIMIT.as_secs());
        }
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn client_tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n")
}

fn arguments(spec: &ClientSpec, socket: &Path) -> Vec<String> {
    let mut args = accelerator();
    let mut pair = |key: &str, value: String| args.extend([key.to_string(), value]);
    pair("-m", spec.memory_mib.to_string());
    pair("-M", "q35".into());
    pair("-smp", "2".into());
    pair("-name", format!("goblinux-{}", spec.name));
    pair("-display", "none".into());
    pair("-vga", "none".into());
    pair("-serial", "stdio".into());
    pair("-kernel", spec.kernel.display().to_string());
    pair("-initrd", spec.initramfs.display().to_string());
    // A kernel that counts ticks of its timer against a processor that others use, too, may find it broken.
    pair("-append", "console=ttyS0 quiet loglevel=4 panic=-1 no_timer_check rdinit=/init".into());
    pair("-netdev", "user,id=lan,ipv6=off".into());
    pair("-device", "virtio-net-pci,netdev=lan,romfile=".into());
    pair("-device", "virtio-serial-pci".into());
    pair("-chardev", format!("socket,id=ctl,path={},server=on,wait=off", escaped(socket)));
    pair("-device", format!("virtserialport,chardev=ctl,name={CLIENT_PORT}"));
    pair(
        "-fsdev",
        format!(
            "local,id=source,path={},security_model=none,readonly=on,multidevs=remap",
            escaped(&spec.source)
        ),
    );
    pair("-device", format!("virtio-9p-pci,fsdev=source,mount_tag={SOURCE_TAG}"));
    args.extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(String::from));
    args
}

//! A server under test as a process of its own: ours, or a peer's.

use crate::ninep::raw::{Address, Raw};
use anyhow::{Context, Result, ensure};
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for a server to listen, and to end.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Which program is tested.
#[derive(Debug, Clone)]
pub enum Program {
    /// `share-server` of this package.
    Ours(PathBuf),
    /// diod: its command line up to and without the options.
    Diod(Vec<OsString>),
    /// `ninep-client` as a server that does no work, for the benchmark; TCP only.
    Floor(PathBuf),
}

impl Program {
    /// True for ours.
    pub const fn is_ours(&self) -> bool {
        matches!(self, Self::Ours(_))
    }
}

/// How a server is started.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Longest silence before the first attach, where the server can be told.
    pub handshake: Duration,
    /// Commands of a shell that run before it in a mount namespace of its own, in the served directory.
    pub mounts: Option<&'static str>,
    /// Descriptors it may have.
    pub descriptors: Option<u32>,
    /// TCP instead of a socket file.
    pub tcp: bool,
    /// TCP with keys, through the share agent's entrance; only ours.
    pub tls: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            mounts: None,
            descriptors: None,
            tcp: false,
            tls: false,
        }
    }
}

/// A running server with its directories.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: Address,
    /// Name of the tree that can be changed.
    pub aname: String,
    /// What is served.
    pub root: PathBuf,
    /// Holds the served directories and `secret`, which must stay out of reach.
    pub around: tempfile::TempDir,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts a server on a fresh directory below `parent` and waits until it listens.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(program: &Program, setup: &Setup, parent: &Path) -> Result<Self> {
        let around = tempfile::tempdir_in(parent).context("cannot make a directory")?;
        let root = around.path().join("data");
        for name in ["data", "fixed", "other"] {
            std::fs::create_dir(around.path().join(name))?;
        }
        std::fs::write(around.path().join("secret"), b"secret")?;
        std::fs::write(around.path().join("fixed/file"), b"fixed")?;
        let address = match (setup.tls, setup.tcp) {
            (true, _) => Address::Tls(free_port()?),
            (false, true) => Address::Tcp(free_port()?),
            (false, false) => Address::Unix(around.path().join("socket")),
        };
        let words = words(program, setup, &address, around.path());
        let mut command = command(&words, setup, &root);
        let is_peer = matches!(program, Program::Diod(_));
        let output = if is_peer { Stdio::null() } else { Stdio::piped() };
        let log = std::fs::File::create(around.path().join("log"))?;
        let child = command.stdin(Stdio::null()).stdout(output).stderr(log).spawn();
        let child = child.with_context(|| format!("cannot start {}", words[0].display()))?;
        let aname = match program {
            Program::Ours(_) | Program::Floor(_) => "data".to_owned(),
            Program::Diod(_) => root.display().to_string(),
        };
        let mut server = Self { address, aname, root, around, child };
        server.wait()?;
        Ok(server)
    }

    fn wait(&mut self) -> Result<()> {
        if let Some(stdout) = self.child.stdout.take() {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line)?;
            ensure!(line.starts_with("ready"), "the server did not start: {}", self.log());
            return Ok(());
        }
        let start = Instant::now();
        loop {
            if let Ok(mut raw) = Raw::silent(&self.address)
                && raw.version(8192).is_ok()
            {
                return Ok(());
            }
            ensure!(self.child.try_wait()?.is_none(), "the server ended: {}", self.log());
            ensure!(start.elapsed() < START_LIMIT, "the server does not listen: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What the server wrote for people.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.around.path().join("log")).unwrap_or_default()
    }

    /// A path in the served tree.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// A client with fid 0 at the root.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn client(&self) -> Result<Raw> {
        Raw::attached(&self.address, &self.aname)
    }

    /// True while the process lives.
    pub fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Memory in use now, in KiB.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn resident_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Descriptors it may have.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn descriptors_max(&self) -> Result<u64> {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", self.pid()))?;
        let line = limits.lines().find(|line| line.starts_with("Max open files"));
        let soft =
            line.and_then(|line| line.split_whitespace().nth(3)).context("Max open files")?;
        Ok(soft.parse()?)
    }

    /// Runs a shell command in the server's mount namespace, in the served directory.
    ///
    /// # Errors
    /// When it fails.
    pub fn in_mounts(&self, shell: &str) -> Result<()> {
        let pid = self.pid().to_string();
        let root = self.root.display();
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid, "--mount", "sh", "-ec", &format!("cd '{root}'; {shell}")]);
        let out = command.output().context("cannot start nsenter")?;
        ensure!(out.status.success(), "{shell}: {}", String::from_utf8_lossy(&out.stderr));
        Ok(())
    }
}

fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn words(program: &Program, setup: &Setup, address: &Address, around: &Path) -> Vec<OsString> {
    let address = match address {
        Address::Unix(path) => path.display().to_string(),
        Address::Tcp(address) => address.to_string(),
        Address::Tls(address) => format!("tls:{address}"),
    };
    let dir = |name: &str| around.join(name).display().to_string();
    match program {
        Program::Ours(path) => vec![
            path.into(),
            address.into(),
            setup.handshake.as_millis().to_string().into(),
            format!("data={}", dir("data")).into(),
            format!("other={}", dir("other")).into(),
            format!("ro:fixed={}", dir("fixed")).into(),
        ],
        Program::Floor(path) => {
            let port = address.rsplit_once(':').map_or("", |(_, port)| port);
            vec![path.into(), "floor".into(), port.into(), dir("data").into()]
        }
        Program::Diod(words) => {
            let mut words = words.clone();
            let options = ["-f", "-n", "-N", "-l", &address, "-L", "stderr", "-e", &dir("data")];
            words.extend(options.iter().map(OsString::from));
            words.extend(["-e".into(), dir("other").into(), "-c".into(), "/dev/null".into()]);
            words
        }
    }
}

fn command(words: &[OsString], setup: &Setup, root: &Path) -> Command {
    let mut shell = String::new();
    if let Some(count) = setup.descriptors {
        shell.push_str(&format!("ulimit -n {count}; "));
    }
    let mut command;
    if let Some(mounts) = setup.mounts {
        shell.push_str(&format!("cd '{}'; {{ {mounts}; }} >&2; cd /; ", root.display()));
        command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec"]);
    } else if shell.is_empty() {
        command = Command::new(&words[0]);
        command.args(&words[1..]);
        return command;
    } else {
        command = Command::new("sh");
        command.arg("-ec");
    }
    shell.push_str("exec \"$@\"");
    command.arg(shell).arg("sh").args(words);
    command
}

//! `cargo xtask bench 9p`: the share server beside Debian's diod, over TCP of this machine, with one load generator.
//!
//! Rounds alternate between the servers and each figure is the best of its rounds: what else the machine does only
//! ever adds. Processor time is the server's own; clients are not counted. Files lie in memory (`/dev/shm`) where that
//! is to be had: what is compared are servers, and a disk that others write to would be all that is seen of them.
//!
//! Works on mounts are in `mounts.rs`. Rows that begin with `tls_` show ours through the agent's entrance, with keys, beside ours without.

use super::mounts;
use super::table::{self, Row};
use crate::{compile, debian, host};
use anyhow::{Context, Result, ensure};
use goblin_tests::ninep::load::{self, Figure};
use goblin_tests::ninep::raw::Address;
use goblin_tests::ninep::server::{Program, Server, Setup};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Rounds of each server.
const ROUNDS: usize = 5;
/// Time of each scene in a round.
const SCENE_MS: u32 = 700;

/// `cargo xtask bench 9p`
#[derive(Debug, clap::Args)]
pub(super) struct NinepArgs {
    /// Measure one half alone; the file then holds nothing else
    #[arg(long)]
    only: Option<Half>,
}

/// Halves of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Half {
    /// Messages of a load generator
    Messages,
    /// Works on mounts in a guest
    Mounts,
}

/// Best figures of one server: microseconds for each unit, by scene.
type Best = BTreeMap<String, (f64, f64)>;

/// Runs `cargo xtask bench 9p`.
///
/// # Errors
/// When a server does not start or refuses the load.
pub(super) fn run(args: &NinepArgs) -> Result<()> {
    let wanted = |half: Half| args.only.is_none_or(|only| only == half);
    let mut table = Vec::new();
    if wanted(Half::Messages) {
        table.extend(messages()?);
    }
    if wanted(Half::Mounts) {
        table.extend(mounts::measure()?);
    }
    table::publish("9p", &table)
}

/// Rows of a load generator's messages, without a kernel between.
fn messages() -> Result<Vec<Row>> {
    let (ours, client) = compile::share_server()?;
    let (words, version) = debian::diod()?;
    let site = Site::new()?;
    let start = |program: Program, tls: bool| -> Result<Server> {
        let server =
            Server::start(&program, &Setup { tcp: true, tls, ..Setup::default() }, &site.0)?;
        load::prepare(&server.root)?;
        Ok(server)
    };
    let servers = [
        start(Program::Ours(ours.clone()), false)?,
        start(Program::Diod(words), false)?,
        start(Program::Ours(ours), true)?,
    ];
    let mut best = [Best::new(), Best::new(), Best::new()];
    for round in 1..=ROUNDS {
        host::say(format!("9p: round {round} of {ROUNDS}"));
        for (server, best) in servers.iter().zip(&mut best) {
            measure(&client, server, best)?;
        }
    }
    let [plain, peer, keys] = best;
    let mut table = rows(&plain, &peer, &format!("diod {version}"), "")?;
    let kept = ["metadata_cpu_us", "metadata_qd1_us_per_op", "bulk_cpu_ms_per_mb", "list10k_ms"];
    let with_keys = rows(&keys, &plain, "without TLS", "tls_")?;
    table.extend(with_keys.into_iter().filter(|row| {
        row.metric.strip_prefix("tls_").is_some_and(|metric| kept.contains(&metric))
    }));
    Ok(table)
}

/// Where the served files lie; removed at the end.
struct Site(PathBuf);

impl Site {
    fn new() -> Result<Self> {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() {
            memory.join(format!("goblin-bench-9p-{}", std::process::id()))
        } else {
            host::target("bench")?.join("9p")
        };
        std::fs::create_dir_all(&folder).context("cannot make the folder of the benchmark")?;
        Ok(Self(folder))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // The servers remove what they served; an empty folder left behind is in nobody's way.
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn measure(client: &Path, server: &Server, best: &mut Best) -> Result<()> {
    let address = match &server.address {
        Address::Tcp(address) => address.to_string(),
        Address::Tls(address) => format!("tls:{address}"),
        Address::Unix(_) => anyhow::bail!("not over TCP"),
    };
    let mut command = Command::new(client);
    let pid = server.pid().to_string();
    command.args(["load", &address, &server.aname, &pid, &SCENE_MS.to_string()]);
    let text = host::output(&mut command, "running the load")?;
    let figures: Vec<Figure> =
        serde_json::from_str(&text).context("the load said something odd")?;
    for figure in figures {
        ensure!(figure.units > 0.0, "{}: nothing was done", figure.scene);
        let (wall, cpu) = (figure.wall_us / figure.units, figure.cpu_us / figure.units);
        let known = best.entry(figure.scene).or_insert((wall, cpu));
        *known = (known.0.min(wall), known.1.min(cpu));
    }
    Ok(())
}

/// Which figure of a scene a row shows.
#[derive(Clone, Copy)]
enum Show {
    Wall,
    Cpu,
}

/// Metric, unit, scene, figure, divisor of its microseconds, note.
type Line = (&'static str, &'static str, &'static str, Show, f64, &'static str);

/// The first five are what goals are set for.
const LINES: &[Line] = &[
    (
        "metadata_cpu_us",
        "us",
        "metadata_qd16",
        Show::Cpu,
        1.0,
        "server CPU per message: walk of two names, getattr, clunk; depth 16; goal 6",
    ),
    (
        "metadata_qd16_us_per_op",
        "us",
        "metadata_qd16",
        Show::Wall,
        1.0,
        "time per message, depth 16; goal a third of the peer's",
    ),
    (
        "small_file_us",
        "us",
        "small_qd1",
        Show::Wall,
        1.0,
        "clone, create, write 4 KiB, clunk; depth 1; goal two thirds of the peer's",
    ),
    (
        "bulk_cpu_ms_per_mb",
        "ms",
        "bulk_read",
        Show::Cpu,
        1e3,
        "server CPU per MB read in order, msize 512 KiB where the server has it; goal 0.2",
    ),
    ("list10k_ms", "ms", "list10k", Show::Wall, 1e3, "10,000 entries listed; goal 6"),
    (
        "metadata_qd1_cpu_us",
        "us",
        "metadata_qd1",
        Show::Cpu,
        1.0,
        "server CPU per message, depth 1; goal 6",
    ),
    (
        "metadata_qd1_us_per_op",
        "us",
        "metadata_qd1",
        Show::Wall,
        1.0,
        "time per message, depth 1; goal two thirds of the peer's",
    ),
    (
        "small_file_qd16_us",
        "us",
        "small_qd16",
        Show::Wall,
        1.0,
        "as small_file_us, depth 16; goal a third of the peer's",
    ),
    (
        "read4k_cpu_us",
        "us",
        "read4k_qd1",
        Show::Cpu,
        1.0,
        "server CPU per 4 KiB read anywhere, depth 1",
    ),
    (
        "read4k_qd16_us",
        "us",
        "read4k_qd16",
        Show::Wall,
        1.0,
        "time per 4 KiB read anywhere, depth 16",
    ),
    (
        "bulk_write_cpu_ms_per_mb",
        "ms",
        "bulk_write",
        Show::Cpu,
        1e3,
        "server CPU per MB written in order",
    ),
    ("list10k_cpu_ms", "ms", "list10k", Show::Cpu, 1e3, "server CPU of a listing"),
];

fn rows(ours: &Best, peer: &Best, peer_name: &str, prefix: &str) -> Result<Vec<Row>> {
    LINES
        .iter()
        .map(|(metric, unit, scene, show, divisor, note)| {
            let of = |best: &Best| -> Result<f64> {
                let (wall, cpu) = best.get(*scene).context("a scene is missing")?;
                Ok(match show {
                    Show::Wall => wall / divisor,
                    Show::Cpu => cpu / divisor,
                })
            };
            let metric = format!("{prefix}{metric}");
            Ok(Row::new(&metric, unit, of(ours)?, peer_name, of(peer)?, note))
        })
        .collect()
}

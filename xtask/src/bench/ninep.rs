//! `cargo xtask bench 9p`: the share server beside Debian's diod, over TCP of this machine, with one load generator.
//!
//! Every scene goes to one server after the other in short turns, first in one order and then in the other. Figures are
//! medians of the rounds, and a ratio is the median of those of the pairs, so that what else the machine does lies on
//! both sides; the note says how far the pairs lie apart. Processor time is the server's own; what the load costs is
//! said beside it. Files lie in memory (`/dev/shm`) where that is to be had: what is compared are servers, and a disk
//! that others write to would be all that is seen of them.
//!
//! Works on mounts are in `mounts.rs`. Rows that begin with `tls_` show ours through the agent's entrance, with keys,
//! beside ours without. Those that begin with `floor_` show ours beside a server that receives and answers the same
//! messages without doing their work: what a message costs here before anything is done for it.

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
const ROUNDS: usize = 11;
/// Time of each scene in a round.
const SCENE_MS: u32 = 250;
/// Words that the scenes' names begin with.
const SCENES: &[&str] =
    &["metadata", "small", "read4k", "whole", "bulk_read", "bulk_write", "list10k"];
/// Those that the server without work can answer.
const FLOOR_SCENES: &[&str] = &["metadata", "read4k", "bulk_read"];

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

/// What one server gave in one scene: microseconds for each unit, one figure a round.
#[derive(Debug, Default)]
struct Rounds {
    wall: Vec<f64>,
    cpu: Vec<f64>,
    /// Processor time of the load.
    load_cpu: Vec<f64>,
}

/// Figures of one server by scene.
type Figures = BTreeMap<String, Rounds>;

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
    let mut servers = [
        (start(Program::Ours(ours.clone()), false)?, Figures::new()),
        (start(Program::Diod(words), false)?, Figures::new()),
        (start(Program::Ours(ours), true)?, Figures::new()),
        (start(Program::Floor(client.clone()), false)?, Figures::new()),
    ];
    let (first, last) = (0, servers.len() - 1);
    for round in 1..=ROUNDS {
        host::say(format!("9p: round {round} of {ROUNDS}"));
        for scene in SCENES {
            // Who comes first changes, so that neither has the quieter half of every pair.
            for turn in first..=last {
                let at = if round % 2 == 0 { last - turn } else { turn };
                let (server, figures) = &mut servers[at];
                if at != last || FLOOR_SCENES.contains(scene) {
                    measure(&client, server, scene, figures)?;
                }
            }
        }
    }
    let [(_, plain), (_, peer), (_, keys), (_, floor)] = servers;
    let mut table = rows(&plain, &peer, &format!("diod {version}"), "", |_| true)?;
    let kept = ["metadata_cpu_us", "metadata_qd1_us_per_op", "bulk_cpu_ms_per_mb", "list10k_ms"];
    table.extend(rows(&keys, &plain, "without TLS", "tls_", |metric| kept.contains(&metric))?);
    let bare = ["metadata_cpu_us", "metadata_qd1_cpu_us", "read4k_cpu_us", "bulk_cpu_ms_per_mb"];
    table.extend(rows(&plain, &floor, "no work", "floor_", |metric| bare.contains(&metric))?);
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

fn measure(client: &Path, server: &Server, scene: &str, figures: &mut Figures) -> Result<()> {
    let address = match &server.address {
        Address::Tcp(address) => address.to_string(),
        Address::Tls(address) => format!("tls:{address}"),
        Address::Unix(_) => anyhow::bail!("not over TCP"),
    };
    let mut command = Command::new(client);
    let pid = server.pid().to_string();
    command.args(["load", &address, &server.aname, &pid, &SCENE_MS.to_string(), scene]);
    let text = host::output(&mut command, "running the load")?;
    let got: Vec<Figure> = serde_json::from_str(&text).context("the load said something odd")?;
    for figure in got {
        ensure!(figure.units > 0.0, "{}: nothing was done", figure.scene);
        let rounds = figures.entry(figure.scene).or_default();
        rounds.wall.push(figure.wall_us / figure.units);
        rounds.cpu.push(figure.cpu_us / figure.units);
        rounds.load_cpu.push(figure.load_cpu_us / figure.units);
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
        "whole_file_cpu_us",
        "us",
        "whole_qd1",
        Show::Cpu,
        1.0,
        "server CPU of walk, open, read of a whole message, clunk of a 5 kB file; depth 1",
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

/// Median; 0 of nothing.
fn median(of: &[f64]) -> f64 {
    let mut of = of.to_vec();
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or_default()
}

fn rows(
    ours: &Figures,
    peer: &Figures,
    peer_name: &str,
    prefix: &str,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<Row>> {
    let wanted = LINES.iter().filter(|line| wanted(line.0));
    wanted
        .map(|(metric, unit, scene, show, divisor, note)| {
            let of = |figures: &Figures| -> Result<Vec<f64>> {
                let rounds = figures.get(*scene).context("a scene is missing")?;
                let which = match show {
                    Show::Wall => &rounds.wall,
                    Show::Cpu => &rounds.cpu,
                };
                Ok(which.iter().map(|us| us / divisor).collect())
            };
            let (own, theirs) = (of(ours)?, of(peer)?);
            let pairs: Vec<f64> = own.iter().zip(&theirs).map(|(own, peer)| own / peer).collect();
            let least = pairs.iter().copied().fold(f64::INFINITY, f64::min);
            let most = pairs.iter().copied().fold(0.0, f64::max);
            let load = ours.get(*scene).map_or(0.0, |rounds| median(&rounds.load_cpu) / divisor);
            let note = format!(
                "{note}; pairs {least:.2} to {most:.2}; the load itself {load:.1} {unit} of CPU"
            );
            let metric = format!("{prefix}{metric}");
            let row = Row::new(&metric, unit, median(&own), peer_name, median(&theirs), &note);
            // What else the machine does lies on both of a pair; medians of one server each lie apart.
            Ok(Row { ratio: (median(&pairs) * 1000.0).round() / 1000.0, ..row })
        })
        .collect()
}

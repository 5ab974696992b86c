//! Every shipped unit, with a program in its place that tries to get out: it gets what the unit's `[sandbox]`
//! gives, and nothing else. The guest is the release's own base, so that what is read-only on a board is so
//! here; only the units' programs, dependencies and schedules are others.

use crate::bench::{addition, folder, turn, unit_file};
use crate::init::Guest;
use anyhow::{Context, Result, bail, ensure};
use goblin_core_types::{Version, paths};
use goblin_init_core::sandbox::{Mounts, Sandbox};
use goblin_init_core::unit::{self, Unit};
use std::collections::BTreeMap;
use std::time::Duration;
use xtask::image::{self, Addition, ReleaseSpec};
use xtask::{compile, host, units};

/// Longest that the guest may take on a slow host.
const LIMIT: Duration = Duration::from_secs(600);
/// The program that tries.
const ESCAPE: &str = "/usr/lib/goblin/escape";
/// The program of the units around it.
const HELPER: &str = "/usr/lib/goblin/evil";
/// Memory of the guest in MiB: the whole base lies in it.
const MEMORY_MIB: u32 = 1024;
/// A unit without a sandbox gets at least these: proof that the attempts can succeed.
const OF_ROOT: [&str; 17] = [
    "order", "own", "state", "store", "role", "other", "sysctl", "keys", "kmsg", "raw", "packet",
    "ptrace", "kill1", "mount", "cores", "cgroup", "devtmpfs",
];
/// `EPERM`: what a forbidden system call comes back with, while one that is only called wrongly says so.
const FORBIDDEN: &str = "1";

/// A shipped unit whose walls and limits are its own, and nothing else.
fn walled(unit: &Unit, text: &str) -> Result<String> {
    let at = text.find("\n[sandbox]").context("a unit without a sandbox")?;
    let walls = text.get(at..).unwrap_or_default();
    Ok(format!(
        "description = \"In the place of a unit\"\nkind = \"task\"\nexec = [\"{ESCAPE}\"]\n\
         requires = [\"lay-out\", \"victim\"]\norders = {}\n{walls}",
        unit.orders
    ))
}

fn helpers() -> Vec<Addition> {
    let mount = |target: &str| {
        format!(
            "description = \"{target} in memory\"\nkind = \"mount\"\n[mount]\nwhat = \"tmpfs\"\n\
             where = \"{target}\"\ntype = \"tmpfs\"\noptions = \"mode=0755,nosuid\"\n"
        )
    };
    let task = |exec: &str, more: &str| {
        format!("description = \"Around the others\"\nkind = {exec}\n{more}\n")
    };
    let lay_out = task(
        &format!("\"task\"\nexec = [\"{HELPER}\", \"lay-out\"]"),
        "requires = [\"in-state\", \"in-pool\"]",
    );
    let victim = task(&format!("\"service\"\nexec = [\"{ESCAPE}\", \"victim\"]"), "");
    let open =
        task(&format!("\"task\"\nexec = [\"{ESCAPE}\"]"), "requires = [\"lay-out\", \"victim\"]");
    let judge = task(
        &format!("\"service\"\nready = \"start\"\nexec = [\"{HELPER}\", \"judge\", \"escape\"]"),
        "",
    );
    vec![
        unit_file("in-state", mount("/state")),
        unit_file("in-pool", mount("/pool")),
        unit_file("lay-out", lay_out),
        unit_file("victim", victim),
        unit_file("open", open),
        unit_file("judge", judge),
    ]
}

/// What a unit may do, from its file; the attempts are those of `init/examples/escape.rs`.
struct Given<'a>(&'a Sandbox);

impl Given<'_> {
    fn root(&self) -> bool {
        self.0.user.id() == 0
    }

    fn covers(lists: &[&[String]], path: &str) -> bool {
        lists.iter().copied().flatten().any(|above| {
            path.strip_prefix(above.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    fn capability(&self, name: &str) -> bool {
        self.0.capabilities.iter().any(|kept| kept.name() == name)
    }

    fn calls(&self, group: &str) -> bool {
        self.0.seccomp.iter().any(|given| given == group)
    }

    fn socket(&self, family: &str) -> bool {
        self.0.sockets.iter().any(|given| given.name() == family)
    }

    /// A file of root's.
    fn writes(&self, path: &str) -> bool {
        let named = Self::covers(&[&self.0.write_paths], path);
        let mounted = self.0.mounts == Mounts::Host || !self.0.read_only || named;
        self.root() && mounted && (named || !self.0.landlock)
    }

    fn reads_keys(&self) -> bool {
        let named = Self::covers(&[&self.0.write_paths, &self.0.read_paths], paths::PROVISION);
        (self.root() || self.0.groups.contains(&paths::KEYS_GROUP)) && (named || !self.0.landlock)
    }

    /// Whether an attempt may succeed, or at least be made.
    fn gives(&self, attempt: &str) -> bool {
        match attempt {
            "own" => true,
            "state" => self.writes("/state/probe"),
            "store" => self.writes("/state/update/probe"),
            "role" => self.writes(paths::ROLE_FILE),
            "other" => self.writes("/run/goblin/state/victim/probe"),
            "sysctl" | "cores" => {
                Self::covers(&[&self.0.write_paths], "/proc/sys/kernel") && self.root()
            }
            "keys" => self.reads_keys(),
            "raw" => self.socket("inet") && self.capability("net_raw"),
            "packet" => self.socket("packet") && self.capability("net_raw"),
            "mount" => self.calls("@mount") && self.capability("sys_admin") && !self.0.landlock,
            "module" => self.calls("@module") && self.capability("sys_module"),
            "clock" => self.calls("@clock") && self.capability("sys_time"),
            "hostname" => self.calls("@hostname") && self.capability("sys_admin"),
            // kmsg, devtmpfs: the guard of the group, also where the board's own /dev is seen. cgroup: the namespace's border. sleep: the kernel has none. base, etc, memory, peek, environ, ptrace, kill, and every system call of no group.
            _ => false,
        }
    }
}

/// `escape UNIT: NAME=WORD ..` of the judge's lines.
fn said(lines: &[String]) -> BTreeMap<String, Vec<(String, String)>> {
    let told =
        lines.iter().filter_map(|line| line.split_once("survive: escape ")?.1.split_once(": "));
    told.map(|(unit, words)| {
        let pairs = words.split_whitespace().filter_map(|word| word.split_once('='));
        (unit.to_owned(), pairs.map(|(name, word)| (name.to_owned(), word.to_owned())).collect())
    })
    .collect()
}

fn judge(unit: &Unit, sandbox: &Sandbox, words: &[(String, String)]) -> Vec<String> {
    let given = Given(sandbox);
    let mut wrong = Vec::new();
    for (attempt, word) in words {
        let expected = given.gives(attempt) || (attempt == "order" && unit.orders);
        // Called wrongly on purpose: an answer of another kind means that it could have been made.
        let made = match attempt.as_str() {
            "module" | "reboot" | "bpf" | "perf" | "kexec" | "setns" | "read" => word != FORBIDDEN,
            _ => word == "ok",
        };
        if made != expected {
            let should = if expected { "is given and was refused" } else { "GOT OUT" };
            wrong.push(format!("{}: {attempt}={word}: {should}", unit.name));
        }
    }
    wrong
}

#[test]
fn no_unit_gets_out_of_its_sandbox() -> Result<()> {
    let _turn = turn();
    let dir = folder("init-escape")?;
    let shipped = units::load(&units::folder(), |_| true)?;
    let mut spec = ReleaseSpec::new(Version::new(1, 0, 0), "");
    spec.additions = helpers();
    spec.additions.push(addition(ESCAPE, 0o755, host::read(&compile::escape()?)?));
    spec.additions.push(addition(HELPER, 0o755, host::read(&compile::test_binaries()?.evil_unit)?));
    for unit in &shipped {
        let path = units::folder().join(format!("{}.toml", unit.name));
        let text = walled(unit, &String::from_utf8(host::read(&path)?)?)?;
        let same = unit::parse(&unit.name, &text)?;
        ensure!(same.sandbox == unit.sandbox && same.limits == unit.limits, "{}", unit.name);
        spec.additions.push(unit_file(&unit.name, text));
    }
    let initramfs = dir.join("guest.cpio");
    image::write_initramfs(&spec, &initramfs)?;
    let guest = Guest::start(&dir, &initramfs, MEMORY_MIB, "")?;
    guest.serial.wait_from(0, "survive: end", LIMIT)?;

    let lines = guest.serial.all();
    let said = said(&lines);
    let mut wrong = Vec::new();
    for unit in &shipped {
        match (said.get(&unit.name), &unit.sandbox) {
            (Some(words), Some(sandbox)) if words.len() > OF_ROOT.len() => {
                wrong.extend(judge(unit, sandbox, words));
            }
            _ => {
                let silent = format!("survive: silent {} ", unit.name);
                let why = lines.iter().find(|line| line.contains(&silent));
                wrong.push(format!("{} tried nothing: {why:?}", unit.name));
            }
        }
    }
    // Without a sandbox the same attempts succeed: it is the walls that hold.
    let open = said.get("open").context("the unit without a sandbox tried nothing")?;
    for attempt in OF_ROOT {
        if !open.iter().any(|(name, word)| name == attempt && word == "ok") {
            wrong.push(format!("even without a sandbox {attempt} fails: {open:?}"));
        }
    }
    let tried: usize = said.values().map(Vec::len).sum();
    println!("{tried} attempts of {} units", said.len());
    if wrong.is_empty() { Ok(()) } else { bail!("{}", wrong.join("\n")) }
}

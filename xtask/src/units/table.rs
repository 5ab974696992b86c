//! `rootfs/units/README.md`: what each unit may do, from the unit files.

use goblin_init_core::sandbox::{Mounts, Network, Sandbox, User, WriteDisks};
use goblin_init_core::seccomp;
use goblin_init_core::unit::Unit;
use std::fmt::Write;

/// What stands before the tables.
const HEAD: &str = "\
# What each unit may do

Made from the unit files by `cargo xtask check --renew`; the reasons are in their comments. Unless a cell
says otherwise a unit has: no capability, no network, no device beyond `/dev/null` and its like, a tree of
mounts of its own in which everything is read-only, an empty `/tmp`, no sight of other processes, Landlock on
what it may reach (the base, `/proc`, `/sys`, `/run/goblin`, its own folder below `/run/goblin/state`, and the
paths below), no signal to anybody outside, and only the system calls of its groups. All have `no_new_privs`.

";

/// What a board's programs may do.
pub(super) fn render(units: &[Unit]) -> String {
    let mut text = HEAD.to_owned();
    rows(
        &mut text,
        &[
            "unit",
            "user",
            "capabilities",
            "reads",
            "writes",
            "devices",
            "network",
            "walls left out",
        ],
        units.iter().filter_map(|unit| Some(reach(unit, unit.sandbox.as_deref()?))),
    );
    text.push_str("\n## System calls and limits\n\n");
    rows(
        &mut text,
        &["unit", "groups of system calls", "calls", "memory MiB", "processes", "others"],
        units.iter().filter_map(|unit| Some(calls(unit, unit.sandbox.as_deref()?))),
    );
    text.push_str(
        "\n## Groups of system calls\n\nBesides them every unit has what no program can do without: memory, \
         threads, time, its own\ndescriptors and signals, exec.\n\n",
    );
    let groups = seccomp::GROUPS.iter().map(|(name, calls)| {
        let names: Vec<_> = calls.iter().map(|(name, _)| *name).collect();
        vec![format!("`{name}`"), names.join(" ")]
    });
    rows(&mut text, &["group", "system calls"], groups);
    text
}

fn rows(text: &mut String, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let _ = writeln!(text, "| {} |\n|{}", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
}

fn reach(unit: &Unit, sandbox: &Sandbox) -> Vec<String> {
    let user = match sandbox.user {
        User::Dynamic(id) => format!("own ({id})"),
        User::Fixed(0) => "root".to_owned(),
        User::Fixed(id) => id.to_string(),
    };
    let kept: Vec<_> = sandbox.capabilities.iter().map(|kept| kept.name().to_owned()).collect();
    let read_devices = sandbox.read_devices.iter().map(|device| format!("{device} (read)"));
    let reads = sandbox.read_disks || sandbox.write_disks.is_some();
    let written = sandbox.write_disks.map(|disks| match disks {
        WriteDisks::System => "the system disk".to_owned(),
        WriteDisks::Data => "any disk but the system's".to_owned(),
        WriteDisks::All => "any disk".to_owned(),
    });
    let disks = written.into_iter().chain(reads.then(|| "any disk (read)".to_owned()));
    let devices: Vec<_> =
        sandbox.devices.iter().cloned().chain(read_devices).chain(disks).collect();
    let sockets: Vec<_> = sandbox.sockets.iter().map(|family| family.name()).collect();
    let network = match (sandbox.network, sockets.is_empty()) {
        (Network::None, true) => String::new(),
        (Network::None, false) => format!("none; {}", sockets.join(" ")),
        (Network::Host, _) => sockets.join(" "),
    };
    let open = |listed: &[String], open: bool| {
        if open { "as its user".to_owned() } else { listed.join(" ") }
    };
    vec![
        format!("`{}`", unit.name),
        user,
        kept.join(" "),
        open(&sandbox.read_paths, !sandbox.landlock),
        open(&sandbox.write_paths, !sandbox.landlock && !sandbox.read_only),
        devices.join(" "),
        network,
        walls(unit, sandbox).join(", "),
    ]
}

/// What a unit does without.
fn walls(unit: &Unit, sandbox: &Sandbox) -> Vec<&'static str> {
    let mut missing = Vec::new();
    if unit.orders {
        missing.push("gives PID 1 orders");
    }
    if unit.even_unguarded {
        missing.push("starts without control groups");
    }
    if sandbox.mounts == Mounts::Host {
        missing.push("the board's own mounts");
    } else {
        for (there, name) in [
            (sandbox.read_only, "mounts stay writable"),
            (sandbox.private_tmp, "the board's /tmp"),
            (sandbox.hide_proc, "sees processes"),
            (sandbox.private_dev, "the board's /dev"),
        ] {
            if !there {
                missing.push(name);
            }
        }
    }
    if !sandbox.landlock {
        missing.push("no Landlock on files");
    }
    if !sandbox.private_uts {
        missing.push("the board's name");
    }
    missing
}

fn calls(unit: &Unit, sandbox: &Sandbox) -> Vec<String> {
    let limits = &unit.limits;
    let number = |value: Option<u32>| value.map_or_else(String::new, |value| value.to_string());
    let mut others = Vec::new();
    let mut add = |name: &str, value: Option<i64>| {
        others.extend(value.map(|value| format!("{name} {value}")));
    };
    add("watchdog_ms", unit.watchdog_ms.and_then(|ms| i64::try_from(ms).ok()));
    add("memory_high_mib", limits.memory_high_mib.map(i64::from));
    add("cpu_weight", limits.cpu_weight.map(i64::from));
    add("cpu_max_percent", limits.cpu_max_percent.map(i64::from));
    add("io_weight", limits.io_weight.map(i64::from));
    add("read_kib_per_s", limits.io_max.read_kib_per_s.map(i64::from));
    add("write_kib_per_s", limits.io_max.write_kib_per_s.map(i64::from));
    add("read_ops_per_s", limits.io_max.read_ops_per_s.map(i64::from));
    add("write_ops_per_s", limits.io_max.write_ops_per_s.map(i64::from));
    add("oom_score_adj", limits.oom_score_adj.map(i64::from));
    add("nice", limits.nice.map(i64::from));
    add("nofile", limits.nofile.map(i64::from));
    add("memlock_kib", limits.memlock_kib.map(i64::from));
    vec![
        format!("`{}`", unit.name),
        sandbox.seccomp.join(" "),
        seccomp::numbers(&sandbox.seccomp).len().to_string(),
        number(limits.memory_max_mib),
        number(limits.pids_max),
        others.join(", "),
    ]
}

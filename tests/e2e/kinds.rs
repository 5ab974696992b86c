//! PID 1 alone with units of every kind: mounts, devices, sockets that lose no connection, schedules, probes,
//! watchdogs, exit statuses that mean "not again", and files that cannot be used beside all of them.

use crate::bench::{folder, turn};
use crate::init::Units;
use anyhow::Result;
use std::time::Duration;

const QUICK: &str = "backoff_ms = [200, 200]\n";
/// Longest wait for a line that is printed before what was waited for already.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn every_kind_of_unit_does_its_work() -> Result<()> {
    let _turn = turn();
    let dir = folder("init-kinds")?;
    let mut units = Units::new()?;
    units.add("judge", &["judge", "kinds"], "restart = \"never\"\n");
    let quick = QUICK;
    plain(
        &mut units,
        "in-memory",
        "mount",
        "[mount]\nwhat = \"tmpfs\"\nwhere = \"/run/in-memory\"\n\
        type = \"tmpfs\"\noptions = \"ro,nosuid,size=64k\"\n",
    );
    plain(&mut units, "null", "device", "device = \"mem:null\"\n");
    plain(&mut units, "ghost", "device", "device = \"block:ghost\"\nstart_timeout_ms = 0\n");
    units.add("haunted", &["serve"], "requires = [\"ghost\"]\n");
    plain(&mut units, "door", "socket", "listen = \"unix:/run/door.sock\"\n");
    let service = "kind = \"service\"\n";
    units.write(
        "answer",
        service,
        &["kinds", "answer"],
        &format!("requires = [\"door\"]\n{quick}"),
    );
    units.write(
        "clockwork",
        "kind = \"task\"\n",
        &["kinds", "count"],
        "delay_ms = 2000\nevery_ms = 1000\n",
    );
    let asked = "kind = \"service\"\nready = \"9p:unix:/run/ninep.sock\"\n";
    units.write("ninep", asked, &["kinds", "ninep"], "");
    units.write("leaver", service, &["kinds", "exit", "7"], "no_restart_status = [7]\n");
    plain(&mut units, "reached", "milestone", "requires = [\"null\", \"answer\", \"ninep\"]\n");
    units.add("deaf", &["serve"], &format!("watchdog_ms = 1000\n{quick}"));
    units.add("root", &["serve"], quick);
    units.add("leaf", &["serve"], &format!("requires = [\"root\"]\n{quick}"));
    broken(&mut units);
    set_by_people(&mut units);
    let guest = units.boot(&dir, 256)?;
    for name in [
        "mount",
        "device",
        "socket",
        "schedule",
        "probe",
        "last-will",
        "stages",
        "milestone",
        "watchdog",
        "needs",
        "settings",
        "torn-settings",
    ] {
        guest.phase(name)?;
    }
    // Of a file that belongs to no unit only the log can tell, and the console.
    guest.serial.wait_from(0, "nobody.toml", PATIENCE)?;
    guest.ends()
}

/// A unit without a program.
fn plain(units: &mut Units, name: &str, kind: &str, more: &str) {
    let text = format!("description = \"Unit {name}\"\nkind = \"{kind}\"\n{more}");
    units.root.file(&format!("usr/lib/goblin/units/{name}.toml"), 0o644, text.into());
}

/// Settings on STATE as a person, a power cut and a typing error leave them.
fn set_by_people(units: &mut Units) {
    units.write("state", "kind = \"task\"\n", &["nothing"], "");
    units.add("tuned", &["serve"], &format!("after = [\"state\"]\n{QUICK}"));
    for (file, text) in [
        ("tuned", "nice = 5\nmemory_max_mib = 64\n"),
        ("leaf", "nice = 5\nmemory_ma"),
        ("nobody", "nice = 5\n"),
    ] {
        units.root.file(&format!("state/config/units/{file}.toml"), 0o600, text.into());
    }
}

/// Units that cannot start, each for a reason of its own.
fn broken(units: &mut Units) {
    let never = "restart = \"never\"\n";
    let absent = format!(
        "description = \"No program\"\nkind = \"service\"\nexec = [\"/usr/bin/absent\"]\n{never}"
    );
    units.root.file("usr/lib/goblin/units/absent.toml", 0o644, absent.into());
    let garbled = "description = \"Not TOML\"\nkind = = \u{fffd}\n";
    units.root.file("usr/lib/goblin/units/garbled.toml", 0o644, garbled.into());
    units.add("unlisted", &["serve"], &format!("{never}[sandbox]\n"));
    units.add("circle-a", &["serve"], "requires = [\"circle-b\"]\n");
    units.add("circle-b", &["serve"], "requires = [\"circle-a\"]\n");
}

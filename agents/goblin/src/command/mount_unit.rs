//! `goblin mount --print-unit`: a systemd mount unit, and the automount unit that starts it at the first access.
//!
//! A mount unit runs `mount(8)`, which runs `/sbin/mount.goblin` for the type `goblin`: this program under another
//! name ([`super::mount_helper`]). The relay stays behind in the unit's control group and ends with the mount.

use crate::cli::Mount;
use crate::error::CliError;
use crate::output::Output;
use std::path::{Component, Path, PathBuf};

/// Where an administrator's units lie (`systemd.unit(5)`).
const UNITS: &str = "/etc/systemd/system";
/// Where `mount(8)` looks for helpers.
const HELPER: &str = "/sbin/mount.goblin";
/// Longest name of a unit in bytes without its suffix (UNIT_NAME_MAX of systemd's `unit-name.h`, less a NUL).
const UNIT_NAME_BYTES_MAX: usize = 255 - ".automount".len();

/// Two units of one name.
#[derive(Debug)]
pub struct Units {
    /// Without a suffix.
    name: String,
    mount: String,
    automount: String,
}

/// Makes the units of a mount. `uid` and `gid` are whose files they are on this PC.
///
/// # Errors
/// When a unit file cannot say what is wanted; the text names the remedy.
pub fn units(wanted: &Mount, (uid, gid): (u32, u32)) -> Result<Units, CliError> {
    let dir = place(&wanted.dir)?;
    let name = escape(&dir);
    if name.len() > UNIT_NAME_BYTES_MAX {
        return Err(CliError::pc(format!(
            "{dir}: too long for the name of a systemd unit; mount on a folder with a shorter path"
        )));
    }
    let what = value(&wanted.place, "the share")?;
    let (dir, mut options) = (value(&dir, "the folder")?, vec!["_netdev".to_owned()]);
    let flags = [("ro", wanted.read_only), ("fuse", wanted.fuse), ("direct", wanted.direct)];
    options.extend(flags.iter().filter(|(_, on)| *on).map(|(word, _)| (*word).to_owned()));
    if !wanted.direct {
        options.extend([format!("uid={uid}"), format!("gid={gid}")]);
        options.push(format!("wait={}", wanted.wait));
    }
    if let Some(cache) = &wanted.cache {
        if cache.contains(',') {
            return Err(CliError::pc(format!(
                "--cache={cache}: a unit takes one mode, without commas"
            )));
        }
        options.push(format!("cache={}", value(cache, "--cache")?));
    }
    let options = options.join(",");
    // `_netdev` has systemd order the mount after the network and unmount it before the network goes
    // (`systemd.mount(5)`, "Default Dependencies").
    let mount = format!(
        "[Unit]\nDescription=Share {what} of a goblinux box\n\n\
         [Mount]\nWhat={what}\nWhere={dir}\nType=goblin\nOptions={options}\n\n\
         [Install]\nWantedBy=remote-fs.target"
    );
    let automount = format!(
        "[Unit]\nDescription=Share {what} of a goblinux box, at the first access\n\n\
         [Automount]\nWhere={dir}\n\n\
         [Install]\nWantedBy=remote-fs.target"
    );
    Ok(Units { name, mount, automount })
}

impl Units {
    /// Prints both, as `systemctl cat` does, and what to do with them.
    ///
    /// # Errors
    /// [`CliError::Print`].
    pub fn print(&self, output: &mut Output) -> Result<(), CliError> {
        let Self { name, mount, automount } = self;
        for line in self.steps() {
            output.line(&format!("# {line}"))?;
        }
        output.line(&format!("\n# {UNITS}/{name}.mount\n{mount}"))?;
        output.line(&format!("\n# {UNITS}/{name}.automount\n{automount}"))
    }

    /// Writes both into a folder and says what else to do.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, folder: &Path, output: &mut Output) -> Result<(), CliError> {
        for (suffix, text) in [("mount", &self.mount), ("automount", &self.automount)] {
            let path = folder.join(format!("{}.{suffix}", self.name));
            std::fs::write(&path, format!("{text}\n"))
                .map_err(|err| CliError::pc(format!("{}: {err}", path.display())))?;
            output.line(&format!("{} is written", path.display()))?;
        }
        self.steps().iter().try_for_each(|line| output.line(line))
    }

    fn steps(&self) -> [String; 3] {
        let program = std::env::current_exe().unwrap_or_else(|_| "/usr/local/bin/goblin".into());
        // A name may hold a backslash, which a shell would take away.
        [
            "As root, once for all mounts, and then for this one:".to_owned(),
            format!("  ln -sf '{}' {HELPER}", program.display()),
            format!(
                "  systemctl daemon-reload && systemctl enable --now '{}.automount'",
                self.name
            ),
        ]
    }
}

/// The folder as systemd wants it: whole, and without a symbolic link on the way. It may not be there yet; systemd
/// makes it.
fn place(dir: &Path) -> Result<String, CliError> {
    let dir = std::path::absolute(dir).map_err(CliError::pc)?;
    let mut there = dir.as_path();
    let mut missing = PathBuf::new();
    let real = loop {
        match (std::fs::canonicalize(there), there.parent(), there.file_name()) {
            (Ok(real), ..) => break real,
            (Err(_), Some(above), Some(name)) => {
                missing = Path::new(name).join(&missing);
                there = above;
            }
            (Err(err), ..) => return Err(CliError::pc(format!("{}: {err}", dir.display()))),
        }
    };
    let whole: PathBuf = real.join(missing).components().collect();
    if whole.components().any(|part| part == Component::ParentDir) || whole == Path::new("/") {
        let dir = dir.display();
        return Err(CliError::pc(format!("{dir}: name the folder itself, without `..`; not `/`")));
    }
    whole.into_os_string().into_string().map_err(|odd| {
        let odd = odd.display();
        CliError::pc(format!(
            "{odd}: a unit file is UTF-8 text; mount on a folder with such a name"
        ))
    })
}

/// A path as a unit's name, as `systemd-escape --path` makes it (`systemd.unit(5)`, "String Escaping for Inclusion in
/// Unit Names"): no slash in front, `-` between parts, and what is no letter, digit, `:`, `_` or `.` as `\xNN`.
fn escape(path: &str) -> String {
    let mut name = String::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if !name.is_empty() {
            name.push('-');
        }
        for (at, byte) in part.bytes().enumerate() {
            // A name that begins with a dot would be a hidden file.
            let hidden = byte == b'.' && at == 0 && name.is_empty();
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'_' | b'.' if !hidden => {
                    name.push(char::from(byte));
                }
                byte => name.push_str(&format!("\\x{byte:02x}")),
            }
        }
    }
    if name.is_empty() { "-".to_owned() } else { name }
}

/// The value of a key: all of the line, in which `%` begins a specifier (`systemd.unit(5)`, "Specifiers"), blanks at
/// the ends are dropped and a backslash at the end joins the next line (`systemd.syntax(7)`).
fn value(text: &str, of: &str) -> Result<String, CliError> {
    let lost = text.trim() != text || text.ends_with('\\') || text.starts_with('-');
    if lost || text.is_empty() || text.chars().any(char::is_control) {
        return Err(CliError::pc(format!(
            "{of} `{}` cannot be written into a unit: no control characters, no blank or backslash at an end, no `-` \
             in front",
            text.escape_debug()
        )));
    }
    Ok(text.replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;
    use std::process::Command as Program;

    fn wanted(words: &[&str]) -> Mount {
        let words = [&["goblin", "mount"], words].concat();
        match Cli::parse_from(words).command {
            Command::Mount(mount) => mount,
            _ => panic!(),
        }
    }

    fn made(words: &[&str]) -> Result<Units, CliError> {
        units(&wanted(words), (7, 8))
    }

    /// What `systemd-escape --path` of systemd 252 printed for each.
    const ESCAPED: &[(&str, &str)] = &[
        ("/", "-"),
        ("/mnt", "mnt"),
        ("/mnt/a b", r"mnt-a\x20b"),
        ("/mnt//x/", "mnt-x"),
        ("/mnt/a-b_c.d:e", r"mnt-a\x2db_c.d:e"),
        ("/.hidden/x", r"\x2ehidden-x"),
        ("/mnt/.hidden", "mnt-.hidden"),
        ("/mnt/ünï", r"mnt-\xc3\xbcn\xc3\xaf"),
        ("/mnt/50%\"$", r"mnt-50\x25\x22\x24"),
        (r"/mnt/a\b", r"mnt-a\x5cb"),
        ("/a/.../b", "a-...-b"),
        ("/..a", r"\x2e.a"),
    ];

    #[test]
    fn names_are_those_of_systemd() {
        for (path, name) in ESCAPED {
            assert_eq!(escape(path), *name, "{path}");
        }
    }

    #[test]
    fn the_systemd_of_this_machine_agrees() {
        for (path, name) in ESCAPED {
            let Ok(said) = Program::new("systemd-escape").args(["--path", "--", path]).output()
            else {
                println!("skipped: this machine has no systemd-escape");
                return;
            };
            assert_eq!(String::from_utf8_lossy(&said.stdout).trim_end(), *name, "{path}");
        }
    }

    #[test]
    fn units_keep_what_was_asked_for() {
        let text = made(&["attic:home", "/mnt/50% of", "--cache=mmap", "--read-only"]).unwrap();
        assert_eq!(text.name, r"mnt-50\x25\x20of");
        assert!(text.mount.contains("\nWhere=/mnt/50%% of\n"), "{text:?}");
        let options = "\nOptions=_netdev,ro,uid=7,gid=8,wait=300,cache=mmap\n";
        assert!(text.mount.contains(options), "{text:?}");
        let direct = made(&["attic:home", "/mnt", "--direct"]).unwrap().mount;
        assert!(direct.contains("\nOptions=_netdev,direct\n"), "{direct}");
        assert!(made(&["attic:home", "here"]).unwrap().mount.contains("\nWhere=/"), "whole paths");
    }

    #[test]
    fn what_a_unit_cannot_say_is_refused() {
        for dir in ["/mnt/x\\", "/mnt/a\nb", "/mnt/ ", "/nowhere/../mnt", "/"] {
            assert!(made(&["a:b", dir]).is_err(), "{dir:?}");
        }
        assert!(made(&["a:b", &format!("/{}", "long/".repeat(60))]).is_err());
        assert!(made(&["a:b ", "/mnt"]).is_err() && made(&["a:b", "/mnt", "--cache=a,b"]).is_err());
    }

    #[test]
    fn systemd_takes_the_units() {
        let folder = tempfile::tempdir().unwrap();
        let made = made(&["attic:home", "/mnt/a-b c", "--cache=mmap"]).unwrap();
        let paths =
            [("mount", &made.mount), ("automount", &made.automount)].map(|(suffix, text)| {
                let path = folder.path().join(format!("{}.{suffix}", made.name));
                std::fs::write(&path, text).unwrap();
                path
            });
        let Ok(said) = Program::new("systemd-analyze").arg("verify").args(&paths).output() else {
            println!("skipped: this machine has no systemd-analyze");
            return;
        };
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        let about_them: Vec<&str> =
            said.lines().filter(|line| line.contains(r"mnt-a\x2db")).collect();
        assert!(about_them.is_empty(), "{said}");
    }
}

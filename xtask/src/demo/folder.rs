//! The demonstration's output folder: cleared at each start, but never when it may be somebody's own.

use crate::host;
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Where things go if nothing else is asked for, from the workspace's folder.
pub(super) const OUT: &str = "target/demo";
/// Marks a folder as made by the demonstration.
const MARK: &str = ".goblin-demo";

/// Checks, claims and clears the folder. The claim holds until the file is dropped.
pub(super) fn claim(wanted: &Path, input: &Path) -> Result<(PathBuf, File)> {
    let out = if wanted == Path::new(OUT) {
        host::root().join(OUT)
    } else {
        std::path::absolute(wanted)?
    };
    // What is compared is where links lead; a folder that is not there yet leads nowhere.
    let real = std::fs::canonicalize(&out).unwrap_or_else(|_| out.clone());
    ensure!(
        !real.starts_with(input) && !input.starts_with(&real),
        "--out {} and --input {} lie in one another: name another --out",
        out.display(),
        input.display()
    );
    let name = blake3::hash(real.as_os_str().as_encoded_bytes()).to_hex();
    let lock = host::target("locks")?.join(name.as_str());
    let claim = host::claim(&lock, "a demonstration with this --out runs already")?;
    if out.exists() {
        clear(&out, &real)?;
    }
    Ok((out, claim))
}

fn clear(out: &Path, real: &Path) -> Result<()> {
    let mut entries = std::fs::read_dir(out)
        .with_context(|| format!("--out {} is no folder that can be read", out.display()))?;
    let earlier = real.starts_with(host::root().join("target")) && out.join("report.json").exists();
    let ours = out.join(MARK).exists() || earlier;
    ensure!(
        ours || entries.next().is_none(),
        "--out {} holds files that no demonstration made: name an empty or a new folder",
        out.display()
    );
    std::fs::remove_dir_all(out).with_context(|| format!("cannot clear {}", out.display()))
}

/// Makes the cleared folder, with its mark.
pub(super) fn make(out: &Path) -> Result<()> {
    std::fs::create_dir_all(out)
        .and_then(|()| {
            std::fs::write(
                out.join(MARK),
                "Made by `cargo xtask demo`, which clears this folder.\n",
            )
        })
        .with_context(|| format!("cannot write into {}", out.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_ones_own_is_never_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let input = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        make(&out).unwrap();
        std::fs::write(out.join("report.json"), "{}").unwrap();
        let (_, held) = claim(&out, input.path()).unwrap();
        assert!(!out.exists());
        assert!(claim(&out, input.path()).unwrap_err().to_string().contains("already"));
        drop(held);
        std::fs::create_dir(&out).unwrap();
        std::fs::write(out.join("thesis.txt"), "years").unwrap();
        assert!(claim(&out, input.path()).unwrap_err().to_string().contains("no demonstration"));
        assert!(out.join("thesis.txt").exists());
        let inside = input.path().join("out");
        assert!(claim(&inside, &input.path().canonicalize().unwrap()).is_err());
        assert!(claim(dir.path(), &out).is_err());
    }
}

//! The unit files of a directory.

use goblin_init_core::unit::{self, Loaded};
use std::io;
use std::path::Path;

/// Reads every `*.toml` of a directory, by name.
///
/// # Errors
/// When the directory itself cannot be read.
pub fn load_dir(dir: &Path) -> io::Result<Loaded> {
    let mut paths: Vec<_> = std::fs::read_dir(dir)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    Ok(unit::load(paths.into_iter().map(|path| {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        (stem, goblin_sys::files::read_bounded(&path, unit::UNIT_BYTES_MAX))
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn only_unit_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("bad.toml"), "x").unwrap();
        std::fs::write(dir.path().join("README.md"), "x").unwrap();
        let Loaded { units, refused } = load_dir(dir.path()).unwrap();
        assert!(units.is_empty());
        assert_eq!(refused.first().unwrap().0, "bad");
        assert!(load_dir(&dir.path().join("absent")).is_err());
    }

    #[test]
    fn the_shipped_units_are_good() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rootfs/units");
        let Loaded { units, refused } = load_dir(&dir).unwrap();
        assert!(refused.is_empty(), "{refused:?}");
        assert_eq!(goblin_init_core::graph::check(&units), BTreeMap::new());
        assert_eq!(units.iter().filter(|unit| unit.gate.is_some()).count(), 1);
        // A gate that waits for a unit could not say that this unit is missing.
        assert!(units.iter().all(|unit| unit.gate.is_none() || unit.requires.is_empty()));
    }
}

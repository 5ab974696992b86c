//! The kernel's modules in the base: files, indexes, and whether the list of allowed ones speaks of them.

use crate::host;
use crate::kernel::{Kernel, MODULE_INDEXES};
use anyhow::{Context, Result};
use goblin_core_types::paths;
use goblin_init_core::modalias::{AllowList, ModuleIndex};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The list as shipped, relative to the root of the source.
const LIST: &str = "rootfs/etc/modules.toml";

/// Path in the base and file of the host, for the indexes and every module that may be loaded; empty for a kernel without
/// modules.
///
/// # Errors
/// When a file cannot be read, an index is not as `depmod` writes it, or the list names a module that is
/// not there.
pub fn files(kernel: &Kernel) -> Result<Vec<(String, PathBuf)>> {
    let Some(folder) = &kernel.modules else { return Ok(Vec::new()) };
    let [alias, dep] = MODULE_INDEXES.map(|name| text(&folder.join(name)));
    let index = ModuleIndex::parse(&alias?, &dep?)
        .with_context(|| format!("the modules in {}", folder.display()))?;
    let list = AllowList::parse(&text(&host::root().join(LIST))?).context(LIST)?;
    list.check(&index).context(LIST)?;
    Ok(listed(folder, &kernel.release, &index, &list))
}

/// The indexes, the allowed modules and what these need: nothing else could ever be loaded.
fn listed(
    folder: &Path,
    release: &str,
    index: &ModuleIndex,
    list: &AllowList,
) -> Vec<(String, PathBuf)> {
    let needed: BTreeSet<&str> =
        list.allowed().flat_map(|name| index.files(name)).map(String::as_str).collect();
    MODULE_INDEXES
        .into_iter()
        .chain(needed)
        .map(|name| (format!("{}/{release}/{name}", paths::MODULES), folder.join(name)))
        .collect()
}

/// Folders above files, below the folder of all modules and with it, shortest first.
pub fn folders(files: &[(String, PathBuf)]) -> Vec<String> {
    let mut folders: Vec<String> = files
        .iter()
        .flat_map(|(path, _)| Path::new(path).ancestors().skip(1))
        .filter(|folder| folder.starts_with(paths::MODULES))
        .map(|folder| folder.to_string_lossy().into_owned())
        .collect();
    folders.sort();
    folders.dedup();
    folders
}

fn text(path: &Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&host::read(path)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_and_indexes_lie_where_the_board_looks() {
        let dep = "kernel/usb/a.ko: kernel/usb/b.ko\nkernel/usb/b.ko:\nkernel/usb/c.ko:\n";
        let index = ModuleIndex::parse("alias usb:* a\n", dep).unwrap();
        let list = AllowList::parse("schema = 1\n[allow]\na = 'why'\n").unwrap();
        let files = listed(Path::new("/host"), "6.12", &index, &list);
        let paths: Vec<_> = files.iter().map(|(path, _)| path.as_str()).collect();
        let base = "/usr/lib/modules/6.12";
        assert_eq!(
            paths,
            ["modules.alias", "modules.dep", "kernel/usb/a.ko", "kernel/usb/b.ko"]
                .map(|name| format!("{base}/{name}"))
        );
        assert_eq!(files[2].1, Path::new("/host/kernel/usb/a.ko"));
        let below = ["", "/6.12", "/6.12/kernel", "/6.12/kernel/usb"];
        assert_eq!(folders(&files), below.map(|rest| format!("/usr/lib/modules{rest}")));
        assert!(folders(&[]).is_empty());
    }

    #[test]
    fn the_shipped_list_is_one() {
        AllowList::parse(&text(&host::root().join(LIST)).unwrap()).unwrap();
    }

    /// A kernel given by hand has no modules, and its boards do without.
    #[test]
    fn a_kernel_without_modules_adds_nothing() {
        let kernel = Kernel {
            bzimage: "bzImage".into(),
            modules: None,
            release: "6.12".into(),
            source_version: None,
        };
        assert!(files(&kernel).unwrap().is_empty());
    }
}

//! Loads the modules that devices ask for, as far as the list allows.

use goblin_core_types::paths;
use goblin_init_core::modalias::{
    AllowList, INDEX_BYTES_MAX, LIST_BYTES_MAX, ModuleIndex, ModulesError, Permission,
};
use goblin_sys::files;
use goblin_sys::module::{self, Loaded};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Refusals that are remembered, so that each is told once; a device that keeps coming with other words shall
/// fill neither the log nor the memory.
const TOLD_MAX: usize = 256;

/// The modules of the base image.
#[derive(Debug)]
pub struct Modules {
    folder: PathBuf,
    index: ModuleIndex,
    list: AllowList,
    /// Modules that need no second look: loaded, or told that they are not.
    settled: BTreeSet<String>,
}

/// Why there are no modules to load.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// Its path.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A file is not as it should be.
    #[error(transparent)]
    Modules(#[from] ModulesError),
}

impl OpenError {
    /// The image has no modules for this kernel: nothing is wrong.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl Modules {
    /// Those for the running kernel.
    ///
    /// # Errors
    /// When the image has none, or not as they should be: the board does without.
    pub fn open() -> Result<Self, OpenError> {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        Self::open_at(&Path::new(paths::MODULES).join(release), Path::new(paths::MODULES_LIST))
    }

    fn open_at(folder: &Path, list: &Path) -> Result<Self, OpenError> {
        let read = |path: PathBuf, bytes_max: usize| {
            files::read_bounded(&path, bytes_max)
                .and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other))
                .map_err(|source| OpenError::Read { path, source })
        };
        let alias = read(folder.join("modules.alias"), INDEX_BYTES_MAX)?;
        let dep = read(folder.join("modules.dep"), INDEX_BYTES_MAX)?;
        let list = read(list.to_owned(), LIST_BYTES_MAX)?;
        Ok(Self {
            folder: folder.to_owned(),
            index: ModuleIndex::parse(&alias, &dep)?,
            list: AllowList::parse(&list)?,
            settled: BTreeSet::new(),
        })
    }

    /// How many modules there are.
    pub fn count(&self) -> usize {
        self.index.names().count()
    }

    /// A device says what it is.
    pub fn device(&mut self, modalias: &str) {
        let wanted: Vec<String> =
            self.index.wanted(modalias).into_iter().map(str::to_owned).collect();
        for name in wanted {
            if self.settled.len() >= TOLD_MAX || !self.settled.insert(name.clone()) {
                continue;
            }
            match self.list.permission(&name) {
                Permission::Allowed => self.load(&name, modalias),
                Permission::Refused { why } => tracing::warn!(
                    module = name,
                    modalias,
                    why,
                    "a device asks for a module that it may not call in"
                ),
            }
        }
    }

    fn load(&mut self, name: &str, modalias: &str) {
        for file in self.index.files(name) {
            match module::load(&self.folder.join(file)) {
                Ok(Loaded::Now) => tracing::info!(module = file, modalias, "module loaded"),
                Ok(Loaded::Before) => {}
                Err(err) => {
                    let err = err.to_string();
                    tracing::error!(module = name, file, modalias, err, "module cannot be loaded");
                    // Another device may ask again later, when memory or a dependency is there.
                    self.settled.remove(name);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_modules_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let err = Modules::open_at(dir.path(), Path::new("/none")).unwrap_err();
        assert!(err.is_absence() && err.to_string().contains("modules.alias"), "{err}");
        for name in ["modules.alias", "modules.dep"] {
            std::fs::write(dir.path().join(name), "odd").unwrap();
        }
        let list = dir.path().join("modules.alias");
        assert!(!Modules::open_at(dir.path(), &list).unwrap_err().is_absence());
    }

    #[test]
    fn a_module_that_fails_may_be_asked_for_again_and_a_refused_one_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        put("modules.alias", "alias usb:a* good\nalias usb:b* bad\n");
        put("modules.dep", "good.ko:\nbad.ko:\n");
        put("list.toml", "schema = 1\n[allow]\ngood = 'x'\n");
        put("good.ko", "not a module");
        let mut modules = Modules::open_at(dir.path(), &dir.path().join("list.toml")).unwrap();
        assert_eq!(modules.count(), 2);
        for alias in ["usb:a1", "usb:b1", "usb:b2", "usb:c"] {
            modules.device(alias);
        }
        assert_eq!(modules.settled, BTreeSet::from(["bad".to_owned()]));
    }
}

//! The files, the mount and the host name.

use crate::decide::Found;
use goblin_core_config::PROVISION_BYTES_MAX;
use goblin_core_types::{ProvisionStatus, paths};
use goblin_sys::files;
use goblin_sys::mount::{self, MountFlags};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Largest result file read.
const RESULT_BYTES_MAX: usize = 64 * 1024;
/// What the ESP's copy says once it was applied; the rest of its room is filled with newlines.
const SCRUBBED: &str = "# This board's provisioning file was applied and removed from here.\n";

/// Where everything lies: fixed on a board, a directory in tests.
#[derive(Debug)]
pub(crate) struct Places {
    /// Mount point of STATE, where one is expected.
    pub(crate) state: Option<PathBuf>,
    /// Mount point of the ESP, where one is expected.
    pub(crate) esp: Option<PathBuf>,
    /// The applied file.
    pub(crate) applied: PathBuf,
    /// What applying did.
    pub(crate) result: PathBuf,
    /// The flashed file.
    pub(crate) offered: PathBuf,
    /// The role's word.
    pub(crate) role: PathBuf,
}

impl Places {
    pub(crate) fn on_board() -> Self {
        Self {
            state: Some(paths::STATE.into()),
            esp: Some(paths::ESP.into()),
            applied: paths::PROVISION.into(),
            result: paths::PROVISION_RESULT.into(),
            offered: Path::new(paths::ESP).join(paths::ESP_PROVISION),
            role: paths::ROLE_FILE.into(),
        }
    }

    /// Why nothing can be decided now: without STATE an applied file would look like a missing one.
    pub(crate) fn state_problem(&self) -> Option<String> {
        let state = self.state.as_ref()?;
        match mount::mount_at(state) {
            Ok(Some(_)) => None,
            Ok(None) => Some(format!(
                "{} is not mounted, so the board's settings cannot be read: `goblin logs --unit state` \
                 says why",
                state.display()
            )),
            Err(err) => Some(format!("the mount table cannot be read: {err}")),
        }
    }

    pub(crate) fn read_result(&self) -> Option<ProvisionStatus> {
        let bytes = files::read_bounded(&self.result, RESULT_BYTES_MAX).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Keeps the file and its result durably, the file first.
    pub(crate) fn store(&self, found: &Found, status: &ProvisionStatus) -> io::Result<()> {
        let Found::Valid { text, .. } = found else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if let Some(dir) = self.applied.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            // The new directory's own entry must be on the disk before anything relies on it.
            if let Some(parent) = dir.parent() {
                File::open(parent)?.sync_all()?;
            }
        }
        files::replace(&self.applied, text.as_bytes(), 0o600)?;
        files::replace(&self.result, &serde_json::to_vec_pretty(status)?, 0o600)
    }

    /// Lets the units that are not root but need the keys read the applied file.
    pub(crate) fn share_keys(&self) -> io::Result<()> {
        let Some(dir) = self.applied.parent() else { return Ok(()) };
        for (path, mode) in [(dir, 0o710), (self.applied.as_path(), 0o640)] {
            // The group first: the mode must not give anything to the group before.
            std::os::unix::fs::chown(path, None, Some(paths::KEYS_GROUP))?;
            std::fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    /// Overwrites the flashed file in place: a new file would leave the private key in freed clusters.
    pub(crate) fn scrub(&self) -> io::Result<()> {
        let fixed = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        if let Some(esp) = &self.esp {
            mount::remount(esp, fixed, "")?;
        }
        let scrubbed = overwrite(&self.offered);
        if let Some(esp) = &self.esp
            && let Err(err) = mount::remount(esp, fixed | MountFlags::RDONLY, "")
        {
            tracing::warn!(%err, "ESP stays writable");
        }
        scrubbed
    }

    pub(crate) fn write_role(&self, word: &str) -> io::Result<()> {
        if let Some(dir) = self.role.parent() {
            std::fs::create_dir_all(dir)?;
        }
        files::replace_volatile(&self.role, format!("{word}\n").as_bytes(), 0o644)
    }
}

/// What lies at `path`.
pub(crate) fn look(path: &Path) -> Found {
    let place = path.display().to_string();
    match files::read_bounded(path, PROVISION_BYTES_MAX) {
        Ok(bytes) => Found::of_bytes(&place, &bytes),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Found::Missing,
        // Longer than any provisioning file: that does not pass.
        Err(err) if err.kind() == io::ErrorKind::InvalidData => {
            Found::Refused { detail: format!("{place} cannot be used: {err}") }
        }
        Err(err) => Found::Unreadable { detail: format!("{place} cannot be read: {err}") },
    }
}

fn overwrite(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let room =
        usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX).min(PROVISION_BYTES_MAX);
    let mut content: Vec<u8> = SCRUBBED.bytes().take(room).collect();
    content.resize(room, b'\n');
    file.write_all(&content)?;
    file.sync_all()
}

pub(crate) fn set_host_name(host: &str) -> io::Result<()> {
    Ok(rustix::system::sethostname(host.as_bytes())?)
}

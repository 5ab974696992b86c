//! `cargo xtask release wave`: a published release to few boxes first, and its halt.

use super::{keys, lock, now, resume, write_metadata};
use crate::host;
use anyhow::{Context, Result, ensure};
use goblin_core_manifest::publish::Publisher;
use goblin_core_manifest::waves::{StepText, Waves};
use goblin_core_types::Version;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Subcommand)]
#[command(
    after_help = "Examples:\n  cargo xtask release wave set /srv/releases 4 1@+0h 10@+1d 100@+4d\n  \
    cargo xtask release wave halt /srv/releases 4 --reason \"fans stop\"\n  \
    cargo xtask release wave resume /srv/releases 4\n  cargo xtask release wave show /srv/releases\n\nA step is \
    PERCENT@TIME: of all boxes, from then on. A box finds its place by itself, from its id and the release. \
    Boxes that began when a release is halted go on; `goblin upgrade --now` does not wait."
)]
pub(super) enum WaveCommand {
    /// Hand a release out in these steps; to all at once without any
    Set {
        #[command(flatten)]
        release: ReleaseArgs,
        /// PERCENT@TIME, the time as 2026-11-20T16:00:00Z, +12h or +3d
        steps: Vec<StepText>,
    },
    /// Stop every box that has not begun
    Halt {
        #[command(flatten)]
        release: ReleaseArgs,
        /// Why: one line that people see
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Go on where the steps are by now
    Resume {
        #[command(flatten)]
        release: ReleaseArgs,
    },
    /// Show how each release is handed out
    Show {
        /// The repository
        folder: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct ReleaseArgs {
    /// The repository
    folder: PathBuf,
    /// The release
    version: Version,
    /// Folder of the signing keys
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
}

/// Runs `cargo xtask release wave`.
pub(super) fn command(command: &WaveCommand) -> Result<()> {
    match command {
        WaveCommand::Set { release, steps } => change(release, |waves| {
            let at = now();
            waves.steps = steps.iter().map(|step| step.at(at)).collect();
        }),
        WaveCommand::Halt { release, reason } => {
            change(release, |waves| waves.halted = Some(reason.clone()))
        }
        WaveCommand::Resume { release } => change(release, |waves| waves.halted = None),
        WaveCommand::Show { folder } => {
            print!("{}", show(&resume(folder)?));
            Ok(())
        }
    }
}

fn change(release: &ReleaseArgs, edit: impl FnOnce(&mut Waves)) -> Result<()> {
    let ReleaseArgs { folder, version, keys } = release;
    let key_folder = keys.clone().map_or_else(|| host::target("keys"), Ok)?;
    change_with(folder, *version, &key_folder, edit)
}

fn change_with(
    folder: &Path,
    version: Version,
    key_folder: &Path,
    edit: impl FnOnce(&mut Waves),
) -> Result<()> {
    let _lock = lock(folder)?;
    let keys = keys::open(key_folder, folder)?;
    ensure!(
        !keys.repository.targets.is_empty(),
        "how a release is handed out is signed by targets.json of the keys: it is not there"
    );
    let mut publisher = resume(folder)?;
    let mut waves = publisher
        .waves(version)
        .with_context(|| format!("release {version} is not in {}", folder.display()))?;
    edit(&mut waves);
    waves.check()?;
    publisher.hand_out(version, waves);
    write_metadata(&publisher, &keys, folder, now())?;
    print!("{}", show(&publisher));
    Ok(())
}

fn show(publisher: &Publisher) -> String {
    let mut text = String::new();
    for version in publisher.releases() {
        let waves = publisher.waves(version).unwrap_or_default();
        let steps: Vec<String> = waves
            .steps
            .iter()
            .map(|step| {
                format!("{}.{:02}% from {}", step.places / 100, step.places % 100, step.from)
            })
            .collect();
        let steps = if steps.is_empty() { "to all".into() } else { steps.join(", ") };
        let halt = waves.halted.map(|reason| format!("; halted: {reason}")).unwrap_or_default();
        text.push_str(&format!("release {version}  {steps}{halt}\n"));
    }
    text
}

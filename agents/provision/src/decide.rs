//! What to do with the file that was applied and the file that is offered: pure.

use goblin_core_config::{Provision, ProvisionError};
use goblin_core_types::{Digest, ProvisionOutcome};

/// What was found in one place.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    /// No file, or one without settings.
    Missing,
    /// A file that cannot be used.
    Refused {
        /// File, place, field and remedy.
        detail: String,
    },
    /// A file that is there and cannot be read now: the disk's fault, which may pass.
    Unreadable {
        /// File and the kernel's word.
        detail: String,
    },
    /// A checked file.
    Valid {
        /// Its settings.
        provision: Box<Provision>,
        /// Its text, without padding.
        text: String,
        /// blake3 of `text`.
        digest: Digest,
    },
}

impl Found {
    /// What the bytes of a file at `place` are.
    pub(crate) fn of_bytes(place: &str, bytes: &[u8]) -> Self {
        match goblin_core_config::parse_bytes(bytes) {
            Ok(provision) => {
                let text = String::from_utf8_lossy(bytes).trim_end_matches('\n').to_owned() + "\n";
                let digest = Digest(*blake3::hash(text.as_bytes()).as_bytes());
                Self::Valid { provision: Box::new(provision), text, digest }
            }
            Err(ProvisionError::Missing) => Self::Missing,
            Err(err) => Self::Refused { detail: format!("{place}: {err}") },
        }
    }

    pub(crate) fn digest(&self) -> Option<Digest> {
        match self {
            Self::Valid { digest, .. } => Some(*digest),
            Self::Missing | Self::Refused { .. } | Self::Unreadable { .. } => None,
        }
    }
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Go on with the applied file.
    Keep {
        /// The ESP still holds the same file: a power cut came before it was scrubbed.
        scrub: bool,
        /// What to tell people.
        detail: String,
    },
    /// Apply the offered file.
    Apply {
        /// What to tell people.
        detail: String,
    },
    /// The board has no role.
    Stay {
        /// Verdict.
        outcome: ProvisionOutcome,
        /// What to tell people.
        detail: String,
    },
}

/// Decides. An applied file wins over everything: provisioning happens once.
pub(crate) fn decide(applied: &Found, offered: &Found) -> Decision {
    match (applied, offered) {
        (Found::Valid { provision, digest, .. }, offered) => {
            let role = provision.role;
            let name = &provision.the_box.name;
            let running = format!("{role} board of the box `{name}`");
            keep(&running, *digest, provision, offered)
        }
        // Never replaced: the file on the ESP may be one that was refused, for another box.
        (Found::Unreadable { detail }, _) => Decision::Stay {
            outcome: ProvisionOutcome::Refused,
            detail: format!(
                "the settings applied earlier cannot be read: {detail}; check the system disk, then start \
                 the board again"
            ),
        },
        (Found::Refused { detail }, Found::Valid { provision, .. }) => Decision::Apply {
            detail: format!(
                "applied as {} board; it replaces an applied file that was unusable: {detail}",
                provision.role
            ),
        },
        (
            Found::Refused { detail },
            Found::Missing | Found::Refused { .. } | Found::Unreadable { .. },
        ) => Decision::Stay {
            outcome: ProvisionOutcome::Refused,
            detail: format!(
                "the settings applied earlier are unusable: {detail}; write the board's \
                 provisioning file to the disk again with `cargo xtask flash`"
            ),
        },
        (Found::Missing, Found::Valid { provision, .. }) => Decision::Apply {
            detail: format!(
                "applied: {} board of the box `{}`",
                provision.role, provision.the_box.name
            ),
        },
        (Found::Missing, Found::Refused { detail } | Found::Unreadable { detail }) => {
            Decision::Stay { outcome: ProvisionOutcome::Refused, detail: detail.clone() }
        }
        (Found::Missing, Found::Missing) => Decision::Stay {
            outcome: ProvisionOutcome::Missing,
            detail: "no provisioning file was flashed: make one with `cargo xtask provision` and \
                     write it to this board's disk with `cargo xtask flash`"
                .into(),
        },
    }
}

fn keep(running: &str, digest: Digest, applied: &Provision, offered: &Found) -> Decision {
    let (scrub, detail) = match offered {
        Found::Missing => (false, running.to_owned()),
        Found::Valid { digest: other, .. } if *other == digest => (true, running.to_owned()),
        Found::Valid { provision, .. } if provision.the_box.id != applied.the_box.id => (
            false,
            format!(
                "{running}; the file on the ESP is for another box (`{}`) and was not applied: \
                 flash the whole image to give this board to another box",
                provision.the_box.name
            ),
        ),
        Found::Valid { .. } => (
            false,
            format!(
                "{running}; the file on the ESP has other settings and was not applied, because \
                 provisioning happens once: flash the whole image to start over"
            ),
        ),
        Found::Refused { detail } | Found::Unreadable { detail } => {
            (false, format!("{running}; the file on the ESP was not applied: {detail}"))
        }
    };
    Decision::Keep { scrub, detail }
}

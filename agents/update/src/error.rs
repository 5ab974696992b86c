//! Why an update operation ended, with the remedy, and the stable word scripts go by.

use goblin_core_manifest::offer::OfferError;
use goblin_core_manifest::release::ManifestError;
use goblin_core_manifest::sbom::SbomError;
use goblin_core_manifest::tuf::TufError;
use goblin_core_types::{Digest, Role, UpdateReply, Version};
use goblin_core_update::mirror::KnowsNoMirror;
use goblin_core_update::{machine, reset, slots::SlotError, stick::StickError};
use goblin_image::BuildError;
use std::io;
use std::path::PathBuf;

/// Why an operation was not carried out. The board is as it was before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The repository's metadata or a manifest is not what was signed.
    #[error(transparent)]
    Tuf(#[from] TufError),
    /// There is no release to run.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// The list of a release's packages cannot be read.
    #[error(transparent)]
    Sbom(#[from] SbomError),
    /// The release's manifest cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Not possible in the present state.
    #[error(transparent)]
    Refused(#[from] machine::Refused),
    /// Not possible with what is on the boot disk.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// Not possible with a mirrored system disk.
    #[error(transparent)]
    KnowsNoMirror(#[from] KnowsNoMirror),
    /// The provisioning file names no source.
    #[error(
        "this board has no update source; add an `[update]` section to its provisioning file and flash it again"
    )]
    NoSource,
    /// No `goblin-record`, no ESP: there is nothing to update.
    #[error(
        "this board was not started by its boot loader, so its releases cannot be changed; start it from its disk"
    )]
    NotLoaded,
    /// The server could not be asked or stopped answering.
    #[error(
        "cannot fetch {url}: {detail}; check that the server runs and that this board reaches it, then try again"
    )]
    Network {
        /// Address.
        url: String,
        /// What went wrong, in one phrase.
        detail: String,
    },
    /// The server answers, and does not have the file.
    #[error(
        "cannot fetch {url}: the server does not have it; check that the server runs and that this board reaches it, then try again"
    )]
    Absent {
        /// Address.
        url: String,
    },
    /// A file content is not what its name says.
    #[error("content {digest} of the repository is damaged: {detail}; publish the release again")]
    Blob {
        /// Its name.
        digest: Digest,
        /// Size or digest that was found.
        detail: String,
    },
    /// What was rebuilt is not what was signed.
    #[error(
        "the rebuilt image has digest {got} instead of {expected}; this release cannot be built here, publish it again"
    )]
    Rebuilt {
        /// Digest found.
        got: Digest,
        /// Digest signed.
        expected: Digest,
    },
    /// The image could not be built for another reason.
    #[error("the image cannot be built: {0}")]
    Build(#[source] BuildError),
    /// Not enough room.
    #[error(
        "{place} has {free_bytes} bytes free and {needed_bytes} are needed; free some space there and try again"
    )]
    Space {
        /// STATE or the boot disk.
        place: &'static str,
        /// Bytes needed.
        needed_bytes: u64,
        /// Bytes free.
        free_bytes: u64,
    },
    /// The release failed here before.
    #[error(
        "release {version} failed on the {role} board before: {reason}; wait for a newer one, or forget the failure with `goblin quarantine clear --board {role}`"
    )]
    Quarantined {
        /// Board.
        role: Role,
        /// Version.
        version: Version,
        /// How it failed.
        reason: String,
    },
    /// The store on STATE failed.
    #[error("the update store cannot use {}: {source}; look at the disk's health in `goblin status`", path.display())]
    Store {
        /// File.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// The ESP failed.
    #[error("the boot disk cannot use {}: {source}; look at the disk's health in `goblin status`", path.display())]
    Esp {
        /// File.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// The boot record failed.
    #[error("the boot record cannot be written: {0}; nothing was armed")]
    Record(#[source] io::Error),
    /// PID 1 did not take the order to reboot.
    #[error(
        "release {to} is armed, but PID 1 does not reboot the board: {detail}; reboot it by hand"
    )]
    Reboot {
        /// What is armed.
        to: Version,
        /// What was answered.
        detail: String,
    },
    /// The other board cannot be asked.
    #[error(
        "the storage board is out of reach: {detail}; check the cable between the boards, or upgrade this board alone with `--board compute`"
    )]
    Peer {
        /// What went wrong.
        detail: String,
    },
    /// The storage board was told to try a release and has not been heard to decide.
    #[error(
        "the storage board was told to run release {to} and does not answer: {detail}; it is taken back to what the compute board runs as soon as it answers. Look at its power and at the cable between the boards"
    )]
    StorageLost {
        /// The release.
        to: Version,
        /// What was seen last.
        detail: String,
    },
    /// One of the boards could not, in its own words.
    #[error("the {role} board: {message}")]
    Board {
        /// Which.
        role: Role,
        /// The word of its refusal.
        kind: String,
        /// Its words.
        message: String,
    },
    /// The boards share no older release.
    #[error(
        "no release older than {newest} is good on both boards (compute has {compute}; storage has {storage}); name one to fetch for both: `goblin upgrade --to VERSION`"
    )]
    NothingInCommon {
        /// The newest release that runs on one of them.
        newest: Version,
        /// Good releases of the compute board, as text.
        compute: String,
        /// Good releases of the storage board, as text.
        storage: String,
    },
    /// A stick cannot be used, or was pulled out.
    #[error(transparent)]
    Stick(#[from] StickError),
    /// A factory reset cannot be ordered now.
    #[error(transparent)]
    Reset(#[from] reset::Refused),
    /// A factory reset is written down, and the board does not restart.
    #[error(
        "the factory reset is written down, but PID 1 does not reboot the board: {detail}; it is done when the board is started the next time"
    )]
    ResetWaits {
        /// What was answered.
        detail: String,
    },
    /// Only the storage board is fed by the other one.
    #[error(
        "only the storage board takes releases from the other board; on the compute board name an address, a folder or `usb`"
    )]
    NotFed,
    /// Not the name of a channel.
    #[error("`{name}` is no channel: write a word of a-z, 0-9 and -, like `stable`")]
    Channel {
        /// As asked.
        name: String,
    },
    /// There is nothing to forget.
    #[error("release {version} is not in quarantine here; see `goblin quarantine list`")]
    NotQuarantined {
        /// As asked.
        version: Version,
    },
    /// Only the compute board leads both.
    #[error("both boards are upgraded from the compute board; ask there")]
    NotLeading,
    /// A command that is PID 1's alone.
    #[error("a release is blessed by its health checks, not by command; wait for the trial to end")]
    NotByCommand,
}

impl UpdateError {
    /// The stable word of [`UpdateReply::Failed`].
    pub fn kind(&self) -> &str {
        match self {
            Self::Tuf(TufError::Expired { .. }) => "expired",
            Self::Tuf(TufError::Older { .. }) | Self::Offer(OfferError::Older { .. }) => "older",
            Self::Tuf(_) => "signature",
            Self::Offer(OfferError::Quarantined { .. }) | Self::Quarantined { .. } => "quarantined",
            Self::Offer(_) | Self::NoSource | Self::NothingInCommon { .. } => "not-found",
            Self::Slot(
                SlotError::Running { .. } | SlotError::PinnedInTheWay { .. } | SlotError::PinsFull,
            ) => "refused",
            Self::Slot(SlotError::Pinned { .. } | SlotError::Crowded { .. }) => "space",
            Self::NotQuarantined { .. } => "not-found",
            Self::Slot(_) => "not-found",
            Self::Refused(machine::Refused::Busy) | Self::Reset(_) => "busy",
            Self::Refused(machine::Refused::WrongDigest { .. }) => "esp",
            Self::Network { .. } | Self::Absent { .. } => "network",
            Self::Stick(_) => "stick",
            Self::Blob { .. } | Self::Rebuilt { .. } => "blob-mismatch",
            Self::Space { .. } => "space",
            Self::Store { source, .. } | Self::Esp { source, .. }
                if source.kind() == io::ErrorKind::StorageFull =>
            {
                "space"
            }
            Self::Esp { .. } | Self::Record(_) | Self::NotLoaded | Self::Reboot { .. } => "esp",
            Self::Peer { .. } | Self::StorageLost { .. } => "peer",
            Self::Board { kind, .. } => kind,
            Self::Manifest(_)
            | Self::Sbom(_)
            | Self::Refused(_)
            | Self::KnowsNoMirror(_)
            | Self::Build(_)
            | Self::Store { .. }
            | Self::NotFed
            | Self::ResetWaits { .. }
            | Self::Channel { .. }
            | Self::NotLeading
            | Self::NotByCommand => "refused",
        }
    }

    /// The reply that ends a refused command.
    pub fn reply(&self) -> UpdateReply {
        UpdateReply::Failed { kind: self.kind().into(), message: self.to_string() }
    }
}

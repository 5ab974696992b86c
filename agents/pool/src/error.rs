use std::io;
use std::path::PathBuf;

/// Why a disk cannot be used. The text says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The disk the loader came from did not appear.
    #[error(
        "the system disk (ESP {esp}) did not appear within {waited_s} s: check its cable or slot; \
         without it nothing is kept on this board"
    )]
    NoSystemDisk {
        /// PARTUUID of its ESP.
        esp: String,
        /// Seconds waited.
        waited_s: u64,
    },
    /// The system disk has no ESP of ours.
    #[error("disk {disk} has no partition {name}: flash the board again")]
    NoPartition {
        /// Disk.
        disk: String,
        /// GPT name that was looked for.
        name: &'static str,
    },
    /// The partition table could not be read or extended.
    #[error("the partition table of {} cannot be extended by STATE: {source}", disk.display())]
    Table {
        /// Disk.
        disk: PathBuf,
        /// Why.
        source: goblin_image::gpt::GptError,
    },
    /// The system disk could not be read or written.
    #[error("{} cannot be {action}: {source}", path.display())]
    Device {
        /// Device or directory.
        path: PathBuf,
        /// `read`, `written`, `mounted`...
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The new partition did not appear.
    #[error("the new STATE partition of {} did not appear: start the board again", disk.display())]
    NoNewPartition {
        /// Disk.
        disk: PathBuf,
    },
    /// STATE holds something else.
    #[error(
        "{} is named STATE but holds {found}; it was not touched: save what is on it, then flash the \
         board again",
        device.display()
    )]
    ForeignState {
        /// Partition.
        device: PathBuf,
        /// What was found.
        found: String,
    },
    /// This disk of two must not be used as it is.
    #[error(
        "STATE is not mounted: this system disk misses what was written since on the other one{other}; start the board from \
         that disk (it is in the firmware's boot menu), or put it back in"
    )]
    StaleDisk {
        /// The other disk, where it is there: a blank and its serial.
        other: String,
    },
    /// A step of making or keeping the mirror failed.
    #[error("{what}: {message}")]
    Mirror {
        /// What was tried.
        what: &'static str,
        /// The tool's or the kernel's words.
        message: String,
    },
    /// The formatting tool failed.
    #[error("making the file system failed: {message}")]
    Mkfs {
        /// The tool's last words, one line.
        message: String,
    },
}

impl PoolError {
    /// For `map_err`: names the device and what was tried.
    pub(crate) fn device(
        path: impl Into<PathBuf>,
        action: &'static str,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Device { path, action, source }
    }
}

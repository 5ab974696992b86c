use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What a board is for. Decided by its provisioning file, never by the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The board with the screen, where people work.
    Compute,
    /// The board with the disks: a black box with data and no face.
    Storage,
}

impl Role {
    /// Every role, in the order in which boards are shown to people.
    pub const ALL: [Self; 2] = [Self::Compute, Self::Storage];

    /// The word used in files, paths of the control tree and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Storage => "storage",
        }
    }

    /// The board at the other end of the inter-board link.
    pub const fn peer(self) -> Self {
        match self {
            Self::Compute => Self::Storage,
            Self::Storage => Self::Compute,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a role: write compute or storage")]
pub struct ParseRoleError {
    text: String,
}

impl FromStr for Role {
    type Err = ParseRoleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| ParseRoleError { text: text.chars().take(40).collect() })
    }
}

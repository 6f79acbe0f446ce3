//! What a process does of what the server does.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a process does. Several processes on one PostgreSQL and one data folder share the work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Everything.
    #[default]
    All,
    /// Takes objects and messages: DICOM and HL7.
    Receiver,
    /// Analyses, and sends what goes out: results, alerts, questions for priors.
    Worker,
    /// Shows pages, answers programs.
    Web,
}

/// This process.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessSettings {
    /// `process.role`: all, receiver, worker or web; anything but all needs PostgreSQL.
    pub role: Part,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::All, Self::Receiver, Self::Worker, Self::Web];

    /// As settings write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Receiver => "receiver",
            Self::Worker => "worker",
            Self::Web => "web",
        }
    }

    /// Whether it takes objects and messages.
    #[must_use]
    pub fn receives(self) -> bool {
        matches!(self, Self::All | Self::Receiver)
    }

    /// Whether it analyses and sends.
    #[must_use]
    pub fn works(self) -> bool {
        matches!(self, Self::All | Self::Worker)
    }

    /// Whether it shows pages.
    #[must_use]
    pub fn shows(self) -> bool {
        matches!(self, Self::All | Self::Web)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|part| part.as_str() == text);
        known.ok_or_else(|| format!("{text:?} must be all, receiver, worker or web"))
    }
}

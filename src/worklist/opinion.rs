//! What studies were read as, against what screening said of them.

use serde::Serialize;

/// What a study was read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadAs {
    /// Nothing that matters.
    Unremarkable,
    /// Something that does.
    Abnormal,
}

impl ReadAs {
    /// As it is kept.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unremarkable => "unremarkable",
            Self::Abnormal => "abnormal",
        }
    }

    /// `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Unremarkable, Self::Abnormal]
            .into_iter()
            .find(|o| o.as_str() == text)
    }
}

/// What a study was read as, and who said so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReadOutcome {
    /// Which.
    pub outcome: ReadAs,
    /// Name of the account; null where a report says so.
    pub who: Option<String>,
    /// Sender of the report.
    pub sender: Option<String>,
    /// When, RFC 3339.
    pub at: String,
}

/// Where it is known from what a study was read as; the first of these that says something counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A reader said so of the study.
    Reader,
    /// The abnormal flags of its final report.
    Report,
    /// Another reader's answer in the audit sample.
    Audit,
    /// Readers disagree with every finding, or agree.
    Findings,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Reader, Self::Report, Self::Audit, Self::Findings];

    /// As addresses have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Report => "report",
            Self::Audit => "audit",
            Self::Findings => "findings",
        }
    }

    /// `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }
}

/// How reading and screening differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Flagged, and read unremarkable.
    FlaggedUnremarkable,
    /// Not flagged, and read abnormal.
    UnflaggedAbnormal,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::UnflaggedAbnormal, Self::FlaggedUnremarkable];

    /// As addresses have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FlaggedUnremarkable => "flagged",
            Self::UnflaggedAbnormal => "not_flagged",
        }
    }

    /// `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.as_str() == text)
    }
}

/// Which disagreements are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Read since then.
    pub since_ms: i64,
    /// Of one kind only.
    pub kind: Option<Kind>,
    /// Known from one source only.
    pub source: Option<Source>,
    /// From 1.
    pub page: u64,
}

/// A study that was read as something else than screening said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// Key.
    pub number: i64,
    /// (0020,000D)
    pub study_uid: String,
    /// (0010,0010) as kept.
    pub patient_name: Option<String>,
    /// (0008,0050)
    pub accession: Option<String>,
    /// (0008,1030)
    pub description: Option<String>,
    /// The highest band that it reached.
    pub band: String,
    /// How.
    pub kind: Kind,
    /// From where that is known.
    pub source: Source,
    /// Account or sender, where it is one.
    pub said_by: Option<String>,
    /// When it was read.
    pub read_at: i64,
}

/// A page of disagreements, and what they are among.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreements {
    /// The rows, the last read first.
    pub rows: Vec<Disagreement>,
    /// On all pages.
    pub total: u64,
    /// Flagged studies of which it is known what they were read as: all, and those read unremarkable.
    pub flagged: [u64; 2],
    /// Studies that were not flagged, likewise: all, and those read abnormal.
    pub unflagged: [u64; 2],
}

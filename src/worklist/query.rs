//! Which part of the list is asked for, and in which order.

use super::Assignment;
use crate::triage::Band;

/// Studies that were read are listed as far back as this, of those that match.
pub const READ_MAX: u64 = 10_000;

/// Whether studies that wait are asked for, or those that were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reading {
    /// Open: nobody has read them.
    #[default]
    Unread,
    /// Read, and off the open list.
    Read,
}

/// What the rows are sorted by. Equals stand in the order of the list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sort {
    /// The order of the list; of studies that were read: the last first.
    #[default]
    Place,
    /// When they arrived.
    Arrived,
    /// Name of the patient, then patient id.
    Patient,
    /// What was done.
    Study,
    /// State of screening.
    State,
}

impl Sort {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Place,
        Self::Arrived,
        Self::Patient,
        Self::Study,
        Self::State,
    ];

    /// As the address bar and the API write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Place => "place",
            Self::Arrived => "arrived",
            Self::Patient => "patient",
            Self::Study => "study",
            Self::State => "state",
        }
    }

    /// Reads what [`Sort::as_str`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }
}

/// Which part of the list is asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WorklistQuery {
    /// Only this band.
    pub band: Option<Band>,
    /// Only this state of screening: received, screened, `not_analysed` or failed.
    pub state: Option<String>,
    /// Only this modality (0008,0060).
    pub modality: Option<String>,
    /// Only this body region (0018,0015).
    pub region: Option<String>,
    /// Only from this institution (0008,0080).
    pub location: Option<String>,
    /// Only from this referrer (0008,0090), as it was sent.
    pub referrer: Option<String>,
    /// Text in patient name or id, accession, description or referrer.
    pub q: Option<String>,
    /// Only what this reader has in hand, or what nobody has.
    pub assigned: Option<Assignment>,
    /// Whether they wait or were read.
    pub reading: Reading,
    /// Order of the rows.
    pub sort: Sort,
    /// The other way round.
    pub descending: bool,
    /// From 1.
    pub page: u64,
}

impl WorklistQuery {
    /// Whether it leaves out a part of the open studies.
    #[must_use]
    pub fn is_filtered(&self) -> bool {
        let exact = [
            &self.state,
            &self.modality,
            &self.region,
            &self.location,
            &self.referrer,
        ];
        self.band.is_some()
            || self.assigned.is_some()
            || exact.iter().any(|value| value.is_some())
            || self.q.as_deref().is_some_and(|q| !q.trim().is_empty())
    }

    /// Whether the rows come in the order of the list itself.
    #[must_use]
    pub fn is_by_place(&self) -> bool {
        self.reading == Reading::Unread && self.sort == Sort::Place && !self.descending
    }
}

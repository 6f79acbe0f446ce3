//! What is known about a study, before it is turned into minutes.

use serde::{Deserialize, Serialize};

/// Order priority from the RIS, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderPriority {
    /// Nothing special was asked for.
    #[default]
    Routine,
    /// As soon as possible.
    Asap,
    /// At once.
    Stat,
}

impl OrderPriority {
    /// As the API and the database write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Routine => "routine",
            Self::Asap => "asap",
            Self::Stat => "stat",
        }
    }

    /// Reads `stat`, `asap` or `routine`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Routine, Self::Asap, Self::Stat]
            .into_iter()
            .find(|p| p.as_str() == text)
    }

    /// Requested Procedure Priority (0040,1003), defined terms STAT, HIGH, ROUTINE, MEDIUM, LOW
    /// (PS3.3 C.4.11); other words are not understood and change nothing.
    #[must_use]
    pub fn from_dicom(text: &str) -> Option<Self> {
        match text.trim().to_ascii_uppercase().as_str() {
            "STAT" => Some(Self::Stat),
            "HIGH" | "ASAP" => Some(Self::Asap),
            "ROUTINE" | "MEDIUM" | "LOW" => Some(Self::Routine),
            _ => None,
        }
    }
}

/// Something measured in the images that earns minutes of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable code, e.g. `lateral_ventricles_large`.
    pub code: String,
    /// Findings of one group are different views of one thing: only the largest counts.
    pub group: String,
    /// One line for the reader; names no disease.
    pub text: String,
    /// Minutes it earns; never negative.
    pub minutes: f64,
    /// Makes the study `critical`.
    pub critical: bool,
}

/// What screening gave, in the network's own terms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Screening {
    /// Probability of an abnormal study, calibrated on generated validation maps.
    pub p_calibrated: f64,
    /// Share of abnormal cases among those maps.
    pub prevalence_train: f64,
}

/// What volumetry found, in place of what screening found of the same groups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Volumetry {
    /// Groups of findings that volumetry knows better than screening.
    pub groups: Vec<String>,
    /// What it found.
    pub findings: Vec<Finding>,
}

/// What those series show of which no slice is missing, as far as is known.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Whole {
    /// As [`Evidence::screening`].
    pub screening: Option<Screening>,
    /// As [`Evidence::findings`].
    pub findings: Vec<Finding>,
    /// As [`Evidence::volumetry`].
    pub volumetry: Option<Volumetry>,
}

/// Everything the ranking of a study rests on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// Order priority.
    pub order: OrderPriority,
    /// The screening result, when there is one.
    pub screening: Option<Screening>,
    /// Why there is none, when it is known that there will be none.
    pub not_analysed: Option<String>,
    /// Findings of screening.
    pub findings: Vec<Finding>,
    /// What volumetry found, where it was done and can be relied on.
    #[serde(default)]
    pub volumetry: Option<Volumetry>,
    /// Minutes by the site's own rules, with their text; never negative.
    pub site_rules: Vec<(String, f64)>,
    /// It rests on a series, too, of which slices are missing, as far as is known: ranked, but not alerted.
    #[serde(default)]
    pub partial: bool,
    /// Where it is partial: what alerts all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<Box<Whole>>,
}

impl Evidence {
    /// The findings that count: volumetry's in place of screening's of the same groups.
    #[must_use]
    pub fn findings_that_count(&self) -> Vec<Finding> {
        let Some(volumetry) = &self.volumetry else {
            return self.findings.clone();
        };
        let kept = self
            .findings
            .iter()
            .filter(|f| !volumetry.groups.contains(&f.group));
        kept.chain(&volumetry.findings).cloned().collect()
    }

    /// The same without what series show of which slices are missing.
    #[must_use]
    pub fn of_whole_series(&self) -> Self {
        if !self.partial {
            return self.clone();
        }
        let whole = self.whole.as_deref().cloned().unwrap_or_default();
        Self {
            order: self.order,
            screening: whole.screening,
            not_analysed: self.not_analysed.clone(),
            findings: whole.findings,
            // what does not count at all does not count here
            volumetry: self.volumetry.as_ref().and(whole.volumetry),
            site_rules: self.site_rules.clone(),
            partial: false,
            whole: None,
        }
    }
}

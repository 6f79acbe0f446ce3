//! What readers do with the list: who has a study in hand, for how long, and what they say of it.

use serde::{Deserialize, Serialize};

use crate::triage::Band;

/// Settings of the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorklistSettings {
    /// `worklist.claim_idle_minutes`: a claim ends after so long without anything its reader
    /// does on the study, and another reader may take it.
    pub claim_idle_minutes: u32,
    /// `worklist.due_minutes_critical`: a critical study is to be read within so long; 0 for no aim.
    pub due_minutes_critical: u32,
    /// `worklist.due_minutes_urgent`: the same for an urgent one.
    pub due_minutes_urgent: u32,
    /// `worklist.due_minutes_elevated`: the same for an elevated one.
    pub due_minutes_elevated: u32,
    /// `worklist.due_minutes_routine`: the same for one that is not flagged.
    pub due_minutes_routine: u32,
    /// `worklist.due_minutes_pending`: the same for one that is not screened or not analysed.
    pub due_minutes_pending: u32,
    /// `worklist.due_minutes_stat`: the same for a STAT order, where that is sooner.
    pub due_minutes_stat: u32,
    /// `worklist.audit_share`: share of unflagged studies that are read once more by another reader,
    /// who is not told what screening said, 0-1; 0 for none.
    pub audit_share: f64,
    /// `worklist.shown_log_days`: how long it is kept what was shown to whom.
    pub shown_log_days: u32,
}

impl Default for WorklistSettings {
    fn default() -> Self {
        Self {
            claim_idle_minutes: 30,
            due_minutes_critical: 30,
            due_minutes_urgent: 60,
            due_minutes_elevated: 240,
            due_minutes_routine: 1440,
            due_minutes_pending: 1440,
            due_minutes_stat: 60,
            audit_share: 0.02,
            shown_log_days: 365,
        }
    }
}

/// Longest time within which a study is to be read: four weeks.
const DUE_MINUTES_MAX: u32 = 40_320;

impl WorklistSettings {
    /// Checks every value.
    ///
    /// # Errors
    /// Names the setting that is out of range and what it may be.
    pub fn check(&self) -> Result<(), String> {
        let within = |name: &str, value: u32, low: u32, high: u32| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(format!(
                    "worklist.{name} is {value}, must be between {low} and {high}"
                ))
            }
        };
        within("claim_idle_minutes", self.claim_idle_minutes, 1, 1440)?;
        within("shown_log_days", self.shown_log_days, 1, 3650)?;
        if !(0.0..=1.0).contains(&self.audit_share) {
            return Err(format!(
                "worklist.audit_share is {}, must be between 0 and 1",
                self.audit_share
            ));
        }
        for (name, value) in [
            ("due_minutes_critical", self.due_minutes_critical),
            ("due_minutes_urgent", self.due_minutes_urgent),
            ("due_minutes_elevated", self.due_minutes_elevated),
            ("due_minutes_routine", self.due_minutes_routine),
            ("due_minutes_pending", self.due_minutes_pending),
            ("due_minutes_stat", self.due_minutes_stat),
        ] {
            within(name, value, 0, DUE_MINUTES_MAX)?;
        }
        Ok(())
    }

    /// Minutes from arrival within which a study is to be read; `None` where the site has no aim.
    #[must_use]
    pub fn due_minutes(&self, band: Band, stat: bool) -> Option<u32> {
        let of_band = match band {
            Band::Critical => self.due_minutes_critical,
            Band::Urgent => self.due_minutes_urgent,
            Band::Elevated => self.due_minutes_elevated,
            Band::Routine => self.due_minutes_routine,
            Band::Pending => self.due_minutes_pending,
        };
        let of_order = if stat { self.due_minutes_stat } else { 0 };
        [of_band, of_order].into_iter().filter(|m| *m > 0).min()
    }

    /// When a claim ends that was active last at this moment.
    #[must_use]
    pub fn ends_ms(&self, active_ms: i64) -> i64 {
        active_ms + i64::from(self.claim_idle_minutes) * 60_000
    }

    /// See `claim_idle_minutes`.
    #[must_use]
    pub fn claim_idle_ms(&self) -> i64 {
        i64::from(self.claim_idle_minutes) * 60_000
    }

    /// Claims that were active after this moment still hold.
    #[must_use]
    pub fn held_since_ms(&self, now_ms: i64) -> i64 {
        now_ms - self.claim_idle_ms()
    }
}

/// Whose studies are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Assignment {
    /// Those that nobody has in hand.
    Nobody,
    /// Those of the account with this name.
    Reader(String),
}

/// A reader at work, at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Acting<'a> {
    /// Name of the account.
    pub reader: &'a str,
    /// Now.
    pub now_ms: i64,
    /// Claims that were active after this moment still hold.
    pub held_since_ms: i64,
}

/// A study in a reader's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Name of the account.
    pub reader: String,
    /// Since when.
    pub since_ms: i64,
    /// When its reader last did something on the study.
    pub active_ms: i64,
}

/// Something a reader did with a study.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReadingEvent {
    /// opened, claimed, released, `handed_over`, read, reopened or undone.
    pub what: String,
    /// Name of the account; null where the server itself did it.
    pub who: Option<String>,
    /// `handed_over`: to whom; claimed: whose claim had run out; reopened: why.
    pub detail: Option<String>,
    /// When, RFC 3339.
    pub at: String,
}

/// A reader's word on a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The finding is there.
    Agree,
    /// It is not.
    Disagree,
    /// Neither: only the comment.
    Comment,
}

impl Verdict {
    /// As the database and the API write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agree => "agree",
            Self::Disagree => "disagree",
            Self::Comment => "comment",
        }
    }

    /// Reads what [`Verdict::as_str`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Agree, Self::Disagree, Self::Comment]
            .into_iter()
            .find(|v| v.as_str() == text)
    }
}

/// What a reader said of a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FeedbackEntry {
    /// Code of the finding, as in the reasons.
    pub finding: String,
    /// agree, disagree or comment.
    pub verdict: Verdict,
    /// In the reader's words.
    pub comment: Option<String>,
    /// Name of the account.
    pub who: String,
    /// Name and version of the network whose finding it was.
    pub model: Option<String>,
    /// When, RFC 3339.
    pub at: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_cannot_last_for_ever() {
        for (minutes, fine) in [(0, false), (1, true), (1440, true), (1441, false)] {
            let settings = WorklistSettings {
                claim_idle_minutes: minutes,
                ..WorklistSettings::default()
            };
            assert_eq!(settings.check().is_ok(), fine, "{minutes}");
        }
        let minute = WorklistSettings {
            claim_idle_minutes: 1,
            ..WorklistSettings::default()
        };
        assert_eq!(minute.held_since_ms(100_000), 40_000);
    }

    #[test]
    fn the_sooner_of_band_and_order_is_due() {
        let settings = WorklistSettings {
            due_minutes_elevated: 0,
            ..WorklistSettings::default()
        };
        assert_eq!(settings.due_minutes(Band::Critical, true), Some(30));
        assert_eq!(settings.due_minutes(Band::Routine, true), Some(60));
        assert_eq!(settings.due_minutes(Band::Routine, false), Some(1440));
        assert_eq!(settings.due_minutes(Band::Elevated, false), None);
        let long = WorklistSettings {
            due_minutes_stat: 40_321,
            ..settings
        };
        assert!(
            long.check()
                .unwrap_err()
                .contains("worklist.due_minutes_stat is 40321")
        );
    }

    #[test]
    fn verdicts_are_read_as_written() {
        for verdict in [Verdict::Agree, Verdict::Disagree, Verdict::Comment] {
            assert_eq!(Verdict::parse(verdict.as_str()), Some(verdict));
        }
        assert_eq!(Verdict::parse("normal"), None);
    }
}

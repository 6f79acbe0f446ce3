//! What readers do with the list: who has a study in hand, for how long, and what they say of it.

use serde::{Deserialize, Serialize};

/// Settings of the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorklistSettings {
    /// `worklist.claim_idle_minutes`: a claim ends after so long without anything its reader
    /// does on the study, and another reader may take it.
    pub claim_idle_minutes: u32,
}

impl Default for WorklistSettings {
    fn default() -> Self {
        Self {
            claim_idle_minutes: 30,
        }
    }
}

impl WorklistSettings {
    /// Checks every value.
    ///
    /// # Errors
    /// Names the setting that is out of range and what it may be.
    pub fn check(&self) -> Result<(), String> {
        if (1..=1440).contains(&self.claim_idle_minutes) {
            Ok(())
        } else {
            Err(format!(
                "worklist.claim_idle_minutes is {}, must be between 1 and 1440",
                self.claim_idle_minutes
            ))
        }
    }

    /// Claims that were active after this moment still hold.
    #[must_use]
    pub fn held_since_ms(&self, now_ms: i64) -> i64 {
        now_ms - i64::from(self.claim_idle_minutes) * 60_000
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
            };
            assert_eq!(settings.check().is_ok(), fine, "{minutes}");
        }
        let minute = WorklistSettings {
            claim_idle_minutes: 1,
        };
        assert_eq!(minute.held_since_ms(100_000), 40_000);
    }

    #[test]
    fn verdicts_are_read_as_written() {
        for verdict in [Verdict::Agree, Verdict::Disagree, Verdict::Comment] {
            assert_eq!(Verdict::parse(verdict.as_str()), Some(verdict));
        }
        assert_eq!(Verdict::parse("normal"), None);
    }
}

//! Instance to series to study: what was received is durable in a log when it is answered, becomes files and
//! rows behind the answer, conflicts are kept aside, and series are watched until they are complete.

mod age;
mod known;
mod log;
mod pace;
mod place;
mod recorder;
mod settle;
mod sink;
mod tasks;
#[cfg(test)]
mod tests;
mod watch;

pub use age::age_years;
pub use log::{Backlog, Unrecorded, left_behind, put_aside};
pub use settle::{Settle, SettleRules};
pub use sink::{Intake, IntakeParts};
pub use tasks::Tasks;

use serde::{Deserialize, Serialize};

/// Settings of intake.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IntakeSettings {
    /// `intake.quiet_ms`: how long a series must be quiet after its association ended.
    pub quiet_ms: i64,
    /// `intake.quiet_ms_max`: to which the quiet time doubles while late slices trickle in.
    pub quiet_ms_max: i64,
    /// `intake.open_association_quiet_ms`: a series that has been quiet this long counts as
    /// complete although its sender keeps the association open.
    pub open_association_quiet_ms: i64,
    /// `intake.prior_after_days`: studies older than this are priors; 0 turns it off.
    pub prior_after_days: i64,
    /// `intake.quarantine_objects_max`: objects whose bytes are kept in quarantine; beyond it
    /// only the reason is recorded.
    pub quarantine_objects_max: usize,
    /// `intake.log_mib_max`: acknowledged objects that have no file and row yet, in MiB; beyond it
    /// senders wait.
    pub log_mib_max: u64,
}

impl Default for IntakeSettings {
    fn default() -> Self {
        Self {
            quiet_ms: 2_000,
            quiet_ms_max: 60_000,
            open_association_quiet_ms: 20_000,
            prior_after_days: 0,
            quarantine_objects_max: 10_000,
            log_mib_max: 1_024,
        }
    }
}

impl IntakeSettings {
    /// Checks every value.
    ///
    /// # Errors
    /// Names the setting that is out of range.
    pub fn check(&self) -> Result<(), String> {
        let within = |name: &str, value: i64, low: i64, high: i64| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(format!(
                    "intake.{name} is {value}, must be between {low} and {high}"
                ))
            }
        };
        within("quiet_ms", self.quiet_ms, 0, 600_000)?;
        within("quiet_ms_max", self.quiet_ms_max, self.quiet_ms, 3_600_000)?;
        within(
            "open_association_quiet_ms",
            self.open_association_quiet_ms,
            0,
            3_600_000,
        )?;
        let log_mib_max = i64::try_from(self.log_mib_max).unwrap_or(i64::MAX);
        within("log_mib_max", log_mib_max, 16, 1 << 20)?;
        within("prior_after_days", self.prior_after_days, 0, 100_000)
    }
}

/// Root of the UIDs that this server gives to its own objects (PS3.5 B.2: `2.25.` and a UUID), so that
/// results which come back are recognised and not analysed.
pub const OWN_UID_ROOT: &str = "2.25.305719974744232336633485927334740633823.";

//! What a way of ordering the list does to waiting: a queue of readers, simulated. Pure.
//!
//! Cases arrive, wait, and are read by one of some readers. A *discipline* says which waiting case
//! is next. Waits are told apart by what the case is (diseased, normal) and by what the score said
//! of it (flagged, missed), because an order that helps one group is paid for by another.
//!
//! Theory it is held against (M/M/1, two classes, not preemptive; Cobham, Operations Research 1954):
//! `W+ = W0 / (1 - rho+)`, `W- = W0 / ((1 - rho+) (1 - rho))`, `W0 = rho * read`.

mod cases;
mod plot;
mod queue;
mod site;
mod stats;

use serde::Serialize;

pub use cases::{Recorded, recorded_cases};
pub use plot::{CompareRow, compare_svg, svg};
pub use site::{REPEATS, SiteCase, SiteGroup, SiteWait, site_load, site_waits};
pub use stats::{GROUPS, GroupStats, Groups};

use crate::triage::TriageSettings;

/// Most cases of one run.
pub const CASES_MAX: usize = 5_000_000;
/// Most readers.
pub const READERS_MAX: usize = 1_000;

/// Which waiting case is read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Discipline {
    /// First come, first served.
    Fifo,
    /// Flagged before unflagged, each first come, first served.
    Flag,
    /// Highest score first.
    Score,
    /// Earliest effective arrival first: arrival minus the head start of the score (`triage`).
    HeadStart,
    /// Highest score first, but who has waited longer than a cap comes before all, first come first served.
    Cap,
}

impl Discipline {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Fifo,
        Self::Flag,
        Self::Score,
        Self::HeadStart,
        Self::Cap,
    ];

    /// As the command line writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fifo => "fifo",
            Self::Flag => "flag",
            Self::Score => "score",
            Self::HeadStart => "head-start",
            Self::Cap => "cap",
        }
    }

    /// Reads what [`Discipline::as_str`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.as_str() == text)
    }
}

/// How long reading takes, about its mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadTimes {
    /// As the theory has it.
    Exponential,
    /// Coefficient of variation 0.5: few reads are very short.
    Lognormal,
    /// Always the mean.
    Constant,
}

/// A reading room and the work that comes to it. Times in minutes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scenario {
    /// Readers at work at a time.
    pub readers: usize,
    /// Share of the readers' time that the work takes, below 1.
    pub load: f64,
    /// Mean time of one read.
    pub read_minutes: f64,
    /// Spread of the read times.
    pub read_times: ReadTimes,
    /// Share of diseased cases.
    pub prevalence: f64,
    /// Share of diseased cases that are flagged.
    pub sensitivity: f64,
    /// Share of normal cases that are not flagged.
    pub specificity: f64,
    /// Which waiting case is next.
    pub discipline: Discipline,
    /// A case that comes before another also interrupts its read, which goes on later.
    pub preemptive: bool,
    /// Share of arrivals that are no cases of the list and come before all of them.
    pub interrupt_fraction: f64,
    /// Mean time that such an arrival takes.
    pub interrupt_minutes: f64,
    /// `k`, floor and cap of the head start.
    pub triage: TriageSettings,
    /// Wait from which [`Discipline::Cap`] reads a case before all others.
    pub cap_minutes: f64,
    /// Cases of the list, the warm-up included.
    pub cases: usize,
    /// Same seed, same run.
    pub seed: u64,
}

impl Scenario {
    /// Checks every value.
    ///
    /// # Errors
    /// Names the value that cannot be and what it may be.
    pub fn check(&self) -> Result<(), String> {
        let within = |name: &str, value: f64, low: f64, high: f64| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(format!(
                    "{name} is {value}, must be between {low} and {high}"
                ))
            }
        };
        if !(1..=READERS_MAX).contains(&self.readers) {
            return Err(format!("readers must be from 1 to {READERS_MAX}"));
        }
        if !(1_000..=CASES_MAX).contains(&self.cases) {
            return Err(format!("cases must be from 1000 to {CASES_MAX}"));
        }
        within("load", self.load, 0.01, 0.99)?;
        within("read-minutes", self.read_minutes, 0.01, 1_440.0)?;
        within("prevalence", self.prevalence, 0.001, 0.999)?;
        within("sensitivity", self.sensitivity, 0.001, 0.999)?;
        within("specificity", self.specificity, 0.001, 0.999)?;
        within("interrupt-fraction", self.interrupt_fraction, 0.0, 0.9)?;
        within("interrupt-minutes", self.interrupt_minutes, 0.01, 1_440.0)?;
        within("cap-minutes", self.cap_minutes, 0.0, 1e6)?;
        self.triage.check()
    }
}

/// Runs a scenario with Poisson arrivals.
///
/// # Errors
/// When a value of the scenario cannot be.
pub fn simulate(scenario: &Scenario) -> Result<Groups, String> {
    scenario.check()?;
    let cases = cases::poisson(scenario);
    let waits = queue::waits(&cases, scenario.into());
    Ok(stats::groups(&cases, &waits, Some(scenario)))
}

/// Runs a scenario on recorded arrivals; its load, number of cases and interruptions do not count.
///
/// # Errors
/// When a value of the scenario cannot be, or fewer than 100 cases are given.
pub fn replay(scenario: &Scenario, recorded: &[Recorded]) -> Result<Groups, String> {
    scenario.check()?;
    if recorded.len() < 100 {
        return Err(format!(
            "{} recorded cases, at least 100 are needed",
            recorded.len()
        ));
    }
    let cases = cases::replayed(scenario, recorded);
    let waits = queue::waits(&cases, scenario.into());
    Ok(stats::groups(&cases, &waits, None))
}

#[cfg(test)]
mod tests;

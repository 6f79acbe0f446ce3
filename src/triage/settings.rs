//! What a site may set about ranking, with the unit in every name.

use serde::{Deserialize, Serialize};

/// Settings of the ranking. The defaults are those of the design.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TriageSettings {
    /// `triage.k_minutes_per_logit`: minutes of head start for one unit of log-odds.
    pub k_minutes_per_logit: f64,
    /// `triage.p_floor`: probabilities below it earn no head start, so that a missed case keeps moving.
    pub p_floor: f64,
    /// `triage.ai_cap_minutes`: most that the screening probability can earn.
    pub ai_cap_minutes: f64,
    /// `triage.findings_cap_minutes`: most that all findings together can earn.
    pub findings_cap_minutes: f64,
    /// `triage.site_rules_cap_minutes`: most that the site's own rules can earn.
    pub site_rules_cap_minutes: f64,
    /// `triage.stat_minutes`: head start of a STAT order.
    pub stat_minutes: f64,
    /// `triage.asap_minutes`: head start of an ASAP order.
    pub asap_minutes: f64,
    /// `triage.urgent_from_minutes`: ai + findings from which a study is `urgent`.
    pub urgent_from_minutes: f64,
    /// `triage.elevated_from_minutes`: ai + findings from which a study is `elevated`.
    pub elevated_from_minutes: f64,
    /// `triage.site_prevalence`: share of abnormal studies at the site, 0-1.
    pub site_prevalence: f64,
}

impl Default for TriageSettings {
    fn default() -> Self {
        Self {
            k_minutes_per_logit: 30.0,
            p_floor: 0.003,
            ai_cap_minutes: 180.0,
            findings_cap_minutes: 60.0,
            site_rules_cap_minutes: 60.0,
            stat_minutes: 10_080.0,
            asap_minutes: 120.0,
            urgent_from_minutes: 170.0,
            elevated_from_minutes: 130.0,
            site_prevalence: 0.1,
        }
    }
}

impl TriageSettings {
    /// Checks every value.
    ///
    /// # Errors
    /// Names the setting that is out of range and what it may be.
    pub fn check(&self) -> Result<(), String> {
        let within = |name: &str, value: f64, low: f64, high: f64| {
            if value.is_finite() && (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(format!(
                    "triage.{name} is {value}, must be between {low} and {high}"
                ))
            }
        };
        within("k_minutes_per_logit", self.k_minutes_per_logit, 0.0, 600.0)?;
        within("p_floor", self.p_floor, 1e-6, 0.4)?;
        within("ai_cap_minutes", self.ai_cap_minutes, 0.0, 1440.0)?;
        within(
            "findings_cap_minutes",
            self.findings_cap_minutes,
            0.0,
            1440.0,
        )?;
        within(
            "site_rules_cap_minutes",
            self.site_rules_cap_minutes,
            0.0,
            1440.0,
        )?;
        within(
            "stat_minutes",
            self.stat_minutes,
            self.asap_minutes,
            100_000.0,
        )?;
        within("asap_minutes", self.asap_minutes, 0.0, 100_000.0)?;
        within(
            "urgent_from_minutes",
            self.urgent_from_minutes,
            self.elevated_from_minutes,
            3000.0,
        )?;
        within(
            "elevated_from_minutes",
            self.elevated_from_minutes,
            0.0,
            3000.0,
        )?;
        within("site_prevalence", self.site_prevalence, 0.001, 0.999)
    }

    /// The published bound: within an order class no study is overtaken by one that
    /// arrived more than this many minutes later.
    #[must_use]
    pub fn overtaking_bound_minutes(&self) -> f64 {
        self.ai_cap_minutes + self.findings_cap_minutes + self.site_rules_cap_minutes
    }
}

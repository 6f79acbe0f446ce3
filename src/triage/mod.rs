//! Evidence to head start to band to reasons. Pure: no IO, and no term reads the clock,
//! so the order of two waiting studies never changes merely because time passes.
//!
//! ```text
//! effective arrival = arrival - head start                      (earliest first)
//! head start = order + min(ai, cap) + min(findings, cap) + min(site rules, cap)
//! ai         = k * (logit(clip(p, floor, 1 - floor)) - logit(floor))
//! ```

mod evidence;
mod minutes;
mod ranking;
mod settings;

pub use evidence::{Evidence, Finding, OrderPriority, Screening, Volumetry, Whole};
pub use minutes::whole_minutes;
pub use ranking::{Band, Ranking, Reason, ai_minutes, alert_band, rank};
pub use settings::TriageSettings;

/// Log-odds of a probability.
#[must_use]
pub fn logit(p: f64) -> f64 {
    (p / (1.0 - p)).ln()
}

/// Probability of log-odds.
#[must_use]
pub fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

//! The release gate: a model is accepted only if it beats the present one on the same cases, or
//! agrees with experts as well as they do among themselves.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::validation::{Interval, bootstrap_mean};

/// A structure may lose this much of its Dice, and lesion F1 as much, where the whole gains.
const LOSS_MAX: f64 = 0.02;
/// Correlation of volumes may lose this much.
const CORRELATION_LOSS_MAX: f64 = 0.002;

/// What the gate looks at, of the new report and of the present one.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Scores {
    /// Mean over structures (or lesion Dice) of each case.
    pub dice_of_cases: BTreeMap<String, f64>,
    /// Mean Dice of each structure.
    #[serde(default)]
    pub structures: Vec<StructureScore>,
    /// Volumes against the truth.
    #[serde(default)]
    pub volumes: Option<Volumes>,
    /// Lesion-wise F1.
    #[serde(default)]
    pub lesion_f1: Option<Mean>,
}

/// See [`Scores::structures`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct StructureScore {
    /// Name.
    pub name: String,
    /// Mean Dice.
    pub dice: Option<f64>,
}

/// See [`Scores::volumes`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Volumes {
    /// Of prediction and truth over structures and cases.
    pub correlation: Option<f64>,
}

/// See [`Scores::lesion_f1`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Mean {
    /// Mean over cases.
    pub mean: f64,
}

/// The verdict, row by row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gate {
    /// The model may be released.
    pub accepted: bool,
    /// It agrees with experts as well as they do: accepted, whatever the present model does.
    pub as_good_as_experts: bool,
    /// New less present over cases.
    pub difference: Option<Interval>,
    /// What was compared.
    pub rows: Vec<Row>,
}

/// One comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What.
    pub name: String,
    /// The model on trial.
    pub new: f64,
    /// The present one.
    pub present: f64,
    /// Good enough.
    pub passes: bool,
}

/// Reads the present model's `firstread validate --json`.
///
/// # Errors
/// When the file cannot be read or is no such report.
pub fn read(path: &Path) -> Result<Scores, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
}

/// Holds the new scores against the present ones.
///
/// # Errors
/// When they are not of the same cases.
pub fn judge(new: &Scores, present: &Scores, as_good_as_experts: bool) -> Result<Gate, String> {
    let (ours, theirs) = (&new.dice_of_cases, &present.dice_of_cases);
    if ours.is_empty() || !ours.keys().eq(theirs.keys()) {
        return Err("the present report is about other cases".into());
    }
    let differences: Vec<f64> = ours.iter().map(|(case, d)| d - theirs[case]).collect();
    let difference = bootstrap_mean(&differences);
    let average = |all: &BTreeMap<String, f64>| crate::validation::mean(all.values().copied());
    let mut rows = Vec::new();
    let mut row = |name: &str, new: Option<f64>, present: Option<f64>, loss_max: f64| {
        if let (Some(new), Some(present)) = (new, present) {
            rows.push(Row {
                name: name.to_owned(),
                new,
                present,
                passes: new > present - loss_max,
            });
        }
    };
    row("mean Dice", average(ours), average(theirs), 0.0);
    for structure in &new.structures {
        let same = present.structures.iter().find(|s| s.name == structure.name);
        let before = same.and_then(|s| s.dice);
        row(&structure.name, structure.dice, before, LOSS_MAX);
    }
    let correlation = |s: &Scores| s.volumes.as_ref().and_then(|v| v.correlation);
    row(
        "volume correlation",
        correlation(new),
        correlation(present),
        CORRELATION_LOSS_MAX,
    );
    let f1 = |s: &Scores| s.lesion_f1.as_ref().map(|f| f.mean);
    row("lesion F1", f1(new), f1(present), LOSS_MAX);
    Ok(Gate {
        accepted: as_good_as_experts || rows.iter().all(|r| r.passes),
        as_good_as_experts,
        difference,
        rows,
    })
}

/// The verdict as text.
#[must_use]
pub fn table(gate: &Gate) -> String {
    let mut out = format!("{:<20}{:>8}{:>9}\n", "against present", "new", "present");
    for row in &gate.rows {
        let verdict = if row.passes { "" } else { "  too low" };
        let _ = writeln!(
            out,
            "{:<20}{:>8.3}{:>9.3}{verdict}",
            row.name, row.new, row.present
        );
    }
    if let Some(d) = gate.difference {
        let _ = writeln!(
            out,
            "difference {:+.3} ({:+.3} to {:+.3})",
            d.mean, d.low, d.high
        );
    }
    let verdict = match (gate.accepted, gate.as_good_as_experts) {
        (true, true) => "accepted: agrees with the raters as well as they do",
        (true, false) => "accepted: beats the present model",
        (false, _) => "refused",
    };
    let _ = writeln!(out, "{verdict}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(dice: &[f64], structure: f64) -> Scores {
        let cases = dice.iter().enumerate();
        Scores {
            dice_of_cases: cases.map(|(n, d)| (format!("case{n}"), *d)).collect(),
            structures: vec![StructureScore {
                name: "amygdala".into(),
                dice: Some(structure),
            }],
            ..Scores::default()
        }
    }

    #[track_caller]
    fn check(new: &Scores, accepted: bool) {
        let present = scores(&[0.8, 0.7], 0.75);
        assert_eq!(judge(new, &present, false).unwrap().accepted, accepted);
        assert!(judge(new, &present, true).unwrap().accepted, "experts");
    }

    #[test]
    fn only_a_better_model_is_accepted() {
        check(&scores(&[0.82, 0.7], 0.75), true);
        check(&scores(&[0.8, 0.7], 0.75), false);
        check(&scores(&[0.82, 0.65], 0.75), false);
        // Better as a whole, but one structure fell.
        check(&scores(&[0.9, 0.8], 0.72), false);
        check(&scores(&[0.9, 0.8], 0.74), true);
    }

    #[test]
    fn other_cases_are_no_comparison() {
        let present = scores(&[0.8, 0.7, 0.6], 0.75);
        assert!(judge(&scores(&[0.9, 0.9], 0.8), &present, false).is_err());
        assert!(judge(&Scores::default(), &Scores::default(), false).is_err());
    }

    #[test]
    fn the_verdict_is_told() {
        let gate = judge(
            &scores(&[0.82, 0.7], 0.5),
            &scores(&[0.8, 0.7], 0.75),
            false,
        );
        let text = table(&gate.unwrap());
        assert!(
            text.contains("too low") && text.contains("refused"),
            "{text}"
        );
    }
}

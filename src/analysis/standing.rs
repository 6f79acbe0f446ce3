//! What screening a study's series comes to: what it is ranked on, and what is to be told.

use std::collections::BTreeMap;

use crate::store::intake::StudyForAnalysis;
use crate::store::jobs::FAILED_AGAIN;
use crate::store::ranks::Standing;
use crate::store::results::{ScreeningResult, ScreeningRow};
use crate::triage::{Finding, Screening, Whole};

/// Why a study is not measured that was not screened.
const NOT_SCREENED: &str = "not screened";

/// What came of a study's series.
pub(super) struct Looked {
    /// What the study is ranked on; where nothing was usable, why.
    pub(super) rows: Vec<ScreeningRow>,
    /// All of it was known before.
    pub(super) nothing_new: bool,
    /// Why it is to be looked at once more.
    pub(super) again: Option<String>,
}

/// Weighs what was screened and what was set `aside`. A series that failed counts as it was screened `earlier`, and is
/// looked at again; so is a study of which nothing was usable because something failed.
pub(super) fn weigh(
    mut rows: Vec<ScreeningRow>,
    aside: Vec<ScreeningRow>,
    earlier: &[ScreeningRow],
) -> Looked {
    let mut before: Vec<ScreeningRow> = Vec::new();
    for failed in aside.iter().filter(|r| r.outcome == "failed") {
        let of_series = |r: &&ScreeningRow| r.series_uid == failed.series_uid;
        let known = earlier.iter().find(of_series);
        before.extend(known.filter(|r| r.outcome == "screened").cloned());
    }
    let nothing_usable = rows.is_empty() && aside.iter().any(|r| r.outcome == "failed");
    let again = (nothing_usable || !before.is_empty()).then(|| why_not(&aside));
    let nothing_new = rows.is_empty() && !before.is_empty();
    rows.extend(before);
    Looked {
        rows: if rows.is_empty() { aside } else { rows },
        nothing_new,
        again,
    }
}

/// A study's standing after screening: the most abnormal of its screened series counts.
pub(super) fn stand(
    s: &mut Standing,
    rows: &[ScreeningRow],
    looked: String,
    pending: bool,
    now: i64,
) {
    let screened = || rows.iter().filter(|r| r.outcome == "screened");
    s.evidence.findings = merge_findings(screened().map(|r| &r.result));
    s.evidence.screening = strongest(screened());
    s.evidence.partial = screened().any(|r| r.partial_volume);
    let measured = s.evidence.whole.take().and_then(|whole| whole.volumetry);
    s.evidence.whole = s.evidence.partial.then(|| {
        let whole = || screened().filter(|r| !r.partial_volume);
        Box::new(Whole {
            screening: strongest(whole()),
            findings: merge_findings(whole().map(|r| &r.result)),
            volumetry: measured,
        })
    });
    if s.evidence.screening.is_some() {
        "screened".clone_into(&mut s.state);
        s.not_analysed_reason = None;
        s.evidence.not_analysed = None;
        s.screened_at = s.screened_at.or(Some(now));
        s.looked_at = Some(looked);
    } else if !pending {
        not_screened(s, "not_analysed", &why_not(rows));
        s.screened_at = None;
    }
}

/// There is nothing to rank it on.
pub(super) fn not_screened(s: &mut Standing, state: &str, why: &str) {
    state.clone_into(&mut s.state);
    s.not_analysed_reason = Some(why.to_owned());
    s.evidence.not_analysed = Some(why.to_owned());
    volumetry_not_done(s, NOT_SCREENED);
}

/// Its images are why it is not analysed, and it says so: after the last try there is nothing to add. Anything else that
/// failed is ours.
pub(super) fn says_so_already(s: &Standing, why: &str) -> bool {
    s.state == "not_analysed" && s.not_analysed_reason.as_deref() == Some(why)
}

/// Late images, or another try, could not be looked at. What was found before stands, and is measured; readers are
/// told beside what was looked at.
pub(super) fn failed_again(s: &mut Standing, why: &str, no_network: Option<&str>) {
    "screened".clone_into(&mut s.state);
    s.not_analysed_reason = None;
    s.evidence.not_analysed = None;
    let said = s.looked_at.take().unwrap_or_default();
    let seen = said.split(FAILED_AGAIN).next().unwrap_or_default();
    let seen = seen.trim_end_matches("; ");
    s.looked_at = Some(match seen {
        "" => format!("{FAILED_AGAIN}{why}"),
        seen => format!("{seen}; {FAILED_AGAIN}{why}"),
    });
    match no_network {
        _ if s.volumetry != "pending" => {}
        None => s.wants_volumetry = true,
        Some(why) => volumetry_not_done(s, why),
    }
}

/// Asks for volumetry once all series of a screened study are in: so that no screening of the
/// study's other series has to wait for it.
pub(super) fn stand_for_volumetry(s: &mut Standing, no_network: Option<&str>, pending: bool) {
    match (s.state.as_str(), no_network) {
        ("screened", None) => {
            "pending".clone_into(&mut s.volumetry);
            s.volumetry_reason = None;
            s.wants_volumetry = !pending;
        }
        ("screened", Some(why)) => volumetry_not_done(s, why),
        ("not_analysed" | "failed", _) => volumetry_not_done(s, NOT_SCREENED),
        _ => {}
    }
}

fn volumetry_not_done(s: &mut Standing, why: &str) {
    "not_done".clone_into(&mut s.volumetry);
    s.volumetry_reason = Some(why.to_owned());
    s.evidence.volumetry = None;
    s.analysed_at = None;
}

fn strongest<'a>(rows: impl Iterator<Item = &'a ScreeningRow>) -> Option<Screening> {
    let p = |r: &ScreeningRow| r.result.p_calibrated.unwrap_or(0.0);
    let row = rows.max_by(|a, b| p(a).total_cmp(&p(b)))?;
    Some(Screening {
        p_calibrated: row.result.p_calibrated?,
        prevalence_train: row.result.prevalence_train?,
    })
}

/// One finding a code: where two series show the same, the stronger one.
pub(super) fn merge_findings<'a>(
    results: impl Iterator<Item = &'a ScreeningResult>,
) -> Vec<Finding> {
    let mut best: BTreeMap<&str, &Finding> = BTreeMap::new();
    for finding in results.flat_map(|r| &r.findings) {
        let slot = best.entry(&finding.code).or_insert(finding);
        if finding.minutes > slot.minutes {
            *slot = finding;
        }
    }
    best.into_values().cloned().collect()
}

fn why_not(rows: &[ScreeningRow]) -> String {
    let mut reasons: Vec<&str> = rows.iter().filter_map(|r| r.reason.as_deref()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    if reasons.is_empty() {
        "no usable MR series".into()
    } else {
        reasons.join("; ")
    }
}

pub(super) fn looked_at(study: &StudyForAnalysis, rows: &[ScreeningRow]) -> String {
    let mut seen: Vec<&str> = rows
        .iter()
        .filter(|r| r.outcome == "screened")
        .map(|r| r.result.contrast.as_str())
        .collect();
    seen.sort_unstable_by_key(|c| (*c != "T1", *c != "FLAIR"));
    let others = study
        .series
        .iter()
        .filter(|s| !s.own_result && !rows.iter().any(|r| r.series_uid == s.series_uid))
        .count();
    match others {
        0 => seen.join(", "),
        1 => format!("{}; 1 other series not analysed", seen.join(", ")),
        n => format!("{}; {n} other series not analysed", seen.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::triage::{Band, Evidence, TriageSettings, alert_band, rank};

    fn row(series: &str, outcome: &str, p: f64) -> ScreeningRow {
        let screened = outcome == "screened";
        ScreeningRow {
            series_uid: series.into(),
            input: String::new(),
            outcome: outcome.into(),
            reason: (!screened).then(|| format!("{series} is bad")),
            partial_volume: false,
            model: String::new(),
            provider: String::new(),
            result: ScreeningResult {
                contrast: "T1".into(),
                p_calibrated: screened.then_some(p),
                prevalence_train: screened.then_some(0.1),
                ..ScreeningResult::default()
            },
            created_at: 0,
        }
    }

    fn partial(series: &str, p: f64) -> ScreeningRow {
        ScreeningRow {
            partial_volume: true,
            ..row(series, "screened", p)
        }
    }

    fn received() -> Standing {
        Standing {
            study_uid: "1.2".into(),
            evidence: Evidence::default(),
            state: "received".into(),
            not_analysed_reason: None,
            volumetry: "pending".into(),
            volumetry_reason: None,
            looked_at: None,
            screened_at: None,
            analysed_at: None,
            wants_volumetry: false,
        }
    }

    fn standing(rows: &[ScreeningRow]) -> Standing {
        let mut s = received();
        stand(&mut s, rows, "T1".into(), false, 5);
        s
    }

    #[test]
    fn what_failed_is_looked_at_again_where_nothing_else_was_usable() {
        let failed = || vec![row("a", "failed", 0.0)];
        let looked = weigh(Vec::new(), failed(), &[]);
        assert_eq!(looked.again.as_deref(), Some("a is bad"));
        assert!(!looked.nothing_new);
        let s = standing(&looked.rows);
        assert_eq!(s.state, "not_analysed", "told at once");
        let why = looked.again.unwrap();
        assert!(says_so_already(&s, &why), "and when it is given up");
        assert!(!says_so_already(&s, "the network broke off"));

        let looked = weigh(vec![row("b", "screened", 0.1)], failed(), &[]);
        assert_eq!((looked.rows.len(), looked.again), (1, None));
        let bad = vec![row("a", "not_analysed", 0.0)];
        let looked = weigh(Vec::new(), bad, &[]);
        assert_eq!(looked.again, None, "no volume: it will never be one");
        assert_eq!(standing(&looked.rows).state, "not_analysed");
    }

    #[test]
    fn a_series_that_fails_after_it_was_screened_counts_as_it_was() {
        let earlier = [row("a", "screened", 0.9)];
        let failed = || vec![row("a", "failed", 0.0)];
        let looked = weigh(Vec::new(), failed(), &earlier);
        assert_eq!(
            (looked.rows.as_slice(), looked.nothing_new),
            (&earlier[..], true)
        );
        assert!(looked.again.is_some());
        let looked = weigh(vec![row("b", "screened", 0.1)], failed(), &earlier);
        assert!(!looked.nothing_new && looked.again.is_some());
        let screening = standing(&looked.rows).evidence.screening;
        assert_eq!(screening.unwrap().p_calibrated, 0.9);
        // what is no volume any more is not what was screened
        let bad = vec![row("a", "not_analysed", 0.0)];
        assert_eq!(weigh(Vec::new(), bad, &earlier).again, None);
    }

    #[test]
    fn what_was_found_stands_when_screening_again_fails() {
        let mut s = standing(&[row("a", "screened", 0.9)]);
        let found = s.evidence.clone();
        failed_again(&mut s, "killed", None);
        failed_again(&mut s, "too slow", None);
        assert_eq!((s.state.as_str(), &s.evidence), ("screened", &found));
        let said = "T1; screening again failed: too slow";
        assert_eq!(s.looked_at.as_deref(), Some(said));
        assert!(s.wants_volumetry, "it goes on");
        failed_again(&mut s, "too slow", Some("no network"));
        assert_eq!(s.volumetry_reason.as_deref(), Some("no network"));
        let mut s = received();
        s.volumetry = "done".into();
        failed_again(&mut s, "killed", None);
        assert_eq!((s.volumetry.as_str(), s.wants_volumetry), ("done", false));
        assert_eq!(
            s.looked_at.as_deref(),
            Some("screening again failed: killed")
        );
    }

    #[test]
    fn a_partial_series_holds_back_only_what_it_alone_shows() {
        let bands = |rows: &[ScreeningRow]| {
            let (evidence, settings) = (standing(rows).evidence, TriageSettings::default());
            (
                rank(&evidence, &settings).band,
                alert_band(&evidence, &settings),
            )
        };
        let (low, high) = (0.001, 0.999_99);
        let whole = |p| row("whole", "screened", p);
        let check = |rows: &[ScreeningRow], expected| assert_eq!(bands(rows), expected);
        check(&[whole(high)], (Band::Urgent, Band::Urgent));
        check(&[partial("a", high)], (Band::Urgent, Band::Pending));
        check(
            &[whole(high), partial("a", low)],
            (Band::Urgent, Band::Urgent),
        );
        check(
            &[whole(high), partial("a", high)],
            (Band::Urgent, Band::Urgent),
        );
        check(
            &[whole(low), partial("a", high)],
            (Band::Urgent, Band::Routine),
        );
    }
}

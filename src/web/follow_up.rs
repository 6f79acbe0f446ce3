//! A study against the patient's earlier one, as the study page shows it.

use super::words;
use crate::followup::{Change, FollowUp};
use crate::report::Language::En;
use crate::report::change::{self, LesionRow, stands_out};
use crate::store::priors::PriorSearch;

/// New and enlarged lesions that the page names one by one.
const LESIONS_SHOWN: usize = 10;

/// The part of the page about change.
pub(super) struct FollowUpView {
    pub prior_uid: String,
    pub prior_date: String,
    pub interval: String,
    pub doubts: Vec<String>,
    pub changes: Vec<ChangeRow>,
    /// Structures that are not shown, as their change says nothing.
    pub unshown: usize,
    pub limits: String,
    pub no_rates: bool,
    /// Sentences about lesions.
    pub lesions: Vec<String>,
    pub changed_lesions: Vec<LesionRow>,
    pub no_lesions: Option<&'static str>,
    pub others: usize,
}

/// A structure.
pub(super) struct ChangeRow {
    pub name: String,
    pub before: String,
    pub now: String,
    pub percent: String,
    pub per_year: String,
    pub expected: String,
    pub limit: String,
    pub standing: &'static str,
    pub stands_out: bool,
}

impl FollowUpView {
    pub(super) fn new(f: &FollowUp) -> Self {
        let lesions = f.lesions.as_ref();
        let shown = |c: &&Change| is_sum(&c.structure) || stands_out(c.standing);
        Self {
            prior_uid: f.prior_study_uid.clone(),
            prior_date: words::dicom_date(&f.prior_date),
            interval: change::interval(f.days, En),
            doubts: f
                .doubts
                .iter()
                .map(|d| words::sentence(&change::doubt(d, En)))
                .collect(),
            changes: f.changes.iter().filter(shown).map(row).collect(),
            unshown: f.changes.iter().filter(|c| !shown(c)).count(),
            limits: change::limits(f, En),
            no_rates: f.changes.iter().all(|c| c.percent_per_year.is_none()),
            lesions: lesions.map_or_else(Vec::new, |l| change::lesions(l, En)),
            changed_lesions: lesions
                .map_or_else(Vec::new, |l| change::changed_lesions(l, LESIONS_SHOWN, En)),
            no_lesions: f.no_lesions.map(|why| change::no_lesions(why, En)),
            others: f.earlier.len().saturating_sub(1),
        }
    }
}

/// How far asking the PACS for earlier studies is.
pub(super) fn asked(search: &PriorSearch) -> String {
    let said = search.said.as_deref().unwrap_or("under way");
    match search.state.as_str() {
        "done" => format!("The PACS was asked for earlier studies: {said}."),
        "failed" => format!(
            "The PACS was asked for earlier studies {} times, in vain: {said}.",
            search.attempts
        ),
        _ if search.said.is_some() => format!(
            "The PACS is asked for earlier studies; the last attempt failed and is repeated: {said}."
        ),
        _ => "The PACS is being asked for earlier studies.".to_owned(),
    }
}

/// Sums of both sides, and what has no sides.
fn is_sum(structure: &str) -> bool {
    !structure.starts_with("left ") && !structure.starts_with("right ")
}

fn row(c: &Change) -> ChangeRow {
    let maybe = |value: Option<f64>| value.map(words::signed).unwrap_or_default();
    ChangeRow {
        name: words::sentence(&c.structure),
        before: En.millilitres(c.prior_mm3),
        now: En.millilitres(c.present_mm3),
        percent: words::signed(c.percent),
        per_year: maybe(c.percent_per_year),
        expected: maybe(c.expected_percent_per_year),
        limit: En.number(c.limit_percent, 1),
        standing: change::standing(c.standing, En),
        stands_out: stands_out(c.standing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::followup::Standing;

    fn change(structure: &str, standing: Standing) -> Change {
        Change {
            structure: structure.into(),
            prior_mm3: 7000.0,
            present_mm3: 6300.0,
            percent: -10.0,
            percent_per_year: Some(-5.13),
            expected_percent_per_year: Some(-0.04),
            expected_percent: Some(-0.08),
            limit_percent: 16.9,
            standing,
        }
    }

    #[test]
    fn sides_are_shown_only_where_they_stand_out() {
        let view = FollowUpView::new(&FollowUp {
            days: 731,
            changes: vec![
                change("total hippocampus", Standing::WithinLimit),
                change("left hippocampus", Standing::WithinLimit),
                change("right hippocampus", Standing::BeyondAgeing),
            ],
            ..FollowUp::default()
        });
        let names: Vec<&str> = view.changes.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["Total hippocampus", "Right hippocampus"]);
        assert_eq!((view.unshown, view.interval.as_str()), (1, "2.0 years"));
        let first = &view.changes[0];
        assert_eq!(
            (
                first.percent.as_str(),
                first.per_year.as_str(),
                first.expected.as_str()
            ),
            ("\u{2212}10.0", "\u{2212}5.1", "0.0")
        );
        assert!(!first.stands_out && view.changes[1].stands_out);
    }
}

//! A study against the patient's earlier one, as the study page shows it.

use super::words;
use crate::followup::{
    Change, ChangedLesion, Doubt, FollowUp, LesionChange, NoLesions, NotCompared, Standing,
};
use crate::store::priors::PriorSearch;

/// New and enlarged lesions that the page names one by one.
const LESIONS_SHOWN: usize = 10;
const DAYS_PER_YEAR: f64 = 365.25;

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

/// A lesion that is new or grew.
pub(super) struct LesionRow {
    pub what: &'static str,
    pub place: String,
    pub before: String,
    pub now: String,
}

impl FollowUpView {
    pub(super) fn new(f: &FollowUp) -> Self {
        let shown = |c: &&Change| is_sum(&c.structure) || stands_out(c.standing);
        Self {
            prior_uid: f.prior_study_uid.clone(),
            prior_date: words::dicom_date(&f.prior_date),
            interval: interval(f.days),
            doubts: f.doubts.iter().map(doubt).collect(),
            changes: f.changes.iter().filter(shown).map(row).collect(),
            unshown: f.changes.iter().filter(|c| !shown(c)).count(),
            limits: limits(f),
            no_rates: f.changes.iter().all(|c| c.percent_per_year.is_none()),
            lesions: f.lesions.as_ref().map(lesions).unwrap_or_default(),
            changed_lesions: f.lesions.as_ref().map(changed_lesions).unwrap_or_default(),
            no_lesions: f.no_lesions.map(no_lesions),
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

/// Why nothing is compared.
pub(super) fn not_compared(why: NotCompared) -> &'static str {
    match why {
        NotCompared::OtherNetwork => {
            "Earlier studies of this patient are here, but another network measured them: their volumes cannot be compared with these."
        }
        NotCompared::OtherPerson => {
            "Earlier studies under this patient number are here, but birth date or sex differ: they were not compared."
        }
    }
}

/// Sums of both sides, and what has no sides.
fn is_sum(structure: &str) -> bool {
    !structure.starts_with("left ") && !structure.starts_with("right ")
}

fn stands_out(standing: Standing) -> bool {
    matches!(standing, Standing::BeyondAgeing | Standing::BeyondLimit)
}

/// "+1.2", with a real minus.
fn signed(value: f64) -> String {
    let text = format!("{value:+.1}");
    let text = if text == "-0.0" { "+0.0".into() } else { text };
    text.replace('-', "\u{2212}")
}

fn ml(mm3: f64) -> String {
    let ml = mm3 / 1000.0;
    if ml < 10.0 {
        format!("{ml:.2}")
    } else {
        format!("{ml:.1}")
    }
}

fn row(c: &Change) -> ChangeRow {
    let maybe = |value: Option<f64>| value.map(signed).unwrap_or_default();
    ChangeRow {
        name: words::sentence(&c.structure),
        before: ml(c.prior_mm3),
        now: ml(c.present_mm3),
        percent: signed(c.percent),
        per_year: maybe(c.percent_per_year),
        expected: maybe(c.expected_percent_per_year),
        limit: format!("{:.1}", c.limit_percent),
        standing: match c.standing {
            Standing::WithinLimit => "within the limit",
            Standing::AsAgeing => "as healthy people age",
            Standing::BeyondAgeing => "more than limit and ageing",
            Standing::BeyondLimit => "more than the limit",
        },
        stands_out: stands_out(c.standing),
    }
}

fn interval(days: i64) -> String {
    if days < 90 {
        words::counted(u64::try_from(days).unwrap_or(0), "day")
    } else {
        format!("{:.1} years", days as f64 / DAYS_PER_YEAR)
    }
}

fn limits(f: &FollowUp) -> String {
    let literature = "of the literature (Maclaren 2014, the largest there)";
    match (f.limit_pairs, f.default_limits) {
        (0, _) => format!(
            "The limit is what two scans of an unchanged person differ by, in 95 of 100 cases. It is not measured for this network yet: that {literature} stands in."
        ),
        (pairs, true) => format!(
            "The limit is what two scans of an unchanged person differ by, in 95 of 100 cases. It rests on {} of scans with this network, and on that {literature} where that is larger.",
            words::counted(u64::from(pairs), "pair")
        ),
        (pairs, false) => format!(
            "The limit is what two scans of an unchanged person differ by, in 95 of 100 cases, measured on {} of scans with this network.",
            words::counted(u64::from(pairs), "pair")
        ),
    }
}

fn doubt(doubt: &Doubt) -> String {
    match doubt {
        Doubt::OtherScanner => "Another scanner: scanners differ by more than years do".into(),
        Doubt::OtherContrast => {
            "The two scans differ in contrast, or contrast agent was given in one".into()
        }
        Doubt::DoubtfulMeasurement => "One of the two measurements is doubtful itself".into(),
        Doubt::HeadSize { percent } => format!(
            "The intracranial volumes differ by {} %, which heads do not",
            signed(*percent)
        ),
    }
}

fn lesions(l: &LesionChange) -> Vec<String> {
    let many = |count: usize, what: &str| {
        let s = if count == 1 { "" } else { "s" };
        format!("{count} {what}{s}")
    };
    let mut all = vec![format!(
        "{}, {} enlarged; {} smaller, {} unchanged, {} no longer marked.",
        many(l.new_count, "new lesion"),
        l.enlarged_count,
        l.smaller_count,
        l.stable_count,
        l.gone_count
    )];
    all.push(format!(
        "All lesions together: {} mL before, {} mL now.",
        ml(l.prior_mm3),
        ml(l.present_mm3)
    ));
    if l.not_covered_count > 0 {
        all.push(format!(
            "{} lies outside the other picture and was not compared.",
            many(l.not_covered_count, "lesion")
        ));
    }
    all
}

fn changed_lesions(l: &LesionChange) -> Vec<LesionRow> {
    let of = |what: &'static str, list: &[ChangedLesion]| -> Vec<LesionRow> {
        let shown = list.iter().take(LESIONS_SHOWN);
        shown
            .map(|c| LesionRow {
                what,
                place: place(c),
                before: if c.prior_mm3 > 0.0 {
                    ml(c.prior_mm3)
                } else {
                    String::new()
                },
                now: ml(c.present_mm3),
            })
            .collect()
    };
    let mut all = of("new", &l.new);
    all.extend(of("enlarged", &l.enlarged));
    all
}

fn place(c: &ChangedLesion) -> String {
    let region = c.region.map(|r| r.name().to_owned());
    let parts: Vec<String> = [c.side.clone(), region].into_iter().flatten().collect();
    let [x, y, z] = c
        .centre_mm
        .map(|mm| format!("{mm:.0}").replace('-', "\u{2212}"));
    let at = format!("at {x}, {y}, {z} mm");
    if parts.is_empty() {
        words::sentence(&at)
    } else {
        words::sentence(&format!("{}, {at}", parts.join(" ")))
    }
}

fn no_lesions(why: NoLesions) -> &'static str {
    match why {
        NoLesions::NoFlair => "no FLAIR in this study",
        NoLesions::NoFlairBefore => "no FLAIR in the earlier study",
        NoLesions::NotKept => "a label map is not kept any more",
        NoLesions::NotRegistered => "the two heads could not be brought together",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("\u{2212}10.0", "\u{2212}5.1", "+0.0")
        );
        assert!(!first.stands_out && view.changes[1].stands_out);
    }

    #[test]
    fn lesions_in_words() {
        let change = LesionChange {
            new_count: 1,
            new: vec![ChangedLesion {
                centre_mm: [-20.4, 3.0, 11.6],
                present_mm3: 125.0,
                region: Some(crate::analysis::Region::Deep),
                side: Some("left".into()),
                ..ChangedLesion::default()
            }],
            stable_count: 4,
            present_mm3: 1125.0,
            prior_mm3: 1000.0,
            ..LesionChange::default()
        };
        assert_eq!(
            lesions(&change),
            [
                "1 new lesion, 0 enlarged; 0 smaller, 4 unchanged, 0 no longer marked.",
                "All lesions together: 1.00 mL before, 1.12 mL now."
            ]
        );
        let rows = changed_lesions(&change);
        assert_eq!(
            rows[0].place,
            "Left deep white matter, at \u{2212}20, 3, 12 mm"
        );
        assert_eq!((rows[0].what, rows[0].before.as_str()), ("new", ""));
    }
}

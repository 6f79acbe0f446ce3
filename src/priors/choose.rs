//! Which of a PACS's studies are earlier brain MR studies of this patient. No IO.

use crate::dicom::query::{SeriesAnswer, StudyAnswer};
use crate::followup::days_between;
use crate::store::priors::Question;
use crate::worklist::ris::Identifier;

/// Words in body parts and descriptions, lower case: what shows the brain ...
const BRAIN: [&str; 12] = [
    "brain", "head", "skull", "neuro", "cereb", "crani", "encephal", "hirn", "kopf", "schädel",
    "schaedel", "cerveau",
];
/// ... and what shows something else.
const OTHER: [&str; 24] = [
    "spine", "spinal", "lumbar", "thora", "abdom", "pelvi", "knee", "shoulder", "breast",
    "prostat", "liver", "heart", "cardiac", "hip", "ankle", "wrist", "wirbel", "becken", "knie",
    "schulter", "mamma", "leber", "herz", "bws",
];

/// What a study shows, by its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shows {
    /// The brain.
    Brain,
    /// Its words do not say.
    Unknown,
    /// Something else.
    Other,
}

/// The patient's earlier MR studies within `years_max`, the newest first: those that `question` is
/// not itself, that are the same person's as far as is said, and that have at most `images_max`.
#[must_use]
pub fn candidates(
    question: &Question,
    answers: Vec<StudyAnswer>,
    years_max: u32,
    images_max: u64,
) -> Vec<StudyAnswer> {
    let issuer = question.issuer.as_deref();
    let Some(patient) = Identifier::new(&question.patient_id, issuer) else {
        return Vec::new();
    };
    let days_max = i64::from(years_max) * 366;
    let mut all: Vec<StudyAnswer> = answers
        .into_iter()
        .filter(|a| a.study_uid != question.study_uid)
        .filter(|a| patient.is(Some(&a.patient_id), a.issuer.as_deref()))
        .filter(|a| same_birth_date(question.birth_date.as_deref(), a.birth_date.as_deref()))
        .filter(|a| a.modalities.is_empty() || a.modalities.iter().any(|m| m == "MR"))
        .filter(|a| a.images.is_none_or(|n| n <= images_max))
        .filter(|a| {
            days_between(&a.date, &question.date).is_some_and(|d| (1..=days_max).contains(&d))
        })
        .collect();
    all.sort_by(|a, b| (&b.date, &a.study_uid).cmp(&(&a.date, &b.study_uid)));
    all.dedup_by(|a, b| a.study_uid == b.study_uid);
    all
}

fn same_birth_date(one: Option<&str>, other: Option<&str>) -> bool {
    match (one.map(str::trim), other.map(str::trim)) {
        (Some(a), Some(b)) => a.is_empty() || b.is_empty() || a == b,
        _ => true,
    }
}

/// What a study shows, by its own description and its series. Without an MR series it shows
/// something else.
#[must_use]
pub fn shows(study: &StudyAnswer, series: &[SeriesAnswer]) -> Shows {
    let mr: Vec<&SeriesAnswer> = series.iter().filter(|s| s.modality == "MR").collect();
    if mr.is_empty() && !series.is_empty() {
        return Shows::Other;
    }
    let mut words = vec![study.description.to_lowercase()];
    for s in mr {
        words.push(s.body_part.to_lowercase());
        words.push(s.description.to_lowercase());
    }
    let says = |list: &[&str]| {
        words
            .iter()
            .any(|w| list.iter().any(|word| w.contains(word)))
    };
    match (says(&BRAIN), says(&OTHER)) {
        (true, _) => Shows::Brain,
        (false, true) => Shows::Other,
        (false, false) => Shows::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question {
        Question {
            study_uid: "1.1".into(),
            patient_id: "P1".into(),
            issuer: None,
            birth_date: Some("19500101".into()),
            date: "20240601".into(),
        }
    }

    fn answer(uid: &str, date: &str) -> StudyAnswer {
        StudyAnswer {
            study_uid: uid.into(),
            date: date.into(),
            modalities: vec!["MR".into()],
            patient_id: "P1".into(),
            ..StudyAnswer::default()
        }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut StudyAnswer), wanted: bool) {
        let mut one = answer("1.2", "20230601");
        change(&mut one);
        let got = candidates(&question(), vec![one], 5, 100);
        assert_eq!(!got.is_empty(), wanted, "{got:?}");
    }

    #[test]
    fn only_earlier_mr_studies_of_the_same_person() {
        check(|_| {}, true);
        check(|a| a.study_uid = "1.1".into(), false);
        check(|a| a.patient_id = "P10".into(), false);
        check(|a| a.birth_date = Some("19660101".into()), false);
        check(|a| a.birth_date = Some("19500101".into()), true);
        check(|a| a.modalities = vec!["CT".into()], false);
        check(|a| a.modalities = vec!["SR".into(), "MR".into()], true);
        check(|a| a.modalities.clear(), true);
        check(|a| a.images = Some(101), false);
        check(|a| a.date = "20240601".into(), false);
        check(|a| a.date = "20250601".into(), false);
        check(|a| a.date = "20180601".into(), false);
        check(|a| a.date = String::new(), false);
    }

    #[test]
    fn the_newest_first_and_each_once() {
        let all = vec![
            answer("1.2", "20210101"),
            answer("1.3", "20230101"),
            answer("1.3", "20230101"),
            answer("1.4", "20220101"),
        ];
        let got = candidates(&question(), all, 5, 100);
        let uids: Vec<&str> = got.iter().map(|a| a.study_uid.as_str()).collect();
        assert_eq!(uids, ["1.3", "1.4", "1.2"]);
    }

    #[test]
    fn another_issuer_is_another_patient() {
        let mut asked = question();
        asked.issuer = Some("HOSP".into());
        let mut other = answer("1.2", "20230101");
        other.issuer = Some("OTHER".into());
        assert!(candidates(&asked, vec![other.clone()], 5, 100).is_empty());
        other.issuer = None;
        assert_eq!(candidates(&asked, vec![other], 5, 100).len(), 1);
    }

    #[test]
    fn what_a_study_shows_is_told_by_its_words() {
        let series = |modality: &str, body_part: &str, description: &str| SeriesAnswer {
            modality: modality.into(),
            body_part: body_part.into(),
            description: description.into(),
        };
        let check = |description: &str, all: &[SeriesAnswer], want: Shows| {
            let study = StudyAnswer {
                description: description.into(),
                ..StudyAnswer::default()
            };
            assert_eq!(shows(&study, all), want, "{description} {all:?}");
        };
        check("MRT Schädel", &[], Shows::Brain);
        check("MR", &[series("MR", "BRAIN", "")], Shows::Brain);
        check("MR", &[series("MR", "", "t1_mprage")], Shows::Unknown);
        check("MR knee", &[series("MR", "", "t1")], Shows::Other);
        check("MR head and spine", &[], Shows::Brain);
        check("", &[series("SR", "BRAIN", "")], Shows::Other);
        check("", &[], Shows::Unknown);
    }
}

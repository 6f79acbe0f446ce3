//! A made-up comparison with an earlier study.

use firstread::followup::{Change, ChangedLesion, Doubt, FollowUp, LesionChange, Standing};

use crate::site::uid;

/// Some of everything.
pub fn follow_up() -> FollowUp {
    let change = |structure: &str, standing, percent| Change {
        structure: structure.into(),
        prior_mm3: 7000.0,
        present_mm3: 7000.0 * (1.0 + percent / 100.0),
        percent,
        percent_per_year: Some(percent / 2.0),
        expected_percent_per_year: Some(-0.9),
        expected_percent: Some(-1.8),
        limit_percent: 16.9,
        standing,
    };
    FollowUp {
        prior_study_uid: uid(2),
        prior_date: "20241122".into(),
        days: 731,
        changes: vec![
            change("total hippocampus", Standing::BeyondAgeing, -20.0),
            change("total lateral ventricle", Standing::WithinLimit, 5.0),
            change("left caudate", Standing::WithinLimit, 1.0),
        ],
        lesions: Some(LesionChange {
            new_count: 1,
            new: vec![ChangedLesion {
                centre_mm: [-20.0, 3.0, 11.0],
                present_mm3: 125.0,
                ..ChangedLesion::default()
            }],
            prior_mm3: 900.0,
            present_mm3: 1025.0,
            ..LesionChange::default()
        }),
        doubts: vec![Doubt::OtherScanner],
        default_limits: true,
        ..FollowUp::default()
    }
}

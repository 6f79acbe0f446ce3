//! What of a measurement earns minutes, in words. Names no disease.
//!
//! A doubtful measurement finds nothing: what screening found stays.

use super::measurement::Measurement;
use crate::triage::{Finding, Volumetry};

/// Groups of findings that volumetry knows better than screening.
pub const GROUPS: [&str; 3] = ["ventricles", "atrophy", "lesions"];

/// The groups that a measurement says something about: ventricles and atrophy where there are
/// norms, lesions where there is a FLAIR.
#[must_use]
pub fn groups_known(measurement: &Measurement) -> Vec<String> {
    let compared = |name: &str| {
        let volume = measurement.volume(name);
        volume.is_some_and(|v| v.percentile.is_some())
    };
    let known = [
        compared("total lateral ventricle"),
        compared("total hippocampus"),
        measurement.lesions.is_some(),
    ];
    let groups = GROUPS.into_iter().zip(known).filter(|(_, known)| *known);
    groups.map(|(group, _)| group.to_owned()).collect()
}

/// What of it rests on none of these series: of them slices are missing.
#[must_use]
pub fn of_others(
    found: &Volumetry,
    measurement: &Measurement,
    partial: &[String],
) -> Option<Volumetry> {
    if partial.contains(&measurement.series_uid) {
        return None;
    }
    let lesions_of = measurement.lesion_series_uid.as_ref();
    let mut kept = found.clone();
    if lesions_of.is_some_and(|uid| partial.contains(uid)) {
        kept.groups.retain(|group| group != GROUPS[2]);
        kept.findings
            .retain(|f| f.code != LARGE_LESION && f.code != LESION_LOAD);
    }
    Some(kept)
}

/// Structures that are looked at: name in the norm table, words, whether large or small counts,
/// group, minutes.
const LOOKED_AT: [(&str, &str, Tail, &str, f64); 6] = [
    (
        "total lateral ventricle",
        "lateral ventricles",
        Tail::Large,
        GROUPS[0],
        36.0,
    ),
    (
        "3rd ventricle",
        "third ventricle",
        Tail::Large,
        GROUPS[0],
        20.0,
    ),
    (
        "4th ventricle",
        "fourth ventricle",
        Tail::Large,
        GROUPS[0],
        20.0,
    ),
    (
        "total hippocampus",
        "hippocampus",
        Tail::Small,
        GROUPS[1],
        10.0,
    ),
    (
        "brain (no ventricles, no csf)",
        "brain",
        Tail::Small,
        GROUPS[1],
        10.0,
    ),
    ("total thalamus", "thalamus", Tail::Small, GROUPS[1], 5.0),
];
/// Chance that a healthy person gets any of these findings.
const FAMILY_ERROR: f64 = 0.03;
/// Codes of what is found in the FLAIR.
const LARGE_LESION: &str = "large_lesion";
/// See [`LARGE_LESION`].
const LESION_LOAD: &str = "lesion_load";
/// Lesion load from which it earns minutes, ml; minutes for each further ml, and at most.
const LOAD_ML_MIN: f64 = 5.0;
const LOAD_MINUTES: (f64, f64) = (1.0, 20.0);
/// A single lesion from this size on, ml: minutes at its smallest, for each further ml, at most.
const LARGE_ML: f64 = 15.0;
const LARGE_MINUTES: (f64, f64, f64) = (30.0, 0.5, 60.0);

#[derive(Clone, Copy, PartialEq)]
enum Tail {
    Large,
    Small,
}

/// Findings of a measurement.
#[must_use]
pub fn findings(measurement: &Measurement) -> Vec<Finding> {
    if measurement.quality.doubtful {
        return Vec::new();
    }
    #[expect(clippy::cast_precision_loss, reason = "a handful of structures")]
    let tail = 100.0 * FAMILY_ERROR / LOOKED_AT.len() as f64;
    let mut found: Vec<Finding> = LOOKED_AT
        .iter()
        .filter_map(|(name, words, side, group, minutes)| {
            let percentile = measurement.volume(name)?.percentile?;
            let (beyond, suffix, text) = match side {
                Tail::Large => (percentile > 100.0 - tail, "large", "above the 99th"),
                Tail::Small => (percentile < tail, "small", "below the 1st"),
            };
            beyond.then(|| Finding {
                code: format!("{}_{suffix}", words.replace(' ', "_")),
                group: (*group).into(),
                text: format!("{words} {text} percentile"),
                minutes: *minutes,
                critical: false,
            })
        })
        .collect();
    found.extend(lesions(measurement));
    found
}

fn lesions(measurement: &Measurement) -> Option<Finding> {
    let lesions = measurement.lesions.as_ref()?;
    let ml = lesions.volume_mm3 / 1000.0;
    let largest = lesions.lesions.first()?;
    let largest_ml = largest.volume_mm3 / 1000.0;
    if largest_ml >= LARGE_ML {
        let (least, per_ml, most) = LARGE_MINUTES;
        let half = match largest.side.as_deref() {
            Some(side) => format!("{side} half"),
            None => "middle".to_owned(),
        };
        return Some(Finding {
            code: LARGE_LESION.into(),
            group: "region".into(),
            text: format!("a bright region of {largest_ml:.0} ml in the {half} on FLAIR"),
            minutes: (least + per_ml * (largest_ml - LARGE_ML)).min(most),
            critical: false,
        });
    }
    let count = match lesions.count {
        1 => "1 lesion".to_owned(),
        n => format!("{n} lesions"),
    };
    (ml >= LOAD_ML_MIN).then(|| Finding {
        code: LESION_LOAD.into(),
        group: GROUPS[2].into(),
        text: format!("{count} of white matter, {ml:.0} ml together"),
        minutes: (LOAD_MINUTES.0 * ml).min(LOAD_MINUTES.1),
        critical: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::measurement::{Lesion, Lesions, Region};
    use crate::worklist::VolumeDetail;

    fn measured(structure: &str, percentile: f64) -> Measurement {
        Measurement {
            volumes: vec![VolumeDetail {
                structure: structure.into(),
                label: None,
                volume_mm3: 1.0,
                percent_icv: None,
                z: None,
                percentile: Some(percentile),
                healthy_mm3: None,
                no_norm: None,
            }],
            ..Measurement::default()
        }
    }

    fn with_lesions(sizes_ml: &[f64]) -> Measurement {
        let lesions = sizes_ml.iter().map(|ml| Lesion {
            region: Region::Deep,
            side: Some("left".into()),
            volume_mm3: 1000.0 * ml,
            centre_mm: [0.0; 3],
        });
        Measurement {
            lesions: Some(Lesions {
                count: sizes_ml.len(),
                volume_mm3: 1000.0 * sizes_ml.iter().sum::<f64>(),
                lesions: lesions.collect(),
                ..Lesions::default()
            }),
            ..Measurement::default()
        }
    }

    #[track_caller]
    fn check(measurement: &Measurement, text: &str) {
        let found = findings(measurement);
        let texts: Vec<&str> = found.iter().map(|f| f.text.as_str()).collect();
        assert_eq!(texts.join("; "), text);
    }

    #[test]
    fn far_out_volumes_are_told_and_ordinary_ones_are_not() {
        check(
            &measured("total lateral ventricle", 99.9),
            "lateral ventricles above the 99th percentile",
        );
        check(&measured("total lateral ventricle", 99.0), "");
        check(&measured("total lateral ventricle", 0.01), "");
        check(
            &measured("total hippocampus", 0.2),
            "hippocampus below the 1st percentile",
        );
        check(&measured("total hippocampus", 99.99), "");
    }

    #[test]
    fn only_what_was_compared_takes_the_place_of_coarse_findings() {
        assert!(groups_known(&Measurement::default()).is_empty());
        let known = groups_known(&measured("total lateral ventricle", 50.0));
        assert_eq!(known, ["ventricles"]);
        assert_eq!(groups_known(&with_lesions(&[])), ["lesions"]);
    }

    #[test]
    fn atrophy_earns_at_most_ten_minutes() {
        let small = |(_, _, side, ..): &&(_, _, Tail, _, f64)| *side == Tail::Small;
        assert!(LOOKED_AT.iter().filter(small).all(|s| s.4 <= 10.0));
    }

    #[test]
    fn lesions_are_told_by_load_or_by_the_largest() {
        check(&with_lesions(&[2.0, 1.0]), "");
        check(
            &with_lesions(&[4.0, 3.0]),
            "2 lesions of white matter, 7 ml together",
        );
        check(
            &with_lesions(&[20.0, 3.0]),
            "a bright region of 20 ml in the left half on FLAIR",
        );
        check(&with_lesions(&[]), "");
    }

    #[test]
    fn a_doubtful_measurement_finds_nothing() {
        let mut doubtful = with_lesions(&[20.0]);
        doubtful.quality.doubtful = true;
        check(&doubtful, "");
    }
}

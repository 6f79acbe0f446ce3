//! Constructed cases of change.

use super::*;
use crate::analysis::Remark;
use crate::worklist::VolumeDetail;

fn norms() -> Norms {
    Norms::parse(include_str!("../../norms/norms_synthseg_v0.json")).unwrap()
}

fn measurement(age: f64, volumes: &[(&str, f64)]) -> Measurement {
    let detail = |(name, mm3): &(&str, f64)| VolumeDetail {
        structure: (*name).to_owned(),
        label: None,
        volume_mm3: *mm3,
        percent_icv: None,
        z: None,
        percentile: None,
        no_norm: None,
        healthy_mm3: None,
    };
    Measurement {
        contrast: "T1".into(),
        age_years: Some(age),
        sex: Some("F".into()),
        intracranial_mm3: 1.4e6,
        volumes: volumes.iter().map(detail).collect(),
        ..Measurement::default()
    }
}

fn scan(m: &Measurement) -> Scan<'_> {
    Scan {
        study_uid: "1.2.3",
        date: "20240101",
        scanner: "SIEMENS, 4711",
        measurement: m,
    }
}

/// Follow-up of one structure over so many days, with limits of 3.92 %.
fn follow(structure: &str, before: f64, now: f64, days: i64, age: f64) -> FollowUp {
    let repeats = Repeats {
        model_sha256: String::new(),
        pairs: 20,
        scans: String::new(),
        difference_percent: [(structure.to_owned(), 2.0)].into(),
    };
    let (present, prior) = (
        measurement(age, &[(structure, now)]),
        measurement(age - days as f64 / DAYS_PER_YEAR, &[(structure, before)]),
    );
    compare_volumes(
        scan(&present),
        scan(&prior),
        days,
        &norms(),
        &Limits::new(Some(&repeats)),
    )
}

#[track_caller]
fn check(before: f64, now: f64, days: i64, age: f64, standing: Standing, per_year: Option<f64>) {
    let all = follow("total hippocampus", before, now, days, age);
    let change = &all.changes[0];
    assert_eq!(change.standing, standing, "{change:?}");
    match (change.percent_per_year, per_year) {
        (Some(got), Some(want)) => assert!((got - want).abs() < 0.01, "{got}"),
        (got, want) => assert_eq!(got, want),
    }
}

#[test]
fn change_a_year_against_limit_and_ageing() {
    use Standing::{AsAgeing, BeyondAgeing, BeyondLimit, WithinLimit};
    check(7000.0, 6900.0, 731, 70.0, WithinLimit, Some(-0.716));
    check(7000.0, 6300.0, 731, 70.0, BeyondAgeing, Some(-5.13));
    check(7000.0, 7700.0, 731, 70.0, BeyondAgeing, Some(4.88));
    // Ten years at 80: what ventricles of healthy people grow by is more than the limit.
    let ten_years = |now| {
        follow("total lateral ventricle", 3e4, now, 3653, 85.0)
            .changes
            .remove(0)
    };
    let expected = ten_years(3e4).expected_percent.unwrap();
    assert!((20.0..60.0).contains(&expected), "{expected}");
    assert_eq!(ten_years(3e4).standing, WithinLimit);
    let aged = ten_years(3e4 * (1.0 + expected / 100.0));
    assert_eq!(aged.standing, AsAgeing);
    assert!((aged.percent - expected).abs() < 1e-9);
    assert_eq!(ten_years(6e4).standing, BeyondAgeing);
    // No norms: a child, and someone who was one.
    check(7000.0, 6300.0, 731, 12.0, BeyondLimit, Some(-5.13));
    check(7000.0, 6300.0, 731, 19.0, BeyondLimit, Some(-5.13));
}

#[test]
fn scans_of_one_month_give_no_rate() {
    check(7000.0, 6300.0, 30, 70.0, Standing::BeyondAgeing, None);
    assert_eq!(
        follow("total hippocampus", 7000.0, 6300.0, 30, 70.0).changes[0].expected_percent_per_year,
        None
    );
}

#[test]
fn ageing_is_that_of_the_norm_table() {
    let expected = follow("total hippocampus", 7000.0, 7000.0, 1826, 75.0).changes[0]
        .expected_percent_per_year
        .unwrap();
    let (n, head) = (norms(), 1.4e6);
    let at = |age| {
        n.volume_at(
            "total hippocampus",
            age,
            Sex::F,
            head,
            Correction::default(),
            0.0,
        )
        .unwrap()
    };
    let years = 1826.0 / DAYS_PER_YEAR;
    let want = 100.0 * ((at(75.0) / at(75.0 - years)).powf(1.0 / years) - 1.0);
    assert!((expected - want).abs() < 1e-9, "{expected} {want}");
    assert!(expected < 0.0);
    // Ventricles grow.
    let ventricles = follow("total lateral ventricle", 2e4, 2e4, 1826, 75.0);
    assert!(ventricles.changes[0].expected_percent_per_year.unwrap() > 1.0);
}

#[test]
fn what_is_not_in_both_or_no_number_is_left_out() {
    let (now, before) = (
        measurement(
            60.0,
            &[("brain-stem", 1e4), ("left caudate", 3e3), ("csf", 1e5)],
        ),
        measurement(
            58.0,
            &[("brain-stem", 0.0), ("right caudate", 3e3), ("csf", 1e5)],
        ),
    );
    let all = compare_volumes(scan(&now), scan(&before), 731, &norms(), &Limits::new(None));
    assert_eq!(all.changes, []);
    assert!(all.default_limits);
}

#[test]
fn doubts() {
    let (mut now, before) = (measurement(60.0, &[]), measurement(58.0, &[]));
    let doubts = |now: &Measurement, scanner| {
        let present = Scan {
            scanner,
            ..scan(now)
        };
        compare_volumes(present, scan(&before), 731, &norms(), &Limits::new(None)).doubts
    };
    assert_eq!(doubts(&now, "SIEMENS, 4711"), []);
    assert_eq!(doubts(&now, "GE"), [Doubt::OtherScanner]);
    now.contrast = "FLAIR".into();
    assert_eq!(doubts(&now, "SIEMENS, 4711"), [Doubt::OtherContrast]);
    now.contrast = "T1".into();
    now.quality.remarks.push(Remark {
        code: "contrast_agent".into(),
        text: String::new(),
        doubtful: false,
    });
    assert_eq!(doubts(&now, "SIEMENS, 4711"), [Doubt::OtherContrast]);
    now.quality.remarks.clear();
    now.quality.doubtful = true;
    assert_eq!(doubts(&now, "SIEMENS, 4711"), [Doubt::DoubtfulMeasurement]);
    now.quality.doubtful = false;
    now.intracranial_mm3 = 1.5e6;
    assert!(matches!(
        doubts(&now, "SIEMENS, 4711")[..],
        [Doubt::HeadSize { percent }] if (percent - 7.14).abs() < 0.01
    ));
}

#[test]
fn days() {
    assert_eq!(days_between("20240101", "20250101"), Some(366));
    assert_eq!(days_between("20250101", "20240101"), Some(-366));
    assert_eq!(days_between("", "20240101"), None);
    assert_eq!(days_between("20240230", "20240301"), None);
}

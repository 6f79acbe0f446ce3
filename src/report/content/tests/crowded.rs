//! A report of everything there can be: earlier scans on the curves, and two pages that hold it.

use super::*;
use crate::followup::{
    Change, ChangedLesion, Doubt, EarlierScan, FollowUp, LesionChange, Standing,
};

/// As [`measured`], with every row, curve and ratio that there can be, and earlier scans.
fn everything() -> Facts {
    let reporter = reporter();
    let (_, offsets) = reporter.measuring.as_ref().unwrap();
    let compared = |name: &str, mm3: f64| {
        let (correction, tiv) = crate::analysis::volumes::correction(name, offsets, None, 1.5e6)?;
        let sex = Some(crate::norms::Sex::M);
        let norms = &reporter.norms;
        let z = norms.compare(name, Some(67.4), sex, mm3, tiv, correction);
        Some(volume(name, mm3, Some(z.ok()?.z)))
    };
    let of = |name: &str, mm3| compared(name, mm3).unwrap_or_else(|| volume(name, mm3, Some(-2.4)));
    let mut facts = measured();
    let known = facts.measured.as_mut().unwrap();
    known.volumes = crate::report::names::ROWS
        .iter()
        .flat_map(|row| {
            let sides = row.sides.into_iter().flatten();
            std::iter::once(of(row.structure, 41_234.0)).chain(sides.map(|s| of(s, 20_617.0)))
        })
        .collect();
    known.volumes[0] = of("total intracranial", 1.5e6);
    let ratio = |code: &str| Index {
        code: code.into(),
        name: code.into(),
        value: 0.0312,
    };
    known.indices.push(ratio("ventricles_to_intracranial"));
    known.indices.push(ratio("ventricles_to_brain"));
    let change = |structure: &str, standing, percent: f64| Change {
        structure: structure.into(),
        prior_mm3: 412_345.0,
        present_mm3: 412_345.0 * (1.0 + percent / 100.0),
        percent,
        percent_per_year: Some(percent / 2.0),
        expected_percent_per_year: Some(-0.9),
        expected_percent: Some(-1.8),
        limit_percent: 16.9,
        standing,
    };
    let usual = [
        "brain (no ventricles, no csf)",
        "total cerebral white matter",
        "total cerebral cortex",
        "total lateral ventricle",
        "3rd ventricle",
        "total thalamus",
        "total hippocampus",
    ];
    let apart = [
        "right cerebral white matter",
        "total cerebellum white matter",
        "left accumbens area",
        "total caudate",
    ];
    let usual = usual.map(|name| change(name, Standing::AsAgeing, -17.0));
    let apart = apart.map(|name| change(name, Standing::BeyondAgeing, -20.0));
    let scan = |date: &str, mm3: f64| EarlierScan {
        date: date.into(),
        volumes: vec![("total hippocampus".into(), mm3)],
        ..EarlierScan::default()
    };
    let new = ChangedLesion {
        region: Some(Region::Deep),
        side: Some("left".into()),
        present_mm3: 400.0,
        ..ChangedLesion::default()
    };
    facts.follow_up = Some(FollowUp {
        prior_date: "20160501".into(),
        days: 730,
        changes: usual.into_iter().chain(apart).collect(),
        lesions: Some(LesionChange {
            new_count: 2,
            new: vec![new.clone(), new],
            ..LesionChange::default()
        }),
        doubts: vec![Doubt::OtherScanner, Doubt::OtherContrast],
        default_limits: true,
        limit_pairs: 1,
        earlier: vec![scan("20120501", 7000.0), scan("20160501", 6800.0)],
        ..FollowUp::default()
    });
    facts
}

#[test]
fn earlier_scans_stand_on_the_curves_at_their_age() {
    let content = reporter().content(&everything(), None);
    assert_eq!(content.curves.len(), 2, "two structures have offsets here");
    let curve = &content.curves[0];
    assert_eq!(curve.title, "Hippocampus");
    let across = |age: f64| (age - 20.0) / 70.0;
    let ages = [61.4, 65.4].map(across);
    for (point, age) in curve.earlier.iter().zip(ages) {
        assert!((point[0] - age).abs() < 0.001, "{:?}", curve.earlier);
    }
    assert_eq!(curve.earlier.len(), 2);
    // 7 ml is above 6.8 ml, and both far below the 41 ml of now.
    let down = |n: usize| curve.earlier[n][1];
    assert!(down(0) < down(1) && down(0) > curve.patient[1] + 0.5);
    assert!(
        content
            .curves_note
            .contains("Rings: this patient at earlier scans")
    );
    assert!(
        curve
            .description
            .ends_with("; 7.0 ml at 61.4 years; 6.8 ml at 65.4 years")
    );
    let changes = content.changes.unwrap();
    assert_eq!(changes.rows.len(), 11);
    assert!(changes.lines[0].ends_with("1 more earlier scan is on the curves."));
    let screened = reporter().content(&facts(), None);
    assert_eq!(screened.changes, None, "coarse volumes are not followed");
    assert!(screened.curves.iter().all(|c| c.earlier.is_empty()));
}

#[test]
fn two_pages_have_room_for_everything() {
    let folder = ReportSettings::default().fonts;
    if !folder.is_dir() {
        eprintln!("skipped: no fonts at {}", folder.display());
        return;
    }
    let fonts = Fonts::read(&folder).unwrap();
    let kept = std::env::var_os("FIRSTREAD_SCREENSHOTS").map(std::path::PathBuf::from);
    for language in [Language::En, Language::De] {
        let content = reporter().content(&everything(), Some(language));
        assert!(crate::report::pdf::fits(&content, &fonts), "{language:?}");
        let pdf = render(&content, &[], &fonts, 0).unwrap();
        if let Some(folder) = &kept {
            let name = format!("report-{}.pdf", language.as_str());
            std::fs::write(folder.join(name), pdf).unwrap();
        }
    }
    // Ranked by many terms, with many doubts: what is left out is said, and the page ends.
    let mut long = everything();
    let term = long.ranking.terms[1].clone();
    long.ranking.terms = vec![term; 40];
    long.measured.as_mut().unwrap().remarks = vec![doubt(&"motion ".repeat(100)); 30];
    let content = reporter().content(&long, Some(Language::De));
    assert!(!crate::report::pdf::fits(&content, &fonts));
    assert!(render(&content, &[], &fonts, 0).is_ok());
}

//! A report says what it knows, and what it does not know.

use std::sync::Arc;

use super::*;
use crate::analysis::NormOffsets;
use crate::norms::Norms;
use crate::report::ReportSettings;
use crate::report::facts::{Lesions, Patient, RankingFacts, Study};
use crate::report::pdf::{Fonts, render};
use crate::triage::{Band, Reason};
use crate::worklist::VolumeDetail;

const MODEL: &str = "screening 1 (abc)";

pub(crate) fn reporter() -> Reporter {
    let offsets = "model_sha256 = \"abc\"\nscans = 12\n[structures]\n\
                   \"total hippocampus\" = { offset = 0.28, sd = 0.09 }\n\
                   \"total lateral ventricle\" = { offset = 0.17, sd = 0.46 }\n\
                   \"total intracranial\" = { offset = 0.07, sd = 0.06 }\n";
    Reporter {
        settings: ReportSettings::default(),
        norms: Arc::new(Norms::parse(crate::serve::NORM_TABLE).unwrap()),
        time_zone: chrono_tz::Europe::Berlin,
        screening: Some((
            MODEL.into(),
            toml::from_str::<NormOffsets>(offsets).unwrap(),
        )),
    }
}

fn volume(structure: &str, volume_mm3: f64, z: Option<f64>) -> VolumeDetail {
    VolumeDetail {
        structure: structure.into(),
        label: None,
        volume_mm3,
        percent_icv: None,
        z,
        percentile: z.map(|z| 100.0 * crate::norms::phi(z)),
        healthy_mm3: None,
        no_norm: z.is_none().then(|| "age unknown".to_owned()),
    }
}

pub(crate) fn facts() -> Facts {
    let reason = |code: &str, text: &str, minutes| Reason {
        code: code.into(),
        text: text.into(),
        minutes,
    };
    Facts {
        patient: Patient {
            name: "Müller, Jürgen (山田)".into(),
            id: "0123".into(),
            birth_date: Some("19501214".into()),
            sex: Some("M".into()),
            age_years: Some(67),
        },
        study: Study {
            uid: "1.2.3".into(),
            date: Some("20180501".into()),
            description: Some("MRT Schädel".into()),
            ..Study::default()
        },
        measured: Some(Measured {
            stage: Stage::Screening,
            series_uid: "1.2.3.4".into(),
            series: "3 MPRAGE".into(),
            contrast: "T1".into(),
            model: MODEL.into(),
            input: "input".into(),
            volumes: vec![
                volume("total intracranial", 1.5e6, Some(0.1)),
                volume("total hippocampus", 6_250.0, Some(-2.5)),
                volume("left hippocampus", 3_000.0, Some(-2.6)),
                volume("right hippocampus", 3_250.0, Some(-2.4)),
                volume("total lateral ventricle", 61_000.0, Some(1.0)),
            ],
            age_years: Some(67.4),
            sex: Some("M".into()),
            partial: false,
            doubts: Vec::new(),
            pictures: Vec::new(),
            focused: false,
        }),
        not_measured: None,
        lesions: None,
        volumetry: "not_done".into(),
        volumetry_reason: Some("not part of this version".into()),
        settled: true,
        looked_at: Some("T1, FLAIR; 1 other series not analysed".into()),
        ranking: RankingFacts {
            band: Band::Routine,
            total_minutes: 94,
            terms: vec![
                (reason("screening", "screening", 58.0), 58),
                (
                    reason("x", "lateral ventricles above the 99th percentile", 36.0),
                    36,
                ),
            ],
            p_abnormal: Some(0.2),
            settings_version: 3,
        },
        models: vec![MODEL.into()],
        made_ms: 1_526_000_000_000,
    }
}

/// Everything that is said.
fn words(content: &Content) -> String {
    format!("{content:?}")
}

#[test]
fn the_table_has_volume_share_z_and_percentile() {
    let content = reporter().content(&facts(), None);
    let row = content
        .rows
        .iter()
        .find(|r| r.name == "Hippocampus")
        .unwrap();
    assert_eq!(row.cells, ["6.25", "0.42", "\u{2212}2.5", "0.6"]);
    assert_eq!(row.sides, ["3.00", "3.25"]);
    assert!(row.far);
    assert_eq!(content.rows[0].cells[0], "1500.0");
    assert!(!words(&content).contains("Nicht"));
}

#[test]
fn german_says_the_same_numbers() {
    let (en, de) = (
        reporter().content(&facts(), Some(Language::En)),
        reporter().content(&facts(), Some(Language::De)),
    );
    for (e, d) in en.rows.iter().zip(&de.rows) {
        let english = |cell: &String| cell.replace(',', ".");
        assert_eq!(
            e.cells.each_ref().map(english),
            d.cells.each_ref().map(english)
        );
    }
    let said = words(&de);
    for german in [
        "Nicht markiert",
        "Seitenventrikel über der 99. Perzentile",
        "T1, FLAIR; 1 weitere Serie nicht ausgewertet",
        "nicht Teil dieser Version",
        "01.05.2018",
        "6,25",
        crate::RESEARCH_USE,
    ] {
        assert!(said.contains(german), "{german} is not in {said}");
    }
    for english in ["not flagged", "percentile", "screening network"] {
        assert!(!said.contains(english), "{english} is in {said}");
    }
}

#[test]
fn the_patient_stands_on_the_curves_where_the_z_says() {
    let mut facts = facts();
    let at = |facts: &Facts| reporter().content(facts, None).curves[0].clone();
    // A hippocampus at the median lies on the median's line; below the 1st percentile, below its line.
    let reporter_ = reporter();
    let (_, offsets) = reporter_.screening.as_ref().unwrap();
    let known = offsets.structures["total hippocampus"];
    let head = offsets.structures["total intracranial"].offset;
    let correction = crate::norms::Correction {
        offset: known.offset,
        delta: 0.0,
        local_scans: Some(0),
        sd_at_least: known.sd,
    };
    let mut with = |z: f64| {
        let tiv = 1.5e6 / f64::exp(head);
        let sex = crate::norms::Sex::M;
        let norms = &reporter_.norms;
        let mm3 = norms.volume_at("total hippocampus", 67.4, sex, tiv, correction, z);
        let measured = facts.measured.as_mut().unwrap();
        measured.volumes[1].volume_mm3 = mm3.unwrap();
        at(&facts)
    };
    let near = |curve: &crate::report::curves::Curve, line: usize| {
        let [x, y] = curve.patient;
        let close = curve.lines[line]
            .iter()
            .min_by(|a, b| (a[0] - x).abs().total_cmp(&(b[0] - x).abs()))
            .unwrap();
        y - close[1]
    };
    assert!(near(&with(0.0), 2).abs() < 0.01);
    assert!(near(&with(-3.0), 0) > 0.02);
    assert!(near(&with(3.0), 4) < -0.02);
}

#[test]
fn without_age_there_is_no_z_and_it_says_so() {
    let mut facts = facts();
    facts.patient.age_years = None;
    let measured = facts.measured.as_mut().unwrap();
    measured.age_years = None;
    for v in &mut measured.volumes {
        *v = volume(&v.structure, v.volume_mm3, None);
    }
    let content = reporter().content(&facts, None);
    assert!(
        content
            .rows
            .iter()
            .all(|r| r.cells[2].is_empty() && r.cells[3].is_empty())
    );
    assert!(content.table_notes[0].contains("no z, no percentile"));
    assert!(content.table_notes[0].contains("age unknown"));
    assert_eq!(content.curves, vec![]);
    assert!(content.curves_note.contains("no comparison"));
    assert!(!words(&content).contains("Uncalibrated"));
}

#[test]
fn a_study_that_was_not_analysed_says_why() {
    let mut facts = facts();
    facts.measured = None;
    facts.not_measured = Some("does not look like a head".into());
    let content = reporter().content(&facts, Some(Language::De));
    assert_eq!(content.rows, vec![]);
    assert!(content.table_notes[0].contains("sieht nicht wie ein Kopf aus"));
}

#[test]
fn curves_of_another_network_are_not_drawn() {
    let mut facts = facts();
    facts.measured.as_mut().unwrap().model = "screening 2 (def)".into();
    let content = reporter().content(&facts, None);
    assert_eq!(content.curves, vec![]);
    assert!(content.curves_note.contains("another version"));
}

#[test]
fn lesions_are_summed_by_place() {
    let mut facts = facts();
    facts.lesions = Some(Lesions {
        count: 5,
        total_ml: 3.25,
        by_place: vec![("periventricular".into(), 4, 3.0), ("deep".into(), 1, 0.25)],
    });
    let content = reporter().content(&facts, Some(Language::De));
    assert_eq!(
        content.lesions,
        [
            "5 Läsionen, 3,25 ml",
            "Periventrikulär: 4 Läsionen, 3,00 ml",
            "Tiefe weiße Substanz: 1 Läsion, 0,25 ml"
        ]
    );
}

#[test]
fn the_pdf_is_the_same_again_and_survives_long_texts() {
    let folder = ReportSettings::default().fonts;
    if !folder.is_dir() {
        eprintln!("skipped: no fonts at {}", folder.display());
        return;
    }
    let fonts = Fonts::read(&folder).unwrap();
    let set = |facts: &Facts| {
        let content = reporter().content(facts, Some(Language::De));
        render(&content, &[], &fonts, facts.made_ms).unwrap()
    };
    let mut facts = facts();
    let pdf = set(&facts);
    assert!(pdf.starts_with(b"%PDF"));
    assert_eq!(pdf, set(&facts));
    facts.patient.name = "A".repeat(64);
    facts.study.description = Some("very long ".repeat(200));
    facts.looked_at = Some("T1, ".repeat(200));
    let term = facts.ranking.terms[1].clone();
    facts.ranking.terms = vec![term; 40];
    facts.measured.as_mut().unwrap().doubts = vec!["motion ".repeat(100); 30];
    let long = set(&facts);
    assert!(long.len() > pdf.len());
}

#[test]
fn a_missing_font_names_its_setting() {
    let error = Fonts::read(std::path::Path::new("/nowhere")).err().unwrap();
    assert!(
        error.contains("report.fonts") && error.contains("DejaVuSans.ttf"),
        "{error}"
    );
}

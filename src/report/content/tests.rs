//! A report says what it knows, and what it does not know.

mod crowded;

use std::sync::Arc;

use super::*;
use crate::analysis::NormOffsets;
use crate::analysis::{Asymmetry, Index, Lesion, LesionRegion, Lesions, Region, Remark};
use crate::norms::Norms;
use crate::norms::{ScannerCalibration, ScannerShift};
use crate::report::ReportSettings;
use crate::report::facts::{Patient, RankingFacts, Shown, Study};
use crate::report::pdf::{Fonts, render};
use crate::triage::{Band, Reason};
use crate::worklist::VolumeDetail;

const MODEL: &str = "screening 1 (abc)";
const MEASURING: &str = "volumetry 1 (def)";

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
        measuring: Some((
            MEASURING.into(),
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
            remarks: Vec::new(),
            confidence: None,
            asymmetry: Vec::new(),
            indices: Vec::new(),
            norms: "norms_synthseg_v0".into(),
            calibration: None,
            pictures: Shown::default(),
        }),
        not_measured: None,
        lesions: None,
        lesion_series: None,
        lesion_series_uid: None,
        no_lesions: None,
        follow_up: None,
        not_compared: None,
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
    let at = |facts: &Facts| {
        let curves = reporter().content(facts, None).curves;
        let title = "Hippocampus";
        curves.into_iter().find(|c| c.title == title).unwrap()
    };
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
        measured.volumes[1].z = Some(z);
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

fn doubt(text: &str) -> Remark {
    Remark {
        code: "x".into(),
        text: text.into(),
        doubtful: true,
    }
}

/// As [`facts`], measured by volumetry, with a lesion on the left.
fn measured() -> Facts {
    let mut facts = facts();
    let known = facts.measured.as_mut().unwrap();
    known.stage = Stage::Volumetry;
    known.model = MEASURING.into();
    known.confidence = Some(0.87);
    known.norms =
        "norms_synthseg_v0, segmenter offsets from 10 healthy scans, scanner uncalibrated".into();
    known.asymmetry = vec![Asymmetry {
        structure: "hippocampus".into(),
        left_mm3: 3000.0,
        right_mm3: 4000.0,
        percent: -28.6,
    }];
    known.indices = vec![
        Index {
            code: "brain_parenchymal_fraction".into(),
            name: "brain parenchymal fraction".into(),
            value: 0.8123,
        },
        Index {
            code: "evans_like_index".into(),
            name: "Evans-like index".into(),
            value: 0.27,
        },
    ];
    let lesion = Lesion {
        region: Region::Deep,
        side: Some("left".into()),
        volume_mm3: 2197.0,
        centre_mm: [-30.0, 0.0, 20.0],
    };
    facts.lesions = Some(Lesions {
        count: 1,
        volume_mm3: 2197.0,
        left_mm3: 2197.0,
        right_mm3: 0.0,
        percent_icv: 0.146,
        regions: vec![LesionRegion {
            region: Region::Deep,
            count: 1,
            volume_mm3: 2197.0,
        }],
        lesions: vec![lesion],
    });
    facts.lesion_series = Some("5 FLAIR".into());
    facts.volumetry = "done".into();
    facts.volumetry_reason = None;
    facts.models.push(MEASURING.into());
    facts
}

#[test]
fn volumetry_says_lesions_ratios_sides_and_how_good_it_is() {
    let en = reporter().content(&measured(), Some(Language::En));
    assert_eq!(
        en.lesions,
        [
            "1 lesion, 2.20 ml (0.15 % of intracranial volume): 2.20 ml left, 0.00 ml right.",
            "The largest: 2.20 ml, left, deep white matter.",
            "Deep white matter: 1 lesion, 2.20 ml.",
        ]
    );
    assert_eq!(
        en.sides,
        ["Hippocampus: right larger, by 29 % of the sides' mean."]
    );
    assert_eq!(en.ratios[0].value, "0.812");
    assert_eq!(en.table_title, "Volumes, measured at 1 mm");
    assert_eq!(
        en.quality[0],
        "Volumes were measured on series 3 MPRAGE (T1), lesions on series 5 FLAIR (FLAIR)."
    );
    assert!(en.quality[1].starts_with("Nothing makes the numbers doubtful"));
    assert!(en.quality[1].ends_with("0.87 of 1."));
    let version = |content: &Content, label: &str| {
        let fields = content.versions.iter().filter(|f| f.label == label);
        fields.map(|f| f.value.clone()).collect::<Vec<_>>()
    };
    assert_eq!(version(&en, "Network"), [MODEL, MEASURING]);
    assert!(version(&en, "Norms")[0].contains("10 healthy scans"));
    let de = reporter().content(&measured(), Some(Language::De));
    assert_eq!(
        de.lesions,
        [
            "1 Läsion, 2,20 ml (0,15 % des intrakraniellen Volumens): 2,20 ml links, 0,00 ml rechts.",
            "Die größte: 2,20 ml, links, tiefe weiße Substanz.",
            "Tiefe weiße Substanz: 1 Läsion, 2,20 ml.",
        ]
    );
    assert_eq!(
        de.sides,
        ["Hippocampus: rechts größer, um 29 % des Mittels der Seiten."]
    );
    let said = words(&de);
    for english in [
        "lesion,",
        "sides'",
        "healthy scans",
        "was measured",
        "doubtful",
    ] {
        assert!(!said.contains(english), "{english} is in {said}");
    }
}

#[test]
fn a_doubtful_measurement_says_so_in_both_languages() {
    let mut facts = measured();
    facts.lesions = None;
    facts.no_lesions = Some("FLAIR: no brain was found".into());
    facts.measured.as_mut().unwrap().remarks = vec![
        doubt("the picture ends within the brain above"),
        Remark {
            doubtful: false,
            ..doubt("the network is unsure of left amygdala")
        },
    ];
    let en = reporter().content(&facts, Some(Language::En));
    assert_eq!(
        en.quality[1..4],
        [
            "Doubtful: the picture ends within the brain above.",
            "Noticed: the network is unsure of left amygdala.",
            "Because of the doubts these numbers moved no study in the list. Mean probability of the \
             labels: 0.87 of 1.",
        ]
    );
    let de = reporter().content(&facts, Some(Language::De));
    assert_eq!(
        de.quality[1..3],
        [
            "Zweifelhaft: das Bild endet oben innerhalb des Gehirns.",
            "Bemerkt: das Netz ist unsicher bei: Amygdala links.",
        ]
    );
    assert_eq!(
        de.lesions,
        [
            "Läsionen der weißen Substanz wurden nicht gemessen: FLAIR: es wurde kein Gehirn gefunden."
        ]
    );
}

#[test]
fn curves_follow_the_scanners_calibration_or_are_not_drawn() {
    let mut facts = measured();
    // Volumes and z's as the networks' offsets and the scanner's shifts give them.
    let reporter = reporter();
    let (_, offsets) = reporter.measuring.as_ref().unwrap();
    let shift = |delta: f64| ScannerShift {
        scans: 12,
        mean: 2.0 * delta,
        delta,
        z_before: 0.0,
        z_after: 0.0,
    };
    let scanner = ScannerCalibration {
        structures: [("total hippocampus", 0.1), ("total intracranial", 0.02)]
            .map(|(name, delta)| (name.to_owned(), shift(delta)))
            .into(),
    };
    let known = facts.measured.as_mut().unwrap();
    let z_with = |scanner: Option<&ScannerCalibration>| {
        let name = "total hippocampus";
        let (correction, tiv) =
            crate::analysis::volumes::correction(name, offsets, scanner, 1.5e6).unwrap();
        let sex = Some(crate::norms::Sex::M);
        let compared = reporter
            .norms
            .compare(name, Some(67.4), sex, 6250.0, tiv, correction);
        compared.unwrap().z
    };
    known.volumes[1].z = Some(z_with(Some(&scanner)));
    known.volumes[4].z = None;
    known.calibration = Some((3, scanner));
    let drawn = reporter.content(&facts, None);
    assert_eq!(drawn.curves.len(), 1);
    let quality = drawn.quality.last().unwrap();
    assert_eq!(
        quality,
        "This scanner was calibrated with 12 healthy people (calibration 3)."
    );
    // The same z without the calibration it rests on: nothing is drawn that contradicts the table.
    facts.measured.as_mut().unwrap().calibration = None;
    let without = reporter.content(&facts, None);
    assert_eq!(without.curves, vec![]);
    assert!(without.curves_note.contains("or its norms"));
}

#[test]
fn pictures_of_a_measured_study_show_its_outlines_and_its_largest_lesion() {
    let names = |prefix: &str| {
        ["axial", "coronal", "sagittal"]
            .map(|plane| format!("{prefix}{plane}"))
            .to_vec()
    };
    let mut facts = measured();
    facts.measured.as_mut().unwrap().pictures = Shown {
        screened: names(""),
        focused: true,
        measured: names("measured_"),
        lesion: names("lesion_"),
    };
    let shown = reporter().content(&facts, Some(Language::De)).pictures;
    let shown = shown.unwrap();
    let first: Vec<&str> = shown
        .rows
        .iter()
        .map(|row| row.planes[1].0.as_str())
        .collect();
    assert_eq!(first, ["measured_coronal", "coronal", "lesion_coronal"]);
    assert!(shown.rows.iter().all(|row| row.planes[1].1 == "koronar"));
    assert!(shown.rows[0].is_measured() && !shown.rows[1].is_measured());
    assert_eq!(shown.legend.len(), 6);
    facts.measured.as_mut().unwrap().pictures = Shown::default();
    assert_eq!(reporter().content(&facts, None).pictures, None);
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
    facts.measured.as_mut().unwrap().remarks = vec![doubt(&"motion ".repeat(100)); 30];
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

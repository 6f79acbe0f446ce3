//! What stage two measured, as the study page shows it.

use super::study::{Volume, volume_rows};
use super::words;
use crate::analysis::outlines::{LEGEND, LESION_VIEW};
use crate::analysis::{Lesions, Measurement};
use crate::worklist::SeriesDetail;

/// Sides that differ by less are not shown, percent.
const ASYMMETRY_SHOWN_PERCENT: f64 = 10.0;

/// The part of the page about stage two.
pub(super) struct MeasuredView {
    /// What was measured on what, by what.
    pub about: String,
    /// Why the numbers are doubtful; empty where they are not.
    pub doubts: Vec<String>,
    /// What else was noticed.
    pub remarks: Vec<String>,
    pub confidence: String,
    /// In two columns.
    pub volumes: Vec<Vec<Volume>>,
    pub no_norms: Option<String>,
    /// Name and value.
    pub indices: Vec<(String, String)>,
    /// Structures whose sides differ.
    pub sides: Vec<String>,
    pub lesions: Option<LesionView>,
    pub no_lesions: Option<String>,
    pub series_uid: String,
    /// Name of a picture and of its plane.
    pub planes: Vec<(String, String)>,
    /// What is outlined, and the colour as CSS has it.
    pub legend: Vec<(String, String)>,
    /// Norms, model, software.
    pub rests_on: String,
}

/// Lesions in short.
pub(super) struct LesionView {
    pub sentence: String,
    /// Region, count, millilitres.
    pub regions: Vec<(String, usize, String)>,
}

impl MeasuredView {
    pub(super) fn new(m: &Measurement, series: &[SeriesDetail]) -> Self {
        let (doubts, remarks): (Vec<_>, Vec<_>) =
            m.quality.remarks.iter().partition(|r| r.doubtful);
        let text = |all: Vec<&crate::analysis::Remark>| {
            all.into_iter().map(|r| words::sentence(&r.text)).collect()
        };
        let (volumes, no_norms) = volume_rows(&m.volumes);
        Self {
            about: about(m, series),
            doubts: text(doubts),
            remarks: text(remarks),
            confidence: format!("{:.2}", m.quality.confidence),
            volumes,
            no_norms,
            indices: m
                .indices
                .iter()
                .map(|i| (words::sentence(&i.name), format!("{:.3}", i.value)))
                .collect(),
            sides: sides(m),
            lesions: m.lesions.as_ref().map(LesionView::new),
            no_lesions: m.no_lesions.clone(),
            series_uid: m.series_uid.clone(),
            planes: planes(m),
            legend: LEGEND
                .iter()
                .map(|(name, [r, g, b])| ((*name).to_owned(), format!("#{r:02x}{g:02x}{b:02x}")))
                .collect(),
            rests_on: format!(
                "Network {} on {}; {}; norms: {}",
                m.model, m.provider, m.software, m.norms
            ),
        }
    }
}

fn about(m: &Measurement, series: &[SeriesDetail]) -> String {
    let title = |uid: &str| {
        let found = series.iter().find(|s| s.series_uid == uid);
        found
            .and_then(|s| s.number)
            .map(|n| format!(" (series {n})"))
    };
    let volumes = format!(
        "Volumes measured on {}{}",
        m.contrast,
        title(&m.series_uid).unwrap_or_default()
    );
    match &m.lesion_series_uid {
        Some(uid) => format!(
            "{volumes}, lesions on FLAIR{}.",
            title(uid).unwrap_or_default()
        ),
        None => format!("{volumes}."),
    }
}

fn sides(m: &Measurement) -> Vec<String> {
    let apart = m
        .asymmetry
        .iter()
        .filter(|a| a.percent.abs() >= ASYMMETRY_SHOWN_PERCENT);
    apart
        .map(|a| {
            let larger = if a.percent > 0.0 { "left" } else { "right" };
            format!(
                "{}: {larger} larger by {:.0} % ({:.1} and {:.1} ml)",
                words::sentence(&a.structure),
                a.percent.abs(),
                a.left_mm3 / 1000.0,
                a.right_mm3 / 1000.0
            )
        })
        .collect()
}

fn planes(m: &Measurement) -> Vec<(String, String)> {
    m.pictures
        .iter()
        .map(|name| {
            let plane = match name.strip_prefix(LESION_VIEW) {
                Some(plane) => format!("{plane}, through the largest lesion"),
                None => name.trim_start_matches("measured_").to_owned(),
            };
            (name.clone(), plane)
        })
        .collect()
}

impl LesionView {
    fn new(lesions: &Lesions) -> Self {
        let ml = |mm3: f64| format!("{:.1}", mm3 / 1000.0);
        let count = match lesions.count {
            0 => "No lesion was found on FLAIR".to_owned(),
            1 => "1 lesion".to_owned(),
            n => format!("{n} lesions"),
        };
        let sentence = if lesions.count == 0 {
            format!("{count}.")
        } else {
            format!(
                "{count}, {} ml together ({:.2} % of intracranial volume).",
                ml(lesions.volume_mm3),
                lesions.percent_icv
            )
        };
        let regions = lesions.regions.iter();
        Self {
            sentence,
            regions: regions
                .map(|r| (words::sentence(r.region.name()), r.count, ml(r.volume_mm3)))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Asymmetry, LesionRegion, Region};

    #[test]
    fn lesions_are_told_in_one_sentence() {
        let mut lesions = Lesions::default();
        assert_eq!(
            LesionView::new(&lesions).sentence,
            "No lesion was found on FLAIR."
        );
        lesions.count = 2;
        lesions.volume_mm3 = 3456.0;
        lesions.percent_icv = 0.234;
        lesions.regions = vec![LesionRegion {
            region: Region::Deep,
            count: 2,
            volume_mm3: 3456.0,
        }];
        let view = LesionView::new(&lesions);
        assert_eq!(
            view.sentence,
            "2 lesions, 3.5 ml together (0.23 % of intracranial volume)."
        );
        assert_eq!(
            view.regions,
            [("Deep white matter".into(), 2, "3.5".into())]
        );
    }

    #[test]
    fn sides_that_hardly_differ_are_not_shown() {
        let side = |left_mm3: f64| Asymmetry {
            structure: "hippocampus".into(),
            left_mm3,
            right_mm3: 4000.0,
            percent: 200.0 * (left_mm3 - 4000.0) / (left_mm3 + 4000.0),
        };
        let m = Measurement {
            asymmetry: vec![side(3900.0), side(3000.0)],
            ..Measurement::default()
        };
        assert_eq!(
            sides(&m),
            ["Hippocampus: right larger by 29 % (3.0 and 4.0 ml)"]
        );
    }
}

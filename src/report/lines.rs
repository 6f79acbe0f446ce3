//! The sentences of a report. Pure.

use super::content::Field;
use super::curves::Curve;
use super::facts::{Facts, Measured, Stage};
use super::{Language, names};
use crate::triage::Band;

/// Terms of the ranking that are listed; what is left is counted.
const TERMS_MAX: usize = 7;
/// Doubts that are listed, and other remarks.
const DOUBTS_MAX: usize = 5;
const REMARKS_MAX: usize = 2;
/// Sides that differ by less are not shown, percent of their mean; so many are listed.
const SIDES_PERCENT_SHOWN: f64 = 10.0;
const SIDES_MAX: usize = 5;

pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

/// How it stands out.
pub(super) fn standing(facts: &Facts, language: Language) -> String {
    let text = match facts.ranking.band {
        Band::Pending => language.say("Not screened", "Nicht gesichtet"),
        Band::Routine => language.say("Not flagged", "Nicht markiert"),
        Band::Elevated => language.say("Elevated", "Erhöht"),
        Band::Urgent => language.say("Urgent", "Dringend"),
        Band::Critical => language.say("Critical", "Kritisch"),
    };
    text.to_owned()
}

pub(super) fn ranked(facts: &Facts, language: Language) -> String {
    let minutes = facts.ranking.total_minutes;
    language.say(
        format!("Ranked as if it had arrived {minutes} min earlier."),
        format!("Eingereiht, als wäre die Untersuchung {minutes} min früher eingetroffen."),
    )
}

pub(super) fn terms(facts: &Facts, language: Language) -> Vec<Field> {
    let all = &facts.ranking.terms;
    let mut fields: Vec<Field> = all
        .iter()
        .take(TERMS_MAX)
        .map(|(reason, minutes)| Field {
            label: capital(&language.sentence(&reason.text)),
            // What earns nothing is said, and counts nothing.
            value: match minutes {
                0 => String::new(),
                minutes => format!("+{minutes} min"),
            },
        })
        .collect();
    let left = all.get(TERMS_MAX..).unwrap_or_default();
    if !left.is_empty() {
        let minutes: i64 = left.iter().map(|(_, minutes)| minutes).sum();
        fields.push(Field {
            label: language.say(
                format!("{} more", left.len()),
                format!("{} weitere", left.len()),
            ),
            value: format!("+{minutes} min"),
        });
    }
    fields
}

pub(super) fn table_notes(facts: &Facts, language: Language) -> Vec<String> {
    let Some(measured) = &facts.measured else {
        let why = facts
            .not_measured
            .as_deref()
            .unwrap_or("no usable MR series");
        return vec![language.say(
            format!("No volumes were measured: {why}."),
            format!(
                "Es wurden keine Volumina gemessen: {}.",
                language.sentence(why)
            ),
        )];
    };
    if let Some(why) = no_norms(measured) {
        return vec![language.say(
            format!("No comparison with healthy people (no z, no percentile): {why}."),
            format!(
                "Kein Vergleich mit Gesunden (kein z, keine Perzentile): {}.",
                language.sentence(&why)
            ),
        )];
    }
    let cohorts = measured
        .volumes
        .iter()
        .any(|v| v.z.is_some() && super::names::COHORTS_DIFFER.contains(&v.structure.as_str()));
    let mut notes = vec![
        language
            .say(
                "z: standard deviations from the median of healthy people of the same age and sex, \
                 corrected for head size. Bold: beyond the 1st or 99th percentile; 28 % of healthy people \
                 have one of 33 structures below the 1st.",
                "z: Standardabweichungen vom Median Gesunder gleichen Alters und Geschlechts, um die \
                 Kopfgröße bereinigt. Fett: jenseits der 1. oder 99. Perzentile; 28 % der Gesunden \
                 haben eine von 33 Strukturen unter der 1. Perzentile.",
            )
            .to_owned(),
    ];
    if cohorts {
        notes.push(
            language
                .say(
                    "* Norms differ by up to 1 standard deviation between the groups of people that \
                     they were made from.",
                    "* Die Normwerte unterscheiden sich um bis zu 1 Standardabweichung zwischen den \
                     Gruppen, aus denen sie gewonnen wurden.",
                )
                .to_owned(),
        );
    }
    notes
}

/// Why no volume was compared, where none was: the most frequent reason.
fn no_norms(measured: &Measured) -> Option<String> {
    if measured.volumes.iter().any(|v| v.z.is_some()) {
        return None;
    }
    let reasons = || measured.volumes.iter().filter_map(|v| v.no_norm.as_deref());
    reasons()
        .max_by_key(|reason| reasons().filter(|other| other == reason).count())
        .map(str::to_owned)
}

pub(super) fn curves_note(
    measured: Option<&Measured>,
    curves: &[Curve],
    language: Language,
) -> String {
    let text = match (measured, curves.is_empty()) {
        (_, false) => language.say(
            "Volume in ml over age in years, for a head of this size. Line: median; dark band: 5th to \
             95th, light band: 1st to 99th percentile of healthy people. Dot: this patient.",
            "Volumen in ml über dem Alter in Jahren, für einen Kopf dieser Größe. Linie: Median; dunkles \
             Band: 5. bis 95., helles Band: 1. bis 99. Perzentile Gesunder. Punkt: diese Person.",
        ),
        (Some(m), true) if no_norms(m).is_none() => language.say(
            "No curves: the results are of another version of the network or its norms than the one \
             installed now.",
            "Keine Kurven: die Ergebnisse stammen von einer anderen Version des Netzes oder seiner \
             Normwerte als der jetzt installierten.",
        ),
        _ => language.say(
            "No curves: there is no comparison with healthy people.",
            "Keine Kurven: es gibt keinen Vergleich mit Gesunden.",
        ),
    };
    let mut text = text.to_owned();
    if curves.iter().any(|curve| !curve.earlier.is_empty()) {
        text += language.say(
            " Rings: this patient at earlier scans, as they were measured then.",
            " Ringe: diese Person bei früheren Aufnahmen, wie damals gemessen.",
        );
    }
    text
}

pub(super) fn lesions(facts: &Facts, language: Language) -> Vec<String> {
    let Some(found) = &facts.lesions else {
        return vec![match facts.no_lesions.as_deref() {
            Some(why) => language.say(
                format!("Lesions of the white matter were not measured: {why}."),
                format!(
                    "Läsionen der weißen Substanz wurden nicht gemessen: {}.",
                    language.sentence(why)
                ),
            ),
            None => language
                .say(
                    "Lesions of the white matter were not measured.",
                    "Läsionen der weißen Substanz wurden nicht gemessen.",
                )
                .to_owned(),
        }];
    };
    let counted = |n: usize| {
        language.say(
            format!("{n} {}", if n == 1 { "lesion" } else { "lesions" }),
            format!("{n} {}", if n == 1 { "Läsion" } else { "Läsionen" }),
        )
    };
    let ml = |mm3: f64| format!("{} ml", language.number(mm3 / 1000.0, 2));
    if found.count == 0 {
        return vec![
            language
                .say(
                    "No lesion of the white matter was found on FLAIR.",
                    "Auf der FLAIR-Serie wurde keine Läsion der weißen Substanz gefunden.",
                )
                .to_owned(),
        ];
    }
    let (all, percent) = (ml(found.volume_mm3), language.number(found.percent_icv, 2));
    let (left, right) = (ml(found.left_mm3), ml(found.right_mm3));
    let count = counted(found.count);
    let mut lines = vec![language.say(
        format!("{count}, {all} ({percent} % of intracranial volume): {left} left, {right} right."),
        format!("{count}, {all} ({percent} % des intrakraniellen Volumens): {left} links, {right} rechts."),
    )];
    if let Some(largest) = found.lesions.first() {
        let extent = ml(largest.volume_mm3);
        let side = match largest.side.as_deref() {
            Some("left") => language.say("left", "links"),
            Some("right") => language.say("right", "rechts"),
            _ => language.say("in the middle", "in der Mitte"),
        };
        let place = language.sentence(largest.region.name());
        lines.push(language.say(
            format!("The largest: {extent}, {side}, {place}."),
            format!("Die größte: {extent}, {side}, {place}."),
        ));
    }
    let regions: Vec<String> = found
        .regions
        .iter()
        .map(|region| {
            let name = language.sentence(region.region.name());
            match region.count {
                0 => language.say(format!("{name}: none"), format!("{name}: keine")),
                count => format!("{name}: {}, {}", counted(count), ml(region.volume_mm3)),
            }
        })
        .collect();
    if !regions.is_empty() {
        lines.push(format!("{}.", capital(&regions.join("; "))));
    }
    lines
}

/// Ratios, each with what it is of.
pub(super) fn ratios(measured: &Measured, language: Language) -> Vec<Field> {
    let named = |code: &str| {
        match code {
        "brain_parenchymal_fraction" => Some(language.say(
            "Brain tissue, part of intracranial volume (brain parenchymal fraction)",
            "Hirngewebe, Anteil am Schädelinneren (Hirnparenchymfraktion)",
        )),
        "ventricles_to_intracranial" => Some(language.say(
            "Ventricles, part of intracranial volume",
            "Ventrikel, Anteil am Schädelinneren",
        )),
        "ventricles_to_brain" => Some(language.say(
            "Ventricles over brain tissue",
            "Ventrikel im Verhältnis zum Hirngewebe",
        )),
        "evans_like_index" => Some(language.say(
            "Frontal horns over inner skull, widths in the picture's axial plane (Evans-like index)",
            "Vorderhörner zu Schädelinnerem, Breiten in der axialen Bildebene (Evans-ähnlicher Index)",
        )),
        _ => None,
    }
    };
    let known = measured.indices.iter();
    known
        .filter_map(|index| {
            Some(Field {
                label: named(&index.code)?.to_owned(),
                value: language.number(index.value, 3),
            })
        })
        .collect()
}

/// Structures whose sides differ.
pub(super) fn sides(measured: &Measured, language: Language) -> Vec<String> {
    if measured.asymmetry.is_empty() {
        return Vec::new();
    }
    let mut apart: Vec<_> = measured
        .asymmetry
        .iter()
        .filter(|a| a.percent.abs() >= SIDES_PERCENT_SHOWN)
        .collect();
    apart.sort_by(|a, b| b.percent.abs().total_cmp(&a.percent.abs()));
    if apart.is_empty() {
        let percent = language.number(SIDES_PERCENT_SHOWN, 0);
        return vec![language.say(
            format!("No structure's sides differ by {percent} % or more of their mean."),
            format!(
                "Bei keiner Struktur unterscheiden sich die Seiten um {percent} % oder mehr ihres \
                 Mittels."
            ),
        )];
    }
    let said = apart.into_iter().take(SIDES_MAX).map(|a| {
        let name = capital(&names::said(&a.structure, language));
        let percent = language.number(a.percent.abs(), 0);
        let larger = if a.percent > 0.0 {
            language.say("left", "links")
        } else {
            language.say("right", "rechts")
        };
        language.say(
            format!("{name}: {larger} larger, by {percent} % of the sides' mean."),
            format!("{name}: {larger} größer, um {percent} % des Mittels der Seiten."),
        )
    });
    said.collect()
}

pub(super) fn quality(facts: &Facts, language: Language) -> Vec<String> {
    let Some(measured) = &facts.measured else {
        return Vec::new();
    };
    let mut lines = vec![measured_on(facts, measured, language)];
    let (doubts, others): (Vec<_>, Vec<_>) = measured.remarks.iter().partition(|r| r.doubtful);
    for doubt in doubts.into_iter().take(DOUBTS_MAX) {
        lines.push(language.say(
            format!("Doubtful: {}.", doubt.text),
            format!("Zweifelhaft: {}.", language.sentence(&doubt.text)),
        ));
    }
    if measured.partial {
        let text = language.say(
            "Doubtful: images are missing as far as is known.",
            "Zweifelhaft: soweit bekannt, fehlen Bilder.",
        );
        lines.push(text.to_owned());
    }
    // Quality control of volumetry says this itself.
    if measured.stage == Stage::Screening && measured.contrast != "T1" {
        let text = language.say(
            "Doubtful: the norms were made from T1 images, and this series is none.",
            "Zweifelhaft: die Normwerte stammen aus T1-Bildern; diese Serie ist keine.",
        );
        lines.push(text.to_owned());
    }
    for remark in others.into_iter().take(REMARKS_MAX) {
        lines.push(language.say(
            format!("Noticed: {}.", remark.text),
            format!("Bemerkt: {}.", language.sentence(&remark.text)),
        ));
    }
    match measured.stage {
        Stage::Screening => lines.push(coarse(facts, language)),
        Stage::Volumetry => lines.push(controlled(measured, language)),
    }
    if measured.volumes.iter().any(|v| v.z.is_some()) {
        lines.push(calibrated(measured, language));
    }
    lines
}

fn measured_on(facts: &Facts, measured: &Measured, language: Language) -> String {
    let (series, contrast) = (&measured.series, &measured.contrast);
    let on_flair = facts.lesions.as_ref().and(facts.lesion_series.as_ref());
    match on_flair.filter(|flair| *flair != series) {
        Some(flair) => language.say(
            format!("Volumes were measured on series {series} ({contrast}), lesions on series {flair} (FLAIR)."),
            format!("Volumina gemessen an Serie {series} ({contrast}), Läsionen an Serie {flair} (FLAIR)."),
        ),
        None => language.say(
            format!("Measured on series {series} ({contrast})."),
            format!("Gemessen an Serie {series} ({contrast})."),
        ),
    }
}

/// What quality control looked at, and what follows.
fn controlled(measured: &Measured, language: Language) -> String {
    let confidence = measured
        .confidence
        .map(|p| language.number(p, 2))
        .unwrap_or_default();
    if measured.remarks.iter().any(|r| r.doubtful) {
        language.say(
            format!(
                "Because of the doubts these numbers moved no study in the list. Mean probability of \
                 the labels: {confidence} of 1."
            ),
            format!(
                "Wegen der Zweifel haben diese Zahlen keine Untersuchung in der Liste bewegt. Mittlere \
                 Wahrscheinlichkeit der Zuordnungen: {confidence} von 1."
            ),
        )
    } else if measured.partial {
        language.say(
            format!("Mean probability of the labels: {confidence} of 1."),
            format!("Mittlere Wahrscheinlichkeit der Zuordnungen: {confidence} von 1."),
        )
    } else {
        language.say(
            format!(
                "Nothing makes the numbers doubtful: field of view, contrast, volumes, shapes and sides \
                 were checked; motion is noticed only by its effects. Mean probability of the labels: \
                 {confidence} of 1."
            ),
            format!(
                "Nichts macht die Zahlen zweifelhaft: geprüft wurden Bildausschnitt, Kontrast, Volumina, \
                 Formen und Seiten; Bewegung fällt nur durch ihre Folgen auf. Mittlere \
                 Wahrscheinlichkeit der Zuordnungen: {confidence} von 1."
            ),
        )
    }
}

fn calibrated(measured: &Measured, language: Language) -> String {
    let Some((version, scanner)) = &measured.calibration else {
        return language
            .say(
                "Uncalibrated: this scanner was not calibrated with healthy people; z and \
                 percentiles allow for the spread between scanners.",
                "Nicht kalibriert: dieses Gerät wurde nicht mit Gesunden kalibriert; z und \
                 Perzentilen berücksichtigen die Streuung zwischen Geräten.",
            )
            .to_owned();
    };
    let scans = scanner.structures.values().map(|s| s.scans).max();
    let scans = scans.unwrap_or(0);
    language.say(
        format!("This scanner was calibrated with {scans} healthy people (calibration {version})."),
        format!("Dieses Gerät wurde mit {scans} Gesunden kalibriert (Kalibrierung {version})."),
    )
}

fn coarse(facts: &Facts, language: Language) -> String {
    let why = facts.volumetry_reason.as_deref();
    match (facts.volumetry.as_str(), why) {
        ("pending", _) => language
            .say(
                "Coarse volumes of the screening network; full volumetry is still to come.",
                "Grobe Volumina des Sichtungsnetzes; die genaue Volumetrie steht noch aus.",
            )
            .to_owned(),
        (_, Some(why)) => language.say(
            format!("Coarse volumes of the screening network; full volumetry was not done: {why}."),
            format!(
                "Grobe Volumina des Sichtungsnetzes; die genaue Volumetrie entfiel: {}.",
                language.sentence(why)
            ),
        ),
        _ => language
            .say(
                "Coarse volumes of the screening network; there are none of full volumetry.",
                "Grobe Volumina des Sichtungsnetzes; von der genauen Volumetrie gibt es keine.",
            )
            .to_owned(),
    }
}

//! The sentences of a report. Pure.

use super::Language;
use super::content::Field;
use super::facts::{Facts, Measured, Stage};
use crate::triage::Band;

/// Terms of the ranking that are listed; what is left is counted.
const TERMS_MAX: usize = 7;
/// Doubts that are listed.
const DOUBTS_MAX: usize = 5;

fn capital(text: &str) -> String {
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
            value: format!("+{minutes} min"),
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

pub(super) fn curves_note(measured: Option<&Measured>, none: bool, language: Language) -> String {
    let text = match (measured, none) {
        (_, false) => language.say(
            "Volume in ml over age in years, for a head of this size. Line: median; dark band: 5th to \
             95th, light band: 1st to 99th percentile of healthy people. Dot: this patient.",
            "Volumen in ml über dem Alter in Jahren, für einen Kopf dieser Größe. Linie: Median; dunkles \
             Band: 5. bis 95., helles Band: 1. bis 99. Perzentile Gesunder. Punkt: diese Person.",
        ),
        (Some(m), true) if no_norms(m).is_none() => language.say(
            "No curves: the results are of another version of the network than the one installed now.",
            "Keine Kurven: die Ergebnisse stammen von einer anderen Version des Netzes als der jetzt \
             installierten.",
        ),
        _ => language.say(
            "No curves: there is no comparison with healthy people.",
            "Keine Kurven: es gibt keinen Vergleich mit Gesunden.",
        ),
    };
    text.to_owned()
}

pub(super) fn lesions(facts: &Facts, language: Language) -> Vec<String> {
    let Some(found) = &facts.lesions else {
        return vec![
            language
                .say(
                    "Lesions of the white matter were not counted.",
                    "Läsionen der weißen Substanz wurden nicht gezählt.",
                )
                .to_owned(),
        ];
    };
    let counted = |n: u32| {
        language.say(
            format!("{n} {}", if n == 1 { "lesion" } else { "lesions" }),
            format!("{n} {}", if n == 1 { "Läsion" } else { "Läsionen" }),
        )
    };
    let mut lines = vec![format!(
        "{}, {} ml",
        counted(found.count),
        language.number(found.total_ml, 2)
    )];
    for (place, count, ml) in &found.by_place {
        lines.push(format!(
            "{}: {}, {} ml",
            capital(&language.sentence(place)),
            counted(*count),
            language.number(*ml, 2)
        ));
    }
    lines
}

pub(super) fn quality(facts: &Facts, language: Language) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(measured) = &facts.measured {
        lines.push(language.say(
            format!(
                "Measured on series {} ({}).",
                measured.series, measured.contrast
            ),
            format!(
                "Gemessen an Serie {} ({}).",
                measured.series, measured.contrast
            ),
        ));
        for doubt in measured.doubts.iter().take(DOUBTS_MAX) {
            lines.push(language.say(
                format!("Doubtful: {doubt}."),
                format!("Zweifelhaft: {}.", language.sentence(doubt)),
            ));
        }
        if measured.partial {
            lines.push(
                language
                    .say(
                        "Doubtful: images are missing as far as is known.",
                        "Zweifelhaft: soweit bekannt, fehlen Bilder.",
                    )
                    .to_owned(),
            );
        }
        if measured.contrast != "T1" {
            lines.push(
                language
                    .say(
                        "Doubtful: the norms were made from T1 images, and this series is none.",
                        "Zweifelhaft: die Normwerte stammen aus T1-Bildern; diese Serie ist keine.",
                    )
                    .to_owned(),
            );
        }
        if measured.stage == Stage::Screening {
            lines.push(coarse(facts, language));
        }
        if measured.volumes.iter().any(|v| v.z.is_some()) {
            lines.push(
                language
                    .say(
                        "Uncalibrated: this scanner was not calibrated with healthy people; z and \
                         percentiles allow for the spread between scanners.",
                        "Nicht kalibriert: dieses Gerät wurde nicht mit Gesunden kalibriert; z und \
                         Perzentilen berücksichtigen die Streuung zwischen Geräten.",
                    )
                    .to_owned(),
            );
        }
    }
    lines
}

fn coarse(facts: &Facts, language: Language) -> String {
    let why = facts.volumetry_reason.as_deref();
    match (facts.volumetry.as_str(), why) {
        ("done", _) => language
            .say(
                "Coarse volumes of the screening network. Volumetry was done as well: its numbers are \
                 on the page of the study.",
                "Grobe Volumina des Sichtungsnetzes. Die genaue Volumetrie liegt vor: ihre Zahlen \
                 stehen auf der Seite der Untersuchung.",
            )
            .to_owned(),
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
                "Coarse volumes of the screening network; full volumetry was not done.",
                "Grobe Volumina des Sichtungsnetzes; die genaue Volumetrie entfiel.",
            )
            .to_owned(),
    }
}

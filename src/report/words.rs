//! What analysis and ranking say in English, said in the language of a report.
//!
//! The database holds English sentences; a report in another language knows their shapes. A sentence
//! of no known shape, above all a site's own rule, stays as it was written.

mod sentences;

use serde::{Deserialize, Serialize};

use self::sentences::SENTENCES;
use super::names;
use crate::norms::fixed;

/// Language of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English.
    #[default]
    En,
    /// German.
    De,
}

impl Language {
    /// Reads `en` or `de`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "en" => Some(Self::En),
            "de" => Some(Self::De),
            _ => None,
        }
    }

    /// As HTML and PDF write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.say("en", "de")
    }

    /// One of two texts.
    #[must_use]
    pub fn say<T>(self, en: T, de: T) -> T {
        match self {
            Self::En => en,
            Self::De => de,
        }
    }

    /// A number with so many decimals, and the language's decimal separator.
    #[must_use]
    pub fn number(self, value: f64, decimals: usize) -> String {
        let text = fixed(value, decimals).replace('-', "\u{2212}");
        match self {
            Self::En => text,
            Self::De => text.replace('.', ","),
        }
    }

    /// A volume in ml, without its unit: small ones need the second decimal.
    #[must_use]
    pub fn millilitres(self, mm3: f64) -> String {
        let ml = mm3 / 1000.0;
        self.number(ml, if ml < 10.0 { 2 } else { 1 })
    }

    /// A z with its sign; a true minus, so that it is as wide as a plus. What rounds to nothing has
    /// no sign.
    #[must_use]
    pub fn signed(self, value: f64) -> String {
        let text = self.number(value, 1);
        if text.starts_with('\u{2212}') || value.abs() < 0.05 {
            text
        } else {
            format!("+{text}")
        }
    }

    /// A date as `YYYYMMDD`, as people of the language write it; anything else as it is.
    #[must_use]
    pub fn date(self, text: &str) -> String {
        let digits = text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit());
        if !digits {
            return text.to_owned();
        }
        let (year, month, day) = (&text[..4], &text[4..6], &text[6..]);
        self.say(
            format!("{year}-{month}-{day}"),
            format!("{day}.{month}.{year}"),
        )
    }

    /// A sentence of analysis or ranking.
    #[must_use]
    pub fn sentence(self, english: &str) -> String {
        if self == Self::En {
            return english.to_owned();
        }
        SENTENCES
            .iter()
            .find_map(|(en, de)| translated(english, en, de))
            .or_else(|| structures(english))
            .unwrap_or_else(|| number(english))
    }
}

/// A list of structures as the norm table names them.
fn structures(english: &str) -> Option<String> {
    let all = english.split(", ").map(|name| {
        let german = names::said(name, Language::De);
        (german != name).then_some(german)
    });
    let all: Option<Vec<String>> = all.collect();
    all.map(|names| names.join(", "))
}

/// A number with the decimal comma; anything else as it is.
fn number(text: &str) -> String {
    if text.parse::<f64>().is_ok() {
        text.replace('.', ",")
    } else {
        text.to_owned()
    }
}

/// `text` by a pattern's translation, where it has that pattern.
fn translated(text: &str, pattern: &str, translation: &str) -> Option<String> {
    let mut parts = pattern.split("{}");
    let mut rest = text.strip_prefix(parts.next()?)?;
    let mut filled = Vec::new();
    let tail: Vec<&str> = parts.collect();
    for (i, part) in tail.iter().enumerate() {
        let last = i + 1 == tail.len();
        let end = if last && part.is_empty() {
            rest.len()
        } else if last {
            rest.len()
                .checked_sub(part.len())
                .filter(|_| rest.ends_with(part))?
        } else {
            rest.find(part)?
        };
        if end == 0 {
            return None;
        }
        filled.push(Language::De.sentence(&rest[..end]));
        rest = &rest[end + part.len()..];
    }
    if !rest.is_empty() {
        return None;
    }
    let mut said = String::new();
    let mut filled = filled.into_iter();
    for (i, part) in translation.split("{}").enumerate() {
        if i > 0 {
            said += &filled.next()?;
        }
        said += part;
    }
    Some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(english: &str, german: &str) {
        assert_eq!(Language::En.sentence(english), english);
        assert_eq!(Language::De.sentence(english), german);
    }

    #[test]
    fn sentences_of_analysis_are_said_in_german() {
        check("screening", "Screening");
        check(
            "lateral ventricles above the 99th percentile",
            "Seitenventrikel über der 99. Perzentile",
        );
        check(
            "a region of 18 ml in the left half differs from what is expected",
            "eine Region von 18 ml in der linken Hälfte weicht vom Erwarteten ab",
        );
        check(
            "3 regions, 7 ml together, differ from what is expected",
            "3 Regionen, zusammen 7 ml, weichen vom Erwarteten ab",
        );
        check(
            "1 region, 7 ml together, differ from what is expected",
            "1 Region von 7 ml weicht vom Erwarteten ab",
        );
        check(
            "T1, FLAIR; 2 other series not analysed",
            "T1, FLAIR; 2 weitere Serien nicht ausgewertet",
        );
        check(
            "not analysed: ranked as an average study (does not look like a head)",
            "nicht ausgewertet: wie eine durchschnittliche Untersuchung eingereiht \
             (sieht nicht wie ein Kopf aus)",
        );
        check("a site's own rule", "a site's own rule");
        check("version 1.2", "version 1.2");
    }

    #[test]
    fn sentences_of_volumetry_are_said_in_german() {
        check(
            "thalamus below the 1st percentile",
            "Thalamus unter der 1. Perzentile",
        );
        check(
            "a bright region of 18 ml in the left half on FLAIR",
            "eine helle Region von 18 ml in der linken Hälfte auf FLAIR",
        );
        check(
            "12 lesions of white matter, 7 ml together",
            "12 Läsionen der weißen Substanz, zusammen 7 ml",
        );
        check(
            "lowered from urgent after volumetry",
            "nach der Volumetrie herabgestuft, vorher dringend",
        );
        check(
            "voxels are 4.4 mm long: small structures are doubtful",
            "Voxel sind 4,4 mm lang: kleine Strukturen sind zweifelhaft",
        );
        check(
            "the network is unsure of left accumbens area, 3rd ventricle",
            "das Netz ist unsicher bei: Nucleus accumbens links, Dritter Ventrikel",
        );
        check(
            "in several pieces: right hippocampus",
            "in mehreren Stücken: Hippocampus rechts",
        );
        check("total hippocampus of 1.2 ml", "Hippocampus von 1,2 ml");
        check(
            "cerebral cortex differs by 21 % between the sides, larger on the left",
            "Großhirnrinde: die Seiten unterscheiden sich um 21 %, links größer",
        );
        check(
            "FLAIR: the picture ends within the brain above",
            "FLAIR: das Bild endet oben innerhalb des Gehirns",
        );
        check(
            "norms_synthseg_v0, segmenter offsets from 10 healthy scans, scanner calibration 3",
            "norms_synthseg_v0, Abweichung des Netzes aus 10 Aufnahmen Gesunder, Kalibrierung des \
             Geräts Nr. 3",
        );
        check(
            "uneven slices: 2.50 mm between slices 3 and 4 of 20, where the others are 1.00 mm apart",
            "ungleiche Schichten: 2,50 mm zwischen den Schichten 3 und 4 von 20; die anderen liegen \
             1,00 mm auseinander",
        );
    }

    /// Texts of quality control and of slices that are no volume, as their sources have them.
    #[test]
    fn no_sentence_of_quality_control_lacks_german() {
        let sources = [
            include_str!("../analysis/quality.rs"),
            include_str!("../volume/content.rs"),
            include_str!("../volume/separate.rs"),
            include_str!("../volume/slice.rs"),
            include_str!("../volume/assemble.rs"),
        ];
        let mut seen = 0;
        for source in sources {
            let code = source.split("#[cfg(test)]").next().unwrap();
            // Reasons of exceptions to lints are for programmers.
            let lines = code.lines().filter(|line| !line.contains("reason = "));
            let code = lines.collect::<Vec<_>>().join("\n").replace("\\\n", "");
            for text in code.split('"').skip(1).step_by(2) {
                // Sentences, not names: several words in lower case.
                let words: Vec<&str> = text.split_whitespace().collect();
                let name = names::said(text, Language::De) != text;
                // Notes of what was done, and parts of sentences.
                let ends = ["left out", "is used", "magnitude, phase ...)", "{:.0} mm"];
                let note = ends.iter().any(|end| text.ends_with(end));
                if words.len() < 4 || name || note || text.contains("(no ventricles") {
                    continue;
                }
                let english = words.join(" ");
                // What may stand in a gap where not anything may.
                let fillings = ["7", "above", "front", "left", "where they lie"];
                let german = fillings.iter().any(|filling| {
                    let mut parts = english.split('{');
                    let mut filled = parts.next().unwrap_or_default().to_owned();
                    for part in parts {
                        let (name, rest) = part.split_once('}').unwrap_or(("", part));
                        let number = name.is_empty() || name.contains(':');
                        filled += if number { "7" } else { filling };
                        filled += rest;
                    }
                    Language::De.sentence(&filled) != filled
                });
                seen += 1;
                assert!(german, "no German for {english:?}");
            }
        }
        assert!(seen > 30, "{seen} sentences were looked at");
    }

    #[test]
    fn numbers_and_dates_follow_the_language() {
        let (en, de) = (Language::En, Language::De);
        assert_eq!(
            (en.number(-1.25, 1), de.number(7.5, 1)),
            ("\u{2212}1.2".into(), "7,5".into())
        );
        assert_eq!(
            (en.signed(0.04), de.signed(-2.0)),
            ("0.0".into(), "\u{2212}2,0".into())
        );
        assert_eq!(
            (en.signed(-0.04), en.number(-0.0004, 3)),
            ("0.0".into(), "0.000".into())
        );
        assert_eq!(
            (en.date("20180501"), de.date("20180501")),
            ("2018-05-01".into(), "01.05.2018".into())
        );
        assert_eq!(de.date("2018"), "2018");
    }
}

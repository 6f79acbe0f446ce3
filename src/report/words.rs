//! What analysis and ranking say in English, said in the language of a report.
//!
//! The database holds English sentences; a report in another language knows their shapes. A sentence
//! of no known shape, above all a site's own rule, stays as it was written.

use serde::{Deserialize, Serialize};

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
        let text = format!("{value:.decimals$}").replace('-', "\u{2212}");
        match self {
            Self::En => text,
            Self::De => text.replace('.', ","),
        }
    }

    /// A z with its sign; a true minus, so that it is as wide as a plus.
    #[must_use]
    pub fn signed(self, value: f64) -> String {
        let text = self.number(value, 1);
        if text.starts_with('\u{2212}') {
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
            .unwrap_or_else(|| english.to_owned())
    }
}

/// Sentences with `{}` where they vary; what stands there is translated in turn.
const SENTENCES: [(&str, &str); 41] = [
    ("screening", "Screening"),
    ("ordered STAT", "als Notfall (STAT) angefordert"),
    ("ordered ASAP", "als dringend (ASAP) angefordert"),
    (
        "not analysed: ranked as an average study ({})",
        "nicht ausgewertet: wie eine durchschnittliche Untersuchung eingereiht ({})",
    ),
    (
        "not screened yet: ranked as an average study",
        "noch nicht gesichtet: wie eine durchschnittliche Untersuchung eingereiht",
    ),
    (
        "a region of {} ml in the {} differs from what is expected",
        "eine Region von {} ml in der {} weicht vom Erwarteten ab",
    ),
    (
        "{} regions, {} ml together, differ from what is expected",
        "{} Regionen, zusammen {} ml, weichen vom Erwarteten ab",
    ),
    (
        "1 region, {} ml together, differ from what is expected",
        "1 Region von {} ml weicht vom Erwarteten ab",
    ),
    ("{} above the 99th percentile", "{} über der 99. Perzentile"),
    ("{} above the 97th percentile", "{} über der 97. Perzentile"),
    ("{} above the 95th percentile", "{} über der 95. Perzentile"),
    ("{} below the 1st percentile", "{} unter der 1. Perzentile"),
    ("{} below the 3rd percentile", "{} unter der 3. Perzentile"),
    ("{} below the 5th percentile", "{} unter der 5. Perzentile"),
    ("lateral ventricles", "Seitenventrikel"),
    ("third ventricle", "dritter Ventrikel"),
    ("fourth ventricle", "vierter Ventrikel"),
    ("hippocampus", "Hippocampus"),
    ("left half", "linken Hälfte"),
    ("right half", "rechten Hälfte"),
    ("head", "Aufnahme des Kopfes"),
    ("age unknown", "Alter unbekannt"),
    ("sex unknown", "Geschlecht unbekannt"),
    (
        "outside validated ages (18-90 years)",
        "außerhalb der geprüften Altersgrenzen (18 bis 90 Jahre)",
    ),
    ("no norm for {}", "keine Normwerte für {}"),
    (
        "volume of {} is not a positive number",
        "das Volumen von {} ist keine positive Zahl",
    ),
    (
        "coarse volume: this network's offset for it is not measured",
        "grobes Volumen: die Abweichung dieses Netzes von der Norm ist nicht gemessen",
    ),
    ("not part of this version", "nicht Teil dieser Version"),
    ("does not look like a head", "sieht nicht wie ein Kopf aus"),
    ("no usable MR series", "keine brauchbare MR-Serie"),
    ("no T1 series", "keine T1-Serie"),
    (
        "{}; 1 other series not analysed",
        "{}; 1 weitere Serie nicht ausgewertet",
    ),
    (
        "{}; {} other series not analysed",
        "{}; {} weitere Serien nicht ausgewertet",
    ),
    ("periventricular", "periventrikulär"),
    ("juxtacortical", "juxtakortikal"),
    ("infratentorial", "infratentoriell"),
    ("deep", "tiefe weiße Substanz"),
    ("Not flagged", "Nicht markiert"),
    ("Elevated", "Erhöht"),
    ("Urgent", "Dringend"),
    ("Critical", "Kritisch"),
];

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
            ("+0.0".into(), "\u{2212}2,0".into())
        );
        assert_eq!(
            (en.date("20180501"), de.date("20180501")),
            ("2018-05-01".into(), "01.05.2018".into())
        );
        assert_eq!(de.date("2018"), "2018");
    }
}

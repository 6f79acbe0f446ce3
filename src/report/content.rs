//! A report in one language: every word and number that its page and its PDF show. Pure.

use chrono::{DateTime, Utc};

use super::change::{Changes, changes};
use super::curves::{Curve, curves};
use super::facts::{Facts, Measured, Stage};
use super::names::{COHORTS_DIFFER, ROWS, Row};
use super::{Language, NORM_TABLE_NAME, Reporter, lines};
use crate::analysis::OUTLINES;
use crate::analysis::outlines::{LEGEND, LESION_OUTLINED, OUTLINED};

/// Something and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// What it is.
    pub label: String,
    /// The value.
    pub value: String,
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRow {
    /// Structure.
    pub name: String,
    /// Of both sides together: volume in ml, percent of intracranial volume, z, percentile.
    /// Empty where there is none.
    pub cells: [String; 4],
    /// Left and right, ml.
    pub sides: [String; 2],
    /// Beyond the 1st or 99th percentile.
    pub far: bool,
}

/// The pictures, with what is drawn on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pictures {
    /// Series that they were made from.
    pub series_uid: String,
    /// The middle of the brain, with outlines; where a region differs, that region first.
    pub rows: Vec<PictureRow>,
    /// How to look at them.
    pub note: String,
    /// Colour and what it outlines.
    pub legend: Vec<([u8; 3], String)>,
}

/// Three planes through one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureRow {
    /// Name of the picture, and of its plane in the language.
    pub planes: Vec<(String, String)>,
    /// Through what they go.
    pub note: String,
    /// What lies over them: endings of the names of layers, lowest first.
    pub layers: &'static [&'static str],
}

impl PictureRow {
    /// Whether its planes are those of the measuring grid, not of screening's.
    #[must_use]
    pub fn is_measured(&self) -> bool {
        let mut names = self.planes.iter().map(|(name, _)| name.as_str());
        names.any(|name| OUTLINED.contains(&name) || LESION_OUTLINED.contains(&name))
    }
}

/// The whole report.
#[derive(Debug, Clone, PartialEq)]
pub struct Content {
    /// Language it is in.
    pub language: Language,
    /// Heading.
    pub title: String,
    /// What the software is not.
    pub notice: String,
    /// What the report is not.
    pub scope: String,
    /// Who and which study.
    pub about: Vec<Field>,
    /// How the study stands out, and since when it is known.
    pub standing: String,
    /// "Ranked as if ..."
    pub ranked: String,
    /// Terms of the ranking with their minutes.
    pub terms: Vec<Field>,
    /// Key images.
    pub pictures: Option<Pictures>,
    /// Heading of the table.
    pub table_title: String,
    /// Headings of its columns: structure, four values, left, right.
    pub columns: [String; 7],
    /// Its rows; none where nothing was measured.
    pub rows: Vec<TableRow>,
    /// What is to be known of the table, or why there is none.
    pub table_notes: Vec<String>,
    /// Norm curves.
    pub curves: Vec<Curve>,
    /// What the curves show, or why there are none.
    pub curves_note: String,
    /// Against the patient's earlier study; nothing of a study that was screened only.
    pub changes: Option<Changes>,
    /// Lesions, or why nothing is said of them.
    pub lesions: Vec<String>,
    /// Ratios of volumes and of widths.
    pub ratios: Vec<Field>,
    /// Structures whose sides differ, or that none does.
    pub sides: Vec<String>,
    /// How far the numbers can be trusted.
    pub quality: Vec<String>,
    /// Software, networks, norms, settings.
    pub versions: Vec<Field>,
    /// Headings: ranking, pictures, curves, lesions, quality, versions, ratios and sides.
    pub headings: [&'static str; 7],
}

/// Says the facts.
pub(super) fn content(facts: &Facts, reporter: &Reporter, language: Language) -> Content {
    let measured = facts.measured.as_ref();
    let curves = measured.map_or_else(Vec::new, |m| curves(facts, m, reporter, language));
    let volumetry = measured.filter(|m| m.stage == Stage::Volumetry);
    Content {
        language,
        title: language
            .say("Brain MRI: volumes and ranking", "MRT des Gehirns: Volumina und Einreihung")
            .to_owned(),
        notice: notice(language),
        scope: language
            .say(
                "This software orders a reading list and measures volumes. It does not diagnose, \
                 and \u{201c}not flagged\u{201d} is no finding. Read the images.",
                "Diese Software ordnet eine Befundungsliste und misst Volumina. Sie stellt keine \
                 Diagnose, und \u{201e}nicht markiert\u{201c} ist kein Befund. Befunden Sie die Bilder.",
            )
            .to_owned(),
        about: about(facts, language),
        standing: lines::standing(facts, language),
        ranked: lines::ranked(facts, language),
        terms: lines::terms(facts, language),
        pictures: measured.and_then(|m| pictures(m, language)),
        table_title: table_title(measured, language),
        columns: columns(language),
        rows: measured.map_or_else(Vec::new, |m| table(m, language)),
        table_notes: lines::table_notes(facts, language),
        curves_note: lines::curves_note(measured, &curves, language),
        changes: volumetry
            .map(|_| changes(facts.follow_up.as_ref(), facts.not_compared, language)),
        curves,
        lesions: lines::lesions(facts, language),
        ratios: measured.map_or_else(Vec::new, |m| lines::ratios(m, language)),
        sides: measured.map_or_else(Vec::new, |m| lines::sides(m, language)),
        quality: lines::quality(facts, language),
        versions: versions(facts, reporter, language),
        headings: language.say(
            [
                "What the ranking used",
                "Key images",
                "Volumes against healthy people",
                "Lesions",
                "Quality",
                "Made with",
                "Ratios and sides",
            ],
            [
                "Was die Einreihung verwendet hat",
                "Schlüsselbilder",
                "Volumina im Vergleich mit Gesunden",
                "Läsionen",
                "Qualität",
                "Erstellt mit",
                "Verhältnisse und Seiten",
            ],
        ),
    }
}

/// The sentence that everything carries; in German with its translation.
#[must_use]
pub fn notice(language: Language) -> String {
    match language {
        Language::En => format!("{}.", crate::RESEARCH_USE),
        Language::De => format!(
            "{}. Nur für die Forschung; kein Medizinprodukt.",
            crate::RESEARCH_USE
        ),
    }
}

fn field(label: &str, value: impl Into<String>) -> Field {
    Field {
        label: label.to_owned(),
        value: value.into(),
    }
}

fn about(facts: &Facts, language: Language) -> Vec<Field> {
    let (patient, study) = (&facts.patient, &facts.study);
    let unknown = || language.say("unknown", "unbekannt").to_owned();
    let given = |value: &Option<String>| value.clone().unwrap_or_else(unknown);
    let sex = match patient.sex.as_deref() {
        Some("F") => language.say("female", "weiblich").to_owned(),
        Some("M") => language.say("male", "männlich").to_owned(),
        Some("O") => language.say("other", "divers").to_owned(),
        _ => unknown(),
    };
    let age = patient.age_years.map_or_else(unknown, |age| {
        language.say(format!("{age} years"), format!("{age} Jahre"))
    });
    let date = |text: &Option<String>| text.as_deref().map_or_else(unknown, |d| language.date(d));
    let or_unknown = |text: &str| {
        if text.is_empty() {
            unknown()
        } else {
            text.to_owned()
        }
    };
    let mut fields = vec![
        field("Patient", or_unknown(&patient.name)),
        field(
            language.say("Patient number", "Patientennummer"),
            or_unknown(&patient.id),
        ),
        field(language.say("Born", "Geboren"), date(&patient.birth_date)),
        field(
            language.say("Age at the study", "Alter bei der Untersuchung"),
            age,
        ),
        field(language.say("Sex", "Geschlecht"), sex),
        field(
            language.say("Study", "Untersuchung"),
            given(&study.description),
        ),
        field(
            language.say("Study date", "Untersuchungsdatum"),
            date(&study.date),
        ),
        field(
            language.say("Accession number", "Auftragsnummer"),
            given(&study.accession),
        ),
    ];
    let optional = [
        (language.say("Referred by", "Zuweisung"), &study.referrer),
        (
            language.say("Institution", "Einrichtung"),
            &study.institution,
        ),
    ];
    for (label, value) in optional {
        if let Some(value) = value {
            fields.push(field(label, value.clone()));
        }
    }
    if let Some(looked_at) = &facts.looked_at {
        fields.push(field(
            language.say("Looked at", "Angesehen"),
            language.sentence(looked_at),
        ));
    }
    fields
}

/// What the pictures show, a row for each place that they go through.
fn pictures(measured: &Measured, language: Language) -> Option<Pictures> {
    let shown = &measured.pictures;
    let row = |planes: &[String], view: &str, note: &str, layers| PictureRow {
        planes: planes
            .iter()
            .map(|plane| {
                let name = plane.rsplit('_').next().unwrap_or(plane);
                (format!("{plane}{view}"), plane_name(name, language))
            })
            .collect(),
        note: note.to_owned(),
        layers,
    };
    let region = language.say(
        "Planes through the largest region that differs (tinted orange), as screening saw it.",
        "Ebenen durch die größte abweichende Region (orange getönt), wie das Screening sie sah.",
    );
    let middle = language.say(
        "Planes through the middle of the brain.",
        "Ebenen durch die Mitte des Gehirns.",
    );
    let measured_note = language.say(
        "Planes through ventricles and hippocampi, with what was measured outlined.",
        "Ebenen durch Ventrikel und Hippocampi; das Gemessene ist umrandet.",
    );
    let lesion = language.say(
        "Planes through the largest lesion.",
        "Ebenen durch die größte Läsion.",
    );
    let mut rows = Vec::new();
    if shown.measured.is_empty() {
        if shown.focused {
            let marked: &[&str] = &["outline", "overlay"];
            rows.push(row(&shown.screened, "", region, marked));
            rows.push(row(&shown.screened, "_middle", middle, &["outline"]));
        } else {
            rows.push(row(&shown.screened, "", middle, &["outline"]));
        }
    } else {
        rows.push(row(&shown.measured, "", measured_note, &["overlay"]));
        if shown.focused {
            rows.push(row(&shown.screened, "", region, &["overlay"]));
        }
        rows.push(row(&shown.lesion, "", lesion, &["overlay"]));
    }
    rows.retain(|row| !row.planes.is_empty());
    if rows.is_empty() {
        return None;
    }
    let side = language.say(
        "The patient's right is on the left. For orientation, not for reading.",
        "Die rechte Seite des Patienten ist links. Zur Orientierung, nicht zur Befundung.",
    );
    Some(Pictures {
        series_uid: measured.series_uid.clone(),
        rows,
        note: side.to_owned(),
        legend: legend(measured, language),
    })
}

fn plane_name(plane: &str, language: Language) -> String {
    match plane {
        "axial" => "axial",
        "coronal" => language.say("coronal", "koronar"),
        _ => "sagittal",
    }
    .to_owned()
}

fn legend(measured: &Measured, language: Language) -> Vec<([u8; 3], String)> {
    let outlined = |code: &str| match code {
        "ventricles" => language.say("ventricles", "Ventrikel"),
        "hippocampus" | "hippocampus and amygdala" => {
            language.say("hippocampus, amygdala", "Hippocampus, Amygdala")
        }
        "deep grey" => language.say("deep grey matter", "tiefe graue Substanz"),
        "basal nuclei" => language.say("basal nuclei", "Basalganglien"),
        "thalamus" => "Thalamus",
        "white matter" => language.say("white matter", "weiße Substanz"),
        _ => language.say("white matter lesions", "Läsionen der weißen Substanz"),
    };
    let said = |rgb: [u8; 3], name: &str| {
        let name = outlined(name);
        let name = language.say(name.to_lowercase(), name.to_owned());
        (rgb, name)
    };
    if measured.pictures.measured.is_empty() {
        let coarse = OUTLINES.iter().filter(|o| o.name != "lesions");
        coarse.map(|o| said(o.rgb, o.name)).collect()
    } else {
        LEGEND.iter().map(|(name, rgb)| said(*rgb, name)).collect()
    }
}

fn table_title(measured: Option<&Measured>, language: Language) -> String {
    let title = match measured.map(|m| m.stage) {
        Some(Stage::Screening) => language.say(
            "Coarse volumes, measured at 2 mm",
            "Grobe Volumina, gemessen bei 2 mm",
        ),
        Some(Stage::Volumetry) => {
            language.say("Volumes, measured at 1 mm", "Volumina, gemessen bei 1 mm")
        }
        None => language.say("Volumes", "Volumina"),
    };
    title.to_owned()
}

fn columns(language: Language) -> [String; 7] {
    language
        .say(
            [
                "Structure",
                "ml",
                "% of intracranial",
                "z",
                "Percentile",
                "left ml",
                "right ml",
            ],
            [
                "Struktur",
                "ml",
                "% intrakraniell",
                "z",
                "Perzentile",
                "links ml",
                "rechts ml",
            ],
        )
        .map(str::to_owned)
}

fn table(measured: &Measured, language: Language) -> Vec<TableRow> {
    let head = measured.intracranial_mm3();
    ROWS.iter()
        .filter_map(|row| table_row(row, measured, head, language))
        .collect()
}

fn table_row(
    row: &Row,
    measured: &Measured,
    head_mm3: Option<f64>,
    language: Language,
) -> Option<TableRow> {
    /// From here on a percentile is beyond the 1st or 99th.
    const FAR_Z: f64 = 2.326;
    let volume = measured.volume(row.structure)?;
    let ml = |mm3: f64| language.millilitres(mm3);
    let side = |name: &str| {
        measured
            .volume(name)
            .map(|v| ml(v.volume_mm3))
            .unwrap_or_default()
    };
    let marked = COHORTS_DIFFER.contains(&row.structure);
    let z = volume.z.filter(|z| z.is_finite());
    Some(TableRow {
        name: format!("{}{}", row.name(language), if marked { " *" } else { "" }),
        cells: [
            ml(volume.volume_mm3),
            head_mm3
                .map(|head| language.number(100.0 * volume.volume_mm3 / head, 2))
                .unwrap_or_default(),
            z.map(|z| language.signed(z)).unwrap_or_default(),
            volume
                .percentile
                .map(|p| percentile(p, language))
                .unwrap_or_default(),
        ],
        sides: row
            .sides
            .map_or_else(Default::default, |sides| sides.map(side)),
        far: z.is_some_and(|z| z.abs() >= FAR_Z),
    })
}

/// A percentile in words; the ends of the scale say that they are ends.
#[must_use]
pub fn percentile(percentile: f64, language: Language) -> String {
    if percentile < 0.1 {
        format!("< {}", language.number(0.1, 1))
    } else if percentile > 99.9 {
        format!("> {}", language.number(99.9, 1))
    } else if (1.0..=99.0).contains(&percentile) {
        language.number(percentile, 0)
    } else {
        language.number(percentile, 1)
    }
}

fn versions(facts: &Facts, reporter: &Reporter, language: Language) -> Vec<Field> {
    let made = DateTime::<Utc>::from_timestamp_millis(facts.made_ms)
        .unwrap_or_default()
        .with_timezone(&reporter.time_zone)
        .format(language.say("%Y-%m-%d %H:%M", "%d.%m.%Y %H:%M"))
        .to_string();
    let mut fields = vec![field(
        "Software",
        concat!("firstread ", env!("CARGO_PKG_VERSION")),
    )];
    for model in &facts.models {
        fields.push(field(language.say("Network", "Netz"), model.clone()));
    }
    fields.extend([
        field(
            language.say("Norms", "Normwerte"),
            facts
                .measured
                .as_ref()
                .map_or(NORM_TABLE_NAME.into(), |m| language.sentence(&m.norms)),
        ),
        field(
            language.say("Ranking settings", "Einstellungen der Einreihung"),
            language.say(
                format!("version {}", facts.ranking.settings_version),
                format!("Version {}", facts.ranking.settings_version),
            ),
        ),
        field(
            language.say("Results of", "Ergebnisse vom"),
            format!("{made} ({})", reporter.time_zone.name()),
        ),
        field(
            language.say("Study", "Untersuchung"),
            facts.study.uid.clone(),
        ),
    ]);
    fields
}

#[cfg(test)]
mod tests;

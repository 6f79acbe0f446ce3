//! Structures as a report names and orders them.

use super::Language;

/// A row of the table: a structure, or the sum of both sides with the sides beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Name in the norm table.
    pub structure: &'static str,
    /// Its sides, left first.
    pub sides: Option<[&'static str; 2]>,
    /// English and German.
    names: [&'static str; 2],
}

const fn whole(structure: &'static str, en: &'static str, de: &'static str) -> Row {
    Row {
        structure,
        sides: None,
        names: [en, de],
    }
}

const fn paired(
    structure: &'static str,
    sides: [&'static str; 2],
    en: &'static str,
    de: &'static str,
) -> Row {
    Row {
        structure,
        sides: Some(sides),
        names: [en, de],
    }
}

/// Every row a report may have, in order.
pub const ROWS: [Row; 20] = [
    whole(
        "total intracranial",
        "Intracranial volume",
        "Intrakranielles Volumen",
    ),
    paired(
        "total cerebral white matter",
        ["left cerebral white matter", "right cerebral white matter"],
        "Cerebral white matter",
        "Weiße Substanz des Großhirns",
    ),
    paired(
        "total cerebral cortex",
        ["left cerebral cortex", "right cerebral cortex"],
        "Cerebral cortex",
        "Großhirnrinde",
    ),
    paired(
        "total lateral ventricle",
        ["left lateral ventricle", "right lateral ventricle"],
        "Lateral ventricles",
        "Seitenventrikel",
    ),
    paired(
        "total inferior lateral ventricle",
        [
            "left inferior lateral ventricle",
            "right inferior lateral ventricle",
        ],
        "Inferior horns",
        "Unterhörner",
    ),
    whole("3rd ventricle", "Third ventricle", "Dritter Ventrikel"),
    whole("4th ventricle", "Fourth ventricle", "Vierter Ventrikel"),
    whole(
        "csf",
        "Fluid around the brain",
        "Liquor außerhalb der Ventrikel",
    ),
    paired(
        "total thalamus",
        ["left thalamus", "right thalamus"],
        "Thalamus",
        "Thalamus",
    ),
    paired(
        "total caudate",
        ["left caudate", "right caudate"],
        "Caudate nucleus",
        "Nucleus caudatus",
    ),
    paired(
        "total putamen",
        ["left putamen", "right putamen"],
        "Putamen",
        "Putamen",
    ),
    paired(
        "total pallidum",
        ["left pallidum", "right pallidum"],
        "Pallidum",
        "Pallidum",
    ),
    paired(
        "total hippocampus",
        ["left hippocampus", "right hippocampus"],
        "Hippocampus",
        "Hippocampus",
    ),
    paired(
        "total amygdala",
        ["left amygdala", "right amygdala"],
        "Amygdala",
        "Amygdala",
    ),
    paired(
        "total accumbens area",
        ["left accumbens area", "right accumbens area"],
        "Accumbens area",
        "Nucleus accumbens",
    ),
    paired(
        "total ventral DC",
        ["left ventral DC", "right ventral DC"],
        "Ventral diencephalon",
        "Ventrales Dienzephalon",
    ),
    whole("brain-stem", "Brain-stem", "Hirnstamm"),
    paired(
        "total cerebellum white matter",
        [
            "left cerebellum white matter",
            "right cerebellum white matter",
        ],
        "Cerebellar white matter",
        "Weiße Substanz des Kleinhirns",
    ),
    paired(
        "total cerebellum cortex",
        ["left cerebellum cortex", "right cerebellum cortex"],
        "Cerebellar cortex",
        "Kleinhirnrinde",
    ),
    paired(
        "white matter lesions",
        ["left white matter lesions", "right white matter lesions"],
        "White matter lesions",
        "Läsionen der weißen Substanz",
    ),
];

/// The structures whose norm curves are shown, most telling first.
pub const CURVES: [&str; 6] = [
    "total hippocampus",
    "total lateral ventricle",
    "3rd ventricle",
    "total thalamus",
    "total cerebral white matter",
    "total cerebral cortex",
];

/// Structures whose norms differ by up to 1 standard deviation between the cohorts of the table
/// (`norms/README.md`).
pub const COHORTS_DIFFER: [&str; 2] = ["total cerebral white matter", "total cerebral cortex"];

impl Row {
    /// Its name in a language.
    #[must_use]
    pub fn name(&self, language: Language) -> &'static str {
        language.say(self.names[0], self.names[1])
    }
}

/// The row of a structure of the norm table.
#[must_use]
pub fn row(structure: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.structure == structure)
}

/// A structure as the norm table names it, said in a language: with its side, where it has one.
#[must_use]
pub fn said(structure: &str, language: Language) -> String {
    if let Some(row) = row(structure) {
        return language.say(lower(row.names[0]), row.names[1].to_owned());
    }
    let sided = |index: usize| {
        ROWS.iter()
            .find(|row| row.sides.is_some_and(|sides| sides[index] == structure))
    };
    for (index, [en, de]) in [["left", "links"], ["right", "rechts"]].iter().enumerate() {
        if let Some(row) = sided(index) {
            return language.say(
                format!("{en} {}", lower(row.names[0])),
                format!("{} {de}", row.names[1]),
            );
        }
    }
    let total = format!("total {structure}");
    match row(&total) {
        Some(row) => language.say(lower(row.names[0]), row.names[1].to_owned()),
        None => structure.to_owned(),
    }
}

fn lower(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_lowercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::norms::structures::STRUCTURES;

    #[test]
    fn structures_are_said_with_their_side() {
        let (en, de) = (Language::En, Language::De);
        assert_eq!(said("left hippocampus", en), "left hippocampus");
        assert_eq!(said("left hippocampus", de), "Hippocampus links");
        assert_eq!(said("right caudate", de), "Nucleus caudatus rechts");
        assert_eq!(said("total cerebral cortex", en), "cerebral cortex");
        assert_eq!(said("3rd ventricle", de), "Dritter Ventrikel");
        assert_eq!(said("nose", de), "nose");
    }

    #[test]
    fn every_structure_has_its_place_in_the_table() {
        for (_, name, total) in STRUCTURES {
            let found = ROWS.iter().any(|row| {
                row.structure == name
                    || row
                        .sides
                        .is_some_and(|s| s.contains(&name) && Some(row.structure) == total)
            });
            assert!(found, "{name}");
        }
        for structure in CURVES.iter().chain(&COHORTS_DIFFER) {
            assert!(row(structure).is_some(), "{structure}");
        }
    }
}

//! Coded concepts (PS3.16). Structures: CID 7140 "Brain Structure for Volumetric Measurement".

use dicom_dictionary_std::tags;

use super::set::Set;

/// A coded concept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// (0008,0100)
    pub value: &'static str,
    /// (0008,0102)
    pub scheme: &'static str,
    /// (0008,0104)
    pub meaning: &'static str,
}

const fn code(value: &'static str, scheme: &'static str, meaning: &'static str) -> Code {
    Code {
        value,
        scheme,
        meaning,
    }
}

const fn sct(value: &'static str, meaning: &'static str) -> Code {
    code(value, "SCT", meaning)
}

const fn dcm(value: &'static str, meaning: &'static str) -> Code {
    code(value, "DCM", meaning)
}

impl Code {
    pub(super) fn set(self) -> Set {
        let mut item = Set::default();
        item.text(tags::CODE_VALUE, self.value);
        item.text(tags::CODING_SCHEME_DESIGNATOR, self.scheme);
        item.text(tags::CODE_MEANING, self.meaning);
        item
    }
}

pub(super) const ANATOMICAL_STRUCTURE: Code = sct("91723000", "Anatomical Structure");
pub(super) const ARTIFICIAL_INTELLIGENCE: Code = dcm("123110", "Artificial Intelligence");
pub(super) const SEGMENTATION: Code = dcm("113076", "Segmentation");
pub(super) const SOURCE_IMAGE: Code = dcm("121322", "Source image for image processing operation");
pub(super) const COMMENT: Code = dcm("121106", "Comment");
pub(super) const VOLUME: Code = sct("118565006", "Volume");
pub(super) const Z_SCORE: Code = dcm("121416", "Z-Score of measurement");
pub(super) const PERCENTILE: Code = dcm("121415", "Percentile Ranking of measurement");
pub(super) const CUBIC_MILLIMETRE: Code = code("mm3", "UCUM", "cubic millimeter");
pub(super) const NO_UNITS: Code = code("1", "UCUM", "no units");
pub(super) const PERCENT: Code = code("%", "UCUM", "Percent");
pub(super) const MR_OF_BRAIN: Code = sct("816077007", "MR of brain");
pub(super) const LEFT: Code = sct("7771000", "Left");
pub(super) const RIGHT: Code = sct("24028007", "Right");
pub(super) const BOTH: Code = sct("51440002", "Right and left");

pub(super) const IMAGING_MEASUREMENT_REPORT: Code = dcm("126000", "Imaging Measurement Report");
pub(super) const LANGUAGE: Code = dcm("121049", "Language of Content Item and Descendants");
pub(super) const ENGLISH: Code = code("en-US", "RFC5646", "English (United States)");
pub(super) const OBSERVER_TYPE: Code = dcm("121005", "Observer Type");
pub(super) const DEVICE: Code = dcm("121007", "Device");
pub(super) const DEVICE_UID: Code = dcm("121012", "Device Observer UID");
pub(super) const DEVICE_NAME: Code = dcm("121013", "Device Observer Name");
pub(super) const DEVICE_MANUFACTURER: Code = dcm("121014", "Device Observer Manufacturer");
pub(super) const DEVICE_MODEL: Code = dcm("121015", "Device Observer Model Name");
pub(super) const DEVICE_SERIAL: Code = dcm("121016", "Device Observer Serial Number");
pub(super) const PROCEDURE_REPORTED: Code = dcm("121058", "Procedure reported");
pub(super) const IMAGING_MEASUREMENTS: Code = dcm("126010", "Imaging Measurements");
pub(super) const MEASUREMENT_GROUP: Code = dcm("125007", "Measurement Group");
pub(super) const TRACKING_IDENTIFIER: Code = dcm("112039", "Tracking Identifier");
pub(super) const TRACKING_UID: Code = dcm("112040", "Tracking Unique Identifier");
pub(super) const FINDING: Code = dcm("121071", "Finding");
pub(super) const FINDING_SITE: Code = sct("363698007", "Finding Site");
pub(super) const LATERALITY: Code = sct("272741003", "Laterality");
pub(super) const ALGORITHM_NAME: Code = dcm("111001", "Algorithm Name");
pub(super) const ALGORITHM_VERSION: Code = dcm("111003", "Algorithm Version");
pub(super) const ALGORITHM_PARAMETERS: Code = dcm("111002", "Algorithm Parameters");
pub(super) const POPULATION: Code = dcm("121405", "Population Description");
pub(super) const AUTHORITY: Code = dcm("121406", "Reference Authority");
pub(super) const REFERENCED_SEGMENT: Code = dcm("121191", "Referenced Segment");
pub(super) const SOURCE_SERIES: Code = dcm("121232", "Source series for segmentation");
pub(super) const SOURCE_OF_MEASUREMENT: Code = dcm("121112", "Source of Measurement");

/// Names of the norm table without their side, and what they are in CID 7140. CSF is the fluid
/// outside of the ventricles; ventricles together and the brain are of CID 7151.
const SITES: [(&str, Code); 23] = [
    ("all ventricles", sct("35764002", "Brain ventricle")),
    ("brain (no ventricles, no csf)", sct("12738006", "Brain")),
    (
        "cerebral white matter",
        sct("68523003", "Cerebral White Matter"),
    ),
    ("cerebral cortex", sct("40146001", "Cerebral Gray Matter")),
    ("lateral ventricle", sct("66720007", "Lateral Ventricle")),
    (
        "inferior lateral ventricle",
        sct("53118009", "Inferior Horn of Lateral Ventricle"),
    ),
    (
        "cerebellum white matter",
        sct("33060004", "Cerebellar White Matter"),
    ),
    ("cerebellum cortex", sct("25991003", "Cerebellar Cortex")),
    ("thalamus", sct("119406000", "Thalamus")),
    ("caudate", sct("11000004", "Caudate Nucleus")),
    ("putamen", sct("89278009", "Putamen")),
    ("pallidum", sct("14738005", "Globus Pallidus")),
    ("3rd ventricle", sct("49841001", "Third ventricle")),
    ("4th ventricle", sct("35918002", "Fourth Ventricle")),
    ("brain-stem", sct("119238007", "Brain Stem")),
    ("hippocampus", sct("5366008", "Hippocampus")),
    ("amygdala", sct("4958002", "Amygdala")),
    ("csf", sct("33930006", "Cranial Subarachnoid Space")),
    ("accumbens area", sct("427667007", "Nucleus Accumbens")),
    ("ventral DC", dcm("110700", "Ventral Diencephalon")),
    (
        "white matter lesions",
        dcm("110702", "White Matter T2 Hyperintensity"),
    ),
    ("intracranial", sct("128319008", "Intracranial structure")),
    (
        "white matter hypointensity",
        dcm("110701", "White Matter T1 Hypointensity"),
    ),
];

/// Code and side of a structure as the norm table names it; `None` for a name that has no code.
#[must_use]
pub fn site_of(structure: &str) -> Option<(Code, Option<Code>)> {
    let (side, name) = if let Some(name) = structure.strip_prefix("left ") {
        (Some(LEFT), name)
    } else if let Some(name) = structure.strip_prefix("right ") {
        (Some(RIGHT), name)
    } else if let Some(name) = structure.strip_prefix("total ") {
        (Some(BOTH), name)
    } else {
        (None, structure)
    };
    let (_, code) = SITES.iter().find(|(known, _)| *known == name)?;
    let sided = side.filter(|_| name != "intracranial");
    Some((*code, sided))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::norms::structures::{INTRACRANIAL, STRUCTURES};

    #[test]
    fn every_structure_has_a_code_and_its_side() {
        for (_, name, total) in STRUCTURES {
            let (_, side) = site_of(name).unwrap_or_else(|| panic!("{name}"));
            let expected = match name.split(' ').next() {
                Some("left") => Some(LEFT),
                Some("right") => Some(RIGHT),
                _ => None,
            };
            assert_eq!(side, expected, "{name}");
            if let Some(total) = total {
                assert_eq!(site_of(total).unwrap().1, Some(BOTH), "{total}");
            }
        }
        assert_eq!(site_of(INTRACRANIAL).unwrap().1, None);
        assert_eq!(site_of("nose"), None);
    }
}

//! A preliminary result: ORU^R01 (2.5.1 7.3.1), OBR-25 P. Says what was measured; diagnoses nothing.

use super::{Envelope, Mapping, OWN_CODES, msh, numbers, obr, pid};
use crate::analysis::Measurement;
use crate::hl7::message::{Field, Message, Segment};
use crate::store::ris::ResultFacts;
use crate::triage::Band;
use crate::worklist::VolumeDetail;

/// Reasons that are told.
const REASONS_MAX: usize = 20;
/// The range of healthy people that volumes are compared with, in percent; beyond it is low or high.
pub const RANGE: (f64, f64) = (5.0, 95.0);
/// Beyond these it is very low or very high.
const FAR: (f64, f64) = (1.0, 99.0);

pub(super) fn write(facts: &ResultFacts, mapping: Mapping, envelope: &Envelope<'_>) -> Message {
    let (placer, filler) = numbers(facts);
    let mut segments = vec![
        msh(["ORU", "R01", "ORU_R01"], envelope),
        pid(facts),
        Segment::new("ORC")
            .with(1, "RE")
            .with(2, placer)
            .with(3, filler),
        obr(facts)
            .with(22, envelope.at)
            .with(24, "RAD")
            .with(25, "P"),
    ];
    let mut observations = Observations {
        at: envelope.at,
        all: Vec::new(),
    };
    study(facts, mapping, &mut observations);
    if let Some(measurement) = &facts.study.measurement {
        quality(measurement, &mut observations);
    }
    for volume in &facts.study.volumes {
        measured(volume, &mut observations);
    }
    observations.add("TX", own("NOTE", "Note"), crate::RESEARCH_USE, "", "", "");
    segments.append(&mut observations.all);
    if mapping == Mapping::Segment {
        let item = &facts.study.item;
        let zfr = Segment::new("ZFR")
            .with(1, item.study_uid.as_str())
            .with(2, item.band.as_str())
            .with(3, item.rank.to_string())
            .with(4, format!("{:.0}", item.head_start_minutes));
        segments.push(zfr);
    }
    Message::new(segments)
}

/// What is said of the study as a whole.
fn study(facts: &ResultFacts, mapping: Mapping, to: &mut Observations<'_>) {
    let item = &facts.study.item;
    // IHE RAD Results Distribution (RAD-128)
    let code = Field::from(["113014", "DICOM Study", "DCM"]);
    to.add("HD", code, &item.study_uid, "", "", "");
    let flag = if mapping == Mapping::Obx8 {
        flag_of_study(item.band)
    } else {
        ""
    };
    to.add("ST", own("BAND", "Band"), item.band.as_str(), "", "", flag);
    let minutes = format!("{:.0}", item.head_start_minutes);
    to.add(
        "NM",
        own("HEADSTART", "Head start"),
        &minutes,
        "min",
        "",
        "",
    );
    if let Some(p) = item.p_abnormal {
        let score = format!("{p:.3}");
        to.add("NM", own("SCORE", "Screening score"), &score, "1", "", "");
    }
    let state = match (item.state.as_str(), item.not_analysed_reason.as_deref()) {
        ("screened", _) => "screened".to_owned(),
        (state, Some(why)) => format!("{}: {why}", state.replace('_', " ")),
        (state, None) => state.replace('_', " "),
    };
    to.add("ST", own("STATE", "Screening"), &state, "", "", "");
    if let Some(looked_at) = &item.looked_at {
        to.add("ST", own("LOOKEDAT", "Looked at"), looked_at, "", "", "");
    }
    for reason in item.reasons.iter().take(REASONS_MAX) {
        let text = format!("{} (+{:.0} min)", reason.text, reason.minutes);
        to.add("TX", own("REASON", "Reason"), &text, "", "", "");
    }
}

/// Whether the volumes can be relied on, and what was found of lesions.
fn quality(measurement: &Measurement, to: &mut Observations<'_>) {
    for remark in &measurement.quality.remarks {
        let text = if remark.doubtful {
            format!("doubtful: {}", remark.text)
        } else {
            remark.text.clone()
        };
        to.add("TX", own("QUALITY", "Quality"), &text, "", "", "");
    }
    if let Some(lesions) = &measurement.lesions {
        let code = own("LESIONS", "White-matter lesions");
        to.add("NM", code, &lesions.count.to_string(), "1", "", "");
        let code = own("LESION-VOLUME", "Volume of white-matter lesions");
        let value = format!("{:.0}", lesions.volume_mm3);
        to.add("NM", code, &value, "mm3", "", "");
    }
}

/// A volume with its flag and the range of healthy people, and its percentile among healthy people of the same age and sex with its range.
fn measured(volume: &VolumeDetail, to: &mut Observations<'_>) {
    let flag = volume.percentile.map_or("", flag_of);
    let code = code_of(&volume.structure);
    let value = format!("{:.0}", volume.volume_mm3);
    let name = format!("Volume of {}", volume.structure);
    let healthy = volume.healthy_mm3.filter(|_| volume.percentile.is_some());
    let range = healthy.map_or_else(String::new, |[low, high]| format!("{low:.0}-{high:.0}"));
    to.add(
        "NM",
        own(&format!("VOL-{code}"), &name),
        &value,
        "mm3",
        &range,
        flag,
    );
    if let Some(percentile) = volume.percentile {
        let name = format!("Percentile of {}", volume.structure);
        let value = format!("{percentile:.1}");
        let range = format!("{:.0}-{:.0}", RANGE.0, RANGE.1);
        to.add(
            "NM",
            own(&format!("PCT-{code}"), &name),
            &value,
            "%",
            &range,
            flag,
        );
    }
}

/// Table 0078, for a study: empty where it is not flagged.
pub(super) fn flag_of_study(band: Band) -> &'static str {
    match band {
        Band::Critical | Band::Urgent => "AA",
        Band::Elevated => "A",
        Band::Routine | Band::Pending => "",
    }
}

/// Table 0078. For a single measurement only: a study has no such word.
#[must_use]
pub fn flag_of(percentile: f64) -> &'static str {
    if percentile < FAR.0 {
        "LL"
    } else if percentile < RANGE.0 {
        "L"
    } else if percentile > FAR.1 {
        "HH"
    } else if percentile > RANGE.1 {
        "H"
    } else {
        "N"
    }
}

/// `LEFT-LATERAL-VENTRICLE`
#[must_use]
pub fn code_of(structure: &str) -> String {
    let words = structure.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<String> = words
        .filter(|w| !w.is_empty())
        .map(str::to_ascii_uppercase)
        .collect();
    words.join("-")
}

fn own(code: &str, text: &str) -> Field {
    Field::from([code, text, OWN_CODES])
}

struct Observations<'a> {
    at: &'a str,
    all: Vec<Segment>,
}

impl Observations<'_> {
    fn add(&mut self, kind: &str, code: Field, value: &str, unit: &str, range: &str, flag: &str) {
        let unit = if unit.is_empty() {
            Field::default()
        } else {
            Field::from([unit, unit, "UCUM"])
        };
        // several with one code are told apart by their number (OBX-4)
        let same = self.all.iter().filter(|o| *o.field(3) == code).count();
        let obx = Segment::new("OBX")
            .with(1, (self.all.len() + 1).to_string())
            .with(2, kind)
            .with(3, code)
            .with(4, (same + 1).to_string())
            .with(5, value)
            .with(6, unit)
            .with(7, range)
            .with(8, flag)
            .with(11, "P")
            .with(14, self.at);
        self.all.push(obx);
    }
}

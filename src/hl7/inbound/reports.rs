//! Reports: ORU^R01 (2.5.1 7.3.1). Only a final one says that a study was read.

use super::groups::{Group, groups};
use super::{orders, patients};
use crate::hl7::message::{Fault, FaultCode, Message, Place};
use crate::hl7::settings::Hl7Settings;
use crate::worklist::opinion::ReadAs;
use crate::worklist::ris::{About, Deed, FinalReport};

/// Result states (table 0123) of a report that stands: final, and corrected after it was final.
const FINAL: [&str; 2] = ["F", "C"];

/// Abnormal flags (OBX-8, table 0078) that say so; `N` says the opposite, anything else nothing.
const ABNORMAL: [&str; 6] = ["A", "AA", "H", "HH", "L", "LL"];
const NORMAL: &str = "N";

/// What the flags of a report's results say of the study: one that is abnormal is enough.
fn outcome(group: &Group) -> Option<ReadAs> {
    let flags: Vec<&str> = group.all("OBX").map(|obx| obx.segment.text(8)).collect();
    if flags.iter().any(|f| ABNORMAL.contains(f)) {
        return Some(ReadAs::Abnormal);
    }
    let normal = flags.contains(&NORMAL);
    (normal && flags.iter().all(|f| f.is_empty() || *f == NORMAL)).then_some(ReadAs::Unremarkable)
}

pub(super) fn read(message: &Message, settings: &Hl7Settings) -> Result<Deed, Fault> {
    let groups = groups(message);
    if !groups.iter().any(|g| g.first("OBR").is_some()) {
        return Err(Fault::new(
            Place::segment("OBR"),
            FaultCode::SegmentSequence,
            "OBR is missing",
        ));
    }
    let mut reports = Vec::new();
    for group in &groups {
        let Some(obr) = group.first("OBR") else {
            continue;
        };
        let state = obr.segment.text(25);
        if state.is_empty() {
            return Err(Fault::new(
                obr.place(25),
                FaultCode::RequiredFieldMissing,
                "result status is empty",
            ));
        }
        if !FINAL.contains(&state) {
            continue;
        }
        let about = About {
            study_uid: group.study_uid()?,
            accession: orders::accession(group, settings),
            patient: patients::identifier(message, settings).ok(),
        };
        if about.study_uid.is_none() && (about.accession.is_none() || about.patient.is_none()) {
            return Err(Fault::new(
                obr.place(18),
                FaultCode::RequiredFieldMissing,
                "neither a study nor accession number and patient say what was read",
            ));
        }
        let outcome = outcome(group);
        reports.push(FinalReport { about, outcome });
    }
    if reports.is_empty() {
        return Ok(Deed::Nothing);
    }
    Ok(Deed::Reports(reports))
}

//! Patients: who is meant, what is known of them, and who turned out to be one (ADT, 2.5.1 chapter 3).

use crate::hl7::message::{Fault, FaultCode, Field, Message, Place, Repetition, Segment};
use crate::hl7::settings::Hl7Settings;
use crate::worklist::ris::{Deed, Demographics, Identifier, Merge};

/// Types of identifier (table 0203) that a hospital knows its patients by.
const PATIENT_TYPES: [&str; 5] = ["MR", "PI", "PT", "PN", "AN"];
/// Longest name, as (0010,0010) with its three component groups.
const NAME_CHARS_MAX: usize = 192;

/// The patient of a message.
pub(super) fn identifier(message: &Message, settings: &Hl7Settings) -> Result<Identifier, Fault> {
    let Some(pid) = message.first("PID") else {
        return Err(Fault::new(
            Place::segment("PID"),
            FaultCode::SegmentSequence,
            "PID is missing",
        ));
    };
    // PID-2 is where 2.3 and earlier had what is now in PID-3
    choose(pid.field(3), settings)
        .or_else(|| choose(pid.field(2), settings))
        .ok_or_else(|| {
            Fault::new(
                Place::field("PID", 3),
                FaultCode::RequiredFieldMissing,
                "patient identifier is missing",
            )
        })
}

/// Of a list of identifiers (CX) the one that images carry: of the authority in the settings, else
/// one of a type that hospitals use, else the first.
fn choose(list: &Field, settings: &Hl7Settings) -> Option<Identifier> {
    let named = |r: &Repetition| {
        let authority = r.component(4);
        let wanted = settings.patient_issuer.trim();
        !wanted.is_empty() && [1, 2].iter().any(|n| authority.sub(*n) == wanted)
    };
    let usable = || list.0.iter().filter(|r| !["", "\"\""].contains(&r.text(1)));
    let chosen = usable()
        .find(|r| named(r))
        .or_else(|| usable().find(|r| PATIENT_TYPES[..3].contains(&r.text(5))))
        .or_else(|| usable().next())?;
    let authority = chosen.component(4);
    let issuer = [authority.sub(1), authority.sub(2)]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("&");
    Identifier::new(chosen.text(1), Some(&issuer))
}

/// ADT^A01, A04, A08, A31
pub(super) fn update(message: &Message, settings: &Hl7Settings) -> Result<Deed, Fault> {
    let patient = identifier(message, settings)?;
    let pid = message.first("PID").cloned().unwrap_or_default();
    Ok(Deed::Demographics(demographics(patient, &pid)))
}

/// ADT^A40: each MRG is about the PID before it.
pub(super) fn merges(message: &Message, settings: &Hl7Settings) -> Result<Deed, Fault> {
    let mut merges = Vec::new();
    let mut pid: Option<&Segment> = None;
    let mut sequence = 0;
    for segment in &message.segments {
        match segment.name.as_str() {
            "PID" => pid = Some(segment),
            "MRG" => {
                sequence += 1;
                let at = |name: &str, field| Place {
                    sequence,
                    ..Place::field(name, field)
                };
                let missing = |place: Place, text: &str| {
                    Fault::new(place, FaultCode::RequiredFieldMissing, text)
                };
                let surviving = pid
                    .and_then(|pid| choose(pid.field(3), settings))
                    .ok_or_else(|| missing(at("PID", 3), "the surviving patient is missing"))?;
                let prior = choose(segment.field(1), settings)
                    .ok_or_else(|| missing(at("MRG", 1), "the patient to merge is missing"))?;
                let pid = pid.cloned().unwrap_or_default();
                merges.push(Merge {
                    prior,
                    surviving: demographics(surviving, &pid),
                });
            }
            _ => {}
        }
    }
    if merges.is_empty() {
        return Err(Fault::new(
            Place::segment("MRG"),
            FaultCode::SegmentSequence,
            "MRG is missing",
        ));
    }
    Ok(Deed::Merge(merges))
}

fn demographics(patient: Identifier, pid: &Segment) -> Demographics {
    let sex = match pid.text(8).to_ascii_uppercase().as_str() {
        "F" => Some("F"),
        "M" => Some("M"),
        // other, ambiguous (table 0001)
        "O" | "A" => Some("O"),
        _ => None,
    };
    let birth: String = pid.text(7).chars().take(8).collect();
    let is_date = chrono::NaiveDate::parse_from_str(&birth, "%Y%m%d").is_ok();
    Demographics {
        patient,
        name: name(pid.field(5).first()),
        birth_date: Some(birth).filter(|birth| is_date && birth.len() == 8),
        sex: sex.map(str::to_owned),
    }
}

/// XPN (family, given, further, suffix, prefix) as a DICOM name (family, given, middle, prefix, suffix).
fn name(xpn: &Repetition) -> Option<String> {
    let part = |n| xpn.text(n).replace(['^', '=', '\\'], " ");
    if xpn.text(1) == "\"\"" {
        return None;
    }
    let parts = [part(1), part(2), part(3), part(5), part(4)];
    let joined = parts.join("^");
    let name: String = joined
        .trim_end_matches('^')
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(NAME_CHARS_MAX)
        .collect();
    Some(name).filter(|name| !name.is_empty())
}

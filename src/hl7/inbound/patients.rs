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
    let list = list_of(pid);
    choose(list, settings).ok_or_else(|| {
        if usable(list).next().is_some() {
            elsewhere(Place::field("PID", 3))
        } else {
            Fault::new(
                Place::field("PID", 3),
                FaultCode::RequiredFieldMissing,
                "patient identifier is missing",
            )
        }
    })
}

/// PID-3; PID-2 is where 2.3 and earlier had what is now there.
fn list_of(pid: &Segment) -> &Field {
    if usable(pid.field(3)).next().is_some() {
        pid.field(3)
    } else {
        pid.field(2)
    }
}

fn usable(list: &Field) -> impl Iterator<Item = &Repetition> {
    list.0.iter().filter(|r| !["", "\"\""].contains(&r.text(1)))
}

/// Of a list of identifiers (CX) the one that images carry: of the authority in the settings, else
/// one of a type that hospitals use, else the first. What another authority than that assigned may be the number of
/// another person: none then.
fn choose(list: &Field, settings: &Hl7Settings) -> Option<Identifier> {
    let wanted = settings.patient_issuer.trim();
    let authority = |r: &Repetition| [1, 2].map(|n| r.component(4).sub(n).to_owned());
    let named =
        |r: &&Repetition| !wanted.is_empty() && authority(r).iter().any(|part| part == wanted);
    let fits =
        || usable(list).filter(|r| wanted.is_empty() || authority(r).iter().all(String::is_empty));
    let chosen = usable(list)
        .find(named)
        .or_else(|| fits().find(|r| PATIENT_TYPES[..3].contains(&r.text(5))))
        .or_else(|| fits().next())?;
    let parts = authority(chosen);
    let issuer: Vec<&str> = parts
        .iter()
        .map(String::as_str)
        .filter(|part| !part.is_empty())
        .collect();
    Identifier::new(chosen.text(1), Some(&issuer.join("&")))
}

fn elsewhere(at: Place) -> Fault {
    Fault::new(
        at,
        FaultCode::RequiredFieldMissing,
        "no identifier of hl7.patient_issuer: another authority's patient",
    )
}

/// ADT^A01, A04, A08, A31. A feed of a whole hospital group tells of many that are not ours: a warning.
pub(super) fn update(
    message: &Message,
    settings: &Hl7Settings,
) -> Result<(Deed, Vec<Fault>), Fault> {
    let pid = message.first("PID").cloned().unwrap_or_default();
    if of_others(list_of(&pid), settings) {
        let warning = elsewhere(Place::field("PID", 3));
        return Ok((Deed::Nothing, vec![warning]));
    }
    let patient = identifier(message, settings)?;
    Ok((Deed::Demographics(demographics(patient, &pid)), vec![]))
}

fn of_others(list: &Field, settings: &Hl7Settings) -> bool {
    usable(list).next().is_some() && choose(list, settings).is_none()
}

/// ADT^A40: each MRG is about the PID before it. One of another authority's patients is passed over with a warning.
pub(super) fn merges(
    message: &Message,
    settings: &Hl7Settings,
) -> Result<(Deed, Vec<Fault>), Fault> {
    let (mut merges, mut warnings) = (Vec::new(), Vec::new());
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
                let lists = [
                    (pid.map(|pid| pid.field(3)), "PID", 3),
                    (Some(segment.field(1)), "MRG", 1),
                ];
                let foreign = lists
                    .iter()
                    .find(|(list, ..)| list.is_some_and(|list| of_others(list, settings)));
                if let Some((_, name, field)) = foreign {
                    warnings.push(elsewhere(at(name, *field)));
                    continue;
                }
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
    if merges.is_empty() && warnings.is_empty() {
        return Err(Fault::new(
            Place::segment("MRG"),
            FaultCode::SegmentSequence,
            "MRG is missing",
        ));
    }
    let deed = if merges.is_empty() {
        Deed::Nothing
    } else {
        Deed::Merge(merges)
    };
    Ok((deed, warnings))
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

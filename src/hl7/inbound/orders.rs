//! Orders: ORM^O01 (2.3.1 4.2), OMI^O23 and OMG^O19 (2.5.1 4.4).

use super::groups::{Group, entity, groups};
use super::patients;
use crate::hl7::message::{Fault, FaultCode, Message, Place, Repetition};
use crate::hl7::settings::Hl7Settings;
use crate::triage::OrderPriority;
use crate::worklist::ris::{About, Deed, RisOrder};

/// Order control codes (table 0119), and order states (table 0038), after which nothing is wanted any more.
const CANCELS: [&str; 6] = ["CA", "DC", "OC", "OD", "CR", "DR"];
/// Longest text of what was ordered.
const PROCEDURE_CHARS_MAX: usize = 120;

pub(super) fn read(message: &Message, settings: &Hl7Settings) -> Result<(Deed, Vec<Fault>), Fault> {
    let mut warnings = Vec::new();
    let patient = patients::identifier(message, settings)?;
    let sender = message.header().sender();
    let groups = groups(message);
    if groups.is_empty() {
        return Err(Fault::new(
            Place::segment("ORC"),
            FaultCode::SegmentSequence,
            "an order has ORC or OBR",
        ));
    }
    let mut orders = Vec::with_capacity(groups.len());
    for group in &groups {
        let about = About {
            study_uid: group.study_uid()?,
            accession: accession(group, settings),
            patient: Some(patient.clone()),
        };
        orders.push(RisOrder {
            key: key(group, &about, &sender)?,
            placer: number(group, 2),
            filler: number(group, 3),
            priority: priority(group, &mut warnings),
            cancelled: is_cancelled(group),
            procedure: procedure(group),
            about,
        });
    }
    Ok((Deed::Orders(orders), warnings))
}

pub(super) fn accession(
    group: &Group<'_>,
    settings: &Hl7Settings,
) -> Option<crate::worklist::ris::Identifier> {
    let (_, field) = group.first_of(&settings.accession)?;
    entity(field)
}

/// Placer (2) or filler (3) order number, which ORC and OBR have in the same field.
fn number(group: &Group<'_>, field: usize) -> Option<String> {
    ["ORC", "OBR"]
        .iter()
        .filter_map(|name| Some(group.first(name)?.segment.text(field)))
        .find(|number| !number.is_empty())
        .map(str::to_owned)
}

/// Filler order number, placer order number, accession number or study: the first that is there. What is known by the
/// one and told by the other is found when it is kept (`store/ris/orders.rs`).
fn key(group: &Group<'_>, about: &About, sender: &str) -> Result<String, Fault> {
    let name = if let Some(filler) = number(group, 3) {
        format!("filler {filler}")
    } else if let Some(placer) = number(group, 2) {
        format!("placer {placer}")
    } else if let Some(accession) = &about.accession {
        format!("accession {}", accession.id)
    } else if let Some(uid) = &about.study_uid {
        format!("study {uid}")
    } else {
        let orc = group.first("ORC").or_else(|| group.first("OBR"));
        return Err(Fault::new(
            orc.map_or_else(|| Place::field("ORC", 3), |s| s.place(3)),
            FaultCode::RequiredFieldMissing,
            "the order has no number: filler, placer, accession number or study",
        ));
    };
    Ok(format!("{sender} {name}"))
}

fn is_cancelled(group: &Group<'_>) -> bool {
    let orc = group.first("ORC").map(|s| s.segment);
    orc.is_some_and(|orc| CANCELS.contains(&orc.text(1)) || CANCELS.contains(&orc.text(5)))
}

fn procedure(group: &Group<'_>) -> Option<String> {
    let service = group.first("OBR")?.segment.field(4).first();
    let text = [service.text(2), service.text(1)]
        .into_iter()
        .find(|text| !text.is_empty())?;
    Some(text.chars().take(PROCEDURE_CHARS_MAX).collect())
}

/// TQ1-9, else ORC-7.6, else OBR-27.6, else OBR-5. The highest of repetitions counts.
/// A code that is not known is a warning, and the next place is asked.
fn priority(group: &Group<'_>, warnings: &mut Vec<Fault>) -> Option<OrderPriority> {
    // name of the segment, field, component
    const PLACES: [(&str, usize, usize); 4] =
        [("TQ1", 9, 1), ("ORC", 7, 6), ("OBR", 27, 6), ("OBR", 5, 1)];
    for (name, field, component) in PLACES {
        let mut highest = None;
        for segment in group.all(name) {
            for repetition in &segment.segment.field(field).0 {
                match priority_of(repetition, component) {
                    Ok(found) => highest = highest.max(found),
                    Err(()) => warnings.push(Fault::new(
                        crate::hl7::message::Place {
                            component: (component > 1).then_some(component),
                            ..segment.place(field)
                        },
                        FaultCode::TableValueNotFound,
                        "priority is not known (table 0485) and was passed over",
                    )),
                }
            }
        }
        if highest.is_some() {
            return highest;
        }
    }
    None
}

fn priority_of(repetition: &Repetition, component: usize) -> Result<Option<OrderPriority>, ()> {
    let code = repetition.text(component);
    match code {
        "" => Ok(None),
        "\"\"" => Ok(Some(OrderPriority::Routine)),
        code => parse_priority(code).map(Some).ok_or(()),
    }
}

/// Table 0485, and the words that DICOM has for the same (0040,1003).
///
/// Preoperative and callback are wanted soon. Timing critical is about an hour, not about hurry.
pub(crate) fn parse_priority(code: &str) -> Option<OrderPriority> {
    let code = code.to_ascii_uppercase();
    match code.as_str() {
        "S" => Some(OrderPriority::Stat),
        "A" | "P" | "C" => Some(OrderPriority::Asap),
        "R" | "T" | "PRN" => Some(OrderPriority::Routine),
        timed if is_timed(timed) => Some(OrderPriority::Routine),
        word => OrderPriority::from_dicom(word),
    }
}

/// TS10, TM5, TH2 ...: timing critical within so many seconds, minutes, hours, days, weeks, months.
fn is_timed(code: &str) -> bool {
    let mut bytes = code.bytes();
    bytes.next() == Some(b'T')
        && bytes.next().is_some_and(|unit| b"SMHDWLN".contains(&unit))
        && bytes.all(|b| b.is_ascii_digit())
}

//! What is told the RIS of a study: a preliminary result, or that its order is to move up.
//!
//! One message tells one study as it stands when it is first sent; the delivery keeps it for its repeats.

mod order;
mod result;
pub mod template;

use serde::{Deserialize, Serialize};

use super::message::{Field, Message, Segment};
use crate::store::ris::ResultFacts;
use crate::worklist::ris::KnownOrder;

pub use result::{RANGE, code_of, flag_of};

/// Coding system of our own codes.
const OWN_CODES: &str = "99FIRSTREAD";

/// How a destination is told that a study moves up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mapping {
    /// ORU^R01 with the abnormal flag (OBX-8) of the study: AA for urgent, A for elevated.
    #[default]
    Obx8,
    /// ORU^R01 without that flag, and a segment ZFR with band, place and head start.
    Segment,
    /// ORM^O01 that changes the order (ORC-1 XO) to a higher priority (TQ1-9); only when a study moves up.
    Order,
    /// What the destination's template says.
    Template,
}

impl Mapping {
    /// Those that are ready.
    pub const ALL: [Self; 3] = [Self::Obx8, Self::Segment, Self::Order];

    /// As settings and database write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Obx8 => "obx8",
            Self::Segment => "segment",
            Self::Order => "order",
            Self::Template => "template",
        }
    }
}

/// Who sends to whom.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// MSH-3
    pub application: &'a str,
    /// MSH-4
    pub facility: &'a str,
    /// MSH-5
    pub to_application: &'a str,
    /// MSH-6
    pub to_facility: &'a str,
    /// MSH-7
    pub at: &'a str,
    /// MSH-10: the same in each repeat.
    pub control_id: &'a str,
    /// A commit acknowledgement is asked for (MSH-15 AL, MSH-16 NE).
    pub enhanced: bool,
}

/// The message about a study; `template` where the mapping is that.
///
/// # Errors
/// What is wrong with the template.
pub fn write(
    facts: &ResultFacts,
    mapping: Mapping,
    template: &str,
    envelope: &Envelope<'_>,
) -> Result<Message, String> {
    Ok(match mapping {
        Mapping::Obx8 | Mapping::Segment => result::write(facts, mapping, envelope),
        Mapping::Order => order::write(facts, envelope),
        Mapping::Template => template::Template::parse(template)?.write(facts, envelope),
    })
}

fn msh(kind: [&str; 3], envelope: &Envelope<'_>) -> Segment {
    let (accept, application) = if envelope.enhanced {
        ("AL", "NE")
    } else {
        ("", "")
    };
    Segment::new("MSH")
        .with(3, envelope.application)
        .with(4, envelope.facility)
        .with(5, envelope.to_application)
        .with(6, envelope.to_facility)
        .with(7, envelope.at)
        .with(9, kind)
        .with(10, envelope.control_id)
        .with(11, "P")
        .with(12, "2.5.1")
        .with(15, accept)
        .with(16, application)
        .with(18, "UNICODE UTF-8")
}

fn pid(facts: &ResultFacts) -> Segment {
    let item = &facts.study.item;
    let id = item.patient_id.as_deref().unwrap_or_default();
    let issuer = facts.patient_issuer.as_deref().unwrap_or_default();
    Segment::new("PID")
        .with(1, "1")
        .with(3, [id, "", "", issuer, "MR"])
        .with(5, xpn(facts.patient_name.as_deref().unwrap_or_default()))
        .with(7, facts.birth_date.as_deref().unwrap_or_default())
        .with(8, item.sex.as_deref().unwrap_or_default())
}

/// A DICOM name (family, given, middle, prefix, suffix) as XPN (family, given, further, suffix, prefix).
fn xpn(name: &str) -> Field {
    let alphabetic = name.split('=').next().unwrap_or_default();
    let mut parts = alphabetic.split('^').map(str::trim);
    let mut next = || parts.next().unwrap_or_default();
    let (family, given, middle, prefix, suffix) = (next(), next(), next(), next(), next());
    if family.is_empty() && given.is_empty() {
        // required, and not known: a name of type "unspecified" (table 0200)
        return Field::from(["", "", "", "", "", "", "U"]);
    }
    Field::from([family, given, middle, suffix, prefix])
}

/// The order that a message speaks of: one that is not cancelled before one that is.
fn order_of(facts: &ResultFacts) -> Option<&KnownOrder> {
    let orders = &facts.study.orders;
    orders.iter().find(|o| !o.cancelled).or(orders.first())
}

/// Numbers of the order: placer, filler; the accession number where the filler's is not known.
fn numbers(facts: &ResultFacts) -> (&str, &str) {
    let order = order_of(facts);
    let placer = order.and_then(|o| o.placer.as_deref()).unwrap_or_default();
    let filler = order.and_then(|o| o.filler.as_deref());
    let accession = facts.study.item.accession.as_deref();
    (placer, filler.or(accession).unwrap_or_default())
}

/// When the study was made, in the scanner's own time, as far as it says.
fn study_time(facts: &ResultFacts) -> String {
    let digits = |text: &str, most: usize| -> String {
        text.chars()
            .take_while(char::is_ascii_digit)
            .take(most)
            .collect()
    };
    let date = digits(
        facts.study.item.study_date.as_deref().unwrap_or_default(),
        8,
    );
    let time = digits(facts.study_time.as_deref().unwrap_or_default(), 6);
    if date.len() != 8 {
        return String::new();
    }
    // hours and minutes at least, and then whole pairs
    let time = &time[..time.len() / 2 * 2];
    if time.len() >= 4 { date + time } else { date }
}

/// OBR: what was done. Fields that differ are added by the caller.
fn obr(facts: &ResultFacts) -> Segment {
    let (placer, filler) = numbers(facts);
    let item = &facts.study.item;
    Segment::new("OBR")
        .with(1, "1")
        .with(2, placer)
        .with(3, filler)
        .with(4, ["SCREENING", "Brain MRI, screening", OWN_CODES])
        .with(7, study_time(facts))
        .with(18, item.accession.as_deref().unwrap_or_default())
}

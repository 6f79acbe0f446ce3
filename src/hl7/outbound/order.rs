//! "Move up" as a change of the order: ORM^O01 with ORC-1 XO and TQ1-9 (2.5.1 4.4.1, 4.5.4).

use super::{Envelope, msh, numbers, obr, pid};
use crate::hl7::message::{Field, Message, Segment};
use crate::store::ris::ResultFacts;
use crate::triage::{Band, OrderPriority};

pub(super) fn write(facts: &ResultFacts, envelope: &Envelope<'_>) -> Message {
    let (placer, filler) = numbers(facts);
    let item = &facts.study.item;
    let code = priority(item.band, &item.order_priority);
    let orc = Segment::new("ORC")
        .with(1, "XO")
        .with(2, placer)
        .with(3, filler)
        // for receivers of 2.3 and 2.4, which have no TQ1
        .with(7, ["", "", "", "", "", code])
        .with(9, envelope.at);
    let tq1 = Segment::new("TQ1")
        .with(1, "1")
        .with(9, Field::from([code, "", "HL70485"]));
    // IHE RAD TF-2 4.4.4.1.2.2
    let zds = Segment::new("ZDS").with(1, [item.study_uid.as_str(), "100", "Application", "DICOM"]);
    Message::new(vec![
        msh(["ORM", "O01", "ORM_O01"], envelope),
        pid(facts),
        orc,
        tq1,
        obr(facts),
        zds,
    ])
}

/// STAT from urgent on, ASAP for elevated; never lower than what was ordered.
pub(super) fn priority(band: Band, ordered: &str) -> &'static str {
    let moved = match band {
        Band::Critical | Band::Urgent => OrderPriority::Stat,
        Band::Elevated => OrderPriority::Asap,
        Band::Routine | Band::Pending => OrderPriority::Routine,
    };
    match moved.max(OrderPriority::parse(ordered).unwrap_or_default()) {
        OrderPriority::Stat => "S",
        OrderPriority::Asap => "A",
        OrderPriority::Routine => "R",
    }
}

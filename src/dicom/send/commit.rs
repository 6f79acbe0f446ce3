//! Storage commitment (PS3.4 J): the PACS is asked to promise that it keeps what it stored.
//!
//! N-ACTION, then N-EVENT-REPORT on the same association, or on one that the PACS opens for it: that
//! one reception takes (`receive/commitment.rs`).

use std::time::Duration;

use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;

use super::associate::{Link, Message, command};
use super::message::{MESSAGE_ID, RESPONSE, in_syntax};
use super::{Answered, DestinationSettings, NOT_ASKED, SendError};
use crate::dicom::receive::ALL_COMMITTED;
use crate::dicom::receive::command::EVENT_REPORT;

const ACTION_REQUEST: u16 = 0x0130;
/// The well-known instance of the service (PS3.4 J.3.5).
const WELL_KNOWN_INSTANCE: &str = "1.2.840.10008.1.20.1.1";
/// "Request storage commitment" (PS3.4 J.3.2).
const ACTION_TYPE: u16 = 1;

/// What the peer promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitOutcome {
    /// It keeps the object.
    Committed,
    /// It does not keep it: it must be sent again.
    Failed,
    /// It took the request and will report on an association of its own.
    Requested,
    /// It does not offer the service.
    NotOffered,
}

/// Asks for one object. `transaction_uid` names the request.
///
/// # Errors
/// [`SendError`] where nothing came of the association.
pub async fn commit(
    to: &DestinationSettings,
    calling_ae: &str,
    transaction_uid: &str,
    (sop_class_uid, sop_instance_uid): (&str, &str),
    wait: Duration,
) -> Result<CommitOutcome, SendError> {
    let class = uids::STORAGE_COMMITMENT_PUSH_MODEL;
    let mut link = match Link::open(to, calling_ae, class).await {
        Err(SendError::NotTaken(_)) => return Ok(CommitOutcome::NotOffered),
        other => other?,
    };
    let Some(context) = link.context() else {
        link.close().await;
        return Ok(CommitOutcome::NotOffered);
    };
    let (id, syntax) = (context.id, context.transfer_syntax.clone());
    let bytes = request(transaction_uid, sop_class_uid, sop_instance_uid, &syntax)?;
    // N-ACTION names the class that is requested, not affected (PS3.7 10.3.5).
    let action = command(
        &[
            (0x0003, class.as_bytes()),
            (0x0100, &ACTION_REQUEST.to_le_bytes()),
            (0x0110, &MESSAGE_ID.to_le_bytes()),
            (0x1001, WELL_KNOWN_INSTANCE.as_bytes()),
            (0x1008, &ACTION_TYPE.to_le_bytes()),
        ],
        true,
    );
    link.send(id, action, Some(&bytes)).await?;
    let answer = link.receive().await?;
    let outcome = match (answer.field, answer.status) {
        (field, Some(0)) if field == ACTION_REQUEST | RESPONSE => reported(&mut link, wait).await,
        (_, Some(0x0122 | 0x0211 | 0x0112)) => CommitOutcome::NotOffered,
        (field, Some(status)) if field == ACTION_REQUEST | RESPONSE => {
            link.close().await;
            let answered = Answered::with(status, &answer);
            return Err(SendError::Refused("commitment", answered));
        }
        _ => {
            link.close().await;
            return Err(SendError::BrokenOff(NOT_ASKED.into()));
        }
    };
    link.close().await;
    Ok(outcome)
}

/// A report that comes on this association within the wait; most come on another.
async fn reported(link: &mut Link, wait: Duration) -> CommitOutcome {
    let Ok(report) = link.receive_within(wait).await else {
        return CommitOutcome::Requested;
    };
    if report.field != EVENT_REPORT {
        return CommitOutcome::Requested;
    }
    let _ = link.send(report.context, accept(&report), None).await;
    match report.event {
        Some(ALL_COMMITTED) => CommitOutcome::Committed,
        _ => CommitOutcome::Failed,
    }
}

/// The response to a report (PS3.7 10.1.1).
fn accept(report: &Message) -> Vec<u8> {
    command(
        &[
            (0x0002, &report.sop_class),
            (0x0100, &(EVENT_REPORT | RESPONSE).to_le_bytes()),
            (0x0120, &report.id.to_le_bytes()),
            (0x0900, &0_u16.to_le_bytes()),
            (0x1000, &report.sop_instance),
            (0x1002, &report.event.unwrap_or(0).to_le_bytes()),
        ],
        false,
    )
}

/// The action's data set: transaction and what it is about (PS3.4 J.3.2.1.1).
fn request(
    transaction_uid: &str,
    sop_class_uid: &str,
    sop_instance_uid: &str,
    syntax: &str,
) -> Result<Vec<u8>, SendError> {
    use dicom_core::value::Value;
    use dicom_core::{DataElement, Length, PrimitiveValue, VR};
    let text = |tag, value: &str| DataElement::new(tag, VR::UI, PrimitiveValue::from(value));
    let item = InMemDicomObject::from_element_iter([
        text(tags::REFERENCED_SOP_CLASS_UID, sop_class_uid),
        text(tags::REFERENCED_SOP_INSTANCE_UID, sop_instance_uid),
    ]);
    let sequence: Value<InMemDicomObject, _> = Value::new_sequence(vec![item], Length::UNDEFINED);
    let set = InMemDicomObject::from_element_iter([
        text(tags::TRANSACTION_UID, transaction_uid),
        DataElement::new(tags::REFERENCED_SOP_SEQUENCE, VR::SQ, sequence),
    ]);
    in_syntax(&set, syntax)
}

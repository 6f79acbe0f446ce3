//! What a PACS has, and getting it: C-FIND and C-MOVE as a service class user, study root (PS3.4 C.6.2).
//!
//! Each call is an association of its own. Answers are bounded in number, size and time, and read by
//! our own walk: what a PACS says is checked as what a scanner sends.

mod answer;

use std::time::Duration;

use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;

use super::send::associate::{Link, Message};
use super::send::message::{MESSAGE_ID, RESPONSE, in_syntax, priority, request};
use super::send::{Answered, DestinationSettings, NOT_ASKED, SendError};
use answer::Answer;

/// Answers to one question that are read; a PACS that has more is asked too widely.
const ANSWERS_MAX: usize = 500;
const FIND_REQUEST: u16 = 0x0020;
const MOVE_REQUEST: u16 = 0x0021;
/// More is to come (PS3.4 C.4.1.1.4).
const PENDING: [u16; 2] = [0xFF00, 0xFF01];
/// The PACS does not know where to send to (PS3.4 C.4.2.1.5).
const DESTINATION_UNKNOWN: u16 = 0xA801;
/// Some of the images could not be sent.
const SOME_FAILED: u16 = 0xB000;

/// A study that the PACS has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StudyAnswer {
    /// (0020,000D)
    pub study_uid: String,
    /// (0008,0020), `YYYYMMDD`
    pub date: String,
    /// (0008,0061)
    pub modalities: Vec<String>,
    /// (0008,1030)
    pub description: String,
    /// (0010,0020)
    pub patient_id: String,
    /// (0010,0021)
    pub issuer: Option<String>,
    /// (0010,0030)
    pub birth_date: Option<String>,
    /// (0020,1208)
    pub images: Option<u64>,
}

/// A series that the PACS has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeriesAnswer {
    /// (0008,0060)
    pub modality: String,
    /// (0018,0015)
    pub body_part: String,
    /// (0008,103E)
    pub description: String,
}

/// Whose studies are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patient {
    /// (0010,0020)
    pub id: String,
    /// (0010,0021), where it is known.
    pub issuer: Option<String>,
}

/// What came of a C-MOVE.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Images that were sent, as the PACS counts them.
    pub completed: u32,
    /// Images that it could not send.
    pub failed: u32,
}

/// Whether a value can be asked for as it is: wildcards and lists would find other people
/// (PS3.4 C.2.2.2).
#[must_use]
pub fn is_plain(value: &str) -> bool {
    !value.is_empty() && value.len() <= 64 && !value.contains(['*', '?', '\\']) && {
        !value.chars().any(char::is_control)
    }
}

/// Studies of a patient up to a date (`YYYYMMDD`), and back to another.
///
/// # Errors
/// [`SendError`] where no whole answer was had.
pub async fn studies(
    to: &DestinationSettings,
    calling_ae: &str,
    patient: &Patient,
    (from, until): (&str, &str),
) -> Result<Vec<StudyAnswer>, SendError> {
    let known = |value: &Option<String>| value.clone().unwrap_or_default();
    let wanted = [
        (tags::STUDY_DATE, VR::DA, format!("{from}-{until}")),
        (tags::MODALITIES_IN_STUDY, VR::CS, String::new()),
        (tags::STUDY_DESCRIPTION, VR::LO, String::new()),
        (tags::PATIENT_ID, VR::LO, patient.id.clone()),
        (tags::ISSUER_OF_PATIENT_ID, VR::LO, known(&patient.issuer)),
        (tags::PATIENT_BIRTH_DATE, VR::DA, String::new()),
        (tags::STUDY_INSTANCE_UID, VR::UI, String::new()),
        (
            tags::NUMBER_OF_STUDY_RELATED_INSTANCES,
            VR::IS,
            String::new(),
        ),
    ];
    let answers = find(to, calling_ae, "STUDY", &wanted).await?;
    let study = |a: Answer| {
        Some(StudyAnswer {
            study_uid: a.uid(Tag(0x0020, 0x000D))?,
            date: a.text(Tag(0x0008, 0x0020)),
            modalities: a.list(Tag(0x0008, 0x0061)),
            description: a.text(Tag(0x0008, 0x1030)),
            patient_id: a.text(Tag(0x0010, 0x0020)),
            issuer: a.known(Tag(0x0010, 0x0021)),
            birth_date: a.known(Tag(0x0010, 0x0030)),
            images: a.text(Tag(0x0020, 0x1208)).parse().ok(),
        })
    };
    Ok(answers.into_iter().filter_map(study).collect())
}

/// Series of a study.
///
/// # Errors
/// [`SendError`] where no whole answer was had.
pub async fn series(
    to: &DestinationSettings,
    calling_ae: &str,
    study_uid: &str,
) -> Result<Vec<SeriesAnswer>, SendError> {
    let wanted = [
        (tags::MODALITY, VR::CS, String::new()),
        (tags::SERIES_DESCRIPTION, VR::LO, String::new()),
        (tags::BODY_PART_EXAMINED, VR::CS, String::new()),
        (tags::STUDY_INSTANCE_UID, VR::UI, study_uid.to_owned()),
        (tags::SERIES_INSTANCE_UID, VR::UI, String::new()),
    ];
    let answers = find(to, calling_ae, "SERIES", &wanted).await?;
    let series = |a: Answer| SeriesAnswer {
        modality: a.text(Tag(0x0008, 0x0060)),
        body_part: a.text(Tag(0x0018, 0x0015)),
        description: a.text(Tag(0x0008, 0x103E)),
    };
    Ok(answers.into_iter().map(series).collect())
}

/// Has the PACS send a study to the AE title `destination`, within `limit`.
///
/// # Errors
/// [`SendError`] where it did not, or did not say so in time.
pub async fn retrieve(
    to: &DestinationSettings,
    calling_ae: &str,
    study_uid: &str,
    destination: &str,
    limit: Duration,
) -> Result<Moved, SendError> {
    let wanted = [(tags::STUDY_INSTANCE_UID, VR::UI, study_uid.to_owned())];
    let class = uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE;
    let mut link = Link::open(to, calling_ae, class).await?;
    let (id, bytes) = question(&link, "retrieval", "STUDY", &wanted)?;
    let more = [(0x0600, destination.as_bytes()), priority()];
    let asked = request(MOVE_REQUEST, class, &more, true);
    link.send(id, asked, Some(&bytes)).await?;
    let moving = async {
        loop {
            let answer = link.receive_within(limit).await?;
            let status = status_of(&answer, MOVE_REQUEST)?;
            if PENDING.contains(&status) {
                continue;
            }
            let moved = Moved {
                completed: u32::from(answer.completed.unwrap_or(0)),
                failed: u32::from(answer.failed.unwrap_or(0)),
            };
            return match status {
                0x0000 | SOME_FAILED => Ok(moved),
                DESTINATION_UNKNOWN => Err(SendError::BrokenOff(format!(
                    "the PACS does not know where {destination} is"
                ))),
                status => Err(refused("retrieval", status, &answer)),
            };
        }
    };
    let moved = tokio::time::timeout(limit, moving)
        .await
        .unwrap_or_else(|_| {
            let seconds = limit.as_secs();
            Err(SendError::BrokenOff(format!(
                "the study did not come within {seconds} s"
            )))
        })?;
    link.close().await;
    Ok(moved)
}

async fn find(
    to: &DestinationSettings,
    calling_ae: &str,
    level: &str,
    wanted: &[(Tag, VR, String)],
) -> Result<Vec<Answer>, SendError> {
    let class = uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND;
    let mut link = Link::open(to, calling_ae, class).await?;
    let (id, bytes) = question(&link, "queries", level, wanted)?;
    let syntax = link.context().map(|c| c.transfer_syntax.clone());
    let syntax = syntax.unwrap_or_default();
    let asked = request(FIND_REQUEST, class, &[priority()], true);
    link.send(id, asked, Some(&bytes)).await?;
    let asking = async {
        let mut answers = Vec::new();
        loop {
            let answer = link.receive().await?;
            let status = status_of(&answer, FIND_REQUEST)?;
            if !PENDING.contains(&status) {
                return match status {
                    0x0000 => Ok(answers),
                    status => Err(refused("query", status, &answer)),
                };
            }
            if answers.len() == ANSWERS_MAX {
                return Err(SendError::BrokenOff(format!(
                    "the PACS gave more than {ANSWERS_MAX} answers"
                )));
            }
            // An answer that cannot be read is none; the others count.
            answers.extend(Answer::read(&answer.data_set, &syntax));
        }
    };
    let limit = Duration::from_secs(to.answer_timeout_seconds);
    let answers = tokio::time::timeout(limit, asking)
        .await
        .unwrap_or_else(|_| {
            Err(SendError::BrokenOff(
                "the PACS did not end its answer in time".into(),
            ))
        })?;
    link.close().await;
    Ok(answers)
}

/// The context's id, and the question in its transfer syntax.
fn question(
    link: &Link,
    what: &'static str,
    level: &str,
    wanted: &[(Tag, VR, String)],
) -> Result<(u8, Vec<u8>), SendError> {
    let context = link.context().ok_or(SendError::NotTaken(what))?;
    let text = |tag, vr, value: &str| DataElement::new(tag, vr, PrimitiveValue::from(value));
    let mut elements = vec![text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, level)];
    if wanted.iter().any(|(_, _, value)| !value.is_ascii()) {
        elements.push(text(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192"));
    }
    let all = wanted.iter().map(|(tag, vr, value)| text(*tag, *vr, value));
    elements.extend(all);
    let set = InMemDicomObject::from_element_iter(elements);
    let bytes = in_syntax(&set, &context.transfer_syntax)?;
    Ok((context.id, bytes))
}

/// The status of an answer to our one request.
fn status_of(answer: &Message, request: u16) -> Result<u16, SendError> {
    match answer.status {
        Some(status) if answer.field == request | RESPONSE && answer.id == MESSAGE_ID => Ok(status),
        _ => Err(SendError::BrokenOff(NOT_ASKED.into())),
    }
}

fn refused(what: &'static str, status: u16, answer: &Message) -> SendError {
    SendError::Refused(what, Answered::with(status, answer))
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn what_would_find_others_is_not_asked_for() {
        for plain in ["4711", "A-1 2", "Müller"] {
            assert!(is_plain(plain), "{plain}");
        }
        for other in ["", "*", "47?1", "1\\2", "a\nb", &"1".repeat(65)] {
            assert!(!is_plain(other), "{other}");
        }
    }
}

//! C-STORE (PS3.4 B) and C-ECHO (PS3.4 A).

use std::path::Path;

use dicom_dictionary_std::uids;
use dicom_object::{InMemDicomObject, OpenFileOptions};

use super::associate::{Link, Message};
use super::message::{RESPONSE, in_syntax, priority, request};
use super::{Answered, DestinationSettings, NOT_ASKED, SendError};
use crate::dicom::objects::Kind;

/// Largest object that is sent, bytes.
const OBJECT_BYTES_MAX: u64 = 1 << 30;
const STORE_REQUEST: u16 = 0x0001;
const ECHO_REQUEST: u16 = 0x0030;
/// "A SOP instance of this UID is already there" (PS3.7 C.4.2.1.5).
const DUPLICATE: u16 = 0x0111;

/// What the peer said of the instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreOutcome {
    /// It has it: success, or a warning with which it is stored all the same (PS3.4 B.2.3).
    Stored,
    /// It may take it later: out of resources.
    Later(Answered),
    /// It refused it for good.
    Refused(Answered),
}

/// Sends one object.
///
/// # Errors
/// [`SendError`] where no answer was had about this instance.
pub async fn store(
    to: &DestinationSettings,
    calling_ae: &str,
    kind: Kind,
    sop_instance_uid: &str,
    file: &Path,
) -> Result<StoreOutcome, SendError> {
    let class = kind.sop_class_uid();
    let object = read(file).await?;
    let mut link = Link::open(to, calling_ae, class).await?;
    let Some(context) = link.context() else {
        link.close().await;
        return Err(SendError::NotTaken(kind.as_str()));
    };
    let (id, syntax) = (context.id, context.transfer_syntax.clone());
    let bytes = in_syntax(&object, &syntax)?;
    let about = [priority(), (0x1000, sop_instance_uid.as_bytes())];
    let asked = request(STORE_REQUEST, class, &about, true);
    link.send(id, asked, Some(&bytes)).await?;
    let answer = link.receive().await?;
    let outcome = judge(&answer, sop_instance_uid);
    link.close().await;
    outcome
}

/// Asks whether the peer is there and lets us in.
///
/// # Errors
/// [`SendError`] where it is not, or does not.
pub async fn echo(to: &DestinationSettings, calling_ae: &str) -> Result<(), SendError> {
    let mut link = Link::open(to, calling_ae, uids::VERIFICATION).await?;
    let Some(id) = link.context().map(|c| c.id) else {
        link.close().await;
        return Err(SendError::NotTaken("verification"));
    };
    let asked = request(ECHO_REQUEST, uids::VERIFICATION, &[], false);
    link.send(id, asked, None).await?;
    let answer = link.receive().await?;
    link.close().await;
    match answer.status {
        Some(0) if answer.field == ECHO_REQUEST | RESPONSE => Ok(()),
        Some(status) if answer.field == ECHO_REQUEST | RESPONSE => {
            let answered = Answered::with(status, &answer);
            Err(SendError::Refused("echo", answered))
        }
        _ => Err(SendError::BrokenOff(NOT_ASKED.into())),
    }
}

/// The status of a C-STORE response (PS3.4 B.2.3); an answer about something else is none.
fn judge(answer: &Message, sop_instance_uid: &str) -> Result<StoreOutcome, SendError> {
    let about_it =
        answer.sop_instance.is_empty() || answer.sop_instance == sop_instance_uid.as_bytes();
    if answer.field != STORE_REQUEST | RESPONSE || answer.id != 1 || !about_it {
        return Err(SendError::BrokenOff(NOT_ASKED.into()));
    }
    let Some(status) = answer.status else {
        return Err(SendError::BrokenOff("the answer has no status".into()));
    };
    let answered = || Answered::with(status, answer);
    Ok(match status {
        0x0000 | 0xB000 | 0xB006 | 0xB007 | DUPLICATE => StoreOutcome::Stored,
        0xA700..=0xA7FF | 0x0110 | 0x0124 => StoreOutcome::Later(answered()),
        _ => StoreOutcome::Refused(answered()),
    })
}

async fn read(file: &Path) -> Result<InMemDicomObject, SendError> {
    let unreadable = |e: &dyn std::fmt::Display| SendError::Unreadable(e.to_string());
    let about = tokio::fs::metadata(file)
        .await
        .map_err(|e| unreadable(&e))?;
    if about.len() > OBJECT_BYTES_MAX {
        return Err(unreadable(&"it is too large"));
    }
    let path = file.to_owned();
    let opened = tokio::task::spawn_blocking(move || OpenFileOptions::new().open_file(path));
    let object = opened.await.map_err(|e| unreadable(&e))?;
    Ok(object.map_err(|e| unreadable(&e))?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::send::Status;

    #[track_caller]
    fn check(status: u16, expected: &StoreOutcome) {
        let answer = Message {
            field: 0x8001,
            id: 1,
            status: Some(status),
            comment: "why".into(),
            sop_instance: b"1.2".to_vec(),
            ..Message::default()
        };
        assert_eq!(judge(&answer, "1.2").as_ref(), Ok(expected));
        // an answer about another instance or message says nothing
        assert!(judge(&answer, "1.3").is_err());
        let other = Message { id: 2, ..answer };
        assert!(judge(&other, "1.2").is_err());
    }

    #[test]
    fn only_the_status_of_this_instance_counts() {
        for stored in [0x0000, 0xB000, 0xB006, 0xB007, 0x0111] {
            check(stored, &StoreOutcome::Stored);
        }
        let answered = |status| Answered {
            status: Status(status),
            comment: "why".into(),
        };
        check(0xA700, &StoreOutcome::Later(answered(0xA700)));
        for refused in [0xC000, 0xA900, 0x0122] {
            check(refused, &StoreOutcome::Refused(answered(refused)));
        }
        assert_eq!(answered(0x0122).to_string(), "status 0x0122");
    }
}

//! One transmission in, its answers out.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tracing::{error, info, warn};

use super::inbound;
use super::message::ack::{self, AckCode, Own};
use super::message::batch::{self, Batch, Content};
use super::message::{Fault, FaultCode, Header, Message, Place, parse};
use super::settings::Hl7Settings;
use crate::clock::{SharedClock, hl7_time};
use crate::store::Store;
use crate::store::ranks::Ranker;
use crate::store::ris::{Letter, Taken};
use crate::worklist::NewsDesk;

/// Takes messages and says what became of them.
#[derive(Clone)]
pub struct Receiver {
    /// Database.
    pub store: Store,
    /// Time.
    pub clock: SharedClock,
    /// How an order re-ranks its studies.
    pub ranker: Arc<Ranker>,
    /// Who is told that a row changed.
    pub news: NewsDesk,
    /// Settings.
    pub settings: Arc<Hl7Settings>,
}

/// What became of a message.
struct Verdict {
    code: AckCode,
    faults: Vec<Fault>,
}

impl Verdict {
    fn refused(fault: Fault) -> Self {
        // what has nothing to do with the content of the message is a reject (2.9.2.2)
        let reject = matches!(
            fault.code,
            FaultCode::UnsupportedMessageType | FaultCode::UnsupportedVersion | FaultCode::Internal
        ) || fault.at.segment == "MSH" && fault.code != FaultCode::DuplicateKey;
        let code = if reject {
            AckCode::ApplicationReject
        } else {
            AckCode::ApplicationError
        };
        Self {
            code,
            faults: vec![fault],
        }
    }
}

impl Receiver {
    /// Takes one transmission; gives what is sent back, each in a frame of its own.
    pub async fn take(&self, transmission: &[u8]) -> Vec<String> {
        match batch::split(transmission) {
            Content::Single(bytes) => {
                let answers = self.take_message(bytes).await;
                answers.iter().map(Message::to_text).collect()
            }
            Content::Batch(batch) => vec![self.take_batch(&batch).await],
        }
    }

    async fn take_batch(&self, batch: &Batch<'_>) -> String {
        let mut answers = Vec::with_capacity(batch.messages.len());
        for bytes in &batch.messages {
            match &batch.fault {
                None => answers.extend(self.take_message(bytes).await),
                Some(fault) => {
                    let header = header_of(bytes);
                    answers.extend(self.answers(
                        &header,
                        &Verdict {
                            code: AckCode::ApplicationReject,
                            faults: vec![fault.clone()],
                        },
                    ));
                }
            }
        }
        if let Some(fault) = &batch.fault {
            warn!(%fault, messages = batch.messages.len(), "HL7 batch refused");
        }
        self.own(|own| batch::answer(batch, own, &answers))
    }

    async fn take_message(&self, bytes: &[u8]) -> Vec<Message> {
        let header = header_of(bytes);
        let verdict = self.judge(&header, bytes).await;
        match verdict.faults.first() {
            None => info!(
                sender = header.sender(),
                control_id = header.control_id,
                kind = header.kind(),
                "HL7 message taken"
            ),
            Some(fault) => warn!(
                sender = header.sender(),
                control_id = header.control_id,
                kind = header.kind(),
                code = verdict.code.as_str(),
                %fault,
                "HL7 message not taken as it is"
            ),
        }
        self.answers(&header, &verdict)
    }

    async fn judge(&self, header: &Header, bytes: &[u8]) -> Verdict {
        let read = parse(bytes).and_then(|message| {
            inbound::check_header(header)?;
            inbound::read(&message, &self.settings)
        });
        let (deed, warnings) = match read {
            Ok(read) => read,
            Err(fault) => return Verdict::refused(fault),
        };
        let (sender, kind) = (header.sender(), header.kind());
        let letter = Letter {
            sender: &sender,
            control_id: &header.control_id,
            kind: &kind,
            digest: &digest(bytes),
        };
        let (remember_ms, now_ms) = (self.settings.remember_ms(), self.clock.now_ms());
        let taken = self
            .store
            .take_message(&letter, &deed, &self.ranker, remember_ms, now_ms);
        match taken.await {
            Ok(Taken::New { changed }) => {
                for study_uid in &changed {
                    self.news.tell(study_uid);
                }
                Verdict {
                    code: AckCode::ApplicationAccept,
                    faults: warnings,
                }
            }
            Ok(Taken::Again) => Verdict {
                code: AckCode::ApplicationAccept,
                faults: warnings,
            },
            Ok(Taken::Reused) => Verdict::refused(Fault::new(
                Place::field("MSH", 10),
                FaultCode::DuplicateKey,
                "another message was taken under this control id",
            )),
            Err(e) => {
                error!(error = %e, "could not keep an HL7 message");
                Verdict::refused(Fault::new(
                    Place::segment("MSH"),
                    FaultCode::Internal,
                    "the database does not answer; send it again",
                ))
            }
        }
    }

    /// Original mode: one application acknowledgement. Enhanced mode: those that were asked for (2.9.3).
    fn answers(&self, header: &Header, verdict: &Verdict) -> Vec<Message> {
        let answer = |code| self.own(|own| ack::acknowledge(header, code, &verdict.faults, own));
        if !header.is_enhanced() {
            return vec![answer(verdict.code)];
        }
        let told = verdict.code.is_wanted(&header.application_ack);
        let commit = match verdict.code {
            AckCode::ApplicationAccept => AckCode::CommitAccept,
            AckCode::ApplicationReject => AckCode::CommitReject,
            // it arrived well; what is wrong with it is said by the application
            _ if told => AckCode::CommitAccept,
            _ => AckCode::CommitError,
        };
        let mut answers = Vec::new();
        if commit.is_wanted(&header.accept_ack) {
            answers.push(answer(commit));
        }
        // a commit that rejects says it all; where none is wanted, the application has to (2.9.3)
        if told && (commit != AckCode::CommitReject || answers.is_empty()) {
            answers.push(answer(verdict.code));
        }
        answers
    }

    /// The answer to a message that is too large to be read.
    #[must_use]
    pub fn refuse_large(&self, head: &[u8]) -> String {
        let fault = Fault::new(
            Place::segment("MSH"),
            FaultCode::Internal,
            format!(
                "larger than {} bytes (hl7.message_bytes_max)",
                self.settings.message_bytes_max
            ),
        );
        let header = header_of(head);
        self.own(|own| ack::acknowledge(&header, AckCode::ApplicationReject, &[fault], own))
            .to_text()
    }

    fn own<T>(&self, write: impl FnOnce(&Own<'_>) -> T) -> T {
        let at = hl7_time(self.clock.now_ms());
        let id = control_id();
        write(&Own {
            application: &self.settings.application,
            facility: &self.settings.facility,
            at: &at,
            control_id: &id,
        })
    }
}

/// What can be read of MSH, also where the rest of the message is wrong.
fn header_of(bytes: &[u8]) -> Header {
    let bytes = bytes.trim_ascii_start();
    let end = bytes
        .iter()
        .position(|b| *b == b'\r' || *b == b'\n')
        .unwrap_or(bytes.len());
    parse(&bytes[..end])
        .map(|message| message.header())
        .unwrap_or_default()
}

/// Of a message without the time it was sent at: some senders write that anew when they repeat.
fn digest(bytes: &[u8]) -> String {
    let mut hash = Sha256::new();
    let separator = bytes.get(3).copied().unwrap_or(b'|');
    let mut fields = bytes.splitn(8, |b| *b == separator);
    for (number, field) in fields.by_ref().enumerate() {
        // MSH-1 is the separator itself, so MSH-7 is the seventh piece
        if number != 6 {
            hash.update(field);
            hash.update([separator]);
        }
    }
    hash.finalize().iter().fold(String::new(), |text, byte| {
        use std::fmt::Write as _;
        let mut text = text;
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A control id of ours, which nothing else has: 20 characters at most (2.15.9.10).
#[must_use]
pub fn control_id() -> String {
    let random = getrandom::u64().unwrap_or_default();
    format!("F{random:016X}")
}

#[cfg(test)]
mod tests {
    use super::digest;

    #[test]
    fn a_repeat_is_known_by_its_content() {
        let message = |at: &str, id: &str| {
            digest(format!("MSH|^~\\&|RIS|H|FR|X|{at}||ORM^O01|{id}|P|2.5\rPID|||1").as_bytes())
        };
        assert_eq!(message("1", "7"), message("2", "7"));
        assert_ne!(message("1", "7"), message("1", "8"));
    }
}

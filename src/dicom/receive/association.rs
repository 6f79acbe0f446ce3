//! The messages of one association (PS3.7).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dicom_dictionary_std::uids;
use dicom_ul::pdu::{AbortRQServiceProviderReason, PresentationContextResultReason};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::dicom::guard;
use crate::dicom::header::ObjectHeader;

use super::command::{self, COMMAND_BYTES_MAX, Request};
use super::commitment::Arriving;
use super::link::{Link, LinkError, Pdv, Pdvs, Received};
use super::settings::ReceiveSettings;
use super::spool::{Arrival, Arrived, Label, Spool};
use super::status::Answer;
use super::{AssociationId, BadObject, Kept, ObjectSink, ReceivedObject};

/// What all associations share.
pub struct Shared {
    pub settings: ReceiveSettings,
    pub spool: Arc<Spool>,
    pub sink: Arc<dyn ObjectSink>,
    pub stop: CancellationToken,
}

/// How an association came to its end.
#[derive(Debug, thiserror::Error)]
pub enum End {
    #[error("released")]
    Released,
    #[error("aborted by the peer")]
    Aborted,
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("silent for too long")]
    Silent,
    #[error("an object took too long")]
    Slow,
    #[error("the server stops")]
    Stopping,
    #[error("protocol violation: {0}")]
    Violation(&'static str),
}

/// What an association brought, for the log.
#[derive(Debug, Default)]
pub struct Counts {
    pub stored: u64,
    pub kept_aside: u64,
    pub refused: u64,
    pub echoed: u64,
    pub stored_bytes: u64,
}

/// One association, from acceptance to release.
pub struct Association {
    pub id: AssociationId,
    pub calling_ae: String,
    pub counts: Counts,
    shared: Arc<Shared>,
    /// Whether the sink was given anything.
    touched: Arc<AtomicBool>,
    contexts: HashMap<u8, Context>,
    stage: Stage,
    /// Room among those of its address that have not sent a command yet.
    porch: Option<OwnedSemaphorePermit>,
    messages: u64,
    /// When the message under way must be here.
    deadline: Option<Instant>,
}

/// An accepted presentation context.
#[derive(Clone)]
struct Context {
    abstract_syntax: String,
    transfer_syntax: String,
}

enum Stage {
    /// Between messages.
    Idle,
    /// A command set is not complete.
    Command { context: u8, bytes: Vec<u8> },
    /// A data set is not complete.
    Data(Box<Message>),
    /// A report of commitment is not complete.
    Report(Box<Arriving>),
}

struct Message {
    context: u8,
    request: Request,
    arrival: Arrival,
}

impl Association {
    pub fn new(
        id: AssociationId,
        link: &Link,
        shared: Arc<Shared>,
        touched: Arc<AtomicBool>,
        porch: OwnedSemaphorePermit,
    ) -> Self {
        let contexts = link
            .contexts()
            .iter()
            .filter(|context| context.reason == PresentationContextResultReason::Acceptance)
            .map(|context| {
                let accepted = Context {
                    abstract_syntax: context.abstract_syntax.clone(),
                    transfer_syntax: guard::uid(context.transfer_syntax.as_bytes())
                        .unwrap_or_default()
                        .to_owned(),
                };
                (context.id, accepted)
            })
            .collect();
        Self {
            id,
            calling_ae: guard::comment(link.peer_ae_title()),
            counts: Counts::default(),
            shared,
            touched,
            contexts,
            stage: Stage::Idle,
            porch: Some(porch),
            messages: 0,
            deadline: None,
        }
    }

    /// Serves the peer until the end, and tells it where it cannot know.
    pub async fn run(&mut self, mut link: Link) -> End {
        let end = loop {
            if let Err(end) = self.step(&mut link).await {
                break end;
            }
        };
        // a data set under way is deleted before the peer may hear of the end
        self.stage = Stage::Idle;
        let reason = match end {
            End::Released => {
                let _ = link.release().await;
                return end;
            }
            End::Aborted | End::Link(LinkError::Closed | LinkError::Lost(_)) => return end,
            End::Violation(_) | End::Link(_) => AbortRQServiceProviderReason::InvalidPduParameter,
            End::Silent | End::Slow | End::Stopping => {
                AbortRQServiceProviderReason::ReasonNotSpecified
            }
        };
        let _ = link.abort(reason).await;
        end
    }

    async fn step(&mut self, link: &mut Link) -> Result<(), End> {
        let data = match self.next(link).await? {
            Received::Data(data) => data,
            Received::Release => return Err(End::Released),
            Received::Abort => return Err(End::Aborted),
            Received::Unexpected => return Err(End::Violation("unexpected PDU")),
        };
        for pdv in Pdvs(&data) {
            let pdv = pdv.map_err(|_| End::Violation("malformed PDV"))?;
            self.pdv(pdv, link).await?;
        }
        Ok(())
    }

    /// The next PDU, in time; between messages also the stop signal.
    async fn next(&mut self, link: &mut Link) -> Result<Received, End> {
        let idle = matches!(self.stage, Stage::Idle);
        let silence = Duration::from_secs(self.shared.settings.idle_timeout_seconds);
        let silent = Instant::now() + silence;
        let (limit, late) = match self.deadline {
            Some(deadline) if deadline < silent => (deadline, End::Slow),
            _ => (silent, End::Silent),
        };
        tokio::select! {
            biased;
            () = self.shared.stop.cancelled(), if idle => Err(End::Stopping),
            received = tokio::time::timeout_at(limit, link.next()) => match received {
                Ok(received) => Ok(received?),
                Err(_) => Err(late),
            },
        }
    }

    async fn pdv(&mut self, pdv: Pdv<'_>, link: &mut Link) -> Result<(), End> {
        match (&mut self.stage, pdv.is_command) {
            (Stage::Idle, true) => {
                let longest = Duration::from_secs(self.shared.settings.object_timeout_seconds);
                self.deadline = Some(Instant::now() + longest);
                self.stage = Stage::Command {
                    context: pdv.context,
                    bytes: Vec::new(),
                };
                self.command_bytes(pdv, link).await
            }
            (Stage::Command { .. }, true) => self.command_bytes(pdv, link).await,
            (Stage::Data(message), false) if message.context == pdv.context => {
                message.arrival.push(pdv.bytes).await;
                if pdv.is_last {
                    self.data_complete(link).await?;
                }
                Ok(())
            }
            (Stage::Report(report), false) if report.context == pdv.context => {
                if !report.push(pdv.bytes) {
                    return Err(End::Violation("report too long"));
                }
                if pdv.is_last {
                    self.report_complete(link).await?;
                }
                Ok(())
            }
            (Stage::Data(_) | Stage::Report(_), false) => {
                Err(End::Violation("data set in two contexts"))
            }
            (Stage::Data(_) | Stage::Report(_), true) => {
                Err(End::Violation("command inside a data set"))
            }
            (Stage::Idle | Stage::Command { .. }, false) => {
                Err(End::Violation("data set without a command"))
            }
        }
    }

    async fn command_bytes(&mut self, pdv: Pdv<'_>, link: &mut Link) -> Result<(), End> {
        let Stage::Command { context, bytes } = &mut self.stage else {
            return Ok(());
        };
        if *context != pdv.context {
            return Err(End::Violation("command in two contexts"));
        }
        if bytes.len() + pdv.bytes.len() > COMMAND_BYTES_MAX {
            return Err(End::Violation("command set too long"));
        }
        bytes.extend_from_slice(pdv.bytes);
        if !pdv.is_last {
            return Ok(());
        }
        let request = Request::read(bytes);
        self.stage = Stage::Idle;
        self.request(pdv.context, request, link).await
    }

    /// A command set is complete.
    async fn request(
        &mut self,
        context: u8,
        request: Result<Request, command::BadCommand>,
        link: &mut Link,
    ) -> Result<(), End> {
        self.messages += 1;
        let request = request.map_err(|bad| {
            tracing::warn!(association = self.id, %bad, "command not understood");
            End::Violation("bad command set")
        })?;
        self.porch = None;
        if request.field == command::EVENT_REPORT
            && request.has_data_set
            && let Some(known) = self.contexts.get(&context)
            && known.abstract_syntax == uids::STORAGE_COMMITMENT_PUSH_MODEL
        {
            self.stage = Stage::Report(Box::new(Arriving {
                context,
                request,
                explicit: known.transfer_syntax != uids::IMPLICIT_VR_LITTLE_ENDIAN,
                bytes: Vec::new(),
            }));
            return Ok(());
        }
        let judged = match request.field {
            command::CANCEL => {
                // nothing of ours takes long enough to be cancelled (PS3.7 9.3.2.3)
                self.deadline = None;
                return Ok(());
            }
            command::ECHO => Err(Answer::SUCCESS),
            command::STORE => self.judge_store(context, &request),
            _ => Err(Answer::unrecognized_operation()),
        };
        if !request.has_data_set {
            let answer = match judged {
                Ok(_) => Answer::cannot_understand("no data set"),
                Err(answer) => answer,
            };
            return self.answer(context, &request, &answer, link).await;
        }
        let spool = Arc::clone(&self.shared.spool);
        let arrival = match judged {
            Ok(label) => Arrival::new(spool, label),
            Err(answer) => Arrival::refused(spool, self.label(&Context::none(), "", ""), answer),
        };
        self.stage = Stage::Data(Box::new(Message {
            context,
            request,
            arrival,
        }));
        Ok(())
    }

    /// Whether the data set of this C-STORE-RQ is wanted; if not, the answer.
    fn judge_store(&self, context: u8, request: &Request) -> Result<Label, Answer> {
        let class = guard::uid(&request.sop_class)
            .map_err(|bad| Answer::class_not_supported(&format!("SOP Class UID is {bad}")))?;
        let instance = guard::uid(&request.sop_instance)
            .map_err(|bad| Answer::invalid_instance(&format!("SOP Instance UID is {bad}")))?;
        let context = self
            .contexts
            .get(&context)
            .filter(|context| context.abstract_syntax == class)
            .ok_or_else(|| {
                Answer::class_not_supported("not the SOP class of the presentation context")
            })?;
        if !super::STORAGE_CLASSES.contains(&class) {
            return Err(Answer::class_not_supported("not a storage SOP class"));
        }
        Ok(self.label(context, class, instance))
    }

    fn label(&self, context: &Context, class: &str, instance: &str) -> Label {
        Label {
            association: self.id,
            message: self.messages,
            sop_class_uid: class.to_owned(),
            sop_instance_uid: instance.to_owned(),
            transfer_syntax_uid: context.transfer_syntax.clone(),
            calling_ae: self.calling_ae.clone(),
        }
    }

    /// A data set is complete.
    async fn data_complete(&mut self, link: &mut Link) -> Result<(), End> {
        let Stage::Data(message) = std::mem::replace(&mut self.stage, Stage::Idle) else {
            return Ok(());
        };
        let Message {
            context,
            request,
            arrival,
        } = *message;
        let answer = match arrival.finish().await {
            Ok((arrived, Ok(header))) => self.file(&request, arrived, header).await,
            Ok((arrived, Err(error))) => {
                let reason = error.to_string();
                let answer = Answer::cannot_understand(&reason);
                self.set_aside(&request, arrived, &reason, answer).await
            }
            Err(answer) => answer,
        };
        self.answer(context, &request, &answer, link).await
    }

    /// A report of commitment is complete.
    async fn report_complete(&mut self, link: &mut Link) -> Result<(), End> {
        let Stage::Report(report) = std::mem::replace(&mut self.stage, Stage::Idle) else {
            return Ok(());
        };
        let answer = match report.read() {
            None => Answer::cannot_understand("no transaction UID"),
            Some(read) => match self.shared.sink.commitment(read).await {
                Ok(true) => Answer::SUCCESS,
                Ok(false) => Answer::no_such_instance("no such transaction"),
                Err(refusal) => Answer::refused(refusal.status, &refusal.comment),
            },
        };
        let Arriving {
            context, request, ..
        } = *report;
        self.answer(context, &request, &answer, link).await
    }

    /// Gives a sound object to the sink.
    async fn file(
        &mut self,
        request: &Request,
        mut arrived: Arrived,
        header: ObjectHeader,
    ) -> Answer {
        let said = |uid: &[u8]| guard::uid(uid).unwrap_or_default().to_owned();
        let mismatch = if header.sop_class_uid != said(&request.sop_class) {
            Some("SOP Class UID of data set and command differ")
        } else if header.sop_instance_uid != said(&request.sop_instance) {
            Some("SOP Instance UID of data set and command differ")
        } else {
            None
        };
        if let Some(reason) = mismatch {
            let answer = Answer::mismatch(reason);
            return self.set_aside(request, arrived, reason, answer).await;
        }
        self.touched.store(true, Ordering::Relaxed);
        let size_bytes = arrived.size_bytes;
        let object = ReceivedObject {
            association: self.id,
            calling_ae: self.calling_ae.clone(),
            body: arrived.body(),
            size_bytes,
            header,
        };
        let kept = self.shared.sink.keep(object).await;
        match kept {
            Ok(kept) => {
                arrived.hand_over();
                self.counts.stored_bytes += size_bytes;
                match kept {
                    Kept::New | Kept::Again => Answer::SUCCESS,
                    Kept::Quarantined(reason) => Answer::kept_aside(&reason),
                }
            }
            Err(refusal) => Answer::refused(refusal.status, &refusal.comment),
        }
    }

    async fn set_aside(
        &mut self,
        request: &Request,
        mut arrived: Arrived,
        reason: &str,
        answer: Answer,
    ) -> Answer {
        let temp_path = match arrived.file(&self.shared.spool).await {
            Ok(path) => path,
            Err(full) => return full,
        };
        self.touched.store(true, Ordering::Relaxed);
        tracing::warn!(
            association = self.id,
            calling_ae = %self.calling_ae,
            status = format_args!("{:#06x}", answer.status),
            reason,
            "object refused"
        );
        let object = BadObject {
            association: self.id,
            calling_ae: self.calling_ae.clone(),
            temp_path,
            size_bytes: arrived.size_bytes,
            sop_instance_uid: guard::uid(&request.sop_instance)
                .unwrap_or_default()
                .to_owned(),
            reason: reason.to_owned(),
        };
        // what the sink does not move is deleted with `arrived`
        self.shared.sink.set_aside(object).await;
        answer
    }

    async fn answer(
        &mut self,
        context: u8,
        request: &Request,
        answer: &Answer,
        link: &mut Link,
    ) -> Result<(), End> {
        self.deadline = None;
        match (answer.status, request.field) {
            (0, command::ECHO) => self.counts.echoed += 1,
            (0, command::EVENT_REPORT) => {}
            (0, _) => self.counts.stored += 1,
            (0xB000..=0xBFFF, _) => self.counts.kept_aside += 1,
            _ => self.counts.refused += 1,
        }
        tracing::debug!(
            association = self.id,
            status = format_args!("{:#06x}", answer.status),
            "answered"
        );
        link.send_command(context, request.response(answer)).await?;
        Ok(())
    }
}

impl Context {
    fn none() -> Self {
        Self {
            abstract_syntax: String::new(),
            transfer_syntax: String::new(),
        }
    }
}

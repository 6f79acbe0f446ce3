//! Delivers results over MLLP: one connection an attempt, so that a late answer can meet no other message.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::warn;

use super::message::ack::{self, AckCode};
use super::message::parse;
use super::mllp::{self, Deframer};
use super::outbound::{self, Envelope};
use super::settings::{Hl7Destination, Hl7Settings};
use crate::clock::{UnixMillis, hl7_time};
use crate::outbox::machine::Outcome;
use crate::outbox::{Attempt, Courier, Shared};
use crate::store::Store;
use crate::store::outbox::{Batch, TEST};
use crate::store::ris::ResultFacts;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer.
const ANSWER_BYTES_MAX: usize = 65_536;

/// Words and sends what is due to a RIS.
pub struct Hl7Courier {
    /// Database.
    pub store: Store,
    /// Settings.
    pub settings: Hl7Settings,
    /// Destinations that were made on the page.
    pub made: Arc<Shared<Hl7Destination>>,
}

#[async_trait]
impl Courier for Hl7Courier {
    fn serves(&self, destination: &str) -> bool {
        self.made.get().iter().any(|d| d.name == destination)
    }

    async fn deliver(&self, destination: &str, batch: &Batch, now_ms: UnixMillis) -> Attempt {
        let made = self.made.get();
        let mut known = self.settings.destinations.iter().chain(made.iter());
        let Some(destination) = known.find(|d| d.name == destination) else {
            return Outcome::Later("is not in the settings any more".into()).into();
        };
        if batch.kind == TEST {
            let connected = connect(destination).await;
            return connected
                .map_or_else(Outcome::Later, |_| Outcome::Delivered)
                .into();
        }
        let message = match self.message(destination, batch, now_ms).await {
            Ok(message) => message,
            Err(outcome) => return outcome.into(),
        };
        let attempt = match exchange(destination, &message).await {
            Ok(answer) => self.judge(&answer, &batch.dedup_key, batch.attempts),
            // the connection is closed by now: the next attempt has one of its own
            Err(why) => Outcome::Later(why).into(),
        };
        Attempt {
            message: Some(message),
            ..attempt
        }
    }
}

impl Hl7Courier {
    /// The message as it was first sent, or as the study stands now.
    async fn message(
        &self,
        destination: &Hl7Destination,
        batch: &Batch,
        now_ms: UnixMillis,
    ) -> Result<String, Outcome> {
        let later = |e: crate::store::StoreError| Outcome::Later(format!("database: {e}"));
        if let Some(message) = self.store.result_message(batch.id).await.map_err(later)? {
            return Ok(message);
        }
        let facts = self.store.result_facts(batch.id).await.map_err(later)?;
        let facts =
            facts.ok_or_else(|| Outcome::Never("its study is not known any more".into()))?;
        let message = word(
            &self.settings,
            destination,
            &facts,
            &batch.dedup_key,
            now_ms,
        )
        .map_err(Outcome::Never)?;
        self.store
            .keep_result_message(batch.id, &message)
            .await
            .map_err(later)?;
        Ok(message)
    }

    /// What an answer means for the message with this control id.
    fn judge(&self, answer: &[u8], control_id: &str, attempts: u32) -> Attempt {
        let answer = match parse(answer).and_then(|message| ack::read(&message)) {
            Ok(answer) => answer,
            Err(fault) => return Outcome::Later(format!("its answer is none: {fault}")).into(),
        };
        if answer.control_id != control_id {
            warn!(control_id, "an HL7 peer answered another message");
            let why = "answered another message (MSA-2 is not our MSH-10)";
            return Outcome::Later(why.into()).into();
        }
        match self.outcome(&answer, attempts) {
            Outcome::Delivered => Outcome::Delivered.into(),
            failed => Attempt::from(failed).with_answer(&answer.text),
        }
    }

    /// What is said of it is its codes and the places that they are about.
    fn outcome(&self, answer: &ack::Answer, attempts: u32) -> Outcome {
        let said = format!("{} {}", answer.code.as_str(), answer.places);
        let said = said.trim_end().to_owned();
        match answer.code {
            AckCode::ApplicationAccept | AckCode::CommitAccept => Outcome::Delivered,
            AckCode::ApplicationError | AckCode::CommitError
                if attempts < self.settings.error_attempts_max =>
            {
                Outcome::Later(said)
            }
            AckCode::ApplicationError | AckCode::CommitError => {
                Outcome::Never(format!("{said} ({attempts} times)"))
            }
            // parked: shown as given up, said on every page, until a person resends or skips it
            AckCode::ApplicationReject | AckCode::CommitReject => Outcome::Never(said),
        }
    }
}

/// The message about a study as this destination gets it.
///
/// # Errors
/// What is wrong with its template.
pub fn word(
    settings: &Hl7Settings,
    destination: &Hl7Destination,
    facts: &ResultFacts,
    control_id: &str,
    now_ms: UnixMillis,
) -> Result<String, String> {
    let envelope = Envelope {
        application: &settings.application,
        facility: &settings.facility,
        to_application: &destination.application,
        to_facility: &destination.facility,
        at: &hl7_time(now_ms),
        control_id,
        enhanced: destination.enhanced,
    };
    let (mapping, template) = (destination.mapping, &destination.template);
    let message = outbound::write(facts, mapping, template, &envelope)
        .map_err(|why| format!("its template {why}"))?;
    Ok(message.to_text())
}

/// A connection, with TLS or without.
trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection for S {}

async fn connect(destination: &Hl7Destination) -> Result<Box<dyn Connection>, String> {
    let tls = destination.connector()?;
    let connected = async {
        let stream = TcpStream::connect(&destination.address)
            .await
            .map_err(|e| format!("no connection: {e}"))?;
        let _ = stream.set_nodelay(true);
        let Some((tls, name)) = tls else {
            return Ok(Box::new(stream) as Box<dyn Connection>);
        };
        let shaken = tls.connect(name, stream).await;
        let stream = shaken.map_err(|e| format!("no TLS: {e}"))?;
        Ok(Box::new(stream) as Box<dyn Connection>)
    };
    timeout(CONNECT_TIMEOUT, connected)
        .await
        .map_err(|_| format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()))?
}

/// Sends a message on a connection of its own, and waits for what comes back.
async fn exchange(destination: &Hl7Destination, message: &str) -> Result<Vec<u8>, String> {
    let mut stream = connect(destination).await?;
    let patience = Duration::from_secs(destination.answer_timeout_seconds);
    let talk = async {
        let sent = stream.write_all(&mllp::frame(message)).await;
        let sent = match sent {
            Ok(()) => stream.flush().await,
            Err(e) => Err(e),
        };
        sent.map_err(|e| format!("broke off while sending: {e}"))?;
        let mut deframer = Deframer::new(ANSWER_BYTES_MAX);
        let mut came = BytesMut::new();
        loop {
            match deframer.next(&mut came) {
                Ok(Some(answer)) => return Ok(answer.to_vec()),
                Ok(None) => {}
                Err(_) => return Err("its answer is no HL7 in an MLLP frame".to_owned()),
            }
            match stream.read_buf(&mut came).await {
                Ok(0) => return Err("closed without an answer".to_owned()),
                Ok(_) => {}
                Err(e) => return Err(format!("broke off before an answer: {e}")),
            }
        }
    };
    timeout(patience, talk)
        .await
        .map_err(|_| format!("no answer within {} s", patience.as_secs()))?
}

//! Takes an object of the outbox to its PACS. "Delivered" is what the PACS' own status says.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::{SharedClock, UnixMillis};
use crate::dicom::objects::{Kind, derived_uid};
use crate::dicom::send::{
    CommitOutcome, DestinationSettings, SendError, StoreOutcome, commit, echo, store,
};
use crate::intake::OWN_UID_ROOT;
use crate::outbox::machine::Outcome;
use crate::outbox::{Attempt, Courier, Shared};
use crate::store::Store;
use crate::store::commitments::Commitment;
use crate::store::objects::KeptObject;
use crate::store::outbox::{Batch, TEST};

/// How long a PACS may take to report a commitment on the association that asked for it.
const COMMIT_WAIT: Duration = Duration::from_secs(5);

/// Sends our objects by C-STORE.
pub struct ObjectCourier {
    /// Database.
    pub store: Store,
    /// Data folder.
    pub root: PathBuf,
    /// Where to, by the settings.
    pub destinations: Vec<DestinationSettings>,
    /// Those that were made on the page.
    pub made: Arc<Shared<DestinationSettings>>,
    /// Our AE title.
    pub ae_title: String,
    /// Time.
    pub clock: SharedClock,
}

#[async_trait]
impl Courier for ObjectCourier {
    fn serves(&self, destination: &str) -> bool {
        self.made.get().iter().any(|to| to.name == destination)
    }

    async fn deliver(&self, destination: &str, batch: &Batch, _now_ms: UnixMillis) -> Attempt {
        self.attempt(destination, batch).await
    }
}

impl ObjectCourier {
    async fn attempt(&self, destination: &str, batch: &Batch) -> Attempt {
        let made = self.made.get();
        let mut all = self.destinations.iter().chain(made.iter());
        let Some(to) = all.find(|d| d.name == destination) else {
            return Outcome::Later("is not in the settings any more".into()).into();
        };
        if batch.kind == TEST {
            return match echo(to, &self.ae_title).await {
                Ok(()) => Outcome::Delivered.into(),
                Err(e) => judge(e),
            };
        }
        match self.store.object_of_delivery(batch.id).await {
            Ok(Some(object)) => self.send(to, &object, batch.id).await,
            Ok(None) => Outcome::Never("there is no object to it".into()).into(),
            Err(e) => Outcome::Later(format!("database: {e}")).into(),
        }
    }

    async fn send(
        &self,
        to: &DestinationSettings,
        object: &KeptObject,
        delivery_id: i64,
    ) -> Attempt {
        let Some(kind) = Kind::ALL.into_iter().find(|k| k.as_str() == object.kind) else {
            return Outcome::Never("it is of no kind that is known".into()).into();
        };
        let file = self.root.join(&object.path);
        let uid = &object.sop_instance_uid;
        match store(to, &self.ae_title, kind, uid, &file).await {
            Ok(StoreOutcome::Stored) if to.commitment => {
                self.commitment(to, kind, uid, delivery_id).await.into()
            }
            Ok(StoreOutcome::Stored) => Outcome::Delivered.into(),
            Ok(StoreOutcome::Later(said)) => {
                Attempt::from(Outcome::Later(said.to_string())).with_answer(&said.comment)
            }
            Ok(StoreOutcome::Refused(said)) => {
                Attempt::from(Outcome::Never(format!("refused: {said}"))).with_answer(&said.comment)
            }
            Err(e) => judge(e),
        }
    }

    /// What the PACS stored and does not promise to keep is sent again. One that does not offer the
    /// service has stored it all the same; one that reports later says so to our listener.
    async fn commitment(
        &self,
        to: &DestinationSettings,
        kind: Kind,
        uid: &str,
        delivery_id: i64,
    ) -> Outcome {
        let transaction = transaction(&to.name, uid);
        let what = (kind.sop_class_uid(), uid);
        // Before it is asked: the report may be here, on an association of its own, before the answer.
        self.note(delivery_id, &transaction, Commitment::Requested)
            .await;
        let answered = commit(to, &self.ae_title, &transaction, what, COMMIT_WAIT).await;
        let said = match answered {
            Ok(CommitOutcome::Committed) => Some(Commitment::Committed),
            Ok(CommitOutcome::Failed) => Some(Commitment::Failed),
            Ok(CommitOutcome::NotOffered) => Some(Commitment::NotOffered),
            Ok(CommitOutcome::Requested) | Err(_) => None,
        };
        if let Some(said) = said {
            self.note(delivery_id, &transaction, said).await;
        }
        let failed = self.store.commitment_failed(delivery_id).await;
        match answered {
            Ok(CommitOutcome::Requested) if failed.unwrap_or(false) => {
                Outcome::Later("stored, but the destination does not commit to keep it".into())
            }
            Ok(CommitOutcome::Failed) => {
                Outcome::Later("stored, but the destination does not commit to keep it".into())
            }
            Ok(_) => Outcome::Delivered,
            Err(e) => Outcome::Later(format!("stored, but not committed to: {e}")),
        }
    }
}

impl ObjectCourier {
    /// What cannot be noted is no reason to send an object again.
    async fn note(&self, delivery_id: i64, transaction: &str, said: Commitment) {
        let now_ms = self.clock.now_ms();
        let noted = self
            .store
            .note_commitment(delivery_id, transaction, said, now_ms)
            .await;
        if let Err(e) = noted {
            tracing::warn!(error = %e, "could not note a commitment");
        }
    }
}

/// The same request again names the same transaction.
fn transaction(destination: &str, uid: &str) -> String {
    derived_uid(OWN_UID_ROOT, &["commit", destination, uid])
}

fn judge(e: SendError) -> Attempt {
    let outcome = if e.for_good() {
        Outcome::Never(e.to_string())
    } else {
        Outcome::Later(e.to_string())
    };
    match e {
        SendError::Refused(_, said) => Attempt::from(outcome).with_answer(&said.comment),
        _ => outcome.into(),
    }
}

//! Earlier studies of a patient, asked for at the PACS: found by C-FIND, brought by C-MOVE.
//!
//! One task looks for open studies whose patient was not asked about yet, the most urgent first. Nothing
//! waits for it: a study is ranked, measured and reported without its priors, and compared again
//! when they came. What is asked for is noted before it is: what arrives then is known as a prior.

mod choose;
mod settings;

pub use choose::{Shows, candidates, shows};
pub use settings::PriorSettings;

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::clock::SharedClock;
use crate::dicom::query::{self, Patient, StudyAnswer};
use crate::dicom::send::{DestinationSettings, SendError};
use crate::store::priors::{Question, Search, SearchState};
use crate::store::{Store, StoreError};

/// How often the task looks for work.
const POLL: Duration = Duration::from_secs(1);
/// Wait before a failed search runs again; doubles with every attempt.
const RETRY_MS: i64 = 4_000;
/// At most so often doubled: about an hour.
const DOUBLED_MAX: i64 = 10;
/// Candidates whose series are looked at, the newest.
const LOOKED_AT_MAX: usize = 12;
/// A search that did not end so long after its moves may take is begun anew.
const GRACE_MS: i64 = 60_000;

/// Who asks.
pub struct Priors {
    /// Database.
    pub store: Store,
    /// Time.
    pub clock: SharedClock,
    /// Whom to ask.
    pub settings: PriorSettings,
    /// Our AE title: who asks, and where studies are sent to.
    pub ae_title: String,
}

/// What a search came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Came {
    found: usize,
    moved: usize,
}

/// Why a search failed.
#[derive(Debug, PartialEq, Eq)]
struct Trouble {
    /// In our words and the peer's codes: this is logged.
    why: String,
    /// The peer's own words: they may name the patient, and go to the page of the study alone.
    comment: String,
}

impl From<String> for Trouble {
    fn from(why: String) -> Self {
        Self {
            why,
            comment: String::new(),
        }
    }
}

impl From<SendError> for Trouble {
    fn from(e: SendError) -> Self {
        let why = e.to_string();
        let comment = match e {
            SendError::Refused(_, answered) => answered.comment,
            _ => String::new(),
        };
        Self { why, comment }
    }
}

impl Trouble {
    /// For the page of the study, which names the patient itself.
    fn said(&self) -> String {
        match self.comment.as_str() {
            "" => self.why.clone(),
            comment => format!("{}: {comment}", self.why),
        }
    }
}

impl Priors {
    /// Asks until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let next = self.next().await.unwrap_or_else(|e| {
                error!(error = %e, "could not look for studies without priors");
                None
            });
            let working = async {
                match next {
                    Some(search) => {
                        if let Err(e) = self.work_on(&search).await {
                            error!(error = %e, study.id = search.study_id, "could not note a search for priors");
                        }
                    }
                    None => tokio::time::sleep(POLL).await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = working => {}
            }
        }
    }

    /// The next study whose patient is to be asked about, held for as long as that may take.
    async fn next(&self) -> Result<Option<Search>, StoreError> {
        let studies = i64::try_from(self.settings.studies_max).unwrap_or(1);
        let seconds = self.settings.move_timeout_seconds * 1000;
        let hold_ms = i64::try_from(seconds).unwrap_or(0) * studies + GRACE_MS;
        let now = self.clock.now_ms();
        self.store.claim_prior_search(now, now + hold_ms).await
    }

    async fn work_on(&self, search: &Search) -> Result<(), StoreError> {
        let now = || self.clock.now_ms();
        match self.search(&search.question, search.study_id).await {
            Ok(came) => {
                info!(study.id = search.study_id, ?came, "asked for priors");
                let said = match (came.found, came.moved) {
                    (0, _) => "none found".to_owned(),
                    (found, moved) => format!("{moved} of {found} brought"),
                };
                self.store
                    .end_prior_search(
                        search.study_id,
                        SearchState::Done,
                        counts(came),
                        &said,
                        now(),
                    )
                    .await
            }
            Err(trouble) => {
                warn!(
                    study.id = search.study_id,
                    attempt = search.attempts,
                    error = trouble.why,
                    "could not get priors"
                );
                let state = if search.attempts >= self.settings.attempts_max {
                    SearchState::Failed
                } else {
                    let wait = RETRY_MS << (search.attempts - 1).clamp(0, DOUBLED_MAX);
                    SearchState::Waiting {
                        run_after: now() + wait,
                    }
                };
                let said = trouble.said();
                self.store
                    .end_prior_search(search.study_id, state, (0, 0), &said, now())
                    .await
            }
        }
    }

    /// Finds and brings. In words, when something failed that may work another time.
    async fn search(&self, question: &Question, study_id: i64) -> Result<Came, Trouble> {
        if !query::is_plain(&question.patient_id) || question.date.len() != 8 {
            // Nothing to ask by, today or tomorrow.
            return Ok(Came::default());
        }
        let peer = self.settings.peer();
        let wanted = self.find(&peer, question).await?;
        let mut came = Came {
            found: wanted.len(),
            moved: 0,
        };
        let uids: Vec<String> = wanted.iter().map(|a| a.study_uid.clone()).collect();
        let text = |e: StoreError| format!("database: {e}");
        let here = self.store.studies_here(&uids).await.map_err(text)?;
        let mut failed = None;
        for uid in uids {
            if here.contains(&uid) {
                came.moved += 1;
                continue;
            }
            let now = self.clock.now_ms();
            let noted = self.store.expect_prior(&uid, study_id, now).await;
            noted.map_err(text)?;
            match self.bring(&peer, &uid).await {
                Ok(()) => came.moved += 1,
                Err(e) => failed = Some(e),
            }
        }
        failed.map_or(Ok(came), Err)
    }

    /// The studies that are wanted.
    async fn find(
        &self,
        peer: &DestinationSettings,
        question: &Question,
    ) -> Result<Vec<StudyAnswer>, SendError> {
        let patient = Patient {
            id: question.patient_id.clone(),
            issuer: question.issuer.clone().filter(|i| query::is_plain(i)),
        };
        let year: i64 = question.date[..4].parse().unwrap_or(0);
        let from = format!(
            "{:04}0101",
            (year - i64::from(self.settings.years_max)).max(0)
        );
        let dates = (from.as_str(), question.date.as_str());
        let answers = query::studies(peer, &self.ae_title, &patient, dates).await?;
        let (years, images) = (self.settings.years_max, self.settings.images_max);
        let mut fitting = Vec::new();
        for study in candidates(question, answers, years, images)
            .into_iter()
            .take(LOOKED_AT_MAX)
        {
            let series = query::series(peer, &self.ae_title, &study.study_uid).await?;
            fitting.push((shows(&study, &series), study));
        }
        fitting.retain(|(shows, _)| *shows != Shows::Other);
        // The newest stay first among equals.
        fitting.sort_by_key(|(shows, _)| *shows);
        fitting.truncate(self.settings.studies_max);
        Ok(fitting.into_iter().map(|(_, study)| study).collect())
    }

    async fn bring(&self, peer: &DestinationSettings, uid: &str) -> Result<(), Trouble> {
        let limit = self.settings.move_timeout();
        let moved = query::retrieve(peer, &self.ae_title, uid, &self.ae_title, limit).await?;
        if moved.failed > 0 {
            let all = moved.failed + moved.completed;
            let why = format!(
                "the PACS could not send {} of {all} images of a study to {}",
                moved.failed, self.ae_title
            );
            return Err(why.into());
        }
        Ok(())
    }
}

fn counts(came: Came) -> (i64, i64) {
    let count = |n: usize| i64::try_from(n).unwrap_or(0);
    (count(came.found), count(came.moved))
}

//! What readers think of findings. Nothing is overwritten: a reader's last word counts.

use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::entity::{feedback, screening, study};
use super::worklist::NOT_FINDINGS;
use super::{Store, StoreError};
use crate::clock::rfc3339;
use crate::triage::Ranking;
use crate::worklist::agreement::Word;
use crate::worklist::{Acting, FeedbackEntry, Verdict};

/// Entries of a study that are shown.
const FEEDBACK_SHOWN: u64 = 200;
/// Words that are counted for agreement; of more, the newest.
const WORDS_MAX: u64 = 100_000;
/// The network's overall impression: no measured finding, but readers may well disagree with it.
const SCREENING: &str = "screening";

/// What became of a reader's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedbackOutcome {
    /// It is kept.
    Kept {
        /// False where the reader had said just that last.
        changed: bool,
    },
    /// No study with this UID was received.
    Unknown,
    /// The study has no such finding, but these.
    NoFinding(Vec<String>),
}

/// Whether readers are asked about a reason of this code: it rests on the images.
#[must_use]
pub fn takes_feedback(code: &str) -> bool {
    code == SCREENING || !NOT_FINDINGS.contains(&code)
}

impl Store {
    /// Keeps what a reader thinks of a finding, with the model it came from. Keeps the claim, too.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn give_feedback(
        &self,
        study_uid: &str,
        finding: &str,
        verdict: Verdict,
        comment: Option<&str>,
        acting: Acting<'_>,
    ) -> Result<FeedbackOutcome, StoreError> {
        let Some(locked) = self.lock(study_uid).await? else {
            return Ok(FeedbackOutcome::Unknown);
        };
        let codes = codes(&locked.study);
        if !codes.iter().any(|code| code == finding) {
            return Ok(FeedbackOutcome::NoFinding(codes));
        }
        locked.renew(acting).await?;
        let last = feedback::Entity::find()
            .filter(feedback::Column::StudyId.eq(locked.study.id))
            .filter(feedback::Column::Finding.eq(finding))
            .filter(feedback::Column::Who.eq(acting.reader))
            .order_by_desc(feedback::Column::Id)
            .one(&locked.tx)
            .await?;
        let model: Option<String> = screening::Entity::find()
            .select_only()
            .column(screening::Column::Model)
            .filter(screening::Column::StudyId.eq(locked.study.id))
            .filter(screening::Column::Outcome.eq("screened"))
            .order_by_desc(screening::Column::CreatedAt)
            .order_by_desc(screening::Column::Id)
            .into_tuple()
            .one(&locked.tx)
            .await?;
        let repeated = last.is_some_and(|l| {
            l.verdict == verdict.as_str() && l.comment.as_deref() == comment && l.model == model
        });
        if !repeated {
            let row = feedback::ActiveModel {
                study_id: Set(locked.study.id),
                finding: Set(finding.to_owned()),
                verdict: Set(verdict.as_str().to_owned()),
                comment: Set(comment.map(str::to_owned)),
                who: Set(acting.reader.to_owned()),
                model: Set(model),
                at: Set(acting.now_ms),
                ..Default::default()
            };
            feedback::Entity::insert(row)
                .exec_without_returning(&locked.tx)
                .await?;
        }
        locked.tx.commit().await?;
        Ok(FeedbackOutcome::Kept { changed: !repeated })
    }

    /// What readers have said since then, in the order they said it; `month` names a moment's month.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn words_since(
        &self,
        since_ms: i64,
        month: impl Fn(i64) -> String,
    ) -> Result<Vec<Word>, StoreError> {
        let rows = feedback::Entity::find()
            .filter(feedback::Column::At.gte(since_ms))
            .filter(feedback::Column::Verdict.ne(Verdict::Comment.as_str()))
            .order_by_desc(feedback::Column::Id)
            .limit(WORDS_MAX)
            .all(self.read())
            .await?;
        let words = rows.into_iter().rev().filter_map(|row| {
            Some(Word {
                verdict: Verdict::parse(&row.verdict)?,
                month: month(row.at),
                study: row.study_id,
                finding: row.finding,
                who: row.who,
                model: row.model,
            })
        });
        Ok(words.collect())
    }

    /// What readers think of a study's findings, newest first.
    pub(super) async fn feedback_of(
        &self,
        study_id: i64,
    ) -> Result<Vec<FeedbackEntry>, StoreError> {
        let rows = feedback::Entity::find()
            .filter(feedback::Column::StudyId.eq(study_id))
            .order_by_desc(feedback::Column::Id)
            .limit(FEEDBACK_SHOWN)
            .all(self.read())
            .await?;
        let shown = rows.into_iter().map(|row| FeedbackEntry {
            finding: row.finding,
            verdict: Verdict::parse(&row.verdict).unwrap_or(Verdict::Comment),
            comment: row.comment,
            who: row.who,
            model: row.model,
            at: rfc3339(row.at),
        });
        Ok(shown.collect())
    }
}

/// Codes of the reasons that readers may judge.
fn codes(study: &study::Model) -> Vec<String> {
    let ranking: Option<Ranking> = serde_json::from_str(&study.ranking_json).ok();
    let reasons = ranking.map(|r| r.reasons).unwrap_or_default();
    let mut codes: Vec<String> = reasons.into_iter().map(|r| r.code).collect();
    codes.retain(|code| takes_feedback(code));
    codes.dedup();
    codes
}

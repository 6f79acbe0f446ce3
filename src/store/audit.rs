//! The audit sample: studies that were read, put to another reader who is not told what was said of them.
//!
//! Whether a study is in the sample follows from its UID alone: it cannot be chosen, reading it again
//! does not draw again, and anybody can check it.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, EntityTrait, FromQueryResult, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect, sea_query::Expr, sea_query::OnConflict,
};
use sha2::{Digest, Sha256};

use super::entity::{audit, audit_mark, study};
use super::{Store, StoreError};
use crate::worklist::agreement::{Answer, Audited};

/// Studies looked at in one transaction.
const DRAWN_AT_ONCE: u64 = 500;
/// Rounds of them in one go; the rest is drawn the next time.
const ROUNDS_MAX: usize = 20;
/// Share of flagged studies in the sample, as a multiple of the share of unflagged ones.
const CONTROLS: f64 = 4.0;
/// Answers that are counted.
const ANSWERS_MAX: u64 = 50_000;
const THE_ROW: i64 = 1;

/// A study that waits for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditCase {
    /// (0020,000D)
    pub study_uid: String,
    /// Who read it.
    pub first_reader: Option<String>,
}

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditOutcome {
    /// It is kept.
    Kept,
    /// It is not in the sample, or answered already.
    NotAsked,
}

#[derive(FromQueryResult)]
struct ReadStudy {
    id: i64,
    study_uid: String,
    band: String,
    changed_at: i64,
    reader: Option<String>,
    model: Option<String>,
}

#[derive(FromQueryResult)]
struct Waiting {
    study_uid: String,
    first_reader: Option<String>,
}

impl Store {
    /// Draws among the screened studies that were read since the last time. Gives how many were drawn.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn draw_audit(&self, share: f64, now_ms: i64) -> Result<u64, StoreError> {
        let mut drawn = 0;
        for _ in 0..ROUNDS_MAX {
            let (looked_at, of_them) = self.draw_round(share, now_ms).await?;
            drawn += of_them;
            if looked_at < DRAWN_AT_ONCE {
                break;
            }
        }
        Ok(drawn)
    }

    async fn draw_round(&self, share: f64, now_ms: i64) -> Result<(u64, u64), StoreError> {
        let tx = self.begin().await?;
        let mark = audit_mark::Entity::find_by_id(THE_ROW).one(&tx).await?;
        let mark = mark.map_or(i64::MIN, |m| m.read_until);
        let sql = "SELECT s.id, s.study_uid, s.band, s.changed_at, \
             (SELECT e.who FROM reading_event e WHERE e.study_id = s.id AND e.what = 'read' \
              ORDER BY e.id DESC LIMIT 1) AS reader, \
             (SELECT c.model FROM screening c WHERE c.study_id = s.id AND c.outcome = 'screened' \
              ORDER BY c.created_at DESC, c.id DESC LIMIT 1) AS model \
             FROM study s WHERE s.reading = 'read' AND s.changed_at >= $1 AND s.state = 'screened' \
             ORDER BY s.changed_at, s.study_uid LIMIT $2";
        let values = vec![mark.into(), super::worklist::as_i64(DRAWN_AT_ONCE).into()];
        let rows = ReadStudy::find_by_statement(self.statement(sql, values))
            .all(&tx)
            .await?;
        let Some(last) = rows.last().map(|row| row.changed_at) else {
            return Ok((0, 0));
        };
        let looked_at = rows.len() as u64;
        // many at one moment: step over them, or the next round would look at the same
        let stuck =
            looked_at == DRAWN_AT_ONCE && rows.first().is_some_and(|r| r.changed_at == last);
        let picked: Vec<audit::ActiveModel> = rows
            .into_iter()
            .filter_map(|row| {
                let flagged = row.band != "routine";
                let share = if flagged { share * CONTROLS } else { share };
                is_drawn(&row.study_uid, share).then_some(audit::ActiveModel {
                    study_id: Set(row.id),
                    drawn_at: Set(now_ms),
                    read_at: Set(row.changed_at),
                    first_reader: Set(row.reader),
                    flagged: Set(flagged),
                    model: Set(row.model),
                    who: Set(None),
                    verdict: Set(None),
                    comment: Set(None),
                    answered_at: Set(None),
                })
            })
            .collect();
        let before = audit::Entity::find().count(&tx).await?;
        if !picked.is_empty() {
            audit::Entity::insert_many(picked)
                .on_conflict(
                    OnConflict::column(audit::Column::StudyId)
                        .do_nothing()
                        .to_owned(),
                )
                .exec_without_returning(&tx)
                .await?;
        }
        let after = audit::Entity::find().count(&tx).await?;
        let row = audit_mark::ActiveModel {
            id: Set(THE_ROW),
            read_until: Set(if stuck { last + 1 } else { last }),
        };
        audit_mark::Entity::insert(row)
            .on_conflict(
                OnConflict::column(audit_mark::Column::Id)
                    .update_column(audit_mark::Column::ReadUntil)
                    .to_owned(),
            )
            .exec_without_returning(&tx)
            .await?;
        tx.commit().await?;
        Ok((looked_at, after - before))
    }

    /// The study that has waited longest for an answer and that this reader has not read, after `skip`
    /// others; and how many wait for this reader.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn next_audit(
        &self,
        reader: &str,
        skip: u64,
    ) -> Result<(Option<AuditCase>, u64), StoreError> {
        let waits = "FROM audit a JOIN study s ON s.id = a.study_id WHERE a.answered_at IS NULL \
                     AND s.reading = 'read' AND (a.first_reader IS NULL OR a.first_reader <> $1)";
        let sql = format!("SELECT COUNT(*) AS n {waits}");
        let count =
            super::worklist::Count::find_by_statement(self.statement(&sql, vec![reader.into()]))
                .one(self.read())
                .await?;
        let count = super::worklist::as_u64(count.map_or(0, |c| c.n));
        let sql = format!(
            "SELECT s.study_uid, a.first_reader {waits} ORDER BY a.drawn_at, s.study_uid LIMIT 1 OFFSET $2"
        );
        let skip = super::worklist::as_i64(if count == 0 { 0 } else { skip % count });
        let values = vec![reader.into(), skip.into()];
        let next = Waiting::find_by_statement(self.statement(&sql, values))
            .one(self.read())
            .await?;
        let next = next.map(|row| AuditCase {
            study_uid: row.study_uid,
            first_reader: row.first_reader,
        });
        Ok((next, count))
    }

    /// Keeps a reader's answer. The first one counts; who had read the study is not asked.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn answer_audit(
        &self,
        study_uid: &str,
        reader: &str,
        answer: Answer,
        comment: Option<&str>,
        now_ms: i64,
    ) -> Result<AuditOutcome, StoreError> {
        let tx = self.begin().await?;
        let id: Option<i64> = study::Entity::find()
            .select_only()
            .column(study::Column::Id)
            .filter(study::Column::StudyUid.eq(study_uid))
            .into_tuple()
            .one(&tx)
            .await?;
        let Some(id) = id else {
            return Ok(AuditOutcome::NotAsked);
        };
        let not_first = Condition::any()
            .add(audit::Column::FirstReader.is_null())
            .add(audit::Column::FirstReader.ne(reader));
        let kept = audit::Entity::update_many()
            .col_expr(audit::Column::Who, Expr::value(reader))
            .col_expr(audit::Column::Verdict, Expr::value(answer.as_str()))
            .col_expr(audit::Column::Comment, Expr::value(comment))
            .col_expr(audit::Column::AnsweredAt, Expr::value(now_ms))
            .filter(audit::Column::StudyId.eq(id))
            .filter(audit::Column::AnsweredAt.is_null())
            .filter(not_first)
            .exec(&tx)
            .await?;
        tx.commit().await?;
        Ok(if kept.rows_affected == 1 {
            AuditOutcome::Kept
        } else {
            AuditOutcome::NotAsked
        })
    }

    /// The sample of studies that were read since then.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audited(&self, since_ms: i64) -> Result<Vec<Audited>, StoreError> {
        let rows = audit::Entity::find()
            .filter(audit::Column::ReadAt.gte(since_ms))
            .order_by_desc(audit::Column::ReadAt)
            .limit(ANSWERS_MAX)
            .all(self.read())
            .await?;
        let audited = rows.into_iter().map(|row| Audited {
            flagged: row.flagged,
            model: row.model,
            answer: row.verdict.as_deref().and_then(Answer::parse),
        });
        Ok(audited.collect())
    }

    /// Screened studies that were read since then: unflagged and flagged.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn read_since(&self, since_ms: i64) -> Result<(u64, u64), StoreError> {
        let count = async |sign: &str| -> Result<u64, StoreError> {
            let sql = format!(
                "SELECT COUNT(*) AS n FROM study WHERE reading = 'read' AND changed_at >= $1 \
                 AND state = 'screened' AND band {sign} 'routine'"
            );
            let n = super::worklist::Count::find_by_statement(
                self.statement(&sql, vec![since_ms.into()]),
            )
            .one(self.read())
            .await?;
            Ok(super::worklist::as_u64(n.map_or(0, |c| c.n)))
        };
        Ok((count("=").await?, count("<>").await?))
    }
}

/// Whether a study is in a sample of this share: its UID's digest, as a number from 0 to 1, lies below.
#[must_use]
pub fn is_drawn(study_uid: &str, share: f64) -> bool {
    let digest = Sha256::digest(format!("firstread audit {study_uid}"));
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    // the upper 53 bits: as many as a double has
    let at = (u64::from_be_bytes(first) >> 11) as f64 / (1_u64 << 53) as f64;
    at < share
}

#[cfg(test)]
mod tests {
    use super::is_drawn;

    #[test]
    fn two_in_a_hundred_are_drawn() {
        let drawn = (0..20_000)
            .filter(|n| is_drawn(&format!("1.2.826.0.1.{n}"), 0.02))
            .count();
        // binomial: 400 +- 4 standard deviations of 19.8
        assert!((320..=480).contains(&drawn), "{drawn}");
        assert!(!is_drawn("1.2.3", 0.0));
        assert!(is_drawn("1.2.3", 1.0));
        let smaller = |n: &u32| is_drawn(&format!("1.2.{n}"), 0.02);
        let larger = |n: &u32| is_drawn(&format!("1.2.{n}"), 0.08);
        assert!((0..5_000).filter(smaller).all(|n| larger(&n)));
    }
}

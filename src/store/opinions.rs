//! What studies were read as, and where that differs from what screening said.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, FromQueryResult, QueryFilter,
    QueryOrder,
};

use super::entity::read_outcome;
use super::{Store, StoreError};
use crate::clock::rfc3339;
use crate::worklist::Acting;
use crate::worklist::opinion::{
    Asked, Disagreement, Disagreements, Kind, ReadAs, ReadOutcome, Source,
};

/// Rows on one page.
pub const ROWS_PER_PAGE: u64 = 50;

/// Every study that was read and screened, with what it was read as where anything says so. What screening said after
/// the study was read is not in its highest band, and counts too. Studies of the audit sample that nobody has answered
/// yet are left out: who is asked about them must not be told.
const READ: &str = "SELECT t.*, \
    CASE WHEN t.said IS NOT NULL AND t.by_report = 1 THEN 'report' \
         WHEN t.said IS NOT NULL THEN 'reader' \
         WHEN t.audited IS NOT NULL THEN 'audit' \
         WHEN t.agree + t.disagree > 0 THEN 'findings' END AS source, \
    COALESCE(t.said, \
      CASE t.audited WHEN 'nothing' THEN 'unremarkable' WHEN 'something' THEN 'abnormal' END, \
      CASE WHEN t.flagged = 1 AND t.agree = 0 AND t.disagree > 0 THEN 'unremarkable' \
           WHEN t.flagged = 1 AND t.agree > 0 THEN 'abnormal' END) AS read_as \
    FROM (SELECT s.id, s.study_uid, s.patient_name, s.accession, s.description, \
      CASE WHEN 'critical' IN (s.highest_band, s.band) THEN 'critical' \
           WHEN 'urgent' IN (s.highest_band, s.band) THEN 'urgent' \
           WHEN 'elevated' IN (s.highest_band, s.band) THEN 'elevated' \
           ELSE s.highest_band END AS highest_band, \
      CAST(CASE WHEN s.highest_band IN ('critical', 'urgent', 'elevated') \
        OR s.band IN ('critical', 'urgent', 'elevated') THEN 1 ELSE 0 END AS BIGINT) AS flagged, \
      (SELECT MAX(e.at) FROM reading_event e WHERE e.study_id = s.id AND e.what = 'read') AS read_at, \
      o.outcome AS said, COALESCE(o.who, o.sender) AS said_by, \
      CASE WHEN o.sender IS NULL THEN 0 ELSE 1 END AS by_report, \
      a.verdict AS audited, \
      (SELECT COUNT(*) FROM feedback f WHERE f.study_id = s.id AND f.verdict = 'agree' \
        AND NOT EXISTS (SELECT 1 FROM feedback g WHERE g.study_id = f.study_id AND g.who = f.who \
          AND g.finding = f.finding AND g.verdict <> 'comment' AND g.id > f.id)) AS agree, \
      (SELECT COUNT(*) FROM feedback f WHERE f.study_id = s.id AND f.verdict = 'disagree' \
        AND NOT EXISTS (SELECT 1 FROM feedback g WHERE g.study_id = f.study_id AND g.who = f.who \
          AND g.finding = f.finding AND g.verdict <> 'comment' AND g.id > f.id)) AS disagree \
      FROM study s \
      LEFT JOIN read_outcome o ON o.id = \
        (SELECT MAX(p.id) FROM read_outcome p WHERE p.study_id = s.id) \
      LEFT JOIN audit a ON a.study_id = s.id \
      WHERE s.reading = 'read' AND s.state = 'screened' \
      AND (a.study_id IS NULL OR a.answered_at IS NOT NULL)) t \
    WHERE t.read_at >= $1";

#[derive(FromQueryResult)]
struct Row {
    id: i64,
    study_uid: String,
    patient_name: Option<String>,
    accession: Option<String>,
    description: Option<String>,
    highest_band: String,
    read_at: i64,
    said_by: Option<String>,
    source: String,
    read_as: String,
}

#[derive(FromQueryResult)]
struct Counted {
    flagged: i64,
    read_as: String,
    n: i64,
}

/// Notes what a report says that a study was read as.
pub(super) async fn note_report(
    tx: &DatabaseTransaction,
    study_id: i64,
    outcome: &str,
    sender: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    let row = read_outcome::ActiveModel {
        study_id: Set(study_id),
        outcome: Set(outcome.to_owned()),
        sender: Set(Some(sender.to_owned())),
        at: Set(now_ms),
        ..Default::default()
    };
    read_outcome::Entity::insert(row)
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

impl Store {
    /// Keeps what a reader says that a study was read as. False where no such study was received.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn say_outcome(
        &self,
        study_uid: &str,
        outcome: ReadAs,
        acting: Acting<'_>,
    ) -> Result<bool, StoreError> {
        let Some(locked) = self.lock(study_uid).await? else {
            return Ok(false);
        };
        locked.renew(acting).await?;
        let last = read_outcome::Entity::find()
            .filter(read_outcome::Column::StudyId.eq(locked.study.id))
            .order_by_desc(read_outcome::Column::Id)
            .one(&locked.tx)
            .await?;
        let repeated = last.is_some_and(|l| {
            l.outcome == outcome.as_str() && l.who.as_deref() == Some(acting.reader)
        });
        if !repeated {
            let row = read_outcome::ActiveModel {
                study_id: Set(locked.study.id),
                outcome: Set(outcome.as_str().to_owned()),
                who: Set(Some(acting.reader.to_owned())),
                at: Set(acting.now_ms),
                ..Default::default()
            };
            read_outcome::Entity::insert(row)
                .exec_without_returning(&locked.tx)
                .await?;
        }
        locked.tx.commit().await?;
        Ok(true)
    }

    /// What a study was read as, where somebody said so last.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn read_outcome(&self, study_id: i64) -> Result<Option<ReadOutcome>, StoreError> {
        let row = read_outcome::Entity::find()
            .filter(read_outcome::Column::StudyId.eq(study_id))
            .order_by_desc(read_outcome::Column::Id)
            .one(self.read())
            .await?;
        Ok(row.and_then(|row| {
            Some(ReadOutcome {
                outcome: ReadAs::parse(&row.outcome)?,
                who: row.who,
                sender: row.sender,
                at: rfc3339(row.at),
            })
        }))
    }

    /// Studies that were read as something else than screening said.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn disagreements(&self, asked: &Asked) -> Result<Disagreements, StoreError> {
        let counts = format!(
            "SELECT r.flagged, r.read_as, COUNT(*) AS n FROM ({READ}) r \
             WHERE r.read_as IS NOT NULL GROUP BY r.flagged, r.read_as"
        );
        let counted =
            Counted::find_by_statement(self.statement(&counts, vec![asked.since_ms.into()]))
                .all(self.read())
                .await?;
        let count = |flagged: bool, read_as: Option<ReadAs>| -> u64 {
            let of = counted.iter().filter(|c| {
                (c.flagged == 1) == flagged
                    && read_as.is_none_or(|wanted| c.read_as == wanted.as_str())
            });
            of.map(|c| u64::try_from(c.n).unwrap_or(0)).sum()
        };
        let condition = condition(asked);
        let total = format!("SELECT COUNT(*) AS n FROM ({READ}) r WHERE {condition}");
        let total = self.read_count(&total, asked.since_ms).await?;
        let skip = (asked.page.max(1) - 1) * ROWS_PER_PAGE;
        let sql = format!(
            "SELECT * FROM ({READ}) r WHERE {condition} \
             ORDER BY r.read_at DESC, r.id DESC LIMIT {ROWS_PER_PAGE} OFFSET {skip}"
        );
        let rows = Row::find_by_statement(self.statement(&sql, vec![asked.since_ms.into()]))
            .all(self.read())
            .await?;
        Ok(Disagreements {
            rows: rows.into_iter().filter_map(disagreement).collect(),
            total,
            flagged: [count(true, None), count(true, Some(ReadAs::Unremarkable))],
            unflagged: [count(false, None), count(false, Some(ReadAs::Abnormal))],
        })
    }

    async fn read_count(&self, sql: &str, since_ms: i64) -> Result<u64, StoreError> {
        #[derive(FromQueryResult)]
        struct N {
            n: i64,
        }
        let found = N::find_by_statement(self.statement(sql, vec![since_ms.into()]))
            .one(self.read())
            .await?;
        Ok(found.map_or(0, |f| u64::try_from(f.n).unwrap_or(0)))
    }
}

/// Made of our own words only: nothing that was asked stands in it as text.
fn condition(asked: &Asked) -> String {
    let kind = match asked.kind {
        Some(Kind::FlaggedUnremarkable) => "r.flagged = 1 AND r.read_as = 'unremarkable'",
        Some(Kind::UnflaggedAbnormal) => "r.flagged = 0 AND r.read_as = 'abnormal'",
        None => {
            "((r.flagged = 1 AND r.read_as = 'unremarkable') \
              OR (r.flagged = 0 AND r.read_as = 'abnormal'))"
        }
    };
    match asked.source {
        Some(source) => format!("{kind} AND r.source = '{}'", source.as_str()),
        None => kind.to_owned(),
    }
}

fn disagreement(row: Row) -> Option<Disagreement> {
    let kind = match ReadAs::parse(&row.read_as)? {
        ReadAs::Unremarkable => Kind::FlaggedUnremarkable,
        ReadAs::Abnormal => Kind::UnflaggedAbnormal,
    };
    Some(Disagreement {
        number: row.id,
        study_uid: row.study_uid,
        patient_name: row.patient_name,
        accession: row.accession,
        description: row.description,
        band: row.highest_band,
        kind,
        source: Source::parse(&row.source)?,
        said_by: row.said_by,
        read_at: row.read_at,
    })
}

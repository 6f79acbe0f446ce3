//! Studies as far as their place depends on them, for trying other settings.

use sea_orm::FromQueryResult;

use super::worklist::{ORDER, as_i64};
use super::{Store, StoreError};
use crate::triage::{Evidence, OrderPriority};
use crate::worklist::what_if::Candidate;

#[derive(FromQueryResult)]
struct Row {
    study_uid: String,
    patient_name: Option<String>,
    arrived_at: i64,
    order_priority: String,
    evidence_json: String,
}

impl From<Row> for Candidate {
    fn from(row: Row) -> Self {
        let mut evidence: Evidence = serde_json::from_str(&row.evidence_json).unwrap_or_default();
        evidence.order = OrderPriority::parse(&row.order_priority).unwrap_or_default();
        Self {
            study_uid: row.study_uid,
            patient_name: row.patient_name,
            arrived_ms: row.arrived_at,
            evidence,
        }
    }
}

const COLUMNS: &str = "study_uid, patient_name, arrived_at, order_priority, evidence_json";

impl Store {
    /// Open studies in the order of the list, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open_candidates(&self, limit: u64) -> Result<Vec<Candidate>, StoreError> {
        let sql =
            format!("SELECT {COLUMNS} FROM study WHERE reading = 'open' ORDER BY {ORDER} LIMIT $1");
        let rows = Row::find_by_statement(self.statement(&sql, vec![as_i64(limit).into()]))
            .all(self.read())
            .await?;
        Ok(rows.into_iter().map(Candidate::from).collect())
    }

    /// Studies that came after `since_ms`, read or not, the newest `limit` of them, in order of arrival.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn past_candidates(
        &self,
        since_ms: i64,
        limit: u64,
    ) -> Result<Vec<Candidate>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM study WHERE arrived_at > $1 AND reading <> 'prior' \
             ORDER BY arrived_at DESC, study_uid DESC LIMIT $2"
        );
        let values = vec![since_ms.into(), as_i64(limit).into()];
        let rows = Row::find_by_statement(self.statement(&sql, values))
            .all(self.read())
            .await?;
        Ok(rows.into_iter().rev().map(Candidate::from).collect())
    }
}

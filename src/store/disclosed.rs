//! To whom a patient was shown beside the entries of the trail, and what the server sent about the patient by itself.

use sea_orm::FromQueryResult;

use super::deliveries::{DeliveryRow, ROWS, tells_of};
use super::trail::Wanted;
use super::{Store, StoreError};
use crate::clock::UnixMillis;

/// A study is looked for in lists from so long before it arrived: the clocks of two machines differ, and one may
/// have been set back.
const CLOCKS_MS: UnixMillis = 86_400_000;

/// Lists that were shown to somebody in one way, in which a patient stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenIn {
    /// Name of the account or token.
    pub who: String,
    /// list, api, fhir, intake or opinions.
    pub what: String,
    /// How many were kept.
    pub times: u64,
    /// When the last of them was.
    pub last_ms: UnixMillis,
}

#[derive(FromQueryResult)]
struct Lists {
    who: String,
    what: String,
    times: i64,
    last_ms: i64,
}

impl Store {
    /// To whom lists were shown in which a study of this patient stood, as far as that is kept.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn lists_with(&self, wanted: &Wanted) -> Result<Vec<SeenIn>, StoreError> {
        let theirs = "s.patient_id = $1 AND ($2 = '' OR s.patient_issuer = $2)";
        let arrived = format!("s.arrived_at - {CLOCKS_MS}");
        // one lower bound of both, so that it is the one that the index is searched by; NULL where there is no study.
        // A row of a list begins with the study's number: web::shown writes it so.
        let sql = format!(
            "SELECT l.who, l.what, COUNT(*) AS times, MAX(l.at) AS last_ms FROM shown_log l \
             WHERE l.study_id IS NULL AND l.at >= (SELECT CASE WHEN MIN({arrived}) < $3 THEN $3 \
              ELSE MIN({arrived}) END FROM study s WHERE {theirs}) AND l.at < $4 \
             AND EXISTS (SELECT 1 FROM study s WHERE {theirs} AND l.at >= {arrived} \
              AND l.shown_json LIKE '%[' || CAST(s.id AS TEXT) || ',%') \
             GROUP BY l.who, l.what"
        );
        let values = vec![
            of(wanted.patient_id.as_ref()).into(),
            of(wanted.patient_issuer.as_ref()).into(),
            wanted.from_ms.unwrap_or(0).into(),
            wanted.until_ms.unwrap_or(i64::MAX).into(),
        ];
        let mut found = Lists::find_by_statement(self.statement(&sql, values))
            .all(self.read())
            .await?;
        // here, byte by byte: each database sorts text in its own way
        found.sort_by(|a, b| (&a.who, &a.what).cmp(&(&b.who, &b.what)));
        let seen = found.into_iter().map(|lists| SeenIn {
            who: lists.who,
            what: lists.what,
            times: u64::try_from(lists.times).unwrap_or(0),
            last_ms: lists.last_ms,
        });
        Ok(seen.collect())
    }

    /// What destinations took about this patient's studies, newest first, before a delivery.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sent_about(
        &self,
        wanted: &Wanted,
        before: i64,
        most: u64,
    ) -> Result<Vec<DeliveryRow>, StoreError> {
        let theirs = tells_of("t.patient_id = $1 AND ($2 = '' OR t.patient_issuer = $2)");
        let sql = format!(
            "{ROWS} WHERE {theirs} AND d.state = 'delivered' AND d.settled_at >= $3 \
             AND d.settled_at < $4 AND d.id < $5 ORDER BY d.id DESC LIMIT $6"
        );
        let values = vec![
            of(wanted.patient_id.as_ref()).into(),
            of(wanted.patient_issuer.as_ref()).into(),
            wanted.from_ms.unwrap_or(0).into(),
            wanted.until_ms.unwrap_or(i64::MAX).into(),
            before.into(),
            i64::try_from(most).unwrap_or(i64::MAX).into(),
        ];
        DeliveryRow::find_by_statement(self.statement(&sql, values))
            .all(self.read())
            .await
    }
}

fn of(text: Option<&String>) -> &str {
    text.map_or("", String::as_str)
}
